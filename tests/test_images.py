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
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers import make_picture
from nst_helpers import (
    check_output,
    load_image,
    load_settings,
    noise_like,
    sample_images,
    save_animation,
    save_image,
    to_image,
    to_pil,
)

REPOSITORY = Path(__file__).resolve().parents[1]


def pixels(height=6, width=9, channels=3, seed=0):
    shape = (height, width, channels) if channels else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def saved(picture, folder, ending="png", **options):
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


def test_rgb_is_read_as_it_is(tmp_path):
    array = pixels()
    check_pixels(saved(Image.fromarray(array), tmp_path), array)


def test_grey_becomes_three_equal_channels(tmp_path):
    array = pixels(channels=0)
    check_pixels(saved(Image.fromarray(array), tmp_path), array)


@pytest.mark.parametrize("channels", [2, 4], ids=["LA", "RGBA"])
def test_transparent_pixels_are_laid_on_white(tmp_path, channels):
    array = pixels(channels=channels)
    array[0, 0, -1], array[0, 1, -1] = 0, 255
    opacity = array[..., -1:] / 255.0
    expected = array[..., :-1] * opacity + 255 * (1 - opacity)
    path = saved(Image.fromarray(array), tmp_path)
    check_pixels(path, expected[..., 0] if channels == 2 else expected, within=1.01)
    assert as_array(load_image(path))[0, 0].tolist() == [255, 255, 255]


def palette_picture():
    picture = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4) % 3, mode=None)
    picture = Image.frombytes("P", picture.size, picture.tobytes())
    picture.putpalette([10, 20, 30, 200, 0, 0, 0, 99, 255])
    colours = np.array([[10, 20, 30], [200, 0, 0], [0, 99, 255]], dtype=np.float64)
    return picture, colours, np.arange(12).reshape(3, 4) % 3


def test_palette_is_looked_up(tmp_path):
    picture, colours, index = palette_picture()
    check_pixels(saved(picture, tmp_path), colours[index])


def test_a_transparent_palette_entry_is_white(tmp_path):
    picture, colours, index = palette_picture()
    path = saved(picture, tmp_path, transparency=1)
    colours[1] = 255
    check_pixels(path, colours[index])


def test_a_palette_of_partial_transparency_is_blended_with_white(tmp_path):
    picture, colours, index = palette_picture()
    path = saved(picture, tmp_path, transparency=bytes([255, 0, 128]))
    opacity = np.array([[255], [0], [128]]) / 255
    expected = colours * opacity + 255 * (1 - opacity)
    check_pixels(path, expected[index], within=1.01)


def test_a_transparent_colour_of_an_rgb_picture_is_white(tmp_path):
    array = np.full((2, 2, 3), 7, dtype=np.uint8)
    array[0, 0] = (1, 2, 3)
    path = saved(Image.fromarray(array), tmp_path, transparency=(1, 2, 3))
    array[0, 0] = 255
    check_pixels(path, array)


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
    path = saved(Image.new("CMYK", (16, 16), ink), tmp_path, ending)
    with Image.open(path) as picture:
        assert picture.mode == "CMYK"
    check_pixels(path, np.full((16, 16, 3), colour), within=12)


@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
def test_16_bit_grey_is_scaled_to_its_full_range(tmp_path, ending):
    array = np.linspace(0, 65535, 60).round().astype(np.uint16).reshape(6, 10)
    check_pixels(saved(Image.fromarray(array), tmp_path, ending), array / 257, within=0.51)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_a_dark_16_bit_grey_stays_dark(tmp_path, ending):
    array = np.arange(250, dtype=np.uint16).reshape(10, 25)  # all nearly black
    check_pixels(saved(Image.fromarray(array), tmp_path, ending), array / 257, within=0.51)


def test_32_bit_integer_grey_of_8_bit_values(tmp_path):
    array = pixels(channels=0).astype(np.int32)
    check_pixels(saved(Image.fromarray(array), tmp_path, "tif"), array)


@pytest.mark.parametrize("full", [1, 255])
def test_float_grey(tmp_path, full):
    array = np.linspace(0, full, 60, dtype=np.float32).reshape(6, 10)
    check_pixels(saved(Image.fromarray(array), tmp_path, "tif"), array * 255 / full, within=0.51)


def test_float_grey_with_nan_gives_a_picture_or_an_error_but_no_warning(tmp_path):
    array = np.array([[0.5, np.nan], [1.0, 0.0]], dtype=np.float32)
    path = saved(Image.fromarray(array), tmp_path, "tif")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            image = load_image(path)
        except ValueError:
            return
    assert torch.isfinite(image).all()


