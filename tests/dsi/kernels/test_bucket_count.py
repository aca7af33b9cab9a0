"""Number of passes per step: fewer padding tokens against the fixed cost of a pass."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)

from dsi.backbones.backbone import set_docid_alphabet
from dsi.kernels.bucket_count import best_bucket_count, pass_overhead_tokens
from dsi.kernels.length_buckets import fewest_tokens, length_buckets

texts = st.lists(st.integers(0, 20), min_size=1, max_size=30).map(np.array)


@given(texts, st.integers(1, 6))
def test_fewest_tokens_are_those_of_the_groups(lengths, most):
    most = min(most, len(lengths))
    padded = np.maximum(lengths, 1)
    expected = [
        sum(len(places) * int(padded[places].max()) for places in length_buckets(lengths, groups))
        for groups in range(1, most + 1)
    ]
    assert fewest_tokens(lengths, most) == expected


@pytest.mark.parametrize(
    ("each", "sharers", "passes"),
    [
        (0.0, 1, 3),  # 10 x 1 + 5 x 5 + 1 x 20 = 55 tokens
        (50.0, 1, 2),  # 15 x 5 + 1 x 20 = 95 tokens: 95 + 2 x 50 against 55 + 3 x 50
        (300.0, 1, 1),  # 16 x 20 = 320 tokens
        (30.0, 10, 1),  # a tenth of all that: 32 + 30 against 9.5 + 60
    ],
)
def test_a_pass_is_made_where_it_saves_more_than_it_costs(each, sharers, passes):
    lengths = np.array([1] * 10 + [5] * 5 + [20])
    assert best_bucket_count(lengths, 3, each, sharers) == passes


def test_there_are_never_more_passes_than_texts():
    assert best_bucket_count(np.array([3]), 4, 0.0, 1) == 1
    assert best_bucket_count(np.array([3, 9]), 4, 0.0, 1) == 2


def test_a_pass_costs_by_the_tables_that_move_and_the_weights_that_a_token_meets():
    config = T5Config(vocab_size=9, d_model=8, d_kv=2, num_heads=2, d_ff=16, num_layers=1)
    model = set_docid_alphabet(T5ForConditionalGeneration(config), 20, 12)
    layer = 4 * 8 * 4 + 2 * 8 * 16 + 2 * 8 + 32 * 2  # attention, feed-forward, norms, positions
    met = layer + 2 * 8 * 4
    assert pass_overhead_tokens(model) == pytest.approx(400 * (20 + 12 + 12) * 8 / met)
    model.get_encoder().get_input_embeddings().requires_grad_(False)
    assert pass_overhead_tokens(model) == pytest.approx(400 * (12 + 12) * 8 / met)


def test_bart_has_the_weights_that_a_token_meets_by_other_names():
    config = BartConfig(
        vocab_size=9,
        d_model=8,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_position_embeddings=16,
    )
    model = set_docid_alphabet(BartForConditionalGeneration(config), 20, 12)
    assert 0 < pass_overhead_tokens(model) < 400 * 44 * 8 / (2 * 8 * 8)
