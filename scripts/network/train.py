"""Train the small network that comes with the package: nst_helpers/network/bundled/.

    python -m scripts.network.train --photos PHOTOS.zip --teacher blocks1-3.safetensors
    python -m scripts.network.train --photos FOLDER --teacher vgg19

A student of VGG-19's layout with a fraction of its channels learns to see what a real network
sees: each of its layers must predict the teacher's rectified features through one linear (1 x 1)
map. If the prediction is linear and right, then matching the student's Gram matrices matches the
teacher's. Half of every training batch are pictures that the optimiser has just made with the
student itself (textures, reconstructions, transfers): it finds pictures no photographer ever took,
and a student that never saw them lets noise through. Nothing is classified anywhere.

Layers without a teacher: with a file that ends at block 3, conv3_4 and deeper predict the
teacher's last layer, averaged down to their own resolution, and, with --deep-teacher, the features
of a MobileNetV2 (Sandler et al. 2018) at 1/8 and 1/16 of the image's size.

Ctrl-C keeps a checkpoint beside the output; the same command with --resume goes on from there.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
from torch import nn
from tqdm import tqdm

from nst_helpers.engine.devices import best_device, best_precision
from nst_helpers.losses import STYLE_LAYERS, gram_matrix
from nst_helpers.network.features import Features
from nst_helpers.network.normalisation import normalise_on_samples
from nst_helpers.network.weights import LAYOUT
from scripts.network.models import Student, Teacher
from scripts.network.photographs import (
    augmented_batch,
    draw_pictures,
    plain_batch,
    read_photographs,
    split_photographs,
)

ROOT = Path(__file__).parents[2]
OUTPUT = ROOT / "nst_helpers" / "network" / "bundled" / "bundled.safetensors"
FIGURE = ROOT / "docs" / "training.png"  # of the model card
FIRST_PART = 0.35  # of the time: photographs only, with batch normalisation
RECONSTRUCTED = ("relu1_2", "relu2_2", "relu3_2", "relu3_4", "relu4_2", "relu5_2")
STEPS_AT_A_TIME = 2  # of the student's own pictures, for each step of the training


class OwnPictures:
    """A batch of pictures that Adam is making with the student: one group of the buffer."""

    def __init__(self, rng: random.Random, photos: torch.Tensor) -> None:
        self.steps_left = rng.choice([8, 15, 25, 40, 70, 150])  # then they make room for new ones
        task = rng.choice(["texture", "reconstruction", "reconstruction", "transfer"])
        depth = rng.randint(2, 5) if task != "reconstruction" else 0
        self.style_layers = STYLE_LAYERS[:depth]
        self.content_layers = {
            "texture": [],
            "reconstruction": [rng.choice(RECONSTRUCTED)],
            "transfer": ["relu4_2"],
        }[task]
        self.content_weight = 10 ** rng.uniform(-2, 0) if task == "transfer" else 1.0
        noise = torch.Generator().manual_seed(rng.getrandbits(31))
        strength = rng.choice([0.01, 0.05, 0.1, 0.3])
        start = 0.5 + strength * torch.randn(photos.shape, generator=noise).to(photos)
        self.photos, self.styles = photos, photos.roll(1, 0)
        if rng.random() < {"texture": 0.2, "reconstruction": 0.0, "transfer": 0.6}[task]:
            start = photos.clone()
        self.images = start.requires_grad_(True)
        self.optimizer = torch.optim.Adam([self.images], lr=rng.choice([0.01, 0.03, 0.06]))

    def advance(self, net: Features) -> torch.Tensor:
        """Take a few steps with the student as it is now; return the images."""
        layers = {*self.style_layers, *self.content_layers}
        with torch.no_grad():
            content, style = net(self.photos, layers), net(self.styles, layers)
            grams = {n: gram_matrix(style[n].float()) for n in self.style_layers}
        for _ in range(STEPS_AT_A_TIME):
            maps = net(self.images, layers)
            loss = 0.0
            for n in self.content_layers:
                loss = loss + self.content_weight * relative_error(maps[n], content[n])
            for n in self.style_layers:
                loss = loss + relative_error(gram_matrix(maps[n].float()), grams[n])
            (self.images.grad,) = torch.autograd.grad(loss, self.images)
            self.optimizer.step()
            with torch.no_grad():
                self.images.clamp_(0, 1)  # nst_helpers.optimize stays in there, too
        self.steps_left -= STEPS_AT_A_TIME
        return self.images.detach().clone()


def relative_error(x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Squared error relative to the target's square, per image, summed over the batch."""
    x, target = x.float().flatten(1), target.float().flatten(1)
    return ((x - target).square().sum(1) / target.square().sum(1).clamp_min(1e-8)).sum()


