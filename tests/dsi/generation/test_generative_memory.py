"""The generative memory learns from labeled pairs, survives kills, and generates for new texts."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import animals
import pytest
import torch

from data_prep.errors import InputError
from data_prep.generate import generate_queries
from dsi.generation import (
    GenerativeMemory,
    MemoryOptions,
    generative_memory_training,
    train_memory,
)
from dsi.generation.generative_memory import describe
from dsi.generation.generative_memory_training import make_model, members

SMALL = MemoryOptions(
    width=64, layers=1, vocabulary=150, steps=12, pairs=8, warmup=2, query_length=12,
    document_length=48, per_doc=3, precision="fp32",
)  # fmt: skip


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_it_learns_the_pairs(dataset, tmp_path):
    options = dataclasses.replace(SMALL, steps=100, lr=3e-3)
    folder = train_memory(dataset, options)
    assert folder == dataset.path / "memory"
    assert describe(folder)["pairs"] == 60
    assert describe(folder)["loss"] < 1.5, "a guess among 150 tokens costs 5"
    new = [f"{each.title}\n{each.text}" for each in map(animals.document, range(70, 75))]
    surest = GenerativeMemory.open(folder, dataclasses.replace(options, top_k=1))
    seen = [f"{each.title}\n{each.text}" for each in animals.DOCUMENTS[:5]]
    # As much of the questions as fits into 12 tokens.
    assert surest.generate(seen, per_doc=4) == [["what does the"]] * 5
    assert all(queries[0].startswith("what do") for queries in surest.generate(new, per_doc=1))
    memory = GenerativeMemory.open(folder)
    drawn = memory.generate(new, per_doc=2, seed=1)
    assert all(len(set(queries)) == len(queries) > 0 for queries in drawn)
    memory.save(tmp_path / "copy")
    assert GenerativeMemory.open(tmp_path / "copy").generate(new, per_doc=2, seed=1) == drawn


def test_a_model_from_scratch_begins_by_saying_words_of_its_document():
    model = make_model(1000, MemoryOptions(width=128)).eval()
    torch.manual_seed(1)
    ids = torch.randint(3, 1000, (1, 30))
    with torch.no_grad():
        logits = model(input_ids=ids, decoder_input_ids=torch.tensor([[0, 500, 700]])).logits[0]
    inside = logits[:, ids[0]].mean()
    assert inside > logits.mean() + logits.std()
    for place, token in ((1, 500), (2, 700)):
        assert logits[place, token] < inside + 2 * logits.std(), "it does not repeat itself"


def test_trained_again_it_is_the_same_and_not_trained(dataset, monkeypatch):
    first = digest(train_memory(dataset, SMALL))
    monkeypatch.setattr(generative_memory_training, "fit", None)
    assert digest(train_memory(dataset, dataclasses.replace(SMALL, per_doc=9, top_k=3))) == first
    with pytest.raises(TypeError):
        train_memory(dataset, dataclasses.replace(SMALL, steps=13))


@pytest.mark.parametrize("killed_at", [0, 7, 11])
def test_a_kill_changes_nothing(dataset, tmp_path, monkeypatch, killed_at):
    expected = digest(train_memory(animals.write(tmp_path / "alone"), SMALL))
    original = generative_memory_training.members

    def dying(pairs, step, batch, seed):
        if step == killed_at:
            raise KeyboardInterrupt
        return original(pairs, step, batch, seed)

    monkeypatch.setattr(generative_memory_training, "members", dying)
    with pytest.raises(KeyboardInterrupt):
        train_memory(dataset, SMALL)
    assert not (dataset.path / "memory").exists()
    monkeypatch.setattr(generative_memory_training, "members", original)
    assert digest(train_memory(dataset, SMALL)) == expected
    assert not (dataset.path / "memory.partial").exists()


def test_what_was_interrupted_with_other_options_is_not_continued(dataset, tmp_path, monkeypatch):
    expected = digest(train_memory(animals.write(tmp_path / "alone"), SMALL))
    monkeypatch.setattr(generative_memory_training, "save_writer", None)
    with pytest.raises(TypeError):
        train_memory(dataset, dataclasses.replace(SMALL, seed=5))
    monkeypatch.undo()
    assert digest(train_memory(dataset, SMALL)) == expected


def test_it_starts_from_a_pretrained_model(dataset, encoder_decoder, causal):
    options = dataclasses.replace(SMALL, pretrained=str(encoder_decoder), steps=1)
    folder = train_memory(dataset, options)
    assert GenerativeMemory.open(folder).generate(["Otter"], 2)[0]
    assert str(encoder_decoder) not in (folder / "config.json").read_text("utf-8")
    with pytest.raises(InputError, match="is a gpt2, not an encoder-decoder"):
        train_memory(dataset, dataclasses.replace(options, pretrained=str(causal)))


def test_the_generator_uses_the_memory_of_the_dataset_or_another(dataset, tmp_path):
    with pytest.raises(InputError, match="--train_generator"):
        generate_queries(dataset, "memory", SMALL)
    folder = train_memory(dataset, SMALL)
    outcome = generate_queries(dataset, "memory", SMALL)
    assert outcome.complete
    assert outcome.queries > 100
    other = animals.write(tmp_path / "other", questions=0)
    generate_queries(other, "memory", dataclasses.replace(SMALL, folder=str(folder)))
    first, second = (list(each.pseudo_queries("memory")["text"]) for each in (dataset, other))
    assert first == second


def test_every_pair_comes_once_a_pass():
    drawn = [number for step in range(15) for number in members(60, step, 8, seed=0)]
    for turn in (0, 1):
        assert sorted(drawn[60 * turn : 60 * (turn + 1)]) == list(range(60))
    assert drawn[:60] != drawn[60:]
    assert sorted(members(3, 0, 6, seed=0)) == [0, 0, 1, 1, 2, 2]


def test_too_few_pairs_name_the_way_out(tmp_path):
    dataset = animals.write(tmp_path / "few", questions=49)
    with pytest.raises(InputError, match=r"49 labeled training pairs.*'extractive'"):
        train_memory(dataset, SMALL)
    assert not (dataset.path / "memory.partial").exists()


def test_a_folder_without_a_memory_is_told(tmp_path):
    with pytest.raises(InputError, match="this folder is not a generative memory"):
        GenerativeMemory.open(tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {"width": 100},
        {"layers": 0},
        {"steps": 0},
        {"pairs": 0},
        {"vocabulary": 5},
        {"lr": 0.0},
        {"warmup": -1},
        {"folder": "a", "pretrained": "b"},
    ],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError):
        MemoryOptions(**options)
