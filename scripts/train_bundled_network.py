"""Train the small network that comes with the package, and write it to nst_helpers/network/bundled/.

    python scripts/train_bundled_network.py --photos PHOTOS.zip --teacher blocks1-3.safetensors
    python scripts/train_bundled_network.py --photos FOLDER --teacher vgg19

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
import io
import json
import math
import random
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from torch import nn
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1]))

from nst_helpers.network.features import Features, normalise_on_samples
from nst_helpers.losses import gram_matrix
from nst_helpers.network.weights import LAYOUT, layer_names, load_weights

OUTPUT = Path(__file__).parents[1] / "nst_helpers" / "network" / "bundled" / "bundled.safetensors"
STYLE_LAYERS = [f"relu{block}_1" for block in range(1, 6)]
FIRST_PART = 0.35  # of the time: photographs only, with batch normalisation
CONTENT_LAYERS = ["relu1_2", "relu2_2", "relu3_2", "relu3_4", "relu4_2", "relu5_2"]


# --- pictures -----------------------------------------------------------------------------------


def read_photos(source: Path, side: int = 112) -> list[np.ndarray]:
    """Read all JPEGs and PNGs of a folder or zip, shorter side ``side``, as (H, W, 3) uint8."""
    endings = (".jpg", ".jpeg", ".png")
    if source.is_dir():
        files = sorted(p for p in source.rglob("*") if p.suffix.lower() in endings)
        contents = (p.read_bytes() for p in files)
    elif zipfile.is_zipfile(source):
        archive = zipfile.ZipFile(source)
        files = sorted(n for n in archive.namelist() if n.lower().endswith(endings))
        contents = (archive.read(n) for n in files)
    else:
        raise SystemExit(f"--photos {source} is neither a folder nor a zip of photographs")
    photos = []
    for content in tqdm(contents, total=len(files), desc="photographs", leave=False):
        photo = Image.open(io.BytesIO(content))
        photo.draft("RGB", (side, side))
        photo = photo.convert("RGB")
        scale = side / min(photo.size)
        photos.append(np.array(photo.resize([max(side, round(s * scale)) for s in photo.size])))
    if len(photos) < 100:
        raise SystemExit(f"--photos {source} holds {len(photos)} pictures; at least 100 are needed")
    return photos


def split_photos(photos: list, rng: random.Random) -> tuple[list, list]:
    """Shuffle, and hold out every twentieth for the tests: (held out, to train on)."""
    photos = list(photos)
    rng.shuffle(photos)
    return photos[: len(photos) // 20], photos[len(photos) // 20 :]


def draw_pictures(seeds: range, size: int = 288) -> list[np.ndarray]:
    """Draw pictures of the kinds in images/, with other seeds: paintings are not photographs."""
    from draw_images import PAINTERS

    jobs = [(paint, seed) for seed in seeds for paint in PAINTERS.values()]
    bar = tqdm(jobs, desc="drawings", leave=False)
    return [np.array(paint(seed=seed, size=(size, size))) for paint, seed in bar]


def crop(rng: random.Random, picture: np.ndarray, side: int) -> Image.Image:
    """Cut out a random square, at 0.3 to 2 times the picture's scale, and bring it to ``side``."""
    height, width = picture.shape[:2]
    cut = min(int(side / np.exp(rng.uniform(np.log(0.3), np.log(2.0)))), height, width)
    x, y = rng.randint(0, width - cut), rng.randint(0, height - cut)
    square = Image.fromarray(picture[y : y + cut, x : x + cut])
    if rng.random() < 0.5:
        square = square.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return square.resize((side, side), Image.Resampling.LANCZOS)


def clean_batch(rng: random.Random, pictures: list, count: int, side: int) -> torch.Tensor:
    """Return ``count`` random crops, (count, 3, side, side) in [0, 1]."""
    crops = [np.array(crop(rng, rng.choice(pictures), side)) for _ in range(count)]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255


