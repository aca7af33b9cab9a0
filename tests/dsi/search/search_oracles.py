"""Shared by the tests of this folder: tiny models, random tables, plain-Python oracles."""

from __future__ import annotations

import dataclasses
import functools
import math
import random
from typing import Any

import pytest
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


@functools.cache
def shared_model(family: str, seed: int, layers: int) -> PreTrainedModel:
    """A tiny model that many cases look at; it is not to be changed."""
    return tiny_model(family, seed, layers)


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
def log_probabilities(model, ids, mask, sequences) -> list[dict[tuple[int, ...], list[float]]]:
    """For each query, prefix -> the log-probabilities of the next code.

    By teacher forcing of all identifiers, without a cache.
    """
    longest = max(map(len, sequences))
    codes = torch.tensor([[0, *s, *[0] * (longest - len(s))][:longest] for s in sequences])
    lines = []
    for query in range(len(ids)):
        logits = model(
            input_ids=ids[query : query + 1].expand(len(sequences), -1),
            attention_mask=mask[query : query + 1].expand(len(sequences), -1),
            decoder_input_ids=codes,
            use_cache=False,
        ).logits
        steps = torch.log_softmax(logits.double(), dim=-1).tolist()
        lines.append(
            {s[:place]: line[place] for s, line in zip(sequences, steps, strict=True)
             for place in range(len(s))}
        )  # fmt: skip
    return lines


def renormalized(log_probabilities: list[float], codes: list[int]) -> list[float]:
    """The log-probabilities of codes over some of them alone; of use for these only."""
    total = math.log(math.fsum(math.exp(log_probabilities[code]) for code in codes))
    return [value - total for value in log_probabilities]


