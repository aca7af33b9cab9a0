"""Shared code of neural generators."""

from __future__ import annotations

from data_prep.dataset import Document
from data_prep.generators.base import Generator


class ModelGenerator(Generator):
    """Generates for several documents at once (`generate_batch`), and only on request."""

    shard_documents = 64
    expensive = True

    def generate(self, document: Document) -> list[str]:
        """Returns the pseudo-queries of one document."""
        return [query.text for query in self.generate_batch([document])[0]]
