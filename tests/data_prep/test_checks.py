"""Options that check themselves: every field of every dataclass of options, and the mechanism."""

from __future__ import annotations

import dataclasses
import math
import shlex
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dsi.commands.evaluate
import dsi.continual.options
import dsi.indexing.options
import dsi.serving.options
import dsi.updating.options  # noqa: F401  (every module that defines options)
from data_prep.checks import LARGEST, Options, check_value, refuse_unread, stored_options
from data_prep.errors import InputError, command_line, on_command_line
from data_prep.marks import (
    MAY_BE_EMPTY,
    AnyText,
    Count,
    Excludes,
    Names,
    Needs,
    NotNegative,
    Only,
    Open,
    Positive,
    PositiveShare,
    Range,
    Rate,
    Seed,
    Share,
    choices_of,
    hints_of,
    members,
)


@pytest.fixture(autouse=True)
def python():
    with on_command_line(False):
        yield


@dataclass(frozen=True)
class Paint(Options, group="paint"):
    color: Literal["red", "blue"] = "red"
    gloss: Annotated[float, Needs("color", ("blue",))] = 0.5


@dataclass(frozen=True)
class Wheel(Options, group="wheel", switch="spokes"):
    spokes: int = 0
    width: Positive = 1.0
    diameter: Annotated[float | None, Excludes("width", "say the same")] = None


@dataclass(frozen=True)
class Cart(Options):
    wheels: Annotated[Count, Only(lambda count: count % 2 == 0, "even")] = 2
    name: str = "cart"
    motto: AnyText = ""
    kind: Annotated[str, Names(lambda: ("hand", "ox"), {"dog": "hand"})] = "hand"
    paint: Paint = field(default_factory=Paint)
    wheel: Annotated[Wheel, Needs("paint.gloss", shown="gloss")] = field(default_factory=Wheel)

    def conflicts(self) -> None:
        if self.kind == "ox" and self.name == "cow":
            raise InputError("--name cow is no ox")


@pytest.mark.parametrize(
    ("kind", "good", "bad", "said"),
    [
        (Positive, (1e-9, 3.0), (0.0, -1.0), "is not above 0"),
        (NotNegative, (0.0, 3.0), (-1e-9,), "is negative"),
        (Count, (1, 3), (0, -1), "is less than 1"),
        (Rate, (0.0, 0.99), (-0.1, 1.0), "is not at least 0 and below 1"),
        (PositiveShare, (1e-9, 1.0), (0.0, 1.1), "is not above 0 and at most 1"),
        (Share, (0.0, 1.0), (-0.1, 1.1), "is not at least 0 and at most 1"),
        (Open, (0.1, 0.9), (0.0, 1.0), "is not above 0 and below 1"),
        (Seed, (0, 2**63 - 1), (-1, 2**63), "is not at least 0 and at most"),
    ],
)
def test_a_number_out_of_range_is_named_with_what_is_allowed(kind, good, bad, said):
    for value in good:
        check_value("--group.rate", value, kind)
        check_value("--group.rate", value, kind | None)
    check_value("--group.rate", None, kind | None)
    for value in bad:
        with pytest.raises(InputError) as caught:
            check_value("--group.rate", value, kind | None)
        assert str(caught.value).startswith(f"group.rate {value} {said}")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_number_is_infinite(value):
    with pytest.raises(InputError, match=rf"^rate {value} is not a finite number\.$"):
        check_value("--rate", value, float | None)


@pytest.mark.parametrize("count", [2**31, -(2**31), 10**20])
def test_whole_numbers_that_nothing_could_take_are_refused(count):
    check_value("--count", 2**31 - 1, int)
    with pytest.raises(
        InputError, match=rf"^count {count} is too large\. Give at most 2,147,483,647"
    ):
        check_value("--count", count, int)


def test_a_number_of_more_digits_than_python_prints_is_refused_too():
    with pytest.raises(InputError, match=r"^count a number of thousands of digits is too large"):
        check_value("--count", 10**5000, Count)


