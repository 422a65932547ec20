"""Judge networks by the pictures they make: a table, and two contact sheets.

    python -m scripts.network.evaluate bundled my.safetensors --teacher vgg19_normalised.safetensors

Whether a small network paints like VGG-19 is not for itself to say: the teacher, the whole VGG-19
with average pooling, compares all pictures with what they were made of. Its own pictures, made in
as many evaluations, are the last column and the last row of the sheets. Everything starts from
noise; nothing of images/ is trained on (but drawings by the same painters are).

texture         the teacher's ||G - A||^2 / ||A||^2 in each style layer; grain: share of the power
                above half the Nyquist frequency, over the style picture's
transfer        for each alpha/beta the same; content: the teacher's squared error at relu4_2, over
                the content's variance there; likeness: correlation of the 32 x 32 luminances
reconstruction  from one layer: mean squared error of the pixels; the teacher's of that layer, over
                the photograph's variance there
borders         transfer, 1e-2: contrast (deviation of the luminance) and colourfulness (mean
                distance from grey) of the outer 8 px over the inside's, for shapes and pairs
curvature       change of the loss's gradient over that of the picture, by ten bands of spatial
                frequency, low to high, over the last band's: what the optimiser feels of errors
speed           evaluations of loss and gradient in the time of one of VGG-19's
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

import nst_helpers as nst
from nst_helpers.engine.allocation import hold_freed_memory
from nst_helpers.images import cover_image
from nst_helpers.losses import RATIOS

CONTENT = nst.CONTENT_LAYERS[0]
BORDER = 8  # px
Numbers = dict[str, list[float]]  # by row of the table
Pictures = dict[str, torch.Tensor]  # by title
Paint = Callable[[nst.StyleTransferLoss, torch.Tensor], torch.Tensor]


# --- what is measured ---------------------------------------------------------------------------


@torch.no_grad()
def gram_errors(judge: nst.Features, image: torch.Tensor, style: torch.Tensor) -> list[float]:
    """Return ||G - A||^2 / ||A||^2 in the style layers, in their order."""
    maps = [judge(each, nst.STYLE_LAYERS) for each in (image, style)]
    grams = [[nst.gram_matrix(each[n]) for each in maps] for n in nst.STYLE_LAYERS]
    return [((g - a).square().sum() / a.square().sum()).item() for g, a in grams]


@torch.no_grad()
def feature_error(
    judge: nst.Features, image: torch.Tensor, content: torch.Tensor, layer: str
) -> float:
    """Return the squared error of a layer over the content's variance in it."""
    x, y = (judge(each, [layer])[layer] for each in (image, content))
    return ((x - y).square().sum() / (y - y.mean((2, 3), keepdim=True)).square().sum()).item()


def luminance(image: torch.Tensor) -> torch.Tensor:
    """Return (B, 1, H, W)."""
    return (image * image.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)


def likeness(image: torch.Tensor, photograph: torch.Tensor) -> float:
    """Return the correlation of the luminances, 32 x 32."""
    small = [F.interpolate(luminance(i), (32, 32), mode="area") for i in (image, photograph)]
    return torch.corrcoef(torch.stack(small).flatten(1))[0, 1].item()


def fine_grain(image: torch.Tensor) -> float:
    """Return the share of the power above half the Nyquist frequency."""
    gray = luminance(image)[0, 0]
    power = torch.fft.fft2(gray - gray.mean()).abs().square()
    frequencies = [torch.fft.fftfreq(n, device=gray.device) for n in gray.shape]
    radius = (frequencies[0][:, None].square() + frequencies[1].square()).sqrt()
    return (power[radius > 0.25].sum() / power.sum()).item()


def border_ratios(image: torch.Tensor) -> list[float]:
    """Return contrast and colourfulness of the outer 8 px, over the inside's."""
    outside = torch.ones(image.shape[2:], dtype=torch.bool, device=image.device)
    outside[BORDER:-BORDER, BORDER:-BORDER] = False
    gray = luminance(image)
    chroma = (image - gray).square().sum(1).sqrt()[0]
    contrast, colour = (
        [values[mask] for mask in (outside, ~outside)] for values in (gray[0, 0], chroma)
    )
    return [
        (contrast[0].std() / contrast[1].std()).item(),
        (colour[0].mean() / colour[1].mean()).item(),
    ]


def curvature(loss: nst.StyleTransferLoss, image: torch.Tensor) -> list[float]:
    """Return the gradient's change for a small noise of each band of frequency, over the last."""

    def gradient(x: torch.Tensor) -> torch.Tensor:
        x = x.clone().requires_grad_(True)
        return torch.autograd.grad(loss(x).total.sum(), x)[0]

    shape = image.shape[2:]
    radius = torch.hypot(torch.fft.fftfreq(shape[0])[:, None], torch.fft.rfftfreq(shape[1])[None])
    noise = torch.fft.rfft2(torch.randn(image.shape, generator=torch.Generator().manual_seed(0)))
    start, felt = gradient(image), []
    for band in range(10):
        inside = (radius > band * 0.05) & (radius <= (band + 1) * 0.05)
        step = torch.fft.irfft2(noise * inside, s=shape).to(image)
        step *= 0.02 / step.square().mean().sqrt()
        change = torch.fft.rfft2(gradient(image + step) - start) * inside.to(image.device)
        felt.append((torch.fft.irfft2(change, s=shape).norm() / step.norm()).item())
    return [each / felt[-1] for each in felt]


