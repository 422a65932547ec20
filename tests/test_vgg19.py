"""The main paths on the real VGG-19, whose file the environment variable NST_VGG19 names.

NST_VGG19=vgg19.safetensors python -m pytest -m vgg19
"""

import os
from pathlib import Path

import pytest
import torch
from torch import nn

import nst_helpers as nst
from helpers import NAMES, mean_activations, torchvision_keys, wait_for
from nst_helpers.__main__ import main

FILE = os.environ.get("NST_VGG19", "")

pytestmark = [
    pytest.mark.vgg19,
    pytest.mark.skipif(not FILE, reason="set NST_VGG19 to a file of VGG-19's weights"),
]


@pytest.fixture(scope="module")
def net():
    return nst.load_network(FILE, device="cpu", precision="float32")


@pytest.fixture(scope="module")
def cat():
    return nst.load_image("chelsea", 64)


@pytest.fixture(scope="module")
def sky():
    return nst.load_image("night_sky", 64)


def likeness(image, other):
    """The correlation of two images."""
    return torch.corrcoef(torch.stack([image.flatten(), other.flatten()]))[0, 1].item()


# --- loading -------------------------------------------------------------------------------------


def test_it_is_vgg19(net):
    assert list(net.convolutions) == NAMES
    widths = [64] * 2 + [128] * 2 + [256] * 4 + [512] * 8
    assert [conv.out_channels for conv in net.convolutions.values()] == widths
    assert net.content_scale == 1


def test_its_filters_are_normalised(net):
    images = [nst.load_image(name, 96) for name in ("astronaut", "chelsea", "coffee", "pebbles")]
    means = mean_activations(net, images)
    for layer in ("relu1_1", "relu2_1", "relu3_1", "relu4_1"):
        assert 0.3 < means[layer].mean() < 3, layer


def test_it_tells_what_is_in_the_picture(net, cat, sky):
    """Deep maps of a mirrored cat are more like the cat's than the sky's are."""
    maps = {
        name: net(image[..., :64, :64], ["relu5_1"])["relu5_1"].mean((2, 3)).flatten()
        for name, image in (("cat", cat), ("mirrored", cat.flip(3)), ("sky", sky))
    }
    assert likeness(maps["cat"], maps["mirrored"]) > likeness(maps["cat"], maps["sky"]) + 0.2


def save_as_caffes(weights, path):
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    mean = torch.tensor([0.485, 0.456, 0.406])
    weight = (weights["conv1_1.weight"] / (255 * std)).flip(1)
    apart = 255 * mean.flip(0) - torch.tensor([103.939, 116.779, 123.68])
    bias = weights["conv1_1.bias"] - weight.sum((2, 3)) @ apart
    torch.save(weights | {"conv1_1.weight": weight, "conv1_1.bias": bias}, path)


def save_as_adains(weights, path):
    save_as_caffes(weights, path)
    caffe = torch.load(path)
    state = {"0.weight": 255 * torch.eye(3).flip(0).view(3, 3, 1, 1)}
    state["0.bias"] = -torch.tensor([103.939, 116.779, 123.68])
    places = (2, 5, 9, 12, 16, 19, 22, 25, 29, 32, 35, 38, 42, 45, 48, 51)
    for place, name in zip(places, NAMES, strict=True):
        state |= {f"{place}.{kind}": caffe[f"{name}.{kind}"] for kind in ("weight", "bias")}
    torch.save(state, path)


def save_as_checkpoint(weights, path):
    state = {f"module.{key}": value for key, value in torchvision_keys(weights).items()}
    torch.save({"state_dict": state, "epoch": 3}, path)


@pytest.mark.parametrize("save", [save_as_caffes, save_as_adains, save_as_checkpoint])
def test_its_other_forms_are_the_same_network(tmp_path, save):
    weights, metadata = nst.load_weights(FILE)
    path = tmp_path / "vgg19.pth"
    save(weights, path)
    loaded, its_metadata = nst.load_weights(path)
    assert its_metadata.get("normalised") == metadata.get("normalised")
    for key, value in weights.items():
        size = value.abs().max().item()
        torch.testing.assert_close(loaded[key], value, rtol=1e-4, atol=1e-5 * size)


