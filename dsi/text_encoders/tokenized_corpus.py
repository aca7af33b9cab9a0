"""The documents of an index in the row order of its docid table, as token ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from data_prep.dataset import Document
from docids.table import DocidTable
from dsi.text_encoders.text_encoder import TextEncoder


def in_row_order(documents: Iterable[Document], table: DocidTable) -> list[Document]:
    """Returns the document of each table row; an empty one for a retired row."""
    by_id = {document.doc_id: document for document in documents}
    return [
        Document(doc_id, "", "") if retired else by_id[doc_id]
        for doc_id, retired in zip(table.doc_ids, table.retired.tolist(), strict=True)
    ]


@dataclass(frozen=True)
class TokenizedCorpus:
    """The documents of an index in the row order of its docid table, as token ids.

    Made once, for a first training or an update. Texts are not kept: nothing reads them after
    tokenization.

    Attributes:
        table: The identifiers.
        text: The text encoder.
        titles: The title of every row; empty for a retired row.
        tokens: The token ids of every row, title first; empty for a retired row.
    """

    table: DocidTable
    text: TextEncoder
    titles: Sequence[str]
    tokens: Sequence[Sequence[int]]

    @classmethod
    def of(
        cls, documents: Sequence[Document], table: DocidTable, text: TextEncoder
    ) -> TokenizedCorpus:
        """Tokenizes documents.

        Args:
            documents: The documents, as `in_row_order` returns them.
            table: The identifiers.
            text: The text encoder.
        """
        texts = [document.title_and_text for document in documents]
        encoded = text.encode_documents(texts, text.longest)
        tokens = [
            [] if retired else line
            for line, retired in zip(encoded, table.retired.tolist(), strict=True)
        ]
        return cls(table, text, [document.title for document in documents], tokens)

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def title_tokens(self) -> list[list[int]]:
        """The token ids of every title alone; empty without a title."""
        encoded = self.text.encode_documents(self.titles, self.text.longest)
        return [
            line if title.strip() else [] for line, title in zip(encoded, self.titles, strict=True)
        ]
