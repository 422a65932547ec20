"""A carpet of autumn leaves: maple, oak, beech, lime and ginkgo, lying over one another."""

from __future__ import annotations

import numpy as np

from .brush import jitter, palette, ramp, smooth_noise, smoothstep, to_picture
from .relief import sunlight, turned, window

REDS = palette("6e1420", "a8231f", "cf4423", "e8772e")
GOLDS = palette("b8741a", "e0a02a", "f2c443", "f6dc7a")
BROWNS = palette("4d2c1a", "7a4826", "a06a3a", "c3935c")
GREENS = palette("3f5a2a", "6d8a38", "a3ad45", "d3b945")
# How far a maple leaf reaches from its stalk, by the angle from its tip in degrees.
MAPLE_ANGLES = (0, 7, 10, 16, 26, 33, 40, 43, 50, 57, 60, 66, 78, 88, 94, 104, 112, 120, 150, 180)
MAPLE_REACH = (
    1,
    0.8,
    0.84,
    0.62,
    0.4,
    0.56,
    0.64,
    0.74,
    0.93,
    0.72,
    0.72,
    0.52,
    0.36,
    0.44,
    0.52,
    0.68,
    0.46,
    0.4,
    0.24,
    0.12,
)
KINDS = {  # palettes and share of every kind
    "maple": ((REDS, REDS, GOLDS, GREENS), 0.3),
    "oak": ((BROWNS, BROWNS, GOLDS, REDS), 0.22),
    "beech": ((GOLDS, BROWNS, GREENS, REDS), 0.24),
    "lime": ((GOLDS, GREENS, REDS), 0.16),
    "ginkgo": ((GOLDS,), 0.08),
}
SHARES = np.array([share for _, share in KINDS.values()])


def lines(phase, width):
    """Return 1 on thin lines where `phase` is a whole number; `width` is a share of their gap."""
    return 1 - smoothstep(width * 0.5, width * 1.4, np.abs((phase + 0.5) % 1 - 0.5))


def outline_and_veins(kind, along, across, pixel, rng):
    """Return how far inside the leaf a point lies (1 in the middle, 0 at the edge), and its veins.

    `along` and `across` run from -1 to 1; `pixel` is the size of a pixel in these coordinates.
    """
    fine = 1.1 * pixel
    if kind in ("maple", "ginkgo"):
        along = along + (0.45 if kind == "maple" else 0.8)  # the veins spread from the stalk
        reach = np.hypot(along, across) / (1.4 if kind == "maple" else 1.55)
        theta = np.degrees(np.abs(np.arctan2(across, along)))
        if kind == "maple":
            limit = np.interp(theta, MAPLE_ANGLES, MAPLE_REACH)
            spread = np.min([np.abs(theta - lobe) for lobe in (0, 50, 104)], axis=0)
            main = 1 - smoothstep(fine, 2.8 * fine, np.radians(spread) * reach)
            side = lines(reach * 9 - np.radians(spread) * reach * 8, 14 * fine) * 0.45
            return 1 - reach / limit, np.maximum(main, side)
        limit = np.interp(theta, (0, 3, 8, 55, 70, 80, 180), (0.72, 0.92, 1, 0.93, 0.6, 0.1, 0.05))
        limit = limit * (1 + 0.025 * np.sin(theta * 0.7 + rng.uniform(0, 6)))
        return 1 - reach / limit, lines(theta / 3.1, 0.25) * 0.35
    t = np.clip((along + 1) / 2, 0, 1)
    gap = {"oak": 5.0, "beech": 8.5, "lime": 5.5}[kind]
    slant = {"oak": 0.75, "beech": 0.8, "lime": 0.7}[kind]
    if kind == "oak":
        half = 0.62 * np.sin(np.pi * t**0.8) ** 0.6 * (0.72 + 0.28 * np.cos(2 * np.pi * gap * t))
    elif kind == "beech":
        half = 0.56 * np.sin(np.pi * t**0.85) ** 0.9 * (1 + 0.06 * (2 * (gap * 3 * t % 1) - 1))
    else:
        half = 0.85 * np.sin(np.pi * t**0.55) ** 0.85 * (1 + 0.05 * (2 * (gap * 4 * t % 1) - 1))
    middle = 1 - smoothstep(fine, 3 * fine * (1.4 - t), np.abs(across))
    side = lines((t - slant / 2 * np.abs(across)) * gap, 0.9 * fine * gap) * 0.7
    return 1 - np.abs(across) / np.maximum(half, 1e-3), np.maximum(middle, side)


