"""Explains the score of a document: words, and the codes of its identifier step by step.

The numbers are those of the search: the same decoder, run along the identifier of one document
instead of along the beams. Added up in float32 in the given order, they give the score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from data_prep.errors import InputError
from docids.table import PAD
from dsi.backbones.inference import evaluating
from dsi.lexical.layer import Term
from dsi.search.beam import readable
from dsi.search.decoders import start_decoder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from dsi.search.torch_trie import TorchTrie


@dataclass(frozen=True)
class Step:
    """The output of the network for one code of an identifier, given the codes before it.

    Attributes:
        code: The code.
        logit: Its logit for the query: how well it fits.
        adds: Its log-probability: the logit minus the log-sum-exp over all competing codes.
        rank: Its rank among the codes that lead to a document here; 1 is best.
        codes: Number of those codes.
    """

    code: int
    logit: float
    adds: float
    rank: int
    codes: int


@dataclass(frozen=True)
class Path:
    """The steps to one identifier, and their sum."""

    steps: tuple[Step, ...]
    log_probability: float


@dataclass(frozen=True)
class Explanation:
    """The parts of a score.

    Attributes:
        query: The query.
        doc_id: The document.
        title: Its title.
        score: The sum of `words` and `identifier`, in float32, as a search returns it.
        words: The score of the lexical layer: the sum of `terms`; 0 if the index has none.
        identifier: The score of the network: the log-probability of the identifier; for several
            identifiers, the logarithm of the sum of their probabilities.
        terms: The query words that the index knows.
        paths: One for each identifier of the document.
    """

    query: str
    doc_id: str
    title: str
    score: float
    words: float
    identifier: float
    terms: tuple[Term, ...]
    paths: tuple[Path, ...]

    @property
    def data(self) -> dict[str, Any]:
        """The same as nested dicts and lists, for JSON."""
        return asdict(self)


def explained_paths(
    model: PreTrainedModel,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    trie: TorchTrie,
    identifiers: Sequence[Sequence[int]],
    score: str,
) -> list[Path]:
    """Runs a decoder along identifiers.

    Args:
        model: As in `dsi.search.beam.beam_search`.
        input_ids: One query; int64 [1, length].
        attention_mask: [1, length].
        trie: The identifiers being searched.
        identifiers: Those to explain, at least one; all of them in the trie.
        score: "model" or "constrained".

    Raises:
        InputError: An identifier is not in the trie.
    """
    steps: list[list[Step]] = [[] for _ in identifiers]
    input_ids, attention_mask = readable(input_ids, attention_mask)
    with evaluating(model):
        decoder = start_decoder(model, input_ids, attention_mask)
        codes = torch.full((1, 1), PAD, device=trie.device)
        nodes = torch.zeros_like(codes)
        parents = torch.zeros_like(codes)
        for level in range(max(map(len, identifiers))):
            states = decoder.step(codes, parents)
            children, codes_there, exist = trie.continuations(nodes, trie.branching[level])
            if level:
                logits = decoder.logits_at(states, codes_there).float()
            else:
                alphabet = decoder.logits(states).float()
                logits = alphabet.gather(-1, codes_there)
            if score == "constrained":
                adds = logits.masked_fill(~exist, -torch.inf).log_softmax(-1)
            elif level:
                adds = decoder.log_probabilities(states, codes_there)
            else:
                adds = alphabet.log_softmax(-1).gather(-1, codes_there)
            adds = adds.masked_fill(~exist, -torch.inf)
            next_nodes, following = [], []
            for number, identifier in enumerate(identifiers):
                line = number if level else 0
                place = 0
                if level < len(identifier):
                    place = _place(codes_there[0, line], exist[0, line], identifier[level])
                    steps[number].append(
                        _step(codes_there[0, line], logits[0, line], adds[0, line], place)
                    )
                next_nodes.append(children[0, line, place])
                following.append(codes_there[0, line, place])
            nodes, codes = torch.stack(next_nodes).unsqueeze(0), torch.stack(following).unsqueeze(0)
            parents = torch.arange(len(identifiers), device=trie.device).unsqueeze(0)
            if not level:
                parents = torch.zeros_like(parents)
    return [Path(tuple(path), _total([step.adds for step in path])) for path in steps]


def _place(codes: torch.Tensor, exist: torch.Tensor, code: int) -> int:
    places = ((codes == code) & exist).nonzero()
    if not len(places):
        raise InputError("the document is not among the documents to be searched")
    return int(places[0])


def _step(codes: torch.Tensor, logits: torch.Tensor, adds: torch.Tensor, place: int) -> Step:
    """Describes one continuation among others; all tensors are [continuations]."""
    return Step(
        code=int(codes[place]),
        logit=float(logits[place]),
        adds=float(adds[place]),
        rank=1 + int((adds > adds[place]).sum()),
        codes=int((adds > -torch.inf).sum()),
    )


def _total(parts: Sequence[float]) -> float:
    """Adds up in float32, one by one, as a search does."""
    total = np.float32(0.0)
    for part in parts:
        total += np.float32(part)
    return float(total)


def explanation(
    query: str, doc_id: str, title: str, terms: Sequence[Term], paths: Sequence[Path]
) -> Explanation:
    """Combines the parts of a score.

    Args:
        query: The query.
        doc_id: The document.
        title: Its title.
        terms: The contributions of its words.
        paths: The network's scores of its identifiers, at least one.
    """
    words = _total([term.adds for term in terms])
    identifier = paths[0].log_probability
    if len(paths) > 1:
        several = torch.tensor([path.log_probability for path in paths], dtype=torch.float32)
        identifier = float(several.logsumexp(0))
    return Explanation(
        query=query,
        doc_id=doc_id,
        title=title,
        score=_total([identifier, words]),
        words=words,
        identifier=identifier,
        terms=tuple(terms),
        paths=tuple(paths),
    )
