"""A model for search whose weights are sharded over processes (DeepSpeed's ZeRO-3).

For a model that does not fit on one device: every process holds a shard of each layer, and a layer
is gathered when it computes. All processes search the same queries in lockstep.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from data_prep.errors import InputError
from dsi.distributed.deepspeed import quietly, start_deepspeed

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def refuse_other_stages(config: dict[str, Any]) -> None:
    """Refuses a configuration in which every process would hold all weights.

    Raises:
        InputError: Its stage is not 3.
    """
    stage = config["zero_optimization"]["stage"]
    if stage != 3:
        raise InputError(
            f"ZeRO {stage} shards only training state, which a search does not have",
            where="--deepspeed",
            hint="Use a configuration with zero_optimization.stage 3",
        )


def shard_model(model: PreTrainedModel, config: dict[str, Any], precision: str) -> PreTrainedModel:
    """Shards the weights of a model over the processes; no process has the whole model afterwards.

    Args:
        model: Any model, the same in every process.
        config: As `read_zero_config` returns it, of stage 3; `offload_param` is honored.
        precision: "fp32" or "bf16".

    Raises:
        InputError: The stage is not 3, or DeepSpeed is not installed.
    """
    refuse_other_stages(config)
    if precision == "int8":
        raise InputError(
            "--precision int8 packs whole weights, but --deepspeed shards them",
            hint="Use --precision bf16 or fp32, or omit --deepspeed",
        )
    start_deepspeed()
    import deepspeed

    settings = {
        "zero_optimization": config["zero_optimization"],
        "train_micro_batch_size_per_gpu": 1,
        "bf16": {"enabled": precision == "bf16"},
    }
    model.requires_grad_(False)
    with quietly():
        engine, *_ = deepspeed.initialize(model=model, config=settings)
    return engine.module.eval()
