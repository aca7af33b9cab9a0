"""A memory for an agent: it remembers, merges, forgets and recalls, in one generative index.

    python examples/agent_memory.py [--work FOLDER] [--json]

runs the small benchmark on the conversation beside this file: nine sessions of two friends over a
year, as in LoCoMo (Maharana et al., "Evaluating Very Long-Term Conversational Memory of LLM
Agents", ACL 2024), with questions whose answers lie in single turns, in turns that were corrected
later, and in turns that were to be forgotten.

What a memory needs of an index: one that grows while it is used (`dsi.update`), that replaces what
is outdated (an update with the same id), that forgets for good (`dsi.delete`, and the versions that
still knew it: `prune_versions`), and that answers (`search`).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dsi
from data_prep.text_processing import sentences, stopwords, words
from dsi.updating.prune import prune_versions

CONVERSATION = Path(__file__).with_name("agent_memory_conversation.json")


@dataclass(frozen=True)
class Note:
    """Something to remember.

    Args:
        note_id: Its id; a note of the same id replaces it.
        text: What is remembered, with who said it and when where that matters.
    """

    note_id: str
    text: str


class AgentMemory:
    """Notes in an index on the disk; every change is a new version, which is live at once.

    Args:
        folder: The folder of the index; a memory that is there already is continued.
        alike: Notes that share at least this part of their words are merged into one.
    """

    def __init__(self, folder: str | Path, alike: float = 0.4) -> None:
        self.folder = Path(folder)
        self.alike = alike
        self.index: dsi.Index | None = None
        if (self.folder / "live").is_file():
            self.index = dsi.Index.open(self.folder)

    def __len__(self) -> int:
        return 0 if self.index is None else len(self.index)

    def remember(self, notes: Sequence[Note]) -> dict[str, str]:
        """Adds notes, and merges those that say nearly the same as one that is there.

        Args:
            notes: The notes; several at once cost as much as one.

        Returns:
            Id of each note -> the id under which it is remembered now.
        """
        kept: dict[str, Note] = {}
        places: dict[str, str] = {}
        for note, there in zip(notes, self._nearest(notes), strict=True):
            twin = self._twin(note, [*there, *kept.values()])
            if twin is None:
                kept[note.note_id] = note
                places[note.note_id] = note.note_id
            else:
                kept[twin.note_id] = Note(twin.note_id, _merged(twin.text, note.text))
                places[note.note_id] = twin.note_id
        documents = [{"id": note.note_id, "text": note.text} for note in kept.values()]
        if self.index is None:
            self.index = dsi.build(documents, self.folder)
        else:
            self.index = dsi.update(self.folder, documents)
        return places

    def correct(self, note: Note) -> None:
        """Replaces what is remembered under the id of a note."""
        self.index = dsi.update(self.folder, [{"id": note.note_id, "text": note.text}])

    def forget(self, note_ids: Sequence[str]) -> None:
        """Deletes notes, and the versions of the index that still have their texts."""
        self.index = dsi.delete(self.folder, list(note_ids), audit=False)
        prune_versions(self.folder, keep=1)

    def recall(self, question: str, k: int = 3) -> list[Note]:
        """Returns the notes that answer a question, the best first."""
        if self.index is None:
            return []
        hits = self.index.search(question, k=k, with_text=True)
        return [Note(hit.doc_id, hit.text or "") for hit in hits]

    def _nearest(self, notes: Sequence[Note]) -> list[list[Note]]:
        """Returns for each note the notes of the index that are nearest to it."""
        if self.index is None:
            return [[] for _ in notes]
        found = self.index.search([note.text for note in notes], k=3, with_text=True)
        return [[Note(hit.doc_id, hit.text or "") for hit in hits] for hits in found]

    def _twin(self, note: Note, candidates: Sequence[Note]) -> Note | None:
        """Returns the candidate that says nearly the same, if there is one."""
        others = {one.note_id: one for one in candidates}  # a later one is newer
        others.pop(note.note_id, None)  # it is replaced, not merged
        shares = {one: _shared(note.text, other.text) for one, other in others.items()}
        best = max(shares, key=lambda one: shares[one], default=None)
        return None if best is None or shares[best] < self.alike else others[best]


def _words(text: str) -> set[str]:
    return set(words(text)) - stopwords()


def _shared(one: str, other: str) -> float:
    """Returns the part of the words of two texts that both have (Jaccard)."""
    first, second = _words(one), _words(other)
    return len(first & second) / max(1, len(first | second))


def _merged(old: str, new: str) -> str:
    """Returns both texts in one: the sentences of the new one that bring new words are added."""
    return " ".join([old, *(one for one in sentences(new) if not _words(one) <= _words(old))])


def benchmark(folder: Path, conversation: Path = CONVERSATION) -> dict[str, Any]:
    """Plays a conversation to a memory, and asks it.

    Args:
        folder: Where to keep the memory.
        conversation: A JSON file: sessions of turns, corrections, ids to forget, and questions
            with the ids of the turns that answer them.

    Returns:
        Counts and shares of questions, by kind of question, and seconds.
    """
    story = json.loads(conversation.read_text(encoding="utf-8"))
    memory = AgentMemory(folder)
    places: dict[str, str] = {}
    seconds = {"remember": 0.0, "correct": 0.0, "forget": 0.0, "recall": 0.0}

    def timed(what: str, work: Any, *values: Any) -> Any:
        began = time.perf_counter()
        result = work(*values)
        seconds[what] += time.perf_counter() - began
        return result

    turns = 0
    for session in story["sessions"]:
        notes = [
            Note(turn["id"], f"{session['date']}, {turn['speaker']}: {turn['text']}")
            for turn in session["turns"]
        ]
        turns += len(notes)
        places.update(timed("remember", memory.remember, notes))
        for change in session.get("corrections", []):
            note = Note(places[change["id"]], f"{session['date']}: {change['text']}")
            timed("correct", memory.correct, note)
        forgotten = [places[one] for one in session.get("forget", [])]
        if forgotten:
            timed("forget", memory.forget, forgotten)
    kinds: dict[str, list[tuple[bool, bool]]] = {}
    leaks = 0
    secret = [_words(text) for text in story["forgotten_texts"]]
    for question in story["questions"]:
        found = timed("recall", memory.recall, question["question"])
        leaks += sum(any(words <= _words(note.text) for words in secret) for note in found)
        if question["evidence"]:
            wanted = {places[one] for one in question["evidence"]}
            ranks = [note.note_id in wanted for note in found]
            told = any(
                question["answer"].lower() in note.text.lower()
                for note in found
                if note.note_id in wanted
            )
            kinds.setdefault(question["kind"], []).append((ranks[0] and told, told))
    every = [pair for pairs in kinds.values() for pair in pairs]
    return {
        "turns": turns,
        "notes": len(memory),
        "merged": sum(one != place for one, place in places.items()),
        "questions": len(every),
        "Hits@1": _share([first for first, _ in every]),
        "Hits@3": _share([any_of_three for _, any_of_three in every]),
        "Hits@1 by kind": {
            kind: _share([first for first, _ in pairs]) for kind, pairs in kinds.items()
        },
        "forgotten notes recalled": leaks,
        "seconds": seconds,
    }


def _share(outcomes: Sequence[bool]) -> float:
    return sum(outcomes) / len(outcomes)


def main() -> None:
    """Prints the figures of the benchmark."""
    parser = argparse.ArgumentParser(description="A memory for an agent, and how well it recalls.")
    parser.add_argument("--work", type=Path, help="folder of the memory; default a temporary one")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        figures = benchmark(given.work or Path(scratch) / "memory")
    if given.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        for part, number in parts:
            shown = f"{number:.3f}" if isinstance(number, float) else f"{number}"
            print(f"{f'{name} {part}'.strip():<32} {shown:>8}")


if __name__ == "__main__":
    main()
