"""A T5 with random weights and a tokenizer of a few words."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

WORDS = ["cats", "dogs", "hunt", "mice", "sleep", "carve", "valleys", "glaciers"]


def write(folder: Path) -> str:
    """Writes the checkpoint, and returns its path; the id of a word is 2 + its place in WORDS."""
    vocabulary = {"<pad>": 0, "<unk>": 1, **{word: 2 + n for n, word in enumerate(WORDS)}}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", unk_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    config = T5Config(vocab_size=len(vocabulary), decoder_start_token_id=0, **shape)
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return str(folder)
