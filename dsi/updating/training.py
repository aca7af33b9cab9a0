"""Runs the training loop of an update according to the plan of its strategies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsi.indexing.start import DEFAULT_STEPS
from dsi.updating.expansion import expanded_model
from dsi.updating.inherited_options import inherited_terms
from dsi.updating.plan import Plan, Update
from dsi.updating.strategies.base import Outcome, Strategy

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from dsi.objectives.base import Objective
    from dsi.training.loop import Run

STEPS_SHARE = 10
"""Default number of update steps, as a fraction of the steps of the first training."""

Callback = Callable[[Update, "PreTrainedModel"], "Objective"]
"""Creates a term of zero loss that observes the given model during training."""


def planned_steps(update: Update) -> int:
    """Returns the number of steps of an update."""
    first = update.training.loop.steps or DEFAULT_STEPS
    return update.options.steps or max(1, -(-first // STEPS_SHARE))


def make_plan(update: Update, strategies: Sequence[Strategy]) -> Plan:
    """Returns the plan of an update after all of its strategies have modified it."""
    from dsi.indexing.assembly import backbone_lr_scale, optimizer_of

    asked, training = update.options, update.training
    steps = planned_steps(update)
    kind = update.assignment.table.kind
    first = optimizer_of(training, kind)
    optimizer = replace(
        first,
        lr=asked.lr or training.optimizer.lr,
        warmup=min(training.optimizer.warmup, steps // 5),
        backbone_lr_scale=backbone_lr_scale(training, kind),
        # Strategies need whole gradients.
        rows="frozen" if first.rows == "frozen" else "all",
    )
    loop = training.loop.of_size(asked.batch, steps=steps, checkpoint_every=0)
    plan = Plan(update, expanded_model(update), optimizer, loop)
    # Strategies that modify the network come first: the others read its weights afterwards.
    for strategy in sorted(strategies, key=lambda each: each.role != "structure"):
        strategy.shape(plan)
    return plan


def make_update_run(plan: Plan, work: Path, callbacks: Sequence[Callback] = ()) -> Run:
    """Returns the training run of a plan.

    Args:
        plan: The plan.
        work: Folder of checkpoints and logs.
        callbacks: Callbacks that observe the training.
    """
    import torch

    from docids.trie import Trie
    from dsi.data.examples import labeled_rows, per_identifier
    from dsi.objectives.base import Targets
    from dsi.search.torch_trie import TorchTrie
    from dsi.training.loop import Run
    from dsi.updating.data.gathering import gather, make_batches

    update = plan.update
    table = update.assignment.table
    examples = {name: per_identifier(each, table) for name, each in gather(plan).items()}
    labeled = None
    if update.training.mix.negatives == "labeled" and "labeled" in plan.queries:
        labeled, _ = table.numbers_of(labeled_rows(update.corpus.dataset, table))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model: Any = plan.model
    trie = TorchTrie.from_trie(Trie.build(table), device)
    score: Any = update.manifest.score
    terms = inherited_terms(update.training, plan.main)
    return Run(
        model=model.to(device),
        batches=make_batches(plan, examples, update),
        targets=Targets.of(
            table.matrix(),
            table.alphabet_size,
            labeled,
            trie if score == "constrained" else None,
        ),
        objectives=[*terms, *plan.objectives, *(callback(update, model) for callback in callbacks)],
        trie=trie,
        dev=None,
        optimizer=plan.optimizer,
        loop=replace(plan.loop, score=score),
        seed=update.options.seed,
        folder=work,
        **plan.more,
    )


def train(
    update: Update, strategies: Sequence[Strategy], work: Path, callbacks: Sequence[Callback] = ()
) -> Outcome:
    """Trains to the last step, resuming an interrupted run.

    Args:
        update: The update.
        strategies: Strategies that modify the plan, in this order.
        work: Working folder.
        callbacks: Callbacks that observe the model.

    Raises:
        InputError: A strategy does not fit the index, or there is nothing to train on.
    """
    from dsi.training.loop import train_loop

    plan = make_plan(update, strategies)
    run = make_update_run(plan, work, callbacks)
    for prepare in plan.before_training:
        prepare(run.model)
    reached = train_loop(run)
    model = run.model
    for finish in plan.after_training:
        model = finish(model)
    reached = {**reached, "batch": run.batches.size}
    return Outcome(model, plan.update.text, reached, strategy_state=plan.strategy_state)
