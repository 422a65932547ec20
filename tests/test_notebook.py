"""Settings of a notebook: budget and figure format."""

import base64
import io

import matplotlib
import pytest
from IPython.core.interactiveshell import InteractiveShell
from matplotlib.figure import Figure
from PIL import Image
from traitlets.config import Config

from nst_helpers import budget
from nst_helpers.lesson.notebook import figures_as_jpeg


@pytest.mark.parametrize(("choice", "expected"), [(None, 256), ("full", 256), ("quick", 64)])
def test_the_environment_chooses_the_budget(choice, expected, monkeypatch):
    monkeypatch.delenv("NST_BUDGET", raising=False)
    if choice is not None:
        monkeypatch.setenv("NST_BUDGET", choice)
    assert budget(full=256, quick=64) == expected


@pytest.mark.parametrize("choice", ["", "slow", "Quick", "1"])
def test_an_unknown_budget_raises(choice, monkeypatch):
    monkeypatch.setenv("NST_BUDGET", choice)
    with pytest.raises(ValueError, match=f"NST_BUDGET must be .*full.*quick.*; got '{choice}'"):
        budget(256, 64)


@pytest.fixture
def shell(tmp_path):
    """A running IPython, as in a notebook; without one, get_ipython() returns None."""
    config = Config(HistoryManager={"enabled": False})
    with matplotlib.rc_context():
        yield InteractiveShell.instance(config=config, ipython_dir=str(tmp_path))
    InteractiveShell.clear_instance()


def stored(figure, shell):
    data, _ = shell.display_formatter.format(figure, include=["image/jpeg", "image/png"])
    assert set(data) == {"image/jpeg"}
    return base64.b64decode(data["image/jpeg"])


def draw():
    figure = Figure(figsize=(3, 2))  # inches
    figure.subplots().plot([1, 3, 2])
    return figure


def test_in_a_notebook_figures_are_stored_as_jpeg_of_the_chosen_quality(shell):
    figures_as_jpeg(quality=90)
    fine = stored(draw(), shell)
    figures_as_jpeg(quality=20)
    assert Image.open(io.BytesIO(fine)).format == "JPEG"
    assert len(stored(draw(), shell)) < len(fine)


def test_in_a_notebook_figures_have_the_chosen_pixels_per_inch(shell):
    widths = []
    for dpi in (50, 100):
        figures_as_jpeg(dpi=dpi)
        widths.append(Image.open(io.BytesIO(stored(draw(), shell))).width)
    assert widths == pytest.approx([150, 300], rel=0.1)  # the inline backend trims margins


def test_outside_a_notebook_the_figure_format_is_left_alone():
    before = dict(matplotlib.rcParams)
    figures_as_jpeg(quality=20, dpi=50)
    assert dict(matplotlib.rcParams) == before
