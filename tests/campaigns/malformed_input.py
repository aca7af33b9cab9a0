"""Mutates valid input of every format and prepares datasets from the result; prints counts.

    python tests/campaigns/malformed_input.py --mutations 10000 --seed 0
    python tests/campaigns/malformed_input.py --only topics,qrels
    python tests/campaigns/malformed_input.py --state mutations.jsonl    # continues

A mutation changes bytes, lines, values or the encoding of one file, once or a few times. An outcome
is `read` (exit code 0, and the dataset opens with the reported number of documents), `refused`
(exit code 2, one line, perhaps with choices below it, and an unchanged folder) or `failed`
(anything else: another exit code, a traceback, more lines, leftover files, a hang). Only the first
two are acceptable; exits with 1 if anything failed.
All cases run in one process, in a folder in memory where there is one, and nothing
is flushed to disk. Run by hand; some mutations are in the tests.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import gzip
import hashlib
import io
import json
import os
import random
import signal
import sqlite3
import sys
import tempfile
import unittest.mock
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import record

from data_prep.dataset import Dataset
from data_prep.files import read_json_lines
from dsi import cli

SECONDS = 20
"""CPU seconds after which a command counts as hanging; valid input takes some hundredths."""
DOCUMENTS = 12

ODD_BYTES = (
    b"\0", b"\r", b"\n", b"\r\n", b"\t", b'"', b"'", b"\\", b"{", b"}", b"[", b"<", b">", b"&",
    b"</", b"\xef\xbb\xbf", b"\xff\xfe", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80",
    b"\x1a", b"\x1f\x8b", b"\x85", b"\xe2\x80\xa8", b"<DOC>", b"</DOC>", b"<top>", b"</top>",
    b"<num>", b"\x1b[2J",
)  # fmt: skip
ODD_VALUES = (
    "null", "true", "[]", "{}", '""', '" "', "0", "-1", "1.5", "1e999", "NaN", "-Infinity", "-0",
    "1" * 30, "9" * 5000, '"\\ud800"', '"\\u0000"', '"a\\nb"', "[" * 2000, '{"a":' * 2000,
    f'"{"x" * 70_000}"', '{"id": "x"}', "Q0", "relevant", "d1", "q1", "٣", "0x1", "1_0", "+1",
    "1.0",
)  # fmt: skip
ENCODINGS = (
    "utf-16",
    "utf-16-le",
    "utf-16-be",
    "utf-32",
    "latin-1",
    "cp1252",
    "utf-8-sig",
    "cp037",
)


@dataclasses.dataclass(frozen=True)
class Case:
    """Good input, and how it is read.

    Attributes:
        words: After the verb.
        files: Path -> content; a path that ends in `.gz` or `.zst` is compressed.
        verb: The command; one other than `prepare` reads the dataset `set` and writes nothing.
    """

    words: list[str]
    files: dict[str, str | bytes]
    verb: str = "prepare"


@functools.cache
def cases() -> dict[str, Case]:
    """Returns good input of every format that is read from text files."""
    numbers = range(DOCUMENTS)
    texts = [f"Otter {n} swims, “naïve” & <free>, in river{n % 5}" for n in numbers]
    records = [{"id": f"d{n}", "title": f"Title {n}", "text": texts[n]} for n in numbers]
    jsonl = _lines(json.dumps(record, ensure_ascii=n % 2 == 0) for n, record in enumerate(records))
    tsv = _lines(["id\ttitle\ttext", *(f"d{n}\tTitle {n}\t{texts[n]}" for n in numbers)])
    csv = _lines(["id,title,text", *(f'd{n},Title {n},"{texts[n]}"' for n in numbers)])
    trec = _lines(
        f"<DOC>\n<DOCNO> d{n} </DOCNO>\n<TITLE>Title {n}</TITLE>\n<TEXT>\nOtter {n} swims &amp; "
        f"dives\n</TEXT>\n</DOC>"
        for n in numbers
    )
    topics = _lines(
        f"<top>\n<num> Number: q{n}\n<title> otter {n}\n<desc> Description:\nWhich otter?\n</top>"
        for n in numbers
    )
    queries = {
        "queries.tsv": _lines(f"q{n}\totter {n}" for n in numbers),
        "queries.jsonl": _lines(
            json.dumps({"_id": f"q{n}", "text": f"otter {n}"}) for n in numbers
        ),
        "queries.csv": _lines(["id,text", *(f'q{n},"otter, {n}"' for n in numbers)]),
    }
    qrels = {
        "qrels.txt": _lines(f"q{n} 0 d{n} {1 + n % 2}" for n in numbers),
        "qrels.tsv": _lines(["query-id\tcorpus-id\tscore", *(f"q{n}\td{n}\t1" for n in numbers)]),
        "qrels.jsonl": _lines(
            json.dumps({"query_id": f"q{n}", "doc_id": f"d{n}", "relevance": n % 3})
            for n in numbers
        ),
    }
    beir = {
        "beir/corpus.jsonl": _lines(
            json.dumps({"_id": r["id"], "title": r["title"], "text": r["text"]}) for r in records
        ),
        "beir/queries.jsonl": queries["queries.jsonl"],
        "beir/qrels/train.tsv": qrels["qrels.tsv"],
        "beir/qrels/test.tsv": qrels["qrels.tsv"],
    }
    config = "source: docs.jsonl\nout: set\nname: otters\nheader: null\ndev_share: 0.0\nseed: 3\n"
    docs: dict[str, str | bytes] = {"docs.jsonl": jsonl}
    notes: dict[str, str | bytes] = {
        "notes/a.md": "# Otters\n\nThey swim.\n\n## Food\n\n- fish\n\n```\n# no heading\n```\n",
        "notes/b.html": "<html><head><title>Pikas</title></head><body><h1>Pikas</h1><p>They "
        "&amp; others <b>whistle</b>.<h2>Home</h2>Rocks<br>Hills</body></html>",
        "notes/c.txt": "Beavers\n\nThey build dams.\n",
    }
    found = {
        "jsonl": Case(["docs.jsonl"], docs),
        "tsv": Case(["docs.tsv"], {"docs.tsv": tsv}),
        "csv": Case(["docs.csv"], {"docs.csv": csv}),
        "trec": Case(["docs.trec"], {"docs.trec": trec}),
        "beir": Case(["beir"], beir),
        "topics": Case(["docs.jsonl", "--queries", "topics.txt"], {"topics.txt": topics}),
        "config": Case(["--config", "config.yaml"], {"config.yaml": config}),
        "gzip": Case(["docs.jsonl.gz"], {"docs.jsonl.gz": jsonl}),
        "zstandard": Case(["docs.jsonl.zst"], {"docs.jsonl.zst": jsonl}),
        "json": Case(["docs.json"], {"docs.json": json.dumps(records, ensure_ascii=False)}),
        "parquet": Case(["docs.parquet"], {"docs.parquet": _parquet(records)}),
        "sqlite": Case(["docs.sqlite"], {"docs.sqlite": _sqlite(records)}),
        "text": Case(["notes"], notes),
        "headings": Case(["notes", "--split", "headings"], notes),
        "run": Case(
            ["run.trec", "set", "--baselines", "none"],
            {"run.trec": _lines(f"q{n} Q0 d{n} 1 {DOCUMENTS - n}.5 tag" for n in numbers)},
            "evaluate",
        ),
        "training": Case(
            ["set", "--config", "training.yaml", "--dry_run"],
            {
                "training.yaml": "out: index\ndocids: atomic\nseed: 3\nper_doc: 2\n"
                "loop:\n  steps: 5\n  batch: 8\nmodel: {size: tiny, dropout: 0.1}\n"
                "optimizer.lr: 1e-3\n"
            },
            "train",
        ),
    }
    for name, content in queries.items():
        found[name] = Case(["docs.jsonl", "--queries", name], {name: content})
    for name, content in qrels.items():
        words = ["docs.jsonl", "--queries", "queries.tsv", "--test-qrels", name]
        found[name] = Case(words, {name: content})
    return found


def _parquet(records: list[dict[str, str]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records), sink)
    return sink.getvalue()


def _sqlite(records: list[dict[str, str]]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "docs.sqlite")
        with contextlib.closing(sqlite3.connect(file)) as database:
            database.execute("create table docs (id text, title text, text text)")
            database.executemany("insert into docs values (:id, :title, :text)", records)
            database.commit()
        return file.read_bytes()


def _content(path: str, content: str | bytes) -> bytes:
    """Returns the bytes of a valid file, compressed if its name says so."""
    whole = content.encode("utf-8") if isinstance(content, str) else content
    if path.endswith(".gz"):
        return gzip.compress(whole, mtime=0)
    if path.endswith(".zst"):
        import pyarrow as pa

        packed: bytes = pa.compress(whole, codec="zstd", asbytes=True)
        return packed
    return whole


def _lines(lines: Iterator[str] | list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _flip(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    if changed:
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _insert(content: bytes, rng: random.Random) -> bytes:
    place = rng.choice([0, rng.randrange(len(content) + 1), len(content)])
    return content[:place] + rng.choice(ODD_BYTES) * rng.choice([1, 1, 1, 2, 300]) + content[place:]


def _remove(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    return content[:start] + content[start + rng.choice([1, 2, 20]) :]


def _lines_moved(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines(keepends=True) or [b""]
    chosen = rng.randrange(len(lines))
    way = rng.choice(["remove", "twice", "swap", "blank", "join", "end"])
    if way == "remove":
        del lines[chosen]
    elif way == "twice":
        lines.insert(rng.randrange(len(lines)), lines[chosen])
    elif way == "swap":
        rng.shuffle(lines)
    elif way == "blank":
        lines[chosen] = rng.choice([b"\n", b"  \n", b"\t\n", b"\0\n"])
    elif way == "join":
        lines[chosen] = lines[chosen].rstrip(b"\r\n")
    else:
        end = rng.choice([b"\r", b"\r\n", b"\n\n", b"\x0b", b"\xe2\x80\xa8"])
        lines = [line.rstrip(b"\r\n") + end for line in lines]
    return b"".join(lines)


def _value(content: bytes, rng: random.Random) -> bytes:
    """Puts an odd value in the place of a word or of what stands in quotes."""
    words = content.split(b" ") if rng.random() < 0.5 else content.split(b'"')
    chosen = rng.randrange(len(words))
    words[chosen] = rng.choice(ODD_VALUES).encode("utf-8", "surrogatepass")
    return (b" " if b" ".join(words).count(b" ") else b'"').join(words)


def _encode(content: bytes, rng: random.Random) -> bytes:
    text = content.decode("utf-8", "replace")
    return text.encode(rng.choice(ENCODINGS), "replace")


def _pack(content: bytes, rng: random.Random) -> bytes:
    packed = gzip.compress(content, mtime=0)
    return rng.choice(
        [packed, packed[: rng.randrange(len(packed))], packed + packed, packed + b"x"]
    )


WAYS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip, _cut, _insert, _remove, _lines_moved, _value, _value, _encode, _pack,
    lambda content, rng: rng.choice([b"", b"\n", b"\0" * 99, rng.randbytes(99)]),
)  # fmt: skip


def mutate(case: Case, rng: random.Random) -> tuple[str, bytes]:
    """Returns the name of a file and what is to stand in it."""
    name = rng.choice(list(case.files))
    content = _content(name, case.files[name])
    times = rng.choice([1, 1, 1, 2, 3])
    for way in rng.choices(WAYS, k=times):
        content = way(content, rng)
    return name, content


def tree(folder: Path) -> dict[str, str]:
    """Returns the hash of each file by its name; of folders, nothing."""
    return {
        str(path.relative_to(folder)): ""
        if path.is_dir()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
    }


class Hanging(BaseException):
    """A command took too long."""


def _hang(*_: object) -> None:
    raise Hanging


def run(words: list[str]) -> tuple[int, str, str]:
    """Runs a command; returns its exit code (124 where it hangs), and what it prints and says."""
    out, err = io.StringIO(), io.StringIO()
    signal.signal(signal.SIGPROF, _hang)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli.main([*words, "--json", "--quiet"])
    except Hanging:
        code = 124
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return code, out.getvalue(), err.getvalue()


def outcome(folder: Path, case: Case) -> tuple[str, str]:
    """Runs the command in the current folder; returns `read`, `refused` or `failed`, and why."""
    before = tree(folder)
    made = ["--out", "set"] if case.verb == "prepare" else []
    code, printed, said = run([case.verb, *case.words, *made])
    if code == 0 and not made:
        if tree(folder) != before or not json.loads(printed) or said:
            return "failed", f"changed: {tree(folder).keys() ^ before.keys()}; {said[:200]!r}"
        return "read", ""
    if code == 0:
        told = json.loads(printed)["documents"]
        found = sum(1 for _ in Dataset.open(folder / "set").documents())
        extra = [name for name in os.listdir(folder) if name.startswith(".")]
        if found != told or said or extra:
            return "failed", f"{told} documents told, {found} found; {extra}; {said[:200]!r}"
        return "read", ""
    # Where there is much to choose from, an indented line for each choice follows.
    one_line = said.endswith("\n") and all(line[:2] == "  " for line in said.splitlines()[1:])
    if code != 2 or not one_line or "Traceback" in said or printed:
        return "failed", f"exit code {code}: {said[:400]!r}"
    if tree(folder) != before:
        return "failed", f"left behind: {sorted(tree(folder).keys() ^ before.keys())[:5]}"
    return "refused", said.strip()


@functools.cache
def _prepared() -> dict[str, bytes]:
    """Returns the files of a dataset that was prepared from valid input."""
    judged = ["--queries", "queries.tsv", "--test-qrels", "qrels.txt"]
    with input_of(cases()["jsonl"], "docs.jsonl", None, again=False) as folder:
        assert run(["prepare", "docs.jsonl", "--out", "set", *judged])[0] == 0
        files = [path for path in Path("set").rglob("*") if path.is_file()]
        return {str(path): (folder / path).read_bytes() for path in files}


@contextlib.contextmanager
def input_of(case: Case, name: str, content: bytes | None, *, again: bool) -> Iterator[Path]:
    """Yields a folder, which is the current one meanwhile, with good input but for one file.

    Args:
        case: The good input.
        name: Of the file.
        content: What stands in it; what is good where it is None.
        again: Whether a dataset of the good input is there already.
    """
    here = Path.cwd()
    shared = cases()
    needed = ("jsonl", "queries.tsv", "qrels.txt")
    good = {
        name: content
        for each in (*(shared[name] for name in needed), case)
        for name, content in each.files.items()
    }
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with (
        tempfile.TemporaryDirectory(dir=memory) as scratch,
        unittest.mock.patch("os.fsync", return_value=None),
    ):
        folder = Path(scratch)
        try:
            os.chdir(folder)
            for path, text in good.items():
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                Path(path).write_bytes(_content(path, text))
            if again or case.verb != "prepare":
                for path, text in _prepared().items():
                    Path(path).parent.mkdir(parents=True, exist_ok=True)
                    Path(path).write_bytes(text)
            if content is not None:
                Path(name).write_bytes(content)
            yield folder
        finally:
            os.chdir(here)


def campaign(
    mutations: int,
    seed: int = 0,
    only: list[str] | None = None,
    say: Callable[[str], None] = print,
    first: int = 0,
    state: Path | None = None,
) -> dict[str, Counter[str]]:
    """Mutates and prepares.

    Args:
        mutations: How many, in turn of each format.
        seed: Same seed, same mutations.
        only: Formats (names in `cases`); all when None.
        say: Is told of each that failed.
        first: The number of the first.
        state: File of the outcomes, a line each; those in it are counted and not repeated.

    Returns:
        Format -> outcome -> how often.
    """
    chosen = {name: case for name, case in cases().items() if only is None or name in only}
    counts: dict[str, Counter[str]] = {name: Counter() for name in chosen}
    known = {(row[0], row[1], row[2]): row[3] for row in read_json_lines(state or os.devnull)}
    for number in range(first, first + mutations):
        name = list(chosen)[number % len(chosen)]
        if (seed, name, number) in known:
            counts[name][known[seed, name, number]] += 1
            continue
        rng = random.Random(f"{seed} {name} {number}")
        file, content = mutate(chosen[name], rng)
        with input_of(chosen[name], file, content, again=rng.random() < 0.3) as folder:
            found, why = outcome(folder, chosen[name])
        counts[name][found] += 1
        if state is not None:
            with state.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps([seed, name, number, found]) + "\n")
        if found == "failed":
            say(f"{name}, number {number}: {why}")
            say(f"    {file}: {content[:600]!r}")
    return counts


def main(argv: list[str] | None = None) -> int:
    """Runs the campaign; returns 1 where something failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mutations", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(cases()), help="formats, with commas between")
    parser.add_argument("--number", type=int, default=0, help="of the first mutation")
    parser.add_argument("--state", type=Path, help="file of outcomes, to continue from")
    parser.add_argument("--record", action="store_true", help="add the counts to the record")
    asked = parser.parse_args(argv)
    only = asked.only.split(",")
    say = functools.partial(print, file=sys.stderr, flush=True)
    counts = campaign(asked.mutations, asked.seed, only, say, asked.number, asked.state)
    for name, found in counts.items():
        told = ", ".join(f"{found[kind]} {kind}" for kind in ("read", "refused", "failed"))
        print(f"{name}: {told}")
    if asked.record:
        sums: Counter[str] = sum(counts.values(), Counter())
        figures = {"settings": {"seed": asked.seed, "formats": len(counts)}, **sums}
        record.write_measured("reliability", "malformed input", figures)
    return int(any(found["failed"] for found in counts.values()))


if __name__ == "__main__":
    sys.exit(main())
