"""Recipes on small releases of the same format, and the sizes that they require."""

import gzip
import json
import sqlite3
import sys
import types
from contextlib import closing

import pytest

from data_prep.benchmarks import BENCHMARKS, Benchmark, hover
from data_prep.benchmarks.msmarco import MsMarco1m, MsMarco100k
from data_prep.benchmarks.natural_questions import Nq10k
from data_prep.dataset import Document
from data_prep.dataset_writer import write_dataset
from data_prep.errors import InputError
from data_prep.sources import SourceOptions, detect
from docids.assignment import assign
from docids.kinds.url import UrlOptions
from docids.pieces import Pieces


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8") as file:
        file.write(text)


def nq_full(number, title, text, question):
    tokens = [{"token": "<P>", "html_token": True}]
    tokens += [{"token": word, "html_token": False} for word in text.split()]
    return {
        "example_id": number,
        "question_text": question,
        "document_title": title,
        "document_url": f"https://en.wikipedia.org//w/index.php?title={title}&amp;oldid=1",
        "document_tokens": tokens,
    }


def nq_simple(number, title, text, question):
    return {
        "example_id": number,
        "question_text": question,
        "document_url": f"https://en.wikipedia.org//w/index.php?title={title}&oldid=1",
        "document_text": f"<H1> {text} </H1>",
    }


LONG = "word " * 1000
WIKI = "https://en.wikipedia.org/wiki/"
TRAIN = [
    nq_full(1, "Otter", "Otters swim .", "who swims"),
    nq_full(2, "Heron", f"{LONG} end", "who stands"),
    nq_full(3, "OTTER", "Otters swim and dive .", "who dives"),
    nq_full(4, "Heron (bird)", f"{LONG} other end", "who waits"),
]
DEV = [
    nq_simple(5, "Otter", "Otters swim .", "what is an otter"),
    nq_simple(6, "Newt_eft", "A newt", "w"),
]


@pytest.fixture
def nq(tmp_path):
    folder = tmp_path / "nq"
    lines = ["\n".join(map(json.dumps, part)) + "\n" for part in (TRAIN, DEV)]
    write(folder / "train" / "nq-train-00.jsonl.gz", lines[0])
    write(folder / "dev" / "nq-dev-00.jsonl", lines[1])
    return folder


def opened(name, release, path, any_size=True):
    source = detect(name, SourceOptions(release=str(release), any_size=any_size))
    return write_dataset(path / name, source)


