"""Figures of notebooks 00 and 01: what they choose, and that they show it."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import make_picture
from nst_helpers.lesson.curves import draw_losses
from nst_helpers.lesson.fields import draw_fields
from nst_helpers.lesson.filters import (
    best_patches,
    draw_patches,
    least_alike,
    selective_filters,
)
from nst_helpers.lesson.rows import draw_rows
from nst_helpers.lesson.valley import RATE, START, draw_valley, valley, walk
from nst_helpers.network.load import load_network
from nst_helpers.plots import COLOURS


def png_size(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=50)
    return Image.open(file).size


# --- rows ----------------------------------------------------------------------------------------


def test_each_row_has_its_name_and_its_pictures():
    rows = {"wide": [make_picture(8, 16)] * 3, "one": [make_picture(8, 8)]}
    figure = draw_rows(rows, ["a", "b", "c"])
    grid = np.array(figure.axes).reshape(2, 3)
    assert [len(ax.images) for ax in grid.ravel()] == [1, 1, 1, 1, 0, 0]
    assert [ax.get_ylabel() for ax in grid[:, 0]] == ["wide", "one"]
    assert [ax.get_title() for ax in grid[0]] == ["a", "b", "c"]
    shown = np.asarray(grid[0, 0].images[0].get_array())[..., :3] / 255
    expected = rows["wide"][0][0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(shown, expected, atol=1 / 255)


@pytest.mark.parametrize("wrong", [{}, {"empty": []}, 3, [1], {"a": 5}])
def test_rows_without_pictures_are_an_error(wrong):
    with pytest.raises(ValueError, match="rows"):
        draw_rows(wrong)


# --- filters -------------------------------------------------------------------------------------


def test_of_two_equal_maps_only_one_is_chosen():
    torch.manual_seed(0)
    maps = torch.rand(1, 3, 12, 12)
    maps = torch.cat((maps, 2 * maps[:, :1], torch.ones(1, 1, 12, 12)), 1)
    chosen = least_alike(maps, 3)
    assert len(set(chosen)) == 3
    assert not {0, 3} <= set(chosen)  # one is twice the other
    assert 4 not in chosen  # nothing to see


@pytest.mark.parametrize("count", [1, 2, 9])
def test_there_are_never_more_maps_than_filters(count):
    assert len(set(least_alike(torch.rand(1, 4, 8, 8), count))) == min(count, 4)


def test_a_selective_filter_answers_to_little():
    maps = [torch.ones(1, 3, 10, 10) for _ in range(9)]
    for features in maps:
        features[0, 1] = 0
        features[0, 1, 4, 4] = 5  # high, and in one place only
    assert selective_filters(maps, 1) == [1]


@pytest.mark.parametrize(("row", "column"), [(0, 0), (3, 5), (7, 11)])
def test_the_best_patch_is_where_the_answer_is_largest(row, column):
    images = [make_picture(32, 48, seed=i) for i in range(3)]
    maps = [torch.zeros(1, 2, 8, 12) for _ in images]
    for strength, features in zip((1.0, 3.0, 2.0), maps, strict=True):
        features[0, 1, row, column] = strength
    patches = best_patches(images, maps, 1, 9, count=2)
    for image, patch in zip((images[1], images[2]), patches, strict=True):
        at = [
            (y, x)
            for y in range(32 - 8)
            for x in range(48 - 8)
            if torch.equal(image[..., y : y + 9, x : x + 9], patch)
        ]
        ((top, left),) = at
        assert top <= 4 * row + 1.5 <= top + 9  # the unit's middle is inside
        assert left <= 4 * column + 1.5 <= left + 9


def test_patches_of_each_layer_are_drawn():
    net = load_network("random", device="cpu", precision="float32")
    images = [make_picture(24, 24, seed=i) for i in range(4)]
    figure = draw_patches(net, images, {"relu1_1": 3, "relu2_1": 40}, filters=1)
    assert sum(len(ax.images) for ax in figure.axes) == 2 * 4
    width, height = png_size(figure)
    assert width > height


# --- receptive fields ----------------------------------------------------------------------------


def test_each_field_is_a_square_on_the_picture_and_an_enlargement():
    image = make_picture(32, 48)
    figure = draw_fields(image, {"low": (14, 17, 20, 23), "high": (4, 30, 8, 34)})
    whole, *zooms = figure.axes
    assert [patch.get_width() for patch in whole.patches] == [3, 26]
    assert [ax.images[0].get_array().shape[:2] for ax in zooms if ax.images] == [(3, 3), (26, 26)]
    assert [ax.get_title() for ax in zooms[:2]] == ["low: 3 px", "high: 26 px"]


@pytest.mark.parametrize("wrong", [{}, [], None])
def test_no_fields_are_an_error(wrong):
    with pytest.raises(ValueError, match="fields"):
        draw_fields(make_picture(8, 8), wrong)


# --- the valley ----------------------------------------------------------------------------------


def test_gradient_descent_is_what_its_formula_says():
    points, heights = walk("gradient descent", 5)
    point = torch.tensor(START, dtype=torch.float64)
    for seen, height in zip(points, heights, strict=True):
        torch.testing.assert_close(seen, point)
        torch.testing.assert_close(height, valley(point))
        nudge = 1e-6 * torch.eye(2, dtype=torch.float64)
        gradient = (valley(point + nudge) - valley(point - nudge)) / 2e-6
        point = point - RATE * gradient


def test_lbfgs_is_down_long_before_gradient_descent():
    slow, fast = walk("gradient descent", 40)[1], walk("L-BFGS", 40)[1]
    assert fast[10] < 1e-6 < slow[-1]
    assert (slow.diff() < 0).all()


def test_a_faster_rate_would_climb():
    # 2 / the largest second derivative is the limit; the rate is just below.
    largest = torch.linalg.eigvalsh(
        torch.autograd.functional.hessian(valley, torch.zeros(2, dtype=torch.float64))
    ).max()
    assert 0.8 < RATE * largest / 2 < 1


def test_the_valley_shows_both_walks():
    figure = draw_valley(12)
    above, side = figure.axes
    assert {line.get_label() for line in above.lines} >= {"gradient descent", "L-BFGS"}
    assert [len(line.get_xdata()) for line in side.lines] == [12, 12]


def test_an_unknown_method_is_an_error():
    with pytest.raises(ValueError, match="gradient descent, L-BFGS"):
        walk("newton", 3)


# --- curves --------------------------------------------------------------------------------------


def test_losses_of_each_run_are_drawn_beside_the_pictures():
    runs = {"slow": [3.0, 2.0, 1.0], "fast": [3.0, 0.1], "overflow": [1.0, 1e30, float("inf")]}
    figure = draw_losses(runs, images=[make_picture(8, 12)], titles=["picture"])
    picture, curves = figure.axes
    assert picture.get_title() == "picture"
    for line, (name, values) in zip(curves.lines, runs.items(), strict=True):
        assert line.get_label() == name
        assert list(line.get_xdata()) == list(range(1, len(values) + 1))
        np.testing.assert_array_equal(line.get_ydata(), values)
    assert curves.get_yscale() == "log"
    assert not {line.get_color() for line in curves.lines} & {COLOURS["content"], COLOURS["style"]}
    assert png_size(figure)[0] > png_size(figure)[1]


@pytest.mark.parametrize("wrong", [{}, 3, {"a": []}, {str(i): [1.0] for i in range(9)}])
def test_no_losses_or_too_many_are_an_error(wrong):
    with pytest.raises(ValueError, match="losses"):
        draw_losses(wrong)
