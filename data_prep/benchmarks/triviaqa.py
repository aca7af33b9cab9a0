"""TriviaQA (Joshi et al., ACL 2017) over Wikipedia pages, as used by NCI."""

from __future__ import annotations

from collections.abc import Iterator

from data_prep.benchmarks.base import BENCHMARKS, Benchmark, rows_of_hub, title_key
from data_prep.dataset import Document
from data_prep.errors import InputError
from data_prep.fetching import Download
from data_prep.files import read_json
from data_prep.text_processing import one_line

HUB, CONFIGURATION = "mandarjoshi/trivia_qa", "rc.wikipedia"
_PARTS = (("train", "wikipedia-train.json", "train"), ("validation", "wikipedia-dev.json", "test"))


@BENCHMARKS.register("triviaqa")
class TriviaQa(Benchmark):
    """Questions with the Wikipedia pages that contain their answers."""

    name = "triviaqa"
    license_of = "Apache-2.0 (questions); CC BY-SA (pages)"
    recipe = (
        "Every page that the evidence of a question of rc.wikipedia names, one document a title "
        "(but for case); training questions train, validation tests. A question has all its pages."
    )
    download = Download(
        f"{HUB} ({CONFIGURATION}) from the Hugging Face Hub",
        2_665_779_500,
        "its dataset card",
        "give the folder that has its qa/ and evidence/ with --release",
        keeps=False,
    )
    # About 74 thousand in NCI and in the scaling study.
    sizes = {"documents": (72_000, 78_000), "train": (60_000, 62_000), "test": (7_900, 8_000)}  # noqa: RUF012

    def read(self) -> Iterator[Document]:
        """Yields each page at its first occurrence."""
        for question_id, question, split, evidence in self._questions():
            for title, text in evidence:
                key = title_key(title)
                if not text.strip() and not self.has(key):
                    continue
                doc_id, new = self.number(key)
                self.ask(f"{split}-{question_id}", question, doc_id, split)
                if new:
                    yield Document(doc_id, title, one_line(text))

    def _questions(self) -> Iterator[tuple[str, str, str, list[tuple[str, str]]]]:
        if self.release is None:
            yield from self._of_hub()
            return
        for _, file, split in _PARTS:
            path = self.release / "qa" / file
            content = read_json(path)
            try:
                for record in content["Data"]:
                    pages = [
                        (page["Title"], self._text(page["Filename"]))
                        for page in record["EntityPages"]
                    ]
                    yield record["QuestionId"], record["Question"], split, pages
            except (KeyError, TypeError) as error:
                raise InputError(
                    f"not a record of TriviaQA ({error} is missing)", where=path
                ) from None

    def _text(self, name: str) -> str:
        assert self.release is not None
        path = self.release / "evidence" / "wikipedia" / name
        if not path.resolve().is_relative_to(self.release.resolve()) or not path.is_file():
            raise InputError("the evidence file does not exist", where=path)
        return path.read_text(encoding="utf-8", errors="replace")

    def _of_hub(self) -> Iterator[tuple[str, str, str, list[tuple[str, str]]]]:
        for name, _, split in _PARTS:
            for row in rows_of_hub(HUB, CONFIGURATION, name):
                pages = row["entity_pages"]
                texts = list(zip(pages["title"], pages["wiki_context"], strict=True))
                yield row["question_id"], row["question"], split, texts
