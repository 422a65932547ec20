"""What another cell has set for all of torch changes no picture."""

import contextlib
import math
import threading

import pytest
import torch

from helpers import make_picture, make_weights
from nst_helpers import (
    Features,
    StyleTransferLoss,
    load_network,
    noise_like,
    normalise_activations,
    optimize,
    total_variation,
)
from nst_helpers.engine import threads

WEIGHTS = make_weights()
CONTENT, STYLE = make_picture(64, 64, seed=1), make_picture(64, 64, seed=2)


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


SURROUNDINGS = {
    "doubles": lambda: default_dtype(torch.float64),
    "halves": lambda: default_dtype(torch.float16),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "tensors without values": lambda: torch.device("meta"),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu"),
    "deterministic": deterministic,
    "anomaly detection": lambda: torch.autograd.set_detect_anomaly(True, check_nan=False),
}


@pytest.fixture(autouse=True)
def _as_many_threads_throughout(monkeypatch):
    """The last maps here are 3 x 3: oneDNN rounds their gradient otherwise with one thread."""
    monkeypatch.setattr(threads, "LOOK_EVERY", math.inf)


def paint(**options):
    """All of it, from the weights to the picture."""
    images = [CONTENT.clone(), STYLE.clone()]
    net = normalise_activations(Features(WEIGHTS), images)
    loss = StyleTransferLoss(net, *images, alpha=[1e-3], tv_weight=1e-2)
    result = optimize(loss, noise_like(images[0]), **{"steps": 8, **options})
    return net, loss, result


@pytest.mark.parametrize("options", [{}, {"optimizer": "adam"}, {"pyramid": (48,)}])
@pytest.mark.parametrize("name", SURROUNDINGS)
@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_the_picture_is_the_same_bit_for_bit(name, options):
    _, other, expected = paint(**options)
    with SURROUNDINGS[name]():
        net, loss, result = paint(**options)
        values = loss(CONTENT.clone())
    assert torch.equal(result.unclipped, expected.unclipped)
    assert [entry["total"] for entry in result.history] == [
        entry["total"] for entry in expected.history
    ]
    assert all(value.dtype == torch.float32 for value in net.state_dict().values())
    assert all(term.dtype == torch.float32 for term in values)
    # What was made there is of use elsewhere.
    again = optimize(loss, result, steps=4)
    assert torch.equal(again.unclipped, optimize(other, expected, steps=4).unclipped)
    assert torch.is_grad_enabled()


def test_another_thread_paints_the_same():
    results = []
    with torch.device("meta"), torch.inference_mode():
        thread = threading.Thread(target=lambda: results.append(paint()[2]))
        thread.start()
        thread.join()
    assert torch.equal(results[0].unclipped, paint()[2].unclipped)


@pytest.mark.parametrize("enabled", [True, False])
def test_gradients_are_recorded_by_a_loss_as_they_would_be_without_it(enabled):
    _, loss, _ = paint(steps=1)
    image = CONTENT.clone().requires_grad_()
    with torch.set_grad_enabled(enabled):
        assert loss(image).total.requires_grad == enabled
        assert total_variation(image).requires_grad == enabled
        assert loss.net(image, ["relu2_1"])["relu2_1"].requires_grad == enabled
        assert torch.is_grad_enabled() == enabled


def test_a_network_that_was_loaded_in_inference_mode_has_gradients_outside():
    with torch.inference_mode():
        net = load_network("bundled", device="cpu", precision="bfloat16")
        content = CONTENT.clone()
    options = {"content_layers": "relu2_1", "alpha": 1.0}
    result = optimize(StyleTransferLoss(net, content, **options), noise_like(content), steps=2)
    assert result.history[1]["total"] < result.history[0]["total"]


def test_making_a_network_takes_none_of_torchs_random_numbers():
    state = torch.get_rng_state()
    Features(WEIGHTS)
    assert torch.equal(torch.get_rng_state(), state)
