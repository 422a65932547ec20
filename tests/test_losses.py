"""Losses against slow loops, the paper's equations and the lecture's literal code."""

import itertools
import math
import re
import weakref

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from helpers import make_picture
from nst_helpers import (
    Features,
    StyleTransferLoss,
    content_loss,
    gram_matrix,
    noise_like,
    normalise_activations,
    resize_image,
    style_loss,
    total_variation,
)
from nst_helpers.engine import memory

CONVENTIONS = ("normalised", "paper", "lecture")
MEAN = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
STD = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)


def maps(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_gram(features):
    """Equation 3 of Gatys et al. 2016, G_ij = sum_k F_ik F_jk, of one image (N, H, W)."""
    n, h, w = features.shape
    gram = torch.zeros(n, n, dtype=features.dtype)
    for i in range(n):
        for j in range(n):
            for y in range(h):
                for x in range(w):
                    gram[i, j] += features[i, y, x] * features[j, y, x]
    return gram


def equation_1(features, target):
    total = 0.0
    for f, p in zip(features.flatten().tolist(), target.flatten().tolist(), strict=True):
        total += (f - p) ** 2
    return total / 2


def equation_4(features, target):
    n, m = features.shape[0], features.shape[1] * features.shape[2]
    gram, target_gram = slow_gram(features), slow_gram(target)
    total = 0.0
    for i in range(n):
        for j in range(n):
            total += (gram[i, j] - target_gram[i, j]).item() ** 2
    return total / (4 * n**2 * m**2)


def lecture_gram(tensor):
    _, d, h, w = tensor.size()
    tensor = tensor.view(d, h * w)
    gram = torch.mm(tensor, tensor.t())
    return gram  # noqa: RET504 (the lecture's own lines)


def lecture_style_loss(target_feature, style_feature, style_weight=1.0):
    style_loss = 0
    target_gram = lecture_gram(target_feature)
    _, d, h, w = target_feature.shape
    style_gram = lecture_gram(style_feature)
    layer_style_loss = style_weight * torch.mean((target_gram - style_gram) ** 2)
    style_loss += layer_style_loss / (d * h * w)
    return style_loss


# --- Gram matrix ---------------------------------------------------------------------------------


@pytest.mark.parametrize("normalise", [True, False])
def test_gram_matrix_of_a_batch_is_the_slow_loop_of_each_image(normalise):
    features = maps(2, 3, 4, 5)
    grams = gram_matrix(features, normalise=normalise)
    assert grams.shape == (2, 3, 3)
    for gram, image in zip(grams, features, strict=True):
        torch.testing.assert_close(gram, slow_gram(image) / (20 if normalise else 1))


def test_gram_matrix_does_not_depend_on_positions():
    features = maps(1, 5, 6, 7)
    order = torch.randperm(42, generator=torch.Generator().manual_seed(1))
    shuffled = features.flatten(2)[:, :, order].view(1, 5, 6, 7)
    torch.testing.assert_close(gram_matrix(shuffled), gram_matrix(features))


def test_gram_matrix_is_symmetric_and_positive_semi_definite():
    gram = gram_matrix(maps(3, 8, 2, 2))  # rank 4 of 8
    torch.testing.assert_close(gram, gram.mT)
    assert torch.linalg.eigvalsh(gram).min() > -1e-12


@pytest.mark.parametrize("times", [(1, 2), (3, 1), (4, 5)])
def test_gram_matrix_of_a_tiled_map_is_that_of_one_tile(times):
    features = maps(2, 4, 3, 6)
    tiled = features.repeat(1, 1, *times)
    torch.testing.assert_close(gram_matrix(tiled), gram_matrix(features))
    plain = gram_matrix(features, normalise=False) * math.prod(times)
    torch.testing.assert_close(gram_matrix(tiled, normalise=False), plain)


def test_gram_matrix_of_ones_is_ones():
    torch.testing.assert_close(gram_matrix(torch.ones(1, 3, 5, 9)), torch.ones(1, 3, 3))


def test_gram_matrix_does_not_overflow_in_half_precision():
    features = torch.full((1, 2, 64, 64), 20.0, dtype=torch.float16)  # 400 * 4096 > 65504
    assert gram_matrix(features).float().sub(400).abs().max() < 4


# --- the three conventions -----------------------------------------------------------------------


def test_content_loss_of_the_paper_is_equation_1():
    features, target = maps(2, 3, 4, 5), maps(2, 3, 4, 5, seed=1)
    expected = [equation_1(f, p) for f, p in zip(features, target, strict=True)]
    assert content_loss(features, target, "paper").tolist() == pytest.approx(expected)


@pytest.mark.parametrize("convention", ["normalised", "lecture"])
def test_content_loss_is_the_lectures_mean(convention):
    features, target = maps(2, 3, 4, 5), maps(2, 3, 4, 5, seed=1)
    expected = [
        torch.mean((f - p) ** 2).item()  # the lecture's line
        for f, p in zip(features, target, strict=True)
    ]
    assert content_loss(features, target, convention).tolist() == pytest.approx(expected)


def test_style_loss_of_the_paper_is_equation_4():
    features, target = maps(2, 3, 4, 5), maps(2, 3, 4, 5, seed=1)
    expected = [equation_4(f, a) for f, a in zip(features, target, strict=True)]
    assert style_loss(features, target, "paper").tolist() == pytest.approx(expected)


def test_style_loss_of_the_lecture_is_the_lectures_code():
    features, target = maps(2, 3, 4, 5), maps(2, 3, 4, 5, seed=1)
    expected = [lecture_style_loss(features[i : i + 1], target[i : i + 1]).item() for i in range(2)]
    assert style_loss(features, target, "lecture").tolist() == pytest.approx(expected)


def test_normalised_style_loss_is_the_mean_square_of_grams_per_position():
    features, target = maps(1, 3, 4, 5), maps(1, 3, 6, 2, seed=1)
    difference = slow_gram(features[0]) / 20 - slow_gram(target[0]) / 12
    expected = difference.square().sum().item() / 9
    assert style_loss(features, target).item() == pytest.approx(expected)


def test_conventions_differ_by_constants():
    n, h, w = 3, 4, 5
    features, target = maps(2, n, h, w), maps(2, n, h, w, seed=1)
    mine, paper, lecture = (content_loss(features, target, c) for c in CONVENTIONS)
    torch.testing.assert_close(paper, mine * n * h * w / 2)
    torch.testing.assert_close(lecture, mine)
    mine, paper, lecture = (style_loss(features, target, c) for c in CONVENTIONS)
    torch.testing.assert_close(paper, mine / 4)
    torch.testing.assert_close(lecture, mine * h * w / n)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_losses_of_a_perfect_match_are_zero_and_positive_otherwise(convention):
    features, other = maps(2, 3, 4, 5), maps(2, 3, 4, 5, seed=1)
    for loss in (content_loss, style_loss):
        assert loss(features, features, convention).abs().max() < 1e-20
        assert loss(features, other, convention).min() > 1e-3


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_style_target_may_be_maps_or_their_gram_matrix(convention):
    features, target = maps(2, 3, 4, 5), maps(1, 3, 7, 2, seed=1)
    torch.testing.assert_close(
        style_loss(features, target, convention),
        style_loss(features, gram_matrix(target), convention),
    )


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("loss", [content_loss, style_loss])
def test_one_target_serves_a_whole_batch(loss, convention):
    features, target = maps(3, 3, 4, 5), maps(1, 3, 4, 5, seed=1)
    together = loss(features, target, convention)
    alone = [loss(features[i : i + 1], target, convention) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))


