"""Settings in picture files, and settings that the explorer is given: whole, or not at all."""

import json
import random

import pytest
from hostile_files import chunk, hostile_file, png
from oracle import attempt, check_image

import nst_helpers as nst
from helpers import make_picture, make_weights

TEXTS = ["noise", "content", "relu1_1", "relu5_2", "pebbles", "../x.png", "<script>", "1", "", "\0"]
NUMBERS = [0, 1, -1, 33, 0.5, 1e308, 1e-320, 10**30, 10**400, float("nan"), float("inf"), 2**31]
KEYS = "content style start size steps seed network content_layer alpha beta step".split()  # noqa: SIM905
KEYS += ["second_style", "blend", "colors", "style_scale"]


def nonsense(rng, depth=3):
    """A value that JSON can hold, or nearly."""
    if depth and rng.random() < 0.3:
        inner = [nonsense(rng, depth - 1) for _ in range(rng.randrange(3))]
        return inner if rng.random() < 0.5 else {rng.choice([*TEXTS, *KEYS]): x for x in inner}
    return rng.choice([None, True, False, rng.choice(TEXTS), rng.choice(NUMBERS)])


@pytest.mark.campaign(300, 2_400)
def test_settings_in_a_hostile_file_are_a_dict_or_refused_by_name(case, seed, tmp_path, capfd):
    file = hostile_file(case, seed)
    path = tmp_path / f"{file.name}.{file.ending}"
    path.write_bytes(file.data)
    result = attempt(lambda: nst.load_settings(path), path.name)
    assert isinstance(result, dict | Exception)
    assert capfd.readouterr() == ("", "")


@pytest.mark.campaign(300, 2_400)
def test_any_json_in_a_file_is_a_dict_or_refused(case, seed):
    rng = random.Random(f"{seed} {case}")
    value = nonsense(rng)
    text = bytearray(json.dumps({"alpha": value} if case % 2 else value).encode())
    if rng.random() < 0.3:
        text[rng.randrange(len(text))] = rng.randrange(256)
    file = png(chunk(b"iTXt", b"nst_helpers\0\0\0\0\0" + text))
    result = attempt(lambda: nst.load_settings(file), "this file")
    assert isinstance(result, dict | Exception)
    if isinstance(result, dict):
        assert result == json.loads(text)
        json.dumps(result, allow_nan=False)


@pytest.fixture(scope="module", params=[False, True], ids=["own", "served"])
def explorer(request, tmp_path_factory):
    net = nst.Features(make_weights((2, 2, 2, 2, 2)), name="small network")
    pictures = make_picture(40, 36, seed=1), make_picture(40, 36, seed=2)
    folder = tmp_path_factory.mktemp("output")
    explorer = nst.StyleTransferExplorer(
        *pictures, net=net, size=32, steps=1, output=folder, served=request.param
    )
    yield explorer
    explorer.close()


@pytest.mark.campaign(120, 2_400)
def test_settings_of_an_explorer_are_taken_whole_or_not_at_all(explorer, case, seed, capfd):
    rng = random.Random(f"{seed} {case}")
    before = explorer.settings
    settings = {key: before.get(key, 1) for key in rng.sample(KEYS, rng.randrange(4))}
    key = rng.choice([*KEYS, "style_layer_weights", "an unknown one"])
    value = nonsense(rng)
    if key == "style_layer_weights" and rng.random() < 0.5:
        value = {rng.choice(["relu1_1", "relu9_9", 1]): value}
    settings[key] = value
    result = attempt(lambda: setattr(explorer, "settings", settings), names(key, value))
    if isinstance(result, Exception):
        assert explorer.settings == before, "half of it was taken"
    else:
        json.dumps(explorer.settings, allow_nan=False)
        check_image(explorer.image)
        explorer.settings = before
    assert capfd.readouterr() == ("", "")


def names(key, value):
    """What the message must hold: the setting's name, or that of one inside it."""
    inner = value if isinstance(value, dict) else ()
    return (key, key.replace("_", " "), *map(str, inner), "picture", "style layers")


@pytest.mark.parametrize("value", [None, [], [1], "alpha", 5, {1: 2}, {"alpha": 1, 2: 3}])
def test_what_is_no_dict_of_settings_is_refused(explorer, value):
    before = explorer.settings
    result = attempt(lambda: setattr(explorer, "settings", value), "settings")
    assert isinstance(result, Exception)
    assert explorer.settings == before