def varied_batch(rng: random.Random, pictures: list, count: int, side: int) -> torch.Tensor:
    """Return random crops, some of them blurred, recoloured or noisy."""
    batch = []
    for _ in range(count):
        square = crop(rng, rng.choice(pictures), side)
        if rng.random() < 0.15:
            square = square.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 4)))
        values = np.array(square, dtype=np.float32) / 255
        if rng.random() < 0.3:  # colours and contrast
            gain = np.exp([rng.gauss(0, 0.3) for _ in range(3)])
            values = (values - 0.5) * gain + 0.5 + [rng.gauss(0, 0.1) for _ in range(3)]
        if rng.random() < 0.25:
            noise = np.random.default_rng(rng.getrandbits(32))
            values = values + noise.normal(0, rng.choice([0.02, 0.1, 0.3]), values.shape)
        batch.append(values.astype(np.float32))
    return torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2)


# --- teachers -----------------------------------------------------------------------------------


def mobilenet_features(weights: dict, images: torch.Tensor) -> dict[int, torch.Tensor]:
    """Return MobileNetV2's expanded features, {8: 1/8 of the size, 16: 1/16}; batch norm folded."""

    def conv(x, name, stride=1, groups=1):
        weight, bias = weights[f"{name}.weight"].to(x), weights[f"{name}.bias"].to(x)
        if stride == 2:  # TensorFlow's "same" padding, which the published weights expect
            return F.conv2d(F.pad(x, (0, 1, 0, 1)), weight, bias, stride=2, groups=groups)
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=groups)

    x, found = conv(images * 2 - 1, "stem", stride=2).clamp(0, 6), {}
    for block in range(14):
        inner = conv(x, f"block{block}.expand").clamp(0, 6) if block else x
        if block in (6, 13):  # before their stride: the last features at 1/8 and 1/16
            found[8 if block == 6 else 16] = inner
        if block == 13:
            break
        stride = 2 if block in (1, 3, 6) else 1
        inner = conv(inner, f"block{block}.depthwise", stride, groups=inner.shape[1]).clamp(0, 6)
        inner = conv(inner, f"block{block}.project")
        x = x + inner if x.shape == inner.shape else inner
    return found


class Teacher:
    """What each of the student's layers should be able to predict."""

    def __init__(self, name: str, deep: Path | None, device: torch.device) -> None:
        weights, self.metadata = load_weights(name)
        net = Features(weights, pooling="max", name=name)  # as it was trained
        self.net = net.to(device, memory_format=torch.channels_last)
        self.own = [n.replace("conv", "relu") for n in self.net.convolutions]
        self.deep = safetensors.torch.load_file(str(deep)) if deep else None

    @torch.no_grad()
    def __call__(self, images: torch.Tensor) -> dict[str, list[torch.Tensor]]:
        """Return {"relu1_1": [target, ...], ...} for all sixteen layers."""
        found = self.net(images, self.own)
        deep = mobilenet_features(self.deep, images) if self.deep else {}
        targets = {}
        for name in layer_names():
            layer = name.replace("conv", "relu")
            if layer in found:
                targets[layer] = [found[layer]]
            else:
                size = 2 ** (int(layer[4]) - 1)
                factor = found[self.own[-1]].shape[-1] * size // images.shape[-1]
                targets[layer] = [F.avg_pool2d(found[self.own[-1]], factor)]
                targets[layer] += [deep[size]] if size in deep else []
        return targets


# --- student ------------------------------------------------------------------------------------


