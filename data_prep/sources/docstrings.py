"""A real corpus on every machine: the docstrings of the installed Python packages.

Each document is one public module, class, function or method. Its query is the first sentence
of the docstring (known-item search); its text is the rest, without the query. Packages are parsed
as source code and never imported.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import inspect
import itertools
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from data_prep.dataset import Document, Qrel, Query
from data_prep.errors import InputError
from data_prep.progress import track
from data_prep.sources.base import SOURCES, Source, SourceOptions
from data_prep.text_processing import normalize, sentences, words

PACKAGES = ("datasets", "numpy", "scipy", "sklearn", "torch", "transformers")
STANDARD_LIBRARY = "python"
DISTRIBUTIONS = {"sklearn": "scikit-learn"}

WANTED = 3_600
"""Maximum number of documents in the corpus."""

FEWEST_QUERY_WORDS, MOST_QUERY_WORDS = 3, 40
FEWEST_TEXT_WORDS = 20
"""Minimum length of the rest of a docstring; one-liners are not documents."""

MOST_PER_MODULE = 20
"""Maximum documents per module, for a variety of topics."""

LARGEST_FILE = 120_000
"""Maximum file size in bytes; the few larger files would take most of the parsing time."""

_LEFT_OUT = {"test", "tests", "testing", "conftest", "idlelib", "turtledemo", "lib2to3", "f2py"}

# transformers has each model twice: files generated from a modular_ file are duplicates.
_LEFT_OUT_STARTS = ("_", "test_", "modular_", "convert_")
_NAME_PART = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_SIGNATURE = re.compile(r"^[\w.]+\(.*\)\s*(?:->.*|:)?$", re.DOTALL)
_ROLE = re.compile(r":[\w:]+:`~?\.?([^`<]*?)(?:\s*<[^`>]*>)?`")
_LINK = re.compile(r"`([^`<]+?)\s*<[^`>]*>`_{0,2}|\[([^\]]*)\]\(https?:[^)]*\)")
_EMPHASIS = re.compile(r"\*\*([^*]+)\*\*|`{1,2}~?([^`]+)`{1,2}_?|\[\s*([\w.~]+)\s*\](?=[\s,.;)])")
_DIRECTIVE = re.compile(r"^\s*\.\.\s*(?:\|[^|]*\|\s*)?(?:\[\S+\]\s*|([\w:-]+?)::)?")
_OPAQUE = {"math", "plot", "code", "code-block", "sourcecode", "image", "figure", "testsetup"}
_RULE = re.compile(r"^\s*([-=~^*#+_`.])\1{2,}\s*$")
_TAG = re.compile(r"</?[A-Za-z][^>\n]*>")
_PROSE_START = re.compile(r"[\w\"'(]")


@SOURCES.register("docstrings")
class Docstrings(Source):
    """The docstrings of the standard library and of the toolkit's dependencies.

    The selection is deterministic for given package versions: modules are visited in the order of a
    hash of their names, alternating between packages, until there are enough documents.
    """

    prefix = "docstrings"
    form = "docstrings"
    license = "each package's own"

    def __init__(self, argument: str, options: SourceOptions) -> None:
        super().__init__("docstrings", options)
        if argument not in ("", "docstrings"):
            raise InputError("docstrings takes no argument", where=f"docstrings:{argument}")
        roots = {STANDARD_LIBRARY: None, **{name: _root(name) for name in PACKAGES}}
        self.roots = {name: root for name, root in roots.items() if root or name == "python"}
        versions = [f"python {'.'.join(map(str, sys.version_info[:3]))}"] + [
            f"{name} {importlib.metadata.version(DISTRIBUTIONS.get(name, name))}"
            for name in self.roots
            if name != STANDARD_LIBRARY
        ]
        self.source = f"docstrings of {', '.join(versions)}"

    @classmethod
    def accepts(cls, argument: str) -> bool:
        """Accepts the word "docstrings"."""
        return argument == "docstrings"

    def documents(self) -> Iterator[Document]:
        """Yields the documents, sorted by qualified name."""
        for document, _ in self._entries:
            yield document

    def queries(self) -> Iterator[Query]:
        """Yields the first sentence of each document's docstring."""
        for document, sentence in self._entries:
            yield Query(f"q-{document.doc_id}", sentence)

    def qrels(self) -> Iterator[Qrel]:
        """Yields one judgment per document, all in the split "test"."""
        for document, _ in self._entries:
            yield Qrel(f"q-{document.doc_id}", document.doc_id, 1, "test")

    @cached_property
    def _entries(self) -> list[tuple[Document, str]]:
        chosen = itertools.islice(self._alternating(), WANTED)
        return sorted(track(chosen, "docstrings", total=WANTED), key=lambda entry: entry[0].doc_id)

    def _alternating(self) -> Iterator[tuple[Document, str]]:
        """Yields documents, alternating between packages; names, queries and texts are unique."""
        streams = {
            name: _package_entries(_standard_modules() if root is None else _modules(name, root))
            for name, root in sorted(self.roots.items())
        }
        seen: set[str] = set()
        while streams:
            for name in list(streams):
                for document, sentence in streams[name]:
                    keys = {document.doc_id, normalize(sentence), normalize(document.text)}
                    if not seen & keys:
                        seen |= keys
                        yield document, sentence
                        break
                else:
                    del streams[name]


