"""What do identifiers and the trie over them cost at scale, and beside what others use?

    python benchmarks/identifier_kinds.py          # every cell; an hour on two cores
    python benchmarks/identifier_kinds.py --cells trie-1m,marisa-1m
    python benchmarks/identifier_kinds.py --small  # a hundredth of every size, in a minute
    python benchmarks/identifier_kinds.py --dataset squad-dev=PATH/TO/BEIR   # quality of every kind
    python benchmarks/identifier_kinds.py --dataset debian-20k=PATH --systems rq,rq+balance,rqvae

Each cell runs in a process of its own, so that its peak memory is its own. Cells that are in
`results/identifier_kinds.jsonl` are not measured again; remove a line to measure its cell again.

- semantic-N: hierarchical k-means over N random clustered vectors of 128 dimensions, with the
  defaults of `dsi docids`.
- trie-N: the trie over N random identifiers of 8 codes from 256: time and memory beyond the
  table, bytes on disk, time to open by memory map.
- nci-N: NCI's recursive k-means (scikit-learn, with its settings) beside ours on the same vectors.
- quality-KIND: the quality report of a kind on the dataset of `--dataset`, and the time it took,
  also that of the processor, which counts on a busy machine.
- marisa-N: marisa-trie (what GENRE offers as its compact trie) beside ours on the same identifiers:
  bytes, time to build, to look a document up, and to list the codes after a prefix. marisa-trie
  knows keys only: its codes are those of all keys below the prefix, as GENRE has it, or are tried
  one by one. A constrained search asks for all beams of all queries at each step, and ours knows
  their nodes: that is measured for BEAMS prefixes of each length.

The cells marisa-N need marisa-trie: pip install -c constraints.txt "dsi-toolkit[benchmarks]", or
pip install marisa-trie.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from record import cell, show

DIMENSIONS = 128
LENGTH = 8
CODES = 256
BEAMS = 640
"""Prefixes of one step of a search: of 32 queries with 20 beams each."""
GROUPS = (64, 16, 16)
"""Clusters, clusters in each of them, and so on: of the random vectors."""
SIZES = {"20k": 20_000, "100k": 100_000, "1m": 1_000_000, "8.8m": 8_800_000}
CELLS = (
    "semantic-1m",
    "semantic-8.8m",
    "trie-1m",
    "trie-8.8m",
    "nci-20k",
    "nci-100k",
    "marisa-1m",
    "marisa-8.8m",
)


def main() -> None:
    """Measures the cells that are missing and prints what each has found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", default=",".join(CELLS))
    parser.add_argument("--small", action="store_true", help="a hundredth of every size")
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # what the child process is for
    parser.add_argument("--table", nargs=2, help=argparse.SUPPRESS)  # and another one
    parser.add_argument("--dataset", metavar="NAME=SOURCE", help="the quality reports instead")
    parser.add_argument("--systems", help="of the quality reports; default: all")
    arguments = parser.parse_args()
    if arguments.dataset:
        asked = arguments.systems.split(",") if arguments.systems else None
        quality(*arguments.dataset.split("=", 1), asked)
        return
    if arguments.table:
        random_table(int(arguments.table[0])).save(arguments.table[1])
        return
    scale = 0.01 if arguments.small else 1.0
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, scale)))
        return
    for name in arguments.cells.split(","):
        stored = f"{name}-small" if arguments.small else name
        found = cell(
            "identifier_kinds", stored, lambda name=name: in_a_process(name, arguments.small)
        )
        facts = {key: value for key, value in found.items() if not isinstance(value, dict)}
        show([{"what": key, "value": value} for key, value in facts.items()], ["what", "value"])


TOLD_APART = ("the next choice", "a number was added")
"""How documents with one identifier are told apart, in a quality report's `resolved`."""


