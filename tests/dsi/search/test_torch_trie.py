import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from search_oracles import children_of, prefix_free, table_of, torch_trie

from docids.trie import Trie

identifiers = st.sets(st.lists(st.integers(2, 6), min_size=1, max_size=4).map(tuple), min_size=1)


def prefixes(sequences):
    return sorted({s[:place] for s in sequences for place in range(len(s) + 1)})


@settings(deadline=None)
@given(identifiers.map(prefix_free))
def test_every_node_knows_the_lowest_row_below_it(sequences):
    table = table_of(sequences)
    trie, plain = torch_trie(table), Trie.build(table)
    for prefix in prefixes(sequences):
        below = [row for row, s in enumerate(sequences) if s[: len(prefix)] == prefix]
        assert trie.lowest_row[plain.walk(prefix)] == min(below)


@settings(deadline=None)
@given(identifiers.map(prefix_free))
def test_counts_by_level_are_those_of_the_prefixes(sequences):
    trie = torch_trie(table_of(sequences))
    assert trie.documents == len(sequences)
    assert trie.depth == max(map(len, sequences))
    for level in range(trie.depth + 1):
        at_level = {prefix for prefix in prefixes(sequences) if len(prefix) == level}
        assert trie.leaves[level] == len(at_level & set(sequences))
        assert trie.inner[level] == len(at_level - set(sequences))


@settings(deadline=None)
@given(identifiers.map(prefix_free), st.lists(st.integers(0, 8), min_size=1, max_size=5))
def test_steps_walk_as_the_plain_trie_does(sequences, walk):
    table = table_of(sequences)
    trie, plain = torch_trie(table), Trie.build(table)
    most = max(trie.branching)
    node = torch.zeros(1, dtype=torch.int64)
    for place, code in enumerate(walk):
        node = trie.step(node, torch.tensor([code]), most)
        assert node.item() == plain.walk(walk[: place + 1])


def test_children_are_padded_with_nodes_that_do_not_exist():
    trie = torch_trie(table_of([(2, 3), (2, 4), (2, 5), (3, 2)]))
    children, exist = trie.children(torch.tensor([1, 2]), 3)
    assert trie.code[children][0].tolist() == [3, 4, 5]
    assert exist.tolist() == [[True, True, True], [True, False, False]]


def test_continuations_are_the_children_with_their_codes():
    trie = torch_trie(table_of([(2, 3), (2, 4), (2, 5), (3, 2)]))
    nodes, codes, exist = trie.continuations(torch.tensor([[1, 2]]), 3)
    assert exist.tolist() == [[[True, True, True], [True, False, False]]]
    assert codes[exist].tolist() == [3, 4, 5, 2]
    assert nodes[exist].tolist() == [3, 4, 5, 6]


def test_a_retired_document_is_not_in_the_trie():
    trie = torch_trie(table_of([(2, 3), (2, 4), (3, 2)]).retire(["d0"]))
    assert trie.documents == 2
    assert sorted(row for row in trie.row.tolist() if row >= 0) == [1, 2]


@settings(deadline=None)
@given(identifiers.map(prefix_free))
def test_a_tail_is_what_is_left_where_nothing_branches(docids):
    children = children_of(docids)
    trie, plain = torch_trie(table_of(docids)), Trie.build(table_of(docids))
    chains = [0] * (trie.depth + 1)
    for prefix in prefixes(docids):
        left, at = 0, prefix
        while len(children.get(at, ())) == 1:
            left, at = left + 1, (*at, *children[at])
        expected = 0 if at in children else left
        assert trie.tail[plain.walk(prefix)] == expected
        chains[len(prefix)] += expected > 0
    assert list(trie.chains) == chains
