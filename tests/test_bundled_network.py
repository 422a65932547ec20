"""The network that comes with the package: what it is, and that it can do its work."""

import numpy as np
import pytest
import torch

import nst_helpers as nst
from nst_helpers.network.weights import BUNDLED, layer_names


@pytest.fixture(scope="module")
def net():
    return nst.load_network("bundled", device="cpu", precision="float32")


def likeness(image, photograph):
    """Correlation of the luminances, 32 x 32."""
    small = [torch.nn.functional.interpolate(i, (32, 32), mode="area") for i in (image, photograph)]
    return np.corrcoef(*(s.mean(1).flatten().numpy() for s in small))[0, 1]


def test_the_file_is_small_and_says_how_it_was_trained():
    assert BUNDLED.stat().st_size < 6_000_000
    _, metadata = nst.load_weights("bundled")
    assert {"teacher", "photographs", "training", "widths", "normalised"} <= set(metadata)


def test_it_has_vgg19s_layers_and_average_pooling(net):
    convolutions = [name for name in net.layers if name.startswith("conv")]
    assert convolutions == layer_names()
    assert net.pooling == "avg"


@pytest.fixture(scope="module")
def moments(net):
    """Each filter's mean activation and mean square over the sample pictures, by layer."""
    layers = [name.replace("conv", "relu") for name in layer_names()]
    sums, squares, positions = (dict.fromkeys(layers, 0.0) for _ in range(3))
    for path in nst.sample_images().values():
        for name, maps in net(nst.load_image(path, 160), layers).items():
            sums[name] = sums[name] + maps.sum((0, 2, 3))
            squares[name] = squares[name] + maps.square().sum((0, 2, 3))
            positions[name] += maps[0, 0].numel()
    return {n: (sums[n] / positions[n], squares[n] / positions[n]) for n in layers}


def test_its_units_are_those_of_the_authors_vgg19(moments):
    """Mean activations over the same pictures: alpha, beta and layer weights mean the same."""
    vgg19 = {"relu1_1": 1.37, "relu2_1": 0.97, "relu3_1": 0.67, "relu4_1": 0.42, "relu5_1": 0.22}
    for name, mean in vgg19.items():
        assert moments[name][0].mean() == pytest.approx(mean, rel=0.4), name


def test_no_filter_of_the_losses_layers_is_dead_or_responds_at_a_few_positions_only(moments):
    """Such a one would dominate the Gram matrix: spots of noise in textures."""
    for name in (*nst.STYLE_LAYERS, *nst.CONTENT_LAYERS):
        means, squares = moments[name]
        assert means.min() > 0.01, name
        assert (squares.sqrt() / means).max() < 12, name


def test_channel_counts_are_multiples_of_16(net):
    """A CPU's vector registers hold 16 numbers: 24 channels take as long as 32."""
    assert all(conv.out_channels % 16 == 0 for conv in net.convolutions.values())


def test_the_sweep_goes_from_style_to_content(net):
    content, style = nst.load_image("coffee", 96), nst.load_image("night_sky", 96)
    results = nst.alpha_beta_sweep(net, content, style, steps=80)
    likenesses = [likeness(result.image, content) for result in results]
    assert likenesses[0] < 0.2
    assert likenesses[1] < likenesses[2] < likenesses[3]
    assert likenesses[3] > 0.35  # so small a picture, and so few steps
    style_loss = nst.StyleTransferLoss(net, style=style)  # one and the same for all
    styles = [style_loss(result.image).style.item() for result in results]
    assert styles[1] < styles[2] < styles[3]


def test_reconstruction_from_noise_is_the_photograph(net):
    photograph = nst.load_image("chelsea", 96)
    loss = nst.StyleTransferLoss(net, content=photograph, alpha=1.0, content_layers=["relu3_2"])
    start = nst.noise_like(photograph)
    assert abs(likeness(start, photograph)) < 0.2
    assert likeness(nst.optimize(loss, start, steps=60).image, photograph) > 0.8


def test_reconstructions_from_deeper_layers_are_further_from_the_pixels(net):
    photograph = nst.load_image("chelsea", 96)
    errors = []
    for layer in ("relu1_2", "relu3_2", "relu5_2"):
        loss = nst.StyleTransferLoss(net, content=photograph, alpha=1.0, content_layers=[layer])
        image = nst.optimize(loss, nst.noise_like(photograph), steps=60).image
        errors.append((image - photograph).square().mean().item())
    assert errors[0] < errors[1] < errors[2]


def test_texture_has_the_colours_of_its_style_image(net):
    leaves = nst.load_image("leaves", 96)
    loss = nst.StyleTransferLoss(net, style=leaves)
    result = nst.optimize(loss, nst.noise_like(leaves), steps=250)
    torch.testing.assert_close(result.image.mean((2, 3)), leaves.mean((2, 3)), atol=0.05, rtol=0)
    assert result.history[-1]["style"] < 0.02 * result.history[0]["style"]


def test_transfer_keeps_the_content_and_takes_the_colours(net):
    content, style = nst.load_image("coffee", 96), nst.load_image("night_sky", 96)
    loss = nst.StyleTransferLoss(net, content, style, alpha=1e-2)
    image = nst.optimize(loss, content, steps=80).image
    blue = [i.mean((0, 2, 3))[2] - i.mean((0, 2, 3))[0] for i in (content, style, image)]
    assert blue[2] > (blue[0] + blue[1]) / 2
    assert likeness(image, content) > 0.3
