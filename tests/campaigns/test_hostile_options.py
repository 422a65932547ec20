"""Every option of every command, given what nobody should type: done, or a sentence that names it.

The work is tiny, and whoever runs it presses Ctrl-C at the fourth evaluation of the loss.
"""

import argparse
import functools
from pathlib import Path
from unittest import mock

import pytest
import torch
from oracle import attempt, check_words

import nst_helpers as nst
from nst_helpers import __main__ as cli

INPUTS = {
    "transfer": ["content.png", "style.png"],
    "reconstruct": ["content.png"],
    "texture": ["style.png"],
    "sweep": ["content.png", "style.png"],
}
PLACES = {"content": 0, "style": -1}
TINY = {
    "--size": "36",
    "--steps": "2",
    "--network": "small.pth",
    "--device": "cpu",
    "--style-layers": "relu1_1",
    "--content-layers": "relu1_1",
    "--layer": "relu1_1",
    "--ratios": "0.5",
}
VALUES = [
    "",
    " ",
    "0",
    "-1",
    "1",
    "1.5",
    "nan",
    "-inf",
    "1e400",
    "1e-320",
    "9" * 20,
    "1" + "0" * 400,
    "0x10",
    "1_0",
    "½",
    "None",
    "auto",
    "-o",
    "--",
    "../nothing/here.png",
    "/dev/null",
    "a" * 5_000,
    "\udc80.png",
    "%s {0} <b>",
    "relu9_9,relu1_1",
    "x\0y.png",
    ".",
    "é漢😀.gif",
    "notes.txt",
    "nan 1 nan",
    "1,0",
    "0.5 0.5",
    "mask.png",
    "*.png",
    "[",
]


ON_THE_DISK = (
    *("content", "style", "output", "init", "network", "device"),
    *("content_mask", "style_mask", "more_contents"),
)
# Options whose message may name what they stand for.
WORDS = {
    "content": ("picture", "--output"),  # whose name becomes a picture's in a folder
    "style": ("picture",),
    "layer": ("layer",),
    "tv": ("tv_weight",),
    "more_contents": ("content", "--output"),
}


def run(arguments):
    try:
        return cli.main(arguments)
    except SystemExit as error:
        return error.code


@functools.cache
def options():
    """The options of each command, as they are parsed: command to a list of actions."""
    parsers = {}

    def keep(parser, *_):
        parsers[parser.prog.split()[-1]] = parser
        subparsers = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        parsers.update(subparsers[0].choices if subparsers else {})
        raise SystemExit

    with mock.patch.object(argparse.ArgumentParser, "parse_args", keep):
        run(["--version"])
    return {
        name: [a for a in parsers[name]._actions if a.nargs != 0 and a.dest != "help"]
        for name in INPUTS
    }


def all_cases():
    return {
        f"{command} {''.join(action.option_strings[-1:]) or action.dest} {value[:30]!r}": (
            command,
            action,
            value,
        )
        for command, actions in options().items()
        for action in actions
        for value in VALUES
        if action.option_strings or value not in ("-o", "--")  # which are no pictures
    }


@pytest.fixture
def here(here):
    Path("notes.txt").write_text("not a picture")
    mask = torch.zeros(1, 3, 40, 36)
    mask[..., 18:] = 1
    nst.save_image(mask, "mask.png")
    return here


@pytest.mark.campaign(500, all_cases())
def test_a_senseless_option_is_refused_by_name_and_value(case, here, monkeypatch, capfd):
    command, action, value = case
    inputs, flags = [*INPUTS[command]], {"-o": "out.png", **TINY}
    if command == "transfer" and action.dest in ("content", "more_contents"):
        flags["-o"] = "out/"  # there may be several
    known = {flag for a in options()[command] for flag in a.option_strings}
    if action.option_strings:
        flags = {k: v for k, v in flags.items() if k not in action.option_strings}
        flags[action.option_strings[-1]] = value
    else:
        inputs[PLACES[action.dest]] = value
    arguments = [command, *inputs, "--quiet"]
    several = action.nargs == "+" and " " in value.strip()
    for flag, text in flags.items():
        words = text.split(" ") if several and text is value else [text]
        arguments += [flag, *words] if flag in known else []
    forward, evaluations = nst.StyleTransferLoss.forward, []

    def impatient(self, image):
        evaluations.append(1)
        if len(evaluations) == 4:
            raise KeyboardInterrupt
        return forward(self, image)

    monkeypatch.setattr(nst.StyleTransferLoss, "forward", impatient)
    before = {*here.iterdir()}
    code = attempt(lambda: run(arguments))
    out, err = capfd.readouterr()
    assert code in (0, 1, 2, 130), code
    check_words(out + err, "what is printed")
    written = [path for path in here.rglob("*") if path.is_file() and path not in before]
    assert not [path for path in written if path.name.startswith(".")], "something is left behind"
    if evaluations and code in (0, 1, 130):
        assert "wrote" in out, err
    else:
        assert code == 2 or (code == 1 and action.dest in ON_THE_DISK), f"exit {code}: {err}"
        assert not written
        names = (*action.option_strings, action.dest, action.dest.replace("_", " "))
        tail = err[err.rindex("\n", 0, len(err) - 1) + 1 :] if err.count("\n") > 1 else err
        shown = [
            part[:12]
            for part in (
                value,
                *value.split(),
                repr(value)[1:-1],
                ascii(value)[1:-1],
                value.replace("_", ""),
            )
        ]
        check_words(tail, tail[:300], (*names, *WORDS.get(action.dest, ())), (*shown, "expected"))
