"""Several styles and regions in StyleTransferLoss: by formulas, and by what must not change."""

import copy
import os
import pickle
import re

import pytest
import torch
import torch.nn.functional as F

from helpers import make_picture
from nst_helpers import (
    StyleTransferLoss,
    content_loss,
    gram_matrix,
    load_image,
    load_network,
    noise_like,
    optimize,
    resize_image,
    style_loss,
)
from nst_helpers.control.masks import resize_masks

CONVENTIONS = pytest.mark.parametrize("convention", ["normalised", "paper", "lecture"])
MEMORY = pytest.mark.parametrize("memory", ["normal", "low"])
FILE = os.environ.get("NST_VGG19", "")
LAYERS = ("relu1_1", "relu2_1", "relu3_1")
CONTENT = make_picture(96, 128, seed=1)
STYLES = [
    make_picture(100, 80, seed=2),
    make_picture(120, 110, seed=3),
    make_picture(70, 90, seed=4),
]


def VGG19(test):
    reason = "set NST_VGG19 to a file of VGG-19's weights"
    return pytest.mark.vgg19(pytest.mark.skipif(not FILE, reason=reason)(test))


def halves(height=96, width=128, share=0.5):
    """Left and right: (1, 2, H, W)."""
    left = (torch.arange(width) < share * width).float().expand(height, width)
    return torch.stack([left, 1 - left])[None]


def make_loss(net, style=STYLES[0], content=CONTENT, **options):
    return StyleTransferLoss(net, content, style, **{"style_layers": LAYERS, **options})


def value_and_gradient(loss, image=None):
    image = (make_picture(96, 128, seed=9) if image is None else image).clone().requires_grad_()
    total = loss(image).total
    return total.detach(), torch.autograd.grad(total.sum(), image)[0]


def assert_same(a, b, image=None):
    for x, y in zip(value_and_gradient(a, image), value_and_gradient(b, image), strict=True):
        assert torch.equal(x, y)


def assert_close(a, b, image=None):
    for x, y in zip(value_and_gradient(a, image), value_and_gradient(b, image), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5 * y.abs().max().item())


# --- several styles ------------------------------------------------------------------------------


@MEMORY
@CONVENTIONS
def test_all_the_weight_on_one_style_is_that_style_alone(net, convention, memory):
    options = {"convention": convention, "memory": memory}
    for i, weights in enumerate([(1, 0, 0), (0, 0.3, 0), (0, 0, 7)]):
        blend = make_loss(net, STYLES, style_weights=weights, **options)
        assert_same(blend, make_loss(net, STYLES[i], **options))


@pytest.mark.parametrize("numbers", [None, (1, 3), dict.fromkeys(LAYERS, (2, 1))])
def test_blending_a_style_with_itself_changes_nothing(net, numbers):
    assert_same(make_loss(net, [STYLES[0]] * 2, style_weights=numbers), make_loss(net))


@CONVENTIONS
@pytest.mark.parametrize("numbers", [None, (1, 2, 5), torch.tensor([0.5, 0.0, 1.5])])
def test_a_blend_matches_the_weighted_mean_of_the_gram_matrices(net, numbers, convention):
    image = make_picture(96, 128, seed=9)
    shares = torch.ones(3) / 3 if numbers is None else torch.as_tensor(numbers) / sum(numbers)
    expected = 0
    for name in LAYERS:
        mean = 0
        for share, style in zip(shares, STYLES, strict=True):
            maps = net(style, [name])[name].double().flatten(2)[0]
            mean = mean + share * maps @ maps.T / maps.shape[1]
        expected = (
            expected + style_loss(net(image, [name])[name], mean[None].float(), convention) / 3
        )
    blend = make_loss(net, STYLES, style_weights=numbers, convention=convention)
    torch.testing.assert_close(blend(image).style, expected, rtol=1e-4, atol=0)


