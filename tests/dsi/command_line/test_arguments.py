from __future__ import annotations

import gzip
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest

from data_prep.checks import Options, described
from data_prep.errors import InputError
from data_prep.standard_input import open_input
from dsi.command_line.arguments import SPREAD, Arguments


@dataclass(frozen=True)
class Shape:
    """The shape of a thing."""

    size: str = "tiny"
    """A named size."""
    width: int | None = None
    """Columns, in units."""
    rate: float = 1e-3
    """Steps per second."""

    def __post_init__(self) -> None:
        if self.width == 13:
            raise InputError("13 is too many", where="--shape.width", hint="Give fewer")


def build(
    source: Path,
    words: list[str],
    *,
    out: Path,
    shape: Shape = Shape(),
    kind: Literal["round", "flat"] = "round",
    per_doc: int = 3,
    flag: bool = False,
    decided: bool | None = None,
    names: list[str] | None = None,
) -> None:
    """Builds a thing.

    Args:
        source: What to build from.
        words: Words to put in.
        out: Where it goes.
        shape: Its shape.
        kind: Its kind.
        per_doc: How many per document.
        flag: Whether it has one.
        decided: Whether it has another; by default the thing says.
        names: Its names.
    """


def parse(*words: str) -> dict:
    return Arguments("build", build).parse(words).values


def refusal(*words: str) -> str:
    with pytest.raises(InputError) as caught:
        parse(*words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_positional_words_and_options_mix_in_any_order():
    expected = parse("here", "a", "b", "--out", "there", "--per_doc", "5")
    assert expected == parse("--out=there", "here", "a", "--per-doc=5", "b")
    assert expected["source"] == Path("here")
    assert expected["words"] == ["a", "b"]
    assert expected["out"] == Path("there")
    assert expected["per_doc"] == 5
    assert expected["shape"] == Shape()


def test_words_stay_the_texts_they_are():
    words = ["007", "null", "1e5", "[a", "true", ""]
    assert parse("123", "--out", "5", *words)["words"] == words
    assert parse("123", "--out", "5")["source"] == Path("123")
    assert parse("x", "--out", "5", "--", "-a", "--per_doc")["words"] == ["-a", "--per_doc"]


def test_a_list_positional_may_be_empty():
    assert parse("here", "--out", "there")["words"] == []


@pytest.mark.parametrize(
    ("words", "value"),
    [(["--flag"], True), (["--flag", "false"], False), (["--no-flag"], False), ([], False)],
)
def test_flags_need_no_value(words, value):
    assert parse("here", "--out", "there", *words)["flag"] is value


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--decided"], True),
        (["--decided", "false"], False),
        (["--no-decided"], False),
        (["--decided", "null"], None),
        ([], None),
    ],
)
def test_flags_that_are_decided_later_need_no_value_either(words, value):
    assert parse("here", "--out", "there", *words)["decided"] is value


def test_lists_are_given_with_commas_or_brackets():
    assert parse("x", "--out", "y", "--names", "a, b")["names"] == ["a", "b"]
    assert parse("x", "--out", "y", "--names", '["a,b"]')["names"] == ["a,b"]


