"""`dsi search`: ranked documents for queries."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from data_prep.errors import InputError, command_line
from data_prep.marks import Advanced, Count
from dsi.command_line.arguments import SPREAD
from dsi.command_line.command_report import Report, TableReport, visible
from dsi.command_line.standard_streams import console as standard_console
from dsi.commands.chains import ChainAnswers, chains_table
from dsi.commands.search_arguments import SearchArguments
from dsi.search.options import HopOptions, SearchOptions
from dsi.search.reordering import at_both_ends

if TYPE_CHECKING:
    from rich.console import Console

    from data_prep.dataset import Query
    from dsi.index import Hit, Index
    from dsi.search.explaining import Explanation
    from dsi.search.hops import Chain

_FLAGS = SearchArguments()


def search(
    index: Path,
    query: list[str],
    *,
    queries: Path | None = None,
    k: Count = 10,
    batch_size: Count = 32,
    text: bool = False,
    explain: bool = False,
    reorder: Advanced[bool] = False,
    flags: Annotated[SearchArguments, SPREAD] = _FLAGS,
    deepspeed: Advanced[Path | None] = None,
    encoding: Advanced[str] = "utf-8",
    query_id_column: Advanced[str | None] = None,
    query_text_column: Advanced[str | None] = None,
) -> Report:
    """Shows the documents that answer a query, best first.

    Each argument after INDEX is one query: quote queries of several words. Without queries, the
    command prompts for them on a terminal, or reads one per line from standard input. Under
    torchrun, the processes divide the queries among themselves.

    Args:
        index: Index folder.
        query: Queries.
        queries: File of queries: TSV (`id<tab>text`), JSONL, CSV or TREC topics; - for standard
            input.
        k: Documents per query.
        batch_size: Queries per batch.
        text: Show the text of each document.
        explain: Show how each score is computed: the query's words with their weights, and the
            codes of the identifier step by step.
        reorder: Show the best documents at both ends, for long prompts of language models.
        flags: Search options.
        deepspeed: DeepSpeed configuration (ZeRO 3) that shards the model over the processes.
        encoding: Encoding of the query file.
        query_id_column: Column of the query id, if it has an unusual name.
        query_text_column: Column of the query text, if it has an unusual name.
    """
    from dsi.index_folder import versions

    versions.live(index)  # fails early, before torch is imported
    if flags.beams is not None and flags.beams < k:
        raise InputError(
            f"{flags.beams} beams cannot find {k} documents",
            where="--beams",
            hint=f"Use at least {k} beams, or a smaller --k",
        )
    if queries is not None and query:
        raise InputError(
            "queries are given both on the command line and in a file",
            where=f"--queries {queries}",
            hint="Omit one of the two",
        )
    if flags.run is not None and reorder:
        raise InputError(
            "--reorder changes the order of the output, but a run is in the order of scores",
            hint="Omit one of them",
        )
    if flags.run is not None and (text or explain):
        raise InputError(
            f"--{'text' if text else 'explain'} adds to the output, but --run prints no results",
            hint="Omit one of them",
        )
    display = {"text": text, "explain": explain, "reorder": reorder}
    if flags.hops.count and any(display.values()):
        name = next(name for name, asked_for in display.items() if asked_for)
        raise InputError(
            f"--{name} is for single documents, and --hops {flags.hops.count} shows chains of them",
            hint="Omit one of the two",
        )
    requested: list[Query] | None = None
    if queries is not None:
        requested = _from_file(queries, encoding, query_id_column, query_text_column)
    elif query:
        requested = _numbered(query, "QUERY")
    elif flags.run is not None or not sys.stdin.isatty() or not sys.stdout.isatty():
        requested = _numbered(_lines(), "standard input")

    options = flags.options()
    zero = None if deepspeed is None else _zero_config(deepspeed)

    from dsi.distributed.processes import Processes
    from dsi.index import Index

    processes = Processes()
    if explain and processes.count > 1 and deepspeed is not None:
        raise InputError("--explain needs the whole model in one process", hint="Omit --deepspeed")
    if zero is not None and flags.rescore:
        raise InputError("--rescore needs the whole model in one process", hint="Omit --deepspeed")
    if processes.count > 1 and requested is None:
        raise InputError(
            "several processes cannot read queries interactively", hint="Give --queries FILE"
        )
    with _without_garbage_collection():
        opened = processes.together(lambda: Index.open(index, flags.device))
    if zero is not None:
        opened.spread(zero, flags.precision)
    if requested is None:
        return _interactive_search(
            opened, k, flags.beams, options, flags.hops, text, explain, reorder
        )
    texts = [one.text for one in requested]
    started = time.perf_counter()
    sharing = processes if zero is None else None
    hits: list[list[Hit]] = []
    chains: list[list[Chain]] = []
    if flags.hops.count:
        chains = opened.hops(
            texts,
            k,
            flags.hops,
            beams=flags.beams,
            batch_size=batch_size,
            options=options,
            processes=sharing,
            with_sentences=flags.run is None,
        )
    else:
        hits = opened.search(texts, k, flags.beams, batch_size, options, sharing, text)
    seconds = time.perf_counter() - started
    facts = {"index": str(index), "version": opened.manifest.version, "queries": len(requested)}
    has_known_words = opened.text.has_known_words(texts)
    if flags.run is not None:
        from dsi.search.hops import ranked_documents
        from dsi.search.runs import write_run

        run = flags.run
        rankings = [ranked_documents(each, k) for each in chains] or [
            {hit.doc_id: hit.score for hit in ranked} for ranked in hits
        ]
        found = {one.query_id: scores for one, scores in zip(requested, rankings, strict=True)}
        processes.in_main_process(lambda: write_run(run, found, "dsi"))
        summary = {**facts, "run": str(run), "seconds": seconds}
        unknown = has_known_words.count(False)
        if str(run) == "-":  # there a table would be mistaken for part of the run
            return TableReport(data=summary)
        return TableReport(
            data=summary,
            title=f"{len(requested):,} queries searched in {seconds:.1f} s; results in {run}.",
            closing=(
                *([f"queries without a word that the index knows: {unknown:,}"] if unknown else []),
                f"To evaluate them: {command_line('evaluate', run, 'DATASET')}",
            ),
        )
    if flags.hops.count:
        return ChainAnswers({**facts, "seconds": seconds}, requested, chains, has_known_words)
    parts = None
    if explain:
        parts = [
            opened.explain(query, [hit.passage or hit.doc_id for hit in ranked], options)
            for query, ranked in zip(texts, hits, strict=True)
        ]
    return Answers({**facts, "seconds": seconds}, requested, hits, has_known_words, parts, reorder)


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Imports and opening create many objects that stay, which the collector walks in vain."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _zero_config(file: Path) -> dict[str, Any]:
    from dsi.distributed.deepspeed import read_zero_config
    from dsi.search.sharding import refuse_other_stages

    config = read_zero_config(file)
    refuse_other_stages(config)
    return config


@dataclass(frozen=True)
class Answers:
    """The documents found for each query.

    Args:
        facts: Facts about the search.
        queries: The queries.
        hits: Hits of each query, best first.
        has_known_words: Whether the index knows a word of each query.
        parts: Score components of each hit; None if not requested.
        reorder: Whether the best documents are placed at both ends.
    """

    facts: dict[str, Any]
    queries: Sequence[Query]
    hits: Sequence[Sequence[Hit]]
    has_known_words: Sequence[bool]
    parts: Sequence[Sequence[Explanation]] | None = None
    reorder: bool = False

    @property
    def data(self) -> dict[str, Any]:
        """The facts, and under "results" one entry per query."""
        results = [
            {
                "query_id": query.query_id,
                "query": query.text,
                "known": has_known_words,
                "hits": self._ordered(
                    [
                        {"rank": rank, **_hit_data(hit, parts)}
                        for rank, (hit, parts) in enumerate(
                            zip(ranked, explanations, strict=True), 1
                        )
                    ]
                ),
            }
            for query, ranked, has_known_words, explanations in self._each()
        ]
        return {**self.facts, "results": results}

    def _ordered(self, ranked: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return at_both_ends(ranked) if self.reorder else ranked

    def _each(
        self,
    ) -> Iterator[tuple[Query, Sequence[Hit], bool, Sequence[Explanation | None]]]:
        parts: Sequence[Sequence[Explanation | None]]
        parts = self.parts or [[None] * len(ranked) for ranked in self.hits]
        yield from zip(self.queries, self.hits, self.has_known_words, parts, strict=True)

    def show(self, console: Console) -> None:
        """Prints one table per query."""
        for query, ranked, has_known_words, explanations in self._each():
            hits_table(query.text, ranked, has_known_words, self.reorder).show(console)
            console.print()
            for parts in filter(None, explanations):
                parts_table(parts).show(console)
                console.print()
        if len(self.queries) > 1 and not any(" " in query.text for query in self.queries):
            console.print(
                "Each word was searched as a separate query. Use quotes to keep words together."
            )


def hits_table(
    query: str, hits: Sequence[Hit], has_known_words: bool = True, reorder: bool = False
) -> TableReport:
    """Returns the ranked documents of one query as a table.

    Args:
        query: The query, for the title of the table.
        hits: Hits, best first.
        has_known_words: Whether the index knows a word of the query.
        reorder: Whether the best documents are placed at both ends.
    """
    remark = "no document found" if not hits else ""
    if not has_known_words:
        remark = "no word of this query is known to the index: the order says nothing"
    columns: tuple[str, ...] = ("rank", "score", "doc id", "title")
    rows: list[tuple[Any, ...]]
    rows = [(rank, hit.score, hit.doc_id, hit.title) for rank, hit in enumerate(hits, 1)]
    if any(hit.passage is not None for hit in hits):
        columns = (*columns, "passage")
        numbers = ((hit.passage or "").rpartition("-")[2] for hit in hits)
        rows = [(*row, number) for row, number in zip(rows, numbers, strict=True)]
    if any(hit.text is not None for hit in hits):
        columns = (*columns, "text")
        rows = [(*row, hit.text) for row, hit in zip(rows, hits, strict=True)]
    if reorder:
        rows = at_both_ends(rows)
    return TableReport(
        data={},
        title=query,
        columns=columns,
        rows=rows,
        closing=(remark,) if remark else (),
    )


def _hit_data(hit: Hit, parts: Explanation | None) -> dict[str, Any]:
    return hit.data if parts is None else {**hit.data, "explanation": parts.data}


def parts_table(parts: Explanation) -> TableReport:
    """Returns the components of one score as a table; the last column sums to the score."""
    rows: list[tuple[Any, ...]] = [
        ("word", term.term, f"{term.count} x {term.weight:.3f}", term.adds) for term in parts.terms
    ]
    several = len(parts.paths) > 1
    for number, path in enumerate(parts.paths, 1):
        name = f"code {number}." if several else "code "
        rows += [
            (
                f"{name}{place}",
                step.code,
                f"rank {step.rank:,} of {step.codes:,}, logit {step.logit:.3f}",
                None if several else step.adds,
            )
            for place, step in enumerate(path.steps, 1)
        ]
        if several:
            rows.append((f"identifier {number}", "", f"{path.log_probability:.3f}", None))
    if several:
        rows.append(("identifiers", "", "sum of their probabilities", parts.identifier))
    rows.append(("score", "", "", parts.score))
    return TableReport(
        data={},
        title=f"{parts.doc_id}: {parts.title}" if parts.title else parts.doc_id,
        columns=("part", "what", "how", "adds"),
        rows=rows,
    )


def _from_file(
    path: Path, encoding: str, id_column: str | None, text_column: str | None
) -> list[Query]:
    from data_prep.sources.base import SourceOptions
    from data_prep.sources.judged import read_queries

    options = SourceOptions(
        encoding=encoding, query_id_column=id_column, query_text_column=text_column
    )
    found = list(read_queries(path, options))
    if not found:
        raise InputError("the file contains no query", where=path)
    seen = set()
    for query in found:
        if query.query_id in seen:
            raise InputError(f"query id {query.query_id!r} occurs twice", where=path)
        seen.add(query.query_id)
        if not query.text.strip():
            raise InputError(f"query {query.query_id!r} is empty", where=path)
    return found


def _numbered(texts: Sequence[str], where: str) -> list[Query]:
    """Returns valid texts as queries with the ids 1, 2, ..."""
    from data_prep.dataset import Query

    for number, text in enumerate(texts, 1):
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise InputError(f"query {number} is not valid UTF-8", where=where) from None
        if not text.strip():
            raise InputError(f"query {number} is empty", where=where, hint="Give at least one word")
    return [Query(str(number), text) for number, text in enumerate(texts, 1)]


def _lines() -> list[str]:
    """Returns the nonblank lines of standard input."""
    try:
        found = [line.strip() for line in sys.stdin if line.strip()]
    except UnicodeDecodeError:
        raise InputError("not valid UTF-8", where="standard input") from None
    if not found:
        raise InputError(
            "no query", where="standard input", hint="Give one after INDEX, or one per line"
        )
    return found


def _interactive_search(
    index: Index,
    k: int,
    beams: int | None,
    options: SearchOptions,
    hops: HopOptions,
    text: bool,
    explain: bool,
    reorder: bool,
) -> Report:
    """Answers queries typed at a terminal until end of file or an interrupt."""
    terminal = standard_console()
    terminal.print(
        f"{len(index):,} documents. Type a query, or press Ctrl-D to quit.",
        markup=False,
        highlight=False,
    )
    answered = 0
    with suppress(KeyboardInterrupt):
        for typed in _typed_lines():
            try:
                [query] = _numbered([typed], "query")
                if hops.count:
                    chains = index.hops(query.text, k, hops, beams=beams, options=options)
                    chains_table("", chains, *index.text.has_known_words([query.text])).show(
                        terminal
                    )
                    answered += 1
                    continue
                hits = index.search(query.text, k=k, beams=beams, options=options, with_text=text)
            except InputError as error:
                terminal.print(visible(str(error)), markup=False, highlight=False, emoji=False)
                continue
            answered += 1
            [has_known_words] = index.text.has_known_words([query.text])
            hits_table("", hits, has_known_words, reorder).show(terminal)
            if explain:
                for parts in index.explain(query.text, [hit.doc_id for hit in hits], options):
                    parts_table(parts).show(terminal)
    terminal.print()
    return TableReport(data={"queries": answered})


def _typed_lines() -> Iterator[str]:
    """Yields nonblank lines that the user types, with line editing and history."""
    with suppress(ImportError):
        import readline  # noqa: F401  (its import gives input() editing and history)
    while True:
        try:
            text = input("query> ")
        except EOFError:
            return
        if text.strip():
            yield text