def test_each_layer_may_come_from_another_style(net):
    weights = {"relu1_1": (1, 0), "relu3_1": (0, 1), "relu2_1": (1, 0)}
    image = make_picture(96, 128, seed=9)
    fine = make_loss(net, STYLES[0], style_layer_weights={"relu1_1": 1, "relu2_1": 1})(image).style
    coarse = make_loss(net, STYLES[1], style_layer_weights={"relu3_1": 1})(image).style
    mixed = make_loss(net, STYLES[:2], style_weights=weights, style_layer_weights=(1, 1, 1))
    torch.testing.assert_close(mixed(image).style, fine + coarse)


def test_a_blend_is_for_every_image_of_a_batch(net):
    images = torch.cat([make_picture(96, 128, seed=seed) for seed in range(3)])
    loss = make_loss(net, STYLES[:2])
    for i in range(3):
        torch.testing.assert_close(loss(images).total[i : i + 1], loss(images[i : i + 1]).total)


def test_the_weights_may_change_while_it_is_painted(net):
    loss, seen = make_loss(net, STYLES[:2], style_weights=(1, 0)), []
    before = loss.weights

    def turn(progress):
        if progress.step == 3:
            loss.style_weights = (1, 3)
        seen.append(progress.terms["style"])

    optimize(loss, CONTENT, steps=6, callback=turn)
    assert loss.style_weights == dict.fromkeys(LAYERS, (0.25, 0.75))
    assert loss.weights != before  # so that the minimiser begins anew
    assert_same(loss, make_loss(net, STYLES[:2], style_weights=(0.25, 0.75)))
    assert seen[1] < seen[0]
    with pytest.raises(TypeError):
        loss.style_weights["relu1_1"] = (1, 0)  # unchecked
    with pytest.raises(ValueError, match="must be 2 numbers, one per style; got 3"):
        loss.style_weights = (1, 2, 3)
    assert loss.style_weights["relu1_1"] == (0.25, 0.75)


def test_a_loss_of_a_smaller_size_has_weights_of_its_own(net):
    loss = make_loss(net, STYLES[:2], style_weights=(1, 0))
    smaller = loss.resized(0.5)
    smaller.style_weights = (0, 1)
    assert loss.style_weights["relu1_1"] == (1, 0)
    assert_same(loss, make_loss(net))
    image = resize_image(CONTENT, 0.5).flip(3)
    direct = make_loss(net, resize_image(STYLES[1], 0.5), resize_image(CONTENT, 0.5))
    assert_same(smaller, direct, image)


# --- where ---------------------------------------------------------------------------------------


@MEMORY
@CONVENTIONS
def test_a_mask_of_ones_is_no_mask(net, convention, memory):
    options, ones = {"convention": convention, "memory": memory}, torch.ones(1, 1, 48, 64)
    plain = make_loss(net, **options)
    assert_same(make_loss(net, content_mask=ones, **options), plain)
    assert_same(make_loss(net, style_mask=torch.ones(1, 1, 50, 40).bool(), **options), plain)
    both = {"content_mask": ones, "style_mask": torch.ones(1, 1, 100, 80), "region_weights": [1]}
    assert_same(make_loss(net, **both, **options), plain)


def test_a_factor_counts_for_a_whole_mask_too(net):
    image, ones = make_picture(96, 128, seed=9), torch.ones(1, 1, 96, 128)
    doubled = make_loss(net, content_mask=ones, region_weights=(2,))
    assert torch.equal(doubled(image).style, 2 * make_loss(net)(image).style)


def slow_style(net, image, styles, content_mask, style_masks, convention, weights):
    """Section 4 of the paper, layer by layer and region by region, in double precision."""
    total = 0
    for name in LAYERS:

        def at_layer(mask, name=name):
            for _ in range(int(name[4]) - 1):
                mask = F.avg_pool2d(mask.double(), 2, ceil_mode=True)
            inside = torch.zeros_like(mask)
            inside[..., 1:-1, 1:-1] = mask[..., 1:-1, 1:-1]
            return inside.double()

        maps, masks = net(image, [name])[name].double(), at_layer(content_mask)
        positions, filters = masks[0, 0].numel(), maps.shape[1]
        factor = {"normalised": 1 / filters**2, "paper": 1 / (4 * filters**2)}.get(
            convention, positions / filters**3
        )
        for r, (style, mask) in enumerate(zip(styles, style_masks, strict=True)):
            grams = []
            for features, m in ((maps, masks[:, r]), (net(style, [name])[name], at_layer(mask))):
                grams.append(
                    torch.einsum("bhw,bihw,bjhw->bij", m, features.double(), features.double())
                    / m.sum()
                )
            error = (grams[0] - grams[1]).square().sum((1, 2))
            total = total + factor * weights[r] * masks[:, r].sum() / positions * error / len(
                LAYERS
            )
    return total


