"""Masks from pictures that Pillow draws, and from arrays."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter

from helpers import file_of, make_picture
from nst_helpers.control.masks import (
    load_mask_pair,
    load_masks,
    mask_colors,
    validate_masks,
    validate_partners,
)

SKY, GROUND, SUN = "#3070c0", "#208030", "#ff8000"  # dark before bright: ground, sky, sun
SIZE = WIDTH, HEIGHT = 120, 80


def drawing(scale=1, size=SIZE, sky=SKY, ground=GROUND, sun=SUN):
    """A sun half behind a hill's straight edge."""
    width, height = (side * scale for side in size)
    picture = Image.new("RGB", (width, height), sky)
    draw = ImageDraw.Draw(picture)
    draw.ellipse([scale * side for side in (40, 20, 80, 60)], fill=sun)
    draw.rectangle((0, 45 * scale, width, height), fill=ground)
    return picture


def file(picture, kind="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def drawn_masks(**colors):
    """The masks of ``drawing()`` by its colours, pixel by pixel."""
    pixels = np.array(drawing(**colors))
    values = [tuple(bytes.fromhex(color[1:])) for color in (GROUND, SKY, SUN)]
    return torch.stack([torch.tensor((pixels == v).all(2)) for v in values])[None].float()


def antialiased(scale=4):
    return drawing(scale).resize(SIZE, Image.Resampling.BOX)


# --- pictures ------------------------------------------------------------------------------------


def test_flat_colours_are_the_regions_dark_before_bright():
    masks = load_masks(file(drawing()))
    assert torch.equal(masks, drawn_masks())
    assert masks.dtype == torch.float32


PICTURES = {
    "antialiased": file(antialiased()),
    "jpeg 75": file(antialiased(), "JPEG", quality=75),
    "webp": file(antialiased(), "WEBP", quality=60),
    "blurred": file(drawing().filter(ImageFilter.GaussianBlur(1.5))),
    "indexed": file(drawing().quantize(8)),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_soft_edges_and_compression_leave_the_regions(kind):
    masks, exact = load_masks(PICTURES[kind]), drawn_masks()
    assert masks.shape == exact.shape
    assert masks.min() >= 0
    torch.testing.assert_close(masks.sum(1), torch.ones(1, HEIGHT, WIDTH))
    off = (masks - exact).abs()
    assert off.mean() < 0.01
    assert (off > 0.75).float().mean() < 3e-3  # on the wrong side


def test_an_antialiased_edge_is_the_share_of_each_region():
    shares = torch.nn.functional.avg_pool2d(
        load_masks(file(drawing(4))), 4
    )  # of the picture four times as large
    masks = load_masks(file(antialiased()))
    soft = (shares > 0.1) & (shares < 0.9)
    assert soft.sum() > 50
    off = (masks - shares).abs()[soft]
    assert off.mean() < 0.06 and off.median() < 0.02


def test_the_grey_of_an_edge_is_not_a_grey_region():
    """Black beside white, antialiased, and a region whose grey is just between them."""
    picture = Image.new("L", (400, 160), 0)
    draw = ImageDraw.Draw(picture)
    draw.polygon([(150, 0), (400, 0), (400, 160), (180, 160)], fill=255)
    draw.rectangle((320, 0, 400, 160), fill=128)
    masks = load_masks(file(picture.resize((100, 40), Image.Resampling.BOX)))
    assert masks.shape[1] == 3
    assert (masks[0, 1, :, :74] == 0).all() and masks[0, 1, :, 82:].min() > 0.99


def test_a_soft_mask_of_two_colours_is_a_gradient_between_two_regions():
    ramp = np.clip(np.linspace(-0.5, 1.5, 200), 0, 1)
    picture = Image.fromarray(np.tile(ramp * 255, (50, 1)).round().astype(np.uint8))
    masks = load_masks(file(picture))
    torch.testing.assert_close(
        masks[0, 1], torch.tensor(ramp).float().expand(50, 200), atol=0.06, rtol=0
    )


def test_specks_are_no_regions():
    pixels = np.array(drawing())
    pixels[5, 5] = pixels[70, 100] = 0, 0, 0
    assert torch.equal(load_masks(file(Image.fromarray(pixels))).sum(1), torch.ones(1, 80, 120))
    assert len(mask_colors(file(Image.fromarray(pixels)))) == 3


@pytest.mark.parametrize("count", [1, 2, 8])
def test_as_many_regions_as_colours(count):
    pixels = np.zeros((20 * count, 30, 3), np.uint8)
    for i in range(count):
        pixels[20 * i : 20 * (i + 1)] = 255 * (i & 1), 255 * (i >> 1 & 1), 255 * (i >> 2)
    masks = load_masks(file(Image.fromarray(pixels)))
    assert masks.mean((2, 3)).tolist() == [[pytest.approx(1 / count)] * count]


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (file_of(make_picture(60, 80)), "no mask: "),
        (file_of(torch.rand(1, 3, 60, 80)), "no mask: .* no area of one flat .* PNG"),
        (
            file(Image.fromarray(np.repeat(np.arange(0, 250, 25, dtype=np.uint8), 400)
                                 .reshape(100, 40))),
            "a mask of 10 colours, and there may be 8 regions",
        ),
    ],
)  # fmt: skip
def test_a_photograph_is_not_a_mask(picture, message):
    with pytest.raises(ValueError, match=message):
        load_masks(picture)


