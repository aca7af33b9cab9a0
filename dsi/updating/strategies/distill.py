"""`distill`: on old documents, the model is distilled from the previous version.

Three weighted terms on the examples of old documents in a batch:

- kl: KL(p_before || p_now) over the codes of the previous version, mean over the codes of an
  identifier (MixLoRA-DSI's L_KL, arXiv 2507.09924);
- pcd: mean squared difference of the logits of the codes in the batch (proxy-based
  contrastive distillation of HPCR, Lin et al.);
- scd: cross-entropy between the softmax rows of pairwise cosines of the states before and now,
  without the diagonal (sample-based contrastive distillation of HPCR).

The other half of HPCR, a temperature of PCR that varies over the steps, is not implemented.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch.nn import functional

from dsi.objectives.base import IGNORED, Forward, Objective
from dsi.updating.plan import Plan
from dsi.updating.regularization.per_sample_gradients import is_old
from dsi.updating.strategies.base import STRATEGIES, Strategy


def kl_to_before(
    before: torch.Tensor, now: torch.Tensor, there: torch.Tensor, known: int
) -> torch.Tensor:
    """Returns KL(p_before || p_now), mean over codes and summed over examples.

    Args:
        before: Logits of the previous version; [examples, positions, alphabet].
        now: Logits of the trained model; same shape.
        there: Positions that have a code; bool [examples, positions].
        known: Number of codes of the previous version.
    """
    teacher = before[..., :known].float().log_softmax(dim=-1)
    student = now[..., :known].float().log_softmax(dim=-1)
    each = (teacher.exp() * (teacher - student)).sum(dim=-1) * there
    return (each.sum(dim=1) / there.sum(dim=1)).sum()


def proxy_distillation(
    before: torch.Tensor, now: torch.Tensor, codes: torch.Tensor
) -> torch.Tensor:
    """Returns the mean squared difference of logits over the batch's codes, summed over examples.

    Args:
        before: Logits of the previous version at one position; [examples, alphabet].
        now: Logits of the trained model.
        codes: Codes of the batch at this position; int64 [examples].
    """
    difference = (before[:, codes].float() - now[:, codes].float()).square()
    return difference.mean(dim=1).sum()


def sample_distillation(
    before: torch.Tensor, now: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Returns the cross-entropy between similarity rows before and now, summed over examples.

    Args:
        before: States of the previous version; [examples, width].
        now: States of the trained model.
        temperature: Divisor of the cosines.
    """
    size = len(now)
    if size < 2:
        return now.sum() * 0
    others = ~torch.eye(size, dtype=torch.bool, device=now.device)

    def rows(states: torch.Tensor) -> torch.Tensor:
        unit = functional.normalize(states.float(), dim=-1)
        cosines = (unit @ unit.T)[others].view(size, size - 1)
        return (cosines / temperature).log_softmax(dim=-1)

    return -(rows(before).exp() * rows(now)).sum()


class Distillation(Objective):
    """The three terms on the old documents of a batch.

    Args:
        teacher: The expanded model before the first step.
        old: Identifiers that belong to old documents; bool [identifiers].
        known: Number of codes of the previous version.
        kl: Weight of the KL term.
        pcd: Weight of the proxy term.
        scd: Weight of the sample term.
        temperature: Temperature of the sample term.
    """

    name = "distill"
    hidden_states = True

    def __init__(
        self,
        teacher: Any,
        old: torch.Tensor,
        known: int,
        *,
        kl: float,
        pcd: float,
        scd: float,
        temperature: float,
    ) -> None:
        super().__init__()
        self.teacher = teacher.eval().requires_grad_(False)
        self.old = old
        self.known = known
        self.kl, self.pcd, self.scd = kl, pcd, scd
        self.temperature = temperature

    def prepare(self, device: torch.device) -> None:
        """Moves the teacher to the device."""
        self.teacher.to(device)
        self.old = self.old.to(device)

    def of_examples(self, forward: Forward) -> torch.Tensor:
        """Sums over the old documents of the batch."""
        old = self.old[forward.rows]
        now, states = forward.logits[old], forward.decoder_states[old]
        if not bool(old.any()):
            return forward.logits.sum() * 0
        with torch.no_grad():
            outputs = self.teacher(
                input_ids=forward.input_ids[old],
                attention_mask=forward.attention_mask[old],
                decoder_input_ids=forward.decoder_input_ids[old],
                use_cache=False,
                output_hidden_states=True,
            )
        before, before_states = outputs.logits, outputs.decoder_hidden_states[-1]
        codes = forward.codes[old]
        there = codes != IGNORED
        total = now.sum() * 0
        if self.kl:
            total = total + self.kl * kl_to_before(before, now, there, self.known)
        for place in range(codes.shape[1]):
            here = there[:, place]
            if self.pcd:
                total = total + self.pcd * proxy_distillation(
                    before[here, place], now[here, place], codes[here, place]
                )
            if self.scd:
                total = total + self.scd * sample_distillation(
                    before_states[here, place], states[here, place], self.temperature
                )
        return total


class Distill(Strategy):
    """Keeps a copy of the model as a teacher."""

    name = "distill"
    role = "loss"
    reads = frozenset({"distill"})
    excludes = frozenset({"finetune"})  # it has no example of an old document

    def shape(self, plan: Plan) -> None:
        """Copies the model before the first step."""
        options = plan.update.options.distill
        known = plan.update.known_codes()
        plan.objectives.append(
            Distillation(
                copy.deepcopy(plan.model),
                is_old(plan),
                known,
                kl=options.kl,
                pcd=options.pcd,
                scd=options.scd,
                temperature=options.temperature,
            )
        )


STRATEGIES.register("distill")(Distill())
