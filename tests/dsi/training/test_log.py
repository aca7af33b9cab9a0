"""Logs of a run: TensorBoard, Weights & Biases, plots."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import types
import xml.etree.ElementTree
from pathlib import Path

import pytest
import small
from small import StopError, interrupt

from data_prep.errors import InputError
from dsi.commands.info import info
from dsi.indexing.build import train_index
from dsi.training import log as logs
from dsi.training import trackers
from dsi.training.curves import draw_curves, read_scalars
from dsi.training.log import Log


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "index"
    train_index(dataset, out, small.options(loop__evaluate_every=2, loop__evaluate_documents=20))
    return out


def test_every_step_and_term_is_in_the_tensorboard_files(trained):
    scalars = read_scalars(trained / "versions/0001/log/tensorboard")
    for name in ("loss", "loss/cross_entropy", "lr", "tokens_per_second"):
        assert scalars[f"training/{name}"][0] == list(range(1, 9)), name
    assert scalars["training/loss"][1] == scalars["training/loss/cross_entropy"][1]
    for name in ("RR@10", "documents Success@1", "never forgotten"):
        assert scalars[f"dev/{name}"][0] == [0, 2, 4, 6, 8]
    assert scalars["dev/loss"][0] == [2, 4, 6, 8]


def test_steps_that_are_made_again_are_drawn_once(dataset, tmp_path, monkeypatch):
    wanted = small.options(loop__checkpoint_every=2)
    with monkeypatch.context() as patch:
        interrupt(patch, 5)
        with pytest.raises(StopError):
            train_index(dataset, tmp_path / "index", wanted)
    train_index(dataset, tmp_path / "index", wanted)
    scalars = read_scalars(tmp_path / "index/versions/0001/log/tensorboard")
    assert scalars["training/loss"][0] == list(range(1, 9))


@pytest.fixture
def wandb(monkeypatch):
    """Stands in for the package: keeps what it is told."""
    told: list = []
    run = types.SimpleNamespace(
        log=lambda values, step: told.append((step, values)), finish=lambda: told.append("end")
    )
    module = types.ModuleType("wandb")
    module.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
    module.init = lambda **settings: (told.append(settings), run)[1]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    return told


def test_weights_and_biases_is_told_what_tensorboard_is(wandb, tmp_path):
    (tmp_path / "training.json").write_text('{"seed": 3}')
    for start in (0, 2):
        log = Log(tmp_path, start, active=True, track="wandb:project")
        log.step(start + 1, loss=1.5)
        log.evaluation(start + 1, {"RR@10": 0.25})
        log.close()
    first, *rest = wandb
    assert (first["project"], first["resume"], first["config"]) == ("project", "allow", {"seed": 3})
    assert rest[:3] == [(1, {"training/loss": 1.5}), (1, {"dev/RR@10": 0.25}), "end"]
    assert rest[3]["id"] == first["id"], "a run that continues is the same run"
    Log(tmp_path, 0, active=False, track="wandb:project").close()
    assert len(wandb) == 8, "another process tells nothing"


def test_what_weights_and_biases_writes_offline_is_kept(wandb, dataset, tmp_path, monkeypatch):
    def init(**settings):
        run = Path(settings["dir"]) / "wandb" / "offline-run-1"
        run.mkdir(parents=True)
        (run / "run.wandb").write_text("data")
        (run.parent / "latest-run").symlink_to(run)
        return types.SimpleNamespace(log=lambda values, step: None, finish=lambda: None)

    monkeypatch.setattr(sys.modules["wandb"], "init", init)
    train_index(dataset, tmp_path / "index", small.options(loop__steps=1, loop__track="wandb:p"))
    kept = tmp_path / "index/versions/0001/log/wandb"
    assert [str(f.relative_to(kept)) for f in kept.rglob("*.wandb")] == ["offline-run-1/run.wandb"]
    assert not (kept / "latest-run").exists()


def test_without_its_package_weights_and_biases_is_refused_before_work(monkeypatch):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    told = r"--loop\.track 'wandb:p' requires the package wandb.*\[wandb\]"
    with pytest.raises(InputError, match=told):
        small.options(loop__track="wandb:p")


def test_rows_after_the_checkpoint_are_dropped(tmp_path):
    rows = [{"step": step, "RR@10": step / 10} for step in (2, 4, 6)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "evaluations.jsonl").write_text(text + '{"step": 8, "RR')
    assert logs.read_evaluations(tmp_path) == rows
    Log(tmp_path, 4, active=True).close()
    assert logs.read_evaluations(tmp_path) == rows[:2]


def test_info_draws_the_curves_as_a_page_and_as_a_figure(trained, tmp_path):
    for file in (tmp_path / "curves.html", tmp_path / "curves.svg"):
        info(trained, curves=file)
        drawn = file.read_text("utf-8")
        for panel in ("loss", "learning rate", "speed", "dev queries", "documents"):
            assert f'class="title" x="72" y="18">{panel}<' in drawn
        for label in ("optimizer step", "tokens per second", "fraction of documents"):
            assert f">{label}<" in drawn, "axes have labels"
        assert "Hits@10" in drawn
        assert not re.search(r"NaN|inf|(src|href)=", drawn)
    assert "var(" not in drawn, "programs other than browsers know no variables of CSS"
    assert xml.etree.ElementTree.fromstring(drawn).tag.endswith("svg")


def test_info_draws_the_versions_that_were_trained_one_after_another(trained, tmp_path):
    from dsi.index_folder import versions

    index = Path(shutil.copytree(trained, tmp_path / "index"))
    for name in ("0002", "0003"):
        shutil.copytree(versions.folder(index, "0001"), versions.folder(index, name))
    log = versions.folder(index, "0002") / "log"
    shutil.rmtree(log / "tensorboard")
    (log / "evaluations.jsonl").write_text('{"step": 0, "RR@10": 0.5}\n')
    info(index, curves=tmp_path / "c.html", curves_of="all")
    page = (tmp_path / "c.html").read_text("utf-8")
    assert re.findall("<h2>([^<]+)</h2>", page) == ["version 0001", "version 0003"]
    assert "version 0001 took 8 steps, with a loss of" in page
    with pytest.raises(InputError, match="no training curves"):
        info(index, curves=tmp_path / "c.html", curves_of="0002")
    with pytest.raises(InputError, match=r"no version '9999'.*Choose from: all, 0001"):
        info(trained, curves=tmp_path / "c.svg", curves_of="9999")
    with pytest.raises(InputError, match="curves_of has no effect without"):
        info(trained, curves_of="all")


def test_curves_that_cannot_be_drawn_are_told(trained, tmp_path, monkeypatch):
    log = {"version 0001": trained / "versions/0001/log"}
    for file in (tmp_path / "missing" / "curves.svg", tmp_path / "curves.png", tmp_path):
        with pytest.raises(InputError, match=r": cannot write curves to this type of file.*\.svg"):
            draw_curves(log, file, "title")
        assert not file.is_file()
    (tmp_path / "curves.svg").write_text("of yesterday")
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", _full)
        with pytest.raises(OSError, match="disk"):
            draw_curves(log, tmp_path / "curves.svg", "title")
    assert (tmp_path / "curves.svg").read_text() == "of yesterday"
    with pytest.raises(InputError, match="no training curves"):
        draw_curves({"version 0001": tmp_path}, tmp_path / "curves.svg", "title")


def _full(*_, **__) -> None:
    raise OSError("the disk is full")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("mlflow:p", "is not a tracker"),
        ("wandb", "is not a tracker"),
        ("trackio:", "is not a tracker"),
        ("p", "wandb:PROJECT or trackio:PROJECT"),
        ("wandb:p,wandb:q", "appears twice"),
    ],
)
def test_trackers_that_make_no_sense_are_refused(text, told):
    with pytest.raises(InputError, match=told):
        trackers.parse_track(text)


def test_several_trackers_are_told(wandb, tmp_path, monkeypatch):
    other: list = []
    run = types.SimpleNamespace(log=lambda values, step: other.append(step), finish=list)
    monkeypatch.setattr(trackers, "TRACKERS", {**trackers.TRACKERS, "trackio": lambda *_: run})
    monkeypatch.setattr(trackers, "check_trackers", trackers.parse_track)
    log = Log(tmp_path, 0, active=True, track="wandb:p, trackio:q")
    log.step(1, loss=1.5)
    log.close()
    assert other == [1]
    assert wandb[1:] == [(1, {"training/loss": 1.5}), "end"]


def test_trackio_keeps_a_run_and_goes_on_with_it(tmp_path):
    pytest.importorskip("trackio")
    script = """
