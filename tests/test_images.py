"""Pictures in and out: every mode, every breakage, and nothing half written."""

import gc
import io
import os
import random
import re
import struct
import time
import warnings
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers import make_picture
from nst_helpers.files import sources
from nst_helpers.images import (
    cover_image,
    encode_image,
    load_image,
    load_settings,
    noise_like,
    pixel_size,
    resize_image,
    sample_images,
    save_animation,
    save_image,
    to_image,
    to_pil,
    validate_output,
)

REPOSITORY = Path(__file__).resolve().parents[1]
SMALL = torch.zeros(1, 3, 2, 2)


def pixels(height=6, width=9, channels=3, seed=0):
    shape = (height, width, channels) if channels else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write(picture, folder, ending="png", **options):
    path = folder / f"picture.{ending}"
    picture.save(path, **options)
    return path


def as_array(image):
    """(1, 3, H, W) to (H, W, 3), as numpy in 0..255."""
    assert image.shape[:2] == (1, 3)
    assert image.dtype == torch.float32
    assert image.is_contiguous()
    assert image.min() >= 0
    assert image.max() <= 1
    return image[0].permute(1, 2, 0).numpy().astype(np.float64) * 255


def check_pixels(path, expected, within=1e-3):
    if expected.ndim == 2:
        expected = np.repeat(expected[..., None], 3, axis=2)
    np.testing.assert_allclose(as_array(load_image(path)), expected, atol=within)


# --- modes ---------------------------------------------------------------------------------------

COLOURS = np.array([[10, 20, 30], [200, 0, 0], [0, 99, 255]], dtype=np.float64)
INDEX = np.arange(12).reshape(3, 4) % 3
PALETTE = Image.frombytes("P", (4, 3), INDEX.astype(np.uint8).tobytes())
PALETTE.putpalette(COLOURS.astype(int).flatten().tolist())
OPACITY = np.array([[255], [0], [128]]) / 255
DOTTED = np.full((2, 2, 3), 7, dtype=np.uint8)
DOTTED[0, 0] = (1, 2, 3)
GREY16 = np.linspace(0, 65535, 60).round().astype(np.uint16).reshape(6, 10)
DARK16 = np.arange(250, dtype=np.uint16).reshape(10, 25)  # all nearly black
FLOATS = np.linspace(0, 1, 60, dtype=np.float32).reshape(6, 10)

# What is written, with which options; what is read.
MODES = {
    "RGB": (pixels(), {}, pixels()),
    "grey: three equal channels": (pixels(channels=0), {}, pixels(channels=0)),
    "palette": (PALETTE, {}, COLOURS[INDEX]),
    "palette, one entry transparent": (
        *(PALETTE, {"transparency": 1}),
        np.where(INDEX[..., None] == 1, 255, COLOURS[INDEX]),
    ),
    "palette, partly transparent": (
        *(PALETTE, {"transparency": bytes([255, 0, 128])}),
        (COLOURS * OPACITY + 255 * (1 - OPACITY))[INDEX],
    ),
    "RGB, one colour transparent": (
        *(DOTTED, {"transparency": (1, 2, 3)}),
        np.where(DOTTED == (1, 2, 3), 255, DOTTED),
    ),
    "black and white": (pixels(channels=0) > 127, {}, (pixels(channels=0) > 127) * 255.0),
}


@pytest.mark.parametrize("mode", MODES)
def test_pixels_of_every_mode_are_read_as_rgb_on_white(tmp_path, mode):
    picture, options, expected = MODES[mode]
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    path = write(picture, tmp_path, **options)
    if mode == "black and white":
        with Image.open(path) as file:
            assert file.mode == "1"
    check_pixels(path, expected, within=1.01 if "partly" in mode else 1e-3)


