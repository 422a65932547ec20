"""Judge networks by the pictures they make: one table, and a contact sheet for each.

    python -m scripts.network.evaluate bundled --teacher blocks1-3.safetensors --photos PHOTOS.zip
    python -m scripts.network.evaluate bundled random my.safetensors --teacher vgg19

A network that comes with the package is good if its pictures are, and that is not for the network
itself to say: a real VGG, the teacher, compares their Gram matrices with the style picture's. The
teacher's own pictures, made in as many evaluations, are the yardstick; it is the last column.

prediction      squared error of the teacher's features, predicted from the same layer's by the
                best linear map, over their variance; photographs never trained on (--photos)
texture         from noise: the teacher's ||G - A||^2 / ||A||^2 at relu1_1, relu2_1, relu3_1, and
                the share of the power above half the Nyquist frequency over the style picture's
transfer        the same from the content picture, alpha/beta = 1e-3
reconstruction  from noise, by one layer: correlation of the 32 x 32 luminances (likeness), and
                root mean square error of the pixels
sweep           from noise, 1e-4 to 1e-1: likeness to the content, the teacher's error at relu3_1
speed           seconds for one evaluation, and how many go into one of VGG-19's, in turns
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

import nst_helpers as nst
from nst_helpers.losses import RATIOS
from scripts.network.photographs import plain_batch, read_photographs, split_photographs

JUDGED = ("relu1_1", "relu2_1", "relu3_1")
RECONSTRUCTED = ("relu1_2", "relu2_2", "relu3_2", "relu4_2", "relu5_2")
Part = tuple[dict[str, float], dict[str, torch.Tensor]]  # numbers and pictures, by name
Results = dict[str, dict[str, float]]  # numbers by network and name


class Judge:
    """The real network's opinion of a picture."""

    def __init__(self, source: str) -> None:
        # As it was trained: the student's average pooling and normalisation are its own affair.
        self.net = nst.load_network(source, pooling="max", normalise=False)

    def gram_errors(self, image: torch.Tensor, style: torch.Tensor) -> list[float]:
        with torch.no_grad():
            maps = [self.net(each, JUDGED) for each in (image, style)]
        grams = [[nst.gram_matrix(each[n]) for each in maps] for n in JUDGED]
        return [((g - a).square().sum() / a.square().sum()).item() for g, a in grams]


def luminance(image: torch.Tensor) -> torch.Tensor:
    return (image * image.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)


def likeness(image: torch.Tensor, photograph: torch.Tensor) -> float:
    small = [F.interpolate(luminance(i), (32, 32), mode="area") for i in (image, photograph)]
    return torch.corrcoef(torch.stack(small).flatten(1))[0, 1].item()


def fine_grain(image: torch.Tensor) -> float:
    """Return the share of the power above half the Nyquist frequency."""
    gray = luminance(image)[0, 0]
    power = torch.fft.fft2(gray - gray.mean()).abs().square()
    frequencies = [torch.fft.fftfreq(n, device=gray.device) for n in gray.shape]
    radius = (frequencies[0][:, None].square() + frequencies[1].square()).sqrt()
    return (power[radius > 0.25].sum() / power.sum()).item()


# --- the parts of the table ---------------------------------------------------------------------


def predictions(
    net: nst.Features, judge: Judge, known: torch.Tensor, new: torch.Tensor
) -> dict[str, float]:
    """Fit the maps on ``known`` photographs, judge them on ``new`` ones."""
    numbers = {}
    for layer in (n for n in judge.net.layers if n.startswith("relu") and n in net.layers):
        with torch.no_grad():
            x, y = (n(known, [layer])[layer].movedim(1, -1).flatten(0, 2) for n in (net, judge.net))
            weight, bias = linear_map(x, y)
            x, y = (n(new, [layer])[layer].movedim(1, -1).flatten(0, 2) for n in (net, judge.net))
            error = (x @ weight + bias - y).square().mean() / (y - y.mean(0)).square().mean()
        numbers[f"prediction {layer}"] = error.item()
    return numbers


def textures(
    net: nst.Features, judge: Judge, args: argparse.Namespace, run: Callable[..., torch.Tensor]
) -> Part:
    numbers, pictures = {}, {}
    for name in args.textures:
        style = nst.load_image(name, args.size)
        loss = nst.StyleTransferLoss(net, style=style, style_layers=style_layers_of(net))
        image = run(loss, nst.noise_like(style, args.seed))
        for layer, error in zip(JUDGED, judge.gram_errors(image, style), strict=True):
            numbers[f"texture {name} {layer}"] = error
        numbers[f"texture {name} fine grain"] = fine_grain(image) / fine_grain(style)
        pictures |= {f"{name}, the model": style, f"{name}, texture": image}
    return numbers, pictures