def _root(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def _public(name: str) -> bool:
    parts = name.split(".")
    return not any(p.startswith(_LEFT_OUT_STARTS) or p in _LEFT_OUT for p in parts)


def _hashed(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=8).digest()


def _module_name(file: Path, base: Path) -> str:
    parts = file.relative_to(base).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _standard_modules() -> Iterator[tuple[str, Path, dict[str, str] | None]]:
    """Yields (name, file, None) of the standard library's public modules, in hashed order."""
    base = Path(sysconfig.get_path("stdlib"))
    files: dict[str, Path] = {}
    for name in sorted(sys.stdlib_module_names):
        if _public(name):
            for file in [base / f"{name}.py", *(base / name).rglob("*.py")]:
                if file.is_file() and _public(_module_name(file, base)):
                    files[_module_name(file, base)] = file
    for name in sorted(files, key=_hashed):
        yield name, files[name], None


def _modules(package: str, root: Path) -> Iterator[tuple[str, Path, dict[str, str] | None]]:
    """Yields (name, file, public names) of a package's modules, in hashed order.

    A module with a private name is included if a public package re-exports from it; its public
    names then map the name in the module to the qualified name ("*": that of the package). For a
    public module they are None: everything public in it is included under its own name.
    """
    base = root.parent
    files = {_module_name(file, base): file for file in root.rglob("*.py")}
    exports: dict[str, dict[str, str]] = {}
    for name in sorted(files):
        if files[name].name == "__init__.py" and _public(name):
            for module, exported in _reexports(files[name], name):
                if module in files and not _public(module) and _exportable(module):
                    exports.setdefault(module, {}).setdefault(exported, name)
    for name in sorted(files, key=_hashed):
        if _public(name):
            yield name, files[name], None
        elif name in exports:
            yield name, files[name], exports[name]


def _exportable(module: str) -> bool:
    return _public(".".join(part.lstrip("_") for part in module.split(".")))


def _reexports(file: Path, package: str) -> Iterator[tuple[str, str]]:
    """Yields (module, name) of the imports of a package's __init__ from its own modules."""
    tree = _parse(file)
    for node in tree.body if tree is not None else ():
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = package.split(".")
            prefix = parts[: len(parts) - node.level + 1] if node.level else []
            module = ".".join([*prefix, node.module])
            for alias in node.names:
                if alias.asname in (None, alias.name):
                    yield module, alias.name


def _parse(file: Path) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError):
        # Templates and files for other Python versions do not document this one.
        return None


def _package_entries(
    modules: Iterator[tuple[str, Path, dict[str, str] | None]],
) -> Iterator[tuple[Document, str]]:
    for name, file, exported in modules:
        tree = _parse(file) if file.stat().st_size <= LARGEST_FILE else None
        if tree is None:
            continue
        found = sorted(_docstrings(tree, name, exported), key=lambda pair: _hashed(pair[0]))
        entries = (split_docstring(qualified, docstring) for qualified, docstring in found)
        yield from itertools.islice(filter(None, entries), MOST_PER_MODULE)


