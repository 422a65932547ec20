"""Colours against numpy and scipy: moments, the three forms' matrices, luminance and chroma."""

import colorsys

import numpy as np
import pytest
import scipy.linalg
import torch

from helpers import make_picture
from nst_helpers.control.colors import (
    FLAT,
    color_statistics,
    luminance,
    match_colors,
    match_luminance,
    restore_colors,
    with_luminance,
)
from nst_helpers.control.recolor import recolored

METHODS = ("symmetric", "eigenvalue", "cholesky")
IMAGE, REFERENCE = make_picture(40, 56, seed=3), 0.2 + 0.5 * make_picture(33, 47, seed=4)
EACH_METHOD = pytest.mark.parametrize("method", METHODS)


def moments(image, weights=None):
    pixels = image[0].flatten(1).double().numpy()
    return pixels.mean(1) if weights is None else np.average(pixels, 1, weights), np.cov(
        pixels, bias=True, aweights=weights
    )


def matrix_of(image, matched):
    """A of x' = A x + b, by least squares."""
    pixels = torch.cat([image[0].flatten(1), torch.ones(1, image[0, 0].numel())]).double().mT
    values = matched[0].flatten(1).double().mT
    return np.linalg.lstsq(pixels.numpy(), values.numpy(), rcond=None)[0][:3].T


def yiq(image):
    """I and Q by the standard library, which knows YIQ with two digits."""
    return np.array([colorsys.rgb_to_yiq(*pixel) for pixel in image[0].flatten(1).mT.tolist()])


# --- moments -------------------------------------------------------------------------------------


def test_statistics_are_numpys_with_and_without_weights():
    weights = torch.rand(40, 56)
    for mask in (None, weights, weights[None, None]):
        mean, covariance = color_statistics(IMAGE, mask)
        expected = moments(IMAGE, None if mask is None else weights.flatten().double().numpy())
        np.testing.assert_allclose(mean[0], expected[0], rtol=1e-6)
        np.testing.assert_allclose(covariance[0], expected[1], rtol=1e-6)


@EACH_METHOD
def test_mean_and_covariance_become_the_references(method):
    matched = match_colors(IMAGE, REFERENCE, method, clip=False)
    for value, expected in zip(moments(matched), moments(REFERENCE), strict=True):
        np.testing.assert_allclose(value, expected, atol=1e-5)
    # Once more changes nothing, and neither does an image's own colours.
    torch.testing.assert_close(match_colors(matched, REFERENCE, method, clip=False), matched)
    torch.testing.assert_close(match_colors(IMAGE, IMAGE, method), IMAGE, atol=1e-5, rtol=0)


def test_the_three_matrices_are_those_of_the_formulas():
    (_, s), (_, t) = moments(IMAGE), moments(REFERENCE)
    root, lower = scipy.linalg.sqrtm, np.linalg.cholesky
    inverse = np.linalg.inv(root(s))
    expected = {
        "symmetric": inverse @ root(root(s) @ t @ root(s)) @ inverse,
        "eigenvalue": root(t) @ inverse,
        "cholesky": lower(t) @ np.linalg.inv(lower(s)),
    }
    for method, matrix in expected.items():
        matched = match_colors(IMAGE, REFERENCE, method, clip=False)
        np.testing.assert_allclose(matrix_of(IMAGE, matched), matrix, atol=1e-4)


def test_what_each_form_promises():
    moved, matrices = {}, {}
    for method in METHODS:
        matched = match_colors(IMAGE, REFERENCE, method, clip=False)
        matrices[method] = matrix_of(IMAGE, matched)
        moved[method] = (matched - IMAGE).square().mean().item()
    symmetric = matrices["symmetric"]
    np.testing.assert_allclose(symmetric, symmetric.T, atol=1e-5)
    assert np.linalg.eigvalsh(symmetric).min() > 0
    assert min(moved, key=moved.get) == "symmetric"  # optimal transport
    assert np.abs(np.triu(matrices["cholesky"], 1)).max() < 1e-5
    assert np.abs(np.triu(matrices["eigenvalue"], 1)).max() > 1e-3