def test_torchs_own_maps_are_ours(net, cat):
    """A plain sequence of torch's layers, beside our network."""
    modules, layers = [], []
    for name in NAMES:
        modules += [net.convolution(name), nn.ReLU()]
        layers.append(f"relu{name[4:]}")
        if name in ("conv1_2", "conv2_2", "conv3_4", "conv4_4"):
            modules.append(nn.AvgPool2d(2))
    theirs, x = {}, net.normalised(cat)
    for module in modules:
        x = module(x)
        if isinstance(module, nn.ReLU):
            theirs[layers[len(theirs)]] = x
    for layer, maps in net(cat, layers).items():
        torch.testing.assert_close(maps, theirs[layer], rtol=1e-3, atol=1e-3)


# --- painting ------------------------------------------------------------------------------------


def test_transfer(net, cat, sky):
    loss = nst.StyleTransferLoss(net, cat, sky, alpha=1e-2)
    result = nst.optimize(loss, nst.noise_like(cat), steps=30)
    assert result.ok
    assert result.history[-1]["total"] < 0.05 * result.history[0]["total"]


def test_texture(net):
    pebbles = nst.load_image("pebbles", 64)
    layers = ("relu1_1", "relu2_1", "relu3_1")
    loss = nst.StyleTransferLoss(net, style=pebbles, style_layers=layers)
    result = nst.optimize(loss, nst.noise_like(pebbles), steps=60)
    for layer in layers:
        ours, theirs = (
            nst.gram_matrix(net(image, [layer])[layer]) for image in (result.image, pebbles)
        )
        assert (ours - theirs).norm() < 0.25 * theirs.norm(), layer


@pytest.mark.parametrize(("layer", "least"), [("relu2_1", 0.8), ("relu4_1", 0.3)])
def test_reconstruction_keeps_less_the_deeper_the_layer(net, cat, layer, least):
    loss = nst.StyleTransferLoss(net, cat, content_layers=(layer,))
    result = nst.optimize(loss, nst.noise_like(cat), steps=60)
    assert result.history[-1]["total"] < 0.3 * result.history[0]["total"]
    assert likeness(result.image, cat) > least


def test_sweep_goes_from_style_to_content(net, cat, sky):
    style, content = nst.alpha_beta_sweep(net, cat, sky, ratios=(1e-4, 1e-1), steps=30)
    assert content.history[-1]["content"] < 0.7 * style.history[-1]["content"]
    assert style.history[-1]["style"] < 0.7 * content.history[-1]["style"]


def test_commands(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--network", str(Path(FILE).resolve()), "--size", "64", "--steps", "5", "--quiet"]
    assert main(["transfer", "chelsea", "night_sky", "-o", "out.png", *options]) == 0
    assert main(["sweep", "chelsea", "night_sky", "-o", "sweep.png", *options]) == 0
    assert capsys.readouterr().err == ""
    assert nst.load_image("out.png").shape == nst.load_image("chelsea", 64).shape


def test_auto_takes_it_from_torchs_cache(hub, tmp_path, capsys):
    path = hub / "checkpoints" / "vgg19-dcbb9e9d.pth"
    path.parent.mkdir(parents=True)
    weights, _ = nst.load_weights(FILE)
    torch.save(torchvision_keys(weights), path)
    capsys.readouterr()
    loaded, metadata = nst.load_weights("auto")
    assert metadata["source"] == "vgg19"
    assert all(torch.equal(loaded[key], value) for key, value in weights.items())
    assert capsys.readouterr().out.startswith("network: VGG-19, found on this machine")
    options = ["--size", "48", "--steps", "3", "--quiet", "-o", str(tmp_path / "out.png")]
    assert main(["texture", "pebbles", *options]) == 0


def test_the_explorer_takes_a_step(tmp_path):
    explorer = nst.StyleTransferExplorer(
        "chelsea", "night_sky", net=FILE, size=64, output=tmp_path / "saved"
    )
    try:
        explorer.step()
        wait_for(lambda: "step <b>1</b>" in explorer.controls.canvas.status.value, seconds=60)
    finally:
        explorer.stop()
        explorer.close()
    assert explorer.run.result.ok
    assert explorer.run.result.steps_done == 1
