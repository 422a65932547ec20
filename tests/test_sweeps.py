"""A sweep is its single runs: one after the other, or in batches."""

import inspect

import pytest
import torch

from helpers import interrupted_before_each_line, is_same_run, make_picture
from nst_helpers import (
    StyleTransferLoss,
    _job,
    alpha_beta_sweep,
    noise_like,
    optimize,
    sweep,
    sweeps,
)

RATIOS = (1e-3, 1.0, 30.0)


@pytest.fixture
def batch_sizes(monkeypatch):
    """How many images each call of optimize got."""
    sizes = []

    def counting(loss, start, **options):
        sizes.append(start.shape[0])
        return optimize(loss, start, **options)

    monkeypatch.setattr(_job, "optimize", counting)
    return sizes


def keyword_only(function, *omitted):
    parameters = inspect.signature(function).parameters.values()
    names = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    return tuple(name for name in names if name not in omitted)


# --- what a run is -------------------------------------------------------------------------------


def test_each_result_is_that_of_a_single_run(net, content, style):
    options = {"style_layers": ["relu1_1", "relu3_1"], "tv_weight": 0.1}
    results = alpha_beta_sweep(net, content, style, RATIOS, steps=4, seed=7, **options)
    assert len(results) == 3
    for ratio, result in zip(RATIOS, results, strict=True):
        loss = StyleTransferLoss(net, content, style, alpha=ratio, beta=1.0, **options)
        alone = optimize(loss, noise_like(content, seed=7), steps=4)
        assert torch.equal(result.image, alone.image)
        assert len(result.history) == 4


def test_the_default_ratios_are_those_of_figure_4(net, content, style):
    terms = []
    alpha_beta_sweep(net, content, style, steps=1, callback=lambda run, p: terms.append(p.terms))
    for entry, ratio in zip(terms, (1e-4, 1e-3, 1e-2, 1e-1), strict=True):
        expected = ratio * entry["content"] + entry["style"]
        assert entry["total"] == pytest.approx(expected, rel=1e-4)


def test_more_alpha_is_nearer_to_the_content_and_farther_from_the_style(net, content, style):
    results = alpha_beta_sweep(net, content, style, (1e-3, 1e3), steps=40)
    judge = StyleTransferLoss(net, content, style)
    styled, faithful = (judge(result.image) for result in results)
    assert faithful.content < styled.content
    assert styled.style < faithful.style


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize(
    "start", [make_picture(48, 64, seed=8), "content"], ids=["image", "content"]
)
def test_every_run_begins_at_start_and_leaves_it_unchanged(net, style, start, optimizer):
    contents, first_images = make_picture(48, 64, batch=2), {}
    expected = (contents if start == "content" else torch.cat([start, start])).clone()

    def note_first(run, progress):
        first_images.setdefault(run, progress.image())

    options = {"steps": 2, "optimizer": optimizer, "callback": note_first}
    for batch in (1, 2):
        first_images.clear()
        sweep(net, contents, [style], [1.0], start=start, batch=batch, **options)
        assert torch.equal(torch.cat([first_images[0], first_images[1]]), expected)
    assert start == "content" or torch.equal(start, expected[:1])


def test_options_go_to_the_optimiser_or_to_the_loss(net, content, style):
    options = {"pyramid": (24,), "precondition": 0.0, "snapshots": [2]}
    loss_options = {"style_layers": ["relu1_1", "relu2_1"], "content_layers": ["relu2_1"]}
    results = alpha_beta_sweep(
        net, content, style, RATIOS, steps=4, batch=3, **options, **loss_options
    )
    for ratio, result in zip(RATIOS, results, strict=True):
        loss = StyleTransferLoss(net, content, style, alpha=ratio, **loss_options)
        alone = optimize(loss, noise_like(content), steps=4, **options)
        assert is_same_run(result, alone)
        assert [entry["size"] for entry in result.history] == [24, 24, 24, 48]
        assert result.snapshots[2].shape == alone.snapshots[2].shape


def test_a_sweep_has_all_options_of_optimize_and_of_the_loss():
    assert keyword_only(optimize, "callback") == sweeps.OPTIMIZE_OPTIONS
    assert (
        keyword_only(StyleTransferLoss, "alpha", "beta", "styles_per_image") == sweeps.LOSS_OPTIONS
    )


