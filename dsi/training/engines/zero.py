"""DeepSpeed ZeRO: optimizer states, gradients (stage 2) and weights (stage 3) are sharded.

DeepSpeed keeps two copies of every weight: the one the network computes with, whole in stages 1 and
2 and sharded in stage 3, and the float32 master copy that the optimizer updates, which is always
sharded. This module reads and writes each process's shards of the master copy: SAM perturbs them,
and a checkpoint gathers them, so that it is independent of the number of processes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from data_prep.errors import InputError
from dsi.distributed.deepspeed import quietly, start_deepspeed
from dsi.objectives.base import Objective
from dsi.training.engines.base import Engine, OptimizerState
from dsi.training.optimization.sam import Shards

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedModel

    from dsi.training.options import OptimizerOptions


def refuse_with_zero(
    optimizer: OptimizerOptions, objectives: Sequence[Objective], config: dict[str, Any]
) -> None:
    """Refuses options that do not work with sharded weights or states.

    Raises:
        InputError: One of these options is set; the message names it.
    """
    if optimizer.name == "adafactor":
        raise InputError(
            "--optimizer.name adafactor needs the rows and columns of matrices, but --deepspeed "
            "shards them as flat vectors",
            hint="Use --optimizer.name adamw",
        )
    if optimizer.rows == "touched":
        raise InputError(
            "--optimizer.rows touched has gradients of only some rows, which --deepspeed does not "
            "support",
            hint="Use --optimizer.rows all, or omit --deepspeed",
        )
    for objective in objectives:
        kind = type(objective)
        cut = config["zero_optimization"]["stage"] == 3
        if (cut and kind.of_weights is not Objective.of_weights) or (
            kind.after_step is not Objective.after_step
        ):
            raise InputError(
                f"the objective {objective.name!r} needs whole weights, which --deepspeed with "
                f"ZeRO {config['zero_optimization']['stage']} does not keep",
                hint="Omit --deepspeed, or the objective",
            )


def zero_accelerator(config: dict[str, Any], precision: str, examples: int) -> Accelerator:
    """Returns an `Accelerator` for DeepSpeed on GPUs, or on CPUs if there is no GPU.

    Args:
        config: The output of `read_zero_config`.
        precision: bf16 or fp32.
        examples: Micro-batch size per process; DeepSpeed uses it for its reports only.

    Raises:
        InputError: DeepSpeed is not installed.
    """
    start_deepspeed()
    from accelerate import Accelerator
    from accelerate.utils import DeepSpeedPlugin
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    settings = copy.deepcopy(config)
    settings["gradient_accumulation_steps"] = 1
    settings["train_micro_batch_size_per_gpu"] = examples
    settings["bf16"] = {**settings.get("bf16", {}), "enabled": precision == "bf16"}
    plugin = DeepSpeedPlugin(hf_ds_config=settings, zero3_init_flag=False)
    with quietly():
        accelerator = Accelerator(
            mixed_precision="bf16" if precision == "bf16" else "no", deepspeed_plugin=plugin
        )
    # Otherwise transformers would shard every checkpoint that this process loads from here on.
    unset_hf_deepspeed_config()
    return accelerator


class ZeroEngine(Engine):
    """Trains a copy of the model under DeepSpeed; weights are gathered into the original.

    Args:
        accelerator: The output of `zero_accelerator`.
        model: The model, with `requires_grad` already set.
        optimizer: Over the model's weights, with or without the state of a checkpoint.
        clip: Maximum global gradient norm; 0 disables clipping.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: PreTrainedModel,
        optimizer: torch.optim.Optimizer,
        clip: float,
    ) -> None:
        self.accelerator = accelerator
        self._plain = model
        state: OptimizerState = optimizer.state_dict()["state"]
        trained = copy.deepcopy(model)
        copies = dict(zip(map(id, model.parameters()), trained.parameters(), strict=True))
        names = {id(weight): name for name, weight in trained.named_parameters()}
        self._weights: list[torch.nn.Parameter] = []
        for group in optimizer.param_groups:
            group["params"] = [copies[id(weight)] for weight in group["params"]]
            self._weights += group["params"]
        self._names = [names[id(weight)] for weight in self._weights]
        optimizer.state.clear()
        values = [weight.detach().float().cpu() for weight in self._weights] if state else []
        accelerator.deepspeed_plugin.deepspeed_config["gradient_clipping"] = clip
        self._engine: Any
        with quietly():
            self._engine, _ = accelerator.prepare(trained, optimizer)
        self.model = self._engine
        self._zero: Any = self._engine.optimizer
        self._stage = self._engine.zero_optimization_stage()
        if state:
            self._restore(state, values)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The parameter groups of the optimizer inside DeepSpeed."""
        return self._zero.optimizer.param_groups

    @property
    def network(self) -> torch.nn.Module:
        """The copy trained by DeepSpeed."""
        return self._engine.module

    @contextmanager
    def part(self, *, last: bool, own: bool = False) -> Iterator[torch.nn.Module]:
        """Opens a part; DeepSpeed reduces gradients in each and completes them in the last."""
        if own:
            yield self._engine.module
            return
        self._engine.set_gradient_accumulation_boundary(last)
        yield self.model

    def backward(self, loss: torch.Tensor, *, own: bool = False) -> None:
        """Adds gradients to DeepSpeed's buffers; local gradients are kept separately."""
        if own:
            assert self._own is not None
            self._own.add(loss)
        else:
            self._engine.backward(loss)

    def shards(self, names: Sequence[str], *, own: bool) -> Shards:
        """Returns the optimizer's shards, or the network's whole weights for local gradients.

        Raises:
            InputError: Local gradients are requested, but ZeRO 3 shards the weights.
        """
        chosen = set(names)
        weights = [
            weight
            for name, weight in zip(self._names, self._weights, strict=True)
            if name in chosen
        ]
        if not own:
            return _MasterPieces(self, weights)
        if self._stage == 3:
            raise InputError(
                "--sam.perturbation process needs whole weights in every process, which ZeRO 3 "
                "does not keep",
                hint="Use --sam.perturbation global, or ZeRO 2",
            )
        self._own = _OwnGradients(weights)
        return self._own

    _own: _OwnGradients | None = None

    def step(self, clip: float) -> None:
        """Steps; DeepSpeed clips with the norm set at construction."""
        self._engine.step()

    @torch.no_grad()
    def whole(self) -> PreTrainedModel | None:
        """Gathers the optimizer's weights into the plain model of the first process."""
        from deepspeed.utils import safe_get_full_fp32_param

        targets = dict(self._plain.named_parameters())
        main = self.accelerator.is_main_process
        for name, weight in zip(self._names, self._weights, strict=True):
            value = safe_get_full_fp32_param(weight)
            if main:
                targets[name].copy_(value)
        return self._plain if main else None

    @torch.no_grad()
    def optimizer_state(self) -> OptimizerState:
        """Gathers the optimizer's state, weight by weight."""
        from deepspeed.utils import safe_get_full_optimizer_state

        main = self.accelerator.is_main_process
        gathered: OptimizerState = {}
        self._link()
        flat, shaped = self._state_keys()
        for number, weight in enumerate(self._weights):
            entries = {
                key: safe_get_full_optimizer_state(weight, key).float().cpu() for key in shaped
            }
            if main:
                # Cloned because safetensors refuses tensors that share memory.
                gathered[number] = {
                    **entries,
                    **{key: value.clone() for key, value in flat.items()},
                }
        return gathered

    def _state_keys(self) -> tuple[dict[str, torch.Tensor], list[str]]:
        """Returns the scalar entries of the optimizer state and the names of the tensor entries."""
        states = [state for state in self._zero.optimizer.state.values() if state]
        if not states:
            return {}, []
        scalars = {
            key: torch.as_tensor(value, dtype=torch.float32).reshape(()).cpu()
            for key, value in states[0].items()
            if not torch.is_tensor(value) or value.dim() == 0
        }
        return scalars, sorted(set(states[0]) - set(scalars))

    @torch.no_grad()
    def _restore(self, state: OptimizerState, values: list[torch.Tensor]) -> None:
        """Loads the weights and optimizer state of a checkpoint into DeepSpeed's shards."""
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        first = next(iter(state.values()))
        shaped = [key for key, value in first.items() if value.dim() > 0]
        for piece in self._master():
            entry = self._zero.optimizer.state[piece]
            for key, value in first.items():
                entry[key] = torch.zeros_like(piece) if key in shaped else value.clone()
        self._link()
        for number, (weight, value) in enumerate(zip(self._weights, values, strict=True)):
            device = self.accelerator.device
            safe_set_full_fp32_param(weight, value.to(device))
            for key in shaped:
                safe_set_full_optimizer_state(weight, state[number][key].to(device), key)
        self.publish()

    def _link(self) -> None:
        """Lets ZeRO 1 and 2 find each weight's part of the optimizer's state.

        DeepSpeed does this itself, but after the first step of the first group, when the other
        groups have no state yet.
        """
        if self._stage < 3:
            self._zero._hp_optimizer_states_linked = False
            self._zero._lazy_init_hp_params_optimizer_state()

    def _master(self) -> list[torch.Tensor]:
        """Returns this process's float32 shards of all weights, one per group."""
        if self._stage < 3:
            return list(self._zero.single_partition_of_fp32_groups)
        return list(self._zero.fp32_partitioned_groups_flat)

    @torch.no_grad()
    def publish(self) -> None:
        """Copies the weights from the optimizer's shards to the network in all processes."""
        if self._stage < 3:
            self._zero.update_lp_params()
            return
        # Small weights are kept whole; DeepSpeed gathers them again only if they are partitioned.
        self._zero._partition_all_parameters()
        for number in range(len(self._zero.fp16_groups)):
            self._zero._reassign_or_swap_out_partitioned_parameters(number)
        if self._zero.persistent_parameters:
            self._zero.persistent_parameters[0].all_gather(self._zero.persistent_parameters)

    def forget(self) -> None:
        """Clears the gradients, as DeepSpeed does when it skips a step."""
        zero = self._zero
        if self._stage == 3:
            zero._overflow_clean_up(zero.loss_scale)
            return
        zero.zero_grad(set_to_none=True)
        zero.micro_step_id = -1
        if zero.cpu_offload:
            zero._offload_accumulated_param_ids = set()
            zero.reset_cpu_buffers()
            return
        zero._release_preflattened_grad_buffers()
        for group in list(zero.averaged_gradients):
            zero.averaged_gradients[group] = None
            zero.all_grad_tensors[group] = None

    def piece(self, weight: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Returns this process's shard of a weight and of its gradient; None if it has none."""
        if self._stage == 3:
            from deepspeed.utils import safe_get_local_fp32_param, safe_get_local_grad

            value, gradient = safe_get_local_fp32_param(weight), safe_get_local_grad(weight)
            # The last process's shard is zero-padded to the length of the others.
            held = weight.ds_numel - self.accelerator.process_index * value.numel()
            held = max(0, min(held, value.numel()))
            return value[:held], gradient.flatten()[:held]
        mapping = weight._hp_mapping
        if mapping is None:
            return None
        gradient = mapping.get_lp_grad_fragment(weight._index_in_param_group)
        return mapping.hp_fragment, gradient.flatten()


class _MasterPieces(Shards):
    """The optimizer's shards of the weights, with averaged gradients."""

    def __init__(self, engine: ZeroEngine, weights: list[torch.nn.Parameter]) -> None:
        self._engine = engine
        self._weights = weights
        self._last: list[torch.Tensor] = []

    def pieces(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        all_pieces = [self._engine.piece(weight) for weight in self._weights]
        held = [pair for pair in all_pieces if pair is not None]
        self._last = [value for value, _ in held]
        return held

    @torch.no_grad()
    def swap(self, values: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        old = [piece.clone() for piece in self._last]
        for piece, value in zip(self._last, values, strict=True):
            piece.copy_(value)
        self._engine.publish()
        return old

    def total(self, square: torch.Tensor) -> torch.Tensor:
        return self._engine.accelerator.reduce(square, "sum")

    def clear(self) -> None:
        self._engine.forget()


class _OwnGradients(Shards):
    """The network's whole weights, with gradients that DeepSpeed has not seen."""

    def __init__(self, weights: list[torch.nn.Parameter]) -> None:
        self._weights = weights
        self._gradients: list[torch.Tensor | None] = [None] * len(weights)
        self._last: list[torch.nn.Parameter] = []

    def add(self, loss: torch.Tensor) -> None:
        """Adds the gradients of a loss, bypassing DeepSpeed's hooks."""
        gradients = torch.autograd.grad(loss, self._weights, allow_unused=True)
        for number, gradient in enumerate(gradients):
            accumulated = self._gradients[number]
            if gradient is not None:
                self._gradients[number] = (
                    gradient if accumulated is None else accumulated.add_(gradient)
                )

    def pieces(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        held = [
            (weight, gradient)
            for weight, gradient in zip(self._weights, self._gradients, strict=True)
            if gradient is not None
        ]
        self._last = [weight for weight, _ in held]
        return [(weight.data, gradient) for weight, gradient in held]

    @torch.no_grad()
    def swap(self, values: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        # Copied, not swapped: in DeepSpeed these weights are views of one flat tensor.
        old = [weight.data.clone() for weight in self._last]
        for weight, value in zip(self._last, values, strict=True):
            weight.data.copy_(value)
        return old

    def clear(self) -> None:
        self._gradients = [None] * len(self._weights)
