"""What a network's first convolution takes, and how to make it take what ours do.

Two conventions are in use. Caffe's, which VGG was trained with: BGR, 0 to 255, the mean colour
subtracted; the authors' own ``vgg_conv.pth`` and all that was converted from their files has it.
Torchvision's, and ours: RGB, 0 to 1, ImageNet's mean subtracted, divided by its standard deviation.
A file does not say which it is, and the wrong one paints grey noise without a word.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch

from nst_helpers.network.features import IMAGENET_MEAN, IMAGENET_STD

__all__ = ["INPUT_FORMATS", "fold_colours", "is_normalised_vgg19", "recognise", "to_torchvision"]

InputFormat = Literal["torchvision", "caffe", "rgb255", "bgr", "rgb"]
CAFFE_MEAN = (123.68, 116.779, 103.939)  # red, green, blue


class Format(NamedTuple):
    """A network takes ``scale * colours - mean`` of colours 0 to 1, divided by ``std``.

    ``order`` says which channel each of its own is: (2, 1, 0) for blue, green, red. ``mean`` and
    ``std`` are red's, green's and blue's.
    """

    words: str
    order: tuple[int, int, int]
    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


ONES, ZEROS = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)
INPUT_FORMATS: dict[str, Format] = {
    "torchvision": Format("RGB, ImageNet's deviation 1", (0, 1, 2), 1, IMAGENET_MEAN, IMAGENET_STD),
    "caffe": Format("Caffe's BGR, 0..255", (2, 1, 0), 255, CAFFE_MEAN, ONES),
    "rgb255": Format("RGB, 0..255", (0, 1, 2), 255, CAFFE_MEAN, ONES),
    "bgr": Format("BGR, ImageNet's deviation 1", (2, 1, 0), 1, IMAGENET_MEAN, IMAGENET_STD),
    "rgb": Format("RGB, 0..1", (0, 1, 2), 1, ZEROS, ONES),
}

# The signs of VGG-19's conv1_1.weight (64, 3, 3, 3), as its authors trained it, in the order RGB:
# the same whatever each filter is scaled by. VGG-16's, which began from the same smaller network,
# are the same but for 5 %; with red and blue exchanged, 17 % differ.
VGG19_SIGNS = (
    "*lacc4Y&MZzT0^`9!A4qumAvm<kERRCzHtkfIr}HJ^!K5=r%hofCu~lB%4je;BY_u0ssGi2pbKi!`=Y@|G*qy2ZQPK@"
    "OS_p|M@%?PZDjWzz_fYPA3z-|KJ8oC6oUE00UvL-~a#r|9}7!VUXBtHX9bpWv~bT{vQvA_#Y1d00I9SZ^m4nM<ue^Z1O"
    "oAfwb6d$>j1z!(p&|J|CM+q|BC2WC8yi=`@;7cmtAO2ZQ9|X*eamOJtIHdTA$}vRN$u|KI}IY_<RZ00zThwAySo"
)
SAME = 0.9  # of the signs
VGG19_RATIO = 97.0  # ||weight|| / |bias| in torchvision's format, the median over the filters
VGG19_NORM = 3.49  # ||weight||, likewise, where the mean activation of each filter is 1
# Below the first, a network hardly tells black from white if it is in torchvision's format; no one
# would keep it. Torchvision's own have about 5, and random ones more; Caffe's VGGs about 2.
BLIND, DOUBTFUL = 1.0, 2.5


def recognise(
    weight: torch.Tensor,
    bias: torch.Tensor,
    known: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[InputFormat, bool]:
    """Return the format that a first convolution takes, and whether that is beyond doubt.

    VGG-19's and VGG-16's authors' own are known by the signs of their weights, which no scaling of
    filters changes, and so is their order; of others, the weights' size against the biases' tells
    the scale: for colours 57 times as large, weights are 57 times as small.

    Parameters
    ----------
    weight, bias : torch.Tensor
        (N, 3, 3, 3) and (N,).
    known : (torch.Tensor, torch.Tensor), optional
        Weight and bias of one more network that is known, in torchvision's format.
    """
    ratio = _ratio(weight, bias)
    for signs, usual_ratio in _known(known):
        if signs.shape != weight.shape:
            continue
        same, exchanged = (_share_of(signs, w) for w in (weight, weight.flip(1)))
        if max(same, exchanged) > SAME:
            small = ratio < usual_ratio / 57**0.5
            return _name(small, exchanged > same), True
    if ratio < BLIND:
        return _name(True, not _red_comes_first(weight)), True
    return "torchvision", ratio > DOUBTFUL


def to_torchvision(
    weight: torch.Tensor, bias: torch.Tensor, name: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weight and bias that do with torchvision's format what these do with another.

    Exact for every position but those at the border: there Caffe pads with its mean colour and we
    with ImageNet's, half a grey level of 255 away.

    Parameters
    ----------
    weight, bias : torch.Tensor
        (N, 3, 3, 3) and (N,).
    name : str
        The format, one of ``INPUT_FORMATS``.
    """
    its, ours = INPUT_FORMATS[name], INPUT_FORMATS["torchvision"]
    # Colours c are ours as z = (c - mean) / std, and its as (scale c - mean') / std'; so its are
    # gain * z + shift.
    mean, std, its_mean, its_std = (
        torch.tensor(values, dtype=torch.float64)
        for values in (ours.mean, ours.std, its.mean, its.std)
    )
    gain = its.scale * std / its_std
    shift = (its.scale * mean - its_mean) / its_std
    in_rgb = weight.double()[:, list(its.order)]  # each order is its own inverse
    folded_bias = bias.double() + in_rgb.sum((2, 3)) @ shift
    return (in_rgb * gain.view(1, 3, 1, 1)).float(), folded_bias.float()


