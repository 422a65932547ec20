"""The network against torchvision's own VGG-19 and slow loops."""

import contextlib
import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import LAYERS, NAMES, make_picture, make_weights
from nst_helpers import Features
from nst_helpers.network.features import IMAGENET_MEAN, IMAGENET_STD, block_of, map_size, stride

FULL_SIZE = ("conv1_1", "relu1_1", "conv1_2", "relu1_2")  # one position for each pixel


def tiny(pooling="avg", names=NAMES, seed=0):
    return Features(make_weights((2, 2, 2, 2, 2), names, seed), pooling)


# --- layers --------------------------------------------------------------------------------------


def test_layers_are_those_of_vgg19_in_order(net):
    assert list(net.layers) == LAYERS


def test_a_cut_network_has_the_layers_of_its_convolutions():
    net = tiny(names=NAMES[:5])
    assert list(net.layers) == [*LAYERS[: LAYERS.index("relu3_1") + 1], "pool3"]
    assert net(make_picture(16, 16), ["relu3_1"])["relu3_1"].shape == (1, 2, 4, 4)


def test_it_keeps_what_it_is_told_of_its_weights(weights):
    net = Features(weights, "max", "mine", content_scale=2.5, source="mine.pth")
    description = (net.pooling, net.name, net.content_scale, net.source)
    assert description == ("max", "mine", 2.5, "mine.pth")
    plain = Features(weights)
    assert (plain.pooling, plain.content_scale, plain.source) == ("avg", 1.0, "")


