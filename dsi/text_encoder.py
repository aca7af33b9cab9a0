"""Text to token ids: a vocabulary of the corpus's own, or a checkpoint's tokenizer."""

from __future__ import annotations

import io
import os
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from data_prep.errors import InputError
from data_prep.files import write_json
from data_prep.marks import Advanced
from data_prep.progress import track
from data_prep.remote_code import never_ask
from data_prep.text import (
    UNSPACED,
    normalize,
    short_words,
    spaced,
    stemmer,
    stopwords,
    training_lines,
    words,
)

SETTINGS_FILE = "text.json"
"""What kind of encoder is in a folder, and its settings."""
_FEWEST_PIECES = 2
"""A checkpoint's tokenizer with fewer pieces than this beside its marks has no vocabulary."""
_LONG_ENOUGH = 512
_MANY = 1000
"""Texts from which on several threads encode them."""
_CHUNK = 20_000
"""Texts that are prepared and encoded at a time: bounds the working memory."""
_CHARACTERS_PER_WORD = 15
"""Where the words of a corpus are longer than this on average, it is not written with spaces."""


@dataclass(frozen=True)
class VocabularyOptions:
    """How the vocabulary of a model from scratch is made."""

    language: str = "english"
    """Language of the stop words and stems; none disables both"""
    size: Advanced[int] = 32_000
    """Maximum number of tokens"""
    pieces: Advanced[Literal["auto", "word", "bpe", "unigram"]] = "auto"
    """Tokens: words (character bigrams in scripts without spaces), or a sentencepiece model. auto
    is word if all words fit, else bpe, or unigram for text without spaces"""

    def __post_init__(self) -> None:
        if self.size < 8:
            raise InputError(f"--vocabulary.size {self.size} is less than 8 tokens")
        if self.pieces not in ("auto", "word", "bpe", "unigram"):
            raise InputError(
                f"--vocabulary.pieces {self.pieces!r} is unknown",
                hint="Choose from: auto, word, bpe, unigram",
            )