def lay_leaf(canvas, center, size, unit, noise, shares, rng):
    """Lay one leaf with its stalk and its shadow onto the canvas."""
    shape = canvas.shape[:2]
    spot, dx, dy = window(center, 1.6 * size, shape)
    rows, columns = canvas[spot].shape[:2]
    if 0 in (rows, columns):
        return
    kind = rng.choice(list(KINDS), p=shares)
    size = size * (0.68 if kind == "ginkgo" else 1.0)
    shift = rng.integers(0, noise.shape[0] - max(rows, columns) - 1, 2)
    texture = noise[shift[0] : shift[0] + rows, shift[1] : shift[1] + columns]
    along, across = turned(dx, dy, rng.uniform(0, 2 * np.pi))
    along, across = along / size, across / (size * rng.uniform(0.8, 1.05))
    across = across + rng.normal(0, 0.12) * along**2 + (texture - 0.5) * 0.12
    inside, veins = outline_and_veins(kind, along, across, 1 / size, rng)
    start = {"maple": -0.45, "ginkgo": -0.8}.get(kind, -0.95)
    bent = across - rng.normal(0, 0.35) * (along - start) ** 2
    stalk = 1 - smoothstep(0.014, 0.03, np.abs(bent))
    stalk = stalk * (along < start + 0.05) * (along > start - 0.6)

    soft = 2.0 * unit / size
    cover = np.maximum(smoothstep(-0.2 * soft, 2 * soft, inside), stalk)
    shadow = np.maximum(smoothstep(-7 * soft, 9 * soft, inside), 0.5 * stalk)
    drop = round(rng.uniform(3, 7) * unit)
    shadow = np.pad(shadow, ((drop, 0), (drop // 2, 0)))[:rows, :columns]
    canvas[spot] *= (1 - 0.72 * shadow)[..., None]

    hues = KINDS[kind][0]
    hues = hues[rng.integers(len(hues))]
    # Autumn enters from the edge, or leaves green along the veins, or comes in blotches.
    turning = rng.uniform(-0.7, 0.7) * (inside - 0.4) + rng.uniform(0.5, 1.3) * (texture - 0.5)
    tint = rng.uniform(0.2, 0.8) + turning + rng.uniform(-0.25, 0.35) * veins
    color = ramp(jitter(hues, rng, 0.03, 0.012), tint)
    spots = smoothstep(0.68, 0.76, np.roll(texture, rows // 2, 0)) * rng.uniform(0, 0.8)
    color *= (1 - 0.5 * spots)[..., None]
    color *= (0.82 + 0.18 * smoothstep(0, 0.2, inside))[..., None]
    pale = np.where(rng.random() < 0.75, 1.28, 0.68)
    color *= (1 + (pale - 1) * veins)[..., None]
    color[stalk > 0.5] = BROWNS[rng.integers(1, 4)]
    curl = rng.normal(0, 0.12) * across**2 + rng.normal(0, 0.1) * along**2
    curl = curl + rng.normal(0, 0.1) * along + rng.normal(0, 0.08) * across
    height = curl * size + texture * 9 * unit - veins * 1.1 * unit
    light = 0.45 + 0.6 * sunlight(height)
    canvas[spot] += (color * light[..., None] - canvas[spot]) * cover[..., None]


def leaves(seed: int = 0, size: tuple[int, int] = (640, 640)):
    """Cover the ground with fallen leaves."""
    rng = np.random.default_rng(seed)
    width, height = 2 * size[0], 2 * size[1]
    shape = (height, width)
    unit = min(shape) / 1280  # one unit is half a pixel of the default picture
    soil = smooth_noise(shape, 12 * unit, rng, 3)
    canvas = ramp(palette("1a110b", "3b2616", "5a3d22"), soil).astype(np.float32)
    noise = smooth_noise((int(900 * unit) + 8, int(900 * unit) + 8), 50 * unit, rng, 5)
    # Every wood has its own mixture of trees.
    shares = SHARES * rng.gamma(4, size=len(SHARES))
    shares /= shares.sum()
    count = int(720 * width * height / min(shape) ** 2)
    for number, center in enumerate(rng.random((count, 2)) * (width, height)):
        if number in (count // 3, count * 2 // 3):
            canvas *= 0.8  # what lies deeper gets less light
        lay_leaf(canvas, center, rng.uniform(42, 105) * unit, unit, noise, shares, rng)
    return to_picture(canvas, size)
