"""Losses against slow loops, the paper's equations and the lecture's literal code."""

import math
import re

import pytest
import torch

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
    gram, wanted = slow_gram(features), slow_gram(target)
    total = 0.0
    for i in range(n):
        for j in range(n):
            total += (gram[i, j] - wanted[i, j]).item() ** 2
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


def test_gram_matrix_forgets_where():
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


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4), (1, 1, 3, 4, 5)])
def test_gram_matrix_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=re.escape(str(shape))):
        gram_matrix(torch.zeros(shape))


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


@pytest.mark.parametrize("batches", [(3, 2), (1, 2)])
@pytest.mark.parametrize("loss", [content_loss, style_loss])
def test_a_batch_of_targets_must_fit_the_batch(loss, batches):
    features, target = maps(batches[0], 3, 4, 5), maps(batches[1], 3, 4, 5)
    with pytest.raises(ValueError):
        loss(features, target)


def test_content_loss_refuses_another_size():
    with pytest.raises(ValueError, match="as large as the content image"):
        content_loss(maps(1, 3, 4, 5), maps(1, 3, 4, 6))


def test_style_loss_refuses_another_number_of_filters():
    with pytest.raises(ValueError, match="3 filters"):
        style_loss(maps(1, 3, 4, 5), maps(1, 4, 4, 5))


@pytest.mark.parametrize("loss", [content_loss, style_loss])
def test_unknown_convention_lists_the_known(loss):
    with pytest.raises(ValueError, match="normalised, paper, lecture; got 'gatys'"):
        loss(maps(1, 3, 4, 5), maps(1, 3, 4, 5), "gatys")


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


# --- StyleTransferLoss ---------------------------------------------------------------------------


def picture_like(image, seed=9, batch=1):
    return make_picture(*image.shape[2:], seed=seed, batch=batch)


def literal_terms(net, picture, content, style, content_layers, layer_weights, convention):
    """Content and style loss of one picture by equations 1, 3, 4 and 5, or the lecture's code."""
    f, p = net(picture, content_layers), net(content, content_layers)
    g, a = net(picture, layer_weights), net(style, layer_weights)
    if convention == "paper":
        found = [equation_1(f[name], p[name]) for name in content_layers]
        styles = [w * equation_4(g[name][0], a[name][0]) for name, w in layer_weights.items()]
    else:
        found = [torch.mean((f[name] - p[name]) ** 2).item() for name in content_layers]
        styles = [lecture_style_loss(g[name], a[name], w) for name, w in layer_weights.items()]
    return sum(found) / len(found), float(sum(styles))


@pytest.mark.parametrize("convention", ["paper", "lecture"])
def test_style_transfer_loss_is_the_literal_equations(net, convention):
    content, style, picture = (make_picture(24, 16, seed=s) for s in (1, 2, 3))
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
    )
    terms = loss(picture)
    expected = literal_terms(net, picture, content, style, ["relu3_2"], layer_weights, convention)
    assert terms.content.item() == pytest.approx(expected[0], rel=1e-4)
    assert terms.style.item() == pytest.approx(expected[1], rel=1e-4)
    down = (picture[:, :, 1:] - picture[:, :, :-1]).square().sum()
    right = (picture[..., 1:] - picture[..., :-1]).square().sum()
    tv = (down + right).item() / picture.numel()
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
    picture = make_picture(32, 32, seed=3)
    lectures = lecture_features(normalised(picture), model)["conv4_2"]
    ours = Features(weights, pooling="max")(picture, ["conv4_2", "relu4_2"])
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
    picture = picture_like(content)
    terms = StyleTransferLoss(net, content, style)(picture)
    f, p = net(picture, ["relu4_2"]), net(content, ["relu4_2"])
    layers = ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"]
    g, a = net(picture, layers), net(style, layers)
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
    terms = loss(picture_like(content, batch=2))
    assert all(term.shape == (2,) for term in terms)
    assert all(term.min() > 0 for term in terms)
    torch.testing.assert_close(
        terms.total, 0.3 * terms.content + 7.0 * terms.style + 11.0 * terms.tv
    )


def test_a_batch_is_judged_image_by_image(net, content, style):
    loss = StyleTransferLoss(net, content, style, tv_weight=1.0)
    pictures = picture_like(content, batch=3)
    together = loss(pictures)
    for i in range(3):
        for batched, alone in zip(together, loss(pictures[i : i + 1]), strict=True):
            torch.testing.assert_close(batched[i : i + 1], alone, rtol=1e-4, atol=1e-6)


def test_content_loss_is_averaged_over_its_layers(net, content):
    picture, layers = picture_like(content), ["relu1_2", "relu3_1", "relu4_2"]
    each = [StyleTransferLoss(net, content, content_layers=[x])(picture).content for x in layers]
    together = StyleTransferLoss(net, content, content_layers=layers)(picture).content
    torch.testing.assert_close(together, sum(each) / 3)


