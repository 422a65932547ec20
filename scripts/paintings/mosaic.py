"""A Byzantine mosaic: two peacocks under a pomegranate tree, in rows that follow their outlines."""

from __future__ import annotations

import numpy as np

from .brush import curve, jitter, palette, ramp, smooth_noise, smoothstep, to_picture
from .relief import almond, borders, distance_to, sunlight, turned, window

GOLD = palette("c08420", "e6b03a", "f5d068", "fbe7a4", "eab840", "d0922a")
LAPIS = palette("16245e", "1f3a8a", "2b55a8", "1a2f74", "3f6fb8")
IVORY = palette("d9c9a0", "efe4c6", "f6efdc", "e4cfa6")
GRASS = palette("2d5a3a", "5c8a44", "93ad58", "3f7358")
BARK = palette("4a2418", "7b4226", "a8683a", "5c2e1e")
LIGHT_LEAF = palette("5f9a4a", "9cc065", "3f8a55")
DARK_LEAF = palette("14473c", "1f6a4a", "2a7d6a")
FRUIT = palette("7d1420", "b3202a", "d8452f", "ef8a54")
BLUE = palette("0f2f70", "1556b0", "1d8cc0", "62cfd0")
WHITE = palette("a9a08c", "d9d2bd", "f4efe0", "e6c98a")
WING = palette("7a2f1d", "c4622d", "e8b36a", "f3e2bd")
TAIL = palette("0b4550", "0f6f74", "2fa08a", "14507f")
CREAM = palette("efe3c4", "e2cfa0", "f8f1de")
NIGHT = palette("141d3d", "1d2f5e", "2a3d70")
BRICK = palette("8f2d20", "b84a2c", "cf6b45")
GROUNDS = [(GOLD, BLUE), (LAPIS, WHITE), (IVORY, BLUE)]  # each with the plumage that suits it
OUTLINE = palette("2a1614", "3a2320", "1f1c2c")


class Design:
    """The painter's design: figures with a label, a palette and a tint for every pixel."""

    def __init__(self, shape, colors):
        self.labels = np.zeros(shape, dtype=np.int32)
        self.tint = np.full(shape, 0.5, dtype=np.float32)
        self.palettes, self.outlined = [colors], [False]

    def lay(self, mask, colors, tint=0.5, outlined=False):
        """Put a figure on top; its colours run along the palette with `tint`."""
        self.labels[mask] = len(self.palettes)
        self.tint[mask] = np.broadcast_to(tint, mask.shape)[mask]
        self.palettes.append(colors)
        self.outlined.append(outlined)

    def lay_curve(self, x, y, points, widths, colors):
        """Lay a bent stem that grows thinner along its way."""
        self.lay(stem(x.shape, points, widths), colors, y * 9 % 1)


def stem(shape, points, widths):
    """Return the mask of a bent stem; lengths are in heights of the picture."""
    mask = np.zeros(shape, dtype=bool)
    for point, half in zip(points * shape[0], widths * shape[0], strict=True):
        spot, dx, dy = window(point, half, shape)
        mask[spot] |= dx**2 + dy**2 < half**2
    return mask


