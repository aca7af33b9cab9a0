"""The published part of an index or a dataset, file by file, and the amount of text in it.

For an index, this is the live version without its log. Absolute paths of the author's machine are
reduced to file names. Without the corpus, only what a search reads remains: the model, the
tokenizer, the identifiers, the titles and the word weights.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.dataset import Dataset, DatasetInfo
from data_prep.errors import InputError
from docids.store import naming, open_store
from docids.table import DocidTable
from dsi.index_folder import version_files, versions
from dsi.index_folder.stored_corpus import FOLDER
from dsi.index_folder.versions import Manifest

_SEARCHED = ("model/", "text/", "docids/", "titles/", "lexical/layer/")
_PATH = re.compile(r"(?<![\w:/.])(?:~|/|[A-Za-z]:\\)[^\s\"',;]*[/\\](?=[^\s/\\\"',;])")


@dataclass(frozen=True)
class PublishedText:
    """How much text a push publishes.

    Attributes:
        documents: Number of documents whose text is included.
        characters: Number of characters in their titles and texts.
        titles: Number of characters in titles, if the texts are left out.
        queries: Number of labeled queries.
        pseudo_queries: Number of generated queries.
    """

    documents: int = 0
    characters: int = 0
    titles: int = 0
    queries: int = 0
    pseudo_queries: int = 0

    def __str__(self) -> str:
        if not self.documents:
            return (
                f"no text of documents; {self.titles:,} characters of titles, and for each "
                "document its words with their weights, without their order"
            )
        parts = [f"the text of {self.documents:,} documents ({self.characters:,} characters)"]
        if self.queries:
            parts.append(f"{self.queries:,} labeled queries")
        if self.pseudo_queries:
            parts.append(f"{self.pseudo_queries:,} pseudo-queries")
        return ", ".join(parts)


@dataclass(frozen=True)
class Contents:
    """The files of a repository.

    Attributes:
        files: Path in the repository -> a file, or generated content.
        text: The amount of text in them.
        dataset: Facts about the corpus; None if the index has none.
        manifest: The manifest of the index; None for a dataset.
        kind: The kind of its identifiers; empty for a dataset.
    """

    files: dict[str, Path | bytes]
    text: PublishedText
    dataset: DatasetInfo | None
    manifest: Manifest | None = None
    kind: str = ""

    @property
    def size(self) -> int:
        """The total size in bytes."""
        return sum(
            len(file) if isinstance(file, bytes) else file.stat().st_size
            for file in self.files.values()
        )


def contents_of(folder: Path, *, corpus: bool = True) -> Contents:
    """Returns the files of an index or a dataset to publish.

    Args:
        folder: The folder of an index or of a dataset.
        corpus: Whether to include the texts of an index.

    Raises:
        InputError: It is neither, or damaged; or the corpus of a dataset was to be left out.
    """
    if (folder / "dataset.json").is_file():
        if not corpus:
            raise InputError(
                "a dataset consists of texts, so it cannot be pushed without them",
                where="--without_corpus",
                hint="Push the index that was trained on it",
            )
        return _of_dataset(folder)
    return _of_index(folder, corpus)


def _of_index(folder: Path, corpus: bool) -> Contents:
    live = versions.live(folder)
    version = versions.folder(folder, live)
    manifest = Manifest.load(version)
    versions.verify(version, manifest)
    table = DocidTable.open(version / "docids")
    with naming(version / "docids"):
        table.check()
    _, titles = open_store(version / "titles", "titles")
    found = version_files.walk(version)
    names = [
        name
        for name in sorted(found)
        if name != "manifest.json"
        and not name.startswith("log/")
        and not name.rpartition("/")[2].startswith(".")
        and (corpus or name.startswith(_SEARCHED))
    ]
    files: dict[str, Path | bytes] = {name: version / name for name in names}
    described = version_files.record(version) if manifest.files is None else dict(manifest.files)
    described = {name: described[name] for name in names}
    memory = Dataset.open(version / FOLDER) if (version / FOLDER).is_dir() else None
    info = f"{FOLDER}/dataset.json"
    if info in files:
        content = _without_paths_in(version / info)
        files[info] = content
        described[info] = {"bytes": len(content), version_files.CHECKSUM: _checksum(content)}
    manifest_data = dataclasses.asdict(dataclasses.replace(manifest, files=described))
    published = {
        "live": f"{live}\n".encode(),
        f"versions/{live}/manifest.json": _as_json(without_paths(manifest_data)),
        **{f"versions/{live}/{name}": file for name, file in files.items()},
    }
    text = PublishedText(titles=len(titles["text"].tobytes().decode("utf-8", "replace")))
    if corpus and memory is not None:
        text = _text_of(memory)
    return Contents(
        published, text, None if memory is None else memory.info, manifest, kind=table.kind
    )


def _of_dataset(folder: Path) -> Contents:
    dataset = Dataset.open(folder)
    parts = ("corpus", "queries", "qrels", "pseudo")
    files: dict[str, Path | bytes] = {
        name: folder / name
        for part in parts
        if (folder / part).is_dir()
        for name in (f"{part}/{inside}" for inside in sorted(version_files.walk(folder / part)))
        if not any(piece.startswith(".") for piece in name.split("/"))
    }
    files["dataset.json"] = _without_paths_in(folder / "dataset.json")
    return Contents(files, _text_of(dataset), dataset.info)


def _text_of(dataset: Dataset) -> PublishedText:
    from data_prep import arrow

    pseudo = 0
    for generator in dataset.generators:
        pseudo += sum(1 for _ in arrow.read_rows(dataset.path / "pseudo" / generator, ["query_id"]))
    return PublishedText(
        documents=dataset.info.documents,
        characters=sum(len(one.title) + len(one.text) for one in dataset.documents()),
        queries=dataset.info.queries,
        pseudo_queries=pseudo,
    )


def without_paths(value: Any) -> Any:
    """Returns a JSON value in which absolute paths are reduced to file names."""
    if isinstance(value, dict):
        return {name: without_paths(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_paths(entry) for entry in value]
    return _PATH.sub("", value) if isinstance(value, str) else value


def _without_paths_in(file: Path) -> bytes:
    return _as_json(without_paths(json.loads(file.read_text(encoding="utf-8"))))


def _as_json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _checksum(content: bytes) -> str:
    import xxhash

    return str(xxhash.xxh3_128(content).hexdigest())