def transfers(
    net: nst.Features, judge: Judge, args: argparse.Namespace, run: Callable[..., torch.Tensor]
) -> Part:
    numbers, pictures = {}, {}
    for pair in args.transfers:
        content, style = (nst.load_image(name, args.size) for name in pair.split("+"))
        image = run(transfer_loss(net, content, style, 1e-3), content)
        for layer, error in zip(JUDGED, judge.gram_errors(image, style), strict=True):
            numbers[f"transfer {pair} {layer}"] = error
        pictures[pair] = image
    return numbers, pictures


def reconstructions(
    net: nst.Features, judge: Judge, args: argparse.Namespace, run: Callable
) -> Part:
    content = nst.load_image(args.content, args.size)
    numbers, pictures = {}, {args.content: content}
    for layer in (name for name in RECONSTRUCTED if name in net.layers):
        loss = nst.StyleTransferLoss(net, content=content, content_layers=layer)
        image = run(loss, nst.noise_like(content, args.seed))
        error = (image - content).square().mean().sqrt().item()
        numbers |= {f"likeness {layer}": likeness(image, content), f"pixel error {layer}": error}
        pictures[f"{args.content} from {layer}"] = image
    return numbers, pictures


def sweep(
    net: nst.Features, judge: Judge, args: argparse.Namespace, run: Callable[..., torch.Tensor]
) -> Part:
    content, style = (nst.load_image(name, args.size) for name in args.sweep.split("+"))
    numbers, pictures = {}, {}
    for ratio in RATIOS:
        image = run(transfer_loss(net, content, style, ratio), nst.noise_like(content, args.seed))
        numbers[f"sweep {ratio:g} likeness"] = likeness(image, content)
        numbers[f"sweep {ratio:g} relu3_1"] = judge.gram_errors(image, style)[-1]
        pictures[f"{args.sweep}, {ratio:g}"] = image
    return numbers, pictures


def speed(nets: dict[str, nst.Features], size: int, rounds: int = 7) -> Results:
    """Time one evaluation of each network and of VGG-19, in turns; random weights cost the same."""
    vgg = nst.load_network("random", normalise=False)
    losses, seconds = [], []
    for net in [vgg, *nets.values()]:
        image = torch.rand(1, 3, size, size, device=net.device)
        losses.append((transfer_loss(net, image, image, 1e-3), image.requires_grad_(True)))
    for _ in range(rounds + 1):
        seconds.append([evaluation_seconds(*pair) for pair in losses])
    median = [statistics.median(s) for s in zip(*seconds[1:], strict=True)]  # the first warms up
    return {
        name: {"seconds per evaluation": each, "evaluations to one of VGG-19": median[0] / each}
        for name, each in zip(nets, median[1:], strict=True)
    }


def evaluation_seconds(loss: nst.StyleTransferLoss, image: torch.Tensor) -> float:
    started_at = time.perf_counter()
    torch.autograd.grad(loss(image).total.sum(), image)[0].sum().item()  # .item() waits for a GPU
    return time.perf_counter() - started_at


