"""The sweep is the single runs: one after the other, in batches, or on a cluster."""

import importlib
import os
import pickle
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import psutil
import pytest
import torch

from helpers import make_picture
from nst_helpers import Features, StyleTransferLoss, alpha_beta_sweep, noise_like, optimize, sweep

RATIOS = (1e-3, 1.0, 30.0)
module = importlib.import_module("nst_helpers.sweeps")  # nst_helpers.sweep is the function


@pytest.fixture
def sizes(monkeypatch):
    """How many pictures each call of optimize got."""
    seen = []

    def counting(loss, start, **options):
        seen.append(start.shape[0])
        return optimize(loss, start, **options)

    monkeypatch.setattr(module, "optimize", counting)
    return seen


def close(a, b):
    """Whether two results are the same run's, but for rounding."""
    assert len(a.history) == len(b.history)
    for one, other in zip(a.history, b.history, strict=True):
        for name in ("total", "content", "style", "tv"):
            assert one[name] == pytest.approx(other[name], rel=1e-3)
    return torch.allclose(a.image, b.image, atol=1e-3)


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


@pytest.mark.parametrize("batch", [None, 2, 10])
def test_the_grid_is_in_order_and_each_run_is_that_of_its_own(net, style, sizes, batch):
    contents = [make_picture(48, 64, seed=1), make_picture(50, 48, seed=5)]
    styles = [style, make_picture(48, 48, seed=6)]
    runs = sweep(net, contents, styles, (1e-2, 10.0), (3, 4), steps=3, batch=batch)
    assert [run[:4] for run in runs] == [
        (c, s, ratio, seed)
        for c in (0, 1)
        for s in (0, 1)
        for ratio in (1e-2, 10.0)
        for seed in (3, 4)
    ]
    # The two contents differ in shape, so they share no batch.
    assert sizes == {None: [1] * 16, 2: [2] * 8, 10: [8, 8]}[batch]
    for c, s, ratio, seed, result in runs:
        loss = StyleTransferLoss(net, contents[c], styles[s], alpha=ratio)
        assert close(result, optimize(loss, noise_like(contents[c], seed), steps=3))


def test_contents_of_one_shape_share_a_batch_wherever_they_are_in_the_list(net, style, sizes):
    shapes = [(48, 64), (50, 48), (48, 64)]
    contents = [make_picture(*shape, seed=i) for i, shape in enumerate(shapes)]
    runs = sweep(net, contents, [style], [1.0], steps=2, batch=5)
    assert sizes == [2, 1]
    assert [run.content for run in runs] == [0, 1, 2]
    assert [tuple(run.result.image.shape[2:]) for run in runs] == shapes


def test_a_tensor_of_pictures_is_a_list_of_them(net, style):
    contents = make_picture(48, 64, batch=2)
    runs = sweep(net, contents, [style], [1.0], steps=1)
    assert [run.content for run in runs] == [0, 1]
    one = sweep(net, [contents[1:]], [style], [1.0], steps=1)[0]
    assert torch.equal(runs[1].result.image, one.result.image)


def test_options_go_to_the_optimisation_or_to_the_loss(net, content, style):
    options = {"pyramid": (24,), "coarse_first": 0.0, "snapshots": [2]}
    of_loss = {"style_layers": ["relu1_1", "relu2_1"], "content_layers": ["relu2_1"]}
    results = alpha_beta_sweep(net, content, style, RATIOS, steps=4, batch=3, **options, **of_loss)
    for ratio, result in zip(RATIOS, results, strict=True):
        loss = StyleTransferLoss(net, content, style, alpha=ratio, **of_loss)
        alone = optimize(loss, noise_like(content), steps=4, **options)
        assert close(result, alone)
        assert [entry["size"] for entry in result.history] == [24, 24, 24, 48]
        assert result.snapshots[2].shape == alone.snapshots[2].shape
    with pytest.raises(TypeError, match="no_such_option"):
        alpha_beta_sweep(net, content, style, no_such_option=1)


def test_without_weight_the_content_is_not_looked_at_in_a_batch_either(net, content, style, sizes):
    results = alpha_beta_sweep(net, content, style, (0.0, 1.0, 0, 2.0), steps=2, batch=4)
    assert sizes == [2, 2]
    assert [result.history[0]["content"] > 0 for result in results] == [False, True] * 2


def test_each_run_can_start_at_its_content(net, style):
    contents, first = make_picture(48, 64, batch=2), {}
    sweep(
        net,
        contents,
        [style],
        [1.0],
        steps=1,
        start="content",
        batch=2,
        callback=lambda run, progress: first.update({run: progress.image()}),
    )
    assert torch.equal(torch.cat([first[0], first[1]]), contents)


@pytest.mark.parametrize("pyramid", [(), (24,)])
def test_each_run_of_a_batch_is_told_its_own_progress(net, content, style, pyramid):
    def watch(batch):
        seen = {}

        def look(run, progress):
            assert progress.image().shape == content.shape or pyramid
            seen.setdefault(run, []).append((progress.step, progress.steps, progress.terms))

        alpha_beta_sweep(
            net, content, style, RATIOS, steps=4, batch=batch, pyramid=pyramid, callback=look
        )
        return seen

    together, alone = watch(3), watch(1)
    assert together.keys() == alone.keys() == {0, 1, 2}
    for run, told in alone.items():
        for (step, steps, terms), mine in zip(told, together[run], strict=True):
            assert mine == (step, steps, pytest.approx(terms, rel=1e-3))


