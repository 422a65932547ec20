"""The command line: what it writes, what it says, and its exit codes."""

import io
import os
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import nst_helpers as nst
from helpers import make_picture, make_weights
from nst_helpers import _inputs, _options, _outputs, _painting, plots
from nst_helpers.__main__ import main
from nst_helpers.control.recolor import recolored

pytestmark = pytest.mark.usefixtures("heeded_signals")
REPOSITORY = Path(__file__).resolve().parents[1]
QUICK = ["--size", "52", "--steps", "3", "--network", "bundled", "--device", "cpu", "--quiet"]
INPUTS = {
    "transfer": ["chelsea", "night_sky"],
    "reconstruct": ["chelsea"],
    "texture": ["pebbles"],
    "sweep": ["chelsea", "night_sky"],
}
SIGNALS = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]
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
            content = nst.load_image(INPUTS[command][0], 52)
            assert picture.size == (content.shape[3], content.shape[2])
    ratios = ("0.0001", "0.001", "0.01", "0.1") if command == "sweep" else ()
    assert sorted(files()) == sorted(["out.png", *(f"out_{ratio}.png" for ratio in ratios)])


def make_by_hand(small, command, *, style_size=52, network=None, optimizer=None, **loss_options):
    """What a command makes from noise of seed 3, by the functions of the package."""
    net = nst.load_network(small[5], device="cpu", **(network or {}))
    names = INPUTS[command]
    loss = nst.StyleTransferLoss(
        net,
        content=None if command == "texture" else nst.load_image(names[0], 52),
        style=None if command == "reconstruct" else nst.load_image(names[-1], style_size),
        **loss_options,
    )
    start = nst.noise_like(nst.load_image(names[0], 52), seed=3)
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
    images = [make_by_hand(small, "transfer", **TEXTURE, style_size=size) for size in (20, 52)]
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
    content = nst.load_image(INPUTS[command][0], 52)
    assert holds(output, nst.noise_like(content, seed=0) if options else content)


def test_pictures_are_read_and_written_in_any_mode_and_folder(small):
    Image.new("LA", (70, 60), (90, 128)).save("photo.png")
    nst.save_image(make_picture(80, 50), "painting.webp")
    assert main(["transfer", "photo.png", "painting.webp", "-o", "new/folder/out.jpg", *small]) == 0
    with Image.open("new/folder/out.jpg") as picture:
        assert (picture.format, picture.size) == ("JPEG", (61, 52))


def test_a_sweep_shows_content_style_and_every_ratio_in_one_figure(small, capsys):
    assert run("sweep", "all.png", "--ratios", "1e-3", "10", *small) == 0
    assert sorted(files()) == ["all.png", "all_0.001.png", "all_10.png"]
    assert "all_0.001.png, all_10.png" in capsys.readouterr().out
    single, sheet = nst.load_image("all_10.png"), nst.load_image("all.png")
    assert single.shape[2] == 52
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


