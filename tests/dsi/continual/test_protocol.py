"""The continual-indexing protocol, from the split to the page."""

from __future__ import annotations

import dataclasses
import json
import platform
import re
import subprocess
import sys

import numpy as np
import pytest
import small

from data_prep.dataset import Document, InMemorySource
from data_prep.dataset_writer import write_dataset
from data_prep.errors import InputError
from dsi import cli
from dsi.continual import protocol
from dsi.continual.callback import EvaluationCallback, read_curve
from dsi.continual.evaluation_queries import EvaluationQueries
from dsi.continual.increments import open_split, split_dataset
from dsi.continual.protocol import ContinualOptions, run_continual
from dsi.continual.strategies_page import write_page
from dsi.continual.summary import performance_of, results_of, stability_of
from dsi.updating.options import UpdateOptions
from dsi.updating.strategy_parsing import with_changes


def options(*strategies: str, **changes) -> ContinualOptions:
    settings = {
        "seeds": 1,
        "interval": 2,
        "curve_queries": 8,
        "train": small.options(loop__steps=6),
        "update": UpdateOptions(steps=4, ratio=0.0),
        **changes,
    }
    return ContinualOptions(strategies=strategies, **settings)


@pytest.fixture(scope="module")
def split(corpora, tmp_path_factory):
    folder = tmp_path_factory.mktemp("split") / "split"
    split_dataset(corpora["full"], folder, increments=2, fraction=0.5, seed=0)
    return folder


@pytest.fixture(scope="module")
def compared(split, tmp_path_factory):
    """The folder and the summary of two strategies, two seeds."""
    out = tmp_path_factory.mktemp("continual") / "out"
    return out, run_continual(split, out, options("generative", "instant", seeds=2))


def test_parts_are_disjoint_and_only_the_first_has_queries_to_learn_from(split, corpora):
    parts = open_split(split)
    assert [part.info.documents for part in parts] == [20, 10, 10]
    ids = [doc_id for part in parts for doc_id in part.doc_ids]
    assert sorted(ids) == sorted(corpora["full"].doc_ids)
    assert parts[0].info.qrels == {"train": 20, "dev": 20, "test": 20}
    for part in parts[1:]:
        assert part.info.qrels == {"test": 10}
        own = set(part.doc_ids)
        assert {d for judged in part.qrels_of("test").values() for d in judged} == own


def test_fewer_documents_can_be_taken(corpora, tmp_path):
    parts = split_dataset(
        corpora["full"], tmp_path / "s", increments=2, fraction=0.6, seed=0, documents=20
    )
    assert [part.info.documents for part in parts] == [12, 4, 4]


def test_every_corpus_is_measured_after_every_update(compared, split):
    out, summary = compared
    for strategy in ("generative", "instant"):
        results = results_of(out, strategy, 0)
        assert [len(each["performance"]) for each in results] == [1, 2, 3]
        table = performance_of(results, "Hits@10")
        assert np.isnan(table[0, 1])
        assert (table[2] >= 0.5).all()
        entry = summary["strategies"][strategy]
        assert entry["last"]["A Hits@10"]["mean"] == pytest.approx(
            np.mean([run["Hits@10"]["A"][-1] for run in entry["runs"]])
        )
        assert entry["last"]["A Hits@10"]["sd"] is not None
    assert summary["strategies"]["generative"]["last"]["updates"]["mean"] == 2 * 4 * 16
    assert summary["strategies"]["instant"]["last"]["updates"]["mean"] == 0


def test_the_first_row_is_the_same_for_all_strategies(compared):
    out, _ = compared
    firsts = [results_of(out, strategy, 0)[0] for strategy in ("generative", "instant")]
    assert firsts[0] == firsts[1]


def test_it_looks_on_during_an_update(compared):
    out, summary = compared
    rows = read_curve(out / "curves" / "generative-seed0" / "d2.jsonl")
    assert [row["step"] for row in rows] == [0, 1, 2, 4]
    assert all(len(row["corpora"]) == 3 for row in rows)
    stability = summary["strategies"]["generative"]["runs"][0]["stability"]
    assert 0 <= stability["min-ACC"] <= stability["WC-ACC"] <= 1
    assert not summary["strategies"]["instant"]["runs"][0]["stability"]


