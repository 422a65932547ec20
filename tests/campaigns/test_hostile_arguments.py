"""Every argument of every public function, given what it is not made for.

It is taken, as far as it makes sense, or refused by the argument's name, with what came.
"""

import decimal
import fractions
import functools
import inspect
import itertools
import pathlib

import numpy as np
import pytest
import torch
from oracle import attempt, check_image

import nst_helpers as nst
from helpers import make_picture, make_weights
from nst_helpers.images import cover_image, to_image

IMAGE = make_picture(36, 32)
NONSENSE = {
    "None": lambda: None,
    "True": lambda: True,
    "object": object,
    "function": lambda: len,
    "class": lambda: int,
    "text": lambda: "x",
    "empty text": lambda: "",
    "number as text": lambda: "1",
    "surrogate": lambda: "\udc80\0",
    "long text": lambda: "a" * 5_000,
    "bytes": lambda: b"x",
    "path": lambda: pathlib.Path("nothing/here.jpg"),
    "empty list": list,
    "list": lambda: [1, "x", None],
    "nested": lambda: [[1], [2, 3]],
    "list of lists": lambda: [[[0.5] * 3] * 4] * 5,
    "dict": lambda: {"a": 1},
    "odd dict": lambda: {1: None, None: "x"},
    "set": lambda: {1, 2},
    "generator": lambda: (i for i in range(-1, 2)),
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "-1": lambda: -1,
    "0": lambda: 0,
    "1.5": lambda: 1.5,
    "1e308": lambda: 1e308,
    "1e-320": lambda: 1e-320,
    "10**30": lambda: 10**30,
    "10**400": lambda: 10**400,
    "complex": lambda: 1j,
    "decimal": lambda: decimal.Decimal("NaN"),
    "fraction": lambda: fractions.Fraction(-1, 3),
    "numpy int": lambda: np.int64(3),
    "numpy nan": lambda: np.float16("nan"),
    "numpy bool": lambda: np.True_,
    "numpy text": lambda: np.array(["x"]),
    "numpy objects": lambda: np.array([None, {}], dtype=object),
    "numpy image of 255": lambda: np.full((32, 32, 3), 200.0),
    "scalar tensor": lambda: torch.tensor(2.0),
    "empty tensor": lambda: torch.zeros(0),
    "empty batch": lambda: IMAGE[:0],
    "no width": lambda: IMAGE[..., :0],
    "two channels": lambda: IMAGE[:, :2],
    "flat": lambda: IMAGE[0, 0],
    "huge batch by strides": lambda: IMAGE.expand(10**9, 3, 36, 32),
    "of 0 to 255": lambda: IMAGE * 255,
    "uint8": lambda: (IMAGE * 255).to(torch.uint8),
    "bool image": lambda: IMAGE > 0.5,
    "int64 image": lambda: (IMAGE * 9).long(),
    "NaN image": lambda: IMAGE * torch.nan,
    "one inf": lambda: torch.where(IMAGE.max() == IMAGE, torch.inf, IMAGE),
    "complex image": lambda: IMAGE * 1j,
    "sparse image": lambda: IMAGE.to_sparse(),
    "meta image": lambda: IMAGE.to("meta"),
    "quantised image": lambda: torch.quantize_per_tensor(IMAGE, 0.01, 0, torch.quint8),
    "half image": lambda: IMAGE.half(),
    "double image": lambda: IMAGE.double(),
    "with gradient": lambda: IMAGE.clone().requires_grad_(),
    "negative strides": lambda: IMAGE.numpy()[:, :, ::-1],
}


@functools.cache
def network():
    return nst.Features(make_weights((2, 2, 2, 2, 2)), name="small network")


@functools.cache
def a_loss():
    return loss()


def loss(**options):
    options = {"content": IMAGE, "style": IMAGE, "style_layers": ["relu1_1"]} | options
    return nst.StyleTransferLoss(network(), **{"content_layers": ["relu1_1"]} | options)


def used(**options):
    return loss(**options)(IMAGE)


def optimise(loss=None, start=IMAGE, **options):
    options = {"steps": 2, "callback": lambda progress: progress.step < 2} | options
    return nst.optimize(loss or a_loss(), start, **options)


def sweep(contents=(IMAGE,), styles=(IMAGE,), **options):
    layers = {"content_layers": ["relu1_1"], "style_layers": ["relu1_1"]}
    options = {"ratios": [0.1], "steps": 1, "callback": lambda *_: False} | layers | options
    return nst.sweep(network(), contents, styles, **options)


def explorer(**options):
    options = {"content": IMAGE, "style": IMAGE, "net": network(), "size": 32, "steps": 1} | options
    nst.StyleTransferExplorer(**options).close()


def load_network(source="small.pth", **options):
    torch.save(make_weights((2, 2, 2, 2, 2)), "small.pth")
    return nst.load_network(source, **{"normalise": False} | options)


