"""Figures: what is shown is what was given, pixel for pixel."""

import io
import math
import re

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.text import Text
from PIL import Image

from helpers import make_picture
from nst_helpers import (
    LiveView,
    Progress,
    Result,
    StyleTransferLoss,
    noise_like,
    optimize,
    plot_history,
    plot_layers,
    plots,
    show_images,
    show_matrix,
)
from nst_helpers.plots import figure_to_image


@pytest.fixture(autouse=True)
def _never_shows(monkeypatch):
    def show(*args, **kwargs):
        raise AssertionError("plt.show was called")

    monkeypatch.setattr(plt, "show", show)
    monkeypatch.setattr(plt.Figure, "show", show)


def rounded(image):
    """(3, H, W) to what 8 bits can show of it."""
    values = np.clip(image.double().numpy(), 0, 1).transpose(1, 2, 0) * 255
    return np.floor(values + 0.5).astype(int)


def progress(step=1, steps=4, image=None, **terms):
    image = make_picture(16, 24) if image is None else image
    terms = terms or {"total": 1.0 / step, "style": 0.5}
    return Progress(step, steps, terms, 0.1 * step, image, {}, pytest.fail)


# --- show_images ---------------------------------------------------------------------------------


def test_images_are_shown_pixel_for_pixel():
    images = [make_picture(9, 14, seed=1), make_picture(7, 5, seed=2)[0]]
    axes = show_images(images)
    assert len(axes) == 2
    for ax, image in zip(axes, images, strict=True):
        (artist,) = ax.images
        assert np.array_equal(artist.get_array(), rounded(image.reshape(3, *image.shape[-2:])))


def test_contrast_is_not_stretched_and_values_outside_are_clipped():
    ranges = ((0.4, 0.5), (-1, 2))
    images = [torch.linspace(*r, 48).view(1, 1, 6, 8).expand(1, 3, 6, 8) for r in ranges]
    for ax, image in zip(show_images(images), images, strict=True):
        array = ax.images[0].get_array()
        assert array.dtype == np.uint8  # which matplotlib never rescales
        assert np.array_equal(array, rounded(image[0]))


def test_a_batch_is_shown_image_by_image():
    batch = make_picture(6, 8, batch=3)
    for ax, image in zip(show_images(batch), batch, strict=True):
        assert np.array_equal(ax.images[0].get_array(), rounded(image))


def test_the_images_are_not_changed():
    image = make_picture(6, 8) * 3 - 1
    before = image.clone()
    show_images([image])
    assert torch.equal(image, before)


def test_titles_are_shown_in_order():
    axes = show_images([make_picture(6, 8)] * 3, ["content", "style", "result"])
    assert [ax.get_title() for ax in axes] == ["content", "style", "result"]


@pytest.mark.parametrize(
    ("images", "titles", "message"),
    [
        ([], None, "no images"),
        ([torch.zeros(1, 1, 5, 5)], None, "images must be one RGB image"),
        ([torch.full((1, 3, 5, 5), math.nan)], None, "not finite"),
        ([255 * make_picture(6, 8)], None, "images must have values in .*divide by 255"),
        ("chelsea", None, "images must be a list of images; got 'chelsea'"),
        (7, None, "images must be a list of images; got 7"),
        ([make_picture(6, 8)], "x", "titles must be a list of 1 texts; got 'x'"),
        ([make_picture(6, 8)], [None], "titles must be a list of 1 texts; got None"),
        *(
            ([make_picture(6, 8)] * 2, ["one"] * n, "titles must be a list of 2 texts")
            for n in (0, 1, 3)
        ),
    ],
)
def test_what_cannot_be_shown_is_refused_before_a_figure_is_made(images, titles, message):
    with pytest.raises(ValueError, match=message):
        show_images(images, titles)
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("count", "columns", "rows"), [(1, None, 1), (4, None, 1), (5, 2, 3), (2, 9, 1), (6, 3, 2)]
)
def test_images_are_laid_out_in_columns(count, columns, rows):
    axes = show_images([make_picture(6, 8)] * count, columns=columns)
    figure = axes[0].figure
    figure.canvas.draw()
    assert len(axes) == count
    assert len({round(ax.get_position().y0, 3) for ax in axes}) == rows
    for unused in set(figure.axes) - set(axes):
        assert not unused.axison


