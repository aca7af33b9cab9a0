"""Registry entries that installed packages add through entry points."""

from __future__ import annotations

import importlib
import sys

import pytest

from data_prep.errors import InputError
from data_prep.registry import Registry, foreign_entry

GROUP = "dsi.things_of_a_test"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Puts a distribution on the path: a module, and metadata that names its objects."""
    (tmp_path / "plugin_of_a_test.py").write_text(
        "from pathlib import Path\n"
        "Path(__file__).with_name('imported').touch()\n"
        "THING = 'a thing'\n"
    )
    metadata = tmp_path / "plugin_of_a_test-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: of-a-test\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(
        f"[{GROUP}]\n"
        "thing = plugin_of_a_test:THING\n"
        "lost = plugin_of_a_test:NOTHING\n"
        "gone = no_such_module_at_all:THING\n"
        "fails = plugin_that_fails:THING\n"
        "leaves = plugin_that_leaves:THING\n"
    )
    (tmp_path / "plugin_that_fails.py").write_text("raise RuntimeError('one\\ntwo')\n")
    (tmp_path / "plugin_that_leaves.py").write_text("raise SystemExit(7)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield tmp_path
    sys.modules.pop("plugin_of_a_test", None)


def test_names_are_listed_without_an_import_and_loaded_when_asked_for(installed):
    things = Registry("thing", group=GROUP)
    things.register("own")("my own")
    assert list(things) == ["fails", "gone", "leaves", "lost", "own", "thing"]
    assert "thing" in things
    assert "other" not in things
    assert len(things) == 6
    assert not (installed / "imported").exists()
    assert things["thing"] == "a thing"
    assert (installed / "imported").exists()
    assert things["own"] == "my own"


def test_what_is_registered_here_comes_before_what_a_package_offers(installed):
    things = Registry("thing", group=GROUP)
    things.register("thing")("my own")
    assert things["thing"] == "my own"


def test_a_package_that_offers_a_name_of_ours_is_told_of_once(installed, capsys):
    things = Registry("thing", group=GROUP)
    things.register("thing")("my own")
    assert list(things) == list(things)
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("dsi: the thing 'thing' of plugin_of_a_test:THING is ignored")


@pytest.mark.parametrize("name", ["lost", "gone", "fails", "leaves"])
def test_what_cannot_be_imported_is_told_with_its_place(name, installed):
    things = Registry("thing", group=GROUP)
    with pytest.raises(
        InputError, match=rf"cannot import the thing '{name}' from .*_module|_test|plugin_that"
    ) as told:
        things[name]
    assert "\n" not in str(told.value)


def test_what_is_offered_twice_is_not_chosen_by_chance(installed):
    other = installed / "another_of_a_test-1.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: another\nVersion: 1\n")
    (other / "entry_points.txt").write_text(f"[{GROUP}]\nthing = somewhere.else:THING\n")
    importlib.invalidate_caches()
    with pytest.raises(InputError, match="is also offered by"):
        Registry("thing", group=GROUP)["thing"]


def test_what_is_wrong_with_an_entry_is_told_and_the_others_stay_usable(installed):
    wrong = "it is not mine"
    things = Registry("thing", group=GROUP, fault=lambda name, entry: wrong)
    things.register("own")("my own")
    with pytest.raises(InputError, match=r"cannot use the thing 'thing' .*: it is not mine"):
        things["thing"]
    assert things.usable() == {"own": "my own"}
    assert Registry("thing", group=GROUP).usable() == {"thing": "a thing"}


def test_a_registry_without_a_group_looks_nowhere(installed):
    assert list(Registry("thing")) == []


def caught(call) -> Exception:
    with pytest.raises(ZeroDivisionError) as raised:
        call()
    return raised.value


def test_an_error_is_of_the_entry_of_another_package_whose_code_it_passed_through():
    things = Registry("thing")
    package: dict[str, object] = {"__name__": "package_of_a_test.things"}
    exec(
        "class Thing:\n"
        "    def fails(self, call=lambda: 1 / 0):\n        return call()\n"
        "    def yields(self):\n        yield 1 / 0\n"
        "class Other(Thing):\n    pass\n"
        "def function():\n    return 1 / 0\n",
        package,
    )
    thing, other = things.register("thing")(package["Thing"]()), package["Other"]
    things.register("other")(other)
    ours = type("Ours", (), {"__module__": "docids.kinds.of_a_test"})
    things.register("ours")(ours)
    told = "the thing 'thing' (Thing of module package_of_a_test.things)"
    assert foreign_entry(caught(thing.fails)) == told
    assert foreign_entry(caught(lambda: list(thing.yields()))) == told
    assert foreign_entry(caught(lambda: thing.fails(lambda: 1 // 0))) == told
    assert foreign_entry(caught(other().fails)) == told.replace("thing'", "other'").replace(
        "Thing", "Other"
    )
    assert "package_of_a_test" in foreign_entry(caught(package["function"]))
    assert foreign_entry(caught(lambda: 1 / 0)) is None
    assert list(things.from_elsewhere()) == ["thing", "other"]
