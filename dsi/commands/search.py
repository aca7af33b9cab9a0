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
from dsi.commands.search_arguments import SearchArguments
from dsi.commands.search_results import (
    Answers,
    ChainAnswers,
    chains_table,
    hits_table,
    parts_table,
    text_tables,
)
from dsi.search.options import SearchOptions

if TYPE_CHECKING:
    from data_prep.dataset import Query
    from dsi.distributed.processes import Processes
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
    display = Display(text, explain, reorder)
    _refuse_conflicts(flags, k, display)
    if queries is not None and query:
        raise InputError(
            "queries are given both on the command line and in a file",
            where=f"--queries {queries}",
            hint="Omit one of the two",
        )
    requested: list[Query] | None = None
    if queries is not None:
        requested = _from_file(queries, encoding, query_id_column, query_text_column)
    elif query:
        requested = _numbered(query, "QUERY")
    elif flags.run is not None or not sys.stdin.isatty() or not sys.stdout.isatty():
        for option, file in (("--only", flags.only), ("--exclude", flags.exclude)):
            if file == Path("-") and not file.exists():
                raise InputError(
                    f"standard input (-) is given for {option}, and the queries are read from it",
                    hint="Give a query after INDEX, or --queries FILE",
                )
        requested = _numbered(_lines(), "standard input")

    options = flags.options()
    zero = None if deepspeed is None else _zero_config(deepspeed)

    from dsi.distributed.processes import Processes
    from dsi.index import Index

    processes = Processes()
    if processes.count > 1 and requested is None:
        raise InputError(
            "several processes cannot read queries interactively", hint="Give --queries FILE"
        )
    if zero is not None and (flags.rescore or (explain and processes.count > 1)):
        name = "rescore" if flags.rescore else "explain"
        raise InputError(f"--{name} needs the whole model in one process", hint="Omit --deepspeed")
    with _without_garbage_collection():
        opened = processes.together(lambda: Index.open(index, flags.device))
    if zero is not None:
        opened.spread(zero, flags.precision)
    sharing = processes if zero is None else None
    searches = Searches(opened, k, flags, options, display, batch_size, sharing)
    if requested is None:
        return _interactive_search(searches)
    return _answers(searches, requested, processes, str(index))


@dataclass(frozen=True)
class Display:
    """What is shown of the hits of a query.

    Attributes:
        text: The text of each document.
        explain: The components of each score.
        reorder: The best documents at both ends.
    """

    text: bool = False
    explain: bool = False
    reorder: bool = False


@dataclass(frozen=True)
class Searches:
    """An open index, and the options of all searches in it.

    Attributes:
        index: The index.
        k: Documents per query.
        flags: Options on the command line.
        options: The search options among them, with their files read.
        display: What is shown.
        batch_size: Queries per batch.
        processes: The processes that divide the queries; None for one, or for a sharded model.
    """

    index: Index
    k: int
    flags: SearchArguments
    options: SearchOptions
    display: Display
    batch_size: int = 32
    processes: Processes | None = None

    def hits(self, texts: Sequence[str]) -> list[list[Hit]]:
        """Returns the hits of each query."""
        return self.index.search(
            texts,
            self.k,
            self.flags.beams,
            self.batch_size,
            self.options,
            self.processes,
            self.display.text,
        )

    def chains(self, texts: Sequence[str]) -> list[list[Chain]]:
        """Returns the chains of each query."""
        return self.index.hops(
            texts,
            self.k,
            self.flags.hops,
            beams=self.flags.beams,
            batch_size=self.batch_size,
            options=self.options,
            processes=self.processes,
            with_sentences=self.flags.run is None,
        )

    def explanations(self, text: str, hits: Sequence[Hit]) -> list[Explanation]:
        """Returns the score components of each hit of a query."""
        return self.index.explain(text, [hit.passage or hit.doc_id for hit in hits], self.options)


