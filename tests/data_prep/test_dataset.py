"""A Dataset folder describes its content, opens fast, and is never half-written."""

import dataclasses
import hashlib
import json
import subprocess
import sys

import datasets
import pytest

from data_prep import arrow
from data_prep.dataset import Dataset, Document, InMemorySource, Qrel, Query
from data_prep.dataset_writer import write_dataset
from data_prep.errors import InputError
from data_prep.files import read_json

DOCUMENTS = [
    Document("7", "Otters", "Otters swim."),
    Document("d b", "", "Pikas whistle."),
    Document("é", "Voles", ""),
]
QUERIES = [Query("q1", "who swims?"), Query("q2", "who whistles?"), Query("q3", "vole")]
QRELS = [Qrel("q1", "7", 1, "train"), Qrel("q2", "d b", 2, "test"), Qrel("q3", "é", 1, "test")]


def source(documents=DOCUMENTS, queries=QUERIES, qrels=QRELS, **more):
    return InMemorySource(documents, queries, qrels, **more)


def test_what_is_written_is_read_back(tmp_path):
    write_dataset(tmp_path / "set", source(name="zoo", license="CC0-1.0"))
    dataset = Dataset.open(tmp_path / "set")
    assert (dataset.info.name, dataset.info.license) == ("zoo", "CC0-1.0")
    assert (dataset.info.documents, dataset.info.queries) == (3, 3)
    assert dataset.info.qrels == {"train": 1, "test": 2}
    assert dataset.doc_ids == ["7", "d b", "é"]
    assert list(dataset.documents()) == DOCUMENTS
    assert dataset.corpus[2] == {"doc_id": "é", "title": "Voles", "text": "", "url": ""}
    assert dataset.queries.column_names == ["query_id", "text", "origin"]
    assert dataset.qrels[1] == {"query_id": "q2", "doc_id": "d b", "relevance": 2, "split": "test"}
    assert dataset.query_texts()["q1"] == "who swims?"
    assert dataset.qrels_of("test") == {"q2": {"d b": 2}, "q3": {"é": 1}}
    assert dataset.qrels_of("dev") == {}
    assert dataset.pseudo_queries().column_names == ["query_id", "doc_id", "text", "origin"]
    assert len(dataset.pseudo_queries()) == 0


def test_title_and_text_are_joined():
    documents = (Document("a", "T", "x"), Document("b", "", "y"), Document("c", "T", ""))
    assert [document.title_and_text for document in documents] == ["T\nx", "y", "T"]


def test_the_tables_are_plain_datasets_folders_and_memory_mapped(tmp_path):
    dataset = write_dataset(tmp_path / "set", source())
    assert len(datasets.load_from_disk(str(tmp_path / "set" / "corpus"))) == 3
    assert dataset.corpus.cache_files


def test_the_content_hash_covers_content_and_order_and_nothing_else(tmp_path):
    first = write_dataset(tmp_path / "a", source()).info.content_hash
    assert write_dataset(tmp_path / "b", source(name="other")).info.content_hash == first
    reordered = write_dataset(tmp_path / "c", source(DOCUMENTS[::-1]))
    assert reordered.info.content_hash != first
    judged = write_dataset(tmp_path / "d", source(qrels=[*QRELS[:2], Qrel("q3", "é", 2, "test")]))
    assert judged.info.content_hash != first


def test_urls_are_kept_and_change_the_hash_only_where_there_are_some(tmp_path):
    with_url = [dataclasses.replace(DOCUMENTS[0], url="https://u.org/7"), *DOCUMENTS[1:]]
    dataset = write_dataset(tmp_path / "a", source(with_url))
    assert list(Dataset.open(tmp_path / "a").documents()) == with_url
    plain = write_dataset(tmp_path / "b", source())
    assert dataset.info.content_hash != plain.info.content_hash
    # The hash of exactly the three rows, unchanged from before URLs existed.
    rows = [[document.doc_id, document.title, document.text] for document in DOCUMENTS]
    lines = [json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows]
    assert (
        read_json(tmp_path / "b" / "corpus" / "state.json")["_fingerprint"]
        == (hashlib.sha256(b"".join(lines)).hexdigest()[:16])
    )
    with pytest.raises(InputError, match="URL of document 'x' is not a string"):
        write_dataset(tmp_path / "c", source([Document("x", "", "text", 7)]))


