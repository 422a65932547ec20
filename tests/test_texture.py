"""Which pictures are no texture to a network, and what is said of them."""

import re
import warnings

import pytest
import torch

from helpers import make_picture, make_weights
from nst_helpers import Features, StyleTransferLoss, gram_matrix, noise_like
from nst_helpers.network.features import map_size


def messages(call):
    with warnings.catch_warnings(record=True) as records:
        warnings.simplefilter("always")
        call()
    assert all(record.filename == __file__ for record in records)
    return [str(record.message) for record in records]


@pytest.mark.parametrize("size", [(48, 64), (16, 96), (33, 20), (48, 48)])
@pytest.mark.parametrize("layers", [["relu1_1", "relu5_1"], ["relu4_1"], "relu5_4"])
def test_a_style_with_too_few_positions_is_warned_of_with_a_size_that_works(net, size, layers):
    picture = make_picture(*size)
    deepest = layers if isinstance(layers, str) else layers[-1]
    rows, columns = map_size(deepest, picture.shape)
    found = messages(lambda: StyleTransferLoss(net, style=picture, style_layers=layers))
    assert bool(found) == (rows * columns < 16)
    if found:
        assert f"a style has only {columns} x {rows} positions at {deepest}" in found[0]
        side = int(re.search(r"its shorter side (\d+) pixels", found[0])[1])
        for shorter, is_enough in ((side - 1, False), (side, True)):
            scaled = [round(x * shorter / min(size)) for x in size]
            again = make_picture(*scaled)
            few = messages(lambda x=again: StyleTransferLoss(net, style=x, style_layers=layers))
            assert bool(few) != is_enough


def test_a_content_is_the_picture_that_is_painted_and_warned_of_too(net):
    small, large = make_picture(32, 40), make_picture(80, 80)
    (message,) = messages(lambda: StyleTransferLoss(net, small, large))
    assert "the content has only 3 x 2 positions at relu5_1" in message
    assert messages(lambda: StyleTransferLoss(net, small)) == []  # no style, no texture
    assert messages(lambda: StyleTransferLoss(net, small, large, style_layers="relu2_1")) == []


def test_a_plain_style_that_a_deep_layer_drowns_is_warned_of():
    weights = make_weights()
    plain = torch.full((1, 3, 64, 64), 0.2)
    layers = ["relu1_1", "relu2_1", "relu5_1"]

    def loss(factor, style=plain):
        louder = weights | {"conv5_1.weight": factor * weights["conv5_1.weight"]}
        return StyleTransferLoss(Features(louder), style=style, style_layers=layers)

    assert messages(lambda: loss(0.01)) == []
    assert messages(lambda: loss(1e3, make_picture(64, 64))) == []
    (message,) = messages(lambda: loss(1e3))
    assert "leave relu5_1 out of style_layers" in message
    made = loss(0.3)
    noise = noise_like(plain)
    each = {
        name: (gram_matrix(made.net(noise, [name])[name]) - made.styles.target(name))
        for name in layers
    }
    share = {name: difference.square().mean().item() for name, difference in each.items()}
    drowns = share["relu5_1"] > 0.5 * sum(share.values())
    assert bool(messages(lambda: loss(0.3))) == drowns
