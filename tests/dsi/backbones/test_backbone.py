"""Any encoder-decoder of transformers with the docid alphabet in its decoder."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BloomConfig,
    BloomForCausalLM,
    MBartConfig,
    MBartForConditionalGeneration,
    MT5Config,
    MT5ForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)

from data_prep.errors import InputError
from docids.table import END, PAD
from dsi.backbones.backbone import (
    SIZES,
    from_pretrained,
    from_scratch,
    load_backbone,
    save_backbone,
)

WORDS, ALPHABET = 30, 13
T5 = {"vocab_size": WORDS, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
BART = {
    "vocab_size": WORDS,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "max_position_embeddings": 32,
}


def make(kind: str):
    torch.manual_seed(0)
    if kind == "t5-1.0":
        config = T5Config(**T5, feed_forward_proj="relu", tie_word_embeddings=True)
        return T5ForConditionalGeneration(config)
    if kind == "t5-relu":
        config = T5Config(**T5, feed_forward_proj="relu", tie_word_embeddings=False)
        return T5ForConditionalGeneration(config)
    if kind == "t5-gated":
        config = T5Config(**T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
        return T5ForConditionalGeneration(config)
    if kind == "mt5":
        return MT5ForConditionalGeneration(MT5Config(**T5))
    if kind == "bart":
        return BartForConditionalGeneration(BartConfig(**BART, forced_eos_token_id=2))
    return MBartForConditionalGeneration(MBartConfig(**BART, scale_embedding=True))


KINDS = ["t5-1.0", "t5-relu", "t5-gated", "mt5", "bart", "mbart"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A tiny random checkpoint of each kind, on the disk."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for kind in KINDS:
        make(kind).save_pretrained(folder / kind)
    return folder


IDS = torch.tensor([[3, 4, 5, 6], [7, 8, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
CODES = torch.tensor([[PAD, 3, 7], [PAD, 12, END]])


@torch.inference_mode()
def encoded(model) -> torch.Tensor:
    return model.eval().get_encoder()(input_ids=IDS, attention_mask=MASK).last_hidden_state


@torch.inference_mode()
def logits(model) -> torch.Tensor:
    return model.eval()(input_ids=IDS, attention_mask=MASK, decoder_input_ids=CODES).logits


def graft(checkpoints, kind, alphabet=ALPHABET, seed=0):
    return from_pretrained(str(checkpoints / kind), alphabet_size=alphabet, seed=seed)


@pytest.mark.parametrize("kind", KINDS)
def test_the_encoder_of_a_checkpoint_is_kept_exactly(checkpoints, kind):
    assert torch.equal(encoded(graft(checkpoints, kind)), encoded(make(kind)))


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_over_the_docid_alphabet(checkpoints, kind):
    model = graft(checkpoints, kind)
    found = logits(model)
    assert found.shape == (2, 3, ALPHABET)
    assert torch.isfinite(found).all()
    assert model.config.vocab_size == ALPHABET
    assert model.get_decoder().get_input_embeddings().weight.shape == (ALPHABET, 16)
    assert model.get_encoder().get_input_embeddings().weight.shape == (WORDS, 16)


@pytest.mark.parametrize("kind", KINDS)
def test_text_codes_and_output_rows_are_weights_of_their_own(checkpoints, kind):
    model = graft(checkpoints, kind)
    layers = (
        model.get_encoder().get_input_embeddings().weight,
        model.get_decoder().get_input_embeddings().weight,
        model.get_output_embeddings().weight,
    )
    assert len({weight.data_ptr() for weight in layers}) == 3
    names = {id(weight) for weight in model.parameters()}
    assert {id(weight) for weight in layers} <= names
    # One row of each is enough to change the logits: no scaling or weight tying hides the change.
    plain = logits(model)
    for weight, row in zip(layers, (3, PAD, 5), strict=True):
        with torch.no_grad():
            weight[row] += 1.0
        assert not torch.equal(plain, logits(model))
        with torch.no_grad():
            weight[row] -= 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_is_trained(checkpoints, kind):
    model = graft(checkpoints, kind).train()
    model(input_ids=IDS, attention_mask=MASK, decoder_input_ids=CODES).logits.sum().backward()
    without = [name for name, weight in model.named_parameters() if weight.grad is None]
    assert without == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alphabet", [ALPHABET, WORDS, 400])
def test_saved_and_loaded_it_is_the_same_to_the_bit(checkpoints, kind, alphabet, tmp_path):
    model = graft(checkpoints, kind, alphabet)
    save_backbone(model, tmp_path / "deep" / "model")
    opened = load_backbone(tmp_path / "deep" / "model")
    assert not opened.training
    assert type(opened) is type(model)
    assert torch.equal(logits(opened), logits(model))
    ours, theirs = model.state_dict(), opened.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    save_backbone(opened, tmp_path / "again")
    for file in ("model.safetensors", "config.json"):
        first = (tmp_path / "deep" / "model" / file).read_bytes()
        assert first == (tmp_path / "again" / file).read_bytes()
    assert sorted(file.name for file in (tmp_path / "again").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_generate_writes_codes(checkpoints, kind, tmp_path):
    save_backbone(graft(checkpoints, kind), tmp_path)
    for model in (graft(checkpoints, kind), load_backbone(tmp_path)):
        written = model.generate(
            input_ids=IDS, attention_mask=MASK, max_new_tokens=4, num_beams=3, do_sample=False
        )
        assert (written[:, 0] == PAD).all()
        assert int(written.max()) < ALPHABET
        assert written.shape[1] <= 5


@pytest.mark.parametrize("kind", ["t5-1.0", "bart"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_checkpoints_are_loaded_in_full_precision(kind, dtype, tmp_path):
    make(kind).to(dtype).save_pretrained(tmp_path / "half")
    model = from_pretrained(str(tmp_path / "half"), alphabet_size=ALPHABET)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    stored = make(kind).to(dtype).float()
    torch.testing.assert_close(encoded(model), encoded(stored), rtol=0, atol=0)
    save_backbone(model, tmp_path / "model")
    opened = load_backbone(tmp_path / "model")
    assert {weight.dtype for weight in opened.parameters()} == {torch.float32}
    assert torch.equal(logits(opened), logits(model))


def test_new_rows_follow_the_seed_and_nothing_else(checkpoints):
    def rows(seed: int) -> torch.Tensor:
        return graft(checkpoints, "bart", seed=seed).get_output_embeddings().weight

    first = rows(1)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert torch.equal(first, rows(1))
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(first, rows(2))


def scratch(size: str, **changes):
    settings = {"text_vocabulary": WORDS, "alphabet_size": ALPHABET, **changes}
    return from_scratch(size, **settings)


@pytest.mark.parametrize("size", ["latent", "tiny", "mini"])
def test_sizes_from_scratch_have_their_shape_and_come_back(size, tmp_path):
    model = scratch(size)
    assert model.config.num_layers == SIZES[size].encoder_layers
    assert model.config.num_decoder_layers == SIZES[size].decoder_layers
    assert model.config.num_heads * model.config.d_kv == model.config.d_model
    assert logits(model).shape == (2, 3, ALPHABET)
    save_backbone(model, tmp_path)
    assert torch.equal(logits(load_backbone(tmp_path)), logits(model))


def test_weights_from_scratch_follow_the_seed_and_nothing_else():
    first = scratch("tiny", seed=1).state_dict()
    torch.manual_seed(99)
    before = torch.get_rng_state()
    again, other = scratch("tiny", seed=1).state_dict(), scratch("tiny", seed=2).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])


def test_dropout_acts_in_training_only():
    model = scratch("tiny", dropout=0.5)
    assert torch.equal(logits(model), logits(model))
    model.train()
    with torch.no_grad():
        one, other = (
            model(input_ids=IDS, attention_mask=MASK, decoder_input_ids=CODES).logits
            for _ in range(2)
        )
    assert not torch.equal(one, other)


def test_an_unknown_size_is_refused():
    with pytest.raises(InputError, match=r"unknown model size 'giant'.*latent"):
        scratch("giant")


def test_a_language_model_that_is_not_known_is_refused(tmp_path):
    config = BloomConfig(vocab_size=WORDS, hidden_size=16, n_layer=1, n_head=2)
    BloomForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(
        InputError, match=r"bloom, which is neither an encoder-decoder.*gpt2, llama"
    ):
        from_pretrained(str(tmp_path), alphabet_size=ALPHABET)


@pytest.mark.parametrize(
    "damage",
    [
        shutil.rmtree,
        lambda folder: (folder / "config.json").unlink(),
        lambda folder: (folder / "config.json").write_text("{"),
        lambda folder: (folder / "config.json").write_text('{"model_type": "unheard-of"}'),
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "model.safetensors").write_bytes(b"no weights"),
        lambda folder: (folder / "model.safetensors").write_bytes(
            (folder / "model.safetensors").read_bytes()[:2000]
        ),
    ],
)
def test_a_damaged_checkpoint_is_refused(checkpoints, damage, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(checkpoints / "bart", copy)
    damage(copy)
    with pytest.raises(InputError) as refused:
        from_pretrained(str(copy), alphabet_size=ALPHABET)
    assert "\n" not in str(refused.value)
    assert "copy" in str(refused.value)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(checkpoints, file, tmp_path):
    save_backbone(graft(checkpoints, "bart"), tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(InputError, match=file):
        load_backbone(tmp_path)


@pytest.mark.parametrize(
    "name", ["GPT2LMHeadModel", "T5Model", "AutoModelForSeq2SeqLM", "os.system", "pipeline"]
)
def test_other_architectures_are_refused(checkpoints, name, tmp_path):
    save_backbone(graft(checkpoints, "bart"), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": [name]}))
    with pytest.raises(InputError, match="neither an encoder-decoder nor a supported"):
        load_backbone(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_decoder_that_is_cut_keeps_its_first_layers(checkpoints, kind, tmp_path):
    whole = graft(checkpoints, kind)
    cut = from_pretrained(str(checkpoints / kind), alphabet_size=ALPHABET, decoder_layers=1, seed=0)
    names = {name for name in whole.state_dict() if not re.search(r"decoder\.\w+\.1\.", name)}
    assert set(cut.state_dict()) == names < set(whole.state_dict())
    for name in names:
        assert torch.equal(cut.state_dict()[name], whole.state_dict()[name]), name
    assert not torch.allclose(logits(cut), logits(whole), atol=1e-4)
    save_backbone(cut, tmp_path / "cut")
    assert torch.equal(logits(load_backbone(tmp_path / "cut")), logits(cut.eval()))
    with pytest.raises(InputError, match=r"--model\.decoder_layers 3 is more than the 2"):
        from_pretrained(str(checkpoints / kind), alphabet_size=ALPHABET, decoder_layers=3)
