"""The networks that the explorer offers.

Knows nothing of widgets.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

from nst_helpers.language import N_, _
from nst_helpers.network.features import Features
from nst_helpers.network.load import load_network
from nst_helpers.network.weights import CHOSE_BUNDLED, CHOSE_VGG19

__all__: list[str] = []

LOADING = N_("loading the network {} ...")
OFFERED = {"bundled": N_("bundled"), "vgg19": "VGG-19", "random": N_("random weights")}


class Networks:
    """Networks by name; each is loaded when it is first needed.

    Parameters
    ----------
    net : str, path or Features
        Loaded at once, so that the caller gets its errors.
    served : bool
        Offer none that would have to be downloaded.

    Attributes
    ----------
    options : dict of str to str
        What to call a network on the screen, and its name.
    first : str
        The name of ``net``.
    note : str
        What people should know about it: that VGG-19's file is broken, or what was converted.
    loaded : dict of str to Features
        By name.

    Raises
    ------
    ValueError, FileNotFoundError
        As ``load_network``.
    """

    def __init__(self, net: str | Path | Features, served: bool = False) -> None:
        self.options = {_(text): name for name, text in OFFERED.items()}
        self.note = ""
        if isinstance(net, Features):
            loaded, self.first = net, f"yours: {net.name}"
        else:
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                loaded = load_network(net)
            self.note = _note(printed.getvalue(), served)
            # A file goes by its name: settings travel, and its path is of this machine.
            offered = loaded.source in OFFERED
            self.first = loaded.source if offered else loaded.name
        if served and self.first != "vgg19":
            del self.options["VGG-19"]
        if self.first not in self.options.values():
            self.options[self.first] = self.first
        self.loaded = {self.first: loaded}

    def load(self, name: str, say: Callable[[str], object] = lambda text: None) -> Features:
        """Return a network.

        Parameters
        ----------
        name : str
            Of one of the options.
        say : callable
            Given what to tell people meanwhile, "" where that is over.
        """
        if name not in self.loaded:
            say(_(LOADING).format(name))
            self.loaded[name] = load_network(name)
            say("")
        return self.loaded[name]


def _note(printed: str, served: bool) -> str:
    """Return what ``load_network`` has printed, but for the line that says which one it is."""
    which = _(CHOSE_BUNDLED), _(CHOSE_VGG19)  # the control shows that
    lines = [line for line in printed.splitlines() if line not in which]
    # Visitors of a page cannot delete files, and need not know where they are.
    return " ".join(line.split(": delete ")[0] if served else line for line in lines)
