"""Retrieval in several hops: chains, their scores, and when they stop."""

from __future__ import annotations

import copy
import functools
import itertools
import json
import math

import pytest
import tiny_checkpoints
import tiny_encoders
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForSequenceClassification

import dsi
from data_prep.dataset import Dataset, Document, InMemorySource, Qrel, Query
from data_prep.dataset_writer import write_dataset
from data_prep.errors import InputError
from dsi import Hit, HopOptions, Index, SearchOptions, cli
from dsi.commands import search
from dsi.commands.search_arguments import SearchArguments
from dsi.search.hops import Chain, Hop, Reader, ranked_documents, search_in_hops
from dsi.search.runs import read_run
from dsi.search.verifier import Verifier

DOCUMENTS = [
    {"id": "quill", "title": "Quills", "text": "A quill writes on vellum. It is dipped in sepia."},
    {"id": "sepia", "title": "Sepia", "text": "A brown dye. It comes from cuttlefish."},
    {"id": "cuttlefish", "title": "Cuttlefish", "text": "Animals of the sea. Whales hunt them."},
    {"id": "whale", "title": "Whales", "text": "Whales breathe air."},
    {"id": "vellum", "title": "Vellum", "text": "Skin of a calf. Calves eat grass."},
    {"id": "one", "title": "", "text": "grass"},
]
QUERY = "what writes"


# The definition, with a search that is a table of random scores.


def table_search(documents, seed):
    """A search that scores each pair of text and document by a hash of them."""

    def score(text, doc_id):
        return (hash_of(f"{seed}/{text}/{doc_id}") % 1000) / 100 - 5

    def search(texts, number):
        return [
            sorted(
                (Hit(one.doc_id, score(text, one.doc_id), "") for one in documents),
                key=lambda hit: -hit.score,
            )[:number]
            for text in texts
        ]

    return score, search


def hash_of(text):
    value = 17
    for character in text:
        value = (value * 31 + ord(character)) % 1_000_003
    return value


def chains_by_hand(query, documents, score, hops, sentences=None):
    """Every chain of documents with its score, from the definition, best first."""
    sentences = sentences or {one.doc_id: one.text.split(" / ") for one in documents}
    best = {}
    for path in itertools.permutations(documents, hops):
        for read in itertools.product(*(sentences[one.doc_id] for one in path[:-1])):
            total = score(query, path[0].doc_id)
            for place in range(1, hops):
                text = " ".join([query, *reversed(read[:place])])
                others = [one.doc_id for one in documents if one not in path[:place]]
                mass = sum(math.exp(score(text, doc_id)) for doc_id in others)
                total += score(text, path[place].doc_id) - math.log(mass)
                total -= math.log(len(sentences[path[place - 1].doc_id]))
            key = tuple(one.doc_id for one in path)
            best[key] = max(best.get(key, -math.inf), total)
    return sorted(best.items(), key=lambda pair: -pair[1])


# In the first example, the best chain of three documents reads the worse sentence of its first one.
@example(count=3, seed=401, sizes=[2, 1, 1, 1])
@given(
    count=st.integers(1, 3),
    seed=st.integers(0, 1000),
    sizes=st.lists(st.integers(1, 3), min_size=3, max_size=4),
)
def test_with_all_beams_the_chains_are_those_of_the_definition(count, seed, sizes):
    documents = [
        Document(f"d{row}", "", " / ".join(f"s{row}x{number}" for number in range(size)))
        for row, size in enumerate(sizes)
    ]
    score, search = table_search(documents, seed)
    apart = {
        one.doc_id: Document(one.doc_id, "", "\n\n".join(one.text.split(" / ")))
        for one in documents
    }
    reader = Reader(search, lambda hits: [apart[hit.doc_id] for hit in hits], None, 9, 99)
    options = HopOptions(count=count, **({} if count == 1 else {"beams": 99, "sentences": 9}))
    [found] = search_in_hops(["query"], 999, options, reader)
    expected = chains_by_hand("query", documents, score, count)
    assert len(found) == len(expected)
    for chain, (_, total) in zip(found, expected, strict=True):
        assert chain.score == pytest.approx(total, abs=1e-9)
        assert len(set(chain.doc_ids)) == count
    scores = dict(expected)
    assert [scores[tuple(chain.doc_ids)] for chain in found] == pytest.approx(
        [total for _, total in expected], abs=1e-9
    )