class TestNaturalQuestions:
    def test_a_title_is_a_document_in_the_collection_of_nci(self, nq, tmp_path):
        dataset = opened("nq320k", nq, tmp_path)
        assert list(dataset.documents()) == [
            Document("0", "Otter", "Otters swim .", f"{WIKI}Otter"),
            Document("1", "Heron", f"{LONG}end".strip(), f"{WIKI}Heron"),
            Document("2", "Heron (bird)", f"{LONG}other end", f"{WIKI}Heron_%28bird%29"),
            Document("3", "Newt eft", "A newt", f"{WIKI}Newt_eft"),
        ]
        assert dataset.qrels_of("train") == {
            "train-1": {"0": 1},
            "train-2": {"1": 1},
            "train-3": {"0": 1},
            "train-4": {"2": 1},
        }
        assert dataset.qrels_of("test") == {"test-5": {"0": 1}, "test-6": {"3": 1}}
        assert dataset.query_texts()["test-5"] == "what is an otter"
        assert dataset.info.source == "nq320k (recipe 1)"

    def test_the_beginning_of_a_text_is_a_document_in_that_of_dsi(self, nq, tmp_path):
        dataset = opened("nq320k-dsi", nq, tmp_path)
        assert [document.title for document in dataset.documents()] == [
            "Otter",
            "Heron",
            "OTTER",
            "Newt eft",
        ]
        assert dataset.qrels_of("train")["train-4"] == {"1": 1}

    def test_the_two_are_told_apart_by_name_and_hash(self, nq, tmp_path):
        infos = [opened(name, nq, tmp_path).info for name in ("nq320k", "nq320k-dsi")]
        assert infos[0].name != infos[1].name
        assert infos[0].content_hash != infos[1].content_hash
        again = opened("nq320k", nq, tmp_path / "again").info
        assert again.content_hash == infos[0].content_hash

    def test_a_sample_is_drawn_from_training_by_hash(self, nq, tmp_path, monkeypatch):
        monkeypatch.setattr(Nq10k, "questions", 4)
        dataset = opened("nq10k", nq, tmp_path)
        asked = [set(dataset.qrels_of(split)) for split in ("train", "test")]
        assert [len(each) for each in asked] == [3, 1]
        assert all(query_id.split("-")[1] in "1234" for each in asked for query_id in each)

    @pytest.mark.parametrize("name", ["nq320k", "nq320k-dsi", "nq10k", "nq100k"])
    def test_urls_become_identifiers(self, name, nq, tmp_path):
        dataset = opened(name, nq, tmp_path)
        made, _ = assign(list(dataset.documents()), kind="url", options=UrlOptions(column="url"))
        pieces = Pieces.of(made.built.extras)
        said = {pieces.text(made.table.sequence(row)) for row in range(len(made.table))}
        assert "en wikipedia org wiki otter" in said
        assert not any("index" in text or "oldid" in text for text in said)

    def test_the_address_of_a_page_that_is_no_revision_is_kept(self, nq, tmp_path):
        record = {**nq_full(9, "Eel", "An eel .", "what"), "document_url": "https://x.example/Eel"}
        write(nq / "train" / "nq-train-01.jsonl", json.dumps(record))
        urls = {d.title: d.url for d in opened("nq320k", nq, tmp_path).documents()}
        assert urls["Eel"] == "https://x.example/Eel"

    def test_a_wrong_size_is_an_error_and_writes_nothing(self, nq, tmp_path):
        with pytest.raises(
            InputError, match=r"4 documents.*nq320k yields 109,000 to 110,500.*--any_size"
        ):
            opened("nq320k", nq, tmp_path, any_size=False)
        assert not (tmp_path / "nq320k").exists()

    def test_missing_files_and_broken_records_are_named(self, nq, tmp_path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(InputError, match=r"train.*Natural Questions release"):
            opened("nq320k", tmp_path / "empty", tmp_path)
        write(nq / "dev" / "nq-dev-01.jsonl", '{"example_id": 7}\n')
        with pytest.raises(InputError, match=r"nq-dev-01.jsonl:1.*document_text"):
            opened("nq320k", nq, tmp_path)
        with pytest.raises(InputError, match="no such folder"):
            opened("nq320k", tmp_path / "nowhere", tmp_path)


@pytest.fixture
def passages(tmp_path):
    folder = tmp_path / "msmarco"
    write(folder / "collection.tsv", "".join(f"p{n}\tPassage {n}.\n" for n in range(10)))
    write(folder / "queries.train.tsv", "1\tone\n2\ttwo\n3\tthree\n")
    write(folder / "qrels.train.tsv", "1 0 p1 1\n2 0 p2 1\n3 0 p3 1\n3 0 p9 0\n")
    write(folder / "queries.dev.tsv", "4\tfour\n5\tfive\n6\tsix\n")
    write(folder / "qrels.dev.small.tsv", "4 0 p4 1\n4 0 p5 1\n5 0 p1 1\n6 0 p6 1\n")
    return folder


class TestMsMarco:
    def test_all_passages(self, passages, tmp_path):
        dataset = opened("msmarco-passage", passages, tmp_path)
        assert dataset.info.documents == 10
        assert dataset.qrels_of("train") == {
            "train-1": {"p1": 1},
            "train-2": {"p2": 1},
            "train-3": {"p3": 1},
        }
        assert dataset.qrels_of("test")["test-4"] == {"p4": 1, "p5": 1}

    def test_the_collection_of_dsi_qg(self, passages, tmp_path, monkeypatch):
        monkeypatch.setattr(MsMarco100k, "tests", 3)
        monkeypatch.setattr(MsMarco100k, "others", 1)
        dataset = opened("msmarco-100k", passages, tmp_path)
        ids = set(dataset.doc_ids)
        # One passage of query 4, that of query 6; query 5 shares its passage with training.
        assert len(ids) == 4
        assert len(ids & {"p4", "p5"}) == 1
        assert "p6" in ids
        assert len(ids & {"p1", "p2", "p3"}) == 2
        tested = {doc_id for judged in dataset.qrels_of("test").values() for doc_id in judged}
        trained = {doc_id for judged in dataset.qrels_of("train").values() for doc_id in judged}
        assert tested | trained == ids

    def test_judged_passages_and_others_up_to_a_size(self, passages, tmp_path, monkeypatch):
        monkeypatch.setattr(MsMarco1m, "size", 8)
        dataset = opened("msmarco-1m", passages, tmp_path)
        assert dataset.info.documents == 8
        assert {"p1", "p2", "p3", "p4", "p5", "p6"} <= set(dataset.doc_ids)

    def test_documents_that_a_query_has(self, tmp_path):
        folder = tmp_path / "docs"
        rows = "".join(f"D{n}\thttp://x/{n}\tTitle {n}\tBody {n}\n" for n in range(5))
        write(folder / "msmarco-docs.tsv.gz", rows)
        write(folder / "msmarco-doctrain-queries.tsv.gz", "1\tone\n")
        write(folder / "msmarco-doctrain-qrels.tsv.gz", "1 0 D1 1\n")
        write(folder / "msmarco-docdev-queries.tsv", "2\ttwo\n")
        write(folder / "msmarco-docdev-qrels.tsv", "2 0 D3 1\n")
        dataset = opened("msmarco-300k", folder, tmp_path)
        assert list(dataset.documents()) == [
            Document("D1", "Title 1", "Body 1", "http://x/1"),
            Document("D3", "Title 3", "Body 3", "http://x/3"),
        ]

    def test_broken_lines_are_named(self, passages, tmp_path):
        write(passages / "collection.tsv", "p1\tone\textra\n")
        with pytest.raises(InputError, match=r"collection.tsv:1.*3 fields"):
            opened("msmarco-passage", passages, tmp_path)
        write(passages / "qrels.train.tsv", "99 0 p1 1\n")
        with pytest.raises(InputError, match=r"qrels.train.tsv:1"):
            opened("msmarco-passage", passages, tmp_path)


class TestTriviaQa:
    @pytest.fixture
    def release(self, tmp_path):
        folder = tmp_path / "trivia"
        for part, records in {
            "train": [("t1", "who swims?", ["Otter", "Heron"]), ("t2", "who dives?", ["otter"])],
            "dev": [("v1", "what stands?", ["Heron"])],
        }.items():
            data = [
                {
                    "QuestionId": number,
                    "Question": question,
                    "EntityPages": [{"Title": t, "Filename": f"{t.title()}.txt"} for t in titles],
                }
                for number, question, titles in records
            ]
            write(folder / "qa" / f"wikipedia-{part}.json", json.dumps({"Data": data}))
        for title in ("Otter", "Heron"):
            write(folder / "evidence" / "wikipedia" / f"{title}.txt", f"The {title}\n is here.")
        return folder

    def test_pages_are_documents_and_a_question_has_all_its_pages(self, release, tmp_path):
        dataset = opened("triviaqa", release, tmp_path)
        assert list(dataset.documents()) == [
            Document("0", "Otter", "The Otter is here."),
            Document("1", "Heron", "The Heron is here."),
        ]
        assert dataset.qrels_of("train") == {"train-t1": {"0": 1, "1": 1}, "train-t2": {"0": 1}}
        assert dataset.qrels_of("test") == {"test-v1": {"1": 1}}

    def test_a_file_outside_the_release_is_not_read(self, release, tmp_path):
        write(tmp_path / "secret.txt", "secret")
        pages = [{"Title": "x", "Filename": "../../../secret.txt"}]
        data = {"Data": [{"QuestionId": "1", "Question": "q", "EntityPages": pages}]}
        write(release / "qa" / "wikipedia-train.json", json.dumps(data))
        with pytest.raises(InputError, match="the evidence file does not exist"):
            opened("triviaqa", release, tmp_path)


class TestHover:
    @pytest.fixture
    def release(self, tmp_path):
        folder = tmp_path / "release"
        folder.mkdir()
        with closing(sqlite3.connect(folder / hover.PAGES)) as pages, pages:
            pages.execute("CREATE TABLE documents (id TEXT, text TEXT)")
            texts = [("Otter", "An otter swims.[SENT] It eats eels."), ("Heron", "A heron waits.")]
            pages.executemany("INSERT INTO documents VALUES (?, ?)", texts)
        facts = [["Heron", 0], ["Otter", 1], ["Heron", 2]]
        claim = {
            "uid": "1",
            "claim": "It waits.",
            "supporting_facts": facts,
            "label": "NOT_SUPPORTED",
            "num_hops": 2,
            "hpqa_id": "5a8b57f25542995d1e6f1371",
        }
        for name in ("train", "dev"):
            write(folder / f"hover_{name}_release_v1.1.json", json.dumps([claim]))
        return folder

    def test_the_pages_of_a_claim_are_a_chain_in_the_order_of_its_facts(self, release, tmp_path):
        dataset = opened("hover", release, tmp_path)
        assert list(dataset.documents()) == [
            Document("Otter", "Otter", "An otter swims. It eats eels."),
            Document("Heron", "Heron", "A heron waits."),
        ]
        chain = dataset.qrels_of("train")["train-1"]
        assert list(chain.items()) == [("Heron", 1), ("Otter", 1)]
        assert dataset.query_texts()["test-1"] == "It waits."

    def test_a_release_that_is_not_whole_or_not_hover_is_refused(self, release, tmp_path):
        write(release / "hover_dev_release_v1.1.json", '[{"uid": "1"}]')
        with pytest.raises(InputError, match="not a record of HoVer"):
            opened("hover", release, tmp_path)
        write(release / "hover_dev_release_v1.1.json", "[]")
        write(release / hover.PAGES, "no database")
        with pytest.raises(InputError, match="cannot read the pages"):
            opened("hover", release, tmp_path)
        (release / hover.PAGES).unlink()
        with pytest.raises(InputError, match=f"{hover.PAGES} of HoVer is missing"):
            detect("hover", SourceOptions(release=str(release)))
        with pytest.raises(InputError, match="of HoVer is missing"):
            detect("hover")


def test_every_recipe_is_told_and_has_a_size():
    assert {"nq320k", "nq320k-dsi", "nq10k", "nq100k", "triviaqa"} <= set(BENCHMARKS)
    assert {"msmarco-100k", "msmarco-300k", "msmarco-1m", "msmarco-passage"} <= set(BENCHMARKS)
    for name in BENCHMARKS:
        kind = BENCHMARKS[name]
        assert issubclass(kind, Benchmark)
        assert (kind.name, kind.version) == (name, 1)
        assert kind.recipe
        assert "documents" in kind.sizes


def test_options_of_other_sources_are_refused():
    with pytest.raises(InputError, match="--text_column x has no effect"):
        detect("nq320k", SourceOptions(text_column="x"))


def test_a_folder_of_the_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "triviaqa" / "corpus.jsonl", '{"_id": "a", "text": "x"}\n')
    assert detect("triviaqa").prefix == "beir"


