"""What generators that ask a neural model have in common."""

from __future__ import annotations

from data_prep.dataset import Document
from data_prep.generators.base import Generator


class ModelGenerator(Generator):
    """Writes for several documents at once (`generate_batch`), and is never started unasked."""

    shard_documents = 64
    expensive = True

    def generate(self, document: Document) -> list[str]:
        """Returns the pseudo-queries of one document."""
        return [query.text for query in self.generate_batch([document])[0]]
