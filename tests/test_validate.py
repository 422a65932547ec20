"""Every check of an argument: what it returns, and that it names what is wrong."""

import math
import re
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import make_weights
from nst_helpers import _validate
from nst_helpers.files.sources import brief
from nst_helpers.network.convolutions import validate_convolutions

INFINITE = (math.nan, math.inf, -math.inf)
NO_NUMBERS = ("3", None, True, [1], 1j, np.True_, torch.tensor(True), object, lambda: 1)
IMAGE = torch.zeros(2, 3, 4, 5)


def weight(name, value):
    return _validate.weight(name, value, torch.device("cpu"))


def number_at_least_2(name, value):
    return _validate.number_at_least(name, value, 2)


def number_between_2_and_3(name, value):
    return _validate.number_between(name, value, 2, 3)


def one_of_two(name, value):
    return _validate.one_of(name, value, ("avg", "max"))


def weights_of_two(name, value):
    return _validate.weights_by_name(name, value, ("a", "b"))


@pytest.mark.parametrize(
    ("validate", "value", "expected"),
    [
        (_validate.positive_int, 1, 1),
        (_validate.positive_int, np.int64(7), 7),
        (_validate.positive_int, np.array(7), 7),
        (_validate.positive_int, torch.tensor(7), 7),
        (_validate.positive_int, 2**63 - 1, 2**63 - 1),
        (_validate.positive_number, 1e-9, 1e-9),
        (_validate.positive_number, np.float32(0.5), 0.5),
        (_validate.positive_number, torch.tensor(0.5), 0.5),
        (_validate.positive_number, Fraction(1, 2), 0.5),
        (_validate.flag, np.False_, False),
        (_validate.shape_of_images, iter([1, 3, 4, 5]), (1, 3, 4, 5)),
        (number_at_least_2, 2, 2.0),
        (number_between_2_and_3, 2, 2.0),
        (number_between_2_and_3, 3.0, 3.0),
        (one_of_two, "max", "max"),
        (weight, 2, 2.0),
        (weight, 0.0, 0.0),
        (weights_of_two, None, {"a": 0.5, "b": 0.5}),
        (weights_of_two, {"b": 3}, {"a": 0.0, "b": 3.0}),
        (weights_of_two, iter([1, 2]), {"a": 1.0, "b": 2.0}),
        (weights_of_two, np.array([1, 2]), {"a": 1.0, "b": 2.0}),
    ],
)
def test_good_values_are_returned(validate, value, expected):
    result = validate("size", value)
    assert result == expected
    assert type(result) is type(expected)


def test_a_good_image_is_returned_as_it_is_or_in_float32():
    assert _validate.image("start", IMAGE) is IMAGE
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        assert torch.equal(_validate.image("start", IMAGE.to(dtype)), IMAGE)


def test_several_weights_are_a_tensor():
    weights = weight("alpha", [1, 0.5])
    torch.testing.assert_close(weights, torch.tensor([1.0, 0.5]))


def test_names_are_a_tuple_even_of_a_single_one():
    assert _validate.names("layers", "relu1_1") == ("relu1_1",)
    for names in (iter(["relu1_1", "pool1"]), {"relu1_1": 1, "pool1": 2}):
        assert _validate.names("layers", names) == ("relu1_1", "pool1")


