"""A great wave as a colour woodblock print: flat plates, a dark key block, grain and paper."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from .brush import curve, direction, normals, palette, smooth_noise, smoothstep, to_picture

# One wooden block for every flat colour; block 0 is bare paper.
INKS = palette("f3ead2", "e3cfa4", "b9cfcb", "79a6b8", "3c709c", "1f4677", "c9573c", "7f8f86")
FOAM, SKY, PALE, LIGHT, MIDDLE, DEEP, RED, HAZE = range(8)
PAPER, KEY_INK, EVENING = INKS[0], *palette("14233f", "e8a77c")
SCALE = 3  # supersampling: fine lines need more of it than paint

# Lines of water through the great wave, from its tip down to the sea, in percent of the picture.
WATER_LINES = (
    ((36, 33), (44, 26), (53, 29), (57.5, 40), (55, 54), (46, 66), (30, 74), (10, 77), (-25, 74)),
    ((36, 33), (45, 21), (57, 22), (65, 37), (66, 56), (62, 74), (52, 88), (38, 102), (12, 125)),
    ((36, 33), (43, 17.5), (58, 16), (72, 30), (79, 50), (83, 70), (85, 85), (86, 98), (87, 110)),
    ((36, 33), (39, 19), (51, 9.5), (67, 11), (80, 24), (90, 42), (98, 56), (105, 66), (112, 72)),
)


def ribbon(path, widths) -> np.ndarray:
    """Return the outline of a line of varying width along a path."""
    side = normals(path) * np.reshape(widths, (-1, 1)) / 2
    return np.vstack([path + side, (path - side)[::-1]])


def between(one, two) -> np.ndarray:
    """Return the outline of the band between two lines."""
    return np.vstack([one, two[::-1]])


class Print:
    """The blocks of a print: a tone image for the flat colours and a key image for the lines.

    Positions are pixels of the supersampled picture; widths those of a picture 800 wide.
    """

    def __init__(self, seed, size):
        self.rng = np.random.default_rng(seed)
        self.size = np.array(size) * SCALE
        self.width, self.height = (int(side) for side in self.size)
        self.unit = max(self.size) / 800
        self.tone = Image.new("L", (self.width, self.height), SKY)
        self.key = Image.new("L", (self.width, self.height), 0)
        self.tone_pen, self.key_pen = ImageDraw.Draw(self.tone), ImageDraw.Draw(self.key)

    def fill(self, outline, tone):
        """Cut a flat shape, which hides whatever lies behind it."""
        points = [tuple(point) for point in outline]
        self.tone_pen.polygon(points, fill=tone)
        self.key_pen.polygon(points, fill=0)

    def line(self, path, width):
        """Cut a line into the key block, thin at its ends like a brush line."""
        path = np.asarray(path, dtype=float)
        profile = 0.35 + 0.65 * np.sin(np.linspace(0, np.pi, len(path))).clip(0) ** 0.6
        outline = ribbon(path, np.maximum(width * self.unit * profile, 1.2))
        self.key_pen.polygon([tuple(point) for point in outline], fill=255)

    def shapes(self, outlines, tone, rim):
        """Fill shapes which grow together, with one dark line around all of them."""
        width = max(int(2 * rim * self.unit), 2)
        for outline in outlines:
            points = [tuple(point) for point in np.vstack([outline, outline[:2]])]
            self.key_pen.line(points, fill=255, width=width, joint="curve")
        for outline in outlines:
            self.fill(outline, tone)

    def printed(self) -> np.ndarray:
        """Print all blocks on paper, every one a little beside its place."""
        unit, shape = self.unit, (self.height, self.width)
        down = np.linspace(0, 1, self.height, dtype=np.float32)[:, None]
        fibre = smooth_noise(shape, (3 * unit, 14 * unit), self.rng, 3)
        years = smooth_noise(shape, (40 * unit, 900 * unit), self.rng, 3)
        grain = 0.5 + 0.5 * np.sin(2 * np.pi * (16 * years + 14 * down))
        tones = np.asarray(self.tone)
        air, water = np.isin(tones, (SKY, HAZE)), np.isin(tones, (LIGHT, MIDDLE, DEEP))
        blocks = [(tones == block, INKS[block]) for block in range(1, len(INKS))]
        blocks += [  # shades, wiped by hand on the block
            (air * smoothstep(0.42, 0.0, down), INKS[LIGHT]),
            (air * smoothstep(0.3, 0.66, down) * 0.6, EVENING),
            (water * smoothstep(0.7, 1.05, down) * 0.5, INKS[MIDDLE]),
            (np.asarray(self.key) / np.float32(255), KEY_INK),
        ]
        color = PAPER * (0.95 + 0.08 * fibre[..., None])
        for mask, ink in blocks:
            shift = np.round(self.rng.uniform(-1.1, 1.1, 2) * unit).astype(int)
            cloud = smooth_noise(shape, 130 * unit, self.rng, 5)
            cover = np.roll(mask, shift, axis=(0, 1)) * (0.8 + 0.14 * grain + 0.16 * cloud)
            cover *= 1 - 0.55 * smoothstep(0.72, 0.9, 0.6 * cloud + 0.5 * fibre)
            color *= 1 - cover.clip(0, 1)[..., None] * (1 - ink / PAPER)
        return color


class Sea(Print):
    """The scene, cut from back to front: the great wave breaks to the left."""

    def place(self, x, y):
        """Return the point at fractions of the width and the height."""
        return np.array([x, y]) * self.size

    def sky(self):
        """Cut wind lines, a low sun, bars of cloud and a flock of plovers."""
        rng, unit = self.rng, self.unit
        sun = self.place(rng.uniform(0.15, 0.3), rng.uniform(0.4, 0.52))
        drift = smooth_noise((60, 100), (14, 60), rng, 2) - 0.5
        x = np.linspace(-0.02, 1.02, 100) * self.width
        for y, sway in zip(np.linspace(0.01, 0.7, 60), drift, strict=True):
            path = np.stack([x, y * self.height + 70 * unit * sway * (0.3 + y)], axis=-1)
            part = slice(rng.integers(0, 35), rng.integers(60, 100))
            self.fill(ribbon(path[part], 1.5 * unit), HAZE)
        rim = rng.uniform(58, 78) * unit * direction(np.linspace(0, 2 * np.pi, 120))
        self.shapes([sun + rim], RED, 0.5)
        for _ in range(rng.integers(7, 11)):
            self.cloud(self.place(rng.uniform(0, 1), rng.uniform(0.06, 0.55)))
        flock = self.place(rng.uniform(0.06, 0.26), rng.uniform(0.12, 0.3))
        for bird in flock + rng.normal(0, 45 * unit, (rng.integers(6, 11), 2)):
            size = rng.uniform(7, 13) * unit
            for wing in (-1, 1):
                bent = np.array([(0, 0), (0.5 * wing, -0.55), (1.3 * wing, -0.3)])
                self.line(curve(bird + bent * size, 10), 2.6)

    def cloud(self, middle):
        """Cut a few long bars of mist with round ends and lines inside."""
        rng, unit = self.rng, self.unit
        length, thick = rng.uniform(90, 260) * unit, rng.uniform(9, 17) * unit
        cap = direction(np.linspace(np.pi / 2, 3 * np.pi / 2, 14)) * thick / 2
        bars = []
        for row in range(rng.integers(1, 4)):
            center = middle + np.array([rng.uniform(-0.5, 0.5) * length, 0.95 * row * thick])
            half = np.array([length * rng.uniform(0.3, 0.6), 0])
            bars.append(center + np.vstack([cap - half, half - cap]))
        self.shapes(bars, PALE, 0.7)
        for bar in bars:
            (left, top), (right, bottom) = bar.min(axis=0), bar.max(axis=0)
            for y in (0.65 * top + 0.35 * bottom, 0.35 * top + 0.65 * bottom):
                x = np.sort(rng.uniform(left + thick, right - thick, 2))
                self.line(np.stack([np.linspace(*x, 20), np.full(20, y)], axis=-1), 0.8)

    def far_sea(self):
        """Cut rows of little pointed waves behind the great one, and a sail between them."""
        rng, unit = self.rng, self.unit
        x = np.linspace(0, self.width, 240)
        for row in range(9):
            y = (0.6 + 0.022 * row * (1 + 0.08 * row)) * self.height
            phase = np.mod(x / ((30 + 9 * row) * unit) + rng.uniform(0, 1), 1)
            swell = 0.4 + smooth_noise((1, 240), (1, 60), rng, 2)[0]
            ripple = np.abs(2 * phase - 1) ** 1.6 * (3 + 1.4 * row) * unit * swell
            path = np.stack([x, y - ripple], axis=-1)
            water = np.vstack([path, self.size, (0, self.height)])
            self.fill(water, (PALE, LIGHT, MIDDLE)[row % 3])
            self.line(path, 0.9)
            if row == 1:
                self.sail(np.array([rng.uniform(0.3, 0.42) * self.width, y]))

    def sail(self, place):
        """Set a small boat with a full sail on the sea."""
        left, right, hull, keel = (
            curve(place + np.array(points) * self.unit, 16)
            for points in (
                [(-12, -52), (-20, -32), (-13, -9)],
                [(18, -50), (12, -30), (19, -11)],
                [(-32, -9), (0, 0), (38, -14)],
                [(-30, -2), (0, 7), (36, -7)],
            )
        )
        self.shapes([between(left, right)], FOAM, 0.9)
        for part in (0.25, 0.5, 0.75):
            self.line(left + part * (right - left), 0.8)
        self.shapes([between(hull, keel)], RED, 0.9)

    def water(self, lines, tones):
        """Cut bands of water between neighbouring lines, with fine lines and flecks of foam."""
        rng, count = self.rng, lines.shape[1]
        self.shapes([between(lines[0], lines[-1])], LIGHT, 1.6)
        for band, pair in enumerate(pairwise(lines)):
            self.fill(between(*pair), tones[band % len(tones)])
        for index, (one, two) in enumerate(pairwise(lines[:-1])):
            self.line(two, 1.6 if index % 3 == 0 else 1.0)
            # Fine lines break off beside the main ones, as a carver's knife would leave them.
            for part in rng.uniform(0.15, 0.85, 2):
                start = rng.integers(count // 6, count * 2 // 3)
                stop = start + rng.integers(count // 8, count // 3)
                self.line((one + part * (two - one))[start:stop], 0.75)
            start = rng.integers(count // 4, count - count // 8)
            fleck = ((one + two) / 2)[start : start + count // 12]
            thick = rng.uniform(1.5, 3.5) * self.unit
            self.fill(ribbon(fleck, thick * np.sin(np.linspace(0, 3.1, len(fleck)))), FOAM)

    def lip(self, lines):
        """Let tongues of foam run down the bands of the great wave from its lip."""
        count = lines.shape[1]
        first = count // 9  # before, the lines would clot where they meet
        for u, (one, two) in zip(np.linspace(0, 1, len(lines)), pairwise(lines), strict=False):
            reach = 0.14 + 0.24 * np.sin(np.pi * u) ** 2 + 0.3 * u**3
            stop = int(reach * self.rng.choice((0.45, 0.75, 1.0, 1.35)) * count)
            middle = (one + two) / 2
            tongue = np.vstack([one[:stop], middle[stop + count // 18], two[:stop][::-1]])
            self.shapes([tongue], FOAM, 0.6)
            self.line(middle[first : max(stop * 2 // 3, first + 3)], 0.6)
        order = np.arange(len(lines))
        teeth = lines[order, first + np.where(order % 2, 1, 5)]
        self.fill(np.vstack([lines[-1][:first], teeth[::-1], lines[0][:first][::-1]]), FOAM)

    def claw(self, root, heading, length, width, turn, depth=0):
        """Return (path, widths) of a hooked finger of foam and of the fingers it branches into."""
        rng = self.rng
        t = np.linspace(0, 1, 18)
        angles = heading + turn * t**1.3
        path = root + np.cumsum(direction(angles), axis=0) * length / 18
        fingers = [(path, width * np.clip(1.02 - t, 0, 1) ** 0.7)]
        for knuckle in ((4, 9, 13), (4, 9), ())[depth]:
            away = rng.choice((-0.5, 0.8, 0.8)) * np.sign(turn)
            child = (length * rng.uniform(0.36, 0.6), 0.6 * width, turn * rng.uniform(1.0, 1.6))
            fingers += self.claw(path[knuckle], angles[knuckle] - away, *child, depth + 1)
        return fingers

    def foam(self, path, scale, lean):
        """Let claws and spray grow from a crest; along `path`, the open air is on the right."""
        rng, unit = self.rng, self.unit
        length = np.hypot(*np.diff(path, axis=0).T).sum()
        count = max(int(length / (20 * scale * unit)), 3)
        outwards = normals(path)
        for index in rng.permutation(np.linspace(0, len(path) - 1, count).astype(int)):
            outward = outwards[index]
            along = np.array([outward[1], -outward[0]])
            heading = np.arctan2(*(outward + along * (lean + rng.normal(0, 0.25)))[::-1])
            size = scale * unit * rng.uniform(0.7, 1.3)
            root = path[index] - 7 * size * outward
            fingers = self.claw(root, heading, 64 * size, 18 * size, -rng.uniform(1.4, 2.4))
            self.shapes([ribbon(*finger) for finger in fingers], FOAM, 0.75)
            circle = direction(np.linspace(0, 2 * np.pi, 20))
            self.fill(root + 12 * size * circle, FOAM)  # joins the claw to the foam below
            for line, widths in fingers[:: 1 if scale > 0.7 else 2]:
                across = normals(line) * widths[:, None]
                self.fill(ribbon((line + 0.22 * across)[2:13], 0.3 * widths[2:13]), PALE)
                self.line((line - 0.1 * across)[1:10], 0.6)
            for _ in range(3):
                curl = direction(rng.uniform(0, 6) + np.linspace(0, 4.5, 14))
                curl *= np.linspace(6, 1, 14)[:, None]
                self.line(root + (curl + rng.normal(0, 7, 2)) * size, 0.7)
            for _ in range(rng.integers(3, 8)):
                drop = path[index] + outward * rng.uniform(30, 120) * size
                drop += along * rng.normal(0, 30) * size
                radius = rng.uniform(0.8, 2.8) * unit * scale**0.5
                self.shapes([drop + radius * circle], FOAM, 0.5)

    def great_wave(self):
        rng = self.rng
        lines = np.array(WATER_LINES) / 100
        lines[:, 1:] += rng.normal(0, 0.013, lines[:, 1:].shape)  # all still meet at the tip
        lines = 0.6 + (lines - 0.6) * (rng.uniform(0.92, 1.05), rng.uniform(0.94, 1.08))
        guides = np.array([curve(line * self.size, 90) for line in lines])
        bands = curve(guides.reshape(len(guides), -1), rng.integers(30, 38)).reshape(-1, 90, 2)
        self.water(bands, (DEEP, PALE, MIDDLE, DEEP, LIGHT, DEEP, PALE, MIDDLE))
        self.lip(bands)
        crest, hollow = bands[-1][45::-1], bands[0][:14]
        self.foam(crest[:33], 0.75, 0.5)
        self.foam(hollow, 0.8, -0.5)
        self.foam(crest[22:], 1.15, 0.9)

    def swell(self, x, top, reach, base, scale):
        """Cut a pointed wave in front; its bands follow its outline, ever more softly."""
        rng = self.rng
        t = np.linspace(-0.03, 1.03, 160)
        away = np.where(t < x, (x - t) / (0.55 * reach), (t - x) / reach)
        rolling = base + 0.012 * np.sin(19 * t + rng.uniform(0, 6))
        lines = []
        for depth in np.cumsum(rng.uniform(0.4, 1.6, 17)) / 17 - 0.02:
            hump = np.exp(-((away**2 + (0.8 * depth) ** 2) ** 0.6)) * (1 - 0.5 * depth)
            y = rolling - (base - top) * hump + depth * (1.1 - base)
            behind = 0.1 * depth * np.exp(-(away**2))  # deeper water lags behind the crest
            lines.append(np.stack([t + behind, y], axis=-1) * self.size)
        tones = (LIGHT, DEEP, PALE, DEEP, MIDDLE)
        self.water(np.array(lines), np.roll(tones, rng.integers(5)).tolist())
        peak = np.argmin(np.abs(t - x))
        self.foam(lines[0][max(peak - 20, 0) : peak + 32][::-1], scale, 0.6)


def wave(seed: int = 0, size: tuple[int, int] = (800, 640)) -> Image.Image:
    """Print a great wave at sunset; odd seeds turn the picture around."""
    scene = Sea(seed, size)
    rng = scene.rng
    scene.sky()
    scene.far_sea()
    scene.swell(rng.uniform(0.05, 0.2), 0.6, 0.22, 0.8, 0.45)
    scene.great_wave()
    scene.swell(rng.uniform(0.2, 0.36), rng.uniform(0.72, 0.78), 0.2, 0.96, 0.6)
    scene.swell(rng.uniform(0.72, 0.85), rng.uniform(0.8, 0.86), 0.25, 1.0, 0.6)
    color = scene.printed()
    return to_picture(color[:, ::-1] if seed % 2 else color, size)
