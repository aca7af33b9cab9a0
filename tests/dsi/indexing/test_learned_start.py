"""Training that starts from the model of learned identifiers."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
import small
import torch
from safetensors.torch import load_file

from data_prep.dataset import Document, InMemorySource
from data_prep.dataset_writer import write_dataset
from data_prep.errors import InputError
from docids.assignment import Assignment
from docids.code_learning.encoder_decoder import CodeVectors
from docids.kinds.learned import LearnedOptions
from docids.table import FIRST_CODE, PAD
from dsi import Index
from dsi.index_folder import versions
from dsi.indexing.build import train_index
from dsi.indexing.dry_run import plan_training
from dsi.lexical.options import LexicalOptions
from dsi.updating.options import UpdateOptions
from dsi.updating.update import update_index

SIZE = 5


def wanted(checkpoint, **changes):
    """One step that moves nothing to speak of: what is found was taught by the codes' training."""
    learned = LearnedOptions(
        model=str(checkpoint), levels=2, codebook=SIZE, epochs=5, batch=32, lr=3e-3, least_use=0
    )
    still = {"loop__steps": 1, "optimizer__lr": 1e-9, "mix__pseudo": 0, "generator": "none"}
    network = {"lexical": LexicalOptions(enabled=False)}  # it finds documents by their words
    return small.options(docids="learned", learned=learned, **{**still, **network, **changes})


@pytest.fixture(scope="module")
def start(dataset, tmp_path_factory):
    """An index right after the start, and the checkpoint that the codes' training began with."""
    folder = tmp_path_factory.mktemp("learned")
    checkpoint = small.checkpoint("t5", folder / "t5", dataset)
    with pytest.MonkeyPatch.context() as patched:
        told = []
        patched.setattr("dsi.indexing.preparation.note", told.append)
        manifest = train_index(dataset, folder / "index", wanted(checkpoint))
    assert told == ["training starts from the model that the identifiers were trained with"]
    assert manifest.configuration["options"]["model"]["warm_start"] == "learned"
    return folder / "index", checkpoint


def assignment(index):
    return versions.folder(index, versions.live(index)) / "assignment"


def found_among_ten(index, dataset) -> float:
    """Share of the documents whose own text finds them among ten of forty."""
    documents = list(dataset.documents())
    hits = Index.open(index, "cpu").search([d.text for d in documents], k=10, beams=40)
    pairs = zip(hits, documents, strict=True)
    return float(np.mean([any(hit.doc_id == d.doc_id for hit in got) for got, d in pairs]))


def test_it_finds_documents_by_what_the_codes_were_taught(start, dataset, tmp_path):
    index, checkpoint = start
    assert found_among_ten(index, dataset) > 0.6  # chance is a quarter
    # The same identifiers without their learned model: about chance.
    unrelated = wanted(
        checkpoint,
        model__pretrained=str(checkpoint),
        model__warm_start="none",
        lexical__enabled=False,
    )
    train_index(dataset, tmp_path / "index", unrelated, assignment(index))
    assert found_among_ten(tmp_path / "index", dataset) < 0.4


def test_its_weights_are_those_that_were_kept(start):
    index, _ = start
    kept = load_file(assignment(index) / "model" / "model.safetensors")
    model = Index.open(index, "cpu").model
    codes = CodeVectors.of(Assignment.open(assignment(index)).built.extras)
    own = {"shared.weight", "decoder.embed_tokens.weight", "lm_head.weight"}
    for name, weight in model.state_dict().items():
        if name not in own:
            saved = kept["shared.weight" if name == "encoder.embed_tokens.weight" else name]
            torch.testing.assert_close(weight, saved, rtol=0, atol=1e-7, msg=name)
    read = model.get_decoder().get_input_embeddings().weight.detach().numpy()
    last = FIRST_CODE + 2 * SIZE
    np.testing.assert_allclose(
        read[FIRST_CODE:last], codes.codebook.reshape(2 * SIZE, -1), atol=1e-7
    )
    np.testing.assert_allclose(read[PAD], codes.start, atol=1e-7)
    np.testing.assert_array_equal(codes.start, kept["shared.weight"][0])
    rows = model.get_output_embeddings().weight.detach().numpy()
    np.testing.assert_allclose(
        rows[FIRST_CODE:last], codes.outputs().reshape(2 * SIZE, -1), atol=1e-7
    )


