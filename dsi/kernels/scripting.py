"""Functions of many small operations, run without Python between them.

For a few rows, an operation takes less time than the interpreter between two operations: after a
product that reads its weights from memory, the interpreter's own data come from memory, too.
TorchScript runs the operations of a function one after the other, and unlike `torch.compile` it
needs no C++ compiler on the machine.
"""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch

_LAST_PYTHON = (3, 13)
"""TorchScript does not support later versions."""


@functools.cache
def scripted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function that computes the same in TorchScript, or itself where there is none.

    Args:
        function: A function of this package, of tensors and numbers, in the subset of Python that
            TorchScript knows.
    """
    if sys.version_info[:2] > _LAST_PYTHON:
        return function
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(function)