@pytest.mark.parametrize(
    ("value", "kind", "told"),
    [
        (True, int, "x is true, not a whole number."),
        (False, float | None, "x is false, not a number or null."),
        (1, bool, "x is 1, not true or false."),
        (2.0, int, "x is 2.0, not a whole number."),
        ("2", int, "x is '2', not a whole number."),
        (None, str, "x is null, not a text."),
        (7, str | None, "x is 7, not a text or null."),
        (7, Literal["a", "b"], "x is 7, not one of a, b."),
        ("ab", list[str], "x is 'ab', not a list."),
        (["a", 1], list[str], "x is ['a', 1], not a list."),
        ("", Path, "x is '', not a path."),
        ("", str | None, "x is empty. Give a value, or omit the option."),
        ("  ", str, "x is empty. Give a value, or omit the option."),
        ("c", Literal["a", "b"], "x 'c' is unknown. Choose from: a, b."),
    ],
)
def test_a_wrong_type_is_named_with_the_right_one(value, kind, told):
    with pytest.raises(InputError) as caught:
        check_value("--x", value, kind)
    assert str(caught.value) == told


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Cart(wheels=3), "wheels 3 is not even."),
        (lambda: Cart(kind="dog"), "kind dog is no longer supported. Use kind hand."),
        (lambda: Cart(kind="cat"), "kind 'cat' is unknown. Choose from: hand, ox."),
        (lambda: Cart(kind="ox", name="cow"), "name cow is no ox."),
        (
            lambda: Paint(gloss=0.75),
            "paint.gloss 0.75 has no effect while paint.color is red. Omit it, or give "
            "paint.color blue.",
        ),
        (
            lambda: Wheel(width=2.0),
            "wheel.width 2.0 has no effect while wheel.spokes is 0. Omit it, or give wheel.spokes.",
        ),
        (
            lambda: Wheel(3, 2.0, 4.0),
            "wheel.diameter 4.0 and wheel.width 2.0 say the same. Omit one of them.",
        ),
        (
            lambda: Cart(wheel=Wheel(4), paint=Paint("blue", 0.0)),
            "wheel.* has no effect without gloss. Omit it, or give gloss.",
        ),
    ],
)
def test_what_an_option_depends_on_is_declared_beside_it(make, told):
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value) == told


def test_options_that_fit_are_taken():
    Cart(4, "c", "", "ox", Paint("blue", 0.75), Wheel(3, 2.0))
    Cart(motto="anything")


def test_options_that_nothing_reads_are_refused_unless_they_are_stored():
    cart = Cart(wheels=4, paint=Paint("blue"))
    refuse_unread(cart, ["name"], "with oxen")
    with pytest.raises(InputError, match=r"^paint\.\* has no effect with oxen\. Omit paint"):
        refuse_unread(cart, ["paint", "name"], "with oxen", hint="Omit {name}")
    with stored_options():
        refuse_unread(cart, ["wheels"], "with oxen")
        Paint(gloss=0.75)
        with pytest.raises(InputError, match="wheels 3 is not even"):
            Cart(wheels=3)


def subclasses(base: type) -> set[type]:
    return {base}.union(*map(subclasses, base.__subclasses__()))


CLASSES = sorted(
    (
        kind
        for kind in subclasses(Options)
        if kind.__module__.startswith(("data_prep.", "docids.", "dsi."))
    ),
    key=lambda kind: kind.__qualname__,
)
CLASSES = [kind for kind in CLASSES if dataclasses.is_dataclass(kind)]


def inside(hint: Any) -> st.SearchStrategy[Any]:
    """Draws values that a type and its marks allow."""
    return st.one_of([_inside(kind, marks) for kind, marks in members(hint)])


