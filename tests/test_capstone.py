"""The capstone's check: a transfer is right by its picture; each way to go wrong has its hint."""

import re

import pytest
import torch

import nst_helpers as nst
from nst_helpers.lesson.capstone import check_transfer


def descend(net, content, style, start, alpha=0.05, beta=1.0, steps=60, rate=0.05):
    """What somebody writes in the exercise, and what goes wrong with other numbers."""
    with torch.no_grad():
        wanted = net(content, ["relu4_2"])["relu4_2"]
        grams = {layer: nst.gram_matrix(f) for layer, f in net(style, nst.STYLE_LAYERS).items()}
    image = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([image], lr=rate)
    for _ in range(steps):
        maps = net(image, [*nst.STYLE_LAYERS, "relu4_2"])
        content_loss = ((maps["relu4_2"] - wanted) ** 2).mean()
        gaps = [
            ((nst.gram_matrix(maps[layer]) - gram) ** 2).mean() for layer, gram in grams.items()
        ]
        optimizer.zero_grad()
        (alpha * content_loss + beta * sum(gaps) / 5).backward()
        optimizer.step()
    return image.detach().clamp(0, 1)


def resized(style, content):
    return torch.nn.functional.interpolate(style, content.shape[2:])


def written_into(content, style, start):
    start.add_(0.1)
    return content


def painted_in_place(content, style, start):
    start.requires_grad_()
    return start.detach().clone()


@pytest.fixture(scope="module")
def bundled():
    return nst.load_network("bundled", precision="float32")


@pytest.fixture(scope="module")
def pair():
    return nst.load_image("coffee", 96), nst.load_image("stained_glass", 96)


def test_a_transfer_is_right(bundled, pair):
    def transfer(*images):
        return descend(bundled, *images)

    assert check_transfer(transfer, bundled, *pair).startswith("Right: ")


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"alpha": 0.0, "steps": 40}, "painting's texture: the content loss is"),
        ({"beta": 0.0, "steps": 20}, "of the photograph's own, and should be less than a quarter"),
    ],
)
def test_a_transfer_that_forgets_one_loss_is_told_which(bundled, pair, options, hint):
    def transfer(*images):
        return descend(bundled, *images, **options)

    assert re.search(hint, check_transfer(transfer, bundled, *pair))


@pytest.mark.parametrize(
    ("transfer", "hint"),
    [
        (lambda c, s, x: None, "must return the image, a tensor; it returned NoneType"),
        (lambda c, s, x: (x, 1), "it returned tuple"),
        (lambda c, s, x: x[..., :9], r"the start's shape \(1, 3, 96, 144\); got \(1, 3, 96, 9\)"),
        (lambda c, s, x: x * float("nan"), "not finite"),
        (lambda c, s, x: 3 * x - 1, r"outside \[0, 1\]: clip"),
        (written_into, "start itself was changed"),
        (painted_in_place, "start itself was changed"),
        (lambda c, s, x: x.clone(), "still the start"),
        (lambda c, s, x: torch.zeros_like(x), "both losses are higher"),
        (lambda c, s, x: c.clone(), "the style loss is 100% of the photograph's own"),
        (lambda c, s, x: resized(s, c), "this is the painting's texture"),
        (lambda c, s, x: c @ c, "<lambda> raises RuntimeError"),
    ],
)
def test_each_way_to_go_wrong_has_its_hint(bundled, pair, transfer, hint):
    message = check_transfer(transfer, bundled, *pair)
    assert message.startswith("Not yet: ")
    assert re.search(hint, message), message


def test_an_unchanged_stub_is_not_tried_yet(bundled, pair):
    def transfer(content, style, start):
        raise NotImplementedError

    message = check_transfer(transfer, bundled, *pair)
    assert message.startswith("Not tried yet: write transfer")


def test_pictures_of_any_size_are_judged_small_and_left_as_they_are(bundled):
    content, style = nst.load_image("coffee", 150), nst.load_image("stained_glass", 120)
    before = [image.clone() for image in (content, style)]
    shapes = []

    def transfer(*images):
        shapes.extend(tuple(image.shape[2:]) for image in images)
        for image in images:
            image.zero_()
        return images[0]

    assert "content itself was changed" in check_transfer(transfer, bundled, content, style)
    assert shapes == [(96, 144), (96, 120), (96, 144)]
    assert all(torch.equal(a, b) for a, b in zip(before, (content, style), strict=True))
