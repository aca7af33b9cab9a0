"""The loss of a step: a list of weighted terms over one shared forward pass."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
import torch

from data_prep.registry import Registry
from docids.table import PAD
from dsi.objectives.continuations import IGNORED, AllowedContinuations

if TYPE_CHECKING:
    from dsi.data.batching import Batch
    from dsi.lexical.training_scores import ExampleScores
    from dsi.search.torch_trie import TorchTrie

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


@dataclass(frozen=True)
class Targets:
    """The identifiers as targets of the loss.

    Attributes:
        codes: The codes of every identifier, `IGNORED` past the end; int64 [identifiers, longest].
        competitors: Which codes compete at each position for a labeled query; bool [longest,
            alphabet], or None for all.
        continuations: The codes' positions in the trie, for a loss over the codes that may follow a
            prefix; None for one over the whole alphabet.
        lexical: Scores to add to the logits; None for none.
    """

    codes: torch.Tensor
    competitors: torch.Tensor | None
    continuations: AllowedContinuations | None = None
    lexical: ExampleScores | None = None

    @classmethod
    def of(
        cls,
        matrix: np.ndarray,
        alphabet_size: int,
        labeled: np.ndarray | None,
        trie: TorchTrie | None = None,
    ) -> Targets:
        """Builds the targets from the table's matrix.

        Args:
            matrix: The identifiers, padded with `PAD`; int32 [identifiers, longest].
            alphabet_size: Size of the docid alphabet.
            labeled: The identifiers that compete for labeled queries; None for all of them.
            trie: The trie, for a loss over the codes that may follow a prefix.
        """
        codes = torch.from_numpy(matrix.astype(np.int64))
        competitors = None
        if labeled is not None:
            allowed = np.zeros((matrix.shape[1], alphabet_size), bool)
            for position in range(matrix.shape[1]):
                allowed[position, matrix[labeled, position]] = True
            competitors = torch.from_numpy(allowed)
        codes = codes.masked_fill(codes == PAD, IGNORED)
        continuations = None
        if trie is not None:
            continuations = AllowedContinuations.of(trie, codes.to(trie.device))
        return cls(codes, competitors, continuations)

    def to(self, device: torch.device) -> Targets:
        """Moves them to a device."""
        among = None if self.competitors is None else self.competitors.to(device)
        continuations = None if self.continuations is None else self.continuations.to(device)
        return Targets(self.codes.to(device), among, continuations, self.lexical)


class Forward:
    """The examples of one micro-batch on their way through the model.

    Values that several terms need are computed once, and values that none needs are not computed.
    Every pass goes through the model as wrapped for several processes or half precision.

    Args:
        model: The model, wrapped.
        batch: The examples, at least one.
        targets: All identifiers, on the model's device.
        step: Number of the step, from 0.
        steps: Total number of steps.
        hidden_states: Whether a term needs the decoder's hidden states.

    Attributes:
        input_ids: int64 [examples, longest].
        attention_mask: int64, same shape.
        rows: Numbers of the identifiers, which are table rows if each document has one; int64
            [examples].
        labeled: Which examples are labeled queries; bool [examples].
        codes: The identifier of each example, `IGNORED` past its end; int64
            [examples, positions].
        decoder_input_ids: The same, shifted right after PAD; int64 [examples, positions].
    """

    def __init__(
        self,
        model: torch.nn.Module,
        batch: Batch,
        targets: Targets,
        *,
        step: int = 0,
        steps: int = 1,
        hidden_states: bool = False,
    ) -> None:
        device = targets.codes.device
        self.model = model
        self.batch = batch
        self.targets = targets
        self.step = step
        self.steps = steps
        self._hidden_states = hidden_states
        self._made: dict[Any, Any] = {}
        self.input_ids = torch.from_numpy(batch.input_ids).to(device)
        self.attention_mask = torch.from_numpy(batch.attention_mask).to(device)
        self.rows = torch.from_numpy(batch.rows).to(device)
        self.labeled = torch.from_numpy(batch.labeled).to(device)
        codes = targets.codes[self.rows]
        lengths = (codes != IGNORED).sum(dim=1)
        self.codes = codes[:, : int(lengths.max())]
        self.decoder_input_ids = decoder_inputs(self.codes)

    @cached_property
    def outputs(self) -> Any:
        """The model's output for the examples and their own identifiers."""
        return self.run()

    @cached_property
    def logits(self) -> torch.Tensor:
        """Logits of every code at every position of `codes`; [examples, positions, alphabet]."""
        logits = self.outputs.logits
        if self.targets.lexical is None:
            return logits
        return self.targets.lexical.added(logits, self.batch.numbers)

    @property
    def decoder_states(self) -> torch.Tensor:
        """The input of the output layer; [examples, positions, width].

        A term that needs it sets its class attribute `hidden_states`.
        """
        return self.outputs.decoder_hidden_states[-1]

    @property
    def encoder_states(self) -> torch.Tensor:
        """The encoder's states of the texts; [examples, longest, width].

        A term that needs it sets its class attribute `encoder_states`.
        """
        return self.outputs.encoder_last_hidden_state

    def once(self, key: K, make: Callable[[K, Forward], T]) -> T:
        """Returns `make(key, self)`, cached for all terms that need it."""
        entry = (key, make)
        if entry not in self._made:
            self._made[entry] = make(key, self)
        return self._made[entry]

    def run(self, **changes: Any) -> Any:
        """Runs a separate pass, with its own dropout.

        Args:
            changes: Inputs of the model that replace those of the examples.
        """
        inputs = {
            "input_ids": self.input_ids,
            "attention_mask": self.attention_mask,
            "decoder_input_ids": self.decoder_input_ids,
            "use_cache": False,
            **changes,
        }
        if self._hidden_states:
            inputs["output_hidden_states"] = True
        return self.model(**inputs)


