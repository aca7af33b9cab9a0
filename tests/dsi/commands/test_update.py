"""`dsi update` and `dsi delete` from the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from data_prep.dataset import Document, InMemorySource
from data_prep.dataset_writer import write_dataset
from data_prep.sources import SourceOptions
from dsi.cli import main
from dsi.command_line.arguments import Arguments
from dsi.commands.update import update

WORDS = ["whale", "anchor", "tide", "coral", "falcon", "comet", "glider", "fern"]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("update")
    documents = [
        Document(f"d{number}", word.title(), f"The {word} is near the {WORDS[number - 1]} again.")
        for number, word in enumerate(WORDS)
    ]
    write_dataset(folder / "dataset", InMemorySource(documents, name="words"))
    words = ["train", str(folder / "dataset"), "--out", str(folder / "index"), "--quiet"]
    assert main([*words, "--loop.steps", "3", "--loop.batch", "8", "--per_doc", "3"]) == 0
    (folder / "new.jsonl").write_text(
        json.dumps({"id": "d1", "title": "Anchor", "text": "An anchor of zumfelt steel."})
        + "\n"
        + json.dumps({"id": "n1", "title": "Quasar", "text": "A quasar glows by the xylophant."})
        + "\n"
        + json.dumps({"id": "d3", "title": "Coral", "text": "The coral is near the tide again."})
    )
    return folder


@pytest.fixture
def index(made, tmp_path) -> Path:
    return Path(shutil.copytree(made / "index", tmp_path / "index"))


def test_a_file_of_documents_is_added(index, made, capsys):
    words = ["update", str(index), str(made / "new.jsonl"), "--steps", "2", "--json", "--quiet"]
    assert main(words) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["added"], data["changed"], data["unchanged"]) == (1, 1, 1)
    assert (data["version"], data["documents"], data["wrote"]) == ("0002", 9, True)
    assert data["metrics"]["probe"]["source"] == "pseudo"
    assert main(["search", str(index), "xylophant quasar", "--quiet"]) == 0
    assert "n1" in capsys.readouterr().out
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["wrote"] is False
    assert sorted(entry.name for entry in index.iterdir()) == ["live", "lock", "versions"]


def test_a_table_tells_people(index, made, capsys):
    words = ["update", str(index), str(made / "new.jsonl"), "--strategy", "instant", "--quiet"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "version 0002 is live" in shown
    assert "milliseconds a document" in shown
    assert "dsi rollback" in shown
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "no new documents; version 0002 is live" in " ".join(shown.split())
    assert "dsi rollback" not in shown, "it would lead behind what is live"


def test_documents_are_deleted_by_name_and_from_a_file(index, tmp_path, capsys):
    (tmp_path / "ids.txt").write_text("d5\n\nd6\n")
    words = ["delete", str(index), "d2", "--file", str(tmp_path / "ids.txt"), "--json"]
    assert main(words) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["deleted"] == ["d2", "d5", "d6"]
    assert data["documents"] == 5
    assert data["audit"]["returned"] == 0


def test_an_id_in_a_file_is_all_of_its_line(index, tmp_path, capsys):
    (tmp_path / "ids.txt").write_text("d5 \r\n")
    assert main(["delete", str(index), "--file", str(tmp_path / "ids.txt"), "--json"]) == 2
    assert "'d5 '" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--strategy", "magic"], "unknown strategy"),
        (["--strategy", "finetune+reindex"], "cannot be combined"),
        (["--strategy", "ewc"], "does not define the training data"),
        (["--distill.kl", "3"], "--distill"),
        (["--strategy", "episodic"], "has none"),
        (["--generator", "oracle"], "--generator"),
    ],
    ids=lambda value: str(value),
)
def test_wrong_calls_are_one_line(words, named, index, made, capsys):
    assert main(["update", str(index), str(made / "new.jsonl"), "--quiet", *words]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("dsi: ")
    assert named in error


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["update", "INDEX", "none.jsonl"], ["none.jsonl: no such file"]),
        (["update", "INDEX", "new.jsonl", "--old", "none"], ["none: no such folder"]),
        (["delete", "INDEX", "d1", "d98", "d99"], ["'d98'", "'d99'"]),
    ],
    ids=str,
)
def test_wrong_paths_and_ids_are_found_before_anything_is_loaded(words, named, made):
    script = (
        "import sys\n"
        "from dsi.cli import main\n"
        "assert main(sys.argv[1:]) == 2\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *(word.replace("INDEX", "index") for word in words)],
        cwd=made,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert all(each in done.stderr for each in named)


def test_wrong_sources_and_indexes(index, made, tmp_path, capsys):
    assert main(["update", str(index), str(tmp_path / "none.jsonl")]) == 2
    assert main(["update", str(tmp_path / "none"), str(made / "new.jsonl")]) == 2
    (tmp_path / "empty.jsonl").write_text("")
    assert main(["update", str(index), str(tmp_path / "empty.jsonl")]) == 2
    assert main(["delete", str(index)]) == 2
    assert main(["delete", str(index), "d99"]) == 2
    assert main(["rollback", str(index), "--to", "0009"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("dsi: ") for line in lines) == 6
    assert not any("Traceback" in line for line in lines)
    assert sorted(entry.name for entry in index.iterdir()) == ["live", "lock", "versions"]


def test_the_words_that_are_offered_besides_groups():
    offered = [name for name in Arguments("update", update).hints if "." not in name]
    of_sources = {each.name for each in fields(SourceOptions)}
    assert [name for name in offered if name not in of_sources] == [
        "index",
        "new",
        "old",
        "strategy",
        "ratio",
        "new_fraction",
        "steps",
        "batch",
        "lr",
        "generator",
        "per_doc",
        "seed",
        "warn_loss",
        "refuse_loss",
        "probe_queries",
    ]


def test_what_is_passed_over_is_told(index, tmp_path, capsys):
    new = tmp_path / "more.jsonl"
    lines = [{"id": "n7", "text": "A quasar glows."}, {"id": "n8", "text": ""}]
    new.write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ["update", str(index), str(new), "--strategy", "instant", "--quiet"]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "left out: 1 x" in told
    assert "n8" in told


TEXTS = {
    "sea": "whale anchor tide coral salmon harbor lagoon plankton kelp urchin squid dolphin",
    "sky": "falcon comet glider cloud kite balloon thunder zephyr swallow rainbow aurora moon",
    "wood": "fern moss oak beetle badger acorn mushroom hollow bramble thicket sapling lichen",
}


@pytest.fixture(scope="module")
def of_passages(tmp_path_factory) -> Path:
    """A dataset with two test queries and an index of it, in passages of four words."""
    folder = tmp_path_factory.mktemp("passages")
    records = [json.dumps({"id": doc_id, "text": text}) for doc_id, text in TEXTS.items()]
    (folder / "d.jsonl").write_text("\n".join(records) + "\n")
    (folder / "q.tsv").write_text("q1\tsalmon harbor\nq2\taurora moon\n")
    (folder / "r.txt").write_text("q1 0 sea 1\nq2 0 sky 1\n")
    words = ["prepare", str(folder / "d.jsonl"), "--out", str(folder / "ds"), "--passages", "4"]
    words += ["--queries", str(folder / "q.tsv"), "--test_qrels", str(folder / "r.txt")]
    assert main([*words, "--quiet"]) == 0
    words = ["train", str(folder / "ds"), "--out", str(folder / "index"), "--per_doc", "2"]
    assert main([*words, "--quiet"]) == 0
    return folder


def said(words: list[str], capsys) -> dict:
    capsys.readouterr()
    assert main([*words, "--json", "--quiet"]) == 0
    return json.loads(capsys.readouterr().out)


def hits(index: Path, query: str, capsys) -> list[tuple[str, str]]:
    [result] = said(["search", str(index), query], capsys)["results"]
    return [(hit["doc_id"], hit["passage"]) for hit in result["hits"]]


def hits_at_1(index: Path, made: Path, capsys) -> float:
    data = said(["evaluate", str(index), str(made / "ds"), "--baselines", "bm25"], capsys)
    assert data["queries"]["all"] == 2
    assert data["systems"]["bm25"]["all"]["Success@1"] == 1.0
    return float(data["systems"]["index"]["all"]["Success@1"])


def test_passages_are_found_and_measured_and_deleted_as_documents(of_passages, tmp_path, capsys):
    index = Path(shutil.copytree(of_passages / "index", tmp_path / "index"))
    assert hits(index, "salmon harbor", capsys)[0] == ("sea", "sea#passage-2")
    assert hits(index, "aurora moon", capsys)[0] == ("sky", "sky#passage-3")
    assert len(hits(index, "aurora moon", capsys)) == 3, "each document once"
    assert hits_at_1(index, of_passages, capsys) == 1.0
    assert said(["delete", str(index), "sky"], capsys)["documents"] == 6
    assert {doc_id for doc_id, _ in hits(index, "aurora moon", capsys)} == {"sea", "wood"}
    assert hits_at_1(index, of_passages, capsys) == 0.5


def test_a_document_that_became_shorter_loses_its_other_passages(of_passages, tmp_path, capsys):
    index = Path(shutil.copytree(of_passages / "index", tmp_path / "index"))
    file = tmp_path / "shorter.jsonl"
    counts = ("added", "changed", "unchanged", "removed", "documents")
    for text, expected in (
        ("whale anchor tide coral", (0, 1, 0, 2, 7)),
        (TEXTS["sea"], (2, 0, 1, 0, 9)),
        ("urchin squid", (0, 1, 0, 2, 7)),
    ):
        file.write_text(json.dumps({"id": "sea", "text": text}) + "\n")
        data = said(["update", str(index), str(file)], capsys)
        assert tuple(data[name] for name in counts) == expected, text
        there = {f"sea#passage-{number}" for number in range(1, 1 + -(-len(text.split()) // 4))}
        for query in (TEXTS["sea"], "salmon harbor", "kelp urchin"):
            found = dict(hits(index, query, capsys))
            assert len(found) == 3
            assert found["sea"] in there, text
        assert said(["info", str(index)], capsys)["versions"][-1]["removed"] == expected[3]
    assert hits(index, "aurora moon", capsys)[0] == ("sky", "sky#passage-3")
    assert hits(index, "urchin squid", capsys)[0] == ("sea", "sea#passage-1")
