"""What is painted after: pictures and network as they were at the last reset, and their loss.

Knows nothing of widgets.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from nst_helpers.control.recolor import Colors, recolored
from nst_helpers.explorer.networks import Networks
from nst_helpers.explorer.pictures import ONE_AT_A_TIME, Pictures
from nst_helpers.losses import StyleTransferLoss
from nst_helpers.network.features import Features

__all__: list[str] = []

RESET_SETTINGS = ("content", "start", "size", "seed", "network")  # take effect at a reset
LOSS_SETTINGS = ("style", "second_style", "content_layer", "colors", "style_scale")  # at once


class Targets:
    """Content, styles and network, and the loss that they make.

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
    alpha : torch.Tensor or None
        How opaque the content is, (1, 1, H, W); None if it is so everywhere.
    """

    def __init__(
        self, pictures: Pictures, networks: Networks, say: Callable[[str], object]
    ) -> None:
        self.pictures, self.networks, self.say = pictures, networks, say
        self.applied: dict[str, Any] = {}
        self.alpha: torch.Tensor | None = None
        self._content = torch.empty(0)
        self._loss: tuple[dict[str, Any], StyleTransferLoss] | None = None

    def apply(self, settings: Mapping[str, Any]) -> torch.Tensor:
        """Let settings take effect that wait for a reset; return the image to begin with.

        Parameters
        ----------
        settings : dict
            The explorer's.
        """
        with _tell(self.say):
            content, start = self.pictures.content_and_start(settings)
            alpha = self.pictures.load_alpha(settings["content"], settings["size"])
        self._content, self.alpha = content, alpha
        self._loss, self.applied = None, {name: settings[name] for name in RESET_SETTINGS}
        return start

    def loss(self, settings: Mapping[str, Any]) -> StyleTransferLoss:
        """Return the loss: the one of before, with which L-BFGS goes on, if nothing has changed.

        Parameters
        ----------
        settings : dict
            The explorer's.
        """
        made_of = {name: settings[name] for name in LOSS_SETTINGS}
        if made_of["colors"] == "keep":  # which only changes what is shown
            made_of["colors"] = "style"
        if self._loss is None or self._loss[0] != made_of:
            self._loss = None
            net = self.networks.load(self.applied["network"], self.say)
            with _tell(self.say):
                self._loss = made_of, self._make_loss(net, made_of)
        return self._loss[1]

    def finish(self, image: torch.Tensor, colors: Colors) -> torch.Tensor:
        """Return an image of the run as it is saved: with the colours that it is to have.

        Parameters
        ----------
        image : torch.Tensor
            (1, 3, H, W).
        colors : {"style", "keep", "match", "luminance"}
            As for ``recolored``.
        """
        _, _, finish = recolored(self._content, [], "keep" if colors == "luminance" else colors)
        return finish(image)

    def preview(self, image: torch.Tensor, colors: Colors) -> torch.Tensor:
        """Return it as it is shown: what is transparent is white.

        Parameters
        ----------
        image, colors
            As for ``finish``.
        """
        image = self.finish(image, colors)
        if self.alpha is None:
            return image
        alpha = self.alpha.to(image)
        return image * alpha + (1 - alpha)

    def forget(self) -> None:
        """Make the loss anew next time: it may be what went wrong."""
        self._loss = None

    def _make_loss(self, net: Features, settings: Mapping[str, Any]) -> StyleTransferLoss:
        size = max(1, round(self.applied["size"] * settings["style_scale"]))
        names = styles_of(settings)
        images = [self.pictures.load(name, size) for name in names]
        alphas = [self.pictures.load_alpha(name, size) for name in names]
        content, styles, _ = recolored(
            self._content,
            images,
            settings["colors"],
            content_mask=self.alpha,
            style_mask=alphas,
        )
        # What is transparent has no style, in the content, and gives none, in a style.
        masks = [
            torch.ones_like(image[:, :1]) if alpha is None else alpha
            for image, alpha in zip(images, alphas, strict=True)
        ]
        return StyleTransferLoss(
            net,
            content,
            styles,
            content_layers=[settings["content_layer"]],
            content_mask=self.alpha,
            style_mask=masks if any(alpha is not None for alpha in alphas) else None,
        )


def styles_of(settings: Mapping[str, Any]) -> list[str]:
    """Return the names of the style, and of the second one if there is one.

    Parameters
    ----------
    settings : dict
        The explorer's.
    """
    return [settings[name] for name in ("style", "second_style") if settings[name]]


@contextmanager
def _tell(say: Callable[[str], object]) -> Iterator[None]:
    """Let people see what the package warns of, where they look."""
    with ONE_AT_A_TIME, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    if caught:
        say("; ".join(dict.fromkeys(str(warning.message) for warning in caught)))
