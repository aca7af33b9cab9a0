"""Dry runs: the plan of a training, in numbers that can be checked."""

from __future__ import annotations

import dataclasses
import json

import pytest
import small
import torch

from data_prep.errors import InputError
from data_prep.generate import generate_queries
from docids.kinds.rq import ResidualOptions
from dsi.backbones.backbone import from_scratch
from dsi.cli import main
from dsi.data.options import MixOptions
from dsi.indexing.dry_run import plan_training
from dsi.indexing.options import TrainingOptions
from dsi.indexing.start import DEFAULT_STEPS, resolve_start
from dsi.training.options import LoopOptions, ModelOptions, SamOptions


def test_parameters_are_those_of_the_network(tmp_path):
    options = small.options(model__size="tiny", optimizer__name="adamw")
    plan = plan_training(tmp_path / "none", options, documents=100)
    model = from_scratch("tiny", text_vocabulary=options.vocabulary.size, alphabet_size=102)
    assert plan.parameters == sum(weight.numel() for weight in model.parameters())
    assert plan.memory == plan.parameters * 16
    assert plan_training(
        tmp_path / "none", small.options(model__size="tiny", optimizer__name="adafactor"),
        documents=100,
    ).memory == plan.parameters * 8  # fmt: skip
    perturbed = dataclasses.replace(options, sam=SamOptions(rho=0.1))
    assert plan_training(tmp_path / "none", perturbed, documents=100).memory == plan.parameters * 20


def test_a_corpus_without_words_is_refused_as_in_training(tmp_path, capsys):
    file = tmp_path / "docs.jsonl"
    file.write_text('{"id": "a", "text": "!!! ???"}\n{"id": "b", "text": "of the"}\n')
    errors = []
    for more in ([], ["--dry_run"]):
        assert main(["train", str(file), "--out", str(tmp_path / "index"), "--quiet", *more]) == 2
        errors.append(capsys.readouterr().err)
    assert "contain no words for a vocabulary" in errors[0]
    assert errors[0] == errors[1]


def test_only_what_is_trained_has_gradients_and_states(tmp_path):
    """A latent model with atomic identifiers moves its rows; the rest costs its weights."""
    plan = plan_training(tmp_path / "none", small.options(), documents=100)
    rows = (small.options().vocabulary.size + 2 * 102) * 256
    assert plan.memory == 4 * plan.parameters + 12 * rows < 16 * plan.parameters


def test_an_adaptor_of_the_output_layer_is_counted(tmp_path):
    wanted = small.options(
        docids="rq", rq=ResidualOptions(levels=2, codebook=8), model__size="tiny"
    )
    model = dataclasses.replace(wanted.model, head="pawa", head_layers=1)
    with_one = plan_training(
        tmp_path / "none", dataclasses.replace(wanted, model=model), documents=100
    )
    plain = plan_training(tmp_path / "none", wanted, documents=100)
    layer = torch.nn.TransformerDecoderLayer(256, 4, 1024)
    own = sum(weight.numel() for weight in layer.parameters())
    assert with_one.parameters - plain.parameters == own + 256 + 18 * 256 * 256


def test_without_the_number_of_documents_atomic_identifiers_cannot_be_counted(tmp_path):
    plan = plan_training(tmp_path / "none", small.options())
    assert (plan.parameters, plan.memory, plan.documents) == (None, None, None)
    assert plan.steps[0].startswith("first: dsi prepare")


def test_steps_follow_what_is_there(tmp_path):
    unlabeled = small.write(tmp_path / "unlabeled", splits=())
    options = small.options(loop__steps=7, loop__batch=8)
    plan = plan_training(unlabeled.path, options, tmp_path / "ids")
    assert plan.documents == small.DOCUMENTS
    assert plan.examples == 56
    assert plan.steps == [
        "generate 4 pseudo-queries per document (extractive)",
        f"first: dsi docids {unlabeled.path} --out {tmp_path / 'ids'}",
        "weight the words of the documents (training: none)",
        "train 7 steps of 8 examples",
    ]
    assert plan.proportions == pytest.approx({"indexing": 2 / 7, "pseudo": 5 / 7}), (
        "no labeled query"
    )
    assert any(
        step == f"first: dsi queries {unlabeled.path} --generator seq2seq"
        for step in plan_training(unlabeled.path, small.options(generator="seq2seq")).steps
    )


