"""Natural Questions (Kwiatkowski et al., TACL 2019): Wikipedia pages and questions about them.

"NQ320K" is two collections in the literature, over the same 307,373 training and 7,830 validation
questions: `nq320k` has one document per title, `nq320k-dsi` one per beginning of a text. Results on
the two are not comparable.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlparse

from data_prep.benchmarks.base import BENCHMARKS, Benchmark, chosen, rows_of_hub, title_key
from data_prep.dataset import Document
from data_prep.errors import InputError
from data_prep.fetching import Download
from data_prep.sources.records import records
from data_prep.text_processing import one_line

HUB = "google-research-datasets/natural_questions"
BEGINNING = 4000
"""Length of the text prefix by which DSI distinguishes documents."""


@dataclass(frozen=True)
class Page:
    """A question and the page that answers it."""

    example_id: str
    question: str
    title: str
    text: str
    split: str
    url: str = ""


def pages(release: Path | None) -> Iterator[Page]:
    """Yields the release question by question, training before validation.

    Args:
        release: A folder of its JSONL files, full or simplified, gzipped or not, with "train" or
            "dev" in their names; None to stream it from the hub.

    Raises:
        InputError: There are no such files, or a field is missing in a record.
    """
    if release is None:
        yield from _pages_of_hub()
        return
    files = [file for file in sorted(release.rglob("*.jsonl*")) if file.is_file()]
    for word, split in (("train", "train"), ("dev", "test")):
        part = [file for file in files if word in file.name]
        if not part:
            raise InputError(
                f"no file *{word}*.jsonl or *{word}*.jsonl.gz",
                where=release,
                hint="Give the folder of the Natural Questions release",
            )
        for file in part:
            for number, record in records(file):
                yield _page(record, split, f"{file}:{number}")


def _page(record: dict[str, Any], split: str, where: str) -> Page:
    try:
        if "document_tokens" in record:
            words = [each["token"] for each in record["document_tokens"] if not each["html_token"]]
        else:
            words = [word for word in record["document_text"].split(" ") if not _is_tag(word)]
        url = record.get("document_url", "")
        title = record.get("document_title") or _url_parameters(url)["title"][0].replace("_", " ")
        example, question = str(record["example_id"]), record["question_text"]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"not a record of Natural Questions ({error} is missing)", where=where
        ) from None
    return Page(example, question, title, one_line(" ".join(words)), split, _address(url))


def _is_tag(word: str) -> bool:
    return word.startswith("<") and word.endswith(">")


def _url_parameters(url: str) -> dict[str, list[str]]:
    """Returns the query parameters of a URL; that of a revision includes the page title."""
    return parse_qs(urlparse(url).query)


def _address(url: str) -> str:
    """Returns the URL of a page, given that of a revision.

    All revisions share one path, and revision numbers carry no information about the question.
    """
    parts, parameters = urlparse(url), _url_parameters(url)
    if "title" not in parameters:
        return url
    return f"{parts.scheme}://{parts.netloc}/wiki/{quote(parameters['title'][0].replace(' ', '_'))}"


def _pages_of_hub() -> Iterator[Page]:
    for name, split in (("train", "train"), ("validation", "test")):
        for row in rows_of_hub(HUB, "default", name):
            document = row["document"]
            tokens = document["tokens"]
            words = [
                w for w, tag in zip(tokens["token"], tokens["is_html"], strict=True) if not tag
            ]
            text = one_line(" ".join(words))
            title, url = document["title"], _address(document["url"])
            yield Page(str(row["id"]), row["question"]["text"], title, text, split, url)


_DOWNLOAD = Download(
    f"{HUB} from the Hugging Face Hub",
    45_069_000_000,
    "42,981 MiB in its dataset card",
    "give the folder of its JSONL files, *train* and *dev*, with --release",
    keeps=False,
)


class NaturalQuestions(Benchmark):
    """Base of the Natural Questions collections."""

    license_of = "CC BY-SA 3.0"
    download = _DOWNLOAD

    def key(self, page: Page) -> str:
        """Returns the key of the page's document."""
        return title_key(page.title)

    def pages(self) -> Iterator[Page]:
        """Yields the questions of the collection."""
        return pages(self.release)

    def read(self) -> Iterator[Document]:
        """Yields each document at its first occurrence; its number is its id."""
        for page in self.pages():
            doc_id, new = self.number(self.key(page))
            self.ask(f"{page.split}-{page.example_id}", page.question, doc_id, page.split)
            if new:
                yield Document(doc_id, page.title, page.text, page.url)


@BENCHMARKS.register("nq320k")
class Nq320k(NaturalQuestions):
    """The collection of NCI, GenRet and later work."""

    name = "nq320k"
    recipe = (
        "All questions with their pages; pages of one title (but for case) are one document, with "
        "the text that comes first, training first. Training questions train, validation tests."
    )
    # 109,739 in NCI and GenRet; a later run of NCI's own code gives 109,650: some hundred pages
    # depend on title normalization.
    sizes = {"documents": (109_000, 110_500), "train": 307_373, "test": 7_830}  # noqa: RUF012


@BENCHMARKS.register("nq320k-dsi")
class Nq320kDsi(NaturalQuestions):
    """The collection of the DSI paper."""

    name = "nq320k-dsi"
    recipe = (
        f"All questions with their pages; texts with the same first {BEGINNING} characters are one "
        "document. Training questions train, validation tests."
    )
    # About 228 thousand in the paper.
    sizes = {"documents": (220_000, 236_000), "train": 307_373, "test": 7_830}  # noqa: RUF012

    def key(self, page: Page) -> str:
        """Returns the beginning of the text."""
        return page.text[:BEGINNING]


class _Sample(Nq320kDsi):
    """A random sample of training questions: four fifths for training, one fifth for testing."""

    questions: int
    download = replace(
        _DOWNLOAD,
        size=2 * 45_069_000_000,
        source="42,981 MiB in its dataset card, twice: once to draw the sample",
    )

    def pages(self) -> Iterator[Page]:
        """Yields the sampled questions, after one more pass over the release to sample them."""
        ids = [page.example_id for page in pages(self.release) if page.split == "train"]
        sample = sorted(ids, key=lambda each: chosen(each, self.name))[: self.questions]
        tests = set(sample[: -(-len(sample) // 5)])
        selected = set(sample)
        for page in pages(self.release):
            if page.split == "train" and page.example_id in selected:
                split = "test" if page.example_id in tests else "train"
                yield replace(page, split=split)


@BENCHMARKS.register("nq10k")
class Nq10k(_Sample):
    """The smallest collection of the DSI paper, resampled: its sample was not published."""

    name = "nq10k"
    questions = 10_000
    recipe = (
        "10,000 training questions, drawn by the hash of their ids: 8,000 train, 2,000 test; "
        "documents as in nq320k-dsi."
    )
    sizes = {"documents": (8_000, 10_000), "train": 8_000, "test": 2_000}  # noqa: RUF012


@BENCHMARKS.register("nq100k")
class Nq100k(_Sample):
    """The medium collection of the DSI paper, resampled: its sample was not published."""

    name = "nq100k"
    questions = 100_000
    recipe = (
        "100,000 training questions, drawn by the hash of their ids: 80,000 train, 20,000 test; "
        "documents as in nq320k-dsi."
    )
    # 86 thousand in the paper.
    sizes = {"documents": (75_000, 97_000), "train": 80_000, "test": 20_000}  # noqa: RUF012
