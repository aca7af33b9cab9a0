"""What the tests of this folder share: tiny models, random tables, plain-Python oracles."""

from __future__ import annotations

import math

import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from docids.table import END, FIRST_CODE, DocidTable
from docids.trie import Trie
from dsi.search.torch_trie import TorchTrie

ALPHABET = 12


def tiny_model(
    family: str, seed: int, layers: int = 1, alphabet: int = ALPHABET
) -> PreTrainedModel:
    """A random model whose scores differ: the weights are scaled up."""
    torch.manual_seed(seed)
    if family == "t5":
        config = T5Config(
            vocab_size=alphabet, d_model=16, d_kv=8, d_ff=16, num_layers=layers,
            num_heads=2, dropout_rate=0.0, decoder_start_token_id=0,
        )  # fmt: skip
        model: PreTrainedModel = T5ForConditionalGeneration(config)
    else:
        config = BartConfig(
            vocab_size=alphabet, d_model=16, encoder_layers=layers, decoder_layers=layers,
            encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16,
            decoder_ffn_dim=16, max_position_embeddings=32, dropout=0.0, pad_token_id=0,
            bos_token_id=0, eos_token_id=1, decoder_start_token_id=0, forced_eos_token_id=None,
        )  # fmt: skip
        model = BartForConditionalGeneration(config)
        model.generation_config.forced_eos_token_id = None
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.5)
    return model.eval()


def table_of(sequences: list[tuple[int, ...]], alphabet: int = ALPHABET) -> DocidTable:
    return DocidTable.from_sequences(
        [f"d{row}" for row in range(len(sequences))],
        sequences,
        alphabet_size=alphabet,
        kind="test",
    )


def torch_trie(table: DocidTable) -> TorchTrie:
    return TorchTrie.from_trie(Trie.build(table), "cpu")


def with_end(sequences: set[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Identifiers that END makes prefix-free."""
    return [(*sequence, END) for sequence in sorted(sequences, key=lambda s: s[::-1])]


def prefix_free(sequences: set[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The sequences that are no prefix of another."""
    return [
        sequence
        for sequence in sorted(sequences, key=lambda s: s[::-1])
        if not any(o != sequence and o[: len(sequence)] == sequence for o in sequences)
    ]


def queries(lengths: list[int], seed: int, alphabet: int = ALPHABET):
    """Random queries of these lengths, padded at the end."""
    generator = torch.Generator().manual_seed(seed)
    width = max(lengths)
    ids = torch.randint(FIRST_CODE, alphabet, (len(lengths), width), generator=generator)
    mask = (torch.arange(width) < torch.tensor(lengths).unsqueeze(1)).long()
    return ids * mask, mask


def children_of(sequences: list[tuple[int, ...]]) -> dict[tuple[int, ...], list[int]]:
    """The plain-Python trie: prefix -> the codes that may follow."""
    children: dict[tuple[int, ...], set[int]] = {}
    for sequence in sequences:
        for place in range(len(sequence)):
            children.setdefault(sequence[:place], set()).add(sequence[place])
    return {prefix: sorted(codes) for prefix, codes in children.items()}


def prefix_fn(sequences: list[tuple[int, ...]]):
    """`prefix_allowed_tokens_fn` over the plain-Python trie."""
    children = children_of(sequences)

    def allowed(batch_id: int, sent: torch.Tensor) -> list[int]:
        return children.get(tuple(sent.tolist()[1:]), [END])

    return allowed


@torch.no_grad()
def next_log_probabilities(model, ids, mask, prefix: tuple[int, ...]) -> list[float]:
    """Log-probabilities after a prefix, by teacher forcing without a cache; one query."""
    codes = torch.tensor([[0, *prefix]])
    logits = model(
        input_ids=ids, attention_mask=mask, decoder_input_ids=codes, use_cache=False
    ).logits[0, -1]
    return torch.log_softmax(logits.double(), dim=-1).tolist()


def plain_beam_search(model, ids, mask, sequences, k: int, beams: int) -> list[tuple[int, float]]:
    """The definition of the search, in loops; one query."""
    children = children_of(sequences)
    row_of = {sequence: row for row, sequence in enumerate(sequences)}
    running: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    found: list[tuple[int, float]] = []
    while running:
        continuations = []
        for prefix, score in running:
            log_probabilities = next_log_probabilities(model, ids, mask, prefix)
            for code in children[prefix]:
                continuations.append(((*prefix, code), score + log_probabilities[code]))
        continuations.sort(key=lambda pair: -pair[1])
        found += [(row_of[s], score) for s, score in continuations[:beams] if s in row_of]
        running = [pair for pair in continuations if pair[0] not in row_of][:beams]
    found.sort(key=lambda pair: -pair[1])
    return found[:k]


def every_document(model, ids, mask, sequences) -> list[tuple[int, float]]:
    """Every document with its true score, best first; one query."""
    scored = []
    for row, sequence in enumerate(sequences):
        score = math.fsum(
            next_log_probabilities(model, ids, mask, sequence[:place])[code]
            for place, code in enumerate(sequence)
        )
        scored.append((row, score))
    return sorted(scored, key=lambda pair: -pair[1])
