"""Assignment of sequences, against the documented rules."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docids.kinds.naming import ExistingIdentifiers, Names
from docids.table import DocidTable

DIGITS = tuple(range(-1, -11, -1))
choices = st.lists(st.lists(st.integers(0, 2), max_size=2).map(tuple), max_size=4)


def test_the_next_choice_is_taken_then_a_number_is_added():
    names = Names("extend", DIGITS, 3)
    assert names.give([(1, 2), (3,)]) == [(1, 2)]
    assert names.give([(1, 2), (3,)]) == [(3,)]
    assert names.give([(1, 2), (3,)]) == [(1, 2, -3)]
    assert names.give([(1, 2), (3,)]) == [(1, 2, -4)]
    assert names.resolved == {"the next choice": 1, "a number was added": 2}


def test_a_number_leaves_the_length_as_it_may_be():
    names = Names("extend", DIGITS, 3)
    given = [names.give([(1, 2, 3)])[0] for _ in range(12)]
    assert given[0] == (1, 2, 3)
    assert given[1] == (1, 2, -3)
    assert given[9] == (1, -2, -1)  # 10 has two digits
    assert len(set(given)) == 12
    assert max(map(len, given)) == 3


def test_shared_choices_stay_with_the_first():
    names = Names("share", DIGITS, 3)
    assert [names.give([(1,), (2,)]) for _ in range(3)] == [[(1,)]] * 3
    assert names.give([(1,), (1,), (2,)], most=2) == [(1,), (2,)]
    assert names.give([]) == [()]


def test_a_thousand_equal_choices_are_told_apart_with_a_look_at_the_table_for_each():
    looked: list[tuple[int, ...]] = []
    names = Names("extend", DIGITS, 5, lambda sequence: bool(looked.append(sequence)))
    given = [names.give([(1, 2)])[0] for _ in range(1000)]
    assert len(set(given)) == 1000
    assert len(looked) == 1000


@given(st.lists(choices, max_size=8), st.integers(1, 3))
def test_extended_names_are_the_best_free_choices(documents, wanted):
    names = Names("extend", DIGITS, 4)
    taken = set()
    for several in documents:
        given = names.give(several, wanted)
        free = [c for c in dict.fromkeys(several) if c and c not in taken]
        if free:
            assert given == free[:wanted]
        else:
            assert len(given) == 1
            assert given[0][-1] in DIGITS
        assert not taken & set(given)
        taken |= set(given)


def test_what_a_table_ever_gave_is_not_given_again():
    table = DocidTable.from_sequences(
        ["a", "b"], [(2, 3), (4, 1)], alphabet_size=6, kind="test"
    ).retire(["a"])
    before = ExistingIdentifiers(table)
    assert [before(s) for s in [(2, 3), (4, 1), (4,), (2, 3, 1), (5,)]] == [True, True] + [
        False
    ] * 3
    names = Names("extend", DIGITS, 3, before)
    assert names.give([(2, 3), (5,)]) == [(5,)]


@pytest.mark.parametrize("length", [1, 2])
def test_all_sequences_of_a_table_are_known_to_it(length):
    sequences = list(itertools.product(range(2, 6), repeat=length))
    table = DocidTable.from_sequences(
        [str(i) for i in range(len(sequences))], sequences, alphabet_size=6, kind="test"
    )
    before = ExistingIdentifiers(table)
    assert all(before(sequence) for sequence in sequences)
    assert not any(before((*sequence, 2)) for sequence in sequences)