def lay_peacock(design, x, y, foot, facing, big, plumage):
    """Lay a peacock standing at `foot`; `facing` is 1 to the right and -1 to the left."""
    x, y = (x - foot[0]) * facing / big, (y - foot[1]) / big
    for leg in (-0.01, 0.03):
        design.lay((np.abs(x - leg - 0.1 * y) < 0.006) & (y > -0.08) & (y < 0), BRICK)
        design.lay(almond(x, y, (leg + 0.01, 0), 0.025, 0.009, 0.0)[0], BRICK)
    tail, along, across = almond(x, y, (-0.15, -0.075), 0.185, 0.07, -0.2, 0.35)
    design.lay(tail, TAIL, 0.5 + 0.5 * np.sin(across * 5), outlined=True)
    for place in (-0.265, -0.2, -0.135):
        away = np.hypot(x - place, y + 0.03 + 0.25 * (place + 0.3))
        design.lay(away < 0.027, GOLD, 0.6)
        design.lay(away < 0.014, NIGHT)
    neck = curve([(0.03, -0.13), (0.1, -0.19), (0.085, -0.26), (0.115, -0.31)], 80)
    neck = neck * (big * facing, big) + foot
    body, along, across = almond(x, y, (0.0, -0.12), 0.14, 0.075, -0.45, -0.2)
    body |= stem(x.shape, neck, big * np.linspace(0.05, 0.026, len(neck)))
    design.lay(body, plumage, np.clip(0.5 - 3 * (y + 0.2), 0, 1), outlined=True)
    wing, along, across = almond(x, y, (-0.03, -0.115), 0.12, 0.045, -0.32, -0.2)
    design.lay(wing, WING, 0.5 - 0.5 * along, outlined=True)
    beak, _, _ = almond(x, y, (0.145, -0.308), 0.034, 0.014, 0.25)
    design.lay(beak & (x > 0.132), BRICK)
    design.lay(np.hypot(x - 0.12, y + 0.316) < 0.0085, CREAM)
    for plume in (-2.0, -1.57, -1.14):
        tip = np.array([0.11 + 0.055 * np.cos(plume), -0.315 + 0.062 * np.sin(plume)])
        design.lay(np.hypot(x - tip[0], y - tip[1]) < 0.0115, GOLD, 0.1)


def lay_tree(design, x, y, aspect, rng):
    """Lay a trunk, and branches that carry pomegranates and leaves where there is room."""
    root = np.array([aspect / 2 + rng.uniform(-0.012, 0.012), 0.84])
    crown = root + (rng.uniform(-0.06, 0.06), -0.42)
    fruits = []
    for _ in range(600):
        spot = np.array([rng.uniform(0.17, aspect - 0.17), rng.uniform(0.165, 0.5)])
        clear = all(np.hypot(*(spot - other)) > 0.19 for other in fruits)
        low = abs(spot[0] - root[0]) > 0.05 and spot[1] > 0.36  # the peacocks stand there
        if clear and not low and np.hypot(*(spot - crown)) > 0.1:
            fruits.append(spot)
    trunk = curve([root, (root + crown) / 2 + (rng.uniform(-0.03, 0.03), 0), crown], 60)
    for spot in fruits:
        fork = trunk[rng.integers(34, 60)]
        knee = (fork + spot) / 2 + (0, rng.uniform(-0.02, 0.07)) + rng.normal(0, 0.015, 2)
        design.lay_curve(x, y, curve([fork, knee, spot], 40), np.linspace(0.015, 0.009, 40), BARK)
    design.lay_curve(x, y, trunk, np.linspace(0.038, 0.012, 60), BARK)
    for spot in fruits:
        size = rng.uniform(0.046, 0.06)
        lean = rng.uniform(-0.5, 0.5) + np.pi / 2
        for turn in (-0.5, 0.5, 0):
            at = spot + 1.15 * size * np.array([np.cos(lean + turn), np.sin(lean + turn)])
            design.lay(almond(x, y, at, size * 0.5, size * 0.2, lean + turn)[0], BRICK, 0.5)
        away = np.hypot(x - spot[0], y - spot[1])
        shade = 0.55 - (x - spot[0] + y - spot[1]) / size * 0.4
        design.lay(away < size, FRUIT, np.clip(shade, 0, 1), outlined=True)
        if rng.random() < 0.45:  # an open fruit shows its seeds
            cut, along, across = almond(x, y, spot, size * 0.85, size * 0.45, rng.uniform(0, 3))
            design.lay(cut, CREAM)
            cut = np.abs(across) < (1 - along**2) * 0.5
            design.lay(cut & (away < size * 0.7), FRUIT, 0.9)
    height = x.shape[0]
    taken = distance_to(design.labels > 0) / height
    for _ in range(900):
        at = np.array([rng.uniform(0.09, aspect - 0.09), rng.uniform(0.09, 0.6)])
        room = taken[int(at[1] * height), int(at[0] * height)]
        if not 0.012 < room < 0.05:
            continue
        angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.034, 0.048)
        leaf, along, across = almond(x, y, at, length, length * 0.4, angle, rng.uniform(-0.3, 0.3))
        if (leaf & (design.labels > 0)).sum() > 0.06 * leaf.sum():
            continue
        design.lay(leaf & (across > 0), LIGHT_LEAF, 0.5 + 0.5 * along)
        design.lay(leaf & (across <= 0), DARK_LEAF, 0.5 + 0.5 * along)
        (rows, columns), dx, dy = window(at * height, 0.2 * height, x.shape)
        np.minimum(
            taken[rows, columns],
            np.hypot(dx, dy) / height - length * 0.35,
            out=taken[rows, columns],
        )


