"""Sliders over a background run: the weights of the loss, and what they do, at once.

``StyleTransferExplorer`` ties the rooms of this folder together: before each step of the run it
reads the controls and sets the weights of the loss, and after it shows the image. Widgets are only
ever *set* from the run's thread, which works in every front end that shows what threads change.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ipywidgets
import torch

from nst_helpers import _validate
from nst_helpers.explorer import frontend
from nst_helpers.explorer.background import BackgroundRun, weakly
from nst_helpers.explorer.canvas import explain, explain_end
from nst_helpers.explorer.controls import Controls
from nst_helpers.explorer.networks import Networks
from nst_helpers.explorer.pictures import Picture, Pictures
from nst_helpers.explorer.recording import Recording
from nst_helpers.explorer.saving import save_file
from nst_helpers.explorer.targets import LOSS_SETTINGS, Targets, styles_of
from nst_helpers.explorer.widgets import close_widget, markup
from nst_helpers.files.sources import as_path
from nst_helpers.images import encode_image, save_image
from nst_helpers.language import N_, _
from nst_helpers.losses import StyleTransferLoss
from nst_helpers.network.features import Features
from nst_helpers.optimization import Progress, Result

__all__ = ["StyleTransferExplorer"]

REDRAW_SECONDS = 0.1  # between two pictures
WAITS_FOR_RESET = N_("Reset begins with the new setting; until then the old one is painted.")
IS_RUNNING = N_("It is running already. Pause and Stop are beside Start.")
REFUSED = N_("{}. Nothing was changed.")
SAVED = N_("saved {} · ")
CAPTION = N_("{}, step {}<br>alpha/beta {}")


class StyleTransferExplorer:
    """Style transfer with sliders that act while the picture paints itself.

    Show it as the last line of a notebook's cell. Whatever a button does, a method does too, and
    ``settings`` turns whatever there is to turn: ``{"second_style": "wave", "blend": 0.3}``.

    Parameters
    ----------
    content, style : str, path, torch.Tensor, array or Pillow picture
        A sample's name, a file, an image (1, 3, H, W) in [0, 1], or what ``to_image`` takes.
    net : str, path or Features
        See ``load_network``.
    size : int
        Length of the shorter side, in pixels.
    steps : int
        After how many steps it rests.
    output : path
        The folder for what is saved.
    served : bool
        For a page that others open (``make app``): no path of this machine can be typed in, what is
        saved is only offered as a download, and no network is downloaded.

    Attributes
    ----------
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
        content: Picture = "chelsea",
        style: Picture = "night_sky",
        *,
        net: str | Path | Features = "auto",
        size: int = 192,
        steps: int = 300,
        output: str | Path = "output",
        served: bool = False,
    ) -> None:
        # Widgets and the run hold this object weakly: dropped unshown, it takes them along.
        _validate.instance("output", output, (str, os.PathLike), "the path of a folder")
        self.output, self.recording = as_path(output, "output"), Recording()
        self._redraw_at = 0.0
        self.controls = Controls(Pictures(), served, explain=weakly(self._explain))
        self.controls.settings = {"size": size, "steps": steps, "content": content, "style": style}
        networks = Networks(net, served)
        self.controls.offer_networks(networks.options, networks.first)
        self.controls.canvas.say(networks.note)
        self._targets = Targets(self.controls.pictures, networks, self.controls.canvas.say)
        self.run = BackgroundRun(
            self._new_start(),
            weakly(self._make_loss),
            weakly(self._update_weights),
            weakly(self._show),
            weakly(self._on_state_change),
            threaded=frontend.shows_threads(),
        )
        frontend.end_when_dropped(self, self.run, self.controls.view)
        self.controls.connect(
            {
                "Start": weakly(self.start),
                "Pause": weakly(self.pause),
                "Step": weakly(self.step),
                "Stop": weakly(self.stop, wait=False),
                "Reset": weakly(self.reset),
                "Keep": weakly(self.keep),
                "Save PNG": weakly(self.save_png),
                "Save film": weakly(self.save_film),
            },
            weakly(self._on_setting),
        )
        self.controls.canvas.fit_buttons(self.run.state)
        self._begin_from(self.run.result)
        if not self.run.threaded:
            frontend.prepare_colab()
            self.controls.canvas.say(_(frontend.COLAB_NOTE))
        if served:
            frontend.refuse_new_widgets()
        frontend.close_predecessors(self)

    @property
    def view(self) -> ipywidgets.Widget:
        """What is shown. From now on the explorer lives as long as its widgets."""
        self.controls.view.explorer = self
        return self.controls.view

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = self.view._repr_mimebundle_(**kwargs)
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        data["text/plain"] = repr(self)
        return bundle

    def __repr__(self) -> str:
        settings, ratio = self.settings, self.controls.weights.ratio_text
        pictures = f"{settings['content']!r}, {settings['style']!r}"
        return f"StyleTransferExplorer({pictures}, size={settings['size']}, alpha/beta={ratio})"

    # --- what the buttons do ---------------------------------------------------------------------

    def start(self) -> None:
        """Paint, or go on after a pause, a stop, or the last step."""
        self.controls.canvas.say("")
        self.run.end = self._next_end()
        if not self.run.start():
            self.controls.canvas.say(_(IS_RUNNING))

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
        """End the run, and keep its picture; wait until the step that is being taken is over."""
        self.run.stop(wait)

    def join(self, timeout: float | None = None) -> bool:
        """Return whether the run is over, having waited so many seconds at most for it."""
        return self.run.join(timeout)

    def reset(self) -> None:
        """Go back to the start, with the pictures, size and seed that are set now."""
        self.run.stop()
        self.controls.canvas.say("")
        self._begin_from(self._new_start())

    def keep(self) -> None:
        """Put the picture into the strip, with its settings."""
        result, settings = self._result(), self._applied_settings()
        styles, ratio = " + ".join(styles_of(settings)), self.controls.weights.ratio_text
        caption = markup(_(CAPTION), styles, result.steps_done, ratio)
        result = replace(result, continuation=None)  # which is large, and of one loss
        preview = self._targets.preview(result.image, settings["colors"])
        kept = self.controls.strip.add(result, settings, caption, preview)
        back, remove = kept.buttons
        back.on_click(self.controls.report_errors(weakly(self.go_back, kept)))
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

    def save_png(self) -> Path:
        """Write the picture as PNG, its settings in the file; a cut-out content cuts it out."""
        result = self._result()
        settings = {**self._applied_settings(), "step": result.steps_done}
        image = self._targets.finish(result.image, settings["colors"])
        write = partial(save_image, image, settings=settings, alpha=self._targets.alpha)
        return self._save("png", write)

    def save_film(self) -> Path:
        """Write the run as it was shown, as an animation (WebP)."""
        return self._save("webp", self.recording.save_film)

    def close(self) -> None:
        """Stop the run, and take everything off the screen."""
        self.controls.view.explorer = None
        self.run.stop(wait=False)
        close_widget(self.controls.view)

    @property
    def image(self) -> torch.Tensor:
        """The image as it is now, (1, 3, H, W) in [0, 1]."""
        return self._targets.finish(self._result().image, self.controls.fields["colors"].value)

    @property
    def settings(self) -> dict[str, Any]:
        """What the controls say, as a dict that JSON can hold; set all of it, or some."""
        return self.controls.settings

    @settings.setter
    def settings(self, settings: Mapping[str, Any]) -> None:
        try:
            self.controls.settings = settings
        except (ValueError, FileNotFoundError) as error:
            self.controls.canvas.say(_(REFUSED).format(error))
            raise

    # --- the run's side: called between two steps, in its thread ---------------------------------

    def _make_loss(self) -> StyleTransferLoss:
        return self._targets.loss(self.settings)

    def _update_weights(self, loss: StyleTransferLoss) -> None:
        """Set the weights of the loss to those of the sliders: this is all that a slider does."""
        loss.alpha, loss.beta = self.controls.weights.alpha_beta
        loss.style_layer_weights.update(self.controls.weights.layer_weights)
        if len(loss.styles.images) > 1:
            loss.style_weights = self.controls.shares

    def _show(self, progress: Progress, last: bool) -> None:
        self.recording.add_step(progress.step, progress.terms, progress.seconds)
        now = time.monotonic()
        if last or now >= self._redraw_at:
            self._redraw_at = now + REDRAW_SECONDS
            self._draw(progress.image(), progress.step)

    def _draw(self, image: torch.Tensor, step: int) -> None:
        image = self._targets.preview(image, self.controls.fields["colors"].value)
        picture = encode_image(image)
        if step:
            self.recording.add_frame(picture)
        end = max(self.run.end, self.controls.fields["steps"].value)
        state, pace = self.run.state, self.recording.steps_per_second
        self.controls.canvas.show(picture, step, end, self.recording.curve, state, pace)

    def _on_state_change(self) -> None:
        self.controls.canvas.fit_buttons(self.run.state)
        if self.run.state == "running":
            self.recording.restart_pace()
        elif self.run.state == "idle":
            error, result = self.run.error, self.run.result
            if error is not None or result.problem:
                self._targets.forget()
            text = explain_end(result) if error is None else self._explain(error)
            if text:
                self.controls.canvas.say(text)
            self._draw(result.image, result.steps_done)

    # --- what controls ask for -------------------------------------------------------------------

    def _on_setting(self, name: str) -> None:
        """Apply a new setting, if it need not wait for a reset; weights are read each step."""
        if name == "steps":
            self.run.end = self._next_end()
        elif self.run.state == "idle" and not self.run.result.steps_done:
            self.reset()
        elif name in LOSS_SETTINGS:
            self.run.reload_loss()
            if name == "colors" and self.run.state == "idle":  # else the next step shows them
                self._draw(self.run.result.image, self.run.result.steps_done)
        else:
            self.controls.canvas.say(_(WAITS_FOR_RESET))

    # --- the state between them ------------------------------------------------------------------

    def _new_start(self) -> Result:
        """Apply the settings that wait for a reset; return what they say to begin from."""
        return Result(self._targets.apply(self.settings))

    def _begin_from(self, result: Result) -> None:
        self.run.result, self.run.end, self.run.error = result, 0, None
        self.recording.restart(result.history)
        self._draw(result.image, result.steps_done)

    def _result(self) -> Result:
        """Return the result as it is now."""
        result = self.run.so_far()
        if result is None:
            raise TimeoutError(_("the step that is being taken has not ended yet; try again later"))
        return result

    def _applied_settings(self) -> dict[str, Any]:
        """Return the settings that the picture is painted with: without those not applied yet."""
        return {**self.settings, **self._targets.applied}

    def _next_end(self) -> int:
        steps: int = self.settings["steps"]
        return steps * (self.recording.steps_done // steps + 1)

    def _explain(self, error: Exception) -> str:
        return explain(error, self._targets.applied["size"])

    def _save(self, ending: str, write: Callable[[Path], Path]) -> Path:
        """Write a file, say so, and offer it as a download; on a page, it is nothing but that."""
        settings, served = self._applied_settings(), self.controls.served
        sources = (settings["content"], *styles_of(settings))
        path, link = save_file(write, None if served else self.output, sources, ending)
        self.controls.canvas.say("" if served else _(SAVED).format(path), link)
        return path
