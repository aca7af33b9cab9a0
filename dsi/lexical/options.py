"""Options of the lexical layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from data_prep.checks import Options
from data_prep.marks import Advanced, NotNegative, Open, Positive, Range, Rate, Whole


@dataclass(frozen=True)
class LexicalOptions(Options, group="lexical", switch="enabled"):
    """The lexical layer: trained weights of the words that a query and a document share."""

    enabled: bool = True
    """Add the scores of the lexical layer to those of the network"""
    steps: Advanced[Whole] = 60
    """Maximum training steps on labeled queries; the best step is kept, step 0 included"""
    lr: Advanced[Positive] = 0.03
    """Learning rate (Adam, full batch)"""
    candidates: Advanced[Annotated[int, Range(ge=2)]] = 64
    """Documents in the softmax for a labeled query: the top ones, looked up again every 20 steps"""
    word_decay: Advanced[NotNegative] = 5.0
    """L2 penalty on word weights, divided by the number of labeled queries"""
    holdout: Advanced[Rate] = 0.15
    """Fraction of the labeled documents whose queries choose the number of steps"""
    expansion: Advanced[bool] = True
    """Append labeled training queries to their documents if held-out queries gain by it"""
    k1: Advanced[Positive] = 1.5
    """BM25's k1 before training"""
    b: Advanced[Open] = 0.75
    """BM25's b before training"""
    pairs: Advanced[NotNegative] = 0.2
    """Initial weight of word bigrams relative to words; 0 leaves bigrams out"""
    title_weight: Advanced[Positive] = 3.0
    """Initial weight of a word in the title"""
    code: Advanced[Literal["auto", "true", "false"]] = "auto"
    """Also index the parts of program identifiers (camelCase, snake_case, dotted.paths); auto is
    true if a twentieth of the documents have some"""
