"""What is recorded of a run: the losses of each step, its pace, and a film.

Knows nothing of widgets or threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from nst_helpers.images import load_image, save_animation
from nst_helpers.language import _

__all__: list[str] = []

MAX_FRAMES = 80  # of a film; then every second one is dropped
PACE_STEPS = 30  # the last steps, over which the pace is measured


class CurvePoint(NamedTuple):
    """One step: its number, its losses, and the seconds since the start."""

    step: int
    content: float
    style: float
    seconds: float


class Recording:
    """Curve and film of a run.

    Attributes
    ----------
    curve : list of CurvePoint
        One for each step.
    frames : list of bytes
        The film's pictures, as JPEG files would hold them, evenly spread over the run.
    """

    def __init__(self) -> None:
        self.curve: list[CurvePoint] = []
        self.frames: list[bytes] = []
        self._offered, self._every = 0, 1  # of the pictures offered, every which becomes a frame
        self._pace_from = 0

    @property
    def steps_done(self) -> int:
        """The number of the last step."""
        return self.curve[-1].step if self.curve else 0

    @property
    def steps_per_second(self) -> float:
        """The pace of the last steps; 0 as long as it is not known."""
        points = self.curve[max(self._pace_from, len(self.curve) - PACE_STEPS) :]
        seconds = points[-1].seconds - points[0].seconds if points else 0.0
        return (len(points) - 1) / seconds if seconds > 0 else 0.0

    def restart(self, history: Iterable[Mapping[str, float]] = ()) -> None:
        """Begin a new film, and the curve with the steps of a result's history.

        Parameters
        ----------
        history : iterable of dict
            As in ``Result.history``.
        """
        self.curve = [_as_point(int(entry["step"]), entry, entry["seconds"]) for entry in history]
        self.frames = []
        self._offered, self._every = 0, 1
        self.restart_pace()

    def restart_pace(self) -> None:
        """Leave a pause out of the pace: measure it from the next step on."""
        self._pace_from = len(self.curve)

    def add_step(self, step: int, terms: Mapping[str, float], seconds: float) -> None:
        """Add a step to the curve, unless it is there already.

        Parameters
        ----------
        step : int
            Its number.
        terms : dict
            ``content`` and ``style`` loss.
        seconds : float
            Since the start of the run.
        """
        if step > self.steps_done:
            self.curve.append(_as_point(step, terms, seconds))

    def add_frame(self, picture: bytes) -> None:
        """Offer a picture to the film, which takes all or, of a long run, every n-th.

        Parameters
        ----------
        picture : bytes
            JPEG.
        """
        if self._offered % self._every == 0:
            self.frames.append(picture)
            if len(self.frames) > MAX_FRAMES:
                del self.frames[1::2]
                self._every *= 2
        self._offered += 1

    def save_film(self, path: Path) -> Path:
        """Write the film as an animation.

        Parameters
        ----------
        path : Path
            Ends in .webp.

        Returns
        -------
        Path
            ``path``.

        Raises
        ------
        ValueError
            If there are not two frames yet.
        """
        frames = list(self.frames)  # the run may go on
        if len(frames) < 2:
            raise ValueError(_("there is no film yet: press Start first"))
        return save_animation([load_image(frame) for frame in frames], path)


def _as_point(step: int, terms: Mapping[str, float], seconds: float) -> CurvePoint:
    return CurvePoint(step, terms["content"], terms["style"], seconds)