@pytest.mark.parametrize("channels", [2, 4], ids=["LA", "RGBA"])
def test_transparent_pixels_are_laid_on_white(tmp_path, channels):
    array = pixels(channels=channels)
    array[0, 0, -1], array[0, 1, -1] = 0, 255
    opacity = array[..., -1:] / 255.0
    expected = array[..., :-1] * opacity + 255 * (1 - opacity)
    path = write(Image.fromarray(array), tmp_path)
    check_pixels(path, expected[..., 0] if channels == 2 else expected, within=1.01)
    assert as_array(load_image(path))[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    ("ink", "colour"),
    [
        ((0, 0, 0, 0), (255, 255, 255)),
        ((0, 255, 255, 0), (255, 0, 0)),
        ((255, 0, 0, 0), (0, 255, 255)),
        ((0, 0, 0, 255), (0, 0, 0)),
    ],
)
@pytest.mark.parametrize("ending", ["jpg", "tif"])
def test_cmyk_is_ink_on_paper(tmp_path, ending, ink, colour):
    path = write(Image.new("CMYK", (16, 16), ink), tmp_path, ending)
    with Image.open(path) as picture:
        assert picture.mode == "CMYK"
    check_pixels(path, np.full((16, 16, 3), colour), within=12)


@pytest.mark.filterwarnings("ignore:.*nearly black")
@pytest.mark.parametrize(
    ("array", "ending", "expected"),
    [
        (GREY16, "png", GREY16 / 257),
        (GREY16, "tif", GREY16 / 257),
        (GREY16, "pgm", GREY16 / 257),
        (DARK16, "png", DARK16 / 257),
        (DARK16, "tif", DARK16 / 257),
        (pixels(channels=0).astype(np.int32), "tif", pixels(channels=0)),
        (FLOATS, "tif", FLOATS * 255),
        (FLOATS * 255, "tif", FLOATS * 255),
    ],
)
def test_grey_of_many_bits_is_scaled_to_its_full_range(tmp_path, array, ending, expected):
    within = 1e-3 if array.dtype == np.int32 else 0.51
    check_pixels(write(Image.fromarray(array), tmp_path, ending), expected, within)


def test_float_grey_with_nan_gives_an_image_or_an_error_but_no_warning(tmp_path):
    array = np.array([[0.5, np.nan], [1.0, 0.0]], dtype=np.float32)
    path = write(Image.fromarray(array), tmp_path, "tif")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            image = load_image(path)
        except ValueError:
            return
    assert torch.isfinite(image).all()


def test_of_an_animation_the_first_frame_is_read(tmp_path):
    frames = [Image.new("RGB", (5, 4), c) for c in ("#ff0000", "#00ff00", "#0000ff")]
    path = write(frames[0], tmp_path, "gif", save_all=True, append_images=frames[1:])
    with Image.open(path) as picture:
        assert picture.n_frames == 3
    check_pixels(path, np.full((4, 5, 3), (255, 0, 0)))


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "tif", "webp"])
def test_the_file_is_closed_after_reading(tmp_path, ending, frames):
    pictures = [Image.new("RGB", (5, 4), (90 * i, 0, 0)) for i in range(frames)]
    options = {"save_all": True, "append_images": pictures[1:]} if frames > 1 else {}
    path = write(pictures[0], tmp_path, ending, **({} if ending == "jpg" else options))
    gc.collect()  # what other tests have left
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_image(path)
        gc.collect()
    assert [str(w.message) for w in caught if w.category is ResourceWarning] == []


@pytest.mark.parametrize("ending", ["webp", "bmp", "jpg", "tif", "gif"])
def test_other_formats_are_read(tmp_path, ending):
    path = write(Image.new("RGB", (16, 8), (200, 100, 50)), tmp_path, ending, **{"quality": 95})
    check_pixels(path, np.full((8, 16, 3), (200, 100, 50)), within=4)


# How the stored pixels become the upright picture, by EXIF orientation.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: np.rot90(a, 2),
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("ending", ["png", "tif", "jpg"])
def test_exif_orientation_turns_the_image_upright_at_the_size_asked_for(
    tmp_path, orientation, ending
):
    exif = Image.Exif()
    exif[0x0112] = orientation
    if ending != "jpg":  # which loses some of every pixel
        array = pixels()
        path = write(Image.fromarray(array), tmp_path, ending, exif=exif)
        check_pixels(path, UPRIGHT[orientation](array))
    path = write(Image.fromarray(pixels(300, 600)), tmp_path, ending, exif=exif)
    shape = (40, 80) if orientation < 5 else (80, 40)
    assert load_image(path, 40).shape == (1, 3, *shape)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_broken_exif_does_not_spoil_a_good_picture(tmp_path, ending):
    picture = Image.new("RGB", (8, 8), (50, 100, 150))
    path = write(picture, tmp_path, ending, exif=b"Exif\0\0" + b"nonsense" * 4)
    check_pixels(path, np.full((8, 8, 3), (50, 100, 150)), within=6)


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "gif"])
def test_bytes_are_read_like_the_file_that_holds_them(tmp_path, ending):
    path = save_image(make_picture(40, 60), tmp_path / f"picture.{ending}")
    for source in (path.read_bytes(), memoryview(path.read_bytes())):
        for size in (None, 20):
            assert torch.equal(load_image(source, size), load_image(path, size))
        assert pixel_size(source) == pixel_size(path) == (60, 40)