BOTH_LOSSES = [content_loss, style_loss]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        *[
            (lambda shape=shape: gram_matrix(torch.zeros(shape)), re.escape(str(shape)))
            for shape in [(3, 4, 5), (3, 4), (1, 1, 3, 4, 5)]
        ],
        *[
            (lambda loss=loss, a=a, b=b: loss(maps(a, 3, 4, 5), maps(b, 3, 4, 5)), f"{b} targets")
            for loss, (a, b) in itertools.product(BOTH_LOSSES, [(3, 2), (1, 2)])
        ],
        *[
            (
                lambda loss=loss: loss(maps(1, 3, 4, 5), maps(1, 3, 4, 5), "gatys"),
                "convention must be one of normalised, paper, lecture; got 'gatys'",
            )
            for loss in BOTH_LOSSES
        ],
        (
            lambda: content_loss(maps(1, 3, 4, 5), maps(1, 3, 4, 6)),
            "must be as large as the content image",
        ),
        (lambda: style_loss(maps(1, 3, 4, 5), maps(1, 4, 4, 5)), "3 filters"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_gradients_agree_with_finite_differences(convention):
    features, target = maps(2, 3, 3, 4).requires_grad_(), maps(2, 3, 3, 4, seed=1)
    assert torch.autograd.gradcheck(lambda f: content_loss(f, target, convention), features)
    assert torch.autograd.gradcheck(lambda f: style_loss(f, target, convention), features)


def test_gradients_of_gram_and_total_variation_agree_with_finite_differences():
    assert torch.autograd.gradcheck(gram_matrix, maps(2, 3, 3, 4).requires_grad_())
    assert torch.autograd.gradcheck(total_variation, maps(2, 3, 3, 4).requires_grad_())


def test_total_variation_is_the_slow_loop():
    images = maps(2, 3, 4, 5)
    expected = []
    for image in images:
        total = 0.0
        for c in range(3):
            for y in range(4):
                for x in range(5):
                    if y + 1 < 4:
                        total += (image[c, y + 1, x] - image[c, y, x]).item() ** 2
                    if x + 1 < 5:
                        total += (image[c, y, x + 1] - image[c, y, x]).item() ** 2
        expected.append(total / 60)
    assert total_variation(images).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (2, 3, 1, 7), (1, 3, 7, 1), (1, 3, 5, 5)])
