"""Paint the style pictures and colour textures of images/. Deterministic: same seed, same picture.

python -m scripts.paintings              # all of them, into images/
python -m scripts.paintings mosaic --seed 3 --size 320 256 --folder elsewhere
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from scripts.paintings import PAINTERS

IMAGES = Path(__file__).parents[2] / "images"


def main() -> None:
    parser = argparse.ArgumentParser(prog="paintings", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PAINTERS))
    parser.add_argument("--seed", type=int, default=0, help="0: the pictures of images/")
    parser.add_argument("--size", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--folder", type=Path, default=IMAGES)
    args = parser.parse_args()
    if unknown := set(args.names) - set(PAINTERS):
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(PAINTERS)}")
    args.folder.mkdir(parents=True, exist_ok=True)
    for name in args.names or PAINTERS:
        started_at = time.monotonic()
        size = {"size": tuple(args.size)} if args.size else {}
        picture = PAINTERS[name](seed=args.seed, **size)
        path = args.folder / f"{name}.jpg"
        picture.save(path, quality=87, optimize=True)
        print(f"{path}  {picture.width} x {picture.height}  {time.monotonic() - started_at:.0f} s")


if __name__ == "__main__":
    main()
