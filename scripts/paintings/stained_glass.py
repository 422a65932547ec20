"""A stained-glass window: the sun over hills and a river, with birds, tulips and a border."""

from __future__ import annotations

import numpy as np

from .brush import blur, jitter, palette, ramp, smooth_noise, smoothstep, to_picture
from .relief import almond, borders, distance_to, sunlight

SUN = palette("ffe58a", "ffcf3d", "f9a21b")
SKIES = [
    palette("ffd95c", "f79a2e", "e2553f", "b8336a", "6d2f9c", "3a3fb5", "1d5fc4", "133a8f"),
    palette("fff0b8", "c9ecf2", "7cc8ea", "3b9be0", "2468c8", "1b3f9e", "2a2f86", "3a2a7a"),
    palette("ffe2a0", "f7b7a0", "e58fb0", "a986d0", "6f8fe0", "3f74cf", "2b8fb8", "1f6aa0"),
]  # dusk, noon and dawn
HILLS = palette("4f6fc0", "3f9ac4", "2c7fae", "3cb0a0", "1c8f7a", "2fa35a", "9ccb45", "d6c83a")
WATER = palette("bfe8ef", "5cc0dc", "2389c9", "8fd8d2", "1a62ad")
PETALS = palette("d3202f", "f0523d", "a3123f", "f7a6a0", "8f2a8c", "ffc23d")
LEAVES = palette("1f8a4c", "63b345", "0c5f45", "a9cc4b")
FEATHERS = palette("f6f1dc", "dfe9ef", "f9e3b4", "b9d3e6")
BORDER = palette("9c1330", "17358c", "0f6b5a", "6a2a8a", "c98a1b")


class Design:
    """The cartoon of a window: which piece of glass every pixel belongs to, and its colour."""

    def __init__(self, shape, rng):
        self.rng = rng
        self.pieces = np.zeros(shape, dtype=np.int32)
        self.figures = np.zeros(shape, dtype=np.int32)
        self.colors = [np.zeros(3)]

    def lay(self, mask, cells, colors, tint=None):
        """Cover `mask` with one figure, cut where the numbers in `cells` change.

        The pieces take random `colors`, or those at their mean `tint` in [0, 1].
        """
        if not mask.any():
            return
        cells = np.broadcast_to(cells, mask.shape)[mask]
        _, piece = np.unique(cells.astype(np.int64), return_inverse=True)
        count = piece.max() + 1
        if tint is None:
            chosen = colors[self.rng.integers(len(colors), size=count)]
        else:
            mean = np.bincount(piece, tint[mask]) / np.bincount(piece)
            chosen = ramp(colors, mean + self.rng.normal(0, 0.05, count))
        self.pieces[mask] = piece + len(self.colors)
        self.figures[mask] = self.figures.max() + 1
        self.colors.extend(jitter(chosen, self.rng, 0.05, 0.02))

    def drop_slivers(self, thinnest):
        """Give pieces that are too thin to be cut from glass to their neighbours."""
        inside = distance_to(borders(self.pieces))
        radius = np.zeros(len(self.colors))
        np.maximum.at(radius, self.pieces, inside)
        sliver = (radius < thinnest)[self.pieces]
        for _ in range(int(3 * thinnest)):
            for axis, step in ((0, 1), (1, 1), (0, -1), (1, -1)):
                taken = sliver & ~np.roll(sliver, step, axis)
                for labels in (self.pieces, self.figures):
                    labels[taken] = np.roll(labels, step, axis)[taken]
                sliver &= ~taken


def blade(x, y, base, length, width, lean, bend=0.0):
    """Return a pointed oval that grows from `base` at an angle `lean` from upright."""
    toward = np.array([np.sin(lean), -np.cos(lean)])
    return almond(x, y, base + toward * length, length, width, lean - np.pi / 2, bend)


