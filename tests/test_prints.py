"""Large prints: sizes and steps against what they must add up to, needs against sums by hand."""

import re
import signal
from itertools import pairwise

import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import make_picture, make_weights
from nst_helpers import (
    Features,
    StyleTransferLoss,
    _options,
    _painting,
    estimate_memory,
    load_image,
    optimize,
    prints,
)
from nst_helpers.__main__ import main
from nst_helpers.engine.sizes import Sizes, plan_sizes
from nst_helpers.prints import Needs, estimate_needs


@pytest.mark.parametrize(
    ("sides", "steps"),
    [
        ((64,), (300,)),
        ((256,), (300,)),
        ((511,), (300,)),
        ((256, 512), (300, 150)),
        ((500, 1000), (300, 150)),
        ((256, 512, 1024, 2048), (300, 150, 75, 38)),
        ((256, 512, 1024, 2048, 4096, 8192), (300, 150, 75, 38, 20, 20)),
    ],
)
def test_a_print_is_begun_small_and_each_doubling_has_half_the_steps(sides, steps):
    sizes = plan_sizes(sides[-1])
    assert sizes == Sizes(sides, steps)
    assert sizes.pyramid == sides[:-1]


@given(size=st.integers(1, 10_000))
def test_sizes_double_and_the_first_is_a_small_picture(size):
    sides, steps = plan_sizes(size)
    assert sides[-1] == size
    assert sides[0] < 512 and (sides[0] >= 256 or len(sides) == 1)
    assert all(abs(large - 2 * small) <= 1 for small, large in pairwise(sides))
    assert len(steps) == len(sides)


@given(steps=st.integers(6, 3000), size=st.integers(1, 10_000))
def test_steps_that_are_given_are_shared_as_they_would_be(steps, size):
    sides, counts = plan_sizes(size, steps)
    assert sum(counts) == steps and min(counts) >= 1
    assert sides == plan_sizes(size).sides
    usual = plan_sizes(size).steps
    assert plan_sizes(size, sum(usual)).steps == usual
    for count, share in zip(counts, usual, strict=True):
        assert abs(count - steps * share / sum(usual)) <= len(counts)


def test_sizes_that_are_given_are_kept():
    assert plan_sizes(600, pyramid=[150, 300]) == Sizes((150, 300, 600), (300, 150, 75))
    assert plan_sizes(600, pyramid=()) == Sizes((600,), (300,))
    assert plan_sizes(600, 92, (300,)) == Sizes((300, 600), (61, 31))
    assert plan_sizes(600, 3, (60, 300)) == Sizes((60, 300, 600), (1, 1, 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((2048, 3), "steps must be at least 4, one for each size; got 3"),
        ((2048, 0), "steps must be"),
        ((0,), "size must be"),
        ((600, 30, (1.5,)), "pyramid must be"),
    ],
)
def test_what_cannot_be_planned_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        plan_sizes(*arguments)


@pytest.fixture
def loss():
    net = Features(make_weights())
    return StyleTransferLoss(net, make_picture(64, 96), make_picture(64, 64, seed=1))


START = make_picture(64, 96)
SIZES = Sizes((16, 32, 64), (9, 5, 3))


def test_each_size_takes_its_pixels_times_its_steps(loss, monkeypatch):
    monkeypatch.setattr(prints, "_seconds_of_a_step", lambda *_: 2.0)
    needs = estimate_needs(loss, START, SIZES)
    pixels = 9 * 16 * 24 + 5 * 32 * 48 + 3 * 64 * 96
    assert needs.seconds == pytest.approx(2 * pixels / (16 * 24))


@pytest.mark.parametrize("options", [{}, {"optimizer": "adam"}, {"history_size": 3, "lr": 0.5}])
def test_memory_is_that_of_the_process_and_of_the_run(loss, options):
    before = psutil.Process().memory_info().rss
    needs = estimate_needs(loss, START, SIZES, **options)
    named = {name: value for name, value in options.items() if name != "lr"}
    own = needs.bytes - estimate_memory(loss, START.shape, **named)
    half = (1, 3, 32, 48)  # of the size before, its minimiser
    own -= estimate_memory(loss, half, **named) - loss.memory_needed(half)
    assert before / 2 < own < before + 2**28
    assert needs.memory == "normal" and needs.seconds > 0


@pytest.mark.parametrize("wish", [None, "normal", "low"])
@pytest.mark.parametrize(("factor", "chosen"), [(1.9, "low"), (2.1, "normal")])
def test_where_half_of_what_is_free_does_not_do_memory_is_low(
    loss, wish, factor, chosen, monkeypatch
):
    free = factor * estimate_memory(loss, START.shape)
    monkeypatch.setattr(prints, "available_memory", lambda device: free)
    assert estimate_needs(loss, START, SIZES, wish).memory == (wish or chosen)
    assert loss.memory == "normal"  # left as it is