def _refuse_conflicts(flags: SearchArguments, k: int, display: Display) -> None:
    """Raises InputError if options contradict each other."""
    if flags.beams is not None and flags.beams < k:
        raise InputError(
            f"{flags.beams} beams cannot find {k} documents",
            where="--beams",
            hint=f"Use at least {k} beams, or a smaller --k",
        )
    if flags.run is not None and display.reorder:
        raise InputError(
            "--reorder changes the order of the output, but a run is in the order of scores",
            hint="Omit one of them",
        )
    shown = [name for name, wanted in vars(display).items() if wanted]
    if flags.run is not None and shown:
        raise InputError(
            f"--{shown[0]} adds to the output, but --run prints no results",
            hint="Omit one of them",
        )
    if flags.hops.count and shown:
        raise InputError(
            f"--{shown[0]} is for single documents, and --hops {flags.hops.count} shows chains of "
            "them",
            hint="Omit one of the two",
        )


def _answers(
    searches: Searches, requested: Sequence[Query], processes: Processes, name: str
) -> Report:
    """Answers queries, or writes the run that answers them."""
    texts = [query.text for query in requested]
    hops = searches.flags.hops.count
    started = time.perf_counter()
    chains = searches.chains(texts) if hops else []
    hits = [] if hops else searches.hits(texts)
    seconds = time.perf_counter() - started
    has_known_words = searches.index.text.has_known_words(texts)
    version = searches.index.manifest.version
    facts = {"index": name, "version": version, "queries": len(requested)}
    if searches.flags.run is not None:
        from dsi.search.hops import ranked_documents

        rankings = [ranked_documents(each, searches.k) for each in chains] or [
            {hit.doc_id: hit.score for hit in ranked} for ranked in hits
        ]
        run = {query.query_id: scores for query, scores in zip(requested, rankings, strict=True)}
        summary = {**facts, "run": str(searches.flags.run), "seconds": seconds}
        return _written_run(
            searches.flags.run, run, processes, summary, unknown=has_known_words.count(False)
        )
    facts["seconds"] = seconds
    if hops:
        return ChainAnswers(facts, requested, chains, has_known_words)
    parts = None
    if searches.display.explain:
        parts = [
            searches.explanations(text, ranked) for text, ranked in zip(texts, hits, strict=True)
        ]
    return Answers(facts, requested, hits, has_known_words, parts, searches.display.reorder)


def _written_run(
    file: Path,
    run: dict[str, dict[str, float]],
    processes: Processes,
    summary: dict[str, Any],
    unknown: int,
) -> Report:
    """Writes a run and reports it.

    Args:
        file: The file; - for standard output.
        run: query_id -> {doc_id: score}.
        processes: The processes, of which the first one writes.
        summary: The facts to report.
        unknown: Number of queries without a word that the index knows.
    """
    from dsi.search.runs import write_run

    processes.in_main_process(lambda: write_run(file, run, "dsi"))
    if str(file) == "-":  # there a table would be mistaken for part of the run
        return TableReport(data=summary)
    return TableReport(
        data=summary,
        title=f"{len(run):,} queries searched in {summary['seconds']:.1f} s; results in {file}.",
        closing=(
            *([f"queries without a word that the index knows: {unknown:,}"] if unknown else []),
            f"To evaluate them: {command_line('evaluate', file, 'DATASET')}",
        ),
    )


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


def _interactive_search(searches: Searches) -> Report:
    """Answers queries typed at a terminal until end of file or an interrupt."""
    terminal = standard_console()
    terminal.print(
        f"{len(searches.index):,} documents. Type a query, or press Ctrl-D to quit.",
        markup=False,
        highlight=False,
    )
    answered = 0
    with suppress(KeyboardInterrupt):
        for typed in _typed_lines():
            try:
                [query] = _numbered([typed], "query")
                tables = _tables(searches, query.text)
            except InputError as error:
                terminal.print(visible(str(error)), markup=False, highlight=False, emoji=False)
                continue
            answered += 1
            for table in tables:
                table.show(terminal)
    terminal.print()
    return TableReport(data={"queries": answered})


def _tables(searches: Searches, text: str) -> list[TableReport]:
    """Returns the tables that answer one query: its hits or chains, and explanations if wanted."""
    [is_known] = searches.index.text.has_known_words([text])
    if searches.flags.hops.count:
        [chains] = searches.chains([text])
        return [chains_table("", chains, is_known)]
    [hits] = searches.hits([text])
    explanations = searches.explanations(text, hits) if searches.display.explain else []
    shown = hits_table("", hits, is_known, searches.display.reorder)
    text_parts = text_tables(hits, searches.display.reorder)
    return [shown, *text_parts, *(parts_table(parts) for parts in explanations)]


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