def draw_sky(design, x, y, aspect, sky, rng):
    """Lay rings of sky around the sun, each cut into sectors of its own, and birds."""
    sun = np.array([rng.uniform(0.3, 0.7) * aspect, rng.uniform(0.27, 0.36)])
    angle = np.arctan2(y - sun[1], x - sun[0]) / (2 * np.pi)
    radius = np.hypot(x - sun[0], y - sun[1])
    waved = radius * (1 + 0.05 * np.sin(angle * 2 * np.pi * 3 + rng.uniform(0, 6)))
    ring = np.searchsorted(np.cumsum(rng.uniform(0.045, 0.1, 40)), waved - 0.115)
    turns, offsets = rng.choice([-0.25, 0.2, 0.35], 64)[ring], rng.random(64)[ring]
    sectors = 9 + 6 * ring
    sector = np.floor((angle + turns * waved + offsets) * sectors) % sectors
    design.lay(radius >= 0, ring * 1000 + sector, sky, radius)
    rays = rng.integers(11, 17)
    phase = angle * rays + 0.5 * np.sin(radius * 20)
    flame = radius < 0.105 + 0.085 * (1 - np.abs(2 * (phase % 1) - 1))
    design.lay(flame, np.floor(phase), SUN[1:])
    design.lay(radius < 0.1, np.floor(angle * 6) * (radius > 0.045), SUN)

    flock = []
    for _ in range(60):
        at = np.array([rng.uniform(0.25, aspect - 0.25), rng.uniform(0.22, 0.42)])
        if len(flock) < 3 and all(np.hypot(*(at - other)) > 0.31 for other in [sun, *flock]):
            flock.append(at)
            draw_bird(design, x, y, at, rng.uniform(0.085, 0.115), rng.choice([-1, 1]))


def draw_bird(design, x, y, at, big, side):
    """Lay a gliding bird of half length `big`; it flies to the right if `side` is 1."""
    x, y = (x - at[0]) * side / big, (y - at[1]) / big
    far, along, _ = blade(x, y, np.array([0.25, 0.0]), 0.75, 0.26, 0.45, 0.5)
    design.lay(far, np.floor(along * 1.5), FEATHERS)
    for lean in (-1.45, -1.85):
        tail, _, _ = blade(x, y, np.array([-0.45, 0.08]), 0.42, 0.13, lean)
        design.lay(tail, 0, FEATHERS)
    body, along, _ = almond(x, y, (0, 0), 0.85, 0.27, -0.12, 0.25)
    design.lay(body | (np.hypot(x - 0.66, y + 0.1) < 0.2), along > 0.35, FEATHERS)
    beak, _, _ = almond(x, y, (0.92, -0.1), 0.16, 0.09, 0.1)
    design.lay(beak, 0, SUN)
    wing, along, across = blade(x, y, np.array([0.2, 0.02]), 0.85, 0.3, -0.55, -0.5)
    design.lay(wing, np.floor(along * 2) * 2 + (across > -0.5 * (1 - along**2)), FEATHERS)


def draw_land(design, x, y, aspect, rng):
    """Lay hills in bands that follow their crests, and a river that comes towards the viewer."""
    level = 0.47
    for step in range(5):
        level += rng.uniform(0.045, 0.09)
        waves = rng.uniform(0, 6.3, 3)
        crest = level + 0.055 * np.sin(3.1 * x + waves[0]) + 0.03 * np.sin(7 * x + waves[1])
        depth = y - crest + 0.015 * np.sin(9 * x + waves[2])
        band = np.floor(depth / rng.uniform(0.035, 0.06)).astype(int)
        slant = x + rng.uniform(-1, 1) * depth + rng.random(64)[band % 64]
        hues = HILLS[step : step + 4]
        design.lay(y > crest, band * 1000 + np.floor(slant / rng.uniform(0.08, 0.15)), hues)
    depth = np.clip((y - 0.62) / 0.4, 0, 1)
    start = rng.uniform(0.35, 0.65) * aspect
    middle = start + 0.2 * np.sin(rng.uniform(4, 6) * depth + rng.uniform(0, 6.3)) * (0.3 + depth)
    half = 0.028 + 0.15 * depth**1.2
    lane = np.floor((x - middle) / half * 1.5 + 0.5)
    reach = np.floor(depth * 5 + 0.5 * np.sin(lane * 2) + (x - middle) * 2)
    design.lay((np.abs(x - middle) < half) & (y > 0.62), lane * 100 + reach, WATER)


