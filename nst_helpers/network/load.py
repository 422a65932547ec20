"""A network that is ready to look at images, from wherever its weights come."""

from __future__ import annotations

import math
import os
from typing import Literal, get_args

import torch

from nst_helpers import _validate
from nst_helpers.engine.devices import Precision, best_device, best_precision
from nst_helpers.network.features import Features, Pooling
from nst_helpers.network.normalisation import normalise_on_samples
from nst_helpers.network.weights import load_weights

__all__ = ["load_network"]


def load_network(
    source: str | os.PathLike[str] = "auto",
    *,
    pooling: Pooling = "avg",
    normalise: bool = True,
    device: torch.device | str | None = None,
    precision: Literal["auto"] | Precision = "auto",
) -> Features:
    """Return a network that is ready to look at images.

    Parameters
    ----------
    source : str or path
        ``"auto"``, ``"bundled"``, ``"vgg19"``, ``"random"`` or a file: see ``load_weights``. Only
        ``"vgg19"`` ever downloads (548 MB).
    pooling : {"avg", "max"}
        See ``Features``.
    normalise : bool
        Scale the filters so that each one's mean activation over the sample pictures is 1 (Gatys
        et al. 2016, section 2). Only then do alpha, beta and the layer weights mean the same in
        every layer and every network. The bundled network's file is normalised already.
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
    device = device or best_device()
    weights, metadata = load_weights(source)
    scale = _content_scale(metadata)
    net = Features(weights, pooling, metadata["name"], scale, metadata.get("source", "")).to(device)
    if normalise and not metadata.get("normalised", "").startswith(pooling):
        net = normalise_on_samples(net)
    return net.to_precision(best_precision(device) if precision == "auto" else precision)


def _content_scale(metadata: dict[str, str]) -> float:
    value = metadata.get("content_scale", "1")
    try:
        scale = float(value)
    except ValueError:
        scale = math.nan
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"{metadata['name']}: content_scale must be a number > 0; got {value!r}")
    return scale