def test_total_variation_of_a_flat_image_is_zero(shape):
    assert total_variation(torch.full(shape, 0.3)).tolist() == [0.0] * shape[0]


# --- StyleTransferLoss against the taught functions, the equations and the lecture ---------------


def image_like(image, seed=9, batch=1):
    return make_picture(*image.shape[2:], seed=seed, batch=batch)


def taught_terms(net, image, content, styles, options):
    """The terms, written with the functions that the notebooks teach."""
    convention, layers = options["convention"], options["content_layers"]
    maps, targets = net(image, layers), net(content, layers)
    content_term = sum(content_loss(maps[x], targets[x], convention) for x in layers) / len(layers)
    if convention == "normalised":
        content_term = net.content_scale * content_term
    style_term = 0
    for layer, weight in options["style_layer_weights"].items():
        grams = torch.cat([gram_matrix(net(style, [layer])[layer]) for style in styles])
        style_term += weight * style_loss(net(image, [layer])[layer], grams, convention)
    tv = total_variation(image)
    alpha, beta = (torch.as_tensor(options[name]) for name in ("alpha", "beta"))
    total = alpha * content_term + beta * style_term + options["tv_weight"] * tv
    return {"total": total, "content": content_term, "style": style_term, "tv": tv}


@pytest.mark.parametrize("memory", ["normal", "low"])
@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize(
    ("alpha", "beta"), [(0.3, 7.0), ([0.3, 5.0], [7.0, 0.5])], ids=["one ratio", "two ratios"]
)
def test_style_transfer_loss_computes_the_taught_functions(
    weights, alpha, beta, convention, memory
):
    net = Features(weights, content_scale=3.0)
    image, content = make_picture(200, 40, seed=3, batch=2), make_picture(200, 40, seed=1)
    styles = [make_picture(150, 50, seed=2), make_picture(60, 70, seed=4)]
    options = {
        "alpha": alpha,
        "beta": beta,
        "content_layers": ["relu2_2", "relu4_2"],
        "style_layer_weights": {"relu1_1": 0.2, "relu2_2": 1.0, "conv3_1": 3.0},
        "tv_weight": 0.1,
        "convention": convention,
    }
    layers = list(options["style_layer_weights"])
    loss = StyleTransferLoss(
        *(net, content, styles),
        style_layers=layers,
        memory=memory,
        styles_per_image=True,
        **options,
    )
    ours, taught = image.clone().requires_grad_(), image.clone().requires_grad_()
    terms, expected = loss(ours)._asdict(), taught_terms(net, taught, content, styles, options)
    torch.testing.assert_close(terms, expected, rtol=1e-4, atol=1e-6)
    gradient, expected_gradient = (
        torch.autograd.grad(total.sum(), leaf)[0]
        for total, leaf in ((terms["total"], ours), (expected["total"], taught))
    )
    size = expected_gradient.abs().max().item()
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-3, atol=1e-4 * size)