def draw_tulips(design, x, y, aspect, rng):
    """Lay a row of tulips in front, each between its two long leaves."""
    for place in np.linspace(0.13, 0.87, rng.integers(5, 7)):
        foot = np.array([place * aspect + rng.uniform(-0.03, 0.03), 0.95])
        top = np.array([foot[0] + rng.uniform(-0.03, 0.03), rng.uniform(0.7, 0.8)])
        share = np.clip((foot[1] - y) / (foot[1] - top[1]), 0, 1)
        stem = np.abs(x - foot[0] - (top[0] - foot[0]) * share**2) < 0.008
        design.lay(stem & (y > top[1]), y > 0.86, LEAVES)
        for lean in (-rng.uniform(0.35, 0.6), rng.uniform(0.35, 0.6)):
            long = rng.uniform(0.09, 0.12)
            leaf, along, _ = blade(x, y, foot, long, 0.032, lean, -np.sign(lean) * 0.6)
            design.lay(leaf, along > 0.1, LEAVES)
        hues = PETALS[rng.permutation(len(PETALS))[:3]]
        big = rng.uniform(0.055, 0.066)
        for lean, wide in ((-0.75, 0.4), (0.75, 0.4), (-0.36, 0.45), (0.36, 0.45), (0, 0.5)):
            petal, along, _ = blade(x, y, top + (0, 0.012), big, big * wide, lean, -0.4 * lean)
            design.lay(petal, 0, hues)


def draw_border(design, x, y, aspect, rng):
    """Frame the window with two rows of small panes and a square in every corner."""
    from_side, from_end = np.minimum(x, aspect - x), np.minimum(y, 1 - y)
    edge = np.minimum(from_side, from_end)
    upright = from_side < from_end
    middle = np.where(upright, y - 0.5, x - aspect / 2)
    side = upright * 2 + np.where(upright, x > aspect / 2, y > 0.5)
    for reach, long, colors in ((0.07, 0.09, BORDER), (0.022, 0.15, SUN)):
        cells = side * 1000 + np.floor(middle / long + 0.5)
        corner = np.maximum(from_side, from_end) < reach
        cells[corner] = 9000 + (x > aspect / 2)[corner] + 2 * (y > 0.5)[corner]
        design.lay(edge < reach, cells, colors)


def color_glass(design, x, y, unit, rng):
    """Return the glass with the light that falls through it."""
    pieces, count, shape = design.pieces, len(design.colors), x.shape
    # Streaks of a second tint run through every piece in its own direction.
    streaks = np.empty(shape, dtype=np.float32)
    group = rng.integers(6, size=count)[pieces]
    for number, stretch in enumerate(((90, 9), (9, 90), (40, 12), (14, 50), (25, 25), (120, 6))):
        layer = smooth_noise(shape, np.multiply(stretch, unit), rng)
        streaks[group == number] = layer[group == number]
    color = np.array(design.colors)[pieces]
    second = np.roll(color, 1, axis=-1) * 0.35 + 0.65 * np.clip(color * 1.5 + 0.06, 0, 1)
    glass = color + (second - color) * (smoothstep(0.45, 0.85, streaks) * 0.75)[..., None]

    # Light: brighter towards one side of each piece, uneven with the waves of the glass.
    tilt = rng.normal(0, 1.6, (count, 2))[pieces]
    sizes = np.maximum(np.bincount(pieces.ravel(), minlength=count), 1)
    middle = [np.bincount(pieces.ravel(), v.ravel(), minlength=count) / sizes for v in (x, y)]
    slope = tilt[..., 0] * (x - middle[0][pieces]) + tilt[..., 1] * (y - middle[1][pieces])
    waves = sunlight(smooth_noise(shape, 16 * unit, rng, 3) * 9 * unit) - 1
    light = 1.08 + np.clip(slope, -0.25, 0.25) + 0.22 * waves + 0.45 * (streaks - 0.5)
    light += 0.25 * (smooth_noise(shape, shape[0] / 2, rng, 2) - 0.5)
    seeds = (rng.random(shape) > 1 - 0.0012 / unit**2).astype(np.float32)
    bubbles = blur(seeds, 1.1 * unit) * 14 * unit**2
    light += 0.5 * np.clip(bubbles - np.roll(bubbles, (2, 2), (0, 1)), -0.6, 1)
    return glass * light[..., None]


