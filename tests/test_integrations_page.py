"""The integrations page: its code is executed verbatim, on the index of its first block."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "integrations.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)$(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))
PACKAGES = {
    "MTEB": "mteb",
    "PyTerrier": "pyterrier",
    "pandas": "pandas",
    "LangChain": "langchain_core",
    "LlamaIndex": "llama_index.core",
    "Haystack": "haystack",
}


def code(text: str) -> str:
    [block] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return block


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """The folder and the names that the first block leaves."""
    folder = tmp_path_factory.mktemp("page")
    names: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(code(PAGE.partition("\n## ")[0]), names)
    return folder, names


@pytest.mark.parametrize("section", PACKAGES)
def test_the_code_of_a_section_does_what_it_says(section, shared, monkeypatch, capsys):
    pytest.importorskip(PACKAGES[section])
    folder, names = shared
    monkeypatch.chdir(folder)
    block = code(SECTIONS[section])
    assert len(block.splitlines()) <= 12
    exec(block, dict(names))
    told = capsys.readouterr().out
    assert ("generative-index" if section == "MTEB" else "kettle") in told.lower()


def test_every_section_with_code_is_tested():
    with_code = {name for name, text in SECTIONS.items() if "```python" in text}
    assert with_code == set(PACKAGES)
