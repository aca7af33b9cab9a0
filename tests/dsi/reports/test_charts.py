"""Everything in a figure is inside, labels do not overlap, lines that coincide are set apart."""

import itertools
import re
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from dsi.reports.charts import (
    COLORS,
    DARK,
    HEIGHT,
    LIGHT,
    WIDTH,
    Axes,
    Line,
    Point,
    line_chart,
    log_span,
    log_ticks,
    point_chart,
    span,
    svg_file,
)

SHARES = st.lists(st.floats(0, 100), min_size=1, max_size=6)
COSTS = st.lists(st.floats(1e-4, 1e6), min_size=1, max_size=6)


def polylines(drawing):
    return [
        [tuple(map(float, place.split(","))) for place in points.split()]
        for points in re.findall('<polyline points="([^"]+)"', drawing.content)
    ]


@given(SHARES)
def test_an_axis_of_shares_shows_them_all_and_at_least_two_points(values):
    low, high = span(values, least=2.0, most=100.0)
    assert low <= min(values) + 1e-9
    assert high >= max(values) - 1e-9
    assert high - low >= 2.0 - 1e-9
    assert high <= 100 + (high - low) / 20 + 1e-9


@given(COSTS)
def test_a_logarithmic_axis_has_a_few_round_numbers(values):
    low, high = log_span(values)
    found = log_ticks(low, high)
    assert 2 <= len(found) <= 12
    assert all(low <= value <= high for value in found)
    assert found == sorted(found)


@given(COSTS, SHARES)
def test_points_and_labels_stay_inside(costs, shares):
    number = min(len(costs), len(shares))
    axes = Axes("t", "x", "y", log_span(costs), span(shares, least=2.0), log_x=True)
    points = [Point(n, costs[n], shares[n], "abcdef"[n], "name") for n in range(number)]
    drawn = point_chart(axes, points)
    labels = re.findall(
        r'<text x="([\d.]+)" y="[\d.]+" text-anchor="middle">([\d,.e+-]+)<', drawn.content
    )
    ends = [(float(x) - 4 * len(text), float(x) + 4 * len(text)) for x, text in labels]
    for (_, end), (start, _) in itertools.pairwise(ends):
        assert end <= start
    for x in re.findall(r'class="letter" x="([\d.]+)"', drawn.content):
        assert 0 <= float(x) <= WIDTH


def test_lines_that_coincide_are_set_apart_and_others_are_not():
    axes = Axes("t", "x", "y", (0, 2), (0, 10), whole_x=True)
    same = [(0.0, 1.0), (1.0, 5.0), (2.0, 3.0)]
    lines = [Line(0, "a", same), Line(1, "b", same), Line(2, "c", [(0.0, 9.0), (1.0, 8.0)])]
    drawn = line_chart(axes, lines)
    one, other, alone = polylines(drawn)
    assert {round(x - y, 1) for (x, _), (y, _) in zip(other, one, strict=True)} == {5.0}
    assert alone[0][0] == round(axes.place(0, 9)[0], 1), "on its place"
    assert len(set(re.findall('stroke-dasharray="([^"]*)"', drawn.content))) == 3
    assert drawn.content.count("<circle") == 3, "markers differ, too"
    assert all(
        0 <= x <= WIDTH and 0 <= y <= HEIGHT for line in (one, other, alone) for x, y in line
    )


def test_points_that_coincide_share_a_label_and_are_set_apart():
    axes = Axes("t", "x", "y", (0, 2), (0, 10))
    drawn = point_chart(axes, [Point(n, 1.0, 5.0, "abc"[n], "name") for n in range(3)])
    assert re.findall(r'class="letter"[^>]*>([^<]+)<', drawn.content) == ["a, b, c"]
    x = axes.place(1, 5)[0]
    assert f'cx="{x:.1f}"' in drawn.content
    assert f'<rect x="{x + 5 - 3.6:.1f}"' in drawn.content


def test_only_whole_numbers_are_marked_where_only_they_mean_something():
    drawn = line_chart(Axes("t", "x", "y", (-0.2, 2.2), (0, 1), whole_x=True), [])
    assert re.findall(r'text-anchor="middle">(-?[\d.]+)<', drawn.content) == ["0", "1", "2"]


def test_a_file_of_its_own_needs_no_style_from_elsewhere():
    drawn = line_chart(Axes("a < b", "x", "y", (0, 1), (0, 1)), [Line(9, "l", [(0, 0), (1, 1)])])
    content = svg_file("title & more", [[drawn, drawn.with_key([(9, "l")])]])
    assert "var(" not in content
    assert LIGHT["c1"] in content, f"colors repeat after {COLORS}"
    ElementTree.fromstring(content)


def test_both_themes_have_the_same_colors():
    assert LIGHT.keys() == DARK.keys()
    assert len({LIGHT[f"c{number}"] for number in range(COLORS)}) == COLORS