def _docstrings(
    tree: ast.Module, module: str, exported: dict[str, str] | None
) -> Iterator[tuple[str, str]]:
    """Yields (qualified name, docstring) of the public members of a module."""
    if exported is None:
        docstring = ast.get_docstring(tree)
        if docstring:
            yield module, docstring
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            owner = module
            if exported is not None:
                owner = exported.get(node.name) or exported.get("*") or ""
            if owner:
                yield from _docstrings_of(node, owner)


def _docstrings_of(
    node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, owner: str
) -> Iterator[tuple[str, str]]:
    if node.name.startswith(("_", "test_")):
        return
    qualified = f"{owner}.{node.name}"
    docstring = ast.get_docstring(node)
    if docstring:
        yield qualified, docstring
    if isinstance(node, ast.ClassDef):
        for inner in node.body:
            if isinstance(inner, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                yield from _docstrings_of(inner, qualified)


def title_of(qualified: str) -> str:
    """Splits a qualified name into words at dots, underscores and camel case.

    >>> title_of("sklearn.linear_model.RidgeCV.get_params")
    'sklearn linear model Ridge CV get params'
    """
    return " ".join(_NAME_PART.findall(qualified))


def split_docstring(qualified: str, docstring: str) -> tuple[Document, str] | None:
    """Makes a document and its query from one docstring.

    Args:
        qualified: The qualified name, which becomes the document id and, in words, the title.
        docstring: The docstring as written in the source.

    Returns:
        The document, and the first sentence, which is not in the document's text. None if the
        rest is too short for a document, or the beginning is not a sentence.
    """
    paragraphs = [p for p in clean(docstring).split("\n\n") if p.strip()]
    if paragraphs and _SIGNATURE.match(paragraphs[0].strip()):
        paragraphs = paragraphs[1:]
    if not paragraphs:
        return None
    first, *rest_of_paragraph = sentences(paragraphs[0])
    count = len(words(first))
    if not FEWEST_QUERY_WORDS <= count <= MOST_QUERY_WORDS:
        return None
    if first.endswith(":") or not _PROSE_START.match(first):
        return None
    text = "\n\n".join(filter(None, [" ".join(rest_of_paragraph), *paragraphs[1:]]))
    if len(words(text)) < FEWEST_TEXT_WORDS or normalize(first) in normalize(text):
        return None
    return Document(qualified, title_of(qualified), text), first


def clean(docstring: str) -> str:
    """Returns the prose of a docstring: no directives, rules, examples at a prompt or markup."""
    prose_lines: list[str] = []
    skipped_indent: int | None = None
    in_prompt = False
    fence = False
    for line in inspect.cleandoc(docstring).split("\n"):
        stripped = line.strip()
        indent = len(line) - len(line.lstrip())
        if stripped.startswith("```"):
            fence = not fence
            continue
        if skipped_indent is not None and stripped and indent <= skipped_indent:
            skipped_indent = None
        in_prompt = bool(stripped) and (in_prompt or stripped.startswith(">>>"))
        if fence or in_prompt or skipped_indent is not None or _RULE.match(line):
            continue
        if stripped.startswith(".."):
            directive = _DIRECTIVE.match(line)
            name = directive.group(1) if directive else None
            if name is None and "[" not in stripped:
                skipped_indent = indent
                continue
            if name in _OPAQUE:
                skipped_indent = indent
                continue
            if name is not None and name.startswith(("version", "deprecated", "currentmodule")):
                continue
            stripped = line[directive.end() :].strip() if directive else stripped
        prose_lines.append(_inline(stripped))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(prose_lines)).strip()


def _inline(line: str) -> str:
    line = _ROLE.sub(r"\1", line)
    line = _LINK.sub(lambda m: m.group(1) or m.group(2) or "", line)
    line = _EMPHASIS.sub(lambda m: m.group(1) or m.group(2) or m.group(3), line)
    return _TAG.sub("", line).removesuffix("::").rstrip()
