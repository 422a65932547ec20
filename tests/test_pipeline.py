"""The pipeline diagram: every part lights up by itself, and nothing else does."""

import functools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from nst_helpers.lesson.pipeline import PARTS, draw_pipeline, show_pipeline
from nst_helpers.plots import COLOURS


@functools.cache
def drawn(here=None):
    figure = draw_pipeline(here)
    figure.set_dpi(40)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


@functools.cache
def lit(part):
    """Where the diagram is not as it is in most of the others, which is grey."""
    usual = np.median([drawn(name) for name in PARTS], axis=0)
    return np.abs(drawn(part) - usual).max(2) > 3


@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_lit_as_in_the_whole_and_the_rest_is_grey(part):
    where = lit(part)
    assert where.mean() > 0.003
    np.testing.assert_array_less(np.abs(drawn(part) - drawn())[where].mean(), 12)
    spread = drawn(part).max(2) - drawn(part).min(2)  # 0: grey
    assert spread[~where].max() <= 5


@pytest.mark.parametrize("part", PARTS)
def test_parts_do_not_light_each_other(part):
    others = np.any([lit(name) for name in PARTS if name != part], axis=0)
    assert (lit(part) & others).sum() < 0.05 * lit(part).sum()


def test_several_parts_may_be_lit_and_none_means_all():
    both = np.abs(drawn(("content", "gram")) - drawn())
    assert both[lit("content") | lit("gram")].mean() < 12
    assert (drawn(PARTS) == drawn()).all()


@pytest.mark.parametrize("part", ["content", "style"])
def test_content_and_style_have_the_colours_of_the_curves(part):
    colour = 255 * np.array(to_rgb(COLOURS[part]))
    has_colour = np.abs(drawn(part) - colour).max(2) < 3
    assert has_colour.mean() > 0.005
    (other,) = {"content", "style"} - {part}
    assert not (has_colour & lit(other)).any()


@pytest.mark.parametrize("wrong", ["contents", "", ["content", "kitten"], 3, [None]])
def test_a_wrong_name_is_an_error_that_lists_the_names(wrong):
    with pytest.raises(ValueError, match=r"here") as error:
        draw_pipeline(wrong)
    if wrong != 3:
        assert all(part in str(error.value) for part in PARTS)


def test_it_is_shown_as_a_wide_png_for_a_projector():
    data = show_pipeline("picture").data
    assert data.startswith(b"\x89PNG")
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    assert width >= 1500
    assert width > 2 * height
    assert len(data) < 400_000
    assert min(text.get_size() for text in draw_pipeline().axes[0].texts if text.get_text()) >= 11
