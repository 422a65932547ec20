"""What a first convolution takes is recognised, and converted exactly."""

import math
import re
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F

from helpers import make_picture, make_weights
from nst_helpers import Features, load_network, load_weights, normalise_activations
from nst_helpers.network.features import IMAGENET_MEAN, IMAGENET_STD
from nst_helpers.network.input_formats import (
    INPUT_FORMATS,
    fold_colours,
    is_normalised_vgg19,
    recognise,
    to_torchvision,
)

DATA = Path(__file__).resolve().parents[2] / "shared/data"
REAL = {
    "VGG-19, normalised": DATA / "vgg19_normalised.safetensors",
    "VGG-16": DATA / "vgg16_blocks1-3.safetensors",
}
FIRST = ("conv1_1.weight", "conv1_1.bias")


def column(values):
    return torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1)


# What each format makes of an image RGB in [0, 1].
CAFFE = column((123.68, 116.779, 103.939))
PREPARE = {
    "torchvision": lambda x: (x - column(IMAGENET_MEAN)) / column(IMAGENET_STD),
    "caffe": lambda x: (255 * x - CAFFE).flip(1),
    "rgb255": lambda x: 255 * x - CAFFE,
    "bgr": lambda x: ((x - column(IMAGENET_MEAN)) / column(IMAGENET_STD)).flip(1),
    "rgb": lambda x: x,
}


def rewrite(weight, bias, name):
    """A first convolution in torchvision's format, for another: by solving for its input."""
    mixing = torch.stack([PREPARE[name](column(e)) for e in torch.eye(3).tolist()])
    mixing = (mixing - PREPARE[name](column((0, 0, 0)))).view(3, 3).T  # of colours 0..1
    offset = PREPARE[name](column((0, 0, 0))).flatten()
    weight, bias = weight.double(), bias.double()
    std, mean = column(IMAGENET_STD), column(IMAGENET_MEAN).flatten()
    of_colours = weight / std
    bias = bias - of_colours.sum((2, 3)) @ mean
    of_input = torch.einsum("nchw,ck->nkhw", of_colours, mixing.inverse())
    return of_input.float(), (bias - of_input.sum((2, 3)) @ offset).float()


def network(name):
    if name in REAL and not REAL[name].is_file():
        pytest.skip(f"needs shared/data/{REAL[name].name}")
    return load_weights(REAL.get(name, name))[0]


# --- conversion ----------------------------------------------------------------------------------


def test_the_formats_tested_are_all():
    assert list(PREPARE) == list(INPUT_FORMATS)


@pytest.mark.parametrize("name", PREPARE)
def test_a_converted_convolution_computes_the_same_within_the_border(name):
    weights = make_weights((6,) * 5)
    weight, bias = (weights[key].double() for key in FIRST)
    image = make_picture(12, 10).double()
    expected = F.conv2d(PREPARE[name](image), weight, bias)
    converted = (x.double() for x in to_torchvision(weight, bias, name))
    ours = F.conv2d(PREPARE["torchvision"](image), *converted)
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-5 * expected.abs().max().item())


def test_at_the_border_caffes_padding_and_ours_are_half_a_grey_level_apart():
    weights = make_weights((6,) * 5)
    weight, bias = (weights[key].double() for key in FIRST)
    image = make_picture(12, 10).double()
    expected = F.conv2d(PREPARE["caffe"](image), weight, bias, padding=1)
    converted = (x.double() for x in to_torchvision(weight, bias, "caffe"))
    ours = F.conv2d(PREPARE["torchvision"](image), *converted, padding=1)
    bound = 0.5 * weight.abs().sum((1, 2, 3)).max()  # the means' largest difference: 0.499
    assert (ours - expected).abs().max() < bound


# --- recognition ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["torchvision", "caffe", "rgb255", "bgr"])
@pytest.mark.parametrize("source", [*REAL, "bundled"])
def test_a_known_network_is_recognised_in_every_format(tmp_path, capsys, source, name):
    expected = network(source)
    first = dict(zip(FIRST, rewrite(*(expected[key] for key in FIRST), name), strict=True))
    path = tmp_path / "net.pth"
    torch.save(expected | first, path)
    capsys.readouterr()
    loaded, _ = load_weights(path)
    for key, value in expected.items():
        size = value.abs().max().item()
        torch.testing.assert_close(loaded[key], value, rtol=1e-4, atol=1e-5 * size)
    lines = capsys.readouterr().out
    if name == "torchvision":
        assert lines == ""
    else:
        assert lines == f"network: net.pth: converted from {INPUT_FORMATS[name].words}\n"