# --- broken and hostile files --------------------------------------------------------------------


def test_a_missing_file_names_the_samples_and_a_folder_is_named_as_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jpg") as caught:
        load_image(tmp_path / "nowhere.jpg")
    assert all(p.stem in str(caught.value) for p in (REPOSITORY / "images").glob("*.jpg"))
    with pytest.raises(FileNotFoundError, match="is a folder"):
        load_image(tmp_path)


def encoded(kind):
    file = io.BytesIO()
    Image.fromarray(pixels(24, 24)).save(file, kind)
    return file.getvalue()


KINDS = ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"]
NO_PICTURE = {
    "empty": b"",
    "text": b"hello",
    "PDF": b"%PDF-1.7 not a picture",
    "PNG's first bytes": b"\x89PNG\r\n\x1a\n",
    **{f"half a {kind}": encoded(kind)[: len(encoded(kind)) // 2] for kind in KINDS},
}


@pytest.mark.parametrize("content", NO_PICTURE.values(), ids=NO_PICTURE)
def test_a_file_that_is_no_whole_picture_is_a_value_error_that_names_it(tmp_path, content):
    path = tmp_path / "letter.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"letter\.png"):
        load_image(path)
    with pytest.raises(ValueError, match="this file"):
        load_image(content)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow's own, of odd tags
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_gives_an_image_or_a_value_error_and_nothing_else(tmp_path, kind):
    good, rng, path = encoded(kind), random.Random(0), tmp_path / "damaged.img"
    for trial in range(120):
        damaged = bytearray(good)
        if trial % 3 == 0:
            del damaged[rng.randrange(len(good)) :]
        else:  # the headers are the tender part
            for _ in range(trial % 3):
                damaged[rng.randrange(min(80, len(good)))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            image = load_image(path)
        except ValueError as error:
            assert "damaged.img" in str(error)
        else:
            assert image.shape[:2] == (1, 3)


def png_header(width, height):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99))


@pytest.mark.parametrize("size", [(100_000, 100_000), (2**31 - 1, 2), (20_000, 15_000)])
@pytest.mark.parametrize("shorter_side", [None, 64])
def test_an_enormous_picture_is_refused_at_once_with_its_size(tmp_path, size, shorter_side):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(*size))
    started_at = time.perf_counter()
    with pytest.raises(ValueError, match=r"bomb\.png") as caught:
        load_image(path, shorter_side)
    assert time.perf_counter() - started_at < 2
    sizes = (f"{size[0]} x {size[1]}", str(size[0] * size[1]))
    assert any(text in str(caught.value) for text in sizes)


def test_the_limit_is_the_one_the_documentation_states(tmp_path):
    assert "over 170 million pixels" in load_image.__doc__
    # 165 million pixels are under it: what is wrong is that the file is cut off.
    path = tmp_path / "large.png"
    path.write_bytes(png_header(16_500, 10_000))
    with pytest.raises(ValueError) as caught:
        load_image(path)
    assert "too large" not in str(caught.value)
    assert "the limit is" not in str(caught.value)
    path.write_bytes(png_header(17_500, 10_000))
    with pytest.raises(ValueError, match=r"17500 x 10000 .* GB as float32; the limit is 170 mill"):
        load_image(path)


def test_a_line_one_pixel_wide_is_not_enlarged_to_gigabytes(tmp_path):
    path = write(Image.new("L", (1, 5000)), tmp_path)
    started_at = time.perf_counter()
    with pytest.raises(ValueError, match="512 x 2560000"):
        load_image(path, 512)
    assert time.perf_counter() - started_at < 2


