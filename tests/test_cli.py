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


def written():
    return sorted(str(p) for p in Path().rglob("*") if p.is_file())


def check_failed(capsys, code, command, *words, files=()):
    """One line on stderr that names the command and the words; nothing else, nothing written."""
    assert code == 1
    out, err = capsys.readouterr()
    assert err.startswith(f"{command}: ")
    assert err.count("\n") == 1, err
    for word in words:
        assert word in err
    assert "wrote" not in out
    assert written() == sorted(files)


# --- it works ------------------------------------------------------------------------------------


@EVERY
def test_every_command_writes_its_picture(command, capsys):
    assert run(command, "out.png", *QUICK) == 0
    out, err = capsys.readouterr()
    assert "wrote out.png: 3 steps" in out
    assert "done" in out
    assert err == ""
    with Image.open("out.png") as picture:
        picture.load()
        assert picture.mode == "RGB"
        if command != "sweep":
            content = nst.load_image(INPUTS[command][0], 48)
            assert picture.size == (content.shape[3], content.shape[2])
    expected = ["out.png"]
    if command == "sweep":
        expected += [f"out_{ratio}.png" for ratio in ("0.0001", "0.001", "0.01", "0.1")]
    assert written() == sorted(expected)


@EVERY
def test_a_command_is_the_same_as_the_package(command, small):
    options = ["--seed", "3", "--init", "noise", *small]
    if command == "sweep":
        options = ["--ratios", "0.5", *options]
    assert run(command, "out.png", *options) == 0
    net = nst.load_network(small[5], device="cpu")
    pictures = [nst.load_image(name, 48) for name in INPUTS[command]]
    loss = {
        "transfer": lambda: nst.StyleTransferLoss(net, *pictures, alpha=1e-3),
        "reconstruct": lambda: nst.StyleTransferLoss(net, *pictures, alpha=1.0),
        "texture": lambda: nst.StyleTransferLoss(net, style=pictures[0]),
        "sweep": lambda: nst.StyleTransferLoss(net, *pictures, alpha=0.5),
    }[command]()
    result = nst.optimize(loss, nst.noise_like(pictures[0], seed=3), steps=3)
    found = nst.load_image("out_0.5.png" if command == "sweep" else "out.png")
    assert (found - result.image).abs().max() <= 0.5 / 255 + 1e-6


def test_options_reach_the_loss_and_the_optimiser(small):
    options = ["--alpha", "0.2", "--beta", "3", "--tv", "0.7", "--convention", "paper"]
    options += ["--content-layers", "relu2_2", "relu3_1", "--style-layers", "relu1_1"]
    options += ["--style-size", "40", "--optimizer", "adam", "--lr", "0.05", "--init", "noise"]
    options += ["--pooling", "max"]
    assert run("transfer", "out.png", *options, *small) == 0
    net = nst.load_network(small[5], device="cpu", pooling="max")
    content, style = nst.load_image("chelsea", 48), nst.load_image("night_sky", 40)
    loss = nst.StyleTransferLoss(
        net,
        content,
        style,
        alpha=0.2,
        beta=3,
        tv_weight=0.7,
        convention="paper",
        content_layers=["relu2_2", "relu3_1"],
        style_layers=["relu1_1"],
    )
    start = nst.noise_like(content, seed=0)
    result = nst.optimize(loss, start, steps=3, optimizer="adam", lr=0.05)
    assert (nst.load_image("out.png") - result.image).abs().max() <= 0.5 / 255 + 1e-6


def test_the_style_picture_has_a_size_of_its_own(small):
    options = ["--alpha", "0", "--style-layers", "relu1_1", "--init", "noise", *small]
    assert run("transfer", "out.png", "--style-size", "20", *options) == 0
    net = nst.load_network(small[5], device="cpu")
    style = nst.load_image("night_sky", 20)
    loss = nst.StyleTransferLoss(net, style=style, style_layers=["relu1_1"])
    result = nst.optimize(loss, nst.noise_like(nst.load_image("chelsea", 48)), steps=3)
    found = nst.load_image("out.png")
    assert (found - result.image).abs().max() <= 0.5 / 255 + 1e-6
    assert run("transfer", "out.png", *options) == 0
    assert (found - nst.load_image("out.png")).abs().max() > 1.5 / 255


@EVERY
def test_the_step_length_matters_to_every_command(command, small):
    options = ["--init", "noise", "--optimizer", "adam", "--lr", "1e-7"]
    assert run(command, "out.png", *options, *small) == 0
    like = nst.load_image(INPUTS[command][0], 48)
    found = nst.load_image("out_0.01.png" if command == "sweep" else "out.png")
    # Three steps of a ten-millionth: still the noise it started from.
    assert (found - nst.noise_like(like, seed=0)).abs().max() <= 0.51 / 255


def test_transfer_starts_from_the_content_unless_told_otherwise(small):
    assert run("transfer", "out.png", "--optimizer", "adam", "--lr", "1e-7", *small) == 0
    content = nst.load_image("chelsea", 48)
    assert (nst.load_image("out.png") - content).abs().max() <= 0.51 / 255