def test_one_bit_is_black_and_white(tmp_path):
    array = pixels(channels=0) > 127
    path = saved(Image.fromarray(array), tmp_path)
    with Image.open(path) as picture:
        assert picture.mode == "1"
    check_pixels(path, array * 255.0)


def test_of_an_animation_the_first_frame_is_read(tmp_path):
    frames = [Image.new("RGB", (5, 4), c) for c in ("#ff0000", "#00ff00", "#0000ff")]
    path = saved(frames[0], tmp_path, "gif", save_all=True, append_images=frames[1:])
    with Image.open(path) as picture:
        assert picture.n_frames == 3
    check_pixels(path, np.full((4, 5, 3), (255, 0, 0)))


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "tif", "webp"])
def test_the_file_is_closed_again(tmp_path, ending, frames):
    pictures = [Image.new("RGB", (5, 4), (90 * i, 0, 0)) for i in range(frames)]
    options = {"save_all": True, "append_images": pictures[1:]} if frames > 1 else {}
    path = saved(pictures[0], tmp_path, ending, **({} if ending == "jpg" else options))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_image(path)
        gc.collect()
    assert [str(w.message) for w in caught if w.category is ResourceWarning] == []


@pytest.mark.parametrize("ending", ["webp", "bmp", "jpg", "tif", "gif"])
def test_other_formats_are_read(tmp_path, ending):
    path = saved(Image.new("RGB", (16, 8), (200, 100, 50)), tmp_path, ending, **{"quality": 95})
    check_pixels(path, np.full((8, 16, 3), (200, 100, 50)), within=4)


TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: np.rot90(a, 2),
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_exif_orientation_is_obeyed(tmp_path, orientation, ending):
    array = pixels()
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(Image.fromarray(array), tmp_path, ending, exif=exif)
    check_pixels(path, TURNS[orientation](array))


@pytest.mark.parametrize("orientation", TURNS)
def test_a_turned_photograph_gets_the_size_asked_for(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(Image.fromarray(pixels(300, 600)), tmp_path, "jpg", exif=exif)
    shape = (40, 80) if orientation < 5 else (80, 40)
    assert load_image(path, 40).shape == (1, 3, *shape)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_broken_exif_does_not_spoil_a_good_picture(tmp_path, ending):
    picture = Image.new("RGB", (8, 8), (50, 100, 150))
    path = saved(picture, tmp_path, ending, exif=b"Exif\0\0" + b"nonsense" * 4)
    check_pixels(path, np.full((8, 8, 3), (50, 100, 150)), within=6)


# --- broken and hostile files --------------------------------------------------------------------


def test_a_missing_file_names_the_samples(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        load_image(tmp_path / "nowhere.jpg")
    message = str(caught.value)
    assert "nowhere.jpg" in message
    assert all(p.stem in message for p in (REPOSITORY / "images").glob("*.jpg"))


def test_a_folder_is_named_as_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="is a folder"):
        load_image(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"%PDF-1.7 not a picture", b"\x89PNG\r\n\x1a\n"]
)
def test_what_is_no_picture_is_refused_by_name(tmp_path, content):
    path = tmp_path / "letter.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"letter\.png"):
        load_image(path)