# --- size ----------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 50))
def test_the_shorter_side_is_exact_and_the_shape_is_kept(tmp_path_factory, height, width, size):
    path = tmp_path_factory.getbasetemp() / "sized.png"
    Image.new("RGB", (width, height), (9, 99, 199)).save(path)
    assert load_image(path).shape == (1, 3, height, width)
    image = load_image(path, size)
    h, w = image.shape[2:]
    assert min(h, w) == size
    assert max(h, w) == pytest.approx(size * max(height, width) / min(height, width), abs=0.51)
    assert (h >= w) if height >= width else (w >= h)
    np.testing.assert_allclose(as_array(image), np.full((h, w, 3), (9, 99, 199)), atol=1e-3)


def test_a_jpeg_made_smaller_is_the_same_as_a_png_made_smaller(tmp_path):
    picture = to_pil(make_picture(480, 640))
    jpeg, png = write(picture, tmp_path, "jpg", quality=95), write(picture, tmp_path)
    difference = as_array(load_image(jpeg, 60)) - as_array(load_image(png, 60))
    assert np.abs(difference).mean() < 2
    assert np.abs(difference).max() < 12


@pytest.mark.parametrize(
    ("height", "width", "size"), [(300, 451, 128), (9, 801, 1), (427, 640, 100), (33, 47, 7)]
)
def test_a_jpeg_made_smaller_keeps_its_shape(tmp_path, height, width, size):
    path = write(Image.new("RGB", (width, height)), tmp_path, "jpg")
    assert load_image(path, size).shape[2:] == (size, round(size * width / height))


def test_resize_image_scales_both_sides_and_keeps_the_image_at_a_factor_of_1():
    image = make_picture(40, 61, batch=2)
    assert resize_image(image, 0.5).shape == (2, 3, 20, 30)
    assert resize_image(image, 0.001).shape == (2, 3, 1, 1)
    assert resize_image(image, 1) is image
    assert resize_image(image.half(), 0.5).dtype == torch.float32
    # A fine grating would alias into stripes; taken out first, the mean remains.
    grating = (torch.arange(64) % 2).float().expand(1, 3, 64, 64)
    assert (resize_image(grating, 0.3) - 0.5).abs().max() < 0.05


@settings(max_examples=200, deadline=None)
@given(*[st.integers(1, 70)] * 4)
def test_cover_image_has_the_size_asked_for(height, width, to_height, to_width):
    image = torch.full((1, 3, height, width), 0.5)
    image[..., height // 2 :, :] = 1.2
    covered = cover_image(image, to_height, to_width)
    assert covered.shape == (1, 3, to_height, to_width)
    assert 0 <= covered.min() <= covered.max() <= 1


def test_cover_image_cuts_out_the_middle():
    image = make_picture(30, 50, batch=2)
    assert torch.equal(cover_image(image, 30, 20), image[..., 15:35])
    assert torch.equal(cover_image(image, 20, 50), image[:, :, 5:25])
    twice = resize_image(image, 2).clamp(0, 1)
    assert torch.equal(cover_image(image, 60, 100), twice)
    assert torch.equal(cover_image(image, 60, 10), twice[..., 45:55])


# --- samples -------------------------------------------------------------------------------------


def test_every_sample_loads_by_its_name():
    samples = sample_images()
    assert {"chelsea", "night_sky", "pebbles"} <= set(samples)
    assert list(samples) == sorted(samples)
    for name, path in samples.items():
        assert path.stem == name
        image = load_image(name, 32)
        assert min(image.shape[2:]) == 32
        assert image.std() > 0.02, "a flat picture teaches nothing"


def test_a_sample_by_name_is_the_file():
    assert torch.equal(load_image("chelsea"), load_image(sample_images()["chelsea"]))
    assert torch.equal(load_image("chelsea"), load_image(str(sample_images()["chelsea"])))
    with Image.open(sample_images()["chelsea"]) as picture:
        assert pixel_size("chelsea") == picture.size


def test_a_file_comes_before_a_sample_of_that_name_but_a_folder_does_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (3, 2), "red").save("chelsea", format="png")
    assert load_image("chelsea").shape == (1, 3, 2, 3)
    Path("coffee").mkdir()
    assert load_image("coffee", 32).shape[2] == 32


