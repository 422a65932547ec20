"""A small seeded network and small pictures, so that the whole suite takes minutes on one core."""

import contextlib
import signal
import urllib.request

import matplotlib
import pytest
import torch

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from helpers import LocalServer, make_picture, make_weights, torchvision_keys
from nst_helpers import Features, StyleTransferExplorer
from nst_helpers._signals import CAUGHT


@pytest.fixture(scope="session")
def weights():
    return make_weights()


@pytest.fixture(scope="session")
def net(weights):
    return Features(weights, name="small network")


@pytest.fixture(scope="session")
def content():
    return make_picture(48, 64, seed=1)


@pytest.fixture(scope="session")
def style():
    return make_picture(56, 40, seed=2)


@pytest.fixture(scope="session")
def vgg19():
    """Torchvision's own VGG-19 (its convolutions; random weights) and the weights by our names."""
    models = pytest.importorskip("torchvision.models")
    with torch.device("meta"):  # spares the classifier's 123 million numbers
        features = models.vgg19(weights=None, init_weights=False).features
    weights = make_weights((64, 128, 256, 512, 512))
    features = features.to_empty(device="cpu").eval().requires_grad_(False)
    state = {k.removeprefix("features."): v for k, v in torchvision_keys(weights).items()}
    features.load_state_dict(state)
    return features, weights


@pytest.fixture
def explore(net, tmp_path):
    """Make explorers of a small network, which end with the test."""
    made = []

    def make(*pictures, **options):
        options = {"net": net, "size": 64, "steps": 2000, "output": tmp_path / "saved", **options}
        made.append(StyleTransferExplorer(*pictures, **options))
        return made[-1]

    yield make
    for explorer in made:
        explorer.stop()
        explorer.close()


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture
def set_threads():
    """Set torch's number of threads, for this test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def heeded_signals():
    """Signals that ask a program to end, not ignored as under nohup, which programs inherit."""
    ignored = [number for number in CAUGHT if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.default_int_handler)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture
def no_proxies(monkeypatch):
    """Let requests go straight to where they are sent, whatever this machine's settings."""
    monkeypatch.setattr(urllib.request, "_opener", None)  # it remembers the proxies it first saw
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def hub(no_proxies, tmp_path, monkeypatch):
    """An empty folder for what torch.hub and this package download."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return tmp_path / "torch" / "hub"


@pytest.fixture
def serve(no_proxies):
    """Start local web servers, each with one body for every request: see LocalServer."""
    with contextlib.ExitStack() as stack:

        def start(body, **options):
            server = LocalServer(body, **options)
            stack.callback(server.stop)
            return server

        yield start


def pytest_addoption(parser):
    group = parser.getgroup("campaigns of hostile cases: tests/campaigns")
    group.addoption("--campaign", type=int, help="cases of each campaign; a few if not given")
    group.addoption("--campaign-seed", type=int, default=0, help="another seed, other cases")
