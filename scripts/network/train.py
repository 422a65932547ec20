"""Distil VGG-19 into the bundled network.

    python -m scripts.network.train --photos PHOTOS.zip --teacher vgg19_normalised.safetensors

A student of VGG-19's layout with a fraction of its filters learns to see what VGG-19 sees. Nothing
is classified anywhere. It goes in two parts.

1.  Least squares. Each of the student's filters in the new blocks stands for one filter of the
    teacher: those are chosen from which all others of the layer are predicted best. What a filter
    of the teacher computes before its rectification is linear in the layer below, so the student's
    weights are a regression on the student's own layer below, layer by layer; where the teacher is
    silent, any value that is not positive is right. A minute of this is worth an hour of descent.
    The first blocks are taken from --start.

2.  Descent, all blocks together, on photographs, drawings and the student's own pictures: what
    ``optimize`` has just made with the student as it is (textures, reconstructions, transfers, of
    many shapes), because that is where a network is used here, and where it must not be fooled.
    It is asked that a linear (1 x 1) map of each layer predicts the teacher's; that the filters of
    the new blocks equal those they stand for, so that losses have the teacher's units and
    content_scale is 1; both again for the Gram matrices of the style layers; and that what is
    wrong in a reconstruction be as wrong in its photograph: then VGG-19 sees none of it. Places
    near the borders weigh more. Steps are taken by Adam in the eigenbasis of each convolution's
    inputs.

It is resumable: a checkpoint lies beside the output every two minutes, and the same command with
--resume goes on from there. --further NETWORK trains one that is finished, in place of part one:
its filters are matched with those of the teacher that they are most like.

On a GPU take --batch 4 --workers 8: larger batches, cut by processes of their own.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from tqdm import tqdm

from nst_helpers.engine.devices import best_device, best_precision, capture_cuda_graph
from nst_helpers.images import load_image, noise_like, sample_images
from nst_helpers.losses import STYLE_LAYERS, StyleTransferLoss, gram_matrix
from nst_helpers.network.features import Features, block_of, map_size, stride
from nst_helpers.network.load import load_network
from nst_helpers.network.vgg_layers import LAYOUT, layer_names
from nst_helpers.network.weights import load_weights
from nst_helpers.optimization import optimize
from scripts.network.photographs import (
    augmented_batch,
    draw_pictures,
    plain_batch,
    read_photographs,
    split_photographs,
)

OUTPUT = Path(__file__).parents[2] / "output" / "network" / "bundled.safetensors"
LAYERS = [name.replace("conv", "relu") for name in layer_names()]
DIRECTIONS = {1: 24, 2: 64, 3: 128, 4: 224, 5: 256}  # of the teacher's layers that are predicted
LOUD = 0.1  # of a layer's variance in one filter: it gets a term of its own
LOUD_OF_PAIR = 0.4  # what it counts in a pair: VGG-19's has two fifths of what is wrong there
RECONSTRUCTED = ["relu2_2", "relu3_2", "relu4_1", "relu4_4", "relu5_1"]
RECONSTRUCTED += 5 * ["relu4_2"] + 5 * ["relu5_2"]  # how often each is drawn
# Batches of about as many pixels each: the fifth block sees 156 px, and borders are to be met.
SHAPES = [(8, 128, 128), (8, 128, 128), (5, 160, 160), (4, 192, 160), (6, 111, 175), (3, 224, 188)]
SHAPES += [(3, 192, 192), (6, 64, 304), (4, 296, 66), (8, 48, 229), (6, 157, 119), (3, 56, 448)]
BORDER, AT_BORDER = 12, 3.0  # px, and how much more they weigh
FLOOR = {"map": 0.01, "filter": 0.01, "loud": 0.02, "pair": 0.01}
FLOOR |= {"map gram": 5e-4, "filter gram": 5e-4}
WEIGHT = {"map": 1.0, "filter": 0.7, "loud": 1.5, "map gram": 0.5, "filter gram": 0.35}
WEIGHT |= {"pair": 2.0}
# Layers that losses use count, and more so where they are least right; the last hardly.
LAYER_WEIGHT = dict.fromkeys(LAYERS[:4], 0.7) | dict.fromkeys(LAYERS[6:], 0.6)
LAYER_WEIGHT |= {"relu3_1": 1.2, "relu4_1": 1.5, "relu4_2": 3.0, "relu5_1": 1.3, "relu5_2": 2.5}
LAYER_WEIGHT |= {"relu5_3": 0.2, "relu5_4": 0.1}
Terms = dict[tuple[str, str], torch.Tensor]  # (B,) relative errors by what is asked and layer


# --- pictures -----------------------------------------------------------------------------------


class Pictures:
    """Photographs and drawings, cut and scaled at random to any shape.

    Parameters
    ----------
    photos, drawings : list of numpy.ndarray
        (H, W, 3) uint8.
    rng : random.Random
    """

    def __init__(
        self, photos: list[np.ndarray], drawings: list[np.ndarray], rng: random.Random
    ) -> None:
        self.photos, self.drawings, self.rng = photos, drawings, rng

    def batch(self, shape: tuple[int, int, int], augmented: bool = False) -> torch.Tensor:
        """Return a batch (B, 3, H, W) of ``shape`` (B, H, W); a quarter are drawings."""
        count, height, width = shape
        make = augmented_batch if augmented else plain_batch
        # Photographs are small: some lie side by side, as two by two, instead of being enlarged.
        patchwork = self.rng.random() < (0.5 if max(height, width) >= 160 else 0.3)
        y, x = (self.rng.randint(n // 4, 3 * n // 4) if patchwork else n for n in (height, width))
        images = torch.empty(count, 3, height, width)
        for rows in (slice(0, y), slice(y, height)):
            for columns in (slice(0, x), slice(x, width)):
                part = images[:, :, rows, columns]
                if part.numel():
                    source = self.drawings if self._draw() else self.photos
                    side = max(part.shape[2:])
                    square = make(self.rng, source, count, side)
                    part.copy_(square[:, :, : part.shape[2], : part.shape[3]])
        return images

    def _draw(self) -> bool:
        return bool(self.drawings) and self.rng.random() < 0.25


class PictureStream(IterableDataset):
    """Batches of ``SHAPES`` without end, for a ``DataLoader`` whose processes cut them.

    Parameters
    ----------
    pictures : Pictures
    factor : float
        How many times as many pictures as ``SHAPES`` says, about: the number is even.
    augmented : bool
    seed : int
    """

    def __init__(self, pictures: Pictures, factor: float, augmented: bool, seed: int) -> None:
        self.pictures, self.factor, self.augmented, self.seed = pictures, factor, augmented, seed

    def __iter__(self) -> Iterator[torch.Tensor]:
        worker = get_worker_info()
        rng = random.Random(f"{self.seed} {self.augmented} {worker.id if worker else 0}")
        pictures = Pictures(self.pictures.photos, self.pictures.drawings, rng)
        while True:
            count, height, width = rng.choice(SHAPES)
            even = 2 * max(1, round(count * self.factor / 2))
            yield pictures.batch((even, height, width), self.augmented)

    def batches(self, workers: int) -> Iterator[torch.Tensor]:
        """Return batches (B, 3, H, W), cut by as many processes; 0: by this one."""
        return iter(DataLoader(self, batch_size=None, num_workers=workers))


# --- the teacher --------------------------------------------------------------------------------


@dataclass
class Example:
    """Pictures and what the teacher says of them.

    ``maps[layer]`` is (B, directions + filters, H', W'): the layer in its principal directions, and
    the filters that the new blocks' stand for. Of blocks 1 and 2 every other row and column is
    there, from ``offset`` on. ``grams[layer]`` holds the Gram matrices of each part. If ``pair`` is
    a layer, the second half are photographs and the first half pictures of the same content there.
    """

    images: torch.Tensor
    offset: tuple[int, int]
    maps: dict[str, torch.Tensor]
    grams: dict[str, list[torch.Tensor]]
    pair: str = ""
    weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def tensors(self) -> list[torch.Tensor]:
        """Return all that it holds."""
        grams = [gram for both in self.grams.values() for gram in both]
        return [self.images, *self.maps.values(), *grams]

    def clone(self) -> Example:
        """Return one of its kind, in memory of its own."""
        maps = {layer: x.clone() for layer, x in self.maps.items()}
        grams = {layer: [gram.clone() for gram in both] for layer, both in self.grams.items()}
        return Example(self.images.clone(), self.offset, maps, grams, self.pair)

    def border_weights(self, layer: str) -> torch.Tensor:
        """Return how much each kept place of a layer weighs, (H', W'); the mean is 1."""
        if layer not in self.weights:
            self.weights[layer] = self._border_weights(layer)
        return self.weights[layer]

    def _border_weights(self, layer: str) -> torch.Tensor:
        pixels = stride(layer)
        height, width = map_size(layer, self.images.shape)
        rim = max(1, round(BORDER / pixels))
        weights = torch.full((1, 1, height, width), AT_BORDER, device=self.images.device)
        weights[..., rim:-rim, rim:-rim] = 1.0
        kept = thinned(layer, weights, self.offset)[0, 0]
        return kept / kept.mean()


class Teacher:
    """VGG-19, and how its layers are asked for.

    Parameters
    ----------
    net : Features
    samples : list of torch.Tensor
        Batches of pictures by which directions and filters are chosen.
    widths : list of int
        The student's filters in each block.
    first : int
        Block from which on the student's filters stand for some of these.
    student : Features, optional
        A student whose filters stand for those that they are most like.
    """

    def __init__(
        self,
        net: Features,
        samples: list[torch.Tensor],
        widths: list[int],
        first: int,
        student: Features | None = None,
    ) -> None:
        self.net, self.chosen, self.scale = net, {}, {}
        self.directions, self.filter_variance, self.loud = {}, {}, {}
        standing_for = [layer for layer in LAYERS if block_of(layer) >= first]
        likest = likest_filters(student, net, samples, standing_for) if student else {}
        for layer, (square, mean) in moments(net, samples).items():
            covariance = square - mean[:, None] * mean
            variance = covariance.diagonal()
            loud = torch.zeros_like(variance, dtype=torch.bool)
            if layer in standing_for:
                loud = variance > LOUD * variance.sum()
                chosen = likest.get(layer) or choose_filters(
                    covariance, widths[block_of(layer) - 1]
                )
                # One that has a large part of its layer's variance would weigh more among few.
                scale = torch.where(loud, (len(chosen) / len(variance)) ** 0.5, 1.0)[chosen]
                self.chosen[layer] = torch.tensor(chosen, device=net.device)
                self.loud[layer] = torch.nonzero(loud[chosen]).flatten()
                self.scale[layer] = scale
                self.filter_variance[layer] = variance[chosen] * scale.square()
            vectors = torch.linalg.eigh(square.double())[1].flip(1).float()
            vectors = vectors[:, : DIRECTIONS[block_of(layer)]].clone()
            vectors[loud] = 0
            self.directions[layer] = vectors / variance[~loud].sum().sqrt()

    @torch.no_grad()
    def example(self, images: torch.Tensor, pair: str = "") -> Example:
        """Return what it says of ``images`` (B, 3, H, W)."""
        # One for all images of a shape: a CUDA graph is for one.
        offset, maps, grams = (images.shape[2] // 32 % 2,) * 2, {}, {}
        for layer, x in self.net.activations(images, LAYERS):
            x = x.movedim(1, -1)  # (B, H', W', N)
            parts = [x @ self.directions[layer].to(x)]
            if layer in self.chosen:
                parts.append(x[..., self.chosen[layer]] * self.scale[layer].to(x))
            if layer in STYLE_LAYERS:
                grams[layer] = [gram_matrix(part.movedim(-1, 1)) for part in parts]
            maps[layer] = thinned(layer, torch.cat(parts, -1).movedim(-1, 1), offset).contiguous(
                memory_format=torch.channels_last
            )
        return Example(images, offset, maps, grams, pair)


@torch.no_grad()
def moments(
    net: Features, samples: Iterable[torch.Tensor]
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return each layer's mean products (N, N) and means (N,) over positions and pictures."""
    sums: dict[str, list] = {layer: [0.0, 0.0, 0] for layer in LAYERS}
    for images in samples:
        for layer, maps in net.activations(images.to(net.device), LAYERS):
            x = unrolled(maps)
            sums[layer][0] += x.T @ x
            sums[layer][1] += x.sum(0)
            sums[layer][2] += len(x)
    return {layer: (square / n, total / n) for layer, (square, total, n) in sums.items()}