def quality(name: str, source: str, asked: list[str] | None = None) -> None:
    """Measures the identifiers of kinds on a dataset, of all by default, and prints their table."""
    from data_prep.dataset import Dataset
    from docids.kind_options import KindOptions
    from docids.kinds import KINDS
    from docids.kinds.cluster_tree import TreeOptions
    from docids.kinds.pq import ProductOptions
    from docids.kinds.rq import ResidualOptions
    from docids.kinds.url import UrlOptions
    from docids.pseudo_queries import queries_of
    from dsi.commands.docids import docids
    from dsi.commands.prepare import prepare

    rows = []
    with TemporaryDirectory() as folder:
        dataset, out = Path(folder) / "dataset", Path(folder) / "docids"
        shared = ("description+share", "title+share", "keywords+share", "rq+share")
        systems = [*KINDS, *shared, "rq+balance", "pq+opq"]
        for system in asked or sorted(systems, key=lambda name: (name == "learned", name)):
            print(f"{time.strftime('%H:%M:%S')} {system}", file=sys.stderr, flush=True)

            def measured(system: str = system) -> dict[str, Any]:
                if not dataset.exists():
                    prepare(source, out=dataset)
                kind, _, variant = system.partition("+")
                if kind == "description" and not Dataset.open(dataset).generators:
                    queries_of(Dataset.open(dataset))("auto")  # not part of the time
                started, worked = time.perf_counter(), time.process_time()
                report = docids(
                    dataset,
                    out=out,
                    kind=kind,
                    kinds=KindOptions(
                        collisions="share" if variant == "share" else None,
                        rq=ResidualOptions(balance=variant == "balance"),
                        pq=ProductOptions(rotation="opq" if variant == "opq" else "random"),
                        # The corpora here have no URLs; their ids are as near as it comes.
                        url=UrlOptions(column="doc_id" if kind == "url" else "auto"),
                        semantic=TreeOptions(
                            codes="node" if kind in ("semantic", "random") else TreeOptions.codes
                        ),
                    ),
                )
                seconds = time.perf_counter() - started
                return {
                    "settings": {"dataset": name, "system": system},
                    "seconds": seconds,
                    "processor seconds": time.process_time() - worked,
                    "quality": _summary(report.data),
                }

            found = cell("identifier_kinds", f"quality-{name}-{system}", measured)
            report = found["quality"]
            rows.append(
                {
                    "identifiers": system,
                    "seconds": round(found["seconds"], 1),
                    "length": round(report["length"], 2),
                    "alphabet": report["alphabet"],
                    "unique": round(report["unique"], 4),
                    "sharing": report["shared_documents"],
                    "told apart": sum(report["resolved"].get(way, 0) for way in TOLD_APART),
                    "purity": report["purity"],
                    "chance": report["purity_shuffled"],
                    "neighbor hit rate": report.get("neighbor_hit_rate"),
                    "Gini": report.get("gini"),
                }
            )
    show(rows, list(rows[0]))


def _summary(report: dict[str, Any]) -> dict[str, Any]:
    """Returns a quality report without what it says of each level and position."""
    left_out = ("kind", "levels", "positions", "purity_reason", "out")
    kept = {key: value for key, value in report.items() if key not in left_out}
    return {**kept, "length": report["length"]["mean"], "alphabet": report["alphabet"]["size"]}


def in_a_process(name: str, small: bool) -> dict[str, Any]:
    """Runs a cell in a process of its own and returns what it printed last."""
    words = [sys.executable, __file__, "--measure", name, *(["--small"] if small else [])]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(name: str, scale: float) -> dict[str, Any]:
    """Measures one cell."""
    what, _, size = name.partition("-")
    documents = int(SIZES[size] * scale)
    cells: dict[str, Callable[[int], dict[str, Any]]] = {
        "semantic": semantic,
        "trie": trie,
        "nci": nci,
        "marisa": marisa,
    }
    return {"settings": {"documents": documents}, **cells[what](documents)}


