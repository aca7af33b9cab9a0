"""Tiny encoders with random or given weights, in every layout on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def tokenizer_of(words: Sequence[str], marks: Sequence[str] = MARKS, closed: bool = False):
    """A tokenizer of whole words: the marks, then the words; [CLS] and [SEP] close a text."""
    known = {word: row for row, word in enumerate([*marks, *words])}
    inner = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if closed:
        inner.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    return inner


def write_tokenizer(folder: Path, words: Sequence[str], **settings) -> None:
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer_of(words, closed=True),
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        **settings,
    ).save_pretrained(folder)


def write_bert(folder: Path, words: Sequence[str], kind: str = "bert", **shape) -> str:
    """Writes a plain checkpoint of transformers with random weights, and returns its path."""
    import torch
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(0)
    settings = {
        "vocab_size": len(MARKS) + len(words),
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "max_position_embeddings": 16,
        "pad_token_id": 0,
        **shape,
    }
    AutoModel.from_config(AutoConfig.for_model(kind, **settings)).save_pretrained(folder)
    write_tokenizer(folder, words)
    return str(folder)


def write_sentence_transformer(
    folder: Path,
    checkpoint: str,
    pooling: str = "cls",
    normalize: bool = True,
    prompts: Mapping[str, str] | None = None,
    similarity: str | None = None,
) -> str:
    """Writes a sentence-transformers folder round a plain checkpoint, and returns its path."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    transformer = Transformer(checkpoint)
    modules = [transformer, Pooling(transformer.get_embedding_dimension(), pooling_mode=pooling)]
    model = SentenceTransformer(
        modules=[*modules, Normalize()] if normalize else modules,
        prompts=dict(prompts or {}),
        similarity_fn_name=similarity,
        device="cpu",
    )
    model.save_pretrained(str(folder), create_model_card=False)
    return str(folder)


def write_static(folder: Path, vectors: Mapping[str, Sequence[float]]) -> str:
    """Writes static embeddings of sentence-transformers; other words have the vector 0."""
    folder.mkdir()
    tokenizer_of(list(vectors), ["[UNK]"]).save(str(folder / "tokenizer.json"))
    rows = [np.zeros(len(next(iter(vectors.values())))), *vectors.values()]
    save_file({"embedding.weight": np.array(rows, np.float32)}, folder / "model.safetensors")
    module = "sentence_transformers.models.StaticEmbedding"
    modules = [{"idx": 0, "name": "0", "path": "", "type": module}]
    (folder / "modules.json").write_text(json.dumps(modules))
    return str(folder)


def write_model2vec(
    folder: Path, vectors: Mapping[str, Sequence[float]], normalize: bool = False
) -> str:
    """Writes static embeddings as model2vec did before it wrote modules.json."""
    write_static(folder, vectors)
    (folder / "modules.json").unlink()
    rows = [np.zeros(len(next(iter(vectors.values())))), *vectors.values()]
    save_file({"embeddings": np.array(rows, np.float32)}, folder / "model.safetensors")
    config = {"model_type": "model2vec", "architectures": ["StaticModel"], "normalize": normalize}
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)
