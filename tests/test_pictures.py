"""The pictures that the explorer offers, by name."""

import io
import math

import pytest
import torch
from PIL import Image

from helpers import file_of, make_picture
from nst_helpers import load_image, sample_images, save_image
from nst_helpers.explorer.pictures import THUMBNAIL_SIZE, Pictures
from nst_helpers.explorer.saving import free_path

PICTURE = make_picture(60, 80, seed=5)


def test_sample_is_loaded_by_its_name():
    pictures = Pictures()
    assert pictures.add("chelsea") == "chelsea"
    assert torch.equal(pictures.load("chelsea", 48), load_image("chelsea", 48))


def test_file_is_loaded_by_its_path(tmp_path):
    path, pictures = save_image(PICTURE, tmp_path / "mine.png"), Pictures()
    name = pictures.add(path)
    assert name == str(path)
    assert pictures.load(name, 48).shape == (1, 3, 48, 64)


def test_image_is_loaded_by_the_name_it_is_given():
    pictures = Pictures()
    assert pictures.add(PICTURE, "mine") == "mine"
    assert torch.equal(pictures.load("mine", 60), PICTURE)
    smaller = pictures.load("mine", 30)
    assert smaller.shape == (1, 3, 30, 40)
    assert smaller.min() >= 0
    assert smaller.max() <= 1
    assert pictures.add("mine") == "mine"


def test_upload_is_loaded_by_its_name():
    data, pictures = file_of(PICTURE), Pictures()
    name = pictures.add_upload("holiday.png", data)
    assert name == "holiday.png (yours)"
    assert torch.equal(pictures.load(name, 48), load_image(data, 48))
    assert pictures.add(name) == name


@pytest.mark.parametrize("size", [33, 48, 61, 96, 200])
def test_opacity_has_the_shape_of_its_picture(size):
    file = io.BytesIO()
    Image.new("RGBA", (83, 61), (255, 0, 0, 100)).save(file, "PNG")
    pictures = Pictures()
    names = [
        pictures.add_upload("cut.png", file.getvalue()),
        pictures.add(Image.open(file), "mine"),
    ]
    for name in names:
        image, alpha = pictures.load(name, size), pictures.load_alpha(name, size)
        assert alpha.shape == image[:, :1].shape
        assert torch.allclose(alpha, torch.tensor(100 / 255), atol=1e-3)


@pytest.mark.parametrize("name", [*sample_images()][:2])
def test_thumbnail_is_a_small_jpeg(name):
    assert min(load_image(Pictures().thumbnail(name)).shape[2:]) == THUMBNAIL_SIZE


@pytest.mark.parametrize(
    ("picture", "error", "message"),
    [
        ("no such", FileNotFoundError, "there is no picture 'no such'"),
        (torch.zeros(3, 8, 8), ValueError, r"picture must be an image \(1, 3, H, W\)"),
        (torch.full((1, 3, 40, 40), math.nan), ValueError, "not finite"),
    ],
)
def test_what_is_no_picture_raises(picture, error, message):
    with pytest.raises(error, match=message):
        Pictures().add(picture)


def test_small_file_raises(tmp_path):
    path = save_image(make_picture(9, 80), tmp_path / "tiny.png")
    with pytest.raises(ValueError, match="only 80 x 9 pixels; it needs 32"):
        Pictures().add(path)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("notes.jpg", b"no picture at all", "notes.jpg is not a picture"),
        ("empty.png", b"", "empty.png is empty"),
        ("cut.png", file_of(make_picture(90, 90))[:3000], "cut.png is broken or cut off"),
        ("tiny.png", file_of(make_picture(9, 80)), "tiny.png: .* only 80 x 9 pixels"),
        ("huge.png", b"\x89PNG" + bytes(9 * 2**20), "huge.png has 9.0 MB; the most is 8 MB"),
    ],
)
def test_unusable_upload_raises(name, data, message):
    with pytest.raises(ValueError, match=message):
        Pictures().add_upload(name, data)


def test_saved_files_are_numbered_and_named_after_what_they_are_made_of(tmp_path):
    sources = ("chelsea", "/home/of mine/night sky.jpg")
    for number in (1, 2):
        path = free_path(tmp_path, sources, "png")
        assert path == tmp_path / f"chelsea-night_sky-{number}.png"
        path.touch()