def encoded(kind):
    file = io.BytesIO()
    Image.fromarray(pixels(24, 24)).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_a_file_cut_in_half_is_refused_by_name(tmp_path, kind):
    path = tmp_path / "half.img"
    path.write_bytes(encoded(kind)[: len(encoded(kind)) // 2])
    with pytest.raises(ValueError, match=r"half\.img"):
        load_image(path)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow's own, of odd tags
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_a_damaged_file_gives_a_picture_or_a_value_error_and_nothing_else(tmp_path, kind):
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
@pytest.mark.parametrize("asked", [None, 64])
def test_an_enormous_picture_is_refused_at_once_with_its_size(tmp_path, size, asked):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(*size))
    began = time.perf_counter()
    with pytest.raises(ValueError, match=r"bomb\.png") as caught:
        load_image(path, asked)
    assert time.perf_counter() - began < 2
    named = (f"{size[0]} x {size[1]}", str(size[0] * size[1]))
    assert any(name in str(caught.value) for name in named)


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
    with pytest.raises(ValueError, match=r"17500 x 10000 .* limit is 170 million"):
        load_image(path)


def test_a_thin_line_is_not_blown_up_to_gigabytes(tmp_path):
    path = saved(Image.new("L", (1, 5000)), tmp_path)
    began = time.perf_counter()
    with pytest.raises(ValueError, match="512 x 2560000"):
        load_image(path, 512)
    assert time.perf_counter() - began < 2


# --- size ----------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 50))
def test_the_shorter_side_is_exact_and_the_shape_is_kept(tmp_path_factory, height, width, size):
    path = tmp_path_factory.getbasetemp() / "sized.png"
    Image.new("RGB", (width, height), (9, 99, 199)).save(path)
    image = load_image(path, size)
    h, w = image.shape[2:]
    assert min(h, w) == size
    assert max(h, w) == pytest.approx(size * max(height, width) / min(height, width), abs=0.51)
    assert (h >= w) if height >= width else (w >= h)
    np.testing.assert_allclose(as_array(image), np.full((h, w, 3), (9, 99, 199)), atol=1e-3)


def test_without_size_the_file_keeps_its_own(tmp_path):
    assert load_image(saved(Image.fromarray(pixels(7, 1)), tmp_path)).shape == (1, 3, 7, 1)


def test_a_jpeg_made_smaller_is_the_same_picture_as_a_png_made_smaller(tmp_path):
    picture = to_pil(make_picture(480, 640))
    jpeg, png = saved(picture, tmp_path, "jpg", quality=95), saved(picture, tmp_path)
    difference = as_array(load_image(jpeg, 60)) - as_array(load_image(png, 60))
    assert np.abs(difference).mean() < 2
    assert np.abs(difference).max() < 12


@pytest.mark.parametrize(
    ("height", "width", "size"), [(300, 451, 128), (9, 801, 1), (427, 640, 100), (33, 47, 7)]
)
def test_a_jpeg_made_smaller_keeps_its_shape(tmp_path, height, width, size):
    path = saved(Image.new("RGB", (width, height)), tmp_path, "jpg")
    assert load_image(path, size).shape[2:] == (size, round(size * width / height))


@pytest.mark.parametrize("size", [0, -1, 2.5, 64.0, "64", True, float("nan")])
def test_a_size_that_is_no_positive_whole_number_is_refused(size):
    with pytest.raises(ValueError, match="size must be a whole number"):
        load_image("chelsea", size)


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


def test_a_file_of_ones_own_comes_before_a_sample(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (3, 2), "red").save("chelsea", format="png")
    assert load_image("chelsea").shape == (1, 3, 2, 3)


def test_a_folder_of_that_name_does_not_hide_a_sample(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("chelsea").mkdir()
    assert load_image("chelsea", 32).shape[2] == 32


def test_credits_list_every_picture_and_no_other():
    folder = REPOSITORY / "images"
    credits = (folder / "CREDITS.md").read_text(encoding="utf-8")
    pictures = {p.name for p in folder.iterdir() if p.suffix != ".md" and not p.is_dir()}
    assert set(re.findall(r"`([\w-]+\.(?:jpg|jpeg|png|webp))`", credits)) == pictures


def test_credits_state_the_size_of_every_picture():
    credits = (REPOSITORY / "images" / "CREDITS.md").read_text(encoding="utf-8")
    for path in sample_images().values():
        (row,) = [line for line in credits.splitlines() if f"`{path.name}`" in line]
        with Image.open(path) as picture:
            assert f"{picture.width} x {picture.height}" in row


def test_the_samples_are_few_and_small():
    pictures = [p for p in (REPOSITORY / "images").iterdir() if p.suffix != ".md"]
    assert 0 < len(sample_images()) <= 16
    assert sum(p.stat().st_size for p in pictures) < 5_000_000


# --- tensors and Pillow --------------------------------------------------------------------------


def test_to_image_and_to_pil_are_inverse():
    array = pixels()
    assert np.array_equal(np.asarray(to_pil(to_image(array))), array)
    assert np.array_equal(np.asarray(to_pil(to_image(Image.fromarray(array))[0])), array)


def test_to_image_divides_by_255_and_puts_channels_first():
    array = np.zeros((2, 3, 3), dtype=np.uint8)
    array[1, 2] = (255, 51, 0)
    image = to_image(array)
    assert image.shape == (1, 3, 2, 3)
    assert image[0, :, 1, 2].tolist() == pytest.approx([1.0, 0.2, 0.0])
    assert image.sum().item() == pytest.approx(1.2)


def test_to_image_copies():
    array = pixels()
    image = to_image(array)
    before = image.clone()
    array[:] = 0
    assert torch.equal(image, before)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 4), (4, 5, 1), (1, 4, 5, 3)])
