"""Normalised weights against the definition: each filter's mean activation is 1."""

import pytest
import torch

from helpers import LAYERS, make_picture, make_weights, mean_activations
from nst_helpers import Features, normalise_activations

IMAGES = [make_picture(32, 48, seed=5), make_picture(64, 40, seed=6, batch=2)]
POOLINGS = pytest.mark.parametrize("pooling", ["avg", "max"])


def tiny():
    return Features(make_weights((2, 2, 2, 2, 2)))


@POOLINGS
def test_each_filters_mean_activation_is_1_after_normalising(pooling):
    net = Features(make_weights(), pooling)
    before = mean_activations(net, IMAGES)
    after = mean_activations(normalise_activations(net, IMAGES), IMAGES)
    live_filters = 0
    for name, means in after.items():
        live = before[name] > 1e-2 * before[name].mean()
        live_filters += live.sum().item()
        torch.testing.assert_close(means[live], torch.ones_like(means[live]), rtol=1e-4, atol=0)
        dead = before[name] < 1e-4 * before[name].mean()
        assert (means[dead] < 1e-3).all()
    assert live_filters > 80  # of 116


@POOLINGS
def test_normalising_changes_nothing_but_one_positive_factor_for_each_filter(pooling):
    net = Features(make_weights(), pooling)
    normalised = normalise_activations(net, IMAGES)
    assert normalised.pooling == pooling
    other = make_picture(40, 40, seed=77)  # not one of the images used
    a, b = net(other, LAYERS), normalised(other, LAYERS)
    for layer in LAYERS:
        if layer.startswith("conv"):  # its ReLU, and the pool behind that, have the same factor
            scale = (a[layer] * b[layer]).sum((0, 2, 3)) / b[layer].square().sum((0, 2, 3))
            assert scale.min() > 0
        torch.testing.assert_close(
            b[layer] * scale.view(1, -1, 1, 1), a[layer], rtol=1e-3, atol=1e-4
        )


def test_normalising_twice_is_normalising_once():
    once = normalise_activations(Features(make_weights()), IMAGES)
    twice = normalise_activations(once, IMAGES)
    for a, b in zip(once.state_dict().values(), twice.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("activation", [0.0, 1e-7])
def test_a_filter_that_is_hardly_excited_is_scaled_like_the_others(activation):
    weights = make_weights()
    weights["conv2_1.weight"][3] *= 1e-7  # so that it is the bias everywhere
    weights["conv2_1.bias"][3] = activation - 2.0 * (activation == 0)
    net = Features(weights)
    others = mean_activations(net, IMAGES)["relu2_1"]
    others = others[others > 1e-3]
    before = net(IMAGES[0], ["conv2_1"])["conv2_1"][:, 3]
    normalised = normalise_activations(net, IMAGES)
    after = normalised(IMAGES[0], ["conv2_1"])["conv2_1"][:, 3]
    scale = (before / after).median()
    assert 0.2 * others.min() <= scale <= others.max()
    assert all(torch.isfinite(p).all() for p in normalised.parameters())


@pytest.mark.parametrize("seed", range(4))
def test_normalised_weights_fit_half_precision(seed):
    # A filter that fires once in a thousand images must not get weights beyond 65504.
    net = normalise_activations(Features(make_weights((8, 8, 8, 8, 8), seed=seed)), IMAGES)
    assert max(p.abs().max().item() for p in net.parameters()) < 65504


def test_every_position_counts_alike_however_large_its_image():
    images = [make_picture(32, 32, seed=1), make_picture(96, 96, seed=2)]
    net = normalise_activations(tiny(), images)
    mean = mean_activations(net, images)["relu1_1"]
    torch.testing.assert_close(mean, torch.ones_like(mean), rtol=1e-4, atol=0)


def test_normalising_returns_a_new_network_and_leaves_the_images_alone(weights):
    net = Features(weights, "max", "mine", content_scale=2.5, source="mine.pth")
    net.to_precision("bfloat16")
    state = {name: values.clone() for name, values in net.state_dict().items()}
    images = [image.clone() for image in IMAGES]
    normalised = normalise_activations(net, iter(images))
    assert normalised is not net
    assert all(torch.equal(values, state[name]) for name, values in net.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(images, IMAGES, strict=True))
    assert not any(p.requires_grad for p in normalised.parameters())
    for name in ("pooling", "name", "content_scale", "source", "precision", "device"):
        assert getattr(normalised, name) == getattr(net, name)


def test_normalising_needs_an_image():
    with pytest.raises(ValueError, match="at least one image"):
        normalise_activations(tiny(), [])
