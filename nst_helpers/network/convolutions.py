"""Convolutions: one out of a file, looked at and only then copied; those of a network checked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import torch

from nst_helpers import _validate

__all__ = ["Layer", "convolution", "validate_convolutions"]

BATCH_NORM_EPS = 1e-5  # torch's and everyone's; a file does not say it
MOST_NUMBERS = 80_000_000  # of one layer: four whole VGG-19s, so a mistake

Convolution: TypeAlias = tuple[torch.Tensor, torch.Tensor]


class Layer(NamedTuple):
    """What a file has of one layer.

    Attributes
    ----------
    key : str
        What the keys of its tensors have in common, such as ``"features.0"``.
    tensors : dict of str to torch.Tensor
        By the rest of their keys: ``"weight"``, ``"bias"``, ``"running_mean"``, ``"running_var"``.
    """

    key: str
    tensors: dict[str, torch.Tensor]


def convolution(
    name: str, layer: Layer, channels: int, *, norm: Layer | None = None, kernel: int = 3
) -> Convolution:
    """Return weight (out, channels, kernel, kernel) and bias (out,): float32 copies on the CPU.

    Parameters
    ----------
    name : str
        What to call it in messages.
    layer : Layer
    channels : int
        That it must take.
    norm : Layer, optional
        Batch normalisation that follows; it is folded in, exactly as it computes in eval mode.
    kernel : int
        The sides it must have.

    Raises
    ------
    ValueError
        If it has other shapes, or numbers that are not finite or not plain ones.
    """
    name = name if name in layer.key else f"{name} ({layer.key!r})"
    weight = layer.tensors.get("weight", torch.empty(0))
    out = weight.shape[0] if weight.dim() else 0
    # Batch normalisation has a bias of its own.
    bias = layer.tensors.get("bias", torch.zeros(out if norm is not None else 0))
    shapes = (out, channels, kernel, kernel), (out,)
    if out == 0 or (tuple(weight.shape), tuple(bias.shape)) != shapes:
        got = " and ".join(
            f"a {leaf} of shape {tuple(layer.tensors[leaf].shape)}"
            if leaf in layer.tensors
            else f"no {leaf}"
            for leaf in ("weight", "bias")
        )
        raise ValueError(f"{name} has {got}; expected {shapes[0]} and {shapes[1]}")
    if norm is None:
        return _numbers(weight, name), _numbers(bias, name)
    # In eval mode it is (x - mean) / sqrt(var + eps) * gamma + beta: one affine map per channel.
    values = {leaf: _numbers(tensor, norm.key).double() for leaf, tensor in norm.tensors.items()}
    if any(value.shape != (out,) for value in values.values()) or "running_mean" not in values:
        raise ValueError(f"{name} is followed by {norm.key!r}, which does not fit it")
    scale = values.get("weight", torch.ones(out)) / (values["running_var"] + BATCH_NORM_EPS).sqrt()
    folded = _numbers(weight, name).double() * scale.view(-1, 1, 1, 1)
    shift = (_numbers(bias, name).double() - values["running_mean"]) * scale
    folded_bias = shift + values.get("bias", torch.zeros(out))
    if not (folded.isfinite().all() and folded_bias.isfinite().all()):
        raise ValueError(f"{norm.key!r} has a variance below 0")
    return folded.float(), folded_bias.float()


def validate_convolutions(name: str, weights: Any) -> dict[str, torch.Tensor]:
    """Return ``weights`` if they are those of 3 x 3 convolutions, each of which fits the next.

    Parameters
    ----------
    name : str
        What to call them in messages.
    weights : mapping of str to torch.Tensor

    Raises
    ------
    ValueError
        If they are not.
    """
    what = "a mapping of convB_I.weight (out, in, 3, 3) and convB_I.bias (out,) to tensors"
    _validate.instance(name, weights, Mapping, what)
    if not weights:
        raise _validate.wrong(name, what, weights)
    channels = 3
    for key in weights:
        match = isinstance(key, str) and re.fullmatch(r"(conv\d_\d+)\.(weight|bias)", key)
        if not match:
            raise ValueError(f"{name} must be {what}; got the key {_validate.shown(key)}")
        kernel, bias = (weights.get(f"{match[1]}.{kind}") for kind in ("weight", "bias"))
        _validate.tensor(f"{name}: {match[1]}.weight", kernel, "a tensor (out, in, 3, 3)", "OI33")
        _validate.tensor(f"{name}: {match[1]}.bias", bias, "a tensor (out,)", "O")
        if match[2] == "weight":
            if kernel.shape[1] != channels or bias.shape[0] != kernel.shape[0]:
                raise ValueError(
                    f"{name}: {match[1]} must take {channels} channels and have a bias for each "
                    f"filter; got {tuple(kernel.shape)} and {tuple(bias.shape)}"
                )
            channels = kernel.shape[0]
    return dict(weights)


def _numbers(tensor: torch.Tensor, name: str) -> torch.Tensor:
    """Return a float32 copy, after a look at what it is: a small file may claim a huge tensor."""
    kind = next(_faults(tensor), None)
    if kind:
        raise ValueError(f"{name} has weights {kind}")
    values = tensor.detach().to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    if not values.isfinite().all():
        raise ValueError(f"{name} has weights that are not finite")
    return values


def _faults(tensor: torch.Tensor) -> Iterator[str]:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
        yield "that are not plain (sparse, quantised or nested)"
    elif tensor.device.type != "cpu":
        yield f"without values, on the device {tensor.device.type!r}"
    elif not tensor.is_floating_point():
        yield f"of type {str(tensor.dtype).removeprefix('torch.')}; expected floating-point numbers"
    elif tensor.numel() > MOST_NUMBERS:
        yield f"of {tensor.numel()} numbers, more than all of VGG-19 four times"
    elif tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        yield "that repeat each other (strides of 0)"
