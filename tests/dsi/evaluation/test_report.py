import io
import json

import pytest
from rich.console import Console

from data_prep.dataset import Document, InMemorySource, Qrel, Query
from data_prep.dataset_writer import write_dataset
from dsi.evaluation.report import evaluate_systems

MEASURES = ["Success@1", "Success@10", "Success@100", "RR@10", "nDCG@10", "R@100"]
HEADINGS = ["Hits@1", "Hits@10", "Hits@100", "RR@10", "nDCG@10", "R@100"]


@pytest.fixture
def report(small):
    good = {"q1": {"cat": 1.0}, "q2": {"dog": 2.0, "cat": 1.0}, "q3": {"fish": 1.0}}
    return evaluate_systems(
        small, "test", {"index": good, "bm25": {"q1": {"cat": 1.0}}}, seconds={"index": 0.5}
    )


def shown(report):
    console = Console(file=io.StringIO(), width=140)
    report.show(console)
    return console.file.getvalue()


def test_data_is_the_object_that_programs_read(report):
    data = json.loads(json.dumps(report.data))
    assert (data["dataset"], data["split"]) == ("small", "test")
    assert data["queries"] == {"all": 4, "seen": 2, "unseen": 2}
    assert data["seconds"] == {"index": 0.5}
    assert list(data["systems"]) == ["index", "bm25"]
    index = data["systems"]["index"]
    assert {group: list(values) for group, values in index.items()} == {
        "all": MEASURES, "seen": MEASURES, "unseen": MEASURES,
    }  # fmt: skip
    # q1 and q3 first, q2 second, q4 nothing.
    assert [index[group]["Success@1"] for group in ("all", "seen", "unseen")] == [0.5, 0.5, 0.5]
    assert [index[group]["RR@10"] for group in ("all", "seen", "unseen")] == [0.625, 0.75, 0.5]


def test_the_first_system_is_compared_with_each_other_one(report):
    assert list(report.data["comparison"]) == ["bm25"]
    compared = report.data["comparison"]["bm25"]["all"]["RR@10"]
    assert compared["difference"] == pytest.approx(0.375)
    assert compared["low"] <= compared["difference"] <= compared["high"]
    assert 0 < compared["p_value"] <= 1
    assert compared["queries"] == 4


def test_a_group_without_queries_is_left_out(small):
    data = evaluate_systems(small, "dev", {"one": {}}).data
    assert data["queries"] == {"all": 1, "seen": 1}
    assert list(data["systems"]["one"]) == ["all", "seen"]
    assert data["comparison"] == {}
    assert data["seconds"] == {}


def test_a_group_of_all_queries_is_named_once(small):
    lines = shown(evaluate_systems(small, "dev", {"one": {}})).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["all", "all"]
    assert lines[-1] == "all queries are seen"


def test_one_table_for_people(report):
    lines = shown(report).splitlines()
    assert lines[0] == "small, test"
    assert lines[1].split() == ["queries", "system", *HEADINGS]
    assert lines[2].split()[:4] == ["all", "(4)", "index", "0.500"]
    assert len(lines) == 2 + 3 * 2


def test_differences_that_are_no_chance_get_a_star(small):
    judged = small.qrels_of("test")
    many = {f"{query}": {"wrong": 1.0} for query in judged}
    report = evaluate_systems(small, "test", {"index": judged, "other": many})
    assert "*" not in shown(report)  # four queries prove nothing
    report.data["comparison"]["other"]["all"]["RR@10"]["p_value"] = 0.01
    text = shown(report)
    assert "0.000*" in text
    assert "* differs from index, paired randomization test, p < 0.05" in text


def test_remarks_stand_below_the_table(small):
    assert shown(evaluate_systems(small, "test", {"one": {}}, remarks=["Mind this."])).endswith(
        "Mind this.\n"
    )


def test_a_run_that_was_cut_at_ten_has_no_measure_at_a_hundred(tmp_path):
    ids = [f"d{number}" for number in range(120)]
    queries = [f"q{number}" for number in range(40)]
    dataset = write_dataset(
        tmp_path / "many",
        InMemorySource(
            [Document(doc_id, "", f"text {doc_id}") for doc_id in ids],
            [Query(query, f"query {query}") for query in queries],
            [Qrel(query, "d50", 1, "test") for query in queries],
            name="many",
        ),
    )

    def run(depth):
        return {query: {ids[rank]: -rank for rank in range(depth)} for query in queries}

    report = evaluate_systems(dataset, "test", {"deep": run(100), "cut": run(10)})
    assert report.data["comparison"]["cut"]["all"]["R@100"]["p_value"] < 0.05
    deep, cut = (line.split()[2:] for line in shown(report).splitlines()[2:4])
    assert deep == ["deep", "0.000", "0.000", "1.000", "0.000", "0.000", "1.000"]
    assert cut == ["cut", "0.000", "0.000", "-", "0.000", "0.000", "-"]
    assert report.data["systems"]["cut"]["all"]["R@100"] == 0