class Student(nn.Module):
    """The network to ship, and one linear map per target to predict the teacher."""

    def __init__(self, widths: list[int], targets: dict[str, list[torch.Tensor]]) -> None:
        super().__init__()
        weights, channels = {}, 3
        for name in layer_names():
            conv = nn.Conv2d(channels, widths[int(name[4]) - 1], 3, padding=1)
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.zeros_(conv.bias)
            weights |= {f"{name}.weight": conv.weight, f"{name}.bias": conv.bias}
            channels = conv.out_channels
        self.net = Features(weights, pooling="avg", name="student").requires_grad_(True)
        # Batch normalisation makes the first part of the training several times shorter; hooks,
        # so that the network itself stays what is shipped.
        self.norms = nn.ModuleDict()
        self.hooks = []
        for name, conv in self.net.convolutions.items():
            norm = self.norms[name] = nn.BatchNorm2d(conv.out_channels)
            self.hooks.append(conv.register_forward_hook(lambda m, i, o, norm=norm: norm(o)))
        self.maps = nn.ModuleDict()
        for layer, wanted in targets.items():
            inputs = widths[int(layer[4]) - 1]
            self.maps[layer] = nn.ModuleList(nn.Conv2d(inputs, t.shape[1], 1) for t in wanted)
            for i, target in enumerate(wanted):
                # The maps predict targets of mean 0 and variance 1, whatever the teacher's units.
                mean = target.mean((0, 2, 3), keepdim=True)
                self.register_buffer(f"{layer}_mean_{i}", mean)
                self.register_buffer(f"{layer}_std_{i}", (target - mean).square().mean().sqrt())

    def fold(self) -> None:
        """Work the batch normalisation into the convolutions, for good."""
        for hook in self.hooks:
            hook.remove()
        with torch.no_grad():
            for name, norm in self.norms.items():
                conv = self.net.convolutions[name]
                scale = norm.weight / (norm.running_var + norm.eps).sqrt()
                conv.weight.mul_(scale.view(-1, 1, 1, 1))
                conv.bias.copy_((conv.bias - norm.running_mean) * scale + norm.bias)
        self.norms.clear()
        self.hooks.clear()

    def errors(self, images: torch.Tensor, targets: dict) -> tuple[dict, torch.Tensor]:
        """Return {"relu1_1": (B,) error relative to the target's variance, ...}, sparseness."""
        found = self.net(images, self.maps)
        sparse = sum(sparseness(maps) for maps in found.values())
        errors = {}
        for layer, maps in self.maps.items():
            each = []
            if self.training and layer[4] in "12":
                # Every fourth position is enough where there are thousands, and saves time.
                y, x = random.randrange(2), random.randrange(2)
                found[layer] = found[layer][..., y::2, x::2]
                targets[layer] = [t[..., y::2, x::2] for t in targets[layer]]
            for i, (linear, target) in enumerate(zip(maps, targets[layer], strict=True)):
                mean = self.get_buffer(f"{layer}_mean_{i}")
                target = (target.float() - mean) / self.get_buffer(f"{layer}_std_{i}")
                each.append((linear(found[layer]).float() - target).square().mean((1, 2, 3)))
            errors[layer] = torch.stack(each).mean(0)
        return errors, sparse


def sparseness(maps: torch.Tensor, most: float = 3.0) -> torch.Tensor:
    """Return how far the filters' root mean squares are over ``most`` times their means.

    A filter that fires at a few places only is so strong there, once it is scaled to a mean of 1,
    that the optimiser serves it alone: without this term on-policy training made such filters in
    block 5, and the real network's Gram matrices were missed by ten times as much.
    """
    mean, square = maps.float().mean((0, 2, 3)), maps.float().square().mean((0, 2, 3))
    ratio = (square + 1e-8) / (mean.square() + 1e-8)
    return (ratio.log() - 2 * math.log(most)).clamp_min(0).sum()


# --- the student's own pictures -----------------------------------------------------------------


