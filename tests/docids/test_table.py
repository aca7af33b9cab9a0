import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import InputError
from docids.ragged import Ragged
from docids.table import END, DocidTable

ALPHABET = 7


def table_of(identifiers, doc_ids=None, alphabet_size=ALPHABET):
    doc_ids = [f"d{i}" for i in range(len(identifiers))] if doc_ids is None else doc_ids
    return DocidTable.from_sequences(
        doc_ids, identifiers, alphabet_size=alphabet_size, kind="test", options={"a": 1}
    )


def clash(identifiers):
    """The rule of the table, by comparing every pair."""
    return any(
        a[: len(b)] == b
        for i, a in enumerate(identifiers)
        for j, b in enumerate(identifiers)
        if i != j
    )


identifiers_lists = st.lists(
    st.lists(st.integers(2, ALPHABET - 1), min_size=1, max_size=5).map(tuple), max_size=12
)


def prefix_free(identifiers):
    kept = []
    for identifier in identifiers:
        if not clash([*kept, identifier]):
            kept.append(identifier)
    return kept


@given(identifiers_lists)
def test_accepts_exactly_the_tables_without_prefixes(identifiers):
    if clash(identifiers):
        with pytest.raises(InputError, match=r"same identifier|is a prefix of"):
            table_of(identifiers)
    else:
        table = table_of(identifiers)
        assert [table.sequence(row) for row in range(len(table))] == identifiers
        assert table.lengths.tolist() == [len(identifier) for identifier in identifiers]


@given(identifiers_lists.map(prefix_free), st.data())
def test_what_was_given_never_changes(identifiers, data):
    cut = data.draw(st.integers(0, len(identifiers)))
    before = table_of(identifiers[:cut])
    gone = data.draw(st.sets(st.sampled_from(range(cut)))) if cut else set()
    later = before.retire([f"d{row}" for row in gone]).append(
        [f"new{i}" for i in range(len(identifiers) - cut)], identifiers[cut:]
    )
    assert [later.sequence(row) for row in range(len(later))] == identifiers
    assert list(later.doc_ids)[:cut] == list(before.doc_ids)
    assert set(np.flatnonzero(later.retired).tolist()) == gone
    assert not before.retired.any()
    for row, doc_id in enumerate(later.doc_ids):
        if row not in gone:
            assert later.row_of(doc_id) == row


