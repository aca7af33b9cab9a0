"""Options of the lexical layer."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from data_prep.checks import check_choices, check_numbers
from data_prep.errors import InputError
from data_prep.marks import Advanced


@dataclass(frozen=True)
class LexicalOptions:
    """The lexical layer: trained weights of the words that a query and a document share."""

    enabled: bool = True
    """Add the scores of the lexical layer to those of the network"""
    steps: Advanced[int] = 60
    """Maximum training steps on labeled queries; the best step is kept, step 0 included"""
    lr: Advanced[float] = 0.03
    """Learning rate (Adam, full batch)"""
    candidates: Advanced[int] = 64
    """Documents in the softmax for a labeled query: the top ones before training"""
    word_decay: Advanced[float] = 5.0
    """L2 penalty on word weights, divided by the number of labeled queries"""
    holdout: Advanced[float] = 0.15
    """Share of the labelled documents whose queries choose the number of steps"""
    k1: Advanced[float] = 1.5
    """BM25's k1 before training"""
    b: Advanced[float] = 0.75
    """BM25's b before training"""
    pairs: Advanced[float] = 0.2
    """Initial weight of word bigrams relative to words; 0 leaves bigrams out"""
    title_weight: Advanced[float] = 3.0
    """Initial weight of a word in the title"""
    code: Advanced[Literal["auto", "true", "false"]] = "auto"
    """Also index the parts of program identifiers (camelCase, snake_case, dotted.paths); auto is
    true if a twentieth of the documents have some"""

    def __post_init__(self) -> None:
        check_numbers(
            self,
            "lexical",
            positive=("lr", "k1", "title_weight"),
            not_negative=("steps", "word_decay", "pairs"),
            at_least_one=("candidates",),
            below_one=("holdout", "b"),
        )
        check_choices(self, "lexical")
        for entry in fields(self)[1:]:
            value = getattr(self, entry.name)
            if not self.enabled and value != entry.default:
                raise InputError(
                    f"--lexical.{entry.name} {value} has no effect while --lexical.enabled is "
                    "false",
                    hint="Omit one of them",
                )
        if self.b <= 0:
            raise InputError(
                "--lexical.b 0 cannot be trained from", hint="Give a number between 0 and 1"
            )
        if self.candidates < 2:
            raise InputError(
                f"--lexical.candidates {self.candidates} leaves no candidates",
                hint="Give 2 or more",
            )