def speeds(nets: dict[str, nst.Features], size: int, rounds: int = 7) -> dict[str, float]:
    """Return how many evaluations go into one of VGG-19's; timed in turns."""
    vgg = nst.load_network("random", normalise=False)  # random weights cost the same
    losses, seconds = [], []
    for net in [vgg, *nets.values()]:
        image = torch.rand(1, 3, size, size, device=net.device)
        loss = nst.StyleTransferLoss(net, image, image, alpha=1e-3)
        losses.append((loss, image.requires_grad_(True)))
    with hold_freed_memory():  # as a run has it
        for _ in range(rounds + 1):
            seconds.append([evaluation_seconds(*pair) for pair in losses])
    first, *others = (statistics.median(s) for s in zip(*seconds[1:], strict=True))
    return {name: first / each for name, each in zip(nets, others, strict=True)}


def evaluation_seconds(loss: nst.StyleTransferLoss, image: torch.Tensor) -> float:
    """Return the time of one evaluation; the first warms up."""
    started_at = time.perf_counter()
    torch.autograd.grad(loss(image).total.sum(), image)[0].sum().item()  # .item() waits for a GPU
    return time.perf_counter() - started_at


# --- the pictures -------------------------------------------------------------------------------


def square(name: str, size: int) -> torch.Tensor:
    """Return the middle of a picture, ``size`` x ``size``."""
    return cover_image(nst.load_image(name, size), size, size).contiguous()


def squares(
    net: nst.Features, judge: nst.Features, paint: Paint, args: argparse.Namespace
) -> tuple[Numbers, Pictures]:
    """Make the textures, transfers and reconstructions."""
    numbers, pictures = {}, {}
    for name in args.textures:
        style = square(name, args.size)
        image = pictures[name] = paint(nst.StyleTransferLoss(net, style=style), style)
        numbers[f"texture {name}"] = gram_errors(judge, image, style)
        numbers[f"texture {name}, grain"] = [fine_grain(image) / fine_grain(style)]
    content, style = square(args.content, args.size), square(args.style, args.size)
    for ratio in args.ratios:
        loss = nst.StyleTransferLoss(net, content, style, alpha=ratio)
        image = pictures[f"{ratio:g}"] = paint(loss, content)
        numbers[f"transfer {ratio:g}"] = gram_errors(judge, image, style)
        numbers[f"transfer {ratio:g}, content"] = [feature_error(judge, image, content, CONTENT)]
        numbers[f"transfer {ratio:g}, likeness"] = [likeness(image, content)]
    for layer in args.layers:
        loss = nst.StyleTransferLoss(net, content=content, content_layers=layer)
        image = pictures[layer] = paint(loss, content)
        error = (image - content).square().mean().item()
        judged = feature_error(judge, image, content, layer)
        numbers[f"reconstruction {layer}: pixels, judged"] = [error, judged]
    loss = nst.StyleTransferLoss(net, content, style, alpha=1e-3)
    numbers["curvature"] = curvature(loss, content)
    return numbers, pictures


def borders(
    net: nst.Features, judge: nst.Features, paint: Paint, args: argparse.Namespace
) -> tuple[Numbers, Pictures]:
    """Transfer every pair in every shape."""
    numbers, pictures = {}, {}
    for shape in args.shapes:
        width, height = map(int, shape.split("x"))
        for pair in args.pairs:
            names = pair.split("+")
            content = cover_image(nst.load_image(names[0]), height, width).contiguous()
            style = nst.load_image(names[1], max(160, min(width, height)))
            image = paint(nst.StyleTransferLoss(net, content, style, alpha=1e-2), content)
            pictures[f"{shape} {pair}"] = image
            numbers[f"borders {shape} {pair}"] = border_ratios(image)
    every = list(zip(*numbers.values(), strict=True))
    return {**numbers, "borders, mean": [statistics.mean(each) for each in every]}, pictures


# --- all together -------------------------------------------------------------------------------


