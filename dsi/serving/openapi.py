"""The API description, for programs (OpenAPI 3.1) and for people."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from importlib.metadata import version
from typing import Any

from dsi.serving.options import Limits


def description(limits: Limits, token: bool) -> dict[str, Any]:
    """Returns the OpenAPI description of a server.

    Args:
        limits: The limits on requests.
        token: Whether it requires a token.
    """
    bearer: dict[str, Any] = {"security": [{"token": []}]} if token else {}
    refusals = {
        **({"401": _error("The token is missing or wrong.")} if token else {}),
        "421": _error("The Host header names another server."),
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "dsi serve",
            "version": version("dsi-toolkit"),
            "description": "A generative index: ranked documents for queries.",
        },
        "paths": {
            "/search": {
                "post": {
                    "summary": "Ranked documents for queries",
                    "requestBody": {
                        "required": True,
                        "content": {"application/json": {"schema": _search_request(limits)}},
                    },
                    "responses": {
                        "200": _json("The documents, the best first.", _ref("Found")),
                        "400": _error("The body is not valid JSON, or a field is invalid."),
                        "408": _error(f"The body took more than {limits.seconds:g} seconds."),
                        "413": _error(f"The body has more than {limits.body:,} bytes."),
                        "415": _error("The Content-Type is not application/json."),
                        "503": _error("Too many queries are waiting; try again in a second."),
                        **refusals,
                    },
                    **bearer,
                }
            },
            "/documents/{id}": {
                "get": {
                    "summary": "A document",
                    "parameters": [
                        {
                            "name": "id",
                            "in": "path",
                            "required": True,
                            "description": "Its id; a slash in it may stay as it is.",
                            "schema": {"type": "string"},
                        }
                    ],
                    "responses": {
                        "200": _json("The document.", _ref("Document")),
                        "404": _error("There is no such document, or it was deleted."),
                        **refusals,
                    },
                    **bearer,
                }
            },
            "/version": {
                "get": {
                    "summary": "What is searched",
                    "responses": {
                        "200": _json("The live version.", _ref("Version")),
                        **refusals,
                    },
                    **bearer,
                }
            },
            "/healthz": {
                "get": {
                    "summary": "Whether the server is well",
                    "responses": {"200": _json("It answers.", _ref("Health"))},
                }
            },
        },
        "components": {
            "schemas": _SCHEMAS,
            **(
                {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}}
                if token
                else {}
            ),
        },
    }


def _search_request(limits: Limits) -> dict[str, Any]:
    ids = {"type": "array", "items": {"type": "string"}}
    query = {"type": "string", "minLength": 1, "maxLength": limits.query}
    return {
        "type": "object",
        "required": ["queries"],
        "additionalProperties": False,
        "properties": {
            "queries": {
                "type": "array",
                "items": query,
                "minItems": 1,
                "maxItems": limits.queries,
                "description": "The queries.",
            },
            "k": {
                "type": "integer",
                "minimum": 1,
                "maximum": limits.k,
                "default": min(10, limits.k),
                "description": "Documents to find for each query.",
            },
            "only": {**ids, "description": "Ids of the documents to search among."},
            "exclude": {**ids, "description": "Ids of documents not to search among."},
            "with_text": {
                "type": "boolean",
                "default": False,
                "description": "Whether hits have the texts of their documents.",
            },
            "explain": {
                "type": "boolean",
                "default": False,
                "description": "Whether hits say what their scores are made of.",
            },
        },
        "examples": [{"queries": ["how do I join paths"], "k": 3, "with_text": True}],
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(summary: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": summary, "content": {"application/json": {"schema": schema}}}


def _error(summary: str) -> dict[str, Any]:
    return _json(summary, _ref("Error"))


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    """Returns the schema of an object; properties that may be missing are marked `optional`."""
    required = [name for name, schema in properties.items() if not schema.pop("optional", False)]
    return {"type": "object", "required": required, "properties": properties}


def _text(**more: Any) -> dict[str, Any]:
    return {"type": "string", **more}


def _number(**more: Any) -> dict[str, Any]:
    return {"type": "number", **more}


def _whole(**more: Any) -> dict[str, Any]:
    return {"type": "integer", **more}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


_STEP = _object(code=_whole(), logit=_number(), adds=_number(), rank=_whole(), codes=_whole())
_TERM = _object(term=_text(), count=_whole(), weight=_number(), adds=_number())
_EXPLANATION = _object(
    query=_text(),
    doc_id=_text(),
    title=_text(),
    score=_number(description="The sum of `identifier` and `words`."),
    words=_number(description="The sum of what `terms` add."),
    identifier=_number(description="The log-probability of the identifier."),
    terms=_list(_TERM),
    paths=_list(_object(steps=_list(_STEP), log_probability=_number())),
)
_HIT = _object(
    rank=_whole(),
    doc_id=_text(),
    score=_number(),
    title=_text(),
    text=_text(optional=True),
    explanation={**_EXPLANATION, "optional": True},
)
_SCHEMAS = {
    "Found": _object(
        version=_text(description="The version of the index that was searched."),
        seconds=_number(description="What the search took, together with those beside it."),
        results=_list(
            _object(
                query=_text(),
                known={"type": "boolean", "description": "Whether a word of it is known."},
                hits=_list(_HIT),
            )
        ),
    ),
    "Document": _object(version=_text(), doc_id=_text(), title=_text(), text=_text(), url=_text()),
    "Version": _object(version=_text(), documents=_whole()),
    "Health": _object(status=_text(), version=_text()),
    "Error": _object(error=_text()),
}

_STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 48rem; margin: 2rem auto; padding: 0 1rem; }
pre { overflow-x: auto; padding: 0.75rem; border: 1px solid color-mix(in srgb, currentColor 25%,
  transparent); border-radius: 0.4rem; font-size: 0.85rem; }
h2 { margin-top: 2rem; font-size: 1.1rem; }
code { font-family: ui-monospace, monospace; }
"""


def description_page(described: dict[str, Any]) -> tuple[str, str]:
    """Returns a description as an HTML page, and its Content-Security-Policy."""
    parts = []
    for path, methods in described["paths"].items():
        for method, entry in methods.items():
            parts.append(f"<h2><code>{method.upper()} {html.escape(path)}</code></h2>")
            parts.append(f"<p>{html.escape(entry['summary'])}.</p>")
            if "requestBody" in entry:
                schema = entry["requestBody"]["content"]["application/json"]["schema"]
                parts.append(f"<pre>{html.escape(json.dumps(schema, indent=2))}</pre>")
            answers = [
                f"<li><code>{status}</code> {html.escape(each['description'])}</li>"
                for status, each in entry["responses"].items()
            ]
            parts.append(f"<ul>{''.join(answers)}</ul>")
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>dsi serve: addresses</title><style>{_STYLE}</style>"
        "<h1>dsi serve</h1><p>The same for programs: "
        '<a href="openapi.json">openapi.json</a> (OpenAPI 3.1). '
        '<a href="./">Search</a></p>' + "".join(parts)
    )
    return page, f"default-src 'none'; style-src {source_hash(_STYLE)}; frame-ancestors 'none'"


def source_hash(content: str) -> str:
    """Returns the Content-Security-Policy source of an inline style or script."""
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