@pytest.mark.parametrize("how", ["Ctrl-C", "returns False"])
def test_a_batch_that_is_ended_gives_what_all_its_runs_have_so_far(net, content, style, how):
    def end(run, progress):
        if progress.step == 2 and run == 3:
            if how == "Ctrl-C":
                raise KeyboardInterrupt
            return False
        return None

    results = alpha_beta_sweep(net, content, style, (1, 2, 3, 4, 5), steps=3, batch=2, callback=end)
    stopped = "interrupted" if how == "Ctrl-C" else "callback"
    assert [result.stopped for result in results] == ["done"] * 2 + [stopped] * 2
    assert [len(result.history) for result in results] == [3, 3, 2, 2]


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_run_that_is_not_finite_costs_only_itself(net, content, style, batch):
    contents = [content, torch.full_like(content, torch.nan), content]
    with pytest.warns(UserWarning, match=r"content 1.*not finite"):
        runs = sweep(net, contents, [style], [1.0], steps=3, batch=batch)
    assert [run.result.stopped for run in runs][::2] == ["done", "done"]
    assert "not finite" in runs[1].result.stopped
    assert torch.equal(runs[1].result.image, noise_like(content))
    assert runs[1].result.history == []
    fine = sweep(net, [content], [style], [1.0], steps=3)[0]
    assert close(runs[0].result, fine.result)
    assert close(runs[2].result, fine.result)


@pytest.mark.parametrize("batch", [1, 2])
def test_if_no_run_is_finite_that_is_an_error(net, content, style, batch):
    with pytest.raises(ValueError, match="not finite"):
        sweep(net, [content * torch.nan] * 2, [style], [1.0], steps=3, batch=batch)


@pytest.mark.parametrize(
    ("free", "expected"), [(0, [1] * 5), (2.6, [2, 2, 1]), (3.9, [3, 2]), (100, [5])]
)
def test_on_a_gpu_a_batch_is_as_large_as_memory_allows(
    net, content, style, sizes, monkeypatch, free, expected
):
    needed = module.estimate_memory(StyleTransferLoss(net, content, style), content.shape)
    monkeypatch.setattr(module, "available_memory", lambda device: free * needed)
    # The arithmetic stays here; only the sweep thinks that it has a GPU.
    monkeypatch.setattr(module, "_is_gpu", lambda device: True)
    alpha_beta_sweep(net, content, style, range(1, 6), steps=1)
    assert sizes == expected


def test_a_content_of_several_pictures_goes_by_itself(net, style, sizes):
    content = make_picture(48, 64, batch=2)
    results = alpha_beta_sweep(net, content, style, (1.0, 2.0), steps=2, batch=8)
    assert sizes == [2, 2]
    assert all(result.image.shape == content.shape for result in results)


@pytest.mark.parametrize("batch", [0, -1, 2.0, True, "all"])
def test_a_batch_that_is_no_number_of_runs_is_refused(net, content, style, batch):
    with pytest.raises(ValueError, match=r"batch must be .* got " + repr(batch)):
        alpha_beta_sweep(net, content, style, batch=batch)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"contents": [torch.zeros(3, 48, 64)]}, r"contents must be images .* got \(3, 48, 64\)"),
        ({"styles": ["chelsea"]}, "styles must be images .* got 'chelsea'"),
        ({"ratios": (1.0, -2.0)}, "ratios must be .* got -2.0"),
        ({"seeds": (1, 0.5)}, r"seeds must be whole numbers; got \[1, 0.5\]"),
        ({"start": "noise"}, "start must be .* got 'noise'"),
        ({"client": "tcp://10.0.0.1:8786"}, "client must be .* got 'tcp://10.0.0.1:8786'"),
    ],
)
def test_what_makes_no_sense_is_refused_before_the_work(net, content, style, wrong, message):
    if "client" in wrong:
        pytest.importorskip("distributed", reason="Dask is not installed")
    good = {"contents": [content], "styles": [style]}
    with pytest.raises(ValueError, match=message):
        sweep(net, **{**good, **wrong}, callback=lambda run, progress: pytest.fail("it began"))


def test_without_dask_it_says_what_to_install(net, content, style, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"pip install \"nst_helpers\[cluster\]\""):
        alpha_beta_sweep(net, content, style, client="any")