A_MAP = torch.ones(1, 2, 4, 4)
# Function and argument, and a call of it; further words that name the argument as well.
ARGUMENTS = {
    "load_image source": (nst.load_image, "picture"),
    "load_image size": (lambda x: nst.load_image("pebbles", size=x), "pixels"),
    "load_settings source": (nst.load_settings, "picture", "file"),
    "save_image image": (lambda x: nst.save_image(x, "out.png"),),
    "save_image path": (lambda x: nst.save_image(IMAGE, x), "cannot write", "ending"),
    "save_image settings": (lambda x: nst.save_image(IMAGE, "out.png", settings=x),),
    "save_animation images": (lambda x: nst.save_animation(x, "out.webp"), "image"),
    "save_animation path": (lambda x: nst.save_animation([IMAGE], x), "cannot", "ending"),
    "save_animation milliseconds": (
        lambda x: nst.save_animation([IMAGE, 1 - IMAGE], "out.webp", milliseconds=x),
    ),
    "save_animation last": (lambda x: nst.save_animation([IMAGE], "out.webp", last=x),),
    "save_animation quality": (lambda x: nst.save_animation([IMAGE], "out.webp", quality=x),),
    "to_pil image": (nst.to_pil,),
    "to_image picture": (to_image,),
    "resize_image image": (lambda x: nst.resize_image(x, 0.5),),
    "resize_image scale": (lambda x: nst.resize_image(IMAGE, x), "image", "pixels"),
    "cover_image image": (lambda x: cover_image(x, 20, 30),),
    "noise_like image": (nst.noise_like,),
    "noise_like seed": (lambda x: nst.noise_like(IMAGE, seed=x),),
    "noise_like mean": (lambda x: nst.noise_like(IMAGE, mean=x),),
    "noise_like std": (lambda x: nst.noise_like(IMAGE, std=x),),
    "fetch_image name": (nst.fetch_image,),
    "Features weights": (nst.Features,),
    "Features pooling": (lambda x: nst.Features(make_weights((1,) * 5), pooling=x),),
    "Features images": (lambda x: network()(x, ["relu1_1"]), "image"),
    "Features layers": (lambda x: network()(IMAGE, x), "layer"),
    "load_network source": (load_network, "network"),
    "load_network pooling": (lambda x: load_network(pooling=x),),
    "load_network normalise": (lambda x: load_network(normalise=x),),
    "load_network input_format": (lambda x: load_network(input_format=x),),
    "load_network device": (lambda x: load_network(device=x),),
    "load_network precision": (lambda x: load_network(precision=x),),
    "load_weights source": (nst.load_weights, "network"),
    "normalise_activations net": (lambda x: nst.normalise_activations(x, [IMAGE]),),
    "normalise_activations images": (lambda x: nst.normalise_activations(network(), x), "image"),
    "describe_device device": (nst.describe_device,),
    "gram_matrix features": (nst.gram_matrix,),
    "content_loss features": (lambda x: nst.content_loss(x, A_MAP),),
    "content_loss target": (lambda x: nst.content_loss(A_MAP, x),),
    "content_loss convention": (lambda x: nst.content_loss(A_MAP, A_MAP, x),),
    "style_loss features": (lambda x: nst.style_loss(x, A_MAP),),
    "style_loss target": (lambda x: nst.style_loss(A_MAP, x), "Gram matrix"),
    "total_variation image": (nst.total_variation,),
    "StyleTransferLoss net": (lambda x: nst.StyleTransferLoss(x, IMAGE, IMAGE),),
    "StyleTransferLoss content": (lambda x: used(content=x),),
    "StyleTransferLoss style": (lambda x: used(style=x),),
    "StyleTransferLoss styles": (lambda x: used(style=[x], content=None), "style"),
    "StyleTransferLoss alpha": (lambda x: used(alpha=x),),
    "StyleTransferLoss beta": (lambda x: used(beta=x),),
    "StyleTransferLoss content_layers": (lambda x: used(content_layers=x), "layer"),
    "StyleTransferLoss style_layers": (lambda x: used(style_layers=x), "layer"),
    "StyleTransferLoss style_layer_weights": (
        lambda x: used(style_layer_weights=x),
        "weight of relu1_1",
    ),
    "StyleTransferLoss tv_weight": (lambda x: used(tv_weight=x),),
    "StyleTransferLoss convention": (lambda x: used(convention=x),),
    "StyleTransferLoss memory": (lambda x: used(memory=x),),
    "StyleTransferLoss image": (lambda x: a_loss()(x),),
    "estimate_memory shape": (lambda x: nst.estimate_memory(a_loss(), x),),
    "estimate_memory optimizer": (
        lambda x: nst.estimate_memory(a_loss(), (1, 3, 36, 32), optimizer=x),
    ),
    "estimate_memory history_size": (
        lambda x: nst.estimate_memory(a_loss(), (1, 3, 36, 32), history_size=x),
    ),
    "optimize loss": (lambda x: nst.optimize(x, IMAGE, steps=1),),
    "optimize start": (lambda x: optimise(start=x),),
    "optimize steps": (lambda x: optimise(steps=x),),
    "optimize optimizer": (lambda x: optimise(optimizer=x),),
    "optimize lr": (lambda x: optimise(lr=x),),
    "optimize history_size": (lambda x: optimise(history_size=x), "memory"),
    "optimize pyramid": (lambda x: optimise(pyramid=x), "steps"),
    "optimize precondition": (lambda x: optimise(precondition=x),),
    "optimize range_weight": (lambda x: optimise(range_weight=x),),
    "optimize callback": (lambda x: optimise(callback=x, steps=1),),
    "optimize snapshots": (lambda x: optimise(snapshots=x),),
    "sweep contents": (lambda x: sweep(contents=x), "content"),
    "sweep a content": (lambda x: sweep(contents=[x]), "content"),
    "sweep styles": (lambda x: sweep(styles=x), "style"),
    "sweep ratios": (lambda x: sweep(ratios=x), "ratio"),
    "sweep seeds": (lambda x: sweep(seeds=x), "seed"),
    "sweep start": (lambda x: sweep(start=x),),
    "sweep callback": (lambda x: sweep(callback=x),),
    "sweep batch": (lambda x: sweep(batch=x),),
    "sweep client": (lambda x: sweep(client=x),),
    "sweep steps": (lambda x: sweep(steps=x),),
    "show_images images": (nst.show_images, "image"),
    "show_images titles": (lambda x: nst.show_images([IMAGE], x),),
    "show_images columns": (lambda x: nst.show_images([IMAGE], columns=x),),
    "show_images height": (lambda x: nst.show_images([IMAGE], height=x),),
    "show_images axes": (lambda x: nst.show_images([IMAGE], axes=x),),
    "show_matrix matrix": (nst.show_matrix,),
    "show_matrix rows": (lambda x: nst.show_matrix(torch.eye(3), rows=x),),
    "show_matrix limit": (lambda x: nst.show_matrix(torch.eye(3), limit=x),),
    "plot_history history": (nst.plot_history,),
    "plot_history ax": (lambda x: nst.plot_history([{"step": 1, "total": 2}], x),),
    "plot_layers net": (nst.plot_layers,),
    "plot_layers size": (lambda x: nst.plot_layers(network(), x),),
    "LiveView show_every": (lambda x: nst.LiveView(show_every=x),),
    "LiveView height": (lambda x: nst.LiveView(height=x),),
    "StyleTransferExplorer content": (lambda x: explorer(content=x), "picture"),
    "StyleTransferExplorer net": (lambda x: explorer(net=x), "network"),
    "StyleTransferExplorer size": (lambda x: explorer(size=x),),
    "StyleTransferExplorer steps": (lambda x: explorer(steps=x),),
    "StyleTransferExplorer output": (lambda x: explorer(output=x),),
    "budget full": (lambda x: nst.budget(x, 1),),
    "figures_as_jpeg quality": (lambda x: nst.figures_as_jpeg(quality=x),),
}
CASES = {
    f"{argument} = {nonsense}": (argument, nonsense)
    for argument, nonsense in itertools.product(ARGUMENTS, NONSENSE)
    # Whose function it is, its error is.
    if nonsense not in ("function", "class") or not argument.endswith(("callback", "loss"))
}