@pytest.mark.parametrize("name", ["chelsea", "coffee", "night_sky", "ink_wash", "stained_glass"])
def test_no_sample_picture_is_a_mask(name):
    with pytest.raises(ValueError, match="no mask"):
        load_masks(name)


def test_a_missing_file_is_told_as_by_load_image(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"mask\.png"):
        load_masks(tmp_path / "mask.png")


@pytest.mark.parametrize(
    ("size", "shape"), [(40, (40, 60)), ((33, 77), (33, 77)), (160, (160, 240)), (80, (80, 120))]
)
def test_masks_of_any_size_still_add_up_to_one(size, shape):
    masks = load_masks(file(drawing()), size)
    assert masks.shape[2:] == shape
    assert masks.min() >= 0 and masks.max() <= 1
    torch.testing.assert_close(masks.sum(1), torch.ones(1, *shape))
    torch.testing.assert_close(masks.mean((2, 3)), drawn_masks().mean((2, 3)), atol=0.02, rtol=0)


# --- pairs ---------------------------------------------------------------------------------------


def test_equal_colours_are_the_same_region_whatever_their_order():
    colors = [(0.3, 0.6, 0.9), (0.9, 0.2, 0.1), (0.1, 0.1, 0.1)]
    image = torch.tensor(colors).mT.reshape(1, 3, 1, 3).repeat_interleave(30, 3).repeat(1, 1, 40, 1)
    content, style = load_mask_pair(file_of(image), file_of(image.flip(3)), style_size=20)
    assert content.shape == (1, 3, 40, 90) and style.shape == (1, 3, 20, 45)
    # Dark before bright in both: the third, the second, the first.
    assert content[0, :, 20, [15, 45, 75]].argmax(0).tolist() == [2, 1, 0]
    assert style[0, :, 10, [7, 22, 37]].argmax(0).tolist() == [0, 1, 2]


def test_a_mask_of_the_size_of_a_photograph_may_be_a_poor_jpeg():
    picture = drawing(4)
    off = load_masks(file(picture, "JPEG", quality=30)) - load_masks(file(picture))
    assert off.abs().mean() < 0.005


def test_partners_may_differ_by_what_a_jpeg_does_to_colours():
    content, style = load_mask_pair(file(drawing()), PICTURES["jpeg 75"])
    assert (content - style).abs().mean() < 0.01


@pytest.mark.parametrize(
    ("content", "style", "message"),
    [
        ({}, {"sun": GROUND}, "a content region without a partner: #ff8000. The content's mask"),
        ({"sun": SKY}, {}, "a style region without a partner: #ff8000"),
        ({}, {"sky": "#a00000"}, "a content region without a partner: #3070c0"),
    ],
)
def test_a_colour_without_a_partner_is_named(content, style, message):
    with pytest.raises(ValueError, match=message):
        load_mask_pair(file(drawing(**content)), file(drawing(**style)))


def test_a_large_picture_made_small_has_the_same_masks():
    large = drawing(12)
    small = load_masks(file(large), HEIGHT)
    exact = torch.nn.functional.interpolate(load_masks(file(large)), (HEIGHT, WIDTH), mode="area")
    assert (small - exact).abs().mean() < 0.005


def test_colours_to_look_for_give_the_order():
    colors = mask_colors(file(drawing()))
    assert [round(c * 255) for c in colors[0].tolist()] == [0x20, 0x80, 0x30]
    masks = load_masks(file(drawing()), regions=colors[[2, 0, 1]])
    assert torch.equal(masks, drawn_masks()[:, [2, 0, 1]])
    with pytest.raises(ValueError, match=r"region 3 of the picture .* is empty"):
        load_masks(file(drawing()), regions=torch.cat([colors, torch.ones(1, 3)]))


# --- arrays --------------------------------------------------------------------------------------


