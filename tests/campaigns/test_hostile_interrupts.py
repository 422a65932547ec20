"""Ctrl-C before every line of a run: each step that was finished is kept, exactly once."""

import pytest
import torch
from interrupts import before_line, sample_of_lines
from oracle import check_image, time_limit

import nst_helpers as nst
from helpers import interrupt, make_picture, make_weights

SHORT = 50  # interrupts of each run
NET = nst.Features(make_weights((1, 1, 1, 1, 1)), name="small network")
CONTENT, STYLE = make_picture(16, 20, seed=1), make_picture(18, 16, seed=2)
LAYERS = {"content_layers": ["relu1_1"], "style_layers": ["relu1_1"]}
RATIOS = [0.1, 1.0]


LOSS = nst.StyleTransferLoss(NET, CONTENT, STYLE, **LAYERS)
BATCH = torch.cat([CONTENT, 1 - CONTENT])
EARLIER = nst.optimize(LOSS, CONTENT, steps=2)
RUNS = {
    "lbfgs": (CONTENT, {"steps": 3}),
    "adam": (CONTENT, {"steps": 3, "optimizer": "adam"}),
    "resume": (EARLIER, {"steps": 2}),
    "pyramid": (CONTENT, {"steps": (2, 2), "pyramid": (8,)}),
    "batch": (BATCH, {"steps": 3, "snapshots": [2]}),
}


@pytest.fixture
def evaluations(monkeypatch):
    """The sizes of the batches whose evaluation has begun."""
    forward, sizes = nst.StyleTransferLoss.forward, []

    def counted(self, image):
        sizes.append(len(image))
        return forward(self, image)

    monkeypatch.setattr(nst.StyleTransferLoss, "forward", counted)
    return sizes


@pytest.mark.parametrize("callback", [True, False], ids=["callback", "alone"])
@pytest.mark.parametrize("name", RUNS)
def test_an_interrupted_run_keeps_every_finished_step_once(
    name, callback, evaluations, request, seed
):
    start, options = RUNS[name]
    calls = []
    options = options | ({"callback": lambda p: calls.append(p.step)} if callback else {})
    before = start.steps_done if isinstance(start, nst.Result) else 0
    batch = len(start.image if before else start)

    def run():
        calls.clear()
        evaluations.clear()
        return nst.optimize(LOSS, start, **options)

    whole, lines = before_line(0, interrupt, run)
    for line in sample_of_lines(lines, request.config.getoption("campaign") or SHORT, seed):
        with time_limit():
            result, _ = before_line(line, interrupt, run)
        begun = len(evaluations)
        if result is None:
            assert not calls, f"line {line}: steps {calls} are lost"
            assert callback or begun <= 1, f"line {line}: {begun} steps are lost"
            continue
        steps = [entry["step"] for entry in result.history]
        assert steps == [*range(1, len(steps) + 1)], f"line {line}"
        done = len(steps) - before
        assert begun - 1 <= done <= begun, f"line {line}: {done} of {begun} steps"
        assert not callback or done >= len(calls), f"line {line}: {done} of {len(calls)} steps"
        assert result.stopped == "interrupted" or len(steps) == len(whole.history)
        check_image(result.image, batch)
        assert len(result.split()) == batch
        for kept, expected in zip(result.history, whole.history, strict=False):
            assert kept["total"] == pytest.approx(expected["total"], rel=1e-3), f"line {line}"


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("function", ["sweep", "alpha_beta_sweep"])
def test_an_interrupted_sweep_keeps_every_finished_step_once(function, batch, request, seed):
    calls = []

    def run():
        calls.clear()
        options = {"batch": batch, "steps": 2, **LAYERS}
        options["callback"] = lambda run, progress: calls.append((run, progress.step))
        if function == "sweep":
            points = nst.sweep(NET, [CONTENT], [STYLE], RATIOS, **options)
            return {point.ratio: point.result for point in points}
        results = nst.alpha_beta_sweep(NET, CONTENT, STYLE, RATIOS, **options)
        return dict(zip(RATIOS, results, strict=False))

    whole, lines = before_line(0, interrupt, run)
    for line in sample_of_lines(lines, request.config.getoption("campaign") or SHORT, seed):
        with time_limit():
            results, _ = before_line(line, interrupt, run)
        if results is None:
            assert not calls, f"line {line}: {calls} are lost"
            continue
        for number, ratio in enumerate(RATIOS):
            finished = [step for run, step in calls if run == number]
            result = results.get(ratio)
            history = [entry["step"] for entry in result.history] if result else []
            assert history == [*range(1, len(history) + 1)], f"line {line}: {history}"
            assert len(finished) <= len(history) <= 2, f"line {line}: {finished} became {history}"
            if history:
                check_image(result.image)
                assert result.history[0]["total"] == pytest.approx(
                    whole[ratio].history[0]["total"], rel=1e-3
                )
