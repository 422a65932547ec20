"""The exercises: a solution is called right, each common mistake gets its own hint."""

import re
from pathlib import Path

import nbformat
import pytest
import torch

import nst_helpers as nst
from nst_helpers.lesson import exercises
from nst_helpers.network.features import IMAGENET_MEAN, IMAGENET_STD

MEAN = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
STD = torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
LUMA = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)


def gram(f, scale=True):
    f = f.flatten(2)
    return f @ f.mT / (f.shape[2] if scale else 1)


def mixed_gram(f):
    f = f.reshape(f.shape[0] * f.shape[1], -1)
    return f @ f.T / f.shape[1]


def luminance(x):
    return (LUMA * x).sum(1, keepdim=True)


SOLUTIONS = {
    "im_convert": lambda x: (x * STD + MEAN).clamp(0, 1),
    "content_loss": lambda f, p: ((f - p) ** 2).mean(dim=(1, 2, 3)),
    "gram_matrix": lambda f: torch.einsum("bnhw,bmhw->bnm", f, f) / (f.shape[2] * f.shape[3]),
    "style_loss": lambda f, p: ((gram(f) - gram(p)) ** 2).mean(dim=(1, 2)),
    "total_loss": lambda content, style, alpha, beta: alpha * content + beta * style,
    "ratio_from_paper": lambda r, n, m: 2 * n * m * r,
    "keep_colours": lambda r, c: c + luminance(r) - luminance(c),
    "weighted_style": lambda e, w: torch.einsum("lb,l->b", e, w),
}
MISTAKES = [
    # exercise, what somebody may write, what the hint must say
    ("weighted_style", lambda e, w: (w[:, None] * e).sum(), "over the batch too"),
    ("weighted_style", lambda e, w: (w[:, None] * e).sum(1), "one number for each layer"),
    ("weighted_style", lambda e, w: (w[:, None] * e).mean(0), "averaged over the layers"),
    ("weighted_style", lambda e, w: w @ e / w.sum(), "divided by the sum"),
    ("weighted_style", lambda e, w: e.sum(0), "weights are left out"),
    ("weighted_style", lambda e, w: w[:, None] * e, "not summed"),
    ("im_convert", lambda x: x * STD + MEAN, "clip"),
    ("im_convert", lambda x: ((x + MEAN) * STD).clamp(0, 1), "order"),
    ("im_convert", lambda x: ((x - MEAN) / STD).clamp(0, 1), "second time"),
    ("im_convert", lambda x: (x + MEAN).clamp(0, 1), "divided by STD"),
    ("im_convert", lambda x: (x * STD.view(3) + MEAN.view(3)).clamp(0, 1), "raises RuntimeError"),
    ("content_loss", lambda f, p: ((f - p) ** 2).mean(), "batch are mixed"),
    ("content_loss", lambda f, p: ((f - p) ** 2).sum((1, 2, 3)), "summed instead of averaged"),
    ("content_loss", lambda f, p: ((f - p) ** 2).sum(), "batch too"),
    ("content_loss", lambda f, p: ((f - p) ** 2).sum((1, 2, 3)) / 2, "equation 1"),
    ("content_loss", lambda f, p: (f - p).mean((1, 2, 3)), "square the differences"),
    ("content_loss", lambda f, p: (f - p).abs().mean((1, 2, 3)), "absolute value"),
    ("content_loss", lambda f, p: ((f - p) ** 2).mean(1), "positions too"),
    ("content_loss", lambda f, p: ((f - p) ** 2).mean((1, 2, 3)).sqrt(), "root"),
    ("gram_matrix", lambda f: gram(f, scale=False), "unscaled: divide"),
    ("gram_matrix", lambda f: f.flatten(2).mT @ f.flatten(2) / 8, "transposed"),
    ("gram_matrix", lambda f: f.flatten(2).mT @ f.flatten(2), "transposed.*unscaled"),
    ("gram_matrix", mixed_gram, "batch are mixed"),
    ("gram_matrix", lambda f: mixed_gram(f) * 8, "mixed, and.*unscaled"),
    ("gram_matrix", lambda f: torch.einsum("bnhw,bmhw->nm", f, f) / 8, "summed over the batch"),
    ("gram_matrix", lambda f: gram(f).mean(0), "averaged over the batch"),
    ("gram_matrix", lambda f: gram(f) / f.shape[1], "too much"),
    ("gram_matrix", lambda f: gram(f - f.mean((2, 3), keepdim=True)), "covariance"),
    ("style_loss", lambda f, p: ((gram(f) - gram(p)) ** 2).mean(), "batch are mixed"),
    ("style_loss", lambda f, p: ((gram(f) - gram(p)) ** 2).sum((1, 2)), "summed instead"),
    ("style_loss", lambda f, p: ((gram(f) - gram(p)) ** 2).sum(), "batch too"),
    (
        "style_loss",
        lambda f, p: ((gram(f, False) - gram(p, False)) ** 2).mean((1, 2)),
        "unscaled",
    ),
    ("style_loss", lambda f, p: ((gram(f) - gram(p, False) / 8) ** 2).mean((1, 2)), "own H"),
    ("style_loss", lambda f, p: (gram(f) - gram(p)).mean((1, 2)), "square"),
    ("style_loss", lambda f, p: ((gram(f) - gram(p)) ** 2).mean((1, 2)) / 4, "equation 4"),
    ("total_loss", lambda c, s, a, b: b * c + a * s, "exchanged"),
    ("total_loss", lambda c, s, a, b: (a * c + b * s).sum(), "batch are mixed"),
    ("total_loss", lambda c, s, a, b: (a * c + b * s).mean(), "averaged over the batch"),
    ("total_loss", lambda c, s, a, b: a / b * c + s, "ratio"),
    ("total_loss", lambda c, s, a, b: c + s, "unscaled"),
    ("ratio_from_paper", lambda r, n, m: r / (2 * n * m), "wrong way round"),
    ("ratio_from_paper", lambda r, n, m: r * n * m / 2, "style loss has a constant"),
    ("ratio_from_paper", lambda r, n, m: r * n * m * 4, "a half in front"),
    ("ratio_from_paper", lambda r, n, m: r * n * m / 8, "makes it larger"),
    ("ratio_from_paper", lambda r, n, m: r * n * m, "a half divided"),
    ("ratio_from_paper", lambda r, n, m: 2 * m * r, "N filters, too"),
    ("ratio_from_paper", lambda r, n, m: 2 * n * r, "M positions, too"),
    ("ratio_from_paper", lambda r, n, m: r * 1, "conventions differ"),
    ("keep_colours", lambda r, c: r + luminance(c) - luminance(r), "exchanged"),
    ("keep_colours", lambda r, c: c + luminance(r), "counts twice"),
    ("keep_colours", lambda r, c: luminance(r).expand(2, 3, 2, 4), "grey"),
    ("keep_colours", lambda r, c: c - luminance(r) + luminance(c), "wrong sign"),
    ("keep_colours", lambda r, c: c + (r - c).mean(1, keepdim=True), "green"),
    ("keep_colours", lambda r, c: c + LUMA * (r - c), "not added up"),
]


