"""The shortcut to the states of a latent model gives the same result as the full computation."""

from __future__ import annotations

import numpy as np

from dsi import Index
from dsi.rows import states


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
