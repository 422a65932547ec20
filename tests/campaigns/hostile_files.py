"""Picture files that nobody means well with: each made from a number, and the same each time."""

import functools
import io
import random
import struct
import zlib
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageCms

WIDTH, HEIGHT = 48, 40
PNG = b"\x89PNG\r\n\x1a\n"
PLACES = 25  # where a file is cut
BOMB = 64 << 20  # bytes that a compressed text or profile of a few kB becomes


class HostileFile(NamedTuple):
    """A file, and what was done to it."""

    name: str  # says how to make it again
    ending: str
    data: bytes


def chunk(kind, data):
    """A chunk of a PNG file, its checksum right."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks, size=(WIDTH, HEIGHT), depth=8, colour=2, pixels=None):
    """A PNG file with any chunks before its pixels, and any size declared."""
    if pixels is None:
        pixels = zlib.compress((b"\0" + bytes(range(3)) * WIDTH) * HEIGHT)
    head = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0)
    ends = chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return PNG + chunk(b"IHDR", head) + b"".join(chunks) + ends


@functools.cache
def good_files():
    """One small file of each kind: format, mode and compression; name to (ending, bytes)."""
    rng = np.random.default_rng(0)
    waves = 99 + 80 * np.sin(np.arange(WIDTH) / 7)[None, :, None] * np.cos(np.arange(3))
    values = np.clip(waves + rng.normal(0, 9, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)
    rgb = Image.fromarray(values)
    rgba = rgb.convert("RGBA")
    rgba.putalpha(Image.linear_gradient("L").resize(rgb.size))
    deep = Image.fromarray(values[..., 0].astype(np.uint16) * 257)
    real = Image.fromarray(values[..., 0].astype(np.float32) / 255)
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    frames = {"save_all": True, "append_images": ...}  # Pillow leaves its mark on what it saves
    cmyk, grey, palette = rgb.convert("CMYK"), rgb.convert("L"), rgb.quantize(16)
    lab = ImageCms.profileToProfile(
        rgb, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    kinds = {
        "png": [
            (rgb, {}),
            (rgba, {"icc_profile": profile}),
            (palette, {"transparency": 3}),
            (rgb.convert("LA"), {"exif": exif}),
            (deep, {}),
            (rgb.convert("1"), {}),
            (rgb, frames),
        ],
        "jpg": [
            (rgb, {"exif": exif, "icc_profile": profile}),
            (cmyk, {}),
            (grey, {"progressive": True}),
        ],
        "mpo": [(rgb, frames)],
        "webp": [(rgb, {"exif": exif}), (rgba, {"lossless": True}), (rgb, frames)],
        "gif": [(palette, {"transparency": 3}), (rgb, frames)],
        "bmp": [(rgb, {}), (palette, {})],
        "tif": [
            (rgb, {"icc_profile": profile}),
            (rgba, {"compression": "tiff_lzw"}),
            (rgb, {"compression": "jpeg"}),
            (deep, {"compression": "tiff_adobe_deflate"}),
            (real, {}),
            (cmyk, {"compression": "packbits"}),
            (lab, {}),
            (rgb.convert("1"), {"compression": "group4"}),
            (rgb, frames),
        ],
        "ico": [(rgba, {"sizes": [(32, 32)]})],
        "icns": [(rgba.resize((32, 32)), {})],
        "ppm": [(rgb, {}), (deep, {})],
        "tga": [(rgba, {"compression": "tga_rle"})],
        "pcx": [(rgb, {})],
        "dds": [(rgba, {})],
        "sgi": [(rgb, {})],
        "im": [(rgb, {})],
        "jp2": [(rgb, {})],
        "avif": [(rgb, {"speed": 10})],
        "blp": [(palette, {})],
        "qoi": [(rgb, {})],
        "spider": [(real, {})],
        "msp": [(rgb.convert("1"), {})],
        "xbm": [(rgb.convert("1"), {})],
        "eps": [(rgb, {})],
        "pdf": [(rgb, {})],
    }
    files = {}
    for ending, variants in kinds.items():
        for number, (picture, options) in enumerate(variants):
            file, kind = io.BytesIO(), Image.registered_extensions().get(f".{ending}", ending)
            if "append_images" in options:
                options = frames | {"append_images": [picture.rotate(90), picture.rotate(180)]}
            try:
                picture.save(file, kind, **options)
            except (KeyError, OSError, ValueError):  # not in every Pillow
                continue
            files[f"{ending}{number or ''}"] = ending, file.getvalue()
    return files | {name: (name.split("_")[0], data) for name, data in _others().items()}


def _others():
    """What strangers upload as a picture although it is none, or none that Pillow writes."""
    box = struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"heic", 0, b"mif1", b"heic")
    return {
        "heic": box + bytes(200),
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="48" height="40"/>',
        "html": b"<!DOCTYPE html><html><body>404</body></html>" * 4,
        "psd": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 40, 48, 8, 3) + bytes(400),
        "cr2": b"II*\0\x10\0\0\0CR\2\0" + bytes(300),
        "txt": b"not a picture at all\n" * 9,
        "zip": b"PK\3\4" + bytes(200),
        "npy": b"\x93NUMPY\1\0v\0{'descr': '|u1', 'fortran_order': False, 'shape': (9,)}"
        + bytes(99),
        "fits": b"SIMPLE  =                    T".ljust(80)
        + b"NAXIS   =  9".ljust(80)
        + bytes(2720),
        "xpm": b'/* XPM */\nstatic char *x[] = {\n"48 40 99999 9",\n' + b'"a c #fff",\n' * 20,
        "ppm_long": b"P6\n" + b"9" * 1000 + b" 1\n255\n",
        "png_empty": b"",
    }


def _cut(data, rng):
    return data[: len(data) * rng.randrange(PLACES) // PLACES]


def _change(data, rng):
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4, 16]) if changed else 0):
        changed[rng.randrange(len(changed))] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
    return bytes(changed)


def _change_head(data, rng):
    return _change(data[:160], rng) + data[160:]


def _move(data, rng):
    start, end, to = (rng.randrange(len(data) + 1) for _ in range(3))
    return data[:to] + data[min(start, end) : max(start, end)] + data[to:]


def _splice(data, rng):
    other = rng.choice([data for _, data in good_files().values()])
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _declare(data, rng):
    """Declare another size, in whichever way the format writes numbers."""
    huge = rng.choice([0, 1, 2**15, 2**16 - 1, 13_000, 100_000, 2**31 - 1, 2**31, 2**32 - 1])
    for form in (">I", "<I", ">H", "<H"):
        for side in (WIDTH, HEIGHT):
            number = huge % 2 ** (8 * struct.calcsize(form))
            data = data.replace(struct.pack(form, side), struct.pack(form, number), 2)
    return data.replace(b"48 40", b"%d %d" % (huge, huge), 1)


def _right_checksums(data):
    """The same PNG file with the checksum of each chunk right, so that decoders go on."""
    parts, place = [data[:8]], 8
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4])
        parts.append(chunk(data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    return b"".join(parts)


def _png_chunk(data, rng):
    """A PNG file with one more chunk, which is nonsense."""
    kinds = "iCCP iTXt zTXt tEXt tRNS pHYs gAMA cHRM sBIT bKGD hIST tIME eXIf acTL fcTL fdAT PLTE"
    kind = rng.choice([*kinds.split(), "IDAT", "IHDR", "IEND", "sRGB", "cICP", "vpAg"]).encode()
    bomb = zlib.compress(bytes(BOMB >> rng.choice([0, 4])), 9)
    content = rng.choice(
        [
            b"",
            b"1",
            rng.randbytes(rng.randrange(40)),
            b"nst_helpers\0\1\0\0\0" + bomb,
            b"nst_helpers\0\0" + bomb,
            b"nst_helpers\0\0\0\0\0" + rng.choice([b"null", b"[" * 99_999, b"{}", b"\xff\xfe"]),
            b"x" * 80 + b"\0\0" + zlib.compress(b"profile"),
            b"name\0\0" + rng.randbytes(60),
            b"II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 0x0112, 3, 2**31, 2**32 - 1),
            struct.pack(">IIIIIHHBB", 0, 2**31 - 1, 2**31 - 1, 2**31, 0, 0, 0, 9, 9),
        ]
    )
    colour, depth = rng.choice([(2, 8), (0, 16), (3, 8), (3, 1), (6, 8), (4, 16), (2, 3), (7, 8)])
    return png(chunk(kind, content), colour=colour, depth=depth)


DAMAGES = {
    "cut": _cut,
    "change": _change,
    "head": _change_head,
    "move": _move,
    "splice": _splice,
    "declare": _declare,
}


def hostile_file(number, seed=0):
    """Return file ``number`` of a campaign."""
    rng = random.Random(f"{seed} {number}")
    if number % 9 == 0:
        return HostileFile(f"png-chunk-{seed}-{number}", "png", _png_chunk(b"", rng))
    kind = rng.choice([*good_files()])
    damage = rng.choice([*DAMAGES])
    ending, data = good_files()[kind]
    data = DAMAGES[damage](data, rng)
    if data.startswith(PNG) and rng.random() < 0.7:
        data = _right_checksums(data)
    return HostileFile(f"{kind}-{damage}-{seed}-{number}", ending, data)
