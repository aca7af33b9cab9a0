"""Text to token ids: a vocabulary built from the corpus, or a checkpoint's tokenizer."""

from __future__ import annotations

import io
import os
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from data_prep.checks import Options
from data_prep.errors import InputError
from data_prep.files import write_json
from data_prep.marks import Advanced, Range
from data_prep.progress import track
from data_prep.remote_code import disable_code_prompt
from data_prep.text_processing import (
    UNSPACED,
    normalize,
    short_words,
    spaced,
    stemmer,
    stopwords,
    training_lines,
    words,
)

LONGEST_PROMPT = 1 << 14
"""Maximum characters of a prompt or template: every query is read with it."""
SETTINGS_FILE = "text.json"
"""File with the kind of encoder in a folder, and its settings."""
_FEWEST_PIECES = 2
"""A checkpoint's tokenizer with fewer pieces than this, besides its special tokens, has no
vocabulary."""
_LONG_ENOUGH = 512
_MANY = 1000
"""Minimum number of texts that several threads encode."""
_CHUNK = 20_000
"""Texts per batch of preprocessing and encoding, which bounds the working memory."""
_CHARACTERS_PER_WORD = 15
"""A corpus whose words are longer than this on average is not written with spaces."""


@dataclass(frozen=True)
class VocabularyOptions(Options, group="vocabulary"):
    """How to build the vocabulary of a model from scratch."""

    language: str = "english"
    """Language of the stop words and stems; none disables both"""
    size: Advanced[Annotated[int, Range(ge=8)]] = 32_000
    """Maximum number of tokens"""
    pieces: Advanced[Literal["auto", "word", "bpe", "unigram"]] = "auto"
    """Tokens: words (character bigrams in scripts without spaces), or a sentencepiece model. auto
    is word if all words fit, else bpe, or unigram for text without spaces"""