@pytest.mark.campaign(1_000, CASES)
def test_a_senseless_argument_is_refused_by_name_and_value(case, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    argument, nonsense = case
    call, *others = ARGUMENTS[argument]
    value = NONSENSE[nonsense]()
    name = argument.split()[-1]
    result = attempt(lambda: call(value), (name, *others), tuple(tokens(value)))
    if not isinstance(result, Exception):
        check_answer(result, finite=nonsense not in ("NaN image", "one inf"))
    assert capfd.readouterr().err == ""


def tokens(value):
    """Texts of which at least one tells a reader what came."""
    yield from (type(value).__name__, "this file" if isinstance(value, bytes) else f"{value!s:.12}")
    if isinstance(value, torch.Tensor | np.ndarray):
        yield from ("tensor(", "array(", str(tuple(value.shape)), f"{IMAGE.max() * 255:.4g}")
        yield from (str(value.dtype).removeprefix("torch."), "not finite", "NaN", "infinit")
        yield from (
            "sparse",
            "meta",
            "quantised",
            "empty",
            "0 images",
            "got 0",
            "filters",
            "Gram",
            "[]",
        )
        if value.ndim == 1 or value.shape == ():
            yield from (repr(item) for item in value.reshape(-1).tolist())
        return
    yield repr(value)[:12]
    if isinstance(value, list | tuple | set | dict):
        yield from (str(item) for item in value)
    elif isinstance(value, str):
        yield repr(value[:1])  # where a text is a list of letters
    elif isinstance(value, int):
        yield f"1e+{len(str(value)) - 1}"
    yield from () if value else ("no ", "nothing", "0", "empty")
    if inspect.isgenerator(value):
        yield "-1"  # its first item
    elif isinstance(value, pathlib.Path):
        yield value.name


def check_answer(result, finite):
    """Check that images are images, and that there is no NaN where none came in."""
    if isinstance(result, nst.Result):
        check_image(result.image, result.image.shape[0])
    elif isinstance(result, torch.Tensor):
        assert not finite or torch.isfinite(result).all()
    elif isinstance(result, list | tuple | dict):
        for item in result.values() if isinstance(result, dict) else result:
            check_answer(item, finite)
