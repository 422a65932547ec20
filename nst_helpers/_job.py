"""What the runs of a sweep share, and how a batch of them is done: one loss, one start."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from numbers import Integral
from typing import Any, Literal, NamedTuple

import torch

from nst_helpers import _validate
from nst_helpers.control.targets import StyleWeights, weights_by_layer
from nst_helpers.engine.memory import available_memory, estimate_memory
from nst_helpers.images import noise_like
from nst_helpers.losses import STYLE_LAYERS, StyleTransferLoss
from nst_helpers.network.features import Features
from nst_helpers.optimization import Progress, Result, optimize

Callback = Callable[[int, Progress], object]  # gets a run's number

BATCH_SHARE = 0.8  # of the free memory: estimates may be a quarter too low


class Case(NamedTuple):
    """What is to be run: numbers of content and style, counted from 0, ratio and seed."""

    number: int
    content: int
    style: int
    ratio: float
    seed: int

    def __str__(self) -> str:
        _, content, style, ratio, seed = self
        return f"the run of content {content}, style {style}, ratio {ratio:g}, seed {seed}"


@dataclass
class Job:
    """What all runs share; goes to a worker of a cluster as it is."""

    net: Features
    contents: list[torch.Tensor]
    styles: list[torch.Tensor]
    start: torch.Tensor | Literal["content"] | None
    optimize_options: Mapping[str, Any]
    loss_options: Mapping[str, Any]
    blends: Sequence[StyleWeights | None] = ()  # of all styles; () if each is for itself

    @property
    def style_count(self) -> int:
        """How many there are to be painted in: blends, or else styles."""
        return len(self.blends or self.styles)

    def batch_key(self, case: Case) -> tuple[object, ...]:
        """Return what runs have in common that can share a batch."""
        content, styles = self.contents[case.content], self._styles([case])
        # Already a batch: it stays by itself.
        is_batch = any(image.shape[0] > 1 for image in (content, *styles))
        # Without weight the content is not even looked at: another loss.
        alone = case.number if is_batch else None
        return content.shape, case.ratio == 0, alone, case.style if self.blends else None

    def batch_size(self, case: Case) -> int:
        """Return how many runs like this one the device can do together."""
        if not is_gpu(self.net.device):
            return 1
        names = [n for n in ("optimizer", "history_size") if n in self.optimize_options]
        options = {name: self.optimize_options[name] for name in names}
        needed = estimate_memory(self.loss([case]), self.starts([case]).shape, **options)
        return max(1, int(BATCH_SHARE * available_memory(self.net.device) / needed))

    def loss(self, cases: Sequence[Case]) -> StyleTransferLoss:
        """Return the loss of a batch, in which each run has its own images and ratio."""
        contents = _distinct(self.contents, [case.content for case in cases])
        ratios = [case.ratio for case in cases]
        alpha = ratios if len(cases) > 1 else ratios[0]
        content = torch.cat(contents)
        return StyleTransferLoss(
            self.net, content, self._styles(cases), alpha=alpha, **self._options(cases)
        )

    def _styles(self, cases: Sequence[Case]) -> list[torch.Tensor]:
        """Return the styles of a batch: one for each run or for all, or those to be blended."""
        return self.styles if self.blends else _distinct(self.styles, [x.style for x in cases])

    def _options(self, cases: Sequence[Case]) -> dict[str, Any]:
        """Return the loss's options for a batch."""
        options = dict(self.loss_options)
        if self.blends:
            return options | {"style_weights": self.blends[cases[0].style]}
        masks = options.get("style_mask")
        if masks is not None:
            each = masks if isinstance(masks, list | tuple) else [masks] * len(self.styles)
            if len(each) != len(self.styles):
                what = f"one for all styles, or a list of {len(self.styles)}, one for each"
                raise _validate.wrong("style_mask", what, masks)
            options["style_mask"] = _distinct(list(each), [case.style for case in cases])
        return options | {"styles_per_image": True}

    def starts(self, cases: Sequence[Case]) -> torch.Tensor:
        """Return where runs start, (B, 3, H, W)."""
        if isinstance(self.start, torch.Tensor):
            return torch.cat([self.start for _ in cases])
        contents = [self.contents[case.content] for case in cases]
        if self.start == "content":
            return torch.cat(contents)
        pairs = zip(contents, cases, strict=True)
        return torch.cat([noise_like(content, case.seed) for content, case in pairs])

    def run(
        self, cases: Sequence[Case], callback: Callable[[Progress], object] | None = None
    ) -> Result:
        """Do runs with the same ``batch_key`` in one batch."""
        loss, starts = self.loss(cases), self.starts(cases)
        try:
            return optimize(loss, starts, callback=callback, **self.optimize_options)
        except ValueError as error:
            if _any_finite(loss, starts):
                raise  # something else is wrong, and likely with every run
            return Result(starts.clamp(0, 1), stopped="not finite", problem=str(error))

    def split(self, cases: Sequence[Case], result: Result) -> list[Result]:
        """Return the results of a batch run by run."""
        if len(cases) == 1:
            return [result]
        results = []
        for case, part in zip(cases, result.split(), strict=True):
            if not result.history:
                part = self.failed(case, result.problem, "not finite")
            elif not math.isfinite(part.history[-1]["total"]):
                part = self.failed(case, "the loss is not finite at the start", "not finite")
            elif result.ok:  # a problem of other images of the batch
                part = replace(part, problem="")
            results.append(part)
        return results

    def failed(
        self,
        case: Case,
        problem: object,
        stopped: Literal["not finite", "no progress"] = "no progress",
    ) -> Result:
        """Return the result of a run of which nothing came: its start, and the reason."""
        return Result(self.starts([case]).clamp(0, 1), stopped=stopped, problem=str(problem))

    def to(self, device: torch.device | str) -> Job:
        """Return a copy for another machine: the network on ``device``, images on the CPU."""
        return replace(
            self,
            net=copy.deepcopy(self.net).to(device),
            contents=[image.cpu() for image in self.contents],
            styles=[image.cpu() for image in self.styles],
            start=_on_cpu(self.start),
            loss_options={name: _on_cpu(value) for name, value in self.loss_options.items()},
        )


