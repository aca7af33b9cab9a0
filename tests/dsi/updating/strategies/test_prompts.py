"""A pool of prompts: which one a query gets, and updates that train nothing else."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import growing_corpus
import numpy as np
import pytest
import torch
from growing_corpus import NEW, OLD, StopError, found, stopping
from small import weights, with_groups
from test_encoder_decoders import assert_searched_as_by_hand

from data_prep.errors import InputError
from dsi import Index
from dsi.cli import main
from dsi.continual.evaluation_queries import EvaluationQueries
from dsi.index_folder import versions
from dsi.indexing.build import train_index
from dsi.rows.states import last_states
from dsi.text_encoders.prompt_pool import PromptPool
from dsi.text_encoders.stored_text_encoder import open_text_encoder
from dsi.text_encoders.text_encoder import SentencepieceEncoder, VocabularyOptions
from dsi.training.options import OptimizerOptions
from dsi.updating.options import PromptsOptions, UpdateOptions
from dsi.updating.strategy_parsing import refuse_unused
from dsi.updating.update import update_index

PROMPTS = UpdateOptions(strategy="generative+prompts", steps=30, new_fraction=0.5, lr=1e-2)
TEXTS = ["whales swim in the sea", "the sea has ships", "tea and bread", "bread with butter"]


@pytest.fixture
def pool():
    inner = SentencepieceEncoder.train(TEXTS, VocabularyOptions())
    made = PromptPool.around(inner, TEXTS, tokens=2)
    made = made.with_keys(made.embedded([TEXTS[0]], 9), prompted=False)
    return made.with_keys(made.embedded([TEXTS[2]], 9), prompted=True)


def test_a_query_gets_the_prompt_of_the_nearest_key(pool):
    size = pool.inner.vocabulary_size
    plain = pool.inner.encode(["whales in the sea", "tea"], 9)
    assert pool.encode(["whales in the sea", "tea"], 9) == [
        plain[0],
        [size - 2, size - 1, *plain[1]],
    ]
    assert len(pool.encode(["tea bread tea bread"], 2)[0]) == 4, "the limit is that of the query"
    assert pool.prompt_length == 2
    assert pool.encode_documents(["tea"], 9) == [plain[1]]
    assert pool.embedded(TEXTS, 9) @ pool.keys[1] == pytest.approx(
        [np.dot(pool.embedded([text], 9)[0], pool.keys[1]) for text in TEXTS]
    )


def test_prompts_keep_their_tokens_while_words_and_prompts_are_added(pool, tmp_path):
    longer = pool.extended(["a harbor at night"])
    added = longer.with_keys(longer.embedded(["night"], 9), prompted=True)
    assert added.encode(["tea"], 9) == pool.encode(["tea"], 9)
    tokens = [int(token) for token in added.prompts.ravel() if token >= 0]
    assert len(set(tokens)) == 4
    words = {
        token for line in added.inner.encode([*TEXTS, "a harbor at night"], 9) for token in line
    }
    assert not words.intersection(tokens)
    added.save(tmp_path / "text")
    again = open_text_encoder(tmp_path / "text")
    assert again.encode([*TEXTS, "night"], 9) == added.encode([*TEXTS, "night"], 9)
    assert again.vocabulary_size == added.vocabulary_size
    for content in (b"", (tmp_path / "text" / "prompts.safetensors").read_bytes()[:60]):
        (tmp_path / "text" / "prompts.safetensors").write_bytes(content)
        with pytest.raises(InputError, match="cannot read the prompts"):
            open_text_encoder(tmp_path / "text")


@pytest.fixture
def index(memorized, tmp_path):
    return Path(shutil.copytree(memorized("semantic"), tmp_path / "index"))


def test_new_documents_are_found_and_old_ones_kept_better_than_by_finetuning(
    memorized, index, corpora, tmp_path
):
    before = Index.open(index, "cpu").model.state_dict()
    known = found(index, corpora["full"], OLD, k=1)
    assert found(index, corpora["full"], NEW) == 0
    with pytest.raises(StopError):
        update_index(index, corpora["new"], PROMPTS, callbacks=stopping(9))
    update_index(index, corpora["new"], PROMPTS)
    assert found(index, corpora["full"], NEW) >= 0.7
    kept = found(index, corpora["full"], OLD, k=1)
    plain = Path(shutil.copytree(memorized("semantic"), tmp_path / "plain"))
    update_index(plain, corpora["new"], UpdateOptions(strategy="finetune", steps=20))
    assert kept >= known - 0.1
    assert kept > found(plain, corpora["full"], OLD, k=1) + 0.3
    opened = Index.open(index, "cpu")
    assert_searched_as_by_hand(opened)
    for name, value in opened.model.state_dict().items():  # what there was has not moved by a bit
        assert torch.equal(value[: len(before[name])] if value.dim() else value, before[name]), name
    alone = Path(shutil.copytree(memorized("semantic"), tmp_path / "alone"))
    update_index(alone, corpora["new"], PROMPTS)
    assert weights(alone) == weights(index)


def test_later_updates_leave_earlier_prompts_as_they_are(index, corpora, tmp_path, capsys):
    parts = [
        growing_corpus.part(corpora["full"], tmp_path / name, numbers, ("test",))
        for name, numbers in (("first", range(30, 35)), ("second", range(35, 40)))
    ]
    options = dataclasses.replace(PROMPTS, steps=6, prompts=PromptsOptions(topics=2, tokens=3))
    pools, tables = [], []
    for part in parts:
        update_index(index, part, options)
        opened = Index.open(index, "cpu")
        pools.append(opened.text)
        tables.append(opened.model.get_encoder().get_input_embeddings().weight)
    first, second = ([t for t in pool.prompts.ravel().tolist() if t >= 0] for pool in pools)
    assert (len(first), len(second)) == (6, 12)
    assert second[:6] == first
    assert torch.equal(tables[1][first], tables[0][first])
    assert main(["info", str(index)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"4 of 3 tokens, {len(pools[1].keys) - 4} topics without" in said
    assert main(["delete", str(index), "d31", "--scrub"]) == 0
    assert_searched_as_by_hand(Index.open(index, "cpu"))
    assert main(["export", str(index), "--format", "hf", "--out", str(tmp_path / "hf")]) == 2
    assert "no engine supports --strategy prompts" in capsys.readouterr().err
    for _ in range(3):
        versions.rollback(index)
    assert isinstance(Index.open(index, "cpu").text, SentencepieceEncoder)


def test_what_does_not_fit_is_refused(corpora, tmp_path):
    for other in ("finetune+prompts", "generative+prompts+periods", "generative+prompts+lora"):
        with pytest.raises(InputError, match="cannot be combined"):
            refuse_unused(UpdateOptions(strategy=other))
    with pytest.raises(InputError, match="without the strategy prompts"):
        refuse_unused(UpdateOptions(strategy="generative", prompts=PromptsOptions(tokens=3)))
    decay = {"optimizer": OptimizerOptions(weight_decay=0.1)}
    train_index(corpora["old"], tmp_path / "index", with_groups(decay, {"loop__steps": 1}))
    with pytest.raises(InputError, match="prompts and a weight decay"):
        update_index(tmp_path / "index", corpora["new"], PROMPTS)
    assert versions.names(tmp_path / "index") == ["0001"]


def test_before_the_first_step_a_prompt_hardly_changes_what_is_read(index, corpora):
    """A random one did: old documents were lost before anything was trained."""
    options = UpdateOptions(strategy="generative+prompts", steps=1, lr=1e-9)
    update_index(index, corpora["new"], options)
    opened = Index.open(index, "cpu")
    pool = opened.text
    assert isinstance(pool, PromptPool)
    queries = EvaluationQueries.of(corpora["new"]).queries
    prompted = pool.encode(queries, 32)
    some = [n for n, line in enumerate(pool.inner.encode(queries, 32)) if line != prompted[n]]
    assert len(some) > len(queries) / 2
    plain, moved = (
        last_states(opened.model, [lines[n] for n in some], [()] * len(some))
        for lines in (pool.inner.encode(queries, 32), prompted)
    )
    cosines = (plain * moved).sum(axis=1) / (
        np.linalg.norm(plain, axis=1) * np.linalg.norm(moved, axis=1)
    )
    assert cosines.mean() > 0.9


def test_prompts_are_trained_at_their_own_rate_unless_another_is_given(index, corpora):
    """At the rate of a whole network (3e-5 here), nothing would be found."""
    update_index(index, corpora["new"], dataclasses.replace(PROMPTS, lr=None))
    assert found(index, corpora["full"], NEW) >= 0.7