def fold_colours(
    weight: torch.Tensor,
    bias: torch.Tensor,
    colours: tuple[torch.Tensor, torch.Tensor],
    tell: bool = True,
) -> tuple[torch.Tensor, torch.Tensor, InputFormat | None]:
    """Return a first convolution with the 1 x 1 convolution before it folded in, and its format.

    AdaIN's ``vgg_normalised.pth`` begins so, to turn RGB 0..1 into Caffe's format. Exact for every
    position but those at the border: there that network mirrors its input, and ours pads with what
    its 1 x 1 convolution makes of the mean colour, which is 0 within half a grey level.

    Parameters
    ----------
    weight, bias : torch.Tensor
        (N, 3, 3, 3) and (N,).
    colours : (torch.Tensor, torch.Tensor)
        Weight (3, 3, 1, 1) and bias (3,).
    tell : bool
        Look at what the 1 x 1 convolution takes.

    Returns
    -------
    weight, bias : torch.Tensor
    format : str or None
        "rgb" if the 1 x 1 convolution centres colours 0..1; None if it only mixes them, or was not
        looked at.

    Raises
    ------
    ValueError
        If it is for colours of another scale.
    """
    matrix, offset = (values.double().squeeze() for values in colours)
    folded = torch.einsum("nchw,ck->nkhw", weight.double(), matrix)
    folded_bias = bias.double() + weight.double().sum((2, 3)) @ offset
    mean, std = (
        torch.tensor(values, dtype=torch.float64) for values in (IMAGENET_MEAN, IMAGENET_STD)
    )
    # Where the mean colour lands, in standard deviations of what comes out.
    off_centre = (matrix @ mean + offset).abs() / (matrix.abs() @ std).clamp_min(1e-12)
    if not tell or offset.abs().max() == 0:
        return folded.float(), folded_bias.float(), None
    if off_centre.max() > 0.5:
        raise ValueError(
            "begins with a 1 x 1 convolution that takes colours of another scale than 0..1; say "
            f"which by input_format: {', '.join(INPUT_FORMATS)}"
        )
    return folded.float(), folded_bias.float(), "rgb"


def is_normalised_vgg19(weight: torch.Tensor) -> bool:
    """Whether a first convolution is VGG-19's as Gatys et al. scaled it for their papers.

    Parameters
    ----------
    weight : torch.Tensor
        (N, 3, 3, 3), in torchvision's format. The mean activation of each filter is 1 in their
        network; in the one it was made from, 25.
    """
    signs = _vgg19_signs()
    if signs.shape != weight.shape or _share_of(signs, weight) < SAME:
        return False
    return bool(0.5 < weight.flatten(1).norm(dim=1).median() / VGG19_NORM < 2)


def _known(
    known: tuple[torch.Tensor, torch.Tensor] | None,
) -> Iterator[tuple[torch.Tensor, float]]:
    yield _vgg19_signs(), VGG19_RATIO
    if known is not None:
        yield known[0] > 0, _ratio(*known)


def _vgg19_signs() -> torch.Tensor:
    packed = torch.tensor(list(base64.b85decode(VGG19_SIGNS)))
    return (packed.unsqueeze(1) >> torch.arange(7, -1, -1) & 1).bool().view(64, 3, 3, 3)


def _share_of(signs: torch.Tensor, weight: torch.Tensor) -> float:
    return ((weight > 0) == signs).float().mean().item()


def _ratio(weight: torch.Tensor, bias: torch.Tensor) -> float:
    """Return ||weight|| / |bias|, the median over the filters: infinity if biases are 0."""
    norms = weight.flatten(1).norm(dim=1)
    return (norms / bias.abs())[norms > 0].nanmedian().item() if (norms > 0).any() else math.inf


def _name(small: bool, exchanged: bool) -> InputFormat:
    if small:
        return "caffe" if exchanged else "rgb255"
    return "bgr" if exchanged else "torchvision"


def _red_comes_first(weight: torch.Tensor) -> bool:
    """Whether the first channel is rather red: photographs teach networks to look less at blue.

    It is blue where that cannot be told, for networks of 0..255 are mostly Caffe's.
    """
    first, _, last = weight.transpose(0, 1).flatten(2)  # (N, 9) each
    alike = torch.nn.functional.cosine_similarity(first, last).mean()  # 0 if it learnt nothing
    return bool(alike > 0.3 and first.norm() > 1.05 * last.norm())
