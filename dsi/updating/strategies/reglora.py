"""`reglora`: an adapter avoids the weights that earlier adapters changed most.

RegLoRA of SEFE (ICML 2025). After an update with low-rank adapters, the largest entries of the
change to each linear layer, `fraction` of those of |scale * B A|, are marked; the marks of all
updates accumulate and are stored with the version. The next update is penalized for changing them:

    weight * mean over linear layers of (mean over the marked entries of |scale * B A|)

Changes by the first training are not marked, because they are not the product of an adapter. It is
not known whether the authors include the adapter's scale; here it is included, since the scaled
product is what is added to the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from dsi.objectives.base import Objective
from dsi.updating.plan import Plan
from dsi.updating.strategies.base import STRATEGIES, Strategy
from dsi.updating.strategy_state import check_strategy_state, read_strategy_state
from dsi.updating.structures.low_rank import add_low_rank, factors, merge_at_end


def largest(change: torch.Tensor, fraction: float) -> torch.Tensor:
    """Returns a mask of the entries of largest magnitude; bool, same shape.

    Args:
        change: The matrix.
        fraction: Fraction of entries, at least one; zero entries are never included.
    """
    flat = change.abs().flatten()
    count = max(1, round(fraction * flat.numel()))
    marks = torch.zeros_like(flat, dtype=torch.bool)
    marks[flat.topk(count).indices] = True
    return (marks & (flat > 0)).view(change.shape)


class MarkedEntries(Objective):
    """The mean magnitude of what adapters add to marked entries.

    Args:
        weight: Weight of the term.
        marks: Layer -> mask of the marked entries of its weight; bool [out, in].
    """

    name = "reglora"

    def __init__(self, weight: float, marks: Mapping[str, torch.Tensor]) -> None:
        super().__init__(weight)
        self.places = {name: torch.nonzero(marked, as_tuple=True) for name, marked in marks.items()}

    def prepare(self, device: torch.device) -> None:
        """Moves the positions of the marks to the device."""
        self.places = {
            name: (rows.to(device), columns.to(device))
            for name, (rows, columns) in self.places.items()
        }

    def of_weights(self, model: torch.nn.Module) -> torch.Tensor:
        """Returns the unweighted term."""
        parts = []
        for name, b, a, scale in factors(model):
            part = b.sum() * 0
            if name in self.places and len(self.places[name][0]):
                rows, columns = self.places[name]
                part = (scale * (b[rows] * a[:, columns].T).sum(dim=1)).abs().mean()
            parts.append(part)
        return torch.stack(parts).mean()


class RegLora(Strategy):
    """Adds the adapters and the term, and stores the marks with the new version."""

    name = "reglora"
    role = "structure"
    reads = frozenset({"lora", "reglora"})

    def shape(self, plan: Plan) -> None:
        """Modifies the model of the plan, and reads the marks of the previous version.

        Raises:
            InputError: The backbone is frozen, or peft is not installed.
        """
        add_low_rank(plan, self.name)
        options = plan.update.options.reglora
        marks = self._marks(plan)
        if marks:
            plan.objectives.append(MarkedEntries(options.weight, marks))

        def mark(model: Any) -> Any:
            with torch.no_grad():
                plan.strategy_state[self.name] = {
                    name: largest(scale * b @ a, options.fraction).cpu()
                    | marks.get(name, torch.tensor(False))
                    for name, b, a, scale in factors(model)
                }
            return model

        plan.after_training.append(mark)
        merge_at_end(plan)

    def _marks(self, plan: Plan) -> dict[str, torch.Tensor]:
        """Marks of earlier updates for the layers that get an adapter again."""
        version = plan.update.parent
        kept = read_strategy_state(version, self.name)
        if not kept:
            return {}
        layout = {
            name: f"bool {len(b)} {a.shape[1]}"
            for name, b, a, _ in factors(plan.model)
            if name in kept
        }
        check_strategy_state(version, self.name, kept, layout)
        return {
            name: kept[name].float() > 0 for name, _, _, _ in factors(plan.model) if name in kept
        }


STRATEGIES.register("reglora")(RegLora())