def linear_map(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weight (N, K) and bias (K,) that predict ``y`` (M, K) from ``x`` (M, N) best."""
    sampled = torch.arange(0, len(x), max(1, len(x) // 20_000), device=x.device)
    x, y = x[sampled], y[sampled]
    centred = x - x.mean(0)
    covariance = centred.mT @ centred
    ridge = 1e-4 * covariance.diagonal().mean() * torch.eye(x.shape[1], device=x.device)
    weight = torch.linalg.solve(covariance + ridge, centred.mT @ (y - y.mean(0)))
    return weight, y.mean(0) - x.mean(0) @ weight


def style_layers_of(net: nst.Features) -> list[str]:
    """Return the style layers as far as the network reaches; some files end at block 3."""
    return [name for name in nst.STYLE_LAYERS if name in net.layers]


def transfer_loss(
    net: nst.Features, content: torch.Tensor, style: torch.Tensor, ratio: float
) -> nst.StyleTransferLoss:
    deepest = [name for name in net.layers if name.startswith("relu")][-1]
    layer = nst.CONTENT_LAYERS if nst.CONTENT_LAYERS[0] in net.layers else deepest
    return nst.StyleTransferLoss(
        net, content, style, alpha=ratio, content_layers=layer, style_layers=style_layers_of(net)
    )


PARTS = {f.__name__: f for f in (textures, transfers, reconstructions, sweep)}


# --- all together -------------------------------------------------------------------------------


def evaluate(
    name: str, net: nst.Features, judge: Judge, args: argparse.Namespace
) -> tuple[dict[str, float], list[dict[str, torch.Tensor]]]:
    """Return all numbers of one network but its speed, and the pictures of each part."""
    numbers, rows = {}, []
    if args.photos:
        known, new = args.crops
        numbers |= predictions(net, judge, known, new)
    with tqdm(desc=name, unit="evaluation") as bar:

        def run(loss: nst.StyleTransferLoss, start: torch.Tensor) -> torch.Tensor:
            options = {"steps": args.steps, "range_weight": args.range_weight}
            return nst.optimize(loss, start, callback=lambda p: bar.update(), **options).image

        for part in args.parts:
            measured, pictures = PARTS[part](net, judge, args, run)
            numbers |= measured
            rows.append(pictures)
    return numbers, rows


def contact_sheet(title: str, rows: list[dict[str, torch.Tensor]]) -> Image.Image:
    """Paste all pictures beside each other, pixel for pixel."""
    font = ImageFont.load_default(16)
    tiles = [[(name, nst.to_pil(p)) for name, p in row.items()] for row in rows]
    width = max(sum(tile.width + 8 for _, tile in row) for row in tiles)
    height = sum(max(tile.height for _, tile in row) + 32 for row in tiles)
    sheet = Image.new("RGB", (width, height + 32), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((4, 6), title, "black", font)
    y = 32
    for row in tiles:
        x = 4
        for name, tile in row:
            draw.text((x, y + 6), name, "black", font)
            sheet.paste(tile, (x, y + 28))
            x += tile.width + 8
        y += max(tile.height for _, tile in row) + 32
    return sheet


def table(results: Results) -> str:
    """Return the numbers as a Markdown table, one column for each network."""
    rows = list(dict.fromkeys(row for numbers in results.values() for row in numbers))
    lines = [f"| | {' | '.join(results)} |", "|---" * (len(results) + 1) + "|"]
    for row in rows:
        cells = [f"{r[row]:.2g}" if row in r else "" for r in results.values()]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


def validate(args: argparse.Namespace) -> None:
    """Raise ValueError or FileNotFoundError for what would fail only after minutes of work."""
    if args.steps < 1:
        raise ValueError(f"--steps must be 1 or more; got {args.steps}")
    names = [args.content, *args.textures]
    for pair in [args.sweep, *args.transfers]:
        if pair.count("+") != 1:
            raise ValueError(f"expected content+style, such as coffee+wave; got {pair!r}")
        names += pair.split("+")
    for name in names:
        nst.load_image(name, args.size)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("networks", nargs="*", default=["bundled"], help="bundled, random, vgg19, or files")
    add("--teacher", required=True, help="'vgg19', or a file with a VGG's blocks 1 to 3")
    add("--no-yardstick", action="store_true", help="do not make the teacher's own pictures")
    add("--photos", type=Path, help="folder or zip of photographs, as in training")
    add("--output", type=Path, default=Path("output/evaluation"), help="folder to write into")
    add("--size", type=int, default=256, help="of the pictures' shorter side")
    add("--steps", type=int, default=300, help="evaluations for each picture")
    add("--textures", nargs="+", default=["pebbles", "brick", "night_sky"])
    add("--transfers", nargs="+", default=["chelsea+night_sky", "coffee+bojagi"])
    add("--content", default="chelsea", help="photograph to reconstruct")
    add("--sweep", default="chelsea+night_sky")
    add("--parts", nargs="*", choices=PARTS, default=list(PARTS), help="which pictures to make")
    add("--range-weight", type=float, default=3.0, help="as for nst_helpers.optimize")
    add("--seed", type=int, default=0)
    return parser


def main() -> None:
    parser = make_parser()
    args = parser.parse_args()
    try:  # before the work, not after
        validate(args)
        judge = Judge(args.teacher)
        names = args.networks if args.no_yardstick else [*args.networks, args.teacher]
        nets = {Path(name).stem: nst.load_network(name) for name in dict.fromkeys(names)}
        if len(nets) < len(set(names)):
            raise ValueError(f"two of the networks would have one name: {', '.join(names)}")
    except (ValueError, OSError, ImportError) as error:
        parser.error(str(error))
    args.output.mkdir(parents=True, exist_ok=True)
    if args.photos:
        held_out, photos = split_photographs(
            read_photographs(args.photos), random.Random(args.seed)
        )
        rng = random.Random(1)
        crops = plain_batch(rng, photos, 96, 80), plain_batch(rng, held_out, 64, 80)
        args.crops = [c.to(judge.net.device) for c in crops]
    results = speed(nets, args.size)
    for name, net in nets.items():
        numbers, rows = evaluate(name, net, judge, args)
        results[name] = numbers | results[name]
        if rows:
            title = f"{name}: {args.size} px, {args.steps} evaluations each"
            contact_sheet(title, rows).save(args.output / f"{name}.png")
        (args.output / "evaluation.json").write_text(json.dumps(results, indent=1))
    print(table(results))
    print(f"\ncontact sheets: {args.output}")


if __name__ == "__main__":
    main()