@pytest.mark.parametrize(
    ("validate", "values", "requirement"),
    [
        (_validate.positive_int, (0, -5, 2.5, 3.0, *INFINITE, *NO_NUMBERS), "a whole number, 1 or"),
        (_validate.positive_number, (0, -0.5, *INFINITE, *NO_NUMBERS), "a number > 0"),
        (number_at_least_2, (1.99, -3, *INFINITE, *NO_NUMBERS), "a number >= 2"),
        (number_between_2_and_3, (1.99, 3.01, *INFINITE, *NO_NUMBERS), "a number from 2 to 3"),
        (_validate.positive_int, (2**63, 10**400), f"a whole number, at most {2**63 - 1}"),
        (_validate.positive_number, (1e308, 10**400), "a number > 0, at most 3.4e+38"),
        (one_of_two, ("mean", "", None, 1, ["avg"]), "one of avg, max"),
        (weight, (-1, -1e-9, *INFINITE, [1, -1], [math.nan], [[1.0]], [], "1"), "a number >= 0"),
        (_validate.flag, (None, 1, "yes"), "True or False"),
        (_validate.shape_of_images, ((1, 3, 4), (1, 4, 4, 4), 3, "1344"), "the shape of images"),
    ],
)
def test_a_bad_value_is_named_with_what_it_must_be_and_what_it_was(validate, values, requirement):
    for value in values:
        with pytest.raises(ValueError, match=re.escape(f"size must be {requirement}")) as caught:
            validate("size", value)
        assert f"; got {_validate.shown(value)}" in str(caught.value)


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (IMAGE[0], "; got a tensor of shape (3, 4, 5)"),
        (IMAGE[:, :1], "; got a tensor of shape (2, 1, 4, 5)"),
        (IMAGE[:0], " that is not empty; got a tensor of shape (0, 3, 4, 5)"),
        (IMAGE[..., :0], " that is not empty; got a tensor of shape (2, 3, 4, 0)"),
        (
            IMAGE.expand(2, 3, 4, 5).byte(),
            " of floats; got a tensor of shape (2, 3, 4, 5), uint8: ",
        ),
        (
            IMAGE.long(),
            " of floats; got a tensor of shape (2, 3, 4, 5), int64: turn it into floats",
        ),
        (IMAGE > 0, " of floats; got a tensor of shape (2, 3, 4, 5), bool"),
        (IMAGE * 1j, " of floats; got a tensor of shape (2, 3, 4, 5), complex64"),
        (IMAGE.to_sparse(), ", an ordinary tensor with values; got a sparse tensor of shape"),
        (IMAGE.to("meta"), ", an ordinary tensor with values; got a meta tensor of shape"),
        (
            torch.quantize_per_tensor(IMAGE, 0.1, 0, torch.quint8),
            ", an ordinary tensor with values; got a quantised tensor of shape (2, 3, 4, 5)",
        ),
        (IMAGE[:1].expand(10**12, 3, 4, 5), " that fits into memory; got a tensor of shape (10000"),
        (np.zeros((4, 5, 3)), "; got an array of shape (4, 5, 3), float64"),
        ("chelsea", "; got 'chelsea'"),
        (None, "; got None"),
        ([1, 2], "; got [1, 2]"),
    ],
)
def test_what_is_no_image_is_named_with_its_shape_and_kind(value, got):
    message = f"start must be an image (B, 3, H, W){got}"
    with pytest.raises(ValueError, match=re.escape(message)):
        _validate.image("start", value)


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (0, 255, "start must have values in [0, 1]; got 0 to 255: divide by 255"),
        (0, 65535, "start must have values in [0, 1]; got 0 to 6.554e+04: divide by 65535"),
        (-2.1, 2.6, "start must have values in [0, 1]; got -2.1 to 2.6: undo what normalised it"),
        (-1, 1, "start must have values in [0, 1]; got -1 to 1: undo what normalised it"),
        (0, 1e30, "start must have values in [0, 1]; got 0 to 1e+30"),
        (0, math.inf, "start has values that are not finite"),
        (-math.inf, 1, "start has values that are not finite"),
        (0, math.nan, "start has values that are not finite"),
    ],
)
def test_an_image_in_another_range_is_refused_with_the_range_found(low, high, message):
    image = IMAGE.clone()
    image[0, 0, 0, 0], image[1, 2, 3, 4] = low, high
    with pytest.raises(ValueError, match=re.escape(message)):
        _validate.image("start", image)
    assert _validate.image("start", IMAGE - 0.5) is not None  # what bicubic resizing overshoots
    assert _validate.image("start", IMAGE + 1.5) is not None