@pytest.mark.parametrize(("method", "same"), [*zip(METHODS, (True, True, False), strict=True)])
def test_whether_the_order_of_the_channels_matters(method, same):
    matched = match_colors(IMAGE, REFERENCE, method, clip=False)
    flipped = match_colors(IMAGE.flip(1), REFERENCE.flip(1), method, clip=False).flip(1)
    assert torch.allclose(matched, flipped, atol=1e-4) is same


# --- pictures with fewer than three colours ------------------------------------------------------


def two_colors(height=12, width=10):
    image = torch.tensor([0.9, 0.2, 0.1]).view(1, 3, 1, 1).repeat(1, 1, height, width)
    image[..., : width // 2] = torch.tensor([0.1, 0.3, 0.8]).view(3, 1, 1)
    return image


DEGENERATE = {
    "flat": torch.full((1, 3, 8, 8), 0.4),
    "black": torch.zeros(1, 3, 8, 8),
    "one pixel": torch.tensor([0.2, 0.5, 0.7]).view(1, 3, 1, 1),
    "grey": make_picture(20, 20)[:, :1].expand(1, 3, 20, 20),
    "two colours": two_colors(),
}


@EACH_METHOD
@pytest.mark.parametrize("kind", DEGENERATE)
def test_degenerate_pictures_give_finite_colours(method, kind):
    degenerate = DEGENERATE[kind]
    matched = match_colors(degenerate, REFERENCE, method, clip=False)
    assert matched.isfinite().all()
    np.testing.assert_allclose(moments(matched)[0], moments(REFERENCE)[0], atol=1e-4)
    assert (matched.std((2, 3), correction=0) < 1.5 * REFERENCE.std((2, 3), correction=0)).all()
    # Taken from one, they are exactly its few.
    matched = match_colors(IMAGE, degenerate, method, clip=False)
    for value, expected in zip(moments(matched), moments(degenerate), strict=True):
        np.testing.assert_allclose(value, expected, atol=1e-4)


@EACH_METHOD
def test_rounding_is_not_magnified_to_noise(method):
    rounding = (torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) - 0.5) / 255
    matched = match_colors(0.5 + rounding, REFERENCE, method, clip=False)
    # The standard deviation of rounding is a third of the level that counts as least.
    spread = np.sqrt(np.linalg.eigvalsh(moments(REFERENCE)[1]).max())
    assert matched.std((2, 3)).max() < 0.35 * spread
    assert moments(rounding)[1].max() < FLAT


# --- masks and batches ---------------------------------------------------------------------------


@EACH_METHOD
def test_pixels_of_no_weight_do_not_count(method):
    mask, reference_mask = torch.zeros(1, 1, 40, 56), torch.zeros(33, 47)
    mask[..., :30], reference_mask[5:] = 1, 1
    options = {"image_mask": mask, "reference_mask": reference_mask}
    matched = match_colors(IMAGE, REFERENCE, method, clip=False, **options)
    cut = match_colors(IMAGE[..., :30], REFERENCE[:, :, 5:], method, clip=False)
    torch.testing.assert_close(matched[..., :30], cut)
    garbage = torch.where(mask > 0, IMAGE, torch.rand(1, 3, 40, 56))
    again = match_colors(garbage, REFERENCE, method, clip=False, **options)
    torch.testing.assert_close(again[..., :30], matched[..., :30])


def test_a_batch_is_its_images_one_by_one():
    images, references = make_picture(20, 24, batch=3), make_picture(30, 30, seed=7, batch=3)
    each = [match_colors(i[None], r[None]) for i, r in zip(images, references, strict=True)]
    torch.testing.assert_close(match_colors(images, references), torch.cat(each))
    one_style = match_colors(images[:1], references)
    assert one_style.shape == (3, 3, 20, 24)
    torch.testing.assert_close(one_style[1:2], match_colors(images[:1], references[1:2]))
    assert match_colors(images, references[:1]).shape == images.shape


