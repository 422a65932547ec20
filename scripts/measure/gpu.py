"""Whether all of it works on a GPU, and how fast: checks and timings for anyone who has one.

    python -m scripts.measure.gpu --vgg19 vgg19.safetensors --json gpu.json   # about 2 minutes
    python -m scripts.measure.gpu --device cpu --quick                        # does the script run?

Each part is for itself: what goes wrong is printed with its traceback, and the next one begins. The
table so far is written after each part. No part begins after ``--budget`` seconds.

checks     each kind of run, captured as a CUDA graph and not: do both end at the same loss?
capture    seconds per evaluation with the graph, without, and with a callback; what capturing costs
reference  the plain loop (float32 as torch has it) against ours: seconds and final loss
profile    where the time of a step goes, by kind and by kernel, and how long the GPU idles
products   the sums over positions and over pixels by themselves, and as they could be done
sizes      seconds per evaluation against size
memory     peak above what was there before, and the estimate over it
batch      four images in one batch against one
curves     the same run on the CPU and here
command    the command line
failure    a loss that cannot be captured; two threads at once
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import torch

import nst_helpers as nst
from nst_helpers.engine.devices import capture_cuda_graph
from nst_helpers.engine.minimizers import PreconditionedLBFGS
from nst_helpers.engine.objective import Objective, StepLog
from scripts.measure.benchmark import ROOT, content_and_style, our_loss, shares_by_kind
from scripts.measure.reference import Reference
from scripts.measure.timing import (
    describe_machine,
    in_turns,
    peak_memory,
    ratio,
    seconds_by_operator,
    seconds_of,
    spread,
)

PARTS = (
    *("checks", "capture", "reference", "profile", "products", "sizes"),
    *("memory", "batch", "curves", "command", "failure"),
)
# Of the options of ``optimize``.
DEFAULTS = {name: each.default for name, each in signature(nst.optimize).parameters.items()}


class Uncaptured(nst.StyleTransferLoss):
    """The same loss, which no CUDA graph captures."""

    capturable = False


class Synchronising(nst.StyleTransferLoss):
    """A loss that says it may be captured, and may not."""

    def forward(self, image: torch.Tensor) -> nst.LossTerms:
        terms = super().forward(image)
        terms.total.sum().item()
        return terms


class Gpu:
    """The parts of the table; each adds rows (name, value)."""

    def __init__(self, device: torch.device, vgg19: str, quick: bool) -> None:
        self.device, self.quick, self.vgg19 = device, quick, vgg19
        self.nets = {
            "bundled": nst.load_network("bundled", device=device),
            "VGG-19": nst.load_network(vgg19, device=device),
        }
        self.size, self.steps = (64, 6) if quick else (512, 100)
        self.rows: dict[str, object] = {}

    def add(self, name: str, value: object) -> None:
        """Add a row to the table, and print it."""
        self.rows[name] = value
        print(f"{name:<70} {f'{value:.4g}' if isinstance(value, float) else value}", flush=True)

    def losses(self, net: nst.Features, size: int) -> tuple[nst.StyleTransferLoss, ...]:
        """Return a loss that is captured, and the same one that is not."""
        content, style = content_and_style(size, self.device)
        return nst.StyleTransferLoss(net, content, style), Uncaptured(net, content, style)

    def noise(self, size: int, batch: int = 1) -> torch.Tensor:
        """Return white noise."""
        return nst.noise_like(torch.empty(batch, 3, size, size, device=self.device), seed=0)

    # --- does it work ----------------------------------------------------------------------------

    def checks(self) -> None:
        size = 64 if self.quick else 256
        content, style = content_and_style(size, self.device)
        other = nst.load_image("wave", size).to(self.device)
        masks = torch.zeros(1, 2, size, size)
        masks[:, 0, :, : size // 2] = masks[:, 1, :, size // 2 :] = 1
        small = size // 4, size // 2
        both, options = {"content": content, "style": style}, dict[str, object]
        cases: dict[str, tuple[dict[str, object], dict[str, object]]] = {
            "transfer": (both, options()),
            "texture": ({"style": style}, options()),
            "reconstruction": ({"content": content}, options()),
            "memory low": ({**both, "memory": "low"}, options()),
            "total variation, paper": (
                {**both, "tv_weight": 0.1, "alpha": 1.0, "beta": 1e5, "convention": "paper"},
                options(),
            ),
            "pyramid": (both, {"pyramid": small}),
            "blend": ({**both, "style": [style, other], "style_weights": [1, 2]}, options()),
            "regions": ({**both, "style": [style, other], "content_mask": masks}, options()),
            "regions, memory low": (
                {**both, "style": [style, other], "content_mask": masks, "memory": "low"},
                options(),
            ),
            "Adam": (both, {"optimizer": "adam"}),
            "no preconditioner, snapshots": (both, {"precondition": 0, "snapshots": [2, 5]}),
            "images on the CPU": ({name: each.cpu() for name, each in both.items()}, options()),
        }
        for name, (arguments, settings) in cases.items():
            for network, net in self.nets.items():
                self.attempt(
                    f"{name}, {network}", lambda a=arguments, s=settings, n=net: self.check(n, a, s)
                )
        net = self.nets["bundled"]
        self.attempt("an odd size, a batch", lambda: self.check_batch(net))
        self.attempt("going on from a result", lambda: self.check_continuation(net))
        self.attempt("a callback that changes a weight", lambda: self.check_callback(net))
        self.attempt("a sweep of two ratios", lambda: self.check_sweep(net, content, style))

    def attempt(self, name: str, check: Callable[[], str]) -> None:
        """Add a row with what a check says, or with its error."""
        try:
            self.add(name, f"OK: {check()}")
        except Exception as error:
            traceback.print_exc(limit=-4)
            self.add(name, f"FAILED: {described(error)}")

    def check(self, net: nst.Features, arguments: dict, settings: dict) -> str:
        """Say how far a captured run is from one that is not."""
        size = arguments.get("content", arguments.get("style")).shape[-1]
        start, steps = self.noise(size), 8 if self.quick else 60
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            ends = captured_and_not(net, arguments, start, steps=steps, **settings)
        return differences(*ends) + said(caught)

    def check_batch(self, net: nst.Features) -> str:
        images = [nst.load_image(name, 67).to(self.device) for name in ("chelsea", "coffee")]
        content = torch.cat([image[..., :67, :89] for image in images])
        style = nst.load_image("night_sky", 96)
        arguments = {"content": content, "style": style, "alpha": [1e-3, 1e-2]}
        return differences(*captured_and_not(net, arguments, content, steps=20))

    def check_continuation(self, net: nst.Features) -> str:
        loss, _ = self.losses(net, 128)
        whole = nst.optimize(loss, self.noise(128), steps=40)
        part = nst.optimize(loss, nst.optimize(loss, self.noise(128), steps=20), steps=20)
        return differences(whole, part)

    def check_callback(self, net: nst.Features) -> str:
        ends = []
        for loss in self.losses(net, 128):

            def change(progress: nst.Progress, loss: nst.StyleTransferLoss = loss) -> None:
                loss.alpha = 1e-3 if progress.step < 20 else 1e-1
                progress.image()

            ends.append(nst.optimize(loss, self.noise(128), steps=40, callback=change))
        return differences(*ends)

    def check_sweep(self, net: nst.Features, content: torch.Tensor, style: torch.Tensor) -> str:
        ratios, steps = [1e-4, 1e-2], 8 if self.quick else 60
        results = nst.alpha_beta_sweep(net, content, style, ratios, steps=steps)
        alone = [
            nst.optimize(
                nst.StyleTransferLoss(net, content, style, alpha=ratio),
                nst.noise_like(content, seed=0),
                steps=steps,
            )
            for ratio in ratios
        ]
        return "; ".join(map(differences, results, alone))

    # --- how fast --------------------------------------------------------------------------------

    def capture(self) -> None:
        for size in (64,) if self.quick else (256, 512):
            for name, net in self.nets.items():
                captured, uncaptured = self.losses(net, size)
                start = self.noise(size)
                works = {
                    "captured": run_of(captured, start, steps=self.steps),
                    "not captured": run_of(uncaptured, start, steps=self.steps),
                    "with a callback": run_of(
                        captured, start, steps=self.steps, callback=lambda _: None
                    ),
                }
                seconds = in_turns(works, self.device, 1 if self.quick else 2)
                for kind, times in seconds.items():
                    self.add(
                        f"{name}, {size} px, {kind}: seconds per evaluation",
                        spread(times, 1 / self.steps),
                    )
                self.add(
                    f"{name}, {size} px: not captured / captured",
                    ratio(seconds["not captured"], seconds["captured"]),
                )
                few = {f"{n}": run_of(captured, start, steps=n) for n in (3, 4)}
                seconds = in_turns(few, self.device, 3)
                cost = min(seconds["4"]) - min(seconds["3"])
                self.add(f"{name}, {size} px: seconds of the step that is captured", cost)

    def reference(self) -> None:
        size, count = (64, 8) if self.quick else (512, 500)
        content, style = content_and_style(size, self.device)
        exact = nst.load_network(self.vgg19, device=self.device, precision="float32")
        judge, theirs = our_loss(exact, content, style), Reference(exact, content, style)
        losses = {
            f"ours, {self.nets['VGG-19'].precision}": our_loss(self.nets["VGG-19"], content, style),
            "ours, float32": judge,
        }
        starts = {"noise": self.noise(size), "content": content}
        theirs.run(content, 8)
        for kind, start in starts.items():
            before = time.perf_counter()
            image, ends = theirs.run(start, count)
            seconds = time.perf_counter() - before
            self.add(f"reference from {kind}: seconds per evaluation", seconds / len(ends))
            with torch.no_grad():
                base = [judge(x).total.item() for x in (image, image.clamp(0, 1))]
            for name, loss in losses.items():
                before = time.perf_counter()
                result = nst.optimize(loss, start, steps=count)  # waits for the device
                each = time.perf_counter() - before
                self.add(f"{name} from {kind}: seconds per evaluation", each / count)
                self.add(f"reference / {name}, from {kind}", seconds / each)
                with torch.no_grad():
                    found = [judge(x).total.item() for x in (result.unclipped, result.image)]
                self.add(f"  {name} from {kind}, loss / reference", found[0] / base[0])
                self.add(f"  {name} from {kind}, as saved / reference", found[1] / base[1])

    def profile(self) -> None:
        count = 2 if self.quick else 20
        for name, net in self.nets.items():
            for kind, loss in zip(
                ("captured", "not captured"), self.losses(net, self.size), strict=True
            ):
                step = self.step_of(loss, self.noise(self.size))

                def steps(step: Callable[[], None] = step) -> None:
                    for _ in range(count):
                        step()

                steps()
                wall = min(seconds_of(steps, self.device) for _ in range(2))
                times = seconds_by_operator(steps, self.device)
                busy = sum(times.values())
                title = f"{name}, {self.size} px, {kind}"
                self.add(f"{title}: seconds of a step", wall / count)
                self.add(f"{title}: the device idles, %", 100 * (1 - busy / wall))
                for part, share in shares_by_kind(times).items():
                    self.add(f"  {title}: {part}, %", 100 * share)
                longest = sorted(times.items(), key=lambda item: -item[1])[:25]
                for operator, each in longest if kind == "captured" else ():
                    # With a title: rows of several profiles would have the same name.
                    self.add(f"  {title}: {operator[:120]}, %", 100 * each / busy)

    def step_of(self, loss: nst.StyleTransferLoss, start: torch.Tensor) -> Callable[[], None]:
        """Return a step as ``optimize`` makes it, past those that set things up."""
        objective, log = Objective(loss, start, DEFAULTS["range_weight"]), StepLog(0, 0.0)
        pairs, exponent = DEFAULTS["history_size"], DEFAULTS["precondition"]
        minimizer = PreconditionedLBFGS(start, lr=1.0, history_size=pairs, exponent=exponent)

        def step() -> None:
            evaluation = objective(minimizer.image)
            log.append(evaluation)
            minimizer.step(evaluation.value, evaluation.gradient)

        run = capture_cuda_graph(step, self.device) if loss.capturable else step
        for _ in range(6):
            run()
        return run

    def products(self) -> None:
        side, new = self.size, partial(torch.randn, device=self.device)
        rows, pixels = 2 * DEFAULTS["history_size"], 3 * side**2
        pairs, gradient, weights = new(1, rows, pixels), new(1, pixels, 1), new(1, 1, rows)
        works: dict[str, Callable[[], object]] = {
            "pairs times gradient": lambda: pairs @ gradient,
            "weights times pairs": lambda: weights @ pairs,
        }
        for filters, stride in ((64, 1), (128, 2), (256, 4), (512, 8)):
            maps = new(1, filters, side // stride, side // stride).bfloat16()
            maps = maps.to(memory_format=torch.channels_last).flatten(2)
            title = f"Gram matrix of {filters} filters"
            works |= {
                title: lambda x=maps: (y := x.float()) @ y.mT,
                f"{title}, bfloat16": lambda x=maps: x @ x.mT,
            }
            if self.device.type == "cuda":  # torch has it for nothing else
                wide = partial(torch.bmm, out_dtype=torch.float32)
                works[f"{title}, bfloat16 into float32"] = lambda x=maps, f=wide: f(x, x.mT)
        for name, work in works.items():
            self.attempt(name, lambda f=work: f"{1e6 * self.seconds_of_each(f):.1f} microseconds")

    def seconds_of_each(self, work: Callable[[], object], count: int = 20) -> float:
        """Return the seconds of one of several calls, the best of three times."""

        def several() -> None:
            for _ in range(count):
                work()

        several()
        return min(seconds_of(several, self.device) for _ in range(3)) / count

    def sizes(self) -> None:
        for name, net in self.nets.items():
            for size in (64, 128) if self.quick else (256, 512, 1024, 2048):
                loss, start = self.losses(net, size)[0], self.noise(size)
                steps = self.steps if self.quick else (20 if size == 2048 else 60)
                nst.optimize(loss, start, steps=4)
                seconds = seconds_of(run_of(loss, start, steps=steps), self.device)
                self.add(f"{name}, {size} px: seconds per evaluation", seconds / steps)

    def batch(self) -> None:
        size = 64 if self.quick else 256
        for name, net in self.nets.items():
            loss = self.losses(net, size)[0]
            works = {
                f"{count}": run_of(loss, self.noise(size, count), steps=self.steps)
                for count in (1, 4)
            }
            seconds = in_turns(works, self.device, 2)
            self.add(
                f"{name}: four pictures of {size} px in one batch / one",
                ratio(seconds["4"], seconds["1"]),
            )

    def memory(self) -> None:
        for name, net in self.nets.items():
            nst.optimize(self.losses(net, 64)[0], self.noise(64), steps=6)  # the libraries' own
            for size in (128,) if self.quick else (512, 2048):
                for memory in ("normal", "low"):
                    content, style = content_and_style(size, self.device)
                    loss = nst.StyleTransferLoss(net, content, style, memory=memory)
                    start, title = self.noise(size), f"{name}, {size} px, memory {memory}"
                    estimate = nst.estimate_memory(loss, start.shape) / 2**20
                    peak = peak_memory(run_of(loss, start, steps=6), self.device)
                    self.add(f"{title}: peak, MB", peak)
                    self.add(f"{title}: estimate / peak", estimate / peak)
                    del loss

    def curves(self) -> None:
        size, steps = (64, 8) if self.quick else (128, 40)
        for precision in ("float32", "bfloat16"):
            ends = []
            for device in (torch.device("cpu"), self.device):
                content, style = content_and_style(size, device)
                # Without its hardware a CPU takes minutes for bfloat16.
                kind = "float32" if device.type == "cpu" else precision
                net = nst.load_network("bundled", device=device, precision=kind)
                loss = nst.StyleTransferLoss(net, content, style)
                ends.append(nst.optimize(loss, content, steps=steps))
            self.add(f"float32 on the CPU and {precision} here, from content", differences(*ends))

    def command(self) -> None:
        size, large = ("64", "128") if self.quick else ("256", "2048")
        kind = self.device.type
        with tempfile.TemporaryDirectory() as folder:
            for name, options in {
                "transfer": ["chelsea", "night_sky", "--size", size, "--steps", "60"],
                "transfer, large": ["chelsea", "night_sky", "--size", large],
            }.items():
                command = [sys.executable, "-m", "nst_helpers", "transfer", *options]
                command += ["--network", "bundled", "--device", kind, "-o", f"{folder}/out.png"]
                command += ["--steps", "8"] if self.quick else []
                before = time.perf_counter()
                done = subprocess.run(
                    command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
                )
                seconds = time.perf_counter() - before
                last = (done.stdout + done.stderr).strip()[-1500:]
                print(last, flush=True)
                self.add(f"{name}: exit code {done.returncode}, seconds", seconds)

    # --- where it fails --------------------------------------------------------------------------

    def failure(self) -> None:
        net, size = self.nets["bundled"], 64
        content, style = content_and_style(size, self.device)
        self.attempt("a loss that cannot be captured", lambda: self.check_failure(content, style))
        both = {"content": content, "style": style}
        self.attempt(
            "a run after it", lambda: differences(*captured_and_not(net, both, content, steps=20))
        )
        self.attempt("two threads at once", lambda: self.check_threads(content, style))

    def check_failure(self, content: torch.Tensor, style: torch.Tensor) -> str:
        net = self.nets["bundled"]
        streams, memory = [], []
        for _ in range(2):
            streams.append(self.stream())
            memory.append(
                torch.cuda.memory_allocated() / 2**20 if self.device.type == "cuda" else 0
            )
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                bad = nst.optimize(Synchronising(net, content, style), content, steps=20)
        streams.append(self.stream())
        plain = nst.optimize(Uncaptured(net, content, style), content, steps=20)
        return (
            f"{differences(bad, plain)}{said(caught)}; streams before and after: {streams}; "
            f"MB before each: {memory}"
        )

    def stream(self) -> str:
        """Return what torch takes for the current stream."""
        return str(torch.cuda.current_stream()) if self.device.type == "cuda" else "none"

    def check_threads(self, content: torch.Tensor, style: torch.Tensor) -> str:
        net, ends, errors = self.nets["bundled"], [], []

        def paint() -> None:
            try:
                for _ in range(3):
                    loss = nst.StyleTransferLoss(net, content, style)
                    ends.append(nst.optimize(loss, content, steps=30))
            except Exception as error:
                traceback.print_exc()
                errors.append(described(error))

        threads = [threading.Thread(target=paint) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise RuntimeError("; ".join(errors))
        return differences(ends[0], ends[-1])


def run_of(
    loss: nst.StyleTransferLoss, start: torch.Tensor, **options: Any
) -> Callable[[], nst.Result]:
    """Return a run that is still to be done."""
    return lambda: nst.optimize(loss, start, **options)


def captured_and_not(
    net: nst.Features, arguments: dict, start: torch.Tensor, **options: Any
) -> list[nst.Result]:
    """Return the ends of two runs of a loss, one captured and one not."""
    kinds = nst.StyleTransferLoss, Uncaptured
    return [nst.optimize(kind(net, **arguments), start, **options) for kind in kinds]


def described(error: Exception) -> str:
    """Return the first line of an error, whose others may be hundreds."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')[:300]}"


