"""Identifiers from a residual-quantized autoencoder over document vectors (TIGER)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from data_prep.marks import Advanced, Count, Range, Share
from docids.code_learning import residual_autoencoder
from docids.code_learning.residual_autoencoder import AutoencoderOptions
from docids.kinds.base import KINDS, Built, Documents, Kind
from docids.kinds.codebooks import append_codes, refuse_collapse, resolve_size, table_of_codes
from docids.kinds.naming import Collisions
from docids.table import FIRST_CODE

_DOCUMENTS_PER_CODE = 8


@dataclass(frozen=True)
class RqVaeOptions(AutoencoderOptions, group="rqvae"):
    """The codebooks, how they are learned, and what happens to documents with equal codes."""

    levels: Advanced[Count] = 3
    """Codes per identifier, each from its own codebook (TIGER: 3)"""
    codebook: Advanced[Annotated[int, Range(ge=2)] | None] = None
    """Codebook size; default: 256 (as in TIGER), or less on a small corpus"""
    collisions: Advanced[Collisions] = "extend"
    """extend: append a number to every identifier; share: let documents share an identifier, and
    return all of them"""
    least_use: Advanced[Share] = 0.1
    """Minimum codebook perplexity, as a fraction of its size; 0 accepts any"""


class RqVae(Kind):
    """Codes from coarse to fine, learned with an autoencoder of the document vectors.

    Rajput et al., Recommender Systems with Generative Retrieval (TIGER), NeurIPS 2023, section 3.1.
    See `docids.code_learning.residual_autoencoder`.
    """

    Options = RqVaeOptions
    uses_vectors = True
    uses_new_codes = True

    def build(self, documents: Documents, options: RqVaeOptions, seed: int) -> Built:
        """Trains the autoencoder and encodes the documents.

        Raises:
            InputError: A codebook has collapsed, or the loss is not a finite number.
        """
        size, notes = resolve_size(
            options.codebook,
            len(documents),
            each=_DOCUMENTS_PER_CODE,
            option="--rqvae.codebook",
        )
        vectors = documents.vectors
        arrays = residual_autoencoder.train(vectors, options.levels, size, options, seed)
        codes = residual_autoencoder.encode(arrays, vectors)
        refuse_collapse(codes, size, vectors, least=options.least_use, option="--rqvae.least_use")
        table, numbered = table_of_codes(
            documents.doc_ids, codes, size, kind="rqvae", options=options
        )
        return Built(table, arrays, numbered, notes=notes, codebooks=[size] * options.levels)

    def extend(self, built: Built, documents: Documents, seed: int) -> Built:
        """Encodes new documents with the trained encoder and its codebooks.

        Raises:
            InputError: The identifiers were saved without their encoder, or the vectors do not
                match its dimensions.
        """
        options = RqVaeOptions(**built.table.options)
        codes = residual_autoencoder.encode(built.extras, documents.vectors)
        size = built.extras["codebook"].shape[1]
        table, numbered = append_codes(
            built.table, documents.doc_ids, codes, size, options.collisions
        )
        return Built(table, built.extras, numbered)

    def expected_alphabet(self, options: RqVaeOptions, documents: int | None) -> int | None:
        """As many codes as the codebooks have, and a few numbers."""
        size, _ = resolve_size(
            options.codebook,
            1 << 20 if documents is None else documents,
            each=_DOCUMENTS_PER_CODE,
            option="--rqvae.codebook",
        )
        return FIRST_CODE + options.levels * size


KINDS.register("rqvae")(RqVae())
