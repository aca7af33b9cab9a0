"""Benchmark records: one JSONL file per suite, one row per cell."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import record
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import InputError

COMMITTED = sorted((Path(record.__file__).parent / "results").glob("*.jsonl"))


def unexpected():
    raise AssertionError("measured again")


def lines_of(results, suite="suite"):
    return (results / f"{suite}.jsonl").read_text("utf-8").splitlines()


def test_a_cell_is_measured_once(results):
    measured = record.cell("suite", "a", lambda: {"seconds": 2.5, "Hits@1": 0.5})
    assert record.cell("suite", "a", unexpected) == measured
    assert record.read("suite") == {"a": measured}


def test_a_row_is_one_line_in_the_order_in_which_it_is_read(results):
    record.cell("suite", "a", lambda: {"Hits@1": 0.5, "settings": {"seed": 1}, "Hits@10": 0.75})
    assert lines_of(results) == [
        '{"cell": "a", "settings": {"seed": 1}, "Hits@1": 0.5, "Hits@10": 0.75, '
        '"machine": {"processor": "P", "cores": 2}, "versions": {"python": "3"}, '
        '"commit": "abc1234"}'
    ]


def test_rows_are_in_the_order_of_their_names_whenever_they_were_measured(results):
    for name in ("b", "c", "a"):
        record.write("suite", {"cell": name})
    assert [json.loads(line)["cell"] for line in lines_of(results)] == ["a", "b", "c"]


def test_a_row_replaces_the_row_of_its_cell_and_no_other(results):
    for row in ({"cell": "a", "x": 1}, {"cell": "b", "x": 2}, {"cell": "a", "x": 3}):
        record.write("suite", row)
    assert record.read("suite") == {"a": {"cell": "a", "x": 3}, "b": {"cell": "b", "x": 2}}


def test_a_void_cell_is_measured_again(results):
    record.write("suite", {"cell": "a", "void": "wrong weights", "x": 1})
    assert not record.usable("suite", "a")
    assert record.cell("suite", "a", lambda: {"x": 2})["x"] == 2
    assert "void" not in record.read("suite")["a"]
    assert record.usable("suite", "a")


def test_a_cell_that_fails_leaves_what_was_there(results):
    record.cell("suite", "a", lambda: {"x": 1})
    before = lines_of(results)

    def fails():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record.cell("suite", "b", fails)
    assert lines_of(results) == before
    assert not record.usable("suite", "b")


def test_figures_have_six_digits(results):
    row = record.write(
        "suite",
        {
            "cell": "a",
            "share": 2 / 3,
            "small": 1.23456789e-7,
            "large": 107_826_176.4,
            "count": 107_826_176,
            "list": [0.1 + 0.2, float("nan"), float("inf")],
        },
    )
    assert row == {
        "cell": "a",
        "share": 0.666667,
        "small": 1.23457e-7,
        "large": 107_826_176,
        "count": 107_826_176,
        "list": [0.3, None, None],
    }
    assert record.read("suite") == {"a": row}


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=20)
@given(st.dictionaries(st.text(min_size=1), values, max_size=4))
def test_what_was_measured_is_what_is_read(tmp_path_factory, figures):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "RESULTS", tmp_path_factory.mktemp("results"))
        row = record.write("suite", {**figures, "cell": "a"})
        assert record.read("suite") == {"a": row}
        assert list(record.read("suite")["a"]) == list(row)


WRITER = """
import sys
sys.path.append(sys.argv[1])
import record
from pathlib import Path
record.RESULTS = Path(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for number in range(10):
    record.write("suite", {"cell": f"{sys.argv[3]}-{number}", "x": number})
"""


def test_processes_that_write_at_once_lose_no_row(results):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    folder = str(Path(record.__file__).parent)
    words = [sys.executable, "-c", WRITER, folder, str(results)]
    writers = [subprocess.Popen([*words, name], **pipes) for name in ("one", "two")]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=100)
        assert writer.returncode == 0
    assert set(record.read("suite")) == {f"{w}-{n}" for w in ("one", "two") for n in range(10)}
    assert not [file.name for file in results.iterdir() if ".new-" in file.name]


@pytest.mark.parametrize("line", ["<<<<<<< HEAD", '{"cell": "b"', '{"x": 1}', "[1]", ""])
def test_a_broken_line_is_named_and_nothing_is_written_over_it(results, line):
    """As a merge with a conflict leaves it."""
    results.mkdir()
    file = results / "suite.jsonl"
    file.write_text(f'{{"cell": "a"}}\n{line}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"suite\.jsonl: line 2 is not a row of the record"):
        record.write("suite", {"cell": "c"})
    assert file.read_text("utf-8") == f'{{"cell": "a"}}\n{line}\n'


def test_two_rows_of_one_cell_are_refused(results):
    results.mkdir()
    (results / "suite.jsonl").write_text('{"cell": "a"}\n{"cell": "a"}\n', encoding="utf-8")
    with pytest.raises(InputError, match="line 2 has the cell 'a' again"):
        record.read("suite")


@dataclasses.dataclass(frozen=True)
class Inner:
    lr: float = 0.1
    steps: int = 160


@dataclasses.dataclass(frozen=True)
class Options:
    kind: str = "atomic"
    model: str | None = None
    loop: Inner = dataclasses.field(default_factory=lambda: Inner(steps=20))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (Options(), {}),
        (Options(kind="rq"), {"kind": "rq"}),
        (Options(loop=Inner(lr=0.2, steps=20)), {"loop": {"lr": 0.2}}),
        (Options(loop=Inner()), {"loop": {"steps": 160}}),
        (Options(model="/home/someone/t5-small"), {"model": "t5-small"}),
        (Options(model="google/t5-small"), {"model": "google/t5-small"}),
    ],
)
def test_settings_are_the_options_that_differ_from_the_defaults(options, expected):
    assert record.differing(options) == expected


@pytest.mark.parametrize("file", COMMITTED, ids=lambda file: file.stem)
def test_the_committed_record_is_as_the_scripts_write_it(file):
    suite = file.stem
    assert (file.parents[1] / f"{suite}.py").is_file(), "a suite has the name of its script"
    rows = record.read(suite)
    assert list(rows) == sorted(rows)
    for name, row in rows.items():
        assert next(iter(row)) == "cell"
        assert list(row)[-3:] == ["machine", "versions", "commit"]
        assert row.get("void", "a reason"), name
        assert row == record._rounded(row)
        assert "curves" not in row
    text = file.read_text("utf-8")
    assert text.count("\n") == len(rows)
    assert '": "/' not in text, "a path of one machine"