def plain_beam_search(
    steps: dict[tuple[int, ...], list[float]],
    sequences: list[tuple[int, ...]],
    k: int,
    beams: int,
    *,
    score: str = "model",
    first_beams: int | None = None,
    first_levels: int = 1,
    starts: int = 1,
    added: dict[int, float] | None = None,
) -> list[tuple[int, float]]:
    """The definition of the search, in loops; one query.

    Args:
        steps: What `log_probabilities` gives for the query.
        sequences: The identifiers, by row.
        k: As in `beam_search`; likewise the others.
        added: row -> the score that is added to the model's.
    """
    children = children_of(sequences)
    row_of = {sequence: row for row, sequence in enumerate(sequences)}
    added = added or {}
    ahead: dict[tuple[int, ...], float] = {}
    for row, sequence in enumerate(sequences):
        for place in range(1, len(sequence) + 1):
            prefix = sequence[:place]
            ahead[prefix] = max(ahead.get(prefix, -math.inf), added.get(row, 0.0))
    running: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    found: list[tuple[int, float]] = []
    level = 0
    while running:
        width = first_beams if first_beams is not None and level < first_levels else beams
        continuations = []
        for prefix, total in running:
            values = steps[prefix]
            if score == "constrained":
                values = renormalized(values, children[prefix])
            for code in children[prefix]:
                continuations.append(((*prefix, code), total + values[code]))
        continuations.sort(key=lambda pair: -(pair[1] + ahead[pair[0]]))
        found += [
            (row_of[s], total + ahead[s]) for s, total in continuations[:width] if s in row_of
        ]
        inner = [pair for pair in continuations if pair[0] not in row_of]
        share = -(-min(width, len(sequences)) // starts)
        running = of_each(inner, min(width, len(inner)), share)
        level += 1
    found.sort(key=lambda pair: -pair[1])
    return found[:k]


def of_each(ranked, width: int, share: int):
    """The best, at most a share of which begin with one code; filled up with the best others."""
    chosen: list[int] = []
    held: dict[int, int] = {}
    for place, (prefix, _) in enumerate(ranked):
        held[prefix[0]] = held.get(prefix[0], 0) + 1
        if held[prefix[0]] <= share:
            chosen.append(place)
    chosen = chosen[:width]
    others = [place for place in range(len(ranked)) if place not in chosen]
    return [ranked[place] for place in sorted(chosen + others[: width - len(chosen)])]


def every_document(
    steps: dict[tuple[int, ...], list[float]], sequences: list[tuple[int, ...]]
) -> list[tuple[int, float]]:
    """Every document with its true score, best first; one query."""
    scored = []
    for row, sequence in enumerate(sequences):
        score = math.fsum(steps[sequence[:place]][code] for place, code in enumerate(sequence))
        scored.append((row, score))
    return sorted(scored, key=lambda pair: -pair[1])


@dataclasses.dataclass
class Case:
    """A small random search, and what its definition finds."""

    arguments: dict[str, Any]
    docids: list[tuple[int, ...]]
    expected: list[list[tuple[int, float]]]


def random_case(seed: int) -> Case:
    """A case with any of the options, drawn from a seed."""
    draw = random.Random(seed)
    codes = draw.choice([3, ALPHABET - 1])
    docids = draw.choice([with_end, prefix_free])(
        {
            tuple(draw.randint(2, codes) for _ in range(draw.randint(1, 5)))
            for _ in range(draw.randint(1, 25))
        }
    )
    model = shared_model(draw.choice(FAMILIES), draw.randint(0, 20), draw.randint(1, 2))
    batch = queries([draw.randint(1, 6) for _ in range(draw.randint(1, 3))], seed)
    lines = len(batch[0])
    beams = draw.randint(1, 8)
    k = draw.randint(1, beams)
    table, kept = table_of(docids), list(range(len(docids)))
    trie = torch_trie(table)
    if draw.random() < 0.3:
        kept = sorted(draw.sample(kept, draw.randint(1, len(kept))))
        live = torch.zeros(len(docids), dtype=torch.bool)
        live[kept] = True
        trie = trie.restricted(live)
    chosen: dict[str, Any] = {"score": draw.choice(["model", "constrained"])}
    if draw.random() < 0.4:
        chosen |= {"first_beams": draw.randint(1, 9), "first_levels": draw.randint(1, 3)}
    if draw.random() < 0.4:
        chosen["starts"] = draw.randint(1, beams)
    plain = [dict(chosen) for _ in range(lines)]
    if draw.random() < 0.4:
        worth = [[draw.choice([0.0, 3.0 * draw.random()]) for _ in docids] for _ in range(lines)]
        chosen["document_scores"] = torch.tensor(worth)
        for line in range(lines):
            plain[line]["added"] = {place: worth[line][row] for place, row in enumerate(kept)}
    there = [docids[row] for row in kept]
    expected = [
        [
            (kept[place], score)
            for place, score in plain_beam_search(steps, there, k, beams, **options)
        ]
        for steps, options in zip(log_probabilities(model, *batch, there), plain, strict=True)
    ]
    ids, mask = batch
    arguments = {"model": model, "input_ids": ids, "attention_mask": mask, "trie": trie}
    return Case({**arguments, "k": k, "beams": beams, **chosen}, docids, expected)


def difference(case: Case, rows: torch.Tensor, scores: torch.Tensor) -> str:
    """What a search found that is not what was expected; empty where they agree."""
    for row_line, score_line, pairs in zip(
        rows.tolist(), scores.tolist(), case.expected, strict=True
    ):
        filled = [*pairs, *[(-1, -math.inf)] * (len(row_line) - len(pairs))]
        if row_line != [row for row, _ in filled]:
            return f"found {row_line}, expected {filled}"
        for score, (_, expected) in zip(score_line, filled, strict=True):
            if score != expected and not abs(score - expected) <= 1e-4 * max(1, abs(expected)):
                return f"scores {score_line}, expected {filled}"
    return ""


def assert_found(found, expected):
    """The rows and scores of a search, [queries, k], are the expected (row, score) lists.

    As near as single precision tells: some random networks make much of the last bits, and which
    of two scores that differ there is the higher is not for a test to say.
    """
    rows, scores = found
    for row_line, score_line, pairs in zip(rows.tolist(), scores.tolist(), expected, strict=True):
        filled = [*pairs, *[(-1, -math.inf)] * (len(row_line) - len(pairs))]
        wanted = [score for _, score in filled]
        assert score_line == pytest.approx(wanted, rel=1e-4, abs=1e-4)
        assert len({*row_line} - {-1}) == len({row for row, _ in filled} - {-1})
        score_of = dict(filled)
        for row, (other, score) in zip(row_line, filled, strict=True):
            assert row == other or score_of.get(row, wanted[-1]) == pytest.approx(
                score, rel=1e-4, abs=1e-4
            )
