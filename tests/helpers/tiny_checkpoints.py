"""Tiny checkpoints with random weights, of every family named in the docs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

MARKS = ["<pad>", "</s>", "<unk>", "<s>"]
GEMMA = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "query_pre_attn_scalar": 16,
    "sliding_window": 6,
    "max_position_embeddings": 64,
}
CHAT_TEMPLATE = (
    "{% for message in messages %}<s> {{ message['content'] }} </s>{% endfor %}"
    "{% if add_generation_prompt %} <s>{% endif %}"
)
_T5 = {"d_model": 32, "d_kv": 16, "num_heads": 2, "d_ff": 32, "num_layers": 2}


def _gemma_pair(name: str, words: int) -> Any:
    """Two Gemmas with capped logits, one after the other."""
    capped = {"attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0}
    each = {**GEMMA, **capped, "vocab_size": words, "num_hidden_layers": 2}
    if name == "t5gemma":
        config = transformers.T5GemmaConfig(encoder=each, decoder=each, vocab_size=words)
        return transformers.T5GemmaForConditionalGeneration(config)
    vision = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1, "image_size": 8}
    vision |= {"num_hidden_layers": 1, "patch_size": 4, "model_type": "siglip_vision_model"}
    each["layer_types"] = ["sliding_attention", "full_attention"]
    encoder = {"text_config": each, "vision_config": vision, "eoi_token_index": words - 1}
    encoder |= {"image_token_index": words - 2, "mm_tokens_per_image": 4}
    return transformers.T5Gemma2ForConditionalGeneration(
        transformers.T5Gemma2Config(
            encoder=encoder, decoder=each, eoi_token_index=words - 1, image_token_index=words - 2
        )
    )


def _bert_pair(words: int) -> Any:
    bert = {"vocab_size": words, "hidden_size": 32, "num_hidden_layers": 1, "pad_token_id": 0}
    bert |= {"num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 64}
    both = (
        transformers.BertConfig(**bert),
        transformers.BertConfig(**bert, is_decoder=True, add_cross_attention=True),
    )
    config = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(*both)
    return transformers.EncoderDecoderModel(config)


ENCODER_DECODERS: Mapping[str, Callable[[int], Any]] = {
    "flan-t5": lambda words: transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=words, **_T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False
        )
    ),
    "byt5": lambda words: transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=384, **_T5, feed_forward_proj="gated-gelu", num_decoder_layers=1
        )
    ),
    "umt5": lambda words: transformers.UMT5ForConditionalGeneration(
        transformers.UMT5Config(vocab_size=words, **_T5)
    ),
    "longt5": lambda words: transformers.LongT5ForConditionalGeneration(
        transformers.LongT5Config(
            vocab_size=words,
            **_T5,
            encoder_attention_type="transient-global",
            local_radius=4,
            global_block_size=4,
        )
    ),
    "t5gemma": lambda words: _gemma_pair("t5gemma", words),
    "t5gemma2": lambda words: _gemma_pair("t5gemma2", words),
    "bert-pair": _bert_pair,
}


def _language_model(kind: str, words: int, **changes: Any) -> Any:
    """Two layers of width 32; a window of 6 tokens where the family has windows."""
    shape = {**GEMMA, "num_hidden_layers": 2, "vocab_size": words, **changes}
    shape |= {"pad_token_id": 0, "bos_token_id": 3, "eos_token_id": 1}
    if not kind.startswith("gemma"):
        del shape["query_pre_attn_scalar"]
    if kind not in ("gemma2", "gemma3_text", "mistral"):
        del shape["sliding_window"]
    return transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(kind, **shape)
    )


def _with_positions(kind: str, words: int) -> Any:
    """GPT-2 and OPT: learned positions, and no groups of heads."""
    shape: dict[str, Any] = {"vocab_size": words, "pad_token_id": 0, "eos_token_id": 1}
    if kind == "gpt2":
        shape |= {"n_layer": 2, "n_embd": 32, "n_head": 2, "n_positions": 64}
    else:
        shape |= {"num_hidden_layers": 2, "hidden_size": 32, "ffn_dim": 32}
        shape |= {"num_attention_heads": 2, "max_position_embeddings": 64}
        shape |= {"word_embed_proj_dim": 16, "do_layer_norm_before": True}
    return transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(kind, **shape)
    )


LANGUAGE_MODELS: Mapping[str, Callable[[int], Any]] = {
    "llama": lambda words: _language_model("llama", words),  # SmolLM and SmolLM2 are Llamas
    "mistral": lambda words: _language_model("mistral", words),
    "qwen2": lambda words: _language_model("qwen2", words),
    "qwen3": lambda words: _language_model("qwen3", words),
    "gemma": lambda words: _language_model("gemma", words),
    "gemma2": lambda words: _language_model(
        "gemma2", words, attn_logit_softcapping=5.0, final_logit_softcapping=3.0
    ),
    "gemma3": lambda words: _language_model(
        "gemma3_text", words, layer_types=["sliding_attention", "full_attention"]
    ),
    "smollm3": lambda words: _language_model("smollm3", words),
    "gpt2": lambda words: _with_positions("gpt2", words),
    "opt": lambda words: _with_positions("opt", words),
}


def tokenizer_of(texts: Iterable[str]) -> Any:
    """A tokenizer of the words of texts; each text ends in </s>."""
    words = sorted({word for text in texts for word in text.lower().split()})
    known = {word: number for number, word in enumerate([*MARKS, *words])}
    inner = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def write_encoder_decoder(family: str, folder: Path, texts: Iterable[str]) -> str:
    """Writes the checkpoint of a family with its tokenizer, and returns its path."""
    tokenizer = transformers.ByT5Tokenizer() if family == "byt5" else tokenizer_of(texts)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    ENCODER_DECODERS[family](len(tokenizer)).save_pretrained(folder)
    return str(folder)


def write_language_model(family: str, folder: Path, texts: Iterable[str]) -> str:
    """Writes the checkpoint of a language model with its tokenizer, and returns its path."""
    tokenizer = tokenizer_of([*texts, "Query: Document:"])
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    LANGUAGE_MODELS[family](len(tokenizer)).save_pretrained(folder)
    return str(folder)


GGUF_WIDTH = 32
GGUF_TOKENS = [
    "<unk>",
    "<s>",
    "</s>",
    *map(chr, range(97, 123)),
    "\u0120",
    "th",
    "the",
    "<|endoftext|>",
]


def write_gguf(path: Path, architecture: str = "llama") -> Path:
    """Writes a Llama of one layer with random weights, as llama.cpp does."""
    import gguf
    import numpy as np

    inner = 64
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_context_length(64)
    writer.add_embedding_length(GGUF_WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(GGUF_TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(GGUF_TOKENS)
    writer.add_token_types([2, 3, 3, *[1] * (len(GGUF_TOKENS) - 4), 3])
    writer.add_token_merges(["t h", "th e"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    rng = np.random.default_rng(0)
    shapes = {
        "token_embd": (len(GGUF_TOKENS), GGUF_WIDTH),
        "output_norm": (GGUF_WIDTH,),
        "output": (len(GGUF_TOKENS), GGUF_WIDTH),
        "blk.0.attn_norm": (GGUF_WIDTH,),
        "blk.0.ffn_norm": (GGUF_WIDTH,),
        "blk.0.attn_q": (GGUF_WIDTH, GGUF_WIDTH),
        "blk.0.attn_k": (GGUF_WIDTH, GGUF_WIDTH),
        "blk.0.attn_v": (GGUF_WIDTH, GGUF_WIDTH),
        "blk.0.attn_output": (GGUF_WIDTH, GGUF_WIDTH),
        "blk.0.ffn_gate": (inner, GGUF_WIDTH),
        "blk.0.ffn_up": (inner, GGUF_WIDTH),
        "blk.0.ffn_down": (GGUF_WIDTH, inner),
    }
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", rng.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