@given(st.lists(st.text(min_size=1), unique=True, max_size=20))
def test_document_ids_of_any_script_survive_saving(tmp_path_factory, doc_ids):
    folder = tmp_path_factory.mktemp("ids") / "table"
    table_of([(2, 2, i // 5 + 2, i % 5 + 2) for i in range(len(doc_ids))], doc_ids).save(folder)
    table = DocidTable.open(folder)
    assert list(table.doc_ids) == doc_ids
    assert [table.row_of(doc_id) for doc_id in doc_ids] == list(range(len(doc_ids)))


def test_saving_and_opening_keeps_everything_in_memory_maps(tmp_path):
    table = table_of([(2, 3), (4,), (3, END)]).retire(["d1"])
    table.save(tmp_path / "table")
    found = DocidTable.open(tmp_path / "table")
    assert isinstance(found.codes, np.memmap)
    assert found.codes.dtype == np.int32
    assert found.offsets.dtype == np.int64
    assert found.matrix().tolist() == [[2, 3], [4, 0], [3, END]]
    assert found.retired.tolist() == [False, True, False]
    assert (found.kind, found.options, found.alphabet_size) == ("test", {"a": 1}, ALPHABET)
    found.append(["d9"], [(6,)]).save(tmp_path / "table")
    assert len(DocidTable.open(tmp_path / "table")) == 4


def test_an_empty_table_can_be_saved(tmp_path):
    table_of([]).save(tmp_path / "table")
    table = DocidTable.open(tmp_path / "table")
    assert len(table) == 0
    assert table.append(["a"], [(2,)]).sequence(0) == (2,)


def test_appending_new_codes_grows_the_alphabet():
    table = table_of([(2,)], alphabet_size=3).append(["x"], [(8,)])
    assert table.alphabet_size == 9


def test_a_matrix_or_packed_arrays_say_the_same_as_lists():
    lists = table_of([(2, 3), (3, 4)])
    matrix = table_of(np.array([[2, 3], [3, 4]]))
    packed = DocidTable.from_sequences(
        ["d0", "d1"],
        Ragged(np.array([2, 3, 3, 4]), np.array([0, 2, 4])),
        alphabet_size=ALPHABET,
        kind="test",
    )
    for table in (matrix, packed):
        assert table.codes.tolist() == lists.codes.tolist()


def test_a_retired_identifier_may_prefix_a_live_one():
    table = table_of([(2,), (3,)]).retire(["d0"]).append(["x"], [(2, 2)])
    assert table.live.tolist() == [1, 2]


def test_a_deleted_document_may_come_back_in_a_new_row():
    table = table_of([(2,), (3,)]).retire(["d0"]).append(["d0"], [(4,)])
    assert table.row_of("d0") == 2


@pytest.mark.parametrize(
    ("identifiers", "message"),
    [
        ([(2, 3), (4,), (2, 3)], r"documents 'd0' and 'd2' have the same identifier \(2, 3\)"),
        ([(2, 3), (2,)], r"\(2,\) of document 'd1' is a prefix of \(2, 3\) of document 'd0'"),
        ([(2,), ()], r"document 'd1' \(row 1\) has no codes"),
        ([(2,), (3, ALPHABET)], r"code 7 in the identifier of document 'd1' .* outside 1\.\.6"),
        ([(2,), (0, 3)], r"code 0 .* document 'd1'"),
        ([(2,), (-4,)], r"code -4"),
        ([(2,), (3, END, 4)], r"END is not the last code of the identifier of .*'d1'"),
    ],
)
def test_a_broken_rule_names_the_documents(identifiers, message):
    with pytest.raises(InputError, match=message):
        table_of(identifiers)


def test_document_ids_are_unique_and_not_empty():
    with pytest.raises(InputError, match=r"'a' occurs twice \(rows 0 and 2\)"):
        table_of([(2,), (3,), (4,)], ["a", "b", "a"])
    with pytest.raises(InputError, match="row 1 has an empty id"):
        table_of([(2,), (3,)], ["a", ""])
    with pytest.raises(InputError, match="'d0' occurs twice"):
        table_of([(2,)]).append(["d0"], [(3,)])
    with pytest.raises(InputError, match="2 documents, but 1 identifiers"):
        table_of([(2,)], ["a", "b"])


def test_unknown_and_deleted_documents_are_told_apart():
    table = table_of([(2,), (3,)]).retire(["d1"])
    with pytest.raises(InputError, match="no document 'D0'"):
        table.row_of("D0")
    with pytest.raises(InputError, match="'d1' was deleted"):
        table.row_of("d1")
    with pytest.raises(InputError, match="'d1' was deleted"):
        table.retire(["d1"])
    assert table.find(["d1", "zz", "d0"]).tolist() == [1, -1, 0]


def test_a_damaged_table_is_refused(tmp_path):
    folder = tmp_path / "table"
    with pytest.raises(InputError, match="this folder is not a table"):
        DocidTable.open(folder)
    table_of([(2, 3), (4,)]).save(folder)
    os.truncate(folder / "codes.npy", 130)
    with pytest.raises(InputError, match=r"codes\.npy: the file is 130 bytes long instead of"):
        DocidTable.open(folder)
    (folder / "codes.npy").unlink()
    with pytest.raises(InputError, match=r"codes\.npy: the file is missing"):
        DocidTable.open(folder)
    header = json.loads((folder / "table.json").read_text())
    (folder / "table.json").write_text(json.dumps({**header, "format": 99}))
    with pytest.raises(InputError, match="format is 99"):
        DocidTable.open(folder)
    (folder / "table.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        DocidTable.open(folder)


def test_an_array_of_objects_is_not_unpickled(tmp_path):
    folder = tmp_path / "table"
    table_of([(2, 3), (4,)]).save(folder)
    np.save(folder / "codes.npy", np.array([{}, []], object), allow_pickle=True)
    header = json.loads((folder / "table.json").read_text())
    header["bytes"]["codes"] = (folder / "codes.npy").stat().st_size
    (folder / "table.json").write_text(json.dumps(header))
    with pytest.raises(InputError, match="not a numpy array"):
        DocidTable.open(folder)


def test_documents_whose_hashes_collide_are_told_apart(monkeypatch):
    from docids.strings import Strings

    monkeypatch.setattr(Strings, "hashes", lambda self: np.zeros(len(self), np.uint64))
    table = table_of([(2,), (3,), (4,)], ["a", "b", "c"])
    assert table.find(["c", "b", "x"]).tolist() == [2, 1, -1]
    with pytest.raises(InputError, match="'b' occurs twice"):
        table.append(["b"], [(5,)])


@st.composite
def many_to_many(draw, alphabet_size=5):
    """Documents with one or several identifiers, some of them shared: lists of tuples."""
    several = st.lists(
        st.lists(st.integers(2, alphabet_size - 1), max_size=2).map(lambda s: (*s, END)),
        min_size=1,
        max_size=3,
        unique=True,
    )
    return draw(st.lists(several, min_size=1, max_size=6))


def shared_table(documents, start=0):
    return DocidTable.from_sequences(
        [f"d{start + i}" for i in range(len(documents))],
        [identifier for identifiers in documents for identifier in identifiers],
        alphabet_size=ALPHABET,
        kind="test",
        counts=[len(identifiers) for identifiers in documents],
        shared=True,
    )


@given(many_to_many(), many_to_many(), st.data())
def test_documents_with_several_and_shared_identifiers(tmp_path_factory, before, added, data):
    table = shared_table(before)
    gone = data.draw(st.sets(st.sampled_from(range(len(before)))))
    table = table.retire([f"d{row}" for row in gone]).append(
        [f"d{len(before) + i}" for i in range(len(added))],
        [identifier for identifiers in added for identifier in identifiers],
        [len(identifiers) for identifiers in added],
    )
    folder = tmp_path_factory.mktemp("table") / "table"
    table.save(folder)
    everything = [*before, *added]
    flat = [(row, s) for row, identifiers in enumerate(everything) for s in identifiers]
    for each in (table, DocidTable.open(folder)):
        assert each.shared
        assert [each.sequences(row) for row in range(len(each))] == everything
        assert [each.sequence(row) for row in range(len(each))] == [d[0] for d in everything]
        assert each.one_each == all(len(identifiers) == 1 for identifiers in everything)
        assert each.owners.tolist() == [row for row, _ in flat]
        live = [number for number, (row, _) in enumerate(flat) if row not in gone]
        assert each.live_identifiers.tolist() == live
        assert each.matrix().shape[0] == len(flat)
        asked = data.draw(st.lists(st.sampled_from(range(len(each))), max_size=5))
        numbers, places = each.numbers_of(np.array(asked, np.int64))
        assert [(int(p), flat[n]) for n, p in zip(numbers, places, strict=True)] == [
            (place, (row, s)) for place, row in enumerate(asked) for s in everything[row]
        ]


def test_an_identifier_is_shared_by_documents_not_repeated_in_one():
    assert shared_table([[(2, END)], [(2, END)]]).sequence(1) == (2, END)
    with pytest.raises(InputError, match=r"document 'd1' has the identifier \(2, 1\) twice"):
        shared_table([[(2, END)], [(2, END), (3, END), (2, END)]])
    with pytest.raises(InputError, match=r"\(2,\) of document 'd0' is a prefix of \(2, 3\)"):
        shared_table([[(2,)], [(4,), (2, 3)]])
    with pytest.raises(InputError, match="documents 'd0' and 'd1' have the same identifier"):
        DocidTable.from_sequences(
            ["d0", "d1"], [(2,), (3,), (2,)], alphabet_size=4, kind="test", counts=[1, 2]
        )
    with pytest.raises(InputError, match="'d1' has no identifier"):
        shared_table([[(2,)], []])
    with pytest.raises(InputError, match="1 documents, but 2 identifiers and counts for 2"):
        DocidTable.from_sequences(["d0"], [(2,), (3,)], alphabet_size=4, kind="test", counts=[2, 0])


def test_tables_of_the_first_layout_are_read(tmp_path):
    table_of([(2, 3), (4,)]).save(tmp_path / "table")
    header = json.loads((tmp_path / "table" / "table.json").read_text())
    del header["shared"], header["identifiers"]
    (tmp_path / "table" / "table.json").write_text(json.dumps(header))
    table = DocidTable.open(tmp_path / "table")
    assert (table.one_each, table.shared, table.sequence(1)) == (True, False, (4,))


def test_without_retired_rows_the_rest_keep_their_codes():
    table = DocidTable.from_sequences(
        ["a", "b", "c"],
        [[2, 3], [4], [5, 6], [7]],
        alphabet_size=9,
        kind="test",
        counts=[1, 2, 1],
    )
    assert table.without_retired() is table
    fewer = table.retire(["a"]).without_retired()
    assert list(fewer.doc_ids) == ["b", "c"]
    assert [fewer.sequences(row) for row in range(2)] == [[(4,), (5, 6)], [(7,)]]
    assert fewer.alphabet_size == 9
    assert not fewer.retired.any()


def test_new_codes_are_taken_from_the_reserve_and_then_added(tmp_path):
    table = table_of([(2, 3), (4,)]).with_reserve(2)
    assert (table.alphabet_size, table.reserved, table.next_code) == (ALPHABET + 2, 2, ALPHABET)
    table.save(tmp_path / "table")
    table = DocidTable.open(tmp_path / "table")
    table.check()
    table = table.append(["known"], [(5, 6)])
    assert (table.alphabet_size, table.reserved) == (ALPHABET + 2, 2)
    table = table.append(["new"], [(5, ALPHABET)]).retire(["new"])
    assert (table.alphabet_size, table.reserved) == (ALPHABET + 2, 1)
    assert table.without_retired().reserved == 1
    table = table.append(["more"], [(6, ALPHABET + 3)])
    assert (table.alphabet_size, table.reserved) == (ALPHABET + 4, 0)


def test_a_reserve_that_is_in_use_is_damage(tmp_path):
    table_of([(2, 3), (4,)]).save(tmp_path / "table")
    header = json.loads((tmp_path / "table" / "table.json").read_text())
    for reserved, message in (
        (3, "code 4 is in use, but the next free code is 4"),
        (6, "6 codes are reserved in an alphabet of 7"),
    ):
        (tmp_path / "table" / "table.json").write_text(json.dumps({**header, "reserved": reserved}))
        with pytest.raises(InputError, match=message):
            DocidTable.open(tmp_path / "table").check()


def test_unknown_ids_are_named_together():
    table = table_of([(2,), (3,), (4,)]).retire(["d1"])
    wanted = ["d0", "d1", *(f"x{number}" for number in range(7))]
    told = "8 of 9 documents are not in the index: 'd1', 'x0', 'x1', 'x2', 'x3', and 3 more"
    with pytest.raises(InputError, match=told):
        table.retire(wanted)
    with pytest.raises(InputError, match="x0"):
        table.retire(["x0"])
