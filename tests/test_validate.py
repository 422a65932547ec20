"""Every check of an argument: what it returns, and that it names what is wrong."""

import math
import re

import numpy as np
import pytest
import torch

from nst_helpers import _validate

INFINITE = (math.nan, math.inf, -math.inf)
NO_NUMBERS = ("3", None, True, [1], 1j, torch.ones(()))
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
        (_validate.positive_number, 1e-9, 1e-9),
        (_validate.positive_number, np.float32(0.5), 0.5),
        (number_at_least_2, 2, 2.0),
        (number_between_2_and_3, 2, 2.0),
        (number_between_2_and_3, 3.0, 3.0),
        (one_of_two, "max", "max"),
        (weight, 2, 2.0),
        (weight, 0.0, 0.0),
        (weights_of_two, None, {"a": 0.5, "b": 0.5}),
        (weights_of_two, {"b": 3}, {"a": 0.0, "b": 3.0}),
        (weights_of_two, iter([1, 2]), {"a": 1.0, "b": 2.0}),
    ],
)
def test_good_values_are_returned(validate, value, expected):
    result = validate("size", value)
    assert result == expected
    assert type(result) is type(expected)


def test_a_good_image_is_returned_as_it_is():
    assert _validate.image("start", IMAGE) is IMAGE


def test_several_weights_are_a_tensor():
    weights = weight("alpha", [1, 0.5])
    torch.testing.assert_close(weights, torch.tensor([1.0, 0.5]))


def test_names_are_a_tuple_even_of_a_single_one():
    assert _validate.names("relu1_1") == ("relu1_1",)
    assert _validate.names(iter(["relu1_1", "pool1"])) == ("relu1_1", "pool1")


@pytest.mark.parametrize(
    ("validate", "values", "requirement"),
    [
        (_validate.positive_int, (0, -5, 2.5, 3.0, *INFINITE, *NO_NUMBERS), "a whole number, 1 or"),
        (_validate.positive_number, (0, -0.5, *INFINITE, *NO_NUMBERS), "a number > 0"),
        (number_at_least_2, (1.99, -3, *INFINITE, *NO_NUMBERS), "a number >= 2"),
        (number_between_2_and_3, (1.99, 3.01, *INFINITE, *NO_NUMBERS), "a number from 2 to 3"),
        (one_of_two, ("mean", "", None, 1, ["avg"]), "one of avg, max"),
        (weight, (-1, -1e-9, *INFINITE, [1, -1], [math.nan], [[1.0]]), "a number >= 0"),
    ],
)
def test_a_bad_value_is_named_with_what_it_must_be_and_what_it_was(validate, values, requirement):
    for value in values:
        with pytest.raises(ValueError, match=re.escape(f"size must be {requirement}")) as caught:
            validate("size", value)
        assert str(caught.value).endswith(f"; got {value!r}")


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (IMAGE[0], "(3, 4, 5)"),
        (IMAGE[:, :1], "(2, 1, 4, 5)"),
        ("chelsea", "'chelsea'"),
        (None, "None"),
        ([1, 2], "[1, 2]"),
    ],
)
def test_what_is_no_image_is_named_with_its_shape(value, got):
    message = f"start must be an image (B, 3, H, W); got {got}"
    with pytest.raises(ValueError, match=re.escape(message)):
        _validate.image("start", value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
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