class CallbackError(Exception):
    """An error of a callback, and not one of a run."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def fan_out(callback: Callback, cases: Sequence[Case]) -> Callable[[Progress], bool]:
    """Return a callback of a batch that hands each run its own progress."""

    def call_each(progress: Progress) -> bool:
        parts = progress.split() if len(cases) > 1 else [progress]
        for case, part in zip(cases, parts, strict=True):
            try:
                if math.isfinite(part.terms["total"]) and callback(case.number, part) is False:
                    return False
            except Exception as error:
                raise CallbackError(error) from error
        return True

    return call_each


def make_cases(job: Job, ratios: Iterable[float], seeds: Iterable[int]) -> list[Case]:
    """Return the runs of a grid; the last axis changes fastest."""
    numbers = _validate.listed("ratios", ratios, "several numbers >= 0")
    ratios = [_validate.number_at_least(f"ratios[{i}]", x, 0) for i, x in enumerate(numbers)]
    listed = _validate.listed("seeds", seeds, "several whole numbers")
    seeds = [_validate.python_number(seed) for seed in listed]
    if not all(isinstance(seed, Integral) for seed in seeds):
        raise ValueError(f"seeds must be whole numbers; got {seeds!r}")
    grid = product(range(len(job.contents)), range(job.style_count), ratios, seeds)
    return [Case(number, *axes) for number, axes in enumerate(grid)]


def make_blends(weights: Any, layers: Any, count: int) -> list[StyleWeights | None]:
    """Return the weights of each blend of a sweep, if they are some."""
    what = "several styles' weights, one set for each blend"
    blends = _validate.listed("style_weights", weights, what)
    if not blends:
        raise _validate.wrong("style_weights", what, weights)
    layers = _validate.names("style_layers", STYLE_LAYERS if layers is None else layers)
    for i, each in enumerate(blends):
        weights_by_layer(f"style_weights[{i}]", each, layers, count)
    return blends


def image_list(name: str, several: Sequence[torch.Tensor] | torch.Tensor) -> list[torch.Tensor]:
    """Return images of a list, or those of one tensor, (1, 3, H, W) each."""
    what = "several images, (1, 3, H, W) each"
    if isinstance(several, torch.Tensor):
        several = _validate.image(name, several, "images (N, 3, H, W)").split(1)
    return [
        _validate.image(f"{name}[{i}]", image, "an image (1, 3, H, W)")
        for i, image in enumerate(_validate.listed(name, several, what))
    ]


def is_gpu(device: torch.device) -> bool:
    """Return whether it has a memory of its own, and time for more than one run."""
    return device.type != "cpu"


def _distinct(images: list[torch.Tensor], which: Sequence[int]) -> list[torch.Tensor]:
    """Return the image of each run, or only one if it is the same for all."""
    return [images[i] for i in (which if len(set(which)) > 1 else which[:1])]


def _on_cpu(value: Any) -> Any:
    """Return images and masks where they can be sent to other machines."""
    if isinstance(value, list | tuple):
        return type(value)(_on_cpu(each) for each in value)
    return value.cpu() if isinstance(value, torch.Tensor) else value


def _any_finite(loss: StyleTransferLoss, starts: torch.Tensor) -> bool:
    try:
        return bool(loss(starts.to(loss.device)).total.isfinite().any())
    except ValueError:
        return True
