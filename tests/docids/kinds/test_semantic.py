import numpy as np
import pytest

from data_prep.errors import InputError
from docids.kinds import KINDS, Documents, TreeOptions
from docids.kinds.clustering import cluster
from docids.table import FIRST_CODE

SEMANTIC = KINDS["semantic"]
RNG = np.random.default_rng(0)


def documents_of(vectors, start=0):
    vectors = np.asarray(vectors, np.float32)
    ids = [f"d{start + i}" for i in range(len(vectors))]
    return Documents(ids, [""] * len(ids), lambda texts: vectors)


def build(vectors, seed=0, **options):
    return SEMANTIC.build(documents_of(vectors), TreeOptions(**options), seed)


def sequences(table):
    return [table.sequence(row) for row in range(len(table))]


def blobs(sizes, scale=0.01):
    centers = np.eye(len(sizes), dtype=np.float32)
    return np.concatenate(
        [
            RNG.normal(center, scale, (n, len(sizes)))
            for center, n in zip(centers, sizes, strict=True)
        ]
    )


def test_separate_groups_have_first_codes_of_their_own():
    table = build(blobs([30, 40, 50]), branching=3, leaf_capacity=60, codes="shared").table
    firsts = [identifier[0] for identifier in sequences(table)]
    assert [len(set(part)) for part in (firsts[:30], firsts[30:70], firsts[70:])] == [1, 1, 1]
    assert len(set(firsts)) == 3
    numbers = [identifier[1] - FIRST_CODE for identifier in sequences(table)]
    assert numbers == [*range(30), *range(40), *range(50)]


def test_at_most_leaf_capacity_documents_share_all_but_the_last_code():
    table = build(RNG.normal(size=(2000, 8)), branching=10, leaf_capacity=25, codes="shared").table
    leaves = {}
    children = {}
    for identifier in sequences(table):
        leaves.setdefault(identifier[:-1], []).append(identifier[-1])
        for place in range(len(identifier) - 1):
            children.setdefault(identifier[:place], set()).add(identifier[place])
    assert all(len(numbers) <= 25 for numbers in leaves.values())
    assert all(
        sorted(numbers) == list(range(FIRST_CODE, FIRST_CODE + len(numbers)))
        for numbers in leaves.values()
    )
    assert all(2 <= len(codes) <= 10 for codes in children.values())
    assert table.alphabet_size == FIRST_CODE + 25


def test_a_corpus_within_the_leaf_capacity_is_one_leaf():
    table = build(RNG.normal(size=(100, 4))).table
    assert sequences(table) == [(FIRST_CODE + i,) for i in range(100)]


@pytest.mark.parametrize("count", [1, 2, 11, 101, 1500])
@pytest.mark.parametrize("value", [0.0, 0.5])
def test_identical_vectors_are_split_evenly(count, value):
    table = build(np.full((count, 4), value), branching=10, leaf_capacity=10).table
    below = {}
    for identifier in sequences(table):
        for place in range(len(identifier)):
            children = below.setdefault(identifier[:place], {})
            children[identifier[place]] = children.get(identifier[place], 0) + 1
    for children in below.values():
        assert len(children) <= 10
        assert max(children.values()) - min(children.values()) <= 1


def test_identical_vectors_among_others():
    vectors = np.concatenate([np.ones((300, 4)), RNG.normal(size=(50, 4))])
    assert len(set(sequences(build(vectors, branching=4, leaf_capacity=5).table))) == 350


def test_fewer_documents_than_branches():
    assert len(set(sequences(build(RNG.normal(size=(3, 4)), leaf_capacity=1).table))) == 3


def test_no_document():
    assert len(build(np.zeros((0, 4))).table) == 0


def test_level_codes_say_at_which_level_they_stand():
    table = build(RNG.normal(size=(300, 4)), branching=4, leaf_capacity=10, codes="level").table
    shared = build(RNG.normal(size=(300, 4)), branching=4, leaf_capacity=10, codes="shared").table
    levels = {}
    for identifier in sequences(table):
        for level, code in enumerate(identifier):
            assert levels.setdefault(code, level) == level
    assert set(levels) <= set(range(FIRST_CODE, table.alphabet_size))
    assert table.alphabet_size > shared.alphabet_size


