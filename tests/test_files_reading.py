"""Picture files as cameras, editors and strangers make them: right, or refused by name."""

import io
import os
import struct
import subprocess
import sys
import threading
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from helpers import interrupted_before_each_line, make_picture
from nst_helpers import load_alpha, load_image, save_image, to_pil
from nst_helpers.files import reading
from nst_helpers.images import cover_image, load_upload, pixel_size, to_image

PICTURE = to_pil(make_picture(40, 48))
PIXELS = np.asarray(PICTURE)
GREY = PIXELS[..., 1]
TRUE = to_image(PICTURE)
SRGB = ImageCms.createProfile("sRGB")
XYZ = {  # of red, green and blue, at the connection space's white
    "Display P3": [(0.515, 0.241, -0.001), (0.292, 0.692, 0.042), (0.157, 0.067, 0.784)],
    "ProPhoto": [(0.798, 0.288, 0.0), (0.135, 0.712, 0.0), (0.031, 0.0, 0.825)],
}


def encoded(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(array, *chunks):
    """A PNG file with 16 bits a value, which Pillow does not write of colours."""
    height, width = array.shape[:2]
    colour = 0 if array.ndim == 2 else 2
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    head = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", head), *chunks, chunk(b"IDAT", zlib.compress(rows))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def profile(kind, primaries=(), gamma=2.2):
    """An ICC profile with a curve, and primaries if it is one of colours."""

    def xyz(values):
        numbers = (round(value * 65536) for value in values)
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *numbers)

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    white = xyz((0.9642, 1.0, 0.8249))
    text = b"text\0\0\0\0none\0"
    tags = {b"desc": b"desc\0\0\0\0" + bytes(82), b"cprt": text, b"wtpt": white}
    tags |= dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), map(xyz, primaries), strict=False))
    curves = (b"rTRC", b"gTRC", b"bTRC") if primaries else (b"kTRC",)
    table, body = struct.pack(">I", len(tags) + len(curves)), b""
    for name, data in [*tags.items(), *((name, curve) for name in curves)]:
        start = 132 + 12 * (len(tags) + len(curves)) + len(body)
        table += name + struct.pack(">II", start, len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4xI", 128 + len(table) + len(body), 0x02400000) + b"mntr" + kind + b"XYZ "
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + white[8:]
    return head.ljust(128, b"\0") + table + body


def in_profile(data):
    other = ImageCms.ImageCmsProfile(io.BytesIO(data))
    picture = ImageCms.profileToProfile(PICTURE, SRGB, other)
    picture.info.clear()  # or the profile is saved unasked
    return picture


# --- profiles ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", XYZ)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_colours_of_an_embedded_profile_become_those_of_srgb(name, kind):
    data = profile(b"RGB ", XYZ[name])
    exact = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    image = load_image(encoded(in_profile(data), kind, icc_profile=data, **exact))
    ignored = load_image(encoded(in_profile(data), kind, **exact))
    assert (image - TRUE).abs().mean() < 0.006 < 0.02 < (ignored - TRUE).abs().mean()


def test_a_profile_leaves_transparency_and_a_palette_as_they_are():
    data = profile(b"RGB ", XYZ["Display P3"])
    cut_out = in_profile(data)
    cut_out.putalpha(Image.fromarray(GREY))
    source = encoded(cut_out, "PNG", icc_profile=data)
    assert torch.equal(load_alpha(source), to_image(GREY)[:, :1])
    on_white = TRUE * load_alpha(source) + 1 - load_alpha(source)
    assert (load_image(source) - on_white).abs().mean() < 0.006
    flat = Image.new("P", (4, 4))
    flat.putpalette(in_profile(data).getpixel((7, 7)))
    image = load_image(encoded(flat, "PNG", icc_profile=data))
    assert (image[0, :, 0, 0] - TRUE[0, :, 7, 7]).abs().max() < 0.02


def test_a_profile_of_greys_is_obeyed():
    data = profile(b"GRAY", gamma=1.0)
    image = load_image(encoded(Image.fromarray(GREY), "PNG", icc_profile=data))
    linear = GREY / 255
    srgb = np.where(linear < 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(image[0, 0].numpy() - srgb).mean() < 0.004
    assert torch.equal(image[0, 0], image[0, 2])


def test_what_says_it_is_srgb_keeps_every_value():
    data = ImageCms.ImageCmsProfile(SRGB).tobytes()
    for picture in (PICTURE, Image.fromarray(GREY)):  # a profile of colours, on greys, too
        assert torch.equal(load_image(encoded(picture, "PNG", icc_profile=data)), to_image(picture))


@pytest.mark.parametrize(
    "data", [b"", b"nonsense", profile(b"GRAY"), profile(b"CMYK"), profile(b"RGB ")[:150]]
)
def test_a_broken_profile_is_ignored_with_a_warning_that_names_the_file(tmp_path, data):
    path = tmp_path / "photo.tif"
    PICTURE.save(path, icc_profile=data or b"\0")
    with pytest.warns(UserWarning, match=r"photo\.tif has a broken colour profile") as caught:
        image = load_image(path)
    assert caught[0].filename == __file__
    assert torch.equal(image, TRUE)


def test_cmyk_and_lab_become_the_colours_they_stand_for():
    lab = ImageCms.profileToProfile(PICTURE, SRGB, ImageCms.createProfile("LAB"), outputMode="LAB")
    assert (load_image(encoded(lab, "TIFF")) - TRUE).abs().mean() < 0.01
    inverted = Image.fromarray(255 - PIXELS).convert("RGB")
    ink = Image.merge("CMYK", [*inverted.split(), Image.new("L", inverted.size)])
    for source in (encoded(ink, "TIFF"), encoded(ink, "JPEG", quality=98, subsampling=0)):
        assert (load_image(source) - TRUE).abs().mean() < 0.01


# --- depths --------------------------------------------------------------------------------------


def tiff(array, **tags):
    return encoded(
        Image.fromarray(array), "TIFF", tiffinfo={int(k[1:]): v for k, v in tags.items()}
    )


def deep(bits):
    return (GREY.astype(np.float64) / 255 * (2**bits - 1)).round().astype(np.uint16)


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_a_grey_of_some_bits_is_scaled_by_what_the_file_says(bits):
    depth = chunk(b"sBIT", bytes([bits]))
    full = deep(16) >> (16 - bits) << (16 - bits)  # as the specification has it: scaled to 16 bits
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for source in (
            tiff(deep(bits), t281=2**bits - 1),
            png(deep(bits), depth),
            png(full, depth),
        ):
            assert np.abs(load_image(source)[0, 1].numpy() - GREY / 255).max() < 0.003


@pytest.mark.parametrize(
    ("array", "full"),
    [
        (deep(12), 65535),
        (GREY.astype(np.float32) * 3, 65535),
        (deep(12).astype(np.int32) * 3, 65535),
        (GREY.astype(np.float32) / 64, 255),
        (GREY.astype(np.int32) << 20, 2**31 - 1),
    ],
)
def test_without_a_word_in_the_file_a_dark_grey_stays_dark_and_is_warned_of(tmp_path, array, full):
    path = tmp_path / "cells.tif"
    Image.fromarray(array).save(path)
    with pytest.warns(UserWarning, match=r"cells\.tif is nearly black: .*array / \d"):
        image = load_image(path)
    assert np.abs(image[0, 0].numpy() - array / full).max() < 0.003
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_image(tiff(array * 0))  # black is black


def test_values_below_0_are_black_and_said_and_those_that_are_none_are_refused(tmp_path):
    values = GREY.astype(np.float32) / 255 - 0.2
    with pytest.warns(UserWarning, match=r"values below 0 \(down to -0\.\d+\)"):
        image = load_image(tiff(values))
    assert np.abs(image[0, 0].numpy() - values.clip(0, 1)).max() < 0.003
    for wrong, message in [
        (np.nan, "not finite"),
        (np.inf, "not finite"),
        (1e9, "values up to 1e"),
    ]:
        values[3, 4] = wrong
        with pytest.raises(ValueError, match=f"^this file has .*{message}"):
            load_image(tiff(values))


def test_16_bits_a_colour_are_read_and_12_of_them_warned_of():
    array = PIXELS.astype(np.uint16)
    assert (load_image(png(array * 257)) - TRUE).abs().max() < 0.005
    with pytest.warns(UserWarning, match="nearly black: are 10 or 12 bits"):
        load_image(png(array * 16))


def test_the_transparent_value_of_a_deep_picture_is_transparent():
    grey, colours = deep(16), PIXELS.astype(np.uint16) * 257
    for array, value in ((grey, grey[2, 3]), (colours, colours[2, 3])):
        source = png(array, chunk(b"tRNS", value.astype(">u2").tobytes()))
        assert load_image(source)[0, :, 2, 3].tolist() == [1, 1, 1]
        assert load_alpha(source)[0, 0, 2, 3] == 0
        assert load_alpha(source).mean() > 0.9


# --- Pillow pictures and arrays ------------------------------------------------------------------


@pytest.mark.parametrize(
    "mode",
    ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"]
    + ["I", "F", "I;16", "I;16B"],
)
def test_a_pillow_picture_of_every_mode_is_the_same_picture(mode):
    colour = Image.new("RGB", (5, 4), (200, 200, 200))
    if mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        picture = ImageCms.profileToProfile(colour, SRGB, lab, outputMode="LAB")
    elif mode.startswith("I;"):
        picture = Image.new(mode, colour.size, 200 * 257)
    elif mode in ("La", "RGBa", "PA"):
        picture = colour.convert({"La": "LA", "RGBa": "RGBA", "PA": "L"}[mode]).convert(mode)
    else:
        picture = colour.quantize(2) if mode == "P" else colour.convert(mode, dither=0)
    before = picture.tobytes()
    image = to_image(picture)
    assert picture.mode == mode
    assert picture.tobytes() == before
    white = 1 if mode == "1" else 200 / 255
    assert (image - white).abs().max() < 0.01


@pytest.mark.parametrize("channels", [None, 1, 3, 4])
def test_arrays_of_every_unambiguous_type_are_the_same_picture(channels):
    array = np.random.default_rng(0).integers(0, 256, (5, 6, channels or 1)).astype(np.uint8)
    array = array[..., 0] if channels is None else array
    image = to_image(array)
    colours = array / 255 if channels else array[..., None] / 255
    if channels == 4:
        colours = colours[..., :3] * colours[..., 3:] + 1 - colours[..., 3:]
    expected = np.broadcast_to(colours, (5, 6, 3)).transpose(2, 0, 1)
    assert np.abs(image[0].numpy() - expected).max() < 1e-6
    assert image.dtype == torch.float32
    floats = array / 255
    for same in (array.astype(np.uint16) * 257, floats, floats.astype(np.float32)):
        assert torch.allclose(to_image(same), image, atol=1e-6)
    assert (to_image(floats.astype(np.float16)) - image).abs().max() < 1e-3
    assert torch.equal(to_image(array > 99), to_image((array > 99) * np.uint8(255)))


# --- transparency --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [None, 20, 5])
def test_colours_of_what_is_transparent_do_not_bleed_into_the_edges(size):
    array = np.zeros((120, 160, 4), dtype=np.uint8)
    array[..., 0] = 255  # red, and transparent
    array[30:90, 40:120] = (0, 0, 255, 255)
    source = encoded(Image.fromarray(array), "PNG")
    image, alpha = load_image(source, size), load_alpha(source, size)
    assert alpha.shape == image[:, :1].shape
    # Blue on white has no more red than green, wherever it is half transparent.
    assert (image[:, 0] - image[:, 1]).abs().max() < 0.02
    assert (image[:, 2] - 1).abs().max() < 0.02
    assert ((1 - image[:, 1]) - alpha[:, 0]).abs().max() < 0.02


def test_a_picture_without_transparency_is_all_opaque():
    for source in (encoded(PICTURE, "JPEG"), encoded(PICTURE, "PNG")):
        assert torch.equal(load_alpha(source, 20), torch.ones_like(load_image(source, 20)[:, :1]))


# --- what is no picture that can be read ---------------------------------------------------------

BOX = b"\0\0\0\x18ftyp"
NO_PICTURE = {
    "a.svg": (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG drawing"),
    "photo.jpg": (b"\n<!DOCTYPE html><html><svg></svg></html>", "a web page"),
    "a.pdf": (b"%PDF-1.7\n", "PDF document"),
    "a.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "never run"),
    "a.psd": (b"8BPS\0\1", "Photoshop"),
    "IMG_1.jpg": (BOX + b"heic\0\0\0\0mif1heic", "HEIC photograph.* save it as JPEG"),
    "a.mp4": (BOX + b"isom\0\0\0\0isomavc1", "a video"),
    "a.webm": (b"\x1aE\xdf\xa3", "a video"),
    "a.cr2": (b"II*\0\x10\0\0\0CR\2\0", "raw file"),
    "a.cr3": (BOX + b"crx \0\0\0\0", "raw file"),
    "a.NEF": (encoded(PICTURE, "TIFF"), "raw file"),
    "dng.tif": (tiff(PIXELS, t50706=b"\1\4\0\0"), "raw file"),
    "a.jxl": (b"\xff\x0a\0\0", "JPEG XL"),
    "a.zip": (b"PK\x03\x04", "an archive"),
    "a.npy": (b"\x93NUMPY\1\0", "to_image"),
    "lfs.png": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "nothing.png": (b"", "empty"),
    "a.txt": (b"hello there", "not a picture that can be read: JPEG, PNG"),
    "half.png": (encoded(PICTURE, "PNG")[:900], "broken or cut off; it begins as a PNG file"),
}


@pytest.mark.parametrize("name", NO_PICTURE)
def test_what_is_no_picture_is_named_as_what_it_is(tmp_path, name, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as if it were not installed
    content, message = NO_PICTURE[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} (is|cannot).*{message}"):
        load_image(path)
    if name != "a.NEF":  # by its ending alone
        with pytest.raises(ValueError, match=f"this file is .*{message}"):
            load_image(content)
    with pytest.raises(ValueError, match=rf"^{name} is .*{message}") as caught:
        load_upload(name, content, 100)
    assert "pip" not in str(caught.value)  # which strangers cannot do


@pytest.mark.parametrize(
    ("address", "advice"),
    [
        ("https://example.org/a.jpg", "download it"),
        ("http:/example.org/a.jpg", "download it"),
        ("data:image/png;base64,AAAA", "download it"),
        ("file:///home/me/a.png", "give the path alone"),
    ],
)
def test_an_address_is_named_as_one(address, advice):
    with pytest.raises(ValueError, match=f"is an address and not a file: {advice}"):
        load_image(address)


@pytest.mark.parametrize("path", ["a" * 5000, "~nobody_of_this_name/a.png", "/dev/null"])
def test_odd_paths_are_not_found(path):
    with pytest.raises(FileNotFoundError):
        load_image(path)


def test_a_tilde_is_the_home_folder_for_reading_and_writing(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert save_image(TRUE, "~/new/out.png") == tmp_path / "new" / "out.png"
    assert (load_image("~/new/out.png") - TRUE).abs().max() < 0.003


def test_broken_tiff_files_leave_stderr_alone(capfd):
    noise = np.random.default_rng(0).integers(0, 255, (40, 48, 3), dtype=np.uint8)
    data = bytearray(encoded(Image.fromarray(noise), "TIFF", compression="tiff_lzw"))
    data[60:90] = bytes(30)
    with pytest.raises(ValueError, match="this file is broken or cut off; it begins as a TIFF"):
        load_image(bytes(data))
    assert capfd.readouterr() == ("", "")


def test_an_interrupt_before_any_line_of_reading_leaves_stderr_where_it_was(capfd, monkeypatch):
    data, interrupts = encoded(PICTURE, "TIFF", compression="tiff_lzw"), 0
    # Ctrl-C never comes between a with and its lock; here it does, and the lock stays locked.
    monkeypatch.setattr(reading, "_one_at_a_time", threading.RLock())
    for _ in interrupted_before_each_line(lambda: load_image(data), [reading.__file__]):
        interrupts += 1
        os.write(2, b"here")
        assert capfd.readouterr().err == "here"
    assert interrupts > 20


def test_reading_in_threads_leaves_the_warning_filters_as_they_were():
    before, sources = list(warnings.filters), [encoded(PICTURE, kind) for kind in ("PNG", "TIFF")]
    threads = [threading.Thread(target=load_image, args=(s, 9)) for s in sources * 8]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before


# --- uploads -------------------------------------------------------------------------------------


def blank_png(side, depth, colour, channels):
    compress, row = zlib.compressobj(1), bytes(1 + side * channels * depth // 8)
    data = b"".join([*(compress.compress(row) for _ in range(side)), compress.flush()])
    head = struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_an_upload_is_read_as_a_file_is_and_never_made_larger():
    source = encoded(PICTURE, "PNG")
    assert torch.equal(load_upload("a.png", source, 20), load_image(source, 20))
    assert torch.equal(load_upload("a.png", memoryview(source), 500), load_image(source))


@pytest.mark.parametrize("kind", ["PPM", "JPEG2000", "PCX", "TGA", "ICO", "DDS", "IM", "AVIF"])
def test_rare_formats_are_not_opened_for_strangers(kind):
    with pytest.raises(ValueError, match=r"^x is (not a picture that can be read|a picture in)"):
        load_upload("x", encoded(PICTURE, kind), 20)


def test_an_upload_of_many_pixels_is_refused_unless_it_is_made_smaller_while_decoding():
    large = Image.new("RGB", (6000, 4000), (200, 100, 50))
    image = load_upload("camera.jpg", encoded(large, "JPEG"), 400)
    assert image.shape == (1, 3, 400, 600)
    assert (image[0, :, 9, 9] * 255 - torch.tensor([200, 100, 50])).abs().max() < 4
    for name, source in [
        ("bomb.png", blank_png(4001, 8, 0, 1)),
        ("huge.jpg", encoded(Image.new("L", (9000, 4000)), "JPEG")),
    ]:
        with pytest.raises(ValueError, match=rf"^{name} would be .*; the limit is (16|32) million"):
            load_upload(name, source, 100)
        assert load_image(source, 100).shape[2] == 100
        assert min(pixel_size(source)) >= 4000


PEAK = """
import resource, sys
from nst_helpers import images
images.load_image("chelsea", 32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
content = sys.stdin.buffer.read()
if sys.argv[1] == "upload":
    images.load_upload("x", content, 1024)
else:
    images.load_image(content, 96)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts memory in kB")
@pytest.mark.parametrize(
    ("how", "source", "megabytes"),  # half as much again as was measured
    [
        ("upload", lambda: encoded(Image.new("RGBA", (4000, 4000)), "WEBP"), 400),
        ("upload", lambda: blank_png(4000, 16, 6, 4), 400),
        ("file", lambda: blank_png(13_000, 16, 0, 1), 600),
    ],
)
def test_what_looks_small_does_not_take_gigabytes(how, source, megabytes):
    command = [sys.executable, "-c", PEAK, how]
    result = subprocess.run(command, input=source(), capture_output=True, check=True)
    assert int(result.stdout) / 1024 < megabytes


def test_a_large_picture_made_small_is_what_it_is_in_one_go():
    image = make_picture(960, 1280)
    source = encoded(to_pil(image), "PNG")
    exact = to_pil(image).resize((80, 60), Image.Resampling.LANCZOS)
    assert (load_image(source, 60) - to_image(exact)).abs().max() < 0.02
    assert (cover_image(load_image(source, 60), 60, 80) - load_image(source, 60)).abs().max() == 0
