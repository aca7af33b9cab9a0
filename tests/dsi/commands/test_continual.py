"""`dsi split` and `dsi continual` from the command line: parsing of arguments."""

from __future__ import annotations

import json

import pytest

from data_prep.dataset import Document, InMemorySource
from data_prep.dataset_writer import write_dataset
from data_prep.errors import InputError
from dsi.cli import main
from dsi.command_line.arguments import Arguments
from dsi.commands.continual import continual
from dsi.continual import protocol
from dsi.continual.increments import open_split
from dsi.continual.protocol import ContinualOptions
from dsi.data.options import MixOptions
from dsi.indexing.options import TrainingOptions
from dsi.training.options import LoopOptions
from dsi.updating.options import UpdateOptions


@pytest.fixture
def split(tmp_path):
    """A dataset split by the command: D0 and two increments."""
    documents = [Document(f"d{number}", "", f"Text of number {number}.") for number in range(12)]
    write_dataset(tmp_path / "dataset", InMemorySource(documents, name="numbers"))
    words = ["--increments", "2", "--fraction", "0.5", "--quiet"]
    assert main(["split", str(tmp_path / "dataset"), "--out", str(tmp_path / "split"), *words]) == 0
    return tmp_path / "split"


def test_split_writes_d0_and_increments(split):
    assert [len(corpus.doc_ids) for corpus in open_split(split)] == [6, 3, 3]


def test_split_reads_the_former_name_of_its_fraction(split, tmp_path):
    words = [str(tmp_path / "dataset"), "--increments", "2", "--quiet"]
    assert main(["split", *words, "--share", "0.75", "--out", str(tmp_path / "other")]) == 0
    assert [len(corpus.doc_ids) for corpus in open_split(tmp_path / "other")] == [9, 1, 2]
    settings = json.loads((split / "split.json").read_text())
    settings["share"] = settings.pop("fraction")
    (split / "split.json").write_text(json.dumps(settings))
    (split / "d1" / "result").touch()
    assert main(["split", *words, "--fraction", "0.5", "--out", str(split)]) == 0
    assert (split / "d1" / "result").exists()


@pytest.fixture
def asked(monkeypatch):
    """Keeps the options that reach the protocol, and goes no further."""
    kept: list[ContinualOptions] = []

    def run(split, out, options):
        kept.append(options)
        raise InputError("far enough")

    monkeypatch.setattr(protocol, "run_continual", run)
    return kept


def test_every_word_reaches_the_option_that_it_names(split, asked, tmp_path):
    words = {
        "--strategies": "generative@ratio=32, retrain",
        "--seeds": "2",
        "--interval": "5",
        "--curve_queries": "7",
        "--beams": "4",
        "--docids": "rq",
        "--generator": "extractive",
        "--per_doc": "3",
        "--mix.pseudo": "0.5",
        "--loop.steps": "9",
        "--update_steps": "8",
        "--update_lr": "0.01",
        "--ratio": "1.5",
        "--new_fraction": "0.25",
    }
    line = [word for pair in words.items() for word in pair]
    assert main(["continual", str(split), "--out", str(tmp_path / "out"), "--quiet", *line]) == 2
    assert asked == [
        ContinualOptions(
            strategies=("generative@ratio=32", "retrain"),
            seeds=2,
            interval=5,
            curve_queries=7,
            beams=4,
            train=TrainingOptions(
                docids="rq",
                generator="extractive",
                per_doc=3,
                mix=MixOptions(pseudo=0.5),
                loop=LoopOptions(steps=9),
            ),
            update=UpdateOptions(steps=8, lr=0.01, ratio=1.5, new_fraction=0.25),
        )
    ]


def test_without_words_everything_is_as_train_and_update_have_it(split, asked, tmp_path):
    assert main(["continual", str(split), "--out", str(tmp_path / "out"), "--quiet"]) == 2
    strategies = ("append", "instant", "finetune", "generative+ewc", "retrain")
    assert asked == [ContinualOptions(strategies=strategies)]


@pytest.mark.parametrize(
    ("words", "seeds"),
    [
        (["--seeds", "3"], [0, 1, 2]),
        (["--seeds", "1,2"], [1, 2]),
        (["--seeds", "[7]"], [7]),
        ("seeds: 2", [0, 1]),
        ("seeds: [4, 2]", [4, 2]),
    ],
)
def test_seeds_are_a_number_of_seeds_or_a_list_of_them(split, asked, tmp_path, words, seeds):
    if isinstance(words, str):
        (tmp_path / "seeds.yaml").write_text(words)
        words = ["--config", str(tmp_path / "seeds.yaml")]
    assert main(["continual", str(split), "--out", str(tmp_path / "out"), "--quiet", *words]) == 2
    assert [options.each_seed for options in asked] == [seeds]


@pytest.mark.parametrize("seeds", ["0", "-1", "1,1", "1,-2", "1,x", "[]", "one", "1.5"])
def test_wrong_seeds_are_refused_in_one_line(split, asked, tmp_path, capsys, seeds):
    words = ["continual", str(split), "--out", str(tmp_path / "out"), f"--seeds={seeds}"]
    assert main(words) == 2
    assert not asked
    assert "seeds" in capsys.readouterr().err


def test_options_of_updates_may_come_with_the_default_strategies(split, asked, tmp_path):
    words = ["--out", str(tmp_path / "out"), "--update_steps", "8", "--ratio", "2", "--quiet"]
    assert main(["continual", str(split), *words]) == 2
    assert [options.update.steps for options in asked] == [8]


def test_split_warns_of_parts_without_test_queries(split, tmp_path, capsys):
    words = ["--increments", "2", "--out", str(tmp_path / "other")]
    assert main(["split", str(tmp_path / "dataset"), *words]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "WARNING: no test queries in d0, d1, d2" in printed


def test_the_words_that_are_offered_besides_groups():
    assert [name for name in Arguments("continual", continual).hints if "." not in name] == [
        "split",
        "out",
        "strategies",
        "report",
        "seeds",
        "interval",
        "curve_queries",
        "beams",
        "docids",
        "generator",
        "per_doc",
        "update_steps",
        "update_lr",
        "ratio",
        "new_fraction",
    ]
