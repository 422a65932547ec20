"""Make docs/readme.webp, the picture README begins with: transfers, and what they are made of.

python -m scripts.pictures.readme
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F

import nst_helpers as nst
from nst_helpers.images import cover_image

PAIRS = (("chelsea", "night_sky"), ("coffee", "bojagi"), ("astronaut", "stained_glass"))
ALPHA = 3e-4
HEIGHT, WIDTH, GAP = 320, 440, 8  # of a result, and the white between pictures


def cover(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return a cut-out of that shape, rather from the top, where heads are."""
    scale = max(height / image.shape[2], width / image.shape[3])
    upper_rows = round((image.shape[2] + height / scale) / 2)
    return cover_image(image[:, :, :upper_rows], height, width)


def row(images: list[torch.Tensor]) -> torch.Tensor:
    """Put images of one height side by side, with a gap."""
    return F.pad(torch.cat([F.pad(i, (0, GAP), value=1) for i in images], 3), (0, -GAP))


def column(images: list[torch.Tensor]) -> torch.Tensor:
    """Put images of one width below each other, with a gap."""
    return row([image.mT for image in images]).mT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="bundled")
    parser.add_argument("--steps", type=int, default=200)
    folder = Path(__file__).parents[2] / "docs"
    parser.add_argument("--output", type=Path, default=folder / "readme.webp")
    args = parser.parse_args()
    net = nst.load_network(args.network)
    columns = []
    for names in PAIRS:
        content, style = (nst.load_image(name, HEIGHT) for name in names)
        content = cover(content, HEIGHT, WIDTH)
        loss = nst.StyleTransferLoss(net, content, style, alpha=ALPHA)
        result = nst.optimize(loss, content, steps=args.steps)
        small = ((HEIGHT - GAP) // 2, (WIDTH - GAP) // 2)
        sources = row([cover(content, *small), cover(style, *small)])
        columns.append(column([result.image, sources]))
        print(*names, f"{result.history[-1]['seconds']:.0f} s")
    print("wrote", nst.save_image(row(columns), args.output))


if __name__ == "__main__":
    main()