def test_a_corpus_without_the_column_of_urls_is_read(tmp_path):
    dataset = write_dataset(tmp_path / "set", source())
    columns = {"doc_id": "string", "title": "string", "text": "string"}
    folder = tmp_path / "set" / "corpus"
    with arrow.TableFile(folder / "data.arrow", columns) as table:
        for document in DOCUMENTS:
            table.append((document.doc_id, document.title, document.text))
    arrow.describe_table(folder, ["data.arrow"], columns, "0" * 16)
    assert list(dataset.documents()) == DOCUMENTS


def test_two_writings_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_dataset(tmp_path / name, source())
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.*"))
    assert files
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_many_rows_cross_batches_in_order(tmp_path):
    documents = [Document(str(n), "", f"text {n}") for n in range(10_000)]
    dataset = write_dataset(tmp_path / "set", source(documents, [], []))
    assert dataset.doc_ids == [str(n) for n in range(10_000)]
    assert dataset.corpus[9_999]["text"] == "text 9999"


def test_drops_are_counted_with_examples(tmp_path):
    dataset = write_dataset(
        tmp_path / "set",
        source(
            [*DOCUMENTS, Document("empty", " ", "\n")],
            [*QUERIES, Query("blank", " "), Query("q1", "who swims?"), Query("alone", "nobody?")],
            [*QRELS, QRELS[0], Qrel("q1", "empty", 1, "train"), Qrel("q9", "7", 1, "train")],
        ),
    )
    counts = {reason: (t.count, t.examples) for reason, t in dataset.info.dropped.items()}
    assert counts == {
        "document without a title and a text": (1, ["empty"]),
        "query without text": (1, ["blank"]),
        "repeated query": (1, ["q1"]),
        "repeated judgment": (1, ["q1 7"]),
        "judgment of a query or document that was dropped": (1, ["q1 empty"]),
        "judgment of an unknown query": (1, ["q9 7"]),
    }
    noted = dataset.info.noted["query without a judgment (kept)"]
    assert noted.examples == ["alone"]
    assert "alone" in dataset.query_texts()


def test_duplicate_texts_go_only_where_asked_and_their_judgments_move(tmp_path):
    twice = [*DOCUMENTS, Document("again", "Otters", "Otters swim.")]
    qrels = [*QRELS, Qrel("q3", "again", 1, "test")]
    assert write_dataset(tmp_path / "a", source(twice, qrels=qrels)).info.documents == 4
    dataset = write_dataset(tmp_path / "b", source(twice, qrels=qrels, drop_duplicate_texts=True))
    assert dataset.info.documents == 3
    assert dataset.qrels_of("test")["q3"] == {"é": 1, "7": 1}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"documents": [*DOCUMENTS, DOCUMENTS[0]]},
            r"'7' appears twice \(the second time in document",
        ),
        ({"documents": [Document("", "a", "b")]}, "empty document id"),
        ({"documents": [Document(7, "a", "b")]}, "7 is not a string"),  # type: ignore[arg-type]
        ({"documents": [Document("7", "a", None)]}, "title, text or URL of document '7'"),  # type: ignore[arg-type]
        ({"documents": []}, "no document"),
        (
            {"documents": [Document("7", "a", "\ud800")]},
            "memory: the text of '7' contains an unpaired surrogate",
        ),
        ({"queries": [*QUERIES, Query("q1", "other")]}, "'q1' appears twice"),
        ({"qrels": [Qrel("q1", "7", 1, "valid")]}, "unknown split 'valid'"),
        ({"qrels": [Qrel("q1", "7", 0.5, "test")]}, "0.5 is not a whole number"),  # type: ignore[arg-type]
        ({"qrels": [Qrel("q1", "7", 2**31, "test")]}, "32 bits"),
        ({"qrels": [*QRELS, Qrel("q1", "x", 1, "test")]}, "1 of 4 judgments"),
    ],
)
def test_wrong_content_is_refused_and_leaves_nothing(tmp_path, changed, message):
    with pytest.raises(InputError, match=message):
        write_dataset(tmp_path / "set", source(**changed))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_dataset_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="not a dataset"):
        write_dataset(tmp_path, source())
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_preparing_again_keeps_pseudo_queries_of_the_same_content_and_loses_none(tmp_path):
    path = tmp_path / "set"
    write_dataset(path, source())
    (path / "pseudo" / "g").mkdir(parents=True)
    (path / "pseudo" / "g" / "generator.json").write_text("{}")
    assert write_dataset(path, source()).generators == ["g"]
    with pytest.raises(InputError, match="different content") as refusal:
        write_dataset(path, source(DOCUMENTS[::-1]))
    assert str(path / "pseudo" / "g") in str(refusal.value)
    assert Dataset.open(path).doc_ids == [document.doc_id for document in DOCUMENTS]
    assert Dataset.open(path).generators == ["g"]
    (path / "pseudo" / "g").rename(path / "pseudo" / "extractive")
    assert write_dataset(path, source(DOCUMENTS[::-1])).generators == [], "made again by a training"
    (path / "memory").mkdir()
    with pytest.raises(InputError, match="different content"):
        write_dataset(path, source())


