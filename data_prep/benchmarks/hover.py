"""HoVer (Jiang et al., Findings of EMNLP 2020): claims whose evidence takes two to four pages."""

from __future__ import annotations

import sqlite3
import unicodedata
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from data_prep.benchmarks.base import BENCHMARKS, Benchmark
from data_prep.dataset import Document
from data_prep.errors import InputError
from data_prep.files import read_json
from data_prep.text_processing import one_line

PAGES = "wiki_wo_links.db"
_CLAIMS = (
    ("hover_train_release_v1.1.json", "train"),
    ("hover_dev_release_v1.1.json", "test"),
)


@BENCHMARKS.register("hover")
class Hover(Benchmark):
    """Claims with the Wikipedia pages of their supporting facts, for retrieval in hops."""

    name = "hover"
    license_of = "CC BY-SA 4.0"
    recipe = (
        "Every first paragraph of the release, titles as ids; claims of any label, each with "
        "the pages of its supporting facts in their order. The development set tests."
    )
    sizes = {"documents": (5_200_000, 5_300_000), "train": 18_171, "test": 4_000}  # noqa: RUF012

    def __init__(self, release: Path | None = None, *, any_size: bool = False) -> None:
        super().__init__(release, any_size=any_size)
        files = (PAGES, *(name for name, _ in _CLAIMS))
        lacking = [name for name in files if release is None or not (release / name).is_file()]
        if lacking:
            raise InputError(
                f"the file {lacking[0]} of HoVer is missing",
                where=release or self.name,
                hint=f"Put {', '.join(files)} into a folder, and pass it to --release",
            )

    def read(self) -> Iterator[Document]:
        """Yields the pages, in the order of the release."""
        assert self.release is not None
        for file, split in _CLAIMS:
            path = self.release / file
            try:
                for claim in read_json(path):
                    facts = claim["supporting_facts"]
                    for title in dict.fromkeys(_key(title) for title, _ in facts):
                        self.ask(f"{split}-{claim['uid']}", claim["claim"], title, split)
            except (KeyError, TypeError, ValueError) as error:
                raise InputError(f"not a record of HoVer ({error!r:.80})", where=path) from None
        path = self.release / PAGES
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as pages:
                for title, text in pages.execute("SELECT id, text FROM documents ORDER BY rowid"):
                    yield Document(_key(title), title, one_line(text.replace("[SENT]", " ")))
        except sqlite3.Error as error:
            raise InputError(f"cannot read the pages ({error})", where=path) from None


def _key(title: str) -> str:
    return unicodedata.normalize("NFD", title)
