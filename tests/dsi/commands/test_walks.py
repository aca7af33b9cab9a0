"""The first steps of a new user, with docstrings and manual pages of this machine as files."""

import ast
import importlib.util
import json
import re
import shutil
from pathlib import Path

import pytest

from data_prep.errors import on_command_line
from dsi.cli import main

ROOT = Path(__file__).parents[3]
MANUALS = [
    page
    for name in ("kill", "sort", "wc")
    for page in sorted(Path("/usr/share/man/man1").glob(f"{name}.1*"))[:1]
]
"""Manual pages, as far as this machine has them."""

MODULES = ("argparse", "csv", "heapq", "queue", "random", "shutil", "tempfile", "zipfile")
SMALL = ["--per_doc", "4", "--quiet", "--json"]


def documented(module: str) -> list[tuple[str, str]]:
    """Returns (name, documentation string) of what a module of the standard library says."""
    spec = importlib.util.find_spec(module)
    tree = ast.parse(Path(spec.origin).read_text("utf-8"))
    found = [(module, ast.get_docstring(tree) or "")]
    found += [
        (f"{module}.{node.name}", ast.get_docstring(node) or "")
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    ]
    return [(name, text) for name, text in found if len(text.split()) > 12]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of Markdown, text and HTML, in sub-folders; manual pages are compressed text."""
    folder = tmp_path_factory.mktemp("notes")
    (folder / "man").mkdir()
    for page in MANUALS:
        name, _, suffix = page.name.partition(".1")
        shutil.copy(page, folder / "man" / f"{name}.txt{suffix}")
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
    queries = ["copy a whole directory tree", "sort lines of text files"]
    assert main(["search", str(tmp_path / "index"), *queries, "--json"]) == 0
    result, other = json.loads(capsys.readouterr().out)["results"]
    best = result["hits"][0]
    assert best["doc_id"].startswith("shutil/")
    assert best["passage"].startswith(f"{best['doc_id']}#passage-")
    ids = [hit["doc_id"] for hit in result["hits"]]
    assert len(set(ids)) == len(ids) == 10
    if any(page.name.startswith("sort") for page in MANUALS):
        assert other["hits"][0]["doc_id"].startswith("man/sort.txt")


@pytest.mark.parametrize("blocks", [3, pytest.param(4, marks=pytest.mark.slow)])
def test_the_python_page_word_for_word(blocks, tmp_path, monkeypatch, capsys):
    """With all options as they are; the fourth block trains 200 steps."""
    page = (ROOT / "docs" / "python.md").read_text("utf-8")
    code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(code) == 4
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    with on_command_line(False):
        for block in code[:blocks]:
            exec(block, names)
    first, *_ = capsys.readouterr().out.splitlines()
    assert first.endswith("kettle Kettles")
    assert sorted(names["index"].table.doc_ids)[:2] == (
        ["ink", "kettle"] if blocks == 3 else ["kettle", "lamp"]
    )


def test_a_folder_without_text_is_one_line_before_anything_is_trained(tmp_path, capsys):
    (tmp_path / "notes").mkdir()
    assert main(["train", str(tmp_path / "notes"), "--out", str(tmp_path / "index")]) == 2
    assert "this folder is empty" in capsys.readouterr().err
    assert not (tmp_path / "index").exists()


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A dataset whose queries are the first sentences of documentation strings."""
    folder = tmp_path_factory.mktemp("judged")
    documents, queries, qrels = [], [], []
    for module in MODULES:
        for name, text in documented(module):
            sentence, _, rest = text.partition("\n\n")
            if len(rest.split()) > 12 and len(sentence.split()) > 3:
                documents.append({"id": name, "title": name, "text": rest})
                queries.append({"query_id": f"q-{name}", "text": " ".join(sentence.split())})
                qrels.append({"query_id": f"q-{name}", "doc_id": name})
    for file, records in (("d", documents), ("q", queries), ("r", qrels)):
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (folder / f"{file}.jsonl").write_text(lines, "utf-8")
    words = ["--queries", str(folder / "q.jsonl"), "--test_qrels", str(folder / "r.jsonl")]
    assert main(["prepare", str(folder / "d.jsonl"), "--out", str(folder / "ds"), *words]) == 0
    return folder / "ds"


@pytest.fixture(scope="module")
def grid(judged, tmp_path_factory):
    """The words of a grid of two kinds and two seeds, and what they wrote."""
    out = tmp_path_factory.mktemp("grid") / "out"
    words = ["compare", str(judged), "--out", str(out), "--docids", "atomic,naive"]
    words += ["--seeds", "1,2", "--table", f"{out}/t.tex,{out}/t.md,{out}/t.csv"]
    words += ["--per_query", f"{out}/q.csv", *SMALL]
    assert main(words) == 0
    return words, out


