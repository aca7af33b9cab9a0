"""What the tables of README.md and docs/ show of the record; `tables.py` writes them.

A function of `TABLES` is a table; its name, with hyphens, is the one in the page.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import record
from record import Row
from tables import Line, Table

from data_prep.errors import InputError
from dsi.evaluation.comparison import holm
from dsi.evaluation.significance import Comparison, compare

TABLES: dict[str, Callable[[], Table]] = {}
HITS = ("Success@1", "Success@10")
GROUPS = ("all", "seen", "unseen")
GROUP_COLUMNS = (
    "Hits@1 / Hits@10",
    "all",
    "documents with training questions",
    "documents without",
)


def table(function: Callable[[], Table]) -> Callable[[], Table]:
    """Enters a table under the name of its function."""
    TABLES[function.__name__.replace("_", "-")] = function
    return function


def _rows(suite: str) -> dict[str, Row]:
    file = record.RESULTS / f"{suite}.jsonl"
    return _read_once(suite, file, file.stat().st_mtime_ns if file.exists() else 0)


@lru_cache
def _read_once(suite: str, file: Path, changed: int) -> dict[str, Row]:
    return record.read(suite)


def row(suite: str, name: str) -> Row:
    """Returns a row of the record."""
    found = _rows(suite).get(name)
    if found is None:
        raise InputError(f"a table needs the cell {name!r}", where=f"results/{suite}.jsonl")
    return found


def seeds(suite: str, stem: str) -> list[Row]:
    """Returns the rows `STEM-seedN` of the record, the first seed first."""
    rows = _rows(suite)
    found = [rows[name] for n in range(10) if (name := f"{stem}-seed{n}") in rows]
    return found or [row(suite, f"{stem}-seed0")]


def best(values: Sequence[Sequence[float]], digits: int) -> list[list[str]]:
    """Prints numbers, the greatest of each column in bold; [lines][columns]."""
    printed = [[f"{value:.{digits}f}" for value in line] for line in values]
    greatest = [max(map(float, column)) for column in zip(*printed, strict=True)]
    return [
        [
            f"**{text}**" if float(text) == top else text
            for text, top in zip(line, greatest, strict=True)
        ]
        for line in printed
    ]


def pairs(texts: Sequence[str]) -> list[str]:
    """Joins each two that follow one another."""
    return [f"{one} / {other}" for one, other in zip(texts[::2], texts[1::2], strict=True)]


def spread(values: Sequence[float], scale: float = 100.0) -> str:
    """Prints the mean of several seeds and their deviation, in per cent."""
    mean = f"{scale * statistics.mean(values):.1f}"
    return f"{mean} ± {scale * statistics.stdev(values):.1f}" if len(values) > 1 else mean


def hits(system: dict[str, dict[str, float]], groups: Iterable[str] = GROUPS) -> list[float]:
    """Returns Hits@1 and Hits@10 of each group."""
    return [system[group][measure] for group in groups for measure in HITS]


# README.md and docs/effectiveness.md


@table
def quickstart() -> Table:
    """The quickstart's index beside BM25, all measures."""
    measures = (*HITS, "RR@10", "nDCG@10")
    found = row("quickstart", "quickstart")
    systems = [found["systems"][name]["all"] for name in ("index", "bm25")]
    cells = best([[system[measure] for measure in measures] for system in systems], 3)
    lines = [Line(["index", *cells[0]], [found]), Line(["BM25", *cells[1]], [found])]
    return Table(["", "Hits@1", "Hits@10", "RR@10", "nDCG@10"], lines)


@table
def quickstart_in_short() -> Table:
    """The quickstart's index, BM25, and BM25 that counts titles as the index does."""
    found, titles = row("quickstart", "quickstart"), row("titles", "quickstart")
    systems = {
        "index, from scratch, no labeled query": found["systems"]["index"]["all"],
        "BM25": found["systems"]["bm25"]["all"],
        "BM25, titles counted three times, as the index does": titles["systems"]["3"],
    }
    cells = best([[system[measure] for measure in HITS] for system in systems.values()], 3)
    size = f"{found['documents']:,} documents, {found['queries']['all']:,} queries"
    lines = [Line([label, *line], [found]) for label, line in zip(systems, cells, strict=True)]
    return Table([size, "Hits@1", "Hits@10"], lines)


@table
def squad_dev() -> Table:
    """The default index on SQuAD paragraphs, from scratch and with MiniLM, beside its opponents."""
    return _headline("squad-dev")


@table
def debian_20k() -> Table:
    """The same on 20,000 descriptions of Debian packages."""
    return _headline("debian-20k")


HEADLINE = {
    "index, from scratch": ("atomic", "index"),
    "index, semantic identifiers, from scratch": ("semantic-node", "index"),
    "index, MiniLM, before any step of the network": ("atomic-0steps-encoder_minilm", "index"),
    "index, MiniLM": ("atomic-encoder_minilm", "index"),
    "BM25": ("atomic", "bm25"),
    "BM25, training queries appended": ("atomic", "bm25+queries"),
    "MiniLM": ("atomic-beside_minilm", "dense"),
    "BM25 and MiniLM, weight chosen on dev": ("atomic-beside_minilm", "fusion"),
}
"""Label -> cell of the record without dataset and seed, and the system in it."""


def _headline(dataset: str) -> Table:
    """Returns the table of a dataset with the cells that have been measured; means over seeds."""
    systems = {}
    for label, (stem, system) in HEADLINE.items():
        stem = f"{dataset}-{stem}"
        if f"{stem}-seed0" not in _rows("effectiveness"):
            continue
        rows = seeds("effectiveness", stem)
        if system == "index" and len(rows) > 1:
            label += f" ({len(rows)} seeds)"
        systems[label] = (_mean([found["systems"][system] for found in rows]), rows)
    return _by_group(systems, 3)


