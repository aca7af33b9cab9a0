"""Runs a pseudo-query generator over a Dataset: sharded, in parallel, and resumable.

Finished shards are stored in `pseudo/<generator>.partial/<key>/`, where the key hashes generator,
options and content. When all are complete, the folder becomes `pseudo/<generator>/`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from data_prep import arrow
from data_prep.dataset import PSEUDO_COLUMNS, Dataset, Document
from data_prep.errors import InputError, command_line
from data_prep.files import is_data, put_in_place, read_json, recover, replacing_file, write_json
from data_prep.former_names import with_current_names
from data_prep.generators import GENERATORS, GeneratorOptions, PseudoQuery
from data_prep.progress import note, track
from data_prep.round_trip import Filter, FilterOptions

_OF_TRAINING = ("per_doc", "seed")
"""Generator options that `dsi train` sets itself."""
SHARD_DOCUMENTS = 2048
"""Documents per shard: the unit of work of a process, and the most that a kill can lose."""


@dataclass(frozen=True)
class GenerationOutcome:
    """The outcome of `generate_queries`.

    Attributes:
        folder: Folder of the pseudo-queries, existing or to be created.
        complete: Whether all shards of all processes are complete.
        shards: Total number of shards.
        written: Number of shards that this call wrote; 0 if all of them existed.
        queries: Number of pseudo-queries; 0 until complete.
    """

    folder: Path
    complete: bool
    shards: int
    written: int
    queries: int


def provenance(
    dataset: Dataset, name: str, options: GeneratorOptions, keep: FilterOptions | None = None
) -> dict[str, Any]:
    """Returns everything that determines the pseudo-queries: the content of `generator.json`."""
    kind = GENERATORS[name]
    return {
        "generator": name,
        "generator_version": kind.version,
        "options": asdict(options),
        **kind.identity(dataset, options),
        **({"filter": asdict(keep)} if keep else {}),
        "content_hash": dataset.info.content_hash,
        "shard_documents": _shard_documents(name),
    }


def _shard_documents(name: str) -> int:
    return GENERATORS[name].shard_documents or SHARD_DOCUMENTS


def generate_queries(
    dataset: Dataset,
    name: str = "extractive",
    options: GeneratorOptions | None = None,
    keep: FilterOptions | None = None,
    *,
    rank: int = 0,
    world: int = 1,
) -> GenerationOutcome:
    """Generates pseudo-queries for every document of a Dataset.

    A repeated call resumes after an interruption, does nothing if the same options have been
    completed, and replaces the pseudo-queries of this generator if the options differ. The result
    does not depend on the number of processes.

    Args:
        dataset: The Dataset; its `pseudo/` folder is written to.
        name: The generator.
        options: An instance of the generator's `options_class`; None for the defaults.
        keep: A filter of the queries; None keeps all.
        rank: The rank of this process, from 0.
        world: Number of processes. Each writes every `world`-th shard; the one that finds all
            shards complete moves them to their final folder.

    Raises:
        InputError: There is no generator of that name, or it cannot run on this Dataset.
    """
    kind = GENERATORS[name]
    options = options if options is not None else kind.options_class()
    if not isinstance(options, kind.options_class):
        raise InputError(f"{type(options).__name__} are not options of the generator {name!r}")
    if not 0 <= rank < world:
        raise InputError(f"rank {rank} is not valid for {world} processes")
    origin = provenance(dataset, name, options, keep)
    final = dataset.path / "pseudo" / name
    size = _shard_documents(name)
    shards = -(-dataset.info.documents // size)
    recover(final, is_data)
    if _is_done(final, origin):
        _clean_up(final)
        return GenerationOutcome(final, True, shards, 0, _count(final))
    replaced = _differing_options(final, origin)
    if replaced and rank == 0:
        note(f"replacing the pseudo-queries of {name}, which were generated with {replaced}")
    key = hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).hexdigest()[:16]
    partial = dataset.path / "pseudo" / f"{name}.partial" / key
    missing = [n for n in range(rank, shards, world) if not (partial / _shard(n)).exists()]
    if missing:
        generator = kind(dataset, options)
        chosen = Filter(dataset, keep) if keep else None
        with explaining_read_only(dataset):  # what refuses the dataset has said so
            partial.mkdir(parents=True, exist_ok=True)
        documents = track(
            _documents_of(dataset, missing, size),
            f"pseudo-queries ({name})",
            total=_documents_in(missing, dataset.info.documents, size),
        )
        for number in missing:
            batch = list(islice(documents, size))
            with _removed_if_empty(partial):
                written = generator.generate_batch(batch)
                if chosen is not None:
                    written = chosen.keep(batch, written)
                with explaining_read_only(dataset):
                    _write_shard(partial / _shard(number), name, batch, written)
    complete = all((partial / _shard(number)).exists() for number in range(shards))
    if complete:
        _put_in_place(partial, final, shards, origin)
    complete = _is_done(final, origin)
    queries = _count(final) if complete else 0
    return GenerationOutcome(final, complete, shards, len(missing), queries)


def are_reused(dataset: Dataset, name: str) -> bool:
    """Returns whether training uses the existing pseudo-queries, whatever their options.

    Pseudo-queries of a model are expensive and are not regenerated for another count or seed. Nor
    are filtered ones, or those generated with options that only `dsi queries` has.

    Raises:
        InputError: The generator needs a model, and has not been run.
    """
    expensive = GENERATORS[name].expensive
    file = dataset.path / "pseudo" / name / "generator.json"
    origin = with_current_names(read_json(file)) if file.is_file() else {}
    if origin.get("content_hash") == dataset.info.content_hash:
        chosen = _chosen_options(name, origin)
        if chosen and not expensive:
            note(f"training uses the existing pseudo-queries of {name}, generated with {chosen}")
        if expensive or "filter" in origin or chosen:
            return True
    if not expensive:
        return False
    raise InputError(
        f"the dataset has no pseudo-queries of the generator {name!r}",
        where=dataset.path,
        hint=f"Generate them first: {command_line('queries', dataset.path, '--generator', name)}",
    )


def _chosen_options(name: str, origin: dict[str, Any]) -> str:
    """Returns the options of pseudo-queries that `dsi train` cannot set; "" for none."""
    plain = json.loads(json.dumps(asdict(GENERATORS[name].options_class())))
    stored = origin.get("options", {})
    return ", ".join(
        f"{key} {stored[key]}"
        for key in plain
        if key not in _OF_TRAINING and key in stored and stored[key] != plain[key]
    )


@dataclass(frozen=True)
class DocumentCounts:
    """Statistics of the number of pseudo-queries per document.

    Attributes:
        without: Documents without pseudo-queries.
        fewest: Minimum over documents with pseudo-queries.
        mean: Mean over all documents.
        most: Maximum.
    """

    without: int
    fewest: int
    mean: float
    most: int


def count_by_document(dataset: Dataset, name: str) -> DocumentCounts:
    """Counts the pseudo-queries of a generator per document."""
    doc_ids = (doc_id for (doc_id,) in arrow.read_rows(dataset.path / "pseudo" / name, ["doc_id"]))
    counts = [sum(1 for _ in group) for _, group in groupby(doc_ids)]
    documents = dataset.info.documents
    return DocumentCounts(
        documents - len(counts), min(counts, default=0), sum(counts) / documents,
        max(counts, default=0),
    )  # fmt: skip


@contextlib.contextmanager
def explaining_read_only(dataset: Dataset, what: str = "pseudo-queries are") -> Iterator[None]:
    """Explains errors of a block that writes into a read-only dataset.

    Raises:
        InputError: The dataset is read-only.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise InputError(
            f"{what} kept in the dataset, and it is read-only ({error.strerror})",
            where=dataset.path,
            hint="Copy the dataset to a writable folder and use the copy",
        ) from None