def clustered_vectors(count: int, seed: int = 0) -> np.ndarray:
    """Random vectors of length 1 in clusters of clusters; float32 [count, DIMENSIONS]."""
    rng = np.random.default_rng(seed)
    vectors = np.empty((count, DIMENSIONS), np.float32)
    centers = [
        rng.standard_normal((int(np.prod(GROUPS[: level + 1])), DIMENSIONS), np.float32)
        * 0.6**level
        for level in range(len(GROUPS))
    ]
    step = 100_000
    for start in range(0, count, step):
        part = vectors[start : start + step]
        group = rng.integers(int(np.prod(GROUPS)), size=len(part))
        part[:] = 0.3 * rng.standard_normal(part.shape, np.float32)
        for level, center in enumerate(centers):
            part += center[group // int(np.prod(GROUPS[level + 1 :]))]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return vectors


def memory_gib(entry: str) -> float:
    """The memory of this process in GiB: VmRSS, what it has now, or VmHWM, the most it has had.

    Mapped files count. `getrusage` would not do: it counts the process that started this one.
    """
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(entry)) / 2**20


def forget_peak() -> None:
    """Lets VmHWM start again from what the process has now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def semantic(documents: int) -> dict[str, Any]:
    """Semantic identifiers for clustered vectors, from the vectors to the checked table."""
    from docids.kinds import KINDS, Documents, TreeOptions
    from docids.strings import Strings

    vectors = clustered_vectors(documents)
    ids = Strings.pack(map(str, range(documents)))
    corpus = Documents(ids, range(documents), lambda texts: vectors)
    started, worked = time.perf_counter(), time.process_time()
    built = KINDS["semantic"].build(corpus, TreeOptions(), 0)
    minutes = (time.perf_counter() - started) / 60
    processor_minutes = (time.process_time() - worked) / 60  # of all threads: a busy machine shows
    with TemporaryDirectory() as folder:
        built.table.save(folder + "/table")
        bytes_on_disk = size_of(Path(folder) / "table")
    return {
        "minutes": minutes,
        "processor minutes": processor_minutes,
        "peak GiB": memory_gib("VmHWM"),
        "of it vectors GiB": vectors.nbytes / 2**30,
        "clusters": len(built.extras["parent"]),
        "longest": int(built.table.lengths.max()),
        "table bytes a document": bytes_on_disk / documents,
    }


def random_table(documents: int) -> Any:
    """A table of distinct random identifiers of LENGTH codes."""
    from docids.strings import Strings
    from docids.table import FIRST_CODE, DocidTable

    rng = np.random.default_rng(0)
    keys = np.unique(rng.integers(0, CODES**LENGTH, size=documents, dtype=np.uint64))
    rng.shuffle(keys)
    codes = np.empty((len(keys), LENGTH), np.int32)
    for place in range(LENGTH):
        codes[:, LENGTH - 1 - place] = FIRST_CODE + (keys >> np.uint64(8 * place)) % np.uint64(
            CODES
        )
    return DocidTable.from_sequences(
        Strings.pack(map(str, range(len(keys)))),
        codes,
        alphabet_size=FIRST_CODE + CODES,
        kind="benchmark",
    )


def trie(documents: int) -> dict[str, Any]:
    """Building, storing and opening the trie; the table is made by another process."""
    from docids.table import DocidTable
    from docids.trie import Trie

    with TemporaryDirectory() as folder:
        # By another process, so that its memory is not counted here.
        words = [sys.executable, __file__, "--table", str(documents), folder + "/table"]
        subprocess.run(words, check=True)
        table = DocidTable.open(folder + "/table")
        for array in (table.codes, table.offsets, table.retired):
            array.sum()  # so that the pages of the memory map are here, and counted, before
        before = memory_gib("VmRSS")
        forget_peak()
        started, worked = time.perf_counter(), time.process_time()
        built = Trie.build(table)
        seconds = time.perf_counter() - started
        processor_seconds = time.process_time() - worked
        beyond = memory_gib("VmHWM") - before
        built.save(folder + "/trie")
        opened = []
        for _ in range(20):
            started = time.perf_counter()
            Trie.open(folder + "/trie")
            opened.append(1000 * (time.perf_counter() - started))
        return {
            "build seconds": seconds,
            "build processor seconds": processor_seconds,
            "build GiB beyond the table": beyond,
            "nodes": len(built),
            "open milliseconds, first": opened[0],
            "open milliseconds, median": statistics.median(opened),
            "trie bytes a document": size_of(Path(folder) / "trie") / documents,
            "table bytes a document": size_of(Path(folder) / "table") / documents,
        }


def size_of(folder: Path) -> int:
    """The bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def nci(documents: int) -> dict[str, Any]:
    """NCI's clustering beside ours: time, and purity of the first one and two codes."""
    from docids.kinds.clustering import cluster

    vectors = clustered_vectors(documents)
    ours = []
    for turn in range(3):
        started = time.perf_counter()
        found = cluster(vectors, branching=10, capacity=100, iterations=20, seed=turn)
        ours.append(time.perf_counter() - started)
    started = time.perf_counter()
    labels = nci_labels(vectors, 10, 100)
    theirs = time.perf_counter() - started
    purities = {
        f"{name} purity of {depth} codes": purity(vectors, codes[:, :depth])
        for name, codes in (("our", first_levels(found)), ("nci", labels))
        for depth in (1, 2, 3)
    }
    return {
        "our seconds, median of 3": statistics.median(ours),
        "nci seconds": theirs,
        "ratio": theirs / statistics.median(ours),
        **purities,
    }


