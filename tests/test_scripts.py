"""What is shipped can be made again with scripts/."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

import nst_helpers as nst
from nst_helpers.network.vgg_layers import layer_names
from scripts.network import evaluate, train
from scripts.paintings import PAINTERS

ROOT = Path(__file__).parents[1]


def run(script, *arguments, codes=(0,)):
    """Run a script from the clone; check its exit code and return the process."""
    process = subprocess.run(
        [sys.executable, "-m", f"scripts.{script}", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert process.returncode in codes, process.stderr
    return process


@pytest.mark.parametrize(
    "script",
    [
        "measure.benchmark",
        "measure.gpu",
        "pictures.explorer",
        "pictures.film",
        "pictures.notebooks",
        "pictures.readme",
    ],
)
def test_a_script_that_no_test_runs_begins(script):
    if script in ("pictures.explorer", "pictures.film"):
        pytest.importorskip("playwright", reason="Playwright is not installed")
    assert "usage:" in run(script, "--help").stdout


def test_both_networks_are_drawn_one_above_the_other(tmp_path):
    arguments = ("--network", "bundled", "--size", "32", "--steps", "2", "--output", tmp_path)
    written = run("pictures.networks", *arguments, "--only", "transfer", "textures").stdout
    for name, columns in (("transfer", 2), ("textures", 5)):
        path = tmp_path / f"network_{name}.webp"
        assert str(path) in written
        image = nst.load_image(path)
        rows = image[0].mean(0)
        assert rows.shape[1] > columns * rows.shape[0] / 4  # two rows of pictures with titles


def test_every_painting_and_colour_texture_has_a_painter():
    photographs = {"astronaut", "brick", "chelsea", "coffee", "grass", "gravel"}
    assert set(PAINTERS) == set(nst.sample_images()) - photographs


@pytest.mark.parametrize("name", PAINTERS)
def test_painter_is_deterministic_and_seeds_differ(name):
    state = np.random.get_state()[1].copy()
    first, again, other = (
        np.asarray(PAINTERS[name](seed=seed, size=(176, 160)), dtype=int) for seed in (1, 1, 2)
    )
    assert first.shape == (160, 176, 3)
    assert (first == again).all()
    assert np.abs(first - other).mean() > 5
    assert first.std() > 15  # it is a picture
    assert (np.random.get_state()[1] == state).all()


def test_shipped_painting_is_what_the_script_paints(tmp_path):
    run("paintings", "wave", "--folder", tmp_path)
    painted, shipped = (
        np.asarray(Image.open(folder / "wave.jpg"), dtype=float)
        for folder in (tmp_path, ROOT / "images")
    )
    # Not bit for bit: another version of Pillow may resize or compress a little differently.
    assert np.abs(painted - shipped).mean() < 2


def test_unknown_painting_is_refused():
    message = run("paintings", "guernica", codes=[2]).stderr
    assert "guernica" in message
    assert "night_sky" in message


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for i in range(100):
        pixels = np.kron(rng.integers(0, 256, (12, 14, 3)), np.ones((10, 10, 1)))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.jpg")
    return folder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """The whole VGG-19's layers, with eight random filters each."""
    path, weights, channels = tmp_path_factory.mktemp("teacher") / "teacher.safetensors", {}, 3
    generator = torch.Generator().manual_seed(0)
    for name in layer_names():
        he = (2 / (9 * channels)) ** 0.5
        weights[f"{name}.weight"] = torch.randn(8, channels, 3, 3, generator=generator) * he
        weights[f"{name}.bias"] = torch.rand(8, generator=generator) / 10
        channels = 8
    safetensors.torch.save_file(weights, path)
    return path


def test_training_makes_a_network_that_loads_and_resumes(photos, teacher, tmp_path):
    output = tmp_path / "network" / "small.safetensors"
    options = ["--photos", photos, "--teacher", teacher, "--start", teacher, "--output", output]
    options += ["--widths", 8, 8, 8, 6, 6, "--samples", 16, "--drawings", 0, "--minutes"]
    for more in ([0.05], [0.1, "--resume"]):
        run("network.train", *options, *more)
    further = ["--further", output, "--output", tmp_path / "further.safetensors"]
    run("network.train", *options, 0.05, "--batch", 0.5, "--workers", 1, *further)
    assert nst.load_network(further[-1]).layers == nst.load_network(output).layers
    net = nst.load_network(output)
    _, metadata = nst.load_weights(output)
    assert net.content_scale == 1
    assert metadata["widths"].endswith("6-6")
    maps = net(torch.rand(1, 3, 32, 32), ["relu5_1"])["relu5_1"]
    assert maps.shape[1:] == (6, 2, 2)


def test_training_says_what_is_wrong_with_its_photographs(tmp_path):
    message = run("network.train", "--photos", tmp_path, "--teacher", "vgg19", codes=[1]).stderr
    assert "0 pictures" in message


@pytest.mark.parametrize("option", [("--batch", 0), ("--batch", "nan"), ("--workers", -1)])
def test_training_names_a_senseless_number(tmp_path, option):
    options = ["--photos", tmp_path, "--teacher", "vgg19", *option]
    message = run("network.train", *options, codes=[2]).stderr
    assert f"not {option[1]}" in message


