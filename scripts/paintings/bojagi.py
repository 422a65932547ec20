"""A bojagi: a Korean wrapping cloth, pieced by hand from scraps of ramie and silk."""

from __future__ import annotations

import numpy as np

from .brush import blur, jitter, palette, ramp, smooth_noise, smoothstep, to_picture
from .relief import sunlight

# Each family holds a few neighbouring dyes; the weights say how much of the cloth they cover.
DYES = [
    (palette("e6dcc4", "d8ccb0", "efe8d6", "cbc1a9"), 0.26),  # undyed ramie
    (palette("9db8a8", "7d9f93", "b9ccb9"), 0.2),  # celadon
    (palette("27406b", "3d5f8d", "1b2a49", "7f9cb8"), 0.2),  # indigo
    (palette("cf7a48", "b85a38", "dfa372"), 0.08),  # persimmon
    (palette("883349", "662843", "b0626c"), 0.09),  # safflower and plum
    (palette("cfa84a", "e2ca86"), 0.07),  # gardenia yellow
    (palette("4b4a3f", "5d6a4c"), 0.06),  # ink and moss
]


def cut(corners, rng, smallest):
    """Cut a convex patch again and again with slanted lines; return the list of patches."""
    edges = np.roll(corners, -1, axis=0) - corners
    lengths = np.hypot(*edges.T)
    x, y = corners.T
    area = 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
    # Scraps of every scale: some patches are left whole early on.
    if area < smallest**2 * np.exp(rng.normal(1.0, 0.75)) or len(corners) > 6:
        return [corners]
    first = int(np.argmax(lengths))
    others = [(first + step) % len(corners) for step in range(1, len(corners))]
    second = min(
        others,
        key=lambda side: (
            np.dot(edges[side], edges[first]) / lengths[side] / lengths[first]
            - 0.3 * lengths[side] / lengths[first]
        ),
    )
    share = rng.uniform(0.28, 0.72)
    start = corners[first] + share * edges[first]
    other = np.clip(1 - share + rng.normal(0, 0.1), 0.15, 0.85)
    end = corners[second] + other * edges[second]

    def part(begin, stop, first_point, last_point):
        steps = (stop - begin) % len(corners)
        ring = [corners[(begin + 1 + step) % len(corners)] for step in range(steps)]
        return np.array([first_point, *ring, last_point])

    return cut(part(first, second, start, end), rng, smallest) + cut(
        part(second, first, end, start), rng, smallest
    )


def weave(along, across, unit, rng):
    """Return the brightness of a plain weave with slubby threads, around 0."""
    pitch = rng.choice([5.0, 6.0, 7.0]) * unit
    total = 0
    over = np.floor(along / pitch) + np.floor(across / pitch)
    for number, (run, side) in enumerate(((along, across), (across, along))):
        thread = np.floor(side / pitch).astype(int)
        tone = rng.normal(0, 0.055, 512)[thread % 512]
        slub = np.sin(run / (23 * unit) + rng.uniform(0, 6.3, 512)[thread % 512])
        round_ = 1 - np.abs(2 * (side / pitch % 1) - 1) ** 2
        on_top = (over + number) % 2
        total = total + (0.35 + 0.65 * on_top) * (tone + 0.02 * slub + 0.17 * (round_ - 0.7))
    return total


