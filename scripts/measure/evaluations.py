"""How many evaluations L-BFGS takes to a loss, by its curvature pairs and its preconditioner.

    python -m scripts.measure.evaluations                          # the bundled network
    python -m scripts.measure.evaluations VGG19.safetensors --size 128
    python -m scripts.measure.evaluations --pairs 10 30 --exponents 0.25 0.5

The loss to reach is the lowest that ``REFERENCE``, the defaults of versions 0.3 to 0.5, has after
150 evaluations. Evaluations do not depend on what else the machine does; what each costs is
measured in turns, as a ratio of the least seconds.

Evaluations to that loss, by pairs and exponent; the cases are the transfer with 1e-3 from the
content, from noise, with 1e-2 from noise, the texture, and the reconstruction from relu3_2:

    pairs exponent  bundled, 160 px               VGG-19, 96 px
       10      0.0  never, 114, 149, 131, never
       10     0.25  140, 138, never, 135, never
       10     0.75  never, five times
       30      0.0  136, 101, 138, 118, never
       30     0.25  117, 110, 133, 124, never     115, 107, 132, 117
       30      0.5  112, 121, 128, 126, 141       111, 115, 132, 132, 140
       30     0.75  123, 127, 135, 138, 143
       50      0.5  105, never, 150, 121, 140     105, 107, 128, 126, 138

An evaluation with 30 pairs took 1.0 to 1.1 times as long as one with 10. The bundled network is
that of 0.7, whose loss has the curvature of VGG-19's by spatial frequency: one exponent suits both.

With that of 0.6, which hardly felt large shapes: half the size first, for 60 evaluations, took 118,
123 and 94 of the full size's for the three from noise, with 10 pairs. A range penalty of a tenth
changed nothing. Steps of colour two thirds as long as those of grey, with 30 pairs and 0.25: 101,
108, 85 and 114 for the first four, but three times the loss in the reconstruction.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import torch

import nst_helpers as nst
from scripts.measure.timing import in_turns

STEPS = 150


class Case(NamedTuple):
    """A loss, and where to begin."""

    name: str
    loss: nst.StyleTransferLoss
    start: torch.Tensor


class Setting(NamedTuple):
    """Curvature pairs, and the preconditioner's exponent."""

    pairs: int
    exponent: float


REFERENCE = Setting(10, 0.5)
PAIRS = (10, 20, 30, 50)
EXPONENTS = (0.0, 0.25, 0.5, 0.75)


def cases(net: nst.Features, size: int) -> list[Case]:
    """Return the cases: a transfer of two ratios and two starts, a texture, a reconstruction."""
    content, style = (nst.load_image(name, size) for name in ("chelsea", "night_sky"))
    pebbles = nst.load_image("pebbles", size)[..., :size, :size]
    noise = nst.noise_like(content, seed=0)
    transfer = {
        ratio: nst.StyleTransferLoss(net, content, style, alpha=ratio) for ratio in (1e-3, 1e-2)
    }
    texture = nst.StyleTransferLoss(net, None, pebbles)
    relu3_2 = nst.StyleTransferLoss(net, content, content_layers="relu3_2")
    return [
        Case("1e-3 content", transfer[1e-3], content),
        Case("1e-3 noise", transfer[1e-3], noise),
        Case("1e-2 noise", transfer[1e-2], noise),
        Case("texture", texture, nst.noise_like(pebbles, seed=0)),
        Case("relu3_2", relu3_2, noise),
    ]


def optimised(
    case: Case, setting: Setting, steps: int, goal: float = -1.0
) -> list[dict[str, float]]:
    """Return the history until the loss is at most ``goal``."""
    return nst.optimize(
        *(case.loss, case.start),
        steps=steps,
        history_size=setting.pairs,
        precondition=setting.exponent,
        callback=lambda progress: progress.terms["total"] > goal,
    ).history


def evaluations_to(goal: float, history: Sequence[dict[str, float]]) -> int | None:
    """Return after how many evaluations the loss was at most ``goal``; None if it never was."""
    return next((int(entry["step"]) for entry in history if entry["total"] <= goal), None)


def seconds(case: Case, settings: Sequence[Setting]) -> dict[Setting, float]:
    """Return the least seconds of an evaluation once all pairs are in use."""
    steps = 1 + max(setting.pairs for setting in settings)
    works = {
        str(setting): lambda setting=setting: optimised(case, setting, steps)
        for setting in settings
    }
    elapsed = in_turns(works, case.start.device, 3)
    return {setting: min(elapsed[str(setting)]) / steps for setting in settings}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("network", nargs="?", default="bundled", help="as load_network takes it")
    parser.add_argument("--size", type=int, default=192, help="shorter side, in pixels")
    parser.add_argument("--pairs", type=int, nargs="+", default=PAIRS)
    parser.add_argument("--exponents", type=float, nargs="+", default=EXPONENTS)
    parser.add_argument("--steps", type=int, default=STEPS, help="of the reference")
    parser.add_argument("--no-seconds", action="store_true", help="count evaluations alone")
    args = parser.parse_args()
    every = cases(nst.load_network(args.network), args.size)
    goals = [min(e["total"] for e in optimised(case, REFERENCE, args.steps)) for case in every]
    product = itertools.product(args.pairs, args.exponents)
    settings = [Setting(*values) for values in product]
    cost = dict.fromkeys((REFERENCE, *settings), 1.0)
    if not args.no_seconds:
        cost = seconds(every[0], [*cost])
    print(f"{args.network}, {args.size} px: evaluations to the loss of {REFERENCE}")
    names = "".join(f"{case.name:>14}" for case in every)
    print(f"pairs exponent{names}   mean  seconds each  in all, of the reference", flush=True)
    for setting in settings:
        counts = [
            evaluations_to(goal, optimised(case, setting, args.steps, goal))
            for case, goal in zip(every, goals, strict=True)
        ]
        mean = statistics.geometric_mean(count or args.steps for count in counts)
        each = cost[setting] / cost[REFERENCE]
        row = "".join(f"{count or 'never':>14}" for count in counts)
        print(
            f"{setting.pairs:5} {setting.exponent:8}{row}  {mean:5.0f}"
            f"  {each:12.3f}  {each * mean / args.steps:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
