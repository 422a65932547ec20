"""The convolutions of a VGG among a file's tensors, under the paper's names.

People keep a VGG in many forms: its features alone or the whole, inside a checkpoint or a model of
one's own, with batch normalisation, cut into slices, with a layer of padding before each
convolution. The order, the numbers in the keys and the widths tell which layer is which; whatever
does not fit is refused, for a layer under the wrong name paints without a word.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import NamedTuple

import torch

from nst_helpers.network.convolutions import Convolution, Layer, convolution

__all__ = ["FoundVGG", "find_vgg", "layer_names"]

LAYOUT = (2, 2, 4, 4, 4)  # VGG-19's convolutions in each block; pooling after each block
LAYOUTS = (LAYOUT, (2, 2, 3, 3, 3), (2, 2, 2, 2, 2), (1, 1, 2, 2, 2))  # VGG-19, 16, 13 and 11
VGG19_CHANNELS = (64, 128, 256, 512, 512)  # of every convolution of a block

LEAVES = ("weight", "bias", "running_mean", "running_var")
# What wrappers put into the keys: DataParallel, torch.compile.
WRAPPERS = ("module", "_orig_mod")
NAMED = re.compile(r"(?:conv|block(?=\d_conv))_?([1-9])_(?:conv)?([1-9])")
NAMED_NORM = re.compile(r"(?:bn|norm|batch_?norm)_?([1-9])_([1-9])")
COUNTED = re.compile(r"([A-Za-z_]*?)_?(\d+)")  # "7", "slice3", "enc_2"
# What other networks' keys look like.
OTHERS = (
    ("a ResNet", re.compile(r"layer1\.0\.")),
    ("a SqueezeNet", re.compile(r"\.squeeze\.")),
    ("a DenseNet", re.compile(r"denseblock1\.")),
    ("a MobileNet or EfficientNet", re.compile(r"features\.\d+\.(conv|block|\d)|blocks\.0\.0\.")),
    ("an Inception network", re.compile(r"(inception|Mixed_|Conv2d_1a)")),
    ("a transformer", re.compile(r"(attn|self_attention|attention)\.")),
    ("what LPIPS adds to a VGG, not the VGG", re.compile(r"^lin\d\.model\.")),
)


class FoundVGG(NamedTuple):
    """A VGG as a file has it.

    Attributes
    ----------
    convolutions : dict of str to (torch.Tensor, torch.Tensor)
        ``{"conv1_1": (weight, bias), ...}`` in the network's order: (out, in, 3, 3) and (out,),
        float32, on the CPU, copies.
    colours : (torch.Tensor, torch.Tensor) or None
        A 1 x 1 convolution (3, 3, 1, 1) that comes before the first, and its bias (3,).
    batch_norm : bool
        Whether batch normalisation was folded into the convolutions.
    """

    convolutions: dict[str, Convolution]
    colours: Convolution | None
    batch_norm: bool


class Group(NamedTuple):
    """Layers that lie together in a file.

    ``layers`` are by (block, number) where the keys have the paper's names, else by (slice, index);
    ``clashes`` are keys of which there is another for the same place.
    """

    root: str
    named: bool
    layers: dict[tuple[int, int], Layer]
    norms: dict[tuple[int, int], Layer]
    clashes: list[str]


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


def find_vgg(tensors: Mapping[str, torch.Tensor]) -> FoundVGG:
    """Return the one VGG that is among ``tensors``.

    Parameters
    ----------
    tensors : dict of str to torch.Tensor
        By their keys in the file, with dots.

    Raises
    ------
    ValueError
        If there is none, or more than one; says what was found instead. The text goes on from the
        file's name: "holds no VGG: ...".
    """
    found: list[tuple[str, FoundVGG]] = []
    problems: list[tuple[int, str]] = []
    for group in _groups(tensors):
        try:
            found.append((group.root, _vgg(group, tensors)))
        except ValueError as error:
            problems.append((len(group.layers), str(error)))
    if not found:
        looks = next((name for name, key in OTHERS if any(map(key.search, tensors))), None)
        if looks:
            raise ValueError(f"holds no VGG: it looks like {looks}")
        if problems:
            raise ValueError(f"holds no VGG: {max(problems)[1]}")
        raise ValueError(
            "holds no VGG: expected keys like 'features.0.weight' or 'conv1_1.weight', found "
            f"{', '.join(list(tensors)[:4]) or 'none'}"
        )
    return _the_one(found)


def _the_one(candidates: list[tuple[str, FoundVGG]]) -> FoundVGG:
    """Return the VGG that is meant, of several with the places where they are."""
    # An average of the weights over the training is a second copy; a few layers beside a whole VGG,
    # such as a discriminator's, are not what anyone means.
    of_training = [x for x in candidates if "ema" not in re.split(r"[._]", x[0].lower())]
    candidates = of_training or candidates
    most = max(len(vgg.convolutions) for _, vgg in candidates)
    candidates = [x for x in candidates if 2 * len(x[1].convolutions) > most]
    first = candidates[0][1]
    if not all(_same(vgg.convolutions, first.convolutions) for _, vgg in candidates):
        places = " and ".join(repr(place or "the top") for place, _ in candidates)
        raise ValueError(f"holds {len(candidates)} VGGs, at {places}: save one of them alone")
    return first


def _same(some: dict[str, Convolution], others: dict[str, Convolution]) -> bool:
    return list(some) == list(others) and all(
        torch.equal(a, b) for name in some for a, b in zip(some[name], others[name], strict=True)
    )


# --- which tensors belong together ---------------------------------------------------------------


def _groups(tensors: Mapping[str, torch.Tensor]) -> list[Group]:
    groups: dict[tuple[str, str | None], Group] = {}
    for key, tensor in tensors.items():
        *place, leaf = _parts(key)
        found = _place(place) if leaf in LEAVES and place and not tensor.is_nested else None
        if found is None:
            continue
        root, stem, position, is_norm = found
        group = groups.setdefault((root, stem), Group(root, stem is None, {}, {}, []))
        layers = group.norms if is_norm else group.layers
        layer = layers.setdefault(position, Layer(key.rpartition(".")[0], {}))
        if leaf in layer.tensors:
            group.clashes.append(key)
        layer.tensors[leaf] = tensor
    return [g for g in groups.values() if any(_is_convolution(x) for x in g.layers.values())]


def _parts(key: str) -> list[str]:
    return [part for part in key.split(".") if part not in WRAPPERS]


def _place(place: list[str]) -> tuple[str, str | None, tuple[int, int], bool] | None:
    """Return root, stem, position and whether it is a normalisation, or None if it is no place.

    A stem of None stands for the paper's names.
    """
    *head, name = place
    slice_number, stem = 0, ""
    if head and (m := COUNTED.fullmatch(head[-1])):  # a slice: "slice2.7", "block1.conv1_2"
        *head, _ = head
        stem, slice_number = m[1], int(m[2])
    root = ".".join(head)
    if m := NAMED.fullmatch(name) or NAMED_NORM.fullmatch(name):
        return root, None, (int(m[1]), int(m[2])), NAMED_NORM.fullmatch(name) is not None
    if name == "conv0":
        return root, None, (0, 0), False
    if (m := COUNTED.fullmatch(name)) and m[1] in ("", "conv"):
        return root, f"{stem}*{m[1]}", (slice_number, int(m[2])), False
    return None


def _is_convolution(layer: Layer) -> bool:
    weight = layer.tensors.get("weight")
    return weight is not None and weight.dim() == 4


def _is_batch_norm(layer: Layer | None) -> bool:
    return layer is not None and "running_var" in layer.tensors


# --- which layer is which ------------------------------------------------------------------------


def _vgg(group: Group, tensors: Mapping[str, torch.Tensor]) -> FoundVGG:
    """Return the VGG that a group of layers is; ValueError says why it is none."""
    if group.clashes:
        raise ValueError(f"it has several layers of one name, such as {group.clashes[0]!r}")
    layers = dict(sorted(group.layers.items()))
    norms = group.norms
    if not group.named:
        norms = {
            position: layers[after]
            for position in layers
            if _is_batch_norm(layers.get(after := (position[0], position[1] + 1)))
        }
        _refuse_strangers(group, tensors, set(norms))
        layers = {p: x for p, x in layers.items() if _is_convolution(x)}
    first = next(iter(layers))
    colours = None
    weight = layers[first].tensors.get("weight")
    if weight is not None and weight.shape == (3, 3, 1, 1):
        colours = convolution("the first layer", layers.pop(first), 3, kernel=1)
    if not layers:
        raise ValueError("a single convolution, of 1 x 1")
    padded = next(iter(layers))[1] - (first[1] if colours else -1) == 2
    names = _paper_names(layers) if group.named else _names(layers, norms, padded)
    convolutions, channels = {}, 3
    for name, (position, layer) in zip(names, layers.items(), strict=True):
        convolutions[name] = convolution(name, layer, channels, norm=norms.get(position))
        channels = convolutions[name][0].shape[0]
    return FoundVGG(convolutions, colours, bool(norms))


def _refuse_strangers(
    group: Group, tensors: Mapping[str, torch.Tensor], normalised: set[tuple[int, int]]
) -> None:
    """Raise ValueError if there are layers among the VGG's that no VGG has."""
    convolutions = [p for p, layer in group.layers.items() if _is_convolution(layer)]
    if not convolutions:
        raise ValueError("no convolutions")
    norms = {(slice_number, index + 1) for slice_number, index in normalised & set(convolutions)}
    for position, layer in group.layers.items():
        # A classifier may follow in the same sequence: its weights are (out, in).
        weight = layer.tensors.get("weight")
        is_classifier = position > max(convolutions) and weight is not None and weight.dim() == 2
        if position not in norms and not _is_convolution(layer) and not is_classifier:
            raise ValueError(f"it has a layer {layer.key!r} that no VGG has")
    ours = {layer.key for layer in group.layers.values()}
    root = f"{group.root}." if group.root else ""
    for key, tensor in tensors.items():
        place = ".".join(_parts(key))
        if tensor.dim() > 1 and key.rpartition(".")[0] not in ours and place.startswith(root):
            inside = COUNTED.fullmatch(place.removeprefix(root).split(".")[0])
            if root.endswith("features.") or (inside and not inside[1]):
                raise ValueError(f"it has a layer {key.rpartition('.')[0]!r} that no VGG has")


