"""Decoder-only language models as indexes: each is trained, searched, updated, and restored."""

from __future__ import annotations

import shutil

import growing_corpus
import numpy as np
import pytest
import tiny_checkpoints
import torch
from safetensors.torch import load_file
from test_encoder_decoders import assert_searched_as_by_hand

from data_prep.errors import InputError
from dsi import Index, versions
from dsi.backbone import from_pretrained
from dsi.indexing.build import train_index
from dsi.training.curves import read_scalars
from dsi.training.options import LoraOptions
from dsi.updating.options import UpdateOptions
from dsi.updating.update import update_index


@pytest.fixture(scope="module")
def texts(corpora):
    return [document.text for document in corpora["full"].documents()]


def options(path, **changes):
    return growing_corpus.options(
        **{
            "kind": "semantic",
            "lexical": False,
            "model__pretrained": path,
            "optimizer__lr": 3e-3,
            "optimizer__backbone_lr_scale": 1.0,
            "loop__steps": 8,
            "optimizer__warmup": 0,
            "loop__evaluate_every": 8,
            "loop__checkpoint_every": 8,
            "loop__evaluate_queries": 5,
            **changes,
        }
    )


def live(out):
    return versions.folder(out, versions.live(out))


@pytest.fixture(scope="module")
def checkpoint(texts, tmp_path_factory):
    return tiny_checkpoints.write_language_model("llama", tmp_path_factory.mktemp("llama"), texts)


@pytest.mark.parametrize("family", tiny_checkpoints.LANGUAGE_MODELS)
def test_it_is_trained_searched_updated_and_reopened(family, texts, corpora, tmp_path):
    path = tiny_checkpoints.write_language_model(family, tmp_path / "checkpoint", texts)
    out = tmp_path / "index"
    long = {"loop__steps": 40, "loop__evaluate_every": 40, "loop__checkpoint_every": 40}
    train_index(corpora["old"], out, options(path, **long))
    shutil.rmtree(path)  # the index is self-contained
    _, losses = read_scalars(live(out) / "log" / "tensorboard")["training/loss"]
    assert np.mean(losses[-8:]) < np.mean(losses[:8])  # batches differ in their loss
    index = Index.open(out, "cpu")
    assert_searched_as_by_hand(index)
    update_index(out, corpora["new"], UpdateOptions(strategy="append"))
    grown = Index.open(out, "cpu")
    assert len(grown) == len(index) + 10
    assert_searched_as_by_hand(grown)
    # The rows of old documents have not changed.
    rows = index.model.lm_head.weight.shape[0]
    assert torch.equal(grown.model.lm_head.weight[:rows], index.model.lm_head.weight)


@pytest.mark.parametrize("way", ["frozen", "lora"])
def test_what_is_frozen_stays_and_what_moves_learns(way, checkpoint, corpora, tmp_path):
    out = tmp_path / "index"
    changes = {"optimizer__backbone_lr_scale": 0.0}
    if way == "lora":
        changes = {"optimizer__backbone_lr_scale": None, "lora": LoraOptions(rank=2)}
    changes |= {"docids": "atomic", "model__warm_start": "none", "optimizer__lr": 0.03}
    train_index(corpora["old"], out, options(checkpoint, **changes))
    before = from_pretrained(checkpoint, alphabet_size=32).state_dict()
    after = load_file(live(out) / "model" / "model.safetensors")
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    rows = {"lm_head.weight", "decoder.embed_tokens.weight"}
    if way == "frozen":
        assert moved == rows
    else:
        assert "encoder.embed_tokens.weight" not in moved
        assert moved > rows


def test_a_frozen_model_starts_from_its_own_states_of_the_documents(checkpoint, corpora, tmp_path):
    """Asked with a document's own words, it finds the document before any step that counts."""
    out = tmp_path / "index"
    train_index(
        corpora["old"], out, options(checkpoint, docids="atomic", loop__steps=1, optimizer__lr=1e-9)
    )
    index = Index.open(out, "cpu")
    documents = list(corpora["old"].documents())
    asked = [f"{document.title}\n{document.text}" for document in documents]
    hits = index.search(asked, k=1)
    right = [
        hit[0].doc_id == document.doc_id for hit, document in zip(hits, documents, strict=True)
    ]
    assert sum(right) / len(right) > 0.5