@pytest.mark.parametrize("name", ["torchvision", "caffe", "rgb255", "bgr"])
@pytest.mark.parametrize("source", REAL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_scaled_filters_and_coarse_numbers_do_not_hide_a_known_network(source, name, dtype):
    weights = network(source)
    weight, bias = rewrite(*(weights[key] for key in FIRST), name)
    scale = torch.logspace(-1, 1, len(bias))[torch.randperm(len(bias))]
    weight, bias = (weight * scale.view(-1, 1, 1, 1)).to(dtype), (bias * scale).to(dtype)
    assert recognise(weight.float(), bias.float()) == (name, True)


@pytest.mark.parametrize("name", ["caffe", "rgb255"])
def test_an_unknown_network_of_0_to_255_is_recognised_by_size_and_by_looking_less_at_blue(name):
    weights = network("bundled")
    weight, bias = (weights[key][1:] for key in FIRST)  # one filter less: nobody knows it
    assert recognise(*rewrite(weight, bias, name)) == (name, True)
    assert recognise(weight, bias) == ("torchvision", True)


def small_network(seed):
    weights = make_weights((16, 24, 32, 32, 32), seed=seed)
    return normalise_activations(Features(weights), [make_picture(64, 48, seed=seed)])


OTHERS = {
    "He's, biases 0": lambda s: (torch.randn(64, 3, 3, 3) * 0.27, torch.zeros(64)),
    "He's, biases small": lambda s: (torch.randn(64, 3, 3, 3) * 0.27, torch.randn(64) * 0.1),
    "narrow": lambda s: [make_weights(seed=s)[key] for key in FIRST],
    "torch's start": lambda s: (
        (conv := torch.nn.Conv2d(3, 64, 3)).weight.detach(),
        conv.bias.detach(),
    ),
    "small, biases 0": lambda s: (torch.randn(64, 3, 3, 3) * 1e-3, torch.zeros(64)),
    "nothing": lambda s: (torch.zeros(8, 3, 3, 3), torch.zeros(8)),
    "normalised": lambda s: (
        (conv := small_network(s).convolution("conv1_1")).weight,
        conv.bias,
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("scale", [1, 1e-3, 1e3])
def test_other_networks_are_not_mistaken_for_caffes(kind, scale):
    for seed in range(20 if kind != "normalised" else 3):
        torch.manual_seed(seed)
        weight, bias = OTHERS[kind](seed)
        assert recognise(weight * scale, bias * scale, network_first("bundled")) == (
            "torchvision",
            True,
        )


def network_first(name):
    weights = network(name)
    return tuple(weights[key] for key in FIRST)


# The first three and the last three filters of torchvision's VGG-16 are of these sizes.
TORCHVISION = (
    [1.96, 1.88, 1.87, 0.56, 0.56, 1.35],
    [0.4034, 0.3778, 0.4644, 0.0117, 0.5516, 0.2108],
)


def test_torchvisions_own_vgg_is_not_mistaken_for_caffes():
    torch.manual_seed(0)
    norms, biases = map(torch.tensor, TORCHVISION)
    weight = torch.randn(6, 3, 3, 3)
    weight *= (norms / weight.flatten(1).norm(dim=1)).view(-1, 1, 1, 1)
    assert recognise(weight, biases) == ("torchvision", True)


def test_a_doubtful_network_is_left_and_the_line_says_what_to_try(tmp_path, capsys):
    expected = make_weights((16,) * 5)
    expected["conv1_1.bias"] = torch.full((16,), expected["conv1_1.weight"].norm() / 4 / 1.5)
    torch.save(expected, tmp_path / "net.pth")
    loaded, _ = load_weights(tmp_path / "net.pth")
    assert all(torch.equal(loaded[key], value) for key, value in expected.items())
    assert "input_format='caffe'" in capsys.readouterr().out


@pytest.mark.parametrize("name", PREPARE)
def test_a_format_that_was_named_is_taken_whatever_the_weights_say(tmp_path, capsys, name):
    weights = network("bundled")
    torch.save(weights, tmp_path / "net.pth")
    loaded, _ = load_weights(tmp_path / "net.pth", input_format=name)
    for value, key in zip(to_torchvision(*(weights[k] for k in FIRST), name), FIRST, strict=True):
        assert torch.equal(loaded[key], value)
    assert capsys.readouterr().out.count("\n") == (name != "torchvision")
    net = load_network(
        tmp_path / "net.pth",
        input_format=name,
        normalise=False,
        device="cpu",
        precision="float32",
    )
    assert torch.equal(net.convolution("conv1_1").bias, loaded["conv1_1.bias"])


def test_caffes_can_be_denied(tmp_path, capsys):
    weights = network("bundled")
    first = rewrite(*(weights[key] for key in FIRST), "caffe")
    torch.save(weights | dict(zip(FIRST, first, strict=True)), tmp_path / "net.pth")
    loaded, _ = load_weights(tmp_path / "net.pth", input_format="torchvision")
    assert all(torch.equal(loaded[key], value) for key, value in zip(FIRST, first, strict=True))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("source", "name", "message"),
    [
        ("bundled", "BGR", "input_format must be one of auto, torchvision, caffe, .*; got 'BGR'"),
        ("bundled", "caffe", "input_format is for files; 'bundled'"),
        ("auto", "caffe", "input_format is for files; 'auto'"),
    ],
)
def test_a_format_is_refused_by_name(source, name, message):
    with pytest.raises(ValueError, match=message):
        load_weights(source, input_format=name)


# --- the authors' normalised VGG-19 ---------------------------------------------------------------


def test_the_authors_normalised_vgg19_is_left_as_it_is(capsys):
    weights = network("VGG-19, normalised")
    net = load_network(REAL["VGG-19, normalised"], device="cpu", precision="float32")
    line = r"network: vgg19_normalised\.safetensors: normalised by its authors.*\n"
    assert re.fullmatch(line, capsys.readouterr().out)
    assert torch.equal(net.convolution("conv4_2").weight, weights["conv4_2.weight"])
    assert load_weights(REAL["VGG-19, normalised"])[1]["normalised"].startswith("by its authors")


def test_the_network_it_was_made_from_is_none_and_no_other_is():
    weight = network("VGG-19, normalised")["conv1_1.weight"]
    assert is_normalised_vgg19(weight)
    assert not is_normalised_vgg19(weight * 15)  # as Simonyan & Zisserman have it
    assert not is_normalised_vgg19(network("VGG-16")["conv1_1.weight"])
    assert not is_normalised_vgg19(network("random")["conv1_1.weight"])
    assert not is_normalised_vgg19(network("bundled")["conv1_1.weight"])


# --- a 1 x 1 convolution before the first ---------------------------------------------------------

ADAIN = (255 * torch.eye(3).flip(0).view(3, 3, 1, 1), -CAFFE.float().flatten().flip(0))
IMAGENETS = (
    torch.diag(1 / torch.tensor(IMAGENET_STD)).view(3, 3, 1, 1),
    -torch.tensor(IMAGENET_MEAN) / torch.tensor(IMAGENET_STD),
)


@pytest.mark.parametrize("colours", [ADAIN, IMAGENETS], ids=["AdaIN's", "torchvision's"])
def test_colours_are_folded_in_exactly(colours):
    weights = make_weights((6,) * 5)
    weight, bias = (weights[key] for key in FIRST)
    weight, bias, name = fold_colours(weight, bias, colours)
    assert name == "rgb"
    image = make_picture(12, 10)
    expected = F.conv2d(F.conv2d(image, *colours), *(weights[key] for key in FIRST))
    ours = F.conv2d(PREPARE["torchvision"](image).float(), *to_torchvision(weight, bias, name))
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


def test_colours_that_are_only_mixed_say_nothing_of_their_scale():
    weights = make_weights((6,) * 5)
    swap = torch.eye(3).flip(0).view(3, 3, 1, 1)
    weight, bias, name = fold_colours(*(weights[key] for key in FIRST), (swap, torch.zeros(3)))
    assert name is None
    assert torch.equal(weight, weights["conv1_1.weight"].flip(1))
    assert torch.equal(bias, weights["conv1_1.bias"])


def test_colours_of_another_scale_must_be_named(tmp_path):
    weights = make_weights((6,) * 5)
    weights |= {"conv0.weight": torch.eye(3).view(3, 3, 1, 1), "conv0.bias": -CAFFE.flatten()}
    safetensors.torch.save_file(weights, tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match=r"net\.safetensors begins with a 1 x 1.*input_format"):
        load_weights(tmp_path / "net.safetensors")
    loaded, _ = load_weights(tmp_path / "net.safetensors", input_format="torchvision")
    assert math.isfinite(loaded["conv1_1.bias"].sum())