def test_texture_needs_no_content_and_any_size(net, style):
    loss = StyleTransferLoss(net, style=style)
    terms = loss(make_picture(32, 80))
    assert terms.content.tolist() == [0.0]
    torch.testing.assert_close(terms.total, terms.style)
    assert loss(style).total.item() < 1e-9


def test_reconstruction_needs_no_style(net, content):
    loss = StyleTransferLoss(net, content, alpha=1.0)
    terms = loss(picture_like(content))
    assert terms.style.tolist() == [0.0]
    torch.testing.assert_close(terms.total, terms.content)
    assert loss(content).total.item() == 0.0


@pytest.mark.parametrize(("alpha", "beta", "zero"), [(0, 1, "content"), (1, 0, "style")])
def test_a_weight_of_zero_leaves_the_term_out(net, content, style, alpha, beta, zero):
    terms = StyleTransferLoss(net, content, style, alpha=alpha, beta=beta)(picture_like(content))
    assert getattr(terms, zero).tolist() == [0.0]
    assert terms.total.item() > 0


def test_style_image_tiled_to_another_size_asks_for_nearly_the_same(net, content):
    # Away from the borders, where the convolutions see the zero padding, tiles look alike.
    tile = make_picture(32, 32, seed=4)
    one, many = (StyleTransferLoss(net, style=s) for s in (tile, tile.repeat(1, 1, 4, 4)))
    picture = picture_like(content)
    assert one(picture).style.item() == pytest.approx(many(picture).style.item(), rel=0.3)


def test_style_layer_weights_may_be_a_mapping_or_a_sequence(net, content, style):
    picture, layers = picture_like(content), ["relu2_1", "relu1_1"]
    each = [StyleTransferLoss(net, style=style, style_layers=[x])(picture).style for x in layers]
    for weights in ({"relu1_1": 3, "relu2_1": 5}, [5, 3], (w for w in (5.0, 3.0))):
        loss = StyleTransferLoss(net, style=style, style_layers=layers, style_layer_weights=weights)
        torch.testing.assert_close(loss(picture).style, 5 * each[0] + 3 * each[1])


def test_style_layers_missing_in_the_mapping_weigh_nothing(net, content, style):
    picture, layers = picture_like(content), ["relu1_1", "relu2_1"]
    loss = StyleTransferLoss(
        net, style=style, style_layers=layers, style_layer_weights={"relu2_1": 1}
    )
    alone = StyleTransferLoss(net, style=style, style_layers=["relu2_1"])
    torch.testing.assert_close(loss(picture).style, alone(picture).style)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 2, 3], "3 style_layer_weights for 2"),
        ([1], "1 style_layer_weights for 2"),
        ({"relu9_9": 1}, "relu9_9"),
        ({"relu3_1": 1}, "relu3_1"),
        ([1, -1], "relu2_1"),
        ([1, math.nan], "relu2_1"),
        ({"relu1_1": math.inf}, "relu1_1"),
    ],
)
def test_wrong_style_layer_weights_are_refused(net, style, values, message):
    with pytest.raises(ValueError, match=message):
        StyleTransferLoss(
            net,
            style=style,
            style_layers=["relu1_1", "relu2_1"],
            style_layer_weights=values,
        )


@pytest.mark.parametrize("name", ["alpha", "beta", "tv_weight"])
@pytest.mark.parametrize("value", [-1.0, -1e-9, math.nan, math.inf, -math.inf])
def test_weights_must_be_finite_and_not_negative(net, content, style, name, value):
    with pytest.raises(ValueError, match=f"{name} .*{value}"):
        StyleTransferLoss(net, content, style, **{name: value})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"content": True, "alpha": 0},
        {"style": True, "beta": 0},
        {"content": True, "style": True, "alpha": 0, "beta": 0},
        {"content": True, "content_layers": []},
        {"tv_weight": 1.0},
    ],
)
def test_nothing_to_match_is_refused(net, content, style, options):
    pictures = {"content": content, "style": style}
    options = {k: pictures[k] if v is True else v for k, v in options.items()}
    with pytest.raises(ValueError, match="nothing to match"):
        StyleTransferLoss(net, **options)


@pytest.mark.parametrize("kind", ["content_layers", "style_layers"])
def test_unknown_layers_are_refused_with_the_valid_ones(net, content, style, kind):
    with pytest.raises(ValueError, match=r"'relu6_1'.*conv1_1, relu1_1"):
        StyleTransferLoss(net, content, style, **{kind: ["relu6_1"]})


def test_a_single_layer_may_be_a_string(net, content):
    assert StyleTransferLoss(net, content, content_layers="relu3_1").content_layers == ("relu3_1",)


def test_unknown_convention_is_refused(net, content):
    with pytest.raises(ValueError, match="'gatys'"):
        StyleTransferLoss(net, content, convention="gatys")