def reader_of(lines, texts=None, **parts):
    """A reader whose search knows some texts by heart."""

    def search(asked, number):
        return [
            [Hit(doc_id, score, "") for doc_id, score in lines[text][:number]] for text in asked
        ]

    def read(hits):
        return [Document(hit.doc_id, "", (texts or {}).get(hit.doc_id, hit.doc_id)) for hit in hits]

    return Reader(search, read, parts.get("verify"), 9, parts.get("width", 9))


def test_a_chain_does_not_come_back():
    lines = {
        "q": [("a", 1.0)],
        "q a": [("a", 5.0), ("b", 0.0)],
        "q b a": [("a", 9.0), ("b", 8.0), ("c", 0.0), ("d", 0.0)],
    }
    [[first, second]] = search_in_hops(["q"], 9, HopOptions(count=3), reader_of(lines))
    assert (first.doc_ids, second.doc_ids) == (["a", "b", "c"], ["a", "b", "d"])
    assert first.score == pytest.approx(1.0 + 0.0 - math.log(2))


def test_only_the_beams_go_on():
    # The third document would lead to the best chain.
    lines = {
        "q": [("a", 3.0), ("b", 2.0), ("c", 1.0)],
        **{f"q {one}": [("d", 1.0), ("e", 1.0)] for one in "ab"},
        "q c": [("d", 9.0), ("e", -9.0)],
    }
    [chains] = search_in_hops(["q"], 9, HopOptions(count=2, beams=2), reader_of(lines))
    assert [chain.doc_ids for chain in chains] == [["a", "d"], ["a", "e"], ["b", "d"], ["b", "e"]]


def test_a_sentence_that_repeats_the_query_or_the_evidence_is_read_last():
    texts = {"a": "Ink of squids. The query.", "b": "Ink of squids. Squids swim."}
    lines = {
        "The query": [("a", 1.0)],
        "The query Ink of squids.": [("b", 1.0)],
        "The query Squids swim. Ink of squids.": [("c", 1.0)],
    }
    options = HopOptions(count=3, beams=2, sentences=1)
    [[chain]] = search_in_hops(["The query"], 9, options, reader_of(lines, texts))
    assert chain.sentences == ["Ink of squids.", "Squids swim.", "c"]


def test_the_last_document_is_read_if_asked_for():
    lines = {"q": [("a", 1.0)]}
    for read_last, sentences in ((True, ["text of a"]), (False, [])):
        [[chain]] = search_in_hops(
            ["q"], 1, HopOptions(count=1), reader_of(lines, {"a": "text of a"}), read_last=read_last
        )
        assert (chain.sentences, chain.score) == (sentences, 1.0)


def test_a_chain_that_cannot_go_on_stays_as_it_is():
    lines = {"q": [("a", 1.0), ("b", 0.5)], "q a": [("a", 1.0)], "q b": [("a", 3.0)]}
    [found] = search_in_hops(["q"], 9, HopOptions(count=2), reader_of(lines))
    assert [chain.doc_ids for chain in found] == [["b", "a"]]
    blank = reader_of(lines, {"a": "", "b": ""})
    [found] = search_in_hops(["q"], 9, HopOptions(count=2), blank)
    assert [chain.doc_ids for chain in found] == [["a"], ["b"]]


@pytest.mark.parametrize(("threshold", "hops"), [(0.5, 2), (0.8, 1)])
def test_it_stops_when_the_next_document_is_unlikely(threshold, hops):
    # Probabilities 0.7 and 0.3 of the second document.
    lines = {"q": [("a", 0.0)], "q a": [("b", math.log(0.7)), ("c", math.log(0.3))]}
    options = HopOptions(count=2, stop="threshold", threshold=threshold)
    [found] = search_in_hops(["q"], 9, options, reader_of(lines))
    assert {len(chain.hops) for chain in found} == {hops}