def test_several_layers_can_be_reconstructed(small):
    assert run("reconstruct", "out.png", "--layer", "relu1_1", "relu3_1", *small) == 0


def test_files_of_ones_own_in_any_mode(small):
    Image.new("LA", (70, 60), (90, 128)).save("photo.png")
    nst.save_image(make_picture(80, 50), "painting.webp")
    assert main(["transfer", "photo.png", "painting.webp", "-o", "new/folder/out.jpg", *small]) == 0
    with Image.open("new/folder/out.jpg") as picture:
        assert (picture.format, picture.size) == ("JPEG", (56, 48))


def test_a_sweep_shows_content_style_and_every_ratio_in_one_figure(small, capsys):
    assert run("sweep", "all.png", "--ratios", "1e-3", "10", *small) == 0
    assert written() == ["all.png", "all_0.001.png", "all_10.png"]
    out = capsys.readouterr().out
    assert "all_0.001.png, all_10.png" in out
    one, sheet = nst.load_image("all_10.png"), nst.load_image("all.png")
    assert one.shape[2] == 48
    assert sheet.shape[2] > 2 * one.shape[2]


def test_a_bar_is_shown_on_stderr_unless_quiet(small, capsys):
    assert run("texture", "out.png", *small[:-1]) == 0
    out, err = capsys.readouterr()
    assert "3/3" in err
    assert "loss" in err
    assert "3/3" not in out


def test_the_module_runs_as_a_program(here):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "nst_helpers", "texture", "pebbles", "-o", "out.png", *QUICK],
        cwd=here,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "wrote out.png" in done.stdout
    assert written() == ["out.png"]


def test_the_program_exits_with_the_code(monkeypatch, capsys):
    arguments = ["nst_helpers", "texture", "nothing", "-o", "out.png", *QUICK]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.delitem(sys.modules, "nst_helpers.__main__")
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("nst_helpers", run_name="__main__")
    check_failed(capsys, caught.value.code, "texture", "nothing")


# --- mistyped: 2 ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["paint"],
        ["transfer"],
        ["transfer", "chelsea", "-o", "out.png"],
        ["transfer", "chelsea", "night_sky"],
        ["texture", "pebbles", "-o", "out.png", "--size", "big"],
        ["texture", "pebbles", "-o", "out.png", "--init", "content"],
        ["texture", "pebbles", "-o", "out.png", "--optimizer", "sgd"],
        ["texture", "pebbles", "-o", "out.png", "--nonsense"],
        ["sweep", "chelsea", "night_sky", "-o", "out.png", "--ratios"],
        ["reconstruct", "chelsea", "-o", "out.png", "--alpha", "1"],
    ],
)
def test_a_mistyped_command_is_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: python -m nst_helpers" in capsys.readouterr().err
    assert written() == []


