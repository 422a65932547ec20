"""Files of weights, damaged or evil: one VGG of finite numbers, or an error that names the file.

No code from a file is run, and no file of a few kB takes gigabytes.
"""

import io
import json
import os
import pickle
import random
import struct
import zipfile

import pytest
import safetensors.torch
import torch
from hostile_files import DAMAGES, good_files
from oracle import attempt

from helpers import make_weights, torchvision_keys
from nst_helpers import load_network, load_weights

GOOD = make_weights((2, 2, 2, 2, 2))
FIRST = "conv1_1.weight"


class Program:
    """What runs code when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def saved(value, **options):
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def good_weights(rng):
    """A file that is right, in one of the ways people have it."""
    return rng.choice(
        [
            lambda: safetensors.torch.save(GOOD, {"content_scale": "2"}),
            lambda: saved(GOOD),
            lambda: saved(GOOD, _use_new_zipfile_serialization=False),
            lambda: saved({"state_dict": torchvision_keys(GOOD), "epoch": 3}),
        ]
    )()


def damaged(rng, folder):
    return DAMAGES[rng.choice([*DAMAGES])](good_weights(rng), rng)


def evil_header(rng, folder):
    """A .safetensors file whose header lies."""
    data = safetensors.torch.save(GOOD)
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    entry = header[rng.choice([*GOOD])]
    numbers = [0, 1, -1, 2**31, 2**40, 2**63, 2**64, 1e400, None, "1", []]
    change = rng.randrange(8)
    if change == 0:
        entry["dtype"] = rng.choice(["F64", "BOOL", "C64", "F8_E4M3", "I8", "U64", "x", 1, None])
    elif change == 1:
        entry["shape"][rng.randrange(len(entry["shape"]))] = rng.choice(numbers)
    elif change == 2:
        entry["data_offsets"][rng.randrange(2)] = rng.choice(numbers)
    elif change == 3:
        entry["shape"] = rng.choice([[], None, "x", [2] * 99, {}, entry["shape"][::-1]])
    elif change == 4:
        header["__metadata__"] = rng.choice([None, [], 1, {"content_scale": 1}, {"x": None}])
    elif change == 5:
        texts = ["nan", "inf", "-1", "0", "1e308", "x", "", "9" * 5_000, "\uff11", "1_0"]
        key = rng.choice(["content_scale", "normalised", "name", "source"])
        header["__metadata__"] = {key: rng.choice(texts)}
    elif change == 6:
        header = rng.choice([[], {}, None, {"conv1_1.weight": entry}, {"x" * 9999: entry}])
    text = json.dumps(header).encode()
    length = rng.choice([0, 1, 2**32, 2**63, 2**64 - 1]) if change == 7 else len(text)
    return struct.pack("<Q", length) + text + body


def evil_tensors(rng, folder):
    """A file of torch.save, with tensors that are none of a VGG."""
    one = torch.zeros(1)
    weight = GOOD[FIRST]
    changed = rng.choice(
        [
            lambda: weight.to(
                rng.choice([torch.bool, torch.int8, torch.int64, torch.complex64, torch.half])
            ),
            lambda: weight.double() * rng.choice([1e300, torch.nan, torch.inf, -torch.inf]),
            lambda: weight.to("meta"),
            lambda: weight.to_sparse(),
            lambda: torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8),
            lambda: one.as_strided((rng.choice([2, 10**8, 2**40]), 3, 3, 3), (0,) * 4),
            lambda: weight.reshape(rng.choice([(54,), (2, 27), (3, 2, 3, 3), (2, 3, 9, 1)])),
            lambda: weight[:, : rng.randrange(3)],
            lambda: weight[:0],
            lambda: weight.transpose(0, 1),
            lambda: torch.nn.Parameter(weight),
            lambda: rng.choice([None, 1, "x", [weight], Program(folder)]),
        ]
    )()
    state = {**GOOD, rng.choice([FIRST, FIRST, "conv1_1.bias", "conv3_1.weight"]): changed}
    if rng.random() < 0.2:
        state = {key.replace("conv1_1", "conv1_1"): torch.as_tensor(1.0) for key in state}
    if rng.random() < 0.2:
        del state[rng.choice([*GOOD])]
    if rng.random() < 0.1:
        state[rng.choice([1, None, "", "conv9_9.weight", "x" * 9999])] = weight
    return saved(state, _use_new_zipfile_serialization=rng.random() < 0.7)


def evil_pickle(rng, folder):
    """A pickle by itself or in an archive of torch.save: programs, bombs, cut and changed."""
    deep = b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."
    long = b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"1."
    memo = b"\x80\x02](" + b"2" * 30 + b"e" + b"(2" * 30 + b"."
    content = rng.choice(
        [
            lambda: pickle.dumps(Program(folder), 2),
            lambda: pickle.dumps({**GOOD, "hook": Program(folder)}, 2),
            lambda: pickle.dumps(rng.choice([None, 1, "x", [], {}, (), {1: 2}, [[[1]]]]), 2),
            lambda: b"cos\nsystem\n(S'mkdir " + folder.encode() + b"'\ntR.",
            lambda: deep,
            lambda: long,
            lambda: memo,
            lambda: b"\x80\x02" + rng.randbytes(60) + b".",
        ]
    )()
    if rng.random() < 0.3:
        magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
        return magic + pickle.dumps({"little_endian": True}, 2) + content + pickle.dumps([], 2)
    with zipfile.ZipFile(io.BytesIO(saved(GOOD))) as good, io.BytesIO() as file:
        packed = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
        with zipfile.ZipFile(file, "w", packed) as archive:
            for entry in good.infolist():
                data = good.read(entry)
                if entry.filename.endswith("data.pkl"):
                    data = content
                if rng.random() < 0.9:
                    archive.writestr(entry.filename, data)
            if rng.random() < 0.2:
                archive.writestr("archive/data/99", bytes(16 << 20), zipfile.ZIP_DEFLATED)
        return file.getvalue()


def other_file(rng, folder):
    return rng.choice([data for _, data in good_files().values()])


EVIL = (damaged, damaged, evil_header, evil_tensors, evil_pickle, other_file)


@pytest.mark.campaign(300, 2_400)
def test_hostile_weights_are_a_network_or_refused_by_name(case, seed, tmp_path, capfd):
    rng = random.Random(f"{seed} {case}")
    program = tmp_path / "a program ran"
    make = EVIL[case % len(EVIL)]
    path = tmp_path / f"{make.__name__}-{case}.{rng.choice(['pth', 'safetensors', 'bin'])}"
    path.write_bytes(make(rng, str(program)))
    result = attempt(lambda: load_weights(path), path.name)
    if not isinstance(result, Exception):
        weights, _ = result
        for name, tensor in weights.items():
            assert (tensor.dtype, tensor.layout) == (torch.float32, torch.strided), name
            assert tensor.device.type == "cpu"
            assert torch.isfinite(tensor).all(), f"{name} is not finite"
            assert tensor.numel() < 1_000_000
    attempt(lambda: load_network(path, normalise=False), path.name)
    assert not program.exists(), "code from the file was run"
    assert capfd.readouterr().err == ""
