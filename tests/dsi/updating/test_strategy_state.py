"""States that strategies store with a version: read back, inherited, found in the old folder."""

import pytest
import torch
from safetensors.torch import save_file

from data_prep.errors import InputError
from dsi.updating.strategy_state import FOLDER, read_strategy_state, write_strategy_state


def test_states_come_back_and_are_inherited_unless_replaced(tmp_path):
    first, second = tmp_path / "1", tmp_path / "2"
    first.mkdir()
    second.mkdir()
    write_strategy_state(first, {"a": {"x": torch.ones(2)}, "b": {"x": torch.ones(3)}}, None)
    write_strategy_state(second, {"b": {"y": torch.zeros(1)}}, first)
    assert read_strategy_state(second, "a")["x"].tolist() == [1, 1]
    assert {name: t.tolist() for name, t in read_strategy_state(second, "b").items()} == {"y": [0]}
    assert read_strategy_state(second, "c") == {}


def test_the_folder_of_an_earlier_version_is_read_and_carried_over(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    (old / "kept").mkdir(parents=True)
    new.mkdir()
    save_file({"marks": torch.ones(2)}, old / "kept" / "reglora.safetensors")
    assert read_strategy_state(old, "reglora")["marks"].tolist() == [1, 1]
    write_strategy_state(new, {}, old)
    assert (new / FOLDER / "reglora.safetensors").is_file()
    assert read_strategy_state(new, "reglora")["marks"].tolist() == [1, 1]


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "reglora.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InputError, match=r"reglora\.safetensors: cannot read the state"):
        read_strategy_state(tmp_path, "reglora")
