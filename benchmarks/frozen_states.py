"""What can a regression on states of a frozen network find? The ceiling of closed-form updates.

    python benchmarks/frozen_states.py --work FOLDER --seeds 0,1,2

FOLDER is that of `benchmarks/forgetting.py`, which has trained the indexes of D0 there. Identifiers
and words of all increments are added to such an index without training (`append`, and embeddings of
new words as in `edit`). Then codes are regressed on what the frozen network computes for samples of
all documents, old and new: pseudo-queries and random sets of eight words. Every document is scored
for the test queries by the softmax over the codes that may follow, without beams. A row has Hits@10
on D0, on the increments, and their mean A_5, for each regression and each input:

- states: inputs of the output layer; keys: inputs of the last feed-forward network, which `edit`
  multiplies.
- squares: kernel ridge regression, as `kernel --kernel.loss squares`; softmax: as `kernel` does by
  default; documents: linear discriminant analysis with one class a document, summed up by code.

Ridges are those that are best on the test queries: these figures are ceilings, not results.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from record import cell, show

from data_prep.generators import GENERATORS
from dsi.backbones.position_edits import place_of
from dsi.continual.evaluation_queries import EvaluationQueries
from dsi.continual.increments import open_split
from dsi.generation.generative_memory import generator_options
from dsi.index import Index
from dsi.index_folder import versions
from dsi.index_folder.stored_corpus import StoredCorpus
from dsi.rows.new_words import write_new_words
from dsi.updating.options import UpdateOptions
from dsi.updating.structures.closed_form import readings
from dsi.updating.structures.softmax_regression import Block, softmax_rows
from dsi.updating.update import update_index

SPLIT, INDEXES = "squad-dev-240-split", "squad-dev-240-forgetting-semantic/base"
SAMPLES, SETS, WORDS = 20, 20, 8
RIDGES = (1e-3, 1e-2, 1e-1)
SOFTMAX_RIDGES = (1e-6, 1e-5, 1e-4)
MOST = 0.99
"""Share of the energy of old keys in their main directions."""

Array = npt.NDArray[np.float64]
Scores = Callable[[Array, "Node"], Array]


@dataclass(frozen=True)
class Node:
    """A prefix, the codes that may follow, and the documents behind each.

    Attributes:
        prefix: The codes so far.
        codes: The codes that may follow, ascending.
        rows: The table rows of the documents behind each of them.
    """

    prefix: tuple[int, ...]
    codes: list[int]
    rows: list[list[int]]


@dataclass(frozen=True)
class Inputs:
    """What the network computes.

    Attributes:
        samples: float64 [samples, positions, width].
        owners: Table row of each sample's document; int64 [samples].
        tests: Prefix -> float64 [queries, width].
    """

    samples: Array
    owners: npt.NDArray[np.int64]
    tests: dict[tuple[int, ...], Array]


def main() -> None:
    """Measures the seeds that are missing and prints all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder of forgetting.py")
    parser.add_argument("--seeds", default="0", help="numbers with commas between")
    arguments = parser.parse_args()
    rows = [
        cell(
            "frozen_states",
            f"semantic-seed{seed}",
            lambda seed=seed: _measure(arguments.work, seed),
        )
        for seed in map(int, arguments.seeds.split(","))
    ]
    shown = [
        {"seed": row["settings"]["seed"], "regression": name, **figures}
        for row in rows
        for name, figures in row["found"].items()
    ]
    show(shown, ["seed", "regression", "D0", "increments", "A_5"])


def _measure(work: Path, seed: int) -> dict[str, Any]:
    corpora = open_split(work / SPLIT)
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        base = work / INDEXES / f"seed{seed}"
        shutil.copytree(base, index, ignore=shutil.ignore_patterns("lock"))
        known = Index.open(index).text.vocabulary_size
        for corpus in corpora[1:]:
            update_index(index, corpus, UpdateOptions(strategy="append", seed=seed))
        opened = Index.open(index)
        stored = StoredCorpus.open(versions.folder(index, versions.live(index)))
        found, energy = _found(opened, stored, corpora, known)
    return {
        "settings": {"seed": seed, "samples": SAMPLES, "sets": SETS, "kind": "semantic"},
        "found": found,
        "energy of new keys in main directions of old ones": energy,
    }