def choose_filters(covariance: torch.Tensor, count: int) -> list[int]:
    """Return ``count`` filters from which all are predicted best, chosen greedily."""
    rest, chosen = covariance.double().clone(), []
    for _ in range(count):
        own = rest.diagonal().clamp_min(1e-9)
        gain = rest.square().sum(0) / own
        gain[own < 1e-4 * covariance.diagonal()] = -1
        gain[chosen] = -1
        best = int(gain.argmax())
        chosen.append(best)
        rest = rest - rest[:, best : best + 1] @ rest[best : best + 1] / own[best]
    return sorted(chosen)


@torch.no_grad()
def likest_filters(
    student: Features, teacher: Features, samples: Iterable[torch.Tensor], layers: list[str]
) -> dict[str, list[int]]:
    """Return a filter of the teacher for each of the student's, by layer: the most correlated."""
    seen: dict[str, list[list[torch.Tensor]]] = {layer: [[], []] for layer in layers}
    for images in samples:
        for side, net in enumerate((student, teacher)):
            for layer, maps in net.activations(images.to(net.device), layers):
                seen[layer][side].append(unrolled(maps)[::3])
    likest = {}
    for layer, sides in seen.items():
        own, others = (torch.cat(side).double() for side in sides)
        own, others = ((x - x.mean(0)) / x.std(0).clamp_min(1e-9) for x in (own, others))
        likest[layer] = linear_sum_assignment((own.T @ others).cpu(), maximize=True)[1].tolist()
    return likest


