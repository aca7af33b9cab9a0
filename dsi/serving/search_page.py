"""The web page: one file with inline style and script, and its Content-Security-Policy."""

from __future__ import annotations

from importlib.resources import files

from dsi.serving.openapi import source_hash

_FOLDER = files("dsi.serving") / "assets"


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


_STYLE, _SCRIPT = _read("page.css"), _read("page.js")
PAGE = _read("page.html").replace("/* STYLE */", _STYLE, 1).replace("/* SCRIPT */", _SCRIPT, 1)
"""The page."""
PAGE_POLICY = "; ".join(
    (
        "default-src 'none'",
        f"style-src {source_hash(_STYLE)}",
        f"script-src {source_hash(_SCRIPT)}",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""Its Content-Security-Policy: nothing but this style, this script, and requests to this server."""
