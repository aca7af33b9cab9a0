"""Edits of a decoder layer: each changes the logits at its own position, by its formula."""

from __future__ import annotations

import json
from typing import Any

import pytest
import tiny_checkpoints
import torch
from transformers import T5Config, T5ForConditionalGeneration

from data_prep.errors import InputError
from docids.table import PAD, DocidTable
from docids.trie import Trie
from dsi.backbones.backbone import from_pretrained, load_backbone, save_backbone, set_docid_alphabet
from dsi.backbones.position_edits import EDITS, Edited, add_edits, edited_layer, place_of
from dsi.kernels.install import install
from dsi.kernels.packed_linear import packed
from dsi.search.beam import beam_search
from dsi.search.decoders import FAMILIES
from dsi.search.torch_trie import TorchTrie

ALPHABET, WIDTH = 9, 16
SHAPE = {
    "vocab_size": 30, "d_model": WIDTH, "d_kv": 4, "d_ff": 24, "num_layers": 1, "num_heads": 2,
    "dropout_rate": 0.0, "num_decoder_layers": 2,
}  # fmt: skip
IDS = torch.tensor([[4, 5, 6, 7], [8, 9, 3, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
CODES = torch.tensor([[PAD, 3, 4, 3], [PAD, 8, 2, 5]])
TEXTS = ["the whale and the ship", "a harbour for the night", "tea and pens"]


def random_weights(model: Any) -> Any:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.3)
    return model.eval()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Family -> a new tiny model with random weights and two edits."""
    folder = tmp_path_factory.mktemp("models")

    def of(family: str) -> tuple[Any, Edited]:
        if family in ("t5", "flan-t5"):
            shape = {**SHAPE, "feed_forward_proj": "gated-gelu" if "flan" in family else "relu"}
            model = set_docid_alphabet(T5ForConditionalGeneration(T5Config(**shape)), 30, ALPHABET)
        else:
            path = folder / family
            if not path.exists():
                tiny_checkpoints.write_language_model(family, path, TEXTS)
            model = from_pretrained(str(path), alphabet_size=ALPHABET)
        random_weights(model)
        layer = add_edits(model, 2)
        layer.edit += torch.randn(layer.edit.shape, generator=torch.Generator().manual_seed(1))
        return model, layer

    return of


@torch.no_grad()
def logits_of(model: Any, codes: torch.Tensor = CODES) -> torch.Tensor:
    """Logits without a cache, as in training and evaluation."""
    return model(
        input_ids=IDS, attention_mask=MASK, decoder_input_ids=codes, use_cache=False
    ).logits


FAMILIES_EDITED = ["t5", "flan-t5", "llama", "gpt2", "gemma2"]


@pytest.mark.parametrize("family", FAMILIES_EDITED)
def test_an_edit_changes_the_logits_at_its_own_position_only(family, models):
    model, layer = models(family)
    whole, edits = logits_of(model), layer.edit.clone()
    layer.edit = torch.zeros_like(edits)
    plain = logits_of(model)
    for position in range(2):
        layer.edit = torch.zeros_like(edits)
        layer.edit[position] = edits[position]
        alone = logits_of(model)
        others = [place for place in range(4) if place != position]
        assert torch.equal(alone[:, others], plain[:, others])
        torch.testing.assert_close(alone[:, position], whole[:, position])
        assert (alone[:, position] - plain[:, position]).abs().min(dim=1).values.max() > 1e-3


@pytest.mark.parametrize("family", FAMILIES_EDITED)
@torch.no_grad()
def test_the_layer_computes_its_formula(family, models):
    model, layer = models(family)
    read: list[torch.Tensor] = []
    first = place_of(model).first
    hooks = [
        first.register_forward_pre_hook(lambda _, given: read.append(given[0])),
        layer.register_forward_hook(lambda _, given, out: read.extend([given[0], out])),
    ]
    logits_of(model)
    for hook in hooks:
        hook.remove()
    states, inner, out = (each[:, -CODES.shape[1] :] for each in read)
    weight = layer.weight if isinstance(layer, torch.nn.Linear) else layer.weight.T
    for position in range(4):
        expected = inner[:, position] @ weight.T + (0 if layer.bias is None else layer.bias)
        if position < 2:
            expected = expected + states[:, position] @ layer.edit[position].T
        torch.testing.assert_close(out[:, position], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES_EDITED)
@pytest.mark.parametrize("way", ["as it is", "packed"])
def test_search_scores_as_teacher_forcing_does(family, way, models):
    model, _ = models(family)
    assert any(kind.knows(model) for kind in FAMILIES)
    sequences = [[3, 4, 5], [3, 4, 6], [3, 7, 2], [8, 2, 5], [8, 3, 6]]
    table = DocidTable.from_sequences(
        [f"d{row}" for row in range(5)], sequences, alphabet_size=ALPHABET, kind="rq"
    )
    trie = TorchTrie.from_trie(Trie.build(table))
    searched = packed(model) if way == "packed" else model
    rows, scores = beam_search(searched, IDS, MASK, trie, k=5, beams=5)
    for query in range(2):
        for row, score in zip(rows[query].tolist(), scores[query].tolist(), strict=True):
            codes = torch.tensor([[PAD, *sequences[row][:-1]]] * 2)
            logs = logits_of(model, codes)[query].log_softmax(-1)
            by_hand = sum(float(logs[at, code]) for at, code in enumerate(sequences[row]))
            assert score == pytest.approx(by_hand, abs=1e-3)


@torch.no_grad()
def test_a_cache_does_not_move_the_positions(models):
    model, _ = models("t5")
    given = {"input_ids": IDS, "attention_mask": MASK}
    first = model(**given, decoder_input_ids=CODES[:, :1], use_cache=True)
    second = model(
        **given,
        decoder_input_ids=CODES[:, 1:],
        past_key_values=first.past_key_values,
        use_cache=True,
    )
    step_by_step = torch.cat([first.logits, second.logits], dim=1)
    torch.testing.assert_close(step_by_step, logits_of(model), rtol=1e-4, atol=1e-4)


def test_training_kernels_leave_the_logits_as_they_are(models):
    model, _ = models("t5")
    before = logits_of(model)
    with install(model, "training"):
        torch.testing.assert_close(logits_of(model), before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["t5", "llama"])
def test_edits_are_stored_with_the_weights_and_grow(family, models, tmp_path):
    model, layer = models(family)
    save_backbone(model, tmp_path)
    again = load_backbone(tmp_path)
    assert torch.equal(logits_of(again), logits_of(model))
    assert not any(name.endswith(".edit") for name, _ in again.named_parameters())
    longer = add_edits(again, 3)
    assert torch.equal(longer.edit[:2], layer.edit)
    assert not longer.edit[2].any()
    assert torch.equal(logits_of(again), logits_of(model))
    assert add_edits(again, 1) is longer
    assert len(longer.edit) == 3


@pytest.mark.parametrize(
    ("value", "told"), [(0, "is 0"), (1.5, "is 1.5"), (7, "shape"), (10**9, "shape")]
)
def test_a_damaged_number_of_positions_is_refused(value, told, models, tmp_path):
    save_backbone(models("t5")[0], tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), EDITS: value}))
    with pytest.raises(InputError, match=told):
        load_backbone(tmp_path)


def test_edits_that_are_not_finite_are_refused(models, tmp_path):
    model, layer = models("t5")
    layer.edit[1, 0, 0] = torch.nan
    save_backbone(model, tmp_path)
    with pytest.raises(InputError, match="not finite"):
        load_backbone(tmp_path)


def test_a_decoder_of_another_kind_is_refused():
    from transformers import BartConfig, BartForConditionalGeneration

    shape = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 30}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    bart = BartForConditionalGeneration(
        BartConfig(**shape, **heads, encoder_ffn_dim=8, decoder_ffn_dim=8)
    )
    with pytest.raises(InputError, match="edit supports the decoders of the T5 family"):
        place_of(set_docid_alphabet(bart, 30, ALPHABET))
    assert edited_layer(bart) is None