def test_the_result_is_an_image():
    extreme = (3 * (IMAGE - 0.5) + 0.5).clamp(0, 1)
    assert match_colors(IMAGE, extreme, clip=False).max() > 1
    matched = match_colors(IMAGE, extreme)
    assert matched.dtype == torch.float32 and matched.min() >= 0 and matched.max() <= 1
    assert match_colors(IMAGE.double(), REFERENCE.double()).dtype == torch.float64


# --- luminance -----------------------------------------------------------------------------------


def test_luminance_and_chroma_are_those_of_yiq():
    other = with_luminance(IMAGE, torch.full((1, 1, 40, 56), 0.5))
    np.testing.assert_allclose(luminance(IMAGE)[0].flatten(), yiq(IMAGE)[:, 0], atol=1e-2)
    torch.testing.assert_close(luminance(other), torch.full((1, 1, 40, 56), 0.5))
    # The standard library's matrix, and so its chroma of a grey, is rounded: at equal luminance.
    back = with_luminance(other, luminance(IMAGE))
    np.testing.assert_allclose(yiq(back)[:, 1:], yiq(IMAGE)[:, 1:], atol=1e-5)
    torch.testing.assert_close(back, IMAGE)


def chroma(image):
    """I and Q with the coefficients of the standard of 1953."""
    rows = torch.tensor([[0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
    return torch.einsum("qc,bchw->bqhw", rows, image)


def test_other_luminance_leaves_the_chroma():
    bright = with_luminance(IMAGE, make_picture(40, 56, seed=9)[:, :1])
    torch.testing.assert_close(chroma(bright), chroma(IMAGE), atol=1e-5, rtol=0)


def test_matched_luminance_has_mean_and_deviation_of_the_reference():
    grey, reference = luminance(IMAGE), luminance(REFERENCE)
    matched = match_luminance(grey, reference)
    assert matched.mean().item() == pytest.approx(reference.mean().item(), abs=1e-5)
    deviations = [x.std(correction=0).item() for x in (matched, reference)]
    assert deviations[0] == pytest.approx(deviations[1], abs=1e-5)
    assert np.corrcoef(matched.flatten(), grey.flatten())[0, 1] > 0.9999
    assert match_luminance(torch.full((1, 1, 5, 5), 0.3), reference).isfinite().all()


def test_restored_colours_are_the_contents_at_the_results_luminance():
    content, result = 0.35 + 0.3 * IMAGE, 0.35 + 0.3 * make_picture(40, 56, seed=9)
    restored = restore_colors(result, content)
    torch.testing.assert_close(luminance(restored), luminance(result), atol=1e-6, rtol=0)
    torch.testing.assert_close(chroma(restored), chroma(content), atol=1e-5, rtol=0)
    torch.testing.assert_close(restore_colors(restored, content), restored)


def test_a_colour_that_does_not_exist_at_a_luminance_is_paler_and_of_the_same_hue():
    content = torch.tensor([0.1, 0.2, 0.9]).view(1, 3, 1, 1)
    result = torch.full((1, 3, 1, 1), 0.85)
    restored = restore_colors(result, content)
    assert restored.max().item() == pytest.approx(1)
    torch.testing.assert_close(luminance(restored), luminance(result))
    i, q = chroma(restored).flatten().tolist()
    expected_i, expected_q = chroma(content).flatten().tolist()
    assert i / q == pytest.approx(expected_i / expected_q, rel=1e-4)
    assert 0 < i / expected_i < 0.3
    for extreme in (0.0, 1.0):
        assert (restore_colors(torch.full((1, 3, 1, 1), extreme), content) == extreme).all()


# --- one choice for before and after -------------------------------------------------------------


RESULT = make_picture(40, 56, seed=9)


@pytest.mark.parametrize("mode", ["style", "keep", "match", "luminance"])
def test_each_mode_is_what_its_row_says(mode):
    content, style, finish = recolored(IMAGE, REFERENCE, mode)
    greys = luminance(IMAGE), luminance(REFERENCE)
    expected = {
        "match": (IMAGE, match_colors(REFERENCE, IMAGE)),
        "luminance": (greys[0], match_luminance(greys[1], greys[0]).clamp(0, 1)),
    }
    for value, wanted in zip((content, style), expected.get(mode, (IMAGE, REFERENCE)), strict=True):
        assert value.shape[1] == 3
        torch.testing.assert_close(value, wanted.expand_as(value))
    restored = restore_colors(RESULT, IMAGE) if mode in ("keep", "luminance") else RESULT
    torch.testing.assert_close(finish(RESULT), restored)


def test_every_style_of_a_list_is_treated_by_itself():
    styles, masks = [REFERENCE, RESULT], [None, torch.rand(1, 1, 40, 56)]
    for mode in ("style", "keep", "match", "luminance"):
        both = recolored(IMAGE, styles, mode, style_mask=masks)[1]
        for style, mask, one in zip(styles, masks, both, strict=True):
            torch.testing.assert_close(recolored(IMAGE, style, mode, style_mask=mask)[1], one)
    assert recolored(IMAGE, [], "match")[1] == []


def test_colours_of_pixels_without_weight_do_not_count():
    mask, other = torch.zeros(1, 1, 40, 56), torch.zeros(1, 1, 33, 47)
    mask[..., :30], other[:, :, 5:] = 1, 1
    for mode in ("match", "luminance"):
        _, style, _ = recolored(IMAGE, REFERENCE, mode, content_mask=mask, style_mask=other)
        _, cut, _ = recolored(IMAGE[..., :30], REFERENCE[:, :, 5:], mode)
        torch.testing.assert_close(style[:, :, 5:], cut)


def test_colours_are_put_back_at_any_size_and_whatever_an_optimiser_passes():
    flat = torch.tensor([0.6, 0.4, 0.3]).view(1, 3, 1, 1).expand(1, 3, 40, 56)
    _, _, finish = recolored(flat, REFERENCE, "keep")
    for sides in ((40, 56), (20, 28), (7, 13)):
        result = 4 * torch.rand(2, 3, *sides) - 2
        finished = finish(result)
        assert finished.shape == result.shape and finished.min() >= 0 and finished.max() <= 1
        torch.testing.assert_close(luminance(finished), luminance(result.clamp(0, 1)))
        kept = chroma(finished) / chroma(flat)[:, :, :1, :1]  # paler at most
        assert kept.min() > -1e-5 and kept.max() < 1 + 1e-4


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: match_colors(IMAGE, REFERENCE, "pca"), "method must be one of .*got 'pca'"),
        (lambda: match_colors(IMAGE[:, :1], REFERENCE), "image must be an image"),
        (lambda: match_colors(IMAGE, "coffee"), "reference must be an image .*'coffee'"),
        (
            lambda: match_colors(IMAGE.repeat(3, 1, 1, 1), REFERENCE.repeat(2, 1, 1, 1)),
            "2 references for 3 images",
        ),
        (
            lambda: match_colors(IMAGE, REFERENCE, image_mask=torch.zeros(40, 56)),
            "leaves no pixel",
        ),
        (
            lambda: match_colors(IMAGE, REFERENCE, reference_mask=torch.ones(40, 56)),
            r"reference_mask must be a mask \(B or 1, 1, 33, 47\).*\(1, 1, 40, 56\)",
        ),
        (
            lambda: match_colors(IMAGE, REFERENCE, image_mask=torch.full((40, 56), torch.nan)),
            "finite and at least 0",
        ),
        (lambda: with_luminance(IMAGE, torch.zeros(1, 1, 3, 3)), r"\(B, 1, 40, 56\)"),
        (lambda: luminance(torch.zeros(3, 3)), "image must be an image"),
        (lambda: restore_colors(IMAGE, REFERENCE), "as large as the result"),
        (lambda: recolored(IMAGE, REFERENCE, "mono"), "colors must be one of .*got 'mono'"),
        (lambda: recolored(IMAGE, "coffee", "match"), "style must be images"),
        (lambda: recolored(3, REFERENCE, "match"), "content must be an image"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
