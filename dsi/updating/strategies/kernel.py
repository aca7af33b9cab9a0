"""`kernel`: output rows by regression on samples that are written when needed.

Generative kernel continual learning (Derakhshani et al., arXiv 2112.13410) keeps no sample of old
classes: a generative model writes them when an update needs them. Here the index's own
pseudo-query generator (with `--generator memory`: DSI++'s generative memory) writes queries for
every document, old and new; random sets of a document's words are samples too. The network is
frozen, and a regression of the codes on its states gives all output rows at once: of the softmax
over the codes that the trie allows (`dsi.updating.structures.softmax_regression`), or by least
squares, as in the paper (`dsi.updating.structures.kernel_regression`). The kernel is linear, or
Gaussian by random Fourier features, which then become part of the network
(`dsi.backbones.output_states`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.errors import InputError
from dsi.updating.strategies.base import STRATEGIES, Outcome, Standalone, Update
from dsi.updating.strategies.edit import sets_of_words, write_words

if TYPE_CHECKING:
    import torch

    from data_prep.dataset import Document
    from dsi.backbones.output_states import FourierFeatures
    from dsi.updating.structures.kernel_regression import Sums
    from dsi.updating.structures.softmax_regression import Block

Samples = dict[int, list[list[int]]]
"""Table row -> token ids of the document's samples."""
_TOGETHER = 256
"""Documents whose samples are written at a time."""
_HELD_OUT = 100
"""Samples on which the ridge and the scale of rows are chosen, one a document."""


class Kernel(Standalone):
    """Solves for all output rows; nothing is trained, and no sample is kept."""

    name = "kernel"
    reads = frozenset({"kernel"})
    ignores = frozenset({"ratio", "new_fraction", "steps", "batch", "lr"})
    plain_head = True
    fourier = True

    def run(self, update: Update, work: Path) -> Outcome:
        """Writes samples of all documents, reads them, and solves for the rows.

        Raises:
            InputError: There is no generator, a document has neither samples nor a text, or the
                decoder is unknown.
        """
        from dsi.backbones.output_states import (
            FourierFeatures,
            add_map,
            check_free,
            drop_map,
            map_of,
        )
        from dsi.updating.expansion import expanded_model

        began = time.perf_counter()
        options = update.options.kernel
        model = update.load_parent()
        if options.features == FourierFeatures.kind:
            check_free(model, FourierFeatures)
        samples, from_text = samples_of(update, self.name, options.samples)
        written = time.perf_counter()
        if isinstance(map_of(model), FourierFeatures):
            drop_map(model)  # rows of the states' own width, as the expansion knows them
        model = expanded_model(update, model)
        words = write_words(model, update) if options.words else 0
        read = tokens_of(update, samples, options.subsets)
        features = _features(model, update, read) if options.features == "fourier" else None
        rows, reached = _SOLVERS[options.loss](model, update, read, features)
        if features is not None:
            add_map(model, features)
        write_rows(model, rows)
        ended = time.perf_counter()
        count = sum(map(len, samples.values()))
        per_document = 1000 / max(1, len(update.new_rows))
        reached = {
            "steps": 0,
            "batch": 0,
            "samples": count,
            "samples of text": from_text,
            "words": words,
            **reached,
            "bytes kept a document": _kept(update, features) / len(samples),
        }
        milliseconds = {
            "writing samples": (written - began) * per_document,
            "solving": (ended - written) * per_document,
            "all": (ended - began) * per_document,
        }
        return Outcome(model, update.text, reached, {"milliseconds a document": milliseconds})