def test_an_installation_without_samples_says_where_they_should_be(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "SAMPLES", tmp_path / "samples")
    missing = re.escape(str(tmp_path / "samples"))
    with pytest.raises(FileNotFoundError, match=f"not installed: .*{missing}"):
        sample_images()
    with pytest.raises(FileNotFoundError, match=f"no picture 'chelsea' .*none in {missing}"):
        load_image("chelsea")
    path = save_image(make_picture(4, 5), tmp_path / "picture.png")
    assert load_image(path).shape == (1, 3, 4, 5)  # needs none


@pytest.mark.parametrize("folder", ["images", "docs"])
def test_credits_list_every_picture_of_the_folder_and_no_other(folder):
    credits = (REPOSITORY / folder / "CREDITS.md").read_text(encoding="utf-8")
    pictures = {p.name for p in (REPOSITORY / folder).glob("*.*") if p.suffix != ".md"}
    assert set(re.findall(r"`([\w-]+\.(?:jpg|jpeg|png|webp))`", credits)) == pictures


def test_credits_state_the_size_of_every_sample():
    credits = (REPOSITORY / "images" / "CREDITS.md").read_text(encoding="utf-8")
    for path in sample_images().values():
        (row,) = [line for line in credits.splitlines() if f"`{path.name}`" in line]
        with Image.open(path) as picture:
            assert f"{picture.width} x {picture.height}" in row


def test_the_commands_that_made_the_pictures_are_there():
    papers = ["images/CREDITS.md", "docs/CREDITS.md", "nst_helpers/network/bundled/README.md"]
    text = " ".join((REPOSITORY / paper).read_text(encoding="utf-8") for paper in papers)
    commands = set(re.findall(r"python -m (scripts[\w.]*\w)", text))
    assert len(commands) == 8
    for path in (REPOSITORY / command.replace(".", "/") for command in commands):
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), path


def test_the_samples_and_the_artwork_are_few_and_small():
    folders = [REPOSITORY / "images", REPOSITORY / "docs"]
    pictures = [p for folder in folders for p in folder.glob("*.*") if p.suffix != ".md"]
    assert 0 < len(sample_images()) <= 16
    assert sum(p.stat().st_size for p in pictures) < 7_000_000


# --- tensors and Pillow --------------------------------------------------------------------------


def test_to_image_and_to_pil_are_inverse():
    array = pixels()
    assert np.array_equal(np.asarray(to_pil(to_image(array))), array)
    assert np.array_equal(np.asarray(to_pil(to_image(Image.fromarray(array))[0])), array)


def test_to_image_divides_by_255_puts_channels_first_and_copies():
    array = np.zeros((2, 3, 3), dtype=np.uint8)
    array[1, 2] = (255, 51, 0)
    image = to_image(array)
    array[:] = 77
    assert image.shape == (1, 3, 2, 3)
    assert image[0, :, 1, 2].tolist() == pytest.approx([1.0, 0.2, 0.0])
    assert image.sum().item() == pytest.approx(1.2)


def test_to_pil_clips_and_rounds_to_the_nearest():
    image = torch.tensor([-0.3, 0.0, 0.4 / 255, 0.6 / 255, 254.6 / 255, 1.4]).view(1, 1, 1, 6)
    image = image.expand(1, 3, 1, 6).clone()
    assert np.asarray(to_pil(image))[0, :, 0].tolist() == [0, 0, 0, 1, 255, 255]
    assert image.min() < -0.2


def test_encode_image_is_a_jpeg_that_keeps_the_colours_of_white_noise():
    noise = torch.rand(1, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    with Image.open(io.BytesIO(encode_image(noise))) as picture:
        assert picture.format == "JPEG"
    assert (load_image(encode_image(noise)) - noise).abs().mean() < 0.03
    assert len(encode_image(noise, quality=30)) < len(encode_image(noise))


# --- writing -------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 12))
def test_png_keeps_every_pixel_to_half_a_step(tmp_path_factory, seed, height, width):
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))
    path = tmp_path_factory.getbasetemp() / "round_trip.png"
    assert save_image(image, path) == path
    assert (load_image(path) - image).abs().max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("ending", ["jpg", "JPEG", "webp", "tif", "bmp"])
def test_other_endings_are_written_too(tmp_path, ending):
    image = torch.full((3, 16, 24), 0.25)
    path = save_image(image, tmp_path / f"out.{ending}")
    assert load_image(path).sub(0.25).abs().max() < 0.02
    with Image.open(path) as picture:
        assert picture.format in ("JPEG", "WEBP", "TIFF", "BMP")