def _inside(kind: Any, marks: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    bounds = next((mark for mark in marks if isinstance(mark, Range)), Range())
    only = [mark.test for mark in marks if isinstance(mark, Only)]
    if kind is int:
        least = -LARGEST if bounds.ge is None else int(bounds.ge)
        most = LARGEST if bounds.le is None else int(bounds.le)
        if only:
            return st.sampled_from(
                [n for n in range(least, min(most, 70_000)) if all(test(n) for test in only)]
            )
        return st.integers(least, most)
    if kind is float:
        return st.floats(
            bounds.gt if bounds.ge is None else bounds.ge,
            bounds.lt if bounds.le is None else bounds.le,
            exclude_min=bounds.gt is not None,
            exclude_max=bounds.lt is not None,
            allow_nan=False,
            allow_infinity=False,
        )
    if kind is str:
        choices = [name for mark in marks if isinstance(mark, Names) for name in mark.names()]
        texts = st.text(min_size=0 if MAY_BE_EMPTY in marks else 1)
        return (
            st.sampled_from(choices)
            if choices
            else texts.filter(lambda text: MAY_BE_EMPTY in marks or text.strip())
        )
    if typing.get_origin(kind) is Literal:
        return st.sampled_from(typing.get_args(kind))
    if kind in (bool, type(None)):
        return st.sampled_from([True, False] if kind is bool else [None])
    if kind is Path:
        return st.just(Path("file"))
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return st.builds(kind)
    items = st.integers() if int in typing.get_args(kind) else st.text(min_size=1)
    return st.lists(items, max_size=2)


def outside(hint: Any) -> list[Any]:
    """Returns values that a type and its marks refuse."""
    kinds = {kind for kind, _ in members(hint)}
    bad: list[Any] = [object(), math.nan, math.inf, 10**20]
    bad += [] if bool in kinds else [True]
    bad += [] if type(None) in kinds else [None]
    for kind, marks in members(hint):
        choices = choices_of(hint)
        bad += ["no such choice", ""] if choices else []
        bad += [""] if kind in (str, Path) and MAY_BE_EMPTY not in marks else []
        for bounds in (mark for mark in marks if isinstance(mark, Range)):
            bad += [] if bounds.ge is None else [kind(bounds.ge - 1)]
            bad += [] if bounds.gt is None else [kind(bounds.gt)]
            bad += [] if bounds.le is None else [kind(bounds.le + 1)]
            bad += [] if bounds.lt is None else [kind(bounds.lt)]
        if any(isinstance(mark, Only) for mark in marks):
            bad.append(3)
    if float in kinds:
        bad.remove(10**20)
    return bad


@pytest.mark.parametrize("kind", CLASSES)
def test_every_option_takes_what_its_type_allows_and_refuses_the_rest_by_name(kind, monkeypatch):
    hints, names = hints_of(kind), [entry.name for entry in dataclasses.fields(kind)]
    usual = kind(**({"strategies": ("append",)} if "strategies" in names else {}))
    # What a value may be is the concern of its type; what fits with others is tested elsewhere.
    monkeypatch.setattr(kind, "conflicts", lambda self: None)
    monkeypatch.setattr(kind, "_check_dependencies", lambda *_: None)

    @settings(max_examples=10, deadline=None, database=None)
    @given(st.fixed_dictionaries({name: inside(hints[name]) for name in names}))
    def taken(values):
        made = dataclasses.replace(usual, **values)
        assert all(getattr(made, name) == value for name, value in values.items())

    taken()
    for name in names:
        for value in outside(hints[name]):
            with pytest.raises(InputError) as caught:
                dataclasses.replace(usual, **{name: value})
            told = str(caught.value)
            assert told.split(" ")[0].rpartition(".")[2] == name, told
            assert "\n" not in told


def test_no_dataclass_of_options_checks_itself_by_hand():
    made = {kind for kind in CLASSES if "__post_init__" in vars(kind)} - {Options}
    assert not made
    assert len(CLASSES) > 40


def test_an_error_is_one_line_of_sentences():
    error = InputError("too odd.\n  Really", where=Path("a  b"), hint="Even it.")
    assert str(error) == "a  b: too odd. Really. Even it."


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"))))
def test_a_shell_reads_the_words_of_a_proposed_command(words):
    assert shlex.split(command_line(*words)) == ["dsi", *words]


def test_a_path_is_no_option_and_what_needs_no_quotes_has_none():
    assert command_line("train", Path("my data"), "--out", Path("-x")) == (
        "dsi train 'my data' --out ./-x"
    )


def test_long_values_are_shortened_in_messages():
    long = "x" * 60_000
    told = str(InputError(f"no document {long!r}", where=f"file {long}", hint="Check it"))
    assert told.startswith("file xxx")
    assert len(told) < 10_000
    quoted = str(InputError(f"no document {'a' * 300 + 'z' * 300!r}", hint="Check it"))
    assert quoted == f"no document '{'a' * 99}...{'z' * 99}'. Check it."
    assert str(InputError("no document 'short'")) == "no document 'short'."
