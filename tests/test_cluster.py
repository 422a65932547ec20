"""A sweep on a Dask cluster is the same as here, whatever happens to its workers."""

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

from helpers import is_same_run, make_picture
from nst_helpers import (
    Features,
    StyleTransferLoss,
    alpha_beta_sweep,
    cluster,
    optimize,
    sweep,
    sweeps,
)
from nst_helpers._job import Case, Job

RATIOS = (1e-3, 1.0, 30.0)


@pytest.fixture(scope="module")
def distributed():
    return pytest.importorskip("distributed", reason="Dask is not installed")


@pytest.fixture(scope="module")
def client(distributed):
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as local_cluster,
        distributed.Client(local_cluster) as client,
    ):
        yield client


def kill_a_busy_worker(client, killed):
    """Kill a worker that is in the midst of a run, while the other one is, too."""
    for _ in range(1000):
        busy = client.run(
            lambda dask_worker: (
                os.getpid(),
                [t.key for t in dask_worker.state.executing if "_run_on_worker" in t.key],
            )
        )
        if all(keys for _, keys in busy.values()):
            break
        time.sleep(0.02)
    pid, _ = busy[min(busy)]
    psutil.Process(pid).kill()  # not waited for: its nanny does that
    killed.append(pid)


def test_results_are_the_same_though_a_worker_is_killed_midway(net, content, style, client, capsys):
    contents, calls, killed = [content, make_picture(48, 48, seed=3)], [], []
    grid = (net, contents, [style], (1e-2, 10.0), (0, 1))
    # With as many threads as a worker has: sums are added up in the same order then.
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, pytest.importorskip("dask.system").CPU_COUNT // 2))
    here = sweep(*grid, steps=60)
    torch.set_num_threads(threads)
    client.run(importlib.import_module, "nst_helpers")  # or one has done all before the other can
    killer = threading.Thread(target=kill_a_busy_worker, args=(client, killed), daemon=True)
    killer.start()
    points = sweep(
        *grid, steps=60, client=client, callback=lambda run, p: calls.append((run, p.step, p.terms))
    )
    assert killed and killed[0] not in client.run(os.getpid).values()
    assert [point[:4] for point in points] == [point[:4] for point in here]
    for point, expected in zip(points, here, strict=True):
        assert point.result.stopped == "steps"
        assert is_same_run(point.result, expected.result)
    assert sorted(run for run, _, _ in calls) == list(range(8))
    for run, step, terms in calls:
        assert step == 60
        assert terms.items() <= points[run].result.history[-1].items()
    assert "8/8" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["Ctrl-C", "returns False"])
def test_a_sweep_that_is_ended_returns_what_is_finished(net, content, style, client, how):
    def end(run, progress):
        if how == "Ctrl-C":
            raise KeyboardInterrupt
        return False

    points = sweep(net, [content], [style], RATIOS * 2, steps=3, client=client, callback=end)
    assert len(points) == 1
    assert points[0].result.stopped == "steps"
    for _ in range(1000):  # what has not begun is cancelled
        if not any(client.processing().values()):
            return
        time.sleep(0.01)
    pytest.fail("the cluster goes on")


def test_a_warning_names_the_ratios_that_are_finished(net, content, style, monkeypatch):
    result = optimize(StyleTransferLoss(net, content, style), content, steps=1)

    def finish_two(client, job, cases, callback, outcomes):
        outcomes += [([cases[2]], result), ([cases[0]], result)]

    monkeypatch.setattr(sweeps, "validate_client", lambda client: None)
    monkeypatch.setattr(sweeps, "run_on_cluster", finish_two)
    with pytest.warns(UserWarning, match=r"of the ratios \[0.001, 30.0\]"):
        assert len(alpha_beta_sweep(net, content, style, RATIOS, client="any")) == 2


def test_a_run_that_fails_costs_only_itself(net, content, style, client):
    contents, options = [content[..., :4, :4], content], {"steps": 2, "convention": "paper"}
    with pytest.warns(UserWarning) as warned:
        points = sweep(net, contents, [style], [1.0, 3e38], client=client, **options)
    assert [p.result.stopped for p in points] == ["no progress"] * 2 + ["steps", "not finite"]
    assert "too small" in points[0].result.problem
    assert "not finite" in points[3].result.problem
    assert len(warned) == 3


def test_an_error_of_every_run_is_raised(net, content, style, client):
    with pytest.raises(ValueError, match="optimizer must be"):
        alpha_beta_sweep(net, content, style, client=client, optimizer="sgd")


@pytest.mark.parametrize(("cores", "tasks", "threads"), [(16, 4, 4), (16, 1, 16), (2, 3, 1)])
def test_a_task_has_its_share_of_the_cores_as_threads(
    net, content, style, monkeypatch, distributed, cores, tasks, threads
):
    import dask.system

    worker, thread_counts = SimpleNamespace(address="tcp://10.0.0.7:1234"), []
    monkeypatch.setattr(distributed, "get_worker", lambda: worker)
    monkeypatch.setattr(dask.system, "CPU_COUNT", cores)
    monkeypatch.setattr(torch, "set_num_threads", thread_counts.append)
    job = Job(net, [content], [style], None, {"steps": 1}, {})
    result = cluster._run_on_worker(job, Case(0, 0, 0, 1.0, 0), {"10.0.0.7": tasks})
    assert thread_counts == [threads]
    assert result.continuation is None


def test_a_network_travels_as_it_is(net, content):
    weights = {
        f"{name}.{kind}": getattr(conv, kind)
        for name, conv in net.convolutions.items()
        for kind in ("weight", "bias")
    }
    for network in (net, Features(weights, "max").to_precision("bfloat16")):
        copy = pickle.loads(pickle.dumps(network))
        assert copy.precision == network.precision
        assert torch.equal(
            copy(content, ["relu3_1"])["relu3_1"], network(content, ["relu3_1"])["relu3_1"]
        )


# --- clients that cannot work --------------------------------------------------------------------


def test_an_address_in_place_of_a_client_is_refused(net, content, style, distributed):
    with pytest.raises(ValueError, match=r"client must be .* got 'tcp://10\.0"):
        sweep(net, [content], [style], client="tcp://10.0.0.1:8786")


def test_a_closed_client_is_refused(net, content, style, client, distributed):
    closed = distributed.Client(client.scheduler.address, set_as_default=False)
    closed.close()
    with pytest.raises(ValueError, match=r"client must be connected .* closed"):
        alpha_beta_sweep(net, content, style, client=closed)


def test_a_cluster_without_workers_is_refused(net, content, style, distributed):
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None) as empty,
        distributed.Client(empty, set_as_default=False) as client,
        pytest.raises(ValueError, match="no workers"),
    ):
        alpha_beta_sweep(net, content, style, client=client)


def test_without_dask_the_error_says_what_to_install(net, content, style, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"pip install \"nst_helpers\[cluster\]\""):
        alpha_beta_sweep(net, content, style, client="any")


def test_dask_is_imported_only_where_it_is_used():
    code = (
        "import sys, nst_helpers; sys.exit('dask' in sys.modules or 'distributed' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
