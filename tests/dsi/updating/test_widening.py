"""A wider T5 gives the logits of the narrow one."""

from __future__ import annotations

import pytest
import torch

from dsi.backbone import from_scratch
from dsi.updating.widening import can_widen, widen


@pytest.mark.parametrize("size", ["lexical", "lexical-context", "tiny"])
def test_the_logits_stay_what_they_were(size):
    model = from_scratch(size, text_vocabulary=50, alphabet_size=30, documents=100, dropout=0.0)
    assert can_widen(model)
    wider = widen(model, 128)
    assert wider.config.d_model == model.config.d_model + 128
    assert wider.config.num_heads == model.config.num_heads + 2
    generator = torch.Generator().manual_seed(0)
    inputs = {
        "input_ids": torch.randint(1, 50, (4, 7), generator=generator),
        "attention_mask": torch.tensor([[1] * 7, [1] * 4 + [0] * 3, [1] * 7, [1] + [0] * 6]),
        "decoder_input_ids": torch.randint(0, 30, (4, 3), generator=generator),
    }
    with torch.inference_mode():
        torch.testing.assert_close(
            model.eval()(**inputs).logits, wider.eval()(**inputs).logits, atol=1e-4, rtol=1e-4
        )


def test_widening_twice_is_widening_by_the_sum():
    model = from_scratch("lexical", text_vocabulary=20, alphabet_size=9, documents=9).eval()
    once, twice = widen(model, 128).eval(), widen(widen(model, 64), 64).eval()
    inputs = {
        "input_ids": torch.tensor([[3, 4, 5]]),
        "decoder_input_ids": torch.tensor([[0, 2]]),
    }
    with torch.inference_mode():
        torch.testing.assert_close(
            once(**inputs).logits, twice(**inputs).logits, atol=1e-4, rtol=1e-4
        )


def test_no_dimension_more_is_the_same_model():
    model = from_scratch("lexical", text_vocabulary=20, alphabet_size=9, documents=9)
    assert widen(model, 0) is model


def test_heads_are_not_cut():
    model = from_scratch("lexical", text_vocabulary=20, alphabet_size=9, documents=9)
    with pytest.raises(ValueError, match="multiple"):
        widen(model, 30)