def test_collections_of_beir_go_by_name_with_the_splits_there_are(monkeypatch):
    loaded = []
    docs = [types.SimpleNamespace(doc_id="1", title="T", text="x")]

    def load(dataset_id):
        if dataset_id not in ("beir/zoo", "beir/zoo/test", "beir/zoo/train", "beir/bare"):
            raise KeyError(dataset_id)
        loaded.append(dataset_id)
        return types.SimpleNamespace(
            has_docs=lambda: True,
            docs_handler=lambda: docs,
            docs_iter=lambda: docs,
            has_queries=lambda: False,
        )

    module = types.ModuleType("ir_datasets")
    module.load = load  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ir_datasets", module)
    source = detect("beir:zoo")
    assert list(source.published.parts) == ["beir/zoo/train", "beir/zoo/test"]
    assert list(source.documents()) == [Document("1", "T", "x")]
    assert source.name == "beir-zoo"
    assert list(detect("beir:bare").published.parts) == ["beir/bare"]
    with pytest.raises(InputError, match="'nope' is neither a BEIR collection"):
        detect("beir:nope")
    for options in (SourceOptions(encoding="latin-1"), SourceOptions(qrels_relevance_column="r")):
        with pytest.raises(InputError, match=r"has no effect for beir:NAME"):
            detect("beir:zoo", options)


def test_tasks_in_the_layout_of_the_hub_go_by_name(tmp_path):
    from datasets import Dataset

    folder = tmp_path / "task"
    parts = {
        "corpus": {"_id": ["d1"], "title": ["T"], "text": ["x"]},
        "queries": {"_id": ["q1"], "text": ["who?"]},
        "default": {"query-id": ["q1"], "corpus-id": ["d1"], "score": [1]},
    }
    card = "---\nconfigs:\n"
    for name, rows in parts.items():
        (folder / name).mkdir(parents=True)
        Dataset.from_dict(rows).to_parquet(folder / name / "test.parquet")
        card += f"- config_name: {name}\n  data_files:\n  - split: test\n"
        card += f"    path: {name}/test.parquet\n"
    write(folder / "README.md", f"{card}---\n")
    dataset = write_dataset(tmp_path / "set", detect(f"mteb:{folder}"))
    assert list(dataset.documents()) == [Document("d1", "T", "x")]
    assert dataset.qrels_of("test") == {"q1": {"d1": 1}}
