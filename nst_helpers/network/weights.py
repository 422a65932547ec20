"""The network's weights: the bundled file, torchvision's VGG-19, random ones, or a file of yours.

Whatever the source, the result is a state dict ``{"conv1_1.weight": ..., "conv1_1.bias": ...}``
in the order of the network. This is the only module that knows torchvision, which it imports only
to learn VGG-19's address.
"""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path
from typing import TypeAlias

import safetensors
import torch

from nst_helpers.download import fetch_file

__all__ = ["layer_names", "load_weights"]

BUNDLED = Path(__file__).with_name("bundled") / "bundled.safetensors"
VGG19_SHA256 = "dcbb9e9d"  # its first digits, which torchvision writes into the file's name
VGG19_FILE = f"vgg19-{VGG19_SHA256}.pth"  # VGG19_Weights.IMAGENET1K_V1
LAYOUT = (2, 2, 4, 4, 4)  # VGG-19's convolutions in each block; pooling after each block
VGG19_CHANNELS = (64, 128, 256, 512, 512)  # of every convolution of a block

# The key of a convolution's weight in a file: ours, and torchvision's, whole or of .features only.
NAMED_KEY = re.compile(r"conv(\d+)_(\d+)\.weight")
INDEXED_KEY = re.compile(r"(?:features\.)?(\d+)\.weight")

StateDict: TypeAlias = dict[str, torch.Tensor]


def load_weights(source: str | os.PathLike[str] = "auto") -> tuple[StateDict, dict[str, str]]:
    """Return a network's weights by name, and what is known about them.

    Parameters
    ----------
    source : str or path
        ``"bundled"``: the small network that comes with the package. ``"vgg19"``: torchvision's
        VGG-19, downloaded (548 MB) if it is not on this machine yet. ``"random"``: VGG-19's shape
        with seeded random numbers, for tests and timing. A path to a state dict, ``.pth`` or
        ``.safetensors``, with torchvision's keys or ``convB_I`` keys. ``"auto"``: VGG-19 if it is
        already on this machine, else the bundled network; prints one line that says which.

    Returns
    -------
    weights : dict of str to torch.Tensor
        ``convB_I.weight`` (out, in, 3, 3) and ``convB_I.bias`` (out,), float32, on the CPU.
    metadata : dict of str to str
        What the file says about itself, and two entries of ours: ``name``, for people, and
        ``source``, which loads the same weights again: ``"bundled"``, ``"vgg19"``, ``"random"``
        or the path as given. ``"auto"`` resolves to one of the first two.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is broken or does not hold VGG-like convolutions.
    ConnectionError
        If VGG-19 must be downloaded and there is no internet.
    ImportError
        If VGG-19 must be downloaded and torchvision does not work beside the installed torch.
    """
    if source == "auto":
        source = _resolve_auto()
    if source == "random":
        return _random_weights(), {"name": "random network", "source": "random"}
    if source == "bundled":
        path, name = BUNDLED, "bundled network"
    elif source == "vgg19":
        path, name = _vgg19_path(), "VGG-19"
        if not path.is_file():
            _download_vgg19(path)
    else:
        path, name = Path(source), Path(source).name
        if not path.is_file():
            raise FileNotFoundError(
                f"there is no network {str(source)!r}: give 'auto', 'bundled', 'vgg19', 'random', "
                "or the path of a .pth or .safetensors file"
            )
    state, metadata = _read_file(path)
    return _convolutions(state, path), {**metadata, "name": name, "source": os.fspath(source)}


def layer_names(count: int = sum(LAYOUT), layout: tuple[int, ...] = LAYOUT) -> list[str]:
    """Return the first ``count`` convolutions' names: ``["conv1_1", "conv1_2", "conv2_1", ...]``.

    The paper counts blocks from 1 and convolutions within a block from 1.

    Parameters
    ----------
    count : int
        How many; all sixteen of VGG-19 by default.
    layout : tuple of int
        Convolutions in each block.
    """
    names = [f"conv{b}_{i}" for b, n in enumerate(layout, 1) for i in range(1, n + 1)]
    return names[:count]


