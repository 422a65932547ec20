"""Distances, light and sampling for pictures that are put together from many small pieces."""

from __future__ import annotations

import numpy as np


def distance_to(mask: np.ndarray) -> np.ndarray:
    """Return the Euclidean distance in pixels from every pixel to the nearest True of `mask`."""
    height, width = mask.shape
    column = np.arange(width, dtype=np.float32)
    left = np.maximum.accumulate(np.where(mask, column, -4.0 * width), axis=1)
    right = np.minimum.accumulate(np.where(mask, column, 5.0 * width)[:, ::-1], axis=1)[:, ::-1]
    in_row = np.minimum(column - left, right - column).astype(np.float32) ** 2
    nearest = in_row.copy()
    for step in range(1, height):
        if step * step >= nearest.max():
            break  # rows this far away cannot be nearer than what is already known
        for here, there in (
            (nearest[step:], in_row[:-step]),
            (nearest[:-step], in_row[step:]),
        ):
            np.minimum(here, there + step * step, out=here)
    return np.sqrt(nearest)


def borders(labels: np.ndarray) -> np.ndarray:
    """Mark the pixels whose right or lower neighbour carries another label."""
    marked = np.zeros(labels.shape, dtype=bool)
    marked[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    marked[:-1] |= labels[:-1] != labels[1:]
    return marked


def sunlight(height: np.ndarray, direction=(-0.5, -0.65, 0.6)) -> np.ndarray:
    """Light falling on a surface of the given height in pixels; a flat surface receives 1."""
    slope_y, slope_x = np.gradient(height.astype(np.float32))
    x, y, z = direction
    facing = (z - x * slope_x - y * slope_y) / np.sqrt(1 + slope_x**2 + slope_y**2)
    return np.clip(facing, 0, None) / z


def window(center, radius: float, shape):
    """Return the part of a canvas around `center` (x, y) as slices, and its pixel offsets.

    The offsets (dx, dy) are measured from the center, so that a small thing can be drawn in its
    own coordinates; the slices are empty when nothing of it is on the canvas.
    """
    x, y = center
    rows = slice(max(int(y - radius), 0), max(min(int(y + radius) + 2, shape[0]), 0))
    columns = slice(max(int(x - radius), 0), max(min(int(x + radius) + 2, shape[1]), 0))
    dy, dx = np.ogrid[rows, columns]
    return (rows, columns), dx - x, dy - y


def turned(dx, dy, angle: float):
    """Return the coordinates (along, across) of offsets in a frame turned by `angle`."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return dx * cosine + dy * sine, dy * cosine - dx * sine


def almond(x, y, center, length, width, angle, bend=0.0):
    """Return the mask of a pointed oval, and its coordinates along (-1 to 1) and across."""
    dx, dy = x - center[0], y - center[1]
    along = (dx * np.cos(angle) + dy * np.sin(angle)) / length
    arch = 1 - along**2
    across = (dy * np.cos(angle) - dx * np.sin(angle)) / width - bend * arch
    return np.abs(across) < arch, along, across
