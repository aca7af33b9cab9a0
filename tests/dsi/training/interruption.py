"""Interrupts a training, as a kill would."""

from __future__ import annotations

from typing import Any

from dsi.data.batching import Batches


class StopError(Exception):
    """Ends a training as a kill would, but lets the test go on."""


def interrupt(monkeypatch, step: int) -> None:
    """Ends the next training in the middle of a step."""
    real = Batches.parts

    def parts(self, at: int, *words: Any) -> Any:
        if at == step:
            raise StopError
        return real(self, at, *words)

    monkeypatch.setattr(Batches, "parts", parts)