def _resolve_auto() -> str:
    """Choose a source, and print one line that says which and names the other."""
    if _vgg19_path().is_file():
        print("network: VGG-19, found on this machine (the small one: load_network('bundled'))")
        return "vgg19"
    print("network: bundled (VGG-19 itself, a 548 MB download: load_network('vgg19'))")
    return "bundled"


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


def _read_file(path: Path) -> tuple[object, dict[str, str]]:
    """Return what is in a file of weights, and its metadata. Runs no code that is in it."""
    try:
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, framework="pt") as file:
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                return state, dict(file.metadata() or {})
        return torch.load(path, map_location="cpu", weights_only=True), {}
    except Exception as error:  # a broken pickle may raise anything at all
        raise ValueError(
            f"{path} is not a readable file of weights ({error}); if it was a download, delete it "
            "and fetch it again"
        ) from error


def _convolutions(state: object, path: Path) -> StateDict:
    """Return the convolutions of ``state`` under ``convB_I`` names, float32, in network order."""
    if not (
        isinstance(state, dict)
        and all(isinstance(k, str) and torch.is_tensor(v) for k, v in state.items())
    ):
        raise ValueError(f"{path} holds no state dict (a dict of tensors by name)")
    keys = _named_keys(state) or _indexed_keys(state)
    if not keys:
        raise ValueError(
            f"{path} holds no VGG weights: expected keys like 'conv1_1.weight' or "
            f"'features.0.weight', found {', '.join(list(state)[:4]) or 'none'}"
        )
    weights, channels = {}, 3
    for name, key in keys.items():
        weight, bias = _convolution(state, key, channels, f"{path}: {name}")
        weights[f"{name}.weight"], weights[f"{name}.bias"] = weight, bias
        channels = weight.shape[0]
    return weights


def _named_keys(state: StateDict) -> dict[str, str]:
    """Return {"conv1_1": "conv1_1.weight", ...}, ordered, for a file with names like ours."""
    keys = sorted((int(m[1]), int(m[2]), k) for k in state if (m := NAMED_KEY.fullmatch(k)))
    return {f"conv{block}_{i}": key for block, i, key in keys}


def _indexed_keys(state: StateDict) -> dict[str, str]:
    """Return {"conv1_1": "features.0.weight", ...}, ordered, for a file of torchvision's.

    It counts all layers: the next convolution is 2 further (convolution, ReLU), or 3 where a pool
    lies between. That tells VGG-19 from the other VGGs. The classifier's keys do not match.
    """
    keys = sorted((int(m[1]), k) for k in state if (m := INDEXED_KEY.fullmatch(k)))
    layout = [1]  # convolutions in each block
    for (index, _), (next_index, _) in itertools.pairwise(keys):
        if next_index - index == 2:
            layout[-1] += 1
        else:
            layout.append(1)
    names = layer_names(len(keys), tuple(layout))
    return {name: key for name, (_, key) in zip(names, keys, strict=False)}


def _convolution(
    state: StateDict, key: str, channels: int, name: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weight and bias, float32, if they are a finite 3 x 3 convolution of ``channels``."""
    weight, bias = state[key], state.get(key.replace("weight", "bias"))
    expected = ((*weight.shape, 0)[0], channels, 3, 3)
    if bias is None or tuple(weight.shape) != expected or tuple(bias.shape) != expected[:1]:
        raise ValueError(
            f"{name} has a weight of shape {tuple(weight.shape)} and a bias of shape "
            f"{None if bias is None else tuple(bias.shape)}; expected {expected} and {expected[:1]}"
        )
    if not (torch.isfinite(weight).all() and torch.isfinite(bias).all()):
        raise ValueError(f"{name} has weights that are not finite")
    return weight.float(), bias.float()


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
