"""The index as a LangChain, LlamaIndex and Haystack retriever, with the real packages."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from data_prep.errors import InputError
from dsi.search.options import SearchOptions
from dsi.search.reordering import at_both_ends

QUERY = "what boils water"


@pytest.fixture(scope="module")
def expected(small_index):
    """Doc id, text and score of the four best, the best first."""
    return [
        (hit.doc_id, hit.text, hit.score) for hit in small_index.search(QUERY, 4, with_text=True)
    ]


def test_langchain(small_folder, small_index, expected):
    pytest.importorskip("langchain_core")
    from langchain_core.runnables import RunnableLambda

    from dsi.integrations.langchain import IndexRetriever

    retriever = IndexRetriever(index=small_folder, k=4)
    found = retriever.invoke(QUERY)
    shown = [(each.id, each.page_content, each.metadata["score"]) for each in found]
    assert [one[:2] for one in shown] == [one[:2] for one in expected]
    assert [one[2] for one in shown] == pytest.approx([one[2] for one in expected])
    assert found[0].metadata["title"] == "Kettles"
    assert [each.metadata["rank"] for each in found] == [1, 2, 3, 4]
    chain = retriever | RunnableLambda(lambda documents: documents[0].page_content)
    assert chain.batch([QUERY, "yeast"]) == [expected[0][1], "Bread rises when yeast is warm."]
    assert asyncio.run(retriever.ainvoke("yeast"))[0].id == "bread"
    reordered = IndexRetriever(index=small_index, k=4, reorder=True).invoke(QUERY)
    assert [each.id for each in reordered] == at_both_ends([one[0] for one in expected])
    assert [each.metadata["rank"] for each in reordered] == [1, 3, 4, 2]
    only = IndexRetriever(index=small_index, options=SearchOptions(only=["pen", "ink"]))
    assert {each.id for each in only.invoke(QUERY)} == {"pen", "ink"}
    with pytest.raises(InputError, match="empty"):
        retriever.invoke(" ")


def test_llama_index(small_folder, small_index, expected, monkeypatch):
    pytest.importorskip("llama_index.core")
    from llama_index.core import Settings
    from llama_index.core.llms import MockLLM
    from llama_index.core.query_engine import RetrieverQueryEngine
    from llama_index.core.response_synthesizers import ResponseMode, get_response_synthesizer
    from llama_index.core.schema import MetadataMode

    from dsi.integrations.llama_index import IndexRetriever

    retriever = IndexRetriever(small_folder, k=4)
    found = retriever.retrieve(QUERY)
    assert [(each.node.node_id, each.node.text) for each in found] == [e[:2] for e in expected]
    assert [each.score for each in found] == pytest.approx([one[2] for one in expected])
    prompt = found[0].node.get_content(metadata_mode=MetadataMode.LLM)
    assert "Kettles" in prompt
    assert "score" not in prompt
    assert asyncio.run(retriever.aretrieve("yeast"))[0].node.node_id == "bread"
    monkeypatch.setattr(Settings, "_llm", MockLLM())  # never called; the default is OpenAI's
    engine = RetrieverQueryEngine(
        IndexRetriever(small_index, k=4, reorder=True),
        get_response_synthesizer(response_mode=ResponseMode.NO_TEXT),
    )
    read = [each.node.node_id for each in engine.query(QUERY).source_nodes]
    assert read == at_both_ends([one[0] for one in expected])


def test_haystack(small_folder, small_index, expected):
    pytest.importorskip("haystack")
    from haystack import Pipeline
    from haystack.components.builders import PromptBuilder

    from dsi.integrations.haystack import IndexRetriever

    found = IndexRetriever(small_index, top_k=4).run(query=QUERY)["documents"]
    assert [(each.id, each.content) for each in found] == [one[:2] for one in expected]
    assert [each.score for each in found] == pytest.approx([one[2] for one in expected])
    assert found[0].meta["title"] == "Kettles"
    assert len(IndexRetriever(small_index).run(query=QUERY, top_k=1)["documents"]) == 1
    pipeline = Pipeline()
    pipeline.add_component("retriever", IndexRetriever(small_folder, top_k=4, reorder=True))
    template = "{% for d in documents %}{{ d.content }}|{% endfor %}{{ query }}"
    pipeline.add_component("prompt", PromptBuilder(template, required_variables="*"))
    pipeline.connect("retriever.documents", "prompt.documents")
    again = Pipeline.loads(pipeline.dumps(), allowed_modules=["dsi.integrations.haystack"])
    asked = {"retriever": {"query": QUERY}, "prompt": {"query": QUERY}}
    for one in (pipeline, again):
        prompt = one.run(asked)["prompt"]["prompt"]
        assert prompt.split("|") == [*at_both_ends([each[1] for each in expected]), QUERY]
    with pytest.raises(InputError, match="filters"):
        IndexRetriever(small_index).run(query=QUERY, filters={"field": "meta.x"})
    with pytest.raises(InputError, match="open index"):
        IndexRetriever(small_index).to_dict()


@pytest.mark.parametrize(
    ("module", "package", "blocked"),
    [
        ("langchain", "langchain-core", "langchain_core"),
        ("llama_index", "llama-index-core", "llama_index"),
        ("haystack", "haystack-ai", "haystack"),
        ("mteb", "mteb", "mteb"),
        ("pyterrier", "pyterrier", "pyterrier"),
    ],
)
def test_a_missing_package_is_told_with_what_to_install(module, package, blocked):
    script = f"""
import sys
sys.modules[{blocked!r}] = None
from data_prep.errors import InputError
try:
    import dsi.integrations.{module}
except InputError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert f"requires the package {package}" in done.stdout, done.stderr
    assert f"pip install 'dsi-toolkit[{module.replace('_', '-')}]'" in done.stdout