def test_messages_are_short_whatever_came():
    class Awkward:
        def __repr__(self):
            raise ZeroDivisionError

    values = ["x" * 9999, 10**5000, list(range(9999)), np.zeros(9999), torch.zeros(9999), Awkward()]
    for value in [*values, torch.nn.Linear(3, 3)]:
        text = _validate.shown(value)
        assert len(text) < 200
        assert "\n" not in text
    assert _validate.shown(Awkward()) == "<Awkward>"


def test_a_message_says_the_same_in_each_run():
    for value in (object(), lambda: 0, math.sin.__call__, [object()], Image.new("L", (2, 2))):
        assert " at 0x" in repr(value)
        for shown in (_validate.shown, brief):
            assert " at 0x" not in shown(value)
    assert _validate.shown(object()) == brief(object()) == "<object object>"
    name = "seen at 0xff.jpg"
    assert _validate.shown(name) == brief(name) == repr(name)


def test_a_warning_names_the_line_that_called_the_package():
    with pytest.warns(UserWarning, match="look here") as caught:
        _validate.warn("look here")
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([], "weights must be a mapping of convB_I.weight"),
        ({}, "weights must be a mapping of convB_I.weight"),
        ({"fc.weight": 1}, "got the key 'fc.weight'"),
        ({"conv1_1.weight": torch.zeros(2, 3, 3, 3)}, "conv1_1.bias must be a tensor (out,); got"),
        ({"conv1_1.weight": torch.zeros(2, 3, 5, 5)}, "got a tensor of shape (2, 3, 5, 5)"),
        (
            make_weights((2, 2, 2, 2, 2)) | {"conv2_1.weight": torch.zeros(2, 9, 3, 3)},
            "take 2 chan",
        ),
        (
            make_weights((2, 2, 2, 2, 2)) | {"conv2_1.bias": torch.zeros(9)},
            "a bias for each filter",
        ),
    ],
)
def test_weights_that_are_no_convolutions_are_refused(weights, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        validate_convolutions("weights", weights)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "size must be 2 numbers, or a mapping of layers to them; got 3"),
        ("ab", "size must be 2 numbers, or a mapping of layers to them; got 'ab'"),
        ({1: 1, "z": 2}, "size must name some of a, b; got 1, z"),
        ([1, 2, 3], "size must be 2 numbers; got 3"),
        ([1], "size must be 2 numbers; got 1"),
        ({"z": 1, "a": 1, "y": 2}, "size must name some of a, b; got y, z"),
        ([1, -1], "the weight of b must be a number >= 0; got -1"),
        ([math.nan, 1], "the weight of a must be a number >= 0; got nan"),
        ({"a": math.inf}, "the weight of a must be a number >= 0; got inf"),
        ({"a": "1"}, "the weight of a must be a number >= 0; got '1'"),
    ],
)
def test_bad_weights_by_name_are_named(value, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        weights_of_two("size", value)


def test_targets_are_one_for_all_images_or_one_for_each():
    for targets in (IMAGE, IMAGE[:1]):
        _validate.same_batch(IMAGE, targets)
    for images, targets in ((IMAGE[:1], IMAGE), (IMAGE, IMAGE[[0, 1, 0]])):
        message = f"{targets.shape[0]} targets for {images.shape[0]} images"
        with pytest.raises(ValueError, match=message):
            _validate.same_batch(images, targets)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (3, "layers must be names; got 3"),
        (["relu1_1", 3], "layers must be names; got 3"),
        (b"relu1_1", "layers must be names; got b'relu1_1'"),
        (torch.zeros(2, 2), "layers must be names; got a tensor of shape (2, 2)"),
        (["a", "b", "a"], "layers must name each only once; got 'a' 2 times"),
    ],
)
def test_what_are_no_names_is_refused(names, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        _validate.names("layers", names)
