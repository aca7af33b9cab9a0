"""`sam`: sharpness-aware minimization, for flat minima that forget less.

DSI++ (Mehta et al., EMNLP 2023, section 4) finds that documents are then forgotten less often. See
`dsi.training.optimization.sam`.
"""

from __future__ import annotations

from dsi.updating.plan import Plan
from dsi.updating.strategies.base import STRATEGIES, Strategy


class Sam(Strategy):
    """Enables sharpness-aware minimization."""

    name = "sam"
    role = "optimizer"
    reads = frozenset({"sam"})

    def shape(self, plan: Plan) -> None:
        """Sets the SAM options of the training loop."""
        from dsi.training.options import SamOptions

        options = plan.update.options.sam
        plan.more["sam"] = SamOptions(rho=options.rho, adaptive=options.adaptive)


STRATEGIES.register("sam")(Sam())
