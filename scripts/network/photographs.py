"""Training pictures: photographs and drawings, and random crops of them."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import random
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from tqdm import tqdm

from scripts.paintings import PAINTERS

SUFFIXES = (".jpg", ".jpeg", ".png")


def read_photographs(source: Path, side: int = 112) -> list[np.ndarray]:
    """Read all JPEGs and PNGs of a folder or zip, shorter side ``side``, as (H, W, 3) uint8."""
    if source.is_dir():
        files = sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES)
        contents: Iterable[bytes] = (path.read_bytes() for path in files)
        count = len(files)
    elif zipfile.is_zipfile(source):
        archive = zipfile.ZipFile(source)
        names = sorted(n for n in archive.namelist() if n.lower().endswith(SUFFIXES))
        contents, count = (archive.read(name) for name in names), len(names)
    else:
        raise SystemExit(f"--photos {source} is neither a folder nor a zip of photographs")
    photographs = []
    for content in tqdm(contents, total=count, desc="photographs", leave=False):
        picture = Image.open(io.BytesIO(content))
        picture.draft("RGB", (side, side))
        picture = picture.convert("RGB")
        scale = side / min(picture.size)
        width, height = (max(side, round(length * scale)) for length in picture.size)
        photographs.append(np.array(picture.resize((width, height))))
    if count < 100:
        raise SystemExit(f"--photos {source} holds {count} pictures; at least 100 are needed")
    return photographs


def split_photographs(
    photographs: list[np.ndarray], rng: random.Random
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Shuffle, and hold out every twentieth for the tests: (held out, to train on)."""
    photographs = list(photographs)
    rng.shuffle(photographs)
    return photographs[: len(photographs) // 20], photographs[len(photographs) // 20 :]


def draw_pictures(seeds: range, size: int = 288, workers: int = 0) -> list[np.ndarray]:
    """Draw pictures of the kinds in images/, with other seeds: paintings are not photographs."""
    jobs = [(name, seed, size) for seed in seeds for name in PAINTERS]
    with multiprocessing.Pool(workers) if workers else contextlib.nullcontext() as pool:
        drawings = pool.imap(_drawing, jobs) if pool else map(_drawing, jobs)
        return list(tqdm(drawings, total=len(jobs), desc="drawings", leave=False))


def _drawing(job: tuple[str, int, int]) -> np.ndarray:
    name, seed, size = job
    return np.array(PAINTERS[name](seed=seed, size=(size, size)))


def random_crop(rng: random.Random, picture: np.ndarray, side: int) -> Image.Image:
    """Cut out a random square, at 0.5 to 1.5 times the picture's scale, and bring it to ``side``.

    Small photographs are blurred by that, and what is painted later is not: some are sharpened.
    """
    height, width = picture.shape[:2]
    cut = min(int(side / np.exp(rng.uniform(np.log(0.5), np.log(1.5)))), height, width)
    x, y = rng.randint(0, width - cut), rng.randint(0, height - cut)
    square = Image.fromarray(picture[y : y + cut, x : x + cut])
    if rng.random() < 0.5:
        square = square.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    square = square.resize((side, side), Image.Resampling.LANCZOS)
    if rng.random() < 0.4:
        square = square.filter(
            ImageFilter.UnsharpMask(rng.uniform(0.7, 2), rng.randint(50, 200), 0)
        )
    return square


def plain_batch(
    rng: random.Random, pictures: list[np.ndarray], count: int, side: int
) -> torch.Tensor:
    """Return ``count`` random crops, (count, 3, side, side) in [0, 1]."""
    crops = [np.array(random_crop(rng, rng.choice(pictures), side)) for _ in range(count)]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255


def augmented_batch(
    rng: random.Random, pictures: list[np.ndarray], count: int, side: int
) -> torch.Tensor:
    """Return random crops, some of them blurred, recoloured or noisy."""
    crops = []
    for _ in range(count):
        square = random_crop(rng, rng.choice(pictures), side)
        if rng.random() < 0.15:
            square = square.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 4)))
        values = np.array(square, dtype=np.float32) / 255
        if rng.random() < 0.3:  # colours and contrast
            gain = np.exp([rng.gauss(0, 0.3) for _ in range(3)])
            values = (values - 0.5) * gain + 0.5 + [rng.gauss(0, 0.1) for _ in range(3)]
        if rng.random() < 0.25:
            noise = np.random.default_rng(rng.getrandbits(32))
            values = values + noise.normal(0, rng.choice([0.02, 0.1, 0.3]), values.shape)
        crops.append(values.astype(np.float32))
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
