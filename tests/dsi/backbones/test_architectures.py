"""Encoder-decoders of families other than T5 and BART are restored from an index unchanged."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    BertConfig,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    FSMTConfig,
    FSMTForConditionalGeneration,
    LEDConfig,
    LEDForConditionalGeneration,
    PegasusConfig,
    PegasusForConditionalGeneration,
    ProphetNetConfig,
    ProphetNetForConditionalGeneration,
)

from data_prep.errors import InputError
from dsi.backbones.backbone import (
    from_pretrained,
    load_backbone,
    save_backbone,
    set_docid_alphabet,
)

WORDS, CODES = 43, 12


def made(name: str):
    """A tiny network of each family."""
    ends = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    if name == "bert2bert":
        bert = {"vocab_size": WORDS, "hidden_size": 16, "num_hidden_layers": 1}
        bert |= {"num_attention_heads": 2, "intermediate_size": 16}
        both = BertConfig(**bert), BertConfig(**bert, is_decoder=True, add_cross_attention=True)
        return EncoderDecoderModel(EncoderDecoderConfig.from_encoder_decoder_configs(*both))
    if name == "prophetnet":
        return ProphetNetForConditionalGeneration(
            ProphetNetConfig(
                vocab_size=WORDS,
                hidden_size=16,
                num_encoder_layers=1,
                num_decoder_layers=1,
                num_encoder_attention_heads=2,
                num_decoder_attention_heads=2,
                encoder_ffn_dim=16,
                decoder_ffn_dim=16,
                max_position_embeddings=64,
            )
        )
    if name == "pegasus":
        return PegasusForConditionalGeneration(
            PegasusConfig(vocab_size=WORDS, d_model=16, **ends, **heads)
        )
    return LEDForConditionalGeneration(
        LEDConfig(vocab_size=WORDS, d_model=16, attention_window=[4], **ends, **heads)
    )


@pytest.mark.parametrize("name", ["bert2bert", "prophetnet", "pegasus", "led"])
def test_it_comes_back_to_the_bit(name, tmp_path):
    torch.manual_seed(0)
    model = set_docid_alphabet(made(name), WORDS, CODES).eval()
    save_backbone(model, tmp_path)
    opened = load_backbone(tmp_path)
    given = {
        "input_ids": torch.tensor([[5, 6, 7, 8]]),
        "attention_mask": torch.ones(1, 4, dtype=torch.int64),
        "decoder_input_ids": torch.tensor([[0, 3, 11]]),
    }
    with torch.no_grad():
        ours, theirs = model(**given).logits, opened(**given).logits
    assert ours.shape == (1, 3, CODES)
    assert torch.equal(ours, theirs)


def test_one_whose_embeddings_cannot_be_replaced_is_refused(tmp_path):
    ends = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    sizes = {"src_vocab_size": WORDS, "tgt_vocab_size": WORDS, "d_model": 16}
    config = FSMTConfig(langs=["en", "de"], **sizes, **ends, **heads)
    FSMTForConditionalGeneration(config).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="is a fsmt, whose token embeddings cannot be replaced"):
        from_pretrained(str(tmp_path), alphabet_size=CODES)
