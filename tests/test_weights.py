"""Weights by name from every source, and what an error says when a source fails. Offline."""

import hashlib
import pickle
import random
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from helpers import NAMES, make_weights, no_internet, torchvision_keys
from nst_helpers import load_network, load_weights
from nst_helpers.network import weights
from nst_helpers.network.weights import layer_names

REPOSITORY = Path(__file__).resolve().parents[1]
TINY = (2, 3, 2, 3, 2)
VGG16 = [f"conv{b}_{i}" for b, n in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, n + 1)]


def write(state, path):
    if path.suffix == ".safetensors":
        safetensors.torch.save_file({k: v.contiguous() for k, v in state.items()}, path)
    else:
        torch.save(state, path)
    return path


def check_same(loaded, expected):
    assert list(loaded) == list(expected)
    for key, value in expected.items():
        assert loaded[key].dtype == torch.float32
        assert torch.equal(loaded[key], value.float()), key


# --- names ---------------------------------------------------------------------------------------


def test_layer_names_are_vgg19s():
    assert layer_names() == NAMES
    assert layer_names(3) == ["conv1_1", "conv1_2", "conv2_1"]
    assert layer_names(13, (2, 2, 3, 3, 3)) == VGG16


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "name"), [("safetensors", "net.bin"), ("safetensors", "net.pth"), ("pth", "net")]
)
def test_the_first_bytes_tell_the_kind_and_not_the_ending(tmp_path, content, name):
    expected = make_weights(TINY)
    path = write(expected, tmp_path / f"any.{content}").rename(tmp_path / name)
    check_same(load_weights(path)[0], expected)


@pytest.mark.parametrize("ending", ["pth", "pt", "safetensors"])
@pytest.mark.parametrize("keys", ["convB_I", "features", "numbers"])
def test_every_kind_of_file_and_keys(tmp_path, ending, keys):
    expected = make_weights(TINY)
    state = expected if keys == "convB_I" else torchvision_keys(expected)
    if keys == "numbers":
        state = {k.removeprefix("features."): v for k, v in state.items()}
    path = write(state, tmp_path / f"net.{ending}")
    for source in (path, str(path)):
        loaded, metadata = load_weights(source)
        check_same(loaded, expected)
        assert metadata == {"name": f"net.{ending}", "source": str(path)}


