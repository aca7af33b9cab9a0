"""What the tests of this folder share: tiny models, random tables, plain-Python oracles."""

from __future__ import annotations

import math
from typing import Any

import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    MBartConfig,
    MBartForConditionalGeneration,
    MT5Config,
    MT5ForConditionalGeneration,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from docids.table import END, FIRST_CODE, DocidTable
from docids.trie import Trie
from dsi.search.torch_trie import TorchTrie

ALPHABET = 12


FAMILIES = ("t5", "mt5", "bart", "mbart", "encoder-decoder")


def tiny_model(
    family: str, seed: int, layers: int = 1, alphabet: int = ALPHABET
) -> PreTrainedModel:
    """A random model whose scores differ: the weights are scaled up."""
    torch.manual_seed(seed)
    model = _BUILDERS[family](layers, alphabet)
    model.generation_config.forced_eos_token_id = None
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.5)
    return model.eval()


def _t5(layers: int, alphabet: int) -> PreTrainedModel:
    return T5ForConditionalGeneration(T5Config(**_t5_shape(layers, alphabet)))


def _mt5(layers: int, alphabet: int) -> PreTrainedModel:
    return MT5ForConditionalGeneration(MT5Config(**_t5_shape(layers, alphabet)))


def _t5_shape(layers: int, alphabet: int) -> dict[str, Any]:
    return {
        "vocab_size": alphabet, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": layers,
        "num_heads": 2, "dropout_rate": 0.0, "decoder_start_token_id": 0,
        "relative_attention_num_buckets": 4, "relative_attention_max_distance": 6,
    }  # fmt: skip


def _bart(layers: int, alphabet: int) -> PreTrainedModel:
    return BartForConditionalGeneration(BartConfig(**_bart_shape(layers, alphabet)))


def _mbart(layers: int, alphabet: int) -> PreTrainedModel:
    shape = {**_bart_shape(layers, alphabet), "scale_embedding": True}
    return MBartForConditionalGeneration(MBartConfig(**shape))


def _bart_shape(layers: int, alphabet: int) -> dict[str, Any]:
    return {
        "vocab_size": alphabet, "d_model": 16, "encoder_layers": layers, "decoder_layers": layers,
        "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16,
        "decoder_ffn_dim": 16, "max_position_embeddings": 32, "dropout": 0.0, "pad_token_id": 0,
        "bos_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0,
        "forced_eos_token_id": None,
    }  # fmt: skip


def _encoder_decoder(layers: int, alphabet: int) -> PreTrainedModel:
    shape = {
        "vocab_size": alphabet, "hidden_size": 16, "num_hidden_layers": layers,
        "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 32,
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "pad_token_id": 0,
        "bos_token_id": 0, "eos_token_id": 1,
    }  # fmt: skip
    config = EncoderDecoderConfig.from_encoder_decoder_configs(
        BertConfig(**shape), BertConfig(**shape)
    )
    config.decoder_start_token_id = config.pad_token_id = 0
    model = EncoderDecoderModel(config)
    model.generation_config.decoder_start_token_id = 0
    model.generation_config.pad_token_id = 0
    model.generation_config.eos_token_id = 1
    return model


_BUILDERS = {
    "t5": _t5,
    "mt5": _mt5,
    "bart": _bart,
    "mbart": _mbart,
    "encoder-decoder": _encoder_decoder,
}


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


def renormalised(log_probabilities: list[float], codes: list[int]) -> dict[int, float]:
    """The log-probabilities of some codes, over these codes alone."""
    total = math.log(math.fsum(math.exp(log_probabilities[code]) for code in codes))
    return {code: log_probabilities[code] - total for code in codes}


def plain_beam_search(
    model, ids, mask, sequences, k: int, beams: int, score: str = "model"
) -> list[tuple[int, float]]:
    """The definition of the search, in loops; one query."""
    children = children_of(sequences)
    row_of = {sequence: row for row, sequence in enumerate(sequences)}
    running: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    found: list[tuple[int, float]] = []
    while running:
        continuations = []
        for prefix, total in running:
            steps = next_log_probabilities(model, ids, mask, prefix)
            if score == "constrained":
                steps = renormalised(steps, children[prefix])
            for code in children[prefix]:
                continuations.append(((*prefix, code), total + steps[code]))
        continuations.sort(key=lambda pair: -pair[1])
        found += [(row_of[s], total) for s, total in continuations[:beams] if s in row_of]
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
