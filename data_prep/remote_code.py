"""No code that comes with a checkpoint is run, and nobody is asked whether it should be.

`trust_remote_code=False` is not enough for that: where a file of a checkpoint names one of
transformers' own `Auto` classes as its tokenizer, the flag is lost on the way, transformers asks
on the terminal, and a "y" runs what the folder holds. An implementation of attention that looks
like "user/kernel" is fetched from a hub and run without any question.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from data_prep.errors import InputError

BUILT_IN = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
"""Implementations of attention that come with the installed libraries."""
_IMPLEMENTATIONS = ("attn_implementation", "experts_implementation")


def never_ask() -> None:
    """Lets transformers refuse remote code where it would ask; to be called before it loads."""
    from transformers import dynamic_module_utils

    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0


def refuse_foreign_code(config: Mapping[str, Any], where: str | os.PathLike[str]) -> None:
    """Refuses the JSON of a configuration that names code from elsewhere, at any depth.

    Args:
        config: The content of a `config.json`.
        where: The file or the name of the checkpoint.

    Raises:
        InputError: It names an implementation that is no part of the installed libraries.
    """
    for key, value in config.items():
        if key.strip("_").removesuffix("_internal") in _IMPLEMENTATIONS:
            chosen = list(value.values()) if isinstance(value, Mapping) else [value]
            for one in chosen:
                if (
                    one is not None
                    and one not in BUILT_IN
                    and one not in ("grouped_mm", "batched_mm")
                ):
                    raise InputError(
                        f"{key} {one!r:.80} is none of the installed libraries'",
                        where=where,
                        hint=f"Choose from: {', '.join(BUILT_IN)}, or leave it out",
                    )
        elif isinstance(value, Mapping):
            refuse_foreign_code(value, where)


def checked_config(name: str, **options: Any) -> Any:
    """Returns the configuration of a checkpoint, by transformers' own classes alone.

    Args:
        name: A hub id, or the path of a folder.
        options: Further options of transformers, such as `gguf_file`.

    Raises:
        InputError: It names code from elsewhere.
        OSError: It cannot be reached.
        ValueError: It is unknown to transformers, or asks for code of its own.
    """
    from transformers import AutoConfig
    from transformers.configuration_utils import PretrainedConfig

    never_ask()
    stored, _ = PretrainedConfig.get_config_dict(name, **options)
    refuse_foreign_code(stored, name)
    return AutoConfig.from_pretrained(name, trust_remote_code=False, **options)
