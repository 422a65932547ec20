"""Sliders over a run that paints itself: the method's knobs, and what they do, at once.

The explorer reads its sliders between two steps of ``optimize`` and sets the weights of the loss;
everything else here is arrangement. Widgets are only ever *set* from the run's thread, which works
in every front end that shows anything from threads (Colab does not).
"""

from __future__ import annotations

import base64
import contextlib
import html
import io
import math
import re
import sys
import tempfile
import time
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ipywidgets
import torch
from IPython import get_ipython
from ipywidgets import HTML, HBox, VBox

from nst_helpers.explorer.controls import RATIOS, Controls, close_widget, curves_svg, set_value
from nst_helpers.network.features import Features, load_network
from nst_helpers.images import (
    encode_image,
    load_image,
    noise_like,
    pixel_size,
    resize_image,
    sample_images,
    save_animation,
    save_image,
    to_pil,
)
from nst_helpers.explorer.background import LiveRun
from nst_helpers.losses import StyleTransferLoss
from nst_helpers.optimization import Progress, Result, last_step

__all__ = ["StyleTransferExplorer"]

INTERVAL = 0.1  # seconds between two pictures
FRAMES = 80  # of a film, at most; then every second one is dropped
KEPT = 12  # pictures in the strip, at most
LARGEST = 8 * 2**20  # bytes of an upload: browsers' connections drop more than 10 MB silently
SMALLEST = 32  # pixels on each side of a picture of one's own
AT_RESET = ("content", "start", "size", "seed", "network")  # settings that count from then on
# The explorers in sight, by the cell that made them: a cell that is run again ends its old one.
_IN_CELLS: weakref.WeakValueDictionary[tuple, StyleTransferExplorer] = weakref.WeakValueDictionary()


