"""A VGG is found in a file whatever it is wrapped in, and what is none is refused by name."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from helpers import LAYOUT, NAMES, make_picture, make_weights, torchvision_keys
from nst_helpers import Features, load_weights
from nst_helpers.network.vgg_layers import find_vgg, layer_names

TINY = (2, 3, 2, 3, 2)
WIDE = make_weights((64, 128, 256, 512, 512), NAMES[:10])  # to conv4_2
COUNTED = {k.removeprefix("features."): v for k, v in torchvision_keys(make_weights(TINY)).items()}


def under(prefix, state=COUNTED):
    return {prefix + key: value for key, value in state.items()}


def check_same(found, expected):
    assert list(found.convolutions) == [k.split(".")[0] for k in expected if k.endswith("weight")]
    for name, (weight, bias) in found.convolutions.items():
        assert torch.equal(weight, expected[f"{name}.weight"])
        assert torch.equal(bias, expected[f"{name}.bias"])


# --- keys ----------------------------------------------------------------------------------------

PREFIXES = [
    *("", "features.", "module.features.", "features.module.", "module.features.module."),
    *("vgg.", "vgg.features.", "net.", "model.features.", "backbone.features.", "encoder."),
    *(
        "cnn.features.module.",
        "_orig_mod.features.",
        "model.0.",
        "vgg19.0.",
        "loss.vgg.0.features.",
    ),
]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_are_taken_off(prefix):
    check_same(find_vgg(under(prefix)), make_weights(TINY))


@pytest.mark.parametrize("prefix", ["", "module.", "vgg.", "net.vgg19."])
def test_prefixes_of_the_papers_names_are_taken_off(prefix):
    expected = make_weights(TINY)
    check_same(find_vgg(under(prefix, expected)), expected)


@pytest.mark.parametrize("form", ["block{}_conv{}", "conv_{}_{}", "block{0}.conv{0}_{1}"])
def test_other_spellings_of_the_papers_names(form):
    expected = make_weights(TINY)
    state = {form.format(k[4], k[6]) + k[7:]: v for k, v in expected.items()}
    check_same(find_vgg(state), expected)


def lpips(key):
    """Slices that end at relu1_2, relu2_2 ..., with the numbers of the whole."""
    index = int(key.split(".")[0])
    return f"net.slice{1 + sum(index > end for end in (3, 8, 17, 26))}."


def test_slices_that_keep_the_numbers_of_the_whole():
    check_same(find_vgg({lpips(k) + k: v for k, v in COUNTED.items()}), make_weights(TINY))


CUTS = (("enc_1", 0, 4), ("enc_2", 4, 11), ("enc_3", 11, 18), ("enc_4", 18, 31))  # AdaIN's


def test_slices_that_each_begin_at_0_are_told_by_vggs_widths():
    whole = adain(WIDE)
    slices = nn.ModuleDict({name: whole[start:end] for name, start, end in CUTS})
    found = find_vgg({f"encoder.{k}": v for k, v in slices.state_dict().items()})
    expected = {k: v for k, v in WIDE.items() if not k.startswith("conv4_2")}
    check_same(found, expected)
    assert found.colours is not None


def test_convolutions_counted_without_the_layers_between_are_told_by_vggs_widths():
    state = {}
    for i, name in enumerate(NAMES[:10], 1):
        state |= {f"conv{i}.{kind}": WIDE[f"{name}.{kind}"] for kind in ("weight", "bias")}
    check_same(find_vgg(state), WIDE)


def test_a_classifier_in_the_same_sequence_is_left_out():
    state = COUNTED | {"38.weight": torch.zeros(4, 2), "38.bias": torch.zeros(4)}
    check_same(find_vgg(state), make_weights(TINY))


# --- wrappers ------------------------------------------------------------------------------------

STATE = under("features.")
WRAPPED = {
    "state_dict": {"state_dict": STATE, "epoch": 60, "best": torch.tensor(0.7)},
    "model": {"model": under("module."), "optimizer": {"state": {0: {"step": torch.ones(())}}}},
    "model_state_dict": {"model_state_dict": STATE, "loss": 0.1},
    "net": {"net": STATE},
    "a list": [STATE, 7],
    "two networks": {"model": [under("cnn.features."), {"fc.weight": torch.zeros(3, 3)}]},
    "with an average": {
        "state_dict": STATE,
        "state_dict_ema": {k: v + 1 for k, v in STATE.items()},
    },
    "the average alone": {"model_ema": STATE},
    "twice the same": {"model": STATE, "best": STATE},
    "with a decoder": under("encoder.") | {"decoder.1.weight": torch.zeros(256, 512, 3, 3)},
    "with a discriminator": {
        "G": STATE,
        "D": {"0.weight": torch.zeros(8, 3, 3, 3), "0.bias": torch.zeros(8)},
    },
}


@pytest.mark.parametrize("kind", WRAPPED)
@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoints_are_unwrapped(tmp_path, kind, zipped):
    path = tmp_path / "model.pth.tar"
    torch.save(WRAPPED[kind], path, _use_new_zipfile_serialization=zipped)
    loaded, _ = load_weights(path)
    expected = make_weights(TINY)
    assert list(loaded) == list(expected)
    assert all(torch.equal(loaded[key], value) for key, value in expected.items())


# --- batch normalisation -------------------------------------------------------------------------


def vgg_bn(channels, *, bias=True, affine=True):
    """A VGG-19 with batch normalisation that has seen data, as torchvision has it."""
    modules, width = [], 3
    for out, count in zip(channels, LAYOUT, strict=True):
        for _ in range(count):
            conv = nn.Conv2d(width, out, 3, padding=1, bias=bias)
            modules += [conv, nn.BatchNorm2d(out, affine=affine), nn.ReLU()]
            width = out
        modules.append(nn.AvgPool2d(2))
    net = nn.Sequential(*modules)
    generator = torch.Generator().manual_seed(0)
    for tensor in net.state_dict().values():
        if tensor.dim() == 1:  # all that batch normalisation has, and biases
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)
    return net.eval()


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"affine": False}])
def test_batch_normalisation_is_folded_in_exactly(tmp_path, capsys, options):
    torch.manual_seed(0)
    net = vgg_bn((4, 6, 8, 8, 8), **options)
    torch.save({"state_dict": under("features.module.", net.state_dict())}, tmp_path / "bn.pth")
    weights, _ = load_weights(tmp_path / "bn.pth")
    assert capsys.readouterr().out == "network: bn.pth: batch normalisation folded in\n"
    features = Features(weights)
    image = make_picture(64, 32)
    layers = [layer for layer in features.layers if not layer.startswith("conv")]
    ours = features(image, layers)
    with torch.no_grad():
        x = features.normalised(image)
        for module in net:
            x = module(x)
            if not isinstance(module, nn.Conv2d | nn.BatchNorm2d):
                expected = ours[layers.pop(0)]
                torch.testing.assert_close(x, expected, rtol=1e-4, atol=1e-5)
    assert not layers


def test_batch_normalisation_of_named_convolutions():
    weights = make_weights(TINY)
    norms = {}
    for name in NAMES:
        out = weights[f"{name}.bias"].shape
        norms |= {
            f"bn{name[4:]}.running_mean": torch.ones(out),
            f"bn{name[4:]}.weight": torch.ones(out),
        }
        norms |= {
            f"bn{name[4:]}.running_var": torch.ones(out),
            f"bn{name[4:]}.bias": torch.ones(out),
        }
    found = find_vgg(weights | norms)
    assert found.batch_norm
    torch.testing.assert_close(
        found.convolutions["conv5_4"][0], weights["conv5_4.weight"], rtol=1e-4, atol=1e-6
    )


# --- AdaIN's -------------------------------------------------------------------------------------


def adain(weights, colours=True):
    """The sequence that vgg_normalised.pth is of, with these weights."""
    caffe = nn.Conv2d(3, 3, 1)
    caffe.weight.data = 255 * torch.eye(3).flip(0).view(3, 3, 1, 1)
    caffe.bias.data = -torch.tensor([103.939, 116.779, 123.68])
    modules = [caffe] if colours else []
    block = "1"
    for name in dict.fromkeys(key.split(".")[0] for key in weights):
        if name[4] != block:
            modules.append(nn.MaxPool2d(2, ceil_mode=True))
            block = name[4]
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        conv = nn.Conv2d(weight.shape[1], weight.shape[0], 3)
        conv.load_state_dict({"weight": weight, "bias": bias})
        modules += [nn.ReflectionPad2d(1), conv, nn.ReLU()]
    return nn.Sequential(*modules)


def test_adains_keys_are_those_of_its_file():
    keys = [k for k in adain(make_weights(TINY)).state_dict() if k.endswith("weight")]
    places = (0, 2, 5, 9, 12, 16, 19, 22, 25, 29, 32, 35, 38, 42, 45, 48, 51)
    assert keys == [f"{i}.weight" for i in places]


def test_adains_network_computes_the_same_inside(tmp_path, capsys):
    weights = make_weights(TINY)
    net = adain(weights)
    torch.save(net.state_dict(), tmp_path / "vgg_normalised.pth")
    loaded, _ = load_weights(tmp_path / "vgg_normalised.pth")
    line = capsys.readouterr().out
    assert line.startswith("network: vgg_normalised.pth: the 1 x 1 convolution before the first")
    assert line.count("\n") == 1
    image = make_picture(64, 64)
    ours = Features(loaded, "max")(image, ["relu1_2", "relu2_2"])
    with torch.no_grad():
        theirs = {"relu1_2": net[:7](image), "relu2_2": net[:14](image)}
    for layer, inside in (("relu1_2", slice(2, -2)), ("relu2_2", slice(4, -4))):
        a, b = (x[layer][..., inside, inside] for x in (ours, theirs))
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * b.abs().max().item())


def test_adains_network_without_its_first_convolution_or_its_end():
    weights = make_weights(TINY)
    check_same(find_vgg(adain(weights, colours=False).state_dict()), weights)
    found = find_vgg(adain(weights)[:31].state_dict())
    assert list(found.convolutions) == layer_names(9)


# --- refusals ------------------------------------------------------------------------------------


def conv(key, out=8, channels=3, side=3):
    return {
        f"{key}.weight": torch.zeros(out, channels, side, side),
        f"{key}.bias": torch.zeros(out),
    }


NO_VGG = {
    "a kernel of 11": (conv("features.0", side=11), r"'features\.0'.*11, 11"),
    "a decoder": (conv("0", 4, 512) | conv("3", 4, 4), r"conv1_1.*512.*expected \(4, 3, 3, 3\)"),
    "residual": (conv("conv1", side=7) | conv("layer1.0.conv1", 8, 8), "a ResNet"),
    "squeeze": (conv("features.0") | conv("features.3.squeeze", 4, 8, 1), "a SqueezeNet"),
    "dense": (conv("features.conv0") | conv("features.denseblock1.l", 4, 8), "a DenseNet"),
    "layers between": (conv("features.0") | {"features.1.weight": torch.ones(8)}, "features.1"),
    "something else in the features": (
        conv("features.0") | {"features.attend.weight": torch.ones(8, 8)},
        r"'features\.attend'",
    ),
    "a layer missing": (
        {k: v for k, v in make_weights(TINY).items() if "conv2_1" not in k},
        "without conv2_1",
    ),
    "six blocks": (make_weights((2,) * 6, [f"conv{b}_1" for b in range(1, 7)]), "conv6_1"),
    "places of no VGG": (
        conv("0") | conv("2", 8, 8) | conv("4", 8, 8),
        r"\(0, 2, 4\) lie as in no",
    ),
    "a dozen apart": (conv("0") | conv("12", 8, 8), r"\(0, 12\) lie as in no VGG"),
    "counted only": (conv("conv1") | conv("conv2", 8, 8), "lie as in no VGG"),
    "only a mixing of colours": (conv("0", 3, 3, 1), "a single convolution"),
    "two VGGs": (under("a.") | under("b.", {k: v + 1 for k, v in COUNTED.items()}), "'a' and 'b'"),
    "two VGGs under other names": (
        COUNTED | {k: v + 1 for k, v in make_weights(TINY).items()},
        "'the top' and 'the top'",
    ),
    "one name twice": (
        make_weights(TINY) | under("e1.", make_weights(TINY)) | under("e2.", make_weights(TINY)),
        "several layers of one name",
    ),
    "LPIPS's own": ({"lin0.model.1.weight": torch.zeros(1, 64, 1, 1)}, "LPIPS"),
    "a norm that does not fit": (
        conv("conv1_1") | {"bn1_1.weight": torch.ones(8), "bn1_1.bias": torch.ones(8)},
        r"'bn1_1', which does not fit",
    ),
    "a norm of negative variance": (
        conv("0") | {"1.running_mean": torch.ones(8), "1.running_var": -torch.ones(8)},
        "variance below 0",
    ),
    "nothing": ({}, "found none"),
}


@pytest.mark.parametrize("kind", NO_VGG)
def test_what_is_no_vgg_is_refused_by_name_when_loaded(tmp_path, kind):
    state, words = NO_VGG[kind]
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(ValueError, match=rf"net\.pth holds (no VGG|2 VGGs).*{words}"):
        load_weights(tmp_path / "net.pth")


OTHERS = (
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3"),
    *("mnasnet1_0", "mobilenet_v2", "mobilenet_v3_small", "resnet18"),
    *("shufflenet_v2_x1_0", "squeezenet1_1", "swin_t", "vit_b_16"),
)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.filterwarnings("ignore:The default weight initialization")
def test_torchvisions_other_networks_are_refused(name):
    models = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        net = getattr(models, name)(weights=None)
    with pytest.raises(ValueError, match="holds no VGG") as caught:
        find_vgg(net.state_dict())
    assert "device" not in str(caught.value)


@pytest.mark.parametrize("name", ["vgg11", "vgg13", "vgg16", "vgg19"])
@pytest.mark.parametrize("norm", [False, True])
def test_torchvisions_vggs_are_known_by_their_keys(name, norm):
    models = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        net = getattr(models, name + "_bn" * norm)(weights=None)
    block, i, names = 1, 0, []
    for module in net.features:
        if isinstance(module, nn.Conv2d):
            i += 1
            names.append(f"conv{block}_{i}")
        elif isinstance(module, nn.MaxPool2d):
            block, i = block + 1, 0
    # Small tensors in place of the real ones, which would take hundreds of megabytes.
    state = {
        k: torch.zeros([min(n, 4) if n > 3 else n for n in v.shape])
        for k, v in net.state_dict().items()
    }
    assert list(find_vgg(state).convolutions) == names


# --- numbers -------------------------------------------------------------------------------------

ONE = torch.zeros(1)
FIRST = {k: v for k, v in make_weights(TINY).items() if k.startswith("conv1_1")}
CLAIMS = {
    "10 GB in a number": (
        {
            "conv1_1.weight": ONE.as_strided((10**8, 3, 3, 3), (0,) * 4),
            "conv1_1.bias": ONE.as_strided((10**8,), (0,)),
        },
        "numbers",
    ),
    "repeats": ({**FIRST, "conv1_1.bias": ONE.expand(2)}, "strides of 0"),
    "meta": ({k: v.to("meta") for k, v in FIRST.items()}, "'meta'"),
    "sparse": ({**FIRST, "conv1_1.weight": FIRST["conv1_1.weight"].to_sparse()}, "not plain"),
    "complex": ({k: v * 1j for k, v in FIRST.items()}, "complex64"),
    "whole numbers": ({k: v.long() for k, v in FIRST.items()}, "int64"),
}


@pytest.mark.parametrize("kind", CLAIMS)
def test_numbers_that_are_not_plain_are_refused_before_they_are_copied(tmp_path, kind):
    state, words = CLAIMS[kind]
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(ValueError, match=rf"net\.pth holds no VGG: conv1_1 has weights.*{words}"):
        load_weights(tmp_path / "net.pth")


def test_the_weights_are_copies(tmp_path):
    """And not the file, mapped: it may change or go."""
    state = under("features.")
    found = find_vgg(state)
    state["features.0.weight"].zero_()
    assert found.convolutions["conv1_1"][0].abs().sum() > 0


def test_other_strides_are_other_orders_of_the_same_numbers(tmp_path):
    expected = make_weights(TINY)
    state = {
        k: v.to(memory_format=torch.channels_last) if v.dim() == 4 else v
        for k, v in expected.items()
    }
    torch.save(state, tmp_path / "net.pth")
    loaded, _ = load_weights(tmp_path / "net.pth")
    assert all(torch.equal(loaded[key], value) for key, value in expected.items())
    assert loaded["conv1_1.weight"].is_contiguous()
    assert F.conv2d(torch.ones(1, 3, 4, 4), loaded["conv1_1.weight"]).isfinite().all()
