"""Opens the tokenizer of an index, with known classes and checked values only.

transformers' `AutoTokenizer` takes the class from the folder, any class of its main module, and
lets it load anything. Here a folder only defines its tokens: a `tokenizer.json` is read by the
tokenizers library and wrapped; without one, the tokenizer must be one of a few pure-Python classes
of transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.errors import InputError
from data_prep.files import read_json
from data_prep.remote_code import disable_code_prompt

PYTHON_CLASSES = (
    "BlenderbotSmallTokenizer", "ByT5Tokenizer", "FSMTTokenizer", "M2M100Tokenizer",
    "MarianTokenizer", "PLBartTokenizer", "ProphetNetTokenizer",
)  # fmt: skip
"""Tokenizers of encoder-decoders that transformers has in Python only."""
_TOKENS = (
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
)  # fmt: skip
_WRAPPED: Mapping[str, Any] = {
    "model_max_length": (int, float),
    "truncation_side": str,
    "split_special_tokens": bool,
}
_SETTINGS = "tokenizer_config.json"
_FILE = "tokenizer.json"


def check_storable(tokenizer: Any, name: str) -> None:
    """Raises InputError if an index could not open this tokenizer again."""
    if getattr(tokenizer, "backend_tokenizer", None) is not None:
        return
    if type(tokenizer).__name__ not in PYTHON_CLASSES:
        raise InputError(
            f"an index cannot store the tokenizer of {name!r}, a {type(tokenizer).__name__}",
            hint=f"Save it as {_FILE} (with the tokenizers library), or use another checkpoint",
        )


def open_tokenizer(folder: Path) -> Any:
    """Opens the folder of a tokenizer saved by transformers.

    Raises:
        InputError: A file is missing, damaged, or names an unknown tokenizer.
    """
    settings = read_json(folder / _SETTINGS)
    if not isinstance(settings, dict):
        raise InputError("not the settings of a tokenizer", where=folder / _SETTINGS)
    try:
        if (folder / _FILE).is_file():
            return _wrapped(folder / _FILE, settings)
        return _in_python(folder, settings)
    except InputError:
        raise
    # The tokenizers library has no exception class of its own, and panics on some files.
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit, MemoryError)):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"cannot read the tokenizer ({reason:.200})", where=folder) from None


def _wrapped(file: Path, settings: Mapping[str, Any]) -> Any:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer.from_file(str(file))
    vocabulary = set(tokenizer.get_vocab())
    special_tokens: dict[str, Any] = {}
    for name in _TOKENS:
        token = _content(settings.get(name))
        if token is None:
            continue
        if token not in vocabulary:  # it would be added, but the model has no row for it
            raise InputError(f"{name} {token!r:.60} is not a token", where=file.parent / _SETTINGS)
        special_tokens[name] = token
    for name, kind in _WRAPPED.items():
        if isinstance(settings.get(name), kind):
            special_tokens[name] = settings[name]
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special_tokens)
    if len(wrapped) != len(vocabulary):
        raise InputError(
            f"the tokenizer has {len(wrapped)} tokens, but {len(vocabulary)} are stored", where=file
        )
    return wrapped


def _content(token: Any) -> str | None:
    """Returns the text of a token from its form in `tokenizer_config.json`."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None


def _in_python(folder: Path, settings: Mapping[str, Any]) -> Any:
    import transformers

    name = settings.get("tokenizer_class")
    if name not in PYTHON_CLASSES:
        raise InputError(
            f"the tokenizer {name!r:.80} is not supported",
            where=folder / _SETTINGS,
            hint="Copy the whole index again; if that does not help, do not trust it",
        )
    for key, value in settings.items():
        # transformers saves pure-Python tokenizers as "custom".
        other = key == "backend" and value != "custom"
        if key.endswith(("_file", "_map")) or other:
            raise InputError(f"{key!r:.80} is not allowed here", where=folder / _SETTINGS)
    if (folder / "config.json").exists():
        raise InputError(
            "this file belongs to a model, not to a tokenizer", where=folder / "config.json"
        )
    disable_code_prompt()
    return getattr(transformers, name).from_pretrained(
        str(folder), local_files_only=True, trust_remote_code=False
    )