def test_more_than_three_gigabytes_are_low_however_much_is_free(loss, monkeypatch):
    monkeypatch.setattr(prints, "available_memory", lambda device: 2**50)
    monkeypatch.setattr(prints, "MOST_MEMORY", estimate_memory(loss, START.shape) - 1)
    assert estimate_needs(loss, START, SIZES).memory == "low"


def test_an_interrupt_while_it_is_measured_goes_through(loss, monkeypatch):
    forward, calls = StyleTransferLoss.forward, []

    def interrupted(self, image):
        calls.append(image.shape)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return forward(self, image)

    monkeypatch.setattr(StyleTransferLoss, "forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        estimate_needs(loss, START, SIZES)
    assert calls == [(1, 3, 16, 24)] * 3  # the smallest size only


def test_a_loss_that_is_met_at_the_start_is_measured_without_a_word(loss, recwarn):
    content = StyleTransferLoss(loss.net, START)
    assert estimate_needs(content, START, SIZES).seconds > 0
    assert not recwarn.list


def test_a_print_goes_through_the_sizes_as_planned(loss):
    result = optimize(loss, START, steps=SIZES.steps, pyramid=SIZES.pyramid)
    assert [entry["size"] for entry in result.history] == [16] * 9 + [32] * 5 + [64] * 3
    assert result.image.shape == START.shape


@pytest.mark.parametrize(
    ("needs", "text"),
    [
        (Needs("normal", 2**31, 44.6), "about 45 seconds and 2.0 GB, memory normal"),
        (Needs("low", 3 * 2**29, 290), "about 5 minutes and 1.5 GB, memory low"),
    ],
)
def test_what_it_takes_is_said_in_a_line(needs, text):
    assert str(needs) == text
    assert str(SIZES) == "sizes 16 32 64, steps 9 5 3"


# --- the command line ----------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Options with a network of a few filters, in a folder of its own."""
    torch.save(make_weights((2, 2, 2, 2, 2)), tmp_path / "small.pth")
    monkeypatch.chdir(tmp_path)
    return ["-o", "out.png", "--network", "small.pth", "--device", "cpu", "--quiet"]


TRANSFER = "transfer chelsea night_sky -o out.png --size 2048"


@pytest.mark.parametrize(
    ("arguments", "pyramid", "steps"),
    [
        (TRANSFER, (256, 512, 1024), 563),
        (f"{TRANSFER} --steps 90", (256, 512, 1024), 90),
        (f"{TRANSFER} --pyramid 512", (512,), 300),
        (f"{TRANSFER} --pyramid 512 --steps 90", (512,), 90),
        ("transfer chelsea night_sky -o out.png --size 511", (), 300),
        ("texture pebbles -o out.png --size 2048", (), 300),
        ("sweep chelsea night_sky -o out.png --size 2048", (), 300),
    ],
)
def test_what_is_not_given_is_planned_for_a_transfer(arguments, pyramid, steps):
    args = _options.parse(arguments.split())
    assert (tuple(args.pyramid), args.steps) == (pyramid, steps)


def test_a_large_transfer_says_what_it_takes_before_it_begins(small, capsys):
    command = ["transfer", "chelsea", "night_sky", "--size", "512", "--steps", "6"]
    assert main([*command, *small]) == 0
    said = capsys.readouterr().out.splitlines()
    takes = r"transfer: sizes 256 512, steps 4 2: about \d+ (seconds|minutes) and \d+\.\d GB, "
    (line,) = [i for i, text in enumerate(said) if re.match(takes, text)]
    (end,) = [i for i, text in enumerate(said) if text.startswith("wrote out.png: 6 steps")]
    assert line < end
    assert load_image("out.png").shape == (1, 3, 512, 770)


@pytest.mark.parametrize(("step", "side"), [(2, 256), (5, 512)])
def test_a_print_that_is_terminated_keeps_what_it_has(step, side, small, capsys, monkeypatch):
    monkeypatch.setattr(_painting, "estimate_needs", lambda *_, **__: Needs("low", 1, 1.0))
    forward, calls = StyleTransferLoss.forward, []

    def terminated(self, image):
        calls.append(self.memory)
        if len(calls) == step:
            signal.raise_signal(signal.SIGTERM)
        return forward(self, image)

    monkeypatch.setattr(StyleTransferLoss, "forward", terminated)
    command = ["transfer", "chelsea", "night_sky", "--size", "512", "--steps", "6"]
    assert main([*command, *small]) == 128 + signal.SIGTERM
    assert calls == ["low"] * step
    assert min(load_image("out.png").shape[2:]) == side
