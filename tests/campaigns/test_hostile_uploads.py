"""Files that visitors of a served page upload: a picture, or an error that names the file."""

import io
import zlib

import pytest
from hostile_files import hostile_file, png
from oracle import attempt, bounded_memory, check_image
from PIL import Image

from nst_helpers.explorer.pictures import Pictures

NAMES = [
    "photo.png",
    "<img src=x onerror=alert(1)>.png",
    "../../etc/passwd",
    "é漢😀",
    "a" * 5_000,
    "",
]


def upload(name, data):
    """Choose a file on the page, and begin a run of 64 pixels with it."""
    pictures = Pictures()
    return pictures.load(pictures.add_upload(name, data, 64), 64)


@pytest.mark.campaign(300, 2_400)
def test_a_hostile_upload_is_a_picture_or_refused_by_name(case, seed, capfd):
    file = hostile_file(case, seed)
    name = NAMES[case % len(NAMES)]
    result = attempt(lambda: upload(name, file.data), name[:20])
    if not isinstance(result, Exception):
        check_image(result)
    assert capfd.readouterr() == ("", "")


def deep(side, height, colour, depth):
    """A PNG file of any colour type and depth, all black."""
    channels = {0: 1, 2: 3, 6: 4}[colour]
    pixels = zlib.compress(bytes(height * (1 + side * channels * depth // 8)), 9)
    return png(size=(side, height), colour=colour, depth=depth, pixels=pixels)


def flat(side, mode, kind):
    file = io.BytesIO()
    Image.new(mode, (side, side)).save(file, kind)
    return file.getvalue()


KINDS = {
    "grey": lambda side: deep(side, side, 0, 8),
    "deep grey": lambda side: deep(side, side, 0, 16),
    "png": lambda side: deep(side, side, 2, 8),
    "deep png": lambda side: deep(side, side, 2, 16),
    "deep rgba": lambda side: deep(side, side, 6, 16),
    "ribbon": lambda side: deep(9 * side, 32, 6, 8),
    "jpeg": lambda side: flat(side, "RGB", "JPEG"),
    "cmyk": lambda side: flat(side, "CMYK", "JPEG"),
    "gif": lambda side: flat(side, "P", "GIF"),
    "webp": lambda side: flat(side, "RGBA", "WEBP"),
}
SIDES = (3_999, 4_001, 9_000)  # pixels; 4,000 is the most
BOMBS = {f"{kind} {side}": (kind, side) for kind in KINDS for side in SIDES}


@pytest.mark.campaign(8, BOMBS)
def test_the_worst_upload_takes_half_a_gigabyte_at_most(case, capfd):
    kind, side = case
    data = KINDS[kind](side)
    with bounded_memory(1 << 29):
        result = attempt(lambda: upload("bomb", data), "bomb")
    if not isinstance(result, Exception):
        check_image(result)
    assert capfd.readouterr() == ("", "")
