"""A new low-rank adapter for an update: added before the first step, merged after the last."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from data_prep.errors import InputError
from dsi.training.options import LoraOptions

if TYPE_CHECKING:
    import torch

    from dsi.updating.plan import Plan

RANK = 8
"""Default rank of the adapters of an update if the first training had none."""


def unfreeze_backbone(plan: Plan, strategy: str) -> None:
    """Trains the weights that a strategy adds to the backbone at the full learning rate.

    The default multiplier of the backbone, which may be 0, is not meant for a few new weights that
    start at zero.

    Raises:
        InputError: The user froze the backbone in the first training.
    """
    asked = plan.update.training.optimizer.backbone_lr_scale
    if asked == 0:
        raise InputError(
            f"--strategy {strategy} trains the backbone, which the first training froze "
            "(--optimizer.backbone_lr_scale 0)",
            hint="Use another --strategy",
        )
    plan.optimizer = replace(plan.optimizer, backbone_lr_scale=1.0 if asked is None else asked)


def add_low_rank(plan: Plan, strategy: str) -> None:
    """Adds adapters to the model of a plan, as set by `--lora.*`.

    Raises:
        InputError: The backbone is frozen, or peft is not installed.
    """
    from dsi.training.optimization.lora import add_adapters

    unfreeze_backbone(plan, strategy)
    asked, first = plan.update.options.lora, plan.update.training.lora
    options = LoraOptions(
        rank=asked.rank or first.rank or RANK,
        alpha=asked.alpha or (first.alpha if asked.rank is None else None),
        dropout=asked.dropout,
        targets=first.targets if first.rank else [],
    )
    add_adapters(
        plan.model,
        options,
        seed=plan.update.options.seed,
        encoder=not plan.optimizer.freeze_encoder,
    )


def merge_at_end(plan: Plan) -> None:
    """Merges the adapters into the weights of their layers after the last step."""
    from dsi.training.optimization.lora import merge_adapters

    def merge(model: Any) -> Any:
        merge_adapters(model)
        return model

    plan.after_training.append(merge)


def factors(
    model: torch.nn.Module,
) -> Iterator[tuple[str, torch.Tensor, torch.Tensor, float]]:
    """Yields the layer name, B [out, rank], A [rank, in] and scale of every adapter.

    An adapter adds scale * B A to the layer's weight.
    """
    from peft.tuners.lora import LoraLayer

    for name, part in model.named_modules():
        if isinstance(part, LoraLayer):
            layer: Any = part
            yield (
                name,
                layer.lora_B["default"].weight,
                layer.lora_A["default"].weight,
                float(layer.scaling["default"]),
            )
