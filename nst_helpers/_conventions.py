"""What a ratio alpha/beta of one convention of the losses is in another."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from nst_helpers.losses import Convention, StyleTransferLoss
from nst_helpers.network.features import Features

__all__ = ["equivalent_factor"]


def equivalent_factor(
    net: Features,
    arguments: Mapping[str, Any],
    image: torch.Tensor,
    convention: Convention,
) -> float:
    """Return by what a ratio of the normalised convention is multiplied to weigh alike in another.

    With content layers of one shape, "paper" differs by one constant for content and one for style,
    so that the picture is the same. In "lecture" each style layer has a constant of its own, which
    depends on its size: there content and style are in the same balance at ``image``.

    Parameters
    ----------
    net : Features
    arguments : mapping
        Those of ``StyleTransferLoss``, content and style among them.
    image : torch.Tensor
        (1, 3, H, W), where to compare them; not the content, whose content loss is 0.
    convention : {"normalised", "paper", "lecture"}

    Raises
    ------
    ValueError
        If content or style loss is 0 there.
    """
    loss = StyleTransferLoss(net, **{**arguments, "alpha": 1.0, "beta": 1.0})
    balance = []
    both: tuple[Convention, ...] = ("normalised", convention)
    for each in both:  # the targets are the same
        loss.convention = each
        with torch.no_grad():
            terms = loss(image.to(net.device))
        balance.append((terms.content / terms.style).item())
    factor = balance[0] / balance[1] if balance[1] else math.nan
    if not 0 < factor < math.inf:
        raise ValueError(f"no ratio of convention={convention!r} weighs like a normalised one here")
    return factor
