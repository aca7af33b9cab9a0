"""The page about strategies begins with the best one and how much it forgets."""

from dsi.continual.page import NAMES, conclusion, continual_page

LAST = {
    "gentle": {"A Hits@10": 0.8, "F Hits@10": 0.01, "seconds": 9.0},
    "rough": {"A Hits@10": 0.7, "F Hits@10": 0.2, "seconds": 3.0},
}
SUMMARY = {
    "strategies": {
        name: {"last": {key: {"mean": value, "sd": None} for key, value in values.items()}}
        for name, values in LAST.items()
    }
}


def test_the_conclusion_names_the_best_and_the_next():
    means = {name: {key: values.get(key) for key in NAMES} for name, values in LAST.items()}
    assert conclusion(means) == (
        "gentle finds 80.0 % of all queries within 10 at the end, and has forgotten 1.0 % of old "
        "ones; next is rough with 70.0 % and 20.0 %."
    )


def test_less_is_better_for_what_is_forgotten_and_spent():
    cells = {name: [str(LAST[name].get(key, "-")) for key in NAMES] for name in LAST}
    page = continual_page(SUMMARY, cells, {}, "title", "small print")
    assert [f"<b>{text}</b>" in page for text in ("0.8", "0.01", "3.0", "0.2", "9.0")] == [
        True,
        True,
        True,
        False,
        False,
    ]
    assert page.count("<svg viewBox") == 1
    assert page.index("gentle finds") < page.index("<table")
