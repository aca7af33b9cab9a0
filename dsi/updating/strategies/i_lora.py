"""`i-lora`: a fast adapter learns; a slow one, its moving average, is the target for old documents.

I-LoRA (arXiv 2402.18865). The fast adapter is `lora`'s. After step t, from 0, the slow one becomes

    slow <- a slow + (1 - a) fast,    a = min(1 - 1 / (t + 1), rate)

and on the old documents of a batch the states of the fast network are pulled to those of the slow
one:

    weight * mean over layers of mean (h_fast - h_slow)^2

The authors' released code has a rate of 0.25, with which the slow adapter is hardly slow, and pulls
only upward, where the slow state is larger (`target` larger); the default here is the formula
above. The paper does not say clearly which adapter is used for search: their code continues from
the fast one, which is the default of `merge`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.func import functional_call

from dsi.objectives.base import IGNORED, Forward, Objective
from dsi.training.optimization.lora import is_adapter
from dsi.updating.plan import Plan
from dsi.updating.regularization.per_sample_gradients import is_old
from dsi.updating.strategies.base import STRATEGIES, Strategy
from dsi.updating.structures.low_rank import add_low_rank, merge_at_end


def distance(
    fast: Sequence[torch.Tensor],
    slow: Sequence[torch.Tensor],
    there: torch.Tensor,
    *,
    larger: bool = False,
) -> torch.Tensor:
    """Returns the mean squared difference of states, summed over examples.

    Args:
        fast: States of the layers of one stack; each [examples, positions, width].
        slow: The same for the slow network.
        there: Positions to include; bool [examples, positions].
        larger: Whether the target is the elementwise maximum of both.
    """
    total = fast[0].new_zeros(())
    for here, target in zip(fast, slow, strict=True):
        if larger:
            target = torch.maximum(here.detach(), target)
        each = (here - target).float().square().mean(dim=-1) * there
        total = total + (each.sum(dim=1) / there.sum(dim=1)).sum()
    return total / len(fast)


class SlowAdapter(Objective):
    """The term on old documents, and the slow adapter itself.

    Args:
        weight: Weight of the term.
        model: The network with the fast adapter.
        old: Identifiers that belong to old documents; bool [identifiers].
        rate: Upper bound of a.
        larger: As in `distance`.
    """

    name = "i_lora"
    hidden_states = True

    def __init__(
        self,
        weight: float,
        model: torch.nn.Module,
        old: torch.Tensor,
        *,
        rate: float,
        larger: bool,
    ) -> None:
        super().__init__(weight)
        self.old = old
        self.rate = rate
        self.larger = larger
        self.slow = {
            name: value.detach().clone()
            for name, value in model.named_parameters()
            if is_adapter(name)
        }

    def prepare(self, device: torch.device) -> None:
        """Moves the slow adapter to the device."""
        self.old = self.old.to(device)
        self.slow = {name: value.to(device) for name, value in self.slow.items()}

    def of_examples(self, forward: Forward) -> torch.Tensor:
        """Sums over the old documents of the batch and the layers of encoder and decoder.

        A language model gives the last states of its codes only.
        """
        old = self.old[forward.rows]
        if not bool(old.any()):
            return forward.logits.sum() * 0
        network: Any = getattr(forward.model, "module", forward.model)
        inputs = {
            "input_ids": forward.input_ids[old],
            "attention_mask": forward.attention_mask[old],
            "decoder_input_ids": forward.decoder_input_ids[old],
            "use_cache": False,
            "output_hidden_states": True,
        }
        with torch.no_grad():
            slow = functional_call(network, self.slow, (), inputs)
        read, written = forward.attention_mask[old].bool(), forward.codes[old] != IGNORED
        sides = (("encoder_hidden_states", read), ("decoder_hidden_states", written))
        parts, layers = [], 0
        for side, there in sides:
            fast = [states[old] for states in forward.outputs.get(side) or ()]
            if fast:  # an encoder without layers has no hidden states
                parts.append(len(fast) * distance(fast, slow[side], there, larger=self.larger))
                layers += len(fast)
        return torch.stack(parts).sum() / layers

    def after_step(self, model: torch.nn.Module, step: int) -> None:
        """Updates the slow adapter."""
        kept = min(1 - 1 / (step + 1), self.rate)
        weights = dict(model.named_parameters())
        with torch.no_grad():
            for name, value in self.slow.items():
                value.mul_(kept).add_(weights[name], alpha=1 - kept)

    def state(self) -> dict[str, torch.Tensor]:
        """Returns the slow adapter."""
        return self.slow

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restores it."""
        self.slow = {name: value.to(self.slow[name].device) for name, value in state.items()}


class InterpolatedLora(Strategy):
    """Adds both adapters; one of them is merged."""

    name = "i-lora"
    role = "structure"
    reads = frozenset({"lora", "i_lora"})
    excludes = frozenset({"finetune"})  # it has no example of an old document

    def shape(self, plan: Plan) -> None:
        """Modifies the model of the plan, and adds the term.

        Raises:
            InputError: The backbone is frozen, or peft is not installed.
        """
        add_low_rank(plan, self.name)
        options = plan.update.options.i_lora
        term = SlowAdapter(
            options.weight,
            plan.model,
            is_old(plan),
            rate=options.rate,
            larger=options.target == "larger",
        )
        plan.objectives.append(term)

        def take_slow(model: Any) -> Any:
            model.load_state_dict(term.slow, strict=False)
            return model

        if options.merge == "slow":
            plan.after_training.append(take_slow)
        merge_at_end(plan)


STRATEGIES.register("i-lora")(InterpolatedLora())
