"""The pictures that a command writes: their names, what is in the way, and which are there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from nst_helpers._console import say
from nst_helpers.images import save_image, validate_output

__all__ = ["Outputs", "as_it_is", "names_of_blends", "names_of_ratios"]

WITH_ALPHA = (".png", ".webp", ".tif", ".tiff")
NAMED = 3  # files in a message; the rest is counted


class Outputs:
    """The picture that is being made, those beside it, and what is done to each as it is saved.

    Attributes
    ----------
    path : Path
        Of the picture that is being made.
    command : str
        In whose name to speak.
    alpha : torch.Tensor or None
        (1, 1, H, W), from 0 (transparent) to 1: what a cut-out leaves of every picture.
    finish : callable
        Takes an image and returns it in the colours it is to have.
    settings : dict
        How the picture is made; a .png keeps them.
    written : list of Path
        What is there.
    complete : bool
        False if a picture could not be written.
    """

    def __init__(self) -> None:
        self.command, self.written = "", list[Path]()
        self.begin(Path())

    def begin(self, path: Path) -> None:
        """Make another picture."""
        self.path = path
        self.alpha: torch.Tensor | None = None
        self.finish: Callable[[torch.Tensor], torch.Tensor] = as_it_is
        self.settings: dict[str, Any] = {}
        self.complete = True

    @property
    def holds_alpha(self) -> bool:
        """Whether the format can be transparent."""
        return self.path.suffix.lower() in WITH_ALPHA

    def beside(self, *parts: str) -> Path:
        """Return ``out_0.1.png`` for ``out.png`` and the part 0.1."""
        return self.path.with_name(f"{'_'.join((self.path.stem, *parts))}{self.path.suffix}")

    def at_step(self, step: int, *parts: str) -> Path:
        """Return the name of the picture after a step, ``out_0100.png`` or ``out_0.1_0100.png``."""
        return self.beside(*parts, f"{step:04d}")

    def reserve(
        self,
        paths: Sequence[Path],
        runs: Iterable[Sequence[str]],
        *,
        steps: int,
        save_every: int | None = None,
        replace: bool = True,
        overwrite: bool = False,
    ) -> None:
        """Look whether all pictures can be written; the first is the one that is being made.

        Parameters
        ----------
        paths : sequence of Path
            The pictures that are asked for, as ``validate_output`` returned them.
        runs : iterable of sequence of str
            Of each run the parts of its picture's name; none where it is the one asked for.
        steps : int
            Of a run.
        save_every : int, optional
            Steps between two pictures on the way.
        replace : bool
            Whether the pictures asked for may replace older ones.
        overwrite : bool
            Whether all others may, too.

        Raises
        ------
        ValueError, OSError
            If they cannot be written, or some are there already.
        """
        existing: list[Path] = []
        for self.path in paths:
            existing += [] if replace or not self.path.exists() else [self.path]
            existing += self._existing(runs, steps, save_every)
        self.path = paths[0]
        if existing and not overwrite:
            names = ", ".join(str(path) for path in existing[:NAMED])
            rest = f" and {len(existing) - NAMED} more" if len(existing) > NAMED else ""
            raise ValueError(
                f"{names}{rest} would be overwritten: move what is there, choose another --output, "
                "or add --overwrite"
            )

    def _existing(
        self, runs: Iterable[Sequence[str]], steps: int, save_every: int | None
    ) -> list[Path]:
        """Return what is there of the pictures beside; raise if one cannot be written."""
        existing: list[Path] = []
        for parts in runs:
            finals = [self.beside(*parts)] if parts else []
            for path in [*finals, *([self.at_step(steps, *parts)] if save_every else [])]:
                validate_output(path)
            existing += [path for path in finals if path.exists()]
            if save_every:
                existing += self._existing_steps(parts, range(save_every, steps + 1, save_every))
        return existing

    def _existing_steps(self, parts: Sequence[str], steps: range) -> Iterator[Path]:
        stem, suffix = self.beside(*parts).stem, self.path.suffix
        name = re.compile(f"{re.escape(stem)}_([0-9]{{4,}}){re.escape(suffix)}")
        for path in sorted(self.path.parent.iterdir()):
            match = name.fullmatch(path.name)
            if match and int(match[1]) in steps and path == self.at_step(int(match[1]), *parts):
                yield path

    def save(
        self, image: torch.Tensor, path: Path, *, opaque: bool = False, **settings: Any
    ) -> bool:
        """Write a picture; if that fails, say so and return False: other pictures may follow.

        Parameters
        ----------
        image : torch.Tensor
            (1, 3, H, W), in the size of the picture or, in a pyramid, smaller.
        path : Path
        opaque : bool
            Whether to write it whole and as it is, whatever the cut-out and the colours.
        **settings
            Those of this picture, beside the others.
        """
        try:
            image = image if opaque else self.finish(image)
            options: dict[str, Any] = {}
            if path.suffix.lower() == ".png":
                options["settings"] = self.settings | settings
            if self.alpha is not None and not opaque:
                alpha = _resize(self.alpha, image).to(image.device)
                if self.holds_alpha:
                    options["alpha"] = alpha
                else:
                    image = image * alpha + (1 - alpha)
            save_image(image, path, **options)
        except (OSError, ValueError) as error:
            self.complete = False
            say(f"{self.command}: {error}", error=True)
            return False
        if path not in self.written:
            self.written.append(path)
        return True


def as_it_is(image: torch.Tensor) -> torch.Tensor:
    """Return an image in its own colours.

    Parameters
    ----------
    image : torch.Tensor
    """
    return image


def _resize(alpha: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    size = image.shape[2:]
    if alpha.shape[2:] == size:
        return alpha
    return F.interpolate(alpha, size, mode="bilinear", antialias=True).clamp(0, 1)


def names_of_ratios(ratios: Sequence[float]) -> list[str]:
    """Return short names that differ where the ratios do."""
    return _distinct([f"{ratio:g}" for ratio in ratios], [repr(ratio) for ratio in ratios])


def names_of_blends(blends: Sequence[Sequence[float]]) -> list[str]:
    """Return short names that differ where the styles' weights do, such as 0.5,0.5."""
    short, long = (
        [",".join(map(form, blend)) for blend in blends] for form in ("{:g}".format, repr)
    )
    return _distinct(short, long)


def _distinct(short: Sequence[str], long: Sequence[str]) -> list[str]:
    return [
        name if short.count(name) == 1 else other for name, other in zip(short, long, strict=True)
    ]