def literal_terms(net, image, content, style, content_layers, layer_weights, convention):
    """Content and style loss of one image by equations 1, 3, 4 and 5, or the lecture's code."""
    f, p = net(image, content_layers), net(content, content_layers)
    g, a = net(image, layer_weights), net(style, layer_weights)
    if convention == "paper":
        contents = [equation_1(f[name], p[name]) for name in content_layers]
        styles = [w * equation_4(g[name][0], a[name][0]) for name, w in layer_weights.items()]
    else:
        contents = [torch.mean((f[name] - p[name]) ** 2).item() for name in content_layers]
        styles = [lecture_style_loss(g[name], a[name], w) for name, w in layer_weights.items()]
    return sum(contents) / len(contents), float(sum(styles))


@pytest.mark.parametrize("memory", ["normal", "low"])
@pytest.mark.parametrize("convention", ["paper", "lecture"])
def test_style_transfer_loss_is_the_literal_equations(net, convention, memory):
    content, style, image = (make_picture(24, 16, seed=s) for s in (1, 2, 3))
    layer_weights = {"relu1_1": 0.1, "relu2_1": 0.7, "relu4_1": 0.3}
    loss = StyleTransferLoss(
        net,
        content,
        style,
        alpha=2.0,
        beta=30.0,
        content_layers=["relu3_2"],
        style_layers=list(layer_weights),
        style_layer_weights=layer_weights,
        tv_weight=5.0,
        convention=convention,
        memory=memory,
    )
    terms = loss(image)
    expected = literal_terms(net, image, content, style, ["relu3_2"], layer_weights, convention)
    assert terms.content.item() == pytest.approx(expected[0], rel=1e-4)
    assert terms.style.item() == pytest.approx(expected[1], rel=1e-4)
    down = (image[:, :, 1:] - image[:, :, :-1]).square().sum()
    right = (image[..., 1:] - image[..., :-1]).square().sum()
    tv = (down + right).item() / image.numel()
    assert terms.tv.item() == pytest.approx(tv, rel=1e-4)
    total = 2.0 * expected[0] + 30.0 * expected[1] + 5.0 * tv
    assert terms.total.item() == pytest.approx(total, rel=1e-4)


def lecture_features(image, model):
    """The lecture's loop over torchvision's layers."""
    layers = {
        "0": "conv1_1",
        "5": "conv2_1",
        "10": "conv3_1",
        "19": "conv4_1",
        "21": "conv4_2",
        "28": "conv5_1",
    }
    features = {}
    x = image
    for name, layer in model._modules.items():
        x = layer(x)
        if name in layers:
            features[layers[name]] = x
    return features


def normalised(image):
    return (image - MEAN) / STD


def test_the_lectures_conv4_2_really_holds_relu4_2(vgg19):
    model, weights = vgg19
    image = make_picture(32, 32, seed=3)
    lectures = lecture_features(normalised(image), model)["conv4_2"]
    ours = Features(weights, pooling="max")(image, ["conv4_2", "relu4_2"])
    assert ours["conv4_2"].min() < 0
    assert lectures.min() == 0
    torch.testing.assert_close(lectures, ours["relu4_2"], rtol=1e-4, atol=1e-5)


def test_lecture_convention_on_torchvisions_vgg19_is_the_lectures_code(vgg19):
    model, weights = vgg19
    content, style, target = (make_picture(32, 48, seed=s) for s in (1, 2, 3))
    style_weights = {
        "conv1_1": 1.0,
        "conv2_1": 0.75,
        "conv3_1": 0.2,
        "conv4_1": 0.2,
        "conv5_1": 0.2,
    }
    content_weight, style_weight = 1, 1e6
    content_features = lecture_features(normalised(content), model)
    style_features = lecture_features(normalised(style), model)
    style_grams = {layer: lecture_gram(style_features[layer]) for layer in style_features}
    target_features = lecture_features(normalised(target), model)
    content_loss = torch.mean((target_features["conv4_2"] - content_features["conv4_2"]) ** 2)
    style_loss = 0
    for layer in style_weights:
        target_feature = target_features[layer]
        target_gram = lecture_gram(target_feature)
        _, d, h, w = target_feature.shape
        style_gram = style_grams[layer]
        layer_style_loss = style_weights[layer] * torch.mean((target_gram - style_gram) ** 2)
        style_loss += layer_style_loss / (d * h * w)
    total_loss = content_weight * content_loss + style_weight * style_loss

    terms = StyleTransferLoss(
        Features(weights, pooling="max"),
        content,
        style,
        alpha=content_weight,
        beta=style_weight,
        style_layer_weights=style_weights.values(),
        convention="lecture",
    )(target)
    torch.testing.assert_close(terms.content[0], content_loss, rtol=1e-3, atol=0)
    torch.testing.assert_close(terms.style[0], style_loss, rtol=1e-3, atol=0)
    torch.testing.assert_close(terms.total[0], total_loss, rtol=1e-3, atol=0)