class OwnPictures:
    """A batch of pictures that Adam is making with the student: one group of the buffer."""

    def __init__(self, rng: random.Random, net: Features, photos: torch.Tensor) -> None:
        self.life = rng.choice([8, 15, 25, 40, 70, 150])  # steps until they make room for new ones
        task = rng.choice(["texture", "reconstruction", "reconstruction", "transfer"])
        self.style_layers = STYLE_LAYERS[: rng.randint(2, 5)] if task != "reconstruction" else []
        self.content_layers = {
            "texture": [],
            "reconstruction": [rng.choice(CONTENT_LAYERS)],
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

    def advance(self, net: Features, steps: int) -> torch.Tensor:
        """Take ``steps`` steps with the student as it is now; return the pictures."""
        layers = set(self.style_layers + self.content_layers)
        with torch.no_grad():
            content, style = net(self.photos, layers), net(self.styles, layers)
            grams = {n: gram_matrix(style[n].float()) for n in self.style_layers}
        for _ in range(steps):
            found = net(self.images, layers)
            loss = 0.0
            for n in self.content_layers:
                loss = loss + self.content_weight * relative_error(found[n], content[n])
            for n in self.style_layers:
                loss = loss + relative_error(gram_matrix(found[n].float()), grams[n])
            (self.images.grad,) = torch.autograd.grad(loss, self.images)
            self.optimizer.step()
            with torch.no_grad():
                self.images.clamp_(0, 1)  # nst_helpers.optimize stays in there, too
        self.life -= steps
        return self.images.detach().clone()


def relative_error(x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Squared error relative to the target's square, per picture, summed over the batch."""
    x, target = x.float().flatten(1), target.float().flatten(1)
    return ((x - target).square().sum(1) / target.square().sum(1).clamp_min(1e-8)).sum()


# --- training -----------------------------------------------------------------------------------


class Training:
    """One run: its pictures, teacher, student and optimiser, and how far it has come."""

    def __init__(self, args: argparse.Namespace) -> None:
        random.seed(args.seed)
        torch.manual_seed(args.seed)
        self.args, self.rng = args, random.Random(args.seed)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        held_out, self.photos = split_photos(read_photos(args.photos), self.rng)
        self.drawings = draw_pictures(range(1000, 1000 + args.drawings))
        self.teacher = Teacher(args.teacher, args.deep_teacher, self.device)
        images = clean_batch(random.Random(1), held_out, 64, args.crop).to(self.device)
        self.test_images, self.test_targets = images, self.teacher(images)
        student = Student(args.widths, self.test_targets).train()
        self.student = student.to(self.device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.student.parameters(), lr=args.lr)
        self.groups: list[OwnPictures | None] = [None] * args.groups
        self.step, self.minutes, self.log = 0, 0.0, []
        self.checkpoint = args.output.with_suffix(".checkpoint.pt")
        self.autocast = torch.autocast(
            self.device.type, torch.bfloat16, not args.float32 and bfloat16_pays(self.device)
        )

    def save(self) -> None:
        state = {"student": self.student.state_dict(), "optimizer": self.optimizer.state_dict()}
        state |= {"step": self.step, "minutes": self.minutes, "log": self.log}
        torch.save(state, self.checkpoint)

    def resume(self) -> None:
        saved = torch.load(self.checkpoint, weights_only=True)
        if not any(key.startswith("norms.") for key in saved["student"]):
            self.begin_second_part()
        self.student.load_state_dict(saved["student"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.step, self.minutes, self.log = saved["step"], saved["minutes"], saved["log"]
        self.rng.seed(self.args.seed + self.step)

    def begin_second_part(self) -> None:
        self.student.fold()
        self.optimizer = torch.optim.Adam(self.student.parameters(), lr=self.args.lr)

    def run(self) -> None:
        """Train until the time is over; Ctrl-C leaves a checkpoint."""
        saved_at = self.minutes
        bar = tqdm(total=self.args.minutes, bar_format="{l_bar}{bar}| {postfix}")
        try:
            while self.minutes < self.args.minutes:
                began, progress = time.monotonic(), self.minutes / self.args.minutes
                if self.student.norms and progress > FIRST_PART:
                    self.begin_second_part()
                for group in self.optimizer.param_groups:
                    group["lr"] = learning_rate(self.args.lr, progress)
                errors = self.train_step()
                self.step += 1
                # A laptop that was asleep has not trained.
                self.minutes += min(time.monotonic() - began, 10) / 60
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
        images = self.batch(varied_batch)
        with self.autocast:
            if not self.student.norms:  # an untrained student's pictures teach nothing
                images = torch.cat([images, self.own_pictures()])
            errors, sparse = self.student.errors(images, self.teacher(images))
        # The logarithm gives every layer a voice, however small its error already is; the clamp
        # keeps one wild picture from drowning its batch.
        loss = sum(e.clamp(max=20).mean().add(0.01).log() for e in errors.values())
        self.optimizer.zero_grad()
        (loss + 0.1 * sparse).backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), 5.0)
        self.optimizer.step()
        return errors

    def batch(self, make: Callable) -> torch.Tensor:
        """Return half a batch of photographs, or, one time in five, of drawings."""
        source = self.drawings if self.drawings and self.rng.random() < 0.2 else self.photos
        return make(self.rng, source, self.args.batch // 2, self.args.crop).to(self.device)

    def own_pictures(self) -> torch.Tensor:
        """Return the other half: pictures that are being made with the student as it is now."""
        i, net = self.step % len(self.groups), self.student.net
        if self.groups[i] is None or self.groups[i].life <= 0:
            self.groups[i] = OwnPictures(self.rng, net, self.batch(clean_batch))
        net.requires_grad_(False)
        images = self.groups[i].advance(net, steps=2)
        net.requires_grad_(True)
        return images

    @torch.no_grad()
    def test(self, errors: dict[str, torch.Tensor]) -> str:
        """Add a line to the log, and return it for people."""
        self.student.eval()
        with self.autocast:
            test, _ = self.student.errors(self.test_images, self.test_targets)
        self.student.train()
        photo = {name: e.mean().item() for name, e in test.items()}
        own = {name: e[self.args.batch // 2 :].mean().item() for name, e in errors.items()}
        entry = {"step": self.step, "minutes": self.minutes, "photographs": photo, "own": own}
        self.log.append(entry)
        left, each = self.args.minutes - self.minutes, " ".join(f"{e:.2f}" for e in photo.values())
        return f"step {self.step}, {left:.0f} min left, error on photographs {each}"


def bfloat16_pays(device: torch.device) -> bool:
    """Return whether convolutions are faster in bfloat16 here; on many CPUs they are slower."""
    images, seconds = torch.randn(8, 64, 80, 80, device=device), {}
    for kind in (torch.float32, torch.bfloat16):
        x, weight = images.to(kind), torch.randn(64, 64, 3, 3, device=device).to(kind)
        for _ in range(2):  # the first one warms up
            began = time.perf_counter()
            F.conv2d(x, weight, padding=1).sum().item()
            seconds[kind] = time.perf_counter() - began
    return seconds[torch.bfloat16] < 0.8 * seconds[torch.float32]


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


def write(args: argparse.Namespace, student: Student, step: int, log: list) -> None:
    """Write the normalised student, its metadata and the picture of its training."""
    student.fold()  # if it was stopped before its second part
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
        "drawings": f"{args.drawings} of each kind of scripts/draw_images.py",
        "training": f"{step} steps of {args.batch} crops of {args.crop} px, {args.minutes:g} min",
        "log": json.dumps(log[-1:]),
    }
    safetensors.torch.save_file(weights, str(args.output), metadata)
    print(f"wrote {args.output} ({args.output.stat().st_size / 1e6:.1f} MB)")
    if log:
        draw_log(log, args.output.with_suffix(".png"))


def draw_log(log: list, path: Path) -> None:
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
        write(args, training.student, training.step, training.log)


if __name__ == "__main__":
    main()