def test_the_keys_need_not_be_in_order(tmp_path):
    expected = make_weights(TINY)
    for state in (expected, torchvision_keys(expected)):
        keys = list(state)
        random.Random(0).shuffle(keys)
        path = write({k: state[k] for k in keys}, tmp_path / "net.pth")
        check_same(load_weights(path)[0], expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(tmp_path, dtype):
    state = {k: v.to(dtype) for k, v in make_weights(TINY).items()}
    check_same(load_weights(write(state, tmp_path / "net.safetensors"))[0], state)


def test_the_classifier_of_a_whole_vgg_is_left_out(tmp_path):
    expected = make_weights(TINY)
    state = torchvision_keys(expected)
    state |= {
        f"classifier.{i}.{k}": torch.zeros(4, 4) for i in (0, 3, 6) for k in ("weight", "bias")
    }
    check_same(load_weights(write(state, tmp_path / "net.pth"))[0], expected)


def test_our_names_for_torchvisions_keys_are_the_layers_of_its_network():
    models = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        features = models.vgg19(weights=None, init_weights=False).features
    block, i, expected = 1, 0, {}
    for index, module in enumerate(features):
        if isinstance(module, torch.nn.Conv2d):
            i += 1
            expected[f"features.{index}.weight"] = f"conv{block}_{i}.weight"
        elif isinstance(module, torch.nn.MaxPool2d):
            block, i = block + 1, 0
    mapping = torchvision_keys({k: k for k in make_weights(TINY)})
    assert {k: v for k, v in mapping.items() if k.endswith("weight")} == expected


PLANS = {
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19 to conv3_2": (2, 2, 2),
    "vgg16 to conv4_3": (2, 2, 3, 3),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg11": (1, 1, 2, 2, 2),
}


@pytest.mark.parametrize("plan", PLANS)
def test_torchvisions_other_vggs_get_their_own_names_or_are_refused(tmp_path, plan):
    names = [f"conv{b}_{i}" for b, n in enumerate(PLANS[plan], 1) for i in range(1, n + 1)]
    expected = make_weights(TINY, names)
    path = write(torchvision_keys(expected), tmp_path / "net.pth")
    try:
        check_same(load_weights(path)[0], expected)
    except ValueError as error:
        if plan.startswith("vgg1") and plan[4] in "69":
            raise
        assert "net.pth" in str(error)


def test_metadata_in_a_file_are_passed_on_but_for_name_and_source(tmp_path):
    path = tmp_path / "net.safetensors"
    metadata = {"teacher": "somebody", "name": "another", "source": "elsewhere"}
    safetensors.torch.save_file(make_weights(TINY), path, metadata)
    expected = {"teacher": "somebody", "name": "net.safetensors", "source": str(path)}
    assert load_weights(path)[1] == expected


# --- broken files --------------------------------------------------------------------------------


WRONG = {
    "a kernel of 5 x 5": lambda s: s.update({"conv2_1.weight": torch.zeros(3, 2, 5, 5)}),
    "too few channels in": lambda s: s.update({"conv2_1.weight": torch.zeros(3, 1, 3, 3)}),
    "a flat weight": lambda s: s.update({"conv2_1.weight": torch.zeros(3)}),
    "a number for a weight": lambda s: s.update({"conv2_1.weight": torch.tensor(1.0)}),
    "a bias too long": lambda s: s.update({"conv2_1.bias": torch.zeros(4)}),
    "no bias": lambda s: s.pop("conv2_1.bias"),
    "NaN": lambda s: s["conv2_1.weight"].view(-1)[5:6].fill_(float("nan")),
    "infinity in a bias": lambda s: s["conv2_1.bias"][1:2].fill_(float("inf")),
    "grey images": lambda s: s.update({"conv1_1.weight": torch.zeros(2, 1, 3, 3)}),
}


@pytest.mark.parametrize("change", WRONG)
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_wrong_layer_is_refused_by_name(tmp_path, change, ending):
    state = make_weights(TINY)
    WRONG[change](state)
    path = write(state, tmp_path / f"net.{ending}")
    layer = "conv1_1" if change == "grey images" else "conv2_1"
    with pytest.raises(ValueError, match=rf"net\.{ending}.*{layer}"):
        load_weights(path)


@pytest.mark.parametrize(
    "content",
    [
        torch.zeros(3),
        [torch.zeros(3)],
        "hello",
        {"epoch": 7, "lr": torch.tensor(0.1)},
        {},
        {"layer1.0.conv1.weight": torch.zeros(2, 3, 3, 3)},
        {0: torch.zeros(2, 3, 3, 3)},
    ],
    ids=["tensor", "list", "text", "no weights", "empty", "resnet", "numbers as keys"],
)
def test_what_is_no_state_dict_of_a_vgg_is_refused(tmp_path, content):
    path = tmp_path / "net.pth"
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"net\.pth holds no"):
        load_weights(path)


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
@pytest.mark.parametrize("content", [b"", b"hello", b"<html>404</html>", b"\0" * 5000])
def test_a_file_that_holds_no_weights_is_refused_by_name(tmp_path, ending, content):
    path = tmp_path / f"net.{ending}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"net\.{ending}"):
        load_weights(path)


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_damaged_file_is_a_value_error_and_nothing_else(tmp_path, ending):
    path = write(make_weights((2, 2, 2, 2, 2), NAMES[:3]), tmp_path / f"net.{ending}")
    good, rng = path.read_bytes(), random.Random(0)
    for trial in range(150):
        damaged = bytearray(good)
        if trial % 3 == 0:
            del damaged[rng.randrange(len(good)) :]
        else:
            for _ in range(trial % 3):
                damaged[rng.randrange(len(good))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            load_weights(path)  # a changed number goes unnoticed
        except ValueError as error:
            assert path.name in str(error)


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_random_bytes_are_a_value_error_and_nothing_else(tmp_path, ending):
    rng, path = random.Random(1), tmp_path / f"net.{ending}"
    for start in (b"", b"\x80\x02", b"PK\x03\x04"):
        for _ in range(100):
            path.write_bytes(start + rng.randbytes(rng.randrange(1, 200)))
            with pytest.raises(ValueError, match=re.escape(path.name)):
                load_weights(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_cannot_run_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "was_here",))

    for dump in (torch.save, lambda x, path: path.write_bytes(pickle.dumps(x))):
        dump({"conv1_1.weight": Evil()}, tmp_path / "evil.pth")
        with pytest.raises(ValueError, match=r"evil\.pth"):
            load_weights(tmp_path / "evil.pth")
    assert not (tmp_path / "was_here").exists()


@pytest.mark.parametrize("source", ["nowhere.pth", "vgg", "VGG19", ""])
def test_a_source_that_is_not_there_lists_those_that_are(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        load_weights(source)
    message = str(caught.value)
    assert repr(source) in message
    for word in ("'auto'", "'bundled'", "'vgg19'", "'random'", ".pth", ".safetensors"):
        assert word in message


@pytest.mark.parametrize("source", ["~/net.pth", Path("~/net.pth")])
def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch, source):
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    expected = make_weights(TINY)
    write(expected, tmp_path / "net.pth")
    loaded, metadata = load_weights(source)
    check_same(loaded, expected)
    assert metadata == {"name": "net.pth", "source": str(source)}


