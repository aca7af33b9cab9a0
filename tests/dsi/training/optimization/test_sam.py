"""SAM by hand on a quadratic, against the papers' formulas in Python, and exact restoration."""

from __future__ import annotations

import copy
import math

import pytest
import small
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import InputError
from dsi.backbones.backbone import from_scratch
from dsi.indexing.build import train_index
from dsi.training.optimization.sam import SAM, Perturbation, WholeWeights, weights_to_perturb
from dsi.training.options import SamOptions


def parameter(*values: float) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.tensor(values))


def perturbed(weights, rho, adaptive=False):
    """Returns the perturbed values, inside, of weights that have gradients."""
    with Perturbation(WholeWeights(weights), rho=rho, adaptive=adaptive).applied():
        return [weight.detach().clone() for weight in weights]


def test_a_step_on_a_quadratic_by_hand():
    # L = w1^2 + 2 w2^2 at (3, 1): g = (6, 4). rho chosen so that rho / ||g|| = 1/2: e = (3, 2).
    # There, at (6, 3), g = (12, 12); plain descent at rate 0.1 ends at (3, 1) - (1.2, 1.2).
    weight = parameter(3.0, 1.0)
    optimizer = SAM(torch.optim.SGD([weight], lr=0.1), rho=math.sqrt(52) / 2)

    def closure():
        loss = (weight.square() * torch.tensor([1.0, 2.0])).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == pytest.approx(11.0)
    torch.testing.assert_close(weight.data, torch.tensor([1.8, -0.2]))


def test_an_adaptive_step_on_a_quadratic_by_hand():
    # Same loss and place: |w| g = (18, 4), norm sqrt(340); w^2 g = (54, 4). With
    # rho = sqrt(340) / 2, e = (27, 2): at (30, 3) g = (60, 12).
    weight = parameter(3.0, 1.0)
    optimizer = SAM(torch.optim.SGD([weight], lr=0.01), rho=math.sqrt(340) / 2, adaptive=True)

    def closure():
        loss = (weight.square() * torch.tensor([1.0, 2.0])).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    torch.testing.assert_close(weight.data, torch.tensor([2.4, 0.88]))


numbers = st.floats(-3, 3, width=32).filter(lambda value: value == 0 or abs(value) > 1e-3)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=4), min_size=1, max_size=3),
    st.floats(0.01, 2),
    st.booleans(),
)
def test_the_perturbation_is_the_papers(tensors, rho, adaptive):
    weights = []
    for pairs in tensors:
        weights.append(parameter(*(w for w, _ in pairs)))
        weights[-1].grad = torch.tensor([g for _, g in pairs])
    flat = [pair for pairs in tensors for pair in pairs]
    if adaptive:
        norm = math.sqrt(sum((abs(w) * g) ** 2 for w, g in flat))
        expected = [w + (rho * w * w * g / norm if norm else 0.0) for w, g in flat]
    else:
        norm = math.sqrt(sum(g * g for _, g in flat))
        expected = [w + (rho * g / norm if norm else 0.0) for w, g in flat]
    found = torch.cat(perturbed(weights, rho, adaptive)).tolist()
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_bit_is_back_afterwards_even_after_an_error(adaptive, dtype):
    torch.manual_seed(0)
    weights = [torch.nn.Parameter((torch.randn(31) * 10**scale).to(dtype)) for scale in (-6, 0, 6)]
    bits = {torch.float32: torch.int32, torch.bfloat16: torch.int16}[dtype]
    before = [weight.detach().clone().view(bits) for weight in weights]
    perturbation = Perturbation(WholeWeights(weights), rho=0.7, adaptive=adaptive)

    def fail_on_top(perturbation, weights):
        with perturbation.applied():
            assert any(
                not torch.equal(weight.detach().view(bits), old)
                for weight, old in zip(weights, before, strict=True)
            )
            assert all(weight.grad is None for weight in weights)
            raise KeyError

    for _ in range(3):  # the buffers of one step are reused in the next
        for weight in weights:
            weight.grad = torch.randn(31).to(dtype)
        with pytest.raises(KeyError):
            fail_on_top(perturbation, weights)
        for weight, old in zip(weights, before, strict=True):
            assert torch.equal(weight.detach().view(bits), old)


def test_a_gradient_of_zero_perturbs_nothing():
    weight = parameter(1.0, 2.0)
    weight.grad = torch.zeros(2)
    assert torch.equal(perturbed([weight], 1.0)[0], weight.data)


def test_only_chosen_weights_are_perturbed_and_all_are_trained():
    moved, still = parameter(1.0), parameter(1.0)
    optimizer = SAM(torch.optim.SGD([moved, still], lr=0.1), rho=0.5, weights=[moved])
    seen = []

    def closure():
        seen.append((float(moved), float(still)))
        loss = moved.square().sum() + still.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert seen == [(1.0, 1.0), (1.5, 1.0)]
    assert float(moved) == pytest.approx(1 - 0.1 * 3.0)
    assert float(still) == pytest.approx(1 - 0.1 * 2.0)


