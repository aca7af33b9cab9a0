"""Fixtures for tests of the lexical layer."""

from __future__ import annotations

import numpy as np
import pytest
from lexical_oracles import NONE, documents_of

from dsi.lexical.layer_builder import LexicalIndex
from dsi.lexical.options import LexicalOptions


@pytest.fixture
def build():
    def make(titles, texts, labeled=NONE, dev=NONE, seed=0, **options) -> LexicalIndex:
        return LexicalIndex.build(
            documents_of(texts, titles),
            language="none",
            options=LexicalOptions(**options),
            labeled=labeled,
            dev=dev,
            seed=seed,
        )

    return make


@pytest.fixture
def rng():
    return np.random.default_rng(0)
