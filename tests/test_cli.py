"""The command line: what it writes, what it says, and its exit codes."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import nst_helpers as nst
from helpers import make_picture, make_weights
from nst_helpers import __main__ as cli
from nst_helpers.__main__ import main

REPOSITORY = Path(__file__).resolve().parents[1]
QUICK = ["--size", "48", "--steps", "3", "--network", "bundled", "--device", "cpu", "--quiet"]
INPUTS = {
    "transfer": ["chelsea", "night_sky"],
    "reconstruct": ["chelsea"],
    "texture": ["pebbles"],
    "sweep": ["chelsea", "night_sky"],
}
EVERY = pytest.mark.parametrize("command", INPUTS)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """Options with a network of a few filters, for what does not depend on the network."""
    path = tmp_path_factory.mktemp("network") / "small.pth"
    torch.save(make_weights((2, 2, 2, 2, 2)), path)
    return [*QUICK[:4], "--network", str(path), *QUICK[6:]]


def run(command, output, *options):
    return main([command, *INPUTS[command], "-o", str(output), *options])


def files():
    return {str(p): p.read_bytes() for p in Path().rglob("*") if p.is_file()}


def check_failure(capsys, arguments, *words):
    """Exit code 1, one line on stderr with the command and the words; nothing written."""
    before = files()
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert err.startswith(f"{arguments[0]}: ")
    assert err.count("\n") == 1, err
    for word in words:
        assert word in err
    assert "wrote" not in out
    assert files() == before


def holds(path, image):
    """Whether a file is an image, but for rounding to 8 bits."""
    return (nst.load_image(path) - image).abs().max() <= 0.5 / 255 + 1e-6


# --- it works ------------------------------------------------------------------------------------


@EVERY
def test_every_command_writes_its_picture(command, capsys):
    assert run(command, "out.png", *QUICK) == 0
    out, err = capsys.readouterr()
    assert re.search(r"wrote out.png: 3 steps, \d+\.\d s, done\n", out)
    assert err == ""
    with Image.open("out.png") as picture:
        picture.load()
        assert picture.mode == "RGB"
        if command != "sweep":
            content = nst.load_image(INPUTS[command][0], 48)
            assert picture.size == (content.shape[3], content.shape[2])
    ratios = ("0.0001", "0.001", "0.01", "0.1") if command == "sweep" else ()
    assert sorted(files()) == sorted(["out.png", *(f"out_{ratio}.png" for ratio in ratios)])


def make_by_hand(small, command, *, style_size=48, network=None, optimizer=None, **loss_options):
    """What a command makes from noise of seed 3, by the functions of the package."""
    net = nst.load_network(small[5], device="cpu", **(network or {}))
    names = INPUTS[command]
    loss = nst.StyleTransferLoss(
        net,
        content=None if command == "texture" else nst.load_image(names[0], 48),
        style=None if command == "reconstruct" else nst.load_image(names[-1], style_size),
        **loss_options,
    )
    start = nst.noise_like(nst.load_image(names[0], 48), seed=3)
    return nst.optimize(loss, start, steps=3, **(optimizer or {})).image


ALL_OPTIONS = (
    "--alpha 0.2 --beta 3 --tv 0.7 --convention paper --content-layers relu2_2 relu3_1 "
    "--style-layers relu1_1 --style-size 40 --optimizer adam --lr 0.05 --pooling max "
    "--input-format bgr"
)
ALL_BY_HAND = {
    "alpha": 0.2,
    "beta": 3,
    "tv_weight": 0.7,
    "convention": "paper",
    "content_layers": ["relu2_2", "relu3_1"],
    "style_layers": ["relu1_1"],
    "style_size": 40,
    "optimizer": {"optimizer": "adam", "lr": 0.05},
    "network": {"pooling": "max", "input_format": "bgr"},
}
TEXTURE = {"alpha": 0.0, "style_layers": ["relu1_1"]}


@pytest.mark.parametrize(
    ("command", "options", "by_hand"),
    [
        ("transfer", "", {"alpha": 1e-3}),
        ("reconstruct", "", {"alpha": 1.0}),
        ("texture", "", {}),
        ("sweep", "--ratios 0.5", {"alpha": 0.5}),
        ("transfer", ALL_OPTIONS, ALL_BY_HAND),
        ("transfer", "--alpha 0 --style-layers relu1_1", TEXTURE),
        (
            "transfer",
            "--alpha 0 --style-layers relu1_1 --style-size 20",
            {**TEXTURE, "style_size": 20},
        ),
        ("reconstruct", "--layer relu1_1 relu3_1", {"content_layers": ["relu1_1", "relu3_1"]}),
    ],
)
def test_a_command_is_the_same_as_the_package(command, options, by_hand, small):
    assert run(command, "out.png", "--seed", "3", "--init", "noise", *options.split(), *small) == 0
    image = make_by_hand(small, command, **{"alpha": 1.0, **by_hand})
    assert holds("out_0.5.png" if command == "sweep" else "out.png", image)


def test_the_size_of_the_style_matters(small):
    images = [make_by_hand(small, "transfer", **TEXTURE, style_size=size) for size in (20, 48)]
    assert (images[0] - images[1]).abs().max() > 1.5 / 255


@pytest.mark.parametrize(
    ("command", "options", "output"),
    [
        ("transfer", ["--init", "noise"], "out.png"),
        ("reconstruct", ["--init", "noise"], "out.png"),
        ("texture", ["--init", "noise"], "out.png"),
        ("sweep", ["--init", "noise"], "out_0.01.png"),
        ("transfer", [], "out.png"),  # starts from the content unless told otherwise
    ],
)
def test_a_tiny_learning_rate_leaves_the_start_as_it_is(command, options, output, small):
    assert run(command, "out.png", "--optimizer", "adam", "--lr", "1e-7", *options, *small) == 0
    content = nst.load_image(INPUTS[command][0], 48)
    assert holds(output, nst.noise_like(content, seed=0) if options else content)


def test_pictures_are_read_and_written_in_any_mode_and_folder(small):
    Image.new("LA", (70, 60), (90, 128)).save("photo.png")
    nst.save_image(make_picture(80, 50), "painting.webp")
    assert main(["transfer", "photo.png", "painting.webp", "-o", "new/folder/out.jpg", *small]) == 0
    with Image.open("new/folder/out.jpg") as picture:
        assert (picture.format, picture.size) == ("JPEG", (56, 48))


def test_a_sweep_shows_content_style_and_every_ratio_in_one_figure(small, capsys):
    assert run("sweep", "all.png", "--ratios", "1e-3", "10", *small) == 0
    assert sorted(files()) == ["all.png", "all_0.001.png", "all_10.png"]
    assert "all_0.001.png, all_10.png" in capsys.readouterr().out
    single, sheet = nst.load_image("all_10.png"), nst.load_image("all.png")
    assert single.shape[2] == 48
    assert sheet.shape[2] > 2 * single.shape[2]


def test_a_bar_is_shown_on_stderr_unless_quiet(small, capsys):
    assert run("texture", "out.png", *small[:-1]) == 0
    out, err = capsys.readouterr()
    assert "3/3" in err
    assert "loss" in err
    assert "3/3" not in out


def test_the_module_runs_as_a_program(here):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    program = subprocess.run(
        [sys.executable, "-m", "nst_helpers", "texture", "pebbles", "-o", "out.png", *QUICK],
        cwd=here,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (program.returncode, program.stderr) == (0, "")
    assert "wrote out.png" in program.stdout
    assert list(files()) == ["out.png"]


def test_the_program_exits_with_the_code_of_main(monkeypatch, capsys):
    arguments = ["nst_helpers", "texture", "nothing", "-o", "out.png", *QUICK]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.delitem(sys.modules, "nst_helpers.__main__")
    with pytest.raises(SystemExit) as exit_info:
        runpy.run_module("nst_helpers", run_name="__main__")
    assert exit_info.value.code == 1
    assert re.fullmatch("texture: .*nothing.*\n", capsys.readouterr().err)
    assert files() == {}


# --- mistyped: 2 ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "paint",
        "transfer",
        "transfer chelsea -o out.png",
        "transfer chelsea night_sky",
        "texture pebbles -o out.png --size big",
        "texture pebbles -o out.png --init content",
        "texture pebbles -o out.png --optimizer sgd",
        "texture pebbles -o out.png --nonsense",
        "sweep chelsea night_sky -o out.png --ratios",
        "reconstruct chelsea -o out.png --alpha 1",
    ],
)
def test_a_mistyped_command_is_2(arguments, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(arguments.split())
    assert exit_info.value.code == 2
    assert "usage: python -m nst_helpers" in capsys.readouterr().err
    assert files() == {}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], [*INPUTS, *nst.sample_images(), "exit codes"]),
        *(([command, "--help"], ["--size"]) for command in INPUTS),
        (["--version"], [nst.__version__]),
    ],
    ids=lambda value: " ".join(value[:2]),
)
def test_help_and_version_are_0(arguments, words, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    assert exit_info.value.code == 0
    out = capsys.readouterr().out
    assert all(word in out for word in words)


def test_the_examples_of_the_help_are_commands_that_parse():
    lines = re.findall(r"python -m nst_helpers (.+)", cli.EXAMPLES)
    assert len(lines) >= 4
    for line in lines:
        assert cli._parser().parse_args(line.split()).command in INPUTS


# --- something is wrong: 1 -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("transfer nowhere.jpg night_sky", ["nowhere.jpg", "chelsea"]),
        ("transfer chelsea nowhere.jpg", ["nowhere.jpg", "chelsea"]),
        ("reconstruct nowhere.jpg", ["nowhere.jpg", "chelsea"]),
        ("texture nowhere.jpg", ["nowhere.jpg", "chelsea"]),
        ("sweep nowhere.jpg night_sky", ["nowhere.jpg", "chelsea"]),
        ("sweep chelsea nowhere.jpg", ["nowhere.jpg", "chelsea"]),
        ("texture letter.jpg", ["letter.jpg"]),
        ("texture pebbles --network empty.pth", ["empty.pth"]),
        ("texture pebbles --network letter.pth", ["letter.pth"]),
        ("texture pebbles --network pickle.pth", ["pickle.pth"]),
        ("sweep chelsea night_sky --ratios 1e-3 -1", ["-1"]),
        ("sweep chelsea night_sky --ratios 1e-3 nan", ["nan"]),
        ("transfer chelsea night_sky --size 0", ["size", "0"]),
        ("transfer chelsea night_sky --size -5", ["size", "-5"]),
        ("transfer chelsea night_sky --size 8", ["too small", "relu5_1"]),
        ("transfer chelsea night_sky --steps 0", ["steps", "0"]),
        ("transfer chelsea night_sky --lr 0", ["lr"]),
        ("transfer chelsea night_sky --lr nan", ["lr"]),
        ("transfer chelsea night_sky --tv -1", ["tv"]),
        ("transfer chelsea night_sky --alpha -1", ["alpha"]),
        ("transfer chelsea night_sky --alpha 0 --beta 0", ["nothing to match"]),
        ("transfer chelsea night_sky --beta inf", ["beta", "inf"]),
        ("transfer chelsea night_sky --style-size 0", ["size", "0"]),
        ("transfer chelsea night_sky --content-layers relu9_9", ["relu9_9", "relu4_2"]),
        ("transfer chelsea night_sky --style-layers conv0", ["conv0", "relu4_2"]),
        ("transfer chelsea night_sky --network nowhere.pth", ["nowhere.pth", "bundled"]),
        ("transfer chelsea night_sky --device nonsense", ["nonsense"]),
        ("transfer chelsea night_sky --device cuda:99", []),
        ("transfer chelsea night_sky --init noise --seed 99999999999999999999999", []),
    ],
)
def test_wrong_input_is_explained_in_one_line(arguments, words, small, capsys):
    Path("letter.jpg").write_text("Dear all")
    for name, content in {"empty": b"", "letter": b"hello", "pickle": b"\x80\x02}q\x00."}.items():
        Path(f"{name}.pth").write_bytes(content)
    command, *names_and_options = arguments.split()
    check_failure(capsys, [command, *small, "-o", "out.png", *names_and_options], *words)


@pytest.mark.parametrize(
    ("command", "output", "word"),
    [
        *((c, "out", "end it in") for c in INPUTS),
        *((c, "out.txt", "end it in") for c in INPUTS),
        *((c, "file/out.png", "file") for c in INPUTS),
        *((c, "folder.png", "folder.png") for c in INPUTS),
        ("sweep", "out.png", "out_0.01.png"),
    ],
)
def test_an_output_that_cannot_be_written_is_found_before_the_work(
    command, output, word, small, capsys, monkeypatch
):
    Path("file").write_text("in the way")
    Path("folder.png").mkdir()
    Path("out_0.01.png").mkdir()
    monkeypatch.setattr(cli, "load_network", lambda *_, **__: pytest.fail("the work has begun"))
    check_failure(capsys, [command, *INPUTS[command], "-o", output, *small], word)


@pytest.mark.parametrize(
    ("command", "error", "words"),
    [
        *((c, ValueError("something is wrong"), ["something is wrong"]) for c in INPUTS),
        ("texture", torch.OutOfMemoryError("CUDA out of memory"), ["memory", "smaller --size"]),
    ],
)
def test_an_error_in_the_work_leaves_an_existing_picture_alone(
    command, error, words, small, capsys, monkeypatch
):
    Path("out.png").write_bytes(b"precious")
    spoil(monkeypatch, error)
    check_failure(capsys, [command, *INPUTS[command], "-o", "out.png", *small], *words)


def spoil(monkeypatch, value, call=None):
    """Multiply the loss by ``value``, or raise it, at one call or at all of them."""
    forward, calls = nst.StyleTransferLoss.forward, []

    def spoiled(self, image):
        calls.append(1)
        if len(calls) != (call or len(calls)):
            return forward(self, image)
        if isinstance(value, BaseException):
            raise value
        terms = forward(self, image)
        return terms._replace(total=terms.total * value)

    monkeypatch.setattr(nst.StyleTransferLoss, "forward", spoiled)


@pytest.mark.parametrize("command", ["transfer", "sweep"])
def test_of_a_loss_that_becomes_non_finite_the_last_good_picture_is_kept(
    command, small, capsys, monkeypatch
):
    spoil(monkeypatch, float("nan"), call=3)  # of a sweep, in the first of four runs
    assert run(command, "out.png", *small) == 1
    out, err = capsys.readouterr()
    assert err.startswith("transfer: " if command == "transfer" else "alpha/beta = 0.0001: ")
    assert "not finite" in err
    assert "wrote out.png" in out
    assert "out.png" in files()


@pytest.mark.parametrize(
    ("stopped", "problem", "code", "words"),
    [
        ("steps", "", 0, "done"),
        ("converged", "", 0, "converged"),
        ("interrupted", "", 130, "interrupted"),
        ("not finite", "the loss is not finite", 1, "not finite"),
        ("no progress", "the loss has not fallen", 1, "no progress"),
    ],
)
def test_how_a_run_ended_is_said_and_is_the_exit_code(
    stopped, problem, code, words, small, capsys, monkeypatch
):
    result = nst.Result(make_picture(8, 8), stopped=stopped, problem=problem)
    monkeypatch.setattr(cli, "optimize", lambda *_, **__: result)
    assert run("texture", "out.png", *small) == code
    out, err = capsys.readouterr()
    assert out == f"wrote out.png: 0 steps, 0.0 s, {words}\n"
    assert err == (f"texture: {problem}\n" if problem else "")


# --- interrupted: 130 ----------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["transfer", "reconstruct", "texture"])
def test_ctrl_c_saves_what_there_is_and_is_130(command, small, capsys, monkeypatch):
    spoil(monkeypatch, KeyboardInterrupt(), call=3)
    assert run(command, "out.png", *small) == 130
    assert "wrote out.png: 2 steps" in capsys.readouterr().out
    assert list(files()) == ["out.png"]


@pytest.mark.parametrize("call", [2, 4, 5])
def test_ctrl_c_in_a_sweep_saves_the_pictures_so_far(call, small, monkeypatch):
    # Three steps a run; 4 is the very first evaluation of the second run.
    spoil(monkeypatch, KeyboardInterrupt(), call)
    assert run("sweep", "out.png", *small) == 130
    assert {"out.png", "out_0.0001.png"} <= files().keys()
    assert ("out_0.001.png" in files()) == (call == 5)


@EVERY
def test_ctrl_c_before_the_first_step_writes_nothing(command, small, capsys, monkeypatch):
    Path("out.png").write_bytes(b"precious")
    spoil(monkeypatch, KeyboardInterrupt(), call=1)
    assert run(command, "out.png", *small) == 130
    assert "interrupted" in capsys.readouterr().err
    assert files() == {"out.png": b"precious"}
