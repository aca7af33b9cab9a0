"""From a Dataset to an index: every kind of identifier, resumed, refused, and searched."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small
import torch
from small import StopError, interrupt

from data_prep.dataset import Document
from data_prep.errors import InputError
from docids.assignment import assign
from docids.kinds.rq import ResidualOptions
from dsi import Index
from dsi.data.examples import gather_examples
from dsi.data.options import MixOptions
from dsi.index_folder import versions
from dsi.index_folder.stored_corpus import write_pseudo
from dsi.indexing import build
from dsi.indexing.build import train_index
from dsi.indexing.options import TrainingOptions
from dsi.indexing.start import resolve_start
from dsi.lexical.options import LexicalOptions
from dsi.objectives.base import Targets
from dsi.objectives.options import DistillationOptions, RankOptions, RDropOptions
from dsi.text_encoders.tokenized_corpus import TokenizedCorpus
from dsi.training import loop, step
from dsi.training.loop import SELECTION_MEASURE
from dsi.training.options import LoopOptions, ModelOptions, SamOptions
from dsi.training.validation import validate


def own_words(number: int) -> str:
    topic = list(small.TOPICS)[number % len(small.TOPICS)]
    return f"{topic}zor{number} {topic}vek{number}"


def share_found(out: Path) -> float:
    """Share of the documents that a query of their own two words finds first."""
    hits = Index.open(out, "cpu").search([own_words(n) for n in range(small.DOCUMENTS)], k=1)
    return float(np.mean([found[0].doc_id == f"d{n}" for n, found in enumerate(hits)]))


@pytest.mark.parametrize("kind", ["atomic", "naive", "semantic", "random"])
def test_every_kind_of_identifier_is_trained_and_found(kind, dataset, tmp_path):
    manifest = train_index(dataset, tmp_path / "index", small.options(docids=kind, loop__steps=16))
    assert (manifest.version, manifest.documents, manifest.added) == ("0001", 40, 40)
    assert manifest.dataset["content_hash"] == dataset.info.content_hash
    assert manifest.query_length == 32
    assert manifest.beams == 10
    assert manifest.metrics["steps"] == 16
    assert math.isfinite(manifest.metrics["loss"])
    assert 0 <= manifest.metrics["best"][SELECTION_MEASURE] <= 1
    left = sorted(entry.name for entry in (tmp_path / "index").iterdir())
    assert left == ["live", "lock", "versions"]
    found = share_found(tmp_path / "index")
    assert found > (0.9 if kind == "atomic" else 0.05)
    titles = {hit.title for hit in Index.open(tmp_path / "index").search(["harbour"], k=5)[0]}
    assert titles <= {f"About {topic}" for topic in small.TOPICS}


def test_without_labeled_queries_the_last_weights_are_kept(unlabeled, tmp_path):
    manifest = train_index(unlabeled, tmp_path / "index", small.options())
    assert "best" not in manifest.metrics
    assert share_found(tmp_path / "index") > 0.9


def test_the_same_options_give_the_same_bytes_and_another_seed_does_not(without_dev, tmp_path):
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        torch.manual_seed(len(name))  # earlier random draws must not matter
        train_index(without_dev, tmp_path / name, small.options(seed=seed, model__dropout=0.1))
    assert small.weights(tmp_path / "one") == small.weights(tmp_path / "two")
    assert small.weights(tmp_path / "one") != small.weights(tmp_path / "three")


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer__lr": 2e-3},
        {"optimizer__backbone_lr_scale": 1.0},
        {"optimizer__schedule": "cosine"},
        {"optimizer__warmup": 0},
        {"optimizer__weight_decay": 0.5},
        {"optimizer__beta2": 0.5},
        {"optimizer__clip": 0.01},
        {"optimizer__name": "adafactor"},
        {"optimizer__rows": "touched"},
        {"mix__indexing": 0.9},
        {"mix__negatives": "all"},
        {"mix__chunks": 2, "mix__document_length": 4},
        {"mix__indexing": 0.0, "mix__ratio": 2.0},
        {"objectives__distillation": DistillationOptions(0.5)},
        {"mix__query_length": 2},
        {"loop__label_smoothing": 0.2},
        {"optimizer__freeze_encoder": True},
        {"lora__rank": 2},
        {"lora__rank": 2, "lora__targets": ["v"]},
        {"loop__batch": 8},
        {"loop__batch": None, "loop__tokens": 128},
        {"model__dropout": 0.2},
        {"objectives__r_drop": RDropOptions(0.5), "model__dropout": 0.2},
        {"model__warm_start": "none"},
        {"per_doc": 2},
        {"generator": "none"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_option_has_an_effect(change, without_dev, tmp_path):
    base = {"loop__steps": 4, "loop__evaluate_every": 4, "optimizer__warmup": 1}
    plain = tmp_path.parent / "plain_options"
    if not plain.exists():
        train_index(without_dev, plain, small.options(**base))
    train_index(without_dev, tmp_path / "index", small.options(**{**base, **change}))
    assert small.weights(plain) != small.weights(tmp_path / "index")


BUDGET = {"loop__batch": None, "loop__tokens": 128}


@pytest.mark.parametrize("size", [{}, BUDGET], ids=["batch", "tokens"])
def test_parts_of_a_batch_do_not_change_the_weights(size, without_dev, tmp_path):
    changes = {"optimizer__schedule": "constant", "loop__steps": 4, **size}
    for parts in (1, 3):
        train_index(
            without_dev, tmp_path / str(parts), small.options(loop__accumulation=parts, **changes)
        )
    one, other = (Index.open(tmp_path / parts).model.state_dict() for parts in ("1", "3"))
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], atol=1e-4, rtol=1e-3)


def test_rows_start_from_codebooks(dataset, tmp_path):
    rq = ResidualOptions(levels=3, codebook=8)
    for name, asked in (("means", False), ("codebooks", True)):
        options = small.options(docids="rq", rq=rq, model__codebooks=asked)
        train_index(dataset, tmp_path / name, options)
    assert small.weights(tmp_path / "means") != small.weights(tmp_path / "codebooks")
    assert share_found(tmp_path / "codebooks") > 0.05
    with pytest.raises(InputError, match=r"--model.codebooks true.* these are 'atomic'.*--docids"):
        train_index(dataset, tmp_path / "none", small.options(model__codebooks=True))
    assert not (tmp_path / "none").exists()


def test_running_it_again_does_nothing(dataset, tmp_path, monkeypatch):
    out = tmp_path / "index"
    first = train_index(dataset, out, small.options())
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*")}
    monkeypatch.setattr(build, "prepare", None)
    assert train_index(dataset, out, small.options()) == first
    assert before == {file: file.stat().st_mtime_ns for file in out.rglob("*")}
    own = out / "training" / "notes" / "mine.md"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    assert train_index(dataset, out, small.options()) == first
    assert own.read_text() == "mine", "a folder of this name without a claim is not ours"
    (out / "training" / "training.json").write_text("{}")
    train_index(dataset, out, small.options())
    assert not (out / "training").exists()


def test_an_index_of_other_options_is_refused_and_left(dataset, unlabeled, tmp_path):
    out = tmp_path / "index"
    train_index(dataset, out, small.options())
    before = small.weights(out)
    with pytest.raises(InputError, match="other options"):
        train_index(dataset, out, small.options(seed=1))
    with pytest.raises(InputError, match="another dataset"):
        train_index(unlabeled, out, small.options())
    assert small.weights(out) == before


def test_a_budget_of_tokens_goes_on_where_it_stopped(without_dev, tmp_path, monkeypatch):
    wanted = small.options(loop__steps=40, loop__checkpoint_every=19, **BUDGET)
    with monkeypatch.context() as patch:
        interrupt(patch, 22)
        with pytest.raises(StopError):
            train_index(without_dev, tmp_path / "index", wanted)
    resumed = train_index(without_dev, tmp_path / "index", wanted)
    alone = train_index(without_dev, tmp_path / "alone", wanted)
    assert small.weights(tmp_path / "index") == small.weights(tmp_path / "alone")
    assert resumed.metrics["examples"] == alone.metrics["examples"] > 40


def test_touched_rows_go_on_where_they_stopped_and_find_as_well(without_dev, tmp_path, monkeypatch):
    wanted = small.options(optimizer__rows="touched", loop__accumulation=2)
    with monkeypatch.context() as patch:
        interrupt(patch, 5)
        with pytest.raises(StopError):
            train_index(without_dev, tmp_path / "index", wanted)
    train_index(without_dev, tmp_path / "index", wanted)
    train_index(without_dev, tmp_path / "alone", wanted)
    assert small.weights(tmp_path / "index") == small.weights(tmp_path / "alone")
    assert share_found(tmp_path / "index") > 0.9
    with pytest.raises(InputError, match=r"--sam\.rho 0\.1 .*--optimizer\.rows touched"):
        small.options(optimizer__rows="touched", sam__rho=0.1)


def test_the_loss_of_a_step_is_the_mean_over_as_many_examples_as_it_has(
    dataset, tmp_path, monkeypatch
):
    counts = []
    real = step.backward_step

    def spy(engine, parts, objectives, targets, *, examples, **options):
        counts.append((examples, sum(map(len, parts))))
        return real(engine, parts, objectives, targets, examples=examples, **options)

    monkeypatch.setattr("dsi.training.loop.backward_step", spy)
    train_index(dataset, tmp_path / "index", small.options(loop__steps=4, **BUDGET))
    assert [told == real for told, real in counts] == [True] * 4
    assert len({told for told, _ in counts}) > 1


def test_a_budget_of_tokens_that_one_text_may_exceed_is_refused(dataset, tmp_path):
    with pytest.raises(InputError, match=r"--loop\.tokens 31 is less .* --mix\.query_length 32"):
        small.options(loop__batch=None, loop__tokens=31)
    with pytest.raises(InputError, match=r"--loop\.tokens 40 is less .* --mix\.document_length 41"):
        small.options(loop__batch=None, loop__tokens=40, mix__document_length=41)
    small.options(loop__batch=None, loop__tokens=40, mix__document_length=41, mix__indexing=0.0)
    wanted = small.options(loop__batch=None, loop__tokens=32, loop__accumulation=9)
    with pytest.raises(InputError, match=r"--loop\.tokens 32 .*1 processes x 9 parts"):
        train_index(dataset, tmp_path / "index", wanted)


def test_an_interrupted_run_is_not_taken_over_by_other_options(without_dev, tmp_path, monkeypatch):
    out = tmp_path / "index"
    with monkeypatch.context() as patch:
        interrupt(patch, 4)
        with pytest.raises(StopError):
            train_index(without_dev, out, small.options())
    assert (out / "training" / "checkpoints").is_dir()
    with pytest.raises(InputError, match=r"training: a training run of .* was interrupted"):
        train_index(without_dev, out, small.options(seed=1))
    train_index(without_dev, out, small.options())
    train_index(without_dev, tmp_path / "alone", small.options())
    assert small.weights(out) == small.weights(tmp_path / "alone")


def test_evaluations_are_written_once_each_though_steps_are_made_again(
    dataset, tmp_path, monkeypatch
):
    out = tmp_path / "index"
    wanted = small.options(loop__evaluate_every=3, loop__checkpoint_every=2)
    with monkeypatch.context() as patch:
        interrupt(patch, 7)
        with pytest.raises(StopError):
            train_index(dataset, out, wanted)
    rows: list[dict[str, float]] = []
    real = build._write

    def write(*words: Any) -> None:
        file = out / "training" / "evaluations.jsonl"
        rows.extend(json.loads(line) for line in file.read_text().splitlines())
        real(*words)

    monkeypatch.setattr(build, "_write", write)
    manifest = train_index(dataset, out, wanted)
    assert [row["step"] for row in rows] == [0, 3, 6, 8]
    best = max(rows, key=lambda row: row[SELECTION_MEASURE])
    assert manifest.metrics["best"] == best
    assert manifest.metrics["start"] == rows[0]


def test_a_damaged_checkpoint_is_told(without_dev, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt(patch, 4)
        with pytest.raises(StopError):
            train_index(without_dev, tmp_path / "index", small.options())
    (file,) = (tmp_path / "index" / "training" / "checkpoints").glob("*/optimizer.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match="checkpoint is damaged"):
        train_index(without_dev, tmp_path / "index", small.options())
    shutil.rmtree(file.parent)
    train_index(without_dev, tmp_path / "index", small.options())
    train_index(without_dev, tmp_path / "alone", small.options())
    assert small.weights(tmp_path / "index") == small.weights(tmp_path / "alone")


def test_the_best_weights_by_dev_are_kept(dataset, tmp_path, monkeypatch):
    scripted = iter([0.1, 0.2, 0.9, 0.5, 0.9])
    seen: list[torch.Tensor] = []

    def measured(model: Any, *words: Any) -> dict[str, float]:
        seen.append(model.get_output_embeddings().weight.detach().clone())
        return {"Success@1": 0.0, "Success@10": 0.0, SELECTION_MEASURE: next(scripted)}

    monkeypatch.setattr("dsi.training.loop.validate", measured)
    wanted = small.options(loop__evaluate_every=2)
    manifest = train_index(dataset, tmp_path / "index", wanted)
    assert manifest.metrics["best"]["step"] == 4
    kept = Index.open(tmp_path / "index").model.get_output_embeddings().weight
    assert [torch.equal(kept, weight) for weight in seen] == [False, False, True, False, False]
    log = tmp_path / "index/versions/0001/log"
    rows = [json.loads(line) for line in (log / "evaluations.jsonl").read_text().splitlines()]
    assert [row[SELECTION_MEASURE] for row in rows] == [0.1, 0.2, 0.9, 0.5, 0.9]
    assert list((log / "tensorboard").iterdir())


def test_a_training_that_only_does_harm_leaves_the_start(dataset, tmp_path, monkeypatch):
    scripted = iter([0.9, 0.2, 0.5, 0.3, 0.9])
    seen: list[torch.Tensor] = []

    def measured(model: Any, *words: Any) -> dict[str, float]:
        seen.append(model.get_output_embeddings().weight.detach().clone())
        return {"Success@1": 0.0, "Success@10": 0.0, SELECTION_MEASURE: next(scripted)}

    monkeypatch.setattr("dsi.training.loop.validate", measured)
    manifest = train_index(dataset, tmp_path / "index", small.options(loop__evaluate_every=2))
    assert manifest.metrics["best"]["step"] == 0
    kept = Index.open(tmp_path / "index").model.get_output_embeddings().weight
    assert [torch.equal(kept, weight) for weight in seen] == [True, False, False, False, False]


def test_without_steps_the_network_is_as_it_starts(dataset, tmp_path):
    """The default from scratch: nothing is trained but the lexical layer."""
    manifest = train_index(dataset, tmp_path / "index", TrainingOptions())
    assert manifest.metrics["steps"] == manifest.metrics["best"]["step"] == 0
    assert share_found(tmp_path / "index") > 0.9
    again = train_index(dataset, tmp_path / "again", TrainingOptions(generator="none"))
    assert again.metrics == manifest.metrics
    assert small.weights(tmp_path / "again") == small.weights(tmp_path / "index")


@pytest.mark.parametrize(
    ("generator", "each", "learns"),
    [("seq2seq", 6, True), ("seq2seq", 4, False), ("extractive", 6, False)],
)
def test_the_lexical_layer_learns_from_what_a_model_asks_where_nobody_has(
    generator, each, learns, tmp_path
):
    """Given 200 queries; those that are cut out of the documents do not count."""
    dataset = small.write(tmp_path / "set", splits=("dev", "test"))
    rows = [
        (f"p{number}-{turn}", f"d{number}", f"what about {own_words(number)} {turn}", generator)
        for number in range(small.DOCUMENTS)
        for turn in range(each)
    ]
    write_pseudo(dataset, generator, rows, {"filter": {"round_trip": 1}})
    options = TrainingOptions(generator=generator, loop=LoopOptions(steps=1, batch=8))
    manifest = train_index(dataset, tmp_path / "index", options)
    assert ("steps" in manifest.metrics["lexical"]) == learns


def test_options_about_steps_ask_for_steps_and_are_refused_with_none():
    moved = TrainingOptions(sam=SamOptions(rho=0.05))
    assert resolve_start(moved, None).loop.steps == 160
    assert resolve_start(TrainingOptions(mix=MixOptions(query_length=8)), None).loop.steps == 0
    assert resolve_start(TrainingOptions(model=ModelOptions(size="tiny")), None).loop.steps == 160
    assert resolve_start(TrainingOptions(generator="extractive"), None).loop.steps == 160
    off = TrainingOptions(lexical=LexicalOptions(enabled=False))
    assert resolve_start(off, None).loop.steps == 160
    with pytest.raises(InputError, match=r"--sam.rho .* --loop.steps is 0"):
        resolve_start(TrainingOptions(sam=SamOptions(rho=0.05), loop=LoopOptions(steps=0)), None)


def test_test_queries_have_no_say(dataset, tmp_path):
    """The test split may hold anything: weights and figures are the same."""
    train_index(dataset, tmp_path / "one", small.options())
    without = small.write(tmp_path / "without", splits=("train", "dev"))
    train_index(without, tmp_path / "two", small.options())
    assert small.weights(tmp_path / "one") == small.weights(tmp_path / "two")
    without = small.write(tmp_path / "no-dev", splits=("train", "test"))
    assert "best" not in train_index(without, tmp_path / "three", small.options()).metrics


@pytest.mark.parametrize("together", [64, 7], ids=["one batch", "several"])
def test_validation_counts_ranks_by_hand(together, dataset, tmp_path, monkeypatch):
    train_index(dataset, tmp_path / "index", small.options())
    index = Index.open(tmp_path / "index", "cpu")
    queries = [own_words(number) for number in range(20)] + ["harbour"] * 3
    rows = [*range(20), 1, 2, 3]
    tokens = index.text.encode(queries, 8)
    ranks = []
    for hits, row in zip(index.search(queries, k=10), rows, strict=True):
        found = [hit.doc_id for hit in hits]
        ranks.append(found.index(f"d{row}") + 1 if f"d{row}" in found else math.inf)
    expected = {
        "Success@1": np.mean([rank == 1 for rank in ranks]),
        "Success@10": np.mean([rank <= 10 for rank in ranks]),
        "RR@10": np.mean([1 / rank for rank in ranks]),
    }
    from dsi.training import validation

    monkeypatch.setattr(validation, "_BATCH", together)
    queries = validation.DevQueries(tokens, rows)
    assert len(queries) == 23
    index.model.train()
    measured = validate(index.model, queries, index.trie, beams=1)
    assert measured == pytest.approx(expected)
    assert index.model.training


@pytest.mark.parametrize("precision", ["fp32", "bf16", "auto"])
def test_every_precision_trains_full_precision_weights(precision, without_dev, tmp_path):
    manifest = train_index(
        without_dev, tmp_path / "index", small.options(loop__precision=precision)
    )
    assert manifest.metrics["precision"] in ("fp32", "bf16")
    assert precision in ("auto", manifest.metrics["precision"])
    model = Index.open(tmp_path / "index").model
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert share_found(tmp_path / "index") > 0.9


def test_other_sizes_train(dataset, tmp_path):
    wanted = small.options(model__size="tiny", loop__steps=2)
    train_index(dataset, tmp_path / "index", wanted)
    assert len(Index.open(tmp_path / "index").search(["harbour"], k=5)[0]) == 5


def test_a_prefix_aware_output_layer_is_trained_kept_and_searched(dataset, tmp_path, monkeypatch):
    wanted = small.options(
        docids="semantic", model__size="tiny", model__head="pawa", model__head_layers=1,
        loop__steps=4, loop__checkpoint_every=2, optimizer__backbone_lr_scale=1.0,
    )  # fmt: skip
    with monkeypatch.context() as patch:
        interrupt(patch, 3)
        with pytest.raises(StopError):
            train_index(dataset, tmp_path / "index", wanted)
    train_index(dataset, tmp_path / "index", wanted)
    train_index(dataset, tmp_path / "alone", wanted)
    assert small.weights(tmp_path / "index") == small.weights(tmp_path / "alone")
    index = Index.open(tmp_path / "index")
    assert index.model.pawa.weight.abs().max() > 0
    assert len(index.search(["harbour"], k=5)[0]) == 5


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"docids": "atomic"}, "--docids atomic gives one code"),
        ({"docids": "title"}, "--docids title gives text"),
        ({"docids": "semantic", "lora__rank": 2}, "--lora.rank 2 cannot be combined"),
        ({"docids": "semantic", "model__size": "latent"}, "spectral"),
    ],
)
def test_a_prefix_aware_output_layer_is_refused_where_there_is_no_prefix(changes, told):
    with pytest.raises(InputError, match=told):
        small.options(**{"model__size": "tiny", "model__head": "pawa", **changes})


def test_a_loss_that_is_no_number_is_told_and_nothing_becomes_live(dataset, tmp_path):
    wanted = small.options(
        optimizer__lr=1e30, optimizer__clip=0.0, optimizer__backbone_lr_scale=1.0
    )
    with pytest.raises(InputError, match=r"the loss is (nan|inf) at step \d.*--optimizer\.lr"):
        train_index(dataset, tmp_path / "index", wanted)
    assert not (tmp_path / "index" / "live").exists()


def test_identifiers_that_exist_are_used(dataset, tmp_path):
    documents = list(dataset.documents())[::-1]
    assignment, quality = assign(documents, kind="atomic")
    assignment.save(tmp_path / "docids", quality)
    train_index(dataset, tmp_path / "index", small.options(), tmp_path / "docids")
    index = Index.open(tmp_path / "index")
    assert list(index.table.doc_ids) == [document.doc_id for document in documents]
    assert list(index.titles) == [document.title for document in documents]
    assert share_found(tmp_path / "index") > 0.9
    with pytest.raises(InputError, match="other identifiers"):
        train_index(dataset, tmp_path / "index", small.options())


def test_identifiers_of_other_documents_are_refused(dataset, tmp_path):
    others = [Document("x", "", "one"), Document("y", "", "two")]
    assignment, quality = assign(others, kind="atomic")
    assignment.save(tmp_path / "docids", quality)
    with pytest.raises(InputError, match=r"docids: these identifiers belong to other documents"):
        train_index(dataset, tmp_path / "index", small.options(), tmp_path / "docids")
    with pytest.raises(InputError, match="no such file"):
        train_index(dataset, tmp_path / "index", small.options(), tmp_path / "nothing")


@pytest.mark.parametrize(
    "fill",
    [
        lambda out: (out / "notes.txt").write_text("mine"),
        lambda out: (
            (out / "training").mkdir(),
            (out / "training" / "data.csv").write_text("mine"),
        ),
        lambda out: ((out / "training").mkdir(), (out / "my.txt").write_text("mine")),
    ],
    ids=["a file", "a folder called training", "both"],
)
def test_a_folder_of_the_users_own_is_left_alone(fill, dataset, tmp_path):
    out = tmp_path / "mine"
    out.mkdir()
    fill(out)
    before = sorted(out.rglob("*"))
    with pytest.raises(InputError, match="not an index"):
        train_index(dataset, out, small.options())
    assert sorted(out.rglob("*")) == before


def test_a_file_in_the_place_of_the_folder_is_refused(dataset, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(InputError, match="a file, not a folder"):
        train_index(dataset, tmp_path / "out", small.options())


def test_two_trainings_of_one_index_do_not_mix(dataset, tmp_path):
    with versions.lock(tmp_path / "index"), pytest.raises(InputError, match="another command"):
        train_index(dataset, tmp_path / "index", small.options())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"docids": "molecular"}, "--docids 'molecular'"),
        ({"generator": "gpt"}, "--generator 'gpt'"),
        ({"seed": -1}, "--seed -1"),
        ({"per_doc": 0}, "--per_doc 0 is less than 1"),
    ],
)
def test_a_wrong_value_is_refused_at_once(changes, named):
    with pytest.raises(InputError, match=named):
        small.options(**changes)


def test_nothing_to_train_on_is_told(unlabeled, tmp_path):
    wanted = small.options(mix__indexing=0.0, mix__pseudo=0.0, mix__labeled=1.0)
    with pytest.raises(InputError, match="nothing to train on"):
        train_index(unlabeled, tmp_path / "index", wanted)


def test_terms_with_a_teacher_train_and_go_on_after_an_interruption(
    without_dev, tmp_path, monkeypatch
):
    """The teacher is asked once; what it said is read again by the run that continues."""
    wanted = small.options(
        objectives__rank=RankOptions(0.3),
        objectives__distillation=DistillationOptions(0.5),
        docids="semantic",
        loop__steps=4,
        loop__checkpoint_every=2,
    )
    with monkeypatch.context() as patch:
        interrupt(patch, 3)
        with pytest.raises(StopError):
            train_index(without_dev, tmp_path / "index", wanted)
    monkeypatch.setattr("dsi.teachers.scores.write_teacher_scores", None)
    train_index(without_dev, tmp_path / "index", wanted)
    monkeypatch.undo()
    train_index(without_dev, tmp_path / "alone", wanted)
    assert small.weights(tmp_path / "index") == small.weights(tmp_path / "alone")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"objectives__r_drop": RDropOptions(0.1)}, r"r_drop.*--model\.dropout is 0"),
        (
            {"objectives__rank": RankOptions(1.0), "mix__pseudo": 0.0, "mix__labeled": 0.0},
            r"objectives\.rank.*--mix\.pseudo and --mix\.labeled are 0",
        ),
        (
            {"objectives__rank": RankOptions(1.0), "loop__score": "constrained"},
            r"objectives\.rank.*--loop\.score is constrained",
        ),
        (
            {"lora__rank": 2, "optimizer__backbone_lr_scale": 0.0},
            r"--lora\.rank 2 .*--optimizer\.backbone_lr_scale 0",
        ),
        ({"optimizer__layer_decay": 0.9}, r"--optimizer\.layer_decay 0\.9 .*backbone_lr_scale 0"),
        ({"lora__targets": ["q"]}, r"--lora\.targets .* while --lora\.rank is 0"),
        ({"optimizer__layer_decay": 1.5}, r"layer_decay 1\.5"),
        (
            {"model__decoder_layers": 2},
            r"decoder_layers 2 has no effect without --model\.pretrained",
        ),
        ({"mix__ratio": 2.0}, r"--mix\.ratio 2\.0 and --mix\.indexing 0\.2"),
    ],
)
def test_options_that_contradict_each_other_are_refused_before_work_starts(changes, told):
    with pytest.raises(InputError, match=told):
        small.options(**changes)


@pytest.mark.parametrize("kind", ["t5", "bart"])
@pytest.mark.parametrize("warm_start", ["auto", "none"])
def test_a_pretrained_model_trains_and_searches(kind, warm_start, dataset, tmp_path):
    path = small.checkpoint(kind, tmp_path / "checkpoint", dataset)
    wanted = small.options(
        model__pretrained=str(path),
        model__warm_start=warm_start,
        optimizer__lr=3e-3,
        optimizer__backbone_lr_scale=1.0,
        loop__steps=50,
        loop__batch=32,
    )
    manifest = train_index(dataset, tmp_path / "index", wanted)
    assert manifest.metrics["loss"] < math.log(2 + small.DOCUMENTS)
    shutil.rmtree(path)  # the index is self-contained
    index = Index.open(tmp_path / "index")
    assert type(index.model).__name__.lower().startswith(kind)
    assert len(index.search(["harbour whale"], k=5)[0]) == 5
    assert kind == "bart" or share_found(tmp_path / "index") > 0.2


@pytest.mark.parametrize("what", ["query", "document"])
def test_texts_longer_than_a_pretrained_model_reads_are_refused(what, dataset, tmp_path):
    path = small.checkpoint("bart", tmp_path / "checkpoint", dataset)
    wanted = small.options(model__pretrained=str(path), **{f"mix__{what}_length": 65})
    with pytest.raises(InputError, match=rf"--mix\.{what}_length 65.*64"):
        train_index(dataset, tmp_path / "index", wanted)


@pytest.mark.parametrize("damage", [shutil.rmtree, lambda path: (path / "config.json").unlink()])
def test_a_pretrained_model_that_is_missing_is_told(damage, dataset, tmp_path):
    path = small.checkpoint("t5", tmp_path / "checkpoint", dataset)
    damage(path)
    with pytest.raises(InputError, match=r"cannot load the (tokenizer|model)"):
        train_index(dataset, tmp_path / "index", small.options(model__pretrained=str(path)))


def test_targets_say_which_codes_labeled_queries_compete_with():
    matrix = np.array([[2, 3, 1], [2, 4, 0], [5, 1, 0]], np.int32)
    targets = Targets.of(matrix, 7, np.array([0, 2]))
    assert targets.codes.tolist() == [[2, 3, 1], [2, 4, -100], [5, 1, -100]]
    assert targets.competitors is not None
    allowed = [set(np.flatnonzero(row)) for row in targets.competitors.numpy()]
    assert allowed[0] == {2, 5}
    assert allowed[1] == {1, 3}
    assert Targets.of(matrix, 7, None).competitors is None


def test_examples_of_every_task(dataset, unlabeled, tmp_path):
    train_index(dataset, tmp_path / "index", small.options(loop__steps=1))
    index = Index.open(tmp_path / "index")
    tokens = [[5] * number for number in range(1, small.DOCUMENTS + 1)]
    corpus = TokenizedCorpus(index.table, index.text, [], tokens)
    mix = dataclasses.replace(small.options().mix, document_length=8, chunks=2, query_length=3)
    found = gather_examples(dataset, corpus, mix, generator="extractive", seed=0)
    assert list(found) == ["indexing", "pseudo", "labeled"]
    indexing = found["indexing"]
    # 32 documents are longer than 8 tokens and have two chunks each.
    assert len(indexing) == 40 + 2 * 32
    assert indexing.rows[:40].tolist() == list(range(40))
    assert indexing.lengths[:40].tolist() == [min(8, number) for number in range(1, 41)]
    assert set(indexing.lengths[40:]) == {8}
    labeled = found["labeled"]
    assert labeled.rows.tolist() == list(range(40)), "train only: dev and test are not read"
    texts = dataset.query_texts()
    for number in range(40):
        expected = index.text.encode([texts[f"train{number}"]], 3)[0]
        assert labeled.line(number).tolist() == expected
    pseudo = dataset.pseudo_queries("extractive")
    assert len(found["pseudo"]) == len(pseudo)
    assert found["pseudo"].rows[0] == index.table.row_of(pseudo[0]["doc_id"])
    again = gather_examples(dataset, corpus, mix, generator="extractive", seed=0)
    np.testing.assert_array_equal(again["indexing"].tokens, indexing.tokens)
    alone = gather_examples(unlabeled, corpus, mix, generator=None, seed=0)
    assert list(alone) == ["indexing"]


def test_the_generative_memory_goes_with_the_index(tmp_path):
    """Its own one by itself, and queries of a model only where they have been made."""
    from data_prep.generate import generate_queries
    from dsi.generation import GenerativeMemory, MemoryOptions

    dataset = small.write(tmp_path / "dataset", splits=("train", "dev"))
    options = small.options(generator="memory", loop__steps=2)
    with pytest.raises(InputError, match=r"dsi queries .* --generator memory"):
        train_index(dataset, tmp_path / "none", options)
    # Forty pairs are too few to train on, so the memory of another dataset is used.
    texts = [document.title_and_text for document in dataset.documents()]
    folder = _trained_memory(tmp_path / "other")
    asked = MemoryOptions(per_doc=3, query_length=5, folder=str(folder), precision="fp32")
    generate_queries(dataset, "memory", asked)
    made = (dataset.path / "pseudo" / "memory" / "generator.json").read_bytes()
    train_index(dataset, tmp_path / "index", options, memory_folder=folder)
    assert (dataset.path / "pseudo" / "memory" / "generator.json").read_bytes() == made
    kept = versions.folder(tmp_path / "index", "0001") / "memory"
    expected = GenerativeMemory.open(folder).generate(texts[:3], per_doc=2)
    assert GenerativeMemory.open(kept).generate(texts[:3], per_doc=2) == expected


def _trained_memory(path: Path) -> Path:
    from data_prep.dataset import Document, InMemorySource, Qrel, Query
    from data_prep.dataset_writer import write_dataset
    from dsi.generation import MemoryOptions, train_memory

    documents = [Document(f"d{n}", "", f"The anchor {n} of the whale.") for n in range(50)]
    queries = [Query(f"q{n}", f"where is anchor {n}") for n in range(50)]
    qrels = [Qrel(f"q{n}", f"d{n}", 1, "train") for n in range(50)]
    options = MemoryOptions(width=64, layers=1, vocabulary=100, steps=2, pairs=4, query_length=5)
    return train_memory(write_dataset(path, InMemorySource(documents, queries, qrels)), options)


def test_a_training_refused_for_its_data_leaves_nothing_and_blocks_no_other(dataset, tmp_path):
    copy = small.write(tmp_path / "dataset")
    with pytest.raises(InputError, match="labeled training pairs"):
        train_index(copy, tmp_path / "index", small.options(generator="selective"))
    assert not (tmp_path / "index").exists()
    assert not list(copy.path.glob("pseudo/*"))
    train_index(copy, tmp_path / "index", small.options(loop__steps=1))


@pytest.mark.parametrize("steps", ["no-checkpoint", "checkpoint"])
def test_a_training_refused_in_its_steps_is_kept_where_it_has_a_checkpoint(
    steps, dataset, tmp_path, monkeypatch
):
    real = loop.backward_step

    def refuse(engine, parts, objectives, targets, **options):
        if options["step"] >= 3:
            raise InputError("the loss is not a finite number")
        return real(engine, parts, objectives, targets, **options)

    every = 1 if steps == "checkpoint" else 100
    options = small.options(loop__steps=4, loop__checkpoint_every=every)
    with monkeypatch.context() as patched:
        patched.setattr(loop, "backward_step", refuse)
        with pytest.raises(InputError, match="not a finite number"):
            train_index(dataset, tmp_path / "index", options)
    mended = small.options(loop__steps=2)
    if steps == "no-checkpoint":
        assert train_index(dataset, tmp_path / "index", mended).metrics["steps"] == 2
    else:
        with pytest.raises(InputError, match="was interrupted here"):
            train_index(dataset, tmp_path / "index", mended)
        assert train_index(dataset, tmp_path / "index", options).metrics["steps"] == 4


def test_what_took_long_stays_for_the_same_training_and_blocks_no_other(
    dataset, tmp_path, monkeypatch
):
    work = tmp_path / "index" / "training"

    def refuse(*words):
        (work / "teacher_scores").mkdir()
        raise InputError("does not fit")

    with monkeypatch.context() as patched:
        patched.setattr(build, "make_training_run", refuse)
        with pytest.raises(InputError, match="does not fit"):
            train_index(dataset, tmp_path / "index", small.options())
    assert (work / "teacher_scores").is_dir()
    train_index(dataset, tmp_path / "index", small.options(loop__steps=1))
    left = sorted(entry.name for entry in (tmp_path / "index").iterdir())
    assert left == ["live", "lock", "versions"]


def test_a_training_that_is_done_clears_up_what_a_kill_at_its_end_has_left(dataset, tmp_path):
    versions_folder = tmp_path / "index" / "versions"
    train_index(dataset, tmp_path / "index", small.options(loop__steps=1))
    before = sorted(tmp_path.rglob("*"))
    (versions_folder / "newest").rename(versions_folder / ".newest.new-abcdefgh")
    train_index(dataset, tmp_path / "index", small.options(loop__steps=1))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_training_killed_before_its_version_is_live_makes_no_second_one(
    dataset, tmp_path, monkeypatch
):
    def kill(*words):
        raise StopError

    options = small.options(loop__steps=2)
    with monkeypatch.context() as patched:
        patched.setattr(versions.Writer, "make_live", kill)
        with pytest.raises(StopError):
            train_index(dataset, tmp_path / "index", options)
    assert not (tmp_path / "index" / "live").exists()
    train_index(dataset, tmp_path / "index", options)
    assert versions.names(tmp_path / "index") == ["0001"]
    left = sorted(entry.name for entry in (tmp_path / "index").iterdir())
    assert left == ["live", "lock", "versions"]
