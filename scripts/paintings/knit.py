"""Thick knitted wool with bands of Fair Isle motifs."""

from __future__ import annotations

import numpy as np

from .brush import jitter, palette, smooth_noise, smoothstep, to_picture, trace
from .relief import sunlight, turned, window

CREAM, OAT, NAVY, MADDER, MOSS, GOLD, SKY, PLUM, RUST = palette(
    "efe6d2", "cdb891", "1f3158", "a02c2a", "4a6641", "dba03a", "84a9bd", "4b2737", "c8663f"
)
# Ground, figure and the row at the heart of the figure, as good knitters put them together.
SCHEMES = [
    (CREAM, NAVY, MADDER), (NAVY, CREAM, GOLD), (OAT, MADDER, NAVY), (MADDER, CREAM, GOLD),
    (MOSS, CREAM, RUST), (GOLD, PLUM, MADDER), (SKY, NAVY, MADDER), (PLUM, GOLD, CREAM),
    (CREAM, MOSS, RUST), (NAVY, SKY, CREAM), (OAT, PLUM, MOSS), (RUST, CREAM, NAVY),
]  # fmt: skip


def motif(reach, rng):
    """Return a star of (2 reach + 1) rows: diamonds in one another, crossed by arms."""
    i, j = np.indices((reach + 1, reach + 1))
    rings = rng.random(reach + 1) < 0.5
    rings[-1], rings[0] = True, True
    quarter = np.append(rings, [False] * reach)[i + j]
    arms = np.minimum(i, j) == 0 if rng.random() < 0.5 else i == j
    quarter ^= arms & (i + j < reach) & (i + j > 0)
    corner = 2 * reach - int(rng.integers(0, reach - 1))
    quarter |= i + j >= corner  # a small diamond fills the gap between two large ones
    column = np.abs(np.arange(2 * reach) - reach)
    row = np.abs(np.arange(2 * reach + 1) - reach)
    return quarter[row][:, column]


def pattern(rows, columns, rng):
    """Return the colour of every stitch: bands of stars between narrow bands of small figures."""
    i, j = np.indices((rows, columns))
    grid = np.zeros((rows, columns, 3))
    order = rng.permutation(len(SCHEMES))
    row, band = -int(rng.integers(0, 8)), 0
    while row < rows:
        ground, figure, heart = SCHEMES[order[band % len(order)]]
        if band % 2 == 0:
            reach = int(rng.integers(3, 6))
            star = motif(reach, rng)
            height = len(star)
            on = star[(i - row) % height, (j + rng.integers(20)) % (2 * reach)]
        else:
            height = int(rng.integers(1, 4))
            step = int(rng.choice([2, 4, 4, 6]))
            on = (j + rng.choice([0, 1, -1]) * i) % step < step // 2
        here = (i >= row) & (i <= row + height)  # one plain row sets the bands apart
        grid[here] = ground
        grid[here & on & (i < row + height)] = figure
        if band % 2 == 0:
            grid[here & on & (np.abs(i - row - height // 2) <= reach // 4)] = heart
        row, band = row + height + 1, band + 1
    return grid


def knit_leg(canvas, relief, center, lean, wide, high, color, fibres, rng):
    """Lay one leg of a stitch: a short piece of twisted yarn, thick in the middle."""
    spot, dx, dy = window(center, 1.25 * high, relief.shape)
    if 0 in relief[spot].shape:
        return
    along, across = turned(dx, dy, np.pi / 2 + lean + rng.normal(0, 0.05))
    along, across = along / (1.0 * high), across / (0.29 * wide * rng.uniform(0.94, 1.06))
    across = across + np.sign(lean) * 0.3 * (along**2 - 0.3)
    round_ = 1 - np.abs(along) ** 2.4 - across**2
    cover = smoothstep(0, 0.16, round_)
    dome = np.sqrt(np.clip(round_, 0, 1))
    # Two plies wind around each other; the fibres follow them.
    twist = along * 2.3 + np.arcsin(np.clip(across, -1, 1)) * 0.42 + rng.random()
    ply = np.abs(np.sin(np.pi * twist))
    size = fibres.shape[0]
    row = ((twist * 34 + rng.integers(size)) % size).astype(int)
    column = ((along * 9 - across * 22 + rng.integers(size)) % size).astype(int)
    fibre = fibres[row, column] - 0.5
    tone = 0.5 + 0.42 * dome + 0.16 * (ply - 0.5) + 0.7 * fibre
    yarn = color * np.clip(tone, 0.05, 1.4)[..., None]
    canvas[spot] *= (1 - 0.55 * smoothstep(-0.45, 0.1, round_))[..., None]
    canvas[spot] += (yarn - canvas[spot]) * cover[..., None]
    raised = (dome * 0.24 + 0.035 * ply + 0.03 * fibre) * wide
    relief[spot] = np.where(cover > 0.5, raised, relief[spot])


def add_hairs(canvas, count, unit, rng):
    """Let fine stray fibres stand off the yarn."""
    height, width = canvas.shape[:2]
    angle = smooth_noise((height, width), 30 * unit, rng, 3) * 6 * np.pi
    starts = rng.random((count, 2)) * (width, height)
    paths = trace(angle, starts, max(int(34 * unit), 4), 1.0)
    columns = np.clip(paths[..., 0].astype(int), 0, width - 1)
    rows = np.clip(paths[..., 1].astype(int), 0, height - 1)
    middle = paths.shape[1] // 2
    color = canvas[rows[:, middle], columns[:, middle]] * 1.25 + 0.08
    strength = np.sin(np.linspace(0, np.pi, paths.shape[1]))[None, :, None] * 0.6
    there = canvas[rows, columns]
    canvas[rows, columns] = there + (color[:, None] - there) * strength


def knit(seed: int = 0, size: tuple[int, int] = (640, 640)):
    """Knit a piece of Fair Isle in stocking stitch."""
    rng = np.random.default_rng(seed)
    width, height = 2 * size[0], 2 * size[1]
    shape = (height, width)
    unit = min(shape) / 1280  # one unit is half a pixel of the default picture
    wide, high = 28 * unit, 24 * unit
    rows, columns = int(height / high) + 3, int(width / wide) + 3
    grid = pattern(rows, columns, rng)
    fibres = smooth_noise((256, 256), (3, 40), rng, 3)
    sway = [(smooth_noise((rows, columns), 9, rng, 2) - 0.5) * 0.5 for _ in range(2)]

    canvas = np.full((*shape, 3), 0.06, dtype=np.float32)
    relief = np.zeros(shape, dtype=np.float32)
    for row in range(rows - 1, -1, -1):  # upwards, as every stitch grows out of the one below
        for column in rng.permutation(columns):
            x = (column - 0.5 + sway[0][row, column]) * wide + rng.normal(0, 0.6) * unit
            y = (row - 0.5 + sway[1][row, column]) * high + rng.normal(0, 0.6) * unit
            color = jitter(grid[row, column], rng, 0.018, 0.006)
            for side in rng.permutation([-1, 1]):
                center = (x + side * 0.25 * wide, y)
                knit_leg(canvas, relief, center, side * 0.29, wide, high, color, fibres, rng)
    heather = smooth_noise(shape, 5 * unit, rng, 2) - 0.5
    canvas *= ((0.45 + 0.55 * sunlight(relief)) * (1 + 0.25 * heather))[..., None] * 1.12
    add_hairs(canvas, int(9000 * width * height / min(shape) ** 2), unit, rng)
    return to_picture(canvas, size)
