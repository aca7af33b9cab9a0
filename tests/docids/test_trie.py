import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import InputError
from docids.table import END, DocidTable
from docids.trie import Trie

ALPHABET = 7


def table_of(identifiers):
    return DocidTable.from_sequences(
        [f"d{i}" for i in range(len(identifiers))],
        identifiers,
        alphabet_size=ALPHABET,
        kind="test",
    )


@st.composite
def prefix_free(draw):
    kept = []
    for new in draw(
        st.lists(
            st.lists(st.integers(2, ALPHABET - 1), min_size=1, max_size=6).map(tuple), min_size=1
        )
    ):
        if all(new[: len(old)] != old[: len(new)] for old in kept):
            kept.append(new)
    return kept


def plain_trie(identifiers):
    """Prefix -> codes that may follow, by walking every identifier."""
    following = {}
    for identifier in identifiers:
        for place, code in enumerate(identifier):
            following.setdefault(identifier[:place], set()).add(code)
    return following


@given(prefix_free(), st.data())
def test_agrees_with_a_plain_trie(identifiers, data):
    gone = data.draw(
        st.sets(st.sampled_from(range(len(identifiers))), max_size=len(identifiers) - 1)
    )
    trie = Trie.build(table_of(identifiers).retire([f"d{row}" for row in gone]))
    live = {row: s for row, s in enumerate(identifiers) if row not in gone}
    following = plain_trie(live.values())
    for prefix, codes in following.items():
        assert trie.allowed(prefix).tolist() == sorted(codes)
        assert trie.row[trie.walk(prefix)] == -1
    for row, identifier in live.items():
        leaf = trie.walk(identifier)
        assert trie.row[leaf] == row
        assert trie.allowed(identifier).tolist() == []
        assert trie.walk((*identifier, 2)) == -1
    other = data.draw(st.lists(st.integers(0, ALPHABET), max_size=6).map(tuple))
    known = other in following or other in live.values()
    assert (trie.walk(other) >= 0) == known


@given(prefix_free())
def test_arrays_describe_one_tree_breadth_first(identifiers):
    trie = Trie.build(table_of(identifiers))
    following = plain_trie(identifiers)
    by_level = [[()]]
    while nodes := [(*p, c) for p in by_level[-1] for c in sorted(following.get(p, ()))]:
        by_level.append(nodes)
    assert np.diff(trie.level_start).tolist() == [len(level) for level in by_level]
    assert trie.depth == len(by_level) - 1
    order = [prefix for level in by_level for prefix in level]
    assert trie.code.tolist() == [-1] + [prefix[-1] for prefix in order[1:]]
    assert [trie.walk(prefix) for prefix in order] == list(range(len(trie)))
    assert np.diff(trie.first_child).tolist() == [len(following.get(p, ())) for p in order]
    assert trie.first_child[0] == 1
    assert trie.max_branching.tolist() == [
        max(len(following.get(p, ())) for p in level) for level in by_level[:-1]
    ]
    assert [trie.first_child.dtype, trie.code.dtype, trie.row.dtype] == [np.int32] * 3


def test_one_document():
    trie = Trie.build(table_of([(3, 2, END)]))
    assert trie.first_child.tolist() == [1, 2, 3, 4, 4]
    assert trie.row.tolist() == [-1, -1, -1, 0]
    assert trie.level_start.tolist() == [0, 1, 2, 3, 4]


def test_no_document():
    with pytest.raises(InputError, match="no document to search"):
        Trie.build(table_of([]))
    with pytest.raises(InputError, match="no document to search"):
        Trie.build(table_of([(2,)]).retire(["d0"]))


def test_saving_and_opening_maps_the_same_arrays(tmp_path):
    trie = Trie.build(table_of([(2, 3), (2, 4, 5), (6,)]))
    trie.save(tmp_path / "trie")
    found = Trie.open(tmp_path / "trie")
    for name in ("first_child", "code", "row", "level_start", "max_branching"):
        array = getattr(found, name)
        assert isinstance(array, np.memmap)
        assert array.tolist() == getattr(trie, name).tolist()
        assert array.dtype == getattr(trie, name).dtype
    os.truncate(tmp_path / "trie" / "row.npy", 100)
    with pytest.raises(InputError, match=r"row\.npy"):
        Trie.open(tmp_path / "trie")


def test_wide_alphabets_and_long_identifiers_sort_over_several_keys():
    rng = np.random.default_rng(0)
    identifiers = [
        tuple(row) for row in np.unique(rng.integers(2, 2**31 - 1, (50, 9)), axis=0).tolist()
    ]
    table = DocidTable.from_sequences(
        [f"d{i}" for i in range(50)], identifiers, alphabet_size=2**31 - 1, kind="test"
    )
    trie = Trie.build(table)
    assert [int(trie.row[trie.walk(s)]) for s in identifiers] == list(range(50))


several = st.lists(
    st.lists(st.integers(2, 4), max_size=2).map(lambda s: (*s, END)),
    min_size=1,
    max_size=3,
    unique=True,
)


@given(st.lists(several, min_size=1, max_size=7), st.data())
def test_leaves_lead_to_all_documents_of_their_identifier(tmp_path_factory, documents, data):
    table = DocidTable.from_sequences(
        [f"d{i}" for i in range(len(documents))],
        [identifier for identifiers in documents for identifier in identifiers],
        alphabet_size=ALPHABET,
        kind="test",
        counts=[len(identifiers) for identifiers in documents],
        shared=True,
    )
    gone = data.draw(st.sets(st.sampled_from(range(len(documents))), max_size=len(documents) - 1))
    trie = Trie.build(table.retire([f"d{row}" for row in gone]))
    folder = tmp_path_factory.mktemp("trie") / "trie"
    trie.save(folder)
    expected = {}
    for row, identifiers in enumerate(documents):
        if row not in gone:
            for identifier in identifiers:
                expected.setdefault(identifier, []).append(row)
    for each in (trie, Trie.open(folder)):
        assert each.documents == len(documents) - len(gone)
        assert (each.row >= 0).sum() == len(expected)
        for identifier, rows in expected.items():
            leaf = each.walk(identifier)
            assert each.rows_at(leaf).tolist() == rows
            assert each.row[leaf] == rows[0]
        assert each.rows_at(0).tolist() == []
        shared = [leaf for leaf in range(len(each)) if len(each.rows_at(leaf)) > 1]
        assert each.shared_leaf.tolist() == shared


def test_tries_of_the_first_layout_are_read(tmp_path):
    Trie.build(table_of([(2, 3), (4,)])).save(tmp_path / "trie")
    header = json.loads((tmp_path / "trie" / "trie.json").read_text())
    del header["documents"]
    (tmp_path / "trie" / "trie.json").write_text(json.dumps(header))
    trie = Trie.open(tmp_path / "trie")
    assert (trie.documents, trie.rows_at(trie.walk((4,))).tolist()) == (2, [1])


@given(prefix_free())
def test_work_in_chunks_gives_the_same_trie(identifiers):
    import docids.ragged
    import docids.trie

    whole = Trie.build(table_of(identifiers))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(docids.trie, "_CHUNK", 2)
        patched.setattr(docids.ragged, "_CHUNK", 3)
        pieces = Trie.build(table_of(identifiers))
    for name in ("first_child", "code", "row", "level_start", "max_branching"):
        assert getattr(pieces, name).tolist() == getattr(whole, name).tolist()