def test_it_stops_when_the_verifier_says_so():
    lines = {"q": [("a", 0.0)], "q a": [("b", 0.0)], "q b a": [("c", 0.0)], "p": [("a", 0.0)]}
    asked = []

    def verify(evidence, queries):
        asked.append((evidence[0], queries[0]))
        return [0.9 if "b" in evidence[0] or queries == ["p"] else 0.2]

    options = HopOptions(count=3, stop="verifier", verifier="NAME")
    [[chain], [other]] = search_in_hops(["q", "p"], 9, options, reader_of(lines, verify=verify))
    assert (chain.doc_ids, chain.evidence) == (["a", "b"], 0.9)
    assert (other.doc_ids, other.evidence) == (["a"], 0.9)
    assert asked == [("a", "q"), ("a", "p"), ("a b", "q")]


def test_documents_rank_by_their_first_chain():
    def chain(*scores):
        return Chain(tuple(Hop(Hit(doc_id, 0.0, ""), value) for doc_id, value in scores))

    chains = [chain(("a", -1.0), ("b", -0.5)), chain(("c", -2.0), ("a", 0.0))]
    assert ranked_documents(chains, 9) == {"a": -1.5, "b": -1.5, "c": -2.0}
    assert list(ranked_documents(chains, 2)) == ["a", "b"]


# The same on an index.


@pytest.fixture(scope="module", params=["atomic", "keywords"])
def index(request, tmp_path_factory) -> Index:
    options = dsi.TrainingOptions(docids=request.param, loop=dsi.LoopOptions(steps=5, batch=8))
    return dsi.build(DOCUMENTS, tmp_path_factory.mktemp("hops") / "index", options)


def test_one_hop_is_a_plain_search(index):
    queries = [QUERY, "animals of the sea", "zebra"]
    plain = index.search(queries, k=4)
    chains = index.hops(queries, 4, 1)
    assert [[chain.hops[0].hit for chain in each] for each in chains] == plain
    assert [[chain.score for chain in each] for each in chains] == [
        [hit.score for hit in hits] for hits in plain
    ]


def test_two_hops_find_what_the_first_document_names(index):
    [best, *_] = index.hops("brown dye", 3)
    assert best.doc_ids == ["sepia", "cuttlefish"]
    assert best.sentences[0] == "It comes from cuttlefish."


def test_the_scores_are_those_of_searches(index):
    for chain in index.hops(QUERY, 20, HopOptions(count=2, beams=9), beams=20):
        first, second = chain.hops
        [hits] = [index.search(QUERY, 20)]
        assert first.log_probability == {hit.doc_id: hit.score for hit in hits}[first.hit.doc_id]
        hits = index.search(f"{QUERY} {first.sentence.text}", 20)
        scores = {hit.doc_id: hit.score for hit in hits if hit.doc_id != first.hit.doc_id}
        mass = math.log(sum(map(math.exp, scores.values())))
        expected = scores[second.hit.doc_id] - mass
        assert second.log_probability == pytest.approx(expected, abs=1e-4)
        total = first.log_probability + first.sentence.log_probability + second.log_probability
        assert chain.score == pytest.approx(total)


@pytest.fixture(scope="module", params=["semantic", "rq", "pq", "title", "language model"])
def index_of_kind(request, tmp_path_factory) -> Index:
    folder = tmp_path_factory.mktemp("kinds")
    loop = dsi.LoopOptions(steps=2, batch=4)
    if request.param == "language model":
        texts = [row["text"] for row in DOCUMENTS]
        path = tiny_checkpoints.write_language_model("llama", folder / "llama", texts)
        options = dsi.TrainingOptions(
            model=dsi.ModelOptions(pretrained=path),
            mix=dsi.MixOptions(query_length=16, document_length=32),
            loop=loop,
        )
    else:
        options = dsi.TrainingOptions(docids=request.param, loop=loop)
    return dsi.build(DOCUMENTS, folder / "index", options)


