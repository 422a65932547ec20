"""What the engine is worth, as ratios measured side by side in one run: ``make bench``.

    python scripts/benchmark.py             # about 10 minutes on two CPU cores
    python scripts/benchmark.py --quick     # under 2
    python scripts/benchmark.py --parts step memory --json table.json

The reference is the plain loop that everyone starts from, written here from the settings that Gatys
et al. published: float32, all sixteen convolutions of VGG-19, ReLU and average pooling one after
the other, Gram matrices over H * W, style weights 1000 / N^2, torch.optim.LBFGS with its defaults.
Both sides have the same random weights, the same loss and the same start.

step      seconds of one evaluation with its step, in turns; share of the machine's matrix rate
loss      lowest loss after as many evaluations, and that of the picture as it is saved, in [0, 1]
coarse    bundled network, from noise: what coarse_first and a pyramid save
memory    peak above what was there before the run, in a process of its own; the estimate over it
sizes     seconds and cost per pixel against size
sweep     four pictures in one batch against one
bundled   the whole run with the bundled network against the reference's
profile   where the time of our step goes
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).parents[1]))

import nst_helpers as nst

PARTS = ("step", "loss", "coarse", "memory", "sizes", "sweep", "bundled", "profile")
STYLE_WEIGHTS = [1e3 / n**2 for n in (64, 128, 256, 512, 512)]  # as published
CONTENT_WEIGHT = 1.0


class Reference:
    """The plain loop: nothing here is from the package but names and weights."""

    def __init__(self, net: nst.Features, content: torch.Tensor, style: torch.Tensor) -> None:
        self.weights = {
            name: (conv.weight.detach().clone().contiguous(), conv.bias.detach().clone())
            for name, conv in net.convolutions.items()
        }
        self.mean, self.std = net.mean, net.std
        with torch.no_grad():
            self.content = self.features(content)["relu4_2"]
            self.grams = [self.gram(self.features(style)[name]) for name in nst.STYLE_LAYERS]

    def features(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        found, block, x = {}, "1", (x - self.mean) / self.std
        for name, (weight, bias) in self.weights.items():
            if name[4] != block:
                x, block = F.avg_pool2d(x, 2), name[4]
            x = F.relu(F.conv2d(x, weight, bias, padding=1))
            found[name.replace("conv", "relu")] = x
        return found

    @staticmethod
    def gram(maps: torch.Tensor) -> torch.Tensor:
        b, n, h, w = maps.shape
        unrolled = maps.reshape(b, n, h * w)
        return torch.bmm(unrolled, unrolled.transpose(1, 2)) / (h * w)

    def loss(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.features(x)
        total = CONTENT_WEIGHT * F.mse_loss(maps["relu4_2"], self.content)
        for weight, name, gram in zip(STYLE_WEIGHTS, nst.STYLE_LAYERS, self.grams, strict=True):
            total = total + weight * F.mse_loss(self.gram(maps[name]), gram)
        return total

    def run(self, start: torch.Tensor, evaluations: int) -> tuple[torch.Tensor, list[float]]:
        """Return the picture of the lowest loss, and when each evaluation ended."""
        x = start.clone().requires_grad_()
        optimizer, ends = torch.optim.LBFGS([x]), []
        best, lowest, began = start, float("inf"), time.perf_counter()

        class Enough(Exception):
            pass

        def closure() -> torch.Tensor:
            nonlocal best, lowest
            if len(ends) == evaluations:
                raise Enough
            optimizer.zero_grad()
            loss = self.loss(x)
            loss.backward()
            if loss.item() < lowest:
                best, lowest = x.detach().clone(), loss.item()
            ends.append(time.perf_counter() - began)
            return loss

        try:
            while True:
                optimizer.step(closure)
        except Enough:
            return best, ends


def our_loss(net: nst.Features, content: torch.Tensor, style: torch.Tensor, **options):
    options = {"alpha": CONTENT_WEIGHT, "style_layer_weights": STYLE_WEIGHTS, **options}
    return nst.StyleTransferLoss(net, content, style, **options)


def pictures(size: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a square content and style."""
    images = (nst.load_image(name, size)[..., :size, :size] for name in ("chelsea", "night_sky"))
    return tuple(image.to(device) for image in images)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(work: Callable[[], object], device: torch.device) -> float:
    wait(device)
    began = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - began


