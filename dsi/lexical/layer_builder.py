"""Builds the lexical layer of a corpus and updates it when the corpus changes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_prep.dataset import Document
from data_prep.errors import InputError
from data_prep.files import replacing_folder
from docids.store import naming, open_store, write_store
from dsi.lexical.expansion import Corpus, Expansion, choose_expansion
from dsi.lexical.features import Scales, Statistics
from dsi.lexical.labeled_queries import LabeledQueries
from dsi.lexical.layer import LexicalLayer, Postings
from dsi.lexical.lexicon import Lexicon
from dsi.lexical.options import LexicalOptions
from dsi.lexical.weight_training import train
from dsi.lexical.weighting import Weighting
from dsi.lexical.words import Vocabulary, has_code

_LAYER = "layer"
_SOURCE = "source"
_EXPANSION = f"{_SOURCE}/expansion"


@dataclass(frozen=True)
class LexicalIndex:
    """A lexical layer with its counts and parameters, so that documents can be added and removed.

    Attributes:
        vocabulary: Maps words to numbers.
        lexicon: The counts; documents that are not live have none.
        scales: Scales of the features at training time.
        weighting: The trained parameters.
        documents: How many documents are live.
        outcome: Human-readable result of training; empty if nothing was trained.
        expansion: Documents whose training queries are appended; None for none.
    """

    vocabulary: Vocabulary
    lexicon: Lexicon
    scales: Scales
    weighting: Weighting
    documents: int
    outcome: Mapping[str, float] = field(default_factory=dict)
    expansion: Expansion | None = None

    @classmethod
    def build(
        cls,
        documents: Sequence[Document],
        *,
        language: str,
        options: LexicalOptions,
        labeled: LabeledQueries,
        dev: LabeledQueries,
        seed: int,
        appended: LabeledQueries | None = None,
    ) -> LexicalIndex:
        """Counts the words of a corpus and trains their weights.

        Args:
            documents: The corpus, in row order.
            language: Language of the stop words and the stemmer; "none" for neither.
            options: Options of the lexical layer.
            labeled: Queries to train on; without any, the weights are those of BM25.
            dev: Queries that select the number of steps.
            seed: Seed of everything random.
            appended: Labeled queries to append to their documents if held-out queries gain by it;
                default: none.
        """
        code = options.code == "true" or (
            options.code == "auto" and has_code([document.text for document in documents])
        )
        vocabulary = Vocabulary(language, code)
        lexicon = Lexicon.count(documents, vocabulary, pairs=options.pairs > 0)
        statistics = Statistics.of(lexicon, vocabulary.words, len(lexicon))
        scales = Scales.of(lexicon, statistics)
        weighting = Weighting(
            len(vocabulary),
            k1=options.k1,
            b=options.b,
            pairs=options.pairs,
            title_weight=options.title_weight,
        )
        outcome: Mapping[str, float] = {}
        if len(labeled) and options.steps:
            chosen = train(
                weighting, lexicon, statistics, scales, vocabulary,
                labeled=labeled, dev=dev, options=options, seed=seed,
            )  # fmt: skip
            outcome = {name: value for name, value in asdict(chosen).items() if value == value}
        built = cls(vocabulary, lexicon, scales, weighting, len(lexicon), outcome)
        if appended is None or not len(appended) or not options.expansion:
            return built
        corpus = Corpus(documents, lexicon, vocabulary, weighting, scales)
        return built._with(
            choose_expansion(corpus, appended, dev, holdout=options.holdout, seed=seed)
        )

    def _with(self, chosen: tuple[Expansion, Vocabulary, Weighting] | None) -> LexicalIndex:
        """Returns the index with an expansion, and the words that come with it."""
        if chosen is None:
            return self
        expansion, vocabulary, weighting = chosen
        outcome = {**self.outcome, "expansion": expansion.share}
        return replace(
            self,
            vocabulary=vocabulary,
            weighting=weighting,
            expansion=expansion,
            outcome=outcome,
        )

    def changed(
        self,
        documents: Sequence[Document],
        rows: npt.NDArray[np.int64],
        *,
        live: npt.NDArray[np.bool_],
    ) -> LexicalIndex:
        """Returns the index with changed documents; nothing is trained.

        Document frequencies and the average length are updated; the trained parameters do not
        change, and a new word has a gain of 0. Training queries of changed documents are no longer
        appended.

        Args:
            documents: The new and the changed documents.
            rows: The row of each; past the end for new rows; int64 [documents].
            live: Which rows are live afterwards, at least as many as before; bool [rows].
        """
        pairs = len(self.lexicon.pair_keys) > 0 or bool(self.weighting.log_pairs.isfinite())
        added = Lexicon.count(documents, self.vocabulary, pairs=pairs)
        order = np.full(len(live), -1, np.int64)
        old = np.arange(min(len(self.lexicon), len(live)))
        order[old] = old
        order[rows] = len(self.lexicon) + np.arange(len(rows))
        order[~live] = -1
        return LexicalIndex(
            self.vocabulary,
            self.lexicon.merged_in_order(added, order),
            self.scales,
            self.weighting.lengthened(len(self.vocabulary)),
            int(live.sum()),
            self.outcome,
            None if self.expansion is None else self.expansion.changed(rows, live),
        )

    def placed(self, rows: npt.NDArray[np.int64], size: int) -> LexicalIndex:
        """Returns the index with its documents moved to other rows.

        Args:
            rows: The new row of each document; int64 [documents].
            size: The new number of rows; rows that are not named have no document.
        """
        order = np.full(size, -1, np.int64)
        order[rows] = np.arange(len(rows))
        expansion = None if self.expansion is None else self.expansion.placed(rows)
        lexicon = self.lexicon.merged_in_order(self.lexicon, order)
        return replace(self, lexicon=lexicon, expansion=expansion)

    def layer(self) -> LexicalLayer:
        """Returns the layer for search."""
        if self.expansion is not None:
            postings = self.expansion.postings(
                self.weighting,
                self.lexicon,
                self.vocabulary.words,
                self.documents,
                self.scales,
            )
            return LexicalLayer(self.vocabulary, postings, self.outcome)
        statistics = Statistics.of(self.lexicon, self.vocabulary.words, self.documents)
        postings = Postings.of(self.weighting, self.lexicon, statistics, self.scales)
        return LexicalLayer(self.vocabulary, postings, self.outcome)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the layer and its counts to `folder`, replacing it."""
        with replacing_folder(Path(folder)) as fresh:
            self.layer().save(fresh / _LAYER)
            arrays = {
                **self.lexicon.arrays(),
                **self.scales.arrays(),
                **{f"weighting_{name}": each for name, each in self.weighting.arrays().items()},
            }
            write_store(fresh / _SOURCE, "lexicon", {"documents": self.documents}, arrays)
            if self.expansion is not None:
                write_store(fresh / _EXPANSION, "expansion", {}, self.expansion.arrays())

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> LexicalIndex:
        """Opens what `save` wrote.

        Raises:
            InputError: It is missing or damaged.
        """
        layer = open_layer(folder)
        vocabulary = layer.vocabulary
        source = Path(folder) / _SOURCE
        header, arrays = open_store(source, "lexicon")
        with naming(source):
            prefix = "weighting_"
            trained = {
                name.removeprefix(prefix): array
                for name, array in arrays.items()
                if name.startswith(prefix)
            }
            lexicon = Lexicon.of(arrays, len(vocabulary))
            documents = header["documents"]
            if len(lexicon) != len(layer):
                raise InputError(f"counts of {len(lexicon)} documents, not {len(layer)}")
            if type(documents) is not int or not 0 <= documents <= len(lexicon):
                raise InputError(f"{documents!r:.60} live documents of {len(lexicon)}")
            scales = Scales.from_arrays(arrays)
            weighting = Weighting.from_arrays(trained, len(vocabulary))
        expansion = _open_expansion(Path(folder) / _EXPANSION, len(vocabulary), lexicon)
        return cls(vocabulary, lexicon, scales, weighting, documents, layer.outcome, expansion)


def _open_expansion(folder: Path, words: int, lexicon: Lexicon) -> Expansion | None:
    """Opens the expansion of a layer; None if it has none."""
    if not os.path.lexists(folder):
        return None
    _, arrays = open_store(folder, "expansion")
    with naming(folder):
        return Expansion.from_arrays(arrays, words, lexicon)


def open_layer(folder: str | os.PathLike[str]) -> LexicalLayer:
    """Opens the layer for search, without its counts.

    Raises:
        InputError: It is missing or damaged.
    """
    return LexicalLayer.open(Path(folder) / _LAYER)
