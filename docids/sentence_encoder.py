"""Text embeddings from a pretrained encoder: the one module that loads and runs such models.

Sentence-transformers folders and hub ids define their own pooling, normalization, prompts and
similarity. A plain transformers encoder (BERT, MiniLM, E5, BGE, GTE, ModernBERT, XLM-R) gets mean
pooling, and static embeddings (model2vec, StaticEmbedding) need no network at all.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.errors import InputError
from data_prep.files import read_json
from data_prep.progress import shows_bars
from data_prep.remote_code import check_folder, import_sentence_transformers

_BATCH = 32
_BAR = 1000
"""Minimum number of texts for which a progress bar is shown."""
_PASSAGES = ("document", "passage", "corpus")
"""Names under which models keep the prompt of documents."""
_KNOWN_PROMPTS: Sequence[tuple[str, str, str]] = (
    (r"(multilingual-)?e5-(small|base|large)(-v2|-unsupervised)?", "query: ", "passage: "),
    (
        r"bge-(small|base|large)-en(-v1\.5)?",
        "Represent this sentence for searching relevant passages: ",
        "",
    ),
)
"""Prompts of models that do not store them, from the model pages: name, query, document."""


class SentenceEncoder:
    """A text encoder with its tokenizer, prompts and similarity.

    Args:
        model: Hub id or folder.
        query_prompt: Prompt prepended to each query; None for the model's own.
        document_prompt: Prompt prepended to each document; None for the model's own.
        where: The option that named the model, for error messages.

    Attributes:
        name: Hub id or folder, as given.
        module: The `sentence_transformers.SentenceTransformer`, in float32 and evaluation mode: a
            `torch.nn.Sequential` from `features` to a dictionary with `sentence_embedding`.
        dim: Dimensions of the vectors.
        similarity: "cosine" or "dot", whichever the model was trained for.
        query_prompt: Prompt prepended to each query; may be empty.
        document_prompt: Prompt prepended to each document; may be empty.

    Raises:
        InputError: The package sentence-transformers is missing; or the model cannot be loaded,
            requires running its own code, has a tokenizer that does not match, or gives vectors
            that are not finite.
    """

    def __init__(
        self,
        model: str,
        *,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        where: str | None = None,
    ) -> None:
        self.name = model
        self._where = where
        self.module = _load(model, where)
        self._check_weights()
        self._check_tokenizer()
        self._keep_within_positions()
        self.similarity: str = self.module.similarity_fn_name
        if self.similarity not in ("cosine", "dot"):
            raise self._error(
                f"the encoder {model!r} compares vectors by {self.similarity!r}",
                "Choose one that compares them by cosine or dot product",
            )
        own_query, own_document = self._own_prompts()
        self.query_prompt = own_query if query_prompt is None else query_prompt
        self.document_prompt = own_document if document_prompt is None else document_prompt
        self.dim = 0  # set by a first forward pass, which checks that all parts fit
        self.dim = self.encode_queries(["a", "two texts of unequal length"]).shape[1]

    @property
    def tokenizer(self) -> Any:
        """The transformers tokenizer; for static embeddings, that of the tokenizers package."""
        return self.module.tokenizer

    def encode_documents(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Returns the vectors of documents.

        Returns:
            float32 [texts, dim]. Inner products with query vectors are the similarities that the
            model was trained for: if that is the cosine, vectors have norm 1, or 0 for a text of
            which static embeddings know no token.

        Raises:
            InputError: A vector is not finite.
        """
        return self._encode(self.module.encode_document, texts, self.document_prompt)

    def encode_queries(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Returns the vectors of queries, float32 [texts, dim]; see `encode_documents`."""
        return self._encode(self.module.encode_query, texts, self.query_prompt)

    def features(self, texts: Sequence[str], prompt: str = "") -> dict[str, Any]:
        """Returns the input of `module`: a padded batch of tokens, for training through it.

        Args:
            texts: At least one text.
            prompt: Prompt prepended to each, such as `query_prompt`.
        """
        features: dict[str, Any] = self.module.preprocess(list(texts), prompt=prompt or None)
        return features

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes model and tokenizer as a sentence-transformers folder with safetensors weights."""
        self.module.save_pretrained(os.fspath(folder), create_model_card=False)

    def _encode(
        self, encode: Callable[..., Any], texts: Sequence[str], prompt: str
    ) -> npt.NDArray[np.float32]:
        if not len(texts):
            return np.zeros((0, self.dim), np.float32)
        try:
            vectors = encode(
                list(texts),
                prompt=prompt,
                batch_size=_BATCH,
                normalize_embeddings=self.similarity == "cosine",
                show_progress_bar=len(texts) > _BAR and shows_bars(),
            )
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise self._error(
                f"the encoder {self.name!r} cannot read texts ({_first_line(error)})",
                "Check that its tokenizer belongs to it",
            ) from None
        vectors = np.asarray(vectors, np.float32)
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(bad):
            raise self._error(
                f"the encoder {self.name!r} returns vectors that are not finite"
                f" ({len(bad):,} of {len(vectors):,} texts, the first {texts[bad[0]][:40]!r})",
                "Its weights are damaged, or it needs another precision",
            )
        return vectors

    def _own_prompts(self) -> tuple[str, str]:
        """Returns the prompts of queries and documents that the model was trained with."""
        prompts = {name: prompt for name, prompt in self.module.prompts.items() if prompt}
        if prompts:
            document = next((prompts[name] for name in _PASSAGES if name in prompts), "")
            return prompts.get("query", ""), document
        for pattern, query, document in _KNOWN_PROMPTS:
            if re.fullmatch(pattern, Path(self.name).name, re.IGNORECASE):
                return query, document
        return "", ""

    def _check_weights(self) -> None:
        """Refuses a folder with the weights of another model, which would leave weights random."""
        inner = getattr(self.module, "transformers_model", None)
        file = Path(self.name) / "model.safetensors"
        if inner is None or not file.is_file():
            return
        from safetensors import safe_open

        with safe_open(file, "numpy") as opened:
            stored = set(opened.keys())
        names = [name for name, _ in inner.named_parameters()]
        prefixed = f"{getattr(inner, 'base_model_prefix', '')}."
        present = sum(name in stored or prefixed + name in stored for name in names)
        if 2 * present < len(names):
            raise self._error(
                f"cannot load the encoder {self.name!r} (its weights have {present} of the "
                f"{len(names)} tensors that {type(inner).__name__} needs)",
                "Put config.json and weights of one model into the folder",
            )

    def _check_tokenizer(self) -> None:
        """Refuses a tokenizer with ids beyond the embedding matrix, or with an empty vocabulary."""
        tokenizer = self.tokenizer
        rows = _embedding_rows(self.module[0])
        if not hasattr(tokenizer, "get_vocab") or rows is None:
            return
        ids = set(tokenizer.get_vocab().values())
        special = set(getattr(tokenizer, "all_special_ids", ()))
        if ids <= special:
            raise self._error(
                f"the encoder {self.name!r} has no tokenizer",
                "Put the tokenizer's files beside the weights",
            )
        if max(ids) >= rows:
            raise self._error(
                f"the tokenizer of {self.name!r} does not fit: it has token {max(ids)}, the model"
                f" {rows} embeddings",
                "Put the tokenizer that the model was trained with beside its weights",
            )

    def _keep_within_positions(self) -> None:
        """Truncates texts for models whose positions start after the padding id, as RoBERTa's."""
        from torch import nn

        inner = getattr(self.module, "transformers_model", None)
        if inner is None:
            return
        for name, part in inner.named_modules():
            if (
                name.endswith("position_embeddings")
                and isinstance(part, nn.Embedding)
                and part.padding_idx is not None
            ):
                most = part.num_embeddings - part.padding_idx - 1
                self.module.max_seq_length = min(self.module.max_seq_length or most, most)

    def _error(self, what: str, hint: str) -> InputError:
        return InputError(what, where=self._where, hint=hint)


def refuse_no_name(model: str, where: str | None) -> None:
    """Raises InputError if the name of a model is blank: libraries take it for this folder."""
    if not model.strip():
        raise InputError(
            "no encoder is named", where=where, hint="Give a hub id, or the folder of a model"
        )


def _load(model: str, where: str | None) -> Any:
    """Returns the SentenceTransformer of a hub id or folder, in float32."""
    refuse_no_name(model, where)
    package = import_sentence_transformers(f"the encoder {model!r}", where)
    try:
        check_folder(model)
    except FileNotFoundError as error:
        raise _not_loaded(model, where, error) from None
    try:
        if _is_model2vec(Path(model)):
            loaded = _load_model2vec(model)
        else:
            loaded = package.SentenceTransformer(
                model, trust_remote_code=False, model_kwargs={"use_safetensors": True}
            )
    except MemoryError:
        raise
    except Exception as error:  # readers of foreign files may raise anything
        if "trust_remote_code" in str(error) or "custom code" in str(error):
            raise _code_error(model, where) from None
        raise _not_loaded(model, where, error) from None
    return loaded.float().eval()


def _not_loaded(model: str, where: str | None, error: Exception) -> InputError:
    return InputError(
        f"cannot load the encoder {model!r} ({_first_line(error)})",
        where=where,
        hint="Give a hub id that this machine can reach, or the folder of a downloaded model",
    )


def _code_error(model: str, where: str | None) -> InputError:
    return InputError(
        f"the encoder {model!r} requires running its own code, which is refused",
        where=where,
        hint="Choose an encoder that transformers or sentence-transformers supports directly",
    )


def _is_model2vec(folder: Path) -> bool:
    """Tells whether a folder has model2vec static embeddings, saved without modules.json."""
    file = folder / "config.json"
    if not file.is_file() or (folder / "modules.json").is_file():
        return False
    config = read_json(file)
    return isinstance(config, dict) and (
        config.get("model_type") == "model2vec" or config.get("architectures") == ["StaticModel"]
    )


def _load_model2vec(folder: str) -> Any:
    """Returns model2vec static embeddings, normalized if their configuration says so."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding

    modules: list[Any] = [StaticEmbedding.load(folder)]
    if read_json(Path(folder) / "config.json").get("normalize"):
        modules.append(Normalize())
    return SentenceTransformer(modules=modules)


def _embedding_rows(first: Any) -> int | None:
    """Returns the number of token embeddings of the first module; None if unknown."""
    if hasattr(first, "num_embeddings"):  # StaticEmbedding
        return int(first.num_embeddings)
    inner = getattr(first, "auto_model", None)
    embedding = inner.get_input_embeddings() if inner is not None else None
    return getattr(embedding, "num_embeddings", None)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
