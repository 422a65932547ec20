"""Make docs/network_*.webp: what VGG-19 paints and knows, above it the bundled network.

    python -m scripts.pictures.networks --network vgg19_normalised.safetensors

All from the sample pictures, from noise, with the same settings for both networks: the paper's
sweep (Gatys et al. 2016, Fig. 4), reconstructions from one layer after the other (Fig. 1), textures
of more and more layers (Gatys et al. 2015, Fig. 2), and a transfer.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch

import nst_helpers as nst
from nst_helpers.losses import RATIOS
from nst_helpers.network.features import Features
from nst_helpers.plots import figure_to_image

QUALITY = 70
Row = dict[str, torch.Tensor]  # title to image


def sweep(net: Features, size: int, steps: int) -> Row:
    """A cat and a night sky, with each ratio alpha/beta."""
    content, style = nst.load_image("chelsea", size), nst.load_image("night_sky", size)
    results = nst.alpha_beta_sweep(net, content, style, steps=steps)
    titles = [f"alpha/beta = {ratio:.0e}".replace("e-0", "e-") for ratio in RATIOS]
    return dict(zip(titles, [result.image for result in results], strict=True))


def reconstructions(net: Features, size: int, steps: int) -> Row:
    """What each of five layers knows of the cat."""
    content, row = nst.load_image("chelsea", size), {}
    for layer in [f"relu{block}_2" for block in range(1, 6)]:
        loss = nst.StyleTransferLoss(net, content=content, content_layers=[layer], alpha=1.0)
        row[layer] = nst.optimize(loss, nst.noise_like(content), steps=steps).image
    return row


def textures(net: Features, size: int, steps: int) -> Row:
    """Pebbles, by more and more layers."""
    style, row = nst.load_image("pebbles", size), {}
    for count, layer in enumerate(nst.STYLE_LAYERS, 1):
        loss = nst.StyleTransferLoss(net, style=style, style_layers=nst.STYLE_LAYERS[:count])
        row[f"up to {layer}"] = nst.optimize(loss, nst.noise_like(style), steps=steps).image
    return row


def transfer(net: Features, size: int, steps: int) -> Row:
    """A cup of coffee made of patchwork, and an astronaut of stained glass."""
    row = {}
    for names in (("coffee", "bojagi"), ("astronaut", "stained_glass")):
        content, style = (nst.load_image(name, size) for name in names)
        loss = nst.StyleTransferLoss(net, content, style, alpha=1e-2)
        row[" in ".join(names).replace("_", " ")] = nst.optimize(loss, content, steps=steps).image
    return row


SHEETS: dict[str, Callable[[Features, int, int], Row]] = {
    "sweep": sweep,
    "reconstructions": reconstructions,
    "textures": textures,
    "transfer": transfer,
}


def draw(rows: dict[str, Row]) -> torch.Tensor:
    """Return one row of images for each network, titled."""
    images = [image for row in rows.values() for image in row.values()]
    titles = [f"{name}: {title}" for name, row in rows.items() for title in row]
    columns = len(next(iter(rows.values())))
    axes = nst.show_images(images, titles, columns=columns, height=2.2)
    for ax in axes:
        ax.title.set_fontsize(9)
    return figure_to_image(axes[0].figure)  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="vgg19", help="VGG-19: a file, or vgg19 to download")
    parser.add_argument("--only", choices=SHEETS, nargs="+", default=[*SHEETS])
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[2] / "docs")
    args = parser.parse_args()
    networks = {"bundled": nst.load_network("bundled"), "VGG-19": nst.load_network(args.network)}
    for name in args.only:
        rows = {n: SHEETS[name](net, args.size, args.steps) for n, net in networks.items()}
        path = args.output / f"network_{name}.webp"
        nst.to_pil(draw(rows)).save(path, quality=QUALITY, method=6)  # all four under 600 kB
        print(f"wrote {path}, {path.stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    main()