def test_regression_finds_a_rectified_layer():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(4000, 12, generator=generator)
    weight, bias = torch.randn(12, 5, generator=generator), torch.randn(5, generator=generator)
    wanted = inputs @ weight + bias
    # Wrong where the teacher is silent: only the rectified values are to be met.
    disturbed = torch.where(wanted > 0, wanted, 10 * wanted)
    plain, _ = train.regression(inputs, disturbed, 400, ridge=1e-6, rounds=1)
    found, level = train.regression(inputs, disturbed, 400, ridge=1e-6, rounds=200)
    assert (found - weight).norm() < 0.1 * (plain - weight).norm()
    torch.testing.assert_close((inputs @ found + level).relu(), wanted.relu(), atol=0.05, rtol=0)


def test_a_students_filters_are_matched_with_those_they_are_most_like(teacher):
    weights, _ = nst.load_weights(teacher)
    order = torch.tensor([5, 2, 7, 0, 3])
    for key in ("weight", "bias"):
        weights[f"conv4_2.{key}"] = 3 * weights[f"conv4_2.{key}"][order]
    until_there = {key: value for key, value in weights.items() if key < "conv4_3"}
    student, whole = nst.Features(until_there), nst.load_network(teacher, normalise=False)
    samples = [torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(i)) for i in (0, 1)]
    likest = train.likest_filters(student, whole, samples, ["relu4_2"])
    assert likest == {"relu4_2": order.tolist()}


def test_chosen_filters_predict_the_others():
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(500, 3, generator=generator)
    filters = torch.cat([basis @ torch.randn(3, 7, generator=generator), basis], 1)
    filters[:, 4] *= 0.01
    chosen = train.choose_filters(torch.cov(filters.T), 3)
    fit = torch.linalg.lstsq(filters[:, chosen], filters).solution
    torch.testing.assert_close(filters[:, chosen] @ fit, filters, atol=1e-3, rtol=0)


def test_evaluation_prints_a_table_and_draws_contact_sheets(teacher, tmp_path):
    options = ["--teacher", teacher, "--size", 32, "--steps", 2, "--textures", "brick"]
    options += ["--shapes", "48x20", "--pairs", "coffee+wave", "--output", tmp_path]
    table = run("network.evaluate", "bundled", *options).stdout
    results = json.loads((tmp_path / "evaluation.json").read_text())
    assert list(results) == ["bundled", "teacher"]  # the yardstick
    small, real = results["bundled"], results["teacher"]
    assert len(small["transfer 0.01"]) == 5
    for row in ("texture brick, grain", "transfer 0.01, likeness", "borders 48x20 coffee+wave"):
        cells = [", ".join(f"{v:.2g}" for v in numbers[row]) for numbers in (small, real)]
        assert f"| {row} | {' | '.join(cells)} |" in table
    assert small["speed"][0] > 1
    sheet = Image.open(tmp_path / "squares.png")
    assert sheet.width >= 8 * 36  # a texture, four transfers, three reconstructions
    assert sheet.height == 2 * (32 + 22)  # one network above the other
    assert (tmp_path / "borders.png").is_file()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--textures", "brick", "nowhere.jpg"], "nowhere.jpg"),
        (["--pairs", "coffee"], "coffee"),
        (["--shapes", "768"], "768"),
        (["--content", "nobody.png"], "nobody.png"),
        (["--steps", "0"], "0"),
    ],
)
def test_evaluation_refuses_before_the_work(teacher, tmp_path, options, named):
    arguments = ["--teacher", teacher, "--output", tmp_path, *options]
    assert named in run("network.evaluate", *arguments, codes=[2]).stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_evaluation_measures_what_it_says(teacher):
    noise = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    # White noise has equal power everywhere; the square is 1 wide, the circle's radius is 1/4.
    assert evaluate.fine_grain(noise) == pytest.approx(1 - np.pi / 16, abs=0.02)
    smooth = (torch.linspace(0, 2 * np.pi, 128).sin() / 2 + 0.5).expand(1, 3, 128, 128)
    assert evaluate.fine_grain(smooth) < 1e-3
    assert evaluate.likeness(smooth, smooth) == pytest.approx(1)
    assert evaluate.likeness(smooth, 1 - smooth) == pytest.approx(-1)
    framed = noise.clone()
    framed[:, :, 8:-8, 8:-8] = 0.5 + (framed[:, :, 8:-8, 8:-8] - 0.5) / 4
    assert evaluate.border_ratios(noise) == pytest.approx([1, 1], abs=0.05)
    assert evaluate.border_ratios(framed) == pytest.approx([4, 4], rel=0.05)
    judge = nst.load_network(teacher, normalise=False)
    assert evaluate.gram_errors(judge, smooth, smooth) == [0] * 5
    # ||G - A||^2 / ||A||^2 by a loop over filters and positions.
    maps = [judge(i, ["relu2_1"])["relu2_1"][0].flatten(1).numpy() for i in (noise, smooth)]
    grams = []
    for f in maps:
        gram = np.array([[sum(a * b for a, b in zip(i, j, strict=True)) for j in f] for i in f])
        grams.append(gram / f.shape[1])
    expected = ((grams[0] - grams[1]) ** 2).sum() / (grams[1] ** 2).sum()
    assert evaluate.gram_errors(judge, noise, smooth)[1] == pytest.approx(expected, rel=1e-3)
    # The same of one layer, over its variance.
    x, y = (judge(i, ["relu3_2"])["relu3_2"].numpy()[0] for i in (noise, smooth))
    expected = ((x - y) ** 2).mean((1, 2)).sum() / y.var((1, 2)).sum()
    found = evaluate.feature_error(judge, noise, smooth, "relu3_2")
    assert found == pytest.approx(expected, rel=1e-3)