def test_arrays_of_every_documented_kind():
    soft, labels = torch.rand(6, 8), torch.tensor([[3, 3, 7], [0, 7, 7]])
    assert torch.equal(load_masks(soft), soft[None, None])
    assert torch.equal(load_masks(soft.double().numpy()), soft[None, None])
    assert torch.equal(load_masks(soft > 0.5), (soft > 0.5).float()[None, None])
    batch = torch.rand(2, 3, 6, 8)
    assert torch.equal(load_masks(batch), batch)
    assert torch.equal(load_masks((batch > 0.5).numpy()), (batch > 0.5).float())
    for array in (labels, labels.numpy().astype(np.uint8), labels.tolist()):
        masks = load_masks(array)
        assert torch.equal(masks[0].argmax(0), torch.tensor([[1, 1, 2], [0, 2, 2]]))
        assert (masks.sum(1) == 1).all()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (torch.rand(3, 6, 8), r"masks must be \(B or 1, R, H, W\) or \(H, W\); got .*\(3, 6, 8\)"),
        (torch.zeros(0, 8), r"got .*\(0, 8\)"),
        (torch.arange(64).view(8, 8), "at most 8 different whole numbers; got 64"),
        (2 * torch.ones(4, 4), r"in \[0, 1\]; got values from 2 to 2"),
        (torch.rand(1, 9, 4, 4), "1 to 8 regions; got 9"),
        (object(), "a tensor or an array; got <object"),
        (None, "a tensor or an array; got None"),
        (torch.zeros(4, 4), r"region 0 of the array \(counted from 0\) is empty"),
    ],
)
def test_other_arrays_are_refused(source, message):
    with pytest.raises(ValueError, match=message):
        load_masks(source)


@pytest.mark.parametrize("size", [0, -3, 2.5, "big", (4,), (4, 0), (1, 2, 3)])
def test_a_wrong_size_is_named(size):
    with pytest.raises(ValueError, match=r"size must be.*got"):
        load_masks(torch.ones(4, 4), size)


def test_colours_are_for_pictures():
    with pytest.raises(ValueError, match="an array has its own regions"):
        load_masks(torch.ones(4, 4), regions=torch.ones(1, 3))
    with pytest.raises(ValueError, match=r"regions must be colours \(R, 3\)"):
        load_masks(file(drawing()), regions=torch.ones(3))


# --- masks for an image --------------------------------------------------------------------------


def test_masks_come_at_the_size_of_the_image():
    masks = load_masks(file(drawing()))
    same = validate_masks(masks, (1, 3, HEIGHT, WIDTH))
    assert torch.equal(same, masks)
    for shape in ((1, 3, 40, 60), (1, 3, 53, 79), (2, 3, 200, 301)):
        fitted = validate_masks(masks, shape)
        assert fitted.shape == (1, 3, *shape[2:])
        torch.testing.assert_close(fitted.sum(1), torch.ones(1, *shape[2:]))
    whole = torch.ones(1, 1, 4, 5, dtype=torch.bool)
    assert validate_masks(whole, (1, 3, 4, 5)).dtype == torch.float32


EMPTY = torch.ones(2, 3, 8, 8)
EMPTY[1, 2] = 0
NAN = torch.full((1, 2, 8, 8), 0.5)
NAN[0, 1, 3, 3] = torch.nan


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (torch.ones(8, 8), r"style_mask must be masks \(B or 1, R, H, W\), .*\(8, 8\)"),
        ("mask.png", "as load_masks returns them; got 'mask.png'"),
        (torch.ones(1, 9, 8, 8), "style_mask must have 1 to 8 regions; got 9"),
        (torch.ones(3, 1, 8, 8), "style_mask is for 3 images, and there are 2"),
        (torch.ones(1, 1, 8, 12), r"is 12 x 8 pixels .* and the image 8 x 8: .* image's shape"),
        (NAN, "not finite"),
        (255 * torch.ones(1, 1, 8, 8), r"in \[0, 1\]; got values from 255 to 255"),
        (torch.ones(1, 1, 8, 8) - 1.5, r"values from -0\.5 to -0\.5"),
        (EMPTY, r"region 2 of style_mask \(counted from 0\) is empty for image 1"),
    ],
)
def test_masks_that_do_not_fit_are_refused(masks, message):
    with pytest.raises(ValueError, match=message):
        validate_masks(masks, (2, 3, 8, 8), "style_mask")


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ((2, 3), r"a style region without a partner: region 2 of style_mask \(counted from 0\)"),
        ((1, 4), "a style region without a partner: regions 1 to 3 of style_mask"),
        ((3, 2), "a content region without a partner: region 2 of content_mask"),
    ],
)
def test_numbers_of_regions_that_differ_are_refused(counts, message):
    content, style = (torch.ones(1, count, 4, 4) for count in counts)
    with pytest.raises(ValueError, match=message):
        validate_partners(content, style)
    validate_partners(content, content)
