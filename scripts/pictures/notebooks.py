"""Make docs/notebook_*.webp, the pictures of README's table, from what the notebooks show.

python -m scripts.pictures.notebooks
"""

from __future__ import annotations

import argparse
import base64
import io
from pathlib import Path

import nbformat
from PIL import Image

ROOT = Path(__file__).parents[2]
# Which of a notebook's figures, counted from 0; -1 is the last one.
FIGURES = {
    "00_start_here": 7,
    "01_content_reconstruction": 5,
    "02_texture": 2,
    "03_alpha_beta_sweep": 1,
    "04_style_transfer": -1,
    "05_sliders": 4,
    "06_control": -1,
}
SIZE = (360, 220)  # at most


def figures(notebook: Path) -> list[Image.Image]:
    """Return the figures stored in a notebook, in order."""
    cells = nbformat.read(notebook, as_version=4).cells
    outputs = [output.get("data", {}) for cell in cells for output in cell.get("outputs", ())]
    files = [base64.b64decode(data["image/jpeg"]) for data in outputs if "image/jpeg" in data]
    return [Image.open(io.BytesIO(file)).convert("RGB") for file in files]


def chosen_figure(notebook: Path, size: tuple[int, int] = SIZE) -> Image.Image | None:
    """Return the figure that stands for a notebook, if it has any, within a size."""
    pictures = figures(notebook)
    if not pictures:
        return None
    picture = pictures[FIGURES.get(notebook.stem, -1)]
    picture.thumbnail(size, Image.Resampling.LANCZOS)
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "docs")
    args = parser.parse_args()
    for name in FIGURES:
        picture = chosen_figure(ROOT / "notebooks" / f"{name}.ipynb")
        if picture is None:
            raise SystemExit(f"{name} stores no figures: make notebooks")
        path = args.output / f"notebook_{name[:2]}.webp"
        picture.save(path, quality=80, method=6)
        print("wrote", path.name, f"{path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