def test_from_a_grid_of_kinds_and_seeds_to_a_latex_table_in_one_command(grid):
    _, out = grid
    lines = (out / "t.tex").read_text("utf-8").splitlines()
    rows = [line for line in lines if line.endswith(r"\\")]
    assert [row.split(" & ")[1] for row in rows] == [
        "System",
        "docids atomic",
        "docids naive",
        "bm25",
    ]
    assert all(r"$\pm$" in cell for cell in rows[1].split(" & ")[2:-1])
    assert "docids atomic" in (out / "t.md").read_text("utf-8")
    assert (out / "t.csv").read_text("utf-8").startswith("system,docids,seeds,queries,Success@1")
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [(row["varied"]["docids"], row["seed"]) for row in rows] == [
        ("atomic", 1),
        ("naive", 1),
        ("atomic", 2),
        ("naive", 2),
    ]


def test_a_grid_run_again_trains_nothing_again(grid, capsys):
    words, out = grid
    before = (out / "results.jsonl").read_text()
    capsys.readouterr()
    assert main(words) == 0
    data = json.loads(capsys.readouterr().out)
    assert (out / "results.jsonl").read_text() == before
    assert [group["runs"] for group in data["groups"]] == [2, 2, 1]


def test_indexes_compared_afterwards_are_grouped_by_what_differs(grid, judged, capsys):
    _, out = grid
    indexes = sorted(str(index) for index in (out / "indexes").iterdir())
    capsys.readouterr()
    assert main(["evaluate", *indexes, str(judged), "--baselines", "none", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    by_kind = {group["options"]["docids"]: group for group in data["groups"]}
    assert set(by_kind) == {"atomic", "naive"}
    assert sorted(by_kind["naive"]["seeds"]) == [1, 2]


def test_the_report_needs_no_other_file_and_says_the_conclusion_first(grid):
    _, out = grid
    page = (out / "report.html").read_text("utf-8")
    assert page.index('class="lead"') < page.index("<table")
    assert "is right at rank 1 for" in page
    assert "http" not in page
    assert "src=" not in page
    assert page.count("<svg") >= 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--docids", "atomic,semantic", "--seeds", "1,2", "--sam.roh", "0,1"], "unknown option"),
        (["--docids", "atomic,semantik"], "'semantik' is unknown"),
        (["--docids", "atomic,semantic", "--semantic.branching", "5,10"], "grid, docids atomic"),
        (["--docids", "atomic,atomic"], "the same training"),
        (["--seeds", "1,1"], "seeds must differ"),
        (["--sam", "yes,no"], "'yes' is not true or false"),
        (["--sam", "false,true"], "sam.rho 0.05 trains 160 steps and sam.rho 0.0 trains 0"),
        (["--lexical.enabled", "true,false"], "would also compare numbers of steps. Use"),
        (
            ["--variants", '{"a": {"sam.rho": 0.05}, "b": {"loop.steps": 5}}'],
            "set loop.steps in each variant",
        ),
        (["--table", "t.docx"], "cannot tell the format"),
        (["--loop.steps", "1,many"], "'many' is not a valid value"),
    ],
)
def test_a_grid_that_means_nothing_is_refused_before_the_first_training(
    judged, tmp_path, capsys, words, message
):
    assert main(["compare", str(judged), "--out", str(tmp_path / "out"), *words]) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("dsi:")]
    assert message in line
    assert not (tmp_path / "out").exists()


def test_a_dry_run_lists_the_trainings(judged, tmp_path, capsys):
    words = ["--docids", "atomic,semantic", "--sam", "false,true", "--seeds", "1,2,3"]
    words += ["--loop.steps", "5", "--dry_run", "--json"]
    capsys.readouterr()
    assert main(["compare", str(judged), "--out", str(tmp_path / "out"), *words]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["trainings"] == 12
    assert planned["cells"][1] == {"docids": "atomic", "sam.rho": 0.05, "seed": 1}
    assert planned["steps"] == [5] * 12


def test_stated_steps_may_differ(judged, tmp_path, capsys):
    words = ["--variants", '{"none": {}, "some": {"sam.rho": 0.05}}', "--loop.steps", "3,5"]
    capsys.readouterr()
    assert (
        main(["compare", str(judged), "--out", str(tmp_path), *words, "--dry_run", "--json"]) == 0
    )
    assert json.loads(capsys.readouterr().out)["steps"] == [3, 5, 3, 5]