@pytest.mark.parametrize(
    ("prompt", "begins", "ends"),
    [
        (None, "Query: ", "\nDocument:"),
        ("find {query}", "find ", ""),
        ("chat", "<s> ", " </s> <s>"),
        ("chat:What answers {query} ?", "<s> What answers ", " ? </s> <s>"),
    ],
)
def test_the_prompt_is_kept_whole_around_a_text(prompt, begins, ends, checkpoint):
    from dsi.prompt_template import template_encoder
    from dsi.text_encoder import checkpoint_tokenizer

    tokenizer = checkpoint_tokenizer(checkpoint)
    encoder = template_encoder(tokenizer, prompt, checkpoint)
    assert encoder.template == f"{begins}{{query}}{ends}"
    (line,) = encoder.encode(["the harbour and the whale"], 3)
    plain = tokenizer(f"{begins}the harbour and{ends}", add_special_tokens=False)["input_ids"]
    assert line == plain
    document = encoder.encode_documents(["the harbour and the whale"], 100)[0]
    assert encoder.part(document, 0, 3) == plain
    assert len(encoder.part(document, 0, 0)) == encoder.beside


def test_what_cannot_be_is_told_in_one_line(checkpoint, texts, corpora, tmp_path):
    def refused(match, path=checkpoint, **changes):
        with pytest.raises(InputError, match=match) as told:
            train_index(corpora["old"], tmp_path / "index", options(path, **changes))
        assert "\n" not in str(told.value)
        assert not (tmp_path / "index" / "live").exists()

    refused(r"prompt 'find it'.*0 times", model__prompt="find it")
    refused("pawa", model__head="pawa")
    refused(r"--mix.query_length 60 with \d+ of prompt and identifier.*64", mix__query_length=60)
    long = "very " * 70 + "{query}"
    refused(r"more than the 64 tokens.*shorter --model.prompt", model__prompt=long)
    encoder_decoder = tiny_checkpoints.write_encoder_decoder("flan-t5", tmp_path / "t5", texts)
    refused("requires a language model", encoder_decoder, model__prompt="find {query}")
    plain = shutil.copytree(checkpoint, tmp_path / "plain")
    (plain / "chat_template.jinja").unlink()
    refused("has no chat template", str(plain), model__prompt="chat")
    broken = tmp_path / "unknown.gguf"
    broken.write_bytes(b"GGUF but nothing else")
    refused("cannot load the (tokenizer|model).*unknown.gguf", str(broken))


def test_a_run_that_was_interrupted_ends_with_the_same_weights(
    checkpoint, corpora, tmp_path, monkeypatch
):
    from dsi.training import loop

    wanted = options(checkpoint, loop__checkpoint_every=4, loop__gradient_checkpointing=True)
    train_index(corpora["old"], tmp_path / "whole", wanted)
    gradients = loop._gradients

    def stops(*given):
        if given[-1] == 6:
            raise KeyboardInterrupt
        return gradients(*given)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "_gradients", stops)
        with pytest.raises(KeyboardInterrupt):
            train_index(corpora["old"], tmp_path / "again", wanted)
    train_index(corpora["old"], tmp_path / "again", wanted)
    both = [
        load_file(live(tmp_path / name) / "model" / "model.safetensors")
        for name in ("whole", "again")
    ]
    assert both[0].keys() == both[1].keys()
    assert all(torch.equal(value, both[1][name]) for name, value in both[0].items())


def test_recomputed_states_give_the_same_gradients(checkpoint):
    given = {
        "input_ids": torch.tensor([[5, 6, 7, 8], [9, 4, 0, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]),
        "decoder_input_ids": torch.tensor([[0, 3], [0, 5]]),
    }
    found = []
    for again in (False, True):
        model = from_pretrained(checkpoint, alphabet_size=12).train()
        if again:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model(**given).logits.square().sum().backward()
        found.append([weight.grad for weight in model.parameters()])
    assert all(grad is not None for grad in found[0])
    assert all(map(torch.allclose, *found))