def write_notebook(path, *cells):
    """A notebook of Markdown (what begins with #) and code."""
    notebook = nbformat.v4.new_notebook()
    for source in cells:
        kind = "markdown" if source.startswith("#") else "code"
        notebook.cells.append(getattr(nbformat.v4, f"new_{kind}_cell")(source))
    nbformat.write(notebook, path)
    return path


def test_run_notebooks_names_a_missing_notebook():
    assert "nowhere.ipynb" in run("run_notebooks", "nowhere.ipynb", codes=[2]).stderr


def test_run_notebooks_notices_an_unusable_output_folder_before_the_work(tmp_path):
    notebook = write_notebook(tmp_path / "slow.ipynb", "import time; time.sleep(1000)")
    (tmp_path / "file").write_text("in the way")
    message = run("run_notebooks", notebook, "--output", tmp_path / "file", codes=[1]).stderr
    assert "cannot write" in message


def test_run_notebooks_keeps_what_a_failing_notebook_did(tmp_path):
    notebook = write_notebook(tmp_path / "broken.ipynb", "# Broken", "print('fine')", "1 / 0")
    message = run("run_notebooks", notebook, "--output", tmp_path / "out", codes=[1]).stderr
    assert "ZeroDivisionError" in message
    executed = nbformat.read(tmp_path / "out" / "broken.ipynb", as_version=4)
    assert executed.cells[1].outputs[0].text == "fine\n"


def test_run_notebooks_keeps_outputs_only_if_asked(tmp_path):
    notebooks = [
        write_notebook(tmp_path / f"{name}.ipynb", f"# About {name}", "print('fine')")
        for name in ("00_first", "01_second")
    ]
    options, before = ["--no-site", "--output", tmp_path / "out"], notebooks[0].read_bytes()
    run("run_notebooks", *notebooks, *options)
    assert notebooks[0].read_bytes() == before
    run("run_notebooks", *notebooks, "--inplace", *options)
    for notebook in notebooks:
        cell = nbformat.read(notebook, as_version=4).cells[1]
        assert cell.outputs[0].text == "fine\n"
        assert cell.execution_count == 1
        assert not cell.metadata


def test_a_stored_widget_is_its_text_without_a_view(tmp_path):
    notebook = write_notebook(
        tmp_path / "widgets.ipynb", "# Widgets", "import ipywidgets; ipywidgets.IntSlider(3)"
    )
    run("run_notebooks", notebook, "--inplace", "--no-site", "--output", tmp_path / "out")
    for path in (notebook, tmp_path / "out" / notebook.name):
        stored = nbformat.read(path, as_version=4)
        assert set(stored.cells[1].outputs[0].data) == {"text/plain"}
        assert "widgets" not in stored.metadata


def test_soak_measures_in_a_real_kernel():
    options = ["--minutes", 0.05, "--size", 64, "--no-browser"]
    # A few seconds do not tell what grows.
    printed = run("measure.soak", *options, codes=[0, 1]).stdout
    table = dict(re.findall(r"^  (\w+) .*?([\d.]+)$", printed, re.MULTILINE))
    assert 0 < float(table["Start"]) < 60
    assert float(table["pictures"]) > 0
    assert float(table["threads"]) >= 2
    assert re.search(r"soak: 0.05 minutes, \d+ moves, [1-9]\d* steps", printed)
    assert "last message: none" in printed


def test_evaluations_are_counted_to_the_loss_of_the_reference():
    options = ("--size", 32, "--steps", 12, "--pairs", 10, "--exponents", 0.5, 0.1)
    printed = run("measure.evaluations", *options, "--no-seconds").stdout.splitlines()
    assert printed[-2].split() == ["10", "0.5", *["12"] * 5, "12", "1.000", "1.000"]
    others = [word for word in printed[-1].split()[2:7] if word != "never"]
    assert all(1 < int(count) <= 12 for count in others)


def test_painters_are_counted_beside_one_alone():
    options = ("--painters", 2, "--rounds", 1, "--size", 32, "--seconds", 0.5)
    one, two = (line.split() for line in run("measure.painters", *options).stdout.splitlines()[-2:])
    assert (one[0], two[0]) == ("1", "2")
    *rates, in_sum, share = map(float, two[1:])
    assert len(rates) == 2
    assert in_sum == pytest.approx(sum(rates), abs=0.11)
    assert share == pytest.approx(in_sum / float(one[-2]), rel=0.1)
