"""Registry entries that installed packages add through entry points."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.errors import InputError
from data_prep.registry import Registry

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
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


def test_the_kind_of_the_page_is_taken_by_the_command(tmp_path):
    code = next(iter(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)))
    code = code.split("KINDS.register")[0] + 'FIRST_WORDS = FirstWords("first-words")\n'
    (tmp_path / "my_kinds_of_a_test.py").write_text(code)
    metadata = tmp_path / "my_kinds-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-kinds\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[dsi.identifier_kinds]\nfirst-words = my_kinds_of_a_test:FIRST_WORDS\n"
    )
    (tmp_path / "docs.jsonl").write_text(
        '{"id": "a", "text": "one two three four"}\n{"id": "b", "text": "five six seven eight"}\n'
    )
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from dsi.cli import main\n"
        "assert main(['prepare', 'docs.jsonl', '--out', 'ds', '--quiet']) == 0\n"
        "assert main(['docids', 'ds', '--kind', 'first-words', '--out', 'ids', '--quiet']) == 0\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "first-words identifiers" in done.stdout