def leads(design, unit, rng):
    """Return how near the leads are (below 1 is covered by them), and the same for the solder."""
    # Thick between figures, thin within them, with solder where three pieces meet.
    pieces = design.pieces
    uneven = 0.75 + 0.5 * smooth_noise(pieces.shape, 40 * unit, rng, 2)
    within = distance_to(borders(pieces)) / (1.9 * unit * uneven)
    between = distance_to(borders(design.figures)) / (3.2 * unit * uneven)
    corner = [np.roll(pieces, step, (0, 1)) for step in ((0, 0), (0, 1), (1, 0), (1, 1))]
    ordered = np.sort(np.stack(corner), axis=0)
    joints = (np.diff(ordered, axis=0) > 0).sum(axis=0) >= 2
    solder = distance_to(joints) / (4.6 * unit * uneven)
    return np.minimum(np.minimum(within, between), solder), solder


def stained_glass(seed: int = 0, size: tuple[int, int] = (800, 640)):
    """Paint a leaded window of jewel-coloured, streaky, hand-cut glass."""
    rng = np.random.default_rng(seed)
    width, height = 2 * size[0], 2 * size[1]
    shape, aspect = (height, width), width / height
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / height
    unit = height / 640  # one unit is half a pixel of the default picture

    design = Design(shape, rng)
    # No hand cuts a straight line: the cartoon is drawn on wobbling coordinates.
    wobble = [(smooth_noise(shape, height / 6, rng) - 0.5) * 0.03 for _ in range(2)]
    drawn_x, drawn_y = x + wobble[0], y + wobble[1]
    draw_sky(design, drawn_x, drawn_y, aspect, SKIES[seed % len(SKIES)], rng)
    for draw in (draw_land, draw_tulips):
        draw(design, drawn_x, drawn_y, aspect, rng)
    draw_border(design, x + wobble[0] * 0.15, y + wobble[1] * 0.15, aspect, rng)
    design.drop_slivers(3.2 * unit)

    glass = color_glass(design, x, y, unit, rng)
    near, solder = leads(design, unit, rng)
    dirt = 0.34 * (1 - smoothstep(0.9, 3.5, near))  # it gathers along the leads
    glass *= (1 - dirt)[..., None]
    came = np.sqrt(np.clip(1 - near**2, 0, 1)) * 4 * unit
    came += smooth_noise(shape, 5 * unit, rng, 2) * 1.5 * unit
    metal = (0.10 + 0.07 * (solder < 1)) * sunlight(came)
    lead = np.clip(metal, 0, 0.5)[..., None] * np.array([0.95, 1.0, 1.08])
    cover = 1 - smoothstep(0.85, 1.1, near)
    glass += (lead - glass) * cover[..., None]
    glass += 0.16 * blur(np.clip(glass - 0.55, 0, 1), 9 * unit)  # the glow of bright glass
    return to_picture(glass, size)