def test_a_folder_is_no_network(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no network"):
        load_weights(tmp_path)


# --- random and bundled --------------------------------------------------------------------------


def test_random_weights_have_vgg19s_shape_and_are_seeded():
    state = torch.get_rng_state()
    loaded, metadata = load_weights("random")
    assert torch.equal(torch.get_rng_state(), state)
    assert metadata == {"name": "random network", "source": "random"}
    channels = [64] * 2 + [128] * 2 + [256] * 4 + [512] * 8
    shapes = [tuple(v.shape) for k, v in loaded.items() if k.endswith("weight")]
    assert shapes == [(n, m, 3, 3) for n, m in zip(channels, [3, *channels], strict=False)]
    assert [k.split(".")[0] for k in loaded if k.endswith("bias")] == NAMES
    check_same(load_weights("random")[0], loaded)


def test_the_bundled_weights_have_vgg19s_layers():
    loaded, metadata = load_weights("bundled")
    assert [k.removesuffix(".weight") for k in loaded if k.endswith(".weight")] == NAMES
    assert (metadata["name"], metadata["source"]) == ("bundled network", "bundled")
    assert metadata["normalised"].startswith("avg pooling")


# --- VGG-19 --------------------------------------------------------------------------------------


@pytest.fixture
def vgg19_file(hub):
    """Where VGG-19's file would be; its folder is there, and empty."""
    path = hub / "checkpoints" / "vgg19-dcbb9e9d.pth"
    path.parent.mkdir(parents=True)
    return path


@pytest.fixture
def downloaded(vgg19_file):
    """What VGG-19's file, which is there, holds."""
    expected = make_weights(TINY, seed=42)
    write(torchvision_keys(expected), vgg19_file)
    return expected


@pytest.fixture
def torchvision_weights():
    return pytest.importorskip("torchvision.models").VGG19_Weights.IMAGENET1K_V1


def test_the_file_is_the_one_torchvision_downloads(torchvision_weights):
    assert torchvision_weights.url.rsplit("/", 1)[1] == weights.VGG19_FILE == "vgg19-dcbb9e9d.pth"


def test_auto_is_vgg19_if_it_is_there_and_says_so_in_a_line(downloaded, capsys):
    loaded, metadata = load_weights("auto")
    check_same(loaded, downloaded)
    assert metadata == {"name": "VGG-19", "source": "vgg19"}
    assert re.fullmatch(r".*VGG-19.*load_network\('bundled'\).*\n", capsys.readouterr().out)


def test_auto_is_the_bundled_network_otherwise_and_says_so_in_a_line(hub, capsys):
    loaded, metadata = load_weights("auto")
    line = r"network: bundled.*548 MB.*load_network\('vgg19'\).*\n"
    assert re.fullmatch(line, capsys.readouterr().out)
    expected, expected_metadata = load_weights("bundled")
    check_same(loaded, expected)
    assert metadata == expected_metadata


def test_auto_looks_where_torch_hub_was_told_to(tmp_path, hub):
    elsewhere = tmp_path / "elsewhere"
    torch.hub.set_dir(str(elsewhere))  # undone by the hub fixture
    (elsewhere / "checkpoints").mkdir(parents=True)
    expected = make_weights(TINY, seed=7)
    write(torchvision_keys(expected), elsewhere / "checkpoints" / weights.VGG19_FILE)
    check_same(load_weights("auto")[0], expected)


@pytest.mark.parametrize("source", ["bundled", "random", "vgg19"])
def test_a_source_that_was_named_is_not_announced(downloaded, capsys, source):
    assert load_weights(source)[1]["source"] == source
    assert capsys.readouterr() == ("", "")


BROKEN = {
    "text": b"half a file",
    "a web page": b"<!DOCTYPE html><html>403 Forbidden</html>",
    "a cut-off download": b"PK\x03\x04" + bytes(1000),
    "a cut-off download of the old kind": b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M",
    "nothing": b"",
}


@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_vgg19_that_was_asked_for_says_what_to_do(vgg19_file, content):
    vgg19_file.write_bytes(BROKEN[content])
    with pytest.raises(ValueError, match=rf"{vgg19_file.name}.*delete it") as caught:
        load_weights("vgg19")
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_vgg19_never_stops_auto(vgg19_file, capsys, content):
    vgg19_file.write_bytes(BROKEN[content])
    check_auto_goes_on(vgg19_file, capsys)


def test_another_network_in_vgg19s_place_never_stops_auto(vgg19_file, capsys):
    torch.save({"layer1.0.conv1.weight": torch.zeros(2, 3, 3, 3)}, vgg19_file)
    check_auto_goes_on(vgg19_file, capsys)


def check_auto_goes_on(vgg19_file, capsys):
    loaded, metadata = load_weights("auto")
    assert metadata["source"] == "bundled"
    check_same(loaded, load_weights("bundled")[0])
    line = rf"network: bundled, .*delete {re.escape(str(vgg19_file))}.*load_network\('vgg19'\).*\n"
    assert re.fullmatch(line, capsys.readouterr().out)


def test_a_vgg19_that_may_not_be_opened_never_stops_auto(vgg19_file, capsys, monkeypatch):
    vgg19_file.write_bytes(b"")

    def refuse(path, *args, **kwargs):
        if path == vgg19_file:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **kwargs)

    opened = Path.open
    monkeypatch.setattr(Path, "open", refuse)
    check_auto_goes_on(vgg19_file, capsys)


