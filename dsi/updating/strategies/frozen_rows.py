"""`frozen-rows`: no step of an update moves the rows of old codes.

Those that new documents share, as in a tree, have been turned once before the first step, when
the model grew.

With one code a document and an encoder that is frozen too, nothing of an old document's score
depends on what is learned: no forgetting but by new documents that rank above (IncDSI; MixLoRA-DSI
measures a BWT of 0.0 for it).
"""

from __future__ import annotations

from typing import Any

import torch

from data_prep.errors import InputError
from dsi.updating.strategies.base import STRATEGIES, Plan, Strategy


def freeze_rows(weight: torch.Tensor, known: int) -> None:
    """Lets no gradient through to the first `known` rows of a weight."""
    mask = torch.ones(len(weight), *(1 for _ in weight.shape[1:]))
    mask[:known] = 0
    weight.register_hook(lambda gradient: gradient * mask.to(gradient))


class FrozenRows(Strategy):
    """Hooks onto the decoder's embedding and the output layer."""

    name = "frozen-rows"
    role = "loss"

    def shape(self, plan: Plan) -> None:
        """Adds the hooks.

        Raises:
            InputError: Weight decay, which asks for no gradient, would move the rows.
        """
        if plan.optimizer.weight_decay:
            raise InputError(
                "--strategy frozen-rows and a weight decay do not go together",
                hint="Train the index with --optimizer.weight_decay 0",
            )
        known = plan.update.known_codes()

        def hook(model: Any) -> None:
            layers = [model.get_decoder().get_input_embeddings(), model.get_output_embeddings()]
            if hasattr(model, "pawa"):
                layers.append(model.pawa)  # whose weight has a matrix for each code
            for layer in layers:
                layer.weight.requires_grad_(True)
                freeze_rows(layer.weight, known)

        plan.before_training.append(hook)


STRATEGIES.register("frozen-rows")(FrozenRows())