def test_a_picture_of_another_size_than_the_content_is_refused(net, content, style):
    loss = StyleTransferLoss(net, content, style)
    with pytest.raises(ValueError, match="as large as the content image"):
        loss(make_picture(64, 64))


@pytest.mark.parametrize("kind", ["content", "style"])
def test_a_picture_too_small_for_the_layers_is_refused(net, kind):
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
    picture = picture_like(content).requires_grad_()
    before = loss(picture).total.sum()
    (gradient,) = torch.autograd.grad(before, picture)
    assert torch.isfinite(gradient).all()
    slope = gradient.square().sum().item()
    step = 1e-3 * before.item() / slope
    after = loss(picture.detach() - step * gradient).total.sum()
    # To first order the loss falls by step * slope, a thousandth of it.
    assert (before - after).item() == pytest.approx(step * slope, rel=0.1)


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
def test_a_picture_too_large_for_the_memory_is_refused_with_one_that_fits(monkeypatch, net, kind):
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


def test_the_picture_itself_must_fit_too(monkeypatch, net, style):
    loss = StyleTransferLoss(net, style=style)
    monkeypatch.setattr(memory, "available_memory", lambda device: 2**20)
    with pytest.raises(ValueError, match=r"640 x 480 .* would fit"):
        loss(make_picture(480, 640))


def test_the_memory_estimate_is_of_the_right_size(monkeypatch, net):
    saved = {}

    def pack(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    style = make_picture(64, 64)
    loss = StyleTransferLoss(net, style=style)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        terms = loss(style.clone().requires_grad_())
    parameters = sum(p.numel() * p.element_size() for p in net.parameters())
    held = (sum(saved.values()) - parameters) / 64**2  # bytes for each pixel, on the way back
    del terms
    needed = loss.memory_needed(style.shape) / 64**2
    assert held < needed < 3 * held
    assert loss.memory_needed((3, 3, 64, 128)) == pytest.approx(6 * needed * 64**2)


# --- weights for each picture, several styles ----------------------------------------------------


def test_weights_may_differ_from_picture_to_picture(net, content, style):
    alphas, betas = [1e-3, 0.0, 5.0], [1.0, 2.0, 0.5]
    pictures = torch.cat([noise_like(content, seed) for seed in range(3)])
    together = StyleTransferLoss(net, content, style, alpha=alphas, beta=betas)(pictures)
    for i in range(3):
        loss = StyleTransferLoss(net, content, style, alpha=alphas[i] or 1e-9, beta=betas[i])
        torch.testing.assert_close(together.total[i : i + 1], loss(pictures[i : i + 1]).total)


def test_each_picture_may_have_a_style_of_any_size(net, content):
    styles = [make_picture(40, 56, seed=5), make_picture(64, 32, seed=6)]
    pictures = torch.cat([noise_like(content, seed) for seed in range(2)])
    together = StyleTransferLoss(net, style=styles)(pictures)
    for i, style in enumerate(styles):
        alone = StyleTransferLoss(net, style=style)(pictures[i : i + 1])
        torch.testing.assert_close(together.style[i : i + 1], alone.style)


@pytest.mark.parametrize("alpha", [[1.0, -1.0], [math.nan], [[1.0]]])
def test_weights_that_make_no_sense_are_refused_in_lists_too(net, content, alpha):
    with pytest.raises(ValueError, match="alpha must be a number >= 0"):
        StyleTransferLoss(net, content, alpha=alpha)


def test_a_smaller_loss_has_smaller_pictures(net, content, style):
    loss = StyleTransferLoss(net, content, style, alpha=0.3, beta=2.0, tv_weight=0.1)
    half = loss.resized(0.5)
    small = resize_image(noise_like(content), 0.5)
    direct = StyleTransferLoss(
        *(net, resize_image(content, 0.5), resize_image(style, 0.5)),
        **{"alpha": 0.3, "beta": 2.0, "tv_weight": 0.1},
    )
    torch.testing.assert_close(half(small), direct(small))


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
    slope = torch.randn(gram.shape, generator=torch.Generator().manual_seed(0))
    (found,) = torch.autograd.grad((gram * slope).sum(), maps)
    double = maps.detach().double().requires_grad_()
    (expected,) = torch.autograd.grad((gram_matrix(double) * slope.double()).sum(), double)
    error = (found.double() - expected).square().sum() / expected.square().sum()
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
    picture = noise_like(content)
    one, other = (
        StyleTransferLoss(n, content, style, alpha=0.01, convention=convention)(picture)
        for n in (plain, scaled)
    )
    torch.testing.assert_close(other.content, factor * one.content)
    torch.testing.assert_close(other.style, one.style)
    torch.testing.assert_close(other.total, 0.01 * other.content + other.style)


def named_weights(net):
    for name, conv in net.convolutions.items():
        yield f"{name}.weight", conv.weight
        yield f"{name}.bias", conv.bias
