"""Residual and product quantization: meaning of codes, collapse, and disambiguation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from data_prep.errors import InputError
from docids.kinds import KINDS, Documents
from docids.kinds.balanced_kmeans import balanced_labels
from docids.kinds.codebooks import _places_among_equals, refuse_collapse, resolve_size
from docids.quality import measure
from docids.store import open_store, write_store
from docids.table import FIRST_CODE


def documents(vectors, start=0):
    vectors = np.asarray(vectors, np.float32)
    ids = [f"d{start + i}" for i in range(len(vectors))]
    return Documents(ids, [""] * len(ids), lambda texts: vectors)


def clustered(count, groups=4, seed=0):
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(9).normal(size=(groups, 8))
    group = np.arange(count) % groups
    return group, (centers[group] + rng.normal(0, 0.05, (count, 8))).astype(np.float32)


def build(kind, vectors, **options):
    options = KINDS[kind].Options(**{"levels": 2, "codebook": 4, **options})
    return KINDS[kind].build(documents(vectors), options, 0)


@pytest.mark.parametrize("kind", ["rq", "pq"])
def test_near_documents_have_the_same_first_code(kind):
    _, vectors = clustered(200)
    table = build(kind, vectors).table
    purity = measure(table, lambda: vectors, seed=0).purity
    assert purity.value > purity.shuffled + 0.4
    # Each level has its own codes: FIRST_CODE + level x codebook + code, followed by a number.
    matrix = table.matrix()
    for level in range(2):
        low = FIRST_CODE + 4 * level
        assert set(matrix[:, level]) <= set(range(low, low + 4))
    assert matrix[:, 2].min() == FIRST_CODE + 8


@pytest.mark.parametrize("kind", ["rq", "pq"])
def test_new_documents_are_encoded_with_the_old_codebooks(kind):
    _, vectors = clustered(100)
    built = build(kind, vectors)
    more = KINDS[kind].extend(built, documents(vectors[:10], 100), 0).table
    old, new = more.matrix()[:10], more.matrix()[100:]
    assert (old[:, :2] == new[:, :2]).all()
    assert (old[:, 2] < new[:, 2]).all()
    with pytest.raises(InputError, match="2 dimensions, but the codebooks have 8"):
        KINDS[kind].extend(built, documents(np.ones((1, 2)), 200), 0)


def test_codes_are_nearest_in_the_sense_of_each_quantizer():
    _, vectors = clustered(64, groups=8)
    built = build("pq", vectors, codebook=8)
    books = built.extras["codebooks"].reshape(2, 8, 4)
    matrix = built.table.matrix()
    for row, vector in enumerate(vectors @ built.extras["rotation"]):
        for level in range(2):
            half = vector[4 * level : 4 * level + 4]
            nearest = np.square(books[level] - half).sum(axis=1).argmin()
            assert matrix[row, level] == FIRST_CODE + 8 * level + nearest
    built = build("rq", vectors, codebook=8)
    books = built.extras["codebooks"].reshape(2, 8, 8)
    matrix = built.table.matrix()[:, :2] - FIRST_CODE - [0, 8]
    error = np.square(vectors - books[0][matrix[:, 0]] - books[1][matrix[:, 1]]).sum(axis=1)
    greedy = np.square(vectors[:, None] - books[0]).sum(axis=2).argmin(axis=1)
    rest = vectors - books[0][greedy]
    best = np.square(rest[:, None] - books[1]).sum(axis=2).min(axis=1)
    # A beam search is never worse than choosing the nearest codeword at each level.
    assert (error <= best + 1e-4).all()


@pytest.mark.parametrize("kind", ["rq", "pq"])
def test_the_codewords_of_a_document_add_up_to_what_is_left_of_it(kind):
    _, vectors = clustered(64, groups=8)
    vectors = vectors[:, :7]  # not a multiple of the levels: padded with a zero
    built = build(kind, vectors, codebook=8)
    words = KINDS[kind].codewords(built, 7)
    assert words.shape == (16, 7)
    sums = words[built.table.matrix()[:, :2] - FIRST_CODE].sum(axis=1)
    books = built.extras["codebooks"]
    codes = built.table.matrix()[:, :2] - FIRST_CODE - [0, 8]
    if kind == "rq":
        by_hand = sum(books.reshape(2, 8, 8)[level][codes[:, level]] for level in (0, 1))
    else:
        halves = [books.reshape(2, 8, 4)[level][codes[:, level]] for level in (0, 1)]
        by_hand = np.concatenate(halves, axis=1) @ built.extras["rotation"].T
    np.testing.assert_allclose(sums, by_hand[:, :7], atol=1e-5)
    assert np.square(sums - vectors).sum() < 0.3 * np.square(vectors).sum()


@pytest.mark.parametrize("kind", ["rq", "pq"])
def test_shared_codes(kind):
    vectors = np.repeat(clustered(6)[1], 3, axis=0)
    built = build(kind, vectors, collisions="share")
    assert built.table.shared
    assert built.table.matrix().shape == (18, 2)
    assert built.table.sequence(0) == built.table.sequence(1)
    apart = build(kind, vectors)
    assert apart.resolved["a number was added"] >= 12
    assert len({apart.table.sequence(row) for row in range(18)}) == 18


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_few_documents_have_small_codebooks(count):
    built = build("rq", clustered(5)[1][:count], codebook=256)
    assert len(built.table) == count
    assert built.table.alphabet_size <= FIRST_CODE + 2 * 4 + count


@pytest.mark.parametrize(
    ("count", "size"), [(0, 2), (15, 2), (16, 2), (31, 2), (32, 4), (500, 32), (2047, 128)]
)
def test_without_a_size_a_code_is_left_eight_documents_at_least(count, size):
    found, notes = resolve_size(None, count, each=8, option="--rq.codebook")
    assert found == size
    assert notes == [
        f"{size} codes per codebook instead of 256, because there are only {count:,} documents "
        "(--rq.codebook sets the size)"
    ]
    assert resolve_size(256, count, each=8, option="") == (256, [])


@pytest.mark.parametrize("count", [2048, 10**7])
def test_without_a_size_many_documents_have_256_codes(count):
    assert resolve_size(None, count, each=8, option="") == (256, [])


def test_a_small_corpus_does_not_collapse_unless_it_is_asked_to():
    rng = np.random.default_rng(0)
    centers, spread = rng.normal(size=(8, 64)), np.exp(1.5 * rng.normal(size=(500, 1)))
    vectors = centers[np.arange(500) % 8] + 0.3 * spread * rng.normal(size=(500, 64))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    built = build("rq", vectors, levels=8, codebook=None)
    assert built.table.matrix()[:, :8].max() < FIRST_CODE + 8 * 32
    assert [note.split(",")[0] for note in built.notes] == ["32 codes per codebook instead of 256"]
    with pytest.raises(InputError, match=r"--rq.least_use 0.1: .* has collapsed"):
        build("rq", vectors, levels=8, codebook=256)
    # Product quantization has no level without a residual.
    built = build("pq", vectors, levels=8, codebook=None)
    assert built.notes == []
    assert built.table.matrix()[:, 7].max() >= FIRST_CODE + 7 * 256


@pytest.mark.parametrize("seed", range(3))
def test_levels_below_tight_clusters_use_their_codebook(seed):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(50, 32))[np.arange(800) % 50] + 0.3 * rng.normal(size=(800, 32))
    # The residual of a vector in its cluster is small compared with the distances between clusters.
    built = build("rq", vectors, levels=4, codebook=64, least_use=0.4)
    assert len(built.table) == 800


def test_a_collapsed_codebook_is_an_error():
    codes = np.zeros((96, 2), np.int64)
    codes[:, 0] = np.arange(96) % 8
    vectors = np.random.default_rng(0).normal(size=(96, 3)).astype(np.float32)
    with pytest.raises(InputError, match=r"codebook of level 2 has collapsed: 1 of 8 codes"):
        refuse_collapse(codes, 8, vectors, least=0.2, option="--rq.least_use")
    refuse_collapse(codes, 8, vectors, least=0, option="--rq.least_use")
    refuse_collapse(codes[:, :1], 8, vectors, least=0.999, option="--rq.least_use")
    # With only one vector, only one code can be used.
    refuse_collapse(codes[:, 1:], 8, np.ones((96, 3), np.float32), least=0.999, option="")
    skewed = np.ones((300, 4), np.float32)
    skewed[:8] = np.random.default_rng(0).normal(size=(8, 4))
    with pytest.raises(InputError, match=r"--rq.least_use 0.9: the codebook of level 1"):
        build("rq", skewed, codebook=8, least_use=0.9)


def total_distance(distances, labels):
    return sum(float(distances[row, label]) for row, label in enumerate(labels))


@settings(max_examples=40)
@given(rows=st.integers(1, 60), columns=st.integers(1, 9), seed=st.integers(0, 9))
def test_balanced_labels_use_all_columns_equally(rows, columns, seed):
    rng = np.random.default_rng(seed)
    distances = rng.normal(size=(rows, columns)).astype(np.float32) ** 2
    labels = balanced_labels(distances)
    counts = np.bincount(labels, minlength=columns)
    assert counts.sum() == rows
    assert (counts.min(), counts.max()) in {
        (rows // columns, -(-rows // columns)),
        (rows // columns, rows // columns),
    }


def test_balanced_labels_are_near_the_optimal_assignment():
    distances = np.random.default_rng(0).normal(size=(24, 4)).astype(np.float32) ** 2
    # The optimum: each column repeated six times, one for each of its rows.
    rows, places = linear_sum_assignment(np.repeat(distances, 6, axis=1))
    best = float(np.repeat(distances, 6, axis=1)[rows, places].sum())
    assert total_distance(distances, balanced_labels(distances)) <= 1.15 * best + 1e-6


def test_balanced_labels_of_equal_and_of_no_vectors():
    counts = np.bincount(balanced_labels(np.zeros((10, 4), np.float32)), minlength=4)
    assert sorted(counts.tolist()) == [2, 2, 3, 3]
    assert balanced_labels(np.zeros((0, 4), np.float32)).tolist() == []


def test_balance_uses_each_code_of_a_level_equally():
    rng = np.random.default_rng(0)
    # Three of four documents are of one cluster: unbalanced codes follow it.
    group = np.where(rng.random(400) < 0.75, 0, 1 + rng.integers(7, size=400))
    vectors = (rng.normal(size=(8, 8))[group] + rng.normal(0, 0.1, (400, 8))).astype(np.float32)
    counts = {}
    for balance in (False, True):
        matrix = build("rq", vectors, codebook=8, balance=balance, least_use=0).table.matrix()
        counts[balance] = [
            np.bincount(matrix[:, level] - FIRST_CODE - 8 * level, minlength=8) for level in (0, 1)
        ]
    assert max(level.max() for level in counts[False]) > 60
    assert all((level == 50).all() for level in counts[True])


def test_balanced_codewords_add_up_to_the_documents():
    _, vectors = clustered(64, groups=8)
    built = build("rq", vectors, codebook=8, levels=3, balance=True)
    words = KINDS["rq"].codewords(built, 8)
    sums = words[built.table.matrix()[:, :3] - FIRST_CODE].sum(axis=1)
    assert np.square(sums - vectors).sum() < 0.3 * np.square(vectors).sum()


def quantization_error(built, vectors, levels):
    words = KINDS[built.table.kind].codewords(built, vectors.shape[1])
    sums = words[built.table.matrix()[:, :levels] - FIRST_CODE].sum(axis=1)
    return float(np.square(sums - vectors).sum())


def test_an_optimized_rotation_is_orthogonal_and_quantizes_better():
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(8, 8))  # correlated dimensions of unequal variance
    vectors = (rng.normal(size=(300, 8)) * 2.0 ** -np.arange(8) @ mixed).astype(np.float32)
    errors = {}
    for rotation in ("random", "opq"):
        built = build("pq", vectors, codebook=16, rotation=rotation)
        matrix = built.extras["rotation"]
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(8), atol=1e-4)
        errors[rotation] = quantization_error(built, vectors, 2)
    assert errors["opq"] < 0.9 * errors["random"]


def test_an_optimized_rotation_of_vectors_that_fill_a_subspace():
    vectors = np.zeros((48, 12), np.float32)
    vectors[:, :3] = np.random.default_rng(0).normal(size=(48, 3))
    matrix = build("pq", vectors, codebook=16, rotation="opq").extras["rotation"]
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(12), atol=1e-4)


def test_an_optimized_rotation_codes_documents_alike_when_they_are_added(tmp_path):
    _, vectors = clustered(100, groups=16)
    built = build("pq", vectors, codebook=8, rotation="opq")
    write_store(tmp_path / "extras", "extras", {}, built.extras)
    opened = type(built)(built.table, open_store(tmp_path / "extras", "extras")[1])
    again = KINDS["pq"].extend(opened, documents(vectors, 100), 0).table.matrix()
    assert (again[:100, :2] == again[100:, :2]).all()


def test_places_among_equals():
    rows = np.array([[1, 2], [3, 4], [1, 2], [1, 2], [3, 4], [2, 1]])
    assert _places_among_equals(rows).tolist() == [0, 0, 1, 2, 1, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codebook": 100}, "power of 2"),
        ({"levels": 0}, "--levels 0 is less than 1"),
        ({"collisions": "both"}, "Choose from"),
        ({"least_use": 2}, "--least_use 2 is not at least 0 and at most 1"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        KINDS["rq"].Options(**options)