def test_defaults_are_the_papers_layers_with_equal_weights(net, content, style):
    image = image_like(content)
    terms = StyleTransferLoss(net, content, style)(image)
    f, p = net(image, ["relu4_2"]), net(content, ["relu4_2"])
    layers = ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"]
    g, a = net(image, layers), net(style, layers)
    grams = [
        lecture_gram(g[k]) / g[k][0, 0].numel() - lecture_gram(a[k]) / a[k][0, 0].numel()
        for k in layers
    ]
    expected_content = (f["relu4_2"] - p["relu4_2"]).square().mean()
    expected_style = sum(d.square().mean() for d in grams) / 5
    torch.testing.assert_close(terms.content[0], expected_content, rtol=1e-4, atol=0)
    torch.testing.assert_close(terms.style[0], expected_style, rtol=1e-4, atol=0)
    total = 1e-3 * expected_content + expected_style
    torch.testing.assert_close(terms.total[0], total, rtol=1e-4, atol=0)
    assert terms.tv.tolist() == [0.0]


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_total_is_the_weighted_sum_of_the_terms(net, content, style, convention):
    loss = StyleTransferLoss(
        net, content, style, alpha=0.3, beta=7.0, tv_weight=11.0, convention=convention
    )
    terms = loss(image_like(content, batch=2))
    assert all(term.shape == (2,) for term in terms)
    assert all(term.min() > 0 for term in terms)
    torch.testing.assert_close(
        terms.total, 0.3 * terms.content + 7.0 * terms.style + 11.0 * terms.tv
    )


def test_the_terms_of_a_batch_are_those_of_its_images(net, content, style):
    loss = StyleTransferLoss(net, content, style, tv_weight=1.0)
    images = image_like(content, batch=3)
    together = loss(images)
    for i in range(3):
        for batched, alone in zip(together, loss(images[i : i + 1]), strict=True):
            torch.testing.assert_close(batched[i : i + 1], alone, rtol=1e-4, atol=1e-6)


def test_content_loss_is_averaged_over_its_layers(net, content):
    image, layers = image_like(content), ["relu1_2", "relu3_1", "relu4_2"]
    each = [StyleTransferLoss(net, content, content_layers=[x])(image).content for x in layers]
    together = StyleTransferLoss(net, content, content_layers=layers)(image).content
    torch.testing.assert_close(together, sum(each) / 3)


def test_a_texture_needs_no_content_and_may_have_any_size(net, style):
    loss = StyleTransferLoss(net, style=style)
    terms = loss(make_picture(32, 80))
    assert terms.content.tolist() == [0.0]
    torch.testing.assert_close(terms.total, terms.style)
    assert loss(style).total.item() < 1e-9


def test_a_reconstruction_needs_no_style(net, content):
    loss = StyleTransferLoss(net, content, alpha=1.0)
    terms = loss(image_like(content))
    assert terms.style.tolist() == [0.0]
    torch.testing.assert_close(terms.total, terms.content)
    assert loss(content).total.item() == 0.0


@pytest.mark.parametrize(("alpha", "beta", "zero"), [(0, 1, "content"), (1, 0, "style")])
def test_a_weight_of_zero_leaves_the_term_out(net, content, style, alpha, beta, zero):
    terms = StyleTransferLoss(net, content, style, alpha=alpha, beta=beta)(image_like(content))
    assert getattr(terms, zero).tolist() == [0.0]
    assert terms.total.item() > 0


def test_a_tiled_style_image_gives_nearly_the_same_loss(net, content):
    # Away from the borders, where the convolutions see the zero padding, tiles look alike.
    tile = make_picture(32, 32, seed=4)
    one, many = (StyleTransferLoss(net, style=s) for s in (tile, tile.repeat(1, 1, 4, 4)))
    image = image_like(content)
    assert one(image).style.item() == pytest.approx(many(image).style.item(), rel=0.3)


def test_style_layer_weights_may_be_a_mapping_or_a_sequence(net, content, style):
    image, layers = image_like(content), ["relu2_1", "relu1_1"]
    each = [StyleTransferLoss(net, style=style, style_layers=[x])(image).style for x in layers]
    for weights in ({"relu1_1": 3, "relu2_1": 5}, [5, 3], (w for w in (5.0, 3.0))):
        loss = StyleTransferLoss(net, style=style, style_layers=layers, style_layer_weights=weights)
        torch.testing.assert_close(loss(image).style, 5 * each[0] + 3 * each[1])


