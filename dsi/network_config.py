"""What the configuration of an index's network may say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ENCODER = "dsi_encoder"
"""Key in config.json: a pretrained encoder of whole texts (`dsi.pooled_encoder`)."""
_DTYPES = ("float32", "float16", "bfloat16", "float64")


def known_config(stored: Mapping[str, Any]) -> Any:
    """Returns a configuration of transformers from the keys that it and `generate` know."""
    from transformers import GenerationConfig, PretrainedConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = CONFIG_MAPPING[stored["model_type"]]
    known = set(GenerationConfig().to_dict())
    parts = {"encoder", "decoder"} if kind.model_type == "encoder-decoder" else set()
    known |= parts | set((PretrainedConfig() if parts else kind()).to_dict())
    if parts:
        known |= {"vocab_size", "pad_token_id", "decoder_start_token_id"}
    known -= {"transformers_version", "architectures", "_name_or_path", "model_type", "dtype"}
    kept = {key: value for key, value in stored.items() if key in known and key[0] != "_"}
    if stored.get("dtype") in _DTYPES:
        kept["dtype"] = stored["dtype"]
    for part in parts:
        kept[part] = {**known_config(stored[part]).to_dict()}
    return kind(**kept)
