"""Procedural painters of the style pictures and colour textures of images/.

Each picture has a module of its own; what they share is in ``brush`` and ``relief``. Only numpy and
Pillow are used.
"""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image

from .bojagi import bojagi
from .ink_wash import ink_wash
from .knit import knit
from .leaves import leaves
from .mosaic import mosaic
from .night_sky import night_sky
from .pebbles import pebbles
from .stained_glass import stained_glass
from .wave import wave

PAINTINGS = (bojagi, ink_wash, mosaic, night_sky, stained_glass, wave)
TEXTURES = (knit, leaves, pebbles)
PAINTERS: dict[str, Callable[..., Image.Image]] = {
    painter.__name__: painter for painter in PAINTINGS + TEXTURES
}
