"""An index opened and searched, from Python and from the command line."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_versions import write_version
from transformers import PreTrainedModel, T5Config, T5ForConditionalGeneration

from data_prep.errors import InputError
from docids.table import DocidTable
from dsi import Index, cli
from dsi.backbones.backbone import check_weights, set_docid_alphabet
from dsi.index import Hit, folded_hits, open_titles, write_parts
from dsi.index_folder.versions import Manifest
from dsi.text_encoders.text_encoder import SentencepieceEncoder, VocabularyOptions

ALPHABET = 16
IDENTIFIERS = [(2, 3), (2, 4), (5, 3), (5, 6), (7, 7), (8, 2)]
TITLES = ["One", "", "Drei", "Quatre", "五", "Six [bold]"]


TEXTS = ["zebra a b c", "a longer query longer than eight words here now and again"]


def text() -> SentencepieceEncoder:
    return SentencepieceEncoder.train(TEXTS, VocabularyOptions(language="none", pieces="word"))


def table() -> DocidTable:
    return DocidTable.from_sequences(
        [f"d{row}" for row in range(len(IDENTIFIERS))],
        IDENTIFIERS,
        alphabet_size=ALPHABET,
        kind="test",
    ).retire(["d4"])


def model() -> PreTrainedModel:
    torch.manual_seed(0)
    plain = T5ForConditionalGeneration(
        T5Config(vocab_size=ALPHABET, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    )
    made = set_docid_alphabet(plain, text().vocabulary_size, ALPHABET)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.5)
    return made.eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """An index folder of two versions."""
    path = tmp_path_factory.mktemp("saved") / "index"
    for parent in (None, "0001"):
        with write_version(path, parent) as fresh:
            write_parts(fresh, model=model(), text=text(), table=table(), titles=TITLES)
            Manifest(
                documents=5,
                added=5,
                origin="docs.jsonl",
                dataset={"name": "tiny", "content_hash": "abcdef0123456789"},
                configuration={"train": {"steps": 3}},
                metrics={"dev": {"Success@1": 0.5}},
                query_length=8,
                beams=5,
            ).save(fresh)
    return path


@pytest.fixture(scope="module")
def index(saved) -> Index:
    return Index.open(saved, device="cpu")


QUERIES = ["a", TEXTS[1], "zebra", "b c", "a"]


def test_every_live_document_is_found_with_id_title_and_falling_scores(index):
    for hits in index.search(QUERIES, k=100, beams=100):
        assert sorted(hit.doc_id for hit in hits) == ["d0", "d1", "d2", "d3", "d5"]
        assert all(hit.title == TITLES[int(hit.doc_id[1:])] for hit in hits)
        scores = [hit.score for hit in hits]
        assert scores == sorted(scores, reverse=True)
        assert max(scores) < 0


def test_answers_keep_the_order_of_the_queries_whatever_the_batches(index):
    alone = [index.search([query], k=3)[0] for query in QUERIES]
    for batch_size in (1, 2, 32):
        together = index.search(QUERIES, k=3, batch_size=batch_size)
        for one, other in zip(alone, together, strict=True):
            assert [hit.doc_id for hit in one] == [hit.doc_id for hit in other]
            np.testing.assert_allclose(
                [hit.score for hit in one], [hit.score for hit in other], atol=1e-4
            )
    assert alone[0] == alone[4]
    assert index.search([]) == []


def test_queries_are_cut_at_the_length_of_the_index(index):
    long, cut = index.search([TEXTS[1], " ".join(TEXTS[1].split()[:8])], k=3)
    assert [hit.doc_id for hit in long] == [hit.doc_id for hit in cut]


@pytest.mark.parametrize(
    ("queries", "options", "message"),
    [
        (["a", " \t"], {}, "query 2 of 2 is empty"),
        (["a"], {"k": 0}, "cannot return 0 documents"),
        (["a"], {"k": 5, "beams": 4}, "4 beams cannot find 5"),
        (["a"], {"batch_size": 0}, "the batch size is 0"),
    ],
)
def test_what_makes_no_sense_is_refused(index, queries, options, message):
    with pytest.raises(InputError, match=message):
        index.search(queries, **options)


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    """The live version of a copy of the index, to be damaged, from before there were checksums."""
    shutil.copytree(saved, tmp_path / "index")
    version = tmp_path / "index" / "versions" / "0002"
    manifest = json.loads((version / "manifest.json").read_text())
    assert manifest.pop("files")
    (version / "manifest.json").write_text(json.dumps(manifest))
    return version


def test_titles_are_stored_beside_the_identifiers(saved):
    assert list(open_titles(saved / "versions" / "0002")) == TITLES
    with pytest.raises(InputError, match="1 titles for 6 documents"):
        write_parts(saved / "x", model=model(), text=text(), table=table(), titles=["One"])


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_weights_that_are_cut_short_are_found(folder, kept):
    file = next((folder / "model").glob("*.safetensors"))
    check_weights(folder / "model" / "model.safetensors")
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"safetensors: damaged or truncated"):
        Index.open(folder.parent.parent)


@pytest.mark.parametrize(
    "part",
    [
        "model/model.safetensors",
        "manifest.json",
        "docids",
        "docids/codes.npy",
        "docids/trie",
        "titles/text.npy",
    ],
)
def test_a_missing_part_is_named(folder, part):
    gone = folder / part
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    with pytest.raises(InputError) as caught:
        Index.open(folder.parent.parent)
    assert str(gone.parent) in str(caught.value)


@pytest.mark.parametrize(
    ("part", "content"),
    [
        ("model/config.json", "[]"),
        ("model/config.json", "{"),
        ("model/config.json", '{"model_type": "bert", "architectures": ["BertModel"]}'),
        ("text/text.json", '{"kind": "other"}'),
        ("text/sentencepiece.model", "x"),
        ("docids/table.json", "{}"),
    ],
)
def test_a_damaged_part_is_told(folder, part, content):
    (folder / part).write_text(content)
    with pytest.raises(InputError) as caught:
        Index.open(folder.parent.parent)
    assert str(folder) in str(caught.value)


class Evil:
    """Runs code when it is unpickled."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self):
        return (Path.touch, (self.sentinel,))


