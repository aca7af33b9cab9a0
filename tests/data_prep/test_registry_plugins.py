"""Registry entries that installed packages add through entry points."""

from __future__ import annotations

import importlib
import sys

import pytest

from data_prep.errors import InputError
from data_prep.registry import Registry

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
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield tmp_path
    sys.modules.pop("plugin_of_a_test", None)


def test_names_are_listed_without_an_import_and_loaded_when_asked_for(installed):
    things = Registry("thing", group=GROUP)
    things.register("own")("my own")
    assert list(things) == ["gone", "lost", "own", "thing"]
    assert "thing" in things
    assert "other" not in things
    assert len(things) == 4
    assert not (installed / "imported").exists()
    assert things["thing"] == "a thing"
    assert (installed / "imported").exists()
    assert things["own"] == "my own"


def test_what_is_registered_here_comes_before_what_a_package_offers(installed):
    things = Registry("thing", group=GROUP)
    things.register("thing")("my own")
    assert things["thing"] == "my own"


@pytest.mark.parametrize("name", ["lost", "gone"])
def test_what_cannot_be_imported_is_told_with_its_place(name, installed):
    things = Registry("thing", group=GROUP)
    with pytest.raises(InputError, match=rf"cannot import the thing '{name}' from .*_module|_test"):
        things[name]


def test_a_registry_without_a_group_looks_nowhere(installed):
    assert list(Registry("thing")) == []
