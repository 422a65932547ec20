"""The clinic of notebook 04: six images, each spoilt by one mistake, to be matched with its cause.

All start from the same white noise, and each differs from a sound transfer in one thing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch

from nst_helpers import _validate
from nst_helpers.images import noise_like
from nst_helpers.language import N_, _
from nst_helpers.lesson.verdict import RIGHT, not_yet
from nst_helpers.losses import CONTENT_LAYERS, LossTerms, StyleTransferLoss
from nst_helpers.network.features import IMAGENET_MEAN, IMAGENET_STD, Features
from nst_helpers.optimization import optimize

__all__ = ["CAUSES", "check_diagnosis", "spoilt_images"]

ALPHA = 1e-1  # of a sound transfer
RATE = 1.0  # of Adam, as CAUSES say: the whole range of an image's values in one step
CAUSES = {  # marked for translation, as is what follows
    "not normalised": N_(
        "photograph and painting were normalised, the picture that is painted is not"
    ),
    "batch mixed": N_("two paintings were in the batch, and one Gram matrix went across both"),
    "wrong convention": N_("alpha was meant for losses that are sums, and is used with means"),
    "rate too high": N_("Adam's learning rate is 1 instead of 0.02"),
    "low content": N_("the content comes from relu1_1 instead of relu4_2"),
    "one style layer": N_("the style comes from relu1_1 only"),
}
ANSWERS = {
    "A": "low content",
    "B": "rate too high",
    "C": "batch mixed",
    "D": "not normalised",
    "E": "one style layer",
    "F": "wrong convention",
}
# What a cause would have done, for people who named it for another image.
LOOK = {
    "not normalised": N_("contrast and colours would be far too strong, with areas of pure black"),
    "batch mixed": N_("there would be shapes or colours that are not in this painting"),
    "wrong convention": N_(
        "one of the two losses would count for nothing: nothing of the photograph"
    ),
    "rate too high": N_("no loss would have fallen: noise, and neither photograph nor painting"),
    "low content": N_(
        "relu1_1 knows nearly every pixel: the photograph would be there hair by hair"
    ),
    "one style layer": N_("relu1_1 sees 3 x 3 pixels: the painting's colours, and not one stroke"),
}


def spoilt_images(
    net: Features,
    content: torch.Tensor,
    style: torch.Tensor,
    other: torch.Tensor,
    steps: int = 60,
    seed: int = 0,
) -> dict[str, torch.Tensor]:
    """Return six images, "A" to "F", each made with one of the mistakes in ``CAUSES``.

    Parameters
    ----------
    net : Features
    content, style : torch.Tensor
        (1, 3, H, W) and (1, 3, H', W').
    other : torch.Tensor
        A second painting, which comes into the batch by mistake, (1, 3, H'', W'').
    steps : int
        Evaluations of the loss for each image.
    seed : int
        Of the white noise.

    Returns
    -------
    dict of str to torch.Tensor
        (1, 3, H, W) in [0, 1] each.
    """
    steps = _validate.positive_int("steps", steps)
    noise = noise_like(content, seed=seed).to(net.device)
    loss = partial(StyleTransferLoss, net, content, alpha=ALPHA)
    with torch.no_grad():
        values = sum(maps[0].numel() for maps in net(content, CONTENT_LAYERS).values())

    def painted(
        spoilt: Callable[[torch.Tensor], LossTerms], range_weight: float = 3.0
    ) -> torch.Tensor:
        return optimize(spoilt, noise, steps=steps, range_weight=range_weight).image

    images = {
        "not normalised": painted(_Unnormalised(loss(style)), range_weight=0),
        # Across a batch of two, a Gram matrix per position is the mean of both.
        "batch mixed": painted(loss([style, other])),
        # A sum of squares is so many times the mean, and the constants differ by 2 (notebook 03).
        "wrong convention": painted(loss(style, alpha=ALPHA / (2 * values))),
        "rate too high": _adam(loss(style), noise, steps),
        "low content": painted(loss(style, content_layers=["relu1_1"])),
        "one style layer": painted(loss(style, style_layers=["relu1_1"])),
    }
    return {letter: images[cause] for letter, cause in ANSWERS.items()}


def check_diagnosis(diagnosis: Mapping[str, str]) -> str:
    """Return in a line for each image whether its cause is right, and else what to look at.

    Parameters
    ----------
    diagnosis : mapping of str to str
        The name of a cause, as in ``CAUSES``, for each letter; "" where there is none yet.

    Returns
    -------
    str
        It never raises, whatever the mapping is.
    """
    if not isinstance(diagnosis, Mapping):
        kind = type(diagnosis).__name__
        return not_yet(N_("a dict is needed, a cause for each letter; got {}"), kind)
    tried = {letter: diagnosis.get(letter, "") for letter in ANSWERS}
    if not any(tried.values()):
        return _("Not tried yet: write a cause behind each letter, and run this cell again.")
    lines = [f"{letter}: {_judge(letter, cause)}" for letter, cause in tried.items()]
    right = sum(tried[letter] == cause for letter, cause in ANSWERS.items())
    return "\n".join([*lines, _("{right} of {all} right").format(right=right, all=len(ANSWERS))])


def _judge(letter: str, cause: object) -> str:
    if not cause:
        return _("not tried yet")
    if not isinstance(cause, str) or cause not in CAUSES:
        hint = N_("{!r} is not one of {}")
        return not_yet(hint, cause, ", ".join(map(repr, CAUSES)))
    if cause == ANSWERS[letter]:
        return _(RIGHT).format(_(CAUSES[cause]))
    return not_yet(N_("if that were the cause, {}"), _(LOOK[cause]))


class _Unnormalised:
    """A loss that sees values as they are: what the network's own normalisation does is undone."""

    def __init__(self, loss: StyleTransferLoss) -> None:
        self.loss = loss
        self.mean, self.std = (
            torch.tensor(numbers, device=loss.device).view(1, 3, 1, 1)
            for numbers in (IMAGENET_MEAN, IMAGENET_STD)
        )

    def __call__(self, image: torch.Tensor) -> LossTerms:
        terms: LossTerms = self.loss(image * self.std + self.mean)
        return terms


def _adam(loss: StyleTransferLoss, start: torch.Tensor, steps: int) -> torch.Tensor:
    """Return the last image, where ``optimize`` would return the best one."""
    image = start.clone().requires_grad_()
    adam = torch.optim.Adam([image], lr=RATE)
    for _step in range(steps):
        adam.zero_grad()
        loss(image).total.sum().backward()
        adam.step()
    return image.detach().clamp(0, 1)