def first_levels(clusters: Any) -> np.ndarray:
    """The first three digits of the path to each leaf, -1 below it; int64 [vectors, 3]."""
    paths = np.full((len(clusters.parent), 3), -1)
    depth = np.zeros(len(clusters.parent), np.int64)
    for number in range(1, len(clusters.parent)):  # parents come first
        above = clusters.parent[number]
        depth[number] = depth[above] + 1
        paths[number] = paths[above]
        if depth[number] <= 3:
            paths[number, depth[number] - 1] = clusters.digit[number]
    return paths[clusters.leaf]


def nci_labels(vectors: np.ndarray, branching: int, capacity: int) -> np.ndarray:
    """The clusters of NCI's recursion, by the settings of its public notebook.

    A cluster of more than `capacity` is split by MiniBatchKMeans from 1,000 points on (here with
    scikit-learn's defaults, its fastest), by KMeans with 100 starts below (Wang et al., NeurIPS
    2022, section 3.1, and the released code). Written anew, with an end for clusters that k-means
    cannot split.

    Returns:
        The labels of the first three levels, -1 below a leaf; int64 [vectors, 3].
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans

    labels = np.full((len(vectors), 3), -1)
    waiting = [(np.arange(len(vectors)), 0)]
    while waiting:
        members, depth = waiting.pop()
        if len(members) <= capacity:
            continue
        settings: dict[str, Any] = {"n_clusters": branching, "max_iter": 300}
        if len(members) >= 1000:
            model = MiniBatchKMeans(**settings, random_state=3)
        else:
            model = KMeans(**settings, n_init=100, random_state=7)
        found = model.fit_predict(vectors[members])
        if depth < 3:
            labels[members, depth] = found
        parts = [members[found == label] for label in range(branching)]
        if max(map(len, parts)) < len(members):
            waiting += [(part, depth + 1) for part in parts]
    return labels


def purity(vectors: np.ndarray, codes: np.ndarray) -> float:
    """The share of the 10 nearest neighbors of 2,000 documents that have the same codes."""
    import faiss

    asked = np.random.default_rng(0).choice(len(vectors), min(2000, len(vectors)), replace=False)
    _, near = faiss.knn(vectors[asked], vectors, 11, metric=faiss.METRIC_INNER_PRODUCT)
    same = (codes[near] == codes[asked][:, None]).all(axis=2)
    other = near != asked[:, None]
    return float(same[other].mean())


def marisa(documents: int) -> dict[str, Any]:
    """marisa-trie beside ours: size, time to build and open, and the two questions of a search."""
    try:
        import marisa_trie
    except ImportError:
        raise SystemExit("marisa-trie is missing: pip install marisa-trie") from None

    from docids.table import FIRST_CODE
    from docids.trie import Trie

    table = random_table(documents)
    codes = table.matrix() - FIRST_CODE
    keys = [row.tobytes() for row in codes.astype(np.uint8)]
    with TemporaryDirectory() as folder:
        started = time.perf_counter()
        ours = Trie.build(table)
        our_build = time.perf_counter() - started
        ours.save(folder + "/trie")
        started = time.perf_counter()
        # Its own numbers of keys are not ours: the row of each is stored beside it.
        theirs = marisa_trie.BinaryTrie(keys)
        rows = np.empty(len(keys), np.int32)
        rows[[theirs.key_id(key) for key in keys]] = np.arange(len(keys))
        their_build = time.perf_counter() - started
        theirs.save(folder + "/marisa")
        np.save(folder + "/rows", rows)
        their_size = size_of(Path(folder)) - size_of(Path(folder) / "trie")
        ours, theirs = Trie.open(folder + "/trie"), marisa_trie.BinaryTrie()
        theirs.mmap(folder + "/marisa")
        rng = np.random.default_rng(1)
        picked = rng.integers(len(keys), size=1000)
        prefixes = rng.integers(1, LENGTH, size=1000)
        coded = [tuple((codes[row] + FIRST_CODE).tolist()) for row in picked]
        timings: dict[str, list[float]] = {name: [] for name in ("a", "b", "c", "d", "e")}
        for _ in range(5):  # in turns, on a machine that may be busy

            def timed(name: str, question: Callable[[int], Any]) -> list[Any]:
                started = time.perf_counter()
                answers = [question(number) for number in range(len(picked))]
                timings[name].append(1e6 * (time.perf_counter() - started) / len(picked))
                return answers

            mine = timed("a", lambda n: int(ours.row[ours.walk(coded[n])]))
            other = timed("b", lambda n: int(rows[theirs.key_id(keys[picked[n]])]))
            assert mine == other == picked.tolist()
            mine = timed("c", lambda n: ours.allowed(coded[n][: prefixes[n]]).tolist())
            for name, listed in (("d", codes_of_keys), ("e", codes_tried)):
                other = timed(
                    name, lambda n, listed=listed: listed(theirs, keys[picked[n]][: prefixes[n]])
                )
                assert mine == [[FIRST_CODE + code for code in found] for found in other]
        a, b, c, d, e = (statistics.median(values) for values in timings.values())
        return {
            "our bytes a document": size_of(Path(folder) / "trie") / documents,
            "marisa bytes a document": their_size / documents,
            "our build seconds": our_build,
            "marisa build seconds": their_build,
            "our microseconds to look a document up": a,
            "marisa microseconds to look a document up": b,
            "our microseconds for the codes after a prefix": c,
            "marisa microseconds for the codes after a prefix, by all keys": d,
            "marisa microseconds for the codes after a prefix, tried": e,
            "our microseconds for the codes after one of a step's prefixes": of_a_step(ours, coded),
        }


def of_a_step(trie: Any, identifiers: list[tuple[int, ...]]) -> float:
    """Microseconds a prefix to list the codes after BEAMS prefixes, as the search does it.

    Args:
        trie: Ours.
        identifiers: Of documents, to take prefixes of.

    Returns:
        The median of 5, in the mean over the lengths of prefixes from 1 on.
    """
    import torch

    from dsi.search.torch_trie import TorchTrie

    asked = TorchTrie.from_trie(trie)
    steps = []
    for length in range(1, LENGTH):
        prefixes = [codes[:length] for codes in identifiers[:BEAMS]]
        nodes = torch.tensor([trie.walk(prefix) for prefix in prefixes])
        taken = []
        for _ in range(5):
            started = time.perf_counter()
            children, exist = asked.children(nodes, int(trie.max_branching[length]))
            codes = asked.code[children]
            taken.append(1e6 * (time.perf_counter() - started) / len(prefixes))
        for place in (0, len(prefixes) - 1):
            assert codes[place][exist[place]].tolist() == trie.allowed(prefixes[place]).tolist()
        steps.append(statistics.median(taken))
    return statistics.mean(steps)


def codes_of_keys(keys: Any, prefix: bytes) -> list[int]:
    """The codes that may follow a prefix, from all keys below it."""
    return sorted({key[len(prefix)] for key in keys.iterkeys(prefix)})


def codes_tried(keys: Any, prefix: bytes) -> list[int]:
    """The codes that may follow a prefix, each of them tried."""
    return [
        code
        for code in range(CODES)
        if next(keys.iterkeys(prefix + bytes([code])), None) is not None
    ]


if __name__ == "__main__":
    main()