class TextEncoder(ABC):
    """Turns text into token ids; saved with the index that was trained on them."""

    kind: ClassVar[str]
    vocabulary_size: int
    """Rows that the encoder's embedding needs."""
    longest: int = 1 << 20
    """Maximum tokens of a document; the rest is truncated."""

    @property
    def prompt_length(self) -> int:
        """Number of prompt tokens read with a text, not counted in any length."""
        return 0

    @abstractmethod
    def encode(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Returns the token ids of each query: at least one, at most `max_length`."""

    def encode_documents(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Returns the token ids of documents; encoders with prompts treat queries differently."""
        return self.encode(texts, max_length)

    def part(self, document: Sequence[int], start: int, length: int) -> list[int]:
        """Returns `length` tokens of an encoded document from a given start, as its own text."""
        return list(document[start : start + length])

    def has_known_words(self, texts: Sequence[str]) -> list[bool]:
        """Tells for each text whether anything in it is known; unknown words are dropped."""
        return [True for _ in texts]

    @property
    def is_extensible(self) -> bool:
        """Whether `extended` may add tokens."""
        return False

    def extended(self, texts: Sequence[str]) -> TextEncoder:
        """Returns an encoder that knows the words of more texts; existing token ids do not change.

        If words are split into pieces, there is nothing to add, and the same encoder is returned.
        """
        return self

    @abstractmethod
    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the encoder to a folder, creating it."""


class SentencepieceEncoder(TextEncoder):
    """A sentencepiece model over normalized words, without stop words and after stemming.

    Token 0 pads, 1 stands for a text without a known token, 2 for an unknown word; unknown words
    are dropped.

    Args:
        model: The serialized sentencepiece model.
        language: Language of the stop words and stemmer; "none" for neither.
        pairs: Whether scripts without spaces are split into pairs of adjacent characters.
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
        """Trains a vocabulary on the texts of a corpus; the same texts give the same vocabulary.

        If words are tokens, scripts without spaces are split into pairs of adjacent characters, as
        for BM25: the text between two spaces there is a whole clause, which no query repeats.

        Raises:
            InputError: The texts contain no word, or the language is unknown.
        """
        import sentencepiece

        check_words(texts, options.language)
        lines = _lines(texts, options.language, pairs=False)
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
                f"sentencepiece cannot build a vocabulary of {options.size} tokens ({error})",
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
        known_tokens = ([token for token in line if token != self.UNKNOWN] for line in encoded)
        return [line[:max_length] or [self.EMPTY] for line in known_tokens]

    def encode_documents(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Returns the token ids of documents, as `encode` does."""
        parts = (
            self.encode(texts[start : start + _CHUNK], max_length)
            for start in _chunks(texts, "encoding documents")
        )
        return [line for part in parts for line in part]

    def has_known_words(self, texts: Sequence[str]) -> list[bool]:
        """Tells for each text whether the corpus has any of its words."""
        return [line != [self.EMPTY] for line in self.encode(texts, 1)]

    @property
    def is_extensible(self) -> bool:
        """Whether the tokens are words, so that `extended` may add some."""
        return bool(_parsed(self._model).trainer_spec.model_type == _formats().TrainerSpec.WORD)

    def extended(self, texts: Sequence[str]) -> SentencepieceEncoder:
        """Adds the new words of more texts at the end of a vocabulary of words."""
        if not self.is_extensible:
            return self
        model = _parsed(self._model)
        mark = "\u2581"  # sentencepiece's symbol for the space before a word
        pieces = {piece.piece for piece in model.pieces}
        words = {mark + word for line in self._prepare(texts) for word in line.split()}
        lowest = min(piece.score for piece in model.pieces)
        for word in sorted(words - pieces):
            model.pieces.add(piece=word, score=lowest)
        return SentencepieceEncoder(model.SerializeToString(), self.language, self.pairs)

    def with_unused(self, count: int) -> SentencepieceEncoder:
        """Adds tokens at the end of the vocabulary that no text has."""
        model = _parsed(self._model)
        lowest = min(piece.score for piece in model.pieces)
        for number in range(count):
            # Normalization leaves no control character in a text.
            model.pieces.add(piece=f"\x02{len(model.pieces)}.{number}", score=lowest)
        return SentencepieceEncoder(model.SerializeToString(), self.language, self.pairs)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the encoder to a folder, creating it."""
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
            if not content:  # sentencepiece takes empty bytes for a model without tokens
                raise RuntimeError("it is empty")
            # An index written before pairs existed has whole runs of characters as words.
            return cls(content, language, settings.get("pairs") is True)
        except InputError:
            raise
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            raise InputError(f"cannot read the vocabulary ({error})", where=file) from None


def _formats() -> Any:
    """Returns the message types of sentencepiece, which type checkers do not know."""
    from sentencepiece import sentencepiece_model_pb2

    return sentencepiece_model_pb2


def _parsed(model: bytes) -> Any:
    """Returns a serialized sentencepiece model as a message."""
    return _formats().ModelProto.FromString(model)


def _chunks(texts: Sequence[str], what: str) -> Iterable[int]:
    """Yields the start of each part of the texts; shows progress if there are several."""
    starts = range(0, len(texts), _CHUNK)
    return track(starts, what) if len(starts) > 1 else starts


def check_words(texts: Iterable[str], language: str) -> None:
    """Checks that some text has a word for a vocabulary; reads no further than to the first one.

    Raises:
        InputError: None has, or the language is unknown.
    """
    prepare = _Preparation(language, pairs=False)
    if not any(line for text in texts for line in prepare([text])):
        raise InputError(
            "the texts contain no words for a vocabulary",
            hint="Check the text column, or try --vocabulary.language none",
        )


def _lines(texts: Sequence[str], language: str, pairs: bool) -> list[str]:
    """Returns the input for building a vocabulary: normalized texts, without empty ones."""
    prepare = _Preparation(language, pairs)
    return [
        line
        for start in _chunks(texts, "preparing texts")
        for line in prepare(texts[start : start + _CHUNK])
        if line
    ]


def _types(lines: Sequence[str]) -> set[str]:
    """Returns the distinct words of lines."""
    return {word for line in lines for word in line.split()}


class _Preparation:
    """Preprocesses text for sentencepiece: normalizes, drops stop words, stems."""

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
        content_words = ([word for word in words(text) if word not in self._stop] for text in texts)
        return [" ".join(self._stem(line)) for line in content_words]


class PretrainedEncoder(TextEncoder):
    """The tokenizer of a transformers checkpoint, unchanged.

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
        # A tokenizer does not truncate its special tokens, even if they exceed the limit.
        return [list(line[:max_length]) or [fallback] for line in encoded]

    def has_known_words(self, texts: Sequence[str]) -> list[bool]:
        """Tells for each text whether it has any token that is neither unknown nor special."""
        return [not self._marks.issuperset(line) for line in self.encode(texts, _LONG_ENOUGH)]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the encoder to a folder, creating it."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._tokenizer.save_pretrained(folder / "tokenizer")
        write_json(folder / SETTINGS_FILE, {"kind": self.kind})

    @classmethod
    def load(cls, folder: Path, settings: dict[str, Any]) -> PretrainedEncoder:
        """Opens the folder that `save` wrote; never runs code from it.

        Raises:
            InputError: A file is missing, damaged, or not of a known tokenizer.
        """
        from dsi.text_encoders.stored_tokenizer import open_tokenizer

        return cls(open_tokenizer(folder / "tokenizer"))


def checkpoint_tokenizer(name: str) -> Any:
    """Returns the tokenizer of a checkpoint.

    Args:
        name: A hub id, or the path of a folder or a GGUF file.

    Raises:
        InputError: There is none, or it cannot be read or stored with an index.
    """
    from transformers import AutoTokenizer

    from dsi.hub.checkpoint_location import checkpoint_location
    from dsi.text_encoders.stored_tokenizer import check_storable

    disable_code_prompt()
    place, more = checkpoint_location(name)
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
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"cannot load the tokenizer of {name!r} ({reason})",
            hint=hint,
        ) from None
    # If there is no tokenizer file, transformers silently creates an empty tokenizer.
    added = getattr(tokenizer, "added_tokens_decoder", {})
    special = {number for number, token in added.items() if token.special}
    marks = {*special, *tokenizer.all_special_ids}
    if len(set(tokenizer.get_vocab().values()).difference(marks, added)) < _FEWEST_PIECES:
        raise InputError(f"the tokenizer of {name!r} has no vocabulary", hint=hint)
    check_storable(tokenizer, name)
    return tokenizer
