import sys

import numpy as np
import pytest
import tiny_encoders

from data_prep.errors import InputError
from docids.embeddings import EmbeddingOptions, fit_embedder, open_embedder, save_embedder

TEXTS = [
    "the cat sat on the mat with another cat",
    "a cat and a kitten on a mat",
    "stocks fell as markets closed lower",
    "markets and stocks recovered today",
]


def embed(texts, dimensions=2, seed=0, **options):
    options = EmbeddingOptions(dimensions=dimensions, **options)
    return fit_embedder(texts, options, seed).encode(texts)


def test_like_documents_have_like_vectors():
    vectors = embed(TEXTS)
    assert vectors.shape == (4, 2)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    likeness = vectors @ vectors.T
    assert min(likeness[0, 1], likeness[2, 3]) > max(likeness[:2, 2:].max(), 0.5)


def test_agrees_with_a_dense_singular_value_decomposition():
    from sklearn.feature_extraction.text import TfidfVectorizer

    from data_prep.text_processing import words

    weights = TfidfVectorizer(analyzer=words, sublinear_tf=True).fit_transform(TEXTS).toarray()
    left, values, _ = np.linalg.svd(weights, full_matrices=False)
    expected = left[:, :3] * values[:3]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    vectors = embed(TEXTS, dimensions=3)
    np.testing.assert_allclose(vectors @ vectors.T, expected @ expected.T, atol=1e-4)


@pytest.mark.parametrize(
    "texts",
    [
        [],
        ["one document"],
        ["same words"] * 5,
        ["", "", ""],
        ["?!", "...", "--"],
        ["words here", "", "?!"],
        TEXTS,
    ],
    ids=["none", "one", "identical", "empty", "no words", "some empty", "fewer than dimensions"],
)
def test_any_corpus_has_finite_vectors_of_the_asked_size(texts):
    vectors = embed(texts, dimensions=16)
    assert vectors.shape == (len(texts), 16)
    norms = np.linalg.norm(vectors, axis=1)
    assert np.all(np.isclose(norms, 1, atol=1e-5) | (norms == 0))


def test_same_seed_same_bytes():
    texts = [f"word{i % 7} word{i % 11} word{i % 13}" for i in range(60)]
    assert embed(texts, 8, seed=3).tobytes() == embed(texts, 8, seed=3).tobytes()


def test_learns_from_a_sample_and_encodes_all():
    texts = [f"word{i}" for i in range(50)]
    vectors = embed(texts, dimensions=4, sample=10)
    assert vectors.shape == (50, 4)
    assert (np.linalg.norm(vectors, axis=1) > 0).sum() <= 10


def test_documents_added_later_get_vectors_of_the_same_space(tmp_path):
    options = EmbeddingOptions(dimensions=2)
    embedder = fit_embedder(TEXTS, options, 0)
    save_embedder(embedder, options, tmp_path / "embedder")
    found, found_options = open_embedder(tmp_path / "embedder")
    assert found_options == options
    later = [*TEXTS, "a kitten", "unheard-of"]
    assert found.encode(later).tobytes() == embedder.encode(later).tobytes()
    np.testing.assert_allclose(found.encode(later)[4] @ found.encode(later)[0], 1, atol=0.05)
    assert not found.encode(later)[5].any()


def test_an_embedder_of_nothing_can_be_saved(tmp_path):
    save_embedder(fit_embedder([""], EmbeddingOptions(), 0), EmbeddingOptions(), tmp_path / "e")
    assert open_embedder(tmp_path / "e")[0].encode(["x"]).shape == (1, 128)


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(InputError, match=r"pip install 'dsi-toolkit\[embeddings\]'"):
        fit_embedder(TEXTS, EmbeddingOptions(model="all-MiniLM-L6-v2"), 0)


def test_any_pretrained_encoder(tmp_path):
    pytest.importorskip("sentence_transformers")
    vectors = {"cat": [2.0, 0.0], "stocks": [0.0, 1.0], "markets": [0.0, 3.0]}
    options = EmbeddingOptions(model=tiny_encoders.write_static(tmp_path / "model", vectors))
    embedder = fit_embedder(TEXTS, options, 0)
    save_embedder(embedder, options, tmp_path / "e")
    for each in (embedder, open_embedder(tmp_path / "e")[0]):
        assert each.encode(TEXTS).tolist() == [[1, 0], [1, 0], [0, 1], [0, 1]]
        assert each.encode(TEXTS).dtype == np.float32
        assert each.encode([]).shape == (0, 2)


def test_a_missing_model_is_named(tmp_path):
    pytest.importorskip("sentence_transformers")
    missing = str(tmp_path / "missing")
    with pytest.raises(InputError, match=f"--embedding.model: cannot load the encoder '{missing}'"):
        fit_embedder(TEXTS, EmbeddingOptions(model=missing), 0)


@pytest.mark.parametrize("name", ["dimensions", "sample"])
def test_sizes_are_positive(name):
    with pytest.raises(InputError, match=f"{name} 0 is less than 1"):
        EmbeddingOptions(**{name: 0})
