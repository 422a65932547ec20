"""River pebbles seen from above: slate, ochre, rust and white quartz in all sizes."""

from __future__ import annotations

import numpy as np

from .brush import blur, jitter, palette, ramp, smooth_noise, smoothstep, to_picture
from .relief import sunlight, turned, window

# Kinds of stone: colours, share of the river bed, and how they are marked.
STONES = [
    (palette("3d4a57", "566574", "74838f"), 0.25, "veined"),  # slate
    (palette("b98a45", "cfa963", "9a6d33"), 0.17, "speckled"),  # ochre sandstone
    (palette("8a3d27", "a85536", "6e3022"), 0.15, "banded"),  # rust
    (palette("e9e4d8", "d8cfbe", "f4f1ea"), 0.17, "cloudy"),  # quartz
    (palette("8f9488", "a9aa9c", "777b72"), 0.13, "speckled"),  # granite
    (palette("4f6355", "6c7f68"), 0.07, "veined"),  # green schist
    (palette("2a2a2d", "3b3735"), 0.05, "cloudy"),  # basalt
]
SHARES = np.array([share for _, share, _ in STONES])


def markings(kind, along, across, noise, size, unit, rng):
    """Return the light and dark markings of a stone as a tone around 0."""
    cloud = (noise - 0.5) * 0.35
    if kind == "veined":
        tone = cloud
        for _ in range(rng.integers(0, 4)):
            turn, offset = rng.uniform(0, 3.14), rng.uniform(-0.5, 0.5) * size
            line = along * np.cos(turn) + across * np.sin(turn) - offset + (noise - 0.5) * size
            width = rng.uniform(0.8, 3.2) * unit
            tone = tone + 0.55 * np.exp(-((line / width) ** 2)) * rng.uniform(0.5, 1)
        return tone
    if kind == "banded":
        wave = across / size * rng.uniform(6, 13) + (noise - 0.5) * 5
        return cloud + 0.13 * np.sin(wave * 2) + 0.06 * np.sin(wave * 5.3)
    if kind == "speckled":
        return cloud + 0.16 * np.clip(rng.normal(size=along.shape), -2.5, 2.5)
    return cloud * 1.3


def lay_stone(canvas, center, size, unit, noise, shares, rng):
    """Lay one stone with its shadow onto the canvas."""
    shape = canvas.shape[:2]
    spot, dx, dy = window(center, 1.5 * size, shape)
    if 0 in canvas[spot].shape[:2]:
        return
    flat = rng.uniform(0.62, 0.98)
    along, across = turned(dx, dy, rng.uniform(0, np.pi))
    along, across = along / size, across / (size * flat)
    power = rng.uniform(2.0, 2.9)  # from round to slightly boxy
    theta = np.arctan2(across, along)
    bumps = sum(
        rng.normal(0, 0.075 / wave**0.8) * np.cos(wave * theta + rng.uniform(0, 6.3))
        for wave in (1, 2, 3, 4, 5)
    )
    radius = (np.abs(along) ** power + np.abs(across) ** power) ** (1 / power) / (1 + bumps)
    # Its shadow darkens what lies below, most of all to the lower right.
    drop = 0.16 * size
    shade_spot, sx, sy = window((center[0] + drop * 0.7, center[1] + drop), 1.6 * size, shape)
    away = np.hypot(sx, sy) / size
    canvas[shade_spot] *= (1 - 0.6 * (1 - smoothstep(0.72, 1.25, away)))[..., None]

    colors, _, kind = STONES[rng.choice(len(STONES), p=shares)]
    shift = rng.integers(0, noise.shape[0] // 2, 2)
    rows, columns = radius.shape
    texture = noise[shift[0] : shift[0] + rows, shift[1] : shift[1] + columns]
    tone = markings(kind, along * size, across * size, texture, size, unit, rng)
    color = jitter(ramp(colors, rng.random()), rng, 0.04, 0.008)
    dome = np.sqrt(np.clip(1 - radius**2.6, 0, 1)) * size * rng.uniform(0.42, 0.6)
    light = sunlight(dome + (texture - 0.5) * 3.0 * unit)
    stone = color * np.clip(0.42 + 0.56 * light + tone, 0.04, 1.6)[..., None]
    # Wet stones shine a little where they face the light.
    shine = np.clip(light - 1.28, 0, 1) * rng.uniform(0.1, 0.5)
    stone += shine[..., None] + 0.05 * (1 - smoothstep(0, 1, radius))[..., None]
    stone *= (0.55 + 0.45 * (1 - smoothstep(0.82, 1.03, radius)))[..., None]
    cover = (1 - smoothstep(1 - 1.5 * unit / size, 1 + 1.5 * unit / size, radius))[..., None]
    canvas[spot] += (stone - canvas[spot]) * cover


def pebbles(seed: int = 0, size: tuple[int, int] = (640, 640)):
    """Fill the frame with pebbles, large ones lying on smaller ones."""
    rng = np.random.default_rng(seed)
    width, height = 2 * size[0], 2 * size[1]
    shape = (height, width)
    unit = min(shape) / 1280  # one unit is half a pixel of the default picture
    sand = smooth_noise(shape, 7 * unit, rng, 3)
    canvas = ramp(palette("17130f", "3a3027", "6a5a45"), sand).astype(np.float32)
    noise = smooth_noise((int(1400 * unit), int(1400 * unit)), 46 * unit, rng, 5)

    # Every river brings its own mixture of stones.
    shares = SHARES * rng.gamma(8, size=len(SHARES))
    shares /= shares.sum()
    taken = np.zeros(shape, dtype=bool)
    layers = []
    for radius, tries in ((86, 40), (66, 200), (50, 900), (36, 3000), (25, 6000), (16, 9000)):
        layer = []
        for center in rng.random((tries, 2)) * (width, height):
            r = radius * unit * rng.uniform(0.85, 1.2)
            spot, dx, dy = window(center, r, shape)
            disc = dx**2 + dy**2 < (0.86 * r) ** 2
            if disc.any() and (taken[spot] & disc).sum() < 0.03 * disc.sum():
                taken[spot] |= disc
                layer.append((center, r))
        layers.append(layer)
    gravel = [(c, rng.uniform(6, 13) * unit) for c in rng.random((6500, 2)) * (width, height)]
    for layer in [gravel, *layers[::-1]]:
        for center, r in layer:
            lay_stone(canvas, center, r, unit, noise, shares, rng)
        if layer is gravel:
            canvas *= 0.7
    canvas *= (0.85 + 0.3 * blur(sand, 30 * unit))[..., None]
    return to_picture(canvas, size)
