"""Where the network's numbers come from: the bundled file, torchvision's VGG-19, or your own.

Whatever the source, the result is a dict ``{"conv1_1.weight": ..., "conv1_1.bias": ..., ...}`` in
the order of the network. This is the only module that knows torchvision, and it imports it only
to download.
"""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from nst_helpers.lesson.paper_images import why_no_answer

__all__ = ["layer_names", "load_weights"]

BUNDLED = Path(__file__).with_name("bundled") / "bundled.safetensors"
VGG19_FILE = "vgg19-dcbb9e9d.pth"  # torchvision's VGG19_Weights.IMAGENET1K_V1
LAYOUT = (2, 2, 4, 4, 4)  # VGG-19's convolutions in each block; pooling after each block
VGG19_CHANNELS = (64, 128, 256, 512, 512)


def load_weights(source: str | os.PathLike = "auto") -> tuple[dict[str, torch.Tensor], dict]:
    """Return a network's weights by name, and what is known of them.

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
        ``name``, and whatever the file says of itself.

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
        return _load_auto()
    if source == "bundled":
        return _load_file(BUNDLED, "bundled network")
    if source == "vgg19":
        return _load_file(_vgg19_path() if _vgg19_path().is_file() else _download_vgg19(), "VGG-19")
    if source == "random":
        return _random_weights(), {"name": "random network"}
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no network {str(source)!r}: give 'auto', 'bundled', 'vgg19', 'random', "
            "or the path of a .pth or .safetensors file"
        )
    return _load_file(path, path.name)


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


def _load_auto() -> tuple[dict[str, torch.Tensor], dict]:
    if _vgg19_path().is_file():
        print("network: VGG-19, found on this machine (the small one: load_network('bundled'))")
        return load_weights("vgg19")
    print("network: bundled (VGG-19 itself, a 548 MB download: load_network('vgg19'))")
    return load_weights("bundled")


def _vgg19_path() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / VGG19_FILE


def _download_vgg19() -> Path:
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
    no_internet = "VGG-19 could not be downloaded: {}. load_network('bundled') works offline."
    answer = why_no_answer(VGG19_Weights.IMAGENET1K_V1.url)
    if answer is not None:
        raise ConnectionError(no_internet.format(answer))
    try:
        # torch.hub downloads beside the target and renames once the hash is right, so that an
        # interrupted download leaves no broken file behind.
        VGG19_Weights.IMAGENET1K_V1.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise ConnectionError(no_internet.format(error)) from error
    return _vgg19_path()


def _load_file(path: Path, name: str) -> tuple[dict[str, torch.Tensor], dict]:
    try:
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, framework="pt") as file:
                metadata = dict(file.metadata() or {})
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        else:
            metadata = {}
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken pickle may raise anything at all
        raise ValueError(
            f"{path} is not a readable file of weights ({error}); if it was a download, delete it "
            "and fetch it again"
        ) from error
    return _named(state, path), {**metadata, "name": name}


def _named(state: object, path: Path) -> dict[str, torch.Tensor]:
    """Return the convolutions of ``state`` under ``convB_I`` names, in the network's order."""
    if not (
        isinstance(state, dict)
        and all(isinstance(k, str) and torch.is_tensor(v) for k, v in state.items())
    ):
        raise ValueError(f"{path} holds no state dict (a dict of tensors by name)")
    # Both kinds of keys; the classifier of a whole VGG is left behind here.
    kinds = (r"conv(\d+)_(\d+)", r"(?:features\.)?(\d+)")
    for kind in kinds:
        found = {m: k for k in state if (m := re.fullmatch(kind + r"\.weight", k))}
        if found:
            break
    else:
        raise ValueError(
            f"{path} holds no VGG weights: expected keys like 'conv1_1.weight' or "
            f"'features.0.weight', found {', '.join(list(state)[:4]) or 'none'}"
        )
    in_order = sorted((tuple(map(int, m.groups())), k) for m, k in found.items())
    if kind == kinds[0]:
        names = [f"conv{block}_{i}" for (block, i), _ in in_order]
    else:
        # In torchvision's count, the next convolution is 2 further (conv, ReLU), or 3 further
        # where a pool lies between: that tells VGG-19 from its shorter sisters.
        indices, layout = [index for (index,), _ in in_order], [1]
        for before, index in itertools.pairwise(indices):
            if index - before == 2:
                layout[-1] += 1
            else:
                layout.append(1)
        names = layer_names(len(in_order), tuple(layout))
    weights, channels = {}, 3
    for name, (_, key) in zip(names, in_order, strict=False):
        weight, bias = state[key], state.get(key.replace("weight", "bias"))
        expected = ((*weight.shape, 0)[0], channels, 3, 3)
        if bias is None or tuple(weight.shape) != expected or tuple(bias.shape) != expected[:1]:
            raise ValueError(
                f"{path}: {name} has a weight of shape {tuple(weight.shape)} and a bias of shape "
                f"{None if bias is None else tuple(bias.shape)}; expected {expected} and "
                f"{expected[:1]}"
            )
        if not (torch.isfinite(weight).all() and torch.isfinite(bias).all()):
            raise ValueError(f"{path}: {name} has weights that are not finite")
        weights[f"{name}.weight"], weights[f"{name}.bias"] = weight.float(), bias.float()
        channels = weight.shape[0]
    return weights


def _random_weights(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weights, channels = {}, 3
    for name in layer_names():
        out = VGG19_CHANNELS[int(name[4]) - 1]
        he = (2 / (9 * channels)) ** 0.5  # He et al. 2015: keeps the activations' size
        weights[f"{name}.weight"] = torch.randn(out, channels, 3, 3, generator=generator) * he
        weights[f"{name}.bias"] = torch.zeros(out)
        channels = out
    return weights
