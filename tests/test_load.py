"""Networks that are ready to use, from a file and from the package."""

from pathlib import Path

import pytest
import torch

from helpers import LAYERS, make_weights, mean_activations
from nst_helpers import load_image, load_network, sample_images
from nst_helpers.engine.devices import best_precision

REAL = Path(__file__).resolve().parents[2] / "shared/data/vgg19_normalised_to_conv3_1.safetensors"


@pytest.fixture(scope="module")
def small_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "small.pth"
    torch.save(make_weights((2, 2, 2, 2, 2)), path)
    return path


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_a_loaded_network_is_normalised_over_the_samples(small_file, pooling):
    net = load_network(small_file, pooling=pooling, device="cpu", precision="float32")
    assert net.pooling == pooling
    images = [load_image(path, 160) for path in sample_images().values()]
    for means in mean_activations(net, images).values():
        live = means > 0.1  # but for a filter that no sample excites
        torch.testing.assert_close(means[live], torch.ones_like(means[live]), rtol=1e-3, atol=0)


def test_without_normalising_the_weights_are_those_of_the_file(small_file):
    net = load_network(small_file, normalise=False, device="cpu", precision="float32")
    for key, value in make_weights((2, 2, 2, 2, 2)).items():
        name, kind = key.split(".")
        assert torch.equal(getattr(net.convolutions[name], kind), value)
    assert (net.name, net.source, net.precision) == ("small.pth", str(small_file), "float32")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "mean"}, "pooling must be one of avg, max; got 'mean'"),
        ({"pooling": None}, "pooling must be one of avg, max; got None"),
        ({"precision": "int8"}, "precision must be one of auto, float32, bfloat16; got 'int8'"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_read(options, message):
    with pytest.raises(ValueError, match=message):
        load_network("there is no such file", **options)


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(FileNotFoundError, match=r"no network 'nowhere\.pth'"):
        load_network("nowhere.pth")


def test_the_bundled_network_has_vgg19s_layers():
    net = load_network("bundled", device="cpu")
    assert list(net.layers) == LAYERS
    assert "bundled" in net.name
    assert (net.source, net.device) == ("bundled", torch.device("cpu"))
    assert net.precision == best_precision("cpu")


def mean_activation(net, images, layer):
    return torch.cat([net(image, [layer])[layer].flatten() for image in images]).mean().item()


def test_the_bundled_network_is_normalised():
    net = load_network("bundled", device="cpu")
    images = [load_image(name, 96) for name in sample_images()]
    for name in ("relu1_1", "relu2_1", "relu3_1"):
        assert 0.5 < mean_activation(net, images, name) < 2, name


@pytest.mark.skipif(not REAL.is_file(), reason=f"needs shared/data/{REAL.name}")
def test_the_authors_own_normalised_network_has_a_mean_activation_of_about_1():
    net = load_network(REAL, pooling="max", normalise=False, device="cpu")
    images = [load_image(name, 96) for name in ("astronaut", "chelsea", "coffee")]
    for name in ("relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_1"):
        assert 0.5 < mean_activation(net, images, name) < 2, name
