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
from ipywidgets import HTML, Box, HBox, VBox
from traitlets import TraitError

from nst_helpers.features import Features, load_network
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
from nst_helpers.live import LiveRun
from nst_helpers.losses import CONTENT_LAYERS, STYLE_LAYERS, StyleTransferLoss
from nst_helpers.optimize import Progress, Result

__all__ = ["StyleTransferExplorer"]

INTERVAL = 0.1  # seconds between two pictures
FRAMES = 80  # of a film, at most; then every second one is dropped
KEPT = 12  # pictures in the strip, at most
LARGEST = 8 * 2**20  # bytes of an upload: browsers' connections drop more than 10 MB silently
SMALLEST = 32  # pixels on each side of a picture of one's own
RATIOS = (1e-4, 1e-3, 1e-2, 1e-1)  # of the lecture and the paper's Fig. 4
SEEN = {  # what a style layer knows, and how many pixels one of its positions sees
    "relu1_1": ("colours, and the finest grain", 3),
    "relu2_1": ("threads and fine strokes", 10),
    "relu3_1": ("strokes, small motifs", 24),
    "relu4_1": ("large motifs", 68),
    "relu5_1": ("the largest shapes", 156),
}
CSS = Path(__file__).with_name("widgets.css").read_text(encoding="utf-8")

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
        self._make_controls()
        _set("size", self.size, size)
        _set("steps", self.steps, steps)
        self._fill_networks(net)
        for control, picture in ((self.content, content), (self.style, style)):
            self._choose(control, picture)
        self._arrange()
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
        size = self.size.value
        content = self._load(self.content.value, size)
        start = content
        if self.start_from.value == "noise":
            start = noise_like(content, self.seed.value)
        elif self.start_from.value == "style":
            start = _cover(self._load(self.style.value, size), content)
        self._content, self._size, self._network = content, size, self.network.value
        self._set_result(Result(start))

    def keep(self) -> None:
        """Put the picture into the strip, with its settings."""
        if len(self._kept) >= KEPT:
            raise ValueError(f"{KEPT} pictures are kept already; remove one (x) first")
        result, settings = self.live.so_far(), self.settings
        thumbnail = ipywidgets.Image(value=encode_image(result.image), format="jpeg")
        back = ipywidgets.Button(
            description="Back to this", tooltip="Go back to this picture and its settings"
        )
        remove = ipywidgets.Button(description="x", tooltip="Remove this picture from the strip")
        said = f"{settings['style']}, step {_last_step(result)}<br>alpha/beta {self._ratio_text()}"
        card = VBox([thumbnail, HTML(said), HBox([back, remove])]).add_class("nst-card")
        kept = (result, settings, card)
        back.on_click(self._guarded(lambda: self.go_back(kept)))
        remove.on_click(self._guarded(lambda: self._remove(kept)))
        self._kept.append(kept)
        self.strip.children = (*self.strip.children, card)

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
        settings = {**self.settings, "step": _last_step(result)}
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
        _close(self.view)

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
            "content": self.content.value,
            "style": self.style.value,
            "alpha": alpha,
            "beta": beta,
            "style_layer_weights": {layer: s.value for layer, s in self.layers.items()},
            "content_layer": self.content_layer.value,
            "start": self.start_from.value,
            "size": self.size.value,
            "steps": self.steps.value,
            "seed": self.seed.value,
            "network": self.network.value,
        }

    @settings.setter
    def settings(self, settings: dict) -> None:
        plain = {
            "content_layer": self.content_layer,
            "start": self.start_from,
            "size": self.size,
            "steps": self.steps,
            "seed": self.seed,
            "network": self.network,
        }
        pictures = {"content": self.content, "style": self.style}
        known = {*plain, *pictures, "alpha", "beta", "style_layer_weights", "step"}
        if unknown := set(settings) - known:
            raise ValueError(f"unknown settings: {', '.join(sorted(unknown))}")
        for name, control in pictures.items():
            if name in settings:
                self._choose(control, settings[name])
        for name, control in plain.items():
            if name in settings:
                _set(name, control, settings[name])
        for layer, weight in settings.get("style_layer_weights", {}).items():
            if layer not in self.layers:
                raise ValueError(f"style layers are {', '.join(self.layers)}; got {layer!r}")
            _set(layer, self.layers[layer], weight)
        if "alpha" in settings or "beta" in settings:
            alpha, beta = self._weights()
            self._set_ratio(settings.get("alpha", alpha), settings.get("beta", beta))

    def _set_ratio(self, alpha: float, beta: float) -> None:
        if not (alpha >= 0 and beta >= 0 and alpha + beta > 0):
            raise ValueError(f"alpha and beta must be >= 0, not both 0; got {alpha!r} and {beta!r}")
        ratio = alpha / beta if beta else math.inf
        if ratio in (0, math.inf):
            self.presets.value = ratio
        else:
            self.presets.value = None
            _set("alpha / beta", self.ratio, ratio)

    # --- the run's side: called between two steps, in its thread ---------------------------------

    def _make_loss(self) -> StyleTransferLoss:
        style = self._load(self.style.value, self._size)
        net = self._nets.get(self._network)
        if net is None:
            self._say(f"loading the network {self._network} ...")
            net = self._nets[self._network] = load_network(self._network)
            self._say("")
        return StyleTransferLoss(
            net, self._content, style, content_layers=[self.content_layer.value]
        )

    def _turn(self, loss: StyleTransferLoss) -> None:
        """Set the weights of the loss to what the sliders say: this is all that a slider does."""
        loss.alpha, loss.beta = self._weights()
        for layer, slider in self.layers.items():
            loss.style_layer_weights[layer] = slider.value

    def _show(self, progress: Progress, waits: bool) -> None:
        self._curve.append((progress.step, progress.terms["content"], progress.terms["style"]))
        now = time.monotonic()
        if waits or now >= self._due:
            self._due = now + INTERVAL
            self._paint(progress.image(), progress.step)

    def _paint(self, image: torch.Tensor, step: int) -> None:
        picture = encode_image(image)
        self.picture.value = picture
        if step and self._painted % self._every == 0:
            self._frames.append(picture)
            if len(self._frames) > FRAMES:
                del self._frames[1::2]
                self._every *= 2
        self._painted += 1
        end, rate = max(self.live.end, self.steps.value), self.live.steps_per_second
        self.bar.max, self.bar.value = end, step
        said = f"step <b>{step}</b> of {end}"
        if rate and self.live.state == "running":
            said += f" · {rate:.0f} steps per second · {max(0, end - step) / rate:.0f} s left"
        elif self.live.state == "paused":
            said += " · paused"
        self.status.value = said
        self.plot.value = _curves(self._curve, end)

    def _fit_buttons(self) -> None:
        state = self.live.state
        for button, states in (
            (self.buttons["Start"], ("idle", "paused")),
            (self.buttons["Pause"], ("running", "paused")),
            (self.buttons["Step"], ("idle", "paused")),
            (self.buttons["Stop"], ("running", "paused")),
        ):
            button.disabled = state not in states
        paused = state == "paused"
        self.buttons["Pause"].description = "Resume" if paused else "Pause"
        self.buttons["Pause"].icon = "play" if paused else "pause"

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
        self._paint(result.image, _last_step(result))

    def _explain(self, error: Exception) -> str:
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "memory" in str(error):
            fits = int(0.7 * self._size) // 16 * 16
            hint = "" if "would fit" in str(error) else f" Try size {fits}, and Reset."
            return f"Not enough memory: {error}.{hint}"
        if isinstance(error, (ValueError, OSError, ImportError)):
            return f"{error}"
        return f"{type(error).__name__}: {error}"

    # --- what controls ask for -------------------------------------------------------------------

    def _weights(self) -> tuple[float, float]:
        """Return alpha and beta."""
        limit = self.presets.value
        return {0.0: (0.0, 1.0), math.inf: (1.0, 0.0)}.get(limit, (self.ratio.value, 1.0))

    def _ratio_text(self) -> str:
        alpha, beta = self._weights()
        if not (alpha and beta):
            return "content only" if alpha else "texture only"
        return re.sub(r"e([+-])0*(\d)", r"e\1\2", f"{alpha / beta:.2g}")

    def _next_end(self) -> int:
        step = self._curve[-1][0] if self._curve else 0
        return self.steps.value * (step // self.steps.value + 1)

    def _set_result(self, result: Result) -> None:
        self.live.result, self.live.end, self.live.error = result, 0, None
        self._curve[:] = [(e["step"], e["content"], e["style"]) for e in result.history]
        self._frames.clear()
        self._every, self._painted = 1, 0
        self._paint(result.image, _last_step(result))

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
            name = "your image" if control is self.content else "your style"
            self._own[name] = picture
        name = name or str(picture)
        thumbnail = encode_image(self._load(name, 96))
        if name not in self._own and name not in sample_images():
            _refuse_small(pixel_size(name))
        if name not in control.options:
            control.options = (*control.options, name)
        control.value = name
        self.thumbnails[control].value = thumbnail

    def _new_setting(self, change: Any = None) -> None:
        """Take a new picture, size, start, seed or network at once, if nothing is painted yet."""
        if change is not None and change["owner"] in self.thumbnails:
            self.thumbnails[change["owner"]].value = encode_image(self._load(change["new"], 96))
        if self.live.state == "idle" and not self.live.steps:
            self.reset()
        elif change is not None and change["owner"] is self.style:
            self.live.renew()
        else:
            self._say("Reset begins with the new setting; until then the old one is painted.")

    def _new_layer(self, change: Any) -> None:
        self.live.renew()

    def _new_ratio(self, change: Any) -> None:
        if change["owner"] is self.presets:
            if self.presets.value in RATIOS:
                self.ratio.value = self.presets.value
        else:
            near = [r for r in RATIOS if math.isclose(r, self.ratio.value, rel_tol=1e-3)]
            self.presets.value = near[0] if near else None
        self.ratio_label.value = f"<b>alpha / beta</b> = {self._ratio_text()}"

    def _new_steps(self, change: Any) -> None:
        self.live.end = self._next_end()

    def _equal_weights(self) -> None:
        for slider in self.layers.values():
            slider.value = 1 / len(self.layers)

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
        load_image(data, 96)  # is it a picture at all?
        _refuse_small(pixel_size(data))
        name = f"{upload['name']} (yours)"
        self._own[name] = data
        self._choose(control, name)

    def _typed(self, control: ipywidgets.Dropdown, text: ipywidgets.Text, change: Any) -> None:
        if text.value.strip():
            path = Path(text.value.strip()).expanduser()
            self._choose(control, path)
            text.value = ""

    def _remove(self, kept: tuple) -> None:
        self._kept.remove(kept)
        self.strip.children = tuple(card for _, _, card in self._kept)
        _close(kept[2])

    def _free_path(self, ending: str) -> Path:
        names = (Path(self.content.value).stem, Path(self.style.value).stem)
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
        self.message.value = f'<div role="status">{said}</div>' if said else ""

    def _guarded(self, action: Callable[..., object], *given: Any) -> Callable[[Any], None]:
        """Return a handler that tells its errors to the person at the sliders."""

        def handle(change: Any) -> None:
            try:
                action(*given, *([change] if isinstance(change, dict) else []))
            except Exception as error:  # a traceback would go nowhere
                self._say(self._explain(error))

        return handle

    # --- the controls ----------------------------------------------------------------------------

    def _make_controls(self) -> None:
        wide = {"layout": {"width": "auto"}}
        samples = list(sample_images())
        pick = partial(ipywidgets.Dropdown, options=samples, **wide)
        self.content = pick(
            description="content",
            tooltip="The photograph: what is where. A new one counts from the next Reset.",
        )
        self.style = pick(
            description="style",
            tooltip="The painting: colours, strokes and motifs. Change it while it paints.",
        )
        self.thumbnails = {c: ipywidgets.Image(format="jpeg") for c in (self.content, self.style)}
        self.uploads = {
            c: ipywidgets.FileUpload(
                accept="image/*",
                description="Upload ≤ 8 MB",
                tooltip="A picture of your own, up to 8 MB: browsers lose larger ones silently",
                **wide,
            )
            for c in (self.content, self.style)
        }
        self.paths = {
            c: ipywidgets.Text(
                placeholder="or path",
                tooltip="The path of a picture on this machine, and Enter",
                continuous_update=False,
                **wide,
            )
            for c in (() if self.served else (self.content, self.style))
        }
        self.picture = ipywidgets.Image(format="jpeg")
        self.bar = ipywidgets.IntProgress(**wide)
        self.status, self.message, self.plot = HTML(), HTML(), HTML()
        self.ratio_label = HTML("<b>alpha / beta</b> = 0.01")
        self.ratio = ipywidgets.FloatLogSlider(
            value=1e-2,
            min=-5,
            max=0,
            step=0.05,
            readout=False,
            tooltip="To the right the picture obeys the photograph, to the left the painting.",
            **wide,
        )
        options = [("texture only", 0.0), *((f"{r:.0e}".replace("e-0", "e-"), r) for r in RATIOS)]
        self.presets = ipywidgets.ToggleButtons(
            options=[*options, ("content only", math.inf)],
            value=1e-2,
            tooltips=[
                "Forget the photograph: alpha = 0",
                *("The paper's Fig. 4" for _ in RATIOS),
                "Forget the painting: beta = 0",
            ],
        )
        self.layers = {
            layer: ipywidgets.FloatSlider(
                value=1 / len(STYLE_LAYERS),
                min=0,
                max=1,
                step=0.01,
                description=layer,
                tooltip=f"Weight of {SEEN[layer][0]}: a position sees {SEEN[layer][1]} pixels",
                **wide,
            )
            for layer in STYLE_LAYERS
        }
        self.equal = ipywidgets.Button(
            description="1/5 each", tooltip="As in the paper: all style layers alike", **wide
        )
        self.content_layer = ipywidgets.Dropdown(
            options=[f"relu{block}_2" for block in range(1, 6)],
            value=CONTENT_LAYERS[0],
            description="content layer",
            tooltip="Low: every pixel of the photograph counts. High: only what is where.",
            **wide,
        )
        self.start_from = ipywidgets.Dropdown(
            options=["noise", "content", "style"],
            description="start",
            tooltip="What is on the canvas before the first step",
            **wide,
        )
        whole = partial(ipywidgets.BoundedIntText, **wide)
        self.size = whole(
            value=192,
            min=32,
            max=2048,
            step=32,
            description="size",
            tooltip="Shorter side in pixels: the larger, the slower, and the smaller the strokes",
        )
        self.steps = whole(
            value=300,
            min=1,
            max=10_000,
            step=50,
            description="steps",
            tooltip="After how many steps to rest; Start adds as many again",
        )
        self.seed = whole(
            value=0, min=0, max=2**31 - 1, description="seed", tooltip="Another seed, other noise"
        )
        self.network = ipywidgets.Dropdown(
            description="network",
            tooltip="Who judges the picture. VGG-19 is downloaded once (548 MB), and slower.",
            **wide,
        )
        icons = {
            "Start": ("play", "Paint; go on after Pause, Stop or the last step"),
            "Pause": ("pause", "Hold the picture as it is; sliders may be turned meanwhile"),
            "Step": ("step-forward", "One step, then pause"),
            "Stop": ("stop", "End the run, and keep the picture"),
            "Reset": ("refresh", "Back to the start, with the settings below"),
            "Keep": ("bookmark", "Put the picture into the strip, to compare"),
            "Save PNG": ("download", "Write the picture, its settings in the file"),
            "Save film": ("film", "Write the run as a small animation (WebP)"),
        }
        self.buttons = {
            name: ipywidgets.Button(description=name, icon=icon, tooltip=tooltip, **wide)
            for name, (icon, tooltip) in icons.items()
        }
        self.buttons["Start"].button_style = "primary"
        self.strip = HBox().add_class("nst-strip")

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
        self.network.options, self.network.value = options, value

    def _arrange(self) -> None:
        b = self.buttons
        canvas = VBox(
            [
                Box([self.picture]).add_class("nst-picture"),
                self.bar,
                self.status.add_class("nst-status"),
                HBox([b[n] for n in ("Start", "Pause", "Step", "Stop", "Reset")]),
                HBox([b[n] for n in ("Keep", "Save PNG", "Save film")]),
                self.message.add_class("nst-message"),
            ]
        ).add_class("nst-canvas")
        knobs = VBox(
            [
                self.ratio_label,
                self.ratio.add_class("nst-ratio"),
                self.presets.add_class("nst-presets"),
                HBox([HTML("<b>style layers</b>: weights"), self.equal]).add_class("nst-row"),
                VBox(list(self.layers.values())).add_class("nst-layers"),
                HBox([HTML("<b>content</b> from"), self.content_layer]).add_class("nst-row"),
                self.plot,
            ]
        ).add_class("nst-knobs")
        own = {c: [u] if self.served else [u, self.paths[c]] for c, u in self.uploads.items()}
        pictures = [
            HBox(
                [
                    Box([self.thumbnails[c]]).add_class("nst-thumbnail"),
                    VBox([c.add_class("nst-field"), HBox(own[c])]),
                ]
            ).add_class("nst-choice")
            for c in (self.content, self.style)
        ]
        numbers = Box(
            [
                each.add_class("nst-field")
                for each in (self.start_from, self.size, self.steps, self.seed, self.network)
            ]
        ).add_class("nst-numbers")
        setup = HBox([*pictures, numbers]).add_class("nst-setup")
        self.view = VBox(
            [
                HTML(f"<style>{CSS}</style>"),
                HBox([canvas, knobs]).add_class("nst-main"),
                setup,
                self.strip,
            ]
        ).add_class("nst-explorer")

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
        for name, action in actions.items():
            self.buttons[name].on_click(self._guarded(action))
        self.equal.on_click(self._guarded(self._equal_weights))
        for control in (self.ratio, self.presets):
            control.observe(self._guarded(self._new_ratio), "value")
        for control in (
            *(self.content, self.style, self.start_from, self.size, self.seed, self.network),
        ):
            control.observe(self._guarded(self._new_setting), "value")
        self.content_layer.observe(self._guarded(self._new_layer), "value")
        self.steps.observe(self._guarded(self._new_steps), "value")
        for control in (self.content, self.style):
            self.uploads[control].observe(self._guarded(self._upload, control), "value")
        for control, text in self.paths.items():
            text.observe(self._guarded(self._typed, control, text), "value")


def _set(name: str, control: ipywidgets.Widget, value: Any) -> None:
    """Set a control, and say so where it does not take the value as it is."""
    before = control.value
    try:
        control.value = value
    except TraitError:
        control.value = before
    # A slider's own value is a power of ten, and rounds.
    close = isinstance(value, float) and math.isclose(control.value, value, rel_tol=1e-6)
    if control.value != value and not close:
        control.value = before
        options = getattr(control, "options", None)
        least, most = getattr(control, "min", None), getattr(control, "max", None)
        if isinstance(control, ipywidgets.FloatLogSlider):
            least, most = control.base**least, control.base**most
        can = f"from {least:g} to {most:g}" if options is None else f"one of {options}"
        raise ValueError(f"{name} must be {can}; got {value!r}")


def _last_step(result: Result) -> int:
    return int(result.history[-1]["step"]) if result.history else 0


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


def _curves(curve: list[tuple[int, float, float]], end: int) -> str:
    """Draw content and style loss against the step, on a logarithmic axis, as SVG.

    Not by matplotlib, which is not made for threads, takes longer than a step, and does not know
    the theme's colours.
    """
    width, height, left, bottom = 560, 150, 44, 20
    points = list(curve)
    points = points[:: max(1, len(points) // 300)] + points[-1:]
    values = [v for _, *both in points for v in both if v > 0]
    low = math.floor(math.log10(min(values))) if values else -3
    high = math.ceil(math.log10(max(values))) if values else 1
    high = max(high, low + 1)

    def place(step: float, value: float) -> tuple[float, float]:
        x = left + (width - left - 4) * step / max(1, end)
        y = 6 + (height - bottom - 6) * (high - math.log10(value)) / (high - low)
        return x, y

    parts = []
    for power in range(low, high + 1, max(1, (high - low) // 4)):
        _, y = place(0, 10.0**power)
        parts.append(f'<path class="nst-grid" d="M{left} {y:.1f}H{width - 4}"/>')
        parts.append(
            f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g}</text>'
        )
    for share in (0, 0.5, 1):
        x, _ = place(share * end, 1)
        anchor = {0: "start", 1: "end"}.get(share, "middle")
        text = f"{share * end:.0f}" + (" steps" if share == 1 else "")
        parts.append(f'<text x="{x:.1f}" y="{height - 4}" text-anchor="{anchor}">{text}</text>')
    for column, name in ((1, "content"), (2, "style")):
        places = [place(point[0], point[column]) for point in points if point[column] > 0]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        if places:
            parts.append(f'<polyline class="nst-{name}" points="{line}"/>')
    key = "".join(
        f'<tspan class="nst-{name}-text" dx="12">{name} loss</tspan>'
        for name in ("content", "style")
    )
    parts.append(f'<text x="{width - 196}" y="18" class="nst-key">{key}</text>')
    return (
        f'<svg class="nst-plot" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="content and style loss against the step">{"".join(parts)}</svg>'
    )


def _close(widget: ipywidgets.Widget) -> None:
    """Close a widget and all that belongs to it, so that nothing of it stays in the kernel."""
    for child in getattr(widget, "children", ()):
        _close(child)
    for part in (getattr(widget, "layout", None), getattr(widget, "style", None)):
        if isinstance(part, ipywidgets.Widget):
            part.close()
    widget.close()


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
