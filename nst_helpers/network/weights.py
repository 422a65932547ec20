"""The network's weights: the bundled file, torchvision's VGG-19, random ones, or a file of yours.

Whatever the source, the result is a state dict ``{"conv1_1.weight": ..., "conv1_1.bias": ...}``
in the order of the network, for RGB colours as torchvision's networks take them. This is the only
module that knows safetensors, and torchvision, which it imports only to learn VGG-19's address.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import safetensors
import torch

from nst_helpers import _validate
from nst_helpers.download import fetch_file
from nst_helpers.files.sources import as_path
from nst_helpers.language import N_, _
from nst_helpers.network.input_formats import (
    INPUT_FORMATS,
    InputFormat,
    fold_colours,
    is_normalised_vgg19,
    recognise,
    to_torchvision,
)
from nst_helpers.network.vgg_layers import LAYOUT, VGG19_CHANNELS, find_vgg, layer_names
from nst_helpers.network.weight_files import BROKEN, kind_of_file, read_pickled

__all__ = ["load_weights"]

BUNDLED = Path(__file__).with_name("bundled") / "bundled.safetensors"
VGG19_SHA256 = "dcbb9e9d"  # its first digits, which torchvision writes into the file's name
VGG19_FILE = f"vgg19-{VGG19_SHA256}.pth"  # VGG19_Weights.IMAGENET1K_V1
AUTHORS = "by its authors, max pooling"  # the metadata "normalised" of Gatys et al.'s VGG-19

CHOSE_BUNDLED = N_("network: bundled (VGG-19 itself, a 548 MB download: load_network('vgg19'))")
CHOSE_VGG19 = N_("network: VGG-19, found on this machine (the small one: load_network('bundled'))")
KINDS = ("weight", "bias")

StateDict: TypeAlias = dict[str, torch.Tensor]


def load_weights(
    source: str | os.PathLike[str] = "auto",
    *,
    input_format: Literal["auto"] | InputFormat = "auto",
) -> tuple[StateDict, dict[str, str]]:
    """Return a network's weights by name, and what is known about them.

    Parameters
    ----------
    source : str or path
        ``"bundled"``: the small network that comes with the package. ``"vgg19"``: torchvision's
        VGG-19, downloaded (548 MB) if it is not on this machine yet. ``"random"``: VGG-19's shape
        with seeded random numbers, for tests and timing. A path to a file of weights, ``.pth`` or
        ``.safetensors``, with torchvision's keys or ``convB_I`` keys, alone or inside a checkpoint
        or a larger model; batch normalisation and a 1 x 1 convolution before the first are folded
        in. ``"auto"``: VGG-19 if it is already on this machine and can be read, else the bundled
        network; prints one line that says which.
    input_format : {"auto", "torchvision", "caffe", "rgb255", "bgr", "rgb"}
        What the network in a file takes: RGB of ImageNet's mean and deviation; Caffe's BGR of
        0..255, or the same in RGB, the mean subtracted; torchvision's, in BGR; RGB of 0..1 as it
        is. What comes back takes torchvision's. "auto" recognises Caffe's by the weights' size
        against the biases' and by the authors' own weights, and prints a line if it converts.

    Returns
    -------
    weights : dict of str to torch.Tensor
        ``convB_I.weight`` (out, in, 3, 3) and ``convB_I.bias`` (out,), float32, on the CPU.
    metadata : dict of str to str
        What the file says about itself, and two entries of ours: ``name``, for people, and
        ``source``, which loads the same weights again: ``"bundled"``, ``"vgg19"``, ``"random"``
        or the path as given. ``"auto"`` resolves to one of the first two. ``normalised`` says how,
        if each filter's mean activation is 1 already.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is broken or does not hold one VGG; it says what it is instead.
    ConnectionError
        If VGG-19 must be downloaded and there is no internet.
    ImportError
        If VGG-19 must be downloaded and torchvision does not work beside the installed torch.
    """
    _validate.one_of("input_format", input_format, ("auto", *get_args(InputFormat)))
    what = "a name such as 'bundled' or 'vgg19', or the path of a network's file"
    _validate.instance("source", source, (str, os.PathLike), what)
    source = os.fspath(source)
    if source in ("auto", "bundled", "vgg19", "random"):
        if input_format not in ("auto", "torchvision"):
            raise ValueError(f"input_format is for files; {source!r} takes torchvision's")
        return _load_auto() if source == "auto" else _load_named(source)
    path = as_path(source, "source") if source else Path()
    try:
        is_file = path.is_file()
    except (OSError, ValueError) as error:  # a name that no system allows
        raise _validate.wrong("source", what, source) from error
    if not is_file:
        named = str(path) if source.startswith("~") else source
        raise FileNotFoundError(
            f"there is no network {named!r}: give 'auto', 'bundled', 'vgg19', 'random', or the "
            "path of a .pth or .safetensors file"
        )
    weights, metadata = _read(path, input_format)
    return weights, {**metadata, "name": path.name, "source": source}


def _load_named(source: str) -> tuple[StateDict, dict[str, str]]:
    """Return the weights "bundled", "vgg19" or "random", and what is known about them."""
    if source == "random":
        return _random_weights(), {"name": "random network", "source": source}
    if source == "bundled":
        path, name = BUNDLED, "bundled network"
    else:
        path, name = _vgg19_path(), "VGG-19"
        if not path.is_file():
            _download_vgg19(path)
    weights, metadata = _read(path, "torchvision")
    return weights, {**metadata, "name": name, "source": source}


def _load_auto() -> tuple[StateDict, dict[str, str]]:
    """Choose a source, and print one line that says which and names the other."""
    path = _vgg19_path()
    if not path.is_file():
        print(_(CHOSE_BUNDLED))
        return _load_named("bundled")
    try:
        loaded = _load_named("vgg19")
    except (ValueError, OSError) as error:
        problem = str(error).removeprefix(f"{path} ")
        if isinstance(error, OSError):
            problem = f"cannot be opened ({error.strerror})"
        print(
            f"network: bundled, for VGG-19's file {re.split('[:;] ', problem)[0]}: delete {path}, "
            "and load_network('vgg19') fetches it again"
        )
        return _load_named("bundled")
    print(_(CHOSE_VGG19))
    return loaded


def _vgg19_path() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / VGG19_FILE


def _download_vgg19(path: Path) -> None:
    try:
        from torchvision.models import VGG19_Weights
    except (ImportError, RuntimeError, OSError) as error:
        # A CPU-only torch beside the ordinary torchvision fails with RuntimeError
        # "operator torchvision::nms does not exist" (pytorch/vision#9085).
        raise ImportError(
            f"torchvision does not work beside torch {torch.__version__} ({error}). Install a "
            "matching pair from the same place: pip install --force-reinstall torch torchvision. "
            "Until then, load_network('bundled') needs neither torchvision nor the internet."
        ) from error
    url, offline = VGG19_Weights.IMAGENET1K_V1.url, "load_network('bundled') works offline."
    fetch_file(url, path, VGG19_SHA256, what="VGG-19", instead=offline)


def _read(path: Path, input_format: str) -> tuple[StateDict, dict[str, str]]:
    """Return the VGG in a file, in torchvision's format, and its metadata.

    Prints a line if anything but names was changed.
    """
    kind = kind_of_file(path)
    tensors, metadata = (
        _read_safetensors(path) if kind == "safetensors" else (read_pickled(path, kind), {})
    )
    try:
        vgg = find_vgg(tensors)
        (first, (weight, bias)), *_ = vgg.convolutions.items()
        notices = ["batch normalisation folded in"] if vgg.batch_norm else []
        its_format: str | None = None if input_format == "auto" else input_format
        if vgg.colours is not None:
            weight, bias, by_colours = fold_colours(weight, bias, vgg.colours, its_format is None)
            its_format = its_format or by_colours
            notices.append("the 1 x 1 convolution before the first folded in")
    except ValueError as error:
        raise ValueError(f"{path} {error}") from None
    if its_format is None:
        # Batch normalisation is younger than Caffe's VGGs, and its biases are larger.
        its_format, certain = (
            ("torchvision", True) if vgg.batch_norm else recognise(weight, bias, _bundled_first())
        )
        if not certain:
            notices.append("if pictures stay grey noise, try input_format='caffe'")
    if its_format != "torchvision":
        weight, bias = to_torchvision(weight, bias, its_format)
        notices.append(f"converted from {INPUT_FORMATS[its_format].words}")
    if notices:
        print(f"network: {path.name}: {'; '.join(notices)}")
    if is_normalised_vgg19(weight):
        metadata = {**metadata, "normalised": AUTHORS}
    convolutions = {**vgg.convolutions, first: (weight, bias)}
    state = {f"{n}.{k}": x for n, c in convolutions.items() for k, x in zip(KINDS, c, strict=True)}
    return state, metadata


def _read_safetensors(path: Path) -> tuple[StateDict, dict[str, str]]:
    """Return every tensor in the file by its key, mapped rather than read, and its metadata."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except Exception:  # whatever the library raises
        raise ValueError(f"{path} {BROKEN}") from None


def _bundled_first() -> tuple[torch.Tensor, torch.Tensor]:
    """Return weight and bias of the bundled network's first convolution."""
    with safetensors.safe_open(BUNDLED, framework="pt") as file:
        return file.get_tensor("conv1_1.weight").float(), file.get_tensor("conv1_1.bias").float()


def _random_weights(seed: int = 0) -> StateDict:
    generator = torch.Generator().manual_seed(seed)
    widths = [width for width, n in zip(VGG19_CHANNELS, LAYOUT, strict=True) for _ in range(n)]
    weights, channels = {}, 3
    for name, out in zip(layer_names(), widths, strict=True):
        he = (2 / (9 * channels)) ** 0.5  # He et al. 2015: keeps the activations' size
        weights[f"{name}.weight"] = torch.randn(out, channels, 3, 3, generator=generator) * he
        weights[f"{name}.bias"] = torch.zeros(out)
        channels = out
    return weights
