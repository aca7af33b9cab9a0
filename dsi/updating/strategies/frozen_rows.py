"""`frozen-rows`: freezes the rows of old codes during an update.

Rows shared with new documents, as in a tree, are rotated once, when the model is expanded before
the first step.

With one code per document and a frozen encoder, the scores of old documents do not depend on
training: they can only be outranked by new documents (IncDSI; MixLoRA-DSI measures a BWT of 0.0 for
it).
"""

from __future__ import annotations

from typing import Any

import torch

from data_prep.errors import InputError
from dsi.updating.plan import Plan
from dsi.updating.strategies.base import STRATEGIES, Strategy


def freeze_rows(weight: torch.Tensor, known: int) -> None:
    """Blocks the gradient of the first `known` rows of a weight."""
    mask = torch.ones(len(weight), *(1 for _ in weight.shape[1:]))
    mask[:known] = 0
    weight.register_hook(lambda gradient: gradient * mask.to(gradient))


class FrozenRows(Strategy):
    """Adds gradient hooks to the decoder's embedding and the output layer."""

    name = "frozen-rows"
    role = "loss"

    def shape(self, plan: Plan) -> None:
        """Adds the hooks.

        Raises:
            InputError: Weight decay, which needs no gradient, would change the rows.
        """
        if plan.optimizer.weight_decay:
            raise InputError(
                "--strategy frozen-rows and a weight decay cannot be combined",
                hint="Train the index with --optimizer.weight_decay 0",
            )
        known = plan.update.known_codes()

        def hook(model: Any) -> None:
            layers = [model.get_decoder().get_input_embeddings(), model.get_output_embeddings()]
            if hasattr(model, "pawa"):
                layers.append(model.pawa)  # its weight has one matrix per code
            for layer in layers:
                layer.weight.requires_grad_(True)
                freeze_rows(layer.weight, known)

        plan.before_training.append(hook)


STRATEGIES.register("frozen-rows")(FrozenRows())
