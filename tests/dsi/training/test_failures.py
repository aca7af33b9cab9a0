"""Failures of a step are reported as one-line errors that say what to change."""

from __future__ import annotations

from pathlib import Path

import pytest
import small
import torch

from data_prep.errors import InputError
from dsi.indexing.build import train_index
from dsi.training import loop
from dsi.training.checkpoints import steps_saved
from dsi.training.failures import LostProcessError, translate_errors


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    ],
)
def test_too_little_memory_is_told_with_what_to_change(error):
    with pytest.raises(InputError) as told, translate_errors(Path("run"), 7):
        raise error
    assert "run: out of memory in step 7" in str(told.value)
    assert "--loop.accumulation" in str(told.value)


@pytest.mark.parametrize(
    "text",
    [
        "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer",
        "Gloo connectFullMesh failed: Connection reset by peer",
    ],
)
def test_a_lost_process_is_told_with_how_to_go_on(text):
    again = pytest.raises(LostProcessError, match="run the same command again")
    with again, translate_errors(Path("run"), 7):
        raise RuntimeError(text)


def test_any_other_error_is_left_as_it_is():
    with pytest.raises(RuntimeError, match="shape mismatch"), translate_errors(Path("run"), 7):
        raise RuntimeError("shape mismatch")


def test_memory_that_runs_out_spares_the_last_checkpoint(dataset, tmp_path, monkeypatch):
    whole = loop.backward_step

    def short(*words, step, **options):
        if step == 5:
            raise torch.OutOfMemoryError("out of memory")
        return whole(*words, step=step, **options)

    options = small.options(loop__checkpoint_every=2)
    train_index(dataset, tmp_path / "alone", options)
    monkeypatch.setattr(loop, "backward_step", short)
    with pytest.raises(InputError, match="out of memory in step 6"):
        train_index(dataset, tmp_path / "index", options)
    assert steps_saved(tmp_path / "index" / "training" / "checkpoints") == [4]
    monkeypatch.undo()
    train_index(dataset, tmp_path / "index", options)
    assert small.digest(tmp_path / "index") == small.digest(tmp_path / "alone")


def test_a_first_step_that_cannot_fit_is_refused(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "available", lambda device: 1000)
    with pytest.raises(InputError, match="a training step needs about"):
        train_index(dataset, tmp_path / "index", small.options(loop__steps=1))
    unchecked = small.options(loop__steps=1, loop__check_memory=False)
    train_index(dataset, tmp_path / "unchecked", unchecked)
