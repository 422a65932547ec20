"""Paint the style pictures and colour textures of images/. Deterministic: same seed, same picture.

    python scripts/draw_images.py              # all of them, into images/
    python scripts/draw_images.py mosaic --seed 3 --size 320 256 --folder elsewhere

Each picture has a module of its own in ``scripts/drawing/``; what they share is in ``brush`` and
``relief`` there. Only numpy and Pillow are used.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from drawing.bojagi import bojagi
from drawing.ink_wash import ink_wash
from drawing.knit import knit
from drawing.leaves import leaves
from drawing.mosaic import mosaic
from drawing.night_sky import night_sky
from drawing.pebbles import pebbles
from drawing.stained_glass import stained_glass
from drawing.wave import wave

PAINTINGS = (bojagi, ink_wash, mosaic, night_sky, stained_glass, wave)
TEXTURES = (knit, leaves, pebbles)
PAINTERS = {painter.__name__: painter for painter in PAINTINGS + TEXTURES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PAINTERS))
    parser.add_argument("--seed", type=int, default=0, help="0: the pictures of images/")
    parser.add_argument("--size", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--folder", type=Path, default=Path(__file__).parents[1] / "images")
    args = parser.parse_args()
    if unknown := set(args.names) - set(PAINTERS):
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(PAINTERS)}")
    args.folder.mkdir(parents=True, exist_ok=True)
    for name in args.names or PAINTERS:
        began = time.monotonic()
        size = {"size": tuple(args.size)} if args.size else {}
        picture = PAINTERS[name](seed=args.seed, **size)
        path = args.folder / f"{name}.jpg"
        picture.save(path, quality=87, optimize=True)
        print(f"{path}  {picture.width} x {picture.height}  {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
