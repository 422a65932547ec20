"""Several painters on one machine: steps a second, in sum, against one painter alone.

    python -m scripts.measure.painters               # 1, 2 and 4 painters, three minutes
    python -m scripts.measure.painters --painters 1 2 8 --size 128

Each painter is a process of its own, as each notebook's kernel is, and paints with the bundled
network and torch's own number of threads. Measure on a machine that has nothing else to do.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import torch

import nst_helpers as nst
from scripts.measure.timing import describe_machine

ROOT = Path(__file__).parents[2]
GO = "go"


def paint(size: int, seconds: float) -> None:
    """Get ready, wait for a line, paint for that long, and print how many steps it took."""
    content, style = (nst.load_image(name, size) for name in ("chelsea", "night_sky"))
    loss = nst.StyleTransferLoss(nst.load_network("bundled"), content, style)
    start = nst.noise_like(content, seed=0)
    nst.optimize(loss, start, steps=12)
    print("ready", flush=True)
    if sys.stdin.readline().strip() != GO:
        return
    end = time.perf_counter() + seconds
    result = nst.optimize(loss, start, steps=10**6, callback=lambda _: time.perf_counter() < end)
    print(result.steps_done, flush=True)


def steps_per_second(painters: int, size: int, seconds: float) -> list[float]:
    """Return each painter's steps a second, while all of them paint."""
    command = [sys.executable, "-m", "scripts.measure.painters", "--child"]
    command += ["--size", str(size), "--seconds", str(seconds)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    children = [subprocess.Popen(command, cwd=ROOT, **pipes) for _ in range(painters)]
    try:
        for child in children:
            if child.stdout.readline().strip() != "ready":
                raise RuntimeError("a painter did not get ready: see its message above")
        for child in children:
            child.stdin.write(f"{GO}\n")
            child.stdin.flush()
        return [int(child.stdout.readline()) / seconds for child in children]
    finally:
        for child in children:
            child.kill()
            child.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--painters", type=int, nargs="+", default=(1, 2, 4))
    parser.add_argument("--rounds", type=int, default=3, help="in turns; the best counts")
    parser.add_argument("--size", type=int, default=256, help="shorter side, in pixels")
    parser.add_argument("--seconds", type=float, default=12.0, help="of painting, each")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        paint(args.size, args.seconds)
        return
    counts = sorted({1, *args.painters})
    print(describe_machine(torch.device("cpu")))
    best: dict[int, list[float]] = {}
    for _ in range(args.rounds):
        for count in counts:
            rates = steps_per_second(count, args.size, args.seconds)
            best[count] = max(best.get(count, []), rates, key=sum)
    print(f"{args.size} px, bundled network, best of {args.rounds} rounds")
    print("painters  steps a second, each            in sum  in sum / one alone")
    for count, rates in best.items():
        each = " ".join(f"{rate:.1f}" for rate in sorted(rates, reverse=True))
        print(f"{count:8}  {each:<30} {sum(rates):7.1f}  {sum(rates) / sum(best[1]):18.2f}")


if __name__ == "__main__":
    main()