@pytest.mark.parametrize("arguments", [["--help"], *([c, "--help"] for c in INPUTS)])
def test_help_is_0(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    out = capsys.readouterr().out
    if arguments == ["--help"]:
        assert all(name in out for name in [*INPUTS, *nst.sample_images(), "exit codes"])
    else:
        assert "--size" in out


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.strip() == nst.__version__


def test_the_examples_of_the_help_are_commands_that_parse(capsys):
    from nst_helpers.__main__ import EXAMPLES, _parser

    lines = re.findall(r"python -m nst_helpers (.+)", EXAMPLES)
    assert len(lines) >= 4
    for line in lines:
        assert _parser().parse_args(line.split()).command in INPUTS


# --- something was wrong: 1 ----------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("which", [0, 1])
def test_a_picture_that_is_not_there(command, which, small, capsys):
    names = list(INPUTS[command])
    if which >= len(names):
        pytest.skip("takes one picture")
    names[which] = "nowhere.jpg"
    code = main([command, *names, "-o", "out.png", *small])
    check_failed(capsys, code, command, "nowhere.jpg", "chelsea")


def test_a_file_that_is_no_picture(small, capsys):
    Path("letter.jpg").write_text("Dear all")
    code = main(["texture", "letter.jpg", "-o", "out.png", *small])
    check_failed(capsys, code, "texture", "letter.jpg", files=["letter.jpg"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--size", "0"], ["size", "0"]),
        (["--size", "-5"], ["size", "-5"]),
        (["--size", "8"], ["too small", "relu5_1"]),
        (["--steps", "0"], ["steps", "0"]),
        (["--lr", "0"], ["lr"]),
        (["--lr", "nan"], ["lr"]),
        (["--tv", "-1"], ["tv"]),
        (["--alpha", "-1"], ["alpha"]),
        (["--alpha", "0", "--beta", "0"], ["nothing to match"]),
        (["--beta", "inf"], ["beta", "inf"]),
        (["--style-size", "0"], ["size", "0"]),
        (["--content-layers", "relu9_9"], ["relu9_9", "relu4_2"]),
        (["--style-layers", "conv0"], ["conv0", "relu4_2"]),
        (["--network", "nowhere.pth"], ["nowhere.pth", "bundled"]),
        (["--device", "nonsense"], ["nonsense"]),
        (["--device", "cuda:99"], []),
        (["--seed", "99999999999999999999999"], []),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_wrong_option_is_explained_in_one_line(options, words, small, capsys):
    code = run("transfer", "out.png", *small, "--init", "noise", *options)
    check_failed(capsys, code, "transfer", *words)


@pytest.mark.parametrize("ratio", ["-1", "nan"])
def test_a_wrong_ratio_is_explained(ratio, small, capsys):
    code = run("sweep", "out.png", "--ratios", "1e-3", ratio, *small)
    check_failed(capsys, code, "sweep", ratio)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02}q\x00."])
def test_a_broken_network_is_explained_in_one_line(content, small, capsys):
    Path("net.pth").write_bytes(content)
    code = run("texture", "out.png", *small, "--network", "net.pth")
    check_failed(capsys, code, "texture", "net.pth", files=["net.pth"])


def no_network(*args, **kwargs):
    raise AssertionError("the network was loaded before the output was checked")


@EVERY
@pytest.mark.parametrize(
    ("output", "word"),
    [
        ("out", "end it in"),
        ("out.txt", "end it in"),
        ("file/out.png", "file"),
        ("folder.png", "folder.png"),
    ],
)
def test_an_output_that_cannot_be_written_is_noticed_before_the_work(
    command, output, word, small, capsys, monkeypatch
):
    Path("file").write_text("in the way")
    Path("folder.png").mkdir()
    monkeypatch.setattr(nst, "load_network", no_network)
    code = run(command, output, *small)
    check_failed(capsys, code, command, word, files=["file"])


def test_a_sweeps_single_pictures_are_checked_before_the_work_too(small, capsys, monkeypatch):
    Path("out_0.01.png").mkdir()
    monkeypatch.setattr(nst, "load_network", no_network)
    code = run("sweep", "out.png", *small)
    check_failed(capsys, code, "sweep", "out_0.01.png")


@EVERY
def test_a_failure_leaves_an_existing_picture_alone(command, small, capsys, monkeypatch):
    Path("out.png").write_bytes(b"precious")

    def fail(self, image):
        raise ValueError("something is wrong")

    monkeypatch.setattr(nst.StyleTransferLoss, "forward", fail)
    code = run(command, "out.png", *small)
    check_failed(capsys, code, command, "something is wrong", files=["out.png"])
    assert Path("out.png").read_bytes() == b"precious"


def test_out_of_memory_advises_a_smaller_size(small, capsys, monkeypatch):
    def full(self, image):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(nst.StyleTransferLoss, "forward", full)
    check_failed(capsys, run("texture", "out.png", *small), "texture", "memory", "smaller --size")


def spoil(call, value, monkeypatch):
    """Let the real loss be multiplied by ``value``, or raise it, at that call (and no other)."""
    forward, calls = nst.StyleTransferLoss.forward, []

    def spoiled(self, image):
        calls.append(1)
        terms = forward(self, image)
        if len(calls) != call:
            return terms
        if isinstance(value, BaseException):
            raise value
        return terms._replace(total=terms.total * value)

    monkeypatch.setattr(nst.StyleTransferLoss, "forward", spoiled)


@pytest.mark.filterwarnings("ignore:the loss or its gradient is not finite")
@pytest.mark.parametrize("command", ["transfer", "sweep"])
def test_a_loss_gone_wrong_on_the_way_is_1_and_the_last_good_picture_is_kept(
    command, small, capsys, monkeypatch
):
    spoil(3, float("nan"), monkeypatch)  # of a sweep, the first of four runs
    assert run(command, "out.png", *small) == 1
    assert "not finite" in "".join(capsys.readouterr())
    assert "out.png" in written()


# --- interrupted: 130 ----------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["transfer", "reconstruct", "texture"])
def test_ctrl_c_saves_what_there_is_and_is_130(command, small, capsys, monkeypatch):
    spoil(3, KeyboardInterrupt(), monkeypatch)
    assert run(command, "out.png", *small) == 130
    assert "wrote out.png: 2 steps" in capsys.readouterr().out
    assert written() == ["out.png"]


@pytest.mark.parametrize("call", [2, 4, 5])
def test_ctrl_c_in_a_sweep_saves_the_pictures_so_far(call, small, capsys, monkeypatch):
    # Three steps a run; 4 is the very first evaluation of the second run.
    spoil(call, KeyboardInterrupt(), monkeypatch)
    assert run("sweep", "out.png", *small) == 130
    files = written()
    assert {"out.png", "out_0.0001.png"} <= set(files)
    assert ("out_0.001.png" in files) == (call == 5)


@EVERY
def test_ctrl_c_before_the_first_step_writes_nothing(command, small, capsys, monkeypatch):
    Path("out.png").write_bytes(b"precious")
    spoil(1, KeyboardInterrupt(), monkeypatch)
    assert run(command, "out.png", *small) == 130
    assert "interrupted" in capsys.readouterr().err
    assert written() == ["out.png"]
    assert Path("out.png").read_bytes() == b"precious"