def test_style_layers_missing_in_the_mapping_have_a_weight_of_0(net, content, style):
    image, layers = image_like(content), ["relu1_1", "relu2_1"]
    loss = StyleTransferLoss(
        net, style=style, style_layers=layers, style_layer_weights={"relu2_1": 1}
    )
    alone = StyleTransferLoss(net, style=style, style_layers=["relu2_1"])
    torch.testing.assert_close(loss(image).style, alone(image).style)


def test_a_single_layer_may_be_a_string(net, content):
    assert StyleTransferLoss(net, content, content_layers="relu3_1").content_layers == ("relu3_1",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *[
            ({name: value}, f"{name} must be a number >= 0; got {value}")
            for name in ("alpha", "beta", "tv_weight")
            for value in (-1.0, -1e-9, math.nan, math.inf, -math.inf)
        ],
        *[
            ({"alpha": value}, "alpha must be a number >= 0")
            for value in ([1.0, -1.0], [math.nan], [[1.0]])
        ],
        ({"convention": "gatys"}, "convention must be one of .*; got 'gatys'"),
        ({"memory": "tiny"}, "memory must be one of normal, low; got 'tiny'"),
        ({"content_layers": ["relu6_1"]}, r"'relu6_1'.*conv1_1, relu1_1"),
        ({"style_layers": ["relu6_1"]}, r"'relu6_1'.*conv1_1, relu1_1"),
        ({"style_layer_weights": [1, 2, 3]}, "style_layer_weights must be 2 numbers; got 3"),
        ({"style_layer_weights": [1]}, "style_layer_weights must be 2 numbers; got 1"),
        ({"style_layer_weights": {"relu9_9": 1}}, "style_layer_weights .*relu9_9"),
        ({"style_layer_weights": {"relu3_1": 1}}, "style_layer_weights .*relu3_1"),
        ({"style_layer_weights": [1, -1]}, "the weight of relu2_1 must be a number >= 0"),
        ({"style_layer_weights": [1, math.nan]}, "the weight of relu2_1"),
        ({"style_layer_weights": {"relu1_1": math.inf}}, "the weight of relu1_1"),
        ({"content": None, "style": None}, "nothing to match"),
        ({"style": None, "alpha": 0}, "nothing to match"),
        ({"content": None, "beta": 0}, "nothing to match"),
        ({"alpha": 0, "beta": 0}, "nothing to match.*alpha=0.0, beta=0.0"),
        ({"style": None, "content_layers": []}, "nothing to match"),
        ({"content": None, "style": None, "tv_weight": 1.0}, "nothing to match"),
    ],
)
def test_bad_arguments_of_the_loss_are_named(net, content, style, options, message):
    style_layers = ["relu1_1", "relu2_1"] if "style_layer_weights" in options else ["relu1_1"]
    arguments = {"content": content, "style": style, "style_layers": style_layers, **options}
    with pytest.raises(ValueError, match=message):
        StyleTransferLoss(net, **arguments)


def test_an_image_of_another_size_than_the_content_is_refused(net, content, style):
    loss = StyleTransferLoss(net, content, style)
    with pytest.raises(ValueError, match=r"relu4_2 the image has 8 x 8 .* the content 6 x 8"):
        loss(make_picture(64, 64))


@pytest.mark.parametrize("kind", ["content", "style"])
def test_a_batch_of_targets_must_fit_the_images(net, content, style, kind):
    targets = {"content": torch.cat([content] * 2), "style": [style] * 2}
    loss = StyleTransferLoss(net, **{kind: targets[kind]}, styles_per_image=True)
    with pytest.raises(ValueError, match=f"2 {kind} targets for 3 images"):
        loss(image_like(content, batch=3))


@pytest.mark.parametrize("kind", ["content", "style"])
def test_a_target_too_small_for_the_layers_is_refused(net, kind):
    layers = {f"{kind}_layers": ["relu5_1"]}
    with pytest.raises(ValueError, match=r"40 x 15 .*at least 16"):
        StyleTransferLoss(net, **{kind: make_picture(15, 40)}, **layers)
    StyleTransferLoss(net, **{kind: make_picture(16, 40)}, **layers)