def test_to_image_refuses_what_is_not_rgb(shape):
    with pytest.raises(ValueError, match=re.escape(str(shape))):
        to_image(np.zeros(shape, dtype=np.uint8))


def test_to_pil_clips_and_rounds_to_the_nearest():
    image = torch.tensor([-3.0, 0.0, 0.4 / 255, 0.6 / 255, 254.6 / 255, 7.0]).view(1, 1, 1, 6)
    image = image.expand(1, 3, 1, 6).clone()
    assert np.asarray(to_pil(image))[0, :, 0].tolist() == [0, 0, 0, 1, 255, 255]
    assert image.min() == -3.0


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (1, 1, 4, 4), (4, 4), (4, 4, 3), (1, 4, 4, 4)])
def test_to_pil_refuses_what_is_not_one_rgb_image(shape):
    with pytest.raises(ValueError, match="expected one RGB image"):
        to_pil(torch.zeros(shape))


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


def test_the_path_may_be_a_string(tmp_path):
    path = save_image(torch.zeros(1, 3, 2, 2), str(tmp_path / "out.png"))
    assert path == tmp_path / "out.png"
    assert path.is_file()


def test_the_folder_is_made(tmp_path):
    path = save_image(torch.zeros(1, 3, 2, 2), tmp_path / "a" / "b" / "out.png")
    assert path.is_file()


def test_nothing_else_is_left_beside_the_picture(tmp_path):
    save_image(torch.zeros(1, 3, 2, 2), tmp_path / "out.png")
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_picture(tmp_path, monkeypatch, error):
    path = save_image(torch.zeros(1, 3, 2, 2), tmp_path / "out.png")
    old = path.read_bytes()

    def half_a_save(self, file, *args, **kwargs):
        Path(file).write_bytes(b"half")
        raise error

    monkeypatch.setattr(Image.Image, "save", half_a_save)
    with pytest.raises(type(error)):
        save_image(torch.ones(1, 3, 2, 2), path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_picture_is_replaced_and_not_written_into(tmp_path):
    # Whoever is reading the old one must never see half of each.
    path = save_image(torch.zeros(1, 3, 2, 2), tmp_path / "out.png")
    old = path.read_bytes()
    os.link(path, tmp_path / "held")
    save_image(torch.ones(1, 3, 2, 2), path)
    assert (tmp_path / "held").read_bytes() == old != path.read_bytes()


@pytest.mark.parametrize("name", ["out", "out.", "out.xyz", "out.txt", ".png"])
def test_an_ending_that_names_no_format_is_refused(tmp_path, name):
    for write in (check_output, lambda path: save_image(torch.zeros(1, 3, 2, 2), path)):
        with pytest.raises(ValueError, match=r"\.png, \.jpg or \.webp"):
            write(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_an_image_that_is_not_finite_is_not_written(tmp_path, value):
    image = torch.zeros(1, 3, 4, 4)
    image[0, 1, 2, 3] = value
    with pytest.raises(ValueError, match="not finite"):
        save_image(image, tmp_path / "out.png")
    assert list(tmp_path.iterdir()) == []


def test_a_batch_is_not_written(tmp_path):
    with pytest.raises(ValueError, match=re.escape("(2, 3, 4, 4)")):
        save_image(torch.zeros(2, 3, 4, 4), tmp_path / "out.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("below", ["file/out.png", "file/a/out.png"])
def test_a_folder_that_cannot_be_made_is_an_os_error(tmp_path, below):
    (tmp_path / "file").write_text("in the way")
    for write in (check_output, lambda path: save_image(torch.zeros(1, 3, 2, 2), path)):
        with pytest.raises(OSError, match="file"):
            write(tmp_path / below)
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_folder_is_not_overwritten(tmp_path):
    (tmp_path / "out.png").mkdir()
    for write in (check_output, lambda path: save_image(torch.zeros(1, 3, 2, 2), path)):
        with pytest.raises(IsADirectoryError, match=r"out\.png"):
            write(tmp_path / "out.png")


def test_check_output_writes_nothing(tmp_path):
    assert check_output(tmp_path / "new" / "out.png") == tmp_path / "new" / "out.png"
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "old.png").write_bytes(b"old")
    check_output(tmp_path / "old.png")
    assert (tmp_path / "old.png").read_bytes() == b"old"


# --- noise ---------------------------------------------------------------------------------------


def test_a_seed_gives_the_same_noise_and_another_seed_another():
    image = torch.zeros(1, 3, 20, 30)
    assert torch.equal(noise_like(image, seed=3), noise_like(image, seed=3))
    assert not torch.equal(noise_like(image, seed=3), noise_like(image, seed=4))


def test_the_noise_does_not_depend_on_the_picture():
    assert torch.equal(noise_like(torch.zeros(1, 3, 9, 9)), noise_like(torch.ones(1, 3, 9, 9)))


@pytest.mark.parametrize(("mean", "std"), [(0.5, 0.05), (0.3, 0.02)])
def test_the_noise_is_white_and_gaussian(mean, std):
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


def test_the_default_noise_is_weak_grey():
    noise = noise_like(torch.zeros(1, 3, 100, 100))
    assert noise.mean().item() == pytest.approx(0.5, abs=0.01)
    assert noise.std().item() == pytest.approx(0.05, rel=0.05)


def test_strong_noise_is_clipped():
    noise = noise_like(torch.zeros(1, 3, 20, 20), std=3.0)
    assert noise.min() == 0
    assert noise.max() == 1


def test_the_global_generator_is_left_alone():
    state = torch.get_rng_state()
    noise_like(torch.zeros(1, 3, 8, 8), seed=5)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("shape", [(1, 3, 5, 7), (4, 3, 6, 2)])
def test_the_noise_has_the_shape_asked_for_and_a_batch_differs(shape):
    noise = noise_like(torch.zeros(shape, dtype=torch.float64))
    assert noise.shape == shape
    assert noise.dtype == torch.float32
    for i in range(1, shape[0]):
        assert not torch.equal(noise[0], noise[i])


# --- what is in a file, settings, animations -----------------------------------------------------


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "gif"])
def test_what_is_in_a_file_is_read_like_the_file(tmp_path, ending):
    path = save_image(make_picture(40, 60), tmp_path / f"picture.{ending}")
    for size in (None, 20):
        assert torch.equal(load_image(path.read_bytes(), size), load_image(path, size))


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_bytes_that_are_no_picture_are_refused(data):
    with pytest.raises(ValueError, match="this file"):
        load_image(data)


