"""Brushes, noise and colour mixing shared by the procedural painters (NumPy and Pillow only)."""

from __future__ import annotations

import numpy as np
from PIL import Image

# ---------------------------------------------------------------- noise and filters


def smooth_noise(shape, scale, rng, octaves: int = 4) -> np.ndarray:
    """Return fractal noise of `shape` in [0, 1]; the largest features are about `scale` pixels.

    `scale` may be a pair (rows, columns), which stretches the noise into streaks.
    """
    height, width = shape
    scale_y, scale_x = np.broadcast_to(np.asarray(scale, dtype=float), 2)
    total = np.zeros(shape, dtype=np.float32)
    for octave in range(octaves):
        step_y, step_x = max(scale_y / 2**octave, 1.0), max(scale_x / 2**octave, 1.0)
        rows, columns = int(np.ceil(height / step_y)) + 1, int(np.ceil(width / step_x)) + 1
        grid = Image.fromarray(rng.random((rows + 3, columns + 3)).astype(np.float32))
        # The box leaves a margin, so that the bicubic filter never sees the border of the grid.
        box = (1.5, 1.5, 1.5 + width / step_x, 1.5 + height / step_y)
        layer = grid.resize((width, height), Image.Resampling.BICUBIC, box=box)
        total += np.asarray(layer) / 2**octave
    low, high = total.min(), total.max()
    return (total - low) / max(high - low, 1e-6)


def blur(image: np.ndarray, radius: float) -> np.ndarray:
    """Blur the first two axes of an array: three box filters come close to a Gaussian."""
    half = max(round(radius), 0)
    if half == 0:
        return image
    for axis in (0, 1):
        for _ in range(3):
            pad = [(0, 0)] * image.ndim
            pad[axis] = (half + 1, half)
            sums = np.cumsum(np.pad(image, pad, mode="edge"), axis=axis, dtype=np.float64)
            size = image.shape[axis]
            upper = np.take(sums, range(2 * half + 1, 2 * half + 1 + size), axis=axis)
            lower = np.take(sums, range(size), axis=axis)
            image = ((upper - lower) / (2 * half + 1)).astype(np.float32)
    return image


