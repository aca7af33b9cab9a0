"""Parallel adapters: small feed-forward networks that are added, then merged or dropped."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from data_prep.errors import InputError
from dsi.backbones.inference import evaluating
from dsi.backbones.position_edits import Edited

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from dsi.data.batching import Batch


class ParallelFeedForward(nn.Module):
    """A feed-forward network and a side memory with the same input, whose outputs are summed.

    Args:
        host: The feed-forward network; linear layers `wi` (or `wi_0` and `wi_1`) and `wo`.
        parallel_adapter: The side memory, of the same form.
    """

    def __init__(self, host: nn.Module, parallel_adapter: nn.Module) -> None:
        super().__init__()
        self.host = host
        self.parallel_adapter = parallel_adapter

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Returns host(states) + parallel_adapter(states)."""
        total: torch.Tensor = self.host(states) + self.parallel_adapter(states)
        return total


def feed_forwards(model: nn.Module) -> dict[str, nn.Module]:
    """Returns the feed-forward networks of a T5-like model, by name."""
    return {
        name: part
        for name, part in model.named_modules()
        if isinstance(getattr(part, "wo", None), nn.Linear)
        and any(isinstance(getattr(part, key, None), nn.Linear) for key in ("wi", "wi_0"))
    }


def add_parallel_adapters(
    model: PreTrainedModel, units: int, batches: Iterable[Batch], *, encoder: bool = True
) -> None:
    """Adds side memories to feed-forward networks, in place; the output of the model is unchanged.

    The first layer of a memory copies the host's most active hidden units, by mean magnitude on the
    given texts; its second layer is zero.

    Args:
        model: A T5-like model.
        units: Hidden units of each memory.
        batches: Batches of texts.
        encoder: Whether the encoder's networks get memories, too.

    Raises:
        InputError: The model has no such networks, or fewer units.
    """
    inside = set() if encoder else set(model.get_encoder().modules())
    hosts = {name: part for name, part in feed_forwards(model).items() if part not in inside}
    if not hosts:
        raise InputError(
            f"--strategy locas supports the feed-forward networks of the T5 family, not "
            f"{type(model).__name__}",
            hint="Use --strategy lora",
        )
    least = min(_linear(host, "wo").in_features for host in hosts.values())
    if units > least:
        raise InputError(
            f"--locas.units {units} is more than the {least} hidden units of this model",
            hint=f"Give at most {least}",
        )
    active = activity(model, hosts, batches)
    for name, host in hosts.items():
        picked = active[name].topk(units).indices.sort().values
        owner, _, own_name = name.rpartition(".")
        setattr(
            model.get_submodule(owner),
            own_name,
            ParallelFeedForward(host, _new_adapter(host, picked)),
        )


def activity(
    model: PreTrainedModel, hosts: dict[str, nn.Module], batches: Iterable[Batch]
) -> dict[str, torch.Tensor]:
    """Returns the mean magnitude of every hidden unit of each host over texts; float32 [units].

    The decoder reads its start token only. Padding counts like any other token: it is the same for
    all units.
    """
    sums = {name: torch.zeros(_linear(host, "wo").in_features) for name, host in hosts.items()}

    def look(name: str) -> Any:
        def seen(layer: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
            hidden = given[0].detach().float()
            sums[name] += hidden.abs().flatten(0, -2).mean(dim=0).cpu()

        return seen

    hooks = [
        _linear(host, "wo").register_forward_pre_hook(look(name)) for name, host in hosts.items()
    ]
    network: Any = model
    try:
        with evaluating(model, torch.no_grad):
            for batch in batches:
                network(
                    input_ids=torch.from_numpy(batch.input_ids),
                    attention_mask=torch.from_numpy(batch.attention_mask),
                    decoder_input_ids=torch.zeros((len(batch), 1), dtype=torch.int64),
                    use_cache=False,
                )
    finally:
        for hook in hooks:
            hook.remove()
    return sums


def merge_parallel_adapters(model: PreTrainedModel) -> None:
    """Merges side memories into their hosts as additional hidden units, in place.

    Networks without a memory get zero units, because all networks of a T5 have the same width.
    """
    with_memory = _with_parallel_adapter(model)
    units = max(_linear(part.parallel_adapter, "wo").in_features for part in with_memory.values())
    for name, part in with_memory.items():
        _widen(part.host, part.parallel_adapter)
        _restore_layer(model, name, part.host)
    hosts = [part.host for part in with_memory.values()]
    for other in feed_forwards(model).values():
        if other not in hosts:
            empty = _new_adapter(other, torch.zeros(units, dtype=torch.int64))
            _widen(other, empty)
    model.config.d_ff += units


def drop_parallel_adapters(model: PreTrainedModel) -> None:
    """Removes side memories, in place."""
    for name, part in _with_parallel_adapter(model).items():
        _restore_layer(model, name, part.host)


def _with_parallel_adapter(model: nn.Module) -> dict[str, ParallelFeedForward]:
    return {
        name: part for name, part in model.named_modules() if isinstance(part, ParallelFeedForward)
    }


def _restore_layer(model: nn.Module, name: str, host: nn.Module) -> None:
    owner, _, own_name = name.rpartition(".")
    setattr(model.get_submodule(owner), own_name, host)


def _linear(network: nn.Module, name: str) -> nn.Linear:
    found: nn.Linear = getattr(network, name)
    return found


def _keys(network: nn.Module) -> list[nn.Linear]:
    names = [key for key in ("wi", "wi_0", "wi_1") if hasattr(network, key)]
    return [_linear(network, name) for name in names]


def _new_adapter(host: nn.Module, picked: torch.Tensor) -> nn.Module:
    """Returns a network like the host with some of its hidden units and a zero output layer."""
    memory = copy.deepcopy(host)
    for layer in _keys(memory):
        layer.weight = nn.Parameter(layer.weight.detach()[picked].clone())
        layer.out_features = len(picked)
    out = _linear(memory, "wo")
    out.weight = nn.Parameter(out.weight.new_zeros(out.out_features, len(picked)))
    out.in_features = len(picked)
    if isinstance(out, Edited):
        out.edit = out.edit[:0]
    return memory


def _widen(host: nn.Module, more: nn.Module) -> None:
    """Adds the hidden units of another network, in place."""
    for mine, other in zip(_keys(host), _keys(more), strict=True):
        mine.weight = nn.Parameter(torch.cat([mine.weight.detach(), other.weight.detach()]))
        mine.out_features += other.out_features
    out, other_out = _linear(host, "wo"), _linear(more, "wo")
    out.weight = nn.Parameter(torch.cat([out.weight.detach(), other_out.weight.detach()], dim=1))
    out.in_features += other_out.in_features
