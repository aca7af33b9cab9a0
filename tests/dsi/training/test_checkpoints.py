"""Checkpoints: exact, and whole or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from data_prep.errors import InputError
from dsi.backbones.backbone import from_scratch
from dsi.training.checkpoints import load_checkpoint, save_checkpoint, steps_saved
from dsi.training.optimization.learning_rate_schedule import set_learning_rate
from dsi.training.optimization.optimizers import make_optimizer
from dsi.training.options import OptimizerOptions


class Trainee:
    """A tiny model with its optimizer, and steps whose gradients depend on their number."""

    def __init__(self, name: str, seed: int) -> None:
        self.model = from_scratch(
            "tiny", text_vocabulary=11, alphabet_size=7, dropout=0.0, seed=seed
        )
        self.optimizer = make_optimizer(self.model, OptimizerOptions(name=name))

    def step(self, number: int) -> None:
        set_learning_rate(self.optimizer, 1e-2)
        ids = torch.tensor([[number % 11, 4, 5]])
        logits = self.model(input_ids=ids, decoder_input_ids=torch.tensor([[0, number % 7]])).logits
        logits.square().sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def same_as(self, other: Trainee) -> bool:
        ours, theirs = self.model.state_dict(), other.model.state_dict()
        return all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
def test_a_restored_run_goes_on_exactly(name, tmp_path):
    alone, first, second = Trainee(name, 0), Trainee(name, 0), Trainee(name, 1)
    for number in range(3):
        alone.step(number)
        first.step(number)
    save_checkpoint(
        tmp_path, 3, first.model, first.optimizer.state_dict()["state"], {"best": {"RR@10": 0.1}}
    )
    step, progress = load_checkpoint(tmp_path, second.model, second.optimizer)
    assert (step, progress) == (3, {"best": {"RR@10": 0.1}})
    assert second.same_as(first)
    ours, theirs = (each.optimizer.state_dict()["state"] for each in (first, second))
    assert ours.keys() == theirs.keys()
    for number, entries in ours.items():
        for key, value in entries.items():
            assert torch.equal(value, theirs[number][key])
            assert value.dtype == theirs[number][key].dtype
    for number in range(3, 6):
        alone.step(number)
        second.step(number)
    assert second.same_as(alone)


def test_no_checkpoint_changes_nothing(tmp_path):
    trainee, same = Trainee("adamw", 0), Trainee("adamw", 0)
    assert load_checkpoint(tmp_path / "none", trainee.model, trainee.optimizer) == (0, {})
    assert trainee.same_as(same)


def test_the_newest_is_kept_and_older_ones_are_removed(tmp_path):
    trainee = Trainee("adamw", 0)
    for number in (1, 2, 12):
        trainee.step(number)
        save_checkpoint(
            tmp_path, number, trainee.model, trainee.optimizer.state_dict()["state"], {}
        )
        assert steps_saved(tmp_path) == [number]
    assert [entry.name for entry in tmp_path.iterdir()] == ["00000012"]


def test_what_was_left_half_written_is_not_taken_for_a_checkpoint(tmp_path):
    trainee = Trainee("adamw", 0)
    trainee.step(0)
    save_checkpoint(tmp_path, 1, trainee.model, trainee.optimizer.state_dict()["state"], {})
    (tmp_path / ".00000002.new-abc").mkdir()
    (tmp_path / ".00000002.new-abc" / "state.json").write_text("{}")
    (tmp_path / "00000003").mkdir()
    (tmp_path / "²").mkdir()
    (tmp_path / "²" / "state.json").write_text("{}")
    assert steps_saved(tmp_path) == [1]
    assert load_checkpoint(tmp_path, trainee.model, trainee.optimizer)[0] == 1


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("model.safetensors", cut),
        ("model.safetensors", Path.unlink),
        ("model.safetensors", lambda file: file.write_bytes(b"")),
        ("optimizer.safetensors", cut),
        ("optimizer.safetensors", Path.unlink),
        ("optimizer.safetensors", lambda file: file.write_bytes(b"x" * 100)),
        ("state.json", lambda file: file.write_text('{"step": 1')),
        ("state.json", lambda file: file.write_text("[]")),
        ("state.json", lambda file: file.write_text("{}")),
        ("state.json", lambda file: file.write_text(json.dumps({"step": None, "progress": {}}))),
    ],
)
def test_a_damaged_checkpoint_is_named(file, damage, tmp_path):
    trainee = Trainee("adamw", 0)
    trainee.step(0)
    save_checkpoint(tmp_path, 1, trainee.model, trainee.optimizer.state_dict()["state"], {})
    damage(tmp_path / "00000001" / file)
    with pytest.raises(InputError) as refused:
        load_checkpoint(tmp_path, trainee.model, trainee.optimizer)
    assert "00000001" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    trainee = Trainee("adamw", 0)
    trainee.step(0)
    save_checkpoint(tmp_path, 1, trainee.model, trainee.optimizer.state_dict()["state"], {})
    other = from_scratch("tiny", text_vocabulary=12, alphabet_size=7)
    with pytest.raises(InputError, match="00000001"):
        load_checkpoint(tmp_path, other, make_optimizer(other, OptimizerOptions()))
