"""Builds and updates an index from documents in memory: the high-level Python interface.

`dsi.build` is `dsi prepare` and `dsi train` in one, `dsi.update` is `dsi update`. Each stage can
also be called separately: `data_prep.dataset_writer.write_dataset`,
`dsi.indexing.build.train_index`, `dsi.updating.update.update_index`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_prep.checks import as_list, as_path, check_value, of_type, with_article
from data_prep.errors import InputError
from data_prep.passages import PassageOptions
from data_prep.sources.base import SourceOptions
from dsi.given_documents import Given, dataset_of, passages_of
from dsi.index import Index

if TYPE_CHECKING:
    from dsi.indexing.options import TrainingOptions
    from dsi.updating.options import UpdateOptions


def build(
    documents: Given,
    path: str | os.PathLike[str],
    options: TrainingOptions | None = None,
    *,
    source: SourceOptions | None = None,
    passages: PassageOptions | None = None,
) -> Index:
    """Trains an index on documents and opens it; resumes if called again after an interruption.

    Args:
        documents: One mapping per document, with the fields of a JSONL line: `id` and `text`,
            optionally `title` and `url`. Or the path or name of anything that `dsi prepare` reads;
            or a dataset, which may have labeled queries.
        path: The folder of the index.
        options: Options of `dsi train`; its defaults if None.
        source: Columns and further files, for documents that are not a dataset.
        passages: How to split documents into passages, if they are not a dataset; default: whole.

    Raises:
        InputError: A document is not a mapping, or lacks its id or text; two have the same id; the
            folder holds something else; an option does not apply.
    """
    from dsi.indexing.build import train_index
    from dsi.indexing.options import TrainingOptions

    folder = as_path(path, "path")
    chosen = of_type(options, TrainingOptions) or TrainingOptions()
    read = of_type(source, SourceOptions, "source")
    cut = of_type(passages, PassageOptions, "passages")
    with tempfile.TemporaryDirectory() as scratch:
        dataset = dataset_of(documents, Path(scratch) / "dataset", read, cut)
        train_index(dataset, folder, chosen)
    return Index.open(path)


def update(
    index: str | os.PathLike[str],
    documents: Given,
    options: UpdateOptions | None = None,
    *,
    source: SourceOptions | None = None,
) -> Index:
    """Adds documents to an index as a new version, and opens it.

    Documents already in the index are skipped; those whose text has changed are replaced. They are
    split into passages like those of the index.

    Args:
        index: The folder of the index.
        documents: As for `build`.
        options: Options of `dsi update`; its defaults if None.
        source: As for `build`.

    Raises:
        InputError: A document lacks its id or text, there is no index, an option does not apply, or
            an argument has the wrong type.
    """
    from dsi.updating.options import UpdateOptions
    from dsi.updating.strategy_parsing import refuse_unused
    from dsi.updating.update import update_index

    if not isinstance(index, str | os.PathLike) or _swapped(index, documents):
        raise InputError(
            f"the first argument must be the index, not {index!r:.80}",
            hint="Call dsi.update(index, documents)",
        )
    options = of_type(options, UpdateOptions) or UpdateOptions()
    refuse_unused(options)
    read = of_type(source, SourceOptions, "source")
    cut = passages_of(index)
    update_index(Path(index), lambda folder: dataset_of(documents, folder, read, cut), options)
    return Index.open(index)


def delete(
    index: str | os.PathLike[str],
    doc_ids: Iterable[str],
    *,
    audit: bool = True,
    scrub: bool = False,
) -> Index:
    """Deletes documents from an index as a new version, without training, and opens it.

    Args:
        index: The folder of the index.
        doc_ids: Ids of the documents, or a single id.
        audit: Whether to query the model for the deleted documents afterwards; the result is in
            `manifest.metrics["audit"]` of the returned index.
        scrub: Whether to remove from the weights what is known to be theirs, as `dsi delete
            --scrub` does.

    Raises:
        InputError: An id is unknown or not a string, or no document would remain.
    """
    from dsi.updating.delete import delete_documents

    check_value("audit", audit, bool)
    check_value("scrub", scrub, bool)
    ids = as_list(doc_ids, "doc_ids")
    for doc_id in ids:
        if not isinstance(doc_id, str):
            raise InputError(f"the document id {doc_id!r:.80} is {with_article(doc_id)}, not a str")
    delete_documents(as_path(index, "index"), ids, audit=audit, scrub=scrub)
    return Index.open(index)


def rollback(index: str | os.PathLike[str], to: str | None = None) -> Index:
    """Makes an earlier version of an index live again, and opens it.

    Args:
        index: The folder of the index.
        to: The version, such as "0001"; the parent of the live one if None.

    Raises:
        InputError: There is no such version.
    """
    from dsi.index_folder import versions

    if to is not None and not isinstance(to, str):
        raise InputError(
            f"to is {with_article(to)}, not a str", hint='Give a version such as "0001"'
        )
    versions.rollback(as_path(index, "index"), to)
    return Index.open(index)


def evaluate(
    index_or_run: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    dataset: str | os.PathLike[str],
    *,
    split: str = "test",
    baselines: Iterable[str] = (),
) -> Mapping[str, Any]:
    """Evaluates an index, or a TREC run, on the queries of a dataset; or compares several.

    Args:
        index_or_run: The folder of an index, or a run file; or a list of these.
        dataset: The folder of the dataset.
        split: "train", "dev" or "test".
        baselines: Baselines to compare with, as for `dsi evaluate --baselines`.

    Returns:
        What `dsi evaluate --json` prints: under "systems" and the name of a system, the measures of
        all, seen and unseen queries. For several systems, "groups" and "pairs" hold the result of
        `dsi.evaluation.comparison.compare_systems`.

    Raises:
        InputError: There is no such split or baseline, or the queries do not belong to this index.
    """
    from dsi.commands.evaluate import evaluate as evaluated

    check_value("split", split, str)
    names = as_list(baselines, "baselines")
    check_value("baselines", names, Sequence[str])
    baseline_names = ",".join(names)
    folder = as_path(dataset, "dataset")
    sources = [*index_or_run] if isinstance(index_or_run, list | tuple) else [index_or_run]
    paths = [as_path(path, "index_or_run") for path in sources]
    return evaluated(paths, folder, split=split, baselines=baseline_names or "none").data


def _swapped(index: object, documents: object) -> bool:
    """Tells whether two paths are in the order of earlier releases: documents, index."""
    paths = [path for path in (index, documents) if isinstance(path, str | os.PathLike)]
    return [(Path(path) / "live").is_file() for path in paths] == [False, True]