def test_opening_unpickles_nothing(folder, tmp_path):
    sentinel = tmp_path / "code-was-run"
    file = folder / "titles" / "text.npy"
    np.save(file, np.array([Evil(sentinel)], dtype=object), allow_pickle=True)
    header = json.loads((folder / "titles" / "titles.json").read_text())
    header["bytes"]["text"] = file.stat().st_size
    (folder / "titles" / "titles.json").write_text(json.dumps(header))
    for name in ("pytorch_model.bin", "model.pt"):
        (folder / "model" / name).write_bytes(pickle.dumps(Evil(sentinel)))
    with pytest.raises(InputError, match="not a numpy array"):
        Index.open(folder.parent.parent)
    assert not sentinel.exists()


def test_info_tells_what_is_in_the_index(saved, capsys):
    assert cli.main(["info", str(saved), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["live"], data["documents"], data["retired"]) == ("0002", 5, 1)
    assert data["docids"]["length"] == {"min": 2, "max": 2}
    assert data["bytes"]["model"] > 1000
    assert data["bytes"]["total"] > 2 * data["bytes"]["model"]
    assert [entry["parent"] for entry in data["versions"]] == [None, "0001"]
    assert 0 < data["bytes"]["prunable"] < data["bytes"]["total"]
    assert cli.main(["info", str(saved)]) == 0
    text = capsys.readouterr().out
    assert text.index("* 0002") < text.index("train.steps"), "versions come first"
    for part in (
        "version 0002",
        "train.steps",
        "Hits@1",
        "* 0002",
        "tiny",
        "abcdef012345",
        "dsi prune",
        "test, 2 codes each, from an alphabet of",
    ):
        assert part in text


def test_rollback_on_the_command_line(folder, capsys):
    path = str(folder.parent.parent)
    assert cli.main(["rollback", path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["live"] == "0001"
    assert cli.main(["rollback", path]) == 2
    assert "no version before it" in capsys.readouterr().err
    assert cli.main(["rollback", path, "0002"]) == 2
    assert "Did you mean --to 0002?" in capsys.readouterr().err
    assert cli.main(["rollback", path, "--to", "0002"]) == 0
    assert "version 0002 is live" in capsys.readouterr().out


def test_search_shows_one_table_for_each_query(saved, capsys):
    assert cli.main(["search", str(saved), "zebra", "a b", "--k", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (lines[0], lines[5]) == ("zebra", "a b")
    assert lines[1].split() == ["rank", "score", "doc", "id", "title"]
    assert [line.split()[0] for line in lines[2:4]] == ["1", "2"]


def test_search_as_json_gives_what_the_index_gives(saved, index, capsys):
    assert cli.main(["search", str(saved), "zebra", "--k", "2", "--json"]) == 0
    [result] = json.loads(capsys.readouterr().out)["results"]
    [hits] = index.search(["zebra"], k=2)
    assert (result["query_id"], result["query"]) == ("1", "zebra")
    assert [hit["doc_id"] for hit in result["hits"]] == [hit.doc_id for hit in hits]
    assert [hit["rank"] for hit in result["hits"]] == [1, 2]


def test_the_best_documents_stand_at_both_ends_where_that_is_asked_for(saved, capsys):
    words = ["search", str(saved), "zebra a", "--k", "4", "--json"]
    assert cli.main(words) == 0
    [plain] = json.loads(capsys.readouterr().out)["results"]
    assert cli.main([*words, "--reorder"]) == 0
    [reordered] = json.loads(capsys.readouterr().out)["results"]
    assert [hit["rank"] for hit in reordered["hits"]] == [1, 3, 4, 2]
    assert sorted(reordered["hits"], key=lambda hit: hit["rank"]) == plain["hits"]
    assert cli.main(["search", str(saved), "a", "--reorder", "--run", "x.trec"]) == 2
    assert "--reorder" in capsys.readouterr().err


def test_lines_of_standard_input_are_queries(saved, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("zebra\n\n a b \n"))
    assert cli.main(["search", str(saved), "--json"]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert [result["query"] for result in results] == ["zebra", "a b"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("q.tsv", "q7\tzebra\nq8\ta b\n"),
        ("q.jsonl", '{"_id": "q7", "text": "zebra"}\n{"_id": "q8", "text": "a b"}\n'),
        ("q.jsonl", '{"query_id": "q7", "text": "zebra"}\n{"query_id": "q8", "text": "a b"}\n'),
    ],
)
def test_a_file_of_queries_becomes_a_run(saved, index, tmp_path, capsys, name, content):
    (tmp_path / name).write_text(content)
    out = tmp_path / "out.trec"
    words = ["search", str(saved), "--queries", str(tmp_path / name), "--run", str(out)]
    assert cli.main([*words, "--k", "2"]) == 0
    lines = [line.split() for line in out.read_text().splitlines()]
    expected = index.search(["zebra", "a b"], k=2)
    assert [(line[0], line[2]) for line in lines] == [
        (query, hit.doc_id)
        for query, hits in zip(["q7", "q8"], expected, strict=True)
        for hit in hits
    ]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "neither TREC topics"),
        (b"q1\tgood\nq2\t \n", "query 'q2' is empty"),
        (b"q1\tgood\nq1\tagain\n", "query id 'q1' occurs twice"),
        (b"q1\t\xff\xfe\n", "not utf-8"),
    ],
)
def test_a_bad_file_of_queries_is_told_in_one_line(saved, tmp_path, capsys, content, part):
    file = tmp_path / "q.tsv"
    file.write_bytes(content)
    assert cli.main(["search", str(saved), "--queries", str(file)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert part in err
    assert str(file) in err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([""], "QUERY: query 1 is empty"),
        (["a", " "], "QUERY: query 2 is empty"),
        (["a\udcff"], "is not valid UTF-8"),
        (["a", "--k", "0"], "--k 0 is less than 1"),
        (["a", "--k", "5", "--beams", "4"], "--beams: 4 beams cannot find 5 documents"),
        (["a", "--device", "gpu"], "cannot use the device 'gpu'"),
        (["--queries", "nowhere.tsv"], "nowhere.tsv: no such file"),
        (
            ["a", "--queries", "nowhere.tsv"],
            "queries are given both on the command line and in a file",
        ),
    ],
)
def test_bad_words_are_told_in_one_line(saved, capsys, words, part):
    assert cli.main(["search", str(saved), *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert part in err


def test_the_prompt_answers_until_the_end_of_input(saved, capsys, monkeypatch):
    typed = iter(["zebra", "", "a\udcff", "a"])

    def answer(prompt: str) -> str:
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert cli.main(["search", str(saved), "--k", "1"]) == 0
    out = capsys.readouterr().out
    assert "5 documents. Type a query" in out
    assert out.count("rank") == 2
    assert "not valid UTF-8" in out


FORKING = """
import os, signal, sys
from dsi import Index
index = Index.open(sys.argv[1], "cpu")
one = index.search(["zebra a b c"] * 64)
child = os.fork()
if not child:
    signal.alarm(20)
    os._exit(0 if index.search(["zebra a b c"] * 64) == one else 3)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_process_forked_after_a_search_answers(saved):
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", FORKING, str(saved)], env=environment, timeout=60)
    assert done.returncode == 0


def test_a_pickled_index_opens_the_same_version_again(saved):
    opened = Index.open(saved, "cpu", version="0001")  # 0002 is live
    for copied in (pickle.loads(pickle.dumps(opened)), copy.copy(opened), copy.deepcopy(opened)):
        assert copied.manifest.version == opened.manifest.version
        assert copied.search("zebra", k=3) == opened.search("zebra", k=3)
    assert len(pickle.dumps(opened)) < 1_000  # no weights


def test_repr_names_folder_version_and_size(saved):
    opened = Index.open(saved, "cpu")
    assert repr(opened) == f"<dsi.Index {str(saved)!r}, version 0002, {len(opened)} documents>"


PASSAGES = [f"a#passage-{n}" for n in range(1, 21)] + ["b#passage-1", "c#passage-1"]


def ranked(asked):
    def rank(queries, depth, beams):
        asked.append((queries, depth, beams))
        return [
            [Hit(name, -float(place), "") for place, name in enumerate(PASSAGES[:depth])]
            for _ in queries
        ]

    return rank


def test_a_document_has_the_score_of_its_best_passage_and_names_it():
    [hits] = folded_hits(ranked([]), ["q"], 2, None, len(PASSAGES))
    assert hits == [
        Hit("a", 0.0, "", passage="a#passage-1"),
        Hit("b", -20.0, "", passage="b#passage-1"),
    ]


def test_the_search_goes_deeper_only_as_long_as_documents_are_missing():
    asked = []
    folded_hits(ranked(asked), ["q"], 1, None, len(PASSAGES))
    assert [depth for _, depth, _ in asked] == [4]
    asked.clear()
    folded_hits(ranked(asked), ["q"], 3, None, len(PASSAGES))
    assert [depth for _, depth, _ in asked] == [12, 22]
    asked.clear()
    [hits] = folded_hits(ranked(asked), ["q"], 10, None, len(PASSAGES))
    assert [hit.doc_id for hit in hits] == ["a", "b", "c"]


def test_the_width_that_was_asked_for_bounds_the_depth():
    asked = []
    [hits] = folded_hits(ranked(asked), ["q"], 3, 5, len(PASSAGES))
    assert asked == [(["q"], 5, 5)]
    assert [hit.doc_id for hit in hits] == ["a"]