def _found(
    index: Index, stored: StoredCorpus, corpora: Any, known: int
) -> tuple[dict[str, dict[str, float]], list[float]]:
    table, model = index.table, index.model
    asked = [EvaluationQueries.of(corpus) for corpus in corpora]
    part = np.zeros(len(table), np.int64)
    for number, some in enumerate(asked):
        part[table.find(some.doc_ids)] = number
    documents = list(stored.dataset.documents())
    numbers = table.find([each.doc_id for each in documents])
    words = dict(
        zip(
            numbers.tolist(),
            index.text.encode_documents([each.title_and_text for each in documents], 1 << 20),
            strict=True,
        )
    )
    old = [line for row, line in words.items() if part[row] == 0]
    new = [line for row, line in words.items() if part[row] > 0]
    write_new_words(model, old, new, known, index.text.vocabulary_size)
    generator = GENERATORS["selective"](
        stored.dataset, generator_options("selective", per_doc=SAMPLES, seed=0, memory=None)
    )
    length = index.manifest.query_length
    lines, owners = [], []
    rng = np.random.default_rng(0)
    for row, queries in zip(numbers.tolist(), generator.generate_batch(documents), strict=True):
        read = index.text.encode([query.text for query in queries], length)
        read += [rng.permutation(words[row])[:WORDS].tolist() for _ in range(SETS)]
        lines += [line or [0] for line in read]
        owners += [row] * len(read)
    paths = [[int(code) for code in table.sequence(row)] for row in range(len(table))]
    nodes = _nodes(paths)
    queries = [query for some in asked for query in some.queries]
    targets = table.find([target for some in asked for target in some.targets])
    tests = [line or [0] for line in index.text.encode(queries, length)]
    inputs = _inputs(model, lines, np.array(owners), tests, paths, nodes)
    found = {}
    for name, each in inputs.items():
        tries: dict[str, list[Scores]] = {
            "squares": [_squares(each, paths, ridge) for ridge in RIDGES],
            "softmax": [_softmax(each, paths, nodes, ridge) for ridge in SOFTMAX_RIDGES],
            "documents": [_discriminants(each, paths, ridge) for ridge in RIDGES],
        }
        for loss, scorers in tries.items():
            hits = [_hits(each, nodes, scorer, targets, part) for scorer in scorers]
            found[f"{loss} on {name}"] = max(hits, key=lambda hit: hit["A_5"])
    keys, of = inputs["keys"].samples, part[inputs["keys"].owners]
    energy = [
        _energy(keys[of == 0, place], keys[of > 0, place]) for place in range(keys.shape[1] - 1)
    ]
    return found, energy


def _nodes(paths: list[list[int]]) -> list[Node]:
    behind: dict[tuple[int, ...], dict[int, list[int]]] = {}
    for row, path in enumerate(paths):
        for place, code in enumerate(path):
            behind.setdefault(tuple(path[:place]), {}).setdefault(code, []).append(row)
    return [
        Node(prefix, sorted(codes), [codes[code] for code in sorted(codes)])
        for prefix, codes in behind.items()
    ]


def _inputs(
    model: Any,
    lines: list[list[int]],
    owners: npt.NDArray[np.int64],
    tests: list[list[int]],
    paths: list[list[int]],
    nodes: list[Node],
) -> dict[str, Inputs]:
    samples = _read(model, lines, [paths[row] for row in owners])
    at = {
        node.prefix: [
            each[:, len(node.prefix)]
            for each in _read(model, tests, [[*node.prefix, 1]] * len(tests))
        ]
        for node in nodes
    }
    return {
        name: Inputs(samples[kind], owners, {prefix: both[kind] for prefix, both in at.items()})
        for kind, name in enumerate(("states", "keys"))
    }


def _read(model: Any, lines: list[list[int]], identifiers: list[list[int]]) -> list[Array]:
    """Returns states and keys, both [lines, positions, width]."""
    norm = place_of(model).norm
    order = np.argsort([len(line) for line in lines], kind="stable")
    width, positions = model.config.d_model, max(map(len, identifiers))
    found = [np.zeros((len(lines), positions, width)) for _ in range(2)]
    begin = 0
    for reading in readings(model, lines, identifiers):
        picked = order[begin : begin + len(reading.codes)]
        begin += len(picked)
        with torch.no_grad():
            for kind, each in enumerate((norm(reading.states), reading.keys)):
                found[kind][picked, : each.shape[1]] = each.numpy()
    return found


