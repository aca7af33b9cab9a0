"""The options of `dsi search`: values, files and processes."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_versions import write_version
from transformers import T5Config, T5ForConditionalGeneration

from data_prep.errors import InputError
from docids.table import DocidTable
from dsi import Index, cli
from dsi.backbones.backbone import set_docid_alphabet
from dsi.index import write_parts
from dsi.index_folder.versions import Manifest
from dsi.search.options import GuidanceOptions, SearchOptions
from dsi.search.runs import read_run
from dsi.text_encoders.text_encoder import SentencepieceEncoder, VocabularyOptions

ALPHABET = 16
IDENTIFIERS = [(2, 3), (2, 4), (5, 3), (5, 6), (7, 7), (8, 2)]
WORDS = ["zebra", "harbour", "lantern", "moss", "comet", "tram"]


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    """An index of six documents, of which d4 was deleted."""
    path = tmp_path_factory.mktemp("searched") / "index"
    text = SentencepieceEncoder.train(WORDS, VocabularyOptions(language="none", pieces="word"))
    torch.manual_seed(0)
    model = set_docid_alphabet(
        T5ForConditionalGeneration(
            T5Config(vocab_size=ALPHABET, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
        ),
        text.vocabulary_size,
        ALPHABET,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.5)
    table = DocidTable.from_sequences(
        [f"d{row}" for row in range(6)], IDENTIFIERS, alphabet_size=ALPHABET, kind="test"
    ).retire(["d4"])
    with write_version(path, None) as fresh:
        write_parts(fresh, model=model.eval(), text=text, table=table, titles=WORDS)
        Manifest(
            documents=5, added=5, origin="x", dataset={}, configuration={}, metrics={},
            query_length=8, beams=5,
        ).save(fresh)  # fmt: skip
    return path


@pytest.fixture(scope="module")
def index(path) -> Index:
    return Index.open(path, "cpu")


def found(index: Index, query: str = "zebra", **options) -> dict[str, float]:
    [hits] = index.search([query], k=5, options=SearchOptions(**options))
    return {hit.doc_id: hit.score for hit in hits}


def test_only_and_exclude_leave_scores_and_order_as_they_are(index):
    everything = found(index)
    only = found(index, only=["d0", "d3", "d5"])
    assert list(only) == [d for d in everything if d in ("d0", "d3", "d5")]
    assert only == pytest.approx({d: everything[d] for d in only})
    without = found(index, exclude=["d0", "d3"])
    assert list(without) == [d for d in everything if d not in ("d0", "d3")]
    assert without == pytest.approx({d: everything[d] for d in without})
    both = found(index, only=["d0", "d3", "d5"], exclude=["d3"])
    assert list(both) == [d for d in everything if d in ("d0", "d5")]
    assert found(index) == everything


def test_a_deleted_document_is_not_found_by_naming_it(index):
    assert "d4" not in found(index, only=["d4", "d1"])
    with pytest.raises(InputError, match="there is no document left"):
        found(index, only=["d4"])


def test_constrained_scores_are_probabilities_of_documents(index):
    scores = torch.tensor(list(found(index, score="constrained").values()))
    torch.testing.assert_close(scores.exp().sum(), torch.tensor(1.0))
    assert sum(map(abs, found(index).values())) > sum(map(abs, scores.tolist()))


def test_bf16_scores_are_near_and_the_model_stays_as_it_is(index):
    full, half = found(index), found(index, precision="bf16")
    for doc_id, score in half.items():
        assert score == pytest.approx(full[doc_id], abs=0.3)
    assert half != full
    assert index.model.dtype == torch.float32


def test_without_the_constraint_documents_have_the_same_scores_and_may_be_missed(index):
    everything = found(index)
    [hits] = index.search(["zebra"], k=5, beams=300, options=SearchOptions(constraint=False))
    assert {hit.doc_id: hit.score for hit in hits} == pytest.approx(everything)
    assert len(found(index, constraint=False)) < len(everything)
    some = found(index, constraint=False, only=["d0", "d3"])
    assert set(some) <= {"d0", "d3"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"score": "constrained"}, "--constraint false.*Use --score model"),
        (
            {"guidance": GuidanceOptions(starts=2)},
            r"--guidance.* has no effect while --constraint is false",
        ),
    ],
)
def test_what_needs_the_constraint_is_refused_without(options, told, index):
    with pytest.raises(InputError, match=told):
        found(index, constraint=False, **options)


class Words:
    """Scores each document by whether its word is in the query, and remembers what was asked."""

    def __init__(self, weight: float = 50.0) -> None:
        self.weight = weight
        self.asked: list[list[str]] = []

    def scores(self, texts):
        self.asked.append(list(texts))
        hits = [[word in text.split() for word in WORDS] for text in texts]
        return np.where(hits, np.float32(self.weight), np.float32(0.0))


@pytest.fixture
def with_words(path) -> Index:
    """The index with a lexical layer."""
    index = Index.open(path, "cpu")
    assert index.lexical is None
    index.lexical = Words()
    return index


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"score": "constrained"},
        {"only": ["d0", "d2", "d3"]},
        {"exclude": ["d0"]},
        {"precision": "bf16"},
        {"guidance": GuidanceOptions(starts=2)},
    ],
)
def test_a_lexical_layer_adds_its_scores_and_the_document_with_the_word_is_first(
    index, with_words, options
):
    for row, word in enumerate(WORDS):
        plain, scored = found(index, word, **options), found(with_words, word, **options)
        assert scored == pytest.approx({d: s + 50.0 * (d == f"d{row}") for d, s in plain.items()})
        assert (next(iter(scored)) == f"d{row}") == (f"d{row}" in plain)


def test_a_lexical_layer_finds_the_document_that_one_beam_loses(index, with_words):
    lost = [
        row
        for row, word in enumerate(WORDS)
        if row != 4 and index.search(word, k=1, beams=1)[0].doc_id != f"d{row}"
    ]
    assert lost
    for row in lost:
        [hit] = with_words.search(WORDS[row], k=1, beams=1)
        assert hit.doc_id == f"d{row}"


def test_without_the_constraint_lexical_scores_are_added_to_what_is_found(index, with_words):
    [plain] = index.search(["zebra"], k=5, beams=300, options=SearchOptions(constraint=False))
    [scored] = with_words.search(["zebra"], k=5, beams=300, options=SearchOptions(constraint=False))
    expected = {hit.doc_id: hit.score + 50.0 * (hit.doc_id == "d0") for hit in plain}
    assert {hit.doc_id: hit.score for hit in scored} == pytest.approx(expected)
    assert scored[0].doc_id == "d0"


ASKED = ["zebra moss", "tram", "Harbour  harbour unknown words", "moss", "lantern zebra tram"]


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_a_lexical_layer_is_asked_for_the_texts_as_they_were_typed(with_words, batch_size):
    alone = [with_words.search(query, k=5) for query in ASKED]
    assert [line for [line] in with_words.lexical.asked] == ASKED
    with_words.lexical.asked.clear()
    together = with_words.search(ASKED, k=5, batch_size=batch_size)
    assert sorted(text for texts in with_words.lexical.asked for text in texts) == sorted(ASKED)
    assert max(map(len, with_words.lexical.asked)) == min(batch_size, len(ASKED))
    for one, other in zip(alone, together, strict=True):
        assert [hit.doc_id for hit in one] == [hit.doc_id for hit in other]
        assert [hit.score for hit in one] == pytest.approx([hit.score for hit in other], abs=1e-4)


def test_no_more_document_scores_are_asked_for_than_there_is_room_for(with_words, monkeypatch):
    monkeypatch.setattr("dsi.index._MAX_SCORES", 2 * len(WORDS) + 1)
    with_words.search(ASKED, k=5)
    assert [len(texts) for texts in with_words.lexical.asked] == [2, 2, 1]


def test_processes_share_queries_of_a_lexical_layer_out(with_words):
    class Two:
        """One of two processes, which gets to know of its own results only."""

        count = 2

        def __init__(self, rank):
            self.rank = rank

        def together(self, work):
            return work()

        def gathered(self, entries):
            return entries

    whole = with_words.search(ASKED, k=5, batch_size=1)
    first, second = [
        with_words.search(ASKED, k=5, batch_size=1, processes=Two(rank)) for rank in range(2)
    ]
    assert [one or other for one, other in zip(first, second, strict=True)] == whole
    assert sum(map(bool, first)) == 3


@pytest.mark.parametrize("weight", [math.nan, math.inf])
def test_lexical_scores_that_are_no_numbers_are_told(with_words, weight):
    with_words.lexical = Words(weight)
    with pytest.raises(InputError, match="lexical layer returns scores that are not numbers"):
        with_words.search(["zebra"])


def test_guidance_that_changes_nothing_is_refused():
    with pytest.raises(InputError, match=r"has no effect without --guidance.first_beams"):
        GuidanceOptions(first_levels=2)


def test_a_query_without_a_known_word_is_told(path, tmp_path, capsys):
    assert cli.main(["search", str(path), "zebra", "xylophone"]) == 0
    told = "no word of this query is known to the index"
    first, _, second = capsys.readouterr().out.partition("xylophone\n")
    assert told not in first
    assert told in second
    assert cli.main(["search", str(path), "zebra", "xylophone", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert [result["known"] for result in results] == [True, False]
    queries = tmp_path / "queries.tsv"
    queries.write_text("q1\tzebra\nq2\txylophone\n")
    words = ["search", str(path), "--queries", str(queries), "--run", str(tmp_path / "out.trec")]
    assert cli.main(words) == 0
    assert "queries without a word that the index knows: 1" in capsys.readouterr().out


def test_a_folder_for_a_run_is_refused_before_the_search(path, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Index, "open", None)
    assert cli.main(["search", str(path), "zebra", "--run", str(tmp_path)]) == 2
    assert f"--run {tmp_path}: this is a folder. Give a file" in capsys.readouterr().err


def test_more_documents_than_there_are_give_all_of_them(index):
    [hits] = index.search(["zebra"], k=1000)
    assert sorted(hit.doc_id for hit in hits) == ["d0", "d1", "d2", "d3", "d5"]


def test_a_query_of_100_000_characters_is_cut_and_searched(index):
    [hits] = index.search(["zebra " * 16_667], k=3)
    assert len(hits) == 3


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["zebra", "--score", "best"], "--score"),
        (["zebra", "--only", "{dir}/none"], "no such file of document ids"),
        (["zebra", "--only", "{dir}/empty"], "the file contains no document id"),
        (["zebra", "--exclude", "{dir}/binary"], "binary:1: not utf-16"),
        (["zebra", "--exclude", "{dir}/unknown"], "no document 'd99' among 6 identifiers"),
        (["zebra", "--exclude", "{dir}/all"], "there is no document left to search"),
        (["zebra", "--guidance.starts", "0"], "--guidance.starts 0 is less than 1"),
        (["zebra", "--guidance.dataset", "x"], "--guidance.dataset"),
        (["", "zebra"], "query 1 is empty"),
        (["--queries", "{dir}/binary"], "binary"),
    ],
)
def test_what_cannot_be_searched_is_told_in_one_line(path, tmp_path, capsys, words, told):
    (tmp_path / "empty").write_text("\n \n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "unknown").write_text("d0\nd99\n")
    (tmp_path / "all").write_text("\n".join(f"d{row}" for row in range(6)))
    given = [word.replace("{dir}", str(tmp_path)) for word in words]
    assert cli.main(["search", str(path), *given, "--device", "cpu"]) == 2
    shown = capsys.readouterr()
    assert not shown.out
    assert told in shown.err
    assert shown.err.count("\n") == 1


def test_the_words_of_the_command_line_are_the_options(path, index, tmp_path, capsys):
    (tmp_path / "some").write_text("d0\nd1\n\nd3\n")
    words = ["--only", str(tmp_path / "some"), "--score", "constrained", "--json"]
    assert cli.main(["search", str(path), "zebra", *words, "--device", "cpu"]) == 0
    [result] = json.loads(capsys.readouterr().out)["results"]
    expected = found(index, only=["d0", "d1", "d3"], score="constrained")
    assert {hit["doc_id"]: hit["score"] for hit in result["hits"]} == pytest.approx(expected)


ZERO3 = Path(__file__).parents[3] / "configs" / "deepspeed" / "zero3.json"


@pytest.fixture
def asking(path, tmp_path) -> list[str]:
    """Words of a search for 23 queries that end where the file of the run is named."""
    asked = tmp_path / "queries.tsv"
    asked.write_text("".join(f"q{row}\t{' '.join(WORDS[: row % 6 + 1])}\n" for row in range(23)))
    words = ["search", str(path), "--queries", str(asked), "--batch_size", "4", "--k", "3"]
    return [*words, "--device", "cpu", "--json", "--run"]


def alone(words: list[str]) -> None:
    """Runs a command line in this process, on one thread as each of two processes has it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert cli.main(words) == 0
    finally:
        torch.set_num_threads(threads)


