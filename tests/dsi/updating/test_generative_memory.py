"""An index with a generative memory uses it for documents added later."""

import pytest
import small

from data_prep.dataset import Document, InMemorySource, Qrel, Query
from data_prep.dataset_writer import write_dataset
from data_prep.errors import InputError
from dsi.generation import GenerativeMemory, MemoryOptions, train_memory
from dsi.index_folder import versions
from dsi.index_folder.stored_corpus import StoredCorpus
from dsi.updating.delete import delete_documents
from dsi.updating.options import UpdateOptions
from dsi.updating.update import update_index

UPDATE = UpdateOptions(strategy="generative", steps=2, generator="memory", per_doc=2)


@pytest.fixture(scope="session")
def writer(tmp_path_factory):
    documents = [Document(f"d{n}", "", f"The anchor {n} of the whale.") for n in range(50)]
    queries = [Query(f"q{n}", f"where is anchor {n}") for n in range(50)]
    qrels = [Qrel(f"q{n}", f"d{n}", 1, "train") for n in range(50)]
    options = MemoryOptions(width=64, vocabulary=100, steps=2, pairs=4, query_length=5)
    folder = tmp_path_factory.mktemp("writer") / "dataset"
    return train_memory(write_dataset(folder, InMemorySource(documents, queries, qrels)), options)


def test_it_writes_for_new_documents_and_goes_along(index, corpora, writer):
    first = small.without_checksums(versions.folder(index, "0001"))
    GenerativeMemory.open(writer).save(first / "memory")
    update_index(index, corpora["new"], UPDATE)
    second = versions.folder(index, "0002")
    asked = [row for row in StoredCorpus.open(second).pseudo_rows() if row[1] == "d35"]
    assert {origin for *_, origin in asked} == {"memory"}
    document = next(d for d in corpora["new"].documents() if d.doc_id == "d35")
    text = f"{document.title}\n{document.text}"
    kept = GenerativeMemory.open(second / "memory")
    assert [row[2] for row in asked] == kept.generate([text], per_doc=2, seed=0)[0]
    delete_documents(index, ["d1"])
    GenerativeMemory.open(versions.folder(index, "0003") / "memory")


def test_an_index_without_one_says_how_to_get_it(index, corpora):
    with pytest.raises(InputError, match="generative memory"):
        update_index(index, corpora["new"], UPDATE)