def _at(inputs: Inputs, paths: list[list[int]], place: int) -> tuple[Array, Any, Any]:
    """Returns inputs at a position, and the codes and owners of their samples."""
    codes = np.array([path[place] if place < len(path) else 0 for path in paths])
    there = codes[inputs.owners] > 0
    owners = inputs.owners[there]
    return inputs.samples[there, place], codes[owners], owners


def _squares(inputs: Inputs, paths: list[list[int]], ridge: float) -> Scores:
    rows = []
    for place in range(inputs.samples.shape[1]):
        given, codes, _ = _at(inputs, paths, place)
        gram = given.T @ given
        gram += ridge * np.trace(gram) / len(gram) * np.eye(len(gram))
        rows.append(np.linalg.solve(gram, given.T @ np.eye(codes.max() + 1)[codes]))
    return lambda given, node: 16 * given @ rows[len(node.prefix)][:, node.codes]


def _softmax(inputs: Inputs, paths: list[list[int]], nodes: list[Node], ridge: float) -> Scores:
    blocks = []
    for node in nodes:
        owner = np.full(len(paths), -1)
        for place, some in enumerate(node.rows):
            owner[some] = place
        here = owner[inputs.owners] >= 0
        blocks.append(
            Block(
                torch.from_numpy(inputs.samples[here, len(node.prefix)]).float(),
                torch.tensor(node.codes),
                torch.from_numpy(owner[inputs.owners[here]]),
            )
        )
    width, alphabet = inputs.samples.shape[2], max(max(path) for path in paths) + 1
    rows = softmax_rows(blocks, torch.zeros(alphabet, width), ridge, 60).numpy()
    return lambda given, node: given @ rows[node.codes].T


def _discriminants(inputs: Inputs, paths: list[list[int]], shrinkage: float) -> Scores:
    weights = []
    for place in range(inputs.samples.shape[1]):
        given, _, owners = _at(inputs, paths, place)
        means = np.zeros((len(paths), given.shape[1]))
        for row in np.unique(owners):
            means[row] = given[owners == row].mean(axis=0)
        rest = given - means[owners]
        within = rest.T @ rest / len(rest)
        within += shrinkage * np.trace(within) / len(within) * np.eye(len(within))
        directions = np.linalg.solve(within, means.T)
        weights.append((directions, -0.5 * np.einsum("ij,ji->i", means, directions)))

    def scores(given: Array, node: Node) -> Array:
        directions, bias = weights[len(node.prefix)]
        logits = given @ directions + bias
        return np.stack([np.logaddexp.reduce(logits[:, rows], axis=1) for rows in node.rows], 1)

    return scores


def _hits(
    inputs: Inputs,
    nodes: list[Node],
    scorer: Scores,
    targets: npt.NDArray[np.int64],
    part: npt.NDArray[np.int64],
) -> dict[str, float]:
    """Returns Hits@10 in percent on D0, on the increments, and the mean over all corpora."""
    total = np.zeros((len(targets), len(part)))
    for node in nodes:
        logits = scorer(inputs.tests[node.prefix], node)
        logs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        for place, rows in enumerate(node.rows):
            total[:, rows] += logs[:, [place]]
    own = total[np.arange(len(targets)), targets]
    hits = 100.0 * ((total > own[:, None]).sum(axis=1) < 10)
    corpora = [float(hits[part[targets] == number].mean()) for number in range(part.max() + 1)]
    new = float(hits[part[targets] > 0].mean())
    return {"D0": corpora[0], "increments": new, "A_5": float(np.mean(corpora))}


def _energy(old: Array, new: Array) -> float:
    """Returns the share of new keys' energy in the directions that hold most of the old ones'."""
    values, directions = np.linalg.eigh(old.T @ old)
    shares = np.cumsum(values[::-1]) / values.sum()
    main = directions[:, ::-1][:, : int((shares < MOST).sum()) + 1]
    return float(np.square(new @ main).sum() / np.square(new).sum())


if __name__ == "__main__":
    main()
