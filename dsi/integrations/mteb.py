"""An index as an MTEB 2 model (`mteb.models.SearchProtocol`): trained on a corpus and queried."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.errors import InputError
from dsi.building import build
from dsi.index import Index
from dsi.indexing.options import TrainingOptions
from dsi.libraries import requiring
from dsi.search.options import SearchOptions

with requiring("mteb", "mteb"):
    from mteb.models import ModelMeta

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.types import (
        CorpusDatasetType,
        EncodeKwargs,
        QueryDatasetType,
        RetrievalOutputType,
        TopRankedDocumentsType,
    )


class GenerativeIndex:
    """Trains an index on the corpus of a retrieval task and answers the task's queries.

    `mteb.evaluate(GenerativeIndex("folder"), [task])` does both. The task's queries and judgments
    are not used for training. An existing index in the folder is opened, not trained again.

    Args:
        folder: Where to write the indexes, each in a folder of its task's name.
        options: Options of `dsi train`; its defaults if None.
        name: The name of the model in MTEB's results, `organization/model`.
    """

    def __init__(
        self,
        folder: str | Path,
        options: TrainingOptions | None = None,
        name: str = "dsi-toolkit/generative-index",
    ) -> None:
        self.folder = Path(folder)
        self.options = options or TrainingOptions()
        self.name = name
        self._index: Index | None = None

    def index(
        self,
        corpus: CorpusDatasetType,
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        encode_kwargs: EncodeKwargs | None = None,
        num_proc: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Trains an index on a corpus, or opens the one already trained on it.

        Args:
            corpus: Rows of `id` and `text`, and optionally `title`. A document with neither title
                nor text is left out: nothing could find it.
            task_metadata: The task; its name names the folder.
            hf_split: The split; so does its name.
            hf_subset: The subset; so does its name.
            encode_kwargs: Not used.
            num_proc: Not used.
            **kwargs: Not used.

        Raises:
            InputError: The corpus has no text, or the folder holds an index of another corpus.
        """
        names = (task_metadata.name, hf_subset, hf_split)
        folder = self.folder.joinpath(*(re.sub(r"[^\w.-]", "_", name) for name in names))
        if not {"id", "text"} <= set(corpus.column_names):
            raise InputError(
                "the corpus has no columns id and text; available: "
                f"{', '.join(corpus.column_names)}",
                where=task_metadata.name,
                hint="Choose a text retrieval task",
            )
        self._index = build(_documents(corpus), folder, self.options)

    def search(
        self,
        queries: QueryDatasetType,
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        top_k: int,
        encode_kwargs: EncodeKwargs | None = None,
        top_ranked: TopRankedDocumentsType | None = None,
        num_proc: int | None = None,
        **kwargs: Any,
    ) -> RetrievalOutputType:
        """Returns query id -> document id -> score; an empty query finds nothing.

        Args:
            queries: Rows of `id` and `text`; turns of a conversation are joined, and the
                `instruction` of a query is not read.
            task_metadata: Not used.
            hf_split: Not used.
            hf_subset: Not used.
            top_k: Maximum number of documents per query.
            encode_kwargs: `batch_size` is the number of queries searched at once.
            top_ranked: Query id -> the only documents to rank for it, in reranking tasks.
            num_proc: Not used.
            **kwargs: Not used.
        """
        if self._index is None:
            raise InputError("nothing has been indexed", hint="Call index() first")
        size = int((encode_kwargs or {}).get("batch_size", 32))
        texts = {str(row["id"]): _text(row["text"]) for row in queries}
        results: dict[str, dict[str, float]] = {query_id: {} for query_id in texts}
        query_ids = [query_id for query_id, text in texts.items() if text]
        k = min(top_k, len(self._index))
        if top_ranked is None:
            rankings = self._index.search(
                [texts[query_id] for query_id in query_ids], k, batch_size=size
            )
            for query_id, hits in zip(query_ids, rankings, strict=True):
                results[query_id] = {hit.doc_id: hit.score for hit in hits}
            return results
        indexed = set(self._index.table.doc_ids)
        for query_id in query_ids:
            among = [one for one in top_ranked.get(query_id, ()) if one in indexed]
            if among:
                options = SearchOptions(only=among)
                best = self._index.search(texts[query_id], min(k, len(among)), options=options)
                results[query_id] = {hit.doc_id: hit.score for hit in best}
        return results

    @property
    def mteb_model_meta(self) -> ModelMeta:
        """The metadata of the model in MTEB's results."""
        return ModelMeta.create_empty(
            {
                "name": self.name,
                "revision": importlib.metadata.version("dsi-toolkit"),
                "framework": ["PyTorch"],
                "use_instructions": False,
                "open_weights": True,
            }
        )


def _documents(corpus: CorpusDatasetType) -> Iterator[dict[str, str]]:
    for row in corpus:
        title, text = (row.get("title") or "").strip(), _text(row["text"])
        if title or text:
            yield {"id": str(row["id"]), "title": title, "text": text}


def _text(value: Any) -> str:
    """Returns a text, or the turns of a conversation (texts, or mappings with `content`)."""
    if isinstance(value, list):
        contents = (turn.get("content") if isinstance(turn, dict) else turn for turn in value)
        return "\n".join(str(turn) for turn in contents if turn).strip()
    return str(value or "").strip()