@pytest.mark.parametrize("name", ["no_such_option", "alpha"])
def test_an_unknown_option_is_named_with_those_there_are(net, content, style, name):
    with pytest.raises(TypeError, match=rf"unknown option {name}; .*pyramid.*tv_weight"):
        alpha_beta_sweep(net, content, style, **{name: 1})


def test_results_do_not_hold_the_state_of_the_optimiser(net, content, style):
    for batch in (1, 3):
        results = alpha_beta_sweep(net, content, style, RATIOS, steps=2, batch=batch)
        assert [result.continuation for result in results] == [None] * 3


def test_no_ratios_is_no_results(net, content, style):
    assert alpha_beta_sweep(net, content, style, []) == []


def test_the_global_generator_is_left_alone(net, content, style):
    state = torch.get_rng_state()
    alpha_beta_sweep(net, content, style, [1e-3], steps=1)
    assert torch.equal(torch.get_rng_state(), state)


# --- the grid, and its batches -------------------------------------------------------------------


@pytest.mark.parametrize("batch", [None, 2, 10])
def test_the_grid_is_in_order_and_its_runs_are_those_of_single_ones(net, style, batch_sizes, batch):
    contents = [make_picture(48, 64, seed=1), make_picture(50, 48, seed=5)]
    styles = [style, make_picture(48, 48, seed=6)]
    points = sweep(net, contents, styles, (1e-2, 10.0), (3, 4), steps=3, batch=batch)
    assert [point[:4] for point in points] == [
        (c, s, ratio, seed)
        for c in (0, 1)
        for s in (0, 1)
        for ratio in (1e-2, 10.0)
        for seed in (3, 4)
    ]
    # The two contents differ in shape, so they share no batch.
    assert batch_sizes == {None: [1] * 16, 2: [2] * 8, 10: [8, 8]}[batch]
    for point in points:
        content = contents[point.content]
        loss = StyleTransferLoss(net, content, styles[point.style], alpha=point.ratio)
        assert is_same_run(point.result, optimize(loss, noise_like(content, point.seed), steps=3))


def test_contents_of_one_shape_share_a_batch_wherever_they_are_in_the_list(net, style, batch_sizes):
    shapes = [(48, 64), (50, 48), (48, 64)]
    contents = [make_picture(*shape, seed=i) for i, shape in enumerate(shapes)]
    points = sweep(net, contents, [style], [1.0], steps=2, batch=5)
    assert batch_sizes == [2, 1]
    assert [point.content for point in points] == [0, 1, 2]
    assert [tuple(point.result.image.shape[2:]) for point in points] == shapes


def test_a_tensor_of_images_is_a_list_of_them(net, style):
    contents = make_picture(48, 64, batch=2)
    points = sweep(net, contents, [style], [1.0], steps=1)
    assert [point.content for point in points] == [0, 1]
    (single,) = sweep(net, [contents[1:]], [style], [1.0], steps=1)
    assert torch.equal(points[1].result.image, single.result.image)


def test_a_content_of_several_images_has_a_batch_to_itself(net, style, batch_sizes):
    content = make_picture(48, 64, batch=2)
    results = alpha_beta_sweep(net, content, style, (1.0, 2.0), steps=2, batch=8)
    assert batch_sizes == [2, 2]
    assert all(result.image.shape == content.shape for result in results)


def test_the_content_is_not_evaluated_at_a_ratio_of_0(net, content, style, batch_sizes):
    results = alpha_beta_sweep(net, content, style, (0.0, 1.0, 0, 2.0), steps=2, batch=4)
    assert batch_sizes == [2, 2]
    assert [result.history[0]["content"] > 0 for result in results] == [False, True] * 2


@pytest.mark.parametrize(
    ("free", "expected"), [(0, [1] * 5), (2.6, [2, 2, 1]), (3.9, [3, 2]), (100, [5])]
)
def test_on_a_gpu_a_batch_is_as_large_as_memory_allows(
    net, content, style, batch_sizes, monkeypatch, free, expected
):
    needed = _job.estimate_memory(StyleTransferLoss(net, content, style), content.shape)
    monkeypatch.setattr(_job, "available_memory", lambda device: free * needed)
    # The arithmetic stays here; only the sweep thinks that it has a GPU.
    monkeypatch.setattr(_job, "is_gpu", lambda device: True)
    alpha_beta_sweep(net, content, style, range(1, 6), steps=1)
    assert batch_sizes == expected


# --- callbacks -----------------------------------------------------------------------------------


