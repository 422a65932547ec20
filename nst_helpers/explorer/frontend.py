"""Where the explorer is shown: what Colab cannot do, and cells that are run again."""

from __future__ import annotations

import sys
import threading
import weakref
from typing import Protocol

import ipywidgets
from IPython import get_ipython

from nst_helpers.explorer.background import BackgroundRun
from nst_helpers.explorer.widgets import close_widget
from nst_helpers.language import N_

__all__: list[str] = []


COLAB_NOTE = N_(
    "Colab shows nothing that comes from a thread, so Start keeps the notebook busy until its "
    "steps are done: sliders count from the next Start, and the cell's stop button interrupts."
)


class Closable(Protocol):
    """What can be taken off the screen."""

    def close(self) -> None:
        """End it."""


# By the cell, its count and the object: what is on the screen. It goes when nothing else needs it.
_shown: weakref.WeakValueDictionary[tuple[str, int, int], Closable] = weakref.WeakValueDictionary()


def shows_threads() -> bool:
    """Return whether the front end shows what a thread changes; Colab does not."""
    return "google.colab" not in sys.modules


def prepare_colab() -> None:
    """Let Colab show ipywidgets 8, where it can."""
    output = sys.modules.get("google.colab.output")
    if output is not None and hasattr(output, "enable_custom_widget_manager"):
        output.enable_custom_widget_manager()


def refuse_new_widgets() -> None:
    """Let the pages of this kernel speak to the widgets that there are, and make no others."""
    manager = getattr(getattr(get_ipython(), "kernel", None), "comm_manager", None)
    if manager is not None:
        manager.targets.pop("jupyter.widget", None)


def close_predecessors(widget: Closable) -> None:
    """Close what earlier runs of this cell have shown.

    Parameters
    ----------
    widget : Closable
        What this run of the cell shows; the next one closes it.
    """
    shell = get_ipython()
    if not hasattr(shell, "get_parent"):
        return
    cell = shell.get_parent().get("metadata", {}).get("cellId")
    if cell is None:
        return
    count = shell.execution_count
    for key, shown in list(_shown.items()):
        if key[0] == cell and key[1] != count:
            shown.close()
            del _shown[key]
    _shown[cell, count, id(widget)] = widget


def end_when_dropped(owner: object, run: BackgroundRun, view: ipywidgets.Widget) -> None:
    """Stop a run and close its widgets when nothing refers to their owner any more.

    Parameters
    ----------
    owner : object
        Held by neither of the two.
    run : BackgroundRun
    view : ipywidgets.Widget
        With all that belongs to it.
    """
    # An error that ended a run holds the frames that it came through, and they the owner.
    reference = weakref.ref(run)

    def end() -> None:
        if run := reference():
            run.stop(wait=False)
        close_widget(view)

    # In a thread, for whoever drops it may hold any lock.
    finalizer = weakref.finalize(owner, lambda: threading.Thread(target=end, daemon=True).start())
    finalizer.atexit = False