@pytest.mark.parametrize(("size", "rounds_up"), [((32, 64), False), ((37, 50), True)])
def test_every_layer_equals_torchvisions_but_for_pools_that_round_up(vgg19, size, rounds_up):
    model, weights = vgg19
    image = make_picture(*size)
    x = (image - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(
        3, 1, 1
    )
    expected = {}
    for layer, module in zip(LAYERS, model, strict=True):
        if isinstance(module, torch.nn.MaxPool2d):
            x = F.max_pool2d(x, 2, ceil_mode=rounds_up)
        else:
            x = F.relu(x) if isinstance(module, torch.nn.ReLU) else module(x)  # not in place
        expected[layer] = x
    maps = Features(weights, pooling="max")(image, LAYERS)
    assert list(maps) == LAYERS
    for layer in LAYERS:
        torch.testing.assert_close(maps[layer], expected[layer], rtol=1e-4, atol=1e-4)


def slow_pool(maps, reduce):
    b, n, h, w = maps.shape
    out = torch.zeros(b, n, (h + 1) // 2, (w + 1) // 2)
    for image in range(b):
        for channel in range(n):
            for y in range(out.shape[2]):
                for x in range(out.shape[3]):
                    square = maps[image, channel, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
                    out[image, channel, y, x] = reduce(square.flatten().tolist())
    return out


@pytest.mark.parametrize("size", [(8, 6), (7, 9)])
@pytest.mark.parametrize(("pooling", "reduce"), [("avg", lambda v: sum(v) / len(v)), ("max", max)])
def test_pooling_is_the_slow_loop(pooling, reduce, size):
    maps = tiny(pooling)(make_picture(*size, batch=2), ["relu1_2", "pool1"])
    torch.testing.assert_close(maps["pool1"], slow_pool(maps["relu1_2"], reduce))


def test_average_is_the_default_pooling():
    image = make_picture(16, 16)
    default = Features(make_weights())(image, ["pool1"])["pool1"]
    assert torch.equal(default, Features(make_weights(), "avg")(image, ["pool1"])["pool1"])
    assert not torch.equal(default, Features(make_weights(), "max")(image, ["pool1"])["pool1"])


def test_convolution_is_the_slow_loop():
    weights = make_weights((2, 2, 2, 2, 2))
    image = make_picture(4, 5)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = torch.zeros(2, 4, 5)
    for n in range(2):
        for y in range(4):
            for x in range(5):
                total = weights["conv1_1.bias"][n].item()
                for c in range(3):
                    for dy in (-1, 0, 1):
                        for dx in (-1, 0, 1):
                            if 0 <= y + dy < 4 and 0 <= x + dx < 5:
                                value = (image[0, c, y + dy, x + dx].item() - mean[c]) / std[c]
                                total += weights["conv1_1.weight"][n, c, dy + 1, dx + 1] * value
                expected[n, y, x] = total
    maps = Features(weights)(image, ["conv1_1"])["conv1_1"][0]
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-5)


def test_the_mean_colour_of_imagenet_is_zero_to_the_network(net, weights):
    grey = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1).expand(1, 3, 6, 6)
    maps = net(grey, ["conv1_1"])["conv1_1"]
    biases = weights["conv1_1.bias"].view(1, -1, 1, 1).expand_as(maps)
    torch.testing.assert_close(maps, biases, rtol=0, atol=1e-5)


def test_relu_does_not_overwrite_a_convolution_that_is_asked_for(net, content):
    maps = net(content, ["conv4_2", "relu4_2"])
    assert maps["conv4_2"].min() < 0
    assert torch.equal(maps["relu4_2"], maps["conv4_2"].clamp(min=0))
    assert torch.equal(maps["conv4_2"], net(content, ["conv4_2"])["conv4_2"])


@pytest.mark.parametrize("layer", ["conv1_1", "relu1_2", "pool2", "conv3_4", "relu4_2", "pool5"])
def test_nothing_deeper_than_asked_for_is_computed(layer):
    net, computed = tiny(), []
    for name, conv in net.convolutions.items():
        conv.register_forward_hook(lambda *_, name=name: computed.append(name))
    net(make_picture(32, 32), ["relu1_1", layer])
    up_to_layer = LAYERS[: LAYERS.index(layer) + 1]
    assert computed == [name for name in up_to_layer if name.startswith("conv")]


def test_the_maps_do_not_depend_on_the_order_of_the_names(net, content):
    a = net(content, ["relu4_2", "relu1_1"])
    b = net(content, iter(["relu1_1", "relu4_2"]))
    assert set(a) == set(b) == {"relu1_1", "relu4_2"}
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_activations_come_one_by_one_as_they_are_computed(weights, content):
    net, computed = Features(weights).to_precision("bfloat16"), []
    for name, conv in net.convolutions.items():
        conv.register_forward_hook(lambda *_, name=name: computed.append(name))
    expected = net(content, ["relu1_2", "conv2_1", "pool2"])
    computed.clear()
    names = []
    for name, maps in net.activations(content, ["pool2", "conv2_1", "relu1_2"]):
        names.append(name)
        assert computed == NAMES[: {"relu1_2": 2, "conv2_1": 3, "pool2": 4}[name]]
        assert maps.dtype == torch.bfloat16
        assert maps.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(maps.float(), expected[name])
    assert names == ["relu1_2", "conv2_1", "pool2"]


def test_it_is_frozen_and_the_gradient_reaches_the_image(net, content):
    assert not net.training
    assert not any(p.requires_grad for p in net.parameters())
    image = content.clone().requires_grad_()
    net(image, ["relu5_1"])["relu5_1"].sum().backward()
    assert torch.isfinite(image.grad).all()
    assert image.grad.abs().max() > 0
    assert all(p.grad is None for p in net.parameters())


def test_the_image_is_left_as_it_is(net, content):
    before = content.clone()
    net(content, LAYERS)
    assert torch.equal(content, before)


def test_changing_the_weights_afterwards_does_not_change_the_network(content):
    weights = make_weights()
    net = Features(weights)
    before = net(content, ["relu2_1"])["relu2_1"]
    for tensor in weights.values():
        tensor.zero_()
    assert torch.equal(net(content, ["relu2_1"])["relu2_1"], before)


def test_images_of_a_batch_are_independent(net):
    images = make_picture(33, 47, batch=2)
    together = net(images, LAYERS)
    for i in range(2):
        alone = net(images[i : i + 1], LAYERS)
        for layer in LAYERS:
            torch.testing.assert_close(
                together[layer][i : i + 1], alone[layer], rtol=1e-4, atol=1e-5
            )


@pytest.mark.parametrize("size", [(32, 80), (45, 33), (100, 31)])
def test_sides_are_halved_and_rounded_up_by_each_pool(net, size):
    for layer, maps in net(make_picture(*size), LAYERS[:-1]).items():  # pool5 needs 32 pixels
        assert block_of(layer) == int(re.search(r"\d", layer)[0])
        halvings = block_of(layer) - (not layer.startswith("pool"))
        assert stride(layer) == 2**halvings
        assert maps.shape[2:] == tuple(-(-side // 2**halvings) for side in size)
        assert map_size(layer, (1, 3, *size)) == maps.shape[2:]


# --- arguments -----------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(LAYERS), st.integers(0, 40), st.booleans())
def test_the_least_size_stated_is_exactly_the_least_that_works(layer, extra, wide):
    net = tiny()
    too_small = pytest.raises(ValueError, match="at least")
    with contextlib.nullcontext() if layer in FULL_SIZE else too_small:
        net(torch.zeros(1, 3, 1, 1), [layer])
    with pytest.raises(ValueError, match=re.escape(layer)) as caught:
        net.validate([layer], (1, 3, 0, 50))
    least = int(re.search(r"at least (\d+)", str(caught.value))[1])
    with pytest.raises(ValueError, match="not empty"):
        net(torch.zeros(1, 3, 0, 50), [layer])
    sizes = (least, least + extra) if wide else (least + extra, least)
    assert min(net(make_picture(*sizes), [layer])[layer].shape) >= 1
    with pytest.raises(ValueError, match=f"{least - 1} x {least + extra}.*at least {least}"):
        net.validate([layer], (1, 3, least + extra, least - 1))


@pytest.mark.parametrize("layer", ["conv6_1", "relu4_5", "Relu4_2", "", "pool0", "21", "input"])
def test_an_unknown_layer_is_refused_with_the_known_ones(net, content, layer):
    with pytest.raises(ValueError) as caught:
        net(content, ["relu1_1", layer])
    assert repr(layer) in str(caught.value)
    assert ", ".join(LAYERS) in str(caught.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        *[
            (lambda net, shape=shape: net(torch.zeros(shape), ["relu1_1"]), re.escape(str(shape)))
            for shape in [(3, 32, 32), (1, 1, 32, 32), (1, 4, 32, 32), (32, 32)]
        ],
        *[
            (
                lambda net, value=value: Features(make_weights(), value),
                f"pooling must be one of avg, max; got {value!r}",
            )
            for value in ["mean", "", None]
        ],
        *[
            (
                lambda net, value=value: Features(make_weights()).to_precision(value),
                f"precision must be one of float32, bfloat16; got {value!r}",
            )
            for value in ["int8", "auto", None]
        ],
    ],
)
def test_bad_arguments_are_named(net, call, message):
    with pytest.raises(ValueError, match=message):
        call(net)


# --- precision -----------------------------------------------------------------------------------


def test_maps_in_half_precision_are_nearly_those_of_float32(weights, net, content):
    half = Features(weights).to_precision("bfloat16")
    assert (half.precision, net.precision) == ("bfloat16", "float32")
    assert all(p.dtype == torch.bfloat16 for p in half.parameters())
    rounded, exact = half(content, LAYERS), net(content, LAYERS)
    for name, maps in rounded.items():
        assert maps.dtype == torch.float32
        error = (maps - exact[name]).square().mean() / exact[name].square().mean()
        assert error < 1e-3, name
    assert not torch.equal(rounded["relu1_1"], exact["relu1_1"])


def test_maps_can_be_viewed_as_the_lecture_does(weights, content):
    for precision in ("float32", "bfloat16"):
        maps = Features(weights).to_precision(precision)(content, ["relu2_1"])["relu2_1"]
        assert maps.view(maps.shape[1], -1).numpy().shape == (6, 24 * 32)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_computes_the_maps_of_the_cpu(net, content):
    gpu = Features(make_weights()).to("cuda")
    assert gpu.device.type == "cuda"
    maps = gpu(content.cuda(), ["relu4_2"])["relu4_2"].cpu()
    torch.testing.assert_close(maps, net(content, ["relu4_2"])["relu4_2"], rtol=1e-2, atol=1e-2)