def sew(canvas, height_map, x, y, corners, color, thread, unit, rng):
    """Sew one patch onto the canvas: weave, folded seam allowance, stitches and their relief."""
    low = np.maximum(np.floor(corners.min(axis=0) - 12 * unit).astype(int), 0)
    high = np.ceil(corners.max(axis=0) + 12 * unit).astype(int)
    spot = (slice(low[1], high[1]), slice(low[0], high[0]))
    if 0 in x[spot].shape:
        return
    px, py = x[spot], y[spot]
    fold = rng.uniform(6, 8.5) * unit
    edge = np.full(px.shape, np.inf, dtype=np.float32)
    stitches = np.zeros(px.shape, dtype=np.float32)
    for start, stop in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        length = np.hypot(*(stop - start))
        if length < 1e-6:
            continue
        way = (stop - start) / length
        along = (px - start[0]) * way[0] + (py - start[1]) * way[1]
        inside = (py - start[1]) * way[0] - (px - start[0]) * way[1]
        edge = np.minimum(edge, inside)
        # Small slanted stitches, no two of them quite alike, hold the fold down.
        pitch = rng.uniform(8.5, 11) * unit
        slant = along + 0.7 * (inside - fold)
        stitch = np.floor(slant / pitch).astype(int) % 128
        middle = 0.5 + rng.uniform(-0.12, 0.12, 128)[stitch]
        reach = rng.uniform(0.8, 1.25, 128)[stitch] * 3.6 * unit
        beside = (slant / pitch % 1 - middle) * pitch / (1.5 * unit)
        near = np.hypot(beside, (inside - fold) / reach)
        stitches = np.maximum(stitches, 1 - smoothstep(0.7, 1.1, near))
    sewn = edge >= 0
    if not sewn.any():
        return
    turn = np.arctan2(*(corners[1] - corners[0])[::-1]) + rng.normal(0, 0.04)
    along = px * np.cos(turn) + py * np.sin(turn)
    across = py * np.cos(turn) - px * np.sin(turn)
    cloth = weave(along, across, unit, rng)
    # Light shines through the cloth, less of it where the seam allowance doubles the layers.
    layers = (edge < fold) * 1.0 + (edge < 0.45 * fold) * 0.5
    shade = 1 + 1.1 * cloth - 0.15 * layers
    shade = shade - 0.3 * (1 - smoothstep(0, 1.6 * unit, np.abs(edge - fold)))
    dyed = color * np.clip(shade, 0, 1.5)[..., None] ** np.array([0.9, 1.0, 1.15])
    dyed += (thread - dyed) * (stitches * 0.85)[..., None]
    canvas[spot][sewn] = dyed[sewn]
    puff = smoothstep(0, 5 * unit, edge) * 2.2 + smoothstep(0, 3 * unit, fold - edge) * 1.5
    puff = (puff + cloth * 1.5 + stitches * 1.2) * unit
    height_map[spot][sewn] = puff[sewn]


def bojagi(seed: int = 0, size: tuple[int, int] = (800, 640)):
    """Piece together a bojagi and hang it against the light."""
    rng = np.random.default_rng(seed)
    width, height = 2 * size[0], 2 * size[1]
    shape = (height, width)
    unit = height / 1280  # one unit is half a pixel of the default picture
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    # Soft cloth never lies quite flat or straight.
    x += (smooth_noise(shape, height / 5, rng, 3) - 0.5) * 34 * unit
    y += (smooth_noise(shape, height / 5, rng, 3) - 0.5) * 34 * unit

    out = 30 * unit
    sheet = [(-out, -out), (width + out, -out), (width + out, height + out), (-out, height + out)]
    patches = cut(np.array(sheet, dtype=float), rng, 62 * unit)
    # Every household had other scraps, so every cloth leans towards other dyes.
    weights = np.array([weight for _, weight in DYES]) * rng.gamma(5, size=len(DYES))
    canvas = np.zeros((*shape, 3), dtype=np.float32)
    relief = np.zeros(shape, dtype=np.float32)
    for corners in patches:
        family = DYES[rng.choice(len(DYES), p=weights / weights.sum())][0]
        color = jitter(ramp(family, rng.random()), rng, 0.025, 0.008)
        pale = color.mean() > 0.5
        thread = jitter(DYES[rng.choice([2, 4, 3]) if pale else 0][0][0], rng)
        sew(canvas, relief, x, y, corners, color, thread, unit, rng)

    # Soft waves, and the creases of a cloth that was kept folded.
    relief += smooth_noise(shape, height / 3, rng, 5) * 60 * unit
    for position, extent in ((x, width), (y, height)):
        for share in (0.25, 0.5, 0.75):
            away = position - extent * (share + rng.uniform(-0.03, 0.03))
            depth = rng.choice([-1, 1]) * rng.uniform(2, 4.5) * unit
            relief += depth * np.exp(-np.abs(away) / (12 * unit))
    light = 0.55 + 0.45 * sunlight(relief)
    behind = 0.86 + 0.26 * smooth_noise(shape, height / 1.5, rng, 2)
    picture = canvas * (light * behind)[..., None]
    picture += 0.1 * blur(np.clip(picture - 0.6, 0, 1), 10 * unit)
    return to_picture(picture, size)