def contact_sheet(rows: dict[str, Pictures]) -> Image.Image:
    """Paste the networks' pictures pixel for pixel, one network under the other.

    What does not fit beside each other begins a new band.
    """
    font, first = ImageFont.load_default(11), next(iter(rows.values()))
    limit, bands, width = max(2000, *(p.shape[3] for p in first.values())), [[]], 0
    for title, picture in first.items():
        if bands[-1] and width + picture.shape[3] > limit:
            bands.append([])
            width = 0
        bands[-1].append(title)
        width += picture.shape[3] + 4
    tall = [max(first[title].shape[2] for title in band) + 22 for band in bands]
    wide = max(sum(first[title].shape[3] + 4 for title in band) for band in bands)
    sheet = Image.new("RGB", (wide, sum(tall) * len(rows)), "white")
    draw, y = ImageDraw.Draw(sheet), 0
    for band, height in zip(bands, tall, strict=True):
        for name, pictures in rows.items():
            x = 0
            for title in band:
                words = f"{name}: {title}" if x == 0 else title
                draw.text((x + 2, y + 2), words, "black", font)
                sheet.paste(nst.to_pil(pictures[title]), (x, y + 20))
                x += pictures[title].shape[3] + 4
            y += height
    return sheet


def table(results: dict[str, Numbers]) -> str:
    """Return the numbers as a Markdown table, one column for each network."""
    rows = list(dict.fromkeys(row for numbers in results.values() for row in numbers))
    lines = [f"| | {' | '.join(results)} |", "|---" * (len(results) + 1) + "|"]
    for row in rows:
        cells = [", ".join(f"{v:.2g}" for v in r.get(row, [])) for r in results.values()]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


def validate(args: argparse.Namespace) -> None:
    """Raise ValueError or FileNotFoundError for what would fail only after minutes of work."""
    if args.steps < 1:
        raise ValueError(f"--steps must be 1 or more; got {args.steps}")
    names = [args.content, args.style, *args.textures]
    for pair in args.pairs:
        if pair.count("+") != 1:
            raise ValueError(f"expected content+style, such as coffee+wave; got {pair!r}")
        names += pair.split("+")
    for name in names:
        nst.load_image(name, args.size)
    for shape in args.shapes:
        sides = shape.split("x")
        if len(sides) != 2 or not all(s.isdecimal() and int(s) > 2 * BORDER for s in sides):
            raise ValueError(f"expected width x height over 16 px, as in 768x96; got {shape!r}")


def make_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("networks", nargs="*", default=["bundled"], help="bundled, random, vgg19, or files")
    add("--teacher", required=True, help="'vgg19', or a file with the whole VGG-19")
    add("--no-yardstick", action="store_true", help="do not make the teacher's own pictures")
    add("--output", type=Path, default=Path("output/evaluation"), help="folder to write into")
    add("--size", type=int, default=192, help="side of the square pictures")
    add("--steps", type=int, default=200, help="evaluations for each picture")
    add("--textures", nargs="*", default=["pebbles", "night_sky", "wave"])
    add("--content", default="chelsea", help="photograph to reconstruct and to paint")
    add("--style", default="night_sky", help="painting of the transfers")
    add("--ratios", nargs="*", type=float, default=RATIOS, help="alpha/beta")
    add("--layers", nargs="*", default=["relu3_2", "relu4_2", "relu5_2"], help="to reconstruct")
    add("--shapes", nargs="*", default=["213x160", "284x160", "768x96"], help="for the borders")
    add("--pairs", nargs="*", default=["coffee+wave", "astronaut+night_sky"], help="likewise")
    add("--seed", type=int, default=0)
    return parser


def main() -> None:
    """Run the command."""
    parser = make_parser()
    args = parser.parse_args()
    try:  # before the work, not after
        validate(args)
        judge = nst.load_network(args.teacher)
        nets = {Path(name).stem: nst.load_network(name) for name in args.networks}
        if len(nets) < len(args.networks) or Path(args.teacher).stem in nets:
            raise ValueError(f"two networks have one name: {', '.join(args.networks)}")
    except (ValueError, OSError, ImportError) as error:
        parser.error(str(error))
    if not args.no_yardstick:
        nets[Path(args.teacher).stem] = judge
    args.output.mkdir(parents=True, exist_ok=True)
    results: dict[str, Numbers] = {}
    sheets: dict[str, dict[str, Pictures]] = {"squares": {}, "borders": {}}
    for name, net in nets.items():
        results[name] = {}
        with tqdm(desc=name, unit="evaluation") as bar:

            def paint(loss: nst.StyleTransferLoss, like: torch.Tensor) -> torch.Tensor:
                start = nst.noise_like(like, args.seed)
                return nst.optimize(
                    loss, start, steps=args.steps, callback=lambda p: bar.update()
                ).image

            for part in (squares, borders):
                numbers, pictures = part(net, judge, paint, args)
                results[name] |= numbers
                sheets[part.__name__][name] = pictures
                if pictures:
                    file = args.output / f"{part.__name__}.png"
                    contact_sheet(sheets[part.__name__]).save(file)
        (args.output / "evaluation.json").write_text(json.dumps(results, indent=1))
    for name, times in speeds(nets, args.size).items():
        results[name]["speed"] = [times]
    (args.output / "evaluation.json").write_text(json.dumps(results, indent=1))
    print(table(results))
    print(f"\ncontact sheets: {args.output}")


if __name__ == "__main__":
    main()
