"""Updating an index: added, skipped, replaced, refused and kept documents."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import growing_corpus
import numpy as np
import pytest
import small
from growing_corpus import NEW, OLD, found
from safetensors.torch import load_file
from small import weights

from data_prep.dataset import Document, InMemorySource, Qrel, Query
from data_prep.dataset_writer import write_dataset
from data_prep.errors import InputError
from docids.table import DocidTable
from dsi import Index
from dsi.commands.info import info
from dsi.export import export_index
from dsi.generation import GenerativeMemory, MemoryOptions, train_memory
from dsi.index_folder import versions
from dsi.index_folder.stored_corpus import StoredCorpus
from dsi.indexing.build import train_index
from dsi.updating.delete import delete_documents
from dsi.updating.options import (
    EwcOptions,
    InstantOptions,
    SamStrategyOptions,
    UpdateOptions,
)
from dsi.updating.strategies import STRATEGIES
from dsi.updating.strategy_parsing import refuse_unused, with_changes
from dsi.updating.update import update_index

QUICK = UpdateOptions(strategy="generative", steps=6, ratio=0.0)


def live(index: Path) -> Path:
    return versions.folder(index, versions.live(index))


@pytest.mark.parametrize("kind", ["atomic", "semantic"])
@pytest.mark.parametrize(
    "strategy", ["finetune", "reindex", "episodic", "generative", "instant", "retrain"]
)
def test_new_documents_are_found_and_identifiers_stay(kind, strategy, trained, corpora, tmp_path):
    index = Path(shutil.copytree(trained(kind), tmp_path / "index"))
    before = Index.open(index, "cpu").table
    done = update_index(index, corpora["new"], dataclasses.replace(QUICK, strategy=strategy))
    assert done.wrote
    assert (len(done.difference.added), len(done.difference.changed)) == (10, 0)
    assert sorted(entry.name for entry in index.iterdir()) == ["live", "lock", "versions"]
    manifest = done.manifest
    assert (manifest.version, manifest.parent, manifest.documents) == ("0002", "0001", 40)
    assert (manifest.added, manifest.removed) == (10, 0)
    opened = Index.open(index, "cpu")
    assert len(opened) == 40
    for row in range(30):
        assert opened.table.sequence(row) == before.sequence(row)
        assert opened.table.doc_ids[row] == before.doc_ids[row]
    assert found(index, corpora["full"], NEW) >= 0.9
    assert found(index, corpora["full"], OLD) >= (0.9 if kind == "atomic" else 0.6)
    assert [opened.titles[row] for row in range(30, 40)] == [
        f"About {topic}" for topic in ("forest", "city", "sea", "sky") * 2 + ("forest", "city")
    ]


@pytest.mark.parametrize("kind", ["atomic", "semantic"])
@pytest.mark.parametrize(
    "joined",
    [
        "ewc",
        "rank1-ewc",
        "threshold-margin",
        "batch-softmax",
        "distill",
        "frozen-rows",
        "warm-up",
        "sam",
    ],
)
def test_what_is_joined_to_a_strategy_changes_the_outcome(joined, kind, trained, corpora, tmp_path):
    options = dataclasses.replace(QUICK, steps=3)
    plain = tmp_path.parent / f"joined_plain_{kind}"
    if not plain.exists():
        shutil.copytree(trained(kind), plain)
        update_index(plain, corpora["new"], options)
    index = Path(shutil.copytree(trained(kind), tmp_path / "index"))
    strategy = f"generative+{joined}"
    update_index(index, corpora["new"], dataclasses.replace(options, strategy=strategy))
    assert weights(plain) != weights(index)
    assert found(index, corpora["full"], NEW) >= (0.9 if kind == "atomic" else 0.7)
    if joined == "frozen-rows":
        one, two = (
            load_file(versions.folder(index, name) / "model" / "model.safetensors")
            for name in ("0001", "0002")
        )
        rows, width = one["lm_head.weight"].shape
        old, new = (each["lm_head.weight"][:rows, : width - 2] for each in (one, two))
        table = Index.open(index, "cpu").table
        # Rows shared with new documents were rotated once, when the model was expanded.
        shared = {code for row in range(30, 40) for code in table.sequence(row) if code < rows}
        assert bool(shared) == (kind == "semantic")
        kept = [code for code in range(rows) if code not in shared]
        assert (old[kept] == new[kept]).all()


def shapes(index: Path) -> dict[str, tuple[int, ...]]:
    network = Index.open(index, "cpu").model
    return {name: tuple(weight.shape) for name, weight in network.state_dict().items()}


def exported_shapes(index: Path, out: Path) -> dict[str, tuple[int, ...]]:
    export_index(index, out, "hf", network_only=True)
    weights = load_file(out / "model.safetensors")
    return {name: tuple(weight.shape) for name, weight in weights.items()}


@pytest.mark.parametrize("kind", ["atomic", "semantic"])
def test_within_the_reserve_no_weight_changes_its_shape(kind, corpora, tmp_path):
    index, new = tmp_path / "index", iter(NEW)
    options = growing_corpus.options(kind, loop__steps=4, reserve=4)
    train_index(corpora["old"], index, options)
    before = shapes(index)

    def added() -> list[str]:
        number = next(new)
        one = growing_corpus.part(corpora["full"], tmp_path / f"{number}", [number], ())
        done = update_index(index, one, UpdateOptions(strategy="append"))
        opened = Index.open(index, "cpu")
        text = next(iter(one.documents())).text
        assert opened.search([text], k=1)[0][0].doc_id == f"d{number}"
        return [warning for warning in done.warnings if "reserve" in warning]

    for left in (3, 2, 1, 0):
        assert added() == []
        assert Index.open(index, "cpu").table.reserved == left
        assert shapes(index) == before
        assert info(index).data["docids"]["reserve_left"] == left
    codes = Index.open(index, "cpu").table.alphabet_size
    assert added() == [
        f"The reserve is used up: this version has more codes, from {codes} to {codes + 1}. "
        "Exports of earlier versions have weights of other shapes"
    ]
    grown = {name for name, shape in shapes(index).items() if shape != before[name]}
    assert all("shared" in name or "lm_head" in name or "embed" in name for name in grown)


def test_within_the_reserve_an_export_keeps_its_shapes(corpora, tmp_path):
    checkpoint = small.checkpoint("t5", tmp_path / "checkpoint", corpora["full"])
    changes = {"loop__steps": 4, "model__pretrained": str(checkpoint)}
    options = growing_corpus.options("semantic", reserve=len(NEW), **changes)
    index = tmp_path / "index"
    train_index(corpora["old"], index, options)
    before = exported_shapes(index, tmp_path / "before")
    update_index(index, corpora["new"], UpdateOptions(strategy="append"))
    assert len(Index.open(index, "cpu")) == 40
    assert exported_shapes(index, tmp_path / "after") == before


@pytest.mark.parametrize("strategy", ["generative+frozen-rows", "instant"])
def test_rows_of_the_reserve_are_trained_like_new_ones(strategy, corpora, tmp_path):
    index = tmp_path / "index"
    train_index(corpora["old"], index, growing_corpus.options("atomic", reserve=20))
    update_index(index, corpora["new"], dataclasses.replace(QUICK, strategy=strategy))
    assert found(index, corpora["full"], NEW) >= 0.9
    assert Index.open(index, "cpu").table.reserved == 10


def test_the_memory_grows_with_the_index(index, corpora):
    update_index(index, corpora["new"], QUICK)
    memory = StoredCorpus.open(live(index))
    assert memory.dataset.doc_ids == [f"d{number}" for number in range(40)]
    asked = {doc_id for _, doc_id, _, _ in memory.pseudo_rows()}
    assert asked == set(memory.dataset.doc_ids)
    old = list(StoredCorpus.open(versions.folder(index, "0001")).pseudo_rows())
    assert list(memory.pseudo_rows())[: len(old)] == old, "old pseudo-queries are kept as they are"


def test_documents_that_are_there_are_skipped(index, corpora):
    again = update_index(index, corpora["old"], QUICK)
    assert not again.wrote
    assert len(again.difference.unchanged) == 30
    assert versions.names(index) == ["0001"]
    assert sorted(entry.name for entry in index.iterdir()) == ["live", "lock", "versions"]


def test_a_changed_text_replaces_the_old_one_under_its_identifier(index, corpora, tmp_path):
    before = Index.open(index, "cpu").table.sequence(7)
    changed = write_dataset(
        tmp_path / "changed",
        InMemorySource([Document("d7", "Quasars", "The quasar zumfelt glows by the xylophant.")]),
    )
    done = update_index(index, changed, dataclasses.replace(QUICK, strategy="generative"))
    assert (done.difference.added, done.difference.changed) == ([], ["d7"])
    opened = Index.open(index, "cpu")
    assert len(opened) == 30
    assert opened.table.sequence(7) == before
    hit = opened.search(["zumfelt xylophant"], k=1)[0][0]
    assert (hit.doc_id, hit.title) == ("d7", "Quasars")


def test_updates_follow_one_another(index, corpora, tmp_path):
    full = corpora["full"]
    for number, some in enumerate((range(30, 35), range(35, 40))):
        more = growing_corpus.part(full, tmp_path / str(number), some, ("test",))
        update_index(index, more, QUICK)
    assert versions.names(index) == ["0001", "0002", "0003"]
    assert found(index, full, range(40)) >= 0.9
    versions.rollback(index)
    assert len(Index.open(index, "cpu")) == 35


def test_the_same_update_gives_the_same_weights(trained, corpora, tmp_path):
    for name in ("one", "two"):
        index = Path(shutil.copytree(trained("atomic"), tmp_path / name))
        update_index(index, corpora["new"], QUICK)
    assert weights(tmp_path / "one") == weights(tmp_path / "two")


@pytest.mark.parametrize(
    "change",
    [
        {"ratio": 2.0},
        {"new_fraction": 0.9},
        {"steps": 4},
        {"batch": 8},
        {"lr": 1e-4},
        {"per_doc": 2},
        {"seed": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_option_has_an_effect(change, trained, corpora, tmp_path):
    plain = tmp_path.parent / "plain_update"
    if not plain.exists():
        shutil.copytree(trained("atomic"), plain)
        update_index(plain, corpora["new"], QUICK)
    index = Path(shutil.copytree(trained("atomic"), tmp_path / "index"))
    update_index(index, corpora["new"], dataclasses.replace(QUICK, **change))
    assert weights(plain) != weights(index)


def test_a_reader_keeps_the_version_it_opened(index, corpora):
    reader = Index.open(index, "cpu")
    texts = corpora["full"].query_texts()
    asked = [texts[f"test{number}"] for number in range(40)]
    before = reader.search(asked, k=3)
    # As many queries as below: scores may differ in the last bits between batches.
    few = reader.search(asked[:5], k=3)
    during = []

    class Reading:
        def __call__(self, update, model):
            from dsi.objectives.base import Objective

            class Reader(Objective):
                name = "reader"

                def after_step(self, model, step):
                    during.append(reader.search(asked[:5], k=3))

            return Reader()

    update_index(index, corpora["new"], QUICK, callbacks=[Reading()])
    assert during == [few] * 6
    assert reader.search(asked, k=3) == before
    ids = {hit.doc_id for hits in Index.open(index, "cpu").search(asked, k=1) for hit in hits}
    assert ids & {f"d{number}" for number in NEW}


def test_a_loss_is_warned_of_or_refused(network_index, corpora):
    index = network_index  # damage to the network does not affect the lexical layer
    harmful = dataclasses.replace(
        QUICK, strategy="finetune", steps=12, lr=0.05, warn_loss=0.0, refuse_loss=0.5
    )
    with pytest.raises(InputError, match=r"fell from .* to .* stays live"):
        update_index(index, corpora["new"], harmful)
    assert versions.names(index) == ["0001"]
    assert sorted(entry.name for entry in index.iterdir()) == ["live", "lock", "versions"]
    done = update_index(index, corpora["new"], dataclasses.replace(harmful, refuse_loss=None))
    assert done.wrote
    assert "fell from" in done.warnings[0]
    probe = done.manifest.metrics["probe"]
    assert probe["source"] == "dev"
    assert probe["points lost"] == pytest.approx(
        100 * (probe["before"]["Success@10"] - probe["after"]["Success@10"])
    )


def test_two_updates_at_once_are_refused(index, corpora):
    with versions.lock(index), pytest.raises(InputError, match="another command is writing"):
        update_index(index, corpora["new"], QUICK)
    assert versions.names(index) == ["0001"]


def test_a_missing_index_and_a_newer_one_are_refused(index, corpora, tmp_path):
    with pytest.raises(InputError, match="no such index folder"):
        update_index(tmp_path / "nowhere", corpora["new"], QUICK)
    assert not (tmp_path / "nowhere").exists()
    manifest = dataclasses.replace(versions.Manifest.load(live(index)), format=99)
    manifest.save(live(index))
    with pytest.raises(InputError, match="format is 99"):
        update_index(index, corpora["new"], QUICK)


def test_an_index_without_memory_needs_its_dataset(index, corpora):
    shutil.rmtree(small.without_checksums(live(index)) / "corpus")
    with pytest.raises(InputError, match="--old DATASET"):
        update_index(index, corpora["new"], QUICK)
    with pytest.raises(InputError, match="not the dataset"):
        update_index(index, corpora["new"], QUICK, old=corpora["full"])
    done = update_index(index, corpora["new"], QUICK, old=corpora["old"])
    assert done.manifest.documents == 40
    assert len(StoredCorpus.open(live(index)).dataset.doc_ids) == 40


def test_an_interrupted_update_is_not_taken_for_another(index, corpora, monkeypatch):
    from dsi.updating import update

    def stop(*words):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(update, "_finish", stop)
        with pytest.raises(KeyboardInterrupt):
            update_index(index, corpora["new"], QUICK)
    assert versions.live(index) == "0001"
    with pytest.raises(InputError, match="was interrupted here"):
        update_index(index, corpora["new"], dataclasses.replace(QUICK, steps=9))
    assert update_index(index, corpora["new"], QUICK).wrote
    table = DocidTable.open(live(index) / "docids")
    assert np.array_equal(table.live, np.arange(40))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"ratio": -1.0}, "--ratio"),
        ({"ratio": float("nan")}, "--ratio"),
        ({"new_fraction": 0.0}, "--new_fraction"),
        ({"steps": 0}, "--steps"),
        ({"lr": 0.0}, "--lr"),
        ({"generator": "oracle"}, "--generator"),
        ({"seed": -1}, "--seed"),
        ({"refuse_loss": -1.0}, "--refuse_loss"),
    ],
    ids=lambda value: str(value),
)
def test_options_that_make_no_sense_are_refused(change, named):
    with pytest.raises(InputError, match=named):
        dataclasses.replace(QUICK, **change)


@pytest.mark.parametrize(
    ("strategy", "named"),
    [
        ("magic", "unknown strategy 'magic'"),
        ("finetune+generative", "cannot be combined"),
        ("generative+generative", "twice"),
        ("instant+generative", "cannot be combined"),
        ("finetune+distill", "cannot be combined"),
        ("finetune+i-lora", "cannot be combined"),
    ],
)
def test_strategies_that_make_no_sense_are_refused_before_anything_is_written(
    strategy, named, index, corpora
):
    options = dataclasses.replace(QUICK, strategy=strategy)
    with pytest.raises(InputError, match=named):
        refuse_unused(options)
    with pytest.raises(InputError, match=named):
        update_index(index, corpora["new"], options)
    assert versions.names(index) == ["0001"]
    assert not (index / "updating").exists()


@pytest.mark.parametrize(
    ("strategy", "change", "said"),
    [
        ("instant", {"ratio": 3.0}, "--ratio 3.0 has no effect with --strategy instant"),
        (
            "instant",
            {"new_fraction": 0.5},
            "--new_fraction 0.5 has no effect with --strategy instant",
        ),
        ("instant", {"steps": 3}, "--steps 3 has no effect with --strategy instant"),
        ("instant", {"batch": 8}, "--batch 8 has no effect with --strategy instant"),
        ("instant", {"lr": 0.1}, "--lr 0.1 has no effect with --strategy instant"),
        ("instant", {"sam": SamStrategyOptions(rho=0.2)}, r"--sam\.\* .*generative\+sam"),
        ("retrain", {"ratio": 3.0}, "--ratio 3.0 has no effect with --strategy retrain"),
        ("finetune", {"new_fraction": 0.5}, "--new_fraction 0.5 has no effect"),
        ("reindex+ewc", {"ratio": 3.0}, "--ratio 3.0 has no effect with --strategy reindex"),
        ("finetune", {"instant": InstantOptions(lam=0.9)}, "Write --strategy instant, or"),
        ("finetune", {"ewc": EwcOptions(weight=9.0)}, r"Write --strategy finetune\+ewc, or"),
    ],
    ids=str,
)
def test_options_that_would_change_nothing_are_refused(strategy, change, said):
    with pytest.raises(InputError, match=said):
        refuse_unused(UpdateOptions(strategy=strategy, **change))


@pytest.mark.parametrize("strategy", ["instant", "retrain", "finetune", "reindex", "generative"])
def test_options_that_every_strategy_reads_are_taken(strategy):
    refuse_unused(
        UpdateOptions(strategy=strategy, generator="extractive", per_doc=3, seed=4, probe_queries=5)
    )


def test_a_comparison_refuses_changes_that_change_nothing():
    with pytest.raises(InputError, match="ratio has no effect with instant"):
        with_changes(UpdateOptions(), "instant@ratio=3")
    assert with_changes(UpdateOptions(ratio=0.0), "instant").strategy == "instant"


def test_every_group_of_options_has_a_strategy_that_reads_it():
    groups = {
        entry.name
        for entry in dataclasses.fields(UpdateOptions)
        if dataclasses.is_dataclass(getattr(UpdateOptions(), entry.name))
    }
    assert {group for name in STRATEGIES for group in STRATEGIES[name].reads} == groups


def stopped_before_its_end(index, corpora, monkeypatch):
    from dsi.updating import update

    def stop(*words):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(update, "_finish", stop)
        with pytest.raises(KeyboardInterrupt):
            update_index(index, corpora["new"], QUICK)


def test_an_update_whose_parent_is_live_no_more_begins_anew(index, corpora, monkeypatch):
    stopped_before_its_end(index, corpora, monkeypatch)
    delete_documents(index, ["d3"], audit=False)
    done = update_index(index, corpora["new"], QUICK)
    assert (done.manifest.parent, done.manifest.documents) == ("0002", 39)
    assert sorted(entry.name for entry in index.iterdir()) == ["live", "lock", "versions"]


@pytest.mark.parametrize("end", ["live", "not-live", "half-removed"])
def test_an_update_killed_at_its_end_is_not_done_twice(end, index, corpora, monkeypatch):
    from dsi.updating import update

    class Killed(BaseException):
        pass

    def kill(*words):
        raise Killed

    def half(folder):
        (folder / "update.json").unlink()
        raise Killed

    new = lambda folder: growing_corpus.part(corpora["full"], folder, NEW, ("test",))  # noqa: E731
    with monkeypatch.context() as patched:
        if end == "not-live":
            patched.setattr(versions.Writer, "make_live", kill)
        else:
            real = update.remove_folder
            removing = half if end == "half-removed" else kill
            patched.setattr(
                update,
                "remove_folder",
                lambda folder: (removing if versions.live(index) == "0002" else real)(folder),
            )
        with pytest.raises(Killed):
            update_index(index, new, QUICK)
    assert (index / "updating").is_dir()
    again = update_index(index, new, QUICK)
    assert not again.wrote
    assert versions.live(index) == "0002"
    assert versions.names(index) == ["0001", "0002"]
    assert sorted(entry.name for entry in index.iterdir()) == ["live", "lock", "versions"]


def test_an_update_that_is_refused_blocks_no_other(index, corpora, monkeypatch):
    from dsi.updating import training

    def refuse(*words):
        raise InputError("does not fit")

    with monkeypatch.context() as patched:
        patched.setattr(training, "train", refuse)
        with pytest.raises(InputError, match="does not fit"):
            update_index(index, corpora["new"], QUICK)
    assert sorted(entry.name for entry in index.iterdir()) == ["live", "lock", "versions"]
    assert update_index(index, corpora["new"], dataclasses.replace(QUICK, steps=7)).wrote


WITH_MEMORY = UpdateOptions(strategy="generative", steps=2, generator="memory", per_doc=2)


@pytest.fixture(scope="session")
def writer(tmp_path_factory):
    documents = [Document(f"d{n}", "", f"The anchor {n} of the whale.") for n in range(50)]
    queries = [Query(f"q{n}", f"where is anchor {n}") for n in range(50)]
    qrels = [Qrel(f"q{n}", f"d{n}", 1, "train") for n in range(50)]
    options = MemoryOptions(width=64, vocabulary=100, steps=2, pairs=4, query_length=5)
    folder = tmp_path_factory.mktemp("writer") / "dataset"
    return train_memory(write_dataset(folder, InMemorySource(documents, queries, qrels)), options)


def test_a_generative_memory_writes_for_new_documents_and_goes_along(index, corpora, writer):
    first = small.without_checksums(versions.folder(index, "0001"))
    GenerativeMemory.open(writer).save(first / "memory")
    update_index(index, corpora["new"], WITH_MEMORY)
    second = versions.folder(index, "0002")
    asked = [row for row in StoredCorpus.open(second).pseudo_rows() if row[1] == "d35"]
    assert {origin for *_, origin in asked} == {"memory"}
    document = next(d for d in corpora["new"].documents() if d.doc_id == "d35")
    text = f"{document.title}\n{document.text}"
    kept = GenerativeMemory.open(second / "memory")
    assert [row[2] for row in asked] == kept.generate([text], per_doc=2, seed=0)[0]
    delete_documents(index, ["d1"])
    GenerativeMemory.open(versions.folder(index, "0003") / "memory")


def test_an_index_without_a_generative_memory_says_how_to_get_it(index, corpora):
    with pytest.raises(InputError, match="generative memory"):
        update_index(index, corpora["new"], WITH_MEMORY)
