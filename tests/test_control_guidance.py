"""Guided Gram matrices against loops in double precision, autograd, and the unguided ones."""

import warnings

import pytest
import torch

from helpers import make_picture
from nst_helpers import gram_matrix, style_loss
from nst_helpers.control.blending import blend_grams, validate_style_weights
from nst_helpers.control.guidance import guide, layer_masks
from nst_helpers.engine.scales import scale_style
from nst_helpers.engine.sums import guided_products
from nst_helpers.network.features import map_size

CONVENTIONS = pytest.mark.parametrize("convention", ["normalised", "paper", "lecture"])
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def soft_masks(batch, regions, height, width, seed=5):
    """Masks that add up to 1 everywhere."""
    return (3 * randn(batch, regions, height, width, seed=seed)).softmax(1).float()


def guided_gram(features, masks, normalise=True):
    return gram_matrix(features, normalise, masks)


def guided_style_loss(features, target, masks, convention="normalised", weights=None):
    return style_loss(features, target, convention, masks, weights)


def slow_grams(features, masks):
    """Position by position, with the paper's channel T, whose squares add up to 1."""
    batch, filters, height, width = features.shape
    masks = masks.double().expand(batch, -1, -1, -1)
    grams = torch.zeros(batch, masks.shape[1], filters, filters, dtype=torch.float64)
    for b in range(batch):
        for r in range(masks.shape[1]):
            channel = (masks[b, r] / masks[b, r].sum()).sqrt()  # T
            for y in range(height):
                for x in range(width):
                    column = channel[y, x] * features[b, :, y, x].double()
                    grams[b, r] += column[:, None] * column[None]
    return grams


# --- Gram matrices -------------------------------------------------------------------------------


@DTYPES
@pytest.mark.parametrize("batch", [1, 2])
def test_a_guided_gram_matrix_is_the_papers(dtype, batch):
    maps = randn(2, 3, 5, 4).to(dtype).contiguous(memory_format=torch.channels_last)
    masks = soft_masks(batch, 3, 5, 4)
    grams = guided_gram(maps, masks)
    assert grams.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(grams.double(), slow_grams(maps, masks), rtol=1e-5, atol=1e-5)


@DTYPES
@CONVENTIONS
@pytest.mark.parametrize("size", [(5, 4), (7, 7), (48, 49)])
def test_a_whole_mask_changes_no_bit(dtype, convention, size):
    maps = randn(2, 6, *size).to(dtype).requires_grad_()
    target = gram_matrix(randn(1, 6, 9, 8, seed=1).to(dtype))
    ones = torch.ones(1, 1, *size)
    assert torch.equal(guided_gram(maps, ones)[:, 0], gram_matrix(maps))
    assert torch.equal(guided_gram(maps, ones, False)[:, 0], gram_matrix(maps, False))
    guided = guided_style_loss(maps, target[:, None], ones, convention)
    plain = style_loss(maps, target, convention)
    with torch.no_grad():
        asked = guided_style_loss(maps, target[:, None], ones, convention)
        assert torch.equal(asked, style_loss(maps, target, convention))
    gradients = [torch.autograd.grad(loss.sum(), maps)[0] for loss in (guided, plain)]
    # With a gradient and without masks, bfloat16 maps' differences are rounded on a CPU.
    exact = {"rtol": 2**-6, "atol": 2**-12} if dtype == torch.bfloat16 else {"rtol": 0, "atol": 0}
    torch.testing.assert_close(guided, plain, **exact)
    torch.testing.assert_close(*gradients, **exact)


def test_positions_of_no_weight_do_not_count():
    maps, masks = randn(1, 4, 6, 6), soft_masks(1, 2, 6, 6)
    masks[..., 3:] = 0
    grams = guided_gram(maps, masks)
    noise = torch.cat([maps[..., :3], 1e6 * randn(1, 4, 6, 3, seed=9)], 3)
    assert torch.equal(guided_gram(noise, masks), grams)
    torch.testing.assert_close(grams, guided_gram(maps[..., :3], masks[..., :3]))


def test_the_regions_of_a_picture_add_up_to_the_whole():
    maps, masks = randn(2, 4, 6, 5), soft_masks(1, 3, 6, 5)
    torch.testing.assert_close(guided_products(maps, masks).sum(1), gram_matrix(maps, False))