def test_the_callback_gets_the_number_of_the_run_and_its_progress(net, content, style):
    calls = []
    alpha_beta_sweep(
        net, content, style, RATIOS, steps=2, callback=lambda *args: calls.append(args)
    )
    assert [(run, p.step, p.steps) for run, p in calls] == [
        (run, step, 2) for run in range(3) for step in (1, 2)
    ]


@pytest.mark.parametrize("pyramid", [(), (24,)])
def test_each_run_of_a_batch_gets_its_own_progress(net, content, style, pyramid):
    def watch(batch):
        calls = {}

        def note(run, progress):
            assert progress.image().shape == content.shape or pyramid
            calls.setdefault(run, []).append((progress.step, progress.steps, progress.terms))

        alpha_beta_sweep(
            net, content, style, RATIOS, steps=4, batch=batch, pyramid=pyramid, callback=note
        )
        return calls

    together, alone = watch(3), watch(1)
    assert together.keys() == alone.keys() == {0, 1, 2}
    for run, calls in alone.items():
        for (step, steps, terms), in_batch in zip(calls, together[run], strict=True):
            assert in_batch == (step, steps, pytest.approx(terms, rel=1e-3))


def test_a_callback_that_returns_false_ends_the_sweep(net, content, style):
    results = alpha_beta_sweep(
        net, content, style, RATIOS, steps=5, callback=lambda run, p: run < 1
    )
    assert [result.stopped for result in results] == ["steps", "callback"]


@pytest.mark.parametrize("how", ["interrupted", "callback"])
def test_a_batch_that_is_ended_returns_what_all_its_runs_have_so_far(net, content, style, how):
    def end(run, progress):
        if progress.step == 2 and run == 3:
            if how == "interrupted":
                raise KeyboardInterrupt
            return False
        return None

    results = alpha_beta_sweep(net, content, style, (1, 2, 3, 4, 5), steps=3, batch=2, callback=end)
    assert [result.stopped for result in results] == ["steps"] * 2 + [how] * 2
    assert [len(result.history) for result in results] == [3, 3, 2, 2]


# --- Ctrl-C --------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps_before", [1, 4], ids=["in the first run", "in the second"])
def test_ctrl_c_ends_the_sweep_with_the_results_so_far(net, content, style, steps_before):
    calls = []

    def interrupt(run, progress):
        calls.append(run)
        if len(calls) == steps_before:
            raise KeyboardInterrupt

    results = alpha_beta_sweep(net, content, style, RATIOS, steps=3, callback=interrupt)
    assert len(results) == (steps_before + 2) // 3
    assert results[-1].stopped == "interrupted"
    assert all(result.stopped == "steps" for result in results[:-1])


