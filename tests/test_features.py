"""The network against torchvision's own VGG-19, slow loops and the definition of normalisation."""

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import NAMES, make_picture, make_weights
from nst_helpers import (
    Features,
    best_precision,
    load_image,
    load_network,
    normalise_activations,
    sample_images,
)

REAL = Path(__file__).resolve().parents[2] / "shared/data/vgg19_normalised_to_conv3_1.safetensors"
ALL_LAYERS = [
    layer
    for block, count in enumerate((2, 2, 4, 4, 4), 1)
    for layer in [
        *(f"{kind}{block}_{i}" for i in range(1, count + 1) for kind in ("conv", "relu")),
        f"pool{block}",
    ]
]


def tiny(pooling="avg", names=NAMES, seed=0):
    return Features(make_weights((2, 2, 2, 2, 2), names, seed), pooling)


# --- layers --------------------------------------------------------------------------------------


def test_layers_are_those_of_vgg19_in_order(net):
    assert list(net.layers) == ALL_LAYERS


def test_a_cut_network_has_the_layers_of_its_convolutions():
    net = tiny(names=NAMES[:5])
    assert list(net.layers) == [*ALL_LAYERS[: ALL_LAYERS.index("relu3_1") + 1], "pool3"]
    assert net(make_picture(16, 16), ["relu3_1"])["relu3_1"].shape == (1, 2, 4, 4)


