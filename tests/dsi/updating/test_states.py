"""The shortcut to the states of a latent model gives the same result as the full computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from data_prep.errors import InputError
from dsi import Index
from dsi.rows import states
from dsi.updating.strategy_state import FOLDER, read_strategy_state, write_strategy_state


def test_sums_over_tokens_equal_the_network(trained, corpora, monkeypatch):
    opened = Index.open(trained("atomic"), "cpu")
    model = opened.model
    assert states.is_latent(model)
    texts = opened.text.encode([each.text for each in corpora["full"].documents()], 64)
    short = states.last_states(model, texts, [()] * len(texts))
    monkeypatch.setattr(states, "is_latent", lambda model: False)
    np.testing.assert_allclose(
        states.last_states(model, texts, [()] * len(texts)), short, atol=1e-4
    )


def test_a_trained_backbone_is_not_taken_for_a_latent_model(trained):
    import torch

    model = Index.open(trained("atomic"), "cpu").model
    with torch.no_grad():
        model.decoder.block[0].layer[1].EncDecAttention.v.weight[3, 4] += 0.1
    assert not states.is_latent(model)


def test_after_a_prefix_the_state_is_that_of_the_next_place(trained):
    import torch

    opened = Index.open(trained("semantic"), "cpu")
    sequence = opened.table.sequence(5)
    text = opened.text.encode(["harbour whale"], 8)
    found = states.last_states(opened.model, text, [sequence[:-1]])
    with torch.inference_mode():
        outputs = opened.model(
            input_ids=torch.tensor(text),
            decoder_input_ids=torch.tensor([[0, *sequence[:-1]]]),
            output_hidden_states=True,
        )
    expected = outputs.decoder_hidden_states[-1][0, -1].numpy()
    np.testing.assert_allclose(found[0], expected, atol=1e-4)


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