@pytest.mark.parametrize("query", [QUERY, "grass", "zebra"])
def test_chains_of_every_kind_are_those_of_the_definition(index_of_kind, query):
    documents = [Document(row["id"], row["title"], row["text"]) for row in DOCUMENTS]
    sentences = {
        "quill": ["A quill writes on vellum.", "It is dipped in sepia."],
        "sepia": ["A brown dye.", "It comes from cuttlefish."],
        "cuttlefish": ["Animals of the sea.", "Whales hunt them."],
        "whale": ["Whales breathe air."],
        "vellum": ["Skin of a calf.", "Calves eat grass."],
        "one": ["grass"],
    }

    @functools.cache
    def scores(text):
        return {hit.doc_id: hit.score for hit in index_of_kind.search(text, 6, beams=40)}

    expected = dict(
        chains_by_hand(query, documents, lambda text, one: scores(text)[one], 2, sentences)
    )
    options = HopOptions(count=2, beams=6)
    found = index_of_kind.hops(query, 30, options, beams=40)
    assert {tuple(chain.doc_ids) for chain in found} == set(expected)
    for chain in found:
        assert chain.score == pytest.approx(expected[tuple(chain.doc_ids)], abs=1e-3)
    values = [chain.score for chain in found]
    assert values == sorted(values, reverse=True)


def test_evaluation_of_every_kind_ranks_the_documents_of_its_chains(
    index_of_kind, tmp_path, capsys
):
    documents = [Document(row["id"], row["title"], row["text"]) for row in DOCUMENTS]
    queries = [Query("q1", "brown dye"), Query("q2", "skin of a calf")]
    qrels = [Qrel("q1", "cuttlefish", 1, "test"), Qrel("q2", "vellum", 1, "test")]
    write_dataset(tmp_path / "ds", InMemorySource(documents, queries, qrels))
    ranked = [
        list(dict.fromkeys(doc_id for chain in chains for doc_id in chain.doc_ids))
        for chains in index_of_kind.hops(["brown dye", "skin of a calf"], 100, 2)
    ]
    places = [ranked[0].index("cuttlefish"), ranked[1].index("vellum")]
    words = (folder_of(index_of_kind), tmp_path / "ds", "--baselines", "none", "--hops", 2)
    assert run("evaluate", *words, "--json") == 0
    measures = json.loads(capsys.readouterr().out)["systems"]["index"]["all"]
    assert measures["Success@1"] == sum(place == 0 for place in places) / 2
    assert measures["RR@10"] == pytest.approx(sum(1 / (place + 1) for place in places) / 2)


def test_hops_stay_in_a_subset(index):
    options = SearchOptions(only=["sepia", "whale", "quill"])
    found = index.hops("brown dye", 9, 3, options=options)
    assert {doc_id for chain in found for doc_id in chain.doc_ids} <= set(options.only)
    # A fourth document is not there: the chains end with the third.
    assert [len(chain.hops) for chain in index.hops("brown dye", 1, 4, options=options)] == [3]


def test_an_index_without_texts_is_refused(index):
    bare = copy.copy(index)
    bare.documents = None
    assert bare.hops(QUERY, 2, 1)[0].doc_ids
    with pytest.raises(InputError, match="without the texts of its documents"):
        bare.hops(QUERY, 2, 2)


@pytest.fixture(scope="module")
def verifiers(tmp_path_factory):
    """Classifiers with different labels; the bias of the first output is high."""
    folder = tmp_path_factory.mktemp("verifiers")
    words = ["brown", "dye", "a", "it", "comes", "from", "cuttlefish."]

    def write(name, *labels):
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(words) + 4, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
            intermediate_size=8, max_position_embeddings=16, num_labels=len(labels),
            id2label=dict(enumerate(labels)), label2id={label: n for n, label in enumerate(labels)},
        )  # fmt: skip
        model = BertForSequenceClassification(config)
        with torch.no_grad():
            model.classifier.bias[0] = 9.0
        model.save_pretrained(folder / name)
        tiny_encoders.write_tokenizer(folder / name, words)
        return str(folder / name)

    return write


