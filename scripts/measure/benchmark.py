"""What the engine is worth, as ratios measured side by side in one run: ``make bench``.

    python -m scripts.measure.benchmark             # about 10 minutes on two CPU cores
    python -m scripts.measure.benchmark --quick     # under 2
    python -m scripts.measure.benchmark --parts step memory --json table.json
    python -m scripts.measure.benchmark --network vgg19.safetensors     # instead of random weights

The reference is the plain loop that everyone starts from (``reference``). Both sides have the same
weights, the same loss and the same start. On a GPU ``gpu`` measures more.

step          seconds of one evaluation with its step, in turns; share of the matrix rate
loss          lowest loss after as many evaluations, and that of the image as saved, in [0, 1]
precondition  bundled network, from noise: what the preconditioner and a pyramid save
memory        peak above what was there before the run, in a process of its own; estimate over it
sizes         seconds and cost per pixel against size
sweep         four images in one batch against one
bundled       the whole run with the bundled network against the reference's
profile       where the time of our step goes
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

import nst_helpers as nst
from nst_helpers.engine.devices import PRECISIONS, best_precision
from nst_helpers.network.features import stride
from scripts.measure.reference import CONTENT_WEIGHT, STYLE_WEIGHTS, Reference
from scripts.measure.timing import (
    describe_machine,
    in_turns,
    matrix_rate,
    peak_memory,
    ratio,
    seconds_by_operator,
    seconds_of,
    spread,
)

ROOT = Path(__file__).parents[2]
PARTS = ("step", "loss", "precondition", "memory", "sizes", "sweep", "bundled", "profile")
# A step's operators and a GPU's kernels by kind: the first row of which a word is in the name.
KINDS = {
    "convolutions backward": ("convolution_backward", "dgrad"),
    "convolutions forward": ("conv", "fprop"),
    "products (Gram, L-BFGS)": ("mm", "nvjet", "gemv", "cutlass", "solve", "trsm"),
    "ReLU and pooling": ("pool", "threshold", "relu", "clamp_min"),
    "Fourier": ("fft",),
    "everything else": ("",),
}


def our_loss(
    net: nst.Features, content: torch.Tensor, style: torch.Tensor, **options: object
) -> nst.StyleTransferLoss:
    """Return the reference's loss, as the package says it."""
    options = {"alpha": CONTENT_WEIGHT, "style_layer_weights": STYLE_WEIGHTS, **options}
    return nst.StyleTransferLoss(net, content, style, **options)