def test_every_layer_equals_torchvisions(vgg19):
    model, weights = vgg19
    picture = make_picture(32, 48)
    x = (picture - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    expected = {}
    for layer, module in zip(ALL_LAYERS, model, strict=True):
        x = F.relu(x) if isinstance(module, torch.nn.ReLU) else module(x)  # not in place
        expected[layer] = x
    found = Features(weights, pooling="max")(picture, ALL_LAYERS)
    assert list(found) == ALL_LAYERS
    for layer in ALL_LAYERS:
        torch.testing.assert_close(found[layer], expected[layer], rtol=1e-4, atol=1e-4)


def slow_pool(maps, reduce):
    b, n, h, w = maps.shape
    out = torch.zeros(b, n, h // 2, w // 2)
    for image in range(b):
        for channel in range(n):
            for y in range(h // 2):
                for x in range(w // 2):
                    square = maps[image, channel, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
                    out[image, channel, y, x] = reduce(square.flatten().tolist())
    return out


@pytest.mark.parametrize("size", [(8, 6), (7, 9)])
@pytest.mark.parametrize(("pooling", "reduce"), [("avg", lambda v: sum(v) / 4), ("max", max)])
def test_pooling_is_the_slow_loop(pooling, reduce, size):
    found = tiny(pooling)(make_picture(*size, batch=2), ["relu1_2", "pool1"])
    torch.testing.assert_close(found["pool1"], slow_pool(found["relu1_2"], reduce))


def test_average_is_the_default_pooling():
    picture = make_picture(16, 16)
    default = Features(make_weights())(picture, ["pool1"])["pool1"]
    assert torch.equal(default, Features(make_weights(), "avg")(picture, ["pool1"])["pool1"])
    assert not torch.equal(default, Features(make_weights(), "max")(picture, ["pool1"])["pool1"])


def test_convolution_is_the_slow_loop():
    weights = make_weights((2, 2, 2, 2, 2))
    picture = make_picture(4, 5)
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
                                value = (picture[0, c, y + dy, x + dx].item() - mean[c]) / std[c]
                                total += weights["conv1_1.weight"][n, c, dy + 1, dx + 1] * value
                expected[n, y, x] = total
    found = Features(weights)(picture, ["conv1_1"])["conv1_1"][0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_mean_colour_of_imagenet_is_zero_to_the_network(net, weights):
    grey = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1).expand(1, 3, 6, 6)
    found = net(grey, ["conv1_1"])["conv1_1"]
    torch.testing.assert_close(
        found, weights["conv1_1.bias"].view(1, -1, 1, 1).expand_as(found), rtol=0, atol=1e-5
    )


def test_relu_is_not_in_place(net, content):
    found = net(content, ["conv4_2", "relu4_2"])
    assert found["conv4_2"].min() < 0
    assert torch.equal(found["relu4_2"], found["conv4_2"].clamp(min=0))
    assert torch.equal(found["conv4_2"], net(content, ["conv4_2"])["conv4_2"])


@pytest.mark.parametrize("layer", ["conv1_1", "relu1_2", "pool2", "conv3_4", "relu4_2", "pool5"])
def test_nothing_deeper_than_asked_for_is_computed(layer):
    net, ran = tiny(), []
    for name, conv in net.convolutions.items():
        conv.register_forward_hook(lambda *_, name=name: ran.append(name))
    net(make_picture(32, 32), ["relu1_1", layer])
    at = ALL_LAYERS.index(layer) + 1
    assert ran == [x for x in ALL_LAYERS[:at] if x.startswith("conv")]


def test_the_answer_does_not_depend_on_the_order_asked(net, content):
    a = net(content, ["relu4_2", "relu1_1"])
    b = net(content, iter(["relu1_1", "relu4_2"]))
    assert set(a) == set(b) == {"relu1_1", "relu4_2"}
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_it_is_frozen_and_the_gradient_reaches_the_image(net, content):
    assert not net.training
    assert not any(p.requires_grad for p in net.parameters())
    picture = content.clone().requires_grad_()
    net(picture, ["relu5_1"])["relu5_1"].sum().backward()
    assert torch.isfinite(picture.grad).all()
    assert picture.grad.abs().max() > 0
    assert all(p.grad is None for p in net.parameters())


def test_the_picture_is_left_as_it_is(net, content):
    before = content.clone()
    net(content, ALL_LAYERS)
    assert torch.equal(content, before)


def test_changing_the_weights_afterwards_does_not_change_the_network(content):
    weights = make_weights()
    net = Features(weights)
    before = net(content, ["relu2_1"])["relu2_1"]
    for tensor in weights.values():
        tensor.zero_()
    assert torch.equal(net(content, ["relu2_1"])["relu2_1"], before)


def test_a_batch_is_one_by_one(net):
    pictures = make_picture(33, 47, batch=2)
    together = net(pictures, ALL_LAYERS)
    for i in range(2):
        alone = net(pictures[i : i + 1], ALL_LAYERS)
        for layer in ALL_LAYERS:
            torch.testing.assert_close(
                together[layer][i : i + 1], alone[layer], rtol=1e-4, atol=1e-5
            )


@pytest.mark.parametrize("size", [(32, 80), (45, 33), (100, 31)])
def test_sides_are_halved_and_rounded_down_by_each_pool(net, size):
    h, w = size
    for layer, maps in net(make_picture(h, w), ["relu1_2", "relu3_4", "relu5_1"]).items():
        halvings = int(layer[4]) - 1
        assert maps.shape[2:] == (h >> halvings, w >> halvings)


# --- refusals ------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(ALL_LAYERS), st.integers(0, 40), st.booleans())
def test_the_least_size_stated_is_exactly_the_least_that_works(layer, extra, wide):
    net = tiny()
    with pytest.raises(ValueError, match="at least") if layer not in FIRST else _nothing():
        net(torch.zeros(1, 3, 1, 1), [layer])
    with pytest.raises(ValueError, match=re.escape(layer)) as caught:
        net(torch.zeros(1, 3, 0, 50), [layer])
    least = int(re.search(r"at least (\d+)", str(caught.value))[1])
    sizes = (least, least + extra) if wide else (least + extra, least)
    assert min(net(make_picture(*sizes), [layer])[layer].shape) >= 1
    with pytest.raises(ValueError, match=f"{least - 1} x {least + extra}.*at least {least}"):
        net(torch.zeros(1, 3, least + extra, least - 1), [layer])


FIRST = ("conv1_1", "relu1_1", "conv1_2", "relu1_2")


class _nothing:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False


@pytest.mark.parametrize("layer", ["conv6_1", "relu4_5", "Relu4_2", "", "pool0", "21", "input"])
def test_an_unknown_layer_lists_the_valid_ones(net, content, layer):
    with pytest.raises(ValueError) as caught:
        net(content, ["relu1_1", layer])
    assert repr(layer) in str(caught.value)
    assert ", ".join(ALL_LAYERS) in str(caught.value)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 1, 32, 32), (1, 4, 32, 32), (32, 32)])
def test_what_is_no_batch_of_rgb_images_is_refused(net, shape):
    with pytest.raises(ValueError, match=re.escape(str(shape))):
        net(torch.zeros(shape), ["relu1_1"])


@pytest.mark.parametrize("pooling", ["mean", "", None])
def test_an_unknown_pooling_is_refused(pooling):
    with pytest.raises(ValueError, match="'avg' or 'max'"):
        Features(make_weights(), pooling)


def test_values_per_pixel_are_those_of_the_maps(net):
    picture = make_picture(64, 64)
    for deepest in ("relu1_1", "relu2_2", "pool3", "relu5_4"):
        upto = ALL_LAYERS[: ALL_LAYERS.index(deepest) + 1]
        maps = net(picture, [name for name in upto if not name.startswith("conv")])
        counted = {name: m.numel() / 64**2 for name, m in maps.items()}
        assert net.values_per_pixel([deepest]) == pytest.approx(counted)


# --- precision and memory ------------------------------------------------------------------------


def test_half_precision_sees_nearly_the_same(weights, net, content):
    half = Features(weights).to_precision("bfloat16")
    assert half.precision == "bfloat16"
    assert all(p.dtype == torch.bfloat16 for p in half.parameters())
    found, exact = half(content, ALL_LAYERS), net(content, ALL_LAYERS)
    for name, maps in found.items():
        assert maps.dtype == torch.float32
        error = (maps - exact[name]).square().mean() / exact[name].square().mean()
        assert error < 1e-3, name
    assert not torch.equal(found["relu1_1"], exact["relu1_1"])


def test_maps_can_be_viewed_as_the_lecture_does(weights, content):
    for precision in ("float32", "bfloat16"):
        maps = Features(weights).to_precision(precision)(content, ["relu2_1"])["relu2_1"]
        assert maps.view(maps.shape[1], -1).numpy().shape == (6, 24 * 32)


def test_an_unknown_precision_is_refused(small_file):
    with pytest.raises(ValueError, match=r"precision must be one of float32, bfloat16; got 'int8'"):
        Features(make_weights()).to_precision("int8")
    with pytest.raises(ValueError, match="'int8'"):
        load_network(small_file, normalise=False, precision="int8")


def sums_over_positions(name, maps, rows):
    assert rows.stop - rows.start == maps.shape[2]
    weights = torch.arange(rows.start, rows.stop).view(-1, 1).sqrt()  # tells one row from another
    return (maps * weights).sum((2, 3)), maps.square().sum((1, 2, 3))


@pytest.mark.parametrize("height", [16, 127, 128, 129, 200, 257])
@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_low_memory_gives_the_same_sums_and_gradient(weights, pooling, height):
    net, picture = Features(weights, pooling), make_picture(height, 24)
    layers = ["relu1_1", "conv1_2", "pool1", "relu2_2", "pool3", "relu4_2", "conv5_1"]
    results = []
    for low in (False, True):
        image = picture.clone().requires_grad_()
        sums = net(image, layers, then=sums_over_positions, low_memory=low)
        total = sum((a.tanh().sum() + b.sqrt().sum()) for a, b in sums.values())
        results.append((sums, torch.autograd.grad(total, image)[0]))
    (sums, gradient), (low_sums, low_gradient) = results
    assert list(sums) == list(low_sums) == layers
    for name in layers:
        torch.testing.assert_close(low_sums[name], sums[name], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(low_gradient, gradient, rtol=1e-3, atol=1e-5)


def test_then_gets_each_wanted_layer_and_its_answers_are_returned(net, content):
    seen = []

    def then(name, maps, rows):
        seen.append((name, rows))
        return (maps.mean((2, 3)),)

    answers = net(content, ["relu3_1", "relu1_2"], then=then)
    assert seen == [("relu1_2", slice(0, 48)), ("relu3_1", slice(0, 12))]
    maps = net(content, ["relu1_2", "relu3_1"])
    for name, (mean,) in answers.items():
        torch.testing.assert_close(mean, maps[name].mean((2, 3)))


# --- normalisation -------------------------------------------------------------------------------


def relu_names(net):
    return [name for name in net.layers if name.startswith("relu")]


def mean_activations(net, pictures):
    """The mean rectified activation of each filter over images and positions, the slow way."""
    means = {}
    for name in relu_names(net):
        values = [net(p, [name])[name].double().transpose(0, 1).flatten(1) for p in pictures]
        means[name] = torch.cat(values, 1).mean(1)
    return means


PICTURES = [make_picture(32, 48, seed=5), make_picture(64, 40, seed=6, batch=2)]


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_each_filters_mean_activation_is_1_after_normalising(pooling):
    net = Features(make_weights(), pooling)
    before, after = (
        mean_activations(x, PICTURES) for x in (net, normalise_activations(net, PICTURES))
    )
    lively = 0
    for name, means in after.items():
        on = before[name] > 1e-2 * before[name].mean()
        lively += on.sum().item()
        torch.testing.assert_close(means[on], torch.ones_like(means[on]), rtol=1e-4, atol=0)
        dead = before[name] < 1e-4 * before[name].mean()
        assert (means[dead] < 1e-3).all()
    assert lively > 80  # of 116 filters


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_normalising_changes_nothing_but_one_positive_factor_for_each_filter(pooling):
    net = Features(make_weights(), pooling)
    normalised = normalise_activations(net, PICTURES)
    assert normalised.pooling == pooling
    other = make_picture(40, 40, seed=77)  # not one of the pictures used
    a, b = net(other, ALL_LAYERS), normalised(other, ALL_LAYERS)
    for layer in ALL_LAYERS:
        if layer.startswith("conv"):  # its ReLU, and the pool behind that, have the same factor
            scale = (a[layer] * b[layer]).sum((0, 2, 3)) / b[layer].square().sum((0, 2, 3))
            assert scale.min() > 0
        torch.testing.assert_close(
            b[layer] * scale.view(1, -1, 1, 1), a[layer], rtol=1e-3, atol=1e-4
        )


def test_normalising_twice_is_normalising_once():
    once = normalise_activations(Features(make_weights()), PICTURES)
    twice = normalise_activations(once, PICTURES)
    for a, b in zip(once.state_dict().values(), twice.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("left", [0.0, 1e-7])
def test_a_filter_that_is_hardly_excited_is_scaled_like_the_others(left):
    weights = make_weights()
    weights["conv2_1.weight"][3] *= 1e-7  # so that it is the bias everywhere
    weights["conv2_1.bias"][3] = left - 2.0 * (left == 0)
    net = Features(weights)
    others = mean_activations(net, PICTURES)["relu2_1"]
    others = others[others > 1e-3]
    before = net(PICTURES[0], ["conv2_1"])["conv2_1"][:, 3]
    found = normalise_activations(net, PICTURES)
    after = found(PICTURES[0], ["conv2_1"])["conv2_1"][:, 3]
    scale = (before / after).median()
    assert 0.2 * others.min() <= scale <= others.max()
    assert all(torch.isfinite(p).all() for p in found.parameters())


@pytest.mark.parametrize("seed", range(4))
def test_normalised_weights_fit_half_precision(seed):
    # A filter that fires once in a thousand pictures must not get weights beyond 65504.
    net = normalise_activations(Features(make_weights((8, 8, 8, 8, 8), seed=seed)), PICTURES)
    assert max(p.abs().max().item() for p in net.parameters()) < 65504


def test_normalising_weighs_positions_and_not_images():
    small, large = make_picture(32, 32, seed=1), make_picture(96, 96, seed=2)
    net = normalise_activations(tiny(), [small, large])
    mean = mean_activations(net, [small, large])["relu1_1"]
    torch.testing.assert_close(mean, torch.ones_like(mean), rtol=1e-4, atol=0)


def test_normalising_leaves_the_original_and_the_pictures_alone():
    net = Features(make_weights())
    state = {k: v.clone() for k, v in net.state_dict().items()}
    pictures = [p.clone() for p in PICTURES]
    normalised = normalise_activations(net, iter(pictures))
    assert normalised is not net
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(pictures, PICTURES, strict=True))
    assert not any(p.requires_grad for p in normalised.parameters())


def test_normalising_needs_a_picture():
    with pytest.raises(ValueError, match="at least one image"):
        normalise_activations(tiny(), [])


# --- load_network --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "small.pth"
    torch.save(make_weights((2, 2, 2, 2, 2)), path)
    return path


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_a_loaded_network_is_normalised_over_the_samples(small_file, pooling):
    net = load_network(small_file, pooling=pooling, device="cpu", precision="float32")
    assert net.pooling == pooling
    pictures = [load_image(path, 160) for path in sample_images().values()]
    for means in mean_activations(net, pictures).values():
        on = means > 0.1  # but for a filter that no picture excites
        torch.testing.assert_close(means[on], torch.ones_like(means[on]), rtol=1e-3, atol=0)


def test_without_normalising_the_file_is_taken_as_it_is(small_file):
    net = load_network(small_file, normalise=False, device="cpu", precision="float32")
    for key, value in make_weights((2, 2, 2, 2, 2)).items():
        name, kind = key.split(".")
        assert torch.equal(getattr(net.convolutions[name], kind), value)
    assert net.name == "small.pth"


def test_the_bundled_network_has_vgg19s_layers():
    net = load_network("bundled", device="cpu")
    assert list(net.layers) == ALL_LAYERS
    assert "bundled" in net.name
    assert net.device == torch.device("cpu")
    assert net.precision == best_precision("cpu")


def test_the_bundled_network_is_normalised():
    net = load_network("bundled", device="cpu")
    pictures = [load_image(name, 96) for name in sample_images()]
    found = [net(p, ["relu1_1", "relu2_1", "relu3_1"]) for p in pictures]
    for name in ("relu1_1", "relu2_1", "relu3_1"):
        mean = torch.cat([f[name].flatten() for f in found]).mean().item()
        assert 0.5 < mean < 2, name


@pytest.mark.skipif(not REAL.is_file(), reason=f"needs shared/data/{REAL.name}")
def test_the_authors_own_normalised_network_has_a_mean_activation_of_about_1():
    net = load_network(REAL, pooling="max", normalise=False, device="cpu")
    pictures = [load_image(name, 96) for name in ("astronaut", "chelsea", "coffee")]
    for name in ("relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_1"):
        mean = torch.cat([net(p, [name])[name].flatten() for p in pictures]).mean().item()
        assert 0.5 < mean < 2, name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_sees_what_the_cpu_sees(net, content):
    gpu = Features(make_weights()).to("cuda")
    assert gpu.device.type == "cuda"
    found = gpu(content.cuda(), ["relu4_2"])["relu4_2"].cpu()
    torch.testing.assert_close(found, net(content, ["relu4_2"])["relu4_2"], rtol=1e-2, atol=1e-2)
