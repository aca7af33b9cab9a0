"""Side memories: copied from the most active units, initially without effect, and merged."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from data_prep.errors import InputError
from docids.table import DocidTable
from docids.trie import Trie
from dsi.backbones.backbone import from_scratch, load_backbone, save_backbone
from dsi.data.batching import Batch
from dsi.kernels.packed_linear import packed
from dsi.search.beam import beam_search
from dsi.search.torch_trie import TorchTrie
from dsi.training.optimization.optimizers import make_optimizer
from dsi.training.options import OptimizerOptions
from dsi.updating.structures.parallel_adapter import (
    ParallelFeedForward,
    add_parallel_adapters,
    drop_parallel_adapters,
    feed_forwards,
    merge_parallel_adapters,
)


def network():
    return from_scratch("tiny", text_vocabulary=11, alphabet_size=7, dropout=0.0)


def texts():
    ids = np.array([[2, 3, 4], [5, 6, 7]])
    return [Batch(ids, np.ones_like(ids), np.arange(2), np.zeros(2, bool), np.arange(2))]


def logits(model):
    ids = torch.tensor([[2, 3, 4], [5, 6, 7]])
    with torch.no_grad():
        return model(input_ids=ids, decoder_input_ids=torch.tensor([[0, 2], [0, 3]])).logits


def learn(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "parallel_adapter" in name:
                weight.add_(torch.randn(weight.shape, generator=generator))


def test_a_memory_changes_nothing_until_it_learns():
    model = network().eval()
    before = logits(model)
    add_parallel_adapters(model, 4, texts())
    torch.testing.assert_close(logits(model), before)
    learn(model)
    assert not torch.allclose(logits(model), before, atol=1e-3)


def test_its_keys_are_those_of_the_most_active_units():
    model = network().eval()
    hidden = {}
    for name, host in feed_forwards(model).items():
        host.wo.register_forward_pre_hook(
            lambda layer, given, name=name: hidden.update({name: given[0]})
        )
    batch = texts()[0]
    with torch.no_grad():
        model(
            input_ids=torch.from_numpy(batch.input_ids),
            decoder_input_ids=torch.zeros(2, 1, dtype=torch.int64),
        )
    add_parallel_adapters(model, 3, texts())
    for name, seen in hidden.items():
        part = model.get_submodule(name)
        units = seen.shape[-1]
        sizes = [float(seen[..., unit].abs().sum()) for unit in range(units)]
        wanted = sorted(sorted(range(units), key=lambda unit: -sizes[unit])[:3])
        assert part.parallel_adapter.wi.weight.equal(part.host.wi.weight[wanted])
        assert not part.parallel_adapter.wo.weight.any()


def test_a_search_reads_the_memories_while_they_are_learned():
    model = network().eval()
    add_parallel_adapters(model, 4, texts())
    learn(model)
    table = DocidTable.from_sequences(
        list("abcde"), [[code] for code in range(2, 7)], alphabet_size=7, kind="atomic"
    )
    trie = TorchTrie.from_trie(Trie.build(table))
    ids = torch.tensor([[2, 3, 4], [5, 6, 7]])
    found, scores = beam_search(packed(model), ids, torch.ones_like(ids), trie, k=5, beams=5)
    merge_parallel_adapters(model)  # it computes the same, in modules known to the search
    rows, expected = beam_search(model, ids, torch.ones_like(ids), trie, k=5, beams=5)
    assert found.equal(rows)
    torch.testing.assert_close(scores, expected, atol=1e-4, rtol=1e-4)


def test_a_merged_memory_computes_the_same_in_a_model_of_the_usual_form(tmp_path):
    model = network().eval()
    names, units = list(model.state_dict()), model.config.d_ff
    add_parallel_adapters(model, 4, texts())
    learn(model)
    before = logits(model)
    merge_parallel_adapters(model)
    torch.testing.assert_close(logits(model), before, atol=1e-4, rtol=1e-4)
    assert list(model.state_dict()) == names
    assert model.config.d_ff == units + 4
    save_backbone(model, tmp_path / "model")
    torch.testing.assert_close(logits(load_backbone(tmp_path / "model")), logits(model))


def test_networks_without_a_memory_get_as_many_units_of_zero(tmp_path):
    model = network().eval()
    add_parallel_adapters(model, 4, texts(), encoder=False)
    assert not any(isinstance(part, ParallelFeedForward) for part in model.get_encoder().modules())
    learn(model)
    before = logits(model)
    merge_parallel_adapters(model)
    torch.testing.assert_close(logits(model), before, atol=1e-4, rtol=1e-4)
    save_backbone(model, tmp_path / "model")
    torch.testing.assert_close(logits(load_backbone(tmp_path / "model")), logits(model))


def test_a_dropped_memory_leaves_no_trace():
    model = network().eval()
    names, before = list(model.state_dict()), logits(model)
    add_parallel_adapters(model, 4, texts())
    learn(model)
    drop_parallel_adapters(model)
    assert list(model.state_dict()) == names
    torch.testing.assert_close(logits(model), before)


def test_it_moves_in_place_of_the_backbone():
    model = network()
    add_parallel_adapters(model, 4, texts())
    make_optimizer(model, OptimizerOptions(backbone_lr_scale=1.0))
    moving = {name for name, weight in model.named_parameters() if weight.requires_grad}
    backbone = {name for name in moving if "embed" not in name and "lm_head" not in name}
    assert backbone - {"shared.weight"} == {
        name for name, _ in model.named_parameters() if "parallel_adapter" in name
    }


def test_more_units_than_the_model_has_are_refused():
    with pytest.raises(InputError, match=r"--locas\.units 99999 is more than"):
        add_parallel_adapters(network(), 99999, texts())


def test_a_model_of_another_build_is_refused():
    from transformers import BartConfig, BartForConditionalGeneration

    other = BartForConditionalGeneration(
        BartConfig(
            vocab_size=9, d_model=8, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=8,
            decoder_ffn_dim=8, encoder_attention_heads=2, decoder_attention_heads=2,
        )
    )  # fmt: skip
    with pytest.raises(InputError, match="the T5 family"):
        add_parallel_adapters(other, 2, texts())