def test_opening_what_is_no_dataset_says_how_to_make_one(tmp_path):
    with pytest.raises(InputError, match="dsi prepare"):
        Dataset.open(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        Dataset.open(tmp_path / "nowhere")
    (tmp_path / "dataset.json").write_text('{"format_version": 99}')
    with pytest.raises(InputError, match="version 99"):
        Dataset.open(tmp_path)


def test_a_damaged_table_is_named(tmp_path):
    dataset = write_dataset(tmp_path / "set", source())
    file = tmp_path / "set" / "corpus" / "data.arrow"
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(InputError, match=r"corpus.*damaged"):
        _ = dataset.doc_ids
    with pytest.raises(InputError, match=r"corpus.*damaged"):
        _ = dataset.corpus


def test_missing_pseudo_queries_name_the_command(tmp_path):
    with pytest.raises(InputError, match="dsi queries"):
        write_dataset(tmp_path / "set", source()).pseudo_queries("extractive")


def test_opening_and_reading_ids_needs_no_heavy_import(tmp_path):
    write_dataset(tmp_path / "set", source())
    code = (
        "import sys; from data_prep.dataset import Dataset;"
        f"d = Dataset.open({str(tmp_path / 'set')!r}); d.doc_ids; d.qrels_of('test');"
        "print([m for m in ('datasets', 'torch', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_dataset_killed_between_its_two_renames_keeps_what_was_made_of_it(tmp_path):
    dataset = write_dataset(tmp_path / "set", source())
    made = dataset.path / "pseudo" / "seq2seq"
    made.mkdir(parents=True)
    (made / "generator.json").write_text("{}")
    for name in ("memory", "memory.partial"):
        (dataset.path / name).mkdir()
        (dataset.path / name / "weights").write_text(name)
    # The state after a kill when the old folder was moved aside and the new one is complete.
    aside = tmp_path / ".set.old-abcdefgh"
    aside.mkdir()
    (tmp_path / ".set.new-abcdefgh").mkdir()
    dataset.path.rename(aside / "set")
    again = write_dataset(tmp_path / "set", source())
    assert again.generators == ["seq2seq"]
    for name in ("memory", "memory.partial"):
        assert (again.path / name / "weights").read_text() == name
    assert [entry.name for entry in tmp_path.iterdir()] == ["set"]


def test_a_memory_that_was_moved_aside_is_kept_too(tmp_path):
    dataset = write_dataset(tmp_path / "set", source())
    aside = dataset.path / ".memory.old-abcdefgh" / "memory"
    aside.mkdir(parents=True)
    (aside / "weights").write_text("learned")
    again = write_dataset(tmp_path / "set", source())
    assert (again.path / "memory" / "weights").read_text() == "learned"
    assert not list(again.path.glob(".*"))