@MEMORY
@CONVENTIONS
@pytest.mark.parametrize("kind", ["a style for each region", "regions of one style", "all of it"])
def test_regions_are_painted_as_in_the_paper(net, kind, convention, memory):
    soft = torch.sigmoid(torch.linspace(-4, 4, 128)).expand(1, 1, 96, 128)
    content_mask, image = torch.cat([soft, 1 - soft], 1), make_picture(96, 128, seed=9)
    style_mask = halves(100, 80, 0.3)
    style, masks, options = {
        "a style for each region": (
            STYLES[:2],
            [torch.ones(1, *s.shape[2:]) for s in STYLES[:2]],
            {},
        ),
        "regions of one style": (
            [STYLES[0]] * 2,
            [*style_mask.split(1, 1)],
            {"style_mask": style_mask},
        ),
        "all of it": ([STYLES[0]] * 2, [torch.ones(1, 100, 80)] * 2, {}),
    }[kind]
    masks = [mask.view(1, *mask.shape[-2:]) for mask in masks]
    loss = make_loss(
        *(net, style if kind == "a style for each region" else style[0]),
        content_mask=content_mask,
        region_weights=(2, 0.5),
        convention=convention,
        memory=memory,
        **options,
    )
    expected = slow_style(net, image, style, content_mask, masks, convention, (2, 0.5))
    torch.testing.assert_close(loss(image).style.double(), expected, rtol=1e-3, atol=0)


def test_regions_of_several_styles_are_blended(net):
    masks = [halves(*style.shape[2:]) for style in STYLES[:2]]
    options = {"content_mask": halves(), "style_mask": masks}
    for i, weights in enumerate([(1, 0), (0, 1)]):
        blend = make_loss(net, STYLES[:2], style_weights=weights, **options)
        alone = {"content_mask": halves(), "style_mask": masks[i]}
        assert_same(blend, make_loss(net, STYLES[i], **alone))
    twice = make_loss(net, [STYLES[0]] * 2, content_mask=halves(), style_mask=[masks[0]] * 2)
    assert_same(twice, make_loss(net, content_mask=halves(), style_mask=masks[0]))


def test_a_blend_goes_into_a_single_region(net):
    options = {"content_mask": halves()[:, :1], "style_weights": (0, 1)}
    blend = make_loss(net, STYLES[:2], **options)
    assert_same(blend, make_loss(net, STYLES[1], content_mask=options["content_mask"]))


@pytest.mark.parametrize("memory", ["normal", "low"])
def test_permuting_regions_permutes_nothing_else(net, memory):
    masks = torch.cat([halves(share=0.3), halves(share=0.7)[:, 1:]], 1)  # of which two overlap
    masks[:, 1] -= masks[:, 2]
    order = [2, 0, 1]
    options = {"memory": memory}
    plain = make_loss(net, STYLES, content_mask=masks, region_weights=(1, 2, 3), **options)
    permuted = make_loss(
        *(net, [STYLES[i] for i in order]),
        content_mask=masks[:, order],
        region_weights=(3, 1, 2),
        **options,
    )
    assert_close(plain, permuted)


def test_each_image_of_a_batch_may_have_masks_and_styles_of_its_own(net):
    contents = torch.cat([CONTENT, CONTENT.flip(3)])
    masks = torch.cat([halves(), halves(share=0.3)])
    options = {"content_mask": masks, "region_weights": (1, 2)}
    styles = make_loss(net, STYLES[:2], contents, styles_per_image=True, **options)
    images = torch.cat([make_picture(96, 128, seed=seed) for seed in (5, 6)])
    together = styles(images).total
    for i in range(2):
        options["content_mask"] = masks[i : i + 1]
        alone = make_loss(net, STYLES[i], contents[i : i + 1], **options)
        torch.testing.assert_close(together[i : i + 1], alone(images[i : i + 1]).total)