class Objective:
    """One term of the loss.

    A subclass defines its cost by `of_examples`, `of_weights`, or both. The loss of a step is

        sum over terms of weight * (sum of `of_examples` over the step / examples + `of_weights`)

    regardless of how the step's examples are split into parts and processes.

    Args:
        weight: Factor of the term.

    Attributes:
        name: The name of the term in logs, unique within a run.
        hidden_states: Whether the term needs `Forward.decoder_states`.
        encoder_states: Whether the term needs `Forward.encoder_states`.
        whole_batch: Whether an example's loss depends on the others of its micro-batch.
    """

    name: ClassVar[str]
    hidden_states: ClassVar[bool] = False
    encoder_states: ClassVar[bool] = False
    whole_batch: ClassVar[bool] = False

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight

    def prepare(self, device: torch.device) -> None:
        """Moves the term's tensors to the model's device; called once, before the first step."""

    def of_examples(self, forward: Forward) -> torch.Tensor | None:
        """Returns the sum over the examples of one micro-batch, a scalar.

        It is called in every process for every micro-batch, even one without relevant examples, and
        then runs the same passes through the model, so that no process waits for another.
        """
        return None

    def of_weights(self, model: torch.nn.Module) -> torch.Tensor | None:
        """Returns a scalar that depends on the weights only; counted once per step.

        Args:
            model: The unwrapped model.
        """
        return None

    def after_step(self, model: torch.nn.Module, step: int) -> None:
        """Called with the weights after step `step` (from 0).

        Args:
            model: The unwrapped model.
            step: Number of the completed step.
        """

    def state(self) -> dict[str, torch.Tensor]:
        """Returns the state that a checkpoint must keep to resume the term exactly."""
        return {}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restores what `state` returned."""


OBJECTIVES: Registry[type[Any]] = Registry("objective")
"""Terms that options can name; `dsi.objectives.options` has a group of options for each."""


def decoder_inputs(codes: torch.Tensor) -> torch.Tensor:
    """Returns the decoder input for identifiers: PAD, then all but the last code.

    Args:
        codes: `IGNORED` past the end; int64 [..., positions].
    """
    started = torch.full_like(codes, PAD)
    started[..., 1:] = codes[..., :-1].masked_fill(codes[..., :-1] == IGNORED, PAD)
    return started