@pytest.mark.parametrize("strategy", ["finetune", "retrain"])
def test_an_index_of_it_grows_without_the_checkpoint(strategy, start, tmp_path):
    index = shutil.copytree(start[0], tmp_path / "index")
    kept = start[1].rename(tmp_path / "t5")
    more = [Document(f"new{n}", "About sea", f"harbour whale seazor{n}") for n in range(3)]
    new = write_dataset(tmp_path / "new", InMemorySource(more))
    update_index(index, new, UpdateOptions(strategy=strategy, steps=1))
    grown = Index.open(index, "cpu")
    assert len(grown) == small.DOCUMENTS + 3
    assert (assignment(index) / "model" / "model.safetensors").is_file()
    assert len(grown.search(["harbour whale"], k=43, beams=43)[0]) == 43
    kept.rename(start[1])


def test_interrupted_after_the_identifiers_it_ends_with_the_same_bytes(
    start, dataset, tmp_path, monkeypatch
):
    index, checkpoint = start

    def killed(*words):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("dsi.indexing.build.make_training_run", killed)
        with pytest.raises(KeyboardInterrupt):
            train_index(dataset, tmp_path / "index", wanted(checkpoint))
    with monkeypatch.context() as patched:
        patched.setattr(
            "docids.code_learning.trainer.CodebookTrainer.run", killed
        )  # no code is relearned
        train_index(dataset, tmp_path / "index", wanted(checkpoint))
    assert small.weights(tmp_path / "index") == small.weights(index)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model__pretrained": "x"}, r"--model.pretrained x defines the network.*encodings"),
        ({"model__size": "tiny"}, r"--model.size tiny defines the network"),
        ({"model__dropout": 0.1}, r"--model.dropout 0.1 defines the network"),
        ({"docids": "semantic", "model__warm_start": "learned"}, r"--docids semantic were trained"),
        ({"docids": "learned", "learned": LearnedOptions(), "model__warm_start": "learned"},
         "--docids learned were trained without one.*--learned.model"),
    ],
)  # fmt: skip
def test_other_networks_beside_it_are_refused(changes, told, dataset, tmp_path):
    plain = {name: changes[name] for name in ("docids", "learned") if name in changes}
    grouped = {name: value for name, value in changes.items() if name not in plain}
    asked = dataclasses.replace(wanted("t5", **grouped), **plain)
    with pytest.raises(InputError, match=told):
        train_index(dataset, tmp_path / "index", asked)
    assert not (tmp_path / "index").exists()


def test_given_identifiers_bring_their_model_or_are_told_to_have_none(start, dataset, tmp_path):
    index, _ = start
    plan = plan_training(dataset.path, small.options(), assignment(index))
    assert "start from the model that the identifiers were trained with" in plan.steps
    kept = load_file(assignment(index) / "model" / "model.safetensors")
    own = sum(weight.numel() for name, weight in kept.items())
    assert plan.parameters is not None
    assert plan.parameters > own
    other = small.options(model__warm_start="spectral")
    steps = plan_training(dataset.path, other, assignment(index)).steps
    assert not any("start from" in step for step in steps)
    shutil.copytree(assignment(index), tmp_path / "docids")
    shutil.rmtree(tmp_path / "docids" / "model")
    asked = small.options(model__warm_start="learned")
    with pytest.raises(InputError, match=r"those of .*docids were trained without one"):
        train_index(dataset, tmp_path / "index", asked, tmp_path / "docids")