def test_low_memory_and_smaller_sizes_know_the_regions(net):
    options = {"content_mask": halves(), "style": STYLES[:2]}
    loss = make_loss(net, **options)
    assert_close(make_loss(net, memory="low", **options), loss)
    small = resize_image(CONTENT, 0.5)
    direct = make_loss(
        net,
        [resize_image(style, 0.5) for style in STYLES[:2]],
        small,
        content_mask=resize_masks(halves(), 0.5),
    )
    assert_same(loss.resized(0.5), direct, small.flip(3))
    result = optimize(loss, noise_like(CONTENT), steps=6, pyramid=(48,))
    assert [entry["size"] for entry in result.history] == [48] * 5 + [96]


def test_a_pyramid_says_once_which_layers_are_too_coarse(net):
    mask = torch.zeros(1, 2, 96, 128)
    mask[:, 0, 20:40, 20:40] = 1
    mask[:, 1] = 1 - mask[:, 0]
    with pytest.warns(UserWarning, match="region 0 at relu5_1") as caught:
        loss = make_loss(net, STYLES[:2], content_mask=mask, style_layers=("relu1_1", "relu5_1"))
        loss.resized(0.5)
    assert len([w for w in caught if "too coarse" in str(w.message)]) == 1


def test_what_is_transparent_does_not_count(net):
    alpha = torch.zeros(1, 1, 100, 80)
    alpha[..., 20:70, 10:60] = 1
    options = {"style_layers": ["relu1_1"], "content_layers": ()}
    cut_out = make_loss(net, style_mask=alpha, **options)
    other = torch.where(F.max_pool2d(alpha, 3, 1, 1) > 0, STYLES[0], torch.rand(1, 3, 100, 80))
    assert_same(cut_out, make_loss(net, other, style_mask=alpha, **options))
    # And nothing moves where the content is transparent, but for what the next pixels see.
    mask = halves()[:, :1]
    _, gradient = value_and_gradient(make_loss(net, content_mask=mask, **options))
    assert (gradient[..., 65:] == 0).all()
    assert (gradient[..., 2:60] != 0).any()


def test_masks_and_matrices_go_where_the_loss_goes(net):
    loss = make_loss(net, STYLES[:2], content_mask=halves())
    held = {name for name, _ in loss.named_buffers() if name.startswith("styles.")}
    assert held == {f"styles.{kind}_{name}" for name in LAYERS for kind in ("grams", "masks")}
    for same in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert_same(same, loss)
    assert not any(buffer.requires_grad for buffer in loss.buffers())


def test_regions_need_more_memory(net):
    shape = (2, 3, 96, 128)
    for memory in ("normal", "low"):
        plain, guided = (
            make_loss(net, STYLES[:2], memory=memory, **options).memory_needed(shape)
            for options in ({}, {"content_mask": halves()})
        )
        assert plain < guided <= plain + 4 * 2 * 4 * 96 * 128  # four filters, float32


# --- what is refused, when the loss is made ------------------------------------------------------

