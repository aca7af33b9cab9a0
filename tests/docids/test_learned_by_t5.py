"""Codes trained jointly with an encoder-decoder: learned, interrupted, kept, extended."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import tiny_t5
import torch
from transformers import T5ForConditionalGeneration

from data_prep.dataset import Document
from data_prep.errors import InputError
from docids.assignment import Assignment, assign
from docids.code_learning.checkpoint import Checkpoint
from docids.code_learning.encoder_decoder import CodeVectors, Seq2SeqNetwork, encode
from docids.code_learning.trainer import TEMPERATURE, CodebookTrainer
from docids.kinds.learned import LearnedOptions

COUNT, SIZE = 32, 4
ANIMALS, LAND = ("cats", "dogs", "mice"), ("valleys", "glaciers", "carve")
TEXTS = [
    " ".join([(ANIMALS, LAND)[n % 2][n // 2 % 3], (ANIMALS, LAND)[n % 2][n // 6 % 3]])
    for n in range(COUNT)
]
QUERIES = [[text.split()[0], text] for text in TEXTS]
DOCUMENTS = [Document(f"d{n}", "", text) for n, text in enumerate(TEXTS)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    return tiny_t5.write(tmp_path_factory.mktemp("t5"))


def options(checkpoint, **changes):
    quick = {"levels": 2, "codebook": SIZE, "epochs": 4, "batch": 32, "lr": 3e-3, "least_use": 0}
    return LearnedOptions(model=checkpoint, **{**quick, **changes})


def learned(checkpoint, scratch=None, **changes):
    return assign(
        DOCUMENTS,
        kind="learned",
        options=options(checkpoint, **changes),
        queries=lambda generator: QUERIES,
        scratch=scratch,
    )[0]


@pytest.fixture(scope="module")
def alone(checkpoint):
    return learned(checkpoint)


def test_the_model_is_trained_with_its_codes(alone, checkpoint):
    untrained = T5ForConditionalGeneration.from_pretrained(checkpoint).state_dict()
    trained = alone.built.model.model.state_dict()
    for name in ("encoder.embed_tokens.weight", "decoder.block.0.layer.0.SelfAttention.q.weight"):
        assert not torch.allclose(trained[name], untrained[name])
    # Documents on the same side of the corpus share the first code more often than others.
    first = alone.table.matrix()[:, 0]
    side = np.arange(COUNT) % 2
    same = first[:, None] == first
    assert same[side[:, None] == side].mean() > same[side[:, None] != side].mean() + 0.2


def test_a_query_leads_to_codes_of_its_document(alone):
    codes = alone.table.matrix()[:, :2] - 2 - [0, SIZE]
    found = encode(alone.built.model, alone.built.extras, TEXTS)
    assert (found[:, 0] == codes[:, 0]).mean() > 0.6  # chance is a quarter
    assert (found == codes).all(axis=1).mean() > 0.3  # chance is a sixteenth


def test_a_state_does_not_depend_on_the_texts_beside_it(checkpoint):
    loaded = Checkpoint.load(checkpoint, where="", hint="")
    network = Seq2SeqNetwork(loaded, ["cats hunt mice"], np.array([1]), ["dogs", "mice"])
    codes = torch.tensor([[1, 0], [2, 0], [0, 0]])
    books = torch.randn(2, SIZE, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = network.states(network.read(torch.arange(3)), codes, books, 2)
        for row in range(3):
            one = network.states(network.read(torch.tensor([row])), codes[row : row + 1], books, 2)
            for level in range(2):
                torch.testing.assert_close(one[level][0], together[level][row])
    assert network.owners.tolist() == [1, 0, 1]
    # The second state depends on the first code; the first state does not.
    changed = network.states(network.read(torch.arange(3)), (codes + 1) % SIZE, books, 2)
    torch.testing.assert_close(changed[0], together[0])
    assert not torch.allclose(changed[1], together[1])


@pytest.mark.parametrize("at", [9])
def test_interrupted_it_ends_with_the_same_bits(at, alone, checkpoint, tmp_path, monkeypatch):
    passes, done = CodebookTrainer._pass, []

    def dying(trainer, *words):
        done.append(words)
        if len(done) == at:
            raise KeyboardInterrupt
        passes(trainer, *words)

    monkeypatch.setattr(CodebookTrainer, "_pass", dying)
    with pytest.raises(KeyboardInterrupt):
        learned(checkpoint, tmp_path)
    again = learned(checkpoint, tmp_path)
    assert np.array_equal(again.table.matrix(), alone.table.matrix())
    for name, array in alone.built.extras.items():
        assert again.built.extras[name].tobytes() == array.tobytes(), name
    trained = alone.built.model.model.state_dict()
    for name, weight in again.built.model.model.state_dict().items():
        assert torch.equal(weight, trained[name]), name


def test_new_documents_are_read_by_the_kept_model(tmp_path):
    """The checkpoint that training started from need not be there any more."""
    path = tiny_t5.write(tmp_path / "t5")
    made = learned(path)
    made.save(tmp_path / "docids")
    shutil.rmtree(path)
    opened = Assignment.open(tmp_path / "docids")
    grown = opened.extend([Document("new", "", TEXTS[5])]).retire(["d0"])
    expected = encode(made.built.model, made.built.extras, [TEXTS[5]])[0] + [2, 2 + SIZE]
    assert grown.table.sequence(COUNT)[:2] == tuple(expected.tolist())
    grown.save(tmp_path / "later")  # and the model is stored with them
    again = Assignment.open(tmp_path / "later").extend([Document("newer", "", TEXTS[5])]).table
    assert again.sequence(COUNT + 1)[:2] == tuple(expected.tolist())


def test_identifiers_without_their_model_are_told(alone, tmp_path):
    alone.save(tmp_path / "docids")
    (tmp_path / "docids" / "model" / "model.safetensors").unlink()
    with pytest.raises(InputError, match="docids/model: cannot load the encoder-decoder"):
        Assignment.open(tmp_path / "docids").extend([Document("new", "", "cats")])
    shutil.rmtree(tmp_path / "docids" / "model")
    with pytest.raises(InputError, match="have no model"):
        Assignment.open(tmp_path / "docids").extend([Document("new", "", "cats")])
    books = alone.built.extras["codebook"]
    with pytest.raises(InputError, match="8 dimensions, but the stored model has 16"):
        encode(alone.built.model, {**alone.built.extras, "codebook": books[:, :, :8]}, ["cats"])
    with pytest.raises(InputError, match="have no codebooks"):
        encode(alone.built.model, {"codebook": books}, ["cats"])


def test_rows_of_codes_give_the_logits_that_they_were_trained_by(alone):
    """For a state of mean length: its cosine to each code, by the temperature."""
    codes = CodeVectors.of(alone.built.extras)
    state = np.random.default_rng(0).normal(size=16)
    for level, book in enumerate(codes.codebook):
        cosines = book @ state / np.linalg.norm(book, axis=1) / np.linalg.norm(state)
        long = state / np.linalg.norm(state) * codes.lengths[level]
        np.testing.assert_allclose(codes.outputs()[level] @ long, cosines / TEMPERATURE, rtol=1e-4)
    assert (codes.lengths > 0).all()


def test_what_does_not_go_together_or_is_missing_is_told(checkpoint):
    with pytest.raises(InputError, match=r"--learned.width 8 .* --learned.model"):
        options(checkpoint, width=8)
    with pytest.raises(
        InputError, match=r"--learned.model: cannot load the encoder-decoder 'none/such'"
    ):
        learned("none/such")