def content_and_style(size: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return two square images."""
    content, style = (
        nst.load_image(name, size)[..., :size, :size].to(device)
        for name in ("chelsea", "night_sky")
    )
    return content, style


def operations(net: nst.Features, size: int, deepest: str = "conv5_1") -> float:
    """Return multiplications and additions of the convolutions, forward and backward."""
    total = 0
    for name, conv in net.convolutions.items():
        positions = (size // stride(name)) ** 2
        total += 2 * 2 * conv.weight.numel() * positions
        if name == deepest:
            break
    return total


class Bench:
    """The parts of the table; each adds rows (name, value)."""

    def __init__(self, quick: bool, device: torch.device, network: str = "random") -> None:
        self.quick, self.device, self.network = quick, device, network
        on_gpu = device.type == "cuda"
        self.size = 128 if quick else (512 if on_gpu else 256)
        # A GPU's steps are captured as a graph after the first few, and are short.
        self.evaluations = 100 if on_gpu else (4 if quick else 20)
        self.exact = nst.load_network(network, device=device, precision="float32")
        self.precision = best_precision(device)
        self.net = nst.load_network(network, device=device, precision=self.precision)
        self.rows: dict[str, object] = {}

    def add(self, name: str, value: str | float) -> None:
        """Add a row to the table, and print it."""
        self.rows[name] = value
        print(f"{name:<66} {value if isinstance(value, str) else f'{value:.3g}'}", flush=True)

    def run(self, net: nst.Features, size: int, count: int = 1) -> Callable[[], object]:
        """Return a short run of ours, of ``count`` images."""
        content, style = content_and_style(size, self.device)
        loss = our_loss(net, content, style)
        start = nst.noise_like(content.expand(count, -1, -1, -1), seed=0)
        return lambda: nst.optimize(loss, start, steps=self.evaluations)

    def step(self) -> None:
        content, style = content_and_style(self.size, self.device)
        reference = Reference(self.exact, content, style)
        start = nst.noise_like(content, seed=0)
        ours = our_loss(self.exact, content, style)(start).total.item()
        self.add(
            "our loss of the same picture / the reference's", ours / reference.loss(start).item()
        )
        works = {
            "reference": lambda: reference.run(start, self.evaluations),
            "ours": self.run(self.net, self.size),
            "ours in float32": self.run(self.exact, self.size),
        }
        seconds = in_turns(works, self.device, 3 if self.quick else 5)
        for name, times in seconds.items():
            self.add(
                f"{name}: seconds per evaluation, {self.size} px",
                spread(times, 1 / self.evaluations),
            )
        for name in ("ours", "ours in float32"):
            self.add(f"reference / {name}", ratio(seconds["reference"], seconds[name]))
        rates = {name: matrix_rate(self.device, dtype) for name, dtype in PRECISIONS.items()}
        for name, rate in rates.items():
            self.add(f"matrix rate in {name}, GFLOP/s", rate / 1e9)
        each = statistics.median(seconds["ours"]) / self.evaluations
        speed = operations(self.net, self.size) / each
        self.add(
            f"share of the {self.precision} matrix rate, whole steps", speed / rates[self.precision]
        )

    def loss(self) -> None:
        size, count = (96, 40) if self.quick else (256, 200)
        content, style = content_and_style(size, self.device)
        judge, loss = our_loss(self.exact, content, style), our_loss(self.net, content, style)
        reference = Reference(self.exact, content, style)
        for kind, start in (("content", content), ("noise", nst.noise_like(content, seed=0))):
            theirs, _ = reference.run(start, count)
            ours = nst.optimize(loss, start, steps=count)
            with torch.no_grad():
                free = [judge(x).total.item() for x in (ours.unclipped, theirs)]
                saved = [judge(x).total.item() for x in (ours.image, theirs.clamp(0, 1))]
            self.add(
                f"loss after {count} evaluations from {kind}: ours / reference", free[0] / free[1]
            )
            self.add(
                f"  the same of the pictures as saved, in [0, 1] ({kind})", saved[0] / saved[1]
            )

    def precondition(self) -> None:
        size, count = (96, 40) if self.quick else (256, 200)
        content, style = content_and_style(size, self.device)
        net = nst.load_network("bundled", device=self.device)
        loss = nst.StyleTransferLoss(net, content, style)
        start = nst.noise_like(content, seed=0)
        plain = nst.optimize(loss, start, steps=count, precondition=0)
        ours = nst.optimize(loss, start, steps=count)
        goal = min(entry["total"] for entry in plain.history)
        enough = next((e["step"] for e in ours.history if e["total"] <= goal), count)
        self.add(f"evaluations for what precondition=0 reaches in {count}", enough)
        steps = [2 * count // 5, 2 * count // 5, count // 5]
        fine = nst.optimize(loss, start, steps=steps, pyramid=(size // 4, size // 2))
        seconds = [result.history[-1]["seconds"] for result in (fine, ours)]
        self.add(
            "seconds with a pyramid / at full size, as many evaluations", seconds[0] / seconds[1]
        )
        totals = [loss(result.image).total.item() for result in (fine, ours)]
        self.add("loss with a pyramid / at full size", totals[0] / totals[1])

    def memory(self) -> None:
        size = 256 if self.quick else 512
        measured = {}
        for side in ("reference", "ours", "ours, memory='low'"):
            measured[side] = self.memory_of(side, size)
            self.add(f"{side}: peak memory, {size} px, 12 evaluations, MB", measured[side]["peak"])
        for side in ("ours", "ours, memory='low'"):
            row = measured[side]
            self.add(f"{side} / reference", row["peak"] / measured["reference"]["peak"])
            self.add(f"{side}: estimate / measured", row["estimate"] / row["peak"])

    def memory_of(self, side: str, size: int) -> dict[str, float]:
        """Measure in a process of its own."""
        command = [sys.executable, "-m", "scripts.measure.benchmark", "--child", side]
        command += ["--size", str(size), "--device", str(self.device), "--network", self.network]
        environment = dict(os.environ)
        if side == "reference":  # what it takes at least: ours tells malloc itself what to hold
            environment["MALLOC_MMAP_THRESHOLD_"] = "1048576"
        child = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        return json.loads(child.stdout.splitlines()[-1])

    def sizes(self) -> None:
        per_pixel = {}
        for size in (128, 256) if self.quick else (128, 256, 512, 1024):
            work = self.run(self.net, size)
            seconds = min(seconds_of(work, self.device) for _ in range(1 if size > 256 else 3))
            each = seconds / self.evaluations
            per_pixel[size] = each / size**2
            self.add(f"{size} px: seconds per evaluation", each)
        for size, cost in per_pixel.items():
            self.add(f"cost per pixel at {size} px / at 256 px", cost / per_pixel[256])

    def sweep(self) -> None:
        size = 128 if self.quick else 256
        works = {f"{count}": self.run(self.net, size, count) for count in (1, 4)}
        seconds = in_turns(works, self.device, 3)
        self.add(
            f"four pictures of {size} px in one batch / one", ratio(seconds["4"], seconds["1"])
        )

    def bundled(self) -> None:
        size, count = (128, 20) if self.quick else (256, 300)
        content, style = content_and_style(size, self.device)
        start = nst.noise_like(content, seed=0)
        net = nst.load_network("bundled", device=self.device)
        loss = nst.StyleTransferLoss(net, content, style)
        seconds = seconds_of(lambda: nst.optimize(loss, start, steps=count), self.device)
        _, ends = Reference(self.exact, content, style).run(start, 3 * self.evaluations)
        # The reference's 300 would take minutes: what each takes once it is under way.
        each = statistics.median(b - a for a, b in itertools.pairwise(ends[3:]))
        self.add(f"bundled network, {size} px, {count} evaluations: seconds", seconds)
        self.add("reference with VGG-19 / ours with the bundled network", count * each / seconds)

    def profile(self) -> None:
        work = self.run(self.net, self.size)
        work()
        shares = shares_by_kind(seconds_by_operator(work, self.device))
        for name, share in shares.items():
            self.add(f"share of a step: {name}, %", 100 * share)


def shares_by_kind(seconds: dict[str, float]) -> dict[str, float]:
    """Return which share of the seconds each of ``KINDS`` takes."""
    shares, whole = dict.fromkeys(KINDS, 0.0), sum(seconds.values())
    for operator, each in seconds.items():
        kind = next(kind for kind, words in KINDS.items() if any(w in operator for w in words))
        shares[kind] += each / whole
    return shares


def measure_memory(side: str, size: int, device: torch.device, network: str) -> None:
    """Print one measurement of ``Bench.memory``: what its processes run."""
    net = nst.load_network(network, device=device, normalise=False)
    content, style = content_and_style(size, device)
    start, estimate = nst.noise_like(content, seed=0), 0.0
    small = [image[..., :64, :64] for image in (content, style, start)]
    if side == "reference":
        exact = nst.load_network(network, device=device, normalise=False, precision="float32")
        Reference(exact, *small[:2]).run(small[2], 4)  # what the libraries load is not counted
        reference = Reference(exact, content, style)
        peak = peak_memory(lambda: reference.run(start, 12), device)
    else:
        memory = "low" if "low" in side else "normal"
        nst.optimize(our_loss(net, *small[:2], memory=memory), small[2], steps=4)
        loss = our_loss(net, content, style, memory=memory)
        estimate = nst.estimate_memory(loss, start.shape) / 2**20
        peak = peak_memory(lambda: nst.optimize(loss, start, steps=12), device)
    print(json.dumps({"peak": peak, "estimate": estimate}))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="smaller and fewer, in two minutes")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--device", type=torch.device, default=nst.best_device())
    parser.add_argument("--network", default="random", help="a name or a file (default: random)")
    parser.add_argument("--json", type=Path, help="write the table there, too")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        measure_memory(args.child, args.size, args.device, args.network)
        return
    if args.json is not None:
        args.json.touch()  # before the work, not after
    started_at = time.perf_counter()
    bench = Bench(args.quick, args.device, args.network)
    bench.add("machine", describe_machine(args.device))
    bench.add("network", bench.net.name)
    bench.add("precision", bench.precision)
    for part in args.parts:
        getattr(bench, part)()
    bench.add("minutes in all", (time.perf_counter() - started_at) / 60)
    if args.json is not None:
        args.json.write_text(json.dumps(bench.rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