def test_lists_in_a_file_may_be_texts_too(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("names: a, b\nwords: one, two\n")
    values = parse("x", "--out", "y", "--config", str(file))
    assert values["names"] == ["a", "b"]
    assert values["words"] == ["one, two"], "a positional word is one, on the command line as here"


def test_a_file_may_begin_with_a_mark_be_compressed_or_standard_input(tmp_path, monkeypatch):
    (tmp_path / "mark.yaml").write_bytes(b"\xef\xbb\xbfnames: a, b\n")
    (tmp_path / "c.yaml.gz").write_bytes(gzip.compress(b"names: a, b\n"))
    (tmp_path / "stdin").write_text("names: a, b\n")
    monkeypatch.setattr("data_prep.compression.open_input", _stdin_is(tmp_path / "stdin"))
    for file in (str(tmp_path / "mark.yaml"), str(tmp_path / "c.yaml.gz"), "-"):
        assert parse("x", "--out", "y", "--config", file)["names"] == ["a", "b"]


@pytest.mark.parametrize(
    ("words", "readers"),
    [
        (["-", "--out", "y", "--config", "-"], "--config and for SOURCE"),
        (["x", "--out", "y", "--config", "-", "--config", "-"], "--config and for --config"),
        (["-", "--out", "y", "--shape.size", "-"], "--shape.size and for SOURCE"),
    ],
)
def test_standard_input_is_not_read_for_two_arguments(words, readers):
    with pytest.raises(InputError, match=rf"standard input \(-\) is given twice, for {readers}"):
        parse(*words)


def test_a_dash_among_words_or_for_a_file_to_write_is_no_standard_input(tmp_path, monkeypatch):
    assert parse("-", "-", "--out", "-")["words"] == ["-"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-").write_text("names: a\n")
    assert parse("-", "--out", "y", "--config", "-")["names"] == ["a"]


def _stdin_is(file):
    return lambda path, buffer: open_input(file if str(path) == "-" else path, buffer)


def test_dataclasses_are_groups():
    shape = parse("x", "--out", "y", "--shape.width", "4", "--shape.rate", "1e-4")["shape"]
    assert shape == Shape(width=4, rate=1e-4)
    assert parse("x", "--out", "y", "--shape.width=null")["shape"].width is None


def test_a_file_gives_values_and_words_override_them_wherever_they_stand(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("source: here\nout: there\nper-doc: 7\nshape:\n  width: 4\n  rate: 1e-2\n")
    assert parse("--config", str(file)) == parse(
        "here", "--out", "there", "--per-doc=7", "--shape.width=4", "--shape.rate=1e-2"
    )
    before = parse("--shape.width", "9", "elsewhere", "--config", str(file))
    assert before == parse("--config", str(file), "elsewhere", "--shape.width", "9")
    assert before["shape"] == Shape(width=9, rate=1e-2)
    assert before["source"] == Path("elsewhere")


def test_the_later_file_wins(tmp_path):
    one, two = tmp_path / "1.yaml", tmp_path / "2.yaml"
    one.write_text("out: one\nper_doc: 1\n")
    two.write_text("out: two\n")
    values = parse("x", "--config", str(one), "--config", str(two))
    assert (values["out"], values["per_doc"]) == (Path("two"), 1)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("shape:\n  widht: 4\n", ["unknown key 'shape.widht'", "Did you mean shape.width"]),
        ("bogus: 4\n", ["unknown key 'bogus'"]),
        ("shape:\n  width: x\n", ["shape.width: 'x' is not a whole number or null"]),
        ("out: [a\n", ["not valid YAML at line 2"]),
        ("- a\n", ["not a list"]),
        (f"per_doc: {'9' * 5000}\n", ["not a valid YAML value (Exceeds the limit"]),
        ("out: !!timestamp x\n", ["not a valid YAML value ("]),
        ("out: 2001-99-99\n", ["not a valid YAML value (month must be in"]),
        ("out: " + "[" * 5000, ["not a valid YAML value (maximum recursion"]),
        ("? [a]\n: b\n", ["not valid YAML at line 1"]),
        ("color: red\ncolor: blue\n", ["not valid YAML at line 2 (the key 'color' appears twice"]),
        ("shape: {width: 1, width: 2}\n", ["the key 'width' appears twice"]),
        ("shape: {width: 1}\nshape.width: 2\n", ["the key 'shape.width' appears twice"]),
    ],
)
def test_a_bad_file_is_told_with_its_name_and_key(tmp_path, content, parts):
    file = tmp_path / "bad.yaml"
    file.write_text(content)
    line = refusal("x", "--out", "y", "--config", str(file))
    assert line.startswith(str(file))
    for part in parts:
        assert part in line


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    assert "No such file" in refusal("x", "--config", str(tmp_path / "none.yaml"))
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe")
    assert "not valid UTF-8" in refusal("x", "--config", str(tmp_path / "bytes.yaml"))


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["x", "--out", "y", "--per_dok", "3"], "Did you mean --per_doc?"),
        (["x", "--out", "y", "--width", "3"], "Did you mean --shape.width?"),
        (["x", "--out", "y", "--max_width", "3"], "Did you mean --shape.width?"),
        (["x", "--out", "y", "--steps_per_second", "3"], "Did you mean --shape.rate?"),
        (
            ["x", "--out", "y", "--shape", "3"],
            "Did you mean --shape.size, --shape.width or --shape.rate? Or see dsi build --help",
        ),
        (["x", "--out", "y", "--shapeless", "3"], "unknown option --shapeless. See dsi build"),
        (["x", "--out", "y", "--per_doc", "z"], "--per_doc: 'z' is not a whole number"),
        (["x", "--out", "y", "--kind", "z"], "--kind: 'z' is not one of round, flat"),
        (["x", "--out", "y", "--per_doc"], "--per_doc needs a value"),
        (["x", "--out", "--flag"], "--out needs a value"),
        (["x"], "--out is missing. Usage: dsi build SOURCE [WORDS ...] --out OUT"),
        (["--out", "y"], "SOURCE is missing"),
        (["x", "--out", "\udcff"], "is not valid UTF-8"),
        (["x", "--out", "y", "--shape.width", "13"], "13 is too many"),
    ],
)
def test_wrong_words_are_told_in_one_line(words, part):
    assert part in refusal(*words)


def test_one_word_too_many_is_told():
    def single(source: Path) -> None:
        """Takes one.

        Args:
            source: The one.
        """

    with pytest.raises(InputError, match="unexpected argument 'b'"):
        Arguments("single", single).parse(["a", "b"])


