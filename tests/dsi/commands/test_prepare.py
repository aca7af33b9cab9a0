"""`dsi prepare` converts any source to a dataset and reports its content and omissions."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from data_prep.dataset import Dataset
from data_prep.errors import InputError
from data_prep.sources import SourceOptions
from dsi.cli import main
from dsi.command_line.command_report import to_json
from dsi.commands.prepare import prepare

KEYED = SourceOptions(id_column="key")


@pytest.fixture
def table(tmp_path):
    file = tmp_path / "zoo.csv"
    rows = [f"{n},Animal {n},It eats plant{n}" for n in range(20)]
    file.write_text("\n".join(["key,title,body", *rows, "20,,"]) + "\n")
    (tmp_path / "q.tsv").write_text("".join(f"q{n}\twho eats plant{n}?\n" for n in range(20)))
    (tmp_path / "r.txt").write_text("".join(f"q{n} 0 {n} 1\n" for n in range(20)))
    return file


def shown(report):
    console = Console(file=io.StringIO(), width=200)
    report.show(console)
    return console.file.getvalue()


def test_samples_are_short(tmp_path):
    (tmp_path / "book.txt").write_text("A very long book. " * 10_000)
    report = prepare(str(tmp_path / "book.txt"), out=tmp_path / "set")
    assert len(to_json(report.data)) < 10_000
    assert report.data["samples"]["documents"][0]["text"].startswith("A very long book.")


def test_the_report_has_counts_losses_hash_and_samples(table, tmp_path):
    report = prepare(str(table), out=tmp_path / "set", options=KEYED, license="CC0-1.0")
    dataset = Dataset.open(tmp_path / "set")
    assert report.data["documents"] == 20
    assert report.data["content_hash"] == dataset.info.content_hash
    assert report.data["dropped"] == {
        "document without a title and a text": {"count": 1, "examples": ["20"]}
    }
    assert len(report.data["samples"]["documents"]) == 3
    assert dataset.info.license == "CC0-1.0"
    json.loads(to_json(report.data))
    text = shown(report)
    assert "left out: 1 x document without a title and a text: 20" in text
    assert "document 0: Animal 0 | It eats plant0" in text
    assert f"dsi train {tmp_path / 'set'}" in text


def test_queries_that_nothing_judges_are_told(table, tmp_path):
    queries = str(tmp_path / "q.tsv")
    report = prepare(str(table), out=tmp_path / "set", options=replace(KEYED, queries=queries))
    assert "note: without judgments, the queries have no effect" in shown(report)


def test_queries_are_split_by_share_and_seed(table, tmp_path):
    def prepared(seed):
        prepare(
            str(table),
            out=tmp_path / "set",
            options=replace(
                KEYED,
                queries=str(tmp_path / "q.tsv"),
                test_qrels=str(tmp_path / "r.txt"),
            ),
            dev_fraction=0.1,
            test_fraction=0.2,
            seed=seed,
        )
        return Dataset.open(tmp_path / "set")

    first = prepared(0)
    assert first.info.qrels == {"train": 14, "dev": 2, "test": 4}
    assert prepared(0).info.content_hash == first.info.content_hash
    assert prepared(1).info.content_hash != first.info.content_hash


def test_duplicates_and_names_are_up_to_the_user(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("id,text\n1,same\n2,same\n")
    report = prepare(str(file), out=tmp_path / "set", name="twins", drop_duplicate_texts=True)
    assert (report.data["documents"], report.data["name"]) == (1, "twins")
    assert prepare(str(file), out=tmp_path / "set").data["documents"] == 2


def test_a_failure_leaves_what_was_there(table, tmp_path):
    prepare(str(table), out=tmp_path / "set", options=KEYED)
    before = Dataset.open(tmp_path / "set").info
    with pytest.raises(InputError, match="no column"):
        prepare(str(table), out=tmp_path / "set", options=SourceOptions(id_column="nope"))
    assert Dataset.open(tmp_path / "set").info == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.jsonl"], "nowhere.jsonl: no such file or folder"),
        (["ZOO"], "no column for the document id; available: 'key', 'title', 'body'"),
        (
            ["ZOO", "--id-column", "nope"],
            "no column 'nope'; available: 'key', 'title', 'body'",
        ),
        (["ZOO", "--id-column", "key", "--encoding", "klingon"], "unknown encoding 'klingon'"),
        (["ZOO", "--id-column", "key", "--subset", "x"], "--subset x has no effect for a table"),
        (
            ["ZOO", "--id-column", "key", "--dev-fraction", "0.5", "--test-fraction", "0.5"],
            "leave no queries for training",
        ),
        (["ZOO", "--test-fraction", "1.5"], "--test_fraction 1.5 is not at least 0 and below 1"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(table, tmp_path, capsys, words, message):
    words = [str(table) if word == "ZOO" else word for word in words]
    assert main(["prepare", *words, "--out", str(tmp_path / "set"), "--quiet"]) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("dsi:")]
    assert message in line
    assert not (tmp_path / "set").exists()


def test_the_command_line_prints_one_json_object(table, tmp_path, capsys):
    words = ["--id-column", "key", "--out", str(tmp_path / "set"), "--json"]
    assert main(["prepare", str(table), *words]) == 0
    assert json.loads(capsys.readouterr().out)["documents"] == 20


def test_a_header_can_be_given_in_words(tmp_path, capsys):
    (tmp_path / "c.tsv").write_text("1\tfirst\n2\tsecond\n")
    words = ["--header", "id,text", "--out", str(tmp_path / "set"), "--json"]
    assert main(["prepare", str(tmp_path / "c.tsv"), *words]) == 0
    assert json.loads(capsys.readouterr().out)["documents"] == 2


def test_the_card_is_kept_and_printed(table, tmp_path):
    asked = replace(KEYED, queries=str(tmp_path / "q.tsv"), test_qrels=str(tmp_path / "r.txt"))
    report = prepare(str(table), out=tmp_path / "set", options=asked)
    kept = json.loads((tmp_path / "set" / "card.json").read_text())
    assert kept.pop("content_hash") == report.data["content_hash"]
    assert kept == report.data["card"]
    text = shown(report)
    assert "words per document, median" in text
    assert "fraction of seen documents (test)" in text


BENCHMARKS = ("nq320k", "nq10k", "msmarco-100k", "msmarco-300k", "triviaqa")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_dry_run_says_what_a_benchmark_downloads_and_what_to_do_without_a_network(name, tmp_path):
    pytest.importorskip("ir_datasets") if name.startswith("msmarco") else None
    report = prepare(name, out=tmp_path / "set", dry_run=True)
    download = report.data["download"]
    assert download["size"] > 10**9
    assert "--release" in download["otherwise"]
    text = shown(report)
    assert " GB (" in text, "the size names its source"
    assert "without a network" in text
    assert not (tmp_path / "set").exists()


def test_a_dry_run_of_a_file_downloads_nothing(table, tmp_path):
    report = prepare(str(table), out=tmp_path / "set", options=KEYED, dry_run=True)
    assert report.data["download"] is None
    assert not (tmp_path / "set").exists()


def test_what_is_downloaded_is_said_before_it_fails(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["prepare", "triviaqa", "--out", str(tmp_path / "set")]) == 2
    first, last = [line for line in capsys.readouterr().err.splitlines() if line.startswith("dsi:")]
    assert "about 2.67 GB (its dataset card)" in first
    assert "with --release" in last
    main(["prepare", "triviaqa", "--out", str(tmp_path / "set"), "--release", str(tmp_path)])
    assert "downloading" not in capsys.readouterr().err