def test_a_budget_of_tokens_is_told(unlabeled):
    plan = plan_training(unlabeled.path, small.options(loop__batch=None, loop__tokens=4096))
    assert plan.examples is None
    assert plan.steps[-1] == "train 8 steps of at most 4,096 tokens of text"


def test_pseudo_queries_that_are_there_are_read(tmp_path):
    dataset = small.write(tmp_path / "set")
    generate_queries(dataset, "extractive")
    plan = plan_training(dataset.path, small.options())
    assert plan.steps[0] == "read the pseudo-queries of extractive"
    assert set(plan.proportions) == {"indexing", "pseudo", "labeled"}


def test_nothing_to_train_on_is_told_before(unlabeled):
    options = small.options()
    mix = dataclasses.replace(options.mix, indexing=0.0, pseudo=0.0)
    with pytest.raises(InputError, match="nothing to train on"):
        plan_training(unlabeled.path, dataclasses.replace(options, mix=mix))


def test_the_command_says_it_and_does_nothing(unlabeled, tmp_path, capsys):
    out = tmp_path / "index"
    words = ["train", str(unlabeled.path), "--out", str(out)]
    assert main([*words, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["documents"] == small.DOCUMENTS
    assert main([*words, "--dry-run"]) == 0
    assert "build the network" in capsys.readouterr().out
    assert main([*words, "--dry-run", "--sam.rho", "0.1"]) == 0
    assert "train 160 steps of 512 examples" in capsys.readouterr().out
    assert not out.exists()
    assert main([*words, "--documents", "5"]) == 2
    assert "--dry-run" in capsys.readouterr().err


def test_a_dry_run_meets_what_a_training_would_meet(tmp_path, capsys):
    dataset = str(small.write(tmp_path / "ds").path)
    out = tmp_path / "index"
    words = ["train", dataset, "--out", str(out), "--dry_run"]
    out.mkdir()
    (out / "letter.txt").write_text("mine")
    assert main(words) == main(words[:-1]) == 2
    [dry, real] = [line for line in capsys.readouterr().err.splitlines() if "dsi: " in line]
    assert dry == real
    assert "holds files that are not an index" in dry
    assert [entry.name for entry in out.iterdir()] == ["letter.txt"]
    (out / "letter.txt").unlink()
    assert main(words) == 0
    assert list(out.iterdir()) == []


def steps(options: TrainingOptions) -> int | None:
    return resolve_start(options, None).loop.steps


def test_the_network_from_scratch_ranks_without_training():
    assert steps(TrainingOptions()) == 0
    assert steps(TrainingOptions(loop=LoopOptions(precision="fp32", beams=7))) == 0


def test_options_of_its_training_train_it():
    assert steps(TrainingOptions(mix=MixOptions(indexing=1.0))) == DEFAULT_STEPS
    assert steps(TrainingOptions(model=ModelOptions(size="tiny"))) == DEFAULT_STEPS


@pytest.mark.parametrize(
    "loop",
    [
        LoopOptions(batch=64),
        LoopOptions(tokens=512),
        LoopOptions(accumulation=2),
        LoopOptions(gradient_checkpointing=True),
    ],
)
def test_options_of_a_step_are_refused_where_none_is_made(loop):
    with pytest.raises(
        InputError, match=r"has no effect if the network is not trained.*--loop.steps"
    ):
        resolve_start(TrainingOptions(loop=loop), None)
    trained = TrainingOptions(loop=loop, model=ModelOptions(size="tiny"))
    assert steps(trained) == DEFAULT_STEPS