def test_the_aspect_ratio_is_kept_and_there_are_no_ticks():
    (ax,) = show_images([make_picture(10, 30)])
    assert ax.get_aspect() == 1.0
    assert len(ax.get_xticks()) == len(ax.get_yticks()) == 0


def test_given_axes_are_drawn_on_and_must_be_enough():
    figure, given_axes = plt.subplots(1, 2)
    axes = show_images([make_picture(6, 8)] * 2, axes=given_axes)
    assert list(axes) == list(given_axes)
    assert plt.get_fignums() == [figure.number]
    assert all(len(ax.images) == 1 for ax in given_axes)
    with pytest.raises(ValueError):
        show_images([make_picture(6, 8)] * 3, axes=given_axes)


# --- plot_history --------------------------------------------------------------------------------


HISTORY = [
    {
        "step": i,
        "seconds": 0.1 * i,
        "total": 9.0 / i,
        "content": 2.0 / i,
        "style": 7.0 / i,
        "tv": 0.0,
    }
    for i in range(1, 6)
]


def test_each_term_is_a_line_on_a_logarithmic_axis():
    ax = plot_history(HISTORY)
    assert ax.get_yscale() == "log"
    lines = {line.get_label(): line for line in ax.lines}
    assert set(lines) == {"total", "content", "style"}  # tv is zero
    for name, line in lines.items():
        assert list(line.get_xdata()) == [1, 2, 3, 4, 5]
        assert list(line.get_ydata()) == pytest.approx([entry[name] for entry in HISTORY])
    assert {text.get_text() for text in ax.get_legend().get_texts()} == set(lines)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "loss")
    assert len({line.get_color() for line in lines.values()}) == 3


def test_a_result_is_plotted_like_its_history_on_given_axes():
    _, given_ax = plt.subplots()
    ax = plot_history(Result(make_picture(6, 8), HISTORY), given_ax)
    assert ax is given_ax
    assert list(ax.lines[0].get_ydata()) == [entry["total"] for entry in HISTORY]


@pytest.mark.parametrize("history", [[], [{"step": 1, "seconds": 0.1, "total": 0.0}]])
def test_an_empty_history_is_an_empty_axis_without_a_warning(history, recwarn):
    ax = plot_history(history)
    ax.figure.canvas.draw()
    assert list(ax.lines) == []
    assert [str(w.message) for w in recwarn] == []


def test_a_loss_of_only_a_total_is_plotted():
    ax = plot_history([{"step": 1, "seconds": 0.1, "total": 2.0}])
    assert list(ax.lines[0].get_ydata()) == [2.0]


# --- figure_to_image -----------------------------------------------------------------------------


def test_a_figure_becomes_the_image_a_file_would_hold():
    ax = plot_history(HISTORY)
    image = figure_to_image(ax.figure)
    file = io.BytesIO()
    ax.figure.savefig(file, format="png", dpi=ax.figure.dpi)
    expected = np.asarray(Image.open(file).convert("RGB"), dtype=int)
    pixels = rounded(image[0])
    assert pixels.shape == expected.shape
    assert np.abs(pixels - expected).max() < 10  # the layout moves by a hair at a second drawing
    assert np.abs(pixels - expected).mean() < 0.05


def test_drawing_a_figure_leaves_its_canvas_and_the_backend_alone():
    figure, backend = show_images([make_picture(6, 8)])[0].figure, matplotlib.get_backend()
    canvas = figure.canvas
    figure_to_image(figure)
    assert figure.canvas is canvas
    assert matplotlib.get_backend() == backend


# --- LiveView ------------------------------------------------------------------------------------


class Notebook:
    """Stands in for the notebook: what was displayed, and in how many places."""

    def __init__(self):
        self.pictures, self.handles = [], 0

    def display(self, picture, display_id=None, **kwargs):
        assert display_id
        self.handles += 1
        self.pictures.append(picture)
        return self

    def update(self, picture):
        self.pictures.append(picture)


@pytest.fixture
def notebook(monkeypatch):
    notebook = Notebook()
    monkeypatch.setattr(plots, "display", notebook.display)
    return notebook


def test_in_a_notebook_one_figure_is_updated(net, content, style, notebook):
    loss = StyleTransferLoss(net, content, style)
    optimize(loss, noise_like(content), steps=7, callback=LiveView(show_every=3))
    assert notebook.handles == 1
    assert len(notebook.pictures) == 4  # steps 1, 3, 6 and the last
    for picture in notebook.pictures:
        with Image.open(io.BytesIO(picture.data)) as jpeg:
            assert jpeg.format == "JPEG"
            assert jpeg.width > jpeg.height > 100
    assert plt.get_fignums() == []  # nothing piles up in pyplot


def test_outside_a_notebook_nothing_piles_up(net, content, style, capsys):
    loss = StyleTransferLoss(net, content, style)
    result = optimize(loss, noise_like(content), steps=3, callback=LiveView(show_every=1))
    assert (result.stopped, len(result.history)) == ("steps", 3)
    assert plt.get_fignums() == []


def test_the_figure_shows_the_image_and_the_loss_so_far(notebook):
    view, image = LiveView(show_every=2), make_picture(16, 24, seed=5)
    for step in (1, 2):
        view(progress(step))
    view.history.append({"step": 3, "total": 0.25})
    figure = view.draw(progress(3, steps=8, image=image * 2))
    left, right = figure.axes
    assert np.array_equal(left.images[0].get_array(), rounded(image[0] * 2))
    assert re.search(r"step 3 of 8 .*0\.10 s per step", left.get_title())
    assert list(right.lines[0].get_xdata()) == [1, 2, 3]
    assert right.get_xlim() == (0, 8)


def test_of_a_batch_the_first_image_is_shown(notebook):
    batch = make_picture(16, 24, batch=2)
    view = LiveView()
    view(progress(image=batch))
    left, _ = view.draw(progress(image=batch)).axes
    assert np.array_equal(left.images[0].get_array(), rounded(batch[0]))


def test_a_second_run_with_the_same_view_starts_a_new_curve(notebook):
    view = LiveView(show_every=1)
    for step in (1, 2, 3):
        view(progress(step))
    view(progress(1))
    _, right = view.draw(progress(1)).axes
    assert list(right.lines[0].get_xdata()) == [1]


@pytest.mark.parametrize("every", [0, -3])
def test_show_every_must_be_positive(every):
    with pytest.raises(ValueError, match=f"show_every must be .* 1 or more; got {every}"):
        LiveView(show_every=every)


# --- for a projector -----------------------------------------------------------------------------


def test_a_total_that_is_one_of_the_terms_is_drawn_once():
    history = [{"step": i, "total": 2.0 / i, "content": 2.0 / i, "style": 0.0} for i in (1, 2, 3)]
    assert [line.get_label() for line in plot_history(history).lines] == ["content"]
    history[1]["style"], history[1]["total"] = 0.5, 1.5
    labels = [line.get_label() for line in plot_history(history).lines]
    assert labels == ["total", "content", "style"]


def test_all_text_is_11_points_or_more(net):
    drawn = [
        *show_images([make_picture(6, 8)], ["a"]),
        plot_history([{"step": 1, "total": 2.0, "style": 1.0}]),
        plot_layers(net, size=64),
        show_matrix(torch.eye(2), "a", rows=["a", "b"], columns=["c", "d"]),
    ]
    for ax in drawn:
        texts = [text for text in ax.findobj(Text) if text.get_text()]
        if ax.get_yscale() == "log":
            ax.figure.canvas.draw()  # makes the ticks
        assert texts
        assert min(text.get_size() for text in texts) >= 11


# --- matrices and maps ---------------------------------------------------------------------------


def test_a_matrix_is_shown_as_it_is():
    matrix = torch.tensor([[0.0, 0.5], [1.0, 4.0]], requires_grad=True)
    ax = show_matrix(matrix, "a title", limit=2.0)
    (artist,) = ax.images
    assert np.array_equal(artist.get_array(), matrix.detach().numpy())
    assert artist.get_clim() == (0, 2)
    assert ax.get_title() == "a title"
    assert not ax.texts


def test_a_matrix_with_names_has_its_numbers():
    matrix = torch.tensor([[0.0, 0.123, 3.0], [1.0, 4.0, 10.0]])
    ax = show_matrix(matrix, rows=["up", "down"], columns=["a", "b", "c"])
    assert [t.get_text() for t in ax.texts] == ["0", "0.12", "3", "1", "4", "10"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["a", "b", "c"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["up", "down"]
    assert ax.images[0].get_clim() == (0, 10)


def test_what_is_no_matrix_is_refused():
    with pytest.raises(
        ValueError, match=r"matrix \(R, C\) of numbers; got a tensor of shape \(1, 2, 2\)"
    ):
        show_matrix(torch.zeros(1, 2, 2))


def test_the_map_has_every_layer_in_order_with_its_size(net):
    ax = plot_layers(net, size=64)
    names = [t.get_text() for t in ax.get_xticklabels()]
    assert names == ["picture", *(name for name in net.layers if not name.startswith("conv"))]
    heights = dict(zip(names, (bar.get_height() for bar in ax.patches), strict=True))
    assert heights["picture"] == heights["relu1_2"] == 64
    assert heights["pool1"] == 32
    assert heights["relu4_2"] == 8
    assert "8 x\n4 x 4" in [t.get_text() for t in ax.texts]  # relu5_1


def test_maps_and_matrices_are_drawn_on_given_axes(net):
    given_ax = plt.figure().subplots()
    assert plot_layers(net, ax=given_ax) is given_ax
    assert show_matrix(torch.eye(2), ax=given_ax) is given_ax


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net: show_images([make_picture(6, 8)], columns=0), "columns must be"),
        (lambda net: show_images([make_picture(6, 8)], height=1e9), "height must be .* 0.1 to 100"),
        (lambda net: show_images([make_picture(6, 8)], axes=3), "axes must be .* got 3"),
        (lambda net: show_images([make_picture(6, 8)], axes=[3]), "axes must be .* got 3"),
        (lambda net: plot_history("x"), "history must be a Result, .* got 'x'"),
        (lambda net: plot_history([{"total": 1}]), "history must be a Result, .* got {'total': 1}"),
        (lambda net: plot_history([{"step": 1, "total": "x"}]), "history: total must be a number"),
        (lambda net: plot_history([], 3), "ax must be matplotlib's Axes, or None; got 3"),
        (lambda net: show_matrix("x"), "matrix must be a matrix .* got 'x'"),
        (lambda net: show_matrix(torch.eye(2), rows=["a"]), "rows must be a list of 2 texts; got"),
        (lambda net: show_matrix(torch.eye(2), limit="x"), "limit must be a number > 0; got 'x'"),
        (lambda net: show_matrix(torch.eye(2), 3), "title must be a text, or None; got 3"),
        (lambda net: plot_layers("vgg19"), "net must be a network, .* got 'vgg19'"),
        (lambda net: plot_layers(net, -3), "size must be a whole number, 1 or more; got -3"),
        (lambda net: LiveView(height=None), "height must be a number .* got None"),
        (lambda net: LiveView()(3), "progress must be the Progress .* got 3"),
    ],
)
def test_wrong_arguments_are_named_before_a_figure_is_made(net, call, message):
    with pytest.raises(ValueError, match=message):
        call(net)
    assert plt.get_fignums() == []
