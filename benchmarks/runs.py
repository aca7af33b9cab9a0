"""What benchmarks of training share: a run as `dsi train` would make it, and a clock inside it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsi.objectives.base import Objective

if TYPE_CHECKING:
    from dsi.indexing.options import TrainingOptions
    from dsi.training.loop import Run


class Clock(Objective):
    """Costs nothing and notes when every step ended.

    Attributes:
        ended: Seconds of `time.perf_counter` after each step.
        computed: Seconds of `time.process_time` after each step: what the process computed,
            whatever else the machine did meanwhile.
    """

    name = "clock"

    def __init__(self, watch: Callable[[Any, int], None] | None = None) -> None:
        super().__init__()
        self.ended: list[float] = []
        self.computed: list[float] = []
        self._watch = watch

    def after_step(self, model: Any, step: int) -> None:
        """Notes the time, then lets `watch` see the model."""
        self.ended.append(time.perf_counter())
        self.computed.append(time.process_time())
        if self._watch is not None:
            self._watch(model, step)
            self.ended[-1] = time.perf_counter()


def make_training_run(source: str, folder: Path, options: TrainingOptions) -> Run:
    """Returns what `dsi train` would hand to its loop, everything before that done.

    Args:
        source: What `dsi prepare` takes.
        folder: For the dataset and the run's files.
        options: Of the training.
    """
    from data_prep.dataset import Dataset
    from dsi.commands.prepare import prepare
    from dsi.indexing import build

    if not (folder / "dataset").is_dir():
        prepare(source, out=folder / "dataset")
    dataset = Dataset.open(folder / "dataset")
    work = folder / "run"
    work.mkdir(exist_ok=True)
    # The steps of `train_index` before the loop; a command's user never needs them alone.
    return build.make_training_run(
        dataset, work, options, build.prepare(dataset, work, options, None)
    )