def unrolled(maps: torch.Tensor) -> torch.Tensor:
    """Return maps (B, N, H, W) as (B H W, N), float32."""
    return maps.movedim(1, -1).flatten(0, 2).float()


def thinned(layer: str, maps: torch.Tensor, offset: tuple[int, int]) -> torch.Tensor:
    """Return every fourth position of blocks 1 and 2, where there are thousands."""
    return maps[..., offset[0] :: 2, offset[1] :: 2] if block_of(layer) <= 2 else maps


# --- part one: least squares --------------------------------------------------------------------


@torch.no_grad()
def least_squares(
    teacher: Teacher, start: Features, samples: list[torch.Tensor], first: int
) -> dict[str, torch.Tensor]:
    """Return weights of all sixteen convolutions: ``start``'s, regressed from block ``first`` on.

    Parameters
    ----------
    teacher : Teacher
    start : Features
        For the blocks before.
    samples : list of torch.Tensor
        Batches of square pictures of one size; one in ten decides between solutions.
    first : int
        Block.
    """
    layers = [layer for layer in LAYERS if block_of(layer) >= first]
    names = {layer.replace("relu", "conv"): layer for layer in layers}
    side = samples[0].shape[-1]
    device = start.device
    places = {b: torch.randperm((side >> (b - 1)) ** 2)[:100].to(device) for b in range(first, 6)}
    wanted: dict[str, list[torch.Tensor]] = {layer: [] for layer in layers}
    inputs = []
    for images in (batch.to(device) for batch in samples):
        for name, maps in teacher.net.activations(images, names):
            layer = names[name]
            some = maps[:, teacher.chosen[layer]].flatten(2)[:, :, places[block_of(layer)]]
            wanted[layer].append(some.movedim(1, -1).flatten(0, 1) * teacher.scale[layer].to(some))
        ((_, pooled),) = start.activations(images, [f"pool{first - 1}"])
        inputs.append(pooled.float())
    x, before = torch.cat(inputs), first
    weights = {
        f"{name}.{key}": value.clone(memory_format=torch.contiguous_format)
        for name, conv in start.convolutions.items()
        for key, value in conv.state_dict().items()
        if block_of(name) < first
    }
    for layer in layers:
        if block_of(layer) != before:
            x, before = F.avg_pool2d(x, 2, ceil_mode=True), block_of(layer)
        here = places[before]
        weight, bias = regression(
            patches(x, here), torch.cat(wanted.pop(layer)).float(), len(here) * 10
        )
        name, width = layer.replace("relu", "conv"), weight.shape[1]
        weights[f"{name}.weight"] = weight.T.reshape(width, x.shape[1], 3, 3).contiguous()
        weights[f"{name}.bias"] = bias
        x = F.relu(F.conv2d(x, weights[f"{name}.weight"], bias, padding=1))
    return weights


