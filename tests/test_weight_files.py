"""A file is named by its first bytes, read without running code, and without asking for memory."""

import argparse
import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from helpers import make_weights
from nst_helpers import load_weights
from nst_helpers.network.weight_files import kind_of_file, read_pickled

TINY = (2, 3, 2, 3, 2)
STATE = make_weights(TINY)


def caffe_model():
    return b"\n\x14VGG_ILSVRC_19_layers\x12\x04data\x1a\x80\xff\x00" + bytes(range(256))


FOREIGN = {
    "a page": (b"<!DOCTYPE html><html>403 Forbidden</html>", "a web page.*delete it and fetch"),
    "a page after blanks": (b"\xef\xbb\xbf\n\n <HTML>", "a web page"),
    "XML": (b"<?xml version='1.0'?><Error><Code>AccessDenied", "a web page"),
    "JSON": (b'{"error": "quota exceeded"}', r"a text, beginning '\{\"error"),
    "a word": (b"hello", "a text, beginning 'hello'.*delete it"),
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
    "Keras": (b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5.*Keras.*convert it"),
    "MATLAB": (b"MATLAB 5.0 MAT-file" + bytes(99), "MATLAB.*convert it"),
    "numpy": (b"\x93NUMPY\x01\x00" + bytes(99), "NumPy.*convert it"),
    "Torch 7": (b"\x04\0\0\0\x01\0\0\0\x03\0\0\0V 1" + bytes(99), "Torch 7.*convert it"),
    "Caffe": (caffe_model(), "Caffe model, 'VGG_ILSVRC_19_layers'.*convert it"),
    "ONNX": (b"\x08\x06\x12\x07pytorch\x1a\x031.9" + bytes(99), "ONNX.*convert it"),
    "GGUF": (b"GGUF\x03" + bytes(99), "GGUF.*convert it"),
    "gzip": (b"\x1f\x8b\x08\0" + bytes(99), "gzip.*unpack it"),
    "tar": (b"vgg.pth" + bytes(250) + b"ustar\x0000" + bytes(99), "tar.*unpack it"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(99), "a picture"),
    "nothing": (b"", "empty.*delete it"),
    "zeros": (bytes(5000), "full of zeros.*delete it"),
    "anything": (b"\xfe\xca\xad\xde" + bytes(range(128, 256)), "bytes fe ca ad de.*delete it"),
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_file_of_another_kind_is_named_by_its_first_bytes(tmp_path, kind, ending):
    content, words = FOREIGN[kind]
    path = tmp_path / f"vgg19.{ending}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"vgg19\.{ending} is .*{words}") as caught:
        load_weights(path)
    check_silent_about_torchs_advice(caught)


def check_silent_about_torchs_advice(caught):
    error = caught.value
    while error is not None:  # what a traceback shows above it, too
        assert "weights_only" not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


# --- pickles and archives ------------------------------------------------------------------------


class Custom:
    """Something of one's own, as training loops save it."""

    def __init__(self):
        self.lr = 0.1


EXTRAS = {
    "options": argparse.Namespace(lr=0.1, layers=[1, 2]),
    "a path": Path("runs/1"),
    "a number of numpy's": np.float64(0.7),
    "an array": np.arange(3),
    "an object": Custom(),
    "a class": Custom,
    "a function": make_weights,
    "a type": torch.float16,
    "a size": torch.Size([1, 2]),
    "an optimiser's state": torch.optim.Adam([nn.Parameter(torch.ones(1))]).state_dict(),
    "a tuple and a set": ((1, "a"), {1, 2}),
}


@pytest.mark.parametrize("kind", EXTRAS)
@pytest.mark.parametrize("zipped", [True, False])
def test_what_is_no_tensor_is_left_out_of_a_checkpoint(tmp_path, kind, zipped):
    path = tmp_path / "checkpoint.pth"
    saved = {"extra": EXTRAS[kind], "state_dict": OrderedDict(STATE)}
    torch.save(saved, path, _use_new_zipfile_serialization=zipped)
    tensors = read_pickled(path, kind_of_file(path))
    assert list(tensors) == [f"state_dict.{key}" for key in STATE]
    assert all(torch.equal(tensors[f"state_dict.{key}"], value) for key, value in STATE.items())


def test_no_module_that_a_file_names_is_imported(tmp_path, monkeypatch):
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')\nclass Trap: pass\n")
    pickled = io.BytesIO()
    trap = type("Trap", (), {"__module__": "trap", "__qualname__": "Trap"})
    monkeypatch.setitem(__import__("sys").modules, "trap", argparse.Namespace(Trap=trap))
    torch.save({"args": trap(), **STATE}, pickled)
    monkeypatch.undo()
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "net.pth").write_bytes(pickled.getvalue())
    assert len(load_weights(tmp_path / "net.pth")[0]) == 32


WHOLE = {
    "a sequence": lambda: nn.Sequential(nn.Conv2d(3, 4, 3)),
    "in a checkpoint": lambda: {"model": nn.Sequential(nn.Conv2d(3, 4, 3)), "epoch": 1},
}


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_whole_model_is_refused_and_told_how_to_save_its_weights(tmp_path, kind, zipped):
    path = tmp_path / "model.pth"
    torch.save(WHOLE[kind](), path, _use_new_zipfile_serialization=zipped)
    words = r"model\.pth holds .*Sequential.*torch\.save\(model\.state_dict\(\), 'weights\.pth'\)"
    with pytest.raises(ValueError, match=words) as caught:
        load_weights(path)
    check_silent_about_torchs_advice(caught)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_torchscript_program_is_refused(tmp_path):
    torch.jit.script(nn.Conv2d(3, 4, 3)).save(tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"net\.pt holds a TorchScript program"):
        load_weights(tmp_path / "net.pt")


class Evil:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        import os

        return os.system, (self.command,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_command_in_a_pickle_is_not_run(tmp_path, zipped):
    path = tmp_path / "evil.pth"
    saved = {"args": Evil(f"touch {tmp_path / 'was_here'}"), **STATE}
    torch.save(saved, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"evil\.pth holds more than tensors \(.*\.system"):
        load_weights(path)
    assert not (tmp_path / "was_here").exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [True, False])
def test_another_protocol_is_named(tmp_path, zipped):
    path = tmp_path / "net.pth"
    torch.save(STATE, path, pickle_protocol=4, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"net\.pth was saved with pickle_protocol=4.*save it"):
        load_weights(path)


def test_a_pickle_that_is_not_torchs_is_refused(tmp_path):
    (tmp_path / "net.pkl").write_bytes(pickle.dumps({"conv1_1.weight": [1.0]}))
    with pytest.raises(ValueError, match=r"net\.pkl is a pickle, but not one of torch\.save"):
        load_weights(tmp_path / "net.pkl")


def repacked(path, compression):
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def test_an_archive_packed_anew(tmp_path):
    path = tmp_path / "net.pth"
    torch.save(STATE, path)
    repacked(path, zipfile.ZIP_STORED)
    assert len(load_weights(path)[0]) == 32
    repacked(path, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=r"net\.pth was packed anew, with compression"):
        load_weights(path)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["conv1_1.npy"], "NumPy archive"),
        (["config.json", "model.weights.h5"], r"no weights of torch\.save.*config\.json"),
        ([], "no weights of torch.*nothing"),
    ],
)
def test_other_archives_are_named(tmp_path, names, words):
    with zipfile.ZipFile(tmp_path / "net.zip", "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    with pytest.raises(ValueError, match=rf"net\.zip (is|holds) .*{words}"):
        load_weights(tmp_path / "net.zip")


# --- memory --------------------------------------------------------------------------------------


def claiming(path, count):
    """Let the pickle in an archive say that its first tensor's storage has ``count`` numbers."""
    torch.save({"conv1_1.weight": torch.ones(25, 3, 3, 3), "conv1_1.bias": torch.ones(25)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    (pickled,) = (name for name in entries if name.endswith("data.pkl"))
    entries[pickled] = count(entries[pickled])
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def test_a_storage_larger_than_the_file_is_read_to_its_end_and_no_further(tmp_path):
    path = tmp_path / "net.pth"
    number = b"M" + (675).to_bytes(2, "little")  # BININT2: 25 * 3 * 3 * 3
    claiming(path, lambda pickled: pickled.replace(number, b"J" + (10**9).to_bytes(4, "little"), 1))
    assert torch.equal(load_weights(path)[0]["conv1_1.weight"], torch.ones(25, 3, 3, 3))
    tensor = read_pickled(path, "zip")["conv1_1.weight"]
    assert tensor.untyped_storage().nbytes() < path.stat().st_size


def test_a_tensor_larger_than_its_storage_is_refused(tmp_path):
    path = tmp_path / "net.pth"
    claiming(path, lambda pickled: pickled.replace(b"K\x19", b"M\xff\xff", 1))  # 25 filters
    with pytest.raises(ValueError, match=r"net\.pth"):
        load_weights(path)


def test_an_old_file_that_claims_more_than_it_has_is_refused(tmp_path):
    path = tmp_path / "net.pth"
    torch.save({"w": torch.ones(675)}, path, _use_new_zipfile_serialization=False)
    number = b"M" + (675).to_bytes(2, "little")
    content = path.read_bytes()
    assert number in content
    path.write_bytes(content.replace(number, b"J" + (10**9).to_bytes(4, "little"), 1))
    with pytest.raises(ValueError, match=r"net\.pth is cut off or damaged"):
        load_weights(path)


@pytest.mark.parametrize("depth", [4, 12])
def test_nested_far_or_in_itself_it_ends(tmp_path, depth):
    value = state = dict(STATE)
    for _ in range(depth):
        value = {"a": value, "b": 0}
    state["itself"] = state
    torch.save(value, tmp_path / "net.pth")
    if depth == 4:
        assert len(load_weights(tmp_path / "net.pth")[0]) == 32
    else:
        with pytest.raises(ValueError, match="holds no VGG"):
            load_weights(tmp_path / "net.pth")