def check_download_fails(vgg19_file, reason):
    message = (
        rf"VGG-19 could not be downloaded: .*{reason}.*load_network\('bundled'\) works offline"
    )
    with pytest.raises(ConnectionError, match=message):
        load_weights("vgg19")
    assert list(vgg19_file.parent.iterdir()) == []


def test_vgg19_needs_the_internet_only_if_it_is_not_there(
    vgg19_file, request, monkeypatch, torchvision_weights
):
    monkeypatch.setattr(socket, "getaddrinfo", no_internet)
    check_download_fails(vgg19_file, "name resolution")
    check_same(request.getfixturevalue("downloaded"), load_weights("vgg19")[0])


def test_another_file_than_torchvisions_is_refused(
    vgg19_file, serve, monkeypatch, torchvision_weights
):
    server = serve(b"not VGG-19 at all")
    monkeypatch.setattr(torchvision_weights.value, "url", server.url + weights.VGG19_FILE)
    check_download_fails(vgg19_file, "hash")


def test_a_good_download_is_loaded_and_kept(
    vgg19_file, serve, monkeypatch, tmp_path, torchvision_weights
):
    expected = make_weights(TINY, seed=3)
    body = write(torchvision_keys(expected), tmp_path / "served.pth").read_bytes()
    server = serve(body)
    monkeypatch.setattr(torchvision_weights.value, "url", server.url + weights.VGG19_FILE)
    monkeypatch.setattr(weights, "VGG19_SHA256", hashlib.sha256(body).hexdigest()[:8])
    check_same(load_weights("vgg19")[0], expected)
    assert vgg19_file.read_bytes() == body
    server.paths.clear()
    check_same(load_weights("vgg19")[0], expected)
    assert server.paths == []  # not downloaded again


@pytest.mark.parametrize(
    "line",
    [
        "raise RuntimeError('operator torchvision::nms does not exist')",
        "raise OSError('libcudart.so.13: cannot open shared object file')",
        "raise ImportError('no torchvision here')",
    ],
)
def test_a_broken_torchvision_is_an_import_error_with_the_cure(hub, tmp_path, monkeypatch, line):
    fake = tmp_path / "fake" / "torchvision"
    fake.mkdir(parents=True)
    (fake / "__init__.py").write_text(line)
    monkeypatch.syspath_prepend(fake.parent)
    for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError) as caught:
        load_weights("vgg19")
    message = str(caught.value)
    assert "pip install --force-reinstall torch torchvision" in message
    assert "load_network('bundled')" in message
    assert line.split("'")[1] in message


def test_a_file_that_is_there_needs_no_torchvision(downloaded, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    check_same(load_weights("vgg19")[0], downloaded)


def test_importing_the_package_does_not_import_torchvision():
    code = "import sys, nst_helpers; print(sorted(m for m in sys.modules if 'torchvision' in m))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# --- content_scale -------------------------------------------------------------------------------


def with_content_scale(scale, path):
    state = {"conv1_1.weight": torch.rand(4, 3, 3, 3), "conv1_1.bias": torch.zeros(4)}
    safetensors.torch.save_file(state, path, None if scale is None else {"content_scale": scale})
    return path


@pytest.mark.parametrize("scale", [None, "7.5"])
def test_a_file_may_scale_the_content_loss_of_its_network(tmp_path, scale):
    net = load_network(with_content_scale(scale, tmp_path / "net.safetensors"))
    assert net.content_scale == float(scale or 1)


@pytest.mark.parametrize("scale", ["ten", "nan", "inf", "0", "-1", "1e308", "1e-9"])
def test_a_content_scale_out_of_reason_is_refused(tmp_path, scale):
    path = with_content_scale(scale, tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match=rf"net.safetensors.*content_scale.*'{scale}'"):
        load_network(path)


@pytest.mark.parametrize("source", ["~no_such_user/vgg.pth", "a\0b"])
def test_a_path_that_cannot_be_one_is_an_error_of_ours(source):
    with pytest.raises((FileNotFoundError, ValueError), match=re.escape(repr(source))):
        load_weights(source)
