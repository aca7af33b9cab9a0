"""`dsi evaluate` on an index and on run files, as users and programs call it."""

import json

import numpy as np
import pytest
import tiny_encoders
import torch
from small_versions import write_version
from transformers import T5Config, T5ForConditionalGeneration

from data_prep.dataset import Document, InMemorySource, Qrel, Query
from data_prep.dataset_writer import write_dataset
from docids.table import DocidTable
from dsi import Index, cli
from dsi.backbones.backbone import set_docid_alphabet
from dsi.index import write_parts
from dsi.index_folder.versions import Manifest
from dsi.search.runs import read_run
from dsi.text_encoders.text_encoder import SentencepieceEncoder, VocabularyOptions

ANIMALS = ["cats", "dogs", "fishes", "birds", "mice"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("evaluate")


@pytest.fixture(scope="module")
def dataset(folder):
    """Five documents with a test query each; the first two have a training query."""
    write_dataset(
        folder / "dataset",
        InMemorySource(
            [Document(f"d{n}", animal, f"{animal} eat") for n, animal in enumerate(ANIMALS)],
            [Query(f"t{n}", f"about {animal}") for n, animal in enumerate(ANIMALS[:2])]
            + [Query(f"q{n}", f"what do {animal} eat") for n, animal in enumerate(ANIMALS)],
            [Qrel(f"t{n}", f"d{n}", 1, "train") for n in range(2)]
            + [Qrel(f"q{n}", f"d{n}", 1, "test") for n in range(5)],
            name="animals",
        ),
    )
    return str(folder / "dataset")


@pytest.fixture(scope="module")
def index(folder):
    text = SentencepieceEncoder.train(
        [f"what do {animal} eat" for animal in ANIMALS],
        VocabularyOptions(language="none", pieces="word"),
    )
    torch.manual_seed(0)
    plain = T5ForConditionalGeneration(
        T5Config(vocab_size=16, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    )
    table = DocidTable.from_sequences(
        [f"d{n}" for n in range(5)], [(2, 3), (2, 4), (3,), (4, 2), (4, 3)],
        alphabet_size=8, kind="test",
    )  # fmt: skip
    with write_version(folder / "index", None) as fresh:
        write_parts(
            fresh,
            model=set_docid_alphabet(plain, text.vocabulary_size, 8),
            text=text,
            table=table,
            titles=ANIMALS,
        )
        Manifest(documents=5, added=5, query_length=8, beams=5).save(fresh)
    return str(folder / "index")


@pytest.fixture(scope="module")
def run_file(folder):
    (folder / "run.trec").write_text("q0 Q0 d0 1 2.0 t\nq2 Q0 d1 1 2.0 t\nq2 Q0 d2 2 1.0 t\n")
    return str(folder / "run.trec")


def printed(capsys, *words):
    assert cli.main(["evaluate", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_an_index_is_measured_beside_both_baselines(index, dataset, capsys):
    data = printed(capsys, index, dataset, "--device", "cpu")
    assert (data["dataset"], data["split"]) == ("animals", "test")
    assert data["queries"] == {"all": 5, "seen": 2, "unseen": 3}
    assert list(data["systems"]) == list(data["seconds"]) == ["index", "bm25", "bm25+queries"]
    assert list(data["comparison"]) == ["bm25", "bm25+queries"]
    # All five documents are found for each query, in some order.
    assert data["systems"]["index"]["all"]["R@100"] == 1.0
    assert data["systems"]["bm25"]["all"]["Success@1"] == 1.0


def test_the_run_of_an_index_holds_its_hits_and_scores_the_same(index, dataset, tmp_path, capsys):
    run = tmp_path / "out.trec"
    first = printed(capsys, index, dataset, "--run", str(run), "--baselines", "none")
    again = printed(capsys, str(run), dataset, "--baselines", "none")
    assert again["systems"]["run"] == first["systems"]["index"]
    [hits] = Index.open(index, device="cpu").search(["what do cats eat"], k=100)
    assert read_run(run)["q0"] == pytest.approx({hit.doc_id: hit.score for hit in hits})


def test_fewer_beams_find_fewer_documents_and_say_so(index, dataset, tmp_path, capsys):
    run = tmp_path / "out.trec"
    assert cli.main(["evaluate", index, dataset, "--beams", "2", "--run", str(run)]) == 0
    assert "2 beams find at most 2 documents" in capsys.readouterr().out
    assert {len(found) for found in read_run(run).values()} == {2}


def test_a_run_is_measured_and_queries_it_lacks_count_as_zero(run_file, dataset, capsys):
    data = printed(capsys, run_file, dataset, "--baselines", "bm25")
    assert list(data["systems"]) == ["run", "bm25"]
    values = data["systems"]["run"]
    assert values["all"]["Success@1"] == pytest.approx(1 / 5)
    assert values["all"]["RR@10"] == pytest.approx(1.5 / 5)
    assert values["seen"]["Success@1"] == 0.5
    assert values["unseen"]["RR@10"] == pytest.approx(0.5 / 3)
    assert cli.main(["evaluate", run_file, dataset]) == 0
    assert "3 of 5 queries are not in the run" in capsys.readouterr().out


def test_vectors_and_their_fusion_with_bm25_stand_beside(run_file, dataset, tmp_path, capsys):
    pytest.importorskip("sentence_transformers")
    vectors = dict(zip(ANIMALS, np.eye(5).tolist(), strict=True))
    encoder = tiny_encoders.write_static(tmp_path / "encoder", vectors)
    names = [f"dense:{encoder}", f"fusion:{encoder}"]
    data = printed(capsys, run_file, dataset, "--baselines", ",".join(names))
    assert list(data["systems"]) == ["run", *names]
    assert list(data["seconds"]) == names
    assert all(data["systems"][name]["all"]["Success@1"] == 1 for name in names)
    assert cli.main(["evaluate", run_file, dataset, "--baselines", names[1]]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "is 0.50 BM25 and 0.50 vectors, because there are no dev queries" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--split", "dev"], "no split 'dev' with judgments. Choose from: train, test"),
        (["--split", "train"], "no query of the run is in split 'train'"),
        (["--baselines", "bm52"], "Did you mean 'bm25'?"),
        (["--baselines", "bm25,"], "unknown baseline ''"),
        (["--baselines", "fusion"], "Give fusion:NAME_OR_PATH"),
        (["--baselines", "dense:/no/such/folder"], "cannot load the encoder '/no/such/folder'"),
        (["--language", "klingon"], "language 'klingon'"),
        (["--beams", "5"], "--beams is for an index"),
        (["--run", "out.trec"], "--run is for an index"),
        (["--run", "o.trec", "--table", "t.md"], "--run o.trec cannot be combined with --table"),
        (["--device", "cpu"], "--device is for an index"),
        (["--table", "a.md,./a.md"], "a.md: two outputs would be written to this file"),
        (["--table", "folder.md"], "folder.md: this is a folder"),
        (["--report", "folder.html"], "folder.html: this is a folder"),
        (["--per_query", "folder.csv"], "folder.csv: this is a folder"),
    ],
)
def test_a_wrong_call_is_told_in_one_line(
    run_file, dataset, words, message, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    if words[1].startswith("folder"):
        (tmp_path / words[1]).mkdir()
    assert cli.main(["evaluate", run_file, dataset, *words]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error


def test_documents_that_the_index_never_had_are_told(folder, index, capsys):
    for name, asked in (("other", ["x1"]), ("half", ["x1", "d1"])):
        source = InMemorySource(
            [Document(doc_id, "", f"text {doc_id}") for doc_id in asked],
            [Query(f"q{doc_id}", "what do otters eat") for doc_id in asked],
            [Qrel(f"q{doc_id}", doc_id, 1, "test") for doc_id in asked],
        )
        write_dataset(folder / name, source)
    assert cli.main(["evaluate", index, str(folder / "other"), "--baselines", "none"]) == 2
    assert "the index has none of the documents that its queries are judged for (such as 'x1')" in (
        capsys.readouterr().err
    )
    assert cli.main(["evaluate", index, str(folder / "half"), "--baselines", "none"]) == 0
    assert (
        "1 of 2 queries are judged for documents that are not in the index"
        in capsys.readouterr().out
    )


def test_wrong_files_are_told_in_one_line(folder, index, dataset, capsys):
    (folder / "empty.trec").write_text("")
    for words, message in [
        ([str(folder / "nothing"), dataset], "no such index or run"),
        ([dataset, dataset], "a dataset, not an index. Train one: dsi train"),
        ([str(folder / "empty.trec"), dataset], "the run file is empty"),
        ([dataset, dataset], "not an index"),
        ([index, index], "not a dataset"),
        ([index, dataset, "--beams", "0"], "--beams 0 is less than 1"),
        ([index, dataset, "--run", str(folder)], "this is a folder"),
    ]:
        assert cli.main(["evaluate", *words]) == 2
        assert message in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.timeout(900)
def test_two_processes_measure_what_one_does(index, dataset, tmp_path, capsys, in_two_processes):
    words = ["evaluate", str(index), dataset, "--device", "cpu", "--json", "--run"]
    assert cli.main([*words, str(tmp_path / "one.trec")]) == 0
    one = json.loads(capsys.readouterr().out)
    two = json.loads(in_two_processes([*words, str(tmp_path / "two.trec")]))
    assert one.pop("seconds").keys() == two.pop("seconds").keys()
    assert two == one
    assert read_run(tmp_path / "two.trec") == read_run(tmp_path / "one.trec")
