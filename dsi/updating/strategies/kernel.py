"""`kernel`: output rows by kernel ridge regression on samples that are written when needed.

Generative kernel continual learning (Derakhshani et al., arXiv 2112.13410) keeps no sample of old
classes: a generative model writes them when an update needs them. Here the index's own
pseudo-query generator (with `--generator memory`: DSI++'s generative memory) writes queries for
every document, old and new. The network is frozen; for each position of an identifier, kernel
ridge regression of the codes on its states gives all output rows at once
(`dsi.updating.structures.kernel_regression`). The kernel is linear, or Gaussian by random Fourier
features, which then become part of the network (`dsi.output_states`).
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

if TYPE_CHECKING:
    import torch

    from data_prep.dataset import Document
    from dsi.backbones.output_states import FourierFeatures
    from dsi.updating.structures.kernel_regression import Sums

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
        import torch

        from dsi.backbones.output_states import (
            FourierFeatures,
            add_map,
            check_free,
            drop_map,
            map_of,
        )
        from dsi.updating.expansion import expanded_model
        from dsi.updating.structures.kernel_regression import LAMS, Sums, best_of, systems_of

        began = time.perf_counter()
        options = update.options.kernel
        table = update.assignment.table
        model = update.load_parent()
        if options.features == FourierFeatures.kind:
            check_free(model, FourierFeatures)
        samples, from_text = samples_of(update)
        written = time.perf_counter()
        if isinstance(map_of(model), FourierFeatures):
            drop_map(model)  # rows of the states' own width, as the expansion knows them
        model = expanded_model(update, model)
        matrix = torch.from_numpy(table.matrix().astype(np.int64))
        systems = systems_of(matrix)
        features = _features(model, update, samples) if options.features == "fourier" else None
        width = len(features.phase) if features else model.get_output_embeddings().in_features
        fit = Sums.none(max(systems) + 1, table.alphabet_size, width)
        rest = Sums.none(max(systems) + 1, table.alphabet_size, width)
        held: list[tuple[torch.Tensor, torch.Tensor]] = []
        rng = np.random.default_rng([update.options.seed, 24])
        several = [row for row, texts in samples.items() if len(texts) > 1]
        chosen = set(rng.permutation(several)[:_HELD_OUT].tolist())
        main = {row: texts[: -1 if row in chosen else None] for row, texts in samples.items()}
        for position, states, codes in _states(model, update, main, features):
            fit.add(systems[position], states, codes)
        last = {row: texts[-1:] for row, texts in samples.items() if row in chosen}
        for position, states, codes in _states(model, update, last, features):
            rest.add(systems[position], states, codes)
            held.append((states, codes))
        lams = LAMS if options.lam is None else (options.lam,)
        if held:
            tried = (torch.cat([each[0] for each in held]), torch.cat([each[1] for each in held]))
            lam, scale = best_of(fit, tried, lams)
        else:
            lam, scale = lams[-1], 16.0
        if features is not None:
            add_map(model, features)
        _write(model, _joined(fit, rest).rows(lam) * scale)
        ended = time.perf_counter()
        count = sum(map(len, samples.values()))
        per_document = 1000 / max(1, len(update.new_rows))
        reached = {
            "steps": 0,
            "batch": 0,
            "solved": int((fit.system_of >= 0).sum()),
            "samples": count,
            "samples of text": from_text,
            "lam": lam,
            "scale": scale,
            "bytes kept a document": _kept(update, features) / len(samples),
        }
        milliseconds = {
            "writing samples": (written - began) * per_document,
            "solving": (ended - written) * per_document,
            "all": (ended - began) * per_document,
        }
        return Outcome(model, update.text, reached, {"milliseconds a document": milliseconds})


def samples_of(update: Update) -> tuple[dict[int, list[str]], int]:
    """Writes samples for every live document.

    A document for which the generator writes nothing is its own sample.

    Returns:
        Table row -> samples, at least one each, and how many documents are their own.

    Raises:
        InputError: There is no generator, or such a document has no text either.
    """
    from data_prep.generators.base import GENERATORS
    from dsi.generation.generative_memory import IN_VERSION, generator_options

    if update.generator is None:
        raise InputError(
            "--strategy kernel needs a generator of pseudo-queries, and the index has none",
            hint="Choose a --generator",
        )
    chosen = generator_options(
        update.generator,
        per_doc=update.options.kernel.samples,
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


def _states(
    model: Any, update: Update, samples: dict[int, list[str]], features: FourierFeatures | None
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """Yields a position, states (or their features) [samples, width], and codes [samples]."""
    import torch

    from dsi.backbones.position_edits import place_of
    from dsi.updating.structures.closed_form import readings

    table = update.assignment.table
    texts, identifiers = [], []
    for row, asked in samples.items():
        for identifier in table.sequences(row):
            texts += asked
            identifiers += [list(identifier)] * len(asked)
    if not texts:
        return
    tokens = [line or [0] for line in update.text.encode(texts, update.manifest.query_length)]
    norm = place_of(model, Kernel.name).norm
    for reading in readings(model, tokens, identifiers):
        with torch.no_grad():
            states = norm(reading.states)
            states = states if features is None else features(states)
        for position in range(reading.codes.shape[1]):
            there = reading.codes[:, position] > 0
            if bool(there.any()):
                yield position, states[there, position].cpu(), reading.codes[there, position].cpu()


def _features(model: Any, update: Update, samples: dict[int, list[str]]) -> FourierFeatures:
    """Draws features whose bandwidth is the median distance of states, unless it is given."""
    import torch

    from dsi.backbones.output_states import FourierFeatures

    options = update.options.kernel
    some = dict(islice(samples.items(), _HELD_OUT))
    found = list(_states(model, update, {row: texts[:1] for row, texts in some.items()}, None))
    states = torch.cat([each for _, each, _ in found]).float()
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


def _write(model: Any, rows: torch.Tensor) -> None:
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