MASKS, BLEND = halves(), {"style": STYLES[:2]}
NAN = float("nan")
HOLE = torch.stack([torch.ones(96, 128), torch.zeros(96, 128)])[None]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (BLEND | {"style_weights": (1,)}, "style_weights must be 2 numbers, one per style; got 1"),
        (BLEND | {"style_weights": (1, 2, 3)}, "style_weights must be 2 numbers"),
        (BLEND | {"style_weights": (1, -1)}, r"style_weights\[1\] must be a number >= 0; got -1"),
        (BLEND | {"style_weights": (1, NAN)}, r"style_weights\[1\] must be a number >= 0; got nan"),
        (BLEND | {"style_weights": (0, 0)}, "style_weights must not all be 0"),
        (BLEND | {"style_weights": ("a", 1)}, r"style_weights\[0\] must be a number"),
        (
            BLEND | {"style_weights": "ab"},
            "style_weights must be 2 numbers, one per style; got 'ab'",
        ),
        (BLEND | {"style_weights": 0.5}, "style_weights must be 2 numbers, one per style; got 0.5"),
        (BLEND | {"style_weights": {}}, "style_weights must name each style layer, .*; got none"),
        (
            BLEND | {"style_weights": {"relu1_1": (1, 0)}},
            "must name each style layer, relu1_1, relu2_1, relu3_1; got relu1_1",
        ),
        (
            BLEND | {"style_weights": dict.fromkeys(LAYERS, (1,))},
            "style_weights: those of relu1_1 must be 2 numbers",
        ),
        ({"style_weights": (0.3, 0.7)}, "style_weights must be 1 numbers, one per style; got 2"),
        (BLEND | {"styles_per_image": True, "style_weights": (1, 2)}, "style_weights blend the st"),
        (BLEND | {"styles_per_image": 2}, "styles_per_image must be True or False; got 2"),
        (
            {"style": STYLES, "content": torch.cat([CONTENT] * 2), "styles_per_image": True},
            "3 styles for 2 content images",
        ),
        (
            {"style": torch.cat([CONTENT] * 3), "content": torch.cat([CONTENT] * 2)},
            "3 styles for 2 content images",
        ),
        (
            {"style": [CONTENT, torch.cat([CONTENT] * 2)]},
            "single images, .*batches of 1, 2: .*True",
        ),
        ({"style": None, "style_weights": (1,)}, "style_weights blend .* there is no list"),
        # regions
        ({"style": None, "content_mask": MASKS}, "there is no style"),
        ({"content": None, "content_mask": MASKS}, "need a content image"),
        ({"content": None, "style_mask": MASKS[:, :1]}, "need a content image"),
        (
            {"style_mask": halves(100, 80)},
            "style_mask has several regions and needs a content_mask",
        ),
        (
            {"content_mask": MASKS, "style_mask": torch.ones(1, 3, 100, 80)},
            "a style region without a partner: region 2 of style_mask",
        ),
        (
            {"content_mask": MASKS, "style_mask": torch.ones(1, 1, 100, 80)},
            "a content region without a partner: region 1 of content_mask",
        ),
        ({"content_mask": MASKS[..., :64]}, "content_mask is 64 x 96 pixels"),
        (
            {"content_mask": MASKS, "style_mask": halves(100, 40)},
            "style_mask is 40 x 100 pixels",
        ),
        ({"content_mask": torch.cat([MASKS] * 2)}, "content_mask is for 2 images"),
        ({"content_mask": HOLE}, r"region 1 of content_mask \(counted from 0\) is empty"),
        (
            {"content_mask": 255 * MASKS},
            r"content_mask must be in \[0, 1\]; got values from 0 to 255",
        ),
        ({"content_mask": MASKS / 0}, "content_mask has values that are not finite"),
        ({"content_mask": MASKS[0]}, r"content_mask must be masks \(B or 1, R, H, W\)"),
        ({"content_mask": "mask.png"}, r"content_mask must be masks .*got 'mask.png'"),
        (
            {"content_mask": torch.ones(1, 9, 96, 128)},
            "content_mask must have 1 to 8 regions; got 9",
        ),
        ({"content_mask": MASKS.to_sparse()}, "content_mask must be masks"),
        ({"content_mask": MASKS.to("meta")}, "content_mask must be masks"),
        (
            {"style": STYLES, "content_mask": MASKS},
            "2 regions and there are 3 styles: give as many",
        ),
        (
            BLEND | {"content_mask": MASKS, "style_mask": MASKS},
            "style_mask must be a list of 2, one",
        ),
        (
            BLEND | {"content_mask": MASKS, "style_mask": [halves(100, 80), HOLE]},
            r"style_mask\[1\] is 128 x 96 pixels",
        ),
        (
            BLEND | {"content_mask": MASKS, "style_weights": (1, 2)},
            "style_weights blend .* for each",
        ),
        ({"region_weights": (1, 2)}, "region_weights need a content_mask"),
        (
            {"content_mask": MASKS, "region_weights": (1,)},
            "region_weights must be 2 numbers, .*got 1",
        ),
        (
            {"content_mask": MASKS, "region_weights": (1, NAN)},
            r"region_weights\[1\] must be a number",
        ),
        (
            {"content_mask": MASKS, "region_weights": (1, -2)},
            r"region_weights\[1\] must be .*got -2",
        ),
        ({"content_mask": MASKS, "region_weights": (0, 0)}, "region_weights must not all be 0"),
        (
            {"content_mask": MASKS, "region_weights": 3},
            "region_weights must be 2 numbers, one per re",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name_when_the_loss_is_made(net, options, message):
    with pytest.raises(ValueError, match=message):
        make_loss(net, **options)


def test_an_image_of_another_shape_than_the_masks_is_refused(net):
    loss = make_loss(net, alpha=0, content_mask=halves())
    loss(make_picture(96, 128))
    with pytest.raises(ValueError, match=r"relu1_1 the image has 95 x 128 .*content_mask 96 x 128"):
        loss(make_picture(95, 128))


def test_the_pure_functions_take_masks(net):
    maps = net(CONTENT, ["relu2_1"])["relu2_1"]
    masks = F.avg_pool2d(halves(), 2)
    target = gram_matrix(net(STYLES[0], ["relu2_1"])["relu2_1"], masks=torch.ones(1, 2, 50, 40))
    assert style_loss(maps, target, masks=masks).shape == (1,)
    assert content_loss(maps, maps).item() == 0
    with pytest.raises(ValueError, match=re.escape("expected (B or 1, 2, 6, 6)")):
        style_loss(maps, target[:, 0], masks=masks)
    for weights, message in [((1,), "2 numbers, .*got 1"), ((1, -1), "got -1"), ("ab", "got 'ab'")]:
        with pytest.raises(ValueError, match=f"region_weights.*{message}"):
            style_loss(maps, target, masks=masks, region_weights=weights)
    with pytest.raises(ValueError, match="region_weights need masks"):
        style_loss(maps, target[:, 0], region_weights=(1, 2))


# --- on the real VGG-19: see test_vgg19.py -------------------------------------------------------


@pytest.fixture(scope="module")
def real_net():
    return load_network(FILE, device="cpu", precision="float32")


def distance(net, image, style, mask=None):
    """The style loss of a picture, or of a part of it, against a style."""
    options = {} if mask is None else {"content_mask": mask}
    loss = StyleTransferLoss(net, image, style, alpha=0, style_layers=LAYERS, **options)
    return loss(image).style.item()


@VGG19
def test_a_blend_on_vgg19_lies_between_its_styles(real_net):
    cat, sky, wave = (load_image(name, 64) for name in ("chelsea", "night_sky", "wave"))
    loss = StyleTransferLoss(real_net, cat, [sky, wave], style_layers=LAYERS)
    images = []
    for share in (0, 0.5, 1):
        loss.style_weights = (1 - share, share)
        images.append(optimize(loss, cat, steps=25).image)
    from_sky, from_wave = ([distance(real_net, x, y) for x in images] for y in (sky, wave))
    assert from_sky == sorted(from_sky)
    assert from_wave == sorted(from_wave, reverse=True)


@VGG19
def test_regions_on_vgg19_are_each_like_their_own_style(real_net):
    cat, sky, leaves = (load_image(name, 64) for name in ("chelsea", "night_sky", "leaves"))
    masks = halves(*cat.shape[2:])
    loss = StyleTransferLoss(
        *(real_net, cat, [sky, leaves]),
        content_mask=masks,
        style_layers=LAYERS,
    )
    image = optimize(loss, cat, steps=25).image
    left, right = masks.split(1, 1)
    for mask, own, other in ((left, sky, leaves), (right, leaves, sky)):
        assert distance(real_net, image, own, mask) < 0.1 * distance(real_net, image, other, mask)
