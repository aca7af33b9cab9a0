import numpy as np
import pytest

from data_prep.dataset import Document, InMemorySource, Qrel, Query
from data_prep.dataset_writer import write_dataset
from data_prep.errors import InputError
from docids.table import END, DocidTable
from dsi.data.examples import Examples, labeled_rows, per_identifier, task_queries
from dsi.data.options import MixOptions
from dsi.indexing.preparation import _judged
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


CHAIN = [
    Document("pen", "Pens", "A pen writes on paper. It needs ink."),
    Document("ink", "Ink", "Ink is a dye in water. Water boils."),
]


def test_chains_teach_the_later_hops_to_the_network_and_queries_to_the_lexical_layer(tmp_path):
    judged = [Qrel("q", "pen", 1, "train"), Qrel("q", "ink", 1, "train")]
    source = InMemorySource(CHAIN, [Query("q", "What writes?")], judged)
    dataset = write_dataset(tmp_path / "ds", source)
    table = DocidTable.from_sequences(["ink", "pen"], [(2,), (3,)], alphabet_size=4, kind="test")

    def taught(chains):
        found = task_queries(dataset, table, MixOptions(chains=chains), None)
        texts, rows = found["labeled"]
        return list(zip(texts, rows.tolist(), strict=True))

    first, linking = ("What writes?", 1), ("What writes? It needs ink.", 0)
    assert taught("none") == [first, ("What writes?", 0)]
    assert taught("ordered") == [first, linking]
    assert taught("unordered") == [
        first, ("What writes?", 0), linking, ("What writes? Ink is a dye in water.", 1)
    ]  # fmt: skip
    assert labeled_rows(dataset, table).tolist() == [0, 1]
    learned = _judged(dataset, table, "train", MixOptions(chains="ordered"))
    assert (list(learned.texts), learned.rows.tolist()) == (["What writes?"], [1])


def test_chains_need_labeled_queries():
    with pytest.raises(InputError, match=r"--mix.chains ordered has no effect while --mix.labeled"):
        MixOptions(chains="ordered", labeled=0.0)