def test_the_folder_is_made_and_holds_the_picture_alone(tmp_path):
    path = save_image(SMALL, str(tmp_path / "a" / "b" / "out.png"))
    assert path == tmp_path / "a" / "b" / "out.png"
    assert list(path.parent.iterdir()) == [path]


def test_the_old_picture_is_replaced_and_not_written_into(tmp_path):
    # Whoever is reading the old one must never see half of each.
    path = save_image(SMALL, tmp_path / "out.png")
    old = path.read_bytes()
    os.link(path, tmp_path / "held")
    save_image(torch.ones(1, 3, 2, 2), path)
    assert (tmp_path / "held").read_bytes() == old != path.read_bytes()


@pytest.mark.parametrize("write_to", [validate_output, lambda path: save_image(SMALL, path)])
def test_a_folder_in_the_way_or_a_file_for_a_folder_is_an_os_error(tmp_path, monkeypatch, write_to):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")  # where a picture goes that has no other place
    (tmp_path / "file").write_text("in the way")
    for below in ("file/out.png", "file/a/out.png"):
        with pytest.raises(OSError, match="file"):
            write_to(tmp_path / below)
    assert (tmp_path / "file").read_text() == "in the way"
    (tmp_path / "out.png").mkdir()
    with pytest.raises(IsADirectoryError, match=r"out\.png"):
        write_to(tmp_path / "out.png")


def test_validate_output_makes_the_folder_and_writes_nothing(tmp_path):
    assert validate_output(tmp_path / "new" / "out.png") == tmp_path / "new" / "out.png"
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "old.png").write_bytes(b"old")
    validate_output(tmp_path / "old.png")
    assert (tmp_path / "old.png").read_bytes() == b"old"


def test_settings_come_back_from_the_file(tmp_path):
    record = {"alpha": 1e-3, "style": "Mädchen mit Perle", "relu": {"relu1_1": 0.2}, "none": None}
    image = make_picture(8, 9)
    path = save_image(image, tmp_path / "out.png", record)
    assert load_settings(path) == record
    assert load_settings(path.read_bytes()) == record
    plain = save_image(image, tmp_path / "plain.png")
    assert torch.equal(load_image(path), load_image(plain))


def test_a_file_without_settings_is_refused_by_name(tmp_path):
    for path in (
        save_image(make_picture(8, 9), tmp_path / "out.png"),
        save_image(make_picture(8, 9), tmp_path / "out.jpg"),
        tmp_path / "text.png",
    ):
        if not path.exists():
            path.write_text("nothing")
        with pytest.raises(ValueError, match=f"{path.name} holds no settings"):
            load_settings(path)
    with pytest.raises(FileNotFoundError):
        load_settings(tmp_path / "missing.png")


def test_settings_that_json_cannot_hold_are_a_type_error(tmp_path):
    with pytest.raises(TypeError):
        save_image(make_picture(8, 9), tmp_path / "out.png", {"alpha": object()})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ["webp", "gif", "png"])
def test_an_animation_has_its_frames_and_durations(tmp_path, ending):
    frames = [make_picture(16, 24, seed) for seed in range(4)]
    path = save_animation(frames, tmp_path / f"film.{ending}", milliseconds=80, last=500)
    with Image.open(path) as film:
        assert (film.n_frames, film.size) == (4, (24, 16))
        durations = []
        for number, image in enumerate(frames):
            film.seek(number)
            film.load()
            durations.append(film.info["duration"])
            frame = to_image(film.convert("RGB"))
            assert (frame - image).abs().mean() < 0.05
    assert durations == [80, 80, 80, 500]
    assert list(tmp_path.iterdir()) == [path]


def test_quality_makes_a_webp_animation_smaller_and_leaves_other_formats_alone(tmp_path):
    frames = [make_picture(48, 64, seed) for seed in range(3)]

    def animate(ending, **options):
        return save_animation(frames, tmp_path / f"film.{ending}", **options).read_bytes()

    sizes = [len(animate("webp", quality=quality)) for quality in (0, 35, 75, 100)]
    assert sizes == sorted(set(sizes))
    assert animate("webp") == animate("webp", quality=75)
    for ending in ("gif", "png"):
        assert animate(ending, quality=5) == animate(ending)