@contextlib.contextmanager
def _removed_if_empty(partial: Path) -> Iterator[None]:
    """Removes the folder of shards after an error if it is empty."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            partial.rmdir()
            partial.parent.rmdir()
        raise


def _shard(number: int) -> str:
    return f"shard-{number:06d}.arrow"


def _is_done(final: Path, origin: dict[str, Any]) -> bool:
    file = final / "generator.json"
    if not file.is_file():
        return False
    return with_current_names(read_json(file)) == json.loads(json.dumps(origin))


def _differing_options(final: Path, origin: dict[str, Any]) -> str:
    """Returns the options by which finished pseudo-queries of the same content differ; or ""."""
    file = final / "generator.json"
    former = with_current_names(read_json(file)) if file.is_file() else {}
    if former.get("content_hash") != origin["content_hash"]:
        return ""
    wanted = json.loads(json.dumps(origin))
    before, after = (
        {**each.get("options", {}), **{f"filter.{k}": v for k, v in each.get("filter", {}).items()}}
        for each in (former, wanted)
    )
    return ", ".join(f"{key} {value}" for key, value in before.items() if after.get(key) != value)


def _count(final: Path) -> int:
    return sum(len(column) for (column,) in arrow.read_batches(final, ["query_id"]))


def _documents_in(shards: list[int], documents: int, size: int) -> int:
    return sum(min(size, documents - number * size) for number in shards)


def _documents_of(dataset: Dataset, shards: list[int], size: int) -> Iterator[Document]:
    """Yields the documents of some shards, in corpus order."""
    selected = set(shards)
    for position, document in enumerate(dataset.documents()):
        if position // size in selected:
            yield document


def _write_shard(
    path: Path, name: str, documents: list[Document], written: list[list[PseudoQuery]]
) -> None:
    with replacing_file(path) as fresh, arrow.TableFile(fresh, PSEUDO_COLUMNS) as table:
        for document, queries in zip(documents, written, strict=True):
            different = {query.text: query.how for query in reversed(queries)}
            for number, text in enumerate(reversed(different)):
                origin = f"{name}/{different[text]}" if different[text] else name
                table.append((f"{document.doc_id}#{name}-{number}", document.doc_id, text, origin))


def _put_in_place(partial: Path, final: Path, shards: int, origin: dict[str, Any]) -> None:
    """Moves the complete shards to the generator's folder, replacing the previous ones.

    Two processes may both find all shards complete. The slower one finds the folder gone and the
    same pseudo-queries in their final place.
    """
    files = [_shard(number) for number in range(shards)]
    fingerprint = partial.name
    try:
        arrow.describe_table(partial, files, PSEUDO_COLUMNS, fingerprint)
        write_json(partial / "generator.json", origin)
        put_in_place(partial, final, is_data)
    except FileNotFoundError:
        if not _is_done(final, origin):
            raise
    shutil.rmtree(partial.parent, ignore_errors=True)
    _clean_up(final)


def _clean_up(final: Path) -> None:
    """Removes leftovers of killed processes: partial files and temporary folders."""
    for unfinished in final.glob(".*"):
        unfinished.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # others may be at work in it
        (final.parent / f"{final.name}.partial").rmdir()
