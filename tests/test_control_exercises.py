"""Notebook 06's exercises: solutions are called right, each common mistake gets its own hint."""

from functools import partial

import pytest
import torch

import nst_helpers as nst
from nst_helpers.control.colors import match_colors
from nst_helpers.lesson import control_exercises as exercises


def guided(features, masks):
    roots = (masks / masks.sum((2, 3), keepdim=True)).sqrt()
    maps = (roots.unsqueeze(2) * features.unsqueeze(1)).flatten(3)
    return maps @ maps.mT


def unguided(features, masks):
    return nst.gram_matrix(features).unsqueeze(1).expand(-1, masks.shape[1], -1, -1)


def weighted(features, masks, power=1):
    maps = masks.pow(power).unsqueeze(2) * features.unsqueeze(1)
    return maps.flatten(3) @ features.unsqueeze(1).flatten(3).mT


def pixels(*images):
    return [image.flatten(2)[0] for image in images]


def root(matrix, exponent=0.5):
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values**exponent) @ vectors.T


def linear(matrix, offset=None):
    """Return a function that multiplies centred colours by matrix(S, T)."""

    def recolour(style, content):
        x, y = pixels(style, content)
        centred = x - x.mean(1, keepdim=True)
        add = y.mean(1, keepdim=True) if offset is None else offset(x, y)
        return (matrix(torch.cov(x), torch.cov(y)) @ centred + add).view_as(style)

    return recolour


def cholesky(s, t):
    return torch.linalg.cholesky(t) @ torch.linalg.inv(torch.linalg.cholesky(s))


def by_channel(s, t):
    return torch.diag((t.diagonal() / s.diagonal()).sqrt())


RIGHT = [
    ("guided_gram", guided),
    ("guided_gram", lambda f, m: nst.gram_matrix(f, masks=m)),
    ("match_colours", linear(cholesky)),
    ("match_colours", linear(lambda s, t: root(t) @ root(s, -0.5))),
    ("match_colours", lambda x, y: x + (linear(cholesky)(x, y) - x)),
]
MISTAKES = [
    # exercise, what somebody may write, what the hint must say
    ("guided_gram", lambda f, m: weighted(f, m) / 8, "not by H * W"),
    ("guided_gram", weighted, "unscaled: divide"),
    (
        "guided_gram",
        lambda f, m: weighted(f, m, 2) / m.sum((2, 3))[..., None, None],
        "counts as its square: give each factor its root",
    ),
    (
        "guided_gram",
        lambda f, m: weighted(f, m, 2) / m.square().sum((2, 3))[..., None, None],
        "squares add up to 1",
    ),
    ("guided_gram", lambda f, m: weighted(f, m, 2), "square, and the numbers are unscaled"),
    ("guided_gram", lambda f, m: guided(f, m) / 8, "divided twice"),
    ("guided_gram", lambda f, m: guided(f, m) / 3, "not by the filters"),
    ("guided_gram", lambda f, m: guided(f, m).sum(1), "regions are added up"),
    ("guided_gram", lambda f, m: guided(f, m).sum(0), "images of the batch"),
    ("guided_gram", unguided, "mask is left out"),
    ("guided_gram", lambda f, m: nst.gram_matrix(f), "multiply each position"),
    ("guided_gram", lambda f, m: guided(f, m)[:, :1], "expected shape (2, 2, 3, 3)"),
    ("guided_gram", lambda f, m: guided(f, m).detach(), "cut off from autograd"),
    ("guided_gram", lambda f, m: f @ m, "raises RuntimeError"),
    ("guided_gram", lambda f, m: None, "returned NoneType"),
    ("match_colours", lambda x, y: 1 * x, "as it was"),
    ("match_colours", linear(lambda s, t: torch.eye(3)), "now the covariance"),
    ("match_colours", linear(cholesky, lambda x, y: 0), "the mean is not"),
    ("match_colours", linear(cholesky, lambda x, y: x.mean(1, keepdim=True)), "image's own"),
    (
        "match_colours",
        lambda x, y: (
            root(torch.cov(y.flatten(2)[0]))
            @ root(torch.cov(x.flatten(2)[0]), -0.5)
            @ x.flatten(2)[0]
            + y.mean((2, 3)).T
        ).view_as(x),
        "subtract the image's mean",
    ),
    ("match_colours", linear(by_channel), "vary together"),
    ("match_colours", linear(lambda s, t: t @ torch.linalg.inv(s)), "take roots"),
    ("match_colours", linear(lambda s, t: root(s, -0.5) @ root(t)), "first S^(-1/2)"),
    (
        "match_colours",
        linear(lambda s, t: torch.linalg.inv(torch.linalg.cholesky(s)) @ torch.linalg.cholesky(t)),
        "first L_S^-1",
    ),
    ("match_colours", linear(lambda s, t: root(s) @ root(t, -0.5)), "the other way"),
    ("match_colours", linear(lambda s, t: root(s, -0.5)), "white"),
    ("match_colours", lambda x, y: x.flatten(2)[0], "expected shape (1, 3, 4, 6); got (3, 24)"),
    ("match_colours", lambda x, y: y * 0.5 + x.mean(), "expected shape"),
    ("match_colours", lambda x, y: x.tolist(), "returned list"),
    ("match_colours", lambda x, y: x * 7, "one of the numbers is off"),
    ("match_colours", lambda x, y: x @ y, "raises RuntimeError"),
]


@pytest.mark.parametrize(("name", "function"), RIGHT)
def test_solutions_are_right(name, function):
    assert getattr(exercises, f"check_{name}")(function).startswith("Right: ")


@pytest.mark.parametrize("method", ["symmetric", "eigenvalue", "cholesky"])
def test_every_rotation_of_matched_colours_is_right(method):
    line = exercises.check_match_colours(partial(match_colors, method=method, clip=False))
    assert line.startswith("Right: your function")


@pytest.mark.parametrize(("name", "function", "hint"), MISTAKES)
def test_common_mistakes_get_their_own_hint(name, function, hint):
    line = getattr(exercises, f"check_{name}")(function)
    assert line.startswith("Not yet: ")
    assert hint in line, line


@pytest.mark.parametrize("name", exercises.__all__)
def test_an_exercise_not_tried_is_no_error(name):
    def stub(*_):
        raise NotImplementedError

    line = getattr(exercises, name)(stub)
    assert line == "Not tried yet: write stub, and run this cell again. Or go on without."
