"""Search with decoder-only language models: every family against the plain definition."""

from __future__ import annotations

import pytest
import search_oracles as oracles
import tiny_checkpoints
import torch

from docids.table import FIRST_CODE
from dsi.backbones.backbone import load_backbone, save_backbone
from dsi.backbones.language_model import PromptedLanguageModel
from dsi.kernels.packed_linear import packed
from dsi.search.beam import beam_search
from dsi.search.decoders import start_decoder
from dsi.search.unconstrained import unconstrained_search

WORDS, ALPHABET = 40, oracles.ALPHABET
DOCIDS = oracles.with_end(
    {(2, 3, 4), (2, 3, 5), (2, 6), (3,), (4, 4, 4, 4, 4, 4, 5), (4, 4, 7), (5, 2, 9), (7, 8, 9, 10)}
)


def made(family: str) -> PromptedLanguageModel:
    """A random model whose scores differ: the weights are scaled up."""
    torch.manual_seed(0)
    whole = tiny_checkpoints.LANGUAGE_MODELS[family](WORDS)
    model = PromptedLanguageModel(whole.config, whole.base_model, ALPHABET)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.4)
    return model.eval()


@pytest.fixture(scope="module", params=tiny_checkpoints.LANGUAGE_MODELS)
def model(request):
    return made(request.param)


# Longer than the attention window of the families that have one.
BATCH = oracles.queries([9, 2, 5], seed=1, alphabet=WORDS)


def assert_found(rows, scores, expected):
    for line, wanted in enumerate(expected):
        assert rows[line, : len(wanted)].tolist() == [row for row, _ in wanted]
        found = scores[line, : len(wanted)].tolist()
        assert found == pytest.approx([score for _, score in wanted], abs=1e-4)


@pytest.mark.parametrize("score", ["model", "constrained"])
@pytest.mark.parametrize("beams", [2, 8])
def test_a_search_finds_what_its_definition_says(model, score, beams):
    trie = oracles.torch_trie(oracles.table_of(DOCIDS))
    rows, scores = beam_search(model, *BATCH, trie, k=2, beams=beams, score=score)
    steps = oracles.log_probabilities(model, *BATCH, DOCIDS)
    expected = [oracles.plain_beam_search(each, DOCIDS, 2, beams, score=score) for each in steps]
    assert_found(rows, scores, expected)


def test_a_search_without_the_trie_scores_alike(model):
    trie = oracles.torch_trie(oracles.table_of(DOCIDS))
    rows, scores = unconstrained_search(model, *BATCH, trie, k=8, beams=30)
    steps = oracles.log_probabilities(model, *BATCH, DOCIDS)
    for line, each in enumerate(steps):
        known = dict(oracles.every_document(each, DOCIDS))
        for row, score in zip(rows[line].tolist(), scores[line].tolist(), strict=True):
            assert row < 0 or score == pytest.approx(known[row], abs=1e-4)


def test_in_bfloat16_scores_are_near(model):
    trie = oracles.torch_trie(oracles.table_of(DOCIDS))
    exact = beam_search(model, *BATCH, trie, k=8, beams=8)
    rounded = beam_search(packed(model, "bf16"), *BATCH, trie, k=8, beams=8)
    for line in range(len(exact[0])):
        known = dict(zip(exact[0][line].tolist(), exact[1][line].tolist(), strict=True))
        for row, score in zip(rounded[0][line].tolist(), rounded[1][line].tolist(), strict=True):
            assert score == pytest.approx(known[row], abs=1.5, rel=0.15)


def test_padding_changes_nothing_wherever_it_stands(model):
    ids, mask = BATCH
    codes = torch.full((1, 3), FIRST_CODE)
    codes[0, 0] = 0
    with torch.no_grad():
        plain = model(ids[1:2, :2], mask[1:2, :2], codes).logits
        for shift in (0, 4):
            moved = torch.zeros_like(ids[1:2]), torch.zeros_like(ids[1:2])
            moved[0][:, shift : shift + 2], moved[1][:, shift : shift + 2] = ids[1:2, :2], 1
            assert torch.allclose(model(*moved, codes).logits, plain, atol=1e-5)


def test_logits_are_those_of_the_language_model_itself(model):
    """With the embedding and the output rows of words for codes, it continues as it would."""
    ids, mask = BATCH
    whole = made_again(model)
    words = torch.arange(ALPHABET) + 5
    with torch.no_grad():
        codes = torch.tensor([[4, 7, 9]])
        read = torch.cat([ids[:1], words[codes]], dim=1)
        theirs = whole(input_ids=read).logits[:, -3:, words]
        ours = model(ids[:1], mask[:1], codes).logits
    assert torch.allclose(ours, theirs, atol=1e-4)


def made_again(model: PromptedLanguageModel):
    """The same weights as a plain model of transformers; codes get the rows of words 5 to 16."""
    import transformers

    config = transformers.AutoConfig.for_model(**{**model.config.to_dict(), "vocab_size": WORDS})
    whole = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    torch.manual_seed(1)
    rows = torch.randn(whole.get_output_embeddings().weight.shape) * 0.3
    with torch.no_grad():
        state = model.decoder.language_model.state_dict()
        whole.base_model.load_state_dict(state, strict=False)
        whole.set_input_embeddings(model.encoder.embed_tokens)
        head = torch.nn.Linear(rows.shape[1], WORDS, bias=False)
        head.weight.copy_(rows)
        whole.set_output_embeddings(head)
        words = slice(5, 5 + ALPHABET)
        model.decoder.embed_tokens.weight.copy_(model.encoder.embed_tokens.weight[words])
        model.lm_head.weight.copy_(rows[words])
    return whole.eval()


def test_the_prompt_is_read_once_for_all_beams(model, monkeypatch):
    rows = []
    network = model.decoder.language_model
    forward = network.forward

    def counted(**given):
        rows.append(given["inputs_embeds"].shape)
        return forward(**given)

    monkeypatch.setattr(network, "forward", counted)
    trie = oracles.torch_trie(oracles.table_of(DOCIDS))
    beam_search(model, *BATCH, trie, k=2, beams=8)
    prompts = [shape for shape in rows if shape[:2] == BATCH[0].shape]
    assert len(prompts) == 1
    assert all(shape[1] <= 9 for shape in rows)


def test_it_comes_back_to_the_bit(model, tmp_path):
    save_backbone(model, tmp_path)
    opened = load_backbone(tmp_path)
    codes = torch.tensor([[0, 3, 11]]).expand(3, -1)
    with torch.no_grad():
        assert torch.equal(opened(*BATCH, codes).logits, model(*BATCH, codes).logits)
    assert "implementation" not in (tmp_path / "config.json").read_text()
    assert start_decoder(opened, *BATCH).begins
