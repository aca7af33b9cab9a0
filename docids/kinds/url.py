"""URLs as identifiers: the words of host and path."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlsplit

from data_prep.errors import InputError
from data_prep.marks import Advanced
from data_prep.text_processing import words
from docids.kinds.base import KINDS, Documents
from docids.kinds.text import TextKind, TextOptions
from docids.term_weights import TermWeights

_HOST = re.compile(r"(?:[\w-]+\.)+[a-z]{2,}(?::\d+)?(?=[/?#]|$)", re.IGNORECASE)


@dataclass(frozen=True)
class UrlOptions(TextOptions, group="url"):
    """Where to find the URL of a document, and how it is written."""

    column: Advanced[Literal["auto", "url", "doc_id", "title"]] = "auto"
    """Column with the URL. auto: url if a document has one, else doc_id or title if it looks like a
    URL"""


class Url(TextKind):
    """The words of a document's URL: host, then path, then query; scheme and "www" are dropped.

    SE-DSI (KDD 2023, section 5.6) and TOME (Ren et al., ACL 2023) name documents by URLs.
    """

    Options = UrlOptions

    def phrases(
        self, documents: Documents, options: UrlOptions, weights: TermWeights, seed: int
    ) -> Iterator[list[str]]:
        """Yields the words of each URL.

        Raises:
            InputError: A document has no URL in the given place.
        """
        columns = zip(documents.urls, documents.doc_ids, documents.titles, strict=True)
        for url, doc_id, title in columns:
            by_column = {"url": url, "doc_id": doc_id, "title": title}
            if options.column == "auto":
                likely = [text for text in (doc_id, title) if looks_like_url(text)]
                if not (candidates := [text for text in (url, *likely) if text.strip()]):
                    raise InputError(
                        f"document {doc_id!r} has no URL, and neither its id nor its title is one",
                        hint="Prepare the dataset with --url_column, or use --url.column doc_id "
                        "or --url.column title to use these unchanged",
                    )
                yield [" ".join(url_words(candidates[0]))]
                continue
            if options.column == "url" and not url.strip():
                raise InputError(
                    f"document {doc_id!r} has no URL, which --url.column url requires",
                    hint="Prepare the dataset with --url_column, or omit --url.column",
                )
            yield [" ".join(url_words(by_column[options.column]))]


def looks_like_url(text: str) -> bool:
    """Tells whether a text has a scheme or begins with a host name."""
    text = text.strip()
    return " " not in text and ("://" in text or _HOST.match(text) is not None)


def url_words(text: str) -> list[str]:
    """Returns the words of host, path and query of a URL, or of any other text, in order."""
    text = text.strip()
    if "://" in text:
        parts = urlsplit(text)
        host = parts.hostname or ""
        text = "/".join([host.removeprefix("www."), parts.path, parts.query])
    return words(unquote(text).removeprefix("www.").replace("_", " "))


KINDS.register("url")(Url("url"))