def test_settings_come_back_from_the_file(tmp_path):
    said = {"alpha": 1e-3, "style": "Mädchen mit Perle", "weights": {"relu1_1": 0.2}, "none": None}
    image = make_picture(8, 9)
    path = save_image(image, tmp_path / "out.png", said)
    assert load_settings(path) == said
    assert load_settings(path.read_bytes()) == said
    plain = save_image(image, tmp_path / "plain.png")
    assert torch.equal(load_image(path), load_image(plain))


def test_settings_of_a_file_that_has_none(tmp_path):
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


def test_only_a_png_keeps_settings(tmp_path):
    with pytest.raises(ValueError, match=r"only a PNG file keeps settings; got 'out\.jpg'"):
        save_image(make_picture(8, 9), tmp_path / "out.jpg", {"alpha": 1})
    with pytest.raises(TypeError):
        save_image(make_picture(8, 9), tmp_path / "out.png", {"alpha": object()})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ["webp", "gif", "png"])
def test_an_animation_has_its_frames_and_its_pace(tmp_path, ending):
    images = [make_picture(16, 24, seed) for seed in range(4)]
    path = save_animation(images, tmp_path / f"film.{ending}", milliseconds=80, last=500)
    with Image.open(path) as film:
        assert (film.n_frames, film.size) == (4, (24, 16))
        durations = []
        for number, image in enumerate(images):
            film.seek(number)
            film.load()
            durations.append(film.info["duration"])
            frame = to_image(film.convert("RGB"))
            assert (frame - image).abs().mean() < 0.05
    assert durations == [80, 80, 80, 500]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("shapes", "name", "message"),
    [
        ([], "film.webp", "images of one size; got 0"),
        ([(8, 8), (8, 9)], "film.webp", "images of one size"),
        ([(8, 8), (8, 8)], "film.jpg", "cannot move"),
        ([(8, 8), (8, 8)], "film", "cannot write"),
    ],
)
def test_animations_that_make_no_sense_are_refused(tmp_path, shapes, name, message):
    with pytest.raises(ValueError, match=message):
        save_animation([make_picture(*shape) for shape in shapes], tmp_path / name)
    assert list(tmp_path.iterdir()) == []
