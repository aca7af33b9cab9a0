"""Two real processes train one index, and neither waits for the other if it has failed."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import pytest
import small
import torch
from safetensors import safe_open
from two_processes import finish, start

from data_prep.errors import InputError
from docids.kinds import TreeOptions
from dsi import Index
from dsi.backbones.backbone import from_scratch
from dsi.distributed.processes import Processes
from dsi.index_folder import versions
from dsi.indexing.build import train_index
from dsi.training.checkpoints import load_checkpoint, steps_saved
from dsi.training.optimization.optimizers import make_optimizer
from dsi.training.options import OptimizerOptions

CONFIG = """
docids: atomic
generator: extractive
per_doc: 4
mix: {indexing: 0.2, pseudo: 0.5, labeled: 0.3, document_length: 12}
optimizer: {lr: 0.001, warmup: 2}
loop: {steps: 8, batch: 16, precision: fp32, beams: 10}
"""


@pytest.fixture
def config(tmp_path) -> Path:
    (tmp_path / "train.yaml").write_text(CONFIG)
    return tmp_path / "train.yaml"


BUDGET = ("--loop.batch", "null", "--loop.tokens", "128", "--loop.accumulation", "2")


def test_two_processes_share_out_batches_of_so_many_tokens(dataset, config, tmp_path):
    """Their numbers of examples differ from step to step, and are often odd."""
    words = ("train", str(dataset.path), "--out", str(tmp_path / "two"), "--config", str(config))
    for code, _, err in finish(start(*words, *BUDGET)):
        assert code == 0, err
    wanted = small.options(loop__batch=None, loop__tokens=128, loop__accumulation=2)
    one = train_index(dataset, tmp_path / "one", wanted)
    theirs = Index.open(tmp_path / "two", "cpu")
    assert theirs.manifest.metrics["examples"] == one.metrics["examples"]
    for name, value in Index.open(tmp_path / "one", "cpu").model.state_dict().items():
        torch.testing.assert_close(value, theirs.model.state_dict()[name], atol=1e-4, rtol=1e-3)


def test_two_processes_end_with_the_weights_of_one(dataset, config, tmp_path):
    out = tmp_path / "two"
    words = ("train", str(dataset.path), "--out", str(out), "--config", str(config))
    for code, _, err in finish(start(*words)):
        assert code == 0, err
    same = dataclasses.replace(small.options(), semantic=TreeOptions())  # of another kind
    train_index(dataset, tmp_path / "one", same)
    assert sorted(entry.name for entry in out.iterdir()) == ["live", "lock", "versions"]
    assert versions.names(out) == ["0001"]
    one, two = Index.open(tmp_path / "one", "cpu"), Index.open(out, "cpu")
    theirs = two.model.state_dict()
    for name, value in one.model.state_dict().items():
        torch.testing.assert_close(value, theirs[name], atol=1e-4, rtol=1e-3)
    ours, others = one.manifest.metrics, two.manifest.metrics
    assert others["loss"] == pytest.approx(ours["loss"], rel=1e-3)
    assert one.manifest.configuration == two.manifest.configuration
    # And again: both find it done.
    for (code, text, err), rank in zip(finish(start(*words)), range(2), strict=True):
        assert code == 0, err
        assert bool(text) == (rank == 0)
    assert versions.names(out) == ["0001"]


def test_an_error_of_the_first_process_ends_both(dataset, config, tmp_path):
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "notes.txt").write_text("mine")
    out = str(tmp_path / "index")
    ended = finish(start("train", str(dataset.path), "--out", out, "--config", str(config)))
    for code, text, err in ended:
        assert code == 2
        assert not text
        assert "not an index" in err


def test_a_batch_of_less_than_an_example_for_each_process_is_refused(dataset, config, tmp_path):
    words = ("train", str(dataset.path), "--out", str(tmp_path / "index"), "--config", str(config))
    for code, _, err in finish(start(*words, "--loop.batch", "1")):
        assert code == 2
        assert "--loop.batch 1 is less than one example for each of 2 processes" in err


def test_a_process_that_is_lost_ends_the_others_and_spares_the_checkpoint(
    dataset, config, tmp_path
):
    out = tmp_path / "index"
    words = ("train", str(dataset.path), "--out", str(out), "--config", str(config))
    processes = start(*words, "--loop.steps", "20000", "--loop.checkpoint_every", "2")
    checkpoints = out / "training" / "checkpoints"
    while not steps_saved(checkpoints) and all(each.poll() is None for each in processes):
        time.sleep(0.05)
    processes[1].kill()
    (code, _, err), _ = finish(processes)
    assert code == 1, err
    assert "another process of this run ended during step" in err
    assert "run the same command again" in err
    model = network_of(checkpoints)
    done, _ = load_checkpoint(
        checkpoints, model, make_optimizer(model, OptimizerOptions(backbone_lr_scale=0))
    )
    assert done == steps_saved(checkpoints)[-1] >= 2


def network_of(checkpoints: Path):
    """Returns a network that fits the newest checkpoint of a run of `CONFIG`."""
    newest = checkpoints / f"{steps_saved(checkpoints)[-1]:08d}"
    with safe_open(newest / "model.safetensors", "pt") as weights:
        text = weights.get_slice("encoder.embed_tokens.weight").get_shape()[0]
        codes = weights.get_slice("lm_head.weight").get_shape()[0]
    return from_scratch("latent", text_vocabulary=text, alphabet_size=codes)


FAILING = """
import sys
from data_prep.errors import InputError
from dsi.distributed.processes import Processes
processes = Processes()
def fail():
    if processes.rank == 1:
        raise {error}
    return 7
try:
    processes.together(fail)
except Exception as error:
    print(type(error).__name__, error)
alone = processes.in_main_process(lambda: "alone")
print(alone, processes.main_process_first(lambda: processes.rank))
"""


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("InputError('no such file', where='x')", ["InputError x: no such file."] * 2),
        ("OSError('disk')", ["RuntimeError disk", "OSError disk"]),
    ],
)
def test_an_error_of_any_process_is_raised_in_all(error, told):
    ended = finish(start(script=FAILING.format(error=error)))
    for rank, (code, text, err) in enumerate(ended):
        assert code == 0, err
        alone = "alone" if rank == 0 else None
        assert text.splitlines() == [told[rank], f"{alone} {rank}"]


def test_a_process_alone_is_the_first_and_the_only_one():
    processes = Processes()
    assert (processes.rank, processes.count) == (0, 1)
    assert processes.together(lambda: 1) == 1
    assert processes.in_main_process(lambda: 2) == 2
    assert processes.main_process_first(lambda: 3) == 3

    def fail() -> None:
        raise InputError("no")

    for method in (processes.together, processes.in_main_process, processes.main_process_first):
        with pytest.raises(InputError, match="no"):
            method(fail)
