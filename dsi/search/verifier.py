"""A verifier of evidence: an entailment cross-encoder that says whether sentences suffice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from data_prep.errors import InputError
from data_prep.remote_code import check_loaded, checked_config

_ANSWERED = ("entail", "contradict", "support", "refute")
"""How the labels of evidence that decides the question begin; either way, it suffices."""
_OPEN = ("neutral", "not_entail", "not enough", "nei")
_OPTION = "--hops.verifier"


class Verifier:
    """A sequence classifier of transformers that was trained on entailment or fact verification.

    The premise is the evidence, the hypothesis the query. Evidence suffices if it entails the query
    or contradicts it; it does not if the model calls it neutral.

    Args:
        name: A hub id, or the path of a folder, with weights in safetensors.
        device: Where it runs.

    Raises:
        InputError: It cannot be loaded, its weights are not finite, or its labels are not those of
            entailment.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        try:
            config: Any = checked_config(name)
            self._answered = _columns_of_answers(config.id2label, name)
            self._tokenizer: Any = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
            model: Any = AutoModelForSequenceClassification.from_pretrained(
                name, trust_remote_code=False, use_safetensors=True
            )
            check_loaded(model, name)
        except (InputError, MemoryError):
            raise
        except Exception as error:  # readers of foreign files may raise anything
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise InputError(
                f"cannot load the entailment cross-encoder {name!r} ({reason})",
                where=_OPTION,
                hint="Give a hub id that this machine can reach, or a downloaded folder",
            ) from None
        self._model = model.to(device).eval()
        self._device = device
        self._longest = min(self._tokenizer.model_max_length, _longest(config))

    @torch.no_grad()
    def sufficient(self, evidence: Sequence[str], queries: Sequence[str]) -> list[float]:
        """Returns the probability that each evidence suffices; what is too long is cut off there.

        Args:
            evidence: Sentences, joined.
            queries: A query for each.
        """
        read = self._tokenizer(
            list(evidence),
            list(queries),
            truncation="longest_first",
            max_length=self._longest,
            padding=True,
            return_tensors="pt",
        ).to(self._device)
        probabilities = self._model(**read).logits.float().softmax(-1)
        return probabilities[:, self._answered].sum(-1).tolist()


def _longest(config: Any) -> int:
    """Returns how many tokens the positions of a model allow; RoBERTa's begin after padding."""
    positions = getattr(config, "max_position_embeddings", None) or 512
    offset = (config.pad_token_id or 0) + 1 if "roberta" in config.model_type else 0
    return int(positions - offset)


def _columns_of_answers(labels: dict[int, str], name: str) -> list[int]:
    """Returns the outputs that say that the evidence decides the query."""
    answered, other = [], []
    for column, label in labels.items():
        word = label.lower().replace("-", "_")
        if word.startswith(_ANSWERED):
            answered.append(int(column))
        elif not word.startswith(_OPEN):
            other.append(label)
    if other or not answered or len(answered) == len(labels):
        raise InputError(
            f"{name!r} has the labels {', '.join(map(repr, labels.values()))}, not those of "
            "entailment",
            where=_OPTION,
            hint="Use a model with the labels entailment, neutral and contradiction, or "
            "entailment and not_entailment",
        )
    return answered
