"""The page about strategies begins with the best one and how much it forgets."""

import json
import re
from xml.etree import ElementTree

import pytest

from data_prep.dataset import Document, InMemorySource, Qrel, Query
from data_prep.dataset_writer import write_dataset
from dsi.continual.figures import curves_figures, increments_figures
from dsi.continual.strategies_page import NAMES, conclusion, write_page
from dsi.continual.summary import MEASURES

LAST = {
    "gentle": {
        "A Hits@10": 0.8,
        "F Hits@10": 0.01,
        "A Hits@1": 0.5,
        "F Hits@1": 0.02,
        "seconds": 9,
    },
    "rough": {"A Hits@10": 0.7, "F Hits@10": 0.2, "seconds": 3.0},
}


def run(*values):
    """A run whose average is given, and which forgets nothing."""
    steps = [0.0] * (len(values) - 1)
    return {
        name: {"A": values, "F": [None, *steps], "LA": [None, *values[1:]]} for name in MEASURES
    }


SUMMARY = {
    "seeds": 2,
    "strategies": {
        name: {
            "last": {key: {"mean": value, "sd": None} for key, value in values.items()},
            "runs": [run(0.9, values["A Hits@10"]), run(0.9, values["A Hits@10"] + 0.1)],
        }
        for name, values in LAST.items()
    },
}


def test_the_conclusion_names_the_best_and_the_next():
    means = {name: {key: values.get(key) for key in NAMES} for name, values in LAST.items()}
    assert conclusion(means) == (
        "gentle finds 80.0 % of all queries within 10 at the end, and has forgotten 1.0 % of old "
        "ones; next is rough with 70.0 % and 20.0 %."
    )


def test_strategies_that_are_equal_are_named_together():
    cheap = {**LAST["gentle"], "updates": 0.0}
    last = {"gentle": {**LAST["gentle"], "updates": 9.0}, "cheap": cheap, "rough": LAST["rough"]}
    means = {name: {key: values.get(key) for key in NAMES} for name, values in last.items()}
    assert conclusion(means) == (
        "cheap and gentle find 80.0 % of all queries within 10 at the end, and have forgotten "
        "1.0 % of old ones; next is rough with 70.0 % and 20.0 %; cheap took the fewest updates."
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The page of two strategies and one increment, and the folder it is about."""
    out = tmp_path_factory.mktemp("out")
    corpora = []
    for number in range(2):
        source = InMemorySource(
            [Document(f"d{number}", f"Title <{number}>", "text")],
            [Query(f"q{number}", f"what is {number}?")],
            [Qrel(f"q{number}", f"d{number}", 1, "test")],
        )
        corpora.append(write_dataset(out / "corpora" / f"d{number}", source))
    for name, ranks in (("gentle", [[1], [3]]), ("rough", [[2], [0]])):
        folder = out / "results" / f"{name}-seed0"
        folder.mkdir(parents=True)
        (folder / "d0.json").write_text("{}")
        (folder / "d1.json").write_text(json.dumps({"ranks": ranks}))
    write_page(out / "report.html", out, SUMMARY, "a <small> title", corpora)
    return out, (out / "report.html").read_text("utf-8")


def test_less_is_better_for_what_is_forgotten_and_spent(written):
    _, page = written
    best = re.findall("<b>([^<]+)</b>", page.partition("</table>")[0])
    assert best == ["80.0", "1.0", "50.0", "2.0", "3"]


def test_the_conclusion_is_first_and_nothing_is_loaded_from_elsewhere(written):
    _, page = written
    assert page.index("gentle finds") < page.index("<table")
    assert "a &lt;small&gt; title" in page
    assert not re.search(r"(src|href)=|http|url\(", page)


def test_every_symbol_has_an_arrow_and_its_full_name(written):
    _, page = written
    for name, (arrow, said) in NAMES.items():
        assert f">{name} {arrow}<small>{said}</small>" in page


def test_it_shows_the_queries_that_only_one_of_the_best_two_finds(written):
    _, page = written
    assert "Within 10 with gentle, not with rough: 1 queries" in page
    assert "<dt>what is 1?</dt><dd>right: <b>Title &lt;1&gt;</b> text</dd>" in page
    assert "of corpus D1, at rank 3 with gentle" in page
    assert "Within 10 with rough" not in page


def test_the_figures_of_a_measure_have_common_axes():
    for average, _, learning in increments_figures(SUMMARY):
        labels = [
            re.findall(r'text-anchor="end">([\d.]+)<', each.content) for each in (average, learning)
        ]
        assert labels[0] == labels[1]
        assert float(labels[0][-1]) <= 100


def test_figures_are_files_of_their_own_too(written):
    out, _ = written
    drawn = (out / "increments.svg").read_text("utf-8")
    assert "var(" not in drawn
    assert (
        len(ElementTree.fromstring(drawn).findall("{http://www.w3.org/2000/svg}svg"))
        == 3 * len(MEASURES) + 1
    )
    assert not (out / "curves.svg").exists(), "nothing was measured during the updates"


def test_a_curve_begins_before_the_first_step_of_its_update(tmp_path):
    for number, rows in {1: [(0, 1), (2, 2)], 2: [(0, 2), (4, 3)]}.items():
        folder = tmp_path / "curves" / "gentle-seed0"
        folder.mkdir(parents=True, exist_ok=True)
        lines = [
            json.dumps({"step": step, "corpora": [{"Hits@10": 0.5}] * (number + 1)})
            for step, _ in rows
        ]
        (folder / f"d{number}.jsonl").write_text("\n".join(lines) + "\n")
        results = tmp_path / "results" / "gentle-seed0"
        results.mkdir(parents=True, exist_ok=True)
        (results / f"d{number}.json").write_text("{}")
    (tmp_path / "results" / "gentle-seed0" / "d0.json").write_text("{}")
    [drawn] = curves_figures(tmp_path, ["gentle", "append"])
    assert drawn.content.count('class="rule"') == 2
    lines = [
        re.findall(r"([\d.]+),", points)
        for points in re.findall('<polyline points="([^"]+)"', drawn.content)
    ]
    assert [len(line) for line in lines] == [4, 4, 2]
    left = re.findall('class="rule" x1="([\\d.]+)"', drawn.content)
    assert abs(float(lines[2][0]) - float(left[1])) <= 10, "the third corpus begins with its update"
