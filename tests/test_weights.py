"""Weights by name from every source, and what is said when a source fails. Needs no network."""

import hashlib
import http.server
import pickle
import random
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
import safetensors.torch
import torch

from helpers import NAMES, make_weights, torchvision_keys
from nst_helpers import layer_names, load_network, load_weights
from nst_helpers.lesson import paper_images as fetch
from nst_helpers.network import weights

REPOSITORY = Path(__file__).resolve().parents[1]
TINY = (2, 3, 2, 3, 2)
VGG16 = [f"conv{b}_{i}" for b, n in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, n + 1)]


def write(state, path):
    if path.suffix == ".safetensors":
        safetensors.torch.save_file({k: v.contiguous() for k, v in state.items()}, path)
    else:
        torch.save(state, path)
    return path


def check_same(found, expected):
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert found[key].dtype == torch.float32
        assert torch.equal(found[key], value.float()), key


# --- names ---------------------------------------------------------------------------------------


def test_layer_names_are_vgg19s():
    assert layer_names() == NAMES
    assert layer_names(3) == ["conv1_1", "conv1_2", "conv2_1"]
    assert layer_names(13, (2, 2, 3, 3, 3)) == VGG16


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["pth", "pt", "safetensors"])
@pytest.mark.parametrize("keys", ["convB_I", "features", "numbers"])
def test_every_kind_of_file_and_keys(tmp_path, ending, keys):
    expected = make_weights(TINY)
    state = expected if keys == "convB_I" else torchvision_keys(expected)
    if keys == "numbers":
        state = {k.removeprefix("features."): v for k, v in state.items()}
    found, metadata = load_weights(write(state, tmp_path / f"net.{ending}"))
    check_same(found, expected)
    assert metadata["name"] == f"net.{ending}"


def test_a_path_may_be_a_string(tmp_path):
    path = write(make_weights(TINY), tmp_path / "net.pth")
    check_same(load_weights(str(path))[0], make_weights(TINY))


