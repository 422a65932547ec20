"""Neural Style Transfer (Gatys, Ecker & Bethge, CVPR 2016), from white noise.

>>> import nst_helpers as nst
>>> content, style = nst.load_image("chelsea", 256), nst.load_image("night_sky", 256)
>>> loss = nst.StyleTransferLoss(nst.load_network("auto"), content=content, style=style)
>>> result = nst.optimize(loss, nst.noise_like(content, seed=0), steps=300)
>>> nst.save_image(result.image, "out.png")
"""

from nst_helpers.lesson.notebook import budget
from nst_helpers.engine.devices import (
    available_memory,
    best_device,
    best_precision,
    check_memory,
    describe_device,
    record,
)
from nst_helpers.network.features import Features, load_network, normalise_activations
from nst_helpers.lesson.paper_images import fetch_image
from nst_helpers.images import (
    check_output,
    load_image,
    load_settings,
    noise_like,
    resize_image,
    sample_images,
    save_animation,
    save_image,
    to_image,
    to_pil,
)
from nst_helpers.explorer.background import LiveRun
from nst_helpers.losses import (
    CONTENT_LAYERS,
    STYLE_LAYERS,
    LossTerms,
    StyleTransferLoss,
    content_loss,
    gram_matrix,
    style_loss,
    total_variation,
)
from nst_helpers.optimization import Progress, Result, estimate_memory, optimize
from nst_helpers.engine.lbfgs import LBFGS
from nst_helpers.plots import (
    LiveView,
    figure_to_image,
    figures_as_jpeg,
    plot_history,
    plot_layers,
    show_images,
    show_matrix,
)
from nst_helpers.sweeps import alpha_beta_sweep, sweep
from nst_helpers.network.weights import layer_names, load_weights
from nst_helpers.explorer.explorer import StyleTransferExplorer

__all__ = [
    "CONTENT_LAYERS",
    "LBFGS",
    "STYLE_LAYERS",
    "Features",
    "LiveRun",
    "LiveView",
    "LossTerms",
    "Progress",
    "Result",
    "StyleTransferExplorer",
    "StyleTransferLoss",
    "alpha_beta_sweep",
    "available_memory",
    "best_device",
    "best_precision",
    "budget",
    "check_memory",
    "check_output",
    "content_loss",
    "describe_device",
    "estimate_memory",
    "fetch_image",
    "figure_to_image",
    "figures_as_jpeg",
    "gram_matrix",
    "layer_names",
    "load_image",
    "load_network",
    "load_settings",
    "load_weights",
    "noise_like",
    "normalise_activations",
    "optimize",
    "plot_history",
    "plot_layers",
    "record",
    "resize_image",
    "sample_images",
    "save_animation",
    "save_image",
    "show_images",
    "show_matrix",
    "style_loss",
    "sweep",
    "to_image",
    "to_pil",
    "total_variation",
]
__version__ = "0.3.0"
