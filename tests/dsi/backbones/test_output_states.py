"""Maps of states before the output layer: their formulas, and every way of decoding reads them."""

from __future__ import annotations

from typing import Any

import pytest
import tiny_checkpoints
import torch
from test_position_edits import (
    ALPHABET,
    IDS,
    MASK,
    SHAPE,
    TEXTS,
    logits_of,
    random_weights,
)
from transformers import T5Config, T5ForConditionalGeneration

from data_prep.errors import InputError
from docids.table import PAD, DocidTable
from docids.trie import Trie
from dsi.backbones.backbone import (
    from_pretrained,
    load_backbone,
    save_backbone,
    set_docid_alphabet,
)
from dsi.backbones.output_states import (
    FourierFeatures,
    ProductKeyMemory,
    StateMap,
    add_map,
    drop_map,
    map_of,
)
from dsi.kernels.install import install
from dsi.kernels.packed_linear import packed
from dsi.search.beam import beam_search
from dsi.search.torch_trie import TorchTrie


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def memory_of(width: int) -> ProductKeyMemory:
    memory = ProductKeyMemory(width, keys=5, top=3)
    for number, part in enumerate((memory.first, memory.second, memory.values)):
        part.copy_(draw(*part.shape, seed=number))
    memory.spread.fill_(2.5)
    return memory


def test_a_memory_reads_the_nearest_of_all_rows():
    memory, states = memory_of(7), draw(2, 4, 7, seed=9)
    rows, weights = memory.addresses(states)
    keys = torch.stack([torch.cat([a, b]) for a in memory.first for b in memory.second])
    for line, found, shares in zip(
        states.flatten(0, 1), rows.flatten(0, 1), weights.flatten(0, 1), strict=True
    ):
        distances = (keys - line).square().sum(dim=1)
        nearest = distances.argsort()[:3]
        assert found.tolist() == nearest.tolist()
        torch.testing.assert_close(shares, (-distances[nearest] / 2.5).softmax(0))
    added = memory(states) - states
    torch.testing.assert_close(added, (weights.unsqueeze(-1) * memory.values[rows]).sum(dim=2))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Family and map -> a new tiny model with random weights and that map."""
    folder = tmp_path_factory.mktemp("models")

    def of(family: str, kind: str) -> Any:
        if family == "t5":
            model = set_docid_alphabet(T5ForConditionalGeneration(T5Config(**SHAPE)), 30, ALPHABET)
        else:
            path = folder / family
            if not path.exists():
                tiny_checkpoints.write_language_model(family, path, TEXTS)
            model = from_pretrained(str(path), alphabet_size=ALPHABET)
        width = model.get_output_embeddings().in_features
        new: StateMap = FourierFeatures.drawn(width, 24, 3.0, seed=1)
        add_map(model, memory_of(width) if kind == "memory" else new)
        return random_weights(model)

    return of


CASES = [(family, kind) for family in ("t5", "llama", "gpt2") for kind in ("memory", "fourier")]
CASES.remove(("gpt2", "fourier"))


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_search_scores_as_teacher_forcing_does(family, kind, models, tmp_path):
    model = models(family, kind)
    sequences = [[3, 4, 5], [3, 4, 6], [3, 7, 2], [8, 2, 5], [8, 3, 6]]
    doc_ids = [f"d{row}" for row in range(5)]
    table = DocidTable.from_sequences(doc_ids, sequences, alphabet_size=ALPHABET, kind="rq")
    trie = TorchTrie.from_trie(Trie.build(table))
    for searched in (model, packed(model)):
        found, scores = beam_search(searched, IDS, MASK, trie, k=5, beams=5)
        for query in range(2):
            for row, score in zip(found[query].tolist(), scores[query].tolist(), strict=True):
                codes = torch.tensor([[PAD, *sequences[row][:-1]]] * 2)
                logs = logits_of(model, codes)[query].log_softmax(-1)
                by_hand = sum(float(logs[at, code]) for at, code in enumerate(sequences[row]))
                assert score == pytest.approx(by_hand, abs=1e-3)
    save_backbone(model, tmp_path)
    again = load_backbone(tmp_path)
    assert torch.equal(logits_of(again), logits_of(model))
    assert {name for name, _ in again.named_parameters()} == {
        name for name, _ in model.named_parameters()
    }


def test_a_model_that_expects_states_of_one_width_is_refused(models):
    with pytest.raises(InputError, match="GPT-2"):
        models("gpt2", "fourier")


def test_training_kernels_read_mapped_states(models):
    model = models("t5", "memory")
    before = logits_of(model)
    with install(model, "training"):
        torch.testing.assert_close(logits_of(model), before, rtol=1e-4, atol=1e-4)


def test_a_map_is_dropped_and_replaced_by_its_own_kind_only(models):
    model = models("t5", "fourier")
    with pytest.raises(InputError, match=r"of --strategy kernel, and --strategy pamt would"):
        add_map(model, memory_of(16))
    drop_map(model)
    assert map_of(model) is None
    assert tuple(model.lm_head.weight.shape) == (ALPHABET, 16)
    plain = random_weights(model)
    before = logits_of(plain)
    add_map(plain, memory_of(16))
    assert not torch.allclose(logits_of(plain), before)
    memory = map_of(plain)
    assert isinstance(memory, ProductKeyMemory)
    memory.values.zero_()
    assert torch.equal(logits_of(plain), before), "a new memory changes nothing"


def test_values_that_are_not_finite_are_refused(models, tmp_path):
    model = models("t5", "memory")
    model.decoder.final_layer_norm.state_map.values[3, 2] = torch.inf
    save_backbone(model, tmp_path)
    with pytest.raises(InputError, match="not finite"):
        load_backbone(tmp_path)
