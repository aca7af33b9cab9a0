"""Regression of output rows: the solutions against scikit-learn, and updates by them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from growing_corpus import NEW, OLD, found
from small import weights
from test_encoder_decoders import assert_searched_as_by_hand

from data_prep.dataset import Document
from data_prep.errors import InputError
from data_prep.generators import GENERATORS
from dsi import Index
from dsi.backbones.backbone import CONFIG, read_config
from dsi.backbones.output_states import STATE_MAP, FourierFeatures, map_of
from dsi.cli import main
from dsi.index_folder import versions
from dsi.updating.delete import delete_documents
from dsi.updating.options import KernelOptions, UpdateOptions
from dsi.updating.strategy_parsing import refuse_unused
from dsi.updating.structures.kernel_regression import Sums, best_of, systems_of
from dsi.updating.structures.softmax_regression import Block, loss_of, softmax_rows
from dsi.updating.update import update_index


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("lam", [1e-3, 1.0])
def test_the_rows_are_kernel_ridge_regression(lam):
    linear_model = pytest.importorskip("sklearn.kernel_ridge")
    states, codes = draw(20, 6).double(), torch.arange(20) % 4 + 2
    sums = Sums.none(1, 8, 6)
    for part in (slice(0, 7), slice(7, 20)):  # batch by batch
        sums.add(0, states[part], codes[part])
    ridge = lam * float((states**2).sum() / 6)
    dual = linear_model.KernelRidge(alpha=ridge, kernel="linear")
    dual.fit(states.numpy(), torch.nn.functional.one_hot(codes, 8).double().numpy())
    others = draw(5, 6, seed=1).double()
    np.testing.assert_allclose(
        (others @ sums.rows(lam).T).numpy(), dual.predict(others.numpy()), rtol=1e-6, atol=1e-9
    )
    assert not sums.rows(lam)[:2].any(), "codes without samples"


def test_the_rows_are_softmax_regression():
    linear_model = pytest.importorskip("sklearn.linear_model")
    states, wanted = draw(60, 5), torch.arange(60) % 3
    block = Block(states, torch.tensor([2, 4, 7]), wanted)
    rows = softmax_rows([block], draw(9, 5, seed=1), 1e-2, iterations=200)
    size = float(states.square().sum(dim=1).mean())
    reference = linear_model.LogisticRegression(
        C=1 / (2 * 60 * 1e-2 * size), fit_intercept=False, tol=1e-8, max_iter=1000
    ).fit(states.numpy(), wanted.numpy())
    np.testing.assert_allclose(rows[[2, 4, 7]].numpy(), reference.coef_, atol=1e-3)
    assert not rows[[0, 1, 3, 5, 6, 8]].any(), "codes that no sample may have"


def test_a_softmax_is_over_the_codes_that_a_prefix_allows():
    rows, states = draw(6, 3), draw(4, 3, seed=1)
    blocks = [
        Block(states[:3], torch.tensor([1, 2]), torch.tensor([0, 1, 1])),
        Block(states[3:], torch.tensor([2, 3, 5]), torch.tensor([2])),
    ]
    lost = 0.0
    for state, allowed, code in zip(states, [[1, 2]] * 3 + [[2, 3, 5]], [1, 2, 2, 5], strict=True):
        odds = {each: float(torch.exp(rows[each] @ state)) for each in allowed}
        lost -= np.log(odds[code] / sum(odds.values()))
    ridge = 0.1 * float((states**2).sum()) / 4 * float((rows**2).sum())
    assert float(loss_of(rows, blocks, 0.1)) == pytest.approx(lost / 4 + ridge, rel=1e-5)
    assert not softmax_rows([], rows, 0.1, 5).any()


def test_fourier_features_have_the_gaussian_kernel_as_their_product():
    states = draw(12, 5)
    features = FourierFeatures.drawn(5, 20_000, bandwidth=1.7, seed=3)(states)
    wanted = torch.exp(-torch.cdist(states, states).square() / (2 * 1.7**2))
    torch.testing.assert_close(features @ features.T, wanted, atol=0.03, rtol=0)


def test_positions_are_solved_together_only_if_they_share_a_code():
    assert systems_of(torch.tensor([[2, 4], [3, 5]])) == [0, 1]
    assert systems_of(torch.tensor([[2, 4], [3, 2]])) == [0, 0]
    assert systems_of(torch.tensor([[2, 0], [3, 4]])) == [0, 1]  # padding is no code


def test_the_best_ridge_and_scale_make_other_samples_most_probable():
    states = torch.eye(4).repeat(6, 1) + 0.3 * draw(24, 4)
    codes = torch.arange(4).repeat(6)
    sums = Sums.none(1, 4, 4)
    sums.add(0, states[:16], codes[:16])
    lams = (1e-3, 1e-1, 10.0)
    lam, scale = best_of(sums, (states[16:], codes[16:]), lams)

    def mean(lam: float, scale: float) -> float:
        logits = scale * states[16:].double() @ sums.rows(lam).T
        return float(logits.log_softmax(-1)[torch.arange(8), codes[16:]].mean())

    best = max(((a, 2.0**b) for a in lams for b in range(9)), key=lambda each: mean(*each))
    assert (lam, scale) == best
    assert scale > 1


@pytest.fixture
def index(memorized, tmp_path):
    return Path(shutil.copytree(memorized("semantic"), tmp_path / "index"))


KERNEL = UpdateOptions(strategy="kernel", generator="extractive", per_doc=8)
SQUARES = replace(KERNEL, kernel=KernelOptions(loss="squares"))
FOURIER = UpdateOptions(
    strategy="kernel",
    generator="extractive",
    per_doc=8,
    kernel=KernelOptions(features="fourier", size=512),
)


def live(index: Path) -> Path:
    return versions.folder(index, versions.live(index))


@pytest.mark.parametrize(
    "options", [KERNEL, SQUARES, FOURIER], ids=["softmax", "squares", "fourier"]
)
def test_new_documents_are_found_and_old_ones_kept(options, memorized, index, corpora, tmp_path):
    before = Index.open(index, "cpu").model.state_dict()
    known = found(index, corpora["full"], OLD)
    done = update_index(index, corpora["new"], options)
    metrics = done.manifest.metrics
    assert metrics["samples"] > 40 * 8
    kept = 0 if options is not FOURIER else 4 * 512 * 257 / 40
    assert metrics["bytes kept a document"] == kept
    assert set(done.timing["milliseconds a document"]) == {"writing samples", "solving", "all"}
    assert found(index, corpora["full"], NEW) >= 0.9
    assert found(index, corpora["full"], OLD) >= known - 0.1
    opened = Index.open(index, "cpu")
    assert_searched_as_by_hand(opened)
    after = opened.model.state_dict()
    for name, value in before.items():  # nothing of the network has moved but rows
        if name not in ("lm_head.weight", "shared.weight") and "embed_tokens" not in name:
            assert torch.equal(after[name], value)
    if options is not FOURIER:
        again = Path(shutil.copytree(memorized("semantic"), tmp_path / "again"))
        update_index(again, corpora["new"], options)
        assert weights(again) == weights(index), "the samples are written anew, and are the same"
    else:
        file = tmp_path / "one.jsonl"
        file.write_text(json.dumps({"doc_id": "x", "title": "tea", "text": "tea and pens"}) + "\n")
        assert main(["update", str(index), str(file), "--strategy", "kernel"]) == 0
        assert map_of(Index.open(index, "cpu").model) is None, "linear again"
        versions.rollback(index)
    assert (map_of(Index.open(index, "cpu").model) is not None) == (options is FOURIER)
    versions.rollback(index)
    assert map_of(Index.open(index, "cpu").model) is None


def test_rows_of_deleted_documents_are_gone_with_the_next_update(index, corpora):
    """No sample of them is written, so that they might never have been there."""
    table = Index.open(index, "cpu").table
    code = int(table.last_codes(table.find(["d3"]))[0])
    delete_documents(index, ["d3"], audit=False)
    assert Index.open(index, "cpu").model.lm_head.weight[code].any()
    update_index(index, corpora["new"], KERNEL)
    opened = Index.open(index, "cpu")
    assert not opened.model.lm_head.weight[code].any()
    assert opened.model.lm_head.weight[opened.table.last_codes(opened.table.live)].any(dim=1).all()


def test_a_generator_that_writes_nothing_leaves_a_document_its_text(index, corpora, monkeypatch):
    kind = GENERATORS["extractive"]
    real = kind.generate_batch

    def silent(self, documents):
        found = real(self, documents)
        return [[] if d.doc_id == "d31" else q for d, q in zip(documents, found, strict=True)]

    monkeypatch.setattr(kind, "generate_batch", silent)
    done = update_index(index, corpora["new"], KERNEL)
    assert done.manifest.metrics["samples of text"] == 1
    assert found(index, corpora["full"], [31])


def test_a_document_without_samples_and_text_is_named(index, corpora, monkeypatch):
    kind = GENERATORS["extractive"]
    monkeypatch.setattr(kind, "generate_batch", lambda self, documents: [[] for _ in documents])
    monkeypatch.setattr(Document, "title_and_text", "")
    with pytest.raises(InputError, match=r"extractive generates no query for the document 'd0'"):
        update_index(index, corpora["new"], KERNEL)
    assert versions.names(index) == ["0001"]
    assert not (index / "updating").exists()


def test_what_reads_fourier_features_takes_no_other_strategy(index, corpora, tmp_path, capsys):
    update_index(index, corpora["new"], FOURIER)
    assert main(["info", str(index)]) == 0
    assert "512 random Fourier features (strategy kernel)" in " ".join(
        capsys.readouterr().out.split()
    )
    one = tmp_path / "one.jsonl"
    one.write_text(json.dumps({"doc_id": "x", "title": "tea", "text": "tea and pens"}) + "\n")
    assert main(["update", str(index), str(one), "--strategy", "finetune"]) == 2
    assert "finetune and an output layer that reads random Fourier" in capsys.readouterr().err
    assert main(["delete", str(index), "d31", "--scrub"]) == 0
    assert_searched_as_by_hand(Index.open(index, "cpu"))
    assert main(["export", str(index), "--format", "hf", "--out", str(tmp_path / "hf")]) == 2
    assert "--strategy kernel adds before the output layer" in capsys.readouterr().err
    # A damaged configuration is refused, not believed.
    folder = live(index) / "model"
    stored = json.loads((folder / CONFIG).read_text())
    for broken in ({"kind": "fourier", "features": -1}, {"kind": "other"}, 3):
        (folder / CONFIG).write_text(json.dumps({**stored, STATE_MAP: broken}))
        with pytest.raises(InputError, match=STATE_MAP):
            read_config(folder)


def test_what_does_not_fit_is_refused(index, corpora):
    with pytest.raises(InputError, match="kernel and ewc cannot be combined"):
        update_index(index, corpora["new"], UpdateOptions(strategy="kernel+ewc"))
    with pytest.raises(InputError, match=r"kernel\.size 5 has no effect"):
        KernelOptions(size=5)
    with pytest.raises(InputError, match=r"kernel\.iterations 5 has no effect"):
        KernelOptions(loss="squares", iterations=5)
    with pytest.raises(InputError, match="without the strategy kernel"):
        refuse_unused(UpdateOptions(strategy="edit", kernel=KernelOptions(samples=3)))
    with pytest.raises(InputError, match="steps 3"):
        refuse_unused(UpdateOptions(strategy="kernel", steps=3))
