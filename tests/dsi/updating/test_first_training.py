"""Options of the first training in a manifest, including manifests of earlier releases."""

from __future__ import annotations

import dataclasses

import pytest

from dsi.index_folder.versions import Manifest
from dsi.indexing.options import TrainingOptions
from dsi.training.options import ModelOptions
from dsi.updating.first_training import training_options


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
