"""Options that an update inherits from the first training, and those it reports as dropped."""

from __future__ import annotations

import dataclasses
import shutil

import growing_corpus
import pytest
import small

from data_prep.rehearsal import RehearsalOptions
from dsi.index_folder.versions import Manifest
from dsi.indexing.build import train_index
from dsi.indexing.options import TrainingOptions
from dsi.objectives.options import (
    CrossEntropyOptions,
    DistillationOptions,
    ObjectiveOptions,
    RDropOptions,
)
from dsi.training.options import LoraOptions, ModelOptions, SamOptions
from dsi.updating.first_training import training_options
from dsi.updating.inherited_options import inherited_terms, not_inherited
from dsi.updating.options import UpdateOptions
from dsi.updating.strategies.batch_softmax import BatchSoftmax
from dsi.updating.update import update_index


def terms(main=None, **changes):
    return {term.name: term for term in inherited_terms(small.options(**changes), main)}


def test_smoothing_and_weights_go_on():
    found = terms(
        loop__label_smoothing=0.1,
        model__dropout=0.1,
        objectives__cross_entropy=CrossEntropyOptions(weight=0.5),
        objectives__r_drop=RDropOptions(weight=0.15),
    )
    assert list(found) == ["cross_entropy", "r_drop"]
    assert (found["cross_entropy"].weight, found["r_drop"].weight) == (0.5, 0.15)
    assert found["cross_entropy"].label_smoothing == 0.1


def test_what_takes_the_place_of_cross_entropy_leaves_the_others():
    found = terms(
        BatchSoftmax(0.1), model__dropout=0.1, objectives__r_drop=RDropOptions(weight=0.15)
    )
    assert list(found) == ["batch_softmax", "r_drop"]


def test_a_loss_of_teacher_terms_alone_becomes_cross_entropy():
    imitating = ObjectiveOptions(
        cross_entropy=CrossEntropyOptions(weight=0.0), distillation=DistillationOptions(weight=2.0)
    )
    found = {
        term.name: term.weight
        for term in inherited_terms(
            dataclasses.replace(small.options(), objectives=imitating), None
        )
    }
    assert found == {"cross_entropy": 1.0}


@pytest.mark.parametrize(
    ("changes", "joined", "said"),
    [
        ({"objectives__distillation": DistillationOptions(weight=1.0)}, "ewc", "distillation ask"),
        ({"lora": 4, "optimizer__backbone_lr_scale": 1.0}, "lora", r"generative\+lora"),
        ({"sam": 0.1}, "sam", r"generative\+sam"),
        (
            {"rehearsal": RehearsalOptions(passages=1.0), "mix__indexing": 1.0},
            "ewc",
            "--rehearsal",
        ),
    ],
    ids=["teacher", "lora", "sam", "rehearsal"],
)
def test_what_is_left_out_is_said(changes, joined, said):
    import re

    made = {"lora": LoraOptions, "sam": SamOptions}
    plain = {
        name: value if name not in made else made[name](value) for name, value in changes.items()
    }
    groups = {name: plain.pop(name) for name in ("lora", "sam", "rehearsal") if name in plain}
    training = dataclasses.replace(small.options(**plain), **groups)
    found = not_inherited(training, ["generative"])
    assert len(found) == 1
    assert re.search(said, found[0])
    assert not_inherited(training, ["retrain"]) == not_inherited(training, ["instant"]) == []
    if joined in said:
        assert not_inherited(training, ["generative", joined]) == []


def test_nothing_is_said_of_a_plain_training():
    assert not_inherited(small.options(), ["generative"]) == []


def test_r_drop_of_the_first_training_changes_the_update(corpora, tmp_path):
    ends = []
    for weight in (0.0, 5.0):
        index = tmp_path / str(weight)
        options = small.options(
            docids="atomic",
            loop__steps=4,
            model__dropout=0.2,
            objectives__r_drop=RDropOptions(weight=weight),
        )
        train_index(corpora["old"], index, options)
        ends.append(index)
    for index in ends:
        small.without_checksums(index / "versions" / "0001")
    # The same start for both: only the loss in their manifests differs.
    shutil.copy(
        ends[0] / "versions" / "0001" / "model" / "model.safetensors",
        ends[1] / "versions" / "0001" / "model" / "model.safetensors",
    )
    for index in ends:
        done = update_index(index, corpora["new"], UpdateOptions(steps=4, ratio=0.0))
        assert done.not_inherited == []
    assert small.weights(ends[0]) != small.weights(ends[1])
    assert growing_corpus.found(ends[1], corpora["full"], growing_corpus.NEW) >= 0.9


def manifest(**model) -> Manifest:
    stored = dataclasses.asdict(TrainingOptions())
    stored["model"] |= model
    return Manifest(documents=1, added=1, configuration={"options": stored})


def test_options_come_back_as_they_were():
    assert training_options(manifest()) == TrainingOptions()


@pytest.mark.parametrize("former", ["lexical", "lexical-context"])
def test_sizes_of_earlier_versions_are_read_by_the_name_that_they_have_now(former):
    stored = manifest(size=former)
    del stored.configuration["options"]["model"]["latent_weight"]  # there was none
    assert training_options(stored).model == ModelOptions(size="latent")


def test_an_index_from_before_there_was_a_lexical_layer_is_retrained_without():
    stored = manifest()
    del stored.configuration["options"]["lexical"]
    assert not training_options(stored).lexical.enabled


def test_options_of_earlier_versions_are_read_by_the_names_that_they_have_now():
    stored = manifest()
    options = stored.configuration["options"]
    former = options.pop("optimizer")
    former["body"] = former.pop("backbone_lr_scale")
    former |= {"lr": 0.5, "body": 0.25}
    options["optimiser"] = former
    options["sam"] |= {"rho": 0.1, "weights": "body"}
    found = training_options(stored)
    assert (found.optimizer.lr, found.optimizer.backbone_lr_scale) == (0.5, 0.25)
    assert found.sam.weights == "backbone"