def in_turns(works: dict[str, Callable], device: torch.device, rounds: int) -> dict[str, list]:
    """Time works one after the other, round after round, so that all meet the same noise."""
    found = {name: [] for name in works}
    for count in range(rounds + 1):
        for name, work in works.items():
            seconds = timed(work, device)
            if count:  # the first round sets things up
                found[name].append(seconds)
    return found


def spread(values: list[float], scale: float = 1.0) -> str:
    values = sorted(scale * value for value in values)
    return f"{statistics.median(values):.3g} ({values[0]:.3g} to {values[-1]:.3g})"


def ratio(above: list[float], below: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Return operations per second of a large product, the best of several."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / min(timed(lambda: a @ b, device) for _ in range(8))


def operations(net: nst.Features, size: int, deepest: str = "conv5_1") -> float:
    """Return multiplications and additions of the convolutions, there and back to the image."""
    total = 0
    for name, conv in net.convolutions.items():
        positions = (size >> (int(name[4]) - 1)) ** 2
        total += 2 * 2 * conv.weight.numel() * positions
        if name == deepest:
            return total
    return total


class Bench:
    """The parts of the table; each adds rows (name, value)."""

    def __init__(self, quick: bool, device: torch.device) -> None:
        self.quick, self.device = quick, device
        self.size = 128 if quick else (512 if device.type == "cuda" else 256)
        self.exact = nst.load_network("random", device=device, precision="float32")
        self.precision = nst.best_precision(device)
        self.net = nst.load_network("random", device=device, precision=self.precision)
        self.rows: dict[str, object] = {}

    def say(self, name: str, value: object) -> None:
        self.rows[name] = value
        print(f"{name:<66} {value if isinstance(value, str) else f'{value:.3g}'}", flush=True)

    def per_step(self, net: nst.Features, size: int, count: int = 1) -> Callable[[], object]:
        """Return a run of a few steps of ours, of ``count`` pictures."""
        content, style = pictures(size, self.device)
        loss = our_loss(net, content, style)
        start = nst.noise_like(content.expand(count, -1, -1, -1), seed=0)
        return lambda: nst.optimize(loss, start, steps=4)

    def step(self) -> None:
        content, style = pictures(self.size, self.device)
        reference = Reference(self.exact, content, style)
        start = nst.noise_like(content, seed=0)
        same = our_loss(self.exact, content, style)(start).total.item()
        self.say(
            "our loss of the same picture / the reference's", same / reference.loss(start).item()
        )
        works = {
            "reference": lambda: reference.run(start, 4),
            "ours": self.per_step(self.net, self.size),
            "ours in float32": self.per_step(self.exact, self.size),
        }
        found = in_turns(works, self.device, 3 if self.quick else 5)
        for name, seconds in found.items():
            self.say(f"{name}: seconds per evaluation, {self.size} px", spread(seconds, 1 / 4))
        for name in ("ours", "ours in float32"):
            self.say(f"reference / {name}", ratio(found["reference"], found[name]))
        rates = {
            name: matrix_rate(self.device, getattr(torch, name)) for name in ("float32", "bfloat16")
        }
        for name, rate in rates.items():
            self.say(f"matrix rate in {name}, GFLOP/s", rate / 1e9)
        speed = operations(self.net, self.size) / (statistics.median(found["ours"]) / 4)
        self.say(
            f"share of the {self.precision} matrix rate, whole steps", speed / rates[self.precision]
        )

    def loss(self) -> None:
        size, count = (96, 40) if self.quick else (256, 200)
        content, style = pictures(size, self.device)
        judge, loss = our_loss(self.exact, content, style), our_loss(self.net, content, style)
        reference = Reference(self.exact, content, style)
        for kind, start in (("content", content), ("noise", nst.noise_like(content, seed=0))):
            theirs, _ = reference.run(start, count)
            ours = nst.optimize(loss, start, steps=count)
            with torch.no_grad():
                free = [judge(x).total.item() for x in (ours.unclipped, theirs)]
                saved = [judge(x).total.item() for x in (ours.image, theirs.clamp(0, 1))]
            self.say(
                f"loss after {count} evaluations from {kind}: ours / reference", free[0] / free[1]
            )
            self.say(
                f"  the same of the pictures as saved, in [0, 1] ({kind})", saved[0] / saved[1]
            )

    def coarse(self) -> None:
        size, count = (96, 40) if self.quick else (256, 200)
        content, style = pictures(size, self.device)
        loss = nst.StyleTransferLoss(
            nst.load_network("bundled", device=self.device), content, style
        )
        start = nst.noise_like(content, seed=0)
        plain = nst.optimize(loss, start, steps=count, coarse_first=0)
        ours = nst.optimize(loss, start, steps=count)
        goal = min(entry["total"] for entry in plain.history)
        enough = next((e["step"] for e in ours.history if e["total"] <= goal), count)
        self.say(f"evaluations for what coarse_first=0 reaches in {count}", enough)
        steps = [2 * count // 5, 2 * count // 5, count // 5]
        fine = nst.optimize(loss, start, steps=steps, pyramid=(size // 4, size // 2))
        seconds = [result.history[-1]["seconds"] for result in (fine, ours)]
        self.say(
            "seconds with a pyramid / at full size, as many evaluations", seconds[0] / seconds[1]
        )
        lows = [loss(result.image).total.item() for result in (fine, ours)]
        self.say("loss with a pyramid / at full size", lows[0] / lows[1])

    def memory(self) -> None:
        size = 256 if self.quick else 512
        found = {}
        for side in ("reference", "ours", "ours, memory='low'"):
            found[side] = self.child(side, size)
            self.say(f"{side}: peak memory, {size} px, 12 evaluations, MB", found[side]["peak"])
        for side in ("ours", "ours, memory='low'"):
            self.say(f"{side} / reference", found[side]["peak"] / found["reference"]["peak"])
            self.say(f"{side}: estimate / measured", found[side]["estimate"] / found[side]["peak"])

    def child(self, side: str, size: int) -> dict[str, float]:
        """Measure in a process of its own, whose allocator gives back what is free."""
        command = [sys.executable, __file__, "--child", side, "--size", str(size)]
        command += ["--device", str(self.device)]
        environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1048576"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return json.loads(done.stdout.splitlines()[-1])

    def sizes(self) -> None:
        per_pixel = {}
        for size in (128, 256) if self.quick else (128, 256, 512, 1024):
            work = self.per_step(self.net, size)
            seconds = min(timed(work, self.device) for _ in range(1 if size > 256 else 3)) / 4
            per_pixel[size] = seconds / size**2
            self.say(f"{size} px: seconds per evaluation", seconds)
        for size, cost in per_pixel.items():
            self.say(f"cost per pixel at {size} px / at 256 px", cost / per_pixel[256])

    def sweep(self) -> None:
        size = 128 if self.quick else 256
        works = {f"{n}": self.per_step(self.net, size, n) for n in (1, 4)}
        found = in_turns(works, self.device, 3)
        self.say(f"four pictures of {size} px in one batch / one", ratio(found["4"], found["1"]))

    def bundled(self) -> None:
        size, count = (128, 20) if self.quick else (256, 300)
        content, style = pictures(size, self.device)
        start = nst.noise_like(content, seed=0)
        net = nst.load_network("bundled", device=self.device)
        loss = nst.StyleTransferLoss(net, content, style)
        seconds = timed(lambda: nst.optimize(loss, start, steps=count), self.device)
        _, ends = Reference(self.exact, content, style).run(start, 12)
        # The reference's 300 would take minutes: what each takes once it is under way.
        each = statistics.median(b - a for a, b in itertools.pairwise(ends[3:]))
        self.say(f"bundled network, {size} px, {count} evaluations: seconds", seconds)
        self.say("reference with VGG-19 / ours with the bundled network", count * each / seconds)

    def profile(self) -> None:
        work = self.per_step(self.net, self.size)
        work()
        kinds = [ProfilerActivity.CPU]
        kinds += [ProfilerActivity.CUDA] if self.device.type == "cuda" else []
        with profile(activities=kinds) as record:
            work()
        attribute = (
            "self_device_time_total" if self.device.type == "cuda" else "self_cpu_time_total"
        )
        times = {e.key: getattr(e, attribute) for e in record.key_averages()}
        shares = dict.fromkeys(
            (
                "convolutions forward",
                "convolutions backward",
                "products (Gram, L-BFGS)",
                "ReLU and pooling",
                "Fourier",
                "everything else",
            ),
            0.0,
        )
        for key, value in times.items():
            shares[kind_of(key)] += value
        for name, value in shares.items():
            self.say(f"share of a step: {name}, %", 100 * value / sum(times.values()))


def kind_of(operator: str) -> str:
    for words, kind in (
        (("convolution_backward",), "convolutions backward"),
        (("conv",), "convolutions forward"),
        (("bmm", "mm", "solve"), "products (Gram, L-BFGS)"),
        (("pool", "threshold", "relu", "clamp_min"), "ReLU and pooling"),
        (("fft",), "Fourier"),
    ):
        if any(word in operator for word in words):
            return kind
    return "everything else"


def peak_of(work: Callable[[], object], device: torch.device) -> float:
    """Return the most memory in use while ``work`` runs, above what was there before, in MB."""
    gc.collect()
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    process, stop = psutil.Process(), threading.Event()
    before = peak = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not stop.wait(0.001):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    stop.set()
    watcher.join()
    return (peak - before) / 2**20


def child(side: str, size: int, device: torch.device) -> None:
    """One measurement of ``memory``."""
    net = nst.load_network("random", device=device, normalise=False)
    content, style = pictures(size, device)
    start, estimate = nst.noise_like(content, seed=0), 0
    small = [image[..., :64, :64] for image in (content, style, start)]
    if side == "reference":
        exact = nst.load_network("random", device=device, normalise=False, precision="float32")
        Reference(exact, *small[:2]).run(small[2], 4)  # what the libraries load is not counted
        reference = Reference(exact, content, style)
        peak = peak_of(lambda: reference.run(start, 12), device)
    else:
        memory = "low" if "low" in side else "normal"
        nst.optimize(our_loss(net, *small[:2], memory=memory), small[2], steps=4)
        loss = our_loss(net, content, style, memory=memory)
        estimate = nst.estimate_memory(loss, start.shape) / 2**20
        peak = peak_of(lambda: nst.optimize(loss, start, steps=12), device)
    print(json.dumps({"peak": peak, "estimate": estimate}))


def machine(device: torch.device) -> str:
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if device.type == "cpu" and cpuinfo.is_file():
        lines = cpuinfo.read_text().splitlines()
        name = next((s.split(": ")[1] for s in lines if s.startswith("model name")), name)
    return f"{nst.describe_device(device)}, {name}, torch {torch.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="smaller and fewer, in two minutes")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--device", type=torch.device, default=nst.best_device())
    parser.add_argument("--json", type=Path, help="write the table there, too")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child, args.size, args.device)
        return
    if args.json is not None:
        args.json.touch()  # before the work, not after
    began = time.perf_counter()
    bench = Bench(args.quick, args.device)
    bench.say("machine", machine(args.device))
    bench.say("precision", bench.precision)
    for part in args.parts:
        getattr(bench, part)()
    bench.say("minutes in all", (time.perf_counter() - began) / 60)
    if args.json is not None:
        args.json.write_text(json.dumps(bench.rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