def said(caught: list[warnings.WarningMessage]) -> str:
    """Return the first lines of warnings."""
    return "".join(f"; warning: {str(each.message).splitlines()[0]}" for each in caught)


def differences(one: nst.Result, other: nst.Result) -> str:
    """Say how far two runs of the same steps are apart."""
    totals = [[entry["total"] for entry in each.history] for each in (one, other)]
    relative = [abs(a - b) / abs(b) for a, b in zip(*totals, strict=False)]
    pixels = (one.image.cpu() - other.image.cpu()).abs().mean().item()
    lowest = min(totals[0]) / min(totals[1]) - 1
    counts = "/".join(str(len(each)) for each in totals)
    return (
        f"loss {totals[0][0]:.4g} to {totals[0][-1]:.4g}; relative differences: first "
        f"{relative[0]:.1e}, 8th {relative[min(7, len(relative) - 1)]:.1e}, last "
        f"{relative[-1]:.1e}, lowest {lowest:.1e}; of pixels {pixels:.1e}; "
        f"{counts} steps; {one.stopped}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vgg19", default="vgg19", help="a name or a file (default: vgg19)")
    parser.add_argument("--device", type=torch.device, default=nst.best_device())
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--budget", type=float, default=600, metavar="SECONDS")
    parser.add_argument("--quick", action="store_true", help="tiny, to try the script")
    parser.add_argument("--json", type=Path, help="write the table there, too")
    args = parser.parse_args()
    started_at = time.perf_counter()
    gpu = Gpu(args.device, args.vgg19, args.quick)
    gpu.add("machine", describe_machine(args.device))
    for part in args.parts:
        before = time.perf_counter() - started_at
        if before > args.budget:
            gpu.add(f"part {part}", "left out: no time")
            continue
        print(f"--- {part}", flush=True)
        try:
            getattr(gpu, part)()
            end = "done"
        except Exception as error:
            traceback.print_exc()
            end = f"FAILED: {described(error)}"
        gpu.add(f"part {part}", f"{end}, {time.perf_counter() - started_at - before:.1f} seconds")
        if args.json is not None:
            args.json.write_text(json.dumps(gpu.rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
