"""Imports inside dsi run one way: no cycles of modules or packages, no backward imports of folders.

Every import counts, including those inside functions and for type checkers.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

LAYERS = (
    # Usable by everything else: files, terminal, processes, text.
    "libraries", "command_line", "reports", "distributed", "index_folder", "hub", "text_encoders",
    # The network, the lexical layer, and their kernels.
    "backbones", "lexical", "kernels", "search", "index",
    # From examples to trained weights.
    "rows", "data", "teachers", "objectives", "training",
    "generation", "indexing",
    # Operations on an index.
    "evaluation", "updating", "continual", "export",
    # Command line and Python.
    "given_documents", "serving", "commands", "building", "integrations", "cli", "__main__",
)  # fmt: skip
"""Folders and modules of dsi; each imports from itself and from those before it."""


def modules() -> dict[str, Path]:
    """Returns the modules of dsi by name, without those that only fill a registry."""
    files = sorted((ROOT / "dsi").rglob("*.py"))
    names = {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in files}
    return {name.removesuffix(".__init__"): file for name, file in names.items()}


def imports(file: Path, known: dict[str, Path]) -> Iterator[str]:
    """Yields the modules of dsi that a file imports."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                whole = f"{node.module}.{name.name}"
                yield whole if whole in known else node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def arrows() -> list[tuple[str, str]]:
    """Returns all pairs of a module of dsi and another one that it imports."""
    known = modules()
    return sorted(
        {
            (name, other)
            for name, file in known.items()
            for other in imports(file, known)
            if other in known and other not in (name, "dsi") and name != "dsi"
        }
    )


def layer(module: str) -> str:
    return module.split(".")[1]


def circles(pairs: list[tuple[str, str]]) -> set[str]:
    """Returns the nodes that lie on a circle: what is left when ends are taken off."""
    while True:
        inner = {a for a, _ in pairs} & {b for _, b in pairs}
        left = [(a, b) for a, b in pairs if a in inner and b in inner]
        if len(left) == len(pairs):
            return {node for pair in left for node in pair}
        pairs = left


def between_packages(pairs: list[tuple[str, str]]) -> dict[tuple[str, str], list[str]]:
    """Returns pairs of neighbours (modules or packages of one package) -> the imports behind them.

    dsi.a.x.one -> dsi.a.y.two counts as an import of dsi.a.y by dsi.a.x. What a package's own
    `__init__` imports does not count: it fills registries.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for pair in pairs:
        first, second = (module.split(".") for module in pair)
        depth = next(
            (n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), None
        )
        if depth is not None:
            ends = (".".join(first[: depth + 1]), ".".join(second[: depth + 1]))
            found.setdefault(ends, []).append(" -> ".join(pair))
    return found


def test_every_folder_and_module_has_its_layer():
    assert {layer(name) for name in modules() if name != "dsi"} <= set(LAYERS)


def test_no_import_goes_back_up():
    place = {name: number for number, name in enumerate(LAYERS)}
    back = [f"{a} -> {b}" for a, b in arrows() if place[layer(a)] < place[layer(b)]]
    assert not back, "\n".join(back)


def test_no_modules_import_each_other_in_a_circle():
    found = circles(arrows())
    back = [f"{a} -> {b}" for a, b in arrows() if a in found and b in found]
    assert not back, "\n".join(back)


def test_no_packages_import_each_other_in_a_circle():
    pairs = between_packages(arrows())
    found = circles(sorted(pairs))
    back = [line for (a, b), lines in pairs.items() if {a, b} <= found for line in lines]
    assert not back, "\n".join(back)


def test_a_circle_of_sub_packages_is_found():
    pairs = [("top.a.x.one", "top.a.y.two"), ("top.a.y.three", "top.a.x.four")]
    assert not circles(pairs)
    assert circles(sorted(between_packages(pairs))) == {"top.a.x", "top.a.y"}