# --- bad arguments -------------------------------------------------------------------------------

NOT_FINITE = torch.zeros(3, 1, 3, 4, 4)  # three images, one value of each
NOT_FINITE[:, 0, 1, 2, 3] = torch.tensor([float("nan"), float("inf"), -float("inf")])
NOT_NUMBERS = [float("nan"), float("inf"), [-float("inf")]]
NO_FORMAT = ["out", "out.", "out.xyz", "out.txt", ".png", "out.ico", "out.h5", "out.xbm"]
FRAMES = [make_picture(8, 8), make_picture(8, 8, seed=1)]
BAD_ARGUMENTS = {
    "size must be a whole number of pixels, 1 or more; got": [
        partial(load_image, "chelsea", size)
        for size in (0, -1, 2.5, 64.0, "64", True, float("nan"))
    ],
    "scale must be a number > 0; got": [
        partial(resize_image, SMALL, scale) for scale in (0, -1.5, float("nan"), None)
    ],
    **{
        rf"expected an RGB picture, .*got shape {re.escape(str(shape))}": [
            partial(to_image, np.zeros(shape, dtype=np.uint8))
        ]
        for shape in [(4,), (4, 5, 2), (4, 5, 5), (0, 5, 3), (1, 4, 5, 3)]
    },
    **{
        f"image must be one RGB image, .*got a tensor of shape .*{re.escape(str(shape)[1:])}": [
            partial(to_pil, torch.zeros(shape)),
            partial(save_image, torch.zeros(shape), "out.png"),
        ]
        for shape in [(2, 3, 4, 4), (1, 1, 4, 4), (4, 4), (4, 4, 3), (1, 4, 4, 4)]
    },
    "in \\[0, 1\\]; got 0 to 255: divide by 255": [
        partial(to_pil, 255 * SMALL.add(torch.eye(2))),
        partial(save_image, 255 * SMALL.add(torch.eye(2)), "out.png"),
        partial(save_animation, [255 * SMALL.add(torch.eye(2))], "out.gif"),
    ],
    "uint8: for an image, divide by 255": [partial(to_pil, SMALL.to(torch.uint8))],
    "got float64 from 0 to 200: divide by 255": [partial(to_image, np.array([[0.0, 200.0]]))],
    "got int64 from 0 to 200: astype": [partial(to_image, np.array([[0, 200]]))],
    "must be .* from -2.1 to 2.6$": [partial(to_image, np.array([[-2.1, 2.6]]))],
    "from nan to nan$": [partial(to_image, np.array([[float("nan"), 0.5]]))],
    "picture must be numbers; got": [
        partial(to_image, array) for array in (np.zeros((4, 4), complex), np.full((4, 4), "a"))
    ],
    "got a tensor .1, 3, 2, 2. of torch.float32": [partial(to_image, SMALL)],
    "picture must be a Pillow picture or an array .*; got": [
        partial(to_image, picture) for picture in (None, np.True_, "chelsea", {}, [[1], [2, 3]])
    ],
    "images must be several images; got": [
        partial(save_animation, images, "film.gif") for images in (None, 5, "chelsea")
    ],
    "source must be a path, .*to_image.*; got": [
        partial(load_image, source)
        for source in (None, 5, SMALL, np.zeros((4, 4)), Image.new("L", (4, 4)), ["chelsea"])
    ],
    "source must be the path of a file; got": [partial(load_image, path) for path in ("", "a\0b")],
    "path must be the path of a file; got": [
        partial(save_image, SMALL, path) for path in (None, 5, "", b"out.png")
    ],
    "alpha must be .*got": [
        partial(save_image, SMALL, "out.png", alpha=alpha)
        for alpha in (SMALL, SMALL[:, :1, :1], 0.5, SMALL[0, 0], "opaque")
    ],
    "height must be": [partial(cover_image, SMALL, 0, 5)],
    "width must be": [partial(cover_image, SMALL, 5, 2.5)],
    "scale must leave at most": [partial(resize_image, SMALL, 1e9)],
    "image must be an image": [
        *(
            partial(function, "chelsea")
            for function in (noise_like, partial(resize_image, scale=2))
        ),
        partial(noise_like, SMALL.byte()),
    ],
    "seed must be a whole number": [
        partial(noise_like, SMALL, seed) for seed in (2.5, "1", None, 2**63, True)
    ],
    "std must be": [partial(noise_like, SMALL, 0, 0.5, std) for std in (-1, float("nan"), "x")],
    "mean must be": [partial(noise_like, SMALL, 0, mean) for mean in (2, float("nan"), None)],
    "settings must be a dict of names": [
        partial(save_image, SMALL, "out.png", settings) for settings in (5, [1], {1: 2})
    ],
    "settings must be finite numbers": [
        partial(save_image, SMALL, "out.png", {"alpha": number}) for number in NOT_NUMBERS
    ],
    "milliseconds must be": [partial(save_animation, FRAMES, "film.webp", milliseconds=0)],
    "not finite": [partial(save_image, image, "out.png") for image in NOT_FINITE],
    r"cannot write .*\.png, \.jpg or \.webp": [
        *[partial(validate_output, name) for name in NO_FORMAT],
        *[partial(save_image, SMALL, name) for name in NO_FORMAT],
        partial(save_animation, FRAMES, "film"),
    ],
    r"only a PNG file keeps settings; got 'out\.jpg'": [
        partial(save_image, SMALL, "out.jpg", {"alpha": 1})
    ],
    "images of one size; got 0": [partial(save_animation, [], "film.webp")],
    "images of one size; got 3": [partial(save_animation, [*FRAMES, SMALL], "film.webp")],
    r"'film\.jpg' cannot hold an animation": [partial(save_animation, FRAMES, "film.jpg")],
    "quality must be a number from 0 to 100; got": [
        partial(save_animation, FRAMES, "film.webp", quality=quality)
        for quality in (-1, 101, "fine", float("nan"))
    ],
}