@pytest.mark.parametrize(("method", "call"), [("forward", 3), ("__init__", 2)])
def test_ctrl_c_before_the_first_step_of_a_run_keeps_the_earlier_runs(
    net, content, style, monkeypatch, method, call
):
    inner, calls = getattr(StyleTransferLoss, method), []

    def interrupted(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return inner(self, *args, **kwargs)

    monkeypatch.setattr(StyleTransferLoss, method, interrupted)
    try:
        results = alpha_beta_sweep(net, content, style, RATIOS, steps=2)
    except KeyboardInterrupt:
        pytest.fail("the first run's result is lost")
    assert [len(result.history) for result in results] == [2]


@pytest.mark.parametrize("batch", [1, 2])
def test_ctrl_c_before_any_line_of_a_sweep_keeps_every_finished_step_once(
    net, content, style, monkeypatch, batch
):
    forward, evaluated = StyleTransferLoss.forward, []
    options = {"steps": 1, "content_layers": ["relu1_1"], "style_layers": ["relu1_1"]}

    def counted(self, image):
        evaluated.append(len(image))
        return forward(self, image)

    def run():
        evaluated.clear()
        return alpha_beta_sweep(
            net, content, style, RATIOS, batch=batch, callback=lambda *_: None, **options
        )

    monkeypatch.setattr(StyleTransferLoss, "forward", counted)
    lines, files = 0, (sweeps.__file__, _job.__file__)
    for results in interrupted_before_each_line(run, files):
        lines += 1
        assert sum(len(result.history) for result in results or ()) == sum(evaluated)
    assert lines > 50
    assert len(results) == 3


# --- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_run_that_is_not_finite_costs_only_itself(net, content, style, batch):
    ratios, options = (1.0, 3e38, 1.0), {"steps": 3, "convention": "paper"}
    with pytest.warns(UserWarning, match=r"ratio 3e\+38.*not finite"):
        points = sweep(net, [content], [style], ratios, batch=batch, **options)
    assert [point.result.stopped for point in points] == ["steps", "not finite", "steps"]
    assert [point.result.ok for point in points] == [True, False, True]
    assert "not finite" in points[1].result.problem
    assert torch.equal(points[1].result.image, noise_like(content))
    assert points[1].result.history == []
    (fine,) = sweep(net, [content], [style], [1.0], **options)
    for point in points[::2]:
        assert point.result.problem == ""
        assert is_same_run(point.result, fine.result)


@pytest.mark.parametrize("batch", [1, 2])
def test_if_no_run_is_finite_that_is_an_error(net, content, style, batch):
    with pytest.raises(ValueError, match="not finite"):
        sweep(net, [content], [style], [3e38] * 2, steps=3, batch=batch, convention="paper")


@pytest.mark.parametrize("batch", [1, 3])
def test_a_run_that_fails_costs_only_itself(net, content, style, batch, monkeypatch):
    forward = StyleTransferLoss.forward

    def failing(self, image):
        if (torch.as_tensor(self.alpha) == 2).any():
            raise RuntimeError("the card is gone")
        return forward(self, image)

    monkeypatch.setattr(StyleTransferLoss, "forward", failing)
    small, steps = content[..., :4, :4], 2
    with pytest.warns(UserWarning) as warned:
        points = sweep(net, [content, small], [style], (1.0, 2.0, 3.0), steps=steps, batch=batch)
    problems = [point.result.problem for point in points]
    assert [point.result.steps_done for point in points] == [2, 0, 2, 0, 0, 0]
    assert [point.result.ok for point in points] == [True, False, True, False, False, False]
    assert problems[0] == problems[2] == ""
    assert "card is gone" in problems[1]
    assert all("too small" in problem for problem in problems[3:])
    assert len([w for w in warned if "failed" in str(w.message)]) == 4
    for point, start in zip(points[1::2], (content, small, small), strict=True):
        assert torch.equal(point.result.image, noise_like(start))


def test_the_error_of_every_run_is_raised_as_it_is(net, content, style):
    with pytest.raises(ValueError, match="optimizer must be"):
        sweep(net, [content], [style], RATIOS, optimizer="sgd")


@pytest.mark.parametrize("batch", [1, 2])
def test_an_error_of_the_callback_brings_along_what_is_finished(net, content, style, batch):
    def fail(run, progress):
        if run == 2:
            raise KeyError("a mistake of the user's")

    with pytest.raises(KeyError, match="a mistake of the user's") as error:
        sweep(net, [content], [style], RATIOS, steps=2, batch=batch, callback=fail)
    assert [point.ratio for point in error.value.results] == list(RATIOS[:2])
    assert [point.result.steps_done for point in error.value.results] == [2, 2]
    with pytest.raises(KeyError) as error:
        alpha_beta_sweep(net, content, style, RATIOS[::-1], steps=2, callback=fail)
    assert [result.steps_done for result in error.value.results] == [2, 2]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"contents": [torch.zeros(3, 48, 64)]}, r"contents\[0\] must be .*\(3, 48, 64\)"),
        ({"styles": ["chelsea"]}, r"styles\[0\] must be .* got .*'chelsea'"),
        ({"contents": None}, "contents must be several images, .* got None"),
        ({"styles": "chelsea"}, "styles must be several images, .* got 'chelsea'"),
        ({"ratios": 0.1}, "ratios must be several numbers >= 0; got 0.1"),
        ({"ratios": torch.ones(2, 2)}, r"ratios must be several .* got a tensor of shape \(2, 2\)"),
        ({"seeds": 7}, "seeds must be several whole numbers; got 7"),
        ({"ratios": (1.0, -2.0)}, r"ratios\[1\] must be a number >= 0; got -2.0"),
        ({"ratios": [float("nan")]}, r"ratios\[0\] must be .* got nan"),
        ({"ratios": [float("inf")]}, r"ratios\[0\] must be .* got inf"),
        ({"seeds": (1, 0.5)}, r"seeds must be whole numbers; got \[1, 0.5\]"),
        ({"start": "noise"}, "start must be .* got .*'noise'"),
        *(({"batch": n}, f"batch must be .* got {n!r}") for n in (0, -1, 2.0, True, "all")),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_before_the_work(net, content, style, argument, message):
    arguments = {"contents": [content], "styles": [style], **argument}
    with pytest.raises(ValueError, match=message):
        sweep(net, **arguments, callback=lambda run, progress: pytest.fail("it began"))