def samples_of(update: Update, strategy: str, count: int) -> tuple[dict[int, list[str]], int]:
    """Writes samples for every live document.

    A document for which the generator writes nothing is its own sample.

    Args:
        update: The update.
        strategy: The strategy that needs them, for the message.
        count: Samples of each document.

    Returns:
        Table row -> samples, at least one each, and how many documents are their own.

    Raises:
        InputError: There is no generator, or such a document has no text either.
    """
    from data_prep.generators.base import GENERATORS
    from dsi.generation.generative_memory import IN_VERSION, generator_options

    if update.generator is None:
        raise InputError(
            f"--strategy {strategy} needs a generator of pseudo-queries, and the index has none",
            hint="Choose a --generator",
        )
    chosen = generator_options(
        update.generator,
        per_doc=count,
        seed=update.options.seed,
        memory=update.parent / IN_VERSION,
    )
    generator = GENERATORS[update.generator](update.corpus.dataset, chosen)
    samples: dict[int, list[str]] = {}
    from_text = 0
    for batch in _batches(update.corpus.dataset.documents()):
        for document, queries in zip(batch, generator.generate_batch(batch), strict=True):
            texts = [query.text for query in queries if query.text.strip()]
            if not texts:
                texts = [document.title_and_text]
                from_text += 1
                if not texts[0].strip():
                    raise InputError(
                        f"the generator {update.generator} generates no query for the document "
                        f"{document.doc_id!r}, which has no text",
                        hint=f"Remove it: dsi delete INDEX {document.doc_id}",
                    )
            samples[update.assignment.table.row_of(document.doc_id)] = texts
    return samples, from_text


def _batches(documents: Iterator[Document]) -> Iterator[list[Document]]:
    while batch := list(islice(documents, _TOGETHER)):
        yield batch


def tokens_of(update: Update, samples: dict[int, list[str]], subsets: int) -> Samples:
    """Returns the token ids of each document's sets of words and, after them, of its samples.

    Args:
        update: The update.
        samples: Table row -> samples.
        subsets: Random sets of words of each document.
    """
    length = update.manifest.query_length
    return {
        row: [
            *sets_of_words(update, row, subsets),
            *(line or [0] for line in update.text.encode(texts, length)),
        ]
        for row, texts in samples.items()
    }


def _squares(
    model: Any, update: Update, samples: Samples, features: FourierFeatures | None
) -> tuple[torch.Tensor, dict[str, Any]]:
    """Returns rows by kernel ridge regression, and facts for the manifest."""
    import torch

    from dsi.updating.structures.kernel_regression import LAMS, Sums, best_of, systems_of

    options = update.options.kernel
    table = update.assignment.table
    systems = systems_of(torch.from_numpy(table.matrix().astype(np.int64)))
    width = len(features.phase) if features else model.get_output_embeddings().in_features
    fit = Sums.none(max(systems) + 1, table.alphabet_size, width)
    rest = Sums.none(max(systems) + 1, table.alphabet_size, width)
    held: list[tuple[torch.Tensor, torch.Tensor]] = []
    rng = np.random.default_rng([update.options.seed, 24])
    several = [row for row, lines in samples.items() if len(lines) > 1]
    chosen = set(rng.permutation(several)[:_HELD_OUT].tolist())
    main = {row: lines[: -1 if row in chosen else None] for row, lines in samples.items()}
    for states, codes in _states(model, update, main, features):
        fit.add(systems[codes.shape[1] - 1], states, codes[:, -1])
    last = {row: lines[-1:] for row, lines in samples.items() if row in chosen}
    for states, codes in _states(model, update, last, features):
        rest.add(systems[codes.shape[1] - 1], states, codes[:, -1])
        held.append((states, codes[:, -1]))
    lams = LAMS if options.lam is None else (options.lam,)
    if held:
        tried = (torch.cat([each[0] for each in held]), torch.cat([each[1] for each in held]))
        lam, scale = best_of(fit, tried, lams)
    else:
        lam, scale = lams[-1], 16.0
    solved = int((fit.system_of >= 0).sum())
    rows = _joined(fit, rest).rows(lam) * scale
    return rows, {"solved": solved, "lam": lam, "scale": scale}


def _softmax(
    model: Any, update: Update, samples: Samples, features: FourierFeatures | None
) -> tuple[torch.Tensor, dict[str, Any]]:
    """Returns rows by softmax regression, and facts for the manifest."""
    from dsi.updating.structures.softmax_regression import LAM, softmax_rows

    options = update.options.kernel
    blocks = blocks_of(model, update, samples, features)
    before = model.get_output_embeddings().weight.detach().float().cpu()
    start = before if features is None else before.new_zeros(len(before), len(features.phase))
    lam = options.lam or LAM
    alphabet = update.assignment.table.alphabet_size
    rows = softmax_rows(blocks, start[:alphabet], lam, options.iterations)
    return rows, {
        "solved": len({int(code) for each in blocks for code in each.allowed}),
        "lam": lam,
    }


