"""Never runs code from a checkpoint, and never prompts for it.

`trust_remote_code=False` is not sufficient. If a checkpoint names one of transformers' own `Auto`
classes as its tokenizer, the flag is lost, transformers prompts on the terminal, and "y" runs code
from the folder. An attention implementation such as "user/kernel" is downloaded and run without a
prompt.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from data_prep.errors import InputError

BUILT_IN = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
"""Attention implementations of the installed libraries."""
_IMPLEMENTATIONS = ("attn_implementation", "experts_implementation")


def disable_code_prompt() -> None:
    """Makes transformers refuse remote code instead of prompting; call it before loading."""
    from transformers import dynamic_module_utils

    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0


def import_sentence_transformers(what: str, where: str | os.PathLike[str] | None) -> Any:
    """Returns sentence-transformers; before version 6 it runs a folder's code without asking.

    Args:
        what: What needs it, for the error.
        where: The option that asked for it.

    Raises:
        InputError: It is missing, or too old.
    """
    try:
        import sentence_transformers

        if int(sentence_transformers.__version__.split(".")[0]) < 6:
            raise ImportError
    except ImportError:
        raise InputError(
            f"{what} requires the package sentence-transformers, version 6 or later",
            where=where,
            hint="pip install 'dsi-toolkit[embeddings]'",
        ) from None
    disable_code_prompt()
    return sentence_transformers


def refuse_foreign_code(config: Mapping[str, Any], where: str | os.PathLike[str]) -> None:
    """Refuses a configuration that names external code, at any depth.

    Args:
        config: The content of a `config.json`.
        where: The file or the name of the checkpoint.

    Raises:
        InputError: It names an implementation that is not part of the installed libraries.
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
                        f"{key} {one!r:.80} is not provided by the installed libraries",
                        where=where,
                        hint=f"Choose from: {', '.join(BUILT_IN)}, or omit it",
                    )
        elif isinstance(value, Mapping):
            refuse_foreign_code(value, where)


def checked_config(name: str, **options: Any) -> Any:
    """Returns the configuration of a checkpoint, using only transformers' own classes.

    Args:
        name: A hub id, or the path of a folder.
        options: Further options of transformers, such as `gguf_file`.

    Raises:
        InputError: It names external code.
        OSError: It cannot be reached.
        ValueError: It is unknown to transformers, or needs its own code.
    """
    from transformers import AutoConfig
    from transformers.configuration_utils import PretrainedConfig

    disable_code_prompt()
    stored, _ = PretrainedConfig.get_config_dict(name, **options)
    refuse_foreign_code(stored, name)
    return AutoConfig.from_pretrained(name, trust_remote_code=False, **options)
