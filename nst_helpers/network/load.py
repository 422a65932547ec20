"""A network that is ready to look at images, from wherever its weights come."""

from __future__ import annotations

import math
import os
from typing import Literal, get_args

import torch

from nst_helpers import _validate
from nst_helpers.engine.devices import (
    Precision,
    best_device,
    best_precision,
    own_modes,
    validate_device,
)
from nst_helpers.language import _
from nst_helpers.network.features import Features, Pooling
from nst_helpers.network.input_formats import InputFormat
from nst_helpers.network.normalisation import normalise_on_samples
from nst_helpers.network.weights import AUTHORS, load_weights

__all__ = ["load_network"]

LEAST_SCALE = 1e-6  # of the content loss; any network's layers differ by less


@own_modes()
def load_network(
    source: str | os.PathLike[str] = "auto",
    *,
    pooling: Pooling = "avg",
    normalise: bool = True,
    input_format: Literal["auto"] | InputFormat = "auto",
    device: torch.device | str | None = None,
    precision: Literal["auto"] | Precision = "auto",
) -> Features:
    """Return a network that is ready to look at images.

    Parameters
    ----------
    source : str or path
        ``"auto"``, ``"bundled"``, ``"vgg19"``, ``"random"`` or a file with a VGG in it, as people
        have them: see ``load_weights``. Only ``"vgg19"`` ever downloads (548 MB).
    pooling : {"avg", "max"}
        See ``Features``.
    normalise : bool
        Scale the filters so that each one's mean activation over the sample pictures is 1 (Gatys
        et al. 2016, section 2). Only then do alpha, beta and the layer weights mean the same in
        every layer and every network. The bundled network's file is normalised already, and so is
        the VGG-19 that the papers' authors published: it is recognised and left as it is, so that
        it stays the papers' own. ``normalise_activations`` scales any network anew.
    input_format : {"auto", "torchvision", "caffe", "rgb255", "bgr", "rgb"}
        What the network in a file takes: see ``load_weights``. "auto" recognises Caffe's BGR of
        0..255 and converts it.
    device : torch.device or str, optional
        Where to put it; the fastest device by default.
    precision : {"auto", "float32", "bfloat16"}
        Dtype of its arithmetic; "auto" is the fastest here that does not change the picture, see
        ``nst_helpers.engine.devices.best_precision``.

    Returns
    -------
    Features

    Raises
    ------
    FileNotFoundError, ValueError, ConnectionError, ImportError
        As ``load_weights``, or if an argument is wrong.
    """
    _validate.one_of("pooling", pooling, get_args(Pooling))
    _validate.one_of("precision", precision, ("auto", *get_args(Precision)))
    _validate.flag("normalise", normalise)
    device = best_device() if device is None else validate_device("device", device)
    weights, metadata = load_weights(source, input_format=input_format)
    scale = _content_scale(metadata)
    net = Features(weights, pooling, metadata["name"], scale, metadata.get("source", "")).to(device)
    done = metadata.get("normalised", "")
    if normalise and done == AUTHORS:
        print(_("network: {}: normalised by its authors, and left as it is").format(net.name))
    elif normalise and not done.startswith(pooling):
        net = normalise_on_samples(net)
    return net.to_precision(best_precision(device) if precision == "auto" else precision)


def _content_scale(metadata: dict[str, str]) -> float:
    value = metadata.get("content_scale", "1")
    try:
        scale = float(value)
    except ValueError:
        scale = math.nan
    if not LEAST_SCALE <= scale <= 1 / LEAST_SCALE:
        raise ValueError(
            f"{metadata['name']}: content_scale must be a number from {LEAST_SCALE:g} to "
            f"{1 / LEAST_SCALE:g}; got {value!r}"
        )
    return scale