def test_the_targets_are_held_without_a_graph(net, content, style):
    loss = StyleTransferLoss(net, content.clone().requires_grad_(), style.clone().requires_grad_())
    assert len(list(loss.buffers())) >= 6
    assert not any(t.requires_grad for t in loss.buffers())


def test_the_gradient_lowers_the_loss(net, content, style):
    loss = StyleTransferLoss(net, content, style, tv_weight=0.1)
    image = image_like(content).requires_grad_()
    before = loss(image).total.sum()
    (gradient,) = torch.autograd.grad(before, image)
    assert torch.isfinite(gradient).all()
    steepest = gradient.square().sum().item()  # the derivative along the gradient
    step = 1e-3 * before.item() / steepest
    after = loss(image.detach() - step * gradient).total.sum()
    # To first order the loss falls by a thousandth.
    assert (before - after).item() == pytest.approx(step * steepest, rel=0.1)


@pytest.mark.parametrize("memory", ["normal", "low"])
def test_an_evaluation_with_its_gradient_does_not_wait_for_the_device(net, content, style, memory):
    # Fake tensors have no values: whatever needs one on the host (item, bool, nonzero) fails.
    loss = StyleTransferLoss(net, content, style, alpha=[1.0, 2.0], tv_weight=0.1, memory=memory)
    assert loss.capturable
    with FakeTensorMode(allow_non_fake_inputs=True):
        image = torch.empty(2, 3, *content.shape[2:], requires_grad=True)
        torch.autograd.grad(loss(image).total.sum(), image)


# --- memory --------------------------------------------------------------------------------------


def needed_and_fitting(message):
    width, height, gigabytes, free, fit_width, fit_height = re.search(
        r"(\d+) x (\d+) pixels need about ([\d.]+) GB.* ([\d.]+) GB are free; "
        r"about (\d+) x (\d+) would fit",
        message,
    ).groups()
    return (
        (int(width), int(height)),
        float(gigabytes),
        float(free),
        (int(fit_width), int(fit_height)),
    )


@pytest.mark.parametrize("kind", ["content", "style"])
def test_a_target_too_large_is_refused_with_a_size_that_fits(monkeypatch, net, kind):
    monkeypatch.setattr(memory, "available_memory", lambda device: 2**26)
    huge = torch.full((1, 3, 1, 1), 0.5).expand(1, 3, 4000, 6000)  # takes no memory itself
    with pytest.raises(ValueError) as caught:
        StyleTransferLoss(net, **{kind: huge})
    size, needed, free, fitting = needed_and_fitting(str(caught.value))
    assert size == (6000, 4000)
    assert needed > free
    assert free == pytest.approx(2**26 / 2**30, abs=0.05)
    assert fitting[0] / fitting[1] == pytest.approx(1.5, rel=0.02)
    StyleTransferLoss(net, **{kind: make_picture(fitting[1], fitting[0])})
    with pytest.raises(ValueError, match="would fit"):
        StyleTransferLoss(net, **{kind: make_picture(int(fitting[1] * 1.1), int(fitting[0] * 1.1))})


def test_an_image_too_large_is_refused_with_a_size_that_fits(monkeypatch, net, style):
    loss = StyleTransferLoss(net, style=style)
    monkeypatch.setattr(memory, "available_memory", lambda device: 2**20)
    with pytest.raises(ValueError, match=r"640 x 480 .* would fit"):
        loss(make_picture(480, 640))


def bytes_held(loss, image):
    """What an evaluation holds for its backward pass."""
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        total = loss(image.clone().requires_grad_()).total
    assert torch.isfinite(total).all()
    return sum(storages.values())


def test_the_memory_estimate_is_of_the_right_size(net):
    image = make_picture(64, 64)
    loss = StyleTransferLoss(net, style=image)
    parameters = sum(p.numel() * p.element_size() for p in net.parameters())
    activations, estimate = bytes_held(loss, image) - parameters, loss.memory_needed(image.shape)
    assert activations < estimate < 3 * activations
    assert loss.memory_needed((3, 3, 64, 128)) == pytest.approx(6 * estimate)


def test_low_memory_holds_less_for_the_backward_pass(net):
    content = make_picture(256, 64, seed=1)
    normal, low = (
        StyleTransferLoss(net, content, content, memory=memory) for memory in ("normal", "low")
    )
    assert bytes_held(low, content) < 0.5 * bytes_held(normal, content)
    assert low.memory_needed(content.shape) < 0.7 * normal.memory_needed(content.shape)


