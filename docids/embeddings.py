"""Document vectors: latent semantic analysis, a sentence-transformers model, or an encoder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from data_prep.checks import refuse_unread
from data_prep.errors import InputError
from data_prep.marks import Advanced, Count
from data_prep.progress import track
from docids.encoder_states import PREFIX, EncoderEmbedder
from docids.muvera import Muvera, MuveraOptions
from docids.sentence_encoder import SentenceEncoder
from docids.store import naming, open_store, write_store
from docids.strings import Strings
from docids.token_vectors import TokenEncoder

MUVERA = "muvera:"
"""Prefix of an `--embedding.model` whose token vectors are encoded with MUVERA."""
_MUVERA = MuveraOptions()
_TOGETHER = 1000
"""Texts whose token vectors are in memory at once."""
MOST_DIMENSIONS = 1 << 16
"""Maximum dimensions of a stored embedder without words, whose size no file bounds."""
_CHUNK = 20_000  # documents embedded at a time; bounds the working memory


@dataclass(frozen=True)
class EmbeddingOptions(MuveraOptions, group="embedding"):
    """Options of the document vectors."""

    model: str = "lsa"
    """Document vectors: lsa (latent semantic analysis of the corpus), a sentence-transformers
    model, muvera:NAME (fixed-dimensional encodings of the token vectors of such a model, or of one
    of late interaction), or encoder:NAME (mean states of an encoder-decoder's encoder)"""
    dimensions: Advanced[Count] = 128
    """Dimensions of lsa; other models have their own"""
    sample: Advanced[Count] = 200_000
    """Maximum number of documents to fit lsa on, drawn at random"""

    def conflicts(self) -> None:
        """Refuses options of token vectors for a model of other vectors."""
        if not self.model.startswith(MUVERA):
            refuse_unread(
                self,
                [entry.name for entry in fields(MuveraOptions)],
                f"with --embedding.model {self.model}",
                hint=f"Omit it, or use {MUVERA}NAME",
            )


class Embedder(Protocol):
    """Turns texts into vectors; documents added later get vectors of the same space."""

    name: ClassVar[str]

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Returns one vector of norm 1 for each text, or of 0 if it has no known word.

        Returns:
            float32 [texts, dimensions].
        """
        ...

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Returns what `restore` needs: a JSON object and arrays."""
        ...

    @classmethod
    def restore(cls, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Embedder:
        """Restores the embedder from `state`."""
        ...


@dataclass(frozen=True)
class LatentSemanticEmbedder:
    """Latent semantic analysis (Deerwester et al., 1990): truncated SVD of a TF-IDF matrix.

    Attributes:
        vocabulary: The words, in the order of the columns.
        idf: Inverse document frequencies; float64 [words].
        components: Right singular vectors, padded with zero rows if the corpus has fewer than
            requested; float32 [dimensions, words].
    """

    name: ClassVar[str] = "lsa"
    vocabulary: Sequence[str]
    idf: npt.NDArray[np.float64]
    components: npt.NDArray[np.float32]

    @classmethod
    def fit(cls, texts: Sequence[str], dimensions: int, seed: int) -> LatentSemanticEmbedder:
        """Learns the vocabulary and the directions from `texts`; even empty texts are accepted."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.utils.extmath import randomized_svd

        from data_prep.text_processing import terms

        vectorizer = TfidfVectorizer(analyzer=terms, sublinear_tf=True)
        try:
            weights = vectorizer.fit_transform(texts)
        except ValueError:  # sklearn's way of reporting an empty vocabulary
            return cls((), np.empty(0), np.zeros((dimensions, 0), np.float32))
        rank = min(dimensions, *weights.shape)
        components = np.zeros((dimensions, weights.shape[1]), np.float32)
        # The solver behind sklearn's TruncatedSVD, without its explained variance, which divides by
        # zero if all documents are the same.
        components[:rank] = randomized_svd(weights, rank, random_state=seed)[2]
        return cls(vectorizer.get_feature_names_out().tolist(), vectorizer.idf_, components)

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Returns float32 [texts, dimensions]; see `Embedder.encode`."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        from data_prep.text_processing import terms

        vectors = np.zeros((len(texts), len(self.components)), np.float32)
        if not len(self.vocabulary):
            return vectors
        vectorizer = TfidfVectorizer(
            analyzer=terms,
            sublinear_tf=True,
            vocabulary={word: column for column, word in enumerate(self.vocabulary)},
        )
        vectorizer.idf_ = np.array(self.idf)
        directions = np.ascontiguousarray(self.components.T)
        starts: Sequence[int] = range(0, len(texts), _CHUNK)
        for start in track(starts, "Document vectors") if len(starts) > 1 else starts:
            part = slice(start, start + _CHUNK)
            vectors[part] = vectorizer.transform(texts[part]) @ directions
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        # For a text outside the learned directions, only rounding errors remain: no direction.
        return np.where(norms > 1e-6, vectors / np.maximum(norms, 1e-6), np.float32(0))

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Returns what `restore` needs."""
        packed = Strings.pack(self.vocabulary)
        return {}, {
            "vocabulary_text": packed.text,
            "vocabulary_offsets": packed.offsets,
            "idf": self.idf,
            "components": self.components,
        }

    @classmethod
    def restore(
        cls, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
    ) -> LatentSemanticEmbedder:
        """Restores the embedder from `state`."""
        vocabulary = Strings(arrays["vocabulary_text"], arrays["vocabulary_offsets"])
        vocabulary.check()
        idf, components = arrays["idf"], arrays["components"]
        words = list(vocabulary)
        if len(set(words)) < len(words):
            raise InputError("a word appears twice in the vocabulary")
        for name, array, shape in (
            ("idf", idf, (len(words),)),
            ("components", components, (*components.shape[:1], len(words))),
        ):
            if array.dtype.kind != "f" or array.shape != shape or not np.isfinite(array).all():
                raise InputError(
                    f"{name} is {array.dtype} {list(array.shape)}, not finite numbers for "
                    f"{len(words)} words"
                )
        if components.size == 0 and len(components) > MOST_DIMENSIONS:
            raise InputError(f"{len(components)} dimensions")
        return cls(words, idf, components)


class SentenceEmbedder:
    """Document vectors from a pretrained encoder; see `docids.sentence_encoder`.

    Args:
        model: Hub id or folder.

    Raises:
        InputError: The package or the model is not available.
    """

    name: ClassVar[str] = "sentence-transformers"

    def __init__(self, model: str) -> None:
        self.model = model
        self._encoder = SentenceEncoder(model, where="--embedding.model")

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Returns float32 [texts, dimensions]; see `Embedder.encode`."""
        vectors = self._encoder.encode_documents(texts)
        if self._encoder.similarity == "cosine":
            return vectors
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.maximum(norms, 1e-12)

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Returns what `restore` needs."""
        return {"model": self.model}, {}

    @classmethod
    def restore(
        cls, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
    ) -> SentenceEmbedder:
        """Restores the embedder from `state`."""
        return cls(str(header["model"]))


class MuveraEmbedder:
    """Fixed-dimensional encodings of the token vectors of documents; see `docids.muvera`.

    Queries are encoded as documents are: an identifier kind that reads pseudo-queries compares them
    like documents.

    Args:
        model: Hub id or folder of the encoder.
        encoding: The random directions; None to draw them.
        options: Their number, if they are drawn.
        seed: Their seed.

    Raises:
        InputError: The package or the model is not available, or it has no token vectors.
    """

    name: ClassVar[str] = "muvera"

    def __init__(
        self,
        model: str,
        encoding: Muvera | None = None,
        options: MuveraOptions = _MUVERA,
        seed: int = 0,
    ) -> None:
        self.model = model
        self._tokens = TokenEncoder(model, where="--embedding.model")
        self._encoding = encoding or Muvera.draw(self._tokens.width, options, seed)
        stored, width = self._encoding.planes.shape[1], self._tokens.width
        if stored != width:
            raise InputError(f"encodings of vectors of {stored} dimensions, but they have {width}")

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Returns float32 [texts, dimensions]; see `Embedder.encode`."""
        vectors = np.zeros((len(texts), self._encoding.dimensions), np.float32)
        starts: Sequence[int] = range(0, len(texts), _TOGETHER)
        for start in track(starts, "Document vectors") if len(starts) > 1 else starts:
            part = slice(start, start + _TOGETHER)
            vectors[part] = self._encoding.documents(self._tokens.documents(texts[part]))
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.maximum(norms, 1e-12)

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Returns what `restore` needs: the name of the model, and the directions."""
        return {"model": self.model}, self._encoding.arrays()

    @classmethod
    def restore(cls, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> MuveraEmbedder:
        """Restores the embedder from `state`."""
        return cls(str(header["model"]), Muvera.of(arrays))


EMBEDDERS: Sequence[type[Embedder]] = (
    LatentSemanticEmbedder,
    SentenceEmbedder,
    EncoderEmbedder,
    MuveraEmbedder,
)


def fit_embedder(texts: Sequence[str], options: EmbeddingOptions, seed: int) -> Embedder:
    """Returns the embedder that `options` names, fitted to `texts` if it needs fitting.

    Args:
        texts: One text for each document.
        options: Selects the embedder.
        seed: Seed of the sample and of the randomized SVD.

    Raises:
        InputError: The model cannot be loaded.
    """
    if options.model.startswith(PREFIX):
        return EncoderEmbedder(options.model.removeprefix(PREFIX))
    if options.model.startswith(MUVERA):
        return MuveraEmbedder(options.model.removeprefix(MUVERA), None, options, seed)
    if options.model != LatentSemanticEmbedder.name:
        return SentenceEmbedder(options.model)
    if len(texts) > options.sample:
        sampled = np.random.default_rng([seed, 0]).choice(len(texts), options.sample, replace=False)
        texts = [texts[i] for i in np.sort(sampled).tolist()]
    return LatentSemanticEmbedder.fit(texts, options.dimensions, seed)


def save_embedder(
    embedder: Embedder, options: EmbeddingOptions, folder: str | os.PathLike[str]
) -> None:
    """Writes an embedder to `folder`, replacing the whole folder."""
    header, arrays = embedder.state()
    header = {"embedder": embedder.name, "options": asdict(options), **header}
    write_store(folder, "embedder", header, arrays)


def open_embedder(folder: str | os.PathLike[str]) -> tuple[Embedder, EmbeddingOptions]:
    """Opens a saved embedder and the options it was made with.

    Raises:
        InputError: `folder` is not an embedder, is damaged, or its model cannot be loaded.
    """
    header, arrays = open_store(folder, "embedder")
    classes = {cls.name: cls for cls in EMBEDDERS}
    name = header.get("embedder")
    if not isinstance(name, str) or name not in classes:
        raise InputError(
            f"this version of dsi-toolkit cannot read the embedder ({name!r:.60})", where=folder
        )
    with naming(folder):
        return classes[name].restore(header, arrays), EmbeddingOptions(**header["options"])