class Training:
    """One run: its pictures, teacher, student and optimiser, and how far it has come."""

    def __init__(self, args: argparse.Namespace) -> None:
        random.seed(args.seed)
        torch.manual_seed(args.seed)
        self.args, self.rng = args, random.Random(args.seed)
        device = best_device()
        held_out, self.photos = split_photographs(read_photographs(args.photos), self.rng)
        self.drawings = draw_pictures(range(1000, 1000 + args.drawings))
        self.teacher = Teacher(args.teacher, args.deep_teacher, device)
        images = plain_batch(random.Random(1), held_out, 64, args.crop).to(device)
        self.test_set = images, self.teacher(images)
        student = Student(args.widths, self.test_set[1]).train()
        self.student = student.to(device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.student.parameters(), lr=args.lr)
        self.groups: list[OwnPictures | None] = [None] * args.groups
        self.step, self.minutes = 0, 0.0
        self.log: list[dict] = []

    @property
    def device(self) -> torch.device:
        """Where the training runs."""
        return self.test_set[0].device

    @property
    def checkpoint(self) -> Path:
        """Where an interrupted training is kept."""
        return self.args.output.with_suffix(".checkpoint.pt")

    def autocast(self) -> torch.autocast:
        """Return a context in which convolutions are bfloat16 where that is faster."""
        faster = best_precision(self.device) == "bfloat16" and not self.args.float32
        return torch.autocast(self.device.type, torch.bfloat16, enabled=faster)

    def save(self) -> None:
        state = {"student": self.student.state_dict(), "optimizer": self.optimizer.state_dict()}
        state |= {"step": self.step, "minutes": self.minutes, "log": self.log}
        torch.save(state, self.checkpoint)

    def resume(self) -> None:
        state = torch.load(self.checkpoint, weights_only=True)
        if not any(key.startswith("norms.") for key in state["student"]):
            self.begin_second_part()
        self.student.load_state_dict(state["student"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.minutes, self.log = state["step"], state["minutes"], state["log"]
        self.rng.seed(self.args.seed + self.step)

    def begin_second_part(self) -> None:
        self.student.fold_batch_norm()
        self.optimizer = torch.optim.Adam(self.student.parameters(), lr=self.args.lr)

    def run(self) -> None:
        """Train until the time is over; Ctrl-C leaves a checkpoint."""
        saved_at = self.minutes
        bar = tqdm(total=self.args.minutes, bar_format="{l_bar}{bar}| {postfix}")
        try:
            while self.minutes < self.args.minutes:
                started_at, progress = time.monotonic(), self.minutes / self.args.minutes
                if self.student.norms and progress > FIRST_PART:
                    self.begin_second_part()
                for group in self.optimizer.param_groups:
                    group["lr"] = learning_rate(self.args.lr, progress)
                errors = self.train_step()
                self.step += 1
                # A laptop that was asleep has not trained.
                self.minutes += min(time.monotonic() - started_at, 10) / 60
                if self.step % 50 == 0:
                    bar.set_postfix_str(self.test(errors), refresh=False)
                    bar.n = round(self.minutes, 1)
                    bar.refresh()
                if self.minutes - saved_at > 3:
                    saved_at = self.minutes
                    self.save()
        finally:
            bar.close()
            self.save()

    def train_step(self) -> dict[str, torch.Tensor]:
        """Take one step; return the errors, photographs first, then the student's own pictures."""
        images = self.batch(augmented_batch)
        with self.autocast():
            if not self.student.norms:  # an untrained student's pictures teach nothing
                images = torch.cat([images, self.own_pictures()])
            errors, sparse = self.student.errors(images, self.teacher(images))
        # The logarithm gives every layer a voice, however small its error already is; the clamp
        # keeps one outlier from dominating its batch.
        loss = sum(e.clamp(max=20).mean().add(0.01).log() for e in errors.values())
        self.optimizer.zero_grad()
        (loss + 0.1 * sparse).backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), 5.0)
        self.optimizer.step()
        return errors

    def batch(self, make: Callable[..., torch.Tensor]) -> torch.Tensor:
        """Return half a batch of photographs, or, one time in five, of drawings."""
        source = self.drawings if self.drawings and self.rng.random() < 0.2 else self.photos
        return make(self.rng, source, self.args.batch // 2, self.args.crop).to(self.device)

    def own_pictures(self) -> torch.Tensor:
        """Return the other half: images that are being made with the student as it is now."""
        i, net = self.step % len(self.groups), self.student.net
        group = self.groups[i]
        if group is None or group.steps_left <= 0:
            group = self.groups[i] = OwnPictures(self.rng, self.batch(plain_batch))
        net.requires_grad_(False)
        images = group.advance(net)
        net.requires_grad_(True)
        return images

    @torch.no_grad()
    def test(self, errors: dict[str, torch.Tensor]) -> str:
        """Add a line to the log, and return it for people."""
        self.student.eval()
        with self.autocast():
            test, _ = self.student.errors(*self.test_set)
        self.student.train()
        photo = {name: e.mean().item() for name, e in test.items()}
        own = {name: e[self.args.batch // 2 :].mean().item() for name, e in errors.items()}
        entry = {"step": self.step, "minutes": self.minutes, "photographs": photo, "own": own}
        self.log.append(entry)
        left, each = self.args.minutes - self.minutes, " ".join(f"{e:.2f}" for e in photo.values())
        return f"step {self.step}, {left:.0f} min left, error on photographs {each}"


def learning_rate(highest: float, progress: float) -> float:
    """Return a cosine down to nothing in each of the two parts.

    The second one has no batch normalisation: it warms up and stays lower. At 0.3 times the
    highest rate instead of 0.12, and not warmed up, it undid half of the first part, and a
    seventh of relu4_1's filters died.
    """
    if progress < FIRST_PART:
        return highest * (0.1 + 0.9 * math.cos(math.pi / 2 * progress / FIRST_PART))
    progress = (progress - FIRST_PART) / (1 - FIRST_PART)
    warm_up = min(1.0, 0.02 + progress / 0.04)
    return highest * 0.12 * warm_up * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)


def write(training: Training) -> None:
    """Write the normalised student, its metadata and the figure of its training."""
    args, student, log = training.args, training.student, training.log
    student.fold_batch_norm()  # if it was stopped before its second part
    net = normalise_on_samples(student.net.cpu())
    weights = {}
    for name, conv in net.convolutions.items():
        weights[f"{name}.weight"] = conv.weight.half().contiguous()
        weights[f"{name}.bias"] = conv.bias.half().contiguous()
    metadata = {
        "layout": f"VGG-19 ({'-'.join(map(str, LAYOUT))} convolutions), average pooling",
        "widths": "-".join(str(conv.out_channels) for conv in net.convolutions.values()),
        "normalised": "avg pooling: each filter's mean activation is 1 over the sample pictures",
        "content_scale": f"{args.content_scale:g}",
        "teacher": args.teacher if args.teacher == "vgg19" else Path(args.teacher).name,
        "deep_teacher": args.deep_teacher.name if args.deep_teacher else "none",
        "photographs": args.photos.name,
        "drawings": f"{args.drawings} of each kind of scripts/paintings",
        "training": f"{training.step} steps of {args.batch} crops of {args.crop} px, "
        f"{args.minutes:g} min",
        "log": json.dumps(log[-1:]),
    }
    safetensors.torch.save_file(weights, str(args.output), metadata)
    print(f"wrote {args.output} ({args.output.stat().st_size / 1e6:.1f} MB)")
    if log:
        draw_log(log, FIGURE if args.output == OUTPUT else args.output.with_suffix(".png"))


def draw_log(log: list[dict], path: Path) -> None:
    """Draw the errors against the time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, key in zip(figure.subplots(1, 2, sharey=True), ("photographs", "own"), strict=True):
        for layer in [*STYLE_LAYERS, "relu4_2"]:
            axes.semilogy([e["minutes"] for e in log], [e[key][layer] for e in log], label=layer)
        axes.set(xlabel="minutes", title={"own": "its own pictures"}.get(key, "held-out " + key))
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("error / variance of the teacher's features")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right center")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--photos", type=Path, required=True, help="folder or zip of photographs, e.g. Caltech-101")
    add("--teacher", required=True, help="'vgg19', or a file with the first layers of a VGG")
    add("--deep-teacher", type=Path, help="MobileNetV2, batch norm folded (safetensors)")
    add("--output", type=Path, default=OUTPUT)
    add("--minutes", type=float, default=60)
    add("--widths", type=int, nargs=5, default=[16, 48, 96, 128, 128], help="channels per block")
    add("--batch", type=int, default=24, help="half photographs, half the student's own pictures")
    add("--crop", type=int, default=80, help="side of the training pictures, a multiple of 16")
    add("--groups", type=int, default=8, help="batches of own pictures under way at once")
    add("--drawings", type=int, default=0, help="seeds of each kind of drawing to train on")
    add("--content-scale", type=float, default=10.0, help="to be set by looking at the sweep")
    add("--lr", type=float, default=5e-3, help="highest learning rate")
    add("--seed", type=int, default=0)
    add("--float32", action="store_true", help="no bfloat16")
    add("--resume", action="store_true")
    args = parser.parse_args()
    args.output.parent.mkdir(parents=True, exist_ok=True)  # before the work, not after
    training = Training(args)
    if args.resume:
        training.resume()
    try:
        training.run()
    except KeyboardInterrupt:
        print("\nstopped; go on with --resume")
    else:
        write(training)


if __name__ == "__main__":
    main()