def lay_border(design, x, y, aspect):
    """Lay a braid of two strands between plain bands around the picture."""
    edge = np.minimum(np.minimum(x, aspect - x), np.minimum(y, 1 - y))
    upright = np.minimum(x, aspect - x) < np.minimum(y, 1 - y)
    design.lay(edge < 0.085, CREAM)
    design.lay(edge < 0.073, NIGHT)
    run = np.where(upright, (y - 0.5), (x - aspect / 2)) * 2 * np.pi / 0.17
    red, pale = (np.abs(edge - 0.042 - 0.015 * s * np.sin(run)) < 0.0105 for s in (1, -1))
    design.lay(red, BRICK)
    design.lay(pale, CREAM)
    design.lay(red & (np.cos(run) > 0), BRICK)  # over and under in turn
    design.lay(edge < 0.014, BRICK, 0.2)


def place_tiles(design, sizes, rng):
    """Walk along the outlines of all figures, row by row, and set tile after tile.

    Returns an array with the columns x, y, angle, label and row.
    """
    labels = design.labels
    depth = distance_to(borders(labels)) + 0.5
    slope_y, slope_x = np.gradient(depth)
    taken = np.zeros(labels.shape, dtype=bool)
    height, width = labels.shape
    tiles = []

    def direction(x, y):
        """Along the row: at right angles to the slope."""
        return np.arctan2(slope_x[int(y), int(x)], -slope_y[int(y), int(x)])

    def put(x, y, angle, label, row):
        size = sizes[label]
        spot, dx, dy = window((x, y), 0.64 * size, labels.shape)
        taken[spot] |= (dx**2 + dy**2 < (0.64 * size) ** 2) & (labels[spot] == label)
        tiles.append((x, y, angle, label, row))

    def walk(x, y, row, label, sign):
        size = sizes[label]
        while True:
            angle = direction(x, y)
            stride = sign * size * rng.uniform(0.94, 1.12)
            x, y = x + stride * np.cos(angle), y + stride * np.sin(angle)
            if not (0 <= x < width and 0 <= y < height) or labels[int(y), int(x)] != label:
                return
            line, column = int(y), int(x)
            back = np.clip((row + 0.5) * size - depth[line, column], -size / 2, size / 2)
            x = np.clip(x + back * slope_x[line, column], 0, width - 1)
            y = np.clip(y + back * slope_y[line, column], 0, height - 1)
            if taken[int(y), int(x)] or labels[int(y), int(x)] != label:
                return
            put(x, y, direction(x, y), label, row)

    size_map = np.asarray(sizes)[labels]
    row_map = np.floor(depth / size_map).astype(int)
    on_row = np.abs(depth - (row_map + 0.5) * size_map) < 0.7
    lines, columns = np.nonzero(on_row)
    order = np.argsort(row_map[lines, columns], kind="stable")
    for y, x in zip(lines[order].tolist(), columns[order].tolist(), strict=True):
        if not taken[y, x]:
            put(x + 0.5, y + 0.5, direction(x, y), labels[y, x], row_map[y, x])
            for sign in (1, -1):
                walk(x + 0.5, y + 0.5, row_map[y, x], labels[y, x], sign)
    # Small cut tiles fill what the rows left open.
    lines, columns = np.nonzero(~taken & (depth > 0.2 * size_map))
    order = np.argsort(-depth[lines, columns], kind="stable")
    for y, x in zip(lines[order].tolist(), columns[order].tolist(), strict=True):
        if not taken[y, x]:
            put(x + 0.5, y + 0.5, direction(x, y), labels[y, x], row_map[y, x])
    return np.array(tiles)