def blocks_of(
    model: Any, update: Update, samples: Samples, features: FourierFeatures | None = None
) -> list[Block]:
    """Returns the states of samples, with the codes that the trie allows there.

    Args:
        model: The model.
        update: The update.
        samples: Token ids of the samples of each document.
        features: Maps states; None for none.
    """
    import torch

    from dsi.updating.structures.softmax_regression import Block

    table = update.assignment.table
    constrained = update.manifest.score == "constrained"
    identifiers = [each for row in table.live.tolist() for each in table.sequences(row)]
    after: dict[tuple[int, ...], set[int]] = {}
    for identifier in identifiers:
        codes = [int(code) for code in identifier]
        for place, code in enumerate(codes):
            after.setdefault(tuple(codes[:place]) if constrained else (), set()).add(code)
    read: dict[tuple[int, ...], list[tuple[torch.Tensor, torch.Tensor]]] = {}
    for states, given in _states(model, update, samples, features):
        prefixes = [tuple(line) for line in (given[:, :-1].tolist())]
        for prefix in dict.fromkeys(prefixes if constrained else [()]):
            here = torch.tensor([not constrained or each == prefix for each in prefixes])
            read.setdefault(prefix, []).append((states[here], given[here, -1]))
    blocks = []
    for prefix, parts in read.items():
        allowed = torch.tensor(sorted(after[prefix]))
        if len(allowed) > 1:
            wanted = torch.searchsorted(allowed, torch.cat([codes for _, codes in parts]))
            blocks.append(Block(torch.cat([each for each, _ in parts]).float(), allowed, wanted))
    return blocks


_SOLVERS = {"softmax": _softmax, "squares": _squares}


def _states(
    model: Any, update: Update, samples: Samples, features: FourierFeatures | None
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yields states (or their features) [samples, width] and codes up to there [samples, codes]."""
    import torch

    from dsi.backbones.position_edits import place_of
    from dsi.updating.structures.closed_form import readings

    table = update.assignment.table
    texts, identifiers = [], []
    for row, lines in samples.items():
        for identifier in table.sequences(row):
            texts += lines
            identifiers += [list(identifier)] * len(lines)
    if not texts:
        return
    norm = place_of(model, Kernel.name).norm
    for reading in readings(model, texts, identifiers):
        with torch.no_grad():
            states = norm(reading.states)
            states = states if features is None else features(states)
        for position in range(reading.codes.shape[1]):
            there = reading.codes[:, position] > 0
            if bool(there.any()):
                yield states[there, position].cpu(), reading.codes[there, : position + 1].cpu()


def _features(model: Any, update: Update, samples: Samples) -> FourierFeatures:
    """Draws features whose bandwidth is the median distance of states, unless it is given."""
    import torch

    from dsi.backbones.output_states import FourierFeatures

    options = update.options.kernel
    some = dict(islice(samples.items(), _HELD_OUT))
    found = list(_states(model, update, {row: lines[-1:] for row, lines in some.items()}, None))
    states = torch.cat([each for each, _ in found]).float()
    distance = float(torch.pdist(states).median()) if len(states) > 1 else 1.0
    bandwidth = options.bandwidth or max(distance, 1e-6)
    return FourierFeatures.drawn(states.shape[1], options.size, bandwidth, seed=update.options.seed)


def _joined(one: Sums, other: Sums) -> Sums:
    import torch

    from dsi.updating.structures.kernel_regression import Sums

    return Sums(
        one.grams + other.grams,
        one.classes + other.classes,
        torch.maximum(one.system_of, other.system_of),
    )


def write_rows(model: Any, rows: torch.Tensor) -> None:
    """Writes output rows, floating [codes, width], in place."""
    import torch

    weight = model.get_output_embeddings().weight
    with torch.no_grad():
        weight[: len(rows)] = rows.to(weight)


def _kept(update: Update, features: FourierFeatures | None) -> int:
    """Returns the bytes that the strategy keeps: the memory's weights, and those of features."""
    from dsi.generation.generative_memory import IN_VERSION

    memory = update.parent / IN_VERSION
    files = memory.rglob("*") if update.generator == "memory" else ()
    size = sum(file.stat().st_size for file in files if file.is_file())
    return size + (0 if features is None else sum(each.nbytes for each in features.buffers()))


STRATEGIES.register("kernel")(Kernel())
