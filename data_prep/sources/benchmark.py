"""Named benchmarks: `nq320k`, `msmarco-100k`, ... without a prefix, `beir:NAME`, `mteb:NAME`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from data_prep.benchmarks import BENCHMARKS
from data_prep.dataset import Document, Qrel, Query
from data_prep.sources.base import SOURCES, Source, SourceOptions
from data_prep.sources.huggingface import HuggingFace


@SOURCES.register("benchmark")
class NamedBenchmark(Source):
    """A benchmark that has a recipe in `data_prep.benchmarks`."""

    prefix = "benchmark"
    form = f"a named benchmark ({', '.join(BENCHMARKS)})"
    uses = frozenset({"release", "any_size"})

    def __init__(self, argument: str, options: SourceOptions) -> None:
        super().__init__(argument, options)
        release = None if options.release is None else Path(options.release)
        self.recipe = BENCHMARKS[argument](release, any_size=options.any_size)
        self.name = argument
        self.source = self.recipe.source
        self.license = self.recipe.license
        if release is None:
            self.download = self.recipe.download

    @classmethod
    def accepts(cls, argument: str) -> bool:
        """Accepts the name of a recipe, unless a file or folder of that name exists."""
        return argument in BENCHMARKS and not Path(argument).exists()

    def documents(self) -> Iterable[Document]:
        """Yields the documents."""
        return self.recipe.documents()

    def queries(self) -> Iterable[Query]:
        """Returns the queries."""
        return self.recipe.queries()

    def qrels(self) -> Iterable[Qrel]:
        """Returns the judgments."""
        return self.recipe.qrels()


@SOURCES.register("mteb")
class Mteb(HuggingFace):
    """A retrieval task of MTEB, LMEB or another collection in the hub's retrieval layout."""

    prefix = "mteb"
    place = 9
    form = "mteb:NAME (a retrieval task of the hub's organization mteb)"

    def __init__(self, argument: str, options: SourceOptions) -> None:
        local = Path(argument).exists() or "/" in argument
        super().__init__(argument if local else f"mteb/{argument}", options)

    @classmethod
    def accepts(cls, argument: str) -> bool:
        """Accepts nothing without the prefix."""
        return False
