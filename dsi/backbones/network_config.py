"""Access to the configuration of an index's network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ENCODER = "dsi_encoder"
"""Key in config.json: a pretrained encoder of whole texts (`dsi.backbones.pooled_encoder`)."""
_DTYPES = ("float32", "float16", "bfloat16", "float64")


def decoder_config(config: Any) -> Any:
    """Returns the configuration of the decoder: its own if it has one (T5Gemma, two BERTs)."""
    inner = getattr(config, "decoder", None)
    return config if inner is None else inner


def encoder_config(config: Any) -> Any:
    """Returns the configuration of the text encoder, likewise (T5Gemma 2 also has images)."""
    inner = getattr(config, "encoder", None)
    return config if inner is None else getattr(inner, "text_config", inner)


def known_config(stored: Mapping[str, Any], kind: Any = None) -> Any:
    """Returns a transformers configuration from the keys that it and `generate` know.

    Args:
        stored: The content of config.json, or a part of it.
        kind: The class of the configuration; None for the one that `model_type` names.
    """
    from transformers import AutoConfig, GenerationConfig, PretrainedConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if kind is None:
        kind = CONFIG_MAPPING[stored["model_type"]]
    known_keys = set(GenerationConfig().to_dict())
    pair = kind.model_type == "encoder-decoder"
    known_keys |= set((PretrainedConfig() if pair else kind()).to_dict())
    if kind.sub_configs:
        known_keys |= {"vocab_size", "pad_token_id", "decoder_start_token_id"}
    known_keys -= {"transformers_version", "architectures", "_name_or_path", "model_type", "dtype"}
    known_keys |= set(kind.sub_configs)
    values = {key: value for key, value in stored.items() if key in known_keys and key[0] != "_"}
    if stored.get("dtype") in _DTYPES:
        values["dtype"] = stored["dtype"]
    for part, of in kind.sub_configs.items():
        config_class = None if of is AutoConfig else of
        values[part] = known_config(stored[part], config_class).to_dict()
    return kind(**values)
