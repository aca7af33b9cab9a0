"""The repository card: contents, license, quality and usage."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dsi.hub.address import Repository
from dsi.hub.contents import Contents


def card_of(contents: Contents, repository: Repository) -> str:
    """Returns the README.md of a repository.

    Args:
        contents: The contents of the repository.
        repository: The name of the repository.
    """
    body = _of_index if contents.manifest is not None else _of_dataset
    return "\n".join([*_front_matter(contents), "", *body(contents, repository), ""])


def _front_matter(contents: Contents) -> Iterator[str]:
    """Yields the metadata lines that the hub reads."""
    yield "---"
    if contents.manifest is not None:
        yield "library_name: dsi-toolkit"
    license = _license(contents)
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", license) and license != "unknown":
        yield f"license: {license.lower()}"
    yield "tags:"
    for tag in ("information-retrieval", "generative-retrieval", "dsi-toolkit"):
        yield f"- {tag}"
    yield "---"


def _of_index(contents: Contents, repository: Repository) -> Iterator[str]:
    manifest = contents.manifest
    assert manifest is not None
    yield f"# {repository.name.partition('/')[2]}"
    yield ""
    yield (
        f"A generative index of {manifest.documents:,} documents, created with dsi-toolkit: a "
        "model that answers a query with the identifiers of documents."
    )
    yield from _table(
        {
            "corpus": manifest.dataset.get("name", "unknown"),
            "license of the corpus": _license(contents),
            "documents": f"{manifest.documents:,}",
            "identifiers": contents.kind,
            "version": f"{manifest.version}, {manifest.created}",
            "contains": str(contents.text),
            "made with": ", ".join(
                f"{name} {manifest.libraries[name]}"
                for name in ("dsi-toolkit", "torch", "transformers")
                if name in manifest.libraries
            ),
        }
    )
    figures = dict(_leaves(manifest.metrics))
    if figures:
        yield from ("", "## Figures", "", "Measured when this version was created.")
        yield from _table(figures)
    yield from ("", "## Search it", "", "```python", "import dsi", "")
    yield f'index = dsi.Index.open("hf://{repository.name}")'
    yield 'for hit in index.search("your question", k=10):'
    yield "    print(hit.score, hit.doc_id, hit.title)"
    yield from ("```", "", "```")
    yield f"dsi pull {repository.name} --out index"
    yield 'dsi search index "your question"'
    yield "```"
    if not contents.text.documents:
        yield ""
        yield "It does not contain the texts of the documents: it can be searched, but not updated."


def _of_dataset(contents: Contents, repository: Repository) -> Iterator[str]:
    info = contents.dataset
    assert info is not None
    yield f"# {repository.name.partition('/')[2]}"
    yield ""
    yield "A dataset of dsi-toolkit: documents, queries and relevance judgments, as Arrow files."
    yield from _table(
        {
            "name": info.name,
            "license": _license(contents),
            "contains": str(contents.text),
            "judgments": ", ".join(f"{split} {count:,}" for split, count in info.qrels.items())
            or "none",
            "content hash": info.content_hash[:16],
        }
    )
    yield from ("", "## Use it", "", "```")
    yield f"dsi pull datasets/{repository.name} --out dataset"
    yield "dsi train dataset --out index"
    yield "```"


def _license(contents: Contents) -> str:
    return "unknown" if contents.dataset is None else contents.dataset.license or "unknown"


def _table(rows: Mapping[str, Any]) -> Iterator[str]:
    yield from ("", "| | |", "|---|---|")
    for name, value in rows.items():
        formatted = f"{value:.3f}" if isinstance(value, float) else str(value)
        yield f"| {_cell(name)} | {_cell(formatted)} |"


def _cell(text: str) -> str:
    """Escapes text for a table cell."""
    plain = " ".join(text.split())
    return re.sub(r"([\\|<>\[\]`*_])", r"\\\1", plain)


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield f"{prefix}{name}", value
