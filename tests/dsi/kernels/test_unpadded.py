"""T5 without padding: the values and gradients of a padded batch, from its tokens alone."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import small
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version
from test_step import Shapes
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    MT5Config,
    MT5ForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)

from dsi.backbones.backbone import set_docid_alphabet
from dsi.backbones.pawa import add_pawa
from dsi.indexing import build
from dsi.indexing.build import train_index
from dsi.kernels.dropout import fast_dropout
from dsi.kernels.unpadded import Layout, supports_unpadded, without_padding
from dsi.objectives.base import Objective

pytestmark = pytest.mark.skipif(
    Version(transformers.__version__) < Version("5.15"), reason="its layers keep their padding"
)

SHAPE = {"vocab_size": 9, "d_model": 16, "d_kv": 4, "num_heads": 2, "d_ff": 16, "num_layers": 2}
LENGTHS = [2, 9, 3, 9, 2, 8]


def t5(**options):
    return T5ForConditionalGeneration(T5Config(**{**SHAPE, "dropout_rate": 0.0, **options}))


MODELS = {
    "t5": t5,
    "gated": partial(t5, feed_forward_proj="gated-gelu"),
    "no encoder layer": partial(t5, num_layers=0, num_decoder_layers=1),
    "eager": partial(t5, attn_implementation="eager"),
    "mt5": lambda: MT5ForConditionalGeneration(MT5Config(**SHAPE, dropout_rate=0.0)),
}


def made(name="t5"):
    torch.manual_seed(0)
    return set_docid_alphabet(MODELS[name](), 9, 7).double().train()


def mask_of(lengths):
    return torch.from_numpy((np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64))


def inputs(lengths=LENGTHS):
    torch.manual_seed(1)
    mask = mask_of(lengths)
    ids = torch.randint(2, 9, mask.shape) * mask
    codes = torch.randint(1, 7, (len(lengths), 3))
    return {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": codes}


def computed(model, given):
    """Returns the logits of a batch and the gradients of something of them."""
    model.zero_grad()
    outputs = model(**given, use_cache=False)
    (outputs.logits**2).sum().backward()
    return outputs, {name: weight.grad for name, weight in model.named_parameters()}


def assert_same(found, expected, mask):
    (found, grads), (expected, wanted) = found, expected
    torch.testing.assert_close(found.logits, expected.logits)
    kept = mask.bool()
    torch.testing.assert_close(
        found.encoder_last_hidden_state[kept], expected.encoder_last_hidden_state[kept]
    )
    for name, grad in wanted.items():
        # T5 computes the mean of squares in float32, whatever the precision of the network.
        torch.testing.assert_close(grads[name], grad, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("most", [1, 2, 4, 9])
@pytest.mark.parametrize("name", MODELS)
def test_values_and_gradients_are_those_of_the_padded_batch(name, most):
    model, given = made(name), inputs()
    expected = computed(model, given)
    with without_padding(model, most):
        found = computed(model, given)
    assert_same(found, expected, given["attention_mask"])


@pytest.mark.parametrize("name", ["t5", "no encoder layer"])
def test_states_of_single_layers_are_those_of_the_padded_batch(name):
    model, given = made(name), inputs()
    kept = given["attention_mask"].bool()

    def states():
        outputs = model(**given, output_hidden_states=True)
        return [each[kept] for each in outputs.encoder_hidden_states or ()] + [
            *outputs.decoder_hidden_states
        ]

    expected = states()
    with without_padding(model, 2):
        found = states()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["t5", "no encoder layer"])
def test_states_that_nobody_asks_for_are_not_padded_and_nothing_else_changes(name):
    model, given = made(name), inputs()
    expected, wanted = computed(model, given)
    with without_padding(model, 2, states=False):
        found, grads = computed(model, given)
    assert len(found.encoder_last_hidden_state) == 1
    torch.testing.assert_close(found.logits, expected.logits)
    torch.testing.assert_close(grads, wanted, rtol=1e-5, atol=1e-6)


class Read(Objective):
    """The mean of what the decoder reads of each text, where it asks for that."""

    name = "read"

    def __init__(self, asks):
        super().__init__()
        self.encoder_states, self.seen = asks, []

    def of_examples(self, forward):
        self.seen.append(forward.encoder_states.shape[:2] == forward.input_ids.shape)
        return forward.encoder_states.mean(dim=(1, 2)).sum()


@pytest.mark.parametrize("asks", [True, False])
def test_a_term_that_asks_for_an_encoders_states_gets_them_padded(
    dataset, tmp_path, monkeypatch, asks
):
    term, real = Read(asks), build.make_training_run

    def with_term(*words):
        run = real(*words)
        object.__setattr__(run, "objectives", [*run.objectives, term])
        return run

    monkeypatch.setattr(build, "make_training_run", with_term)
    train_index(dataset, tmp_path / "index", small.options(loop__steps=2))
    assert term.seen == [asks] * 2


def test_layers_see_the_tokens_and_no_more_once():
    model, given, rows = made(), inputs(), []
    model.encoder.block[0].layer[1].register_forward_hook(lambda _, x, y: rows.append(y.shape))
    model.decoder.block[0].layer[1].EncDecAttention.k.register_forward_hook(
        lambda _, x, y: rows.append(y.shape)
    )
    with without_padding(model, 4):
        computed(model, given)
    assert rows == [(1, sum(LENGTHS), 16), (1, sum(LENGTHS), 8)]


@pytest.mark.parametrize(("dropout", "computed_once"), [(0.0, True), (0.1, False)])
def test_without_encoder_layers_every_different_token_is_computed_once(dropout, computed_once):
    torch.manual_seed(0)
    model = set_docid_alphabet(
        t5(num_layers=0, num_decoder_layers=1, dropout_rate=dropout), 9, 7
    ).train()
    given, rows = inputs(), []
    model.decoder.block[0].layer[1].EncDecAttention.v.register_forward_hook(
        lambda _, x, y: rows.append(y.shape[1])
    )
    with without_padding(model, len(LENGTHS)):
        computed(model, given)
    different = len(given["input_ids"][given["attention_mask"].bool()].unique())
    assert rows == [different if computed_once else sum(LENGTHS)]


def test_gradients_of_a_token_that_stands_often_are_summed_in_single_precision():
    layout = replace(Layout.of(mask_of([1000]), 1), states=torch.arange(1000) // 999)
    states = torch.randn(2, 3).bfloat16().requires_grad_(True)
    found = layout.spread(states)
    assert torch.equal(found, states[layout.states])
    found.sum().backward()
    # In bfloat16 a sum of ones stays at 256.
    assert torch.equal(states.grad, torch.tensor([[999.0] * 3, [1.0] * 3]).bfloat16())


def test_two_batches_before_a_backward_pass_that_computes_again_do_not_mix():
    model, given = add_pawa(made().float(), 1).double(), inputs()
    torch.nn.init.normal_(model.pawa.weight)
    model.pawa.eval()

    def both(model, given):
        other = model(**{**given, **inputs([5, 1, 2])}, use_cache=False)
        found = computed(model, given)
        (other.logits**3).sum().backward()
        return found

    expected = both(model, given)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    with without_padding(model, 2):
        found = both(model, given)
    assert_same(found, expected, given["attention_mask"])


def test_what_is_computed_again_drops_the_same():
    model, given = t5(dropout_rate=0.3).train(), inputs()

    def seeded():
        torch.manual_seed(5)
        return computed(model, given)

    with fast_dropout(model), without_padding(model, 2):
        expected = seeded()
        model.gradient_checkpointing_enable({"use_reentrant": False})
        found = seeded()
        assert_same(found, expected, given["attention_mask"])
        torch.manual_seed(6)
        assert not torch.equal(computed(model, given)[0].logits, expected[0].logits)


def test_a_decoder_takes_states_that_were_encoded_before():
    model, given = made(), inputs()
    mask = given["attention_mask"]
    states = model.encoder(input_ids=given["input_ids"], attention_mask=mask).last_hidden_state
    again = {
        "encoder_outputs": (states.detach(),),
        "attention_mask": mask,
        "decoder_input_ids": given["decoder_input_ids"],
    }
    expected = model(**again).logits
    with without_padding(model, 3):
        torch.testing.assert_close(model(**again).logits, expected)
        # Without a mask, padding cannot be recognized: every token counts.
        del again["attention_mask"]
        found = model(**again).logits
    torch.testing.assert_close(found, model(**again).logits)


def test_evaluation_is_left_alone_and_so_is_the_model_afterwards():
    model, given = made(), inputs()
    before = {name: set(vars(part)) for name, part in model.named_modules()}
    expected = model.eval()(**given).logits
    with without_padding(model, 4):
        assert torch.equal(model(**given).logits, expected)
        assert len(model.generate(given["input_ids"], max_new_tokens=2)) == len(LENGTHS)
    assert {name: set(vars(part)) for name, part in model.named_modules()} == before


def test_other_architectures_keep_their_padding():
    config = BartConfig(
        d_model=16,
        vocab_size=9,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
    )
    assert not supports_unpadded(BartForConditionalGeneration(config))
    assert supports_unpadded(made())
    assert supports_unpadded(made("mt5"))


def test_attention_of_an_older_transformers_keeps_its_padding():
    model = made()
    del model.decoder.block[0].layer[0].SelfAttention.scaling
    assert not supports_unpadded(model)


@given(st.lists(st.integers(0, 7), min_size=1, max_size=20), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_a_row_has_every_token_once_and_gives_the_batch_back(lengths, most):
    mask = mask_of([*lengths, 7])
    lengths = [*lengths, 7]
    batch = torch.arange(1, mask.numel() + 1).view(*mask.shape, 1) * mask.unsqueeze(-1)
    layout = Layout.of(mask, most)
    row = layout.row(batch)
    assert len(layout.groups) == min(most, len({max(length, 1) for length in lengths}))
    assert row.shape == (1, sum(group.tokens for group in layout.groups), 1)
    place, seen = 0, []
    for group in layout.groups:
        for text in range(group.count):
            tokens = row[0, place : place + group.length, 0].tolist()
            example = layout.examples[len(seen)].item()
            length = lengths[example]
            assert tokens == batch[example, :length, 0].tolist() + [0] * (group.length - length)
            absent = [False] * group.length
            if group.absent is not None:
                absent = group.absent[text, 0, 0].tolist()
            assert absent == [token >= length for token in range(group.length)]
            place += group.length
            seen.append(example)
    assert sorted(seen) == list(range(len(lengths)))
    assert torch.equal(layout.batch(row), batch)


@pytest.mark.parametrize(
    ("changes", "passes"), [({}, 1), ({"loop__accumulation": 2}, 2)], ids=["whole", "parts"]
)
def test_a_step_is_one_pass_for_each_part(dataset, tmp_path, monkeypatch, changes, passes):
    shapes, real = Shapes(), build.make_training_run

    def with_shapes(*words):
        run = real(*words)
        object.__setattr__(run, "objectives", [*run.objectives, shapes])
        return run

    monkeypatch.setattr(build, "make_training_run", with_shapes)
    train_index(dataset, tmp_path / "index", small.options(loop__steps=3, **changes))
    assert len(shapes.seen) == 3 * passes
