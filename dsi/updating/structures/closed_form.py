"""Closed-form edits: which outputs are wanted, the keys that ask for them, and the solution.

Position p of an identifier has keys k (inputs of the edited network after p codes) and wanted
changes delta of its output. GenRecEdit (arXiv 2603.14259), after MEMIT (Meng et al., ICLR 2023),
solves

    edit = Delta K^T (K K^T + lam * C)^-1,    C = E[k k^T] over old queries

which is the least-squares fit of edit k = delta on the new keys that changes outputs on the old
ones least. Both products are sums over keys, so that texts are read batch by batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from docids.table import PAD
from dsi.backbones.backbone import row_weights
from dsi.backbones.inference import evaluating, padded
from dsi.backbones.position_edits import Place, place_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_BATCH = 128
_RIDGE = 1e-4
"""Added to the diagonal of C, relative to its mean: a hidden unit that no old query activates would
be free to change without it."""
_EPSILON = 1e-8
_BETAS = 0.9, 0.999
_LAST_RATE = 0.02
"""The last learning rate of the search for wanted outputs, relative to the first."""


@dataclass(frozen=True)
class Reading:
    """What a decoder computes for a batch of queries and identifiers.

    Attributes:
        keys: Inputs of the network to edit; floating [texts, positions, in].
        outputs: Its outputs; floating [texts, positions, out].
        states: Inputs of the norm before the output layer; floating [texts, positions, width].
        codes: The identifiers, padded with PAD; int64 [texts, positions].
    """

    keys: torch.Tensor
    outputs: torch.Tensor
    states: torch.Tensor
    codes: torch.Tensor


def readings(
    model: PreTrainedModel,
    texts: Sequence[Sequence[int]],
    identifiers: Sequence[Sequence[int]],
) -> Iterator[Reading]:
    """Reads queries with their identifiers, those of similar length together.

    Args:
        model: The model; temporarily in evaluation mode.
        texts: Token ids of each query, at least one.
        identifiers: The codes of each one's identifier.
    """
    place = place_of(model)
    network: Any = model
    seen: dict[str, torch.Tensor] = {}

    def keep_first(_: Any, given: Any) -> None:
        seen["keys"] = given[0]

    def keep_layer(_: Any, given: Any, output: torch.Tensor) -> None:
        seen["outputs"] = output

    def keep_norm(_: Any, given: Any) -> None:
        seen["states"] = given[0]

    hooks = [
        place.first.register_forward_pre_hook(keep_first),
        place.layer.register_forward_hook(keep_layer),
        place.norm.register_forward_pre_hook(keep_norm),
    ]
    device = model.get_output_embeddings().weight.device
    order = np.argsort([len(text) for text in texts], kind="stable")
    try:
        with evaluating(model, torch.no_grad):
            for start in range(0, len(order), _BATCH):
                picked = order[start : start + _BATCH].tolist()
                input_ids, mask = padded([texts[number] for number in picked])
                codes, _ = padded([identifiers[number] for number in picked])
                begun = torch.cat([torch.full_like(codes[:, :1], PAD), codes[:, :-1]], dim=1)
                network(
                    input_ids=input_ids.to(device),
                    attention_mask=mask.to(device),
                    decoder_input_ids=begun.to(device),
                    use_cache=False,
                )
                # A language model also reads the prompt, before the codes.
                tail = {name: each[:, -codes.shape[1] :] for name, each in seen.items()}
                yield Reading(**tail, codes=codes.to(device))
    finally:
        for hook in hooks:
            hook.remove()


def wanted_changes(
    model: PreTrainedModel,
    place: Place,
    outputs: torch.Tensor,
    states: torch.Tensor,
    codes: torch.Tensor,
    allowed: torch.Tensor | None,
    *,
    steps: int,
    rate: float,
    distance: float,
    enough: float,
) -> torch.Tensor:
    """Finds a change of the layer's output that makes each wanted code probable.

    Minimizes -log p(code) + distance * ||delta|| / ||output|| by Adam, with a learning rate that
    falls along a cosine; a row stops once the code is probable enough.

    Args:
        model: The model, in evaluation mode.
        place: The layer to edit.
        outputs: Its outputs; floating [rows, out].
        states: Inputs of the norm; floating [rows, width].
        codes: The wanted codes; int64 [rows].
        allowed: Codes in the softmax; bool [rows, alphabet], or None for all.
        steps: Maximum number of steps.
        rate: First learning rate, relative to the root mean square of the states.
        distance: Weight of the distance.
        enough: Probability at which a row stops.

    Returns:
        float32 [rows, out]; 0 where the code is probable enough already.
    """
    outputs, states = outputs.float(), states.float()
    residual = states - (outputs if place.after is None else place.after(outputs)).float()
    size = states.norm(dim=1, keepdim=True)
    # An output of zero, as after a spectral warm start, measures no distance.
    reference = torch.maximum(outputs.norm(dim=1, keepdim=True), 0.1 * size).clamp_min(_EPSILON)
    unit = (size * states.shape[1] ** -0.5).clamp_min(_EPSILON)
    change = torch.zeros_like(outputs)
    first, second = torch.zeros_like(change), torch.zeros_like(change)
    for step in range(1, steps + 2):
        with torch.enable_grad():
            moved = change.detach().requires_grad_(True)
            logs = _log_probabilities(model, place, residual, outputs + moved, allowed)
            own = logs.gather(1, codes.unsqueeze(1)).squeeze(1)
            # The square root has no gradient at 0.
            length = (moved.square().sum(dim=1) + _EPSILON * reference.squeeze(1).square()).sqrt()
            loss = -own + distance * length / reference.squeeze(1)
            (slope,) = torch.autograd.grad(loss.sum(), moved)
        running = (own.detach() < np.log(enough)).unsqueeze(1)
        if step > steps or not bool(running.any()):
            break
        first = _BETAS[0] * first + (1 - _BETAS[0]) * slope
        second = _BETAS[1] * second + (1 - _BETAS[1]) * slope.square()
        falls = 0.5 * (1 + np.cos(np.pi * (step - 1) / steps))
        now = rate * (_LAST_RATE + (1 - _LAST_RATE) * falls)
        mean = first / (1 - _BETAS[0] ** step)
        spread = (second / (1 - _BETAS[1] ** step)).sqrt()
        change = torch.where(running, change - now * unit * mean / (spread + _EPSILON), change)
    return change


def _log_probabilities(
    model: Any,
    place: Place,
    residual: torch.Tensor,
    outputs: torch.Tensor,
    allowed: torch.Tensor | None,
) -> torch.Tensor:
    """Returns the log-probabilities of all codes given outputs of the layer; [rows, alphabet]."""
    states = residual + (outputs if place.after is None else place.after(outputs))
    head = model.get_output_embeddings()
    logits = head(place.norm(states.to(head.weight.dtype))).float()
    if hasattr(model, "capped"):
        logits = model.capped(logits)
    if hasattr(model, "final_logits_bias"):
        logits = logits + model.final_logits_bias
    if allowed is not None:
        logits = logits.masked_fill(~allowed, -torch.inf)
    return logits.log_softmax(-1)


@dataclass
class Moments:
    """Sums over keys, by position.

    Attributes:
        seconds: Mean of k k^T; float64 [positions, in, in].
        counts: Number of keys; int64 [positions].
    """

    seconds: torch.Tensor
    counts: torch.Tensor

    @classmethod
    def none(cls, positions: int, read: int) -> Moments:
        """Returns the moments of no key."""
        return cls(
            torch.zeros((positions, read, read), dtype=torch.float64),
            torch.zeros(positions, dtype=torch.int64),
        )

    def lengthened(self, positions: int) -> Moments:
        """Returns moments for at least so many positions, without keys at the new ones."""
        more = Moments.none(max(0, positions - len(self.counts)), self.seconds.shape[1])
        return Moments(
            torch.cat([self.seconds, more.seconds]), torch.cat([self.counts, more.counts])
        )

    def add(self, position: int, keys: torch.Tensor) -> None:
        """Adds keys; floating [rows, in]."""
        known, new = int(self.counts[position]), len(keys)
        if not new:
            return
        keys = keys.double()
        product = (keys.T @ keys).cpu()
        self.seconds[position] = (known * self.seconds[position] + product) / (known + new)
        self.counts[position] += new

    def merge(self, position: int, other: Moments) -> None:
        """Adds the keys of other moments at one position."""
        known, new = int(self.counts[position]), int(other.counts[position])
        if new:
            total = known * self.seconds[position] + new * other.seconds[position]
            self.seconds[position] = total / (known + new)
            self.counts[position] += new


def solved(
    products: torch.Tensor, changes: torch.Tensor, old: torch.Tensor, lam: float
) -> torch.Tensor:
    """Returns the edit of one position; float64 [out, in].

    Args:
        products: K K^T of the new keys; float64 [in, in].
        changes: Delta K^T; float64 [out, in].
        old: C, the mean of k k^T over old keys; float64 [in, in].
        lam: Weight of C.
    """
    held = old + _RIDGE * max(float(old.diagonal().mean()), _EPSILON) * torch.eye(
        len(old), dtype=torch.float64
    )
    # The system is symmetric: its solution for the transpose is the transpose of the edit.
    return torch.linalg.solve(products + lam * held, changes.T).T


def without_keys(edit: torch.Tensor, keys: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
    """Returns the edit nearest to one that leaves the output of some keys unchanged.

    Nearest on other keys: the change X solves min tr(X C X^T) with (edit + X) k = 0 for each key.

    Args:
        edit: float [out, in].
        keys: [keys, in].
        old: As in `solved`.
    """
    held = old + _RIDGE * max(float(old.diagonal().mean()), _EPSILON) * torch.eye(
        len(old), dtype=torch.float64
    )
    given, now = keys.double().T, edit.double()
    through = torch.linalg.solve(held, given)
    inner = torch.linalg.pinv(given.T @ through, hermitian=True)
    return (now - (now @ given) @ inner @ through.T).to(edit.dtype)


def fingerprint(model: PreTrainedModel) -> torch.Tensor:
    """Returns a hash of the weights that keys depend on, except rows of tokens and codes.

    Rows are added with new documents, and change only where the rest is trained.

    Returns:
        uint8 [16].
    """
    rows = {id(weight) for weight in row_weights(model)}
    digest = hashlib.blake2b(digest_size=16)
    for name, weight in model.named_parameters():
        if id(weight) not in rows:
            digest.update(name.encode())
            plain = weight.detach().cpu().contiguous().view(torch.uint8)
            digest.update(plain.numpy().tobytes())
    return torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)
