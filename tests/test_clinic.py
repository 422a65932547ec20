"""The clinic: six different pictures, each with the mistake that is named; a check that hints."""

import copy

import pytest
import torch

import nst_helpers as nst
from helpers import make_picture
from nst_helpers.lesson import clinic

ANSWERS = clinic.ANSWERS


@pytest.fixture(scope="module")
def images(net, content, style):
    spoilt = clinic.spoilt_images(net, content, style, make_picture(40, 48, seed=5), steps=12)
    return {ANSWERS[letter]: image for letter, image in spoilt.items()}


def test_there_is_one_image_for_each_cause_and_all_differ(images, content):
    assert set(images) == set(clinic.CAUSES) == set(clinic.LOOK)
    for image in images.values():
        assert image.shape == content.shape
        assert 0 <= image.min() <= image.max() <= 1
    pictures = torch.stack(list(images.values())).flatten(1)
    distances = torch.cdist(pictures, pictures) / pictures.shape[1] ** 0.5
    assert distances[~torch.eye(6, dtype=torch.bool)].min() > 0.01


def test_images_show_their_mistakes():
    net = nst.load_network("bundled", precision="float32")
    names = ("chelsea", "night_sky", "stained_glass")
    content, style, other = (nst.load_image(name, 80) for name in names)
    spoilt = clinic.spoilt_images(net, content, style, other, steps=25)
    images = {ANSWERS[letter]: image for letter, image in spoilt.items()}
    judge = nst.StyleTransferLoss(net, content, style, alpha=clinic.ALPHA)
    terms = {cause: judge(image) for cause, image in images.items()}

    def pixel_error(cause):
        return (images[cause] - content).square().mean().item()

    assert min(images, key=pixel_error) == "low content"
    assert max(images, key=lambda cause: terms[cause].content) in (
        "not normalised",
        "rate too high",
    )
    start = judge(nst.noise_like(content, seed=0)).total
    assert {cause for cause in images if terms[cause].total > start} == {
        "not normalised",
        "rate too high",
    }
    extreme = {cause: ((i <= 0) | (i >= 1)).float().mean() for cause, i in images.items()}
    assert max(extreme, key=extreme.get) == "not normalised"
    with_other = nst.StyleTransferLoss(net, style=other)
    assert min(images, key=lambda cause: with_other(images[cause]).style) == "batch mixed"
    assert terms["wrong convention"].content > terms["one style layer"].content
    assert terms["one style layer"].style > terms["wrong convention"].style


def test_a_batch_of_two_paintings_has_the_mean_of_their_gram_matrices(net, content, style):
    other = make_picture(56, 40, seed=5)  # as many positions, so that both count the same
    loss = nst.StyleTransferLoss(net, style=[style, other], style_layers=["relu2_1"])
    maps = net(torch.cat([style, other]), ["relu2_1"])["relu2_1"]
    across = maps.transpose(0, 1).flatten(1)  # (N, B * M): one matrix across the batch
    wanted = across @ across.T / across.shape[1]
    found = nst.gram_matrix(net(content, ["relu2_1"])["relu2_1"])[0]
    torch.testing.assert_close(loss(content).style[0], (found - wanted).square().mean())


def test_what_is_not_normalised_reaches_the_network_as_it_is(net, content, style):
    loss = nst.StyleTransferLoss(net, content, style)
    plain = copy.copy(loss)
    plain._modules = dict(loss._modules, net=copy.deepcopy(net))
    plain.net.mean.zero_()
    plain.net.std.fill_(1)
    image = make_picture(48, 64, seed=9)
    torch.testing.assert_close(clinic._Unnormalised(loss)(image).total, plain(image).total)


def test_all_right():
    lines = clinic.check_diagnosis(ANSWERS).splitlines()
    assert [line[:9] for line in lines[:6]] == [f"{letter}: Right:" for letter in "ABCDEF"]
    assert lines[6] == "6 of 6 right"


@pytest.mark.parametrize("letter", ANSWERS)
@pytest.mark.parametrize("cause", clinic.CAUSES)
def test_a_wrong_cause_is_answered_with_what_it_would_look_like(letter, cause):
    line = clinic.check_diagnosis({letter: cause}).splitlines()["ABCDEF".index(letter)]
    right = cause == ANSWERS[letter]
    assert (clinic.CAUSES if right else clinic.LOOK)[cause] in line
    assert ("Right" in line) == right


@pytest.mark.parametrize(
    ("diagnosis", "hint"),
    [
        ({"A": "", "B": ""}, "Not tried yet"),
        ({}, "Not tried yet"),
        ({"A": "too slow"}, "'too slow' is not one of 'not normalised', "),
        ({"A": ["low content"]}, "is not one of"),
        ({"A": 3}, "3 is not one of"),
        (["low content"], "a dict is needed, a cause for each letter; got list"),
        (None, "got NoneType"),
    ],
)
def test_anything_else_is_answered_too(diagnosis, hint):
    assert hint in clinic.check_diagnosis(diagnosis)
