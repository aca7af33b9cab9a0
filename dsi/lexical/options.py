"""Options of the lexical layer."""

from __future__ import annotations

from dataclasses import dataclass, fields

from data_prep.checks import check_choices, check_numbers
from data_prep.errors import InputError


@dataclass(frozen=True)
class LexicalOptions:
    """The lexical layer: trained weights of the words that a query and a document share."""

    enabled: bool = True
    """Add the lexical layer's scores to the network's"""
    steps: int = 60
    """Most steps of training on labelled queries; the best of these is kept, step 0 included"""
    lr: float = 0.03
    """Learning rate (Adam, all queries in every step)"""
    candidates: int = 64
    """Documents in the softmax for a labelled query: those that rank highest before training"""
    word_decay: float = 5.0
    """L2 penalty on the gains of single words, divided by the number of labelled queries"""
    holdout: float = 0.15
    """Share of the documents with labelled queries whose queries choose the number of steps"""
    k1: float = 1.5
    """BM25's saturation of the term frequency before training"""
    b: float = 0.75
    """BM25's normalisation by document length before training"""
    pairs: float = 0.2
    """Weight of two neighbouring words beside single ones before training; 0 leaves pairs out"""
    title_weight: float = 3.0
    """How often a word in the title counts before training"""
    code: str = "auto"
    """Split identifiers of program code (camelCase, snake_case, dotted.paths) into words beside the
    whole: true, false, or auto for true where a twentieth of the documents hold some"""

    def __post_init__(self) -> None:
        check_numbers(
            self,
            "lexical",
            positive=("lr", "k1", "title_weight"),
            not_negative=("steps", "word_decay", "pairs"),
            at_least_one=("candidates",),
            below_one=("holdout", "b"),
        )
        check_choices(self, "lexical", code=("auto", "true", "false"))
        for entry in fields(self)[1:]:
            value = getattr(self, entry.name)
            if not self.enabled and value != entry.default:
                raise InputError(
                    f"--lexical.{entry.name} {value} changes nothing while --lexical.enabled is "
                    "false",
                    hint="Leave one of them out",
                )
        if self.b <= 0:
            raise InputError(
                "--lexical.b 0 cannot be trained from", hint="Give a number between 0 and 1"
            )
        if self.candidates < 2:
            raise InputError(
                f"--lexical.candidates {self.candidates} leaves nothing to choose among",
                hint="Give 2 or more",
            )