def test_switches_of_every_command_are_not_handed_to_the_function():
    call = Arguments("build", build).parse(["x", "--out", "y", "--json", "--quiet", "--debug"])
    assert (call.json, call.debug) == (True, True)
    assert set(call.values) == {
        "source", "words", "out", "shape", "kind", "per_doc", "flag", "decided", "names",
    }  # fmt: skip


def test_help_is_the_docstring_and_the_strings_under_the_fields(capsys):
    with pytest.raises(SystemExit):
        Arguments("build", build).parse(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for part in (
        "usage: dsi build SOURCE [WORDS ...] --out OUT [options]",
        "Builds a thing.",
        "How many per document. (type: int, default: 3)",
        "--shape.width WIDTH Columns, in units.",
        "--config FILE.yaml",
    ):
        assert part in text


def test_types_in_words():
    assert described(int | None) == "a whole number or null"
    assert described(list[str]) == "a list"
    assert described(Literal["a", "b"]) == "one of a, b"


@dataclass(frozen=True)
class Shared:
    """What several commands take.

    Attributes:
        shape: The shape of what is shared.
        color: Its color.
    """

    shape: Shape = Shape()
    color: str | None = None


def paint(source: Path, *, shared: Annotated[Shared, SPREAD] = Shared(), coats: int = 1) -> None:
    """Paints a thing.

    Args:
        source: What to paint.
        shared: What other commands take too.
        coats: How often.
    """


def test_the_fields_of_a_spread_dataclass_stand_beside_the_other_options(tmp_path, capsys):
    Arguments("paint", paint)  # it leaves the results of others unchanged
    painting = Arguments("paint", paint)
    assert painting.parse(["x"]).values == {"source": Path("x"), "shared": Shared(), "coats": 1}
    words = ["x", "--shape.size", "big", "--color", "red", "--coats", "2"]
    wanted = Shared(Shape(size="big"), "red")
    assert painting.parse(words).values == {"source": Path("x"), "shared": wanted, "coats": 2}
    (tmp_path / "c.yaml").write_text("color: blue\nshape: {width: 3}\n")
    found = painting.parse(["x", "--config", str(tmp_path / "c.yaml"), "--shape.size", "s"]).values
    assert found["shared"] == Shared(Shape(size="s", width=3), "blue")
    for words, told in (
        (["--colors", "red"], "Did you mean --color?"),
        (["--shared.color", "red"], "unknown option --shared.color"),
        (["--shape.width", "wide"], "--shape.width: 'wide' is not a whole number or null"),
        (["--shape.width", "13"], "13 is too many"),
    ):
        with pytest.raises(InputError, match=re.escape(told)):
            painting.parse(["x", *words])
    with pytest.raises(SystemExit):
        painting.parse(["--help"])
    shown = capsys.readouterr().out
    assert "The shape of what is shared" in shown
    assert "Its color" in shown
    assert "What other commands take too" not in shown


@dataclass(frozen=True)
class Optimizer:
    """Options of the optimizer."""

    lr: float = 1.0
    """Rate."""
    backbone_lr_scale: float = 1.0
    """Scale."""


@dataclass(frozen=True)
class Sam:
    """Perturbation."""

    weights: Literal["all", "backbone"] = "all"
    """Which."""


def test_options_are_taken_by_their_former_names_too(tmp_path):
    def train(*, optimizer: Optimizer = Optimizer(), sam: Sam = Sam()) -> None:
        """Trains.

        Args:
            optimizer: How.
            sam: How flat.
        """

    arguments = Arguments("train", train)
    file = tmp_path / "old.yaml"
    file.write_text("optimiser:\n  lr: 0.5\n  body: 0.25\nsam:\n  weights: body\n")
    found = arguments.parse(["--config", str(file), "--optimiser.lr", "2"]).values
    assert found == {"optimizer": Optimizer(2.0, 0.25), "sam": Sam("backbone")}
    assert arguments.parse(["--sam.weights=body"]).values["sam"] == Sam("backbone")


@dataclass(frozen=True)
class Hops(Options, group="hops", switch="count"):
    count: int = 0
    beams: int = 3


def test_the_name_of_a_group_sets_its_switch(tmp_path):
    def search(*, hops: Hops = Hops()) -> None:
        """Searches."""

    arguments = Arguments("search", search)
    assert arguments.parse(["--hops", "2"]).values["hops"] == Hops(2)
    assert arguments.parse(["--hops=2", "--hops.beams", "5"]).values["hops"] == Hops(2, 5)
    file = tmp_path / "options.yaml"
    file.write_text("hops: 4\n")
    assert arguments.parse(["--config", str(file)]).values["hops"] == Hops(4)
    file.write_text("hops:\n  count: 4\n  beams: 5\n")
    assert arguments.parse(["--config", str(file)]).values["hops"] == Hops(4, 5)
    with pytest.raises(InputError, match="'two' is not a whole number"):
        arguments.parse(["--hops", "two"])
