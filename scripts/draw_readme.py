"""Make images/readme.webp, the picture README begins with: transfers, and what they are made of.

python scripts/draw_readme.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F

import nst_helpers as nst

PAIRS = (("chelsea", "night_sky"), ("coffee", "bojagi"), ("astronaut", "stained_glass"))
ALPHA = 3e-4
HEIGHT, WIDTH, GAP = 320, 440, 8  # of a result, and the white between pictures


def cut(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Cut out the shape asked for, rather from the top, where heads are."""
    scale = max(height / image.shape[2], width / image.shape[3])
    size = [max(height, round(image.shape[2] * scale)), max(width, round(image.shape[3] * scale))]
    image = F.interpolate(image, size, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = (image.shape[2] - height) // 4, (image.shape[3] - width) // 2
    return image[:, :, top : top + height, left : left + width]


def row(images: list[torch.Tensor]) -> torch.Tensor:
    """Put images of one height side by side, with a gap."""
    return F.pad(torch.cat([F.pad(i, (0, GAP), value=1) for i in images], 3), (0, -GAP))


def column(images: list[torch.Tensor]) -> torch.Tensor:
    return row([image.mT for image in images]).mT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="bundled")
    parser.add_argument("--steps", type=int, default=200)
    folder = Path(__file__).parents[1] / "images"
    parser.add_argument("--output", type=Path, default=folder / "readme.webp")
    args = parser.parse_args()
    net = nst.load_network(args.network)
    columns = []
    for names in PAIRS:
        content, style = (nst.load_image(name, HEIGHT) for name in names)
        content = cut(content, HEIGHT, WIDTH)
        loss = nst.StyleTransferLoss(net, content, style, alpha=ALPHA)
        result = nst.optimize(loss, content, steps=args.steps)
        small = ((HEIGHT - GAP) // 2, (WIDTH - GAP) // 2)
        sources = row([cut(content, *small), cut(style, *small)])
        columns.append(column([result.image, sources]))
        print(*names, f"{result.history[-1]['seconds']:.0f} s")
    print("wrote", nst.save_image(row(columns), args.output))


if __name__ == "__main__":
    main()
