"""A night over a lake: the sky swirls around a moon and stars, a village sleeps on the shore."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .brush import (
    OilCanvas,
    blur,
    curve,
    direction,
    jitter,
    palette,
    ramp,
    scatter,
    smooth_noise,
    smoothstep,
    taper,
    to_picture,
    trace,
)

SKY = palette("121a44", "1d2f78", "2a55a8", "4b86c2", "8fbfcf", "d5e3cf")
GLOW = palette("f3a72c", "f8cf4e", "fbe79a", "fff7dd")
HILLS = palette("0f1c33", "17344a", "225257", "4f7d62")
LEAVES = palette("0b1420", "14302f", "2f5236", "7f8a3f")
WALLS = palette("41607a", "7d8ea0", "3a5f66", "a3a88c", "54507c")
ROOFS = palette("9c4f33", "6d3a4c", "33406e", "b87436")
FLOWERS = palette("f3d98a", "c9543a", "8d7bc4", "f8f0d8")
ACCENTS = palette("6a4a9c", "3fa39a", "d9773a")
SCALE = 2  # supersampling


class Night:
    """The painting in progress; lengths are pixels of the supersampled canvas."""

    def __init__(self, seed, size):
        self.rng = rng = np.random.default_rng(seed)
        width, height = self.width, self.height = size[0] * SCALE, size[1] * SCALE
        self.shape = (height, width)
        self.unit = max(self.shape) / 1600
        self.canvas = OilCanvas(self.shape, SKY[1], rng)
        self.y, self.x = np.mgrid[0:height, 0:width].astype(np.float32)
        self.moon_left = seed % 2 == 0  # the trees stand on the other side
        self.shore = height * rng.uniform(0.68, 0.74)
        x = rng.uniform(0.2, 0.32)
        moon = ((x if self.moon_left else 1 - x) * width, rng.uniform(0.17, 0.26) * height)
        self.lights = [(*moon, 62 * self.unit)]  # rows of (x, y, radius); the moon is the first
        self.add_stars(rng.integers(9, 14))
        self.far_ridge = self.shore - (0.06 + 0.17 * self.line_noise(900, 6)) * height
        self.near_ridge = self.shore - (0.005 + 0.11 * self.line_noise(800, 4)) * height

    def line_noise(self, scale, octaves):
        """Return noise along the width of the picture."""
        return smooth_noise((1, self.width), (1, scale * self.unit), self.rng, octaves)[0]

    def area_noise(self, *scale, octaves=2):
        """Return noise over the whole picture."""
        return smooth_noise(self.shape, np.multiply(scale, self.unit), self.rng, octaves)

    def cells(self, points):
        """Return the indices of the pixels under some points."""
        columns, rows = np.clip(points, 0, (self.width - 1, self.height - 1)).astype(int).T
        return rows, columns

    def add_stars(self, wanted):
        """Scatter stars which keep away from each other."""
        for _ in range(400):
            x = self.rng.uniform(0.04, 0.96) * self.width
            y = self.rng.uniform(0.05, 0.46) * self.height
            radius = self.rng.uniform(13, 27) * self.unit
            if all(np.hypot(x - a, y - b) > 4.2 * (radius + r) for a, b, r in self.lights):
                self.lights.append((x, y, radius))
            if len(self.lights) > wanted:
                break

    def fill(self, mask, angle, color_at, layers):
        """Cover a region by layers (width, length, spacing) of strokes, coarse to fine."""
        rng, unit = self.rng, self.unit
        for width, length, spacing in layers:
            starts = scatter(mask, max(spacing * unit, 1.5), rng)
            paths = trace(angle, starts, max(length // 6, 4), 6 * unit)
            colors = jitter(color_at(starts), rng)
            streaks = jitter(colors, rng, 0.07, 0.02)
            widths = width * unit * rng.uniform(0.6, 1.35, len(starts))
            for stroke in zip(paths, widths, colors, streaks, strict=True):
                self.canvas.stroke(*stroke)

    # ------------------------------------------------------------ sky

    def wind(self):
        """Return the direction of the wind: a wavy river with eddies, rings around each light."""
        rng, unit = self.rng, self.unit
        wave = np.sin(self.x / (210 * unit) + rng.uniform(0, 6))
        u, v = np.moveaxis(direction(2.6 * (self.area_noise(700) - 0.5) + 0.35 * wave), -1, 0)
        eddies = [(x, y, 2 * radius, 1) for x, y, radius in self.lights]
        for place in rng.permutation(3)[: rng.integers(2, 4)]:
            x = (0.2 + 0.3 * place + rng.uniform(-0.07, 0.07)) * self.width
            y = rng.uniform(0.25, 0.45) * self.height
            eddies.append((x, y, rng.uniform(105, 165) * unit, rng.choice([-1, 1])))
        for x, y, radius, turn in eddies:
            dx, dy = self.x - x, self.y - y
            distance = np.hypot(dx, dy) + 1e-3
            pull = 6 * turn * np.exp(-((distance / radius / 1.15) ** 2)) / distance
            u, v = u - pull * (dy + 0.22 * dx), v + pull * (dx - 0.22 * dy)
        return np.arctan2(v, u)

    def bands_along(self, angle):
        """Return light and dark bands which follow a flow: noise smeared along its lines."""
        cell = max(int(8 * self.unit), 1)
        coarse = angle[::cell, ::cell]
        height, width = coarse.shape
        noise = smooth_noise(coarse.shape, 9, self.rng, 2)
        starts = np.moveaxis(np.mgrid[0:height, 0:width][::-1], 0, -1).reshape(-1, 2) + 0.5
        paths = np.clip(trace(coarse, starts, 50, 1.0), 0, (width - 1, height - 1)).astype(int)
        smeared = noise[paths[..., 1], paths[..., 0]].mean(axis=1).reshape(coarse.shape)
        low, high = np.percentile(smeared, (3, 97))
        bands = Image.fromarray(((smeared - low) / (high - low)).astype(np.float32))
        return np.asarray(bands.resize((self.width, self.height), Image.Resampling.BICUBIC))

    def paint_sky(self):
        rng = self.rng
        angle = self.wind()
        bands = self.bands_along(angle)

        def color_at(points):
            reach = [np.hypot(*(points - (x, y)).T) / radius for x, y, radius in self.lights]
            reach = np.min(reach, axis=0)
            glow, halo = np.exp(-((reach / 1.9) ** 2)), np.exp(-((reach / 3.4) ** 2))
            tone = 0.08 + 0.58 * bands[self.cells(points)] + 0.2 * points[:, 1] / self.shore
            tone += 0.4 * halo + rng.normal(0, 0.11, len(points))
            # Rounding to few tones sets neighbouring strokes clearly apart.
            color = ramp(SKY, np.round(tone * 7) / 7)
            warm = rng.random(len(points)) < smoothstep(0.22, 0.75, glow)
            color[warm] = ramp(GLOW, 1.05 * (glow + rng.normal(0, 0.12, len(points)))[warm] - 0.15)
            odd = (rng.random(len(points)) < 0.035) & ~warm
            color[odd] = ACCENTS[rng.choice(3, odd.sum(), p=(0.45, 0.45, 0.1))]
            return color

        layers = [(34, 190, 36), (21, 160, 27), (13, 120, 23), (7, 90, 25)]
        self.fill(self.y < self.far_ridge + 30 * self.unit, angle, color_at, layers)
        for index, (x, y, radius) in enumerate(self.lights):
            self.paint_disc(np.array([x, y]), radius if index == 0 else 0.62 * radius)

    def paint_disc(self, middle, radius):
        """Lay a light as rings of short thick strokes, brightest in the middle."""
        for part in np.arange(1.0, 0.05, -min(0.2, 7 * self.unit / radius)):
            for turn in self.rng.uniform(0, 6.3) + np.arange(0, 2 * np.pi, 0.7):
                path = middle + radius * part * direction(turn + np.linspace(0, 0.95, 9))
                pair = jitter(ramp(GLOW, np.array([1.15 - part, 1.4 - part])), self.rng)
                self.canvas.stroke(path, max(0.3 * radius, 9 * self.unit), *pair, dry=0.3)

    # ------------------------------------------------------------ land and water

    def paint_hills(self):
        rng, unit = self.rng, self.unit
        for ridge, light in ((self.far_ridge, 0.35), (self.near_ridge, 0.0)):
            slope = np.arctan(np.gradient(blur(ridge[None], 12 * unit)[0]))
            angle = 1.3 * slope + 1.3 * (self.area_noise(150) - 0.5)
            patches = light + 0.75 * (self.area_noise(50, 260) - 0.25)

            def color_at(points, patches=patches):
                tone = patches[self.cells(points)] + rng.normal(0, 0.1, len(points))
                return ramp(HILLS, np.round(tone * 6) / 6)

            mask = (self.y > ridge + 8 * unit) & (self.y < self.shore)
            self.fill(mask, angle, color_at, [(22, 90, 22), (12, 70, 17), (6, 45, 18)])
            rim = np.stack([np.arange(self.width), ridge + 4 * unit], axis=-1)
            rim = rim[:: max(int(5 * unit), 1)]
            for start in range(0, len(rim) - 8, 7):
                path = rim[start : start + rng.integers(14, 24)]
                self.canvas.stroke(path, 9 * unit, *jitter(HILLS[[0, 1]], rng))

    def paint_lake(self, lamps):
        """Paint still water in level dashes of the colours of the sky, gold below every light."""
        rng, unit = self.rng, self.unit
        bands = 0.75 * self.area_noise(26, 420)

        def color_at(points):
            tone = 0.02 + bands[self.cells(points)] + rng.normal(0, 0.09, len(points))
            tone -= 0.35 * smoothstep(70 * unit, 0, points[:, 1] - self.shore)
            color = ramp(SKY, np.round(tone * 7) / 7)
            odd = rng.random(len(points)) < 0.05
            color[odd] = ACCENTS[rng.choice(2, odd.sum())]
            return color

        layers = [(24, 150, 26), (13, 120, 19), (7, 80, 18)]
        angle = 0.5 * (self.area_noise(40, 300) - 0.5)
        self.fill(self.y > self.shore + 6 * unit, angle, color_at, layers)
        for x, spread, depth in [(self.lights[0][0], 52, 1.0)] + [(x, 15, 0.55) for x in lamps]:
            bottom = self.shore + depth * (self.height - self.shore)
            for y in np.arange(self.shore + 12 * unit, bottom, 8 * unit):
                for _ in range(3 if spread > 20 else 1):
                    middle = np.array([x + rng.normal(0, spread) * unit, y])
                    half = rng.uniform(0.2, 0.75) * (spread + 12)
                    bow = np.array([(-half, 0), (0, rng.normal(0, 3)), (half, 0)]) * unit
                    pair = jitter(ramp(GLOW, rng.uniform(0, 0.9, 2)), rng)
                    width = rng.uniform(5, 11) * unit
                    profile = taper(12, 0.5, 0.5, 0.1)
                    self.canvas.stroke(curve(middle + bow, 12), width, *pair, profile)

    def paint_village(self):
        """Set a row of small houses on the shore; return where the lit windows are."""
        rng, unit = self.rng, self.unit
        lamps = []
        x = self.width * (rng.uniform(0.36, 0.46) if self.moon_left else rng.uniform(0.14, 0.22))
        steeple = rng.integers(3, 6)

        def bar(start, end, width, color):
            """Make one straight stroke with blunt ends."""
            pair = jitter([color, color], rng, 0.045)
            profile = taper(8, 0.05, 0.05, 0.6)
            self.canvas.stroke(np.linspace(start, end, 8), width * unit, *pair, profile, dry=0.1)

        for house in range(rng.integers(8, 12)):
            wide, high = rng.uniform(46, 80) * unit, rng.uniform(26, 42) * unit
            rise, hip = rng.uniform(0.6, 1.0) * high, 0.28 * wide
            if house == steeple:
                wide, high, rise, hip = 34 * unit, 78 * unit, 92 * unit, 16 * unit
            base = self.shore + rng.uniform(-16, 4) * unit
            eaves = base - high
            wall, roof = rng.choice(WALLS), rng.choice(ROOFS)
            for y in np.arange(eaves, base, 6 * unit):
                bar((x, y), (x + wide, y), 9, wall)
            for t in np.linspace(0, 1, 9):
                peak = x + hip + t * (wide - 2 * hip)
                bar((peak, eaves - rise), (x - 5 * unit + t * (wide + 10 * unit), eaves), 9, roof)
            bar((x, eaves), (x, base), 5, HILLS[0])
            bar((x + wide, eaves), (x + wide, base), 5, HILLS[0])
            bar((x - 6 * unit, eaves), (x + wide + 6 * unit, eaves), 5, HILLS[0])
            for place in (0.3, 0.7) if wide > 55 * unit else (0.5,):
                if rng.random() < 0.75:
                    lamp, y = x + place * wide, base - 0.62 * high
                    lamps.append(lamp)
                    bar((lamp, y), (lamp, y + 14 * unit), 11, rng.choice(GLOW[:2]))
            x += wide + rng.uniform(0, 26) * unit
        return lamps

    # ------------------------------------------------------------ foreground

    def across(self, part):
        """Return x for a part of the way from the side of the moon to the side of the trees."""
        return self.width * (part if self.moon_left else 1 - part)

    def paint_tree(self, part):
        """Let a dark tree flame up out of strokes which climb and lick outwards."""
        rng, unit = self.rng, self.unit
        x, foot = self.across(part + rng.normal(0, 0.012)), 0.98 * self.height
        high, wide = self.height * rng.uniform(0.5, 0.78), rng.uniform(62, 84) * unit
        lumps = 0.6 + 0.8 * smooth_noise((2, 60), (1, 14), rng, 2)
        for t in np.concatenate([np.linspace(0, 0.93, 60), rng.beta(1, 1.2, 520) * 0.97]):
            side = rng.uniform(-1, 1)
            flame = 1.9 * (t + 0.06) ** 0.4 * (1 - t) ** 0.95
            lean = side * wide * flame * lumps[int(side > 0), int(t * 60)]
            reach = rng.uniform(70, 150) * unit * (1 - 0.45 * t)
            steps = np.array([(0.7, 0), (0.95, 0.35), (0.9, 0.7), (0.8, 1)]) * (lean, -reach)
            steps[1:, 0] += rng.normal(0, 9, 3) * unit
            lit = -side if self.moon_left else side
            tone = rng.beta(1.2, 3) + 0.16 * lit + 0.02
            pair = jitter(ramp(LEAVES, np.array([tone, tone + 0.15])), rng)
            path = curve(steps + np.array([x, foot - t * high]), 16)
            self.canvas.stroke(path, rng.uniform(6, 14) * unit, *pair)

    def paint_bank(self):
        """Paint trees on the side away from the moon, rooted in a meadow of grass and flowers."""
        rng, unit = self.rng, self.unit
        for part in rng.permutation((0.83, 0.94))[: rng.integers(1, 3)]:
            self.paint_tree(part)
        rise = 0.1 * (self.across(self.x[0] / self.width) / self.width) ** 2
        bank = self.height * (0.965 - rise) + 30 * unit * (self.line_noise(300, 3) - 0.5)
        angle = -1.4 + 1.9 * (self.area_noise(120) - 0.5)

        def color_at(points):
            return ramp(LEAVES, np.round(rng.beta(1.6, 2.6, len(points)) * 7) / 7)

        self.fill(self.y > bank, angle, color_at, [(20, 70, 18), (9, 80, 14), (5, 60, 13)])
        for spot in scatter(self.y > bank + 14 * unit, 70 * unit, rng):
            flower = rng.choice(FLOWERS)
            for petal in spot + rng.normal(0, 9, (rng.integers(2, 5), 2)) * unit:
                path = np.linspace(petal, petal + rng.normal(0, 6, 2) * unit, 5)
                self.canvas.stroke(path, rng.uniform(6, 11) * unit, *jitter([flower] * 2, rng))


def night_sky(seed: int = 0, size: tuple[int, int] = (800, 640)) -> Image.Image:
    """Paint a swirling night sky over a lake; even seeds have the moon on the left."""
    night = Night(seed, size)
    night.paint_sky()
    night.paint_hills()
    lamps = night.paint_village()
    night.paint_lake(lamps)
    night.paint_bank()
    return to_picture(night.canvas.lit(relief=0.15), size)