import sys
from pathlib import Path
from dsi.training.log import Log

for start in (0, 2):
    log = Log(Path(sys.argv[1]), start, active=True, track="trackio:test")
    log.step(start + 1, loss=1.5)
    log.evaluation(start + 1, {"RR@10": 0.25})
    log.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env={**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "", "what trackio prints goes to standard error"
    [file] = (tmp_path / "trackio").glob("*.db")
    with sqlite3.connect(file) as database:
        rows = database.execute("SELECT DISTINCT run_name, step FROM metrics").fetchall()
    assert [step for _, step in sorted(rows)] == [1, 3]
    assert len({run for run, _ in rows}) == 1


def test_a_tracker_that_does_not_start_is_told_in_one_line(wandb, tmp_path, monkeypatch):
    def unreachable(*_):
        raise RuntimeError("the network\nis unreachable")

    monkeypatch.setattr(trackers, "TRACKERS", {"wandb": unreachable})
    with pytest.raises(InputError, match=r"wandb does not start .the network is unreachable"):
        trackers.start_trackers("wandb:mine", tmp_path)


def test_a_tracker_that_fails_later_is_noted_once_and_gets_no_more(
    wandb, tmp_path, monkeypatch, capsys
):
    class Lost:
        def log(self, metrics, step=None):
            raise ConnectionError("lost\nthe connection")

        def finish(self):
            raise AssertionError("it failed before")

    monkeypatch.setattr(trackers, "TRACKERS", {"wandb": lambda *_: Lost()})
    [run] = trackers.start_trackers("wandb:mine", tmp_path)
    run.log({"loss": 1.0}, step=1)
    run.log({"loss": 1.0}, step=2)
    run.finish()
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("dsi: wandb failed and gets no more values (lost the connection)")