def patches(x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return what a 3 x 3 convolution sees at ``places``, (B P, N 9), zeros beyond the border."""
    rows, columns = places // x.shape[3], places % x.shape[3]
    padded = F.pad(x, (1, 1, 1, 1)).movedim(1, -1)
    shifted = [padded[:, rows + dy, columns + dx] for dy in range(3) for dx in range(3)]
    return torch.stack(shifted, -1).flatten(0, 1).flatten(1)


def regression(
    inputs: torch.Tensor, wanted: torch.Tensor, tenth: int, ridge: float = 0.016, rounds: int = 5
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weight (N, K) and bias (K,) so that relu(inputs @ weight + bias) is relu(wanted).

    Ordinary least squares first; then, where ``wanted`` is not positive, a prediction that is not
    positive either counts as right, and so on. For each filter the round counts that was best on
    held-out rows.

    Parameters
    ----------
    inputs : torch.Tensor
        (M, N).
    wanted : torch.Tensor
        (M, K), before rectification.
    tenth : int
        Rows in ten pictures; the first picture of each ten is held out.
    ridge : float
        Relative to the inputs' mean variance.
    rounds : int
        How many.
    """
    held = torch.arange(len(inputs), device=inputs.device) % tenth < tenth // 10
    known, target, new = inputs[~held], wanted[~held], inputs[held]
    truth = wanted[held].relu()
    mean = known.mean(0)
    covariance = known.T @ known - len(known) * mean[:, None] * mean
    covariance += ridge * covariance.diagonal().mean() * torch.eye(len(mean)).to(mean)
    root, best = torch.linalg.cholesky(covariance), None
    for _ in range(rounds):
        level = target.mean(0)
        right = known.T @ target - len(known) * mean[:, None] * level
        weight = torch.cholesky_solve(right, root)
        bias = level - mean @ weight
        error = ((new @ weight + bias).relu() - truth).square().mean(0)
        if best is None:
            best = error, weight.clone(), bias.clone()
        better = error < best[0]
        for mine, found in zip(best, (error, weight, bias), strict=True):
            mine[..., better] = found[..., better]
        target = torch.where(wanted[~held] > 0, wanted[~held], (known @ weight + bias).clamp(max=0))
    return best[1], best[2]


# --- part two: descent --------------------------------------------------------------------------


class Student(nn.Module):
    """The network to ship, and one linear map per layer to predict the teacher's.

    Parameters
    ----------
    weights : dict of str to torch.Tensor
        Of the network.
    first : int
        Block from which on filters stand for filters of the teacher.
    directions : dict of str to int
        The teacher's, by layer.
    """

    def __init__(
        self, weights: dict[str, torch.Tensor], first: int, directions: dict[str, int]
    ) -> None:
        super().__init__()
        self.net, self.first = Features(weights, name="student").requires_grad_(True), first
        self.maps = nn.ModuleDict(
            {
                layer: nn.Conv2d(
                    self.net.convolution(layer.replace("relu", "conv")).out_channels,
                    directions[layer],
                    1,
                )
                for layer in LAYERS
            }
        )

    def autocast(self) -> torch.autocast:
        """Return a context in which convolutions are bfloat16 where that is faster."""
        device = self.net.device
        faster = best_precision(device) == "bfloat16"
        return torch.autocast(device.type, torch.bfloat16, enabled=faster)

    def activations(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return all layers."""
        with self.autocast():
            return dict(self.net.activations(images, LAYERS))

    def errors(self, example: Example, teacher: Teacher) -> Terms:
        """Return how far each layer is from the teacher's, relative to its variance."""
        terms: Terms = {}
        for layer, maps in self.activations(example.images).items():
            linear, places = self.maps[layer], example.border_weights(layer)
            known = linear.out_channels
            here, wanted = thinned(layer, maps, example.offset), example.maps[layer].float()
            with self.autocast():
                predicted = F.conv2d(here, linear.weight)
            predicted = predicted.float() + linear.bias.view(1, -1, 1, 1)
            wrong = predicted - wanted[:, :known]
            terms["map", layer] = (wrong.square().sum(1) * places).mean((1, 2))
            if example.pair == layer:
                made, photo = wrong.chunk(2)
                terms["pair", layer] = ((made - photo).square().sum(1) * places).mean((1, 2))
            if block_of(layer) >= self.first:
                wrong = here.float() - wanted[:, known:]
                each, variance = (
                    (wrong.square() * places).mean((2, 3)),
                    teacher.filter_variance[layer],
                )
                loud = teacher.loud[layer]  # (B, N) and (N,) so far
                quiet = torch.ones_like(variance).index_fill(0, loud, 0)
                terms["filter", layer] = each @ quiet / (variance @ quiet)
                if len(loud):
                    terms["loud", layer] = each @ (1 - quiet) / (variance @ (1 - quiet))
                if len(loud) and example.pair == layer:
                    made, photo = wrong[:, loud].chunk(2)
                    apart = ((made - photo).square().sum(1) * places).mean((1, 2))
                    apart = LOUD_OF_PAIR * apart / variance[loud].sum()
                    terms["pair", layer] = (1 - LOUD_OF_PAIR) * terms["pair", layer] + apart
            if layer in example.grams:
                gram, mean = gram_matrix(maps), maps.float().mean((2, 3))
                weight, bias = linear.weight[:, :, 0, 0], linear.bias
                mixed = (weight @ mean[:, :, None]) * bias
                known_gram = weight @ gram @ weight.T + mixed + mixed.mT + bias[:, None] * bias
                terms["map gram", layer] = relative_error(known_gram, example.grams[layer][0])
                if block_of(layer) >= self.first:
                    terms["filter gram", layer] = relative_error(gram, example.grams[layer][1])
        return terms

    @torch.no_grad()
    def fit_maps(self, examples: list[Example], ridge: float = 1e-3) -> None:
        """Set the linear maps to the best for these examples."""
        squares, products = dict.fromkeys(LAYERS, 0.0), dict.fromkeys(LAYERS, 0.0)
        for example in examples:
            for layer, maps in self.activations(example.images).items():
                x = unrolled(thinned(layer, maps, example.offset))
                x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
                wanted = example.maps[layer][:, : self.maps[layer].out_channels]
                squares[layer] = squares[layer] + x.T @ x
                products[layer] = products[layer] + x.T @ unrolled(wanted)
        for layer, linear in self.maps.items():
            matrix = squares[layer]
            matrix += ridge * matrix.diagonal()[:-1].mean() * torch.eye(len(matrix)).to(matrix)
            solution = torch.linalg.solve(matrix, products[layer]).T
            linear.weight.copy_(solution[:, :-1, None, None])
            linear.bias.copy_(solution[:, -1])


def relative_error(gram: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return ||G - A||^2 / ||A||^2 of each picture."""
    return (gram - wanted).square().sum((1, 2)) / wanted.square().sum((1, 2))


def total(terms: Terms) -> torch.Tensor:
    """Return the loss: the logarithm gives each layer a voice, however small its error is."""
    return sum(
        WEIGHT[what]
        * LAYER_WEIGHT.get(layer, 1.0)
        * (error.clamp(max=10).mean() + FLOOR[what]).log()
        for (what, layer), error in terms.items()
    )


class EigenAdam:
    """Adam, for convolutions in the eigenbasis of what they see.

    Rectified maps are all positive and much alike: in the filters' own coordinates most of each
    step goes along their common mean, and the rate that it allows is too small for everything
    else. Rates are relative to the size of the weights in each direction.

    Parameters
    ----------
    student : Student
    examples : list of Example
        The inputs' covariances are taken from these.
    betas : tuple of float
        As Adam's.
    """

    def __init__(
        self, student: Student, examples: list[Example], betas: tuple[float, float] = (0.9, 0.99)
    ) -> None:
        self.betas, self.count = betas, 0
        self.parameters = list(student.parameters())
        covariances = input_covariances(student.net, examples)
        weights = {id(conv.weight): n for n, conv in student.net.convolutions.items()}
        self.state: list[dict[str, torch.Tensor]] = []
        for p in self.parameters:
            flat = p.detach().flatten(1) if p.dim() == 4 else p.detach()
            slot = {"first": torch.zeros_like(flat), "second": torch.zeros_like(flat)}
            if id(p) in weights:
                basis = torch.linalg.eigh(covariances[weights[id(p)]])[1]
                size = (flat @ basis).square().mean(0)
                width = min(15, len(size) // 2 * 2 - 1)
                ends = F.pad(size[None, None], (width // 2, width // 2), mode="replicate")
                size = F.avg_pool1d(ends, width, 1)[0, 0].sqrt()
                slot |= {"basis": basis, "size": size.clamp(max=8 * size.median())}
            else:
                slot["size"] = flat.square().mean().sqrt().clamp_min(0.02 if p.dim() == 1 else 0.0)
            self.state.append(slot)
        device = student.net.device
        self.rate, self.second_share = (torch.zeros((), device=device) for _ in range(2))
        self.captured_update = capture_cuda_graph(self.update, device)

    def step(self, rate: float) -> None:
        """Change each parameter by about ``rate`` of its size, and zero its gradient."""
        self.count += 1
        first, second = self.betas
        self.rate.fill_(rate / (1 - first**self.count))
        self.second_share.fill_(1 - second**self.count)
        self.captured_update()

    @torch.no_grad()
    def update(self) -> None:
        """Do it, by the numbers in ``rate`` and ``second_share``."""
        first, second = self.betas
        for p, slot in zip(self.parameters, self.state, strict=True):
            gradient = p.grad.flatten(1) if p.dim() == 4 else p.grad
            if "basis" in slot:
                gradient = rotated(gradient, slot["basis"])
            slot["first"].lerp_(gradient, 1 - first)
            slot["second"].lerp_(gradient.square(), 1 - second)
            spread = (slot["second"] / self.second_share).sqrt()
            change = slot["size"] * slot["first"] / (spread + 1e-12)
            if "basis" in slot:
                change = rotated(change, slot["basis"].T)
            p.sub_(self.rate * change.view(p.shape))
            p.grad.zero_()


class Backward:
    """The gradients of an example's loss, on a GPU by one CUDA graph for each kind of example.

    There are thousands of small operations in it, which take Python longer than the GPU.

    Parameters
    ----------
    student : Student
    teacher : Teacher
    """

    def __init__(self, student: Student, teacher: Teacher) -> None:
        self.student, self.teacher = student, teacher
        self.graphs: dict[tuple, tuple[torch.cuda.CUDAGraph, Example] | None] = {}
        self.on_gpu = student.net.device.type == "cuda"
        if self.on_gpu:  # graphs that run one after the other share their memory
            self.stream, self.pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()

    def __call__(self, example: Example) -> None:
        """Add the gradients of the example's loss to the parameters'."""
        kind = tuple(example.images.shape), example.offset, example.pair
        if not self.on_gpu or kind not in self.graphs:
            total(self.student.errors(example, self.teacher)).backward()
            self.graphs[kind] = None
            return
        if self.graphs[kind] is None:
            self.graphs[kind] = self._capture(example)
        graph, place = self.graphs[kind]
        for mine, new in zip(place.tensors(), example.tensors(), strict=True):
            mine.copy_(new)
        graph.replay()

    def _capture(self, example: Example) -> tuple[torch.cuda.CUDAGraph, Example]:
        graph, place = torch.cuda.CUDAGraph(), example.clone()
        for layer in LAYERS:
            place.border_weights(layer)  # outlives the captured memory
        with torch.cuda.graph(
            graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"
        ):
            total(self.student.errors(place, self.teacher)).backward()
        return graph, place


def rotated(x: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """Return ``x @ basis``; a direction of descent needs no more than bfloat16."""
    return (x.bfloat16() @ basis.bfloat16()).float() if len(basis) > 200 else x @ basis


@torch.no_grad()
def input_covariances(
    net: Features, examples: list[Example], rows: int = 16_000
) -> dict[str, torch.Tensor]:
    """Return the mean products (N 9, N 9) of what each convolution sees."""
    sums = dict.fromkeys(net.convolutions, 0.0)
    each = max(1, rows // sum(len(example.images) for example in examples))
    for example in examples:
        x = net.normalised(example.images)
        for layer in net.layers:
            if layer in sums:
                places = torch.randperm(x.shape[2] * x.shape[3])[:each].to(x.device)
                seen = patches(x.float(), places)
                sums[layer] = sums[layer] + seen.T @ seen / len(seen) / len(examples)
            x = net.compute(layer, x, set())
    return sums


class OwnPictures:
    """Pictures that ``optimize`` makes with the student as it is now.

    Parameters
    ----------
    batches : iterator of torch.Tensor
        Contents and styles in one batch, half and half.
    rng : random.Random
    """

    def __init__(self, batches: Iterator[torch.Tensor], rng: random.Random) -> None:
        self.batches, self.rng = batches, rng
        self.under_way: list[dict] = []

    def make(self, net: Features) -> Iterator[tuple[torch.Tensor, str]]:
        """Yield batches, each with "" or the layer of its pairs: see ``Example``."""
        if len(self.under_way) >= 8 and self.rng.random() < 0.5:
            job = self.rng.choice(self.under_way)
            steps = self.rng.choice([15, 30])
        else:
            job = self._job(net.device)
            self.under_way = [*self.under_way, job][-16:]
            steps = self.rng.choices([15, 30, 60, 120, 200], [0.15, 0.25, 0.3, 0.2, 0.1])[0]
        loss = StyleTransferLoss(net, **job["loss"])
        early = self.rng.randint(max(2, steps // 5), max(3, steps // 2))
        result = optimize(loss, job["images"], steps=steps, snapshots=[early])
        job["images"], job["visits"] = result.image, job["visits"] + 1
        if job["visits"] >= 5:
            self.under_way = [each for each in self.under_way if each is not job]
        if "content" in job["loss"]:
            half = -(-len(result.image) // 2)
            halves = (x.split(half) for x in (result.image, job["loss"]["content"]))
            for made, photo in zip(*halves, strict=True):
                yield torch.cat([made, photo]), job["loss"]["content_layers"]
            return
        yield result.image, ""
        if job["visits"] == 1 and early in result.snapshots:
            yield result.snapshots[early], ""

    def _job(self, device: torch.device) -> dict:
        """Return a new task: what is asked of the pictures, and where they start."""
        rng = self.rng
        content, style = next(self.batches).to(device).chunk(2)
        task = rng.choices(["texture", "reconstruction", "transfer"], [0.2, 0.5, 0.3])[0]
        start = noise_like(content, rng.getrandbits(31))
        if task != "reconstruction" and rng.random() < 0.25:
            start = content
        asked: dict = {
            "texture": {"style": style, "style_layers": STYLE_LAYERS[: rng.choice([3, 4, 5, 5])]},
            "reconstruction": {"content": content, "content_layers": rng.choice(RECONSTRUCTED)},
            "transfer": {
                "content": content,
                "style": style,
                "alpha": [10 ** rng.uniform(-3, -1) for _ in content],
                "content_layers": "relu4_2",
            },
        }
        return {"loss": asked[task], "images": start, "visits": 0}


class Training:
    """The second part: its examples, student, optimiser, and how far it has come.

    Parameters
    ----------
    args : argparse.Namespace
        Of the command.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.rng, self.device = args, random.Random(args.seed), best_device()
        torch.manual_seed(args.seed)
        # What cannot be read is known before the pictures are.
        further = load_weights(args.further)[0] if args.further else None
        state = self._checkpoint_state() if args.resume else None
        held_out, photos = split_photographs(read_photographs(args.photos), self.rng)
        drawings = draw_pictures(range(1000, 1000 + args.drawings), workers=args.workers)
        self.pictures = Pictures(photos, drawings, self.rng)
        seed = args.seed + (state["step"] if state else 0)  # other pictures than at first
        stream = PictureStream(self.pictures, args.batch * 2 / 3, True, seed)
        self.new_photographs = stream.batches(args.workers)
        stream = PictureStream(self.pictures, args.batch * 2, False, seed)
        self.makers = OwnPictures(stream.batches(args.workers), self.rng)
        net = load_network(args.teacher, device=self.device)
        samples = [self._sample(i) for i in range(args.samples // 8)]
        student = self._network(further) if further else None
        self.teacher = Teacher(net, samples[::3], args.widths, args.first, student)
        if further:
            weights = further
        elif state:
            weights, _ = load_weights(self.start_file)
        else:
            weights = self._start(samples)
            safetensors.torch.save_file(weights, self.start_file)
        directions = {n: vectors.shape[1] for n, vectors in self.teacher.directions.items()}
        student = Student(weights, args.first, directions).to(self.device)
        self.student = student.to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.student).requires_grad_(False)
        test = Pictures(held_out, [], random.Random(7))
        self.tests = [self._example(test.batch(shape)) for shape in [(8, 128, 128)] * 4]
        self.photographs = [self._example(next(self.new_photographs)) for _ in range(24)]
        self.own: list[Example] = []
        self.student.fit_maps(self.photographs)
        self.average.load_state_dict(self.student.state_dict())
        self.optimizer = EigenAdam(self.student, self.photographs)
        self.backward = Backward(self.student, self.teacher)
        self.step, self.minutes, self.log = 0, 0.0, []
        if state:
            self._resume(state)

    @property
    def checkpoint(self) -> Path:
        """Where an interrupted training is kept."""
        return self.args.output.with_suffix(".checkpoint.pt")

    @property
    def start_file(self) -> Path:
        """Where the first part's result is kept."""
        return self.args.output.with_suffix(".start.safetensors")

    def _sample(self, i: int) -> torch.Tensor:
        return self.pictures.batch((8, 128, 128), augmented=i % 3 == 0).clamp(-0.2, 1.2)

    def _start(self, samples: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the first part's weights: from photographs, then from own pictures as well."""
        start = load_network(self.args.start, device=self.device, precision="float32")
        for others in (self.args.samples // 27, 0):
            weights = least_squares(self.teacher, start, samples, self.args.first)
            net = self._network(weights)
            stream = PictureStream(self.pictures, 2, False, self.args.seed)
            square = OwnPictures(stream.batches(0), self.rng)
            while others > 0:
                made = [
                    x for x, pair in square.make(net) if not pair and x.shape == samples[0].shape
                ]
                samples, others = samples + made, others - len(made)
        return weights

    def _network(self, weights: dict[str, torch.Tensor]) -> Features:
        """Return a student as a network that paints."""
        net = Features(weights, name="student").to(self.device)
        return net.to_precision(best_precision(self.device))

    def _example(self, images: torch.Tensor, pair: str = "") -> Example:
        return self.teacher.example(images.to(self.device), pair)

    def run(self) -> None:
        """Train until the time is over."""
        saved_at = tested_at = self.minutes
        bar = tqdm(total=self.args.minutes, bar_format="{l_bar}{bar}|")
        while self.minutes < self.args.minutes:
            started_at = time.monotonic()
            self.train_step()
            # A laptop that was asleep has not trained.
            self.minutes += min(time.monotonic() - started_at, 60) / 60
            if self.minutes - tested_at > 0.5 or self.minutes >= self.args.minutes:
                tested_at = self.minutes
                bar.write(self.test())
                bar.n = round(self.minutes, 1)
                bar.refresh()
            if self.minutes - saved_at > 2:
                saved_at = self.minutes
                self.save()
        bar.close()
        self.save()

    def train_step(self) -> None:
        """Take one step: a batch of photographs and one of own pictures."""
        if self.step % 4 == 0:
            new = self._example(next(self.new_photographs))
            self.photographs[self.rng.randrange(len(self.photographs))] = new
        if self.step % 14 == 0 or len(self.own) < 4:
            net = copy.deepcopy(self.student.net).requires_grad_(False)
            made = self.makers.make(net.to_precision(best_precision(self.device)))
            self.own += [self._example(images, pair) for images, pair in made]
            while len(self.own) > 60:
                self.own.pop(self.rng.randrange(30))
        newest = self.own[-12:] if self.rng.random() < 0.4 else self.own
        for example in (self.rng.choice(self.photographs), self.rng.choice(newest)):
            self.backward(example)
        warm_up = min(1.0, 0.02 + self.step / 120)
        fall = max(0.0, 2 * self.minutes / self.args.minutes - 1)  # in the second half
        decay = 0.003 + 0.997 * (1 + math.cos(math.pi * min(1.0, fall))) / 2
        self.optimizer.step(self.args.lr * warm_up * decay)
        self.step += 1
        share = max(0.004, 1 / (self.step / 3 + 2))
        with torch.no_grad():
            for mine, new in zip(self.average.parameters(), self.student.parameters(), strict=True):
                mine.lerp_(new, share)

    @torch.no_grad()
    def test(self) -> str:
        """Add a line to the log, and return it for people."""
        photos = [self.average.errors(example, self.teacher) for example in self.tests]
        own = [self.average.errors(example, self.teacher) for example in self.own[-4:]]
        entry: dict = {"step": self.step, "minutes": self.minutes}
        for key, results in (("photographs", photos), ("own", own)):
            for what in WEIGHT:
                entry[f"{key}, {what}"] = {
                    layer: torch.cat(errors).mean().item()
                    for layer in LAYERS
                    if (errors := [t[what, layer] for t in results if (what, layer) in t])
                }
        self.log.append(entry)
        left = self.args.minutes - self.minutes
        each = " ".join(f"{e:.2f}" for e in entry["photographs, map"].values())
        return f"step {self.step}, {left:.0f} min left, error on photographs {each}"

    def save(self) -> None:
        """Write the checkpoint; a reader never finds half of one."""
        state = {"student": self.student.state_dict(), "average": self.average.state_dict()}
        state |= {"optimizer": self.optimizer.state, "count": self.optimizer.count}
        state |= {"step": self.step, "minutes": self.minutes, "log": self.log}
        part = self.checkpoint.with_suffix(".part")
        torch.save(state, part)
        part.replace(self.checkpoint)

    def _checkpoint_state(self) -> dict:
        return torch.load(self.checkpoint, map_location=self.device, weights_only=True)

    def _resume(self, state: dict) -> None:
        self.student.load_state_dict(state["student"])
        self.average.load_state_dict(state["average"])
        for slot, saved in zip(self.optimizer.state, state["optimizer"], strict=True):
            for name, value in saved.items():
                slot[name].copy_(value)
        self.optimizer.count = state["count"]
        self.step, self.minutes, self.log = state["step"], state["minutes"], state["log"]
        self.rng.seed(self.args.seed + self.step)


# --- the file -----------------------------------------------------------------------------------


@torch.no_grad()
def loss_sizes(net: Features, images: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return how large what a loss compares is in each layer, by the logarithm, picture by picture.

    Distances between the pictures' Gram matrices in style layers, each picture's variance in
    others; to the power that goes with the filters' scale.
    """
    maps = [net(image, LAYERS) for image in images]
    sizes = {}
    for layer in LAYERS:
        each = [found[layer] for found in maps]
        if layer in STYLE_LAYERS:
            grams = torch.cat([gram_matrix(x) for x in each])
            sizes[layer] = (grams[1:] - grams[:-1]).square().mean((1, 2)).log() / 4
        else:
            spread = [(x - x.mean((2, 3), keepdim=True)).square().mean() for x in each]
            sizes[layer] = torch.stack(spread).log() / 2
    return sizes


@torch.no_grad()
def in_teachers_units(
    net: Features, teacher: Features, images: list[torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return the weights of ``net``, its layers scaled so that losses are as the teacher's.

    One factor per layer, which the next layer divides out again. It takes the place of a mean
    activation of 1: in the paper's network, with average pooling, relu5_1's is 0.2 and that of one
    filter of relu4_2 is 12, and its alpha/beta means what it means because of that.

    Parameters
    ----------
    net : Features
        The student.
    teacher : Features
    images : list of torch.Tensor
        Sample pictures.
    """
    own, wanted = loss_sizes(net, images), loss_sizes(teacher, images)
    weights, before = {}, 1.0
    for layer in LAYERS:
        name = layer.replace("relu", "conv")
        conv, factor = net.convolution(name), (wanted[layer] - own[layer]).mean().exp().item()
        weights[f"{name}.weight"] = (conv.weight * factor / before).half().contiguous()
        weights[f"{name}.bias"] = (conv.bias * factor).half().contiguous()
        before = factor
    return weights


def write(training: Training) -> None:
    """Write the student, its metadata and the figure of its training."""
    args = training.args
    images = [load_image(path, 160).to(training.device) for path in sample_images().values()]
    net = training.average.net
    weights = in_teachers_units(net, training.teacher.net, images)
    metadata = {
        "layout": f"VGG-19 ({'-'.join(map(str, LAYOUT))} convolutions), average pooling",
        "widths": "-".join(str(conv.out_channels) for conv in net.convolutions.values()),
        "normalised": "avg pooling: in the units of the authors' normalised VGG-19",
        "content_scale": "1",
        "teacher": Path(args.teacher).name,
        "start": Path(args.further or args.start).name,
        "photographs": args.photos.name,
        "drawings": f"{args.drawings} of each kind of scripts/paintings",
        "training": f"{training.step} steps, {args.minutes:g} min",
        "log": json.dumps(training.log[-1:]),
    }
    safetensors.torch.save_file(weights, str(args.output), metadata)
    print(f"wrote {args.output} ({args.output.stat().st_size / 1e6:.1f} MB)")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--photos", type=Path, required=True, help="folder or zip of photographs, e.g. Caltech-101")
    add("--teacher", required=True, help="the whole VGG-19, 'vgg19' or a file")
    add("--start", default="bundled", help="network whose first blocks are taken over")
    add("--first", type=int, default=4, help="first new block")
    add("--further", help="network to train further, in place of the first part")
    add("--output", type=Path, default=OUTPUT)
    add("--minutes", type=float, default=60, help="of the second part")
    add("--widths", type=int, nargs=5, default=[16, 48, 96, 192, 192], help="filters per block")
    add("--samples", type=int, default=768, help="pictures of 128 px for the first part")
    add("--drawings", type=int, default=3, help="seeds of each kind of drawing to train on")
    add("--batch", type=float, default=1, help="times as many pictures in a batch")
    add("--workers", type=int, default=0, help="processes that cut pictures")
    add("--lr", type=float, default=2.5e-3, help="highest rate, relative to the weights")
    add("--seed", type=int, default=0)
    add("--resume", action="store_true")
    args = parser.parse_args()
    if not 0 < args.batch < math.inf:
        parser.error(f"--batch must be a positive number, not {args.batch:g}")
    if args.workers < 0:
        parser.error(f"--workers must be 0 or more, not {args.workers}")
    args.output.parent.mkdir(parents=True, exist_ok=True)  # before the work, not after
    training = Training(args)
    try:
        training.run()
    except KeyboardInterrupt:
        print("\nstopped; go on with --resume")
    else:
        write(training)


if __name__ == "__main__":
    main()
