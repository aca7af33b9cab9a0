"""Gradients of one example after another, and the mode that a model is left in."""

import pytest
import torch
from torch import nn

import dsi.updating.strategies  # noqa: F401  (imports the module below, which imports its base)
from dsi.updating.regularization import per_sample_gradients as module


class Scored(nn.Module):
    """log p = weight * example; an unused weight besides."""

    def __init__(self):
        super().__init__()
        self.used = nn.Parameter(torch.tensor(2.0))
        self.unused = nn.Parameter(torch.ones(3))


@pytest.fixture
def model(monkeypatch):
    def log_probability(model, batch, targets):
        assert not model.training
        return model.used * batch[0]

    monkeypatch.setattr(module, "log_probability", log_probability)
    return Scored().train()


def test_each_example_has_its_own_gradient_and_the_mode_comes_back(model):
    weights = dict(model.named_parameters())
    found = list(module.per_sample_gradients(model, weights, [[3.0], [5.0]], None))
    assert [float(each["used"]) for each in found] == [3, 5]
    assert all(each["unused"].tolist() == [0, 0, 0] for each in found)
    assert model.training


def test_the_mode_comes_back_after_an_error(model):
    with pytest.raises(ValueError, match="a batch of 2 examples"):
        list(module.per_sample_gradients(model, dict(model.named_parameters()), [[1, 2]], None))
    assert model.training
