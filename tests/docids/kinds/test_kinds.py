"""Properties of every identifier kind."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import InputError
from docids.kind_options import KindOptions
from docids.kinds import KINDS, Documents, TreeOptions
from docids.table import END, FIRST_CODE

TEXT_KINDS = ("title", "url", "keywords", "description")
COLLISIONS = ("extend", "share")


def options_of(kind, **changes):
    """Small options of a kind, so that little data is much for it."""
    known = {
        "semantic": {"branching": 3, "leaf_capacity": 2, "iterations": 3},
        "random": {"branching": 3, "leaf_capacity": 2, "iterations": 3},
        "rq": {"levels": 2, "codebook": 4, "iterations": 3, "least_use": 0},
        "pq": {"levels": 2, "codebook": 4, "iterations": 3, "least_use": 0},
        "learned": {"levels": 2, "codebook": 4, "width": 8, "epochs": 1, "least_use": 0},
        "rqvae": {"levels": 2, "codebook": 4, "width": 4, "steps": 4, "batch": 8, "least_use": 0},
        "url": {"column": "title"},
    }
    return KINDS[kind].Options(**{**known.get(kind, {}), **changes})


VARIANTS = {
    "semantic": [{"codes": codes} for codes in ("shared", "level", "node")],
    "random": [{"codes": codes} for codes in ("shared", "level", "node")],
    **{
        kind: [{"collisions": how} for how in COLLISIONS]
        for kind in ("rq", "pq", "rqvae", "learned", *TEXT_KINDS)
    },
}
for _kind in TEXT_KINDS:
    VARIANTS[_kind] += [{"collisions": how, "identifiers": 3} for how in COLLISIONS]
VARIANTS["rq"].append({"balance": True})
VARIANTS["pq"].append({"rotation": "opq"})
OPTIONS = [
    (kind, options_of(kind, **changes)) for kind in KINDS for changes in VARIANTS.get(kind, [{}])
]
WORDS = ["cat", "dog", "sea", "cat dog", "dog cat", "sea sea", ""]


def documents_of(vectors, start=0):
    """Documents of 2-dimensional vectors; their titles, texts and queries follow from them."""
    vectors = np.asarray(vectors, np.float32).reshape(-1, 2)
    ids = [f"d{start + i}" for i in range(len(vectors))]
    titles = [WORDS[int(3 * abs(x) + 2 * abs(y)) % len(WORDS)] for x, y in vectors.tolist()]
    texts = [f"{title} {WORDS[i % 3]}" for i, title in enumerate(titles)]
    queries = [[f"{title} fish", title] for title in titles]

    def embed(these):
        if these is texts:
            return vectors
        return np.array([[len(text), text.count("cat")] for text in these], np.float32)

    return Documents(ids, texts, embed, titles, lambda generator: queries)


def sequences(table):
    """All identifiers of each row, end to end: tuples of tuples."""
    return [tuple(table.sequences(row)) for row in range(len(table))]


def clash(identifiers, shared):
    """Whether one is a prefix of another; equal ones are allowed where they are shared."""
    return any(
        a[: len(b)] == b and not (shared and a == b)
        for a, b in itertools.permutations(identifiers, 2)
    )


# Few distinct values, so that equal and zero vectors are common.
vectors = st.lists(
    st.tuples(st.sampled_from([-1.0, 0.0, 1.0]), st.sampled_from([0.0, 0.5, 1.0])), max_size=14
)


@pytest.mark.parametrize(("kind", "options"), OPTIONS)
@settings(max_examples=12)
@given(batches=st.lists(vectors, min_size=1, max_size=3), seed=st.integers(0, 3), data=st.data())
def test_extending_changes_nothing_and_gives_nothing_twice(kind, options, batches, seed, data):
    built = KINDS[kind].build(documents_of(batches[0]), options, seed)
    for batch in batches[1:]:
        before = sequences(built.table)
        if len(built.table.live):
            gone = data.draw(st.sets(st.sampled_from(built.table.live.tolist()), max_size=3))
            table = built.table.retire([built.table.doc_ids[row] for row in gone])
            built = type(built)(table, built.extras)
        start = len(built.table)
        built = KINDS[kind].extend(built, documents_of(batch, start), seed)
        assert sequences(built.table)[:start] == before
        assert list(built.table.doc_ids)[start:] == [f"d{start + i}" for i in range(len(batch))]
    ever = list(itertools.chain(*sequences(built.table)))
    assert len(built.table) == sum(map(len, batches))
    assert len(ever) == len(built.table) or getattr(options, "identifiers", 1) > 1
    assert not clash(ever, shared=getattr(options, "collisions", "extend") == "share")
    assert all(END <= code < built.table.alphabet_size for code in itertools.chain(*ever))


@pytest.mark.parametrize(("kind", "options"), OPTIONS)
def test_same_seed_same_identifiers(kind, options):
    documents = documents_of(np.random.default_rng(0).normal(size=(200, 2)))
    first, again = (KINDS[kind].build(documents, options, 5) for _ in range(2))
    assert sequences(first.table) == sequences(again.table)
    assert {k: v.tobytes() for k, v in first.extras.items()} == {
        k: v.tobytes() for k, v in again.extras.items()
    }
    more = documents_of(np.random.default_rng(1).normal(size=(50, 2)), 200)
    assert sequences(KINDS[kind].extend(first, more, 1).table) == sequences(
        KINDS[kind].extend(again, more, 1).table
    )


DRAWN = ("naive", "semantic", "random", "rq", "pq", "rqvae", "learned")


@pytest.mark.parametrize(("kind", "options"), [case for case in OPTIONS if case[0] in DRAWN])
def test_the_seed_is_obeyed(kind, options):
    documents = documents_of(np.random.default_rng(0).normal(size=(200, 2)))
    first, other = (KINDS[kind].build(documents, options, seed) for seed in (0, 1))
    assert sequences(first.table) != sequences(other.table)


@pytest.mark.parametrize(("kind", "options"), OPTIONS)
def test_the_table_says_how_it_was_made(kind, options):
    from dataclasses import asdict

    table = KINDS[kind].build(documents_of([(0, 1)]), options, 0).table
    assert (table.kind, table.options) == (kind, asdict(options))


RESERVING = [
    (kind, options)
    for kind, options in OPTIONS
    if KINDS[kind].uses_new_codes and getattr(options, "collisions", "extend") == "extend"
]


@pytest.mark.parametrize(("kind", "options"), RESERVING)
def test_a_reserve_changes_no_identifier_and_keeps_the_alphabet(kind, options):
    vectors = np.random.default_rng(0).normal(size=(20, 2))
    plain = KINDS[kind].build(documents_of(vectors), options, 0)
    reserving = type(plain)(plain.table.with_reserve(40), plain.extras)
    size = reserving.table.alphabet_size
    for start in range(20, 24):
        more = documents_of(np.repeat(vectors[:1], 2, axis=0) + start / 7, 2 * start)
        plain = KINDS[kind].extend(plain, more, 0)
        reserving = KINDS[kind].extend(reserving, more, 0)
    assert sequences(reserving.table) == sequences(plain.table)
    assert reserving.table.alphabet_size == size
    assert reserving.table.next_code == plain.table.alphabet_size


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("naive", {}, "--reserve 5 has no effect with the kind 'naive'.*choose from: atomic, "),
        ("rq", {"collisions": "share"}, "--reserve 5 has no effect if documents share"),
        ("atomic", {"reserve": -1}, "--reserve -1 is negative"),
    ],
)
def test_a_reserve_that_nothing_would_use_is_refused(kind, changes, message):
    with pytest.raises(InputError, match=message):
        KindOptions(**{"reserve": 5, **changes}).of_kind(kind)
    with pytest.raises(InputError, match="--reserve 5 has no effect with --docids FOLDER"):
        KindOptions(reserve=5).refuse_unused(None, "--docids FOLDER")


def test_atomic_numbers_the_documents():
    built = KINDS["atomic"].build(documents_of([(0, 0)] * 3), KINDS["atomic"].Options(), 0)
    assert sequences(built.table) == [((FIRST_CODE + i,),) for i in range(3)]
    assert built.table.alphabet_size == FIRST_CODE + 3
    later = KINDS["atomic"].extend(built, documents_of([(0, 0)], 3), 0).table
    assert later.sequence(3) == (FIRST_CODE + 3,)
    assert later.alphabet_size == FIRST_CODE + 4


def test_naive_spells_every_integer_once():
    built = KINDS["naive"].build(documents_of(np.zeros((120, 2))), KINDS["naive"].Options(), 0)
    built = KINDS["naive"].extend(built, documents_of(np.zeros((30, 2)), 120), 0)
    spelled = []
    for (identifier,) in sequences(built.table):
        assert identifier[-1] == END
        spelled.append("".join(str(code - FIRST_CODE) for code in identifier[:-1]))
    assert sorted(spelled[:120], key=int) == [str(i) for i in range(120)]
    assert sorted(spelled[120:], key=int) == [str(i) for i in range(120, 150)]
    assert spelled[:120] != sorted(spelled[:120], key=int)
    assert built.table.alphabet_size == FIRST_CODE + 10


@given(st.lists(st.integers(0, 10**17), max_size=20))
def test_spelling_agrees_with_str(numbers):
    from docids.kinds.naive import spell

    codes, offsets = spell(np.array(numbers, np.int64))
    words = np.split(codes, offsets[1:-1]) if numbers else []
    for number, word in zip(numbers, words, strict=True):
        assert word.tolist() == [FIRST_CODE + int(digit) for digit in str(number)] + [END]


def test_random_has_the_shape_of_semantic_and_none_of_its_meaning():
    documents = documents_of(np.random.default_rng(0).normal(size=(300, 2)))
    options = TreeOptions(branching=4, leaf_capacity=10, codes="shared")
    semantic, random = (KINDS[k].build(documents, options, 0).table for k in ("semantic", "random"))
    assert sorted(sequences(semantic)) == sorted(sequences(random))
    pairs = zip(sequences(semantic), sequences(random), strict=True)
    agree = sum(a[0] == b[0] for (a,), (b,) in pairs)
    assert agree < 150
