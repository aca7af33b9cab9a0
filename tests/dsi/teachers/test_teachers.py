"""Every teacher ranks by its own scores, which are stored for their examples."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from data_prep.bm25 import Bm25
from data_prep.errors import InputError
from dsi.teachers import TEACHERS
from dsi.teachers.base import arrange_candidates
from dsi.teachers.scores import TeacherScores, write_teacher_scores

TEXTS = [
    "the harbour and the whale",
    "a whale watches a whale",
    "clouds over the harbour",
    "nothing of the kind",
    "a falcon above clouds and harbour",
]
QUERIES = ["whale in the harbour", "clouds", "zeppelin", "falcon falcon harbour"]
RIGHT = np.array([0, 2, 3, 4])


def best_by_hand(scores, right, candidates, least=-np.inf):
    """The right row, then the others by falling score, ties by the lower row."""
    others = [row for row in range(len(scores)) if row != right and scores[row] > least]
    others.sort(key=lambda row: (-scores[row], row))
    picked = [right, *others[:candidates]]
    padding = [-1] * (1 + candidates - len(picked))
    return picked + padding, [scores[row] for row in picked] + [-np.inf] * len(padding)


def check(found, scores, expected):
    for line, (rows, values) in enumerate(expected):
        assert found[line].tolist() == rows
        np.testing.assert_allclose(scores[line], values, rtol=1e-4, atol=1e-5)


def test_bm25_gives_many_queries_the_scores_of_one_at_a_time():
    search = Bm25(TEXTS, "english")
    matrix = search.score_matrix(QUERIES).toarray()
    for line, words in zip(matrix, search.tokenize(QUERIES), strict=True):
        np.testing.assert_allclose(line, search.scores(words), rtol=1e-6)
    assert Bm25(["", ""], "english").score_matrix(QUERIES).shape == (4, 2)


@pytest.mark.parametrize("candidates", [1, 2, 7])
def test_bm25_names_the_documents_that_share_words(candidates):
    search = Bm25(TEXTS, "english")
    teacher = TEACHERS["bm25"](TEXTS, None, "english")
    expected = [
        best_by_hand(search.scores(words), right, candidates, least=0)
        for words, right in zip(search.tokenize(QUERIES), RIGHT.tolist(), strict=True)
    ]
    check(*teacher.rank(QUERIES, RIGHT, candidates), expected)


def test_equal_scores_go_by_the_lower_row():
    everything = np.array([3, 1, 2, 0])
    found, scores = arrange_candidates(
        np.array([2]),
        np.array([1.0], np.float32),
        [(everything, np.array([1.0, 1.0, 1.0, 2.0], np.float32))],
        2,
    )
    assert found.tolist() == [[2, 0, 1]]
    assert scores.tolist() == [[1.0, 2.0, 1.0]]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A tiny random BERT with one output, and its tokenizer."""
    pytest.importorskip("sentence_transformers")
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    words = sorted({word for text in [*TEXTS, *QUERIES] for word in text.split()})
    known = {word: n for n, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    inner = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    folder = tmp_path_factory.mktemp("bert")
    PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", model_max_length=64
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(known),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
        num_labels=1,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return str(folder)


def test_embeddings_rank_by_cosine(bert):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(bert)
    vectors, asked = (model.encode(texts, normalize_embeddings=True) for texts in (TEXTS, QUERIES))
    expected = [
        best_by_hand(vectors @ query, right, 3)
        for query, right in zip(asked, RIGHT.tolist(), strict=True)
    ]
    teacher = TEACHERS["embeddings"](TEXTS, bert, "english")
    check(*teacher.rank(QUERIES, RIGHT, 3), expected)


def test_a_cross_encoder_scores_what_bm25_finds(bert):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(bert)
    model = AutoModelForSequenceClassification.from_pretrained(bert).eval()
    found, scores = TEACHERS["cross-encoder"](TEXTS, bert, "english").rank(QUERIES, RIGHT, 2)
    first, _ = TEACHERS["bm25"](TEXTS, None, "english").rank(QUERIES, RIGHT, 2)
    for line, query in enumerate(QUERIES):
        assert found[line, 0] == RIGHT[line]
        assert sorted(found[line]) == sorted(first[line])
        kept = found[line] >= 0
        pairs = tokenizer([query] * kept.sum(), [TEXTS[row] for row in found[line][kept]],
                          padding=True, return_tensors="pt")  # fmt: skip
        with torch.no_grad():
            wanted = model(**pairs).logits[:, 0].numpy()
        np.testing.assert_allclose(scores[line][kept], wanted, rtol=1e-4, atol=1e-5)
        others = scores[line, 1:][kept[1:]]
        assert (np.diff(others) <= 0).all()


def test_a_model_that_is_not_there_is_told(tmp_path, monkeypatch):
    pytest.importorskip("sentence_transformers")
    for kind in ("embeddings", "cross-encoder"):
        with pytest.raises(InputError, match=r"teacher\.model: .*no such folder"):
            TEACHERS[kind](TEXTS, str(tmp_path / "missing"), "english")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(InputError, match=r"requires the package sentence-transformers"):
        TEACHERS["embeddings"](TEXTS, "some/model", "english")


def test_teacher_scores_are_of_the_examples_that_were_asked_about(tmp_path, monkeypatch):
    teacher = TEACHERS["bm25"](TEXTS, None, "english")
    monkeypatch.setattr(type(teacher), "batch", 3)
    write_teacher_scores(tmp_path / "teacher_scores", teacher, QUERIES, RIGHT, 2)
    found, scores = teacher.rank(QUERIES, RIGHT, 2)
    teacher_scores = TeacherScores.open(tmp_path / "teacher_scores", temperature=4.0, first=10)
    rows, values = teacher_scores.of(np.array([11, 2, 13, 14]))
    assert rows.tolist() == [found[1].tolist(), [-1] * 3, found[3].tolist(), [-1] * 3]
    np.testing.assert_allclose(values[[0, 2]], scores[[1, 3]] / 4)
    assert (values[[1, 3]] == -np.inf).all()