def test_dask_is_imported_only_where_it_is_used():
    code = (
        "import sys, nst_helpers; sys.exit('dask' in sys.modules or 'distributed' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_network_travels_as_it_is(net, content):
    for network in (net, Features(dict(net_weights(net)), "max").to_precision("bfloat16")):
        copy = pickle.loads(pickle.dumps(network))
        assert copy.precision == network.precision
        assert torch.equal(
            copy(content, ["relu3_1"])["relu3_1"], network(content, ["relu3_1"])["relu3_1"]
        )


def net_weights(net):
    for name, conv in net.convolutions.items():
        yield f"{name}.weight", conv.weight
        yield f"{name}.bias", conv.bias


@pytest.fixture(scope="module")
def client():
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def kill_a_busy_worker(client, seen):
    """Kill a worker that is in the midst of a run, while the other one is, too."""
    for _ in range(1000):
        busy = client.run(
            lambda dask_worker: (
                os.getpid(),
                [task.key for task in dask_worker.state.executing if "_task" in task.key],
            )
        )
        if all(tasks for _, tasks in busy.values()):
            break
        time.sleep(0.02)
    pid, _ = busy[min(busy)]
    psutil.Process(pid).kill()  # not waited for: its nanny does that
    seen.append(pid)


def test_a_cluster_gives_the_same_though_a_worker_is_killed_midway(
    net, content, style, client, capsys
):
    contents, told, killed = [content, make_picture(48, 48, seed=3)], [], []
    grid = (net, contents, [style], (1e-2, 10.0), (0, 1))
    # With as many threads as a worker has: sums are added up in the same order then.
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, pytest.importorskip("dask.system").CPU_COUNT // 2))
    here = sweep(*grid, steps=60)
    torch.set_num_threads(threads)
    killer = threading.Thread(target=kill_a_busy_worker, args=(client, killed), daemon=True)
    killer.start()
    runs = sweep(
        *grid, steps=60, client=client, callback=lambda run, p: told.append((run, p.step, p.terms))
    )
    assert killed and killed[0] not in client.run(os.getpid).values()
    assert [run[:4] for run in runs] == [run[:4] for run in here]
    for run, expected in zip(runs, here, strict=True):
        assert run.result.stopped == "done"
        assert close(run.result, expected.result)
    assert sorted(run for run, _, _ in told) == list(range(8))
    for run, step, terms in told:
        assert step == 60
        assert terms.items() <= runs[run].result.history[-1].items()
    assert "8/8" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["Ctrl-C", "returns False"])
def test_a_sweep_on_a_cluster_that_is_ended_gives_what_is_finished(
    net, content, style, client, how
):
    def end(run, progress):
        if how == "Ctrl-C":
            raise KeyboardInterrupt
        return False

    runs = sweep(net, [content], [style], RATIOS * 2, steps=3, client=client, callback=end)
    assert len(runs) == 1
    assert runs[0].result.stopped == "done"
    for _ in range(1000):  # what was not begun is taken back
        if not any(client.processing().values()):
            return
        time.sleep(0.01)
    pytest.fail("the cluster goes on")


def test_of_an_ended_sweep_on_a_cluster_one_learns_which_ratios_are_done(
    net, content, style, monkeypatch
):
    result = optimize(StyleTransferLoss(net, content, style), content, steps=1)
    monkeypatch.setattr(module, "_check_client", lambda client: None)
    monkeypatch.setattr(module, "_on_cluster", lambda *_: {0: result, 2: result})
    with pytest.warns(UserWarning, match=r"of the ratios \[0.001, 30.0\]"):
        assert len(alpha_beta_sweep(net, content, style, RATIOS, client="any")) == 2


def test_on_a_cluster_too_a_run_that_fails_costs_only_itself(net, content, style, client):
    contents = [content, torch.full_like(content, torch.nan), content[..., :4, :4]]
    with pytest.warns(UserWarning) as warned:
        runs = sweep(net, contents, [style], [1.0], steps=2, client=client)
    reasons = [run.result.stopped for run in runs]
    assert reasons[0] == "done"
    assert "not finite" in reasons[1]
    assert "too small" in reasons[2]
    assert len(warned) == 2
    with pytest.raises(ValueError, match="optimizer must be"):
        alpha_beta_sweep(net, content, style, client=client, optimizer="sgd")


@pytest.mark.parametrize(("cores", "tasks", "threads"), [(16, 4, 4), (16, 1, 16), (2, 3, 1)])
def test_a_task_has_as_many_threads_as_the_cores_that_are_its_own(
    net, content, style, monkeypatch, cores, tasks, threads
):
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    import dask.system

    worker, set_to = SimpleNamespace(address="tcp://10.0.0.7:1234"), []
    monkeypatch.setattr(distributed, "get_worker", lambda: worker)
    monkeypatch.setattr(dask.system, "CPU_COUNT", cores)
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    job = module._Job(net, [content], [style], None, {"steps": 1}, {})
    module._task(job, module._Case(0, 0, 0, 1.0, 0), {"10.0.0.7": tasks})
    assert set_to == [threads]


def test_a_closed_client_is_refused(net, content, style, client):
    from distributed import Client

    closed = Client(client.scheduler.address, set_as_default=False)
    closed.close()
    with pytest.raises(ValueError, match=r"client must be connected .* closed"):
        alpha_beta_sweep(net, content, style, client=closed)


def test_a_cluster_without_workers_is_refused(net, content, style):
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
        pytest.raises(ValueError, match="no workers"),
    ):
        alpha_beta_sweep(net, content, style, client=client)
