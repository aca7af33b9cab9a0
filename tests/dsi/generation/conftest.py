"""Makes the corpus of this folder importable; tiny models with random weights."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from animals import DOCUMENTS, write


@pytest.fixture
def dataset(tmp_path):
    return write(tmp_path / "set")


@pytest.fixture(scope="session")
def tokenizer():
    from dsi.generation.generative_memory_training import make_tokenizer

    texts = [f"{document.title} {document.text}" for document in DOCUMENTS]
    return make_tokenizer([*texts, "what does eat? welches tier"], 150)


@pytest.fixture(scope="session")
def encoder_decoder(tmp_path_factory, tokenizer) -> Path:
    """A T5 with random weights."""
    from dsi.generation.generative_memory_options import MemoryOptions
    from dsi.generation.generative_memory_training import make_model, save_writer

    folder = tmp_path_factory.mktemp("models") / "t5"
    save_writer(make_model(len(tokenizer), MemoryOptions(width=64, layers=1)), tokenizer, folder)
    return folder


@pytest.fixture(scope="session")
def causal(tmp_path_factory, tokenizer) -> Path:
    """A GPT-2 with random weights."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from dsi.generation.generative_memory_training import save_writer

    folder = tmp_path_factory.mktemp("models") / "gpt2"
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=1, n_head=2, n_positions=256,
        bos_token_id=1, eos_token_id=1,
    )  # fmt: skip
    save_writer(GPT2LMHeadModel(config), tokenizer, folder)
    return folder
