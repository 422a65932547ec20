"""The figure of notebook 03: each picture is joined to its own point."""

import pytest
import torch
from matplotlib.patches import ConnectionPatch

from nst_helpers.lesson.cards import draw_trade_off

CONTENT, STYLE = [3.0, 0.5, 1.5], [0.001, 0.1, 0.01]
TITLES = ["first", "second", "third"]


def images(count=3):
    return [torch.full((1, 3, 8, 12), 0.2 * i) for i in range(count)]


def test_each_picture_is_joined_to_its_own_point_in_the_order_of_content():
    figure = draw_trade_off(images(), CONTENT, STYLE, TITLES)
    figure.canvas.draw()
    *cards, ax = figure.axes
    assert [card.get_title() for card in cards] == ["second", "third", "first"]
    points = dict(zip(TITLES, zip(CONTENT, STYLE, strict=True), strict=True))
    lines = [each for each in figure.artists if isinstance(each, ConnectionPatch)]
    for card, line in zip(cards, lines, strict=True):
        assert line.xy2 == points[card.get_title()]
        assert line.coords2 == ax.transData
        assert line.coords1 == card.transAxes
    assert sorted(zip(*ax.lines[0].get_data(), strict=True)) == sorted(points.values())


def test_it_is_read_on_logarithmic_axes_with_few_numbers():
    figure = draw_trade_off(images(), CONTENT, STYLE, TITLES)
    figure.canvas.draw()
    ax = figure.axes[-1]
    assert ax.get_xscale() == ax.get_yscale() == "log"
    low, high = ax.get_xlim()
    shown = [t for t in ax.get_xticks() if low <= t <= high]
    assert 2 <= len(shown) <= 6
    assert not any(label.get_text() for label in ax.get_xticklabels(minor=True))


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (([], [], [], []), "images"),
        ((images(), CONTENT[:2], STYLE, TITLES), "content"),
        ((images(), CONTENT, STYLE, TITLES[:1]), "titles"),
        ((images(), CONTENT, 3.0, TITLES), "style"),
    ],
)
def test_lists_of_unequal_length_are_refused(arguments, name):
    with pytest.raises(ValueError, match=f"^{name}"):
        draw_trade_off(*arguments)
