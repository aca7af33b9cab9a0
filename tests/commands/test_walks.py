"""What a new user does first, with files made of the documentation strings of this machine."""

import ast
import json
import sysconfig
from pathlib import Path

import pytest

from dsi.cli import main

MODULES = ("argparse", "csv", "heapq", "queue", "random", "shutil", "tempfile", "zipfile")
SMALL = ["--per_doc", "4", "--quiet", "--json"]


def documented(module: str) -> list[tuple[str, str]]:
    """Returns (name, documentation string) of what a module of the standard library says."""
    source = Path(sysconfig.get_path("stdlib"), f"{module}.py").read_text("utf-8")
    tree = ast.parse(source)
    found = [(module, ast.get_docstring(tree) or "")]
    found += [
        (f"{module}.{node.name}", ast.get_docstring(node) or "")
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    ]
    return [(name, text) for name, text in found if len(text.split()) > 12]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of Markdown, text and HTML, in sub-folders."""
    folder = tmp_path_factory.mktemp("notes")
    for module in MODULES:
        (folder / module).mkdir()
        for place, (name, text) in enumerate(documented(module)):
            file = folder / module / name
            if place % 3 == 0:
                file.with_suffix(f".{place}.md").write_text(f"# {name}\n\n{text}\n", "utf-8")
            elif place % 3 == 1:
                file.with_suffix(f".{place}.txt").write_text(text, "utf-8")
            else:
                page = f"<h1>{name}</h1><pre>{text}</pre>"
                file.with_suffix(f".{place}.html").write_text(page, "utf-8")
    return folder


def test_from_a_folder_to_an_answered_query_in_two_commands(folder, tmp_path, capsys):
    words = ["--passages", "40", "--overlap", "10", *SMALL]
    assert main(["train", str(folder), "--out", str(tmp_path / "index"), *words]) == 0
    capsys.readouterr()
    asked = ["search", str(tmp_path / "index"), "copy a whole directory tree", "--json"]
    assert main(asked) == 0
    [result] = json.loads(capsys.readouterr().out)["results"]
    best = result["hits"][0]
    assert best["doc_id"].startswith("shutil/")
    assert best["passage"].startswith(f"{best['doc_id']}#passage-")
    ids = [hit["doc_id"] for hit in result["hits"]]
    assert len(set(ids)) == len(ids) == 10


def test_a_folder_without_text_is_one_line_before_anything_is_trained(tmp_path, capsys):
    (tmp_path / "notes").mkdir()
    assert main(["train", str(tmp_path / "notes"), "--out", str(tmp_path / "index")]) == 2
    assert "this folder is empty" in capsys.readouterr().err
    assert not (tmp_path / "index").exists()
