"""The capstone of notebook 04: a whole style transfer, judged by the picture that it makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from nst_helpers.images import noise_like, resize_image
from nst_helpers.language import N_, _
from nst_helpers.lesson.verdict import NOT_YET, RIGHT, attempt, name_of, not_yet
from nst_helpers.losses import LossTerms, StyleTransferLoss
from nst_helpers.network.features import Features

__all__ = ["check_transfer"]

SIZE = 96  # pixels of the shorter side: some seconds, whatever the pictures are
MOST_STYLE = 0.25  # of the photograph's own style loss
MOST_CONTENT = 0.8  # of the painting's own content loss: nearer to the photograph than that
NEARLY = 0.01  # of an image's range from black to white: less cannot be seen


def check_transfer(
    transfer: Callable[[Tensor, Tensor, Tensor], Tensor],
    net: Features,
    content: Tensor,
    style: Tensor,
) -> str:
    """Return in one line whether ``transfer`` paints the content image in the style of the other.

    Judged is the picture that it makes of white noise, at a small size. Its style loss must be less
    than a quarter of the photograph's, its content loss well below the painting's, and the three
    images that it is handed must be as they were.

    Parameters
    ----------
    transfer : callable
        Content, style and start, (1, 3, H, W) in [0, 1] each, to the image (1, 3, H, W).
    net : Features
        Whose feature maps it is judged by.
    content, style : torch.Tensor
        (1, 3, H, W) and (1, 3, H', W').
    """
    given = [_small(content), _small(style)]
    given.append(noise_like(given[0], seed=0).to(given[0].device))
    handed = [image.clone() for image in given]
    image, failure = attempt(transfer, handed)
    if failure:
        return failure
    if hint := _unfit(image, name_of(transfer), given[0]) or _changed(handed, given):
        return _(NOT_YET).format(hint)
    content, style, start = given
    image = cast(Tensor, image).detach().to(start)
    loss = StyleTransferLoss(net, content, style)
    painting = torch.nn.functional.interpolate(style, content.shape[2:], mode="bilinear")
    with torch.no_grad():
        terms = [loss(each) for each in (image, start, content, painting)]
    if (image - start).abs().max() < NEARLY:
        return not_yet(
            N_(
                "the image is still the start: is the tensor that you return the one that the "
                "optimiser has, and does the loop call backward() and step()?"
            )
        )
    return _judge(*terms)


def _small(image: Tensor) -> Tensor:
    small: Tensor = resize_image(image, SIZE / min(image.shape[2:])).clamp(0, 1)
    return small


def _unfit(image: object, name: str, content: Tensor) -> str:
    """Return what is wrong with an answer that is no image at all; "" for an image."""
    if not isinstance(image, Tensor):
        kind = type(image).__name__
        hint = _("{name} must return the image, a tensor; it returned {kind}")
        return hint.format(name=name, kind=kind)
    if image.shape != content.shape:
        hint = _("expected the start's shape {}; got {}")
        return hint.format(tuple(content.shape), tuple(image.shape))
    if not image.isfinite().all():
        return _("some pixels are not finite numbers: try a smaller learning rate")
    outside = max(-image.min().item(), image.max().item() - 1)
    if outside > NEARLY:
        hint = _("values are up to {:.2g} outside [0, 1]: clip what you return (not before)")
        return hint.format(outside)
    return ""


def _changed(handed: list[Tensor], given: list[Tensor]) -> str:
    """Return a hint if one of the images that were handed over was written into."""
    for name, now, before in zip(("content", "style", "start"), handed, given, strict=True):
        if now.requires_grad or not torch.equal(now.detach(), before):
            hint = _("{name} itself was changed: paint on a copy, {name}.clone().requires_grad_()")
            return hint.format(name=name)
    return ""


def _judge(image: LossTerms, start: LossTerms, photograph: LossTerms, painting: LossTerms) -> str:
    """Return the verdict on an image, from its two losses and those of what there was before."""
    if image.style >= start.style and image.content >= start.content:
        return not_yet(
            N_(
                "both losses are higher than at the start: is it zero_grad, backward, step, "
                "in this order, and the learning rate about 0.05?"
            )
        )
    share = (image.style / photograph.style).item()
    if share > MOST_STYLE:
        hint = N_(
            "the style loss is {:.0%} of the photograph's own, and should be less than a quarter: "
            "more steps, or a smaller alpha; are all five layers in the sum?"
        )
        return not_yet(hint, share)
    rest = (image.content / painting.content).item()
    if rest > MOST_CONTENT:
        hint = N_(
            "this is the painting's texture: the content loss is {:.0%} of the painting's own; "
            "a larger alpha, or is the content loss missing from the total?"
        )
        return not_yet(hint, rest)
    text = _(
        "the style loss is {:.0%} of the photograph's own, the content loss {:.0%} of the "
        "painting's own, and nothing that was handed over has changed."
    )
    return _(RIGHT).format(text.format(share, rest))