def test_node_codes_belong_to_one_branch_each():
    vectors = RNG.normal(size=(300, 4))
    options = {"branching": 4, "leaf_capacity": 10}
    node = sequences(build(vectors, codes="node", **options).table)
    shared = sequences(build(vectors, codes="shared", **options).table)
    branch_of = {}
    for by_node, by_digit in zip(node, shared, strict=True):
        for place, code in enumerate(by_node):
            assert branch_of.setdefault(code, by_digit[: place + 1]) == by_digit[: place + 1]
    assert len(set(branch_of.values())) == len(branch_of)


def test_new_documents_go_to_the_leaf_of_their_likes():
    vectors = RNG.normal(size=(500, 4)).astype(np.float32)
    built = build(vectors, branching=4, leaf_capacity=10)
    later = SEMANTIC.extend(built, documents_of(vectors, 500), 0).table
    paths = [identifier[:-1] for identifier in sequences(later)]
    assert paths[500:] == paths[:500]


def test_by_default_codes_belong_to_one_branch_where_the_output_layer_has_room_for_them():
    vectors = RNG.normal(size=(60, 4))
    table = build(vectors, leaf_capacity=10).table
    assert table.options["codes"] == "node"  # the resolved value, for readers of the table
    assert sequences(table) == sequences(build(vectors, leaf_capacity=10, codes="node").table)
    assert TreeOptions().resolved(100_000).codes == "node"
    assert TreeOptions().resolved(100_001).codes == "level"
    assert TreeOptions(codes="shared").resolved(10).codes == "shared"


@pytest.mark.parametrize(("codes", "new"), [("shared", 1), ("level", 1), ("node", 3)])
def test_new_codes_only_where_needed(codes, new):
    built = build(blobs([5, 3]), branching=2, leaf_capacity=5, codes=codes)
    # Two more fit into the numbers that the larger leaf already uses; the third does not.
    later = SEMANTIC.extend(built, documents_of(blobs([0, 3]), 8), 0)
    assert later.table.alphabet_size - built.table.alphabet_size == new
    assert sorted(later.extras["issued"].tolist()) == [0, 5, 6]


def test_vectors_of_another_model_are_refused():
    with pytest.raises(InputError, match="3 dimensions, but the clusters have 4"):
        SEMANTIC.extend(build(np.ones((2, 4))), documents_of(np.ones((1, 3)), 2), 0)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"branching": 1}, "branching 1 is less than 2"),
        ({"leaf_capacity": 0}, "leaf_capacity 0 is less than 1"),
        ({"codes": "both"}, "codes 'both' is unknown. Choose from: auto, shared, level, node"),
    ],
)
def test_options_are_checked(option, message):
    with pytest.raises(InputError, match=message):
        TreeOptions(**option)


def test_clusters_are_numbered_breadth_first_with_neighboring_children():
    clusters = cluster(
        RNG.normal(size=(500, 3)).astype(np.float32),
        branching=3,
        capacity=20,
        iterations=5,
        seed=0,
    )
    assert clusters.parent[0] == -1
    assert np.all(np.diff(clusters.parent) >= 0)
    for inner in range(len(clusters.parent)):
        digits = clusters.digit[clusters.parent == inner].tolist()
        assert digits == list(range(len(digits)))
    assert not np.isin(clusters.leaf, clusters.parent).any()


def test_threads_and_waves_change_nothing(monkeypatch):
    import faiss

    from docids.kinds import clustering

    vectors = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
    settings = {"branching": 3, "capacity": 4, "iterations": 5, "seed": 1}
    before = faiss.omp_get_max_threads()
    found = []
    for threads, wave in ((1, 256), (3, 256), (1, 1), (3, 2)):
        faiss.omp_set_num_threads(threads)
        monkeypatch.setattr(clustering, "_WAVE", wave)
        found.append(clustering.cluster(vectors, **settings))
        assert faiss.omp_get_max_threads() == threads
    faiss.omp_set_num_threads(before)
    for other in found[1:]:
        for mine, theirs in zip(found[0], other, strict=True):
            assert mine.tobytes() == theirs.tobytes()
