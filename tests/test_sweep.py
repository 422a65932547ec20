"""The sweep is the single runs, one after the other."""

import pytest
import torch
from conftest import make_picture

from nst_helpers import StyleTransferLoss, alpha_beta_sweep, noise_like, optimize

RATIOS = (1e-3, 1.0, 30.0)


def test_each_result_is_that_of_a_run_of_its_own(net, content, style):
    options = {"style_layers": ["relu1_1", "relu3_1"], "tv_weight": 0.1}
    results = alpha_beta_sweep(net, content, style, RATIOS, steps=4, seed=7, **options)
    assert len(results) == 3
    for ratio, result in zip(RATIOS, results, strict=True):
        loss = StyleTransferLoss(net, content, style, alpha=ratio, beta=1.0, **options)
        alone = optimize(loss, noise_like(content, seed=7), steps=4)
        assert torch.equal(result.image, alone.image)
        assert len(result.history) == 4


def test_the_default_ratios_are_those_of_figure_4(net, content, style):
    seen = []
    results = alpha_beta_sweep(
        net, content, style, steps=1, callback=lambda run, p: seen.append(p.terms)
    )
    assert len(results) == 4
    for terms, ratio in zip(seen, (1e-4, 1e-3, 1e-2, 1e-1), strict=True):
        expected = ratio * terms["content"] + terms["style"]
        assert terms["total"] == pytest.approx(expected, rel=1e-4)


def test_more_alpha_is_nearer_to_the_content_and_farther_from_the_style(net, content, style):
    results = alpha_beta_sweep(net, content, style, (1e-3, 1e3), steps=40)
    judge = StyleTransferLoss(net, content, style)
    styled, faithful = (judge(result.image) for result in results)
    assert faithful.content < styled.content
    assert styled.style < faithful.style


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_every_run_has_the_same_start_which_is_left_alone(net, content, style, optimizer):
    start = make_picture(48, 64, seed=8)
    before, first = start.clone(), {}

    def look(run, progress):
        if progress.step == 1:
            first[run] = progress.image()

    alpha_beta_sweep(
        net, content, style, RATIOS, steps=2, start=start, optimizer=optimizer, callback=look
    )
    assert torch.equal(start, before)
    assert list(first) == [0, 1, 2]
    assert all(torch.equal(picture, start) for picture in first.values())


def test_the_callback_gets_the_number_of_the_run_and_its_progress(net, content, style):
    seen = []
    alpha_beta_sweep(net, content, style, RATIOS, steps=2, callback=lambda *args: seen.append(args))
    assert [(run, p.step, p.steps) for run, p in seen] == [
        (run, step, 2) for run in range(3) for step in (1, 2)
    ]


@pytest.mark.parametrize("steps_before", [1, 4], ids=["in the first run", "in the second"])
def test_ctrl_c_ends_the_sweep_with_the_results_so_far(net, content, style, steps_before):
    seen = []

    def interrupt(run, progress):
        seen.append(run)
        if len(seen) == steps_before:
            raise KeyboardInterrupt

    results = alpha_beta_sweep(net, content, style, RATIOS, steps=3, callback=interrupt)
    assert len(results) == (steps_before + 2) // 3
    assert results[-1].stopped == "interrupted"
    assert all(result.stopped == "done" for result in results[:-1])


@pytest.mark.parametrize(("where", "call"), [("forward", 3), ("__init__", 2)])
def test_ctrl_c_before_the_first_step_of_a_run_keeps_the_earlier_runs(
    net, content, style, monkeypatch, where, call
):
    inner, calls = getattr(StyleTransferLoss, where), []

    def interrupted(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return inner(self, *args, **kwargs)

    monkeypatch.setattr(StyleTransferLoss, where, interrupted)
    try:
        results = alpha_beta_sweep(net, content, style, RATIOS, steps=2)
    except KeyboardInterrupt:
        pytest.fail("the first run's result is lost")
    assert [len(result.history) for result in results] == [2]


def test_a_callback_that_returns_false_ends_the_sweep(net, content, style):
    results = alpha_beta_sweep(
        net, content, style, RATIOS, steps=5, callback=lambda run, p: run < 1
    )
    assert [result.stopped for result in results] == ["done", "callback"]


@pytest.mark.parametrize("ratio", [-1.0, float("nan"), float("inf")])
def test_a_ratio_that_makes_no_sense_is_refused(net, content, style, ratio):
    with pytest.raises(ValueError, match=str(ratio)):
        alpha_beta_sweep(net, content, style, [ratio], steps=1)


def test_no_ratios_is_no_results(net, content, style):
    assert alpha_beta_sweep(net, content, style, []) == []


def test_the_global_generator_is_left_alone(net, content, style):
    state = torch.get_rng_state()
    alpha_beta_sweep(net, content, style, [1e-3], steps=1)
    assert torch.equal(torch.get_rng_state(), state)
