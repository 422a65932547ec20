"""What is painted after: pictures and network as they were at the last reset, and their loss.

Knows nothing of widgets.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from nst_helpers.explorer.networks import Networks
from nst_helpers.explorer.pictures import ONE_AT_A_TIME, Pictures
from nst_helpers.losses import StyleTransferLoss

__all__: list[str] = []

RESET_SETTINGS = ("content", "start", "size", "seed", "network")  # take effect at a reset


class Targets:
    """Content, style and network, and the loss that they make.

    Parameters
    ----------
    pictures : Pictures
        What content and style are loaded from.
    networks : Networks
        What the network is loaded from.
    say : callable
        Given what to tell people.

    Attributes
    ----------
    applied : dict
        The settings that took effect at the last reset.
    """

    def __init__(
        self, pictures: Pictures, networks: Networks, say: Callable[[str], object]
    ) -> None:
        self.pictures, self.networks, self.say = pictures, networks, say
        self.applied: dict[str, Any] = {}
        self._content = torch.empty(0)
        self._loss: tuple[tuple[str, str], StyleTransferLoss] | None = None

    def apply(self, settings: Mapping[str, Any]) -> torch.Tensor:
        """Let settings take effect that wait for a reset; return the image to begin with.

        Parameters
        ----------
        settings : dict
            The explorer's.
        """
        with _tell(self.say):
            self._content, start = self.pictures.content_and_start(settings)
        self._loss, self.applied = None, {name: settings[name] for name in RESET_SETTINGS}
        return start

    def loss(self, style: str, layer: str) -> StyleTransferLoss:
        """Return the loss: the one of before, with which L-BFGS goes on, if nothing has changed.

        Parameters
        ----------
        style : str
            The name of a picture.
        layer : str
            The content layer.
        """
        if self._loss is None or self._loss[0] != (style, layer):
            self._loss = None
            net = self.networks.load(self.applied["network"], self.say)
            with _tell(self.say):
                image = self.pictures.load(style, self.applied["size"])
                loss = StyleTransferLoss(net, self._content, image, content_layers=[layer])
            self._loss = (style, layer), loss
        return self._loss[1]

    def forget(self) -> None:
        """Make the loss anew next time: it may be what went wrong."""
        self._loss = None

    def alpha(self) -> torch.Tensor | None:
        """Return how opaque the content is; None if it is so everywhere."""
        return self.pictures.load_alpha(self.applied["content"], self.applied["size"])


@contextmanager
def _tell(say: Callable[[str], object]) -> Iterator[None]:
    """Let people see what the package warns of, where they look."""
    with ONE_AT_A_TIME, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    if caught:
        say("; ".join(dict.fromkeys(str(warning.message) for warning in caught)))