def test_the_first_row_is_of_the_grown_model_before_any_step(index, corpora, tmp_path):
    import copy

    from docids.trie import Trie
    from dsi.search.torch_trie import TorchTrie
    from dsi.training.validation import DevQueries, ranks_of

    seen = {}

    class Keeping(EvaluationCallback):
        def __call__(self, update, model):
            seen.update(update=update, model=copy.deepcopy(model))
            return super().__call__(update, model)

    asked = [EvaluationQueries.of(corpora[name]) for name in ("old", "new")]
    callback = Keeping(asked, tmp_path / "curve.jsonl", 2, 10)
    update = UpdateOptions(strategy="finetune", steps=4, lr=0.05)
    protocol.update_index(index, corpora["new"], update, callbacks=[callback])
    rows = read_curve(callback.file)
    assert [row["step"] for row in rows] == [0, 1, 2, 4]
    table, lexical = seen["update"].assignment.table, seen["update"].lexical
    assert lexical is not None
    for some, found in zip(asked, rows[0]["corpora"], strict=True):
        targets = table.find(some.targets).tolist()
        queries = DevQueries.of(some.queries, targets, seen["update"].text, 32, lexical)
        ranks = ranks_of(seen["model"], queries, TorchTrie.from_trie(Trie.build(table)), 10)
        assert found["Hits@1"] == pytest.approx((ranks <= 1).mean())
        assert found["Hits@10"] == pytest.approx((ranks <= 10).mean())
    assert rows[0]["corpora"] != rows[-1]["corpora"], "so high a learning rate spoils the index"


def test_it_continues_where_it_stopped(compared, split, monkeypatch):
    out, summary = compared
    monkeypatch.setattr(protocol, "update_index", None)
    assert run_continual(split, out, options("generative", "instant", seeds=2)) == summary


def test_an_interrupted_comparison_ends_as_one_left_alone(compared, split, tmp_path, monkeypatch):
    out, _ = compared
    whole, calls = protocol.update_index, []

    def second_dies(*words, **more):
        calls.append(words)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(*words, **more)

    with monkeypatch.context() as patched:
        patched.setattr(protocol, "update_index", second_dies)
        with pytest.raises(KeyboardInterrupt):
            run_continual(split, tmp_path / "out", options("generative"))
    run_continual(split, tmp_path / "out", options("generative"))
    for one, other in zip(
        results_of(out, "generative", 0), results_of(tmp_path / "out", "generative", 0), strict=True
    ):
        assert one["performance"] == other["performance"]


def test_what_a_killed_run_left_of_a_finished_strategy_goes(compared, split):
    out, summary = compared
    (out / "indexes" / "instant-seed1" / "versions").mkdir(parents=True)
    assert run_continual(split, out, options("generative", "instant", seeds=2)) == summary
    assert not any((out / "indexes").iterdir())


def test_a_refused_first_training_leaves_the_folder_to_the_corrected_one(split, tmp_path):
    refused = options("instant", train=small.options(generator="memory", loop__steps=6))
    with pytest.raises(InputError, match="memory"):
        run_continual(split, tmp_path / "out", refused)
    assert not (tmp_path / "out").exists()


