"""`dsi train`, from Python and from the command line."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from data_prep.dataset import Dataset, Document, InMemorySource, Qrel, Query
from data_prep.dataset_writer import write_dataset
from data_prep.errors import InputError
from dsi import Index
from dsi.cli import main
from dsi.commands.train import train
from dsi.data.options import MixOptions
from dsi.index_folder import versions
from dsi.index_folder.versions import Manifest
from dsi.indexing.options import TrainingOptions
from dsi.training.options import LoopOptions

WORDS = ["whale", "anchor", "tide", "coral", "falcon", "comet", "glider", "fern", "badger"]
WORDS += ["moss", "acorn", "tram"]
QUICK = ["--loop.steps", "3", "--loop.batch", "8", "--per_doc", "3", "--loop.precision", "fp32"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    documents = [
        Document(f"d{number}", word.title(), f"The {word} is near the {WORDS[number - 1]} again.")
        for number, word in enumerate(WORDS)
    ]
    queries = [Query(f"q{number}", f"where is the {word}") for number, word in enumerate(WORDS)]
    splits = ["train", "dev", "test"] * 4
    qrels = [Qrel(f"q{n}", f"d{n}", 1, split) for n, split in enumerate(splits)]
    path = tmp_path_factory.mktemp("command") / "dataset"
    return write_dataset(path, InMemorySource(documents, queries, qrels, name="words"))


def test_the_function_trains_and_reports(dataset, tmp_path):
    report = train(
        dataset.path,
        out=tmp_path / "index",
        options=TrainingOptions(
            per_doc=3,
            mix=MixOptions(indexing=0.5),
            loop=LoopOptions(steps=3, batch=8, precision="fp32"),
        ),
    )
    assert report.data["documents"] == len(WORDS)
    assert report.data["version"] == "0001"
    assert report.data["steps"] == 3
    assert report.data["precision"] == "fp32"
    assert set(report.data["best"]) == {"step", "Success@1", "Success@10", "RR@10"}
    assert Index.open(tmp_path / "index").search(["tram"], k=1)[0][0].doc_id == f"d{len(WORDS) - 1}"


def test_the_command_prints_a_table_and_what_to_do_next(dataset, tmp_path, capsys):
    out = tmp_path / "index"
    assert main(["train", str(dataset.path), "--out", str(out), *QUICK]) == 0
    shown = capsys.readouterr()
    assert "index of words" in shown.out
    assert "{" not in shown.out, "figures have rows of their own"
    assert "best dev RR@10" in shown.out
    assert f"dsi search {out}" in shown.out
    assert f"dsi evaluate {out} {dataset.path} --split test" in shown.out
    assert "training" in shown.err, "the bar is on standard error"


def test_json_is_one_object_on_standard_output(dataset, tmp_path, capsys):
    out = tmp_path / "index"
    words = ["train", str(dataset.path), "--out", str(out), *QUICK, "--json"]
    assert main(words) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["index"] == str(out)
    assert data["documents"] == len(WORDS)
    assert main(words) == 0, "again: nothing to do"
    assert json.loads(capsys.readouterr().out) == data


def test_a_yaml_file_gives_values_that_words_override(dataset, tmp_path):
    config = tmp_path / "train.yaml"
    config.write_text(
        f"dataset: {dataset.path}\n"
        f"out: {tmp_path / 'index'}\n"
        "docids: semantic\n"
        "per_doc: 3\n"
        "semantic:\n  branching: 3\n  leaf_capacity: 2\n"
        "mix: {indexing: 0.25}\n"
        "optimizer:\n  lr: 0.002\n"
        "loop: {steps: 9, batch: 8, precision: fp32}\n"
    )
    assert main(["train", "--config", str(config), "--loop.steps", "2"]) == 0
    manifest = versions.Manifest.load(versions.folder(tmp_path / "index", "0001"))
    options = manifest.configuration["options"]
    assert options["docids"] == "semantic"
    assert options["semantic"]["branching"] == 3
    assert options["mix"]["indexing"] == 0.25
    assert options["optimizer"]["lr"] == 0.002
    assert options["loop"]["steps"] == 2


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--docids", "molecular"], "--docids 'molecular'"),
        (["--generator", "gpt"], "--generator 'gpt'"),
        (["--per_doc", "0"], "--per_doc 0 is less than 1"),
        (["--seed", "-1"], "--seed -1"),
        (["--seed", "one"], "--seed"),
        (["--model.size", "huge"], "--model.size"),
        (["--model.dropout", "1.5"], "--model.dropout"),
        (["--model.warm_start", "hot"], "--model.warm_start"),
        (["--model.pretrained", "no/such-model"], "no/such-model"),
        (["--model.pretrained", "x", "--model.warm_start", "spectral"], "--model.pretrained"),
        (["--vocabulary.size", "2"], "--vocabulary.size"),
        (["--vocabulary.pieces", "letters"], "--vocabulary.pieces"),
        (["--vocabulary.language", "klingon"], "language 'klingon'"),
        (["--mix.pseudo", "-1"], "--mix.pseudo"),
        (["--mix.pseudo", "nan"], "--mix.pseudo"),
        (["--mix.pseudo", "0", "--mix.labeled", "0"], "--mix.labeled"),
        (["--mix.query_length", "0"], "--mix.query_length"),
        (["--mix.negatives", "few"], "--mix.negatives"),
        (["--optimizer.name", "sgd"], "--optimizer.name"),
        (["--optimizer.lr", "0"], "--optimizer.lr"),
        (["--optimizer.lr", "fast"], "--optimizer.lr"),
        (["--optimizer.schedule", "steep"], "--optimizer.schedule"),
        (["--loop.steps", "-1"], "--loop.steps"),
        (["--loop.steps", "1.5"], "--loop.steps"),
        (["--loop.batch", "0"], "--loop.batch"),
        (["--loop.batch", "8", "--loop.tokens", "64"], "--loop.tokens"),
        (["--loop.accumulation", "9", "--loop.batch", "8"], "--loop.accumulation"),
        (["--loop.precision", "fp8"], "--loop.precision"),
        (["--loop.label_smoothing", "1"], "--loop.label_smoothing"),
        (
            ["--semantic.branching", "1", "--docids", "semantic"],
            "--semantic.branching 1 is less than 2",
        ),
        (["--docids_folder", "nowhere"], "nowhere"),
        (["--semantic.codes", "node"], "--semantic.* has no effect with --docids atomic"),
        (["--docids", "rq", "--pq.levels", "3"], "--pq.* has no effect with --docids rq"),
        (["--embedding.model", "m"], "--embedding.* has no effect with --docids atomic"),
        (["--docids", "title", "--embedding.dimensions", "4"], "--embedding.* has no effect"),
        (["--rehearsal.passages", "1"], "--rehearsal.* has no effect"),
        (
            ["--lora.rank", "1000000000"],
            "--lora.rank 1000000000 is not at least 0 and at most 16384",
        ),
        (["--seed", "100000000000000000000"], "--seed 100000000000000000000 is not at least 0"),
        (["--model.pretrained", ""], "--model.pretrained is empty"),
        (["--objectives.rank.margin", "2"], "while --objectives.rank.weight is 0.0"),
        (["--steps", "5"], "--loop.steps"),
        (["--optimzer.lr", "1"], "--optimzer.lr"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_value_is_told_in_one_line(words, named, dataset, tmp_path, capsys):
    out = tmp_path / "index"
    assert main(["train", str(dataset.path), "--out", str(out), *words]) == 2
    shown = capsys.readouterr()
    assert not shown.out
    lines = [line for line in shown.err.splitlines() if "it/s]" not in line]
    assert len(lines) == 1, shown.err
    assert lines[0].startswith("dsi: ")
    assert named in lines[0]
    assert not (out / "live").exists()


def test_options_of_identifiers_that_exist_already_are_refused(dataset, tmp_path, capsys):
    folder = tmp_path / "docids"
    assert main(["docids", str(dataset.path), "--kind", "semantic", "--out", str(folder)]) == 0
    train = ["train", str(dataset.path), "--out", str(tmp_path / "index"), *QUICK]
    train += ["--docids", str(folder)]
    for words, told in (
        (["--docids", str(folder / "table")], f"--docids '{folder / 'table'}' is unknown"),
        (["--semantic.branching", "3"], f"--semantic.* has no effect with --docids {folder}"),
    ):
        capsys.readouterr()
        assert main([*train, *words]) == 2
        assert told in capsys.readouterr().err
    assert not (tmp_path / "index").exists()
    assert main(train) == 0
    manifest = Manifest.load(tmp_path / "index" / "versions" / "0001")
    assert manifest.configuration["options"]["docids"] == "semantic"
    assert manifest.configuration["given_docids"]["kind"] == "semantic"
    former = ["--docids_folder" if word == "--docids" else word for word in train]
    capsys.readouterr()
    assert main(former) == 0
    assert "already trained, nothing to do" in capsys.readouterr().out
    (tmp_path / "former.yaml").write_text(f"docids_folder: {folder}\n")
    assert main([*train[:-2], "--config", str(tmp_path / "former.yaml")]) == 0


def test_a_dataset_that_is_none_is_told(tmp_path, capsys):
    assert main(["train", str(tmp_path / "none"), "--out", str(tmp_path / "index")]) == 2
    assert "none: no such file or folder. Give one of:" in capsys.readouterr().err
    assert not (tmp_path / "index").exists()
    assert main(["train", str(tmp_path)]) == 2
    assert "--out is missing" in capsys.readouterr().err


def test_what_to_do_next_follows_from_the_queries_there_are(dataset, tmp_path, capsys):
    plain = write_dataset(tmp_path / "plain", InMemorySource(list(dataset.documents())))
    for data, told in (
        (dataset, f"to evaluate it: dsi evaluate {tmp_path / 'a'} {dataset.path} --split test"),
        (plain, "to evaluate it: prepare the documents with judged queries (dsi prepare SOURCE"),
    ):
        out = tmp_path / ("a" if data is dataset else "b")
        assert main(["train", str(data.path), "--out", str(out), *QUICK]) == 0
        assert told in capsys.readouterr().out


def test_an_index_of_other_options_is_told(dataset, tmp_path, capsys):
    words = ["train", str(dataset.path), "--out", str(tmp_path / "index"), *QUICK]
    assert main(words) == 0
    assert main([*words, "--seed", "1"]) == 2
    assert (
        "this folder has an index of other options (--seed 0 there, 1 here)"
        in capsys.readouterr().err
    )
    words[1] = str(write_dataset(tmp_path / "b", InMemorySource([Document("1", "", "b c")])).path)
    assert main(words) == 2
    assert "an index of another dataset (" in capsys.readouterr().err


def test_quiet_shows_no_bar(dataset, tmp_path):
    words = ["train", str(dataset.path), "--out", str(tmp_path / "index"), *QUICK, "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "dsi", *words], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""


def test_help_names_every_group(capsys):
    assert main(["train", "--help"]) == 0
    shown = capsys.readouterr().out
    for group in (
        "model.size",
        "vocabulary.language",
        "mix.indexing",
        "optimizer.lr",
        "loop.steps",
    ):
        assert f"--{group}" in shown


def test_wrong_options_from_python_are_input_errors():
    with pytest.raises(InputError, match="--docids 'x'"):
        TrainingOptions(docids="x")