def test_a_callback_must_be_a_function(net, content, style):
    with pytest.raises(ValueError, match="callback must be a function; got 'print'"):
        sweep(net, [content], [style], callback="print")


# --- blends and regions --------------------------------------------------------------------------


def left_half(image):
    return torch.cat(
        [torch.ones_like(image[:1, :1, :, ::2]), torch.zeros_like(image[:1, :1, :, ::2])], 3
    )


@pytest.mark.parametrize("batch", [1, 4])
def test_blends_may_be_an_axis_in_place_of_the_styles(net, content, style, batch_sizes, batch):
    styles, blends = [style, make_picture(48, 48, seed=6)], [(1, 0), (1, 1), (0, 2)]
    options = {"style_layers": ["relu1_1", "relu3_1"], "steps": 3}
    points = sweep(
        net, [content], styles, (1e-2, 1.0), style_weights=blends, batch=batch, **options
    )
    assert [point[1:3] for point in points] == [(b, r) for b in range(3) for r in (1e-2, 1.0)]
    assert batch_sizes == ([1] * 6 if batch == 1 else [2] * 3)  # runs of one blend go together
    for point in points:
        loss = StyleTransferLoss(
            *(net, content, styles),
            alpha=point.ratio,
            style_layers=options["style_layers"],
            style_weights=blends[point.style],
        )
        assert is_same_run(point.result, optimize(loss, noise_like(content), steps=3))


def test_one_blend_may_be_painted_with_each_ratio(net, content, style):
    styles = [style, make_picture(48, 48, seed=6)]
    for weights in ({}, {"style_weights": (1, 3)}):
        results = alpha_beta_sweep(net, content, styles, (1e-2, 1.0), steps=2, **weights)
        for ratio, result in zip((1e-2, 1.0), results, strict=True):
            loss = StyleTransferLoss(net, content, styles, alpha=ratio, **weights)
            assert is_same_run(result, optimize(loss, noise_like(content), steps=2))


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("each", [True, False])
def test_masks_are_for_every_run_or_one_for_each_style(net, content, style, each, batch):
    styles = [style, style.flip(2)]
    mask, style_masks = left_half(content), [left_half(style), left_half(style).flip(3)]
    options = {"style_layers": ["relu1_1", "relu3_1"]}
    given = style_masks if each else style_masks[0]
    points = sweep(
        *(net, [content], styles, [1e-2]),
        steps=3,
        batch=batch,
        content_mask=mask,
        style_mask=given,
        **options,
    )
    for point in points:
        options["style_mask"] = style_masks[point.style if each else 0]
        image = styles[point.style]
        loss = StyleTransferLoss(net, content, image, alpha=1e-2, content_mask=mask, **options)
        assert is_same_run(point.result, optimize(loss, noise_like(content), steps=3))


@pytest.mark.parametrize(
    ("blends", "message"),
    [
        ([(1, 0), (1,)], r"style_weights\[1\] must be 2 numbers, one per style; got 1"),
        ([(1, 0), (0, 0)], r"style_weights\[1\] must not all be 0"),
        ((1, 0), r"style_weights\[0\] must be 2 numbers, one per style; got 1"),
        (0.5, "style_weights must be several styles' weights"),
        ([], "style_weights must be several styles' weights"),
        ([{"relu9_9": (1, 0)}], r"style_weights\[0\] must name each style layer"),
    ],
)
def test_wrong_blends_are_refused_before_the_first_run(net, content, style, blends, message):
    with pytest.raises(ValueError, match=message):
        sweep(net, [content], [style] * 2, style_weights=blends)


def test_masks_that_are_not_one_for_each_style_are_refused(net, content, style):
    mask = left_half(style)
    with pytest.raises(ValueError, match="style_mask must be one for all styles, or a list of 2"):
        sweep(net, [content], [style] * 2, content_mask=left_half(content), style_mask=[mask])


def test_what_goes_to_a_cluster_is_on_the_cpu(net, content, style):
    masks = [left_half(style), None]
    job = _job.Job(net, [content], [style] * 2, None, {}, {"style_mask": masks, "memory": "low"})
    sent = job.to("cpu").loss_options
    assert torch.equal(sent["style_mask"][0], masks[0])
    assert sent["style_mask"][1] is None
    assert sent["memory"] == "low"