def test_of_style_images_one_feature_map_is_held_at_a_time(monkeypatch, net, style):
    activations, references, most = Features.activations, [], 0

    def watched(self, images, layers):
        nonlocal most
        for name, maps in activations(self, images, layers):
            references.append(weakref.ref(maps))
            most = max(most, sum(reference() is not None for reference in references))
            yield name, maps

    monkeypatch.setattr(Features, "activations", watched)
    StyleTransferLoss(net, style=[style] * 3)
    assert len(references) == 3 * 5
    assert most <= 2  # the one before is still in use while the next is computed


# --- a batch with weights and styles of its own --------------------------------------------------


def test_weights_may_differ_from_image_to_image(net, content, style):
    alphas, betas = [1e-3, 0.0, 5.0], [1.0, 2.0, 0.5]
    images = torch.cat([noise_like(content, seed) for seed in range(3)])
    together = StyleTransferLoss(net, content, style, alpha=alphas, beta=betas)(images)
    for i in range(3):
        loss = StyleTransferLoss(net, content, style, alpha=alphas[i] or 1e-9, beta=betas[i])
        torch.testing.assert_close(together.total[i : i + 1], loss(images[i : i + 1]).total)


def test_each_image_may_have_a_style_of_any_size(net, content):
    styles = [make_picture(40, 56, seed=5), make_picture(64, 32, seed=6)]
    images = torch.cat([noise_like(content, seed) for seed in range(2)])
    together = StyleTransferLoss(net, style=styles, styles_per_image=True)(images)
    for i, style in enumerate(styles):
        alone = StyleTransferLoss(net, style=style)(images[i : i + 1])
        torch.testing.assert_close(together.style[i : i + 1], alone.style)


@pytest.mark.parametrize("kinds", [("content", "style"), ("content",), ("style",)])
def test_a_resized_loss_is_that_of_resized_images(net, content, style, kinds):
    images = {kind: {"content": content, "style": style}[kind] for kind in kinds}
    options = {"alpha": 0.3, "beta": 2.0, "tv_weight": 0.1}
    loss = StyleTransferLoss(net, **images, **options)
    smaller = {kind: resize_image(image, 0.5) for kind, image in images.items()}
    direct = StyleTransferLoss(net, **smaller, **options)
    image = resize_image(noise_like(content), 0.5)
    torch.testing.assert_close(loss.resized(0.5)(image), direct(image))


def test_the_gram_matrix_of_half_precision_is_summed_in_float32(content, weights):
    # A plain loop in double precision over the very same rounded values; and its gradient.
    maps = Features(weights)(content, ["relu2_1"])["relu2_1"].bfloat16()
    maps = maps.to(memory_format=torch.channels_last).requires_grad_()
    gram = gram_matrix(maps)
    assert gram.dtype == torch.float32
    exact = maps.detach().double().flatten(2)
    torch.testing.assert_close(
        gram.double(), exact @ exact.mT / exact.shape[2], rtol=1e-5, atol=1e-7
    )
    cotangent = torch.randn(gram.shape, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad((gram * cotangent).sum(), maps)
    double = maps.detach().double().requires_grad_()
    (expected,) = torch.autograd.grad((gram_matrix(double) * cotangent.double()).sum(), double)
    error = (gradient.double() - expected).square().sum() / expected.square().sum()
    assert error < 1e-4


@pytest.mark.parametrize(
    ("convention", "factor"), [("normalised", 7.0), ("paper", 1.0), ("lecture", 1.0)]
)
def test_content_scale_moves_the_axis_of_the_normalised_losses(
    net, content, style, convention, factor
):
    scaled = normalise_activations(
        Features(dict(named_weights(net)), net.pooling, content_scale=7.0), [content]
    )
    plain = Features(dict(named_weights(scaled)), net.pooling)
    image = noise_like(content)
    one, other = (
        StyleTransferLoss(n, content, style, alpha=0.01, convention=convention)(image)
        for n in (plain, scaled)
    )
    torch.testing.assert_close(other.content, factor * one.content)
    torch.testing.assert_close(other.style, one.style)
    torch.testing.assert_close(other.total, 0.01 * other.content + other.style)


def named_weights(net):
    for name, conv in net.convolutions.items():
        yield f"{name}.weight", conv.weight
        yield f"{name}.bias", conv.bias