class TextEncoder(ABC):
    """Turns text into token ids, and is saved with the index that was trained on them."""

    kind: ClassVar[str]
    vocabulary_size: int
    """Rows that the encoder's embedding needs."""
    longest: int = 1 << 20
    """Tokens of a document that are kept."""

    @property
    def beside(self) -> int:
        """Tokens that are read beside those of a text, and not counted in any length."""
        return 0

    @abstractmethod
    def encode(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Returns the token ids of each query: at least one, at most `max_length`."""

    def encode_documents(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Returns the token ids of documents; encoders with prompts tell them from queries."""
        return self.encode(texts, max_length)

    def part(self, document: Sequence[int], start: int, length: int) -> list[int]:
        """Returns `length` tokens of an encoded document, from a place on, to be read alone."""
        return list(document[start : start + length])

    def known(self, texts: Sequence[str]) -> list[bool]:
        """Tells of each text whether anything in it is known; what is not is read as nothing."""
        return [True for _ in texts]

    def extended(self, texts: Sequence[str]) -> TextEncoder:
        """Returns an encoder that knows the words of more texts; token ids stay as they are.

        Where words are spelled in pieces, there is nothing to add and this is the same encoder.
        """
        return self

    @abstractmethod
    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the encoder into a folder, which is made."""


class SentencepieceEncoder(TextEncoder):
    """A sentencepiece model over normalized words: stop words out, stems for words.

    Token 0 pads, 1 stands for a text without a known token, 2 for an unknown word; unknown
    words are left out.

    Args:
        model: The serialized sentencepiece model.
        language: Whose stop words and stems; "none" for neither.
        pairs: Whether words of scripts without blanks are their pairs of neighboring characters.
    """

    kind = "sentencepiece"
    PAD, EMPTY, UNKNOWN = 0, 1, 2

    def __init__(self, model: bytes, language: str, pairs: bool = False) -> None:
        import sentencepiece

        self._model = model
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.language = language
        self.pairs = pairs
        self.vocabulary_size = self._processor.vocab_size()
        self._prepare = _Preparation(language, pairs)

    @classmethod
    def train(cls, texts: Sequence[str], options: VocabularyOptions) -> SentencepieceEncoder:
        """Trains a vocabulary on the texts of a corpus; same texts, same vocabulary.

        Where words are tokens, those of scripts without blanks are pairs of neighboring
        characters, as for BM25: what stands between two blanks there is a whole clause, which no
        query repeats.

        Raises:
            InputError: The texts hold no word, or the language is unknown.
        """
        import sentencepiece

        lines = _lines(texts, options.language, pairs=False)
        if not lines:
            raise InputError(
                "the texts hold no word to make a vocabulary of",
                hint="Check the text column, or try --vocabulary.language none",
            )
        types = _types(lines)
        pieces = options.pieces
        unspaced = sum(map(len, types)) > _CHARACTERS_PER_WORD * len(types)
        pairs = False
        if pieces in ("auto", "word"):
            paired = lines
            if any(map(UNSPACED.search, types)):
                paired = _lines(texts, options.language, pairs=True)
            if pieces == "word" or len(_types(paired)) + 3 <= options.size:
                pieces, pairs, lines = "word", paired is not lines, paired
                types = _types(lines)
            else:
                pieces = "unigram" if unspaced else "bpe"
        written = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=training_lines(lines),
                model_writer=written,
                model_type=pieces,
                vocab_size=len(types) + 3 if pieces == "word" else options.size,
                hard_vocab_limit=False,
                normalization_rule_name="identity",
                character_coverage=1.0 if pieces != "unigram" else 0.9995,
                max_sentence_length=1 << 20,
                num_threads=1,
                minloglevel=2,
                pad_id=cls.PAD,
                bos_id=-1,
                eos_id=cls.EMPTY,
                unk_id=cls.UNKNOWN,
            )
        except RuntimeError as error:
            raise InputError(
                f"sentencepiece cannot make a vocabulary of {options.size} tokens ({error})",
                hint="Change --vocabulary.size",
            ) from None
        return cls(written.getvalue(), options.language, pairs)

    def encode(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Returns the token ids of each text: at least one, at most `max_length`."""
        lines = self._prepare(texts)
        encoded: Iterable[list[int]]
        if len(texts) > _MANY:
            encoded = self._processor.encode(lines, num_threads=-1)
        else:  # Starting even one thread takes longer than encoding a few queries.
            encoded = map(self._processor.encode, lines)
        known = ([token for token in line if token != self.UNKNOWN] for line in encoded)
        return [line[:max_length] or [self.EMPTY] for line in known]

    def encode_documents(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Returns the token ids of documents, as `encode` does."""
        parts = (
            self.encode(texts[start : start + _CHUNK], max_length)
            for start in _chunks(texts, "encoding documents")
        )
        return [line for part in parts for line in part]

    def known(self, texts: Sequence[str]) -> list[bool]:
        """Tells of each text whether the corpus has a word of it."""
        return [line != [self.EMPTY] for line in self.encode(texts, 1)]

    def extended(self, texts: Sequence[str]) -> SentencepieceEncoder:
        """Adds the new words of more texts at the end of a vocabulary of words."""
        from sentencepiece import sentencepiece_model_pb2

        formats: Any = sentencepiece_model_pb2  # made by protobuf, unknown to type checkers
        model = formats.ModelProto.FromString(self._model)
        if model.trainer_spec.model_type != formats.TrainerSpec.WORD:
            return self
        mark = "\u2581"  # sentencepiece's sign for the blank before a word
        known = {piece.piece for piece in model.pieces}
        words = {mark + word for line in self._prepare(texts) for word in line.split()}
        lowest = min(piece.score for piece in model.pieces)
        for word in sorted(words - known):
            model.pieces.add(piece=word, score=lowest)
        return SentencepieceEncoder(model.SerializeToString(), self.language, self.pairs)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the encoder into a folder, which is made."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "sentencepiece.model").write_bytes(self._model)
        settings = {"kind": self.kind, "language": self.language, "pairs": self.pairs}
        write_json(folder / SETTINGS_FILE, settings)

    @classmethod
    def load(cls, folder: Path, settings: dict[str, Any]) -> SentencepieceEncoder:
        """Opens the folder that `save` wrote.

        Raises:
            InputError: The vocabulary or its language is missing or damaged.
        """
        file = folder / "sentencepiece.model"
        language = settings.get("language")
        if not isinstance(language, str):
            raise InputError("the language is missing", where=folder / SETTINGS_FILE)
        try:
            content = file.read_bytes()
            if not content:  # sentencepiece takes no bytes for a model without tokens
                raise RuntimeError("it is empty")
            # An index from before there were pairs has whole runs of characters for words.
            return cls(content, language, settings.get("pairs") is True)
        except InputError:
            raise
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            raise InputError(f"cannot read the vocabulary ({error})", where=file) from None


def _chunks(texts: Sequence[str], what: str) -> Iterable[int]:
    """Returns where parts of texts start; says how far they are where there are several."""
    starts = range(0, len(texts), _CHUNK)
    return track(starts, what) if len(starts) > 1 else starts


def _lines(texts: Sequence[str], language: str, pairs: bool) -> list[str]:
    """Returns what a vocabulary is made of: texts as they are encoded, without empty ones."""
    prepare = _Preparation(language, pairs)
    return [
        line
        for start in _chunks(texts, "preparing texts")
        for line in prepare(texts[start : start + _CHUNK])
        if line
    ]


def _types(lines: Sequence[str]) -> set[str]:
    """Returns the different words of lines."""
    return {word for line in lines for word in line.split()}


class _Preparation:
    """What happens to text before sentencepiece: normalize, drop stop words, stem."""

    def __init__(self, language: str, pairs: bool) -> None:
        self._stop = stopwords(language)
        self._stem = stemmer(language)
        self._plain = language == "none"
        self._pairs = pairs

    def __call__(self, texts: Iterable[str]) -> list[str]:
        if self._pairs:
            texts = map(spaced, map(normalize, texts))
        if self._plain:
            return [short_words(normalize(text)) for text in texts]
        kept = ([word for word in words(text) if word not in self._stop] for text in texts)
        return [" ".join(self._stem(line)) for line in kept]


class PretrainedEncoder(TextEncoder):
    """The tokenizer of a transformers checkpoint, as it is.

    Args:
        tokenizer: The tokenizer.
    """

    kind = "transformers"
    longest = 512

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = self._tokenizer = tokenizer
        self.vocabulary_size = len(tokenizer)
        added = getattr(tokenizer, "added_tokens_decoder", {})
        special = {number for number, token in added.items() if token.special}
        self._marks = frozenset({*special, *tokenizer.all_special_ids})

    @classmethod
    def from_checkpoint(cls, name: str) -> PretrainedEncoder:
        """Takes the tokenizer of a checkpoint; see `checkpoint_tokenizer`."""
        return cls(checkpoint_tokenizer(name))

    def encode(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Returns the token ids of each text: at least one, at most `max_length`."""
        if not len(texts):
            return []
        encoded = self._tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
        fallback = next(
            token
            for token in (self._tokenizer.eos_token_id, self._tokenizer.unk_token_id, 0)
            if token is not None
        )
        # Where the tokenizer's own marks are more than fit, it does not cut them off.
        return [list(line[:max_length]) or [fallback] for line in encoded]

    def known(self, texts: Sequence[str]) -> list[bool]:
        """Tells of each text whether any of it is more than unknown tokens and marks."""
        return [not self._marks.issuperset(line) for line in self.encode(texts, _LONG_ENOUGH)]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the encoder into a folder, which is made."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._tokenizer.save_pretrained(folder / "tokenizer")
        write_json(folder / SETTINGS_FILE, {"kind": self.kind})

    @classmethod
    def load(cls, folder: Path, settings: dict[str, Any]) -> PretrainedEncoder:
        """Opens the folder that `save` wrote; it runs no code and asks for none.

        Raises:
            InputError: A file is missing, damaged, or of no tokenizer known here.
        """
        from dsi.stored_tokenizer import open_tokenizer

        return cls(open_tokenizer(folder / "tokenizer"))


def checkpoint_tokenizer(name: str) -> Any:
    """Returns the tokenizer of a checkpoint.

    Args:
        name: A hub id, or the path of a folder or a GGUF file.

    Raises:
        InputError: There is none, or it cannot be read, or not be kept with an index.
    """
    from transformers import AutoTokenizer

    from dsi.gguf import place_of
    from dsi.stored_tokenizer import keepable

    never_ask()
    place, more = place_of(name)
    hint = (
        "Give a hub id that this machine can reach, or the path of a folder with "
        "the checkpoint and its tokenizer"
    )
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(place, trust_remote_code=False, **more)
    except InputError:
        raise
    except (
        OSError, ValueError, LookupError, ImportError, TypeError, AttributeError, struct.error,
    ) as error:  # fmt: skip
        told = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"cannot load the tokenizer of {name!r} ({told})",
            hint=hint,
        ) from None
    # Where there is no file of a tokenizer, transformers makes an empty one without a word.
    added = getattr(tokenizer, "added_tokens_decoder", {})
    special = {number for number, token in added.items() if token.special}
    marks = {*special, *tokenizer.all_special_ids}
    if len(set(tokenizer.get_vocab().values()).difference(marks, added)) < _FEWEST_PIECES:
        raise InputError(f"the tokenizer of {name!r} has no vocabulary", hint=hint)
    keepable(tokenizer, name)
    return tokenizer