def smoothstep(low: float, high: float, value) -> np.ndarray:
    """Rise smoothly from 0 at `low` to 1 at `high`."""
    t = np.clip((np.asarray(value, dtype=np.float32) - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


# ---------------------------------------------------------------- colour

_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def palette(*codes: str) -> np.ndarray:
    """Turn hex codes such as "1b2a6b" into an (n, 3) array of sRGB values in [0, 1]."""
    return np.array([list(bytes.fromhex(code.lstrip("#"))) for code in codes]) / 255.0


def to_oklab(rgb) -> np.ndarray:
    """Convert sRGB in [0, 1] to OKLab, where equal distances look about equally different."""
    rgb = np.clip(np.asarray(rgb, dtype=float), 0, 1)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ _TO_LMS.T) @ _TO_LAB.T


def from_oklab(lab) -> np.ndarray:
    """Convert OKLab to sRGB, clipped to [0, 1]."""
    lms = (np.asarray(lab, dtype=float) @ np.linalg.inv(_TO_LAB).T) ** 3
    linear = np.clip(lms @ np.linalg.inv(_TO_LMS).T, 0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def jitter(rgb, rng, lightness: float = 0.03, hue: float = 0.012) -> np.ndarray:
    """Vary colours a little in OKLab, as paint mixed anew for every stroke would."""
    lab = to_oklab(rgb)
    return from_oklab(lab + rng.normal(size=lab.shape) * (lightness, hue, hue))


def ramp(colors: np.ndarray, t) -> np.ndarray:
    """Pick colours at `t` in [0, 1] from a row of colours, mixed in OKLab."""
    lab = to_oklab(colors)
    position = np.clip(np.asarray(t, dtype=float), 0, 1) * (len(lab) - 1)
    stops = np.arange(len(lab))
    mixed = [np.interp(position, stops, lab[:, channel]) for channel in range(3)]
    return from_oklab(np.stack(mixed, axis=-1))


def to_picture(rgb: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """Reduce a supersampled float picture in [0, 1] to a smooth RGB image of `size`."""
    pixels = (np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)


# ---------------------------------------------------------------- paths


def direction(angle) -> np.ndarray:
    """Return unit vectors (x, y) for angles in radians."""
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def normals(path) -> np.ndarray:
    """Return unit vectors across a path."""
    tangent = np.gradient(np.asarray(path, dtype=float), axis=0)
    length = np.maximum(np.hypot(*tangent.T), 1e-9)[:, None]
    return np.stack([-tangent[:, 1], tangent[:, 0]], axis=-1) / length


def trace(angle: np.ndarray, starts: np.ndarray, steps: int, step: float) -> np.ndarray:
    """Follow a field of directions (radians) from many points at once.

    `starts` holds (x, y) rows, which become the middle of the paths. Returns an array
    (paths, steps, 2).
    """
    height, width = angle.shape
    flow = direction(angle)

    def follow(points, sign, count):
        path = [points]
        for _ in range(count):
            x, y = np.clip(path[-1], 0, (width - 1, height - 1)).astype(int).T
            path.append(path[-1] + sign * step * flow[y, x])
        return path

    starts = np.asarray(starts, dtype=float)
    backward, forward = follow(starts, -1, steps // 2), follow(starts, 1, steps - steps // 2 - 1)
    return np.stack(backward[:0:-1] + forward, axis=1)


def curve(points, count: int = 40) -> np.ndarray:
    """Draw a smooth curve (Catmull-Rom) through a few points."""
    points = np.asarray(points, dtype=float)
    padded = np.vstack([2 * points[0] - points[1], points, 2 * points[-1] - points[-2]])
    position = np.linspace(0, len(points) - 1, count)
    index = np.minimum(position.astype(int), len(points) - 2)
    t = (position - index)[:, None]
    p0, p1, p2, p3 = (padded[index + offset] for offset in range(4))
    bend = (2 * p0 - 5 * p1 + 4 * p2 - p3) * t + (3 * p1 - p0 - 3 * p2 + p3) * t * t
    return p1 + 0.5 * t * (p2 - p0 + bend)


# ---------------------------------------------------------------- strokes


def taper(count: int, start: float = 0.15, end: float = 0.3, tip: float = 0.15) -> np.ndarray:
    """Width profile of a stroke: it swells from `tip` to 1 and thins out again at its end."""
    t = np.linspace(0, 1, count)
    rise = np.sqrt(np.clip(t / max(start, 1e-6), 0, 1))
    fall = np.sqrt(np.clip((1 - t) / max(end, 1e-6), 0, 1))
    return tip + (1 - tip) * np.minimum(rise, fall)


class Bristles:
    """The hairs of a brush: fine streaks across a stroke, slowly changing along it."""

    def __init__(self, rng):
        self.rng = rng
        streaks = smooth_noise((512, 128), (170, 5), rng, octaves=3)
        self.texture = np.clip(0.5 + 1.6 * (streaks - streaks.mean()), 0, 1)

    def load(self, along, across, width: float) -> np.ndarray:
        """Return in [0, 1] how much paint every hair of a fresh stroke holds at some places."""
        shift_along, shift_across = self.rng.integers(0, 512, 2)
        row = along / max(width, 6) * 10 + shift_along
        column = (across + 1) * width * 0.7 + shift_across
        return self.texture[row.astype(int) % 512, column.astype(int) % 128]


def sweep(path, widths, shape):
    """Cover a path with a brush of the given widths.

    Returns the covered `rows` and `columns` of a canvas of `shape`, and for each of them the
    coordinates `along` (in pixels) and `across` (from -1 to 1) of the stroke. A pixel may occur
    twice, which does not matter to plain assignments.
    """
    path = np.asarray(path, dtype=float)
    lengths = np.hypot(*np.diff(path, axis=0).T)
    distance = np.concatenate([[0], np.cumsum(lengths)])
    widths = np.broadcast_to(widths, len(path))
    spacing = 0.7  # below one pixel, so that bent strokes get no holes
    s = np.linspace(0, distance[-1], max(int(distance[-1] / spacing), 2))
    middle = np.stack([np.interp(s, distance, path[:, axis]) for axis in (0, 1)], axis=-1)
    half = np.interp(s, distance, widths / 2)[:, None]
    side = half * normals(middle)
    across = np.linspace(-1, 1, max(int(widths.max() / spacing), 2))
    columns, rows = ((middle[:, [axis]] + side[:, [axis]] * across).astype(int) for axis in (0, 1))
    inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    along, across = np.broadcast_arrays(s[:, None], across)
    return rows[inside], columns[inside], along[inside], across[inside]


def scatter(mask: np.ndarray, spacing: float, rng) -> np.ndarray:
    """Spread points (x, y) evenly but irregularly over the true part of a mask, shuffled."""
    height, width = mask.shape
    y, x = np.mgrid[0 : height + spacing : spacing, 0 : width + spacing : spacing]
    points = np.stack([x.ravel(), y.ravel()], axis=-1)
    points = points + rng.uniform(-0.6, 0.6, points.shape) * spacing
    points = points[(points >= 0).all(axis=1) & (points < (width, height)).all(axis=1)]
    columns, rows = points.astype(int).T
    return rng.permutation(points[mask[rows, columns]])


class OilCanvas:
    """A canvas which remembers both the colour and the thickness of the paint."""

    def __init__(self, shape, ground, rng):
        self.shape = shape
        self.color = np.broadcast_to(np.float32(ground), (*shape, 3)).copy()
        self.height = np.zeros(shape, dtype=np.float32)
        self.bristles = Bristles(rng)

    def stroke(self, path, width: float, color, streak, profile=None, dry: float = 0.6) -> None:
        """Drag a brush loaded with two colours along a path; `dry` is how soon it runs out."""
        profile = taper(len(path)) if profile is None else profile
        rows, columns, along, across = sweep(path, np.maximum(width * profile, 1), self.shape)
        if len(rows) == 0:
            return
        hair = self.bristles.load(along, across, width)
        # Towards its end, and along its rim, only the fullest hairs still leave paint.
        gap = dry * smoothstep(0.5, 1.1, along / max(along.max(), 1))
        gap += 0.35 * smoothstep(0.7, 1, np.abs(across))
        wet = hair > gap - 0.05
        rows, columns, hair, across = rows[wet], columns[wet], hair[wet], across[wet]
        mix = smoothstep(0.35, 0.75, hair)[:, None]
        self.color[rows, columns] = color + (np.asarray(streak) - color) * mix
        # Paint is thickest under full hairs and is pushed up to a ridge beside the brush.
        body = 0.35 + 0.65 * hair + 0.5 * smoothstep(0.5, 0.8, np.abs(across))
        self.height[rows, columns] = 0.4 * self.height[rows, columns] + body * np.sqrt(width)

    def lit(self, relief: float = 0.1, gloss: float = 0.15) -> np.ndarray:
        """Return the painting under light from the upper left, which shows its relief."""
        height = blur(self.height, 1)
        down, right = np.gradient(height)
        slope = np.clip((down + right) * relief, -1, 1)
        shaded = self.color * (1 + 0.55 * slope)[..., None]
        return shaded + gloss * np.clip(slope - 0.25, 0, 1)[..., None]