def test_a_verifier_reads_evidence_of_any_length(verifiers):
    device = torch.device("cpu")
    entails = Verifier(verifiers("nli", "ENTAILMENT", "neutral", "contradiction"), device)
    assert min(entails.sufficient(["a dye", "dye " * 99], ["brown", "brown " * 99])) > 0.99
    open_question = Verifier(verifiers("fever", "NOT ENOUGH INFO", "SUPPORTS", "REFUTES"), device)
    assert max(open_question.sufficient(["a dye"], ["brown"])) < 0.01
    two = Verifier(verifiers("two", "not_entailment", "entailment"), device)
    assert max(two.sufficient(["a dye"], ["brown"])) < 0.01


def test_a_search_stops_by_a_verifier_of_transformers(index, verifiers):
    for name, first, hops in (("yes", "entailment", 1), ("no", "neutral", 2)):
        others = {"entailment", "neutral"} - {first}
        path = verifiers(name, first, *others)
        options = HopOptions(count=2, stop="verifier", verifier=path)
        best, *others = index.hops("brown dye", 3, options)
        assert len(best.hops) == hops
        assert (best.evidence > 0.5) == (hops == 1)
        assert {other.evidence for other in others} == {None}


@pytest.mark.parametrize(
    "labels",
    [
        ("LABEL_0", "LABEL_1"),
        ("LABEL_0", "LABEL_1", "LABEL_2"),
        ("entailment", "positive"),
        ("neutral", "not_entailment"),
        ("entailment", "supports"),
    ],
)
def test_a_verifier_with_other_labels_is_refused(index, verifiers, labels, capsys):
    path = verifiers("_".join(labels), *labels)
    words = ("--hops", 2, "--hops.stop", "verifier", "--hops.verifier", path)
    capsys.readouterr()
    assert run("search", folder_of(index), QUERY, *words) == 2
    refusal = capsys.readouterr().err
    assert f"{', '.join(map(repr, labels))}, not those of entailment" in refusal
    assert refusal.count("\n") == 1


def test_a_verifier_that_is_not_there_is_refused(index, tmp_path):
    options = HopOptions(count=2, stop="verifier", verifier=str(tmp_path / "none"))
    with pytest.raises(InputError, match="cannot load the entailment cross-encoder"):
        index.hops(QUERY, 2, options)


def test_a_verifier_whose_weights_are_not_finite_is_refused(verifiers):
    path = verifiers("damaged", "entailment", "neutral")
    weights = load_file(f"{path}/model.safetensors")
    weights["classifier.weight"][0, 0] = torch.nan
    save_file(weights, f"{path}/model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"'classifier\.weight' of the model .* are not finite"):
        Verifier(path, torch.device("cpu"))


def run(*words):
    return cli.main([*map(str, words), "--quiet"])


def folder_of(index):
    return index.documents._version.parents[1]


def test_the_command_shows_chains(index, capsys):
    assert run("search", folder_of(index), "brown dye", "--hops", 2, "--k", 3, "--json") == 0
    [result] = json.loads(capsys.readouterr().out)["results"]
    first = result["chains"][0]
    assert [hop["doc_id"] for hop in first["hops"]] == ["sepia", "cuttlefish"]
    assert first["hops"][0]["sentence"]["text"] == "It comes from cuttlefish."
    assert first["score"] == pytest.approx(index.hops("brown dye", 3)[0].score, abs=1e-6)
    assert run("search", folder_of(index), "brown dye", "--hops", 2) == 0
    shown = capsys.readouterr().out
    assert "cuttlefish" in shown
    assert "hop" in shown


def test_the_run_of_one_hop_is_that_of_plain_search(index, tmp_path):
    words = ("search", folder_of(index), QUERY, "animals of the sea", "--k", 5, "--run")
    assert run(*words, tmp_path / "plain.trec") == 0
    assert run(*words, tmp_path / "one.trec", "--hops", 1) == 0
    assert run(*words, tmp_path / "two.trec", "--hops", 2) == 0
    assert (tmp_path / "one.trec").read_bytes() == (tmp_path / "plain.trec").read_bytes()
    chains = index.hops(QUERY, 5)
    assert list(read_run(tmp_path / "two.trec")["1"]) == list(ranked_documents(chains, 5))


def test_a_sentence_at_the_end_of_a_long_document_leads_on(tmp_path):
    start = " ".join(f"Paragraph {number} tells of clerks and desks." for number in range(200))
    documents = [
        {"id": "office", "title": "Office", "text": f"{start} Its seal is made of zinc."},
        {"id": "zinc", "title": "Zinc", "text": "A bluish metal. It is brittle."},
        {"id": "tin", "title": "Tin", "text": "A white metal. It is soft."},
    ]
    opened = dsi.build(documents, tmp_path / "index")
    [best, *_] = opened.hops("seal of the office", 3)
    assert best.doc_ids == ["office", "zinc"]
    assert best.sentences[0] == "Its seal is made of zinc."


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--hops", "2", "--text"), "--text is for single documents"),
        (("--hops", "2", "--explain"), "--explain is for single documents"),
        (("--hops.beams", "4"), "--hops.beams 4 has no effect while --hops.count is 0"),
        (("--hops", "1", "--hops.beams", "4"), "--hops.beams 4 has no effect with a single hop"),
        (("--hops", "2", "--hops.stop", "verifier"), "--hops.stop verifier needs a model"),
        (("--hops", "2", "--hops.threshold", "0.3"), "--hops.threshold 0.3 has no effect"),
        (("--hops", "two"), "'two' is not a whole number"),
    ],
)
def test_options_that_do_not_fit_are_refused(index, words, message, capsys):
    assert run("search", folder_of(index), QUERY, *words) == 2
    assert message in capsys.readouterr().err


