"""A run as a film: frames chosen by progress, and the film where a notebook shows it."""

from __future__ import annotations

import base64
import html
from itertools import accumulate, pairwise
from pathlib import Path

import torch
from IPython.display import HTML

from nst_helpers import _validate
from nst_helpers.optimization import Result

__all__ = ["frames_by_progress", "show_film"]


def frames_by_progress(result: Result, count: int) -> dict[int, torch.Tensor]:
    """Return snapshots of a run between which the image changes by about as much.

    The first steps change most and the last ones hardly anything, so that snapshots at equal
    distances would be nearly all of the end.

    Parameters
    ----------
    result : Result
        With two snapshots or more. Those between of steps that went too far, whose loss is above an
        earlier one's, are left out.
    count : int
        At most, 2 or more; the first and the last are always among them.

    Returns
    -------
    dict of int to torch.Tensor
        Step to image, in order.
    """
    count = int(_validate.number_between("count", count, 2, 10_000))
    totals = {entry["step"]: entry["total"] for entry in result.history}
    steps = sorted(result.snapshots)
    if len(steps) < 2:
        raise _validate.wrong("result", "a run with two snapshots or more", steps)
    falling = steps[:1]
    for step in steps[1:]:
        if totals[step] < totals[falling[-1]] or step == steps[-1]:
            falling.append(step)
    changes = [
        (result.snapshots[a] - result.snapshots[b]).square().mean().sqrt().item()
        for a, b in pairwise(falling)
    ]
    distances = list(accumulate(changes, initial=0.0))
    chosen = set()
    for i in range(count):
        distance = distances[-1] * i / (count - 1)
        chosen.add(min(range(len(falling)), key=lambda k: abs(distances[k] - distance)))
    return {falling[k]: result.snapshots[falling[k]] for k in sorted(chosen)}


def show_film(path: Path, alt: str, width: int = 480) -> HTML:
    """Return a film as a part of the notebook, where nothing else need be kept beside it.

    Parameters
    ----------
    path : Path
        As ``save_animation`` returns it.
    alt : str
        What is to be seen, for those who cannot see it.
    width : int
        In pixels, as shown.
    """
    kind = path.suffix.removeprefix(".")
    data = base64.b64encode(path.read_bytes()).decode()
    source = f"data:image/{kind};base64,{data}"
    return HTML(f'<img src="{source}" alt="{html.escape(alt)}" width="{width}">')
