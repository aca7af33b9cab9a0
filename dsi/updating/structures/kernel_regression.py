"""Kernel ridge regression of codes on decoder states: all output rows of a position at once.

Kernel continual learning (Derakhshani et al., ICML 2021; generative, arXiv 2112.13410) classifies a
state x by Y (K + lam I)^-1 k(x), with Y the one-hot labels of samples. For a kernel with features
z(x) of finite dimension, this is W z(x) with

    W = Y Z (Z^T Z + lam I)^-1

(push-through identity), whose two products are sums over samples.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

LAMS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Ridges that are tried, relative to the mean of the diagonal of Z^T Z."""
SCALES = tuple(2.0**power for power in range(9))
"""Factors of the rows that are tried: regression gives targets of 0 and 1, a softmax needs more."""
_LEAST = 1e-12


@dataclass
class Sums:
    """Sums over samples.

    Attributes:
        grams: Z^T Z of each system; float64 [systems, features, features].
        classes: Y Z, the sum of the features of each code's samples; float64 [alphabet, features].
        system_of: The system of each code, -1 for a code without samples; int64 [alphabet].
    """

    grams: torch.Tensor
    classes: torch.Tensor
    system_of: torch.Tensor

    @classmethod
    def none(cls, systems: int, alphabet: int, features: int) -> Sums:
        """Returns the sums of no sample."""
        return cls(
            torch.zeros((systems, features, features), dtype=torch.float64),
            torch.zeros((alphabet, features), dtype=torch.float64),
            torch.full((alphabet,), -1),
        )

    def add(self, system: int, features: torch.Tensor, codes: torch.Tensor) -> None:
        """Adds samples.

        Args:
            system: The system, which has all samples of these codes.
            features: floating [samples, features].
            codes: int64 [samples].
        """
        wide = features.double()
        self.grams[system] += wide.T @ wide
        self.classes.index_add_(0, codes, wide)
        self.system_of[codes] = system

    def rows(self, lam: float) -> torch.Tensor:
        """Returns W, zero for codes without samples; float64 [alphabet, features].

        Args:
            lam: The ridge, relative to the mean of the diagonal of Z^T Z.
        """
        found = torch.zeros_like(self.classes)
        for system, gram in enumerate(self.grams):
            codes = (self.system_of == system).nonzero().squeeze(1)
            if len(codes):
                ridge = max(lam * float(gram.diagonal().mean()), _LEAST)
                held = gram + ridge * torch.eye(len(gram), dtype=torch.float64)
                found[codes] = torch.linalg.solve(held, self.classes[codes].T).T
        return found


def systems_of(codes: torch.Tensor) -> list[int]:
    """Returns the system of each position: one for all if positions share a code.

    Args:
        codes: Identifiers, 0 behind their end; int64 [identifiers, positions].
    """
    distinct = [set(column[column > 0].tolist()) for column in codes.T]
    apart = sum(map(len, distinct)) == len(set().union(*distinct))
    return list(range(len(distinct))) if apart else [0] * len(distinct)


def best_of(
    sums: Sums, held_out: tuple[torch.Tensor, torch.Tensor], lams: Iterable[float]
) -> tuple[float, float]:
    """Returns the ridge and the factor of rows with which other samples are most probable.

    Args:
        sums: Sums over the samples that rows are computed from.
        held_out: Features, floating [samples, features], and codes, int64 [samples].
        lams: Ridges to try.
    """
    features, codes = held_out
    tried = {}
    for lam in lams:
        scores = features.float() @ sums.rows(lam).float().T
        for scale in SCALES:
            logs = (scale * scores).log_softmax(-1).gather(1, codes.unsqueeze(1))
            tried[lam, scale] = float(logs.mean())
    return max(tried, key=lambda each: (tried[each], each))
