"""The loss of a step is a list of terms: their weights, examples and side effects."""

from __future__ import annotations

import numpy as np
import pytest
import small
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from transformers import T5Config, T5ForConditionalGeneration
from two_processes import finish, start

from dsi import Index
from dsi.backbones.backbone import set_docid_alphabet
from dsi.data.batching import Batch
from dsi.indexing import build
from dsi.indexing.build import train_index
from dsi.objectives.base import Objective, Targets
from dsi.objectives.cross_entropy import CrossEntropy
from dsi.training.checkpoints import load_checkpoint, save_checkpoint
from dsi.training.engines.plain import PlainEngine
from dsi.training.step import backward_step

CODES = np.array([[2, 3, 1], [4, 1, 0], [5, 6, 1]], np.int32)


def small_model(dropout: float = 0.0):
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=9, d_model=16, d_kv=4, num_heads=2, d_ff=16, num_layers=1, dropout_rate=dropout
    )
    return set_docid_alphabet(T5ForConditionalGeneration(config), 9, 7)


def batch_of(rows: list[int]) -> Batch:
    rng = np.random.default_rng(rows)
    ids = rng.integers(2, 9, (len(rows), 4))
    return Batch(
        ids, np.ones_like(ids), np.array(rows), np.zeros(len(rows), bool), np.arange(len(rows))
    )


class Norm(Objective):
    """The sum of all squared weights."""

    name = "norm"

    def of_weights(self, model):
        return sum((weight**2).sum() for weight in model.parameters())


class Logits(Objective):
    """The sum of an example's logits, through the hidden states that the output layer reads."""

    name = "logits"
    hidden_states = True

    def of_examples(self, forward):
        width = forward.decoder_states.shape[-1]
        assert forward.decoder_states.shape == (*forward.codes.shape, width)
        return forward.logits.sum() + forward.decoder_states.sum()


def gradients(objectives, batches, groups=1):
    """Returns the losses and gradients of a step that is worked through in these parts."""
    model = small_model()
    AcceleratorState._reset_state()  # another test of this process may have trained in bf16
    accelerator = Accelerator(cpu=True, mixed_precision="no")
    engine = PlainEngine(accelerator, model, torch.optim.SGD(model.parameters()))
    reached = backward_step(
        engine,
        batches,
        objectives,
        Targets.of(CODES, 7, None),
        examples=sum(map(len, batches)),
        step=0,
        steps=1,
        groups=groups,
    )
    return reached, {name: weight.grad for name, weight in model.named_parameters()}


def test_the_loss_is_the_weighted_sum_of_its_terms():
    batch = [batch_of([0, 1, 2, 0])]
    terms = [CrossEntropy(1.0), Logits(0.5), Norm(0.01)]
    alone = [gradients([type(term)(1.0)], batch) for term in terms]
    together, grads = gradients(terms, batch)
    assert list(together.terms) == ["cross_entropy", "logits", "norm"]
    for term, (single, _) in zip(terms, alone, strict=True):
        assert together.terms[term.name] == pytest.approx(single.loss, rel=1e-5)
    expected = sum(t.weight * single.loss for t, (single, _) in zip(terms, alone, strict=True))
    assert together.loss == pytest.approx(expected, rel=1e-5)
    for name, grad in grads.items():
        parts = [
            t.weight * found[name]
            for t, (_, found) in zip(terms, alone, strict=True)
            if found[name] is not None
        ]
        torch.testing.assert_close(grad, sum(parts), atol=1e-5, rtol=1e-4)


def uneven_batch(lengths: list[int]) -> Batch:
    """Texts of several lengths, padded to the longest."""
    rng = np.random.default_rng(lengths)
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
    ids = rng.integers(2, 9, mask.shape) * mask
    rows = np.arange(len(lengths)) % len(CODES)
    return Batch(ids, mask, rows, np.zeros(len(rows), bool), np.arange(len(rows)))


class Shapes(Objective):
    """Costs nothing and notes how many texts of how many tokens each pass has."""

    name = "shapes"

    def __init__(self):
        super().__init__()
        self.seen = []

    def of_examples(self, forward):
        self.seen.append(tuple(forward.input_ids.shape))


class Pairs(Objective):
    """Every pair of examples of a micro-batch counts one."""

    name = "pairs"
    whole_batch = True

    def of_examples(self, forward):
        return forward.logits.new_tensor(float(len(forward.rows) ** 2))


def test_groups_of_like_lengths_compute_the_same_on_less_padding():
    batch = uneven_batch([2, 9, 3, 9, 2, 8])
    one, two = Shapes(), Shapes()
    whole, grads = gradients([CrossEntropy(), Norm(0.1), one], [batch])
    parted, parted_grads = gradients([CrossEntropy(), Norm(0.1), two], [batch], groups=2)
    assert one.seen == [(6, 9)]
    assert two.seen == [(3, 3), (3, 9)]
    assert parted.loss == pytest.approx(whole.loss, rel=1e-5)
    for name, grad in grads.items():
        torch.testing.assert_close(parted_grads[name], grad, atol=1e-6, rtol=1e-4)


