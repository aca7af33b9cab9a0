"""The agent-memory example: its documented behavior, and its benchmark."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from dsi.index_folder import versions

FILE = Path(__file__).parents[2] / "examples" / "agent_memory.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("agent_memory", FILE)
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["agent_memory"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_it_remembers_merges_corrects_and_forgets(example, tmp_path):
    note = example.Note
    memory = example.AgentMemory(tmp_path / "memory")
    assert memory.recall("anything") == []
    memory.remember([note("a", "The cat is called Tom."), note("b", "The code of the safe is 17.")])
    places = memory.remember([note("c", "The cat is called Tom. He likes fish.")])
    assert places == {"c": "a"}
    assert len(memory) == 2
    assert memory.recall("What does the cat like, fish?", k=1) == [
        note("a", "The cat is called Tom. He likes fish.")
    ]
    memory.correct(note("a", "The cat is called Tim."))
    assert memory.recall("What is the cat called?", k=1)[0].text == "The cat is called Tim."
    memory.forget(["b"])
    assert [each.note_id for each in memory.recall("code of the safe")] == ["a"]
    assert len(versions.names(tmp_path / "memory")) == 1
    content = b"".join(
        file.read_bytes() for file in (tmp_path / "memory").rglob("*") if file.is_file()
    )
    assert b"The code of the safe is 17" not in content
    again = example.AgentMemory(tmp_path / "memory")
    assert again.recall("What is the cat called?", k=1)[0].text == "The cat is called Tim."


def test_its_benchmark(example, tmp_path):
    figures = example.benchmark(tmp_path / "memory")
    assert figures["turns"] == 35
    assert figures["merged"] == 1
    assert figures["notes"] == 35 - 1 - 2
    assert figures["questions"] == 23
    assert figures["Hits@3"] >= 0.9
    assert figures["Hits@1 by kind"]["corrected"] == 1.0
    assert figures["forgotten notes recalled"] == 0
