import numpy as np

from docids.table import END, DocidTable
from dsi.data.examples import Examples, per_identifier
from dsi.rows.corpus import code_vectors


def table_of(counts, identifiers):
    ids = [f"d{i}" for i in range(len(counts))]
    return DocidTable.from_sequences(
        ids, identifiers, alphabet_size=6, kind="test", counts=counts, shared=True
    )


def test_a_text_teaches_every_identifier_of_its_document():
    table = table_of([2, 1], [(2, END), (3, END), (4, END)])
    given = Examples.pack([[7, 8], [9], [5, 5, 5]], [1, 0, 0])
    made = per_identifier(given, table)
    lines = [(made.line(i).tolist(), int(made.rows[i])) for i in range(len(made))]
    assert lines == [
        ([7, 8], 2),
        ([9], 0),
        ([9], 1),
        ([5, 5, 5], 0),
        ([5, 5, 5], 1),
    ]


def test_nothing_changes_where_each_document_has_one_identifier():
    given = Examples.pack([[7]], [0])
    assert per_identifier(given, table_of([1], [(2,)])) is given


def test_a_code_stands_for_the_documents_behind_all_identifiers_with_it():
    table = table_of([2, 1], [(2,), (3,), (3,)])
    vectors = np.array([[1, 0], [0, 1]], np.float32)
    rows = code_vectors(table, vectors, 6)
    assert rows[2].tolist() == [1, 0]
    np.testing.assert_allclose(rows[3], [0.5**0.5, 0.5**0.5], rtol=1e-6)