@pytest.mark.parametrize(
    ("call", "message"),
    [(call, message) for message in BAD_ARGUMENTS for call in BAD_ARGUMENTS[message]],
)
def test_a_bad_argument_is_a_value_error_and_nothing_is_written(
    tmp_path, monkeypatch, call, message
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        call()
    assert list(tmp_path.iterdir()) == []


# --- noise ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 3, 5, 7), (4, 3, 6, 2)])
def test_noise_depends_on_the_shape_and_the_seed_alone(shape):
    noise = noise_like(torch.zeros(shape, dtype=torch.float64), seed=3)
    assert noise.shape == shape
    assert noise.dtype == torch.float32
    assert torch.equal(noise, noise_like(torch.ones(shape), seed=3))
    assert not torch.equal(noise, noise_like(torch.ones(shape), seed=4))
    for i in range(1, shape[0]):
        assert not torch.equal(noise[0], noise[i])


@pytest.mark.parametrize(("mean", "std"), [(0.5, 0.05), (0.3, 0.02)])
def test_noise_is_white_and_gaussian(mean, std):
    noise = noise_like(torch.zeros(1, 3, 200, 200), seed=1, mean=mean, std=std).double()
    n = noise.numel()
    assert noise.mean().item() == pytest.approx(mean, abs=5 * std / n**0.5)
    assert noise.std().item() == pytest.approx(std, rel=5 / (2 * n) ** 0.5)
    centred = (noise - mean) / std
    assert (centred**3).mean().abs() < 5 * (15 / n) ** 0.5
    assert (centred**4).mean().item() == pytest.approx(3, abs=5 * (96 / n) ** 0.5)
    for a, b in [
        (centred[..., 1:], centred[..., :-1]),
        (centred[:, :, 1:], centred[:, :, :-1]),
        (centred[:, 1:], centred[:, :-1]),
    ]:
        assert (a * b).mean().abs() < 5 / a.numel() ** 0.5


def test_noise_is_weak_and_grey_by_default_and_clipped_if_it_is_strong():
    noise = noise_like(torch.zeros(1, 3, 100, 100))
    assert noise.mean().item() == pytest.approx(0.5, abs=0.01)
    assert noise.std().item() == pytest.approx(0.05, rel=0.05)
    strong = noise_like(torch.zeros(1, 3, 20, 20), std=3.0)
    assert (strong.min(), strong.max()) == (0, 1)


def test_noise_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    noise_like(torch.zeros(1, 3, 8, 8), seed=5)
    assert torch.equal(torch.get_rng_state(), state)
