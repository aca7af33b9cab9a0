"""Training with a pretrained text encoder: trained and frozen weights, all identifier kinds."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small
import tiny_encoders
import torch
from two_processes import finish, start

from data_prep.dataset import Document, InMemorySource
from data_prep.dataset_writer import write_dataset
from data_prep.errors import InputError
from docids.sentence_encoder import SentenceEncoder
from docids.table import FIRST_CODE
from dsi import Index
from dsi.commands.info import info
from dsi.indexing.build import train_index
from dsi.indexing.dry_run import plan_training
from dsi.training import loop
from dsi.updating.options import UpdateOptions
from dsi.updating.update import update_index

STILL = {"optimizer__lr": 1e-12, "loop__steps": 1}
PROMPTS = {"query": "query: ", "document": "passage: "}


def words_of(dataset) -> list[str]:
    texts = [f"{document.title} {document.text}" for document in dataset.documents()]
    texts += [*dataset.query_texts().values(), "query: passage:", "newt pond nine ten"]
    return sorted({word for text in texts for word in text.split()})


def write_encoder(dataset, folder, kind: str) -> str:
    """A tiny encoder that knows the words of the corpus."""
    pytest.importorskip("sentence_transformers")
    if kind == "static":
        rng = np.random.default_rng(0)
        vectors = {word: rng.standard_normal(24).tolist() for word in words_of(dataset)}
        return tiny_encoders.write_static(folder / "static", vectors)
    shape = {"max_position_embeddings": 64, "hidden_size": 24}
    plain = tiny_encoders.write_bert(folder / "plain", words_of(dataset), **shape)
    return tiny_encoders.write_sentence_transformer(folder / "st", plain, "mean", True, PROMPTS)


@pytest.fixture(scope="module")
def static(dataset, tmp_path_factory) -> str:
    return write_encoder(dataset, tmp_path_factory.mktemp("encoders"), "static")


@pytest.fixture(scope="module")
def bert(dataset, tmp_path_factory) -> str:
    return write_encoder(dataset, tmp_path_factory.mktemp("encoders"), "bert")


def trained(dataset, out, encoder: str, **changes: Any):
    """The manifest of an index behind an encoder."""
    # The network is tested: its ranking, and the weights of its last step.
    changes = {"lexical__enabled": False, **changes}
    return train_index(dataset, out, small.options(model__encoder=encoder, **changes))


@pytest.fixture(scope="module")
def dataset(without_dev):
    """Without dev queries the last weights are kept, and not the best."""
    return without_dev


def moved(dataset, tmp_path, encoder: str, **changes: Any) -> set[str]:
    """The names of the weights that training moves."""
    still = Path(encoder).parent / f"{Path(encoder).name}-still"
    trained(dataset, still, encoder, **STILL)  # it exists after the first time
    trained(dataset, tmp_path / "moved", encoder, loop__steps=3, **changes)
    before, after = (
        Index.open(folder, "cpu").model.state_dict() for folder in (still, tmp_path / "moved")
    )
    return {
        name
        for name, value in after.items()
        if (value - before[name]).abs().max() > 1e-6 and "position_ids" not in name
    }


def ranking(out, queries) -> list[list[str]]:
    hits = Index.open(out, "cpu").search(queries, k=5)
    return [[hit.doc_id for hit in found] for found in hits]


def wanted_ranking(encoder: str, documents, queries) -> list[list[str]]:
    made = SentenceEncoder(encoder)
    texts = [f"{each.title}\n{each.text}".strip() for each in documents]
    scores = made.encode_queries(queries) @ made.encode_documents(texts).T
    ids = [each.doc_id for each in documents]
    return [[ids[row] for row in np.argsort(-line, kind="stable")[:5]] for line in scores]


@pytest.mark.parametrize("kind", ["static", "bert"])
def test_before_any_step_an_index_ranks_as_sentence_transformers(kind, dataset, tmp_path, request):
    encoder = request.getfixturevalue(kind)
    trained(dataset, tmp_path / "index", encoder, **STILL)
    queries = list(dataset.query_texts().values())[:20]
    expected = wanted_ranking(encoder, list(dataset.documents()), queries)
    assert ranking(tmp_path / "index", queries) == expected
    told = info(tmp_path / "index").data
    prompts = PROMPTS if kind == "bert" else {"query": "", "document": ""}
    assert told["prompts"] == prompts


def test_by_default_only_the_map_that_all_documents_share_moves(dataset, tmp_path, bert):
    names = moved(dataset, tmp_path, bert)
    cross = "decoder.block.0.layer.1.EncDecAttention"
    assert names == {f"{cross}.v.weight", f"{cross}.o.weight"}


def test_an_encoder_can_be_opened(dataset, tmp_path, bert):
    names = moved(dataset, tmp_path, bert, optimizer__freeze_encoder=False)
    assert any(name.startswith("encoder.network.encoder.layer.0") for name in names)
    assert not any(name.startswith(("lm_head", "decoder.embed")) for name in names)


def test_adapters_move_the_encoder_by_default(dataset, tmp_path, bert):
    pytest.importorskip("peft")
    names = moved(dataset, tmp_path, bert, lora__rank=2)
    assert any(name.startswith("encoder.network.encoder.layer.0") for name in names)
    assert not any("word_embeddings" in name for name in names)
    frozen = moved(dataset, tmp_path / "more", bert, lora__rank=2, optimizer__freeze_encoder=True)
    assert frozen
    assert not any(name.startswith("encoder.") for name in frozen)


def test_rows_and_the_whole_decoder_can_be_opened(dataset, tmp_path, static):
    names = moved(dataset, tmp_path, static, optimizer__rows="all", optimizer__decoder="all")
    assert "lm_head.weight" in names
    assert "decoder.final_layer_norm.weight" in names
    assert "decoder.block.0.layer.2.DenseReluDense.wo.weight" in names
    assert not any(name.startswith("encoder.") for name in names)


def test_layer_decay_slows_lower_layers_of_the_encoder(dataset, bert):
    from dsi.backbones.backbone import from_encoder
    from dsi.backbones.loaded_encoder import load_encoder
    from dsi.training.optimization.optimizers import parameter_groups
    from dsi.training.options import OptimizerOptions

    model = from_encoder(load_encoder(bert).encoder, alphabet_size=9, weight=16.0)
    groups = parameter_groups(model, OptimizerOptions(backbone_lr_scale=1.0, layer_decay=0.5))
    shares = {id(weight): group["share"] for group in groups for weight in group["params"]}
    named = {name: shares[id(weight)] for name, weight in model.named_parameters()}
    layer = "encoder.network.encoder.layer.0.attention.self.query.weight"
    table = "encoder.network.embeddings.word_embeddings.weight"
    assert named[layer] == 1.0
    assert named[table] == 0.5


@pytest.mark.parametrize("kind", ["naive", "semantic", "title", "rq"])
def test_every_kind_of_identifier_is_trained(kind, dataset, tmp_path, static):
    changes: dict[str, Any] = {}
    if kind == "rq":
        from docids.kinds.rq import ResidualOptions

        changes["rq"] = ResidualOptions(levels=2, codebook=8)
    manifest = trained(dataset, tmp_path / "index", static, docids=kind, **changes)
    assert math.isfinite(manifest.metrics["loss"])
    found = Index.open(tmp_path / "index", "cpu").search(["where is seazor0"], k=40)[0]
    assert len(found) >= 5


@pytest.mark.parametrize(
    "changes",
    [
        {"sam__rho": 0.05},
        {"loop__precision": "bf16"},
        {"loop__gradient_checkpointing": True, "optimizer__freeze_encoder": False},
        {"optimizer__rows": "touched", "optimizer__freeze_encoder": False},
        {"optimizer__name": "adafactor"},
        {"loop__batch": None, "loop__tokens": 256},
        {"mix__indexing": 1.0, "mix__chunks": 2, "mix__document_length": 4},
        {"loop__score": "constrained"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_ways_to_train_go_together_with_an_encoder(changes, dataset, tmp_path, bert):
    manifest = trained(dataset, tmp_path / "index", bert, **changes)
    assert math.isfinite(manifest.metrics["loss"])


class StopError(Exception):
    pass


@pytest.mark.parametrize("changes", [{}, {"optimizer__freeze_encoder": False}], ids=["map", "all"])
def test_a_training_that_was_killed_ends_with_the_same_weights(
    changes, dataset, tmp_path, bert, monkeypatch
):
    changes = {"loop__checkpoint_every": 2, **changes}
    trained(dataset, tmp_path / "whole", bert, **changes)
    save = loop.save_checkpoint

    def stopping(folder, step, *rest):
        save(folder, step, *rest)
        if step == 4:
            raise StopError

    monkeypatch.setattr(loop, "save_checkpoint", stopping)
    with pytest.raises(StopError):
        trained(dataset, tmp_path / "killed", bert, **changes)
    monkeypatch.setattr(loop, "save_checkpoint", save)
    trained(dataset, tmp_path / "killed", bert, **changes)
    assert small.weights(tmp_path / "whole") == small.weights(tmp_path / "killed")


def test_new_documents_get_the_row_that_they_would_have_had_from_the_beginning(
    dataset, tmp_path, bert
):
    documents = list(dataset.documents())
    first = write_dataset(tmp_path / "first", InMemorySource(documents[:30], [], [], name="first"))
    more = write_dataset(tmp_path / "more", InMemorySource(documents[30:], [], [], name="more"))
    whole = write_dataset(tmp_path / "all", InMemorySource(documents, [], [], name="all"))
    trained(first, tmp_path / "index", bert, **STILL)
    options = UpdateOptions(strategy="generative", steps=1, lr=1e-12)
    update_index(tmp_path / "index", more, options)
    trained(whole, tmp_path / "other", bert, **STILL)
    rows = []
    for name in ("index", "other"):
        index = Index.open(tmp_path / name, "cpu")
        table = index.table
        codes = table.last_codes(table.find([each.doc_id for each in documents]))
        rows.append(index.model.get_output_embeddings().weight.detach()[codes])
    torch.testing.assert_close(rows[0], rows[1], atol=1e-5, rtol=0)
    queries = ["where is forestzor38", "harbour whale"]
    assert ranking(tmp_path / "index", queries) == ranking(tmp_path / "other", queries)


@pytest.mark.parametrize(
    "strategy", ["generative+ewc", "instant", "finetune+frozen-rows", "retrain"]
)
def test_strategies_of_updates_go_together_with_an_encoder(dataset, tmp_path, static, strategy):
    trained(dataset, tmp_path / "index", static, **STILL)
    new = [
        Document(f"n{number}", "About newts", f"A newt in pond {said} sleeps.")
        for number, said in enumerate(["nine", "ten"])
    ]
    more = write_dataset(tmp_path / "more", InMemorySource(new, [], [], name="more"))
    updated = update_index(tmp_path / "index", more, UpdateOptions(strategy=strategy, steps=2))
    assert updated.manifest.documents == small.DOCUMENTS + 2
    [found] = ranking(tmp_path / "index", ["newt pond nine"])
    assert set(found[:2]) == {"n0", "n1"}


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model__pretrained": "t5-small"}, r"--model\.pretrained t5-small and --model\.encoder"),
        ({"model__size": "tiny"}, r"--model\.size tiny and --model\.encoder"),
        ({"model__dropout": 0.1}, r"--model\.dropout 0\.1 and --model\.encoder"),
        ({"model__warm_start": "spectral"}, r"--model\.warm_start spectral"),
        ({"model__warm_start": "none"}, r"--model\.warm_start none"),
        ({"model__warm_start": "learned"}, r"--model\.warm_start learned"),
        ({"model__head": "pawa", "docids": "semantic"}, r"--model\.head pawa and --model\.encoder"),
        ({"model__encoder_weight": 0.0}, r"--model\.encoder_weight 0\.0 is not above 0"),
    ],
)
def test_what_does_not_go_with_an_encoder_is_refused(changes, told):
    from dsi.training.options import ModelOptions

    given = {name.partition("__")[2]: value for name, value in changes.items() if "__" in name}
    with pytest.raises(InputError, match=told):
        ModelOptions(encoder="some/encoder", **given)


def test_options_of_an_encoder_mean_nothing_without_one():
    from dsi.training.options import ModelOptions

    with pytest.raises(InputError, match=r"--model\.encoder_weight 4\.0 has no effect"):
        ModelOptions(encoder_weight=4.0)
    with pytest.raises(InputError, match=r"--model\.warm_start encoder"):
        ModelOptions(warm_start="encoder")


def test_an_encoder_that_is_not_there_is_refused_and_leaves_nothing(dataset, tmp_path):
    with pytest.raises(InputError, match=r"--model\.encoder: cannot load the encoder"):
        trained(dataset, tmp_path / "index", str(tmp_path / "nowhere"))
    assert not (tmp_path / "index").exists()
    with pytest.raises(InputError, match=r"--model\.encoder: cannot load the encoder"):
        plan_training(dataset.path, small.options(model__encoder=str(tmp_path / "nowhere")))


def test_an_encoder_that_knows_no_word_is_refused(dataset, tmp_path):
    encoder = tiny_encoders.write_static(tmp_path / "static", {"zebra": [1.0, 2.0]})
    with pytest.raises(InputError, match="does not cover any word of the documents"):
        trained(dataset, tmp_path / "index", encoder)


def test_a_dry_run_counts_the_weights_of_the_encoder(dataset, static):
    plan = plan_training(dataset.path, small.options(model__encoder=static))
    rows = len(words_of(dataset)) + 2
    assert plan.parameters is not None
    assert plan.parameters > 24 * (rows + 2 * (small.DOCUMENTS + FIRST_CODE))
    frozen = plan.memory
    opened = plan_training(
        dataset.path, small.options(model__encoder=static, optimizer__freeze_encoder=False)
    )
    assert opened.memory is not None
    assert frozen is not None
    assert opened.memory - frozen == 3 * 4 * 24 * rows


def test_settings_are_kept_with_the_index(dataset, tmp_path, bert):
    trained(dataset, tmp_path / "index", bert, **STILL)
    file = next((tmp_path / "index" / "versions").iterdir()) / "model" / "config.json"
    stored = json.loads(file.read_text())["dsi_encoder"]
    assert stored["pooling"] == ["mean"]
    assert stored["layers"] == [{"kind": "normalize"}]
    assert str(tmp_path) not in file.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("stage", [None, 2])
def test_two_processes_train_behind_an_encoder_what_one_does(stage, tmp_path, static):
    """With the lexical layer, which only the first process makes."""
    source = small.write(tmp_path / "set", splits=("train", "test")).path
    words = ["train", str(source), "--model.encoder", static, "--loop.precision", "fp32"]
    words += ["--loop.steps", "3", "--loop.batch", "16", "--optimizer.lr", "0.01"]
    words += ["--optimizer.warmup", "1", "--generator", "none"]
    if stage is not None:
        pytest.importorskip("deepspeed")
        config = tmp_path / "zero.json"
        config.write_text(json.dumps({"zero_optimization": {"stage": stage}}))
    one, two = tmp_path / "one", tmp_path / "two"
    assert finish(start(*words, "--out", str(one), count=1))[0][0] == 0
    shared = [] if stage is None else ["--deepspeed", str(config)]
    for code, _, told in finish(start(*words, *shared, "--out", str(two))):
        assert code == 0, told
    alone, together = (Index.open(out, "cpu") for out in (one, two))
    assert together.lexical is not None
    for name, weight in alone.model.state_dict().items():
        torch.testing.assert_close(together.model.state_dict()[name], weight, rtol=1e-3, atol=1e-4)
    moved_weight = together.model.decoder.block[0].layer[1].EncDecAttention.v.weight
    assert not torch.equal(moved_weight, torch.eye(len(moved_weight)))