def test_a_corpus_without_test_queries_is_refused_before_any_training(corpora, tmp_path):
    alone = InMemorySource([Document(f"d{n}", f"Title {n}", f"a text {n}") for n in range(4)])
    split_dataset(
        write_dataset(tmp_path / "ds", alone), tmp_path / "s", increments=1, fraction=0.5, seed=0
    )
    with pytest.raises(InputError, match="no test query"):
        run_continual(tmp_path / "s", tmp_path / "out", options("instant"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("verb", ["continual", "compare"])
def test_commands_of_one_process_say_so_under_torchrun(verb, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    grid = ["--docids", "atomic,naive"] if verb == "compare" else ["--strategies", "instant"]
    assert cli.main([verb, str(tmp_path), "--out", str(tmp_path / "out"), *grid]) == 2
    assert f"dsi {verb} runs in one process" in capsys.readouterr().err


def test_another_comparison_is_refused(compared, split, corpora, tmp_path):
    out, _ = compared
    with pytest.raises(InputError, match="other options"):
        run_continual(split, out, options("generative", interval=1))
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="this folder holds other files"):
        run_continual(split, tmp_path, options("generative"))
    with pytest.raises(InputError, match="not a split dataset"):
        run_continual(corpora["full"].path, tmp_path / "new", options("generative"))


def test_histories_begin_with_a_corpus_own_end():
    def row(*values, marks="11"):
        return {"step": 1, "corpora": [{"Hits@10": value, "indexed": marks} for value in values]}

    curves = [
        [row(0.5, 0.1), row(0.8, 0.6)],
        [row(0.7, 0.3, 0.0, marks="10"), row(0.9, 0.7, 0.6)],
    ]
    found = stability_of(curves)
    # D0: 0.5 0.8 0.7 0.9; D1 from the end of its own update: 0.6 0.3 0.7
    assert found["min-ACC"] == pytest.approx((0.5 + 0.3) / 2)
    assert found["WC-ACC"] == pytest.approx(0.6 / 3 + 2 / 3 * 0.4)
    assert found["WF10"] == pytest.approx((0.1 + 0.3) / 2)
    assert found["WP10"] == pytest.approx((0.4 + 0.4) / 2)
    assert found["forgetting events"] == pytest.approx(0.5)
    assert found["never forgotten"] == pytest.approx(0.5)
    assert stability_of([[], []]) == {}


def test_the_page_holds_everything(compared, split):
    out, summary = compared
    files = write_page(out / "report.html", out, summary, "A <small> comparison", open_split(split))
    assert [file.name for file in files] == ["report.html", "increments.svg", "curves.svg"]
    page = files[0].read_text(encoding="utf-8")
    assert page.count("<svg ") == 2 + 2 + 1 + 9 + 1 + 1, "with keys; instant has no curve"
    assert not re.search(r'(src|href)="', page), "nothing is loaded from elsewhere"
    assert "A &lt;small&gt; comparison" in page
    assert ">generative<" in page


def test_the_rank_of_every_query_is_kept(compared, split):
    out, _ = compared
    last = results_of(out, "generative", 0)[-1]
    sizes = [len(EvaluationQueries.of(corpus).queries) for corpus in open_split(split)]
    assert [len(ranks) for ranks in last["ranks"]] == sizes
    for ranks, measured in zip(last["ranks"], last["performance"], strict=True):
        assert sum(0 < rank <= 10 for rank in ranks) / len(ranks) == measured["Hits@10"]
        assert sum(rank == 1 for rank in ranks) / len(ranks) == measured["Hits@1"]


def test_options_after_a_strategy():
    changed = with_changes(UpdateOptions(), "generative+warm-up@ratio=32@steps=7")
    assert (changed.strategy, changed.ratio, changed.steps) == ("generative+warm-up", 32.0, 7)
    for wrong in ("generative@color=3", "generative@ratio=much", "nothing", "generative@ratio=-1"):
        with pytest.raises(InputError):
            with_changes(UpdateOptions(), wrong)


@pytest.mark.parametrize(
    "change",
    [{"seeds": 0}, {"interval": -1}, {"curve_queries": 0}, {"update": UpdateOptions("finetune")}],
    ids=str,
)
def test_wrong_options_are_refused(change):
    with pytest.raises(InputError):
        dataclasses.replace(options("generative"), **change)


def test_the_commands(corpora, tmp_path, capsys):
    from dsi.cli import main

    split, out = tmp_path / "split", tmp_path / "out"
    words = ["split", str(corpora["full"].path), "--out", str(split), "--increments", "1"]
    assert main([*words, "--json"]) == 0
    sizes = [part["documents"] for part in json.loads(capsys.readouterr().out)["corpora"]]
    assert sizes == [20, 20]
    words = ["continual", str(split), "--strategies", "instant,finetune@steps=2", "--out", str(out)]
    words += ["--seeds", "[2]", "--loop.steps", "2", "--loop.batch", "8", "--per_doc", "2"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "finetune@steps=2" in shown
    assert "report.html" in shown
    assert (out / "summary.json").is_file()
    assert [path.name for path in (out / "base").glob("seed*[0-9]")] == ["seed2"]
    assert "During the updates" in (out / "report.html").read_text()


PROGRAM = """
from pathlib import Path
from dsi.continual.protocol import _release_freed_memory
def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 // 2**20
blocks = [bytearray(100_000) for _ in range(2000)]
kept = blocks[-1:]
blocks.clear()
before = held()
_release_freed_memory()
print(before - held())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library offers no trimming")
def test_freed_blocks_below_one_in_use_go_back():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
    assert int(done.stdout) > 100, "of 191 MiB"
