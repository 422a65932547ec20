"""A landscape in ink: peaks rise out of mist, old pines lean over a river; one red seal."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from .brush import (
    Bristles,
    blur,
    curve,
    direction,
    palette,
    smooth_noise,
    smoothstep,
    sweep,
    taper,
    to_picture,
)

PAPER, RED = palette("f4ecd9", "b8321f")
# How much a full load of each pigment swallows of red, green and blue light.
INK, INDIGO, UMBER = -np.log(palette("1d1c1f", "5f86a0", "c39a66"))
SCALE = 2  # supersampling


class InkPainting:
    """Paper which soaks up ink: densities add up, so strokes shine through each other.

    Positions are pixels of the supersampled canvas; widths are given for a canvas 1600 wide.
    """

    def __init__(self, seed, size):
        self.rng = rng = np.random.default_rng(seed)
        self.width, self.height = size[0] * SCALE, size[1] * SCALE
        self.shape = (self.height, self.width)
        self.unit = max(self.shape) / 1600
        self.ink, self.indigo, self.umber = (np.zeros(self.shape, np.float32) for _ in range(3))
        self.y, self.x = np.mgrid[0 : self.height, 0 : self.width].astype(np.float32)
        self.bristles = Bristles(rng)
        self.tooth = smooth_noise(self.shape, 5 * self.unit, rng, 3)
        self.cloud = smooth_noise(self.shape, 240 * self.unit, rng, 6)
        self.veil = np.ones(self.shape, np.float32)  # 0 where mist swallows what is painted

    def place(self, x, y):
        """Return the point at fractions of the width and the height."""
        return np.array([x * self.width, y * self.height])

    def stroke(self, path, width, ink, dry=0.3, profile=None, layer=None):
        """Draw a stroke; a dry brush skips the hollows of the paper (flying white)."""
        layer = self.ink if layer is None else layer
        profile = taper(len(path)) if profile is None else profile
        width = width * self.unit
        rows, columns, along, across = sweep(path, np.maximum(width * profile, 1), self.shape)
        if len(rows) == 0:
            return
        hair = self.bristles.load(along, across, width)
        rim = np.abs(across) ** 3
        gap = dry * (0.15 + 0.85 * along / max(along.max(), 1) + 0.25 * rim)
        gap += 0.7 * dry * (self.tooth[rows, columns] - 0.5)
        wet = smoothstep(-0.08, 0.08, hair - gap)
        pool = 0.8 + 0.35 * rim  # pigment gathers at the rim of a wet stroke
        layer[rows, columns] += ink * wet * pool * self.veil[rows, columns]

    def wash(self, mask, ink=0.0, indigo=0.0, umber=0.0):
        """Lay a wet wash: it bleeds at its edge, dries darker there, and granulates."""
        soft = blur(mask, 4 * self.unit)
        soft = smoothstep(0.15, 0.85, soft + 0.6 * (self.tooth - 0.5) * (soft > 0.02))
        rim = np.clip(soft - blur(soft, 8 * self.unit), 0, 1)
        tone = (soft + 0.7 * rim) * (0.3 + 1.1 * self.cloud) * self.veil
        for layer, amount in ((self.ink, ink), (self.indigo, indigo), (self.umber, umber)):
            if amount:
                layer += amount * tone

    def lift(self, amount):
        """Take up pigment again, so that what is painted next stands in front."""
        for layer in (self.ink, self.indigo, self.umber):
            layer *= 1 - np.clip(amount, 0, 1)

    def mist(self, level, thickness, amount):
        """Let a bank of mist, torn like cloud, hide what lies behind it."""
        torn = 2.2 * (self.cloud - 0.5)
        self.lift(amount * np.exp(-((torn + (self.y / self.height - level) / thickness) ** 2)))

    def polygon(self, outline):
        """Return the inside of an outline as an array of 0 and 1."""
        image = Image.new("L", (self.width, self.height), 0)
        ImageDraw.Draw(image).polygon([tuple(point) for point in outline], fill=1)
        return np.asarray(image).astype(np.float32)

    def finished(self) -> np.ndarray:
        """Return the picture in colour: fibrous paper seen through all pigments."""
        rng, unit = self.rng, self.unit
        for start in rng.uniform(0, 1, (700, 2)) * (self.width, self.height):
            steps = direction(rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.25, 12)))
            fibre = start + np.cumsum(5 * unit * steps, axis=0)
            self.stroke(fibre, 1.6, 0.16, 0.3, layer=self.umber)
        pulp = smooth_noise(self.shape, (5 * unit, 22 * unit), rng, 3)
        paper = PAPER * (0.94 + 0.07 * pulp + 0.05 * (self.cloud - 0.5))[..., None]
        depth = np.zeros_like(paper)
        for layer, pigment in ((self.ink, INK), (self.indigo, INDIGO), (self.umber, UMBER)):
            depth += np.clip(layer * (0.9 + 0.2 * pulp), 0, 1.1)[..., None] * pigment
        return paper * np.exp(-depth)


class Landscape(InkPainting):
    """The things in the picture."""

    def __init__(self, seed, size):
        super().__init__(seed, size)
        self.side = 1 if seed % 2 else -1  # the great peaks stand on the left for even seeds

    def sky(self):
        """Sweep dry wide strokes over the sky, and leave out a moon."""
        rng, unit = self.rng, self.unit
        for _ in range(70):
            start = self.place(rng.uniform(-0.1, 1), rng.uniform(-0.02, 0.6))
            length = rng.uniform(0.2, 0.5)
            bend, drop = rng.normal(0, 0.03, 2)
            steps = [start + self.place(length * t, y) for t, y in ((0, 0), (0.5, bend), (1, drop))]
            load, layer = ((0.18, self.indigo), (0.08, self.ink))[rng.integers(2)]
            profile, dry = taper(30, 0.4, 0.6, 0.0), rng.uniform(0.7, 1.0)
            self.stroke(curve(steps, 30), rng.uniform(30, 90), load, dry, profile, layer)
        moon = self.place(0.5 - self.side * rng.uniform(0.1, 0.22), rng.uniform(0.12, 0.18))
        beyond = np.hypot(self.x - moon[0], self.y - moon[1]) / unit - 46
        self.lift(smoothstep(3, -3, beyond))
        self.wash((beyond > 0) * np.exp(-((beyond / 60) ** 2)), indigo=0.3)

    def peak(self, x, top, wide, high, ink, detail=1.0):
        """Paint one rock (in fractions of the picture), which dissolves into mist below.

        It gets a wash, strokes from pale to dark down its face, an outline, and pines.
        """
        rng = self.rng
        (x, top), (wide, high) = self.place(x, top), self.place(wide, high)
        v = np.linspace(0, 1, 80)
        steps = rng.gamma(0.35, 1.0, (2, 80)) * np.linspace(1.2, 0.7, 80) + 0.12
        steps[:, :3] += 1.5
        # Sums of uneven steps make cliffs and ledges.
        reaches = wide * (0.06 + np.cumsum(steps, axis=1) / steps.sum(axis=1, keepdims=True))
        middle = x + 0.35 * wide * (smooth_noise((1, 80), (1, 40), rng, 2)[0] - 0.5)

        def at(q, depth):
            """Point of the rock face: q from -1 (left rim) to 1 (right rim), depth from 0 to 1."""
            left, right = (np.interp(depth, v, reach) for reach in reaches)
            across = np.interp(depth, v, middle) + q * np.where(np.less(q, 0), left, right)
            return np.stack([across, top + depth * high], axis=-1)

        mask = self.polygon(np.vstack([at(-np.ones(80), v), at(np.ones(80), v)[::-1]]))
        self.veil = smoothstep(0.95, 0.4, (self.y - top) / high + 0.5 * (self.cloud - 0.5))
        self.lift(mask * self.veil)
        self.wash(mask, 0.1 * ink, 0.45 * (1.05 - ink), 0.3 * (ink - 0.2))
        folds = rng.uniform(-0.95, 0.95, 7)
        for count, widths, loads, lengths, dry in (
            (60, (16, 34), (0.05, 0.13), (0.15, 0.35), 0.5),
            (150, (7, 16), (0.10, 0.30), (0.06, 0.18), 0.75),
            (150, (3, 8), (0.30, 0.80), (0.04, 0.14), 0.7),
        ):
            for _ in range(int(count * detail)):
                # Strokes gather to the right of folds: the light falls from the left.
                fold = rng.choice(folds) + rng.gamma(1.2, 0.06)
                q = np.clip(fold, -1, 1) if rng.random() < 0.85 else rng.uniform(-1, 1)
                start, length = rng.uniform(0.35 * q * q, 0.75), rng.uniform(*lengths)
                t = np.linspace(0, 1, 10)
                path = at(np.clip(q + rng.normal(0.05, 0.07) * t, -1, 1), start + length * t)
                width = rng.uniform(*widths) * (0.5 + 0.5 * detail)
                self.stroke(path, width, ink * rng.uniform(*loads), dry)
        for q in (-1.0, 1.0, *folds):
            start = 0.4 * q * q if abs(q) < 1 else 0.0
            while start < 0.75:
                stop = start + rng.uniform(0.06, 0.2)
                path = at(q + rng.normal(0, 0.012), np.linspace(start, stop, 14))
                width = rng.uniform(0.5, 1.2) * (9 if q == 1 else 6)
                self.stroke(path, width, ink * rng.uniform(0.6, 1), 0.45)
                start = stop + rng.choice((-0.02, 0.02, 0.06))
        for depth in rng.beta(1, 1.8, int(26 * detail)):
            foot = at(rng.choice((-1.0, 1.0, rng.uniform(-1, 1))), 0.75 * depth)
            size = rng.uniform(22, 52) * (0.5 + 0.5 * detail)
            self.small_pine(foot, size * self.unit, ink * rng.uniform(0.7, 1.1))
        self.veil = np.ones(self.shape, np.float32)

    def dab(self, spot, width, ink):
        """Press the tip of the brush on the paper."""
        half = self.rng.normal((0.45, 0), 0.1) * width * self.unit
        self.stroke(np.linspace(spot - half, spot + half, 5), 0.7 * width, ink, 0.2)

    def small_pine(self, foot, high, ink):
        """Paint a far pine: a trunk and level layers of dabs, wider below."""
        rng = self.rng
        tip = foot + np.array([rng.normal(0, 0.16), -1]) * high
        self.stroke(np.linspace(foot, tip, 8), 3.5, ink, 0.2)
        for t in np.repeat(np.linspace(0.3, 1.0, 5), 4):
            spread = 0.4 * (1.2 - t) * rng.uniform(-1, 1)
            spot = foot + (tip - foot) * t + np.array([spread, rng.normal(0, 0.05)]) * high
            width = rng.uniform(0.13, 0.24) * high / self.unit
            self.dab(spot, width, ink * rng.uniform(0.2, 0.8))

    def mountains(self):
        """Stack three tiers of rocks, each behind its own bank of mist."""
        rng = self.rng
        for x in rng.permutation(np.linspace(0.02, 0.98, 8)):
            x, top, wide = x + rng.normal(0, 0.03), rng.uniform(0.22, 0.4), rng.uniform(0.08, 0.13)
            self.peak(x, top, wide, 0.5, rng.uniform(0.2, 0.32), 0.5)
        self.mist(0.66, 0.12, 0.8)
        middle = 0.5 + self.side * rng.uniform(0.14, 0.22)
        self.peak(middle, rng.uniform(0.06, 0.11), rng.uniform(0.08, 0.11), 0.62, 0.65)
        tops = np.sort(rng.uniform(0.15, 0.42, rng.integers(5, 9)))
        for top, way in zip(tops, rng.choice((-1, 1)) * (-1) ** np.arange(len(tops)), strict=True):
            x = middle + 0.28 * (top - 0.02) * way * rng.uniform(0.5, 3)
            self.peak(x, top, rng.uniform(0.065, 0.11), 0.62, rng.uniform(0.45, 0.75))
        self.mist(0.74, 0.09, 0.9)
        for y in np.sort(rng.uniform(0.69, 0.8, 70)):  # a wood, half seen
            foot, size = self.place(rng.uniform(0, 1), y), rng.uniform(40, 80) * self.unit
            self.small_pine(foot, size, rng.uniform(0.12, 0.4))
        for x in np.array([0.06, 0.3, 0.55, 0.8, 0.98]) + rng.normal(0, 0.04, 5):
            top, wide = rng.uniform(0.56, 0.68), rng.uniform(0.08, 0.13)
            self.peak(x, top, wide, 0.25, rng.uniform(0.65, 0.9), 0.6)
        self.mist(0.85, 0.05, 0.95)

    def river(self):
        """Draw level water lines, and a boat with a man and his pole."""
        rng, unit = self.rng, self.unit
        for _ in range(170):
            start = self.place(rng.uniform(-0.1, 1), rng.uniform(0.82, 1))
            across = np.linspace(0, rng.uniform(60, 340), 4)
            ripple = np.stack([across, rng.normal(0, 2.5, 4)], axis=-1)
            layer = self.indigo if rng.random() < 0.4 else self.ink
            width, load = rng.uniform(2.5, 12), rng.uniform(0.12, 0.4)
            self.stroke(curve(start + ripple * unit, 24), width, load, 0.6, layer=layer)
        boat = self.place(0.5 + self.side * rng.uniform(0.05, 0.25), rng.uniform(0.86, 0.9))
        aside, down = (self.x - boat[0]) / (85 * unit), (self.y - boat[1]) / (28 * unit)
        self.lift(np.exp(-(aside**2) - down**2))
        for points, width, load in (
            ([(-70, -6), (0, 10), (74, -10)], 6, 0.9),
            ([(-70, -6), (0, 14), (74, -10)], 6, 0.7),
            ([(-70, -6), (0, 5), (74, -10)], 6, 0.5),
            ([(12, -30), (15, -14), (16, 2)], 15, 0.9),
            ([(5, -37), (12, -39), (19, -36)], 10, 0.95),
            ([(34, -66), (8, -12), (-8, 28)], 2.5, 0.8),
        ):
            self.stroke(curve(boat + np.array(points) * unit, 20), width, load, 0.15)

    def foreground(self):
        """Paint the near bank: rocks, two or three old pines, and reeds."""
        rng = self.rng

        def inward(part):
            return 0.5 - self.side * (0.5 - part)

        for part, top in ((0.02, 0.78), (0.17, 0.86), (0.3, 0.92), (0.09, 0.9)):
            self.peak(inward(part), top, rng.uniform(0.09, 0.13), 0.5, 1.0, 0.9)
        pines = [(0.04, 0.98, 0.77), (0.15, 1.0, 0.55), (0.29, 1.0, 0.38)][: rng.integers(2, 4)]
        for part, foot, high in pines:
            self.pine(self.place(inward(part), foot), high * rng.uniform(0.9, 1.1) * self.height)
        for _ in range(260):
            foot = self.place(inward(rng.uniform(0, 0.5)), rng.uniform(0.96, 1.02))
            bend, lean, high = rng.normal(0, 7), rng.normal(0, 26), rng.uniform(30, 95)
            blade = np.array([(0, 0), (lean / 2 + bend, -high / 2), (lean, -high)]) * self.unit
            width, load = rng.uniform(2.5, 6), rng.uniform(0.5, 1)
            self.stroke(curve(foot + blade, 12), width, load, 0.35, taper(12, 0.05, 0.9, 0.1))

    def pine(self, foot, high):
        """Paint an old pine: a crooked trunk with bark, bent boughs, fans of needles."""
        rng, unit = self.rng, self.unit
        t = np.linspace(0, 1, 6)
        sway = self.side * rng.uniform(0.15, 0.4) * t + rng.normal(0, 0.05, 6) * (t > 0)
        trunk = curve(foot + np.stack([sway, -t], axis=-1) * high, 80)
        girth = 0.065 * high / unit
        profile = np.linspace(1, 0.25, 80) ** 0.8
        half = np.stack([0.5 * girth * unit * profile, np.zeros(80)], axis=-1)
        self.lift(0.85 * self.polygon(np.vstack([trunk - half, (trunk + half)[::-1]])))
        self.stroke(trunk, girth, 0.3, 0.45, profile)
        self.stroke(trunk, girth, 0.55, 0.4, profile, self.umber)
        self.stroke(trunk + 0.5 * half, 0.6 * girth, 0.4, 0.6, profile)
        for edge in (trunk - half, trunk + half):
            for start in range(0, 76, 8):
                path = edge[start : start + rng.integers(8, 16)]
                self.stroke(path, rng.uniform(4, 9), rng.uniform(0.6, 1), 0.5)
        for spot in rng.integers(0, 78, 130):  # bark
            scale = rng.uniform(3, 7) * unit * direction(np.linspace(0.4, 3.6, 8))
            path = trunk[spot] + half[spot] * rng.uniform(-0.9, 0.9) + scale
            self.stroke(path, 2.5, rng.uniform(0.4, 0.9), 0.4)
        for part in np.linspace(0.38, 1.0, 9):
            heading = rng.choice((-1, 1)) * (1 if part < 0.9 else 0.4)
            length = high * rng.uniform(0.18, 0.38) * (1.3 - 0.75 * part)
            rise = 0.25 * np.sin(2.4 * t) + 0.08 * rng.normal(size=6).cumsum() * t
            steps = np.stack([heading * t, -rise], axis=-1) * length
            bough = curve(trunk[int(part * 79)] + steps, 40)
            self.stroke(bough, girth * (0.36 - 0.15 * part), 0.9, 0.45, np.linspace(1, 0.3, 40))
            load = rng.uniform(0.45, 1.0)
            for spot in bough[rng.integers(8, 40, 3 + int(0.055 * length / unit))]:
                offset = rng.normal(0, 1, 2) * (18, 8) - (0, 10)
                self.needles(spot + offset * unit, rng.uniform(24, 46), load * rng.uniform(0.5, 1))

    def needles(self, spot, length, load):
        """Paint a fan of pine needles over a small pale wash."""
        rng = self.rng
        pad = np.array([0.7 * length * self.unit, 0])
        layer = (self.indigo, self.umber)[rng.integers(2)]
        self.stroke(np.linspace(spot - pad, spot + pad, 6), 0.7 * length, 0.18, 0.5, layer=layer)
        for angle in np.linspace(-0.1, np.pi + 0.1, 15) + rng.normal(0, 0.07, 15):
            reach = direction(-angle) * (1, 0.75) * length * self.unit * rng.uniform(0.7, 1.1)
            path = np.linspace(spot, spot + reach, 6)
            self.stroke(path, 2.3, load * rng.uniform(0.5, 1), 0.3, taper(6, 0.1, 0.8, 0.2))

    def birds(self):
        """Let a few wild geese cross the sky."""
        rng, unit = self.rng, self.unit
        leader = self.place(0.5 - self.side * rng.uniform(0.06, 0.12), rng.uniform(0.18, 0.21))
        for index in range(rng.integers(5, 9)):
            step = np.array([-34 * self.side * index, 9 * abs(index - 2)])
            bird = leader + (step + rng.normal(0, 5, 2)) * unit
            size = rng.uniform(10, 15) * unit
            for wing in (-1, 1):
                bent = np.array([(0, 0), (0.5 * wing, -0.5), (1.2 * wing, -0.25)]) * size
                self.stroke(curve(bird + bent, 10), 4, 0.85, 0.1, np.linspace(1, 0.4, 10))

    def seal(self, color):
        """Press a square red seal with a carved mountain, worn at its edges."""
        side = 58 * self.unit
        corner = self.place(0.5 + self.side * 0.43, 0.87) - (side / 2, 0)
        u, v = (self.x - corner[0]) / side, (self.y - corner[1]) / side
        thin = 0.055
        carved = (np.abs(v - 0.78) < thin) & (np.abs(u - 0.5) < 0.3 + thin)
        for middle, top in ((0.2, 0.45), (0.5, 0.2), (0.8, 0.45)):
            carved |= (np.abs(u - middle) < thin) & (v > top) & (v < 0.8)
        stone = (np.maximum(np.abs(u - 0.5), np.abs(v - 0.5)) < 0.5) & ~carved
        stone = blur(stone.astype(np.float32), 1.2 * self.unit)
        cover = smoothstep(0.2, 0.45, stone * (0.35 + self.tooth)) * (0.8 + 0.2 * self.cloud)
        return color + (RED - color) * cover[..., None]


def ink_wash(seed: int = 0, size: tuple[int, int] = (800, 640)) -> Image.Image:
    """Paint misty mountains, pines and a river in ink; odd seeds turn the scene around."""
    scene = Landscape(seed, size)
    scene.sky()
    scene.mountains()
    scene.river()
    scene.foreground()
    scene.birds()
    return to_picture(scene.seal(scene.finished()), size)
