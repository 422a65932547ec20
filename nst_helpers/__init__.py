"""Neural Style Transfer (Gatys, Ecker & Bethge, CVPR 2016), from white noise.

A picture is optimised until a network sees in it what we asked for::

    picture file --load_image--> image (B, 3, H, W), float32, sRGB in [0, 1]
      --Features--> {"relu4_2": (B, C, H/8, W/8), ...}
      --gram_matrix, losses--> LossTerms(total, content, style, tv)
      --optimize--> Result(image, history, snapshots)
      --plots, explorer--> a figure, a live view, sliders

>>> import nst_helpers as nst
>>> content, style = nst.load_image("chelsea", 256), nst.load_image("night_sky", 256)
>>> loss = nst.StyleTransferLoss(nst.load_network("auto"), content=content, style=style)
>>> result = nst.optimize(loss, nst.noise_like(content, seed=0), steps=300)
>>> nst.save_image(result.image, "out.png")

The core is read in this order: ``images``, ``network.features``, ``layer_losses``, ``losses``,
``optimization``.
"""

# In the order of the data flow, not of the alphabet.
# ruff: noqa: I001, RUF022

TYPE_CHECKING = False  # what typing says; importing it takes longer than all the rest here
if TYPE_CHECKING:
    # Picture file to image, and back.
    from nst_helpers.files.settings import load_settings
    from nst_helpers.files.sources import sample_images
    from nst_helpers.images import (
        load_alpha,
        load_image,
        noise_like,
        resize_image,
        save_animation,
        save_image,
        to_pil,
    )
    from nst_helpers.lesson.paper_images import fetch_image

    from nst_helpers.control.colors import match_colors, restore_colors
    from nst_helpers.control.masks import load_masks

    # Image to feature maps.
    from nst_helpers.engine.devices import best_device, describe_device
    from nst_helpers.network.features import Features
    from nst_helpers.network.load import load_network
    from nst_helpers.network.normalisation import normalise_activations
    from nst_helpers.network.weights import load_weights

    # Feature maps to numbers.
    from nst_helpers.layer_losses import content_loss, gram_matrix, style_loss, total_variation
    from nst_helpers.losses import CONTENT_LAYERS, STYLE_LAYERS, LossTerms, StyleTransferLoss

    # Numbers to image.
    from nst_helpers.engine.memory import estimate_memory
    from nst_helpers.optimization import Loss, Progress, Result, optimize
    from nst_helpers.sweeps import alpha_beta_sweep, sweep

    # The ways to look at it.
    from nst_helpers.explorer.explorer import StyleTransferExplorer
    from nst_helpers.language import set_language
    from nst_helpers.lesson.notebook import budget, figures_as_jpeg
    from nst_helpers.plots import LiveView, plot_history, plot_layers, show_images, show_matrix

__all__ = [
    # Picture file to image, and back.
    "load_alpha",
    "load_image",
    "load_settings",
    "noise_like",
    "resize_image",
    "sample_images",
    "save_animation",
    "save_image",
    "to_pil",
    "fetch_image",
    "load_masks",
    "match_colors",
    "restore_colors",
    # Image to feature maps.
    "Features",
    "load_network",
    "load_weights",
    "normalise_activations",
    "best_device",
    "describe_device",
    # Feature maps to numbers.
    "CONTENT_LAYERS",
    "STYLE_LAYERS",
    "LossTerms",
    "StyleTransferLoss",
    "content_loss",
    "gram_matrix",
    "style_loss",
    "total_variation",
    # Numbers to image.
    "Loss",
    "Progress",
    "Result",
    "estimate_memory",
    "optimize",
    "alpha_beta_sweep",
    "sweep",
    # The ways to look at it.
    "LiveView",
    "StyleTransferExplorer",
    "budget",
    "figures_as_jpeg",
    "plot_history",
    "plot_layers",
    "set_language",
    "show_images",
    "show_matrix",
]
__version__ = "0.7.1"

# The modules that define them, each with its own __all__.
_MODULES = (
    "files.settings",
    "files.sources",
    "images",
    "lesson.paper_images",
    "control.masks",
    "control.colors",
    "engine.devices",
    "network.features",
    "network.load",
    "network.normalisation",
    "network.weights",
    "layer_losses",
    "losses",
    "engine.memory",
    "optimization",
    "sweeps",
    "explorer.explorer",
    "language",
    "lesson.notebook",
    "plots",
)

if not TYPE_CHECKING:  # or a checker would believe in every name

    def __getattr__(name):
        """Import a public name when it is first used.

        Torch takes a second or more. ``python -m nst_helpers`` comes through this file before its
        own code can run, which is to be there for Ctrl-C by then.
        """
        import importlib

        for module in _MODULES if name in __all__ else ():
            home = importlib.import_module(f"{__name__}.{module}")
            if name in home.__all__:
                globals()[name] = getattr(home, name)
                return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *__all__})


del TYPE_CHECKING
