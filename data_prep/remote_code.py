"""Loads checkpoints without running their code, prompting the user, or blocking forever.

`trust_remote_code=False` is not sufficient. If a checkpoint names one of transformers' own `Auto`
classes as its tokenizer, the flag is lost, transformers prompts on the terminal, and "y" runs code
from the folder. An attention implementation such as "user/kernel" is downloaded and run without a
prompt. A weights file that is a pipe or leads to a device is read forever, and a million layers
take an hour to make, even without memory.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data_prep.errors import InputError

BUILT_IN = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
"""Attention implementations of the installed libraries."""
MOST_LAYERS = 1_000
"""Maximum number of layers in a network; the deepest published ones have a few hundred."""
_MOST_CONFIG = 16 << 20
"""Bytes of a `config.json`."""
_MOST_COMPUTED = 1 << 24
"""Weights that a network may have and not store, such as tables of positions."""
_WEIGHT_FILES = (".safetensors", ".bin", ".pt", ".gguf")
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


def check_folder(name: str) -> None:
    """Refuses the folder of a checkpoint that a loader would read forever, or run code for.

    Links are followed: the hub's cache is made of them.

    Args:
        name: A folder; hub ids and files pass.

    Raises:
        InputError: It has a pipe or a device, or a `config.json` that names external code or more
            than `MOST_LAYERS` layers.
        FileNotFoundError: It is no hub id, and no folder either.
    """
    place = Path(name)
    if not place.exists() and (place.is_absolute() or len(place.parts) > 2):
        # Libraries take it for a hub id, and log a warning of their own.
        raise FileNotFoundError("there is no such folder")
    for file in _files(place):
        try:
            status = file.stat()
        except OSError:
            continue  # a link that leads nowhere: loaders say so
        if not stat.S_ISREG(status.st_mode):
            raise InputError(
                "a pipe or device in place of a file of a model",
                where=file,
                hint="Download the model again",
            )
        if file.name == "config.json":
            if status.st_size > _MOST_CONFIG:
                raise InputError(f"more than {_MOST_CONFIG:,} bytes", where=file)
            try:
                config = json.loads(file.read_text(encoding="utf-8"))
            except (ValueError, RecursionError):
                continue  # loaders say so, too
            if isinstance(config, dict):
                _refuse_depth(config, file)
                refuse_foreign_code(config, file)


def _files(folder: Path) -> Iterator[Path]:
    """Yields the files of a folder and of the folders in it, where parts of encoders are."""
    for entry in [*folder.iterdir()] if folder.is_dir() else []:
        if not entry.is_dir():
            yield entry
            continue
        yield from (inside for inside in entry.iterdir() if not inside.is_dir())


def _refuse_depth(config: Mapping[str, Any], where: str | os.PathLike[str]) -> None:
    for key, value in config.items():
        if isinstance(value, Mapping):
            _refuse_depth(value, where)
        elif "layer" in key and isinstance(value, int | float) and not value <= MOST_LAYERS:
            raise InputError(
                f"{key} is {value:,}, more than {MOST_LAYERS:,}",
                where=where,
                hint="Download the model again",
            )


def reason_of(error: Exception) -> str:
    """Returns what a loader's error says, in one line."""
    text = str(error).strip() or type(error).__name__
    if "ignore_mismatched_sizes" in text:
        return "its weights do not have the shapes that its configuration describes"
    return text.splitlines()[0]


def check_loaded(model: Any, name: str) -> None:
    """Refuses weights that are not finite, or a vocabulary of another size than configured.

    The output of the first is meaningless. As for the second, several versions of transformers
    read a GGUF file without comparing the shapes.

    Args:
        model: A model of transformers.
        name: Name of the checkpoint, for the message.

    Raises:
        InputError: A parameter has a NaN or an infinity, or there are fewer or more token
            embeddings than the configuration says.
    """
    import torch

    for key, each in model.named_parameters():
        if each.numel() and not bool(torch.stack(each.detach().aminmax()).isfinite().all()):
            raise InputError(
                f"the weights {key!r} of the model {name!r} are not finite",
                hint="Download the model again",
            )
    rows = model.get_input_embeddings().weight.shape[0]
    reader = getattr(model.config, "encoder", model.config)  # of an encoder-decoder pair
    words = getattr(reader.get_text_config(), "vocab_size", rows)
    if rows != words:
        raise InputError(
            f"the model {name!r} has {rows:,} token embeddings, but its configuration says "
            f"{words:,}",
            hint="Download the model again",
        )


def checked_config(name: str, **options: Any) -> Any:
    """Returns the configuration of a checkpoint, using only transformers' own classes.

    Args:
        name: A hub id, or the path of a folder.
        options: Further options of transformers, such as `gguf_file`.

    Raises:
        InputError: It names external code, or describes a network far larger than its files.
        OSError: It cannot be reached.
        ValueError: It is unknown to transformers, makes no sense, or needs its own code.
    """
    from transformers import AutoConfig
    from transformers.configuration_utils import PretrainedConfig

    disable_code_prompt()
    if not options:  # of a GGUF file, the folder is no checkpoint
        check_folder(name)
    try:
        stored, _ = PretrainedConfig.get_config_dict(name, **options)
        _refuse_depth(stored, name)
        refuse_foreign_code(stored, name)
        config = AutoConfig.from_pretrained(name, trust_remote_code=False, **options)
        limit = _most_weights(Path(name), **options)
        asked = 0 if limit is None else _weights(config)
    except (OSError, ValueError, ImportError):
        raise
    except Exception as error:  # transformers checks values with whatever it computes from them
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None
    if limit is not None and asked > limit:
        raise InputError(
            f"the configuration implies {asked:,} weights, but the files hold at most {limit:,}",
            where=name,
            hint="Download the model again",
        )
    return config


def _weights(config: Any) -> int:
    """Returns the number of weights of the network of a configuration; allocates nothing."""
    import torch
    from transformers import MODEL_MAPPING, AutoModel

    if type(config) not in MODEL_MAPPING:
        return 0
    with torch.device("meta"):
        network = AutoModel.from_config(config, trust_remote_code=False)
    return sum(parameter.numel() for parameter in network.parameters())


def _most_weights(folder: Path, gguf_file: str = "") -> int | None:
    """Returns how many weights the files can hold, at 2 bits each in GGUF and 4 otherwise.

    None for hub ids, and for folders without weights, which loaders refuse.
    """
    files = [folder / gguf_file] if gguf_file else [*_files(folder)]
    sizes = [each.stat().st_size for each in files if each.suffix in _WEIGHT_FILES]
    return (4 if gguf_file else 2) * sum(sizes) + _MOST_COMPUTED if sizes else None