@pytest.fixture
def signal_handlers(monkeypatch):
    """What a program does to its own process is undone."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_the_program_exits_with_the_code_of_main(monkeypatch, capsys, signal_handlers):
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
    assert main(arguments.split()) == 2
    assert "usage: python -m nst_helpers" in capsys.readouterr().err
    assert files() == {}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--size", value) for value in ("", "big", "1.5", "0", "-5", "8", "9" * 20, "9" * 5000)),
        *(("--steps", value) for value in ("0", "-1", "nan", "1e3", "9" * 20)),
        *(("--lr", value) for value in ("0", "-1e-5", "nan", "-inf", "1e400", "fast")),
        *(("--alpha", value) for value in ("-1", "inf", "1e300", "1,5")),
        *((option, "-1") for option in ("--beta", "--tv", "--style-size", "--save-every")),
        *(("--seed", value) for value in ("9" * 23, "-" + "9" * 23, "0x1")),
        *(("--content-layers", value) for value in ("relu9_9", "relu1_3", "conv0", "relu4_2,")),
        *(("--device", value) for value in ("nonsense", "cuda:99", "meta")),
        *(("--init", value) for value in ("nowhere.png", "", "Noise", "a" * 5000)),
        *(("--pyramid", value) for value in ("8", "52", "0", "x")),
        *(("--network", value) for value in ("", "-x", "a\0b")),
        *(("--output", value) for value in ("", "-x.png", "a\0b.png")),
        ("--save-every", "301"),
        ("--precision", "float16"),
        ("--convention", "\udc80한\n"),
    ],
)
def test_a_senseless_value_is_2_and_named_with_its_option(option, value, capsys):
    assert (
        main(["transfer", "chelsea", "night_sky", "-o", "o.png", "--size", "52", option, value])
        == 2
    )
    message = capsys.readouterr().err.splitlines()[-1]
    assert option in message
    assert repr(value)[1:-1][:70] in message
    assert len(message) < 400 or option == "--init"
    assert files() == {}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("sweep chelsea night_sky -o o.png --ratios 1e-3 -1", ["--ratios", "-1"]),
        ("sweep chelsea night_sky -o o.png --ratios 1e-3 -inf", ["--ratios", "-inf"]),
        ("transfer chelsea night_sky -o o.png --alpha 0 --beta 0", ["--alpha", "--beta"]),
        ("transfer chelsea night_sky -o o.png --style-size 8", ["--style-size", "relu5_1", "16"]),
        ("texture pebbles -o o.png --pyramid 64 32", ["--pyramid", "rise", "64 32"]),
        ("texture pebbles -o o.png --pyramid 32 64 --steps 2", ["--steps", "3"]),
    ],
)
def test_options_that_contradict_each_other_are_2(arguments, words, capsys):
    assert main(arguments.split()) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert all(word in message for word in words)


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
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in words)


def test_the_examples_of_the_help_are_commands_that_parse():
    lines = re.findall(r"python -m nst_helpers (.+)", _options.EXAMPLES)
    assert len(lines) >= 4
    Path("cat.png").touch()
    for line in lines:
        assert _options.parse(line.split()).command in INPUTS


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
        ("transfer chelsea night_sky --network nowhere.pth", ["nowhere.pth", "bundled"]),
        ("transfer chelsea night_sky --network .", ["--network", "'.'"]),
        ("transfer chelsea night_sky --init letter.jpg", ["--init", "letter.jpg"]),
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
    monkeypatch.setattr(
        _painting, "load_network", lambda *_, **__: pytest.fail("the work has begun")
    )
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
    monkeypatch.setattr(_painting, "optimize", lambda *_, **__: result)
    assert run("texture", "out.png", *small) == code
    out, err = capsys.readouterr()
    assert out == f"wrote out.png: 0 steps, 0.0 s, {words}\n"
    assert err == (f"texture: {problem}\n" if problem else "")


def test_what_no_run_may_do_is_a_fault_of_this_program(small, capsys, monkeypatch):
    spoil(monkeypatch, ZeroDivisionError("division by zero"))
    assert run("texture", "out.png", *small) == 70
    err = capsys.readouterr().err
    assert re.fullmatch(r"texture: .*fault of nst_helpers: ZeroDiv.*NST_TRACEBACK=1.*\n", err)
    monkeypatch.setenv("NST_TRACEBACK", "1")
    assert run("texture", "out.png", *small) == 70
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["texture", "sweep"])
def test_an_error_after_some_steps_does_not_lose_them(command, small, capsys, monkeypatch):
    # Three steps a run: of the sweep, the second run fails, and only that.
    spoil(
        monkeypatch,
        RuntimeError("the graphics card is gone"),
        call=3 if command == "texture" else 5,
    )
    assert run(command, "out.png", *small) == 1
    out, err = capsys.readouterr()
    assert "the graphics card is gone" in err
    assert "wrote out.png" in out
    ratios = ("0.0001", "0.01", "0.1") if command == "sweep" else ()
    assert sorted(files()) == sorted(["out.png", *(f"out_{ratio}.png" for ratio in ratios)])


@pytest.mark.parametrize("command", ["texture", "sweep"])
def test_a_picture_that_cannot_be_written_is_said_and_the_others_are(
    command, small, capsys, monkeypatch
):
    def save(image, path, **options):
        if path.name in ("out.png", "out_0.01.png"):
            raise OSError(f"{path} cannot be written; the picture is in elsewhere.png")
        return nst.save_image(image, path, **options)

    monkeypatch.setattr(_outputs, "save_image", save)
    assert run(command, "out.png", *small) == 1
    out, err = capsys.readouterr()
    assert "elsewhere.png" in err
    assert "wrote out.png" not in out
    ratios = ("0.0001", "0.001", "0.1") if command == "sweep" else ()
    assert sorted(files()) == sorted(f"out_{ratio}.png" for ratio in ratios)


# --- what is beside the picture ------------------------------------------------------------------


def test_a_picture_is_written_every_n_steps(small, capsys):
    options = [*small, "--steps", "7", "--save-every", "2"]
    assert run("texture", "out.png", *options) == 0
    assert sorted(files()) == ["out.png", "out_0002.png", "out_0004.png", "out_0006.png"]
    line = "on the way: out_0002.png, out_0004.png, out_0006.png"
    assert line in capsys.readouterr().out
    net, style = nst.load_network(small[5], device="cpu"), nst.load_image("pebbles", 52)
    loss = nst.StyleTransferLoss(net, style=style)
    for steps in (2, 4, 6):
        result = nst.optimize(loss, nst.noise_like(style), steps=steps)
        assert holds(f"out_{steps:04d}.png", result.image)
    options = [*small, "--ratios", "1", "2", "--save-every", "3"]
    assert run("sweep", "s.webp", *options) == 0
    assert {"s_1_0003.webp", "s_2_0003.webp", "s_1.webp", "s_2.webp", "s.webp"} <= files().keys()


def test_ratios_that_differ_have_files_that_differ(small):
    ratios = ["0.12345678", "0.12345679", "1", "1.0", "-0", "0"]
    assert run("sweep", "o.png", *small, "--ratios", *ratios) == 0
    names = ["o.png", "o_0.12345678.png", "o_0.12345679.png", "o_0.png", "o_1.png"]
    assert sorted(files()) == names
    assert nst.load_image("o.png").shape[2] < 1500  # two rows of three: each ratio once


@pytest.mark.parametrize(
    ("command", "name"),
    [("sweep", "out_0.01.png"), ("sweep", "out_0.1_0003.png"), ("texture", "out_0003.png")],
)
def test_pictures_beside_the_one_asked_for_replace_nothing_unless_told(
    command, name, small, capsys, monkeypatch
):
    Path(name).write_bytes(b"precious")
    options = [*small, "--save-every", "3"]
    with monkeypatch.context() as patch:
        patch.setattr(_painting, "load_network", lambda *_, **__: pytest.fail("the work has begun"))
        words = [name, "--overwrite"]
        check_failure(capsys, [command, *INPUTS[command], "-o", "out.png", *options], *words)
    Path("out.png").write_bytes(b"older")
    assert run(command, "out.png", *options, "--overwrite") == 0
    assert files()[name][:4] == files()["out.png"][:4] == b"\x89PNG"


@pytest.mark.parametrize("command", ["transfer", "texture"])
def test_it_goes_on_from_a_picture_of_any_size(command, small):
    shape = nst.load_image(INPUTS[command][0], 52).shape[2:]
    nst.save_image(make_picture(*shape, seed=4), "same.png")
    square = torch.zeros(1, 3, 200, 200)
    square[:, 0, :, :100], square[:, 2, :, 100:] = 1, 1  # red at the left, blue at the right
    nst.save_image(square, "square.png")
    for name in ("same", "square"):
        options = [*small, "--optimizer", "adam", "--lr", "1e-7", "--init", f"{name}.png"]
        assert run(command, f"{name}_out.png", *options) == 0
    assert holds("same_out.png", nst.load_image("same.png"))
    red, _, blue = nst.load_image("square_out.png")[0]
    assert red.shape == shape
    middle = shape[1] // 2
    assert red[:, : middle - 2].min() > 0.9 > 0.1 > red[:, middle + 2 :].max()
    assert blue[:, middle + 2 :].min() > 0.9 > 0.1 > blue[:, : middle - 2].max()


@pytest.mark.parametrize("command", ["transfer", "reconstruct", "sweep"])
@pytest.mark.parametrize("ending", [".png", ".webp", ".jpg"])
def test_a_cut_out_comes_back_as_one_or_on_white(command, ending, small, capsys):
    picture = Image.new("RGBA", (65, 52), (200, 30, 30, 255))
    picture.paste((0, 0, 0, 0), (0, 0, 20, 52))
    picture.save("cut.png")
    inputs = ["cut.png", "night_sky"][: len(INPUTS[command])]
    options = ["--ratios", "1"] if command == "sweep" else []
    assert main([command, *inputs, "-o", f"out{ending}", *small, *options, "--pyramid", "24"]) == 0
    with Image.open(f"out_1{ending}" if command == "sweep" else f"out{ending}") as result:
        corner, inside = (result.convert("RGBA").getpixel(at) for at in ((2, 2), (50, 2)))
        assert result.mode == ("RGB" if ending == ".jpg" else "RGBA")
    assert inside[3] == 255
    if ending == ".jpg":
        assert min(corner) > 245
    else:
        assert corner[3] == 0
    assert capsys.readouterr().err.count("cut-out") == (ending == ".jpg")


@pytest.mark.parametrize("cut", ["content", "style", "both"])
def test_what_is_transparent_does_not_count_in_the_gram_matrices(cut, small):
    inputs, masks = dict(zip(("content", "style"), INPUTS["transfer"], strict=True)), {}
    for name in inputs if cut == "both" else [cut]:
        picture = Image.new("RGBA", (78, 52), (200, 30, 30, 255))
        picture.paste(Image.effect_noise((39, 52), 90).convert("RGBA"), (0, 0))
        picture.paste((0, 0, 0, 0), (39, 0, 78, 52))
        picture.save(f"{name}.png")
        inputs[name] = f"{name}.png"
        masks[f"{name}_mask"] = nst.load_alpha(f"{name}.png", 52)
    assert main(["transfer", *inputs.values(), "-o", "out.png", *small, "--init", "noise"]) == 0
    pictures = [nst.load_image(name, 52) for name in inputs.values()]
    net = nst.load_network(small[5], device="cpu")
    images = []
    for options in (masks, {}):
        loss = nst.StyleTransferLoss(net, *pictures, **options)
        images.append(nst.optimize(loss, nst.noise_like(pictures[0]), steps=int(small[3])).image)
    opaque = nst.load_alpha("out.png") == 1
    result = nst.load_image("out.png")
    here, without = (((result - image).abs() * opaque).max() for image in images)
    assert here < 0.01 < without


# --- other conventions ---------------------------------------------------------------------------


def balance(net, pictures, alpha, convention, layers):
    """The weighted content loss over the style loss, at the noise of seed 0."""
    loss = nst.StyleTransferLoss(net, *pictures, alpha=alpha, convention=convention, **layers)
    terms = loss(nst.noise_like(pictures[0]))
    return (alpha * terms.content / terms.style).item()


@pytest.mark.parametrize("convention", ["paper", "lecture"])
def test_without_alpha_content_and_style_weigh_alike_in_every_convention(convention, small, capsys):
    assert run("transfer", "out.png", *small, "--convention", convention) == 0
    alpha = float(re.search(r"--alpha (\S+): ", capsys.readouterr().out)[1])
    net = nst.load_network(small[5], device="cpu")
    pictures = [nst.load_image(name, 52) for name in INPUTS["transfer"]]
    expected = balance(net, pictures, 1e-3, "normalised", {})
    assert balance(net, pictures, alpha, convention, {}) == pytest.approx(expected, rel=1e-4)
    assert run("sweep", "s.png", *small, "--convention", convention) == 0
    ratios = [float(name[2:-4]) for name in files() if name.startswith("s_")]
    assert sorted(ratios) == pytest.approx([alpha * x for x in (0.1, 1, 10, 100)], rel=1e-4)


def test_in_the_papers_convention_the_picture_is_the_same(small):
    for convention in ("normalised", "paper"):
        options = ["--convention", convention, "--init", "noise", "--optimizer", "adam"]
        assert run("transfer", f"{convention}.png", *small, *options) == 0
    assert holds("paper.png", nst.load_image("normalised.png"))


# --- several styles, regions, colours, strokes ---------------------------------------------------


@pytest.fixture
def masks():
    """Regions of chelsea and of any style: black beside white; and some that fit nothing."""
    sides = {"chelsea": (78, 52), "style": (65, 52), "square": (52, 52)}
    for name, (width, height) in sides.items():
        picture = Image.new("RGB", (width, height))
        picture.paste((255, 255, 255), (width // 2, 0, width, height))
        picture.save(f"{name}_mask.png")
    stripes = Image.new("RGB", sides["chelsea"])
    for i, color in enumerate(["#ff0000", "#00ff00", "#0000ff"]):
        stripes.paste(Image.new("RGB", (26, 52), color), (26 * i, 0))
    stripes.save("three.png")
    Image.effect_noise(sides["chelsea"], 90).save("noise.png")


def regions(*names):
    return [nst.load_masks(f"{name}_mask.png", 52) for name in names]


@pytest.mark.parametrize(
    ("command", "options", "by_hand"),
    [
        ("transfer chelsea night_sky wave", "", dict),
        ("transfer chelsea night_sky wave", "--style-weights 3 1", lambda: {"weights": (3, 1)}),
        ("texture night_sky wave", "--style-weights 0 2", lambda: {"weights": (0, 1)}),
        (
            "transfer chelsea night_sky wave",
            "--content-mask chelsea_mask.png",
            lambda: {"content_mask": regions("chelsea")[0]},
        ),
        (
            "transfer chelsea night_sky",
            "--content-mask chelsea_mask.png --style-mask style_mask.png",
            lambda: dict(
                zip(("content_mask", "style_mask"), regions("chelsea", "style"), strict=True)
            ),
        ),
        ("transfer chelsea night_sky", "--style-scale 2", lambda: {"style_size": 104}),
        ("transfer chelsea night_sky wave", "--colors keep", lambda: {"colors": "keep"}),
        ("transfer chelsea night_sky wave", "--colors match", lambda: {"colors": "match"}),
        ("transfer chelsea night_sky", "--colors luminance", lambda: {"colors": "luminance"}),
    ],
)
def test_control_is_the_same_as_the_package(command, options, by_hand, small, masks):
    words = [*command.split(), *options.split(), "-o", "out.png", "--init", "noise"]
    assert main([*words, *small, "--optimizer", "adam"]) == 0
    net, (name, *names) = nst.load_network(small[5], device="cpu"), command.split()
    arguments = by_hand()
    size, colors = arguments.pop("style_size", 52), arguments.pop("colors", "style")
    weights = arguments.pop("weights", None)
    content = nst.load_image(names[0], 52)
    styles = [nst.load_image(style, size) for style in names[name == "transfer" :]]
    seen, styles, finish = recolored(content, styles, colors)
    content = seen if name == "transfer" else None
    loss = nst.StyleTransferLoss(net, content, styles, style_weights=weights, **arguments)
    start = nst.noise_like(styles[0] if content is None else content)
    result = nst.optimize(loss, start, steps=3, optimizer="adam")
    assert holds("out.png", finish(result.image))


def test_it_is_said_which_region_has_which_style(small, masks, capsys):
    words = ["transfer", "chelsea", "night_sky", "wave", *small, "-o", "out.png"]
    assert main([*words, "--content-mask", "chelsea_mask.png"]) == 0
    assert "#000000 night_sky, #ffffff wave" in capsys.readouterr().out


def test_regions_of_cut_outs_are_of_what_is_opaque(small, masks):
    for name, (width, height) in {"content": (78, 52), "style": (65, 52)}.items():
        picture = nst.to_pil(make_picture(height, width)).convert("RGBA")
        picture.paste((0, 0, 0, 0), (0, 30, width, height))
        picture.save(f"{name}.png")
    pairs = {"--content-mask": "chelsea_mask.png", "--style-mask": "style_mask.png"}
    options = [word for pair in pairs.items() for word in pair]
    words = ["transfer", "content.png", "style.png", *options, *small, "--init", "noise"]
    assert main([*words, "-o", "out.png"]) == 0
    alphas = [nst.load_alpha(f"{name}.png", 52) for name in ("content", "style")]
    each = [mask * alpha for mask, alpha in zip(regions("chelsea", "style"), alphas, strict=True)]
    net = nst.load_network(small[5], device="cpu")
    pictures = [nst.load_image(f"{name}.png", 52) for name in ("content", "style")]
    loss = nst.StyleTransferLoss(net, *pictures, content_mask=each[0], style_mask=each[1])
    image = nst.optimize(loss, nst.noise_like(pictures[0]), steps=3).image
    opaque = nst.load_alpha("out.png") == 1
    assert ((nst.load_image("out.png") - image).abs() * opaque).max() < 0.01


def test_the_weights_of_styles_are_an_axis_of_a_sweep(small, capsys):
    words = ["sweep", "chelsea", "night_sky", "wave", *small, "--ratios", "0.1", "1"]
    options = ["--style-weights", "1,0", "0.25,0.75", "1,0", "--colors", "keep"]
    assert main([*words, *options, "-o", "s.png", "--save-every", "2"]) == 0
    singles = [f"s_{blend}_{ratio}" for blend in ("0.25,0.75", "1,0") for ratio in ("0.1", "1")]
    steps = [f"{name}_0002" for name in singles]
    assert sorted(files()) == sorted(f"{name}.png" for name in ["s", *singles, *steps])
    words = ["transfer", "chelsea", "night_sky", "wave", *small, "--init", "noise"]
    options = ["--style-weights", "1", "3", "--alpha", "1", "--colors", "keep"]
    assert main([*words, *options, "-o", "t.png"]) == 0
    assert holds("s_0.25,0.75_1.png", nst.load_image("t.png"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--style-weights 1", ["--style-weights", "2 numbers", "got 1"]),
        ("--style-weights 1 2 3", ["--style-weights", "2 numbers", "got 1 2 3"]),
        ("--style-weights 0 0", ["--style-weights", "not all be 0"]),
        ("--style-weights 1 -1", ["--style-weights", "-1"]),
        ("--style-weights 1,2", ["--style-weights", "1,2"]),
        ("--style-mask three.png", ["--style-mask", "--content-mask", "three.png"]),
        (
            "--content-mask three.png --style-mask three.png",
            ["--style-mask", "2 pictures", "three.png"],
        ),
        ("--content-mask three.png --style-weights 1 2", ["--style-weights", "--style-mask"]),
        ("--colors grey", ["--colors", "grey"]),
        *((f"--style-scale {x}", ["--style-scale", x]) for x in ("0", "-1", "nan", "0.09", "11")),
        ("--style-scale 0.2", ["--style-scale", "relu5_1", "10 pixels"]),
        ("--style-scale 2 --style-size 99", ["--style-size", "--style-scale"]),
    ],
)
def test_control_that_makes_no_sense_is_2(options, words, capsys):
    line = f"transfer chelsea night_sky wave -o o.png --size 52 {options}"
    assert main(line.split()) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert all(word in message for word in words), message
    assert files() == {}


@pytest.mark.parametrize("blend", ["", "1", "1,", "1,x", "1,0,0", "0,0", "1,-1", "1;2", "nan,1"])
def test_a_blend_that_makes_no_sense_is_2(blend, capsys):
    words = ["sweep", "chelsea", "night_sky", "wave", "-o", "o.png", "--style-weights", blend]
    assert main(words) == 2
    assert "--style-weights" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--content-mask nowhere.png", ["--content-mask", "nowhere.png"]),
        ("--content-mask noise.png", ["--content-mask", "noise.png", "flat"]),
        ("--content-mask square_mask.png", ["--content-mask", "square_mask.png", "52 x 52"]),
        ("--content-mask three.png", ["--content-mask", "three.png", "3 colours", "2 styles"]),
        (
            "--content-mask three.png --style-mask style_mask.png style_mask.png",
            ["--style-mask", "without a partner", "#ff0000", "#ffffff"],
        ),
        (
            "--content-mask chelsea_mask.png --style-mask style_mask.png nowhere.png",
            ["--style-mask", "nowhere.png"],
        ),
    ],
)
def test_masks_that_do_not_fit_are_explained(options, words, small, masks, capsys):
    line = ["transfer", "chelsea", "night_sky", "wave", "-o", "o.png", *small]
    check_failure(capsys, [*line, *options.split()], *words)


def test_a_png_keeps_what_it_was_made_with(small, masks):
    words = ["transfer", "chelsea", "night_sky", "wave", "--style-weights", "1", "3"]
    words += ["--content-mask", "chelsea_mask.png", "--style-mask", *["style_mask.png"] * 2]
    words += ["--colors", "match", "--style-scale", "1.5", "--seed", "5", "--init", "noise"]
    assert main([*words, *small, "--pyramid", "32", "-o", "first.png"]) == 0
    settings = nst.load_settings("first.png")
    assert settings.pop("version") == nst.__version__
    assert settings.pop("step") == 3
    again = [settings.pop("command"), settings.pop("content"), *settings.pop("style")]
    for name, value in settings.items():
        values = value if isinstance(value, list) else [value]
        again += [f"--{name.replace('_', '-')}", *map(str, values)]
    assert main([*again, "-o", "second.png", "--quiet"]) == 0
    assert holds("second.png", nst.load_image("first.png"))


# --- many contents -------------------------------------------------------------------------------


@pytest.fixture
def photos():
    """A folder of three pictures, of which one is broken, and other things."""
    for i, name in enumerate(["a.png", "한글 c.jpg"]):
        nst.save_image(make_picture(56, 60, seed=i), f"photos/{name}")
    Path("photos/b.jpg").write_text("not a picture")
    Path("photos/notes.txt").write_text("no picture, either")
    Path("photos/._a.png").write_text("what a Mac leaves")
    Path("photos/folder.png").mkdir()


@pytest.mark.parametrize(
    "contents",
    [
        ["photos"],
        ["photos/"],
        ["photos/*.*g"],
        ["photos/a.png", "--more-contents", "photos/b.jpg", "photos/한글 c.jpg", "./photos/a.png"],
    ],
)
def test_each_content_is_painted_by_itself_and_a_broken_file_ends_nothing(
    contents, small, photos, capsys, monkeypatch
):
    before, calls, load = files(), [], nst.load_network

    def counted(*args, **kwargs):
        calls.append(1)
        return load(*args, **kwargs)

    monkeypatch.setattr(_painting, "load_network", counted)
    content, *more = contents
    assert main(["transfer", content, "wave", *small, "-o", "new/painted", *more]) == 1
    out, err = capsys.readouterr()
    assert err.count("\n") == 1 and "b.jpg" in err
    assert "2 of 3 contents" in out
    assert files().keys() - before.keys() == {"new/painted/a.png", "new/painted/한글 c.png"}
    assert len(calls) == 1
    assert main(["transfer", "photos/한글 c.jpg", "wave", *small, "-o", "alone.png"]) == 0
    assert holds("alone.png", nst.load_image("new/painted/한글 c.png"))


def test_nothing_in_a_folder_is_replaced_unless_told(small, photos, capsys):
    nst.save_image(make_picture(9, 9), "out/a.png")
    words = ["transfer", "photos", "wave", *small, "-o", "out"]
    check_failure(capsys, ["transfer", "photos/a.png", "wave", *small, "-o", "out"], "out/a.png")
    before = files()
    assert main(words) == 1
    assert "out/a.png would be overwritten" in capsys.readouterr().err
    assert files() == before
    assert main([*words, "--overwrite"]) == 1  # for one is broken
    assert nst.load_image("out/a.png").shape[2] == 52


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("empty wave -o out", ["content", "empty", "no pictures"]),
        ("nowhere wave -o out/", ["content", "nowhere"]),
        ("*.gif wave -o out", ["content", "*.gif"]),
        ("photos wave -o out.png", ["--output", "out.png", "folder"]),
        ("photos wave -o photos", ["--output", "photos/a.png", "one of the contents"]),
        ("photos wave -o notes/out", ["--output", "notes"]),
        ("photos nowhere -o out", ["style", "nowhere"]),
        ("photos wave -o out --content-mask m.png", ["--content-mask", "m.png", "one content"]),
        ("photos wave -o out --more-contents same/a.jpg", ["--output", "out/a.png", "same/a.jpg"]),
        ("photos wave -o out --more-contents same/A.jpg", ["--output", "out/A.png", "same/A.jpg"]),
        (
            "photos wave -o out --more-contents same/a_0002.jpg --save-every 2",
            ["--output", "out/a_0002.png", "2 steps"],
        ),
        ("photos/a.png chelsea wave -o out/", ["style", "--style-weights", "quotes"]),
    ],
)
def test_contents_that_cannot_all_be_painted_are_refused_before_the_first(
    arguments, words, small, photos, capsys, monkeypatch
):
    Path("empty").mkdir()
    Path("notes").write_text("in the way")
    for name in ("a.jpg", "A.jpg", "a_0002.jpg"):
        nst.save_image(make_picture(20, 20), f"same/{name}")
    monkeypatch.setattr(_painting, "load_network", lambda *_, **__: pytest.fail("work has begun"))
    before = files()
    assert main(["transfer", *small, *arguments.split()]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert all(word in message for word in words), message
    assert files() == before


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="everybody may read it")
def test_a_folder_that_may_not_be_read_is_named(small, capsys):
    Path("locked").mkdir(mode=0)
    check_failure(capsys, ["transfer", "locked", "wave", *small, "-o", "out"], "locked")


@pytest.mark.parametrize("call", range(1, 9))
def test_ctrl_c_saves_the_content_that_is_being_painted_and_ends(call, small, capsys, monkeypatch):
    signals_at(monkeypatch, nst.StyleTransferLoss, "forward", call, [signal.SIGINT])
    words = ["transfer", "chelsea", "wave", "--more-contents", "coffee", "grass", "-o", "out"]
    assert main([*words, *small]) == 130
    done = ["out/chelsea.png", "out/coffee.png", "out/grass.png"][: (call + 2) // 3]
    assert sorted(files()) == done
    out = capsys.readouterr().out
    assert out.count("wrote") == len(done)
    assert f"{(call - 1) // 3} of 3" in out or call % 3 == 0


# --- consoles ------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_console_need_not_be_able_to_print_a_name(encoding, small, monkeypatch):
    console = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", console)
    assert run("texture", "한글_\udc80.png", *small) == 0
    assert run("sweep", "한글.png", *small) == 0
    assert len(files()) == 6
    console.flush()
    assert console.buffer.getvalue().count(b"wrote") == 2


@pytest.mark.skipif(os.name == "nt", reason="no /dev/full")
@pytest.mark.parametrize("stdout", ["a closed pipe", "/dev/full"])
def test_nobody_need_read_what_is_said(stdout, here):
    if stdout == "/dev/full":
        target = os.open(stdout, os.O_WRONLY)
    else:
        reader, target = os.pipe()
        os.close(reader)
    program = start_program(["texture", "pebbles", "-o", "out.png", *QUICK], here, stdout=target)
    os.close(target)
    assert program.communicate(timeout=120)[1] == ""
    assert program.returncode == 0
    assert list(files()) == ["out.png"]


def start_program(arguments, folder, **options):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "nst_helpers", *arguments],
        **{"cwd": folder, "env": environment, "stderr": subprocess.PIPE, "text": True, **options},
    )


# --- interrupted: 130; terminated: 143 -----------------------------------------------------------


def signals_at(monkeypatch, place, name, call, numbers):
    """Raise signals in a function, at one of its calls, before it does anything."""
    inner, calls = getattr(place, name), []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            for number in numbers:
                signal.raise_signal(number)
        return inner(*args, **kwargs)

    monkeypatch.setattr(place, name, interrupted)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_signal_ends_the_run_after_the_step_and_saves_it(
    number, times, call, small, capsys, monkeypatch
):
    handlers = [signal.getsignal(each) for each in SIGNALS]
    signals_at(monkeypatch, nst.StyleTransferLoss, "forward", call, [number] * times)
    assert run("texture", "out.png", *small) == 128 + number
    assert f"wrote out.png: {call} steps" in capsys.readouterr().out
    assert [signal.getsignal(each) for each in SIGNALS] == handlers


@pytest.mark.parametrize("call", range(1, 13))
def test_a_signal_in_a_sweep_keeps_every_step(call, small, capsys, monkeypatch):
    signals_at(monkeypatch, nst.StyleTransferLoss, "forward", call, [signal.SIGTERM])
    assert run("sweep", "out.png", *small) == 143
    assert len(files()) == 1 + (call + 2) // 3
    assert f"{(call - 1) % 3 + 1} steps, interrupted" not in capsys.readouterr().err


@pytest.mark.parametrize("call", range(1, 6))
@pytest.mark.parametrize("numbers", [SIGNALS[:1], SIGNALS[:1] * 2, [signal.SIGTERM]])
def test_saving_is_not_interrupted(call, numbers, small, monkeypatch):
    signals_at(monkeypatch, _outputs, "save_image", call, numbers)
    assert run("sweep", "out.png", *small) == 128 + numbers[0]
    assert len(files()) == 5


@pytest.mark.parametrize("name", ["load_image", "load_network", "noise_like", "StyleTransferLoss"])
def test_a_signal_before_the_work_ends_it_at_once(name, small, capsys, monkeypatch):
    place = _inputs if hasattr(_inputs, name) else _painting
    signals_at(monkeypatch, place, name, 1, [signal.SIGTERM])
    assert run("transfer", "out.png", *small, "--init", "noise") == 143
    assert "interrupted, nothing written" in capsys.readouterr().err
    assert files() == {}


def test_what_is_written_is_said(small, capsys, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(plots, "show_images", interrupted)
    assert run("sweep", "out.png", *small, "--ratios", "1", "2") == 130
    assert "written: out_1.png, out_2.png" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="signals as on Unix")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_while_torch_is_imported_ends_the_program_in_one_line(name, here, tmp_path):
    (tmp_path / "torch.py").write_text(f"import signal\nsignal.raise_signal(signal.{name})\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(REPOSITORY)])}
    program = start_program(["texture", "pebbles", "-o", "out.png"], here, env=environment)
    assert program.communicate()[1].strip() == "interrupted, nothing written"
    assert program.returncode == 128 + getattr(signal, name)


@pytest.mark.skipif(os.name == "nt", reason="signals as on Unix")
def test_a_program_that_is_terminated_saves_its_picture(here, small):
    options = [*small[:2], "--steps", "1000000", *small[4:-1]]
    program = start_program(["texture", "pebbles", "-o", "out.png", *options], here)
    while "loss" not in program.stderr.read(1) + program.stderr.readline(200):
        assert program.poll() is None
    program.terminate()
    program.communicate()
    assert program.returncode == 143
    assert list(files()) == ["out.png"]


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