def _mean(systems: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Returns the mean of a system's figures over seeds."""
    return {
        group: {
            measure: sum(system[group][measure] for system in systems) / len(systems)
            for measure in systems[0][group]
        }
        for group in systems[0]
    }


def _by_group(systems: dict[str, tuple[Any, list[Row]]], digits: int) -> Table:
    groups = [each for each in GROUPS if all(each in system for system, _ in systems.values())]
    cells = best([hits(system, groups) for system, _ in systems.values()], digits)
    lines = [
        Line([label, *pairs(line)], rows)
        for (label, (_, rows)), line in zip(systems.items(), cells, strict=True)
    ]
    columns = dict(zip(GROUPS, GROUP_COLUMNS[1:], strict=True))
    return Table([GROUP_COLUMNS[0], *(columns[group] for group in groups)], lines)


KIND_CELLS = {
    "`atomic`": "atomic",
    "`title`": "title",
    "`keywords`": "keywords",
    "`semantic`": "semantic-node",
    "`rq`": "rq",
    "`rq`, balanced": "rq+balance",
    "`rqvae`": "rqvae",
    "`pq`, rotated by OPQ": "pq+opq",
    "`description`": "description",
    "`naive`": "naive",
}
"""Label -> cell of the record without dataset and seed."""


@table
def kinds() -> Table:
    """How well an index ranks with each kind of identifiers."""
    found = {
        label: row("effectiveness", f"squad-dev-{name}-seed0") for label, name in KIND_CELLS.items()
    }
    cells = best([hits(each["systems"]["index"]) for each in found.values()], 3)
    lines = []
    for (label, each), line in zip(found.items(), cells, strict=True):
        length = f"{each['identifiers']['mean length']:.1f}"
        lines.append(Line([label, length, *pairs(line)], [each]))
    return Table(["kind", "codes, mean", *GROUP_COLUMNS[1:]], lines)


ROBUST = {
    "index": "index, from scratch",
    "bm25": "BM25",
    "bm25+queries": "BM25, training queries appended",
    "dense": "MiniLM",
    "fusion": "BM25 and MiniLM",
}
"""System -> its label."""


@table
def robustness() -> Table:
    """The index and its opponents on queries that are changed; 500 test queries of squad-dev."""
    changes = (
        "as they are", "one typo", "typos in half the words", "a quarter of the words dropped",
        "half of the words dropped", "words in any order", "upper case",
    )  # fmt: skip
    names = [f"squad-dev-{each.replace(' ', '_')}-minilm-500queries-seed0" for each in changes]
    found = [row("robustness", name) for name in names]
    values = [
        [each["systems"][system]["all"][measure] for system in ROBUST for measure in HITS]
        for each in found
    ]
    lines = []
    for change, each, line in zip(changes, found, values, strict=True):
        systems = best([line[place : place + 2] for place in range(0, len(line), 2)], 3)
        lines.append(Line([change, *(" / ".join(pair) for pair in systems)], [each]))
    return Table(["queries", *ROBUST.values()], lines)


@table
def limit() -> Table:
    """Combinations of attributes: the share of the two relevant documents among 2, 10 and 20."""
    found = {
        size: row("robustness", f"limit-{size}-as_they_are-minilm-seed0") for size in (46, 1000)
    }
    lines = []
    for system, label in ROBUST.items():
        if not all(system in each["systems"] for each in found.values()):
            continue
        cells = [
            " / ".join(f"{each['systems'][system]['all'][m]:.3f}" for m in ("R@2", "R@10", "R@20"))
            for each in found.values()
        ]
        lines.append(Line([label, *cells], list(found.values())))
    return Table(["R@2 / R@10 / R@20", *(f"{size:,} documents" for size in found)], lines)


# docs/effectiveness.md


@table
def defaults() -> Table:
    """What the dev split says of options of the lexical layer and of latent vectors."""
    from defaults import OPTIONS, cell_name

    lines = []
    for option, values in OPTIONS.items():
        for value in values:
            cells = [row("defaults", cell_name("squad-dev", option, value))]
            dev = [f"{cells[0]['dev'][m]:.4f}" for m in (*HITS, "RR@10")]
            chosen = " (default)" if cell_name("", option, value) == "-defaults" else ""
            lines.append(Line([f"`--{option} {value:g}`{chosen}", *dev], cells))
    return Table(["", "Hits@1", "Hits@10", "RR@10"], lines)


# docs/effectiveness.md


@table
def language_model() -> Table:
    """Indexes of documents that nobody has asked for, with and without pseudo-queries."""
    systems = {
        "no pseudo-query (the default)": "none",
        "`extractive`": "extractive",
        "`seq2seq`, SmolLM2-135M-Instruct": "seq2seq+round_trip-SmolLM2-135M-Instruct.Q4_1",
    }
    corpora = ("squad-dev-432documents", "quickstart-300documents")
    lines = []
    for label, system in systems.items():
        rows = [row("language_model", f"{corpus}-{system}") for corpus in corpora]
        cells = []
        for found in rows:
            every = found["systems"]["index"]["all"]
            cells.append(" / ".join(f"{every[measure]:.3f}" for measure in HITS))
            cells.append(f"{found.get('pseudo-queries', 0):,}")
        lines.append(Line([label, *cells], rows))
    columns = ["trained on", "SQuAD paragraphs", "queries", "quickstart", "queries"]
    return Table(columns, lines)


# docs/speed.md


@table
def scale() -> Table:
    """What each stage costs, by the number of documents."""
    found = {
        size: cell
        for size in (20_000, 100_000, 1_000_000)
        if (cell := _rows("scale").get(f"{size}documents")) is not None
    }
    stages = next(iter(found.values()))["stages"]
    lines = []
    for stage in stages:
        costs = [cell["stages"][stage] for cell in found.values()]
        shown = [f"{cost['seconds']:.0f} s, {cost['peak GiB']:.1f} GiB" for cost in costs]
        lines.append(
            Line([f"`dsi {stage}`".replace(" steps`", "`, 3 steps"), *shown], list(found.values()))
        )
    return Table(["stage", *(f"{size:,} documents" for size in found)], lines)


# docs/effectiveness.md and docs/speed.md


@table
def identifier_kinds() -> Table:
    """What the identifiers of each kind are like."""
    kinds = (
        "atomic,semantic,random,naive,rq,rq+balance,pq,pq+opq,rqvae,learned,title,title+share,"
        "keywords,description"
    )
    lines = []
    for kind in kinds.split(","):
        found = row("identifier_kinds", f"quality-squad-dev-{kind}")
        quality = found["quality"]
        name, _, variant = kind.partition("+")
        said = {"share": ", shared", "balance": ", balanced", "opq": ", rotated by OPQ", "": ""}
        purity = ""
        if quality["purity"] is not None:
            purity = f"{quality['purity']:.3f} ({quality['purity_shuffled']:.3f})"
        cells = [
            f"`{name}`{said[variant]}",
            f"{quality['length']:.1f}",
            f"{quality['alphabet']:,}",
            _told_apart(name, quality),
            purity,
        ]
        lines.append(Line(cells, [found]))
    return Table(
        [
            "kind",
            "codes, mean",
            "alphabet",
            "told apart or sharing",
            "purity of the first code (chance)",
        ],
        lines,
    )


def _told_apart(kind: str, quality: dict[str, Any]) -> str:
    """How many documents share an identifier, or would without another choice or a number."""
    if quality["shared_documents"]:
        return f"{quality['shared_documents']:,} share"
    if not quality["resolved"]:
        return ""
    ways = {"the next choice": "keywords" if kind == "title" else "another choice"}
    ways["a number was added"] = "a number"
    counts = [
        f"{quality['resolved'][way]:,} by {label}"
        for way, label in ways.items()
        if quality["resolved"].get(way)
    ]
    return ", ".join(counts) or "none"


@table
def identifiers_at_scale() -> Table:
    """Semantic identifiers and the trie at a million and 8.8 million documents."""
    semantic, trie = (
        [row("identifier_kinds", f"{what}-{size}") for size in ("1m", "8.8m")]
        for what in ("semantic", "trie")
    )

    def line(label: str, rows: list[Row], show: Callable[[Row], str]) -> Line:
        return Line([label, *map(show, rows)], rows)

    lines = [
        line(
            "semantic identifiers, random clustered vectors of 128 dimensions: time to build",
            semantic,
            lambda r: f"{r['minutes']:.1f} minutes",
        ),
        line(
            "memory for that, with the vectors",
            semantic,
            lambda r: f"{_two_digits(r['peak GiB'])} GiB",
        ),
        line(
            "trie over random identifiers of 8 codes of 256: time to build",
            trie,
            lambda r: f"{r['build seconds']:.1f} s",
        ),
        line(
            "memory beyond the table while it is built",
            trie,
            lambda r: f"{r['build GiB beyond the table']:.2f} GiB",
        ),
        line(
            "bytes a document on disk: trie, and table",
            trie,
            lambda r: f"{r['trie bytes a document']:.1f}, and {r['table bytes a document']:.1f}",
        ),
        line(
            "time to open by memory map: first, and median of 20",
            trie,
            lambda r: (
                f"{r['open milliseconds, first']:.1f} ms, "
                f"and {r['open milliseconds, median']:.1f} ms"
            ),
        ),
    ]
    return Table(["", "1 million", "8.8 million"], lines)


@table
def clustering() -> Table:
    """NCI's clustering beside ours."""
    lines = []
    for size in ("20k", "100k"):
        found = row("identifier_kinds", f"nci-{size}")
        purity = [
            ", ".join(f"{found[f'{whose} purity of {depth} codes']:.3f}" for depth in (1, 2, 3))
            for whose in ("our", "nci")
        ]
        cells = [
            f"{found['settings']['documents']:,}",
            f"{_two_digits(found['our seconds, median of 3'])} s",
            f"{_two_digits(found['nci seconds'])} s",
            f"{found['ratio']:.0f}",
            *purity,
        ]
        lines.append(Line(cells, [found]))
    columns = ["vectors", "ours", "NCI's", "times as fast", "purity, ours", "purity, NCI's"]
    return Table(columns, lines)


def _two_digits(value: float) -> str:
    return f"{value:#.2g}".removesuffix(".")


# docs/effectiveness.md


@table
def round_trip() -> Table:
    """How often the queries of each generator find their own document."""
    labels = {
        "labelled": "labeled training queries",
        "selective": "`selective`",
        "extractive": "`extractive`",
    }
    lines = []
    for generator, label in labels.items():
        found = row("generators", f"squad-dev-{generator}-5each")
        cells = [f"{found['round trip'][measure]:.3f}" for measure in HITS]
        lines.append(Line([label, *cells], [found]))
    return Table(["queries", "find their document first", "among ten"], lines)


COLD = "200documents-150steps-128batch-lr0.002-cold-fp32"
"""The end of the names of cells that train random weights on 200 paragraphs."""


@table
def generators() -> Table:
    """What an index learns from the pseudo-queries of each generator."""
    labels = {
        "extractive": "`extractive`",
        "selective": "`selective`",
        "memory": "`memory`, from scratch on the labeled queries of 200 documents",
    }
    lines = []
    for generator, label in labels.items():
        found = row("effectiveness", f"squad-dev-queries-{generator}-{COLD}-seed0")
        own = [f"{found['pseudo-queries']['round trip'][measure]:.3f}" for measure in HITS]
        lines.append(Line([label, *pairs(own), *_of_index([found])], [found]))
    columns = ["trained on queries of", "they find their document first / among ten"]
    return Table([*columns, "the index: Hits@1", "Hits@10"], lines)


def _of_index(rows: Sequence[Row]) -> list[str]:
    return [spread([r["systems"]["index"]["all"][measure] for r in rows]) for measure in HITS]


@table
def ingredients() -> Table:
    """What an index learns from texts, pseudo-queries and labeled queries."""
    labels = {
        "first-tokens": "first tokens",
        "first-tokens+chunks": "first tokens, chunks",
        "labelled": "labeled queries",
        "first-tokens+chunks+labelled": "first tokens, chunks, labeled queries",
        "pseudo-1": "1 pseudo-query a document",
        "pseudo-5": "5 pseudo-queries",
        "pseudo-20": "20 pseudo-queries",
        "pseudo-100": "100 pseudo-queries",
        "pseudo-40+labelled": "40 pseudo-queries, labeled queries",
        "semantic-pseudo-40+labelled": "the same, semantic identifiers",
        "naive-pseudo-40+labelled": "the same, naive identifiers",
    }
    lines = []
    for name, label in labels.items():
        found = row("effectiveness", f"squad-dev-{name}-{COLD}-seed0")
        lines.append(Line([label, *_of_index([found])], [found]))
    return Table(["trained on", "Hits@1", "Hits@10"], lines)


# docs/effectiveness.md and docs/speed.md


@table
def guidance() -> Table:
    """Ways to search one index, and what they cost."""
    labels = {
        "beams10": "10 beams",
        "beams20": "20 beams",
        "beams50": "50 beams",
        "beams100": "100 beams",
        "beams10-first50": "10 beams, 50 on the first two levels",
        "beams10-starts5": "10 beams, 5 starts",
        "beams20-starts5": "20 beams, 5 starts",
        "beams10-bf16": "10 beams, bf16",
    }
    rows = [row("guidance", f"squad-dev-node-{name}-500queries-20steps") for name in labels]
    cells = best([[found[measure] for measure in (*HITS, "RR@10")] for found in rows], 3)
    usual = rows[0]["processor seconds"]
    lines = [
        Line([label, *line, f"{found['processor seconds'] / usual:.2f}"], [found])
        for label, line, found in zip(labels.values(), cells, rows, strict=True)
    ]
    return Table(["search", "Hits@1", "Hits@10", "RR@10", "cost"], lines)


@table
def throughput() -> Table:
    """Queries a second of the default index beside bm25s."""
    found = row("throughput", "debian-20k-batch32")
    speeds = found["queries a second"]
    lines = [
        Line([system, f"{speeds[system]:,.0f}", f"{speeds[system] / speeds['bm25s']:.2f}"], [found])
        for system in ("index", "bm25s")
    ]
    return Table(["debian-20k, batches of 32", "queries a second", "over bm25s"], lines)


@table
def thirty_updates() -> Table:
    """Every sixth of thirty updates in a row, and a training on what is then left."""
    found = row("thirty_updates", "docstrings-600docs")
    shown = [*found["steps"][::6], found["fresh"]]
    lines = [
        Line(
            [
                step["step"],
                f"{step['documents']}",
                f"{100 * step['Hits@10']:.1f}",
                f"{step['MB']:.1f}",
                f"{step['seconds']:.1f}",
            ],
            [found],
        )
        for step in shown
    ]
    return Table(["after", "documents", "Hits@10", "index, MB", "seconds"], lines)


@table
def serving_speed() -> Table:
    """Requests a second of the index, bm25s and LSA vectors behind the same server."""
    found = row("serve", "debian-20k-speed")
    lines = [
        Line(
            [
                clients,
                system,
                f"{figures['requests a second']:,.0f}",
                f"{figures['requests a second'] / systems['bm25s']['requests a second']:.2f}",
                f"{figures['p50 ms']:,.0f}",
                f"{figures['p99 ms']:,.0f}",
            ],
            [found],
        )
        for clients, systems in found["clients"].items()
        for system, figures in systems.items()
    ]
    columns = ["clients", "system", "requests a second", "over bm25s", "p50 ms", "p99 ms"]
    return Table(columns, lines)


@table
def serving_changes() -> Table:
    """Requests that are answered while versions change."""
    names = [name for name in _rows("serve") if name.startswith("debian-20k-changing-")]
    found = row("serve", max(names, key=lambda name: int(name.rpartition("-")[2]), default="none"))
    line = [
        f"{found['requests']:,}",
        f"{len(found['answers by version'])}",
        f"{found['errors']:,}",
        f"{found['wrong answers']:,}",
        f"{found['p50 ms']:,.0f}",
        f"{found['p99 ms']:,.0f}",
    ]
    columns = ["requests", "versions", "errors", "wrong answers", "p50 ms", "p99 ms"]
    return Table(columns, [Line(line, [found])])


@table
def decode_small() -> Table:
    """The search beside `generate`, T5-small."""
    wide = [("semantic", 10, 64), ("semantic", 100, 16)]
    long = [("description", 10, 64), ("description", 100, 16)]
    fp32 = [("semantic", 10, 1), ("semantic", 10, 16), *wide]
    fp32 += [("description", 10, 1), ("description", 10, 16), *long]
    fp32 += [("atomic", 10, 1), ("atomic", 10, 16)]
    return _decode("small", fp32)


@table
def decode_base() -> Table:
    """The search beside `generate`, T5-base."""
    fp32 = [("semantic", 10, 1), ("semantic", 10, 16), ("semantic", 10, 64)]
    fp32 += [("semantic", 100, 16), ("description", 10, 1), ("description", 10, 16)]
    return _decode("base", fp32)


def _decode(shape: str, fp32: list[tuple[str, int, int]]) -> Table:
    bf16 = [(kind, 10, batch) for kind in ("semantic", "description") for batch in (1, 16)]
    asked = [("fp32", *each) for each in fp32] + [("bf16", *each) for each in bf16]
    lines = []
    for precision, kind, beams, batch in asked:
        name = f"{shape}-20000-{kind}-{precision}-beams{beams}-batch{batch}"
        found = row("decode", name)
        length = found["settings"]["length"]
        methods = found["methods"]
        wall = {method: figures["wall"]["median"] for method, figures in methods.items()}
        ours, theirs = (methods[m]["peak MiB"] for m in ("ours", "generate-trie"))
        cells = [
            f"{kind}, {length} code{'s' if length > 1 else ''}",
            precision,
            str(beams),
            str(batch),
            f"{batch / wall['ours']:.3g}",
            f"**{wall['generate-trie'] / wall['ours']:.1f}**",
            f"{wall['generate-free'] / wall['ours']:.1f}",
            f"{wall['floor'] / wall['ours']:.2f}",
            f"{ours:.0f} / {theirs:.0f}",
        ]
        lines.append(Line(cells, [found]))
    columns = ["identifiers", "precision", "beams", "batch", "queries a second"]
    columns += ["over `generate`", "over `generate` without constraint", "products"]
    return Table([*columns, "MiB, ours / `generate`"], lines)


@table
def decode_engines() -> Table:
    """The search beside CTranslate2, which has no constraint; T5-small, semantic identifiers."""
    systems = [
        ("generate-trie", "fp32", "`generate`, prefix tree"),
        ("ours", "fp32", "`dsi search`"),
        ("ours", "bf16", "`dsi search`"),
        ("ours", "int8", "`dsi search`"),
        ("ctranslate2", "fp32", "CTranslate2, unconstrained"),
        ("ct2-int8", "int8", "CTranslate2, unconstrained"),
    ]
    lines = []
    for batch in (1, 16):
        for method, precision, label in systems:
            name = f"small-20000-semantic-{precision}-beams10-batch{batch}-ct2"
            found = row("decode", name)
            wall = {each: figures["wall"]["median"] for each, figures in found["methods"].items()}
            exact = row("decode", name.replace(precision, "fp32"))["methods"]["generate-trie"]
            cells = [
                label,
                precision,
                str(batch),
                f"{1000 * wall[method]:.0f}",
                f"**{exact['wall']['median'] / wall[method]:.1f}**",
                f"{wall['floor'] / wall[method]:.2f}" if method != "ct2-int8" else "",
            ]
            lines.append(Line(cells, [found]))
    columns = ["system", "precision", "batch", "milliseconds a batch", "over `generate`"]
    return Table([*columns, "products"], lines)


@table
def decode_language_model() -> Table:
    """The search beside `generate`, four layers of Qwen3-0.6B."""
    lines = []
    for precision in ("fp32", "bf16"):
        for beams, batch in ((10, 1), (10, 16), (50, 1), (50, 16)):
            name = f"qwen3-0.6b:4-20000-semantic-{precision}-beams{beams}-batch{batch}"
            found = row("decode", name)
            wall = {each: figures["wall"]["median"] for each, figures in found["methods"].items()}
            cells = [
                precision,
                str(beams),
                str(batch),
                f"{batch / wall['ours']:.3g}",
                f"**{wall['generate-trie'] / wall['ours']:.1f}**",
                f"{wall['floor'] / wall['ours']:.2f}",
            ]
            lines.append(Line(cells, [found]))
    columns = ["precision", "beams", "batch", "queries a second", "over `generate`", "products"]
    return Table(columns, lines)


# docs/effectiveness.md and docs/speed.md


@table
def rehearsal() -> Table:
    """What an index learns from passages and sentences of documents."""
    labels = {
        "document": "document",
        "sentences": "sentences",
        "passages": "passages",
        "document+sentences": "document, sentences",
        "document+passages": "document, passages",
        "all-summary": "all three",
        "all-leading": "all three, leading",
        "all-random": "all three, at random",
    }
    lines = []
    for name, label in labels.items():
        rows = seeds("effectiveness", f"squad-dev-rehearse-{name}-{COLD}")
        lines.append(Line([label, str(len(rows)), *_of_index(rows)], rows))
    return Table(["contents", "seeds", "Hits@1", "Hits@10"], lines)


@table
def training_speed() -> Table:
    """`dsi train` beside transformers' trainer."""
    labels = {
        "dsi train": "`dsi train`",
        "Seq2SeqTrainer": "`Seq2SeqTrainer`",
        "Seq2SeqTrainer, grouped": "`Seq2SeqTrainer`, `group_by_length`",
    }
    lines = []
    for precision in ("fp32", "bf16"):
        found = row("train", f"squad-dev-small-{precision}-batch64")
        for figures in found["systems"]:
            label = labels[figures["system"]]
            cells = [
                f"**{precision}**: {label}" if figures["system"] == "dsi train" else label,
                f"{figures['tokens per second']:,.0f}",
                f"{100 * figures['padding']:.1f} %",
                f"{figures['share of product rate']:.2f}",
                f"{figures['peak GiB']:.1f}",
            ]
            lines.append(Line(cells, [found]))
    columns = ["", "tokens a second", "padding", "share of the product rate"]
    return Table([*columns, "peak memory, GiB"], lines)


@table
def untouched_rows() -> Table:
    """What it saves to leave rows alone that no example touches."""
    found = row("rows", "lexical-bf16-vocabulary32000-batch512")
    settings = found["settings"]
    cells = [
        f"{settings['size']}, {settings['batch']} texts of {settings['length']} tokens",
        f"{found['rows touched']:,.0f}",
        *(f"{found[way]:.2f} s" for way in ("all", "touched", "frozen")),
    ]
    return Table(["model", "rows touched", "all", "touched", "frozen"], [Line(cells, [found])])


# docs/updating-results.md


def _continual(
    stem: str, kind: str, strategies: str, tenths: str = "", suite: str = "continual"
) -> Table:
    """Strategies over five increments.

    Args:
        stem: How the names of the cells begin.
        kind: Of the identifiers.
        strategies: Names with commas between.
        tenths: Those that made a tenth of the steps, to be shown too.
        suite: The file of the record.
    """
    asked = [(f"`{name}`", f"{stem}-{kind}-{name}") for name in filter(None, strategies.split(","))]
    for name in filter(None, tenths.split(",")):
        asked.append((f"`{name}`, a tenth", f"{stem}-update6-{kind}-{name}"))
    lines = []
    for label, name in asked:
        rows = seeds(suite, name)
        figures = [
            spread([found[measure][letter][-1] for found in rows])
            for measure, letter in (
                ("Hits@10", "A"),
                ("Hits@10", "F"),
                ("Hits@10", "LA"),
                ("Hits@1", "A"),
                ("indexing", "A"),
            )
        ]
        least = [found["stability"]["min-ACC"] for found in rows if found["stability"]]
        updates = statistics.mean(found["updates"] for found in rows)
        cells = [label, str(len(rows)), *figures, spread(least) if least else "", f"{updates:,.0f}"]
        lines.append(Line(cells, rows))
    columns = ["strategy", "seeds", "A_5 Hits@10", "F_5", "LA_5", "A_5 Hits@1"]
    return Table([*columns, "indexing, A_5", "min-ACC", "updates"], lines)


@table
def updating_default() -> Table:
    """Updates of the default index, whose network is not trained; 2,067 paragraphs."""
    return _continual("squad-dev-all-0x256", "atomic", "retrain,append,instant")


ALL_MOVES = "squad-dev-400docs-60x128-body1-lr0.0005-fp32"
"""The start of the names of cells in which all weights move."""


FORGETTING = "squad-dev-240docs-forgetting-update30"
"""The start of the names of cells in which the network has memorized D0."""
FORGETTING_STRATEGIES = (
    "retrain,generative,generative+sam,generative+ewc,generative+periods,generative+prompts,"
    "finetune+reglora,finetune+periods,pamt,edit,kernel,refit,instant,append,reindex,finetune"
)
CLAIMS = (
    ("generative", "reindex"),
    ("generative+sam", "generative"),
    ("generative+ewc", "generative"),
    ("generative", "retrain"),
    ("finetune+reglora", "retrain"),
    ("edit", "retrain"),
    ("edit", "instant"),
    ("edit", "kernel"),
    ("kernel", "retrain"),
    ("kernel", "generative"),
    ("refit", "retrain"),
    ("refit", "kernel"),
    ("instant", "append"),
)
"""Pairs of strategies whose difference is tested."""


def _updating(stem: str, kind: str, names: str = FORGETTING_STRATEGIES) -> Table:
    """Strategies of benchmarks/forgetting.py, as far as they are measured."""
    measured = [name for name in names.split(",") if _measured(stem, kind, name)]
    return _continual(stem, kind, ",".join(measured), suite="forgetting")


def _differences(stem: str, kind: str) -> Table:
    """Differences between strategies, each tested over the queries; see `query_values`.

    The seeds of a strategy are averaged per query. p-values are corrected over a column.
    """
    lines: list[tuple[str, list[Row], list[Comparison]]] = []
    for first, second in CLAIMS:
        both = [_measured(stem, kind, name) for name in (first, second)]
        numbers = sorted(both[0].keys() & both[1].keys())
        if not numbers:
            continue
        rows = [[each[number] for number in numbers] for each in both]
        values = [np.mean([query_values(each) for each in some], axis=0) for some in rows]
        lines.append(
            (f"`{first}` − `{second}`", [*rows[0], *rows[1]], compare(values[0], values[1]))
        )
    corrected = [
        holm([found[column].p_value for _, _, found in lines]) for column in range(len(MEASURED))
    ]
    return Table(
        ["difference", "seeds", *MEASURED],
        [
            Line(
                [
                    label,
                    str(len(rows) // 2),
                    *(
                        _tested(100 * each.difference * each.queries, p)
                        for each, p in zip(found, (column[n] for column in corrected), strict=True)
                    ),
                ],
                rows,
            )
            for n, (label, rows, found) in enumerate(lines)
        ],
    )


MEASURED = ("A_5", "F_5", "LA_5")


def _measured(stem: str, kind: str, strategy: str) -> dict[int, Row]:
    """Returns the rows of a strategy by seed; none if it is not measured."""
    rows = _rows("forgetting")
    names = {n: f"{stem}-{kind}-{strategy}-seed{n}" for n in range(10)}
    return {n: rows[name] for n, name in names.items() if name in rows}


def query_values(found: Row) -> npt.NDArray[np.float64]:
    """Returns what each test query adds to A_n, F_n and LA_n at Hits@10; [queries, 3].

    Args:
        found: A row whose `found` has, after each increment and for each corpus so far, a 1 for
            each query that is answered among the first ten and a 0 for the others.
    """
    answers = [
        [np.array([mark == "1" for mark in corpus], float) for corpus in after]
        for after in found["found"]
    ]
    last = len(answers) - 1
    parts = []
    for corpus, now in enumerate(answers[last]):
        before = [answers[n][corpus] for n in range(corpus, last)]
        best = max(before, key=lambda each: float(each.mean()), default=now)
        share = 1 / len(now)
        parts.append(
            np.stack(
                [
                    now * share / (last + 1),
                    (best - now) * share / last,
                    answers[corpus][corpus] * share / last * (corpus > 0),
                ],
                axis=1,
            )
        )
    return np.concatenate(parts)


def _tested(points: float, p_value: float) -> str:
    """Prints a difference, in bold with p < 0.05."""
    printed = f"{points:+.1f}".replace("-", "−")
    p_printed = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
    return f"**{printed}** ({p_printed})" if p_value < 0.05 else f"{printed} ({p_printed})"


@table
def updating_forgetting_one_code() -> Table:
    """Updates of a network from random weights, identifiers of one code; 120 paragraphs."""
    return _continual(
        "squad-dev-120docs-forgetting-update50",
        "semantic",
        "retrain,generative+sam,generative,instant,generative+ewc,reindex,append,finetune",
        suite="forgetting",
    )


@table
def updating_forgetting() -> Table:
    """Updates of a network that has memorized 120 paragraphs and forgets them."""
    return _updating(FORGETTING, "semantic")


@table
def updating_forgetting_tests() -> Table:
    """The same: differences between strategies, tested."""
    return _differences(FORGETTING, "semantic")


@table
def updating_kernel() -> Table:
    """What updates without training find, take and keep, after first trainings of two kinds."""
    lines = []
    for label, stem in (
        ("cross-entropy", FORGETTING),
        ("with `contrastive.weight` 0.1", f"{FORGETTING}-contrastive0.1"),
    ):
        for kind in ("semantic", "rq"):
            for strategy in ("refit", "kernel", "edit", "instant"):
                rows = list(_measured(stem, kind, strategy).values())
                if rows:
                    cells = [label, f"`{kind}`", f"`{strategy}`", str(len(rows))]
                    lines.append(Line([*cells, *_figures_of_updates(rows)], rows))
    columns = ["first training", "identifiers", "strategy", "seeds", "A_5 Hits@10", "F_5", "LA_5"]
    return Table([*columns, "ms per document", "bytes kept per document"], lines)


def _figures_of_updates(rows: Sequence[Row]) -> list[str]:
    """Returns A_5, F_5 and LA_5, and time and memory for each new document."""
    found = [spread([each["Hits@10"][letter][-1] for each in rows]) for letter in ("A", "F", "LA")]
    times = [
        of_update["milliseconds a document"]["all"]
        for each in rows
        for of_update in each["timing"]
        if "milliseconds a document" in of_update
    ]
    kept = [
        size for each in rows for size in each.get("bytes kept a document", []) if size is not None
    ]
    return [
        *found,
        f"{statistics.median(times):.0f}" if times else "",
        f"{statistics.median(kept):,.0f}" if kept else "",
    ]


@table
def updating_forgetting_rq() -> Table:
    """The same with residual codes."""
    return _updating(FORGETTING, "rq")


@table
def updating_forgetting_rq_tests() -> Table:
    """The same with residual codes: differences between strategies, tested."""
    return _differences(FORGETTING, "rq")


@table
def frozen_states() -> Table:
    """What regressions on a frozen network find at most; see benchmarks/frozen_states.py."""
    measured = seeds("frozen_states", "semantic")
    labels = {
        "squares": "least squares over codes",
        "documents": "discriminants of documents",
        "softmax": "softmax over allowed codes",
    }
    lines = [
        Line(
            [
                label,
                read,
                *(
                    spread([each["found"][f"{loss} on {read}"][name] for each in measured], 1)
                    for name in ("D0", "increments", "A_5")
                ),
            ],
            measured,
        )
        for loss, label in labels.items()
        for read in ("states", "keys")
    ]
    return Table(["regression", "input", "D0", "increments", "A_5"], lines)


@table
def updating_forgetting_default() -> Table:
    """The same documents with the defaults of `dsi train`."""
    return _updating("squad-dev-240docs-default", "atomic")


@table
def updating_forgetting_default_tests() -> Table:
    """The same documents with the defaults: differences between strategies, tested."""
    return _differences("squad-dev-240docs-default", "atomic")


@table
def backbones() -> Table:
    """A language model as index model beside networks from scratch; 500 paragraphs of SQuAD."""
    labels = {
        "default": "default of `dsi train`",
        "t5-tiny": "T5, `tiny`, from scratch",
        "start": "SmolLM2-135M, warm start alone",
        "frozen": "SmolLM2-135M, code rows alone",
        "lora": "SmolLM2-135M, LoRA",
    }
    lines = []
    for name, label in labels.items():
        cell = f"squad-dev-500-200-{name}"
        if name not in ("default", "start"):
            steps = 200 if f"{cell}-200x16" in _rows("backbones") else 20
            cell, label = f"{cell}-{steps}x16", f"{label}, {steps} steps"
        found = row("backbones", cell)
        cells = [
            label,
            f"{found['Success@1']:.3f} / {found['Success@10']:.3f}",
            f"{found['training CPU s']:,.0f}",
            f"{found['peak GiB']:.1f}",
            f"{found['queries per CPU s']:,.0f}",
        ]
        lines.append(Line(cells, [found]))
    columns = ["model", "Hits@1 / Hits@10", "training, CPU s", "peak, GiB", "queries a CPU second"]
    return Table(columns, lines)


@table
def updating_all_weights() -> Table:
    """What an update learns from, where all weights move."""
    return _continual(
        ALL_MOVES,
        "atomic",
        "retrain,generative@ratio=2,generative@ratio=32,generative+sam@ratio=32,reindex,"
        "reindex+sam,finetune,episodic",
    )


@table
def updating_keeps_old() -> Table:
    """How old documents are kept, where all weights move."""
    return _continual(
        ALL_MOVES,
        "atomic",
        "finetune+reglora,finetune+locas,finetune+ewc,finetune+threshold-margin,"
        "finetune+rank1-ewc,finetune+lora,finetune+batch-softmax,finetune+frozen-rows,"
        "generative+locas@ratio=32,generative+reglora@ratio=32,generative+ewc@ratio=32,"
        "reindex+ewc,reindex+i-lora,reindex+distill,"
        "reindex+warm-up",
        "finetune+reglora,finetune+ewc,finetune+threshold-margin,generative@ratio=32",
    )


@table
def updating_semantic_all_weights() -> Table:
    """Updates with semantic identifiers, where all weights move."""
    return _continual(
        ALL_MOVES,
        "semantic",
        "retrain,instant,finetune+locas,generative+locas@ratio=32,finetune+reglora,"
        "generative+reglora@ratio=32,finetune+ewc,generative+ewc@ratio=32,reindex+ewc,"
        "generative@ratio=32,generative+sam@ratio=32,reindex,reindex+sam,finetune,episodic",
        "finetune+ewc,finetune+locas,finetune+reglora",
    )


@table
def kills() -> Table:
    """Counts of killed commands; see tests/campaigns/kills.py."""
    counted = ("kills", "answers as before", "answers as after", "missing until run again")
    counted = (*counted, "bit-equal ends", "wrong")
    found = {name: each for name, each in _rows("reliability").items() if "kills" in each}
    return Table(
        ("command", *counted),
        [
            Line(
                [
                    f"`{name.removeprefix('kills of ')}`",
                    *(f"{each.get(key, 0)}" for key in counted),
                ],
                [each],
            )
            for name, each in found.items()
        ],
    )


# docs/hops.md

CORPORA_OF_HOPS = {"stdlib": "standard library", "torch": "PyTorch"}
CHAINS = ("none", "ordered", "unordered")


@table
def hops() -> Table:
    """One hop and two on documents of which one names the other; see benchmarks/hops.py."""
    columns = ("All@2", "All@10", "All@100", "first Hits@1", "second Hits@10")
    cells = [
        ("BM25", "bm25", "bm25"),
        ("BM25, with the training queries of each document", "bm25", "bm25+queries"),
        ("one hop", "none", "one hop"),
        ("two hops", "none", "two hops"),
        ("two hops, options chosen on dev", "chosen", "two hops"),
        ("two hops, `--mix.chains ordered`", "ordered", "two hops"),
        ("two hops, `--mix.chains unordered`", "unordered", "two hops"),
        ("two hops, `--mix.chains unordered --loop.steps 160`", "network", "two hops"),
    ]
    lines = []
    for corpus, described in CORPORA_OF_HOPS.items():
        for label, name, system in cells:
            rows = _rows_of_seeds("hops", f"{corpus}-{name}")
            if rows:
                measured = [found["systems"][system] for found in rows]
                values = [spread([each[column] for each in measured]) for column in columns]
                lines.append(Line([described, label, str(len(rows)), *values], rows))
    return Table(["docstrings of", "system", "seeds", *columns], lines)


@table
def hops_second() -> Table:
    """The second hop alone, by what the index was trained on; see benchmarks/hops.py."""
    splits = ("train", "dev", "test")
    lines = []
    for corpus, described in CORPORA_OF_HOPS.items():
        for chains in CHAINS:
            rows = _rows_of_seeds("hops", f"{corpus}-{chains}")
            if rows:
                measured = [found["second hop alone, Hits@10"] for found in rows]
                values = [spread([each[split] for each in measured]) for split in splits]
                lines.append(Line([described, f"`{chains}`", str(len(rows)), *values], rows))
    return Table(["docstrings of", "`--mix.chains`", "seeds", *splits], lines)


def _rows_of_seeds(suite: str, stem: str) -> list[Row]:
    """Returns the rows `STEM-seedN` that are measured, possibly none."""
    rows = _rows(suite)
    return [rows[name] for n in range(10) if (name := f"{stem}-seed{n}") in rows]


# docs/multi-vector.md


@table
def muvera_error() -> Table:
    """Error of encodings against exact Chamfer; see benchmarks/muvera.py."""
    found = row("muvera", "squad-dev-error")
    measured = ("mean error", "95th percentile", "mean error at the nearest", "correlation")
    lines = [
        Line([f"{each['dimensions']:,}", *(f"{each[name]:.3f}" for name in measured)], [found])
        for each in found["errors"]
    ]
    return Table(["dimensions", *measured], lines)


@table
def muvera_recall() -> Table:
    """Recall of the documents nearest by exact Chamfer among candidates."""
    found = row("muvera", "squad-dev-recall")
    by: dict[str, dict[int, Row]] = {}
    for each in found["recalls"]:
        by.setdefault(each["by"], {})[each["candidates"]] = each
    counts = list(next(iter(by.values())))
    lines = [
        Line(
            [
                label,
                *(
                    f"{each[n]['recall of the first']:.3f} / "
                    f"{each[n]['recall of the first ten']:.3f}"
                    for n in counts
                ),
            ],
            [found],
        )
        for label, each in by.items()
    ]
    return Table(["first / first ten", *(f"{count} candidates" for count in counts)], lines)


@table
def muvera_rank() -> Table:
    """Hits of single vectors, token vectors and encodings, without any index."""
    found = row("muvera", "squad-dev-rank")
    columns = ("Hits@1", "Hits@10")
    cells = best([[each[column] for column in columns] for each in found["ranks"]], 3)
    return Table(
        ["", *columns],
        [
            Line([each["system"], *values], [found])
            for each, values in zip(found["ranks"], cells, strict=True)
        ],
    )


@table
def muvera_indexes() -> Table:
    """Hits of indexes whose rows or identifiers come from mean vectors or from encodings."""
    lines = []
    rows = _rows("muvera")
    for made, label in (
        ("encoder", "output rows"),
        ("semantic", "`semantic` identifiers"),
        ("rq", "`rq` identifiers"),
        ("pq", "`pq` identifiers"),
    ):
        names = [f"squad-dev-{made}-{vectors}" for vectors in ("mean", "muvera")]
        if all(name in rows for name in names):
            measured = [rows[name]["hits"][0] for name in names]
            values = [
                f"{each[column]:.3f}" for column in ("Hits@1", "Hits@10") for each in measured
            ]
            lines.append(Line([label, *pairs(values)], [rows[name] for name in names]))
    return Table(["mean pooling / encodings", "Hits@1", "Hits@10"], lines)


@table
def muvera_scale() -> Table:
    """Time and memory of the vectors of a corpus, and of searches in them."""
    measured = [name for name in ("squad-dev", "debian-20k") if f"{name}-scale" in _rows("muvera")]
    columns = {
        "GiB": "GiB",
        "processor seconds to make": "processor seconds to make",
        "processor milliseconds a query": "milliseconds per query",
        "processor milliseconds to rank the candidates": "to rank 200 candidates exactly",
    }
    lines = []
    for name in measured:
        found = row("muvera", f"{name}-scale")
        for each in found["scales"]:
            cells = [
                f"{found['settings']['documents']:,}",
                f"{each['vectors']}, {each['dimensions']:,}",
            ]
            cells += [f"{each[column]:.3g}" if column in each else "" for column in columns]
            lines.append(Line(cells, [found]))
    return Table(["documents", "vectors, dimensions", *columns.values()], lines)


@table
def mutations() -> Table:
    """Counts of mutated input and mutated indexes; see tests/campaigns/."""
    input_, index = (row("reliability", name) for name in ("malformed input", "mutated index"))
    return Table(
        (
            "what is changed",
            "mutations",
            "read, or the same answers",
            "refused in one line",
            "anything else",
        ),
        [
            _mutated("input files and configuration", "read", input_),
            _mutated("an index", "same", index),
        ],
    )


def _mutated(what: str, good: str, counts: Row) -> Line:
    good_, refused, failed, wrong = (
        counts.get(key, 0) for key in (good, "refused", "failed", "wrong")
    )
    total = good_ + refused + failed + wrong
    return Line([what, f"{total:,}", f"{good_:,}", f"{refused:,}", f"{failed + wrong:,}"], [counts])
