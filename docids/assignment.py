"""The DOCIDS folder: identifiers, with everything needed to assign more of them."""

from __future__ import annotations

import operator
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_prep.checks import with_article
from data_prep.dataset import Document
from data_prep.errors import InputError
from data_prep.files import (
    read_json,
    refuse_irreplaceable,
    replacing_named_folder,
    write_json,
)
from data_prep.progress import note
from docids.embeddings import (
    Embedder,
    EmbeddingOptions,
    fit_embedder,
    open_embedder,
    save_embedder,
)
from docids.kinds import KINDS, Built, Documents
from docids.model_tokens import ModelTokens
from docids.quality import Quality, measure
from docids.store import naming, open_store, write_store
from docids.table import DocidTable

MANIFEST = "docids.json"
MODEL = "model"
"""The folder with the encoder-decoder that codes were trained with, as transformers keeps one."""
PARTS = (MANIFEST, "table", "extras", MODEL, "embedder", "quality.json")
"""What we make in a DOCIDS folder; what else is in it is the user's, and stays."""


@dataclass(frozen=True)
class Assignment:
    """The identifiers of a corpus.

    On disk: `docids.json` (how they were made), `table/`, `extras/` (the kind's own arrays, such as
    centroids), `model/` if an encoder-decoder was trained with the codes, `embedder/` if document
    vectors were used, `quality.json` if quality was measured.

    Attributes:
        built: The table, and the kind's own arrays.
        embedder: The embedder that turned documents into vectors; None if no vectors were needed.
        embedding: The options of the embedder.
        seed: Seed of everything random.
        origin: What the identifiers were made from, such as a dataset's name and hash.
        measured: Their quality when they were made, as `Quality.to_dict` has it; None if unknown.
    """

    built: Built
    embedder: Embedder | None
    embedding: EmbeddingOptions
    seed: int
    origin: Mapping[str, Any]
    measured: Mapping[str, Any] | None = None

    @property
    def table(self) -> DocidTable:
        """The identifiers."""
        return self.built.table

    def extend(
        self,
        documents: Sequence[Document],
        *,
        queries: Sequence[Sequence[str]] | None = None,
    ) -> Assignment:
        """Assigns identifiers to more documents; existing identifiers do not change.

        Args:
            documents: The new documents.
            queries: The pseudo-queries of each document, for the kind description, which falls back
                on keywords if there are none.

        Raises:
            InputError: An id is already in use, or the new documents cannot be embedded.
        """
        ask = None if queries is None else lambda generator: queries
        new = Documents.of(documents, self.embed, ask)
        kind = self.table.kind
        built = KINDS[kind].extend(self.built, new, self.seed)
        _check_built(built, [*self.table.doc_ids, *new.doc_ids], kind, "extend")
        return replace(self, built=built)

    def retire(self, doc_ids: Sequence[str]) -> Assignment:
        """Marks documents as deleted; their identifiers are not reused."""
        return replace(
            self, built=replace(self.built, table=self.table.retire(doc_ids), resolved={})
        )

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Embeds texts into the vector space that the identifiers were made from.

        Raises:
            InputError: The identifiers were saved without their embedder.
        """
        if self.embedder is None:
            raise InputError(
                f"these {self.table.kind!r} identifiers were saved without their embedder",
                hint="Assign them again",
            )
        return self.embedder.encode(texts)

    def save(self, folder: str | os.PathLike[str], quality: Quality | None = None) -> None:
        """Writes the assignment to `folder`, replacing an earlier one.

        Args:
            folder: The DOCIDS folder.
            quality: What `assign` measured; saved as `quality.json`.

        Raises:
            InputError: `folder` holds something else, which is left untouched.
        """
        refuse_other_content(folder)
        with replacing_named_folder(folder, PARTS.__contains__) as fresh:
            self.table.save(fresh / "table")
            write_store(fresh / "extras", "extras", {}, self.built.extras)
            if isinstance(self.built.model, Path):
                shutil.copytree(self.built.model, fresh / MODEL)
            elif self.built.model is not None:
                self.built.model.save(fresh / MODEL)
            if self.embedder is not None:
                save_embedder(self.embedder, self.embedding, fresh / "embedder")
            if quality is not None:
                write_json(fresh / "quality.json", quality.to_dict())
            manifest = {
                "kind": self.table.kind,
                "options": self.table.options,
                "seed": self.seed,
                "embedding": asdict(self.embedding),
                "origin": dict(self.origin),
            }
            write_json(fresh / MANIFEST, manifest)

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Assignment:
        """Opens a DOCIDS folder, memory-mapping large arrays.

        Raises:
            InputError: `folder` is not a DOCIDS folder, or is damaged.
        """
        folder = Path(folder)
        if not (folder / MANIFEST).is_file():
            raise InputError(
                f"not a folder of identifiers ({MANIFEST} is missing)",
                where=folder,
                hint="Create one with `dsi docids`",
            )
        manifest = read_json(folder / MANIFEST)
        embedder = open_embedder(folder / "embedder")[0] if (folder / "embedder").exists() else None
        table = DocidTable.open(folder / "table")
        with naming(folder / "table"):
            table.check()
        built = Built(
            table,
            open_store(folder / "extras", "extras")[1],
            model=folder / MODEL if (folder / MODEL).is_dir() else None,
        )
        try:
            embedding = EmbeddingOptions(**manifest["embedding"])
            seed, origin = int(manifest["seed"]), manifest["origin"]
            return cls(built, embedder, embedding, seed, origin, _measured(folder))
        except InputError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"this version of dsi-toolkit cannot read the manifest ({error})",
                where=folder / MANIFEST,
            ) from None


def _measured(folder: Path) -> dict[str, Any] | None:
    """Returns the quality report of a DOCIDS folder, if it has one."""
    file = folder / "quality.json"
    figures = read_json(file) if file.is_file() else None
    return figures if isinstance(figures, dict) else None


def assign(
    documents: Sequence[Document],
    *,
    kind: str,
    options: Any = None,
    embedding: EmbeddingOptions | None = None,
    seed: int = 0,
    origin: Mapping[str, Any] | None = None,
    queries: Callable[[str], Sequence[Sequence[str]]] | None = None,
    scratch: Path | None = None,
    reserve: int = 0,
    model_tokens: ModelTokens | None = None,
) -> tuple[Assignment, Quality]:
    """Assigns an identifier to every document and measures their quality.

    Args:
        documents: The documents; their order is that of the rows of the table.
        kind: A name in `docids.kinds.KINDS`.
        options: An instance of the kind's `Options`; default: an instance with all defaults.
        embedding: How documents are embedded, if the kind or the quality measures need vectors.
        seed: The same documents, options and seed give the same identifiers.
        origin: Where the documents come from, for the manifest.
        queries: Maps the name of a generator, or "auto", to the pseudo-queries of each document, as
            `docids.pseudo_queries.queries_of` does; default: no pseudo-queries.
        scratch: Folder where a slow kind keeps its work in progress; default: none is kept.
        reserve: Codes to keep for documents to come; see `KindOptions`.
        model_tokens: The vocabulary of the language model that will be trained; default: none.

    Raises:
        InputError: There are no documents, an id occurs twice, the kind is unknown, or the
            embedding model cannot be loaded.
    """
    chosen = KINDS[kind]
    if seed < 0:
        raise InputError(f"seed is {seed}", hint="Give 0 or more")
    if not documents:
        raise InputError("there are no documents to assign identifiers to")
    embedding = embedding or EmbeddingOptions()
    fitted: list[Embedder] = []

    def embed(these: Sequence[str]) -> npt.NDArray[np.float32]:
        if not fitted:  # the documents come first
            fitted.append(fit_embedder(these, embedding, seed))
        return fitted[0].encode(these)

    given = replace(
        Documents.of(documents, embed, queries), scratch=scratch, model_tokens=model_tokens
    )
    built = chosen.build(given, chosen.Options() if options is None else options, seed)
    _check_built(built, given.doc_ids, kind, "build")
    if reserve:
        built = replace(built, table=built.table.with_reserve(reserve))
    for chosen_for_the_user in built.notes:
        note(chosen_for_the_user)
    quality = measure(
        built.table,
        lambda: given.vectors,
        seed=seed,
        resolved=built.resolved,
        notes=built.notes,
        named=embedding.model,
        codebooks=built.codebooks,
    )
    embedder = fitted[0] if fitted else None
    measured = quality.to_dict()
    return Assignment(built, embedder, embedding, seed, origin or {}, measured), quality


def _check_built(built: Any, doc_ids: Sequence[str], kind: str, method: str) -> None:
    """Refuses what a kind returned if it is not a table of these documents.

    Raises:
        InputError: It is something else, or an identifier or an array is invalid.
    """
    what = f"the docid kind {kind!r}: {method} returned"
    if not isinstance(built, Built) or not isinstance(built.table, DocidTable):
        raise InputError(f"{what} {with_article(built)}, not a Built with a table")
    if len(built.table) != len(doc_ids) or any(map(operator.ne, built.table.doc_ids, doc_ids)):
        raise InputError(f"{what} identifiers of other documents than it was given")
    for name, array in built.extras.items():
        if not isinstance(array, np.ndarray) or array.dtype.hasobject:
            raise InputError(f"{what} an extra {name!r} that is not an array of numbers")


def refuse_other_content(folder: str | os.PathLike[str]) -> None:
    """Raises InputError if `folder` is a file, or holds anything but identifiers."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError("this is a file, not a folder", where=folder, hint="Choose another --out")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise InputError(
            "this folder holds files that are not identifiers",
            where=folder,
            hint="Choose another --out; this folder was not changed",
        )
    refuse_irreplaceable(folder, PARTS.__contains__)
