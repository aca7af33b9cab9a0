"""The vocabulary of text identifiers: sentencepiece pieces, mapped to consecutive codes."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.errors import InputError
from data_prep.text_processing import training_lines
from docids.table import FIRST_CODE

DIGITS = 10
"""Codes before those of the pieces: the digits of a distinguishing number."""
_MOST_STRINGS = 1_000_000
_BYTES_AND_SPECIAL = 257


@dataclass(frozen=True)
class Pieces:
    """A sentencepiece model (byte-pair encoding), and the code of each of its pieces.

    The model falls back to bytes, so that any text can be written. A piece gets a code only when an
    identifier uses it: the docid alphabet holds no code that is never trained, except the digits.

    Attributes:
        model: The serialized model; uint8 [bytes].
        code: The code of each piece, -1 where it has none yet; int32 [pieces].
    """

    model: npt.NDArray[np.uint8]
    code: npt.NDArray[np.int32]

    @classmethod
    def train(cls, strings: Iterable[str], size: int, seed: int) -> Pieces:
        """Learns a vocabulary; the same strings and seed give the same vocabulary.

        Args:
            strings: The strings to be written with it.
            size: Maximum number of pieces, not counting the 256 bytes.
            seed: Seed of the sample of a million strings, if there are more.

        Raises:
            InputError: The strings have more distinct characters than `size`.
        """
        import sentencepiece

        lines = [line for line in strings if line] or ["-"]
        if len(lines) > _MOST_STRINGS:
            rng = np.random.default_rng([seed, 9])
            chosen = rng.choice(len(lines), _MOST_STRINGS, replace=False)
            lines = [lines[number] for number in np.sort(chosen).tolist()]
        written = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=training_lines(lines),
                model_writer=written,
                model_type="bpe",
                vocab_size=size + _BYTES_AND_SPECIAL,
                hard_vocab_limit=False,
                byte_fallback=True,
                normalization_rule_name="identity",
                character_coverage=1.0,
                max_sentence_length=1 << 20,
                num_threads=1,
                minloglevel=2,
                unk_id=0,
                bos_id=-1,
                eos_id=-1,
            )
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"cannot learn a vocabulary of {size} pieces for the identifiers ({reason})",
                hint="Use a larger vocabulary (--KIND.vocabulary)",
            ) from None
        model = np.frombuffer(written.getvalue(), np.uint8)
        return cls(model, np.full(_processor(model).vocab_size(), -1, np.int32))

    def encode(self, strings: Sequence[str], longest: int) -> list[tuple[int, ...]]:
        """Returns the pieces of each string, at most `longest`; none for an empty string."""
        return [tuple(line[:longest]) for line in self._encode(list(strings))]

    def with_codes(self, used: npt.NDArray[np.int64], first: int) -> Pieces:
        """Assigns the next free codes to pieces in use that have none yet.

        Args:
            used: Pieces, repeated or not; int64.
            first: The first free code.
        """
        distinct = np.unique(used)
        new = distinct[self.code[distinct] < 0]
        code = np.array(self.code)
        code[new] = first + np.arange(len(new), dtype=np.int32)
        return replace(self, code=code)

    def text(self, codes: Iterable[int]) -> str:
        """Decodes codes to text; END and PAD are dropped, a distinguishing number follows #."""
        piece_of = {int(code): piece for piece, code in enumerate(self.code.tolist()) if code >= 0}
        codes = list(codes)
        decoded = self._decode([piece_of[c] for c in codes if c in piece_of])
        digits = [c - FIRST_CODE for c in codes if FIRST_CODE <= c < FIRST_CODE + DIGITS]
        return decoded + (f" #{''.join(map(str, digits))}" if digits else "")

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns the vocabulary as extras of `Built`."""
        return {"pieces": self.model, "piece_code": self.code}

    @classmethod
    def of(cls, extras: Mapping[str, np.ndarray]) -> Pieces:
        """Restores the vocabulary from `arrays`.

        Raises:
            InputError: The extras hold none.
        """
        if "tokenizer" in extras:
            from docids.model_tokens import ModelTokens

            return ModelTokens.of(extras)
        try:
            return cls(extras["pieces"], extras["piece_code"])
        except KeyError as error:
            raise InputError(
                f"the stored identifiers have no vocabulary ({error.args[0]!r} is missing)",
                hint="Assign them again",
            ) from None

    def _encode(self, strings: list[str]) -> list[list[int]]:
        lines: list[list[int]] = _processor(self.model).encode(strings)
        return lines

    def _decode(self, pieces: list[int]) -> str:
        return str(_processor(self.model).decode(pieces))


def _processor(model: npt.NDArray[np.uint8]) -> Any:
    import sentencepiece

    return sentencepiece.SentencePieceProcessor(model_proto=np.asarray(model).tobytes())
