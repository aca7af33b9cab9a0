"""Queries from any transformers model: prompts, languages, kills, several processes."""

from __future__ import annotations

import dataclasses

import pytest
from transformers.generation.utils import GenerationMixin

from data_prep import arrow
from data_prep.dataset import Document
from data_prep.errors import InputError
from data_prep.files import read_json
from data_prep.generate import generate_queries
from dsi.generation.seq2seq import Seq2Seq, Seq2SeqOptions

FAST = {"precision": "fp32", "query_length": 6, "per_doc": 3}


@pytest.fixture
def options(encoder_decoder, monkeypatch):
    monkeypatch.setattr(Seq2Seq, "shard_documents", 16)
    return Seq2SeqOptions(model=str(encoder_decoder), **FAST)


def rows(dataset):
    names = ["query_id", "doc_id", "text", "origin"]
    return list(arrow.read_rows(dataset.path / "pseudo" / "seq2seq", names))


def test_every_document_gets_its_own_queries(dataset, options):
    outcome = generate_queries(dataset, "seq2seq", options)
    table = rows(dataset)
    assert (outcome.complete, outcome.shards, outcome.queries) == (True, 4, len(table))
    assert {doc_id for _, doc_id, _, _ in table} == set(dataset.doc_ids)
    assert len({(doc_id, text) for _, doc_id, text, _ in table}) == len(table)
    assert {origin for *_, origin in table} == {"seq2seq"}


def test_provenance_names_the_model_by_its_weights(dataset, options, causal):
    generate_queries(dataset, "seq2seq", options)
    first = read_json(dataset.path / "pseudo" / "seq2seq" / "generator.json")
    assert first["options"]["top_k"] == 10
    assert len(first["weights"]) == 64
    generate_queries(dataset, "seq2seq", dataclasses.replace(options, model=str(causal)))
    second = read_json(dataset.path / "pseudo" / "seq2seq" / "generator.json")
    assert second["weights"] != first["weights"]


@pytest.mark.parametrize("calls", [0, 1, 5, 9])
def test_a_kill_loses_a_shard_at_most_and_repeats_nothing(dataset, options, monkeypatch, calls):
    generate_queries(dataset, "seq2seq", options)
    expected = rows(dataset)
    (dataset.path / "pseudo" / "seq2seq").rename(dataset.path / "away")
    options = dataclasses.replace(options, batch=15)
    done = 0
    original = GenerationMixin.generate

    def dying(self, *words, **values):
        nonlocal done
        if done == calls:
            raise KeyboardInterrupt
        done += 1
        return original(self, *words, **values)

    monkeypatch.setattr(GenerationMixin, "generate", dying)
    with pytest.raises(KeyboardInterrupt):
        generate_queries(dataset, "seq2seq", options)
    monkeypatch.setattr(GenerationMixin, "generate", original)
    finished = len(list((dataset.path / "pseudo").glob("seq2seq.partial/*/*.arrow")))
    assert generate_queries(dataset, "seq2seq", options).written == 4 - finished
    assert rows(dataset) == expected


def test_processes_share_the_work(dataset, options):
    generate_queries(dataset, "seq2seq", options)
    expected = rows(dataset)
    generate_queries(dataset, "seq2seq", dataclasses.replace(options, per_doc=1))
    outcomes = [generate_queries(dataset, "seq2seq", options, rank=r, world=2) for r in (1, 0)]
    assert [outcome.complete for outcome in outcomes] == [False, True]
    assert rows(dataset) == expected


def test_languages_share_the_queries_and_are_their_origin(dataset, encoder_decoder):
    options = Seq2SeqOptions(
        model=str(encoder_decoder),
        prompt="Ask in {language}: {title} {text}",
        languages="English, German",
        **{**FAST, "per_doc": 5},
    )
    assert options.proportions() == [("English", 3), ("German", 2)]
    document = Document("x", "Otter", "It {eats}.")
    assert options.fill(document, "German").text == "Ask in German: Otter It {eats}."
    queries = Seq2Seq(dataset, options).generate_batch([document, Document("y", "", " ")])
    assert [query.how for query in queries[0]] == ["English"] * 3 + ["German"] * 2
    assert queries[1] == []
    generate_queries(dataset, "seq2seq", options)
    assert {origin for *_, origin in rows(dataset)} == {"seq2seq/English", "seq2seq/German"}


def test_a_causal_model_writes_after_its_prompt(dataset, causal):
    options = Seq2SeqOptions(model=str(causal), prompt="{text} Question:", **FAST)
    queries = Seq2Seq(dataset, options).generate(next(iter(dataset.documents())))
    assert len(queries) == 3
    assert not any("question" in query for query in queries)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"prompt": "{text} {author}"}, "author"),
        ({"prompt": "{title}"}, "text"),
        ({"prompt": "{language} {text}"}, "languages"),
        ({"languages": "German"}, "prompt"),
        ({"prompt": "{language} {text}", "languages": "a,b", "per_doc": 1}, "per-doc"),
        ({"system": "Be short."}, "chat"),
    ],
)
def test_impossible_options_are_refused(options, named):
    with pytest.raises(InputError, match=named):
        Seq2SeqOptions(**options)
