"""Data stored by earlier releases is read under the current names."""

import pytest

from data_prep.dataset import Dataset
from data_prep.former_names import NAMES, VALUES, current_name, current_value, with_current_names


@pytest.mark.parametrize(
    ("former", "current"),
    [
        ("optimiser.lr", "optimizer.lr"),
        ("optimiser.body", "optimizer.backbone_lr_scale"),
        ("base.optimiser.body", "base.optimizer.backbone_lr_scale"),
        ("optimizer.lr", "optimizer.lr"),
        ("optimisers.lr", "optimisers.lr"),
        ("my_optimiser", "my_optimiser"),
        ("body", "body"),
        ("mix.labelled", "mix.labeled"),
        ("dev_share", "dev_fraction"),
        ("base.extractive.keyword_share", "base.extractive.keyword_fraction"),
        ("update.new_share", "update.new_fraction"),
        ("reglora.share", "reglora.fraction"),
        ("share", "share"),
        ("split.share", "split.fraction"),
    ],
)
def test_names_are_replaced_as_whole_keys(former, current):
    assert current_name(former) == current


def test_values_are_replaced_under_their_option_only():
    assert current_value("sam.weights", "body") == "backbone"
    assert current_value("train.sam.weights", "body") == "backbone"
    assert current_value("sam.weights", "norms") == "norms"
    assert current_value("dataset.name", "body") == "body"
    assert current_value("sam.weights", 3) == 3
    assert current_value("mix.negatives", "labelled") == "labeled"
    assert current_value("origin", "labelled") == "labelled"


def test_a_former_name_may_say_what_its_value_begins_with():
    assert current_value("loop.wandb", "papers") == "wandb:papers"
    assert current_value("train.loop.wandb", "papers") == "wandb:papers"
    assert current_value("loop.wandb", None) is None
    assert current_value("loop.track", "trackio:papers") == "trackio:papers"
    stored = {"loop": {"wandb": "papers", "steps": 5}}
    assert with_current_names(stored) == {"loop": {"track": "wandb:papers", "steps": 5}}


def test_no_current_name_is_a_former_one():
    for name in [*NAMES.values(), *VALUES]:
        assert current_name(name) == name


def test_stored_objects_are_read_at_any_depth():
    stored = {
        "seed": 0,
        "optimiser": {"lr": 0.1, "body": None, "rows": ["a"]},
        "sam": {"weights": "body"},
        "layers": [{"kind": "normalise"}, 3],
        "a reason. With a full stop": 1,
    }
    assert with_current_names(stored) == {
        "seed": 0,
        "optimizer": {"lr": 0.1, "backbone_lr_scale": None, "rows": ["a"]},
        "sam": {"weights": "backbone"},
        "layers": [{"kind": "normalize"}, 3],
        "a reason. With a full stop": 1,
    }


DATASET = """
{"format_version": 1, "name": "old", "source": "somewhere", "licence": "CC0", "documents": 0,
 "queries": 0, "qrels": {}, "content_hash": "ab", "dropped": {}, "noted": {}}
"""


def test_a_dataset_of_an_earlier_version_is_opened(tmp_path):
    (tmp_path / "dataset.json").write_text(DATASET)
    assert Dataset.open(tmp_path).info.license == "CC0"
    assert "licence" not in Dataset.open(tmp_path).info.to_json()
