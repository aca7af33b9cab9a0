"""Whether the network is trained, and training options if it is not."""

from __future__ import annotations

import pytest

from data_prep.errors import InputError
from dsi.data.options import MixOptions
from dsi.indexing.options import TrainingOptions
from dsi.indexing.start import DEFAULT_STEPS, resolve_start
from dsi.training.options import LoopOptions, ModelOptions


def steps(options: TrainingOptions) -> int | None:
    return resolve_start(options, None).loop.steps


def test_the_network_from_scratch_ranks_without_training():
    assert steps(TrainingOptions()) == 0
    assert steps(TrainingOptions(loop=LoopOptions(precision="fp32", beams=7))) == 0


def test_options_of_its_training_train_it():
    assert steps(TrainingOptions(mix=MixOptions(indexing=1.0))) == DEFAULT_STEPS
    assert steps(TrainingOptions(model=ModelOptions(size="tiny"))) == DEFAULT_STEPS


@pytest.mark.parametrize(
    "loop",
    [
        LoopOptions(batch=64),
        LoopOptions(tokens=512),
        LoopOptions(accumulation=2),
        LoopOptions(gradient_checkpointing=True),
    ],
)
def test_options_of_a_step_are_refused_where_none_is_made(loop):
    with pytest.raises(
        InputError, match=r"has no effect if the network is not trained.*--loop.steps"
    ):
        resolve_start(TrainingOptions(loop=loop), None)
    trained = TrainingOptions(loop=loop, model=ModelOptions(size="tiny"))
    assert steps(trained) == DEFAULT_STEPS