@pytest.mark.timeout(900)
def test_two_processes_write_the_run_of_one(asking, tmp_path, in_two_processes):
    one, two = tmp_path / "one.trec", tmp_path / "two.trec"
    alone([*asking, str(one)])
    assert in_two_processes([*asking, str(two)])
    assert two.read_bytes() == one.read_bytes()
    assert len(read_run(two)) == 23


@pytest.mark.timeout(900)
def test_a_cut_up_model_finds_what_it_finds_whole(asking, tmp_path, in_two_processes):
    pytest.importorskip("deepspeed")
    one, two = tmp_path / "one.trec", tmp_path / "two.trec"
    alone([*asking, str(one)])
    assert in_two_processes([*asking, str(two), "--deepspeed", str(ZERO3)])
    whole, cut = read_run(one), read_run(two)
    assert cut.keys() == whole.keys()
    for query, scores in whole.items():
        assert cut[query] == pytest.approx(scores, abs=1e-4)


def test_a_stage_that_does_not_cut_weights_up_is_refused(path, capsys):
    words = ["search", str(path), "zebra", "--deepspeed", str(ZERO3.with_name("zero2.json"))]
    assert cli.main(words) == 2
    assert "zero_optimization.stage 3" in capsys.readouterr().err


CUT = """
import sys, json
from dsi.index import Index
from dsi.distributed.deepspeed import read_zero_config
from pathlib import Path
index = Index.open(sys.argv[1], "cpu")
before = [(hit.doc_id, hit.score) for hit in index.search(["zebra"])[0]]
index.spread(read_zero_config(Path(sys.argv[2])))
held = sum(weight.numel() for weight in index.model.parameters())
after = [(hit.doc_id, hit.score) for hit in index.search(["zebra"])[0]]
print("RESULT" + json.dumps([held, before, after]))
"""


@pytest.mark.timeout(300)
def test_between_layers_a_cut_up_model_holds_no_whole_weight(path):
    pytest.importorskip("deepspeed")
    words = [sys.executable, "-c", CUT, str(path), str(ZERO3)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    [line] = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    held, before, after = json.loads(line.removeprefix("RESULT"))
    assert held == 0
    assert [doc_id for doc_id, _ in after] == [doc_id for doc_id, _ in before]
    assert [score for _, score in after] == pytest.approx([score for _, score in before], abs=1e-4)