def test_the_keys_need_not_be_in_order(tmp_path):
    expected = make_weights(TINY)
    for state in (expected, torchvision_keys(expected)):
        keys = list(state)
        random.Random(0).shuffle(keys)
        found, _ = load_weights(write({k: state[k] for k in keys}, tmp_path / "net.pth"))
        check_same(found, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(tmp_path, dtype):
    state = {k: v.to(dtype) for k, v in make_weights(TINY).items()}
    check_same(load_weights(write(state, tmp_path / "net.safetensors"))[0], state)


def test_the_classifier_of_a_whole_vgg_is_left_behind(tmp_path):
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
        found, _ = load_weights(path)
    except ValueError as error:
        if plan.startswith("vgg1") and plan[4] in "69":
            raise
        assert "net.pth" in str(error)
    else:
        check_same(found, expected)


def test_what_a_file_says_of_itself_is_passed_on(tmp_path):
    path = tmp_path / "net.safetensors"
    safetensors.torch.save_file(make_weights(TINY), path, {"teacher": "somebody"})
    assert load_weights(path)[1] == {"teacher": "somebody", "name": "net.safetensors"}


# --- broken files --------------------------------------------------------------------------------


def broken(change):
    state = make_weights(TINY)
    change(state)
    return state


WRONG = {
    "a kernel of 5 x 5": lambda s: s.update({"conv2_1.weight": torch.zeros(3, 2, 5, 5)}),
    "too few channels in": lambda s: s.update({"conv2_1.weight": torch.zeros(3, 1, 3, 3)}),
    "a flat weight": lambda s: s.update({"conv2_1.weight": torch.zeros(3)}),
    "a number for a weight": lambda s: s.update({"conv2_1.weight": torch.tensor(1.0)}),
    "a bias too long": lambda s: s.update({"conv2_1.bias": torch.zeros(4)}),
    "no bias": lambda s: s.pop("conv2_1.bias"),
    "NaN": lambda s: s["conv2_1.weight"].view(-1)[5:6].fill_(float("nan")),
    "infinity in a bias": lambda s: s["conv2_1.bias"][1:2].fill_(float("inf")),
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_wrong_layer_is_refused_by_name(tmp_path, what, ending):
    path = write(broken(WRONG[what]), tmp_path / f"net.{ending}")
    with pytest.raises(ValueError, match=rf"net\.{ending}.*conv2_1"):
        load_weights(path)


def test_a_grey_network_is_refused(tmp_path):
    state = broken(lambda s: s.update({"conv1_1.weight": torch.zeros(2, 1, 3, 3)}))
    with pytest.raises(ValueError, match="conv1_1"):
        load_weights(write(state, tmp_path / "net.pth"))


@pytest.mark.parametrize(
    "content",
    [
        torch.zeros(3),
        [torch.zeros(3)],
        "hello",
        {"state_dict": {"conv1_1.weight": torch.zeros(2, 3, 3, 3)}, "epoch": 7},
        {},
        {"layer1.0.conv1.weight": torch.zeros(2, 3, 3, 3)},
        {0: torch.zeros(2, 3, 3, 3)},
    ],
    ids=["tensor", "list", "text", "nested", "empty", "resnet", "numbers as keys"],
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


def test_a_folder_is_no_network(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_weights(tmp_path)


# --- random and bundled --------------------------------------------------------------------------


def test_random_weights_have_vgg19s_shape_and_are_seeded():
    state = torch.get_rng_state()
    a, metadata = load_weights("random")
    assert torch.equal(torch.get_rng_state(), state)
    channels = [64] * 2 + [128] * 2 + [256] * 4 + [512] * 8
    shapes = [tuple(v.shape) for k, v in a.items() if k.endswith("weight")]
    assert shapes == [(n, m, 3, 3) for n, m in zip(channels, [3, *channels], strict=False)]
    assert [k.split(".")[0] for k in a if k.endswith("bias")] == NAMES
    assert "random" in metadata["name"]
    b, _ = load_weights("random")
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_the_bundled_weights_have_vgg19s_layers_and_say_how_they_were_made():
    found, metadata = load_weights("bundled")
    assert [k.removesuffix(".weight") for k in found if k.endswith(".weight")] == NAMES
    assert metadata["name"] == "bundled network"
    assert metadata["normalised"].startswith("avg pooling")
    assert {"teacher", "training"} <= set(metadata)


def test_the_bundled_file_is_small_enough_for_a_repository():
    assert weights.BUNDLED.stat().st_size < 10_000_000


# --- VGG-19 --------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty torch hub of its own; returns where VGG-19's file would lie."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(urllib.request, "_opener", None)  # it remembers the proxies it first saw
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return tmp_path / "torch" / "hub" / "checkpoints" / "vgg19-dcbb9e9d.pth"


@pytest.fixture
def downloaded(hub):
    hub.parent.mkdir(parents=True)
    expected = make_weights(TINY, seed=42)
    return write(torchvision_keys(expected), hub), expected


@pytest.fixture
def torchvision_weights():
    return pytest.importorskip("torchvision.models").VGG19_Weights.IMAGENET1K_V1


def files_below(folder):
    return [p for p in folder.rglob("*") if p.is_file()]


def test_the_file_is_the_one_torchvision_downloads(torchvision_weights):
    assert torchvision_weights.url.rsplit("/", 1)[1] == weights.VGG19_FILE


def test_auto_takes_vgg19_if_it_is_there_and_says_so(downloaded, capsys):
    found, metadata = load_weights("auto")
    check_same(found, downloaded[1])
    assert metadata["name"] == "VGG-19"
    out = capsys.readouterr().out
    assert "VGG-19" in out
    assert "load_network('bundled')" in out
    assert out.count("\n") == 1


def test_auto_takes_the_bundled_network_otherwise_and_says_so(hub, capsys):
    found, metadata = load_weights("auto")
    assert metadata["name"] == "bundled network"
    assert found["conv1_1.weight"].shape[0] == load_weights("bundled")[0]["conv1_1.bias"].numel()
    out = capsys.readouterr().out
    assert out.startswith("network: bundled")
    assert "548 MB" in out
    assert "load_network('vgg19')" in out
    assert out.count("\n") == 1


def test_auto_looks_where_torch_hub_was_told_to(tmp_path, hub, monkeypatch, capsys):
    elsewhere = tmp_path / "elsewhere"
    torch.hub.set_dir(str(elsewhere))  # undone by the hub fixture
    (elsewhere / "checkpoints").mkdir(parents=True)
    expected = make_weights(TINY, seed=7)
    write(torchvision_keys(expected), elsewhere / "checkpoints" / hub.name)
    check_same(load_weights("auto")[0], expected)


@pytest.mark.parametrize("source", ["bundled", "random", "vgg19"])
def test_a_source_that_was_named_is_not_announced(downloaded, capsys, source):
    load_weights(source)
    assert capsys.readouterr().out == ""


def test_vgg19_that_is_there_needs_no_network(downloaded, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", no_internet)
    check_same(load_weights("vgg19")[0], downloaded[1])


def test_a_broken_download_says_what_to_do(hub):
    hub.parent.mkdir(parents=True)
    hub.write_bytes(b"half a file")
    for source in ("vgg19", "auto"):
        with pytest.raises(ValueError, match=rf"{hub.name}.*delete it"):
            load_weights(source)


def no_internet(*args, **kwargs):
    raise socket.gaierror(-3, "Temporary failure in name resolution")


def closed_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def check_refused(hub, within):
    began = time.perf_counter()
    with pytest.raises(ConnectionError) as caught:
        load_weights("vgg19")
    message = str(caught.value)
    assert re.search(r"VGG-19 could not be downloaded.*load_network\('bundled'\)", message)
    assert time.perf_counter() - began < within
    assert files_below(hub.parents[2]) == []
    return message


def test_without_name_resolution_it_names_the_bundled_network(
    hub, monkeypatch, torchvision_weights
):
    monkeypatch.setattr(socket, "getaddrinfo", no_internet)
    check_refused(hub, within=3)


def test_a_name_resolution_that_hangs_is_noticed(hub, monkeypatch, torchvision_weights):
    monkeypatch.setattr(fetch, "SECONDS_TO_ANSWER", 0.5)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: time.sleep(4) or no_internet())
    check_refused(hub, within=2.5)


def test_a_closed_proxy_is_noticed(hub, monkeypatch, torchvision_weights):
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{closed_port()}")
    assert "refused" in check_refused(hub, within=3)


def test_a_server_that_never_answers_is_noticed(hub, monkeypatch, torchvision_weights):
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, and that is all
        port = server.getsockname()[1]
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        assert "no answer" in check_refused(hub, within=8)


class Served(http.server.BaseHTTPRequestHandler):
    body, status, declared = b"", 200, None

    def do_HEAD(self):
        self.send_response(self.status)
        self.send_header("Content-Length", str(self.declared or len(self.body)))
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        self.wfile.write(self.body)

    def log_message(self, *args):
        pass


@pytest.fixture
def serve(monkeypatch, torchvision_weights):
    """Let torchvision's address be a server here, with a body of the test's choice."""
    servers = []

    def start(body, status=200, declared=None, name=weights.VGG19_FILE):
        handler = type("Handler", (Served,), {"body": body, "status": status, "declared": declared})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        url = f"http://127.0.0.1:{server.server_port}/{name}"
        monkeypatch.setattr(torchvision_weights.value, "url", url)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_missing_page_is_a_connection_error(hub, serve):
    serve(b"not found", status=404)
    check_refused(hub, within=3)


@pytest.mark.parametrize("declared", [None, 5000], ids=["wrong hash", "cut off"])
def test_a_wrong_download_leaves_no_file_behind(hub, serve, declared):
    serve(b"not VGG-19 at all", declared=declared)
    check_refused(hub, within=5)


def test_a_good_download_is_loaded_and_kept(hub, serve, monkeypatch, tmp_path):
    expected = make_weights(TINY, seed=3)
    body = write(torchvision_keys(expected), tmp_path / "served.pth").read_bytes()
    name = f"vgg19-{hashlib.sha256(body).hexdigest()[:8]}.pth"
    monkeypatch.setattr(weights, "VGG19_FILE", name)
    serve(body, name=name)
    check_same(load_weights("vgg19")[0], expected)
    assert (hub.parent / name).read_bytes() == body
    serve(b"", status=404, name=name)
    check_same(load_weights("vgg19")[0], expected)  # not downloaded again


def test_nonsense_for_an_answer_is_a_connection_error(hub, monkeypatch, torchvision_weights):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"what?\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/{weights.VGG19_FILE}"
        monkeypatch.setattr(torchvision_weights.value, "url", url)
        crashed = []
        monkeypatch.setattr(threading, "excepthook", crashed.append)
        check_refused(hub, within=3)
    assert crashed == []


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


def test_a_broken_torchvision_does_not_matter_to_a_file_that_is_there(
    downloaded, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    check_same(load_weights("vgg19")[0], downloaded[1])


def test_importing_the_package_does_not_import_torchvision():
    code = "import sys, nst_helpers; print(sorted(m for m in sys.modules if 'torchvision' in m))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("scale", [None, "7.5"])
def test_a_file_may_say_where_its_axis_of_alpha_beta_sits(tmp_path, scale):
    path = tmp_path / "net.safetensors"
    weights = {"conv1_1.weight": torch.rand(4, 3, 3, 3), "conv1_1.bias": torch.zeros(4)}
    safetensors.torch.save_file(weights, path, None if scale is None else {"content_scale": scale})
    assert load_network(path).content_scale == float(scale or 1)


@pytest.mark.parametrize("scale", ["ten", "nan", "inf", "0", "-1"])
def test_a_content_scale_that_makes_no_sense(tmp_path, scale):
    path = tmp_path / "net.safetensors"
    weights = {"conv1_1.weight": torch.rand(4, 3, 3, 3), "conv1_1.bias": torch.zeros(4)}
    safetensors.torch.save_file(weights, path, {"content_scale": scale})
    with pytest.raises(ValueError, match=rf"net.safetensors.*content_scale.*'{scale}'"):
        load_network(path)
