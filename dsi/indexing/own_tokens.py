"""The codes that start from tokens of a language model: PAD, and identifiers in its own tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from data_prep.errors import InputError
from data_prep.files import read_json
from docids.model_tokens import ModelTokens, code_tokens
from docids.table import PAD
from dsi.text_encoders.prompt_template import TemplateEncoder, split_before_identifier
from dsi.text_encoders.text_encoder import TextEncoder

if TYPE_CHECKING:
    from docids.kinds import Built
    from dsi.indexing.options import TrainingOptions


def in_model_tokens(options: TrainingOptions, docids_folder: Path | None) -> bool:
    """Tells whether identifiers are written in the tokens of a language model.

    Args:
        options: Training options.
        docids_folder: Existing identifiers; None to assign those of the options.
    """
    given: Any = vars(options.of_kind(options.docids))
    if docids_folder is not None and (docids_folder / "docids.json").is_file():
        given = read_json(docids_folder / "docids.json").get("options")
    return isinstance(given, Mapping) and given.get("tokens") == "model"


def with_token_rows(options: TrainingOptions, docids_folder: Path | None) -> TrainingOptions:
    """Returns options with the warm start `tokens` if identifiers are in the model's tokens.

    Raises:
        InputError: There is no language model, or another warm start is requested; or `tokens` is,
            and identifiers are not in its tokens.
    """
    model, kind = options.model, options.docids
    if not in_model_tokens(options, docids_folder):
        if model.warm_start == "tokens":
            raise InputError(
                "--model.warm_start tokens needs identifiers in the tokens of the language model, "
                f"but these {kind!r} identifiers are not",
                hint="Use --docids title and --title.tokens model, or another --model.warm_start",
            )
        return options
    if model.pretrained is None:
        raise InputError(
            f"--{kind}.tokens model needs a language model, and none is given",
            hint="Give --model.pretrained, or omit it",
        )
    if model.warm_start not in ("auto", "tokens"):
        raise InputError(
            f"--model.warm_start {model.warm_start} would overwrite the rows of the model's own "
            "tokens",
            hint="Omit it",
        )
    return replace(options, model=replace(model, warm_start="tokens"))


def vocabulary_of(text: TextEncoder, name: str) -> ModelTokens:
    """Returns the vocabulary of a language model, for identifiers.

    Raises:
        InputError: The model is an encoder-decoder, or its tokenizer is none of the tokenizers
            library.
    """
    if not isinstance(text, TemplateEncoder):
        raise InputError(
            f"identifiers in the tokens of {name!r}: only language models are supported, and this "
            "is an encoder-decoder",
            hint="Use --model.pretrained with a language model, or omit --title.tokens (or that of "
            "another kind)",
        )
    tokenizer = text.tokenizer
    end = tokenizer.eos_token_id
    if end is None:
        raise InputError(
            f"identifiers in the tokens of {name!r}: its tokenizer has no token that ends a text",
            hint="Use another checkpoint, or omit --title.tokens (or that of another kind)",
        )
    return ModelTokens.from_json(tokenizer.backend_tokenizer.to_str(), end)


def with_start_token(
    text: TextEncoder, alphabet_size: int
) -> tuple[TextEncoder, npt.NDArray[np.int64] | None]:
    """Returns what a language model reads before PAD, and the token that PAD starts from.

    PAD takes the place of the prompt's last token: what follows then depends on the query as it
    does in the language model. After a new token with a random embedding it hardly would.

    Args:
        text: The text encoder of the checkpoint.
        alphabet_size: Size of the docid alphabet.

    Returns:
        The text encoder, and the token of each code; int64 [alphabet_size], -1 for every other
        code. None for an encoder-decoder, which has a start token of its own.
    """
    if not isinstance(text, TemplateEncoder):
        return text, None
    tokens = np.full(alphabet_size, -1, np.int64)
    prompt, tokens[PAD] = split_before_identifier(text)
    return prompt, tokens


def with_own_tokens(
    text: TextEncoder, built: Built, name: str
) -> tuple[TextEncoder, npt.NDArray[np.int64]]:
    """Returns the prompt to read before identifiers in the model's tokens, and the codes' tokens.

    Args:
        text: The prompt in the model's tokens.
        built: The identifiers.
        name: Name of the checkpoint, for messages.

    Returns:
        The encoder of what is read before PAD, and the token of each code; int64 [alphabet].

    Raises:
        InputError: The identifiers are in the tokens of another model.
    """
    if not ModelTokens.of(built.extras).same_tokenizer(vocabulary_of(text, name)):
        raise InputError(
            f"the identifiers are in the tokens of another model than {name!r}",
            hint="Assign them again, or start from the model that they were assigned with",
        )
    tokens = code_tokens(built)
    assert tokens is not None
    assert isinstance(text, TemplateEncoder)
    prompt, last = split_before_identifier(text)
    tokens[PAD] = last
    return prompt, tokens