def shape_tiles(tiles, labels, sizes, unit, rng):
    """Return which tile every pixel belongs to, and how deep inside of it the pixel lies."""
    # The nearest tile of the same figure wins; with square circles the tiles become square.
    best = np.full(labels.shape, np.inf, dtype=np.float32)
    second, owner = best.copy(), np.zeros(labels.shape, dtype=np.int32)
    wobble = (smooth_noise(labels.shape, 9 * unit, rng, 2) - 0.5) * 3 * unit
    for number, (x, y, angle, label, _) in enumerate(tiles):
        spot, dx, dy = window((x, y), 1.5 * sizes[int(label)], labels.shape)
        along, across = turned(dx, dy, angle + rng.normal(0, 0.07))
        square = np.maximum(np.abs(along) * rng.uniform(0.9, 1.05), np.abs(across)) + wobble[spot]
        square[labels[spot] != label] = np.inf
        nearer = square < best[spot]
        second[spot] = np.where(nearer, best[spot], np.minimum(second[spot], square))
        best[spot] = np.where(nearer, square, best[spot])
        owner[spot][nearer] = number
    bare = np.isinf(best)
    second[bare], best[bare] = 0, 0
    return owner, np.minimum((second - best) / 2, distance_to(borders(labels)))


def color_tiles(design, tiles, rng):
    """Choose a colour for every tile; outlined figures get a dark first row."""
    columns, lines, _, label, row = tiles.astype(int).T
    tint = design.tint[lines, columns] + rng.normal(0, 0.22, len(tiles))
    colors = np.empty((len(tiles), 3))
    for number, hues in enumerate(design.palettes):
        mine = label == number
        colors[mine] = ramp(hues, tint[mine])
        if design.outlined[number]:
            outline = mine & (row == 0)
            colors[outline] = OUTLINE[rng.integers(len(OUTLINE), size=outline.sum())]
    return jitter(colors, rng, 0.035, 0.012)


def mosaic(seed: int = 0, size: tuple[int, int] = (800, 640)):
    """Lay a mosaic on a ground of gold, lapis or ivory."""
    rng = np.random.default_rng(seed)
    width, height = 2 * size[0], 2 * size[1]
    shape, aspect = (height, width), width / height
    unit = height / 1280  # one unit is half a pixel of the default picture
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / height

    ground, plumage = GROUNDS[seed % len(GROUNDS)]
    design = Design(shape, ground)
    design.tint = smooth_noise(shape, height / 5, rng, 3)
    hill = 0.8 + 0.03 * np.sin(x * 3 + rng.uniform(0, 6)) + 0.012 * np.sin(x * 9)
    lay_tree(design, x, y, aspect, rng)
    for step, colors in ((0, GRASS), (0.045, LIGHT_LEAF), (0.075, BLUE), (0.1, CREAM)):
        design.lay(y > hill + step, colors, (x * 3 + y) % 1)
    big = min(1.0, aspect / 1.25)
    for facing in (1, -1):
        foot = (aspect / 2 - facing * big * rng.uniform(0.212, 0.226), rng.uniform(0.82, 0.84))
        lay_peacock(design, x, y, foot, facing, big, plumage)
    lay_border(design, x, y, aspect)

    sizes = [15 * unit] + [12.5 * unit] * (len(design.palettes) - 1)
    tiles = place_tiles(design, sizes, rng)
    owner, inside = shape_tiles(tiles, design.labels, sizes, unit, rng)
    colors = color_tiles(design, tiles, rng)

    # The stones stand out of the grout, each tilted a little towards or away from the light.
    stone = smoothstep(0.5 * unit, 1.9 * unit, inside)
    tilt = rng.normal(0, 0.09, (len(tiles), 2))[owner]
    lean = tilt[..., 0] * (x * height - tiles[owner, 0])
    lean += tilt[..., 1] * (y * height - tiles[owner, 1])
    grain = smooth_noise(shape, 6 * unit, rng, 3)
    relief = smoothstep(0, 3.6 * unit, inside) * 2.3 * unit + lean * stone + grain * 1.1 * unit
    light = 0.58 + 0.55 * sunlight(relief)
    grout = np.array([0.5, 0.44, 0.37]) * (0.6 + 0.5 * grain)[..., None]
    marbled = colors[owner] * (0.82 + 0.2 * grain)[..., None]
    picture = grout + (marbled - grout) * stone[..., None]
    return to_picture(picture * light[..., None], size)
