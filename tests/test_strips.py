"""Sums over strips of the feature maps against sums over the whole maps."""

import math

import pytest
import torch

from helpers import LAYERS, make_picture
from nst_helpers import Features
from nst_helpers.network.features import map_size
from nst_helpers.network.strips import reduce_in_strips, sums_in_strips, values_per_pixel

NAMED = ["relu1_1", "conv1_2", "pool1", "relu2_2", "pool3", "relu4_2", "conv5_1"]
HEIGHTS = pytest.mark.parametrize("height", [16, 127, 128, 129, 200, 257])


def weighted_sums(name, maps, rows):
    """Two sums, of which the first can tell one row from another."""
    assert rows.stop - rows.start == maps.shape[2]
    weights = torch.arange(rows.start, rows.stop).view(-1, 1).sqrt()
    return (maps * weights).sum((2, 3)), maps.square().sum((1, 2, 3))


def sums_of_whole_maps(net, image, layers, reduction):
    maps = net(image, layers)
    return {name: reduction(name, x, slice(0, x.shape[2])) for name, x in maps.items()}


@HEIGHTS
@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_sums_over_strips_and_their_gradient_are_those_of_whole_maps(weights, pooling, height):
    net, image = Features(weights, pooling), make_picture(height, 24)
    sums, gradients = [], []
    for reduce in (sums_of_whole_maps, reduce_in_strips):
        leaf = image.clone().requires_grad_()
        sums.append(reduce(net, leaf, NAMED, weighted_sums))
        total = sum((a.tanh().sum() + b.sqrt().sum()) for a, b in sums[-1].values())
        gradients.append(torch.autograd.grad(total, leaf)[0])
    assert list(sums[0]) == list(sums[1]) == NAMED
    for name in NAMED:
        torch.testing.assert_close(sums[1][name], sums[0][name], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("height", [63, 128, 200, 257])
def test_strips_cover_every_row_once_from_top_to_bottom(net, height):
    strips = {"relu1_2": [], "relu3_1": []}

    def reduction(name, maps, rows):
        strips[name].append(rows)
        return (maps.sum(),)

    with torch.no_grad():
        reduce_in_strips(net, make_picture(height, 24), strips, reduction)
    for name, rows in strips.items():
        covered = [row for strip in rows for row in range(strip.start, strip.stop)]
        assert covered == list(range(height if name == "relu1_2" else math.ceil(height / 4)))
    assert len(strips["relu1_2"]) == max(1, height // 64)


def test_only_the_named_layers_are_reduced(net, content):
    calls = []

    def reduction(name, maps, rows):
        calls.append((name, rows))
        return (maps.mean((2, 3)),)

    means = reduce_in_strips(net, content, ["relu3_1", "relu1_2"], reduction)
    assert calls == [("relu1_2", slice(0, 48)), ("relu3_1", slice(0, 12))]
    for name, maps in net(content, ["relu1_2", "relu3_1"]).items():
        torch.testing.assert_close(means[name][0], maps.mean((2, 3)))


@HEIGHTS
def test_sums_of_both_losses_are_those_of_whole_maps(net, height):
    images, other = make_picture(height, 24, batch=2), make_picture(height, 24, seed=1)
    content_layers, style_layers = ("relu2_2", "conv4_2"), ("relu1_1", "relu2_2")
    targets = net(other, content_layers)
    rows, columns = map_size("relu2_2", images.shape)
    masks = {"relu2_2": torch.rand(1, 2, rows, columns)}
    squares, products = sums_in_strips(net, images, targets, style_layers, masks)
    assert (tuple(squares), tuple(products)) == (content_layers, style_layers)
    maps = net(images, {*content_layers, *style_layers})
    for name in content_layers:
        expected = (maps[name] - targets[name]).square().sum((1, 2, 3))
        torch.testing.assert_close(squares[name], expected, rtol=1e-4, atol=1e-3)
    expected = torch.einsum("bihw,bjhw->bij", maps["relu1_1"], maps["relu1_1"])
    torch.testing.assert_close(products["relu1_1"], expected, rtol=1e-4, atol=1e-3)
    pair = maps["relu2_2"], maps["relu2_2"]
    expected = torch.einsum("rhw,bihw,bjhw->brij", masks["relu2_2"][0], *pair)
    torch.testing.assert_close(products["relu2_2"], expected, rtol=1e-4, atol=1e-3)


def test_values_per_pixel_are_those_of_the_maps(net):
    image = make_picture(64, 64)
    for deepest in ("relu1_1", "relu2_2", "pool3", "relu5_4"):
        up_to_deepest = LAYERS[: LAYERS.index(deepest) + 1]
        maps = net(image, [name for name in up_to_deepest if not name.startswith("conv")])
        expected = {name: values.numel() / 64**2 for name, values in maps.items()}
        assert values_per_pixel(net, [deepest]) == pytest.approx(expected)


def test_an_image_too_small_for_the_layers_is_refused(net):
    with pytest.raises(ValueError, match="too small for relu4_2"):
        reduce_in_strips(net, make_picture(7, 24), ["relu4_2"], weighted_sums)