def _paper_names(layers: dict[tuple[int, int], Layer]) -> list[str]:
    """Return the names that the keys have, if none is missing between them."""
    counts = [len(list(block)) for _, block in itertools.groupby(layers, lambda p: p[0])]
    names = [f"conv{block}_{i}" for block, i in layers]
    expected = layer_names(len(names), tuple(counts))
    if names != expected or len(counts) > len(LAYOUT):
        missing = next((n for n in expected if n not in names), names[-1])
        raise ValueError(f"its convolutions are {', '.join(names)}, without {missing}")
    return names


def _names(
    layers: dict[tuple[int, int], Layer], norms: dict[tuple[int, int], Layer], padded: bool
) -> list[str]:
    """Return names for convolutions that a file only counts.

    Numbers count all layers, of which the file has only some: from one convolution to the next it
    is 2 (itself, ReLU), 1 more with batch normalisation or padding, and 1 more where a pool lies
    between. Numbers that do not tell, as those of slices that each begin at 0, leave the widths:
    those of VGG-11, 13, 16 or 19.
    """
    widths = [layer.tensors["weight"].shape[0] for layer in layers.values()]
    counts = [1]
    for (position, _), (after, _) in itertools.pairwise(layers.items()):
        pools = after[1] - position[1] - 2 - (position in norms) - padded
        if pools == 1:
            counts.append(1)
        elif pools == 0:
            counts[-1] += 1
        else:
            break
    total, by_count = len(widths), tuple(counts)
    for layout in LAYOUTS:
        names = layer_names(total, layout)
        if sum(by_count) == total and names == layer_names(total, by_count):
            return names
    for layout in LAYOUTS if total > 4 else ():
        usual = [w for w, n in zip(VGG19_CHANNELS, layout, strict=True) for _ in range(n)]
        if usual[:total] == widths:
            return layer_names(total, layout)
    places = ", ".join(layer.key for layer in itertools.islice(layers.values(), 6))
    raise ValueError(
        f"its {total} convolutions ({places}{', ...' if total > 6 else ''}) lie as in no VGG; if "
        "it is one, call them conv1_1, conv1_2, ..."
    )
