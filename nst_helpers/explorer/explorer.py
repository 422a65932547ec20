"""Sliders over a background run: the weights of the loss, and what they do, at once.

``StyleTransferExplorer`` ties the rooms of this folder together: before each step of the run it
reads the controls and sets the weights of the loss, and after it shows the image. Widgets are only
ever *set* from the run's thread, which works in every front end that shows what threads change.
"""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nst_helpers.explorer import frontend
from nst_helpers.explorer.background import BackgroundRun
from nst_helpers.explorer.canvas import explain
from nst_helpers.explorer.controls import Controls
from nst_helpers.explorer.networks import Networks
from nst_helpers.explorer.pictures import Pictures
from nst_helpers.explorer.recording import Recording
from nst_helpers.explorer.saving import download_link, free_path
from nst_helpers.explorer.widgets import close_widget
from nst_helpers.images import cover_image, encode_image, noise_like, save_image
from nst_helpers.losses import StyleTransferLoss
from nst_helpers.network.features import Features
from nst_helpers.optimization import Progress, Result

__all__ = ["StyleTransferExplorer"]

REDRAW_SECONDS = 0.1  # between two pictures
WAITS_FOR_RESET = "Reset begins with the new setting; until then the old one is painted."
RESET_SETTINGS = ("content", "start", "size", "seed", "network")  # take effect at a reset


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
    run : BackgroundRun
        The run behind it.
    controls : Controls
        Its widgets.
    recording : Recording
        The losses and the film of the run.

    Raises
    ------
    ValueError, FileNotFoundError
        As ``load_image`` and ``load_network``. Later errors are shown in the explorer itself.

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
        self._folder = tempfile.TemporaryDirectory() if served else None  # goes with the explorer
        self.output = Path(self._folder.name if self._folder else output)
        self.controls = Controls(
            Pictures(), served, explain=lambda error: explain(error, self._applied["size"])
        )
        self.view, self.recording, self._redraw_at = self.controls.view, Recording(), 0.0
        self.settings = {"size": size, "steps": steps, "content": content, "style": style}
        self._networks = Networks(net, served)
        self.controls.offer_networks(self._networks.options, self._networks.first)
        self.run = BackgroundRun(
            self._new_start(),
            self._make_loss,
            self._update_weights,
            self._show,
            self._on_state_change,
            threaded=frontend.shows_threads(),
        )
        self.controls.connect(
            {
                "Start": self.start,
                "Pause": self.pause,
                "Step": self.step,
                "Stop": partial(self.stop, wait=False),
                "Reset": self.reset,
                "Keep": self.keep,
                "Save PNG": self.save_png,
                "Save film": self.save_film,
            },
            self._on_setting,
        )
        self.controls.canvas.fit_buttons(self.run.state)
        self._begin_from(self.run.result)
        if not self.run.threaded:
            frontend.prepare_colab()
            self.controls.canvas.say(frontend.COLAB_NOTE)
        frontend.close_predecessors(self)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = self.view._repr_mimebundle_(**kwargs)
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        data["text/plain"] = repr(self)
        return bundle

    def __repr__(self) -> str:
        settings = self.settings
        return (
            f"StyleTransferExplorer({settings['content']!r}, {settings['style']!r}, "
            f"size={settings['size']}, alpha/beta={self.controls.weights.ratio_text})"
        )

    # --- what the buttons do ---------------------------------------------------------------------

    def start(self) -> None:
        """Paint, or go on after a pause, a stop, or the last step."""
        self.controls.canvas.say("")
        self.run.end = self._next_end()
        if not self.run.start():
            self.controls.canvas.say("It is running already. Pause and Stop are beside Start.")

    def pause(self) -> None:
        """Hold the picture as it is, or let it go on."""
        if self.run.state == "paused":
            self.start()
        else:
            self.run.pause()

    def step(self) -> None:
        """Take one step, and pause."""
        self.run.end = self._next_end()
        self.run.pause()
        self.run.start(single_step=True)

    def stop(self, wait: bool = True) -> None:
        """End the run, and keep its picture.

        Parameters
        ----------
        wait : bool
            Until the step that is being taken is over.
        """
        self.run.stop(wait)

    def join(self, timeout: float | None = None) -> bool:
        """Return whether the run is over, having waited for it.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most.
        """
        return self.run.join(timeout)

    def reset(self) -> None:
        """Go back to the start, with the pictures, size and seed that are set now."""
        self.run.stop()
        self._begin_from(self._new_start())

    def keep(self) -> None:
        """Put the picture into the strip, with its settings."""
        result, settings = self._result(), self._applied_settings()
        ratio = self.controls.weights.ratio_text
        caption = f"{settings['style']}, step {result.steps_done}<br>alpha/beta {ratio}"
        kept = self.controls.strip.add(result, settings, caption)
        back, remove = kept.buttons
        back.on_click(self.controls.report_errors(partial(self.go_back, kept)))
        remove.on_click(self.controls.report_errors(partial(self.controls.strip.remove, kept)))

    def go_back(self, kept: tuple[Result, dict[str, Any], Any]) -> None:
        """Go on from a kept picture, with the settings it had.

        Parameters
        ----------
        kept : tuple
            Its result and its settings; the rest does not count.
        """
        result, settings, *_ = kept
        self.run.stop()
        self.settings = settings
        self.reset()
        self._begin_from(result)
        self.controls.canvas.say("")

    def save_png(self) -> Path:
        """Write the picture as PNG, its settings in the file; ``load_settings`` reads them."""
        result = self._result()
        settings = {**self._applied_settings(), "step": result.steps_done}
        return self._announce(save_image(result.image, self._free_path("png"), settings))

    def save_film(self) -> Path:
        """Write the run as it was shown, as an animation (WebP)."""
        return self._announce(self.recording.save_film(self._free_path("webp")))

    def close(self) -> None:
        """Stop the run, and take everything off the screen."""
        self.run.stop(wait=False)
        close_widget(self.view)

    @property
    def image(self) -> torch.Tensor:
        """The image as it is now, (1, 3, H, W) in [0, 1]."""
        return self._result().image

    @property
    def settings(self) -> dict[str, Any]:
        """What the controls say, as a dict that JSON can hold; set all of it, or some."""
        return self.controls.settings

    @settings.setter
    def settings(self, settings: dict[str, Any]) -> None:
        self.controls.settings = settings

    # --- the run's side: called between two steps, in its thread ---------------------------------

    def _make_loss(self) -> StyleTransferLoss:
        fields = self.controls.fields
        style = self.controls.pictures.load(fields["style"].value, self._applied["size"])
        net = self._networks.load(self._applied["network"], self.controls.canvas.say)
        layers = [fields["content_layer"].value]
        return StyleTransferLoss(net, self._content, style, content_layers=layers)

    def _update_weights(self, loss: StyleTransferLoss) -> None:
        """Set the weights of the loss to those of the sliders: this is all that a slider does."""
        loss.alpha, loss.beta = self.controls.weights.alpha_beta
        loss.style_layer_weights.update(self.controls.weights.layer_weights)

    def _show(self, progress: Progress, last: bool) -> None:
        self.recording.add_step(progress.step, progress.terms, progress.seconds)
        now = time.monotonic()
        if last or now >= self._redraw_at:
            self._redraw_at = now + REDRAW_SECONDS
            self._draw(progress.image(), progress.step)

    def _draw(self, image: torch.Tensor, step: int) -> None:
        picture = encode_image(image)
        if step:
            self.recording.add_frame(picture)
        self.controls.canvas.show(
            picture,
            step,
            max(self.run.end, self.controls.fields["steps"].value),
            self.recording.curve,
            self.run.state,
            self.recording.steps_per_second,
        )

    def _on_state_change(self) -> None:
        self.controls.canvas.fit_buttons(self.run.state)
        if self.run.state == "running":
            self.recording.restart_pace()
        elif self.run.state == "idle":
            result, say = self.run.result, self.controls.canvas.say
            if self.run.error is not None:
                say(self.controls.explain(self.run.error))
            elif result.problem:
                say(f"{result.problem}. Turn something, and Start.")
            elif result.stopped == "converged":
                say("No step makes the loss any lower. Turn a slider, and Start.")
            self._draw(result.image, result.steps_done)

    # --- what controls ask for -------------------------------------------------------------------

    def _on_setting(self, name: str) -> None:
        """Apply a new setting, if it need not wait for a reset; weights are read at each step."""
        if name == "steps":
            self.run.end = self._next_end()
        elif self.run.state == "idle" and not self.run.result.steps_done:
            self.reset()
        elif name in ("style", "content_layer"):
            self.run.reload_loss()
        else:
            self.controls.canvas.say(WAITS_FOR_RESET)

    # --- the state between them ------------------------------------------------------------------

    def _new_start(self) -> Result:
        """Apply the settings that wait for a reset; return what they say to begin from."""
        settings, load = self.settings, self.controls.pictures.load
        content = start = load(settings["content"], settings["size"])
        if settings["start"] == "noise":
            start = noise_like(content, settings["seed"])
        elif settings["start"] == "style":
            style = load(settings["style"], settings["size"])
            start = cover_image(style, content.shape[2], content.shape[3])
        self._content = content
        self._applied = {name: settings[name] for name in RESET_SETTINGS}
        return Result(start)

    def _begin_from(self, result: Result) -> None:
        self.run.result, self.run.end, self.run.error = result, 0, None
        self.recording.restart(result.history)
        self._draw(result.image, result.steps_done)

    def _result(self) -> Result:
        """Return the result as it is now."""
        result = self.run.so_far()
        if result is None:
            raise TimeoutError("the step that is being taken has not ended yet; try again later")
        return result

    def _applied_settings(self) -> dict[str, Any]:
        """Return the settings that the picture is painted with: without those not applied yet."""
        return {**self.settings, **self._applied}

    def _next_end(self) -> int:
        steps = self.controls.fields["steps"].value
        return int(steps * (self.recording.steps_done // steps + 1))

    def _free_path(self, ending: str) -> Path:
        settings = self._applied_settings()
        return free_path(self.output, (settings["content"], settings["style"]), ending)

    def _announce(self, path: Path) -> Path:
        """Say what was saved, and offer it as a download."""
        text = "" if self.controls.served else f"saved {path} · "
        self.controls.canvas.say(text, download_link(path))
        return path