class StyleTransferExplorer:
    """Style transfer with sliders that act while the picture paints itself.

    Show it as the last line of a notebook's cell. Whatever a button does, a method does too.

    Parameters
    ----------
    content, style : str, path or torch.Tensor
        A sample's name, a picture file, or an image (1, 3, H, W) in [0, 1].
    net : str, path or Features
        See ``load_network``.
    size : int
        Length of the shorter side, in pixels.
    steps : int
        After how many steps it rests.
    output : path
        The folder for what is saved.
    served : bool
        For a page that others open: no path of this machine can be typed in, what is saved is only
        offered as a download, and no network is downloaded.

    Attributes
    ----------
    view : ipywidgets.Widget
        What is shown.
    live : LiveRun
        The run behind it.

    Raises
    ------
    ValueError, FileNotFoundError
        As ``load_image`` and ``load_network``. Later errors are told in the explorer itself.

    Examples
    --------
    >>> explorer = StyleTransferExplorer("chelsea", "night_sky")
    >>> explorer
    """

    def __init__(
        self,
        content: str | Path | torch.Tensor = "chelsea",
        style: str | Path | torch.Tensor = "night_sky",
        *,
        net: str | Path | Features = "auto",
        size: int = 192,
        steps: int = 300,
        output: str | Path = "output",
        served: bool = False,
    ) -> None:
        self.served, self.output = served, Path(output)
        if served:
            self._folder = tempfile.TemporaryDirectory()  # goes with the explorer
            self.output = Path(self._folder.name)
        self._own: dict[str, bytes | torch.Tensor] = {}  # pictures that are no files
        self._nets: dict[str, Features] = {}
        self._kept: list[tuple[Result, dict, list]] = []
        self._curve: list[tuple[int, float, float]] = []
        self._frames: list[bytes] = []
        self._every, self._painted, self._due = 1, 0, 0.0
        threaded = "google.colab" not in sys.modules
        self.live = LiveRun(
            self._make_loss, self._turn, self._show, self._refresh, threaded=threaded
        )
        self.controls = Controls(served)
        self.view = self.controls.view
        set_value("size", self.controls.size, size)
        set_value("steps", self.controls.steps, steps)
        self._fill_networks(net)
        for control, picture in ((self.controls.content, content), (self.controls.style, style)):
            self._choose(control, picture)
        self._watch()
        self._fit_buttons()
        self.reset()
        if not threaded:
            _prepare_colab()
            self._say(
                "Colab shows nothing that comes from a thread, so Start keeps the notebook busy "
                "until its steps are done: sliders count from the next Start, and the cell's stop "
                "button interrupts."
            )
        _end_older_of_this_cell(self)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = self.view._repr_mimebundle_(**kwargs)
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        data["text/plain"] = repr(self)
        return bundle

    def __repr__(self) -> str:
        said = self.settings
        return (
            f"StyleTransferExplorer({said['content']!r}, {said['style']!r}, "
            f"size={said['size']}, alpha/beta={self._ratio_text()})"
        )

    # --- what the buttons do ---------------------------------------------------------------------

    def start(self) -> None:
        """Paint, or go on after a pause, a stop, or the last step."""
        self._say("")
        self.live.end = self._next_end()
        if not self.live.start():
            self._say("It is running already. Pause and Stop are beside Start.")

    def pause(self) -> None:
        """Hold the picture as it is, or let it go on."""
        if self.live.state == "paused":
            self.start()
        else:
            self.live.pause()

    def step(self) -> None:
        """Take one step, and pause."""
        self.live.end = self._next_end()
        self.live.pause()
        self.live.start(once=True)

    def stop(self, wait: bool = True) -> None:
        """End the run, and keep its picture.

        Parameters
        ----------
        wait : bool
            Until the step that is being taken is over.
        """
        self.live.stop(wait)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the run is over, and say whether it is.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most.
        """
        return self.live.join(timeout)

    def reset(self) -> None:
        """Go back to the start, with the pictures, size and seed that are set now."""
        self.live.stop()
        size = self.controls.size.value
        content = self._load(self.controls.content.value, size)
        start = content
        if self.controls.start_from.value == "noise":
            start = noise_like(content, self.controls.seed.value)
        elif self.controls.start_from.value == "style":
            start = _cover(self._load(self.controls.style.value, size), content)
        self._content, said = content, self.settings
        self._begun = {name: said[name] for name in AT_RESET}
        self._set_result(Result(start))

    def keep(self) -> None:
        """Put the picture into the strip, with its settings."""
        if len(self._kept) >= KEPT:
            raise ValueError(f"{KEPT} pictures are kept already; remove one (x) first")
        result, settings = self.live.so_far(), self._painted_with()
        thumbnail = ipywidgets.Image(value=encode_image(result.image), format="jpeg")
        back = ipywidgets.Button(
            description="Back to this", tooltip="Go back to this picture and its settings"
        )
        remove = ipywidgets.Button(description="x", tooltip="Remove this picture from the strip")
        said = f"{settings['style']}, step {last_step(result)}<br>alpha/beta {self._ratio_text()}"
        card = VBox([thumbnail, HTML(said), HBox([back, remove])]).add_class("nst-card")
        kept = (result, settings, card)
        back.on_click(self._guarded(lambda: self.go_back(kept)))
        remove.on_click(self._guarded(lambda: self._remove(kept)))
        self._kept.append(kept)
        self.controls.strip.children = (*self.controls.strip.children, card)

    def go_back(self, kept: tuple[Result, dict, Any]) -> None:
        """Go on from a kept picture, with the settings it had."""
        result, settings, _ = kept
        self.live.stop()
        self.settings = settings
        self.reset()
        self._set_result(result)
        self._say("")

    def save_png(self) -> Path:
        """Write the picture as PNG, its settings in the file; ``load_settings`` reads them."""
        result = self.live.so_far()
        settings = {**self._painted_with(), "step": last_step(result)}
        return self._saved(save_image(result.image, self._free_path("png"), settings), "png")

    def save_film(self) -> Path:
        """Write the run as it was seen, as an animation (WebP)."""
        frames = list(self._frames)
        if len(frames) < 2:
            raise ValueError("there is no film yet: press Start first")
        path = save_animation([load_image(frame) for frame in frames], self._free_path("webp"))
        return self._saved(path, "webp")

    def close(self) -> None:
        """Stop the run, and take everything off the screen."""
        self.live.stop(wait=False)
        close_widget(self.view)

    @property
    def image(self) -> torch.Tensor:
        """The picture as it is now, (1, 3, H, W) in [0, 1]."""
        return self.live.so_far().image

    @property
    def settings(self) -> dict:
        """What the controls say, as a dict that JSON can hold; set it, or some of it, to turn them.

        ``alpha``, ``beta`` and ``style_layer_weights`` are as for ``StyleTransferLoss``.
        """
        alpha, beta = self._weights()
        return {
            **{name: control.value for name, control in self.controls.named.items()},
            "alpha": alpha,
            "beta": beta,
            "style_layer_weights": {layer: s.value for layer, s in self.controls.layers.items()},
        }

    @settings.setter
    def settings(self, settings: dict) -> None:
        known = {*self.controls.named, "alpha", "beta", "style_layer_weights", "step"}
        if unknown := set(settings) - known:
            raise ValueError(f"unknown settings: {', '.join(sorted(unknown))}")
        for name, control in self.controls.named.items():
            if name not in settings:
                continue
            if control in self.controls.thumbnails:
                self._choose(control, settings[name])
            else:
                set_value(name, control, settings[name])
        for layer, weight in settings.get("style_layer_weights", {}).items():
            if layer not in self.controls.layers:
                raise ValueError(
                    f"style layers are {', '.join(self.controls.layers)}; got {layer!r}"
                )
            set_value(layer, self.controls.layers[layer], weight)
        if "alpha" in settings or "beta" in settings:
            alpha, beta = self._weights()
            self._set_ratio(settings.get("alpha", alpha), settings.get("beta", beta))

    def _set_ratio(self, alpha: float, beta: float) -> None:
        if not (alpha >= 0 and beta >= 0 and alpha + beta > 0):
            raise ValueError(f"alpha and beta must be >= 0, not both 0; got {alpha!r} and {beta!r}")
        ratio = alpha / beta if beta else math.inf
        if ratio in (0, math.inf):
            self.controls.presets.value = ratio
        else:
            set_value("alpha / beta", self.controls.ratio, ratio)
            self._press_preset()

    # --- the run's side: called between two steps, in its thread ---------------------------------

    def _make_loss(self) -> StyleTransferLoss:
        style = self._load(self.controls.style.value, self._begun["size"])
        network = self._begun["network"]
        net = self._nets.get(network)
        if net is None:
            self._say(f"loading the network {network} ...")
            net = self._nets[network] = load_network(network)
            self._say("")
        return StyleTransferLoss(
            net, self._content, style, content_layers=[self.controls.content_layer.value]
        )

    def _turn(self, loss: StyleTransferLoss) -> None:
        """Set the weights of the loss to what the sliders say: this is all that a slider does."""
        loss.alpha, loss.beta = self._weights()
        for layer, slider in self.controls.layers.items():
            loss.style_layer_weights[layer] = slider.value

    def _show(self, progress: Progress, waits: bool) -> None:
        if not self._curve or self._curve[-1][0] < progress.step:
            self._curve.append((progress.step, progress.terms["content"], progress.terms["style"]))
        now = time.monotonic()
        if waits or now >= self._due:
            self._due = now + INTERVAL
            self._paint(progress.image(), progress.step)

    def _paint(self, image: torch.Tensor, step: int) -> None:
        picture = encode_image(image)
        self.controls.picture.value = picture
        if step and self._painted % self._every == 0:
            self._frames.append(picture)
            if len(self._frames) > FRAMES:
                del self._frames[1::2]
                self._every *= 2
        self._painted += 1
        end, rate = max(self.live.end, self.controls.steps.value), self.live.steps_per_second
        self.controls.bar.max, self.controls.bar.value = end, step
        said = f"step <b>{step}</b> of {end}"
        if rate and self.live.state == "running":
            said += f" · {rate:.0f} steps per second · {max(0, end - step) / rate:.0f} s left"
        elif self.live.state == "paused":
            said += " · paused"
        self.controls.status.value = said
        self.controls.plot.value = curves_svg(self._curve, end)

    def _fit_buttons(self) -> None:
        state = self.live.state
        for button, states in (
            (self.controls.buttons["Start"], ("idle", "paused")),
            (self.controls.buttons["Pause"], ("running", "paused")),
            (self.controls.buttons["Step"], ("idle", "paused")),
            (self.controls.buttons["Stop"], ("running", "paused")),
        ):
            button.disabled = state not in states
        paused = state == "paused"
        self.controls.buttons["Pause"].description = "Resume" if paused else "Pause"
        self.controls.buttons["Pause"].icon = "play" if paused else "pause"

    def _refresh(self) -> None:
        """Fit buttons, message and picture to the run's state, which has just changed."""
        self._fit_buttons()
        if self.live.state != "idle":
            return
        error, result = self.live.error, self.live.result
        if error is not None:
            self._say(self._explain(error))
        elif result.stopped not in ("done", "callback", "interrupted"):
            self._say(f"{result.stopped}. This is the last good picture; turn something and Start.")
        elif result.stopped == "done":
            self._say("No step makes the loss any lower. Turn a slider, and Start.")
        self._paint(result.image, last_step(result))

    def _explain(self, error: Exception) -> str:
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "memory" in str(error):
            fits = int(0.7 * self._begun["size"]) // 16 * 16
            hint = "" if "would fit" in str(error) else f" Try size {fits}, and Reset."
            return f"Not enough memory: {error}.{hint}"
        if isinstance(error, (ValueError, OSError, ImportError)):
            return f"{error}"
        return f"{type(error).__name__}: {error}"

    # --- what controls ask for -------------------------------------------------------------------

    def _weights(self) -> tuple[float, float]:
        """Return alpha and beta."""
        limit = self.controls.presets.value
        return {0.0: (0.0, 1.0), math.inf: (1.0, 0.0)}.get(limit, (self.controls.ratio.value, 1.0))

    def _painted_with(self) -> dict:
        """Return the settings, without those that wait for Reset."""
        return {**self.settings, **self._begun}

    def _ratio_text(self) -> str:
        alpha, beta = self._weights()
        if not (alpha and beta):
            return "∞ (content only)" if alpha else "0 (texture only)"
        return re.sub(r"e([+-])0*(\d)", r"e\1\2", f"{alpha / beta:.2g}")

    def _next_end(self) -> int:
        step = self._curve[-1][0] if self._curve else 0
        return self.controls.steps.value * (step // self.controls.steps.value + 1)

    def _set_result(self, result: Result) -> None:
        self.live.result, self.live.end, self.live.error = result, 0, None
        self._curve[:] = [(e["step"], e["content"], e["style"]) for e in result.history]
        self._frames.clear()
        self._every, self._painted = 1, 0
        self._paint(result.image, last_step(result))

    def _load(self, name: str, size: int) -> torch.Tensor:
        picture = self._own.get(name, name)
        if torch.is_tensor(picture):
            return resize_image(picture, size / min(picture.shape[2:])).clamp(0, 1)
        return load_image(picture, size)

    def _choose(
        self, control: ipywidgets.Dropdown, picture: str | Path | torch.Tensor, name: str = ""
    ) -> None:
        """Select a picture, and put it among the options if it is a new one."""
        if torch.is_tensor(picture):
            if picture.dim() != 4:
                raise ValueError(f"expected an image (1, 3, H, W); got {tuple(picture.shape)}")
            to_pil(picture)  # is it one?
            name = "your image" if control is self.controls.content else "your style"
            self._own[name] = picture
        name = name or str(picture)
        thumbnail = encode_image(self._load(name, 96))
        if name not in self._own and name not in sample_images():
            _refuse_small(pixel_size(name))
        if name not in control.options:
            control.options = (*control.options, name)
        control.value = name
        self.controls.thumbnails[control].value = thumbnail

    def _new_setting(self, change: Any = None) -> None:
        """Take a new picture, size, start, seed or network at once, if nothing is painted yet."""
        if change is not None and change["owner"] in self.controls.thumbnails:
            self.controls.thumbnails[change["owner"]].value = encode_image(
                self._load(change["new"], 96)
            )
        if self.live.state == "idle" and not self.live.steps:
            self.reset()
        elif change is not None and change["owner"] is self.controls.style:
            self.live.renew()
        else:
            self._say("Reset begins with the new setting; until then the old one is painted.")

    def _new_layer(self, change: Any) -> None:
        self.live.renew()

    def _new_ratio(self, change: Any) -> None:
        if change["owner"] is self.controls.presets:
            if self.controls.presets.value in RATIOS:
                self.controls.ratio.value = self.controls.presets.value
        else:
            self._press_preset()
        self.controls.ratio_label.value = f"<b>alpha / beta</b> = {self._ratio_text()}"

    def _press_preset(self) -> None:
        near = [r for r in RATIOS if math.isclose(r, self.controls.ratio.value, rel_tol=1e-3)]
        self.controls.presets.value = near[0] if near else None

    def _new_steps(self, change: Any) -> None:
        self.live.end = self._next_end()

    def _equal_weights(self) -> None:
        for slider in self.controls.layers.values():
            slider.value = 1 / len(self.controls.layers)

    def _upload(self, control: ipywidgets.Dropdown, change: Any) -> None:
        if not change["new"]:
            return
        upload, data = change["new"][0], bytes(change["new"][0]["content"])
        change["owner"].value = ()  # the same file may come again
        if len(data) > LARGEST:
            raise ValueError(
                f"{upload['name']} has {len(data) / 2**20:.1f} MB; the most is 8 MB: make it "
                "smaller, 2000 pixels are plenty"
            )
        try:
            load_image(data, 96)
            _refuse_small(pixel_size(data))
        except ValueError as error:
            raise ValueError(f"{upload['name']}: {error}") from error
        name = f"{upload['name']} (yours)"
        self._own[name] = data
        self._choose(control, name)

    def _typed(self, control: ipywidgets.Dropdown, text: ipywidgets.Text, change: Any) -> None:
        if text.value.strip():
            path = Path(text.value.strip()).expanduser()
            self._choose(control, path)
            text.value = ""

    def _remove(self, kept: tuple) -> None:
        self._kept = [other for other in self._kept if other is not kept]
        self.controls.strip.children = tuple(card for _, _, card in self._kept)
        close_widget(kept[2])

    def _free_path(self, ending: str) -> Path:
        names = (Path(self._painted_with()[picture]).stem for picture in ("content", "style"))
        stem = "-".join(re.sub(r"[^\w-]+", "_", name).strip("_") for name in names)
        number = 1
        while (path := self.output / f"{stem}-{number}.{ending}").exists():
            number += 1
        return path

    def _saved(self, path: Path, kind: str) -> Path:
        data = base64.b64encode(path.read_bytes()).decode()
        link = f'<a download="{path.name}" href="data:image/{kind};base64,{data}">download</a>'
        self._say("" if self.served else f"saved {path} · ", link)
        return path

    def _say(self, text: str, link: str = "") -> None:
        said = html.escape(text) + link
        self.controls.message.value = f'<div role="status">{said}</div>' if said else ""

    def _guarded(self, action: Callable[..., object], *given: Any) -> Callable[[Any], None]:
        """Return a handler that tells its errors to the person at the sliders."""

        def handle(change: Any) -> None:
            try:
                action(*given, *([change] if isinstance(change, dict) else []))
            except Exception as error:  # a traceback would go nowhere
                self._say(self._explain(error))

        return handle

    # --- the controls ----------------------------------------------------------------------------

    def _fill_networks(self, net: str | Path | Features) -> None:
        """Offer the networks there are, and load the first one now, where errors can be raised."""
        with contextlib.redirect_stdout(io.StringIO()):  # the control says which one it is
            loaded = net if isinstance(net, Features) else load_network(net)
        known = {"bundled network": "bundled", "VGG-19": "vgg19", "random network": "random"}
        value = known.get(loaded.name, loaded.name)
        if isinstance(net, Features):
            value = f"yours: {loaded.name}"
        self._nets[value] = loaded
        names = {"bundled": "bundled", "VGG-19": "vgg19", "random weights": "random"}
        options = [*names.items()]
        if self.served and value != "vgg19":
            options = [option for option in options if option[1] != "vgg19"]
        if value not in names.values():
            options.append((value, value))
        self.controls.network.options, self.controls.network.value = options, value

    def _watch(self) -> None:
        actions = {
            "Start": self.start,
            "Pause": self.pause,
            "Step": self.step,
            "Stop": partial(self.stop, wait=False),
            "Reset": self.reset,
            "Keep": self.keep,
            "Save PNG": self.save_png,
            "Save film": self.save_film,
        }
        c = self.controls
        for name, action in actions.items():
            c.buttons[name].on_click(self._guarded(action))
        c.equal.on_click(self._guarded(self._equal_weights))
        observed = {
            self._new_ratio: (c.ratio, c.presets),
            self._new_setting: (c.content, c.style, c.start_from, c.size, c.seed, c.network),
            self._new_layer: (c.content_layer,),
            self._new_steps: (c.steps,),
        }
        for handler, controls in observed.items():
            for control in controls:
                control.observe(self._guarded(handler), "value")
        for control, upload in c.uploads.items():
            upload.observe(self._guarded(self._upload, control), "value")
        for control, text in c.paths.items():
            text.observe(self._guarded(self._typed, control, text), "value")


def _refuse_small(size: tuple[int, int]) -> None:
    if min(size) < SMALLEST:
        raise ValueError(
            f"the picture has only {size[0]} x {size[1]} pixels; it needs {SMALLEST} on each side"
        )


def _cover(image: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return the middle of ``image``, enlarged to cover the shape of ``like``."""
    height, width = like.shape[2:]
    image = resize_image(image, max(height / image.shape[2], width / image.shape[3]) + 1e-6)
    top, left = (image.shape[2] - height) // 2, (image.shape[3] - width) // 2
    return image[:, :, top : top + height, left : left + width].clamp(0, 1)


def _prepare_colab() -> None:
    """Let Colab show ipywidgets 8, where it can."""
    output = sys.modules.get("google.colab.output")
    if hasattr(output, "enable_custom_widget_manager"):
        output.enable_custom_widget_manager()


def _end_older_of_this_cell(explorer: StyleTransferExplorer) -> None:
    """Close what an earlier run of the same cell has left running."""
    shell = get_ipython()
    if not hasattr(shell, "get_parent"):
        return
    cell = shell.get_parent().get("metadata", {}).get("cellId")
    now = shell.execution_count
    if cell is None:
        return
    for (other, count, _), old in list(_IN_CELLS.items()):
        if other == cell and count != now:
            old.close()
            del _IN_CELLS[other, count, _]
    _IN_CELLS[cell, now, id(explorer)] = explorer
