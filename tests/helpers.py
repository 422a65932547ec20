"""What several test files need: small pictures, small seeded networks."""

import http.server
import io
import itertools
import math
import socket
import sys
import threading
import time
from typing import NamedTuple

import torch
from PIL import Image

LAYOUT = (2, 2, 4, 4, 4)
NAMES = [f"conv{block}_{i}" for block, n in enumerate(LAYOUT, 1) for i in range(1, n + 1)]
# All layers of VGG-19, in order: conv1_1, relu1_1, ..., pool1, conv2_1, ...
LAYERS = [
    layer
    for block, count in enumerate(LAYOUT, 1)
    for layer in [
        *(f"{kind}{block}_{i}" for i in range(1, count + 1) for kind in ("conv", "relu")),
        f"pool{block}",
    ]
]


def make_weights(channels=(4, 6, 8, 8, 8), names=NAMES, seed=0):
    """Seeded weights in VGG-19's layout, with biases that are not zero."""
    generator = torch.Generator().manual_seed(seed)
    weights, before = {}, 3
    for name in names:
        out = channels[int(name[4]) - 1]
        scale = math.sqrt(2 / (9 * before))
        weights[f"{name}.weight"] = torch.randn(out, before, 3, 3, generator=generator) * scale
        weights[f"{name}.bias"] = torch.randn(out, generator=generator) * 0.1
        before = out
    return weights


def torchvision_keys(weights):
    """The same state dict under the keys of ``torchvision.models.vgg19().features``."""
    keys, index, block = {}, 0, "1"
    for key in weights:
        name, kind = key.split(".")
        if kind == "weight":
            if name[4] != block:
                index, block = index + 1, name[4]  # the pooling layer
            keys[f"features.{index}.weight"] = weights[key]
            keys[f"features.{index}.bias"] = weights[f"{name}.bias"]
            index += 2  # the convolution and its ReLU
    return keys


def make_picture(height, width, seed=0, batch=1):
    """Coloured waves with a little noise: neither flat nor white noise."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.linspace(0, 1, height).view(1, 1, -1, 1)
    x = torch.linspace(0, 1, width).view(1, 1, 1, -1)
    pace = 2 + 14 * torch.rand(2, batch, 3, 1, 1, generator=generator)
    waves = 0.5 + 0.2 * torch.sin(pace[0] * y) + 0.2 * torch.cos(pace[1] * x)
    noise = 0.05 * torch.randn(batch, 3, height, width, generator=generator)
    return (waves + noise).clamp(0, 1)


def mean_activations(net, images):
    """The mean rectified activation of each filter over images and positions, by definition."""
    means = {}
    for name in (name for name in net.layers if name.startswith("relu")):
        values = [net(image, [name])[name].double().transpose(0, 1).flatten(1) for image in images]
        means[name] = torch.cat(values, 1).mean(1)
    return means


class Total(NamedTuple):
    """The terms of a loss that has only one."""

    total: torch.Tensor


class Quadratic:
    """Squared distance to a target, (B,), stretched from pixel to pixel.

    ``images`` are those that it was called with.
    """

    def __init__(self, target, stretch=1.0):
        self.target, self.images = target, []
        self.stretch = torch.linspace(1, stretch, target[0].numel()).view(target[:1].shape)

    def __call__(self, image):
        self.images.append(image.detach().clone())
        return Total((self.stretch * (image - self.target) ** 2).sum((1, 2, 3)))


def before_line(number, happens, action, is_traced):
    """Call ``action``, and ``happens`` before the line of that number that it runs, from 1.

    Lines count in files for which ``is_traced`` holds. Returns what ``action`` returns, or None
    where a KeyboardInterrupt came through, and how many lines were run.
    """
    tracer, lines = sys.gettrace(), 0  # that of a coverage measurement

    def trace(frame, event, _):
        nonlocal lines
        if not is_traced(frame.f_code.co_filename):
            return None
        lines += event == "line"
        if event == "line" and lines == number:
            sys.settrace(tracer)
            happens()
        return trace

    result = None
    sys.settrace(trace)
    try:
        result = action()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(tracer)
    return result, lines


def interrupt():
    """What Ctrl-C does."""
    raise KeyboardInterrupt


def interrupted_before_each_line(action, files):
    """Call ``action`` again and again, with Ctrl-C before the first line it runs in ``files``, then
    before the second, and so on to its end.

    Yields what it returns, or None where the interrupt came through.
    """
    for line in itertools.count(1):
        result, lines = before_line(line, interrupt, action, files.__contains__)
        yield result
        if lines < line:
            return


def is_same_run(result, other):
    """Whether two results are those of the same run, but for rounding."""
    names = ("total", "content", "style", "tv")
    rows, others = ([[e[n] for n in names] for e in r.history] for r in (result, other))
    return (
        len(rows) == len(others)
        and torch.allclose(torch.tensor(rows), torch.tensor(others), rtol=1e-3)
        and torch.allclose(result.image, other.image, atol=1e-3)
    )


def no_internet(*args, **kwargs):
    """What ``socket.getaddrinfo`` does without an internet."""
    raise socket.gaierror(-3, "Temporary failure in name resolution")


def closed_port():
    """The number of a port on this machine where nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class LocalServer(http.server.ThreadingHTTPServer):
    """A web server on this machine that answers every request with one body.

    ``url`` ends in a slash; ``paths`` are those that were asked for.
    """

    def __init__(self, body, status=200, declared_length=None):
        self.body, self.status, self.paths = body, status, []
        self.declared_length = len(body) if declared_length is None else declared_length
        super().__init__(("127.0.0.1", 0), _Answer)
        self.url = f"http://127.0.0.1:{self.server_port}/"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self):
        self.shutdown()
        self.server_close()


class _Answer(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.server.paths.append(self.path)
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(self.server.declared_length))
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        self.wfile.write(self.server.body)

    def log_message(self, *args):
        pass


def wait_for(condition, seconds=20, pause=0.002):
    """Wait until a condition is true; the seconds are for a busy machine."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(pause)


def file_of(image, kind="PNG"):
    """What a picture file of an image has in it."""
    file = io.BytesIO()
    values = (image[0].permute(1, 2, 0) * 255).byte().numpy()
    Image.fromarray(values).save(file, format=kind)
    return file.getvalue()
