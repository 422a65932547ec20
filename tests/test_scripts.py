"""What is shipped can be made again with scripts/."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

import nst_helpers as nst

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "scripts"


def run(script, *arguments, **environment):
    words = [sys.executable, str(SCRIPTS / script), *map(str, arguments)]
    env = {**os.environ, **environment}
    return subprocess.run(words, capture_output=True, text=True, env=env, timeout=300)


def import_script(name):
    sys.path.insert(0, str(SCRIPTS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="module")
def painters():
    return import_script("draw_images").PAINTERS


@pytest.mark.parametrize(
    "name",
    ["bojagi", "ink_wash", "knit", "leaves", "mosaic", "night_sky", "pebbles", "stained_glass"]
    + ["wave"],
)
def test_painter_is_deterministic_and_seeds_differ(painters, name):
    state = np.random.get_state()[1].copy()
    first, again, other = (
        np.asarray(painters[name](seed=seed, size=(176, 160)), dtype=int) for seed in (1, 1, 2)
    )
    assert first.shape == (160, 176, 3)
    assert (first == again).all()
    assert np.abs(first - other).mean() > 5
    assert first.std() > 15  # it is a picture
    assert (np.random.get_state()[1] == state).all()


def test_shipped_painting_is_what_the_script_paints(tmp_path):
    done = run("draw_images.py", "wave", "--folder", tmp_path)
    assert done.returncode == 0, done.stderr
    painted, shipped = (
        np.asarray(Image.open(folder / "wave.jpg"), dtype=float)
        for folder in (tmp_path, ROOT / "images")
    )
    # Not bit for bit: another version of Pillow may resize or compress a little differently.
    assert np.abs(painted - shipped).mean() < 2


def test_unknown_painting_is_refused():
    done = run("draw_images.py", "guernica")
    assert done.returncode == 2
    assert "guernica" in done.stderr
    assert "night_sky" in done.stderr


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for i in range(100):
        pixels = np.kron(rng.integers(0, 256, (12, 14, 3)), np.ones((10, 10, 1)))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.jpg")
    return folder


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    path, weights, channels = tmp_path_factory.mktemp("teacher") / "teacher.safetensors", {}, 3
    generator = torch.Generator().manual_seed(0)
    for name in ["conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1"]:
        weights[f"{name}.weight"] = torch.randn(8, channels, 3, 3, generator=generator) / 5
        weights[f"{name}.bias"] = torch.zeros(8)
        channels = 8
    safetensors.torch.save_file(weights, path)
    return path


def test_training_makes_a_network_that_loads_and_resumes(photos, teacher, tmp_path):
    output = tmp_path / "network" / "small.safetensors"
    options = ["--photos", photos, "--teacher", teacher, "--output", output, "--crop", 32]
    options += ["--batch", 4, "--groups", 2, "--widths", 4, 6, 8, 8, 8, "--minutes"]
    for more in ([0.1], [0.15, "--resume"]):
        done = run("train_bundled_network.py", *options, *more, OMP_NUM_THREADS="1")
        assert done.returncode == 0, done.stderr
    net = nst.load_network(output)
    maps = net(torch.rand(1, 3, 32, 32), ["relu5_1"])["relu5_1"]
    assert maps.shape[1] == 8
    assert maps.shape[2:] == (2, 2)


def test_training_says_what_is_wrong_with_its_photographs(tmp_path):
    done = run("train_bundled_network.py", "--photos", tmp_path, "--teacher", "vgg19")
    assert done.returncode != 0
    assert "0 pictures" in done.stderr


@pytest.fixture(scope="module")
def evaluation():
    return import_script("evaluate_network")


def test_evaluation_prints_a_table_and_draws_contact_sheets(photos, teacher, tmp_path):
    options = ["--teacher", teacher, "--photos", photos, "--size", 32, "--steps", 2]
    options += ["--textures", "brick", "--transfers", "coffee+wave", "--output", tmp_path]
    done = run("evaluate_network.py", "bundled", *options, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "evaluation.json").read_text())
    assert list(results) == ["bundled", "teacher"]  # the yardstick
    small, real = results["bundled"], results["teacher"]
    assert real["prediction relu1_2"] < 1e-3  # itself; further on, pooling differs
    assert 0.01 < small["prediction relu1_2"] < 1
    for row in ("texture brick relu2_1", "transfer coffee+wave relu1_1", "sweep 0.1 likeness"):
        assert row in small
        assert f"| {row} | {small[row]:.2g} | {real[row]:.2g} |" in done.stdout
    assert "likeness relu5_2" in small
    assert "likeness relu5_2" not in real  # it has no such layer
    for name in results:
        sheet = Image.open(tmp_path / f"{name}.png")
        assert sheet.width >= 4 * (nst.load_image("chelsea", 32).shape[3] + 8)  # the sweep


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--textures", "brick", "nowhere.jpg"], "nowhere.jpg"),
        (["--transfers", "coffee"], "coffee"),
        (["--sweep", "coffee+wave+brick"], "coffee+wave+brick"),
        (["--content", "nobody.png"], "nobody.png"),
        (["--steps", "0"], "0"),
    ],
)
def test_evaluation_refuses_before_the_work(teacher, tmp_path, options, named):
    done = run("evaluate_network.py", "--teacher", teacher, "--output", tmp_path, *options)
    assert done.returncode == 2
    assert named in done.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_evaluation_measures_what_it_says(evaluation, teacher):
    noise = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    # White noise has equal power everywhere; the square is 1 wide, the circle's radius is 1/4.
    assert evaluation.fine_grain(noise) == pytest.approx(1 - np.pi / 16, abs=0.02)
    smooth = torch.linspace(0, 2 * np.pi, 128).sin().expand(1, 3, 128, 128)
    assert evaluation.fine_grain(smooth) < 1e-3
    assert evaluation.likeness(smooth, smooth) == pytest.approx(1)
    assert evaluation.likeness(smooth, 1 - smooth) == pytest.approx(-1)
    judge = evaluation.Judge(str(teacher))
    assert judge.gram_errors(smooth, smooth) == [0, 0, 0]
    # ||G - A||^2 / ||A||^2 by a loop over filters and positions.
    maps = [judge.net(i, ["relu2_1"])["relu2_1"][0].flatten(1).numpy() for i in (noise, smooth)]
    grams = []
    for f in maps:
        gram = np.array([[sum(a * b for a, b in zip(i, j, strict=True)) for j in f] for i in f])
        grams.append(gram / f.shape[1])
    expected = ((grams[0] - grams[1]) ** 2).sum() / (grams[1] ** 2).sum()
    assert judge.gram_errors(noise, smooth)[1] == pytest.approx(expected, rel=1e-3)


def test_run_notebook_names_a_missing_notebook():
    done = run("run_notebook.py", "nowhere.ipynb")
    assert done.returncode == 2
    assert "nowhere.ipynb" in done.stderr


def test_run_notebook_notices_an_unusable_output_folder_before_the_work(tmp_path):
    (tmp_path / "file").write_text("in the way")
    done = run(
        "run_notebook.py",
        ROOT / "notebooks" / "04_style_transfer.ipynb",
        "--output",
        tmp_path / "file",
    )
    assert done.returncode == 1
    assert "cannot write" in done.stderr
    assert "cell" not in done.stdout


def test_run_notebook_keeps_the_pages_of_a_failing_notebook(tmp_path):
    import nbformat

    pages = nbformat.v4.new_notebook()
    pages.cells = [nbformat.v4.new_code_cell(s) for s in ("print('fine')", "1 / 0")]
    nbformat.write(pages, tmp_path / "broken.ipynb")
    done = run("run_notebook.py", tmp_path / "broken.ipynb", "--output", tmp_path / "out")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert "fine" in (tmp_path / "out" / "broken.html").read_text(encoding="utf-8")


def test_run_notebook_runs_several_lists_them_and_keeps_outputs_only_if_asked(tmp_path):
    import nbformat

    for name in ("00_first", "01_second"):
        pages = nbformat.v4.new_notebook()
        pages.cells = [
            nbformat.v4.new_markdown_cell(
                f"# About {name} & more\n\n**The question:** what is *this*?\n\n"
                "[Next](01_second.ipynb) $w_l^2$\n\n$$L = \\frac{1}{N}$$"
            ),
            nbformat.v4.new_code_cell("print('fine')  # $5 and $6"),
        ]
        nbformat.write(pages, tmp_path / f"{name}.ipynb")
    notebooks, out = sorted(tmp_path.glob("*.ipynb")), tmp_path / "out"
    before = notebooks[0].read_text(encoding="utf-8")
    assert run("run_notebook.py", *notebooks, "--output", out).returncode == 0
    assert notebooks[0].read_text(encoding="utf-8") == before
    index = (out / "index.html").read_text(encoding="utf-8")
    assert '<a href="01_second.html">' in index
    assert "<h2>01 About 01_second &amp; more</h2>" in index
    assert "what is <em>this</em>?" in index
    page = (out / "00_first.html").read_text(encoding="utf-8")
    assert "<title>About 00_first &amp; more</title>" in page
    assert 'href="01_second.html"' in page
    assert "$" not in re.sub(r"(?s)<(script|style).*?</\1>", "", page).replace("$5 and $6", "")
    assert "<msubsup>" in page
    assert "<mfrac>" in page
    assert "$w_l^2$" in (out / "00_first.ipynb").read_text(encoding="utf-8")
    assert run("run_notebook.py", *notebooks, "--inplace", "--output", out).returncode == 0
    for notebook in notebooks:
        cell = nbformat.read(notebook, as_version=4).cells[1]
        assert cell.outputs[0].text == "fine\n"
        assert cell.execution_count == 1
        assert not cell.metadata


def test_a_widget_leaves_its_text_and_no_dead_view(tmp_path):
    import nbformat

    pages = nbformat.v4.new_notebook()
    source = "import ipywidgets; ipywidgets.IntSlider(3)"
    pages.cells = [
        nbformat.v4.new_markdown_cell("# Widgets\n\n**The question:** what *is* left?"),
        nbformat.v4.new_code_cell(source),
    ]
    notebook, out = tmp_path / "widgets.ipynb", tmp_path / "out"
    nbformat.write(pages, notebook)
    done = run("run_notebook.py", notebook, "--inplace", "--output", out)
    assert done.returncode == 0, done.stderr
    for path in (notebook, out / notebook.name):
        kept = nbformat.read(path, as_version=4)
        assert set(kept.cells[1].outputs[0].data) == {"text/plain"}
        assert "widgets" not in kept.metadata
    assert "what <em>is</em> left?" in (out / "index.html").read_text(encoding="utf-8")


def test_soak_measures_in_a_real_kernel():
    done = run("soak.py", "--minutes", 0.05, "--size", 48, "--no-browser")
    assert done.returncode in (0, 1), done.stderr  # a few seconds do not tell what grows
    table = dict(re.findall(r"^  (\w+) .*?([\d.]+)$", done.stdout, re.MULTILINE))
    assert 0 < float(table["Start"]) < 60
    assert float(table["pictures"]) > 0
    assert float(table["threads"]) >= 2
    assert re.search(r"soak: 0.05 minutes, \d+ moves, [1-9]\d* steps", done.stdout)
    assert "last message: none" in done.stdout
