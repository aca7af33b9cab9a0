"""An index in PyTerrier 1.1 pipelines: an artifact, its indexer and its retriever.

`pyterrier.Artifact.load(folder)` finds the class by the entry point `generative_index.dsi` and the
file `pt_meta.json` that `GenerativeIndex` writes to the folder of an index.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from data_prep.errors import InputError
from data_prep.files import write_json
from dsi.building import build
from dsi.index import Index
from dsi.index_folder import versions
from dsi.indexing.options import TrainingOptions
from dsi.libraries import requiring
from dsi.search.options import SearchOptions

with requiring("pyterrier", "pyterrier"):
    import pandas
    import pyterrier

if TYPE_CHECKING:
    from pandas import DataFrame

_META = {"type": "generative_index", "format": "dsi", "package_hint": "dsi-toolkit"}


class GenerativeIndex(pyterrier.Artifact, pyterrier.Indexer):
    """An index as an artifact; `index` trains it, `retriever` searches it.

    Args:
        path: The folder of the index, which need not exist before it is trained.
        options: Options of `dsi train`; its defaults if None.
    """

    ARTIFACT_TYPE = _META["type"]
    ARTIFACT_FORMAT = _META["format"]
    ARTIFACT_PACKAGE_HINT = _META["package_hint"]

    def __init__(
        self, path: str | os.PathLike[str], options: TrainingOptions | None = None
    ) -> None:
        super().__init__(Path(path))
        self.options = options or TrainingOptions()
        self._opened: Index | None = None

    def index(self, iter: Iterable[Mapping[str, Any]], **kwargs: Any) -> GenerativeIndex:
        """Trains the index; called again with the same documents, it opens the existing one.

        Args:
            iter: Documents in PyTerrier's format: `docno`, `text` and optionally `title`.
            **kwargs: None are supported.

        Raises:
            InputError: A document lacks its docno or text, or the folder holds another index.
        """
        if kwargs:
            raise InputError(f"index() does not support {', '.join(kwargs)}")
        folder = Path(self.path)
        self._opened = build(_documents(iter), folder, self.options)
        write_json(folder / "pt_meta.json", _META)
        return self

    def opened(self) -> Index:
        """Returns the index, opened.

        Raises:
            InputError: There is none, or it is damaged.
        """
        if self._opened is None:
            self._opened = Index.open(self.path)
        return self._opened

    def retriever(
        self,
        num_results: int = 1000,
        *,
        with_text: bool = False,
        options: SearchOptions | None = None,
    ) -> GenerativeRetriever:
        """Returns a transformer that searches the index.

        Args:
            num_results: Maximum number of documents per query.
            with_text: Add the columns title and text, which re-rankers read.
            options: How to search; default `SearchOptions()`.
        """
        return GenerativeRetriever(self.opened(), num_results, with_text, options)

    def index_inputs(self) -> list[list[str]]:
        """Returns the columns required of documents."""
        return [["docno", "text"]]

    def _package_files(self) -> Iterator[tuple[str, str | IO[bytes]]]:
        """Yields (path in a package, file) of the live version only."""
        folder = Path(self.path)
        if not (folder / "pt_meta.json").is_file():
            write_json(folder / "pt_meta.json", _META)
        live = versions.folder(folder, versions.live(folder))
        versions.Manifest.load(live)
        files = [folder / "live", folder / "pt_meta.json"]
        files += sorted(path for path in live.rglob("*") if path.is_file())
        for path in files:
            yield str(path.relative_to(folder)), str(path)


class GenerativeRetriever(pyterrier.Transformer):
    """Finds documents for queries: takes columns qid and query; adds docno, score and rank.

    Args:
        index: The index.
        num_results: Maximum number of documents per query.
        with_text: Add the columns title and text, which re-rankers read.
        options: How to search; default `SearchOptions()`.
    """

    def __init__(
        self,
        index: Index,
        num_results: int = 1000,
        with_text: bool = False,
        options: SearchOptions | None = None,
    ) -> None:
        self.index = index
        self.num_results = num_results
        self.with_text = with_text
        self.options = options

    def transform(self, inp: DataFrame) -> DataFrame:
        """Searches for each row; other columns are kept, and an empty query finds nothing.

        Args:
            inp: A frame with the columns qid and query.
        """
        pyterrier.validate.query_frame(inp, ["query"])
        if not len(inp):
            inp = inp.astype({"qid": "str", "query": "str"})
        nonempty = inp[inp["query"].str.strip() != ""]
        rankings = self.index.search(
            nonempty["query"].tolist(),
            k=min(self.num_results, len(self.index)),
            options=self.options,
            with_text=self.with_text,
        )
        rows = [
            (qid, hit.doc_id, hit.score, *((hit.title, hit.text) if self.with_text else ()))
            for qid, hits in zip(nonempty["qid"].tolist(), rankings, strict=True)
            for hit in hits
        ]
        more = ["title", "text"] if self.with_text else []
        table = pandas.DataFrame(rows, columns=["qid", "docno", "score", *more])
        table["score"] = table["score"].astype("float64")
        queries = inp.drop(
            columns=[name for name in table.columns if name != "qid"], errors="ignore"
        )
        result = queries.merge(table.astype({"qid": inp["qid"].dtype}), on="qid", how="inner")
        return pyterrier.model.add_ranks(result)


def _documents(documents: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, str]]:
    for number, document in enumerate(documents, 1):
        if not document.get("docno") or "text" not in document:
            raise InputError(
                f"document {number} has no docno or no text",
                hint='Give mappings such as {"docno": "d1", "text": "..."}',
            )
        text, title = str(document["text"] or ""), str(document.get("title") or "")
        yield {"id": str(document["docno"]), "title": title, "text": text}
