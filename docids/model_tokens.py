"""The vocabulary of a language model, for text identifiers written in the model's own tokens.

SEAL (Bevilacqua et al., NeurIPS 2022), MINDER (Li et al., ACL 2023) and Self-Retrieval (Tang et
al., NeurIPS 2024) decode text in the model's own tokens. Here, too, a token gets a code only when
an identifier uses it: the docid alphabet has the tokens of the identifiers, not the whole
vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from data_prep.errors import InputError
from docids.pieces import DIGITS, Pieces
from docids.table import END, FIRST_CODE

if TYPE_CHECKING:
    from docids.kinds.base import Built


@dataclass(frozen=True)
class ModelTokens(Pieces):
    """A tokenizer of the tokenizers library, and the code of each of its tokens.

    Phrases are written as they continue a text, after a space. In a phrase, the spelling of a
    special token is plain text.

    Attributes:
        model: The tokenizer as JSON; uint8 [bytes].
        code: The code of each token, -1 where it has none yet; int32 [tokens].
        end: The token that ends a text.
    """

    end: int

    @classmethod
    def from_json(cls, tokenizer: str, end: int) -> ModelTokens:
        """Returns the vocabulary before any identifier is written.

        Args:
            tokenizer: The tokenizer as JSON.
            end: The token that ends a text.

        Raises:
            InputError: The tokenizer drops digits, which number identifiers that would be equal.
        """
        model = np.frombuffer(tokenizer.encode(), np.uint8)
        size = max(_tokenizer(model).get_vocab(with_added_tokens=True).values()) + 1
        tokens = cls(model, np.full(size, -1, np.int32), end)
        digits = [str(digit) for digit in range(DIGITS)]
        encoded = zip(digits, tokens._encode(digits), strict=True)
        dropped = [digit for digit, pieces in encoded if not tokens._decode(pieces)]
        if dropped:
            raise InputError(
                f"the model's tokenizer has no token for {', '.join(dropped)}",
                hint="Use another checkpoint, or omit --title.tokens (or that of another kind)",
            )
        return tokens

    def tokens_of_codes(self, alphabet_size: int) -> npt.NDArray[np.int64]:
        """Returns the token of each code; int64 [alphabet_size], -1 for PAD.

        END is the token that ends a text, and the digits of a distinguishing number are digits.
        """
        tokens = np.full(alphabet_size, -1, np.int64)
        having = np.flatnonzero(self.code >= 0)
        tokens[self.code[having]] = having
        tokens[END] = self.end
        for digit in range(DIGITS):
            tokens[FIRST_CODE + digit] = self._encode([str(digit)])[0][-1]
        return tokens

    def same_tokenizer(self, other: ModelTokens) -> bool:
        """Tells whether two vocabularies are those of the same tokenizer."""
        vocabulary, other_vocabulary = (
            _tokenizer(each.model).get_vocab() for each in (self, other)
        )
        return self.end == other.end and vocabulary == other_vocabulary

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the vocabulary as extras of `Built`."""
        end = np.array([self.end], np.int64)
        return {"tokenizer": self.model, "piece_code": self.code, "tokenizer_end": end}

    @classmethod
    def of(cls, extras: Mapping[str, np.ndarray]) -> ModelTokens:
        """Restores the vocabulary from `arrays`.

        Raises:
            InputError: The extras hold none, or one that cannot be read.
        """
        try:
            tokens = cls(extras["tokenizer"], extras["piece_code"], int(extras["tokenizer_end"][0]))
            _tokenizer(tokens.model)
            return tokens
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise InputError(
                f"the stored identifiers have no tokenizer ({error})",
                hint="Assign them again",
            ) from None

    def _encode(self, strings: list[str]) -> list[list[int]]:
        tokenizer = _tokenizer(self.model)
        prefixed = [f" {string}" if string else "" for string in strings]
        encoded = tokenizer.encode_batch(prefixed, add_special_tokens=False)
        return [_without_blank(line.ids, line.tokens) for line in encoded]

    def _decode(self, pieces: list[int]) -> str:
        return str(_tokenizer(self.model).decode(pieces, skip_special_tokens=False)).strip()


def code_tokens(built: Built) -> npt.NDArray[np.int64] | None:
    """Returns `tokens_of_codes` of identifiers in a language model's tokens; None for any other."""
    if "tokenizer" not in built.extras:
        return None
    return ModelTokens.of(built.extras).tokens_of_codes(built.table.alphabet_size)


def _without_blank(ids: list[int], tokens: list[str]) -> list[int]:
    """Drops a first token that is a space alone: the next one begins with a space of its own."""
    return ids[1:] if len(ids) > 1 and not tokens[0].strip("\u2581\u0120 ") else ids


def _tokenizer(model: npt.NDArray[np.uint8]) -> Any:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(np.asarray(model).tobytes().decode())
    # The tokenizers library has no exception class of its own.
    except Exception as error:
        raise ValueError(f"not a tokenizer: {str(error).splitlines()[0]:.100}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer
