"""Figures of notebook 02: which pair of filters is chosen, and what is drawn of it."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from nst_helpers import gram_matrix
from nst_helpers.lesson.figures import as_png
from nst_helpers.lesson.grams import Pairs, contrasting_pairs, draw_pairs, draw_shuffled


def maps_of(filters=6, seed=0):
    values = torch.randn(1, filters, 8, 9, generator=torch.Generator().manual_seed(seed))
    return values.clamp(min=0)


def test_the_pairs_are_those_of_a_slow_loop():
    maps = maps_of()
    unrolled = maps[0].flatten(1)
    best = None
    for i, first in enumerate(unrolled):
        cosines = {
            j: torch.nn.functional.cosine_similarity(first, second, dim=0).item()
            for j, second in enumerate(unrolled)
            if j != i
        }
        spread = max(cosines.values()) - min(cosines.values())
        pair = Pairs(i, max(cosines, key=cosines.get), min(cosines, key=cosines.get))
        best = max(best or (spread, pair), (spread, pair))
    assert contrasting_pairs(gram_matrix(maps)[0]) == best[1]


def test_proportional_maps_fire_together_and_disjoint_ones_never():
    maps = torch.zeros(1, 4, 2, 4)
    maps[0, 0, 0] = torch.tensor([1.0, 2, 3, 4])
    maps[0, 1] = 5 * maps[0, 0]
    maps[0, 2, 1] = 1  # where 0 and 1 are silent
    maps[0, 3] = 1
    number, together, apart = contrasting_pairs(gram_matrix(maps)[0])
    assert {number, together} == {0, 1}
    assert apart == 2


def test_a_silent_filter_is_no_trouble():
    maps = maps_of()
    maps[0, 2] = 0
    pairs = contrasting_pairs(gram_matrix(maps)[0])
    assert pairs.apart == 2
    draw_pairs(maps, Pairs(2, 0, 1))


@pytest.mark.parametrize("gram", [torch.ones(3, 4), torch.ones(2, 2), [[1.0]]])
def test_what_is_no_gram_matrix_is_refused(gram):
    with pytest.raises(ValueError, match="Gram matrix"):
        contrasting_pairs(gram)


def test_titles_of_the_products_say_the_entries_and_both_have_one_scale():
    maps, pairs = maps_of(), Pairs(0, 3, 4)
    axes = draw_pairs(maps, pairs).axes
    gram = gram_matrix(maps)[0]
    for ax, other in ((axes[2], 3), (axes[5], 4)):
        assert ax.get_title().endswith(f"= {gram[0, other]:.2f}")
        drawn = torch.tensor(ax.images[0].get_array())
        torch.testing.assert_close(drawn, maps[0, 0] * maps[0, other])
    assert axes[2].images[0].get_clim() == axes[5].images[0].get_clim()


def test_two_gram_matrices_have_one_scale_and_axes_with_names():
    before, after = maps_of(), 3 * maps_of(seed=1)
    figure = draw_shuffled(before, after, 2, ("one", "two"))
    matrices = [ax for ax in figure.axes if ax.get_xlabel() == "filter j"]
    assert len(matrices) == 2
    for ax, maps in zip(matrices, (before, after), strict=True):
        drawn = torch.tensor(ax.images[0].get_array())
        torch.testing.assert_close(drawn.square(), gram_matrix(maps)[0], rtol=1e-4, atol=1e-5)
        assert ax.images[0].get_clim() == matrices[0].images[0].get_clim()
    assert [t for t in ("one", "two") if figure.axes[0].get_title().startswith(t)] == ["one"]


def test_as_png_keeps_every_pixel():
    figure = draw_pairs(maps_of(), Pairs(0, 1, 2))
    picture = Image.open(io.BytesIO(as_png(figure, dpi=50).data))
    assert picture.format == "PNG"
    assert picture.size == tuple(int(50 * inches) for inches in figure.get_size_inches())


def test_as_png_with_few_colours_is_nearly_the_same_picture_in_a_smaller_file():
    figure = draw_pairs(maps_of(), Pairs(0, 1, 2))
    full, few = (as_png(figure, dpi=50, colours=colours).data for colours in (None, 256))
    assert len(few) < 0.8 * len(full)
    pictures = [Image.open(io.BytesIO(data)).convert("RGB") for data in (full, few)]
    assert pictures[0].size == pictures[1].size
    difference = np.abs(np.subtract(*[np.asarray(p, dtype=float) for p in pictures]))
    assert difference.mean() < 2
    assert len(pictures[1].getcolors(257)) <= 256
    assert figure.dpi != 50