def test_a_region_counts_as_its_texture_not_as_its_size():
    tile = randn(1, 4, 3, 3)
    maps = tile.repeat(1, 1, 4, 4)
    masks = torch.zeros(1, 2, 12, 12)
    masks[:, 0, :3, :3] = masks[:, 1, 3:, :] = 1
    small, large = guided_gram(maps, masks)[0]
    torch.testing.assert_close(small, large)
    torch.testing.assert_close(small, gram_matrix(tile)[0])


# --- loss ----------------------------------------------------------------------------------------


@CONVENTIONS
def test_the_loss_and_its_gradient_are_those_of_a_loop(convention):
    maps, masks = randn(2, 3, 4, 5).requires_grad_(), soft_masks(1, 2, 4, 5)
    target, weights = slow_grams(randn(1, 3, 6, 6, seed=2), soft_masks(1, 2, 6, 6, seed=3)), (1, 3)
    loss = guided_style_loss(maps, target, masks, convention, weights)
    grams, count, filters = slow_grams(maps, masks), 4 * 5, 3
    factor = {"normalised": 1 / filters**2, "paper": 1 / (4 * filters**2)}.get(
        convention, count / filters**3
    )
    expected = 0
    for region, weight in enumerate(weights):
        share = masks[0, region].sum() / count
        error = (grams[:, region] - target[:, region]).square().sum((1, 2))
        expected = expected + weight * share * factor * error
    torch.testing.assert_close(loss, expected)
    gradients = [torch.autograd.grad(x.sum(), maps)[0] for x in (loss, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-9)


def test_splitting_a_region_of_one_texture_changes_neither_loss_nor_gradient():
    maps = randn(1, 3, 4, 4).repeat(1, 1, 1, 4).requires_grad_()
    target, masks = randn(1, 1, 3, 3, seed=4), torch.zeros(1, 2, 4, 16)
    masks[:, 0, :, :4] = masks[:, 1, :, 4:] = 1
    split = guided_style_loss(maps, target.expand(1, 2, 3, 3), masks)
    whole = guided_style_loss(maps, target, torch.ones(1, 1, 4, 16))
    torch.testing.assert_close(split, whole)
    torch.testing.assert_close(*(torch.autograd.grad(x.sum(), maps)[0] for x in (split, whole)))


def test_permuting_regions_permutes_nothing_else():
    maps, masks, order = randn(2, 3, 6, 6), soft_masks(1, 3, 6, 6), [2, 0, 1]
    target = guided_gram(randn(1, 3, 5, 5, seed=2), soft_masks(1, 3, 5, 5))
    assert torch.equal(guided_gram(maps, masks[:, order]), guided_gram(maps, masks)[:, order])
    loss = guided_style_loss(maps, target, masks, weights=(1, 2, 3))
    permuted = guided_style_loss(maps, target[:, order], masks[:, order], weights=(3, 1, 2))
    torch.testing.assert_close(loss, permuted)


def test_sums_over_strips_give_the_same_loss():
    maps, masks = randn(1, 3, 8, 6), soft_masks(1, 2, 8, 6)
    target = randn(1, 2, 3, 3, seed=4)
    rows = [slice(0, 3), slice(3, 4), slice(4, 8)]
    sums = sum(guided_products(maps[:, :, r], masks[:, :, r]) for r in rows)
    for convention in ("normalised", "lecture"):
        torch.testing.assert_close(
            scale_style(sums, target, 8 * 6, convention, masks),
            guided_style_loss(maps, target, masks, convention),
        )


def test_a_region_left_out_costs_nothing_and_moves_nothing():
    maps, masks = randn(1, 3, 6, 6).requires_grad_(), soft_masks(1, 2, 6, 6)
    masks[:, 1] = 0
    loss = guided_style_loss(maps, randn(1, 2, 3, 3, seed=2), masks)
    alone = guided_style_loss(maps, randn(1, 2, 3, 3, seed=2)[:, :1], masks[:, :1])
    assert torch.equal(loss, alone)
    assert torch.autograd.grad(loss.sum(), maps)[0].isfinite().all()


# --- masks of layers -----------------------------------------------------------------------------


def sizes_of(shape, layers=LAYERS):
    return {layer: map_size(layer, shape) for layer in layers}


@pytest.mark.parametrize("size", [(64, 64), (37, 53), (16, 31), (100, 1)])
def test_masks_pass_the_pools_of_the_network(net, size):
    """A mask as a linear network would see it: what pooling alone makes of an image."""
    masks = soft_masks(1, 3, *size)
    sizes = sizes_of((1, 3, *size), LAYERS if min(size) >= 16 else LAYERS[:1])
    expected = masks
    for layer, values in layer_masks(masks, sizes).items():
        while expected.shape[2:] != values.shape[2:]:
            expected = net.compute("pool1", expected, set())  # average pooling, rounding up
        torch.testing.assert_close(values, expected)
        assert values.shape[2:] == net(make_picture(*size), [layer])[layer].shape[2:]
        torch.testing.assert_close(values.sum(1), torch.ones(1, *values.shape[2:]))
    order = dict(reversed(sizes.items()))  # in any order
    for layer, values in layer_masks(masks, order).items():
        assert torch.equal(values, layer_masks(masks, sizes)[layer])


def test_the_border_of_large_maps_is_left_out():
    sizes = {"fine": (40, 48), "middle": (20, 24), "coarse": (5, 6)}
    inner = layer_masks(torch.ones(1, 2, 40, 48), sizes, border=False)
    for layer in ("fine", "middle"):
        height, width = sizes[layer]
        assert inner[layer].sum((2, 3)).tolist() == [[(height - 2) * (width - 2)] * 2]
        assert torch.equal(inner[layer][..., 1:-1, 1:-1], torch.ones(1, 2, height - 2, width - 2))
    assert (inner["coarse"] == 1).all()


def test_sizes_that_no_pools_lead_to_are_refused():
    with pytest.raises(ValueError, match=r"masks of 40 x 48 .* to the 19 x 24 positions of relu2"):
        layer_masks(torch.ones(1, 1, 40, 48), {"relu2_1": (19, 24)})


def half_masks(height, width):
    left = (torch.arange(width) < width // 2).float().expand(height, width)
    return torch.stack([left, 1 - left])[None]


def test_a_guide_of_whole_masks_is_ones():
    ones, sizes = torch.ones(1, 1, 64, 64), sizes_of((1, 3, 64, 64))
    content, (style,) = guide(ones, [ones], sizes, [sizes])
    for values in (*content.values(), *style.values()):
        assert (values == 1).all()


def test_a_guide_leaves_out_the_border_on_both_sides():
    sizes = sizes_of((1, 3, 128, 128))
    content, (style,) = guide(half_masks(128, 128), [torch.ones(1, 2, 128, 128)], sizes, [sizes])
    for values in (*content.values(), *style.values()):
        assert values[..., 0].max() == values[..., -1].max() == values[:, :, 0].max() == 0
        assert values[:, :, 1:-1, 1:-1].sum() > 0


@pytest.mark.parametrize("where", ["content", "style", "style of the region"])
def test_regions_too_small_for_a_layer_are_left_out_and_told(where):
    small = torch.zeros(1, 2, 64, 64)
    small[:, 0, 20:36, 20:36] = 1
    small[:, 1] = 1 - small[:, 0]
    content, styles = small, [torch.ones(1, 2, 64, 64)]
    if where == "style":
        content, styles = half_masks(64, 64), [small, torch.ones(1, 2, 64, 64)]
    if where == "style of the region":
        content, styles = half_masks(64, 64), [small[:, :1], torch.ones(1, 1, 64, 64)]
    sizes = sizes_of((1, 3, 64, 64))
    with pytest.warns(UserWarning, match=r"left out: region 0 at relu5_1 has fewer than 4 pos"):
        guides, _ = guide(content, styles, sizes, [sizes] * len(styles))
    for layer, values in guides.items():
        assert (values[:, 0].max() == 0) == (layer == "relu5_1")
        assert values[:, 1].max() > 0


def test_a_region_too_small_in_one_image_of_a_batch_is_left_out_there():
    masks = half_masks(64, 64).repeat(2, 1, 1, 1)
    masks[1, 0] = 0
    masks[1, 0, 20:36, 20:36] = 1
    sizes = sizes_of((2, 3, 64, 64))
    with pytest.warns(UserWarning, match="region 0 at relu5_1"):
        guides, _ = guide(masks, [torch.ones(1, 2, 64, 64)], sizes, [sizes])
    assert (guides["relu5_1"].amax((2, 3)) > 0).tolist() == [[True, True], [False, True]]


def test_large_regions_are_not_warned_of():
    sizes = sizes_of((1, 3, 128, 128))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        guide(half_masks(128, 128), [torch.ones(1, 2, 128, 128)], sizes, [sizes])


# --- blending ------------------------------------------------------------------------------------


def grams(count=3, regions=()):
    maps = randn(count, 4, 6, 6).float()
    return guided_gram(maps, soft_masks(1, *regions, 6, 6)) if regions else gram_matrix(maps)


@pytest.mark.parametrize("regions", [(), (2,)])
@pytest.mark.parametrize("weights", [(1, 2, 3), (0.5, 0, 0.5), (1e-3, 7, 2), (0, 0, 4)])
def test_a_blend_is_the_weighted_mean(weights, regions):
    matrices = grams(regions=regions)
    mean = sum(w * g for w, g in zip(weights, matrices.double(), strict=True)) / sum(weights)
    blend = blend_grams(matrices, weights)
    assert blend.shape == (1, *matrices.shape[1:])
    torch.testing.assert_close(blend.double()[0], mean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("weight", [1, 0.3])
def test_all_the_weight_on_one_style_is_that_style_exactly(place, weight):
    weights = [weight * (i == place) for i in range(3)]
    assert torch.equal(blend_grams(grams(), weights), grams()[place : place + 1])


@pytest.mark.parametrize("weights", [(1, 2, 3), (0.1, 0.2, 0.7), (1 / 3, 1 / 3, 1 / 3)])
def test_blending_a_style_with_itself_changes_nothing(weights):
    one = grams(1)
    assert torch.equal(blend_grams(one.expand(3, 4, 4), weights), one)


def test_the_loss_of_a_blend_is_the_blend_of_the_losses_but_for_a_constant():
    matrices, weights = grams(2).double(), (0.3, 0.7)
    differences = []
    for seed in (1, 2):
        maps = randn(1, 4, 5, 5, seed=seed)
        each = [style_loss(maps, gram[None]) for gram in matrices]
        blend = style_loss(maps, blend_grams(matrices, weights))
        differences.append(weights[0] * each[0] + weights[1] * each[1] - blend)
    torch.testing.assert_close(*differences)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ((1,), "style_weights must be 2 numbers, one per style; got 1"),
        ((0, 0), "must not all be 0"),
        ((1, -1), r"style_weights\[1\] must be a number >= 0; got -1"),
        ((1, float("nan")), r"style_weights\[1\] must be a number"),
        ((1, "2"), r"style_weights\[1\] must be a number >= 0; got '2'"),
    ],
)
def test_wrong_style_weights_are_named(weights, message):
    with pytest.raises(ValueError, match=message):
        validate_style_weights(weights, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: guided_gram(randn(3, 4, 4), soft_masks(1, 2, 4, 4)), "feature maps"),
        (
            lambda: guided_gram(randn(1, 3, 4, 4), soft_masks(1, 2, 4, 5)),
            r"\(B or 1, R, 4, 4\), as large .*got a tensor",
        ),
        (lambda: guided_gram(randn(3, 3, 4, 4), soft_masks(2, 2, 4, 4)), "2 masks for 3 images"),
        (
            lambda: guided_style_loss(randn(1, 3, 4, 4), randn(1, 3, 3, 3), soft_masks(1, 2, 4, 4)),
            r"2 regions of 3 filters cannot match .* expected \(B or 1, 2, 3, 3\)",
        ),
        (
            lambda: guided_style_loss(
                randn(1, 3, 4, 4), randn(1, 2, 3, 3), soft_masks(1, 2, 4, 4), "mine"
            ),
            "convention must be one of normalised, paper, lecture; got 'mine'",
        ),
        (
            lambda: guided_style_loss(
                randn(1, 3, 4, 4), randn(1, 2, 3, 3), soft_masks(1, 2, 4, 4), weights=[1]
            ),
            "region_weights must be 2 numbers, one per region; got 1",
        ),
        (
            lambda: guided_gram(randn(1, 3, 4, 4), 1.5 * torch.ones(1, 1, 4, 4)),
            r"masks must be in \[0, 1\]; there are values outside",
        ),
        (lambda: guided_gram(randn(1, 3, 4, 4), torch.full((1, 1, 4, 4), torch.nan)), "or NaN"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
