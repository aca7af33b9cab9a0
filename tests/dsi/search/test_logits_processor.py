import os
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from search_oracles import (
    ALPHABET,
    prefix_fn,
    prefix_free,
    queries,
    table_of,
    tiny_model,
    torch_trie,
    with_end,
)
from transformers import LogitsProcessorList, PrefixConstrainedLogitsProcessor

from docids.table import END, DocidTable
from docids.trie import Trie
from dsi.search.logits_processor import TrieLogitsProcessor
from dsi.search.torch_trie import TorchTrie

cases = settings(
    max_examples=int(os.environ.get("DSI_SEARCH_CASES", "50")), deadline=None, derandomize=True
)
sets = st.sets(
    st.lists(st.integers(2, ALPHABET - 1), min_size=1, max_size=4).map(tuple),
    min_size=1,
    max_size=20,
)


@cases
@given(sets, st.integers(0, 6), st.integers(0, 10**6), st.data())
def test_allows_what_a_python_trie_allows(sequences, length, seed, data):
    docids = data.draw(st.sampled_from([with_end, prefix_free]))(sequences)
    # Rows that follow an identifier completely, or leave it at some position.
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, ALPHABET, (5, length + 1), generator=generator)
    for row in range(5):
        docid = data.draw(st.sampled_from(docids))
        kept = min(data.draw(st.integers(0, len(docid))), length)
        ids[row, 1 : kept + 1] = torch.tensor(docid[:kept])
    scores = torch.randn((5, ALPHABET), generator=generator)
    expected = PrefixConstrainedLogitsProcessor(prefix_fn(docids), num_beams=1)(ids, scores)
    found = TrieLogitsProcessor(torch_trie(table_of(docids)))(ids, scores)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("options", [{"num_beams": 3, "num_return_sequences": 3}, {}])
def test_generates_what_the_prefix_function_generates(options):
    docids = with_end({(2, 3), (2,), (3, 4, 5), (4,), (2, 3, 6), (5, 5), (5, 6, 7)})
    model, (ids, mask) = tiny_model("t5", 5), queries([3, 1, 4], 5)
    common = dict(attention_mask=mask, max_new_tokens=6, do_sample=False, **options)
    expected = model.generate(ids, prefix_allowed_tokens_fn=prefix_fn(docids), **common)
    processor = LogitsProcessorList([TrieLogitsProcessor(torch_trie(table_of(docids)))])
    assert torch.equal(model.generate(ids, logits_processor=processor, **common), expected)


def test_sampling_returns_documents_only():
    docids = [(2, 3), (2, 4, 5), (6,)]
    model, (ids, mask) = tiny_model("t5", 5), queries([3] * 20, 5)
    torch.manual_seed(0)
    processor = LogitsProcessorList([TrieLogitsProcessor(torch_trie(table_of(docids)))])
    drawn = model.generate(
        ids, attention_mask=mask, logits_processor=processor, do_sample=True, max_new_tokens=6
    )
    found = {tuple(code for code in line[1:] if code not in (0, END)) for line in drawn.tolist()}
    assert found <= set(docids)
    assert len(found) > 1


def test_holds_where_every_allowed_code_has_probability_zero():
    processor = TrieLogitsProcessor(torch_trie(table_of([(2, 3), (2, 4), (5,)])))
    scores = torch.full((1, ALPHABET), -torch.inf)
    allowed = processor(torch.tensor([[0, 2]]), scores)[0]
    assert torch.isfinite(allowed).nonzero().flatten().tolist() == [3, 4]


def test_the_example_of_the_docs_finds_its_identifiers():
    page = Path(__file__).parents[3] / "docs" / "logits-processor.md"
    [code] = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    names: dict = {}
    exec(code, names)
    found = [[t for t in line if t not in (0, 99)] for line in names["found"].tolist()]
    assert sorted(found) == sorted(names["tokens"])


def test_a_left_padded_prompt_stands_before_the_identifier():
    docids = [(2, 3), (2, 4, 5), (6,)]
    processor = TrieLogitsProcessor(torch_trie(table_of(docids)), prefix=3, end=7)
    scores = torch.zeros((3, ALPHABET))
    prompts = torch.tensor([[0, 2, 9], [8, 2, 4], [0, 0, 6]])
    first = processor(prompts, scores)
    assert [line.nonzero().flatten().tolist() for line in torch.isfinite(first)] == [[2, 6]] * 3
    ids = torch.cat([prompts, torch.tensor([[2], [6], [3]])], 1)
    second = torch.isfinite(processor(ids, scores))
    assert [line.nonzero().flatten().tolist() for line in second] == [[3, 4], [7], [7]]


def test_before_the_identifier_begins_every_code_is_left_as_it_is():
    names = [(5, 6), (9,)]
    table = DocidTable.from_sequences(["a", "b"], names, alphabet_size=10, kind="test")
    trie = TorchTrie.from_trie(Trie.build(table))
    processor = TrieLogitsProcessor(trie, prefix=2, end=2)
    scores = torch.arange(10.0).unsqueeze(0)
    # After the decoder start token, the model forces its own token, as BART-large does.
    assert torch.equal(processor(torch.tensor([[2]]), scores), scores)
    allowed = processor(torch.tensor([[2, 0]]), scores)
    assert allowed.isfinite().nonzero()[:, 1].tolist() == [5, 9]
