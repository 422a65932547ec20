"""What people have for an image: pictures and arrays, taken or refused by name."""

import re

import numpy as np
import pytest
import torch

from helpers import make_picture
from nst_helpers import Result, StyleTransferLoss, _convert, optimize, show_images, to_pil

IMAGE = make_picture(20, 30)
PICTURE = to_pil(IMAGE)
ROUNDED = torch.from_numpy(np.array(PICTURE, dtype=np.float32) / 255).permute(2, 0, 1)[None]
WHAT_PEOPLE_HAVE = {
    "picture": PICTURE,
    "array of 0 to 255": np.array(PICTURE),
    "array of 0 to 1": np.array(PICTURE) / 255,
}


@pytest.mark.parametrize("have", WHAT_PEOPLE_HAVE)
def test_pictures_and_arrays_are_taken_for_images(have):
    value = WHAT_PEOPLE_HAVE[have]
    torch.testing.assert_close(_convert.image("start", value), ROUNDED, rtol=0, atol=1e-6)
    (one,) = _convert.images("style", value)
    first, second = _convert.images("style", [value, IMAGE])
    shown = _convert.each("images", [value, IMAGE[0]], (0, 1))
    for image in (one, first, shown[0], *_convert.each("images", value, (0, 1))):
        torch.testing.assert_close(image, ROUNDED, rtol=0, atol=1e-6)
    assert second is IMAGE
    assert torch.equal(shown[1], IMAGE)


@pytest.mark.parametrize("have", WHAT_PEOPLE_HAVE)
def test_a_loss_a_run_and_a_figure_take_what_people_have(net, have):
    value, layers = WHAT_PEOPLE_HAVE[have], {"content_layers": "relu2_2", "style_layers": "relu2_1"}
    results = [
        optimize(StyleTransferLoss(net, x, [1 - IMAGE], **layers), x, steps=3)
        for x in (value, _convert.image("start", value))
    ]
    assert torch.equal(results[0].image, results[1].image)
    assert len(show_images([value, IMAGE])) == 2


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "chelsea",
            "start must be an image (B, 3, H, W); got 'chelsea': read a file with load_image",
        ),
        (b"chelsea", "read a file with load_image first"),
        (
            np.zeros((2, 2, 9)),
            "start must be an image (B, 3, H, W); got an array of shape (2, 2, 9)",
        ),
        (np.array(["x"]), "start must be an image (B, 3, H, W); got an array of shape (1,)"),
        (np.float64(3), "start must be an image (B, 3, H, W); got np.float64(3.0)"),
        (np.full((4, 4, 3), 200.0), "start must be an image"),
        (object, "start must be an image (B, 3, H, W); got <class 'object'>"),
        (IMAGE * 255, "start must have values in [0, 1]"),
    ],
)
def test_what_is_no_image_is_refused_by_its_name(value, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        _convert.image("start", value)


def test_in_a_list_the_one_that_is_wrong_is_named(net):
    for call in (lambda x: _convert.images("style", x), lambda x: StyleTransferLoss(net, style=x)):
        with pytest.raises(ValueError, match=r"style\[1\] must be an image .* got 'a\.jpg'"):
            call([IMAGE, "a.jpg"])
    with pytest.raises(ValueError, match=r"style must be an image .* or a list of them; got \[\]"):
        _convert.images("style", [])
    with pytest.raises(ValueError, match=r"images\[1\] must be one RGB image.*\(2, 3, 20, 30\)"):
        show_images([IMAGE, torch.cat([IMAGE, IMAGE])])


@pytest.mark.parametrize("bad", [IMAGE * 255, (IMAGE * 255).byte(), IMAGE * torch.nan])
def test_a_start_content_or_style_in_another_range_is_refused(net, bad):
    layers = {"content_layers": "relu2_2", "style_layers": "relu2_1"}
    loss = StyleTransferLoss(net, IMAGE, IMAGE, **layers)
    calls = {
        "content": lambda: StyleTransferLoss(net, bad, IMAGE, **layers),
        "style": lambda: StyleTransferLoss(net, IMAGE, bad, **layers),
        "start": lambda: optimize(loss, bad, steps=1),
        "start ": lambda: optimize(loss, Result(bad), steps=1),
        "image": lambda: loss(bad),
        "images": lambda: net(bad, ["relu1_1"]),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=rf"{name.strip()} (must|has)"):
            call()
