"""A generative index on disk, opened for searching.

A version folder (see `dsi.index_folder.versions`) holds

    manifest.json           what it is and how it was made
    model/                  config.json and the weights, safetensors only
    text/                   the tokenizer of the queries
    docids/, docids/trie/   the identifiers and the trie over the live ones
    titles/                 document titles, in the row order of the identifiers

Opening a version reads data but runs no code from it: no pickle, no remote code.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from data_prep.checks import as_list, as_path, check_value, of_type, with_article
from data_prep.errors import InputError
from data_prep.passages import document_of
from data_prep.progress import track
from docids.store import naming, open_store, write_store
from docids.strings import Strings
from docids.table import DocidTable
from docids.trie import Trie
from dsi.hub.address import is_address
from dsi.index_folder import versions
from dsi.index_folder.stored_documents import StoredDocuments
from dsi.index_folder.version_files import COPY
from dsi.index_folder.versions import Manifest

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from data_prep.dataset import Document
    from dsi.distributed.processes import Processes
    from dsi.search.document_scores import DocumentScores
    from dsi.search.explaining import Explanation
    from dsi.search.hops import Chain
    from dsi.search.options import HopOptions, SearchOptions
    from dsi.search.t5_weights import T5Weights
    from dsi.search.torch_trie import TorchTrie
    from dsi.text_encoders.text_encoder import TextEncoder

_MAX_SCORES = 2**27
"""Maximum number of document scores in memory; a batch has one for each query and table row."""
_READ = ("model", "text", "docids", "titles", "lexical")
"""The parts of a version that searching reads, each of them as a whole."""


@dataclass(frozen=True)
class Hit:
    """A retrieved document.

    Args:
        doc_id: Its id.
        score: Log-probability of its identifier given the query, over all codes or over the allowed
            ones, plus its own score if the index has a lexical layer; higher is better.
        title: Its title; empty if it has none.
        text: Its text; None if it was not requested.
        passage: The id of its best passage, if documents were split into passages.
    """

    doc_id: str
    score: float
    title: str
    text: str | None = None
    passage: str | None = None

    @property
    def data(self) -> dict[str, Any]:
        """The hit as a JSON object, without text and passage if it has none."""
        optional = ("text", "passage")
        pairs = ((entry.name, getattr(self, entry.name)) for entry in fields(self))
        return {name: value for name, value in pairs if value is not None or name not in optional}


def write_parts(
    folder: str | os.PathLike[str],
    *,
    model: PreTrainedModel,
    text: TextEncoder,
    table: DocidTable,
    titles: Iterable[str],
) -> None:
    """Writes everything but the manifest to the folder of a new version.

    Args:
        folder: What `Writer.version` yields.
        model: The model; its decoder's vocabulary is the docid alphabet.
        text: The text encoder of the queries.
        table: The identifiers, including retired ones.
        titles: One title for each row of the table.

    Raises:
        InputError: The number of titles differs from that of rows.
    """
    from dsi.backbones.backbone import save_backbone

    folder = Path(folder)
    packed = Strings.pack(titles)
    if len(packed) != len(table):
        raise InputError(f"{len(packed)} titles for {len(table)} documents")
    save_backbone(model, folder / "model")
    text.save(folder / "text")
    table.save(folder / "docids")
    Trie.build(table).save(folder / "docids" / "trie")
    write_titles(folder, packed)


def write_titles(folder: str | os.PathLike[str], titles: Strings) -> None:
    """Writes the titles to the folder of a new version, one for each row of its table."""
    arrays: dict[str, np.ndarray] = {"text": titles.text, "offsets": titles.offsets}
    write_store(Path(folder) / "titles", "titles", {}, arrays)


def open_titles(folder: str | os.PathLike[str]) -> Strings:
    """Memory-maps the titles in the folder of a version.

    Raises:
        InputError: They are missing or truncated.
    """
    _, arrays = open_store(Path(folder) / "titles", "titles")
    with naming(Path(folder) / "titles"):
        titles = Strings(arrays["text"], arrays["offsets"])
        titles.check()
    return titles


def open_lexical(folder: Path, rows: int) -> DocumentScores | None:
    """Opens the lexical layer in the folder of a version; None if it has none.

    Args:
        folder: Folder of the version.
        rows: Number of rows of its identifier table.

    Raises:
        InputError: It is damaged, or has a different number of rows.
    """
    if not (folder / "lexical").is_dir():
        return None
    from dsi.lexical.layer_builder import open_layer

    layer = open_layer(folder / "lexical")
    if len(layer) != rows:
        raise InputError(
            f"the lexical layer has {len(layer)} documents, but there are identifiers for {rows}",
            where=folder / "lexical",
            hint=COPY,
        )
    return layer


def open_identifiers(folder: Path) -> tuple[DocidTable, Trie]:
    """Opens and checks the identifiers in the folder of a version and the trie over them.

    Raises:
        InputError: They are missing or damaged, or do not belong together.
    """
    table = DocidTable.open(folder / "docids")
    with naming(folder / "docids"):
        table.check()
    trie = Trie.open(folder / "docids" / "trie")
    with naming(folder / "docids" / "trie"):
        trie.check(table)
    return table, trie


class Index:
    """One version of a generative index, held open for searching.

    Versions written later do not change it; open the index again to see them.

    Args:
        manifest: The manifest of the version.
        model: The model, or its weights, in evaluation mode.
        text: The text encoder of the queries.
        table: The identifiers.
        trie: The trie over the live identifiers, on the model's device.
        titles: One title for each row of the table.
        lexical: The scorer of documents in addition to the model, if any.
        documents: The documents themselves, if they are stored.
    """

    def __init__(
        self,
        manifest: Manifest,
        model: PreTrainedModel | T5Weights,
        text: TextEncoder,
        table: DocidTable,
        trie: TorchTrie,
        titles: Sequence[str],
        lexical: DocumentScores | None = None,
        documents: StoredDocuments | None = None,
    ) -> None:
        self.manifest = manifest
        self._network: Any = model
        self.text = text
        self.table = table
        self.trie = trie
        self.titles = titles
        self.lexical = lexical
        self.documents = documents
        self._models: dict[str, PreTrainedModel] = {}
        self._restricted: tuple[Any, TorchTrie] | None = None
        self._opened: tuple[Path, str, str] | None = None

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        device: str | torch.device | None = None,
        version: str | None = None,
    ) -> Index:
        """Opens a version of an index.

        Args:
            path: The folder of the index, or `hf://user/name[@revision]` for one on the hub.
            device: Where to search; default the first accelerator, or the CPU without one.
            version: The name of the version; default the live one.

        Raises:
            InputError: It is not an index, has no such version, or a part of it is missing, damaged
                or truncated.
        """
        from dsi.backbones.backbone import check_weights, load_backbone, text_rows
        from dsi.search.t5_weights import read_weights
        from dsi.search.torch_trie import TorchTrie
        from dsi.text_encoders.stored_text_encoder import open_text_encoder

        if is_address(path):
            from dsi.hub.pull import local_copy

            path = local_copy(path)
        path = as_path(path, "path")
        live = versions.live(path)
        if version is not None and version not in versions.names(path):
            raise InputError(
                f"no version {version!r:.40}",
                where=path,
                hint=f"Choose from: {', '.join(versions.names(path))}",
            )
        folder = versions.folder(path, version or live)
        manifest = Manifest.load(folder)
        check_weights(folder / "model" / "model.safetensors")
        versions.verify(folder, manifest, _READ)
        table, trie = open_identifiers(folder)
        titles = open_titles(folder)
        if len(titles) != len(table):
            raise InputError(
                f"{len(titles)} titles for {len(table)} identifiers", where=folder, hint=COPY
            )
        if manifest.documents != len(table.live):
            raise InputError(
                f"the manifest counts {manifest.documents} documents, but there are identifiers "
                f"for {len(table.live)}",
                where=folder,
                hint=COPY,
            )
        place = usable_device(device)
        text = open_text_encoder(folder / "text")
        model: Any = read_weights(folder / "model", place)
        if model is None:
            model = load_backbone(folder / "model", place)
        for rows, required, what in (
            (model.get_output_embeddings().weight.shape[0], table.alphabet_size, "codes"),
            (text_rows(model), text.vocabulary_size, "tokens"),
        ):
            if rows < required:
                raise InputError(
                    f"the model has rows for {rows} {what}, but {required} are used",
                    where=folder,
                    hint=COPY,
                )
        lexical = open_lexical(folder, len(table))
        documents = StoredDocuments(folder, manifest.files)
        trie_there = TorchTrie.from_trie(trie, place)
        opened = cls(manifest, model, text, table, trie_there, titles, lexical, documents)
        opened._opened = (path.absolute(), str(place), version or live)
        return opened

    def __repr__(self) -> str:
        """The folder, the version and the number of documents."""
        folder = "" if self._opened is None else f"{str(self._opened[0])!r}, "
        return f"<dsi.Index {folder}version {self.manifest.version}, {len(self):,} documents>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the folder and the version, which are opened again, instead of the weights.

        Raises:
            TypeError: The index was not opened from a folder.
        """
        if self._opened is None:
            raise TypeError("only an Index from Index.open can be pickled")
        return Index.open, self._opened

    @property
    def model(self) -> PreTrainedModel:
        """The transformers model, created on first access.

        Searching with a T5 needs its weights only (`dsi.search.t5_weights`).
        """
        from dsi.search.t5_weights import T5Weights

        if isinstance(self._network, T5Weights):
            self._network = self._network.complete(Path("config.json"))
            self._models = {}
        return self._network

    def __len__(self) -> int:
        """The number of documents that can be found."""
        return self.trie.documents

    # To a type checker, a string is also a sequence of strings; the first matching overload wins.
    @overload
    def search(  # type: ignore[overload-overlap]
        self,
        queries: str,
        k: int = ...,
        beams: int | None = ...,
        batch_size: int = ...,
        options: SearchOptions | None = ...,
        processes: Processes | None = ...,
        with_text: bool = ...,
    ) -> list[Hit]: ...

    @overload
    def search(
        self,
        queries: Sequence[str],
        k: int = ...,
        beams: int | None = ...,
        batch_size: int = ...,
        options: SearchOptions | None = ...,
        processes: Processes | None = ...,
        with_text: bool = ...,
    ) -> list[list[Hit]]: ...

    def search(
        self,
        queries: str | Sequence[str],
        k: int = 10,
        beams: int | None = None,
        batch_size: int = 32,
        options: SearchOptions | None = None,
        processes: Processes | None = None,
        with_text: bool = False,
    ) -> list[Hit] | list[list[Hit]]:
        """Finds the documents whose identifiers are most likely for each query.

        If documents were split into passages, a document is ranked by its best one.

        Args:
            queries: Texts, or one text; truncated to the index's `manifest.query_length` tokens.
            k: How many documents to return; fewer if the index or the beam has fewer.
            beams: Width of the search; default the index's own, and at least `k`.
            batch_size: Number of queries searched at once.
            options: How to search; default `SearchOptions()`.
            processes: Processes that share the batches; all call this with the same arguments, and
                each gets all results.
            with_text: Whether hits include the text of their document.

        Returns:
            One list per query, in order, best document first; for a single text, its list.

        Raises:
            InputError: A query is empty, a number is invalid, an option names something that does
                not exist, or texts are requested that the index does not have.
        """
        from dsi.search.options import SearchOptions

        if isinstance(queries, str):
            return self.search([queries], k, beams, batch_size, options, processes, with_text)[0]
        queries = as_list(queries, "queries")
        check_value("k", k, int)
        check_value("beams", beams, int | None)
        check_value("batch_size", batch_size, int)
        _refuse_no_text(queries)
        if batch_size < 1:
            raise InputError(f"the batch size is {batch_size}", hint="Use at least 1")
        options = of_type(options, SearchOptions) or SearchOptions()
        if processes is not None and not hasattr(processes, "gathered"):
            raise InputError(f"processes is {with_article(processes)}, not a Processes")
        check_value("with_text", with_text, bool)
        options.score_in(self.manifest.score)
        if self.lexical is not None:
            batch_size = min(batch_size, max(1, _MAX_SCORES // len(self.table)))
        if self.manifest.passages is not None:
            deeper = functools.partial(
                self._ranked,
                batch_size=batch_size,
                options=options,
                processes=processes,
                with_text=with_text,
            )
            return folded_hits(deeper, queries, k, beams, len(self))
        return self._ranked(queries, k, beams, batch_size, options, processes, with_text)

    def _ranked(
        self,
        queries: list[str],
        k: int,
        beams: int | None,
        batch_size: int,
        options: SearchOptions,
        processes: Processes | None,
        with_text: bool,
    ) -> list[list[Hit]]:
        """Returns the result of `search` for rows of the table: documents, or their passages."""
        width = max(k, self.manifest.beams) if beams is None else beams
        encoded = self.text.encode(queries, self.manifest.query_length)
        # Queries of similar length are batched together: less padding to compute.
        order = np.argsort([len(tokens) for tokens in encoded], kind="stable")
        batches = [
            order[start : start + batch_size].tolist() for start in range(0, len(order), batch_size)
        ]
        # Whole batches are distributed, so that results do not depend on the process that computes
        # them.
        own_batches: Iterable[list[int]] = batches
        if processes is not None:
            own_batches = batches[processes.rank :: processes.count]
        if len(batches) > 1:
            own_batches = track(own_batches, "searching")
        own: list[tuple[int, list[int], list[float]]] = []

        def search() -> None:
            for batch in own_batches:
                texts = [queries[place] for place in batch]
                tokens = [encoded[place] for place in batch]
                lines = self._search_batch(texts, tokens, k, width, options)
                own.extend(zip(batch, *lines, strict=True))

        if processes is None:
            search()
            everything = own
        else:
            processes.together(search)
            everything = processes.gathered(own)
        hits: list[list[Hit]] = [[] for _ in queries]
        for place, rows, scores in everything:
            hits[place] = self._hits(rows, scores)
            if with_text:
                hits[place] = self._with_texts(hits[place])
        return hits

    @overload
    def hops(  # type: ignore[overload-overlap]
        self,
        queries: str,
        k: int = ...,
        hops: HopOptions | int = ...,
        *,
        beams: int | None = ...,
        batch_size: int = ...,
        options: SearchOptions | None = ...,
        processes: Processes | None = ...,
        with_sentences: bool = ...,
    ) -> list[Chain]: ...

    @overload
    def hops(
        self,
        queries: Sequence[str],
        k: int = ...,
        hops: HopOptions | int = ...,
        *,
        beams: int | None = ...,
        batch_size: int = ...,
        options: SearchOptions | None = ...,
        processes: Processes | None = ...,
        with_sentences: bool = ...,
    ) -> list[list[Chain]]: ...

    def hops(
        self,
        queries: str | Sequence[str],
        k: int = 10,
        hops: HopOptions | int = 2,
        *,
        beams: int | None = None,
        batch_size: int = 32,
        options: SearchOptions | None = None,
        processes: Processes | None = None,
        with_sentences: bool = True,
    ) -> list[Chain] | list[list[Chain]]:
        """Finds chains of documents, each found by query and sentences of those before it.

        With one hop, the chains are the hits of `search`, with the same scores.

        Args:
            queries: Texts, or one text.
            k: How many chains to return; fewer if fewer were found.
            hops: Options, or the number of hops alone.
            beams: Width of each search; default the index's own, and at least what is looked for.
            batch_size: Number of texts searched at once.
            options: How to search in each hop; default `SearchOptions()`.
            processes: As in `search`.
            with_sentences: Whether to choose a sentence of the last document of each chain, which
                no hop reads.

        Returns:
            One list per query, in order, best chain first; for a single text, its list.

        Raises:
            InputError: As `search`; or there are no texts to read sentences of, or the verifier
                cannot be used.
        """
        from dsi.search.hops import Reader, search_in_hops
        from dsi.search.options import HopOptions

        if isinstance(queries, str):
            [chains] = self.hops(
                [queries],
                k,
                hops,
                beams=beams,
                batch_size=batch_size,
                options=options,
                processes=processes,
                with_sentences=with_sentences,
            )
            return chains
        queries = as_list(queries, "queries")
        _refuse_no_text(queries)
        check_value("k", k, int)
        check_value("beams", beams, int | None)
        check_value("hops", hops, HopOptions | int)
        check_value("with_sentences", with_sentences, bool)
        hop_options = hops if isinstance(hops, HopOptions) else HopOptions(count=hops)
        if not hop_options.count:
            raise InputError("--hops 0 is a plain search", hint="Give 1 or more")
        has_texts = self.documents is not None and self.documents.has_texts
        if not has_texts and hop_options.count > 1:
            raise InputError(
                "--hops reads sentences of documents, but this index was written without the "
                "texts of its documents",
                hint="Search without --hops, or use an index that has them",
            )
        verify = None
        if hop_options.verifier is not None:
            from dsi.search.verifier import Verifier

            verify = Verifier(hop_options.verifier, self.trie.device).sufficient
        width = max(k, hop_options.beams, self.manifest.beams) + hop_options.count - 1
        reader = Reader(
            search=lambda texts, number: self.search(
                texts, number, beams, batch_size, options, processes
            ),
            read=lambda hits: self._stored().find([hit.passage or hit.doc_id for hit in hits]),
            verify=verify,
            longest=self.manifest.query_length,
            width=width if beams is None else beams,
        )
        return search_in_hops(
            queries, k, hop_options, reader, read_last=has_texts and with_sentences
        )

    def document(self, doc_id: str) -> Document:
        """Returns a document with its title, text and, if it has one, its URL.

        Raises:
            InputError: The id is unknown, its document was deleted, or the index was written
                without the texts of its documents.
        """
        self.table.row_of(doc_id)
        return self._stored().find([doc_id])[0]

    @overload
    def explain(  # type: ignore[overload-overlap]
        self, query: str, doc_ids: str, options: SearchOptions | None = ...
    ) -> Explanation: ...

    @overload
    def explain(
        self, query: str, doc_ids: Sequence[str], options: SearchOptions | None = ...
    ) -> list[Explanation]: ...

    def explain(
        self, query: str, doc_ids: str | Sequence[str], options: SearchOptions | None = None
    ) -> Explanation | list[Explanation]:
        """Explains the score of a document.

        Args:
            query: A query.
            doc_ids: One document or several, whether or not a search finds them.
            options: How to search; default `SearchOptions()`.

        Returns:
            One explanation for one id, a list for several. The parts add up to its score, which is
            that of a search except for the last digits: these depend on batching. A document with
            several identifiers counts all of them here, but in a search only those that its beams
            found.

        Raises:
            InputError: The query is empty, or a document is unknown, deleted, or not among those
                of `options`.
        """
        from dsi.lexical.layer import Term
        from dsi.search.document_scores import ExplainedScores
        from dsi.search.explaining import explained_paths, explanation
        from dsi.search.options import SearchOptions

        if isinstance(doc_ids, str):
            return self.explain(query, [doc_ids], options)[0]
        _refuse_no_text([query])
        options = of_type(options, SearchOptions) or SearchOptions()
        rows = [self.table.row_of(doc_id) for doc_id in as_list(doc_ids, "doc_ids")]
        if not rows:
            return []
        sequences = [self.table.sequences(row) for row in rows]
        tokens = self.text.encode([query], self.manifest.query_length)
        paths = explained_paths(
            self._model_in(options.precision),
            *self._padded(tokens),
            self._trie_of(options),
            [identifier for several in sequences for identifier in several],
            options.score_in(self.manifest.score),
        )
        terms: list[list[Term]] = [[] for _ in rows]
        if isinstance(self.lexical, ExplainedScores):
            terms = self.lexical.terms_of(query, rows)
        elif self.lexical is not None:
            [line] = self.lexical.scores([query])
            scores = [float(line[row]) for row in rows]
            terms = [[Term("(document score)", 1, score, score)] for score in scores]
        remaining = iter(paths)
        return [
            explanation(
                query,
                self.table.doc_ids[row],
                self.titles[row],
                words,
                [next(remaining) for _ in several],
            )
            for row, words, several in zip(rows, terms, sequences, strict=True)
        ]

    def _stored(self) -> StoredDocuments:
        if self.documents is None:
            raise InputError("this index was opened without the texts of its documents")
        return self.documents

    def _with_texts(self, hits: Sequence[Hit]) -> list[Hit]:
        documents = self._stored().find([hit.doc_id for hit in hits])
        return [
            replace(hit, text=document.text) for hit, document in zip(hits, documents, strict=True)
        ]

    def _padded(self, tokens: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns token ids and mask of queries on the index's device; int64 [queries, longest]."""
        from dsi.backbones.inference import padded

        input_ids, attention_mask = padded(tokens)
        return input_ids.to(self.trie.device), attention_mask.to(self.trie.device)

    def _search_batch(
        self,
        texts: Sequence[str],
        tokens: Sequence[Sequence[int]],
        k: int,
        beams: int,
        options: SearchOptions,
    ) -> tuple[list[list[int]], list[list[float]]]:
        """Returns rows and scores of the queries of a batch, given as texts and as tokens."""
        from dsi.search.beam import beam_search
        from dsi.search.unconstrained import unconstrained_search

        added = self._document_scores(texts)
        search_inputs = (
            self._model_in(options.precision),
            *self._padded(tokens),
            self._trie_of(options),
        )
        if options.constraint:
            guidance = options.guidance
            rows, scores = beam_search(
                *search_inputs,
                k=k,
                beams=beams,
                score=options.score_in(self.manifest.score),
                first_beams=guidance.first_beams,
                first_levels=guidance.first_levels,
                starts=guidance.starts,
                document_scores=added,
            )
            if bool((rows < 0).all(dim=1).any()):
                raise InputError(
                    "the model gives no document a finite score: its weights are damaged",
                    where=f"version {self.manifest.version} of the index",
                    hint=COPY,
                )
            if options.rescore:
                rows, scores = self._rescored(search_inputs[1:], rows, added, options)
        else:
            rows, scores = unconstrained_search(
                *search_inputs, k=k, beams=beams, document_scores=added
            )
        return rows.tolist(), scores.tolist()

    def _rescored(
        self,
        search_inputs: tuple[torch.Tensor, torch.Tensor, TorchTrie],
        rows: torch.Tensor,
        added: torch.Tensor | None,
        options: SearchOptions,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores found documents again in fp32; see `dsi.search.rescoring`."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        from dsi.search.rescoring import rescored

        if not self.table.one_each:
            raise InputError(
                "--rescore requires one identifier per document, but some documents have several",
                hint="Omit it",
            )
        identifiers = [
            torch.tensor(self.table.sequence(row) if row >= 0 else [], dtype=torch.int64)
            for row in rows.flatten().tolist()
        ]
        codes = pad_sequence(identifiers, batch_first=True, padding_value=-1).to(rows.device)
        return rescored(
            self._model_in("fp32"),
            *search_inputs,
            rows,
            codes.view(*rows.shape, -1),
            score=options.score_in(self.manifest.score),
            document_scores=added,
        )

    def spread(self, config: dict[str, Any], precision: str = "fp32") -> None:
        """Shards the model over the processes of `torchrun`, for search in one precision.

        Every process must then call `search` with the same queries.

        Args:
            config: A DeepSpeed ZeRO-3 configuration, as `read_zero_config` returns it.
            precision: "fp32" or "bf16".

        Raises:
            InputError: The configuration has another stage, or DeepSpeed is not installed.
        """
        from dsi.search.sharding import shard_model

        self._models = {precision: shard_model(self.model, config, precision)}

    def _model_in(self, precision: str) -> PreTrainedModel:
        """Returns the model for search in a precision; cached."""
        if precision not in self._models:
            from dsi.kernels.install import install

            self._models[precision] = install(self._network, "search", precision=precision).model
        return self._models[precision]

    def _trie_of(self, options: SearchOptions) -> TorchTrie:
        """Returns the trie of the documents to search among; caches the last one."""
        if options.only is None and not options.exclude:
            return self.trie
        if self._restricted is None or self._restricted[0] != (options.only, options.exclude):
            import torch

            live = np.zeros(len(self.table), bool)
            live[self._rows_of(options.only) if options.only is not None else slice(None)] = True
            live[self._rows_of(options.exclude)] = False
            restricted = self.trie.restricted(torch.from_numpy(live).to(self.trie.device))
            self._restricted = ((options.only, options.exclude), restricted)
        return self._restricted[1]

    def _rows_of(self, doc_ids: Collection[str]) -> np.ndarray:
        """Returns the rows of the named documents, all of which must be known; int64."""
        ids = list(doc_ids)
        if self.manifest.passages is not None:
            return self._rows_of_passages(ids)
        rows = self.table.find(ids)
        if len(rows) and rows.min() < 0:
            unknown = [ids[place] for place in np.flatnonzero(rows < 0).tolist()]
            more = f", nor {len(unknown) - 1:,} others that were named" if unknown[1:] else ""
            raise InputError(
                f"no document {unknown[0]!r:.80} among {len(self.table)} identifiers{more}",
                hint="Ids must match exactly, including case and spaces",
            )
        return rows

    def _rows_of_passages(self, doc_ids: list[str]) -> np.ndarray:
        """Returns the rows of all passages of the named documents; int64."""
        is_found = dict.fromkeys(doc_ids, False)
        rows = []
        for row, passage_id in enumerate(self.table.doc_ids):
            doc_id = document_of(passage_id)
            if doc_id in is_found:
                is_found[doc_id] = True
                rows.append(row)
        unknown = next((doc_id for doc_id, found in is_found.items() if not found), None)
        if unknown is not None:
            raise InputError(
                f"no document {unknown!r} among {len(self.table)} passages",
                hint="Ids must match exactly, including case and spaces",
            )
        return np.array(rows, np.int64)

    def _document_scores(self, texts: Sequence[str]) -> torch.Tensor | None:
        """Returns the scores to add to those of the documents; float32 [texts, table rows]."""
        if self.lexical is None:
            return None
        import torch

        scores = np.asarray(self.lexical.scores(texts), np.float32)
        # A sum is finite only if all of its terms are, and takes a fraction of checking each.
        if not np.isfinite(scores.sum()):
            raise InputError(
                "the lexical layer returns scores that are not numbers: its weights are damaged",
                where=f"version {self.manifest.version} of the index",
                hint=COPY,
            )
        return torch.from_numpy(scores).to(self.trie.device)

    def _hits(self, rows: list[int], scores: list[float]) -> list[Hit]:
        """Looks up documents by row; rows of -1 are skipped."""
        return [
            Hit(self.table.doc_ids[row], score, self.titles[row])
            for row, score in zip(rows, scores, strict=True)
            if row >= 0
        ]


def _refuse_no_text(queries: Sequence[str]) -> None:
    """Raises InputError if a query is not a string, or is blank."""
    for number, query in enumerate(queries, 1):
        if not isinstance(query, str):
            raise InputError(f"query {number} is not a string: {query!r:.80}")
        if not query.strip():
            raise InputError(f"query {number} of {len(queries)} is empty")


_DEEPER = 4
"""Number of passages retrieved per requested document, initially."""


def folded_hits(
    ranked: Callable[[list[str], int, int | None], list[list[Hit]]],
    queries: list[str],
    k: int,
    beams: int | None,
    passages: int,
) -> list[list[Hit]]:
    """Finds documents by their best passages, searching deeper if the top ones cover too few.

    Args:
        ranked: Searches passages: takes queries, a number and a beam width, and returns the hits of
            each.
        queries: Texts.
        k: How many documents to return.
        beams: Beam width, which limits the depth; None for as wide as needed.
        passages: Number of passages.

    Returns:
        The best `k` documents of each query, each with the score of its best passage.
    """
    most = passages if beams is None else min(beams, passages)
    folded: list[list[Hit]] = [[] for _ in queries]
    open_ones = list(range(len(queries)))
    depth = min(_DEEPER * k, max(k, most))
    while open_ones:
        hits = ranked([queries[place] for place in open_ones], depth, beams)
        for place, each in zip(open_ones, hits, strict=True):
            folded[place] = _documents_of(each)[:k]
        if depth >= most:
            break
        open_ones = [place for place in open_ones if len(folded[place]) < k]
        depth = min(_DEEPER * depth, most)
    return folded


def _documents_of(hits: Sequence[Hit]) -> list[Hit]:
    """Returns the document of each passage, once, in the order of the best passages."""
    best: dict[str, Hit] = {}
    for hit in hits:
        doc_id = document_of(hit.doc_id)
        best.setdefault(doc_id, replace(hit, doc_id=doc_id, passage=hit.doc_id))
    return list(best.values())


def _use_one_thread() -> None:
    """Keeps a forked process from waiting for threads that exist only in its parent.

    OpenMP threads do not survive a fork, and a pool that relies on them hangs. With one thread, the
    pool is not used.
    """
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


os.register_at_fork(after_in_child=_use_one_thread)


def usable_device(device: str | torch.device | None) -> torch.device:
    """Returns a usable device; for None, the first accelerator, or the CPU.

    Raises:
        InputError: There is no such device on this machine.
    """
    import torch

    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
        torch.zeros(1, device=place)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise InputError(
            f"cannot use the device {str(device)!r} ({str(error).splitlines()[0]})",
            hint="Use cpu, or cuda if there is a GPU",
        ) from None
    return place