KEYS = [(name, getattr(nst, name)) for name in ("content_loss", "gram_matrix", "style_loss")]


def check(exercise, function):
    return getattr(exercises, f"check_{exercise}")(function)


def test_every_check_is_tested_here():
    assert {f"check_{exercise}" for exercise in SOLUTIONS} == set(exercises.__all__)


@pytest.mark.parametrize(("exercise", "function"), [*SOLUTIONS.items(), *KEYS])
def test_a_solution_and_the_packages_own_function_are_right(exercise, function):
    assert check(exercise, function).startswith("Right: ")


@pytest.mark.parametrize(("exercise", "function", "hint"), MISTAKES)
def test_a_common_mistake_gets_its_hint(exercise, function, hint):
    message = check(exercise, function)
    assert message.startswith("Not yet: ")
    assert re.search(hint, message), message


@pytest.mark.parametrize("exercise", SOLUTIONS)
def test_different_answers_get_different_messages(exercise):
    functions = [SOLUTIONS[exercise], *(f for e, f, _ in MISTAKES if e == exercise)]
    messages = [check(exercise, function) for function in functions]
    assert len(set(messages)) == len(messages)


@pytest.mark.parametrize("exercise", SOLUTIONS)
def test_an_unchanged_stub_is_not_tried_yet(exercise):
    def my_answer(*arguments):
        raise NotImplementedError

    assert check(exercise, my_answer).startswith("Not tried yet: write my_answer")


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (None, "must return a tensor; it returned NoneType"),
        (1.5, "it returned float"),
        (torch.zeros(3, 3, 3), r"expected shape \(2,\); got \(3, 3, 3\)"),
        (torch.tensor([1e3, 1e3]), "off by 9"),
        (torch.tensor([float("nan"), 1.0]), "off by nan"),
    ],
)
def test_any_other_answer_is_described(answer, hint):
    message = check("content_loss", lambda f, p: answer)
    assert message.startswith("Not yet: ")
    assert re.search(hint, message), message


def test_an_exception_of_the_function_is_reported_not_raised():
    message = check("gram_matrix", lambda f: f @ f)
    assert message.startswith("Not yet: <lambda> raises RuntimeError: ")


@pytest.mark.parametrize("exercise", SOLUTIONS)
def test_an_answer_detached_from_autograd_is_not_right_yet(exercise):
    message = check(exercise, lambda *arguments: SOLUTIONS[exercise](*arguments).detach())
    assert "cut off from autograd" in message


def test_an_answer_in_double_precision_is_right():
    message = check("gram_matrix", lambda f: SOLUTIONS["gram_matrix"](f.double()))
    assert message.startswith("Right")


# --- the solutions that the notebooks fold away -------------------------------------------------


def folded(stem, names):
    """What the code in a notebook's folds defines, given the names of its other cells."""
    path = Path(__file__).parents[1] / "notebooks" / f"{stem}.ipynb"
    cells = nbformat.read(path, as_version=4).cells
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    namespace = {"torch": torch, "nst": nst, **names}
    for fold in re.findall(r"<details>(.*?)</details>", prose, re.DOTALL):
        for code in re.findall(r"```python\n(.*?)```", fold, re.DOTALL):
            exec(code, namespace)
    return namespace


@pytest.mark.parametrize(
    ("stem", "solution", "exercise"),
    [
        ("04_style_transfer", "keep_colours", "keep_colours"),
        ("05_sliders", "mix", "weighted_style"),
    ],
)
def test_a_folded_solution_is_right(stem, solution, exercise):
    answer = folded(stem, {"luminance": luminance})[solution]
    assert check(exercise, answer).startswith("Right: ")


def test_the_folded_transfer_is_right():
    net = nst.load_network("bundled", precision="float32")
    transfer = folded("04_style_transfer", {"net": net})["transfer"]
    pair = nst.load_image("coffee", 96), nst.load_image("stained_glass", 96)
    assert exercises.check_transfer(transfer, net, *pair).startswith("Right: ")