def test_a_prompt_shows_chains_too(index, capsys, monkeypatch):
    monkeypatch.setattr(search, "_typed_lines", lambda: iter(["brown dye", " "]))
    flags = SearchArguments(hops=HopOptions(count=2))
    searches = search.Searches(index, 3, flags, flags.options(), search.Display())
    asked = search._interactive_search(searches)
    shown = capsys.readouterr().out
    assert "cuttlefish" in shown
    assert "query 1 is empty" in shown
    assert asked.data == {"queries": 1}


def test_no_hop_is_refused_in_python(index):
    with pytest.raises(InputError, match="plain search"):
        index.hops(QUERY, hops=0)


def test_evaluation_counts_queries_whose_documents_are_all_found(index, tmp_path, capsys):
    documents = [Document(row["id"], row["title"], row["text"]) for row in DOCUMENTS]
    queries = [Query("q1", "brown dye"), Query("q2", "skin of a calf")]
    pairs = [("q1", "sepia"), ("q1", "cuttlefish"), ("q2", "vellum")]
    qrels = [Qrel(query_id, doc_id, 1, "test") for query_id, doc_id in pairs]
    write_dataset(tmp_path / "ds", InMemorySource(documents, queries, qrels))
    words = ("evaluate", folder_of(index), tmp_path / "ds", "--baselines", "none", "--hops", 2)
    assert run(*words, "--json") == 0
    measures = json.loads(capsys.readouterr().out)["systems"]["index"]["all"]
    assert (measures["All@10"], measures["Success@1"]) == (1, 1)
    assert run(*words, "--table", tmp_path / "table.md") == 0
    assert "All@10 ↑" in (tmp_path / "table.md").read_text("utf-8")


def test_a_chain_reads_the_passage_that_was_found(tmp_path):
    text = "Quills write on vellum. " * 3 + "Sepia dips the nib and dries brown. " * 3
    source = tmp_path / "docs.jsonl"
    rows = [{"id": "quill", "text": text}, *DOCUMENTS[1:4]]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    assert run("prepare", source, "--out", tmp_path / "ds", "--passages", 12) == 0
    opened = dsi.build(Dataset.open(tmp_path / "ds"), tmp_path / "index")
    [best, *_] = opened.hops("dips the nib", 9)
    assert best.doc_ids == ["quill", "sepia"]
    assert "nib" in best.sentences[0]
    assert all(len(set(chain.doc_ids)) == 2 for chain in opened.hops("dips the nib", 9))
