"""Decoder-only language models as indexes: each is trained, searched, updated, and restored."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import growing_corpus
import numpy as np
import pytest
import tiny_checkpoints
import torch
import transformers
from safetensors.torch import load_file
from test_encoder_decoders import assert_searched_as_by_hand
from two_processes import finish, start

from data_prep.errors import InputError
from docids.assignment import Assignment
from docids.kinds.keywords import KeywordOptions
from docids.kinds.text import TextOptions
from docids.model_tokens import code_tokens
from docids.pieces import Pieces
from docids.table import PAD
from dsi import Index, cli
from dsi.backbones.backbone import from_pretrained
from dsi.backbones.position_edits import edited_layer
from dsi.index_folder import versions
from dsi.indexing.build import train_index
from dsi.training.curves import read_scalars
from dsi.training.options import LoraOptions, SamOptions
from dsi.updating.delete import delete_documents
from dsi.updating.options import UpdateOptions
from dsi.updating.update import update_index

CONFIGS = Path(__file__).parents[3] / "configs" / "deepspeed"


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


def test_edits_of_a_language_model_add_up_and_are_rolled_back(checkpoint, corpora, tmp_path):
    out = tmp_path / "index"
    train_index(corpora["old"], out, options(checkpoint, loop__steps=1, optimizer__lr=1e-4))
    before = load_file(live(out) / "model" / "model.safetensors")
    parts = [
        growing_corpus.part(corpora["full"], tmp_path / name, numbers, ("test",))
        for name, numbers in (("first", range(30, 34)), ("second", range(34, 40)))
    ]
    edits = []
    for part in parts:
        done = update_index(out, part, UpdateOptions(strategy="edit", per_doc=2))
        assert done.manifest.metrics["edited"] == len(part.doc_ids)
        opened = Index.open(out, "cpu")
        assert_searched_as_by_hand(opened)
        edits.append(edited_layer(opened.model).edit)
        assert edits[-1].any()
    assert not torch.equal(edits[1], edits[0])
    # Nothing of the network has moved but the rows of codes.
    after = load_file(live(out) / "model" / "model.safetensors")
    rows = {"lm_head.weight", "decoder.embed_tokens.weight"}
    assert all(
        torch.equal(after[name], value) for name, value in before.items() if name not in rows
    )
    versions.rollback(out)
    assert torch.equal(edited_layer(Index.open(out, "cpu").model).edit, edits[0])
    versions.rollback(out)
    assert edited_layer(Index.open(out, "cpu").model) is None


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


@pytest.fixture(scope="module")
def anisotropic(checkpoint, tmp_path_factory):
    """A language model with most of the norm of its states in two dimensions, as large ones have.

    Only a token that it knows is read as those before it.
    """
    folder = tmp_path_factory.mktemp("anisotropic") / "checkpoint"
    shutil.copytree(checkpoint, folder)
    network = transformers.AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        network.model.norm.weight[:2] = 10.0
        network.model.embed_tokens.weight.mul_(20.0)
    network.save_pretrained(folder)
    return str(folder)


def asked_with_their_texts(out, corpus):
    """Returns the ranks at which documents find themselves, and how many come first for a text."""
    index = Index.open(out, "cpu")
    documents = list(corpus.documents())
    hits = index.search([f"{each.title}\n{each.text}" for each in documents], k=30)
    first = {some[0].doc_id for some in hits}
    return np.array(
        [
            [hit.doc_id for hit in some].index(each.doc_id)
            for some, each in zip(hits, documents, strict=True)
        ]
    ), len(first)


def test_code_rows_alone_memorize_documents_from_a_warm_start(anisotropic, corpora, tmp_path):
    """The start is far above chance, and training it frozen makes it better, not worse."""
    changes = {"docids": "atomic", "optimizer__lr": 1e-3, "optimizer__backbone_lr_scale": 0.0}
    train_index(corpora["old"], tmp_path / "start", options(anisotropic, **START))
    before, first = asked_with_their_texts(tmp_path / "start", corpora["old"])
    assert first > 15  # of 30 documents: no single one is the answer to everything
    mix = {"mix__indexing": 1.0, "mix__pseudo": 0.0, "mix__labeled": 0.0, "loop__steps": 20}
    train_index(corpora["old"], tmp_path / "trained", options(anisotropic, **changes, **mix))
    after, _ = asked_with_their_texts(tmp_path / "trained", corpora["old"])
    assert (after == 0).mean() >= (before == 0).mean() > 0.9


START = {"docids": "atomic", "loop__steps": 1, "optimizer__lr": 1e-9}


def test_the_start_token_is_the_last_of_the_prompt(checkpoint, corpora, tmp_path):
    out = tmp_path / "index"
    train_index(corpora["old"], out, options(checkpoint, **START))
    index = Index.open(out, "cpu")
    words, codes = (part.embed_tokens.weight for part in (index.model.encoder, index.model.decoder))
    (last,) = index.text.tokenizer("Document:", add_special_tokens=False)["input_ids"]
    assert torch.allclose(codes[PAD], words[last], atol=1e-6)
    read = index.text.encode(["the harbour"], 9)[0]
    whole = index.text.tokenizer("Query: the harbour\nDocument:", add_special_tokens=False)
    assert [*read, last] == whole["input_ids"]


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
    from dsi.text_encoders.prompt_template import template_encoder
    from dsi.text_encoders.text_encoder import checkpoint_tokenizer

    tokenizer = checkpoint_tokenizer(checkpoint)
    encoder = template_encoder(tokenizer, prompt, checkpoint)
    assert encoder.template == f"{begins}{{query}}{ends}"
    (line,) = encoder.encode(["the harbour and the whale"], 3)
    plain = tokenizer(f"{begins}the harbour and{ends}", add_special_tokens=False)["input_ids"]
    assert line == plain
    document = encoder.encode_documents(["the harbour and the whale"], 100)[0]
    assert encoder.part(document, 0, 3) == plain
    assert len(encoder.part(document, 0, 0)) == encoder.prompt_length


@pytest.mark.parametrize("family", ["gemma2", "llama"])  # one matrix of words, and two
def test_identifiers_in_its_own_tokens_are_text_that_it_knows_how_to_write(
    family, texts, corpora, tmp_path
):
    path = tiny_checkpoints.write_language_model(family, tmp_path / "checkpoint", texts)
    out = tmp_path / "index"
    changes = {"docids": "keywords", "keywords": KeywordOptions(tokens="model", count=2)}
    still = {"loop__steps": 1, "optimizer__lr": 1e-9, "loop__evaluate_every": 1}
    train_index(corpora["old"], out, options(path, **changes, **still))
    whole = transformers.AutoModelForCausalLM.from_pretrained(path).eval()
    shutil.rmtree(path)
    index = Index.open(out, "cpu")
    assert_searched_as_by_hand(index)
    # Untrained, it gives a token what the language model gives it after "Query: ... Document:".
    built = Assignment.open(live(out) / "assignment").built
    tokens = torch.from_numpy(code_tokens(built))
    pieces = Pieces.of(built.extras)
    words = " ".join(texts).replace(".", "").lower().split()
    assert set(pieces.text(index.table.sequence(3)).split()) <= set(words)
    ids = index.text.tokenizer("Query: the harbour Document:", add_special_tokens=False)
    codes = torch.tensor([list(index.table.sequence(3)[:-1])])
    read = torch.cat([torch.tensor([ids["input_ids"]]), tokens[codes]], dim=1)
    given = torch.tensor(index.text.encode(["the harbour"], 9))
    begun = torch.cat([torch.zeros((1, 1), dtype=torch.int64), codes], dim=1)
    with torch.no_grad():
        theirs = whole(input_ids=read).logits[:, -begun.shape[1] :, tokens[1:]]
        ours = index.model(given, torch.ones_like(given), begun).logits[:, :, 1:]
    assert torch.allclose(ours, theirs, atol=1e-4)
    # New documents bring tokens that no identifier had.
    update_index(out, corpora["new"], UpdateOptions(strategy="append"))
    grown = Index.open(out, "cpu")
    before, rows = len(tokens), grown.model.decoder.embed_tokens.weight
    more = code_tokens(Assignment.open(live(out) / "assignment").built)
    assert len(rows) == len(more) > before
    assert torch.equal(rows[before:], grown.model.encoder.embed_tokens.weight[more[before:]])
    same = torch.equal(grown.model.lm_head.weight[before:], rows[before:])
    assert same == (family == "gemma2")
    assert torch.equal(grown.model.lm_head.weight[:before], index.model.lm_head.weight)
    assert_searched_as_by_hand(grown)


def test_own_tokens_that_cannot_be_are_told_in_one_line(checkpoint, texts, corpora, tmp_path):
    own = {"docids": "title", "title": TextOptions(tokens="model")}

    def refused(match, path=checkpoint, **changes):
        wanted = options(path, **{**own, **changes})
        with pytest.raises(InputError, match=match) as told:
            train_index(corpora["old"], tmp_path / "index", wanted)
        assert "\n" not in str(told.value)
        assert not (tmp_path / "index" / "live").exists()

    refused("title.tokens model needs a language model", None)
    refused("warm_start encodings would overwrite", model__warm_start="encodings")
    refused(
        "warm_start tokens needs identifiers in the tokens",
        model__warm_start="tokens",
        title=TextOptions(),
    )
    pair = tiny_checkpoints.write_encoder_decoder("flan-t5", tmp_path / "t5", texts)
    refused("this is an encoder-decoder", pair)
    with pytest.raises(InputError, match="vocabulary 9 has no effect while --tokens is model"):
        TextOptions(tokens="model", vocabulary=9)
    # A vocabulary that changed since the identifiers were assigned.
    train_index(corpora["old"], tmp_path / "made", options(checkpoint, **own))
    other = tiny_checkpoints.write_language_model("llama", tmp_path / "other", ["other words"])
    with pytest.raises(InputError, match="in the tokens of another model"):
        train_index(
            corpora["old"],
            tmp_path / "index",
            options(other, docids="title"),
            live(tmp_path / "made") / "assignment",
        )


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
    refused(r"exceeds the 64 tokens.*shorter --model.prompt", model__prompt=long)
    encoder_decoder = tiny_checkpoints.write_encoder_decoder("flan-t5", tmp_path / "t5", texts)
    refused("requires a language model", encoder_decoder, model__prompt="find {query}")
    plain = shutil.copytree(checkpoint, tmp_path / "plain")
    (plain / "chat_template.jinja").unlink()
    refused("has no chat template", str(plain), model__prompt="chat")
    broken = tmp_path / "unknown.gguf"
    broken.write_bytes(b"GGUF but nothing else")
    refused("unknown.gguf: not a valid GGUF file.*Download the file again", str(broken))
    if importlib.util.find_spec("gguf") is not None:
        other = tiny_checkpoints.write_gguf(tmp_path / "other.gguf", "unheard")
        refused("cannot load the (tokenizer|model).*other.gguf.*unheard", str(other))
    # A tokenizer that has grown since the model was trained.
    grown = Path(shutil.copytree(checkpoint, tmp_path / "grown"))
    tiny_checkpoints.tokenizer_of([*texts, "words of another corpus"]).save_pretrained(grown)
    refused("the tokenizer of .*grown' has .* tokens, but the model has rows for", str(grown))


@pytest.fixture(scope="module")
def atomic_index(checkpoint, corpora, tmp_path_factory):
    """An index of a language model, to be copied."""
    out = tmp_path_factory.mktemp("atomic") / "index"
    short = {"loop__steps": 2, "loop__evaluate_every": 2, "loop__checkpoint_every": 2}
    train_index(corpora["old"], out, options(checkpoint, docids="atomic", **short))
    return out


@pytest.mark.parametrize(
    "strategy",
    [
        "finetune", "reindex", "episodic", "instant", "retrain", "generative+lora",
        "generative+i-lora", "generative+reglora", "generative+distill", "generative+batch-softmax",
        "generative+ewc+frozen-rows+warm-up+sam", "generative+rank1-ewc",
        "generative+threshold-margin",
    ],
)  # fmt: skip
def test_every_strategy_that_trains_layers_of_any_kind_updates_it(
    strategy, atomic_index, corpora, tmp_path
):
    out = Path(shutil.copytree(atomic_index, tmp_path / "index"))
    steps = {} if strategy in ("instant", "retrain") else {"steps": 2}
    update_index(out, corpora["new"], UpdateOptions(strategy=strategy, **steps))
    grown = Index.open(out, "cpu")
    assert len(grown) == 40
    assert_searched_as_by_hand(grown)


def test_a_strategy_that_knows_the_layers_of_t5_refuses_it_by_name(atomic_index, corpora, tmp_path):
    out = Path(shutil.copytree(atomic_index, tmp_path / "index"))
    with pytest.raises(InputError, match=r"strategy locas supports .* T5 .* PromptedLanguageModel"):
        update_index(out, corpora["new"], UpdateOptions(strategy="generative+locas", steps=2))
    assert versions.names(out) == ["0001"]


def test_documents_are_deleted_and_versions_rolled_back(atomic_index, corpora, tmp_path):
    out = Path(shutil.copytree(atomic_index, tmp_path / "index"))
    (best, *_) = Index.open(out, "cpu").search("the harbour", k=3)
    delete_documents(out, [best.doc_id])
    without = Index.open(out, "cpu")
    assert best.doc_id not in [hit.doc_id for hit in without.search("the harbour", k=29)]
    assert_searched_as_by_hand(without)
    versions.rollback(out)
    assert Index.open(out, "cpu").search("the harbour", k=3)[0] == best


def test_sam_perturbs_it(checkpoint, corpora, tmp_path):
    short = {"loop__steps": 2, "loop__evaluate_every": 2, "loop__checkpoint_every": 2}
    wanted = options(checkpoint, docids="atomic", sam=SamOptions(rho=0.05), **short)
    train_index(corpora["old"], tmp_path / "index", wanted)
    curves = read_scalars(live(tmp_path / "index") / "log" / "tensorboard")
    (name,) = [name for name in curves if name.endswith("sharpness")]
    _, sharpness = curves[name]
    assert all(value != 0 for value in sharpness)
    assert len(sharpness) == 2


def test_an_index_of_a_gguf_file_needs_the_file_no_more(corpora, tmp_path):
    pytest.importorskip("gguf")
    file = tiny_checkpoints.write_gguf(tmp_path / "tiny.gguf")
    out = tmp_path / "index"
    short = {"loop__steps": 1, "loop__evaluate_every": 1, "loop__checkpoint_every": 1}
    train_index(corpora["old"], out, options(str(file), mix__query_length=20, **short))
    hits = Index.open(out, "cpu").search("the harbour", k=5)
    file.unlink()
    index = Index.open(out, "cpu")
    assert index.search("the harbour", k=5) == hits
    assert len({hit.doc_id for hit in hits}) == 5
    update_index(out, corpora["new"], UpdateOptions(strategy="append"))
    grown = Index.open(out, "cpu")
    assert len(grown) == 40
    rows = index.model.lm_head.weight.shape[0]
    assert torch.equal(grown.model.lm_head.weight[:rows], index.model.lm_head.weight)


@pytest.mark.parametrize(
    "engine", ["ddp", *(pytest.param(f"zero{n}", marks=pytest.mark.slow) for n in (2, 3))]
)
def test_two_processes_end_with_the_weights_of_one(engine, checkpoint, corpora, tmp_path):
    words = [
        "train", str(corpora["old"].path), "--out", str(tmp_path / "two"), "--docids", "atomic",
        "--model.pretrained", checkpoint, "--lexical.enabled", "false", "--generator", "none",
        "--mix.indexing", "1", "--mix.pseudo", "0", "--mix.labeled", "0",
        "--mix.document_length", "12", "--optimizer.lr", "0.003", "--optimizer.warmup", "0",
        "--optimizer.backbone_lr_scale", "1", "--loop.steps", "2", "--loop.batch", "8",
        "--loop.precision", "fp32", "--mix.query_length", "20", "--loop.beams", "10",
    ]  # fmt: skip
    if engine != "ddp":
        pytest.importorskip("deepspeed")
        words += ["--deepspeed", str(CONFIGS / f"{engine}.json")]
    for code, _, err in finish(start(*words)):
        assert code == 0, err
    words[words.index("--out") + 1] = str(tmp_path / "one")
    assert cli.main([word for word in words if "zero" not in word and word != "--deepspeed"]) == 0
    one, two = (Index.open(tmp_path / name, "cpu") for name in ("one", "two"))
    theirs = two.model.state_dict()
    for name, value in one.model.state_dict().items():
        torch.testing.assert_close(value, theirs[name], atol=1e-4, rtol=1e-3)
    assert_searched_as_by_hand(two)


@pytest.mark.parametrize("way", ["all", "lora", "lora-bf16"])
def test_a_run_that_was_interrupted_ends_with_the_same_weights(
    way, checkpoint, corpora, tmp_path, monkeypatch
):
    from dsi.training import loop

    wanted = options(checkpoint, loop__checkpoint_every=4, loop__gradient_checkpointing=True)
    if way != "all":
        wanted = options(
            checkpoint,
            loop__checkpoint_every=4,
            loop__precision="bf16" if way == "lora-bf16" else "fp32",
            optimizer__backbone_lr_scale=None,
            lora=LoraOptions(rank=2, dropout=0.1),
        )
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