def test_a_term_that_looks_at_examples_together_sees_them_all():
    batch = uneven_batch([2, 9, 3])
    reached, _ = gradients([Pairs(), CrossEntropy()], [batch], groups=3)
    assert reached.terms["pairs"] == pytest.approx(9 / 3)


def test_parts_change_nothing_and_a_term_of_the_weights_counts_once():
    terms = [CrossEntropy(), Norm(0.1)]
    whole = np.random.default_rng(1).integers(2, 9, (4, 4))

    def part(chosen):
        places = np.array(chosen)
        ids = whole[places]
        return Batch(
            ids, np.ones_like(ids), np.array([0, 1, 2, 0])[places], np.zeros(len(ids), bool), places
        )

    one, ours = gradients(terms, [part([0, 1, 2, 3])])
    other, theirs = gradients(terms, [part([0, 1]), part([2]), part([3])])
    assert other.loss == pytest.approx(one.loss, rel=1e-5)
    assert other.terms == pytest.approx(one.terms, rel=1e-5)
    for name, grad in ours.items():
        torch.testing.assert_close(grad, theirs[name], atol=1e-5, rtol=1e-4)


def test_a_term_of_the_weights_alone_makes_no_forward_pass():
    _, grads = gradients([Norm(0.5)], [batch_of([0, 1])])
    for name, weight in small_model().named_parameters():
        torch.testing.assert_close(grads[name], weight.detach())


TWO = """
import sys
sys.path.insert(0, {folder!r})
import torch
from accelerate import Accelerator
from dsi.objectives.base import Targets
from dsi.objectives.cross_entropy import CrossEntropy
from dsi.training.engines.plain import PlainEngine
from dsi.training.step import backward_step
import test_step as t
accelerator = Accelerator(cpu=True)
rank, world = accelerator.process_index, accelerator.num_processes
model = t.small_model()
engine = t.PlainEngine(accelerator, model, torch.optim.SGD(model.parameters()))
parts = [t.batch_of([0, 1]), t.batch_of([2, 0])]
parts = parts[rank::world]
reached = backward_step(
    engine, parts, [CrossEntropy(), t.Logits(0.5), t.Norm(0.1)],
    t.Targets.of(t.CODES, 7, None), examples=4, step=0, steps=1)
plain = engine.network
print(reached.loss, *[float(w.grad.double().pow(2).sum()) for w in plain.parameters()])
"""


def test_two_processes_have_the_gradients_of_one():
    terms = [CrossEntropy(), Logits(0.5), Norm(0.1)]
    reached, grads = gradients(terms, [batch_of([0, 1]), batch_of([2, 0])])
    expected = [reached.loss, *[float(grad.double().pow(2).sum()) for grad in grads.values()]]
    script = TWO.format(folder=str(small.__file__).rpartition("/")[0])
    for code, out, err in finish(start(script=script)):
        assert code == 0, err
        found = [float(value) for value in out.splitlines()[-1].split()]
        assert found == pytest.approx(expected, rel=1e-4)


class Counter(Objective):
    """Keeps how many steps it has seen, and costs that many times nothing."""

    name = "counter"

    def __init__(self) -> None:
        super().__init__()
        self.seen = torch.zeros(1)

    def after_step(self, model, step):
        assert step == int(self.seen)
        self.seen += 1

    def state(self):
        return {"seen": self.seen}

    def restore(self, state):
        self.seen = state["seen"]


def test_what_a_term_keeps_is_in_the_checkpoint(tmp_path):
    model, kept = small_model(), Counter()
    optimizer = torch.optim.AdamW(model.parameters())
    for step in range(3):
        kept.after_step(model, step)
    save_checkpoint(tmp_path, 3, model, optimizer.state_dict()["state"], {}, [CrossEntropy(), kept])
    fresh = Counter()
    load_checkpoint(tmp_path, model, optimizer, [CrossEntropy(), fresh])
    assert fresh.seen.item() == 3


def test_training_goes_through_the_list_of_terms(dataset, tmp_path, monkeypatch):
    counter = Counter()
    real = build.make_training_run

    def with_counter(*words):
        run = real(*words)
        object.__setattr__(run, "objectives", [*run.objectives, counter])
        return run

    monkeypatch.setattr(build, "make_training_run", with_counter)
    train_index(dataset, tmp_path / "index", small.options(loop__steps=3))
    assert counter.seen.item() == 3
    assert len(Index.open(tmp_path / "index")) == small.DOCUMENTS