def quadratic(weight, calls):
    def closure():
        calls.append(float(weight))
        loss = weight.square().sum()
        loss.backward()
        return loss

    return closure


def test_every_third_step_perturbs_and_a_restored_optimizer_keeps_count():
    weight, calls = parameter(1.0), []
    optimizer = SAM(torch.optim.Adam([weight], lr=0.1), rho=0.5, every=3)
    for _ in range(4):
        optimizer.step(quadratic(weight, calls))
    assert len(calls) == 6  # steps 0 and 3 take two
    saved, place = copy.deepcopy(optimizer.state_dict()), weight.detach().clone()
    for _ in range(3):
        optimizer.step(quadratic(weight, calls))
    again = torch.nn.Parameter(place)
    restored = SAM(torch.optim.Adam([again], lr=7.0), rho=0.5, every=3)
    restored.load_state_dict(saved)
    repeated: list[float] = []
    for _ in range(3):
        restored.step(quadratic(again, repeated))
    assert repeated == calls[6:]
    assert torch.equal(weight.data, again.data)


def test_schedulers_of_pytorch_move_the_wrapped_optimizers_rate():
    weight = parameter(1.0)
    base = torch.optim.SGD([weight], lr=1.0)
    optimizer = SAM(base, rho=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    optimizer.step(quadratic(weight, []))
    scheduler.step()
    assert base.param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize(("rho", "every"), [(0.0, 1), (-1.0, 1), (math.nan, 1), (0.1, 0)])
def test_values_without_meaning_are_refused(rho, every):
    with pytest.raises(ValueError, match=r"rho|every"):
        SAM(torch.optim.SGD([parameter(1.0)]), rho=rho, every=every)
    optimizer = SAM(torch.optim.SGD([parameter(1.0)]), rho=0.1)
    with pytest.raises(ValueError, match="closure"):
        optimizer.step()


def test_names_of_weights_mean_what_they_say():
    model = from_scratch("tiny", text_vocabulary=11, alphabet_size=7)
    names = [name for name, _ in model.named_parameters()]
    rows = {"encoder.embed_tokens.weight", "lm_head.weight"}
    rows |= {name for name in names if name in ("shared.weight", "decoder.embed_tokens.weight")}
    chosen = {
        which: weights_to_perturb(model, which)
        for which in ("all", "rows", "backbone", "encoder", "decoder", "norms")
    }
    assert chosen["all"] == names
    assert set(chosen["rows"]) == rows
    assert set(chosen["backbone"]) == set(names) - rows
    assert set(chosen["encoder"]) == {name for name in names if name.startswith("encoder.")}
    assert set(chosen["decoder"]) == set(names) - set(chosen["encoder"])
    assert chosen["norms"] == [name for name in names if "layer_norm" in name]
    for weight in model.get_encoder().parameters():
        weight.requires_grad_(False)
    with pytest.raises(InputError, match=r"--sam\.weights encoder: none"):
        weights_to_perturb(model, "encoder")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"rho": -0.1}, "--sam.rho -0.1"),
        ({"rho": math.nan}, "--sam.rho nan"),
        ({"rho": 0.1, "every": 0}, "--sam.every 0"),
        ({"rho": 0.1, "fraction": 0.0}, "--sam.fraction 0.0"),
        ({"rho": 0.1, "fraction": 1.5}, "--sam.fraction 1.5"),
        ({"rho": 0.1, "weights": "some"}, "--sam.weights 'some'"),
        ({"rho": 0.1, "perturbation": "mine"}, "--sam.perturbation 'mine'"),
        ({"adaptive": True}, "--sam.adaptive true has no effect while --sam.rho is 0"),
        ({"every": 2}, "--sam.every 2 has no effect while --sam.rho is 0"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_option(values, named):
    with pytest.raises(InputError) as refused:
        SamOptions(**values)
    assert named in str(refused.value)


def test_steps_that_perturb():
    assert not any(SamOptions().applies_at(step) for step in range(4))
    assert [SamOptions(rho=0.1, every=3).applies_at(step) for step in range(5)] == [1, 0, 0, 1, 0]


def test_training_with_sam_is_repeatable_and_each_option_changes_it(without_dev, tmp_path):
    variants = {
        "plain": {},
        "sam": {"sam__rho": 0.05},
        "again": {"sam__rho": 0.05},
        "spared": {"sam__rho": 0.05, "loop__gradient_checkpointing": True},
        "adaptive": {"sam__rho": 0.05, "sam__adaptive": True},
        "every": {"sam__rho": 0.05, "sam__every": 2},
        "fraction": {"sam__rho": 0.05, "sam__fraction": 0.5},
        "decoder": {"sam__rho": 0.05, "sam__weights": "decoder"},
    }
    digests = {}
    for name, changes in variants.items():
        options = small.options(loop__steps=3, model__dropout=0.1, **changes)
        train_index(without_dev, tmp_path / name, options)
        digests[name] = small.digest(tmp_path / name)
    assert digests["again"] == digests["sam"]
    assert digests["spared"] == digests["sam"]
    distinct = {name: value for name, value in digests.items() if name not in ("again", "spared")}
    assert len(set(distinct.values())) == len(distinct)
