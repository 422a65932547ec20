"""What lies in a file of weights: told by its first bytes, read without running code from it."""

from __future__ import annotations

import _compat_pickle
import itertools
import os
import pickletools
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import torch

__all__ = ["kind_of_file", "read_pickled"]

CONVERT = "only PyTorch's files can be read here: convert it to a state dict (.pth or .safetensors)"
UNPACK = "unpack it and give the file inside"
AGAIN = "delete it and fetch the file again"
BROKEN = f"is cut off or damaged; if it was a download, {AGAIN}"
STATE_DICT = (
    "where it was made, save the weights alone: torch.save(model.state_dict(), 'weights.pth')"
)
MOST_PICKLED = 1 << 26  # bytes: names and shapes of a checkpoint take thousands
# Modules whose names every file of tensors has in it.
TENSORS = {"_codecs", "collections", "torch", "torch._tensor", "torch._utils", "torch.nn.parameter"}

# Where it is, the bytes there, what a file that has them is, and what to do.
SIGNATURES = (
    (0, b"\x89HDF\r\n", "an HDF5 file, as Keras writes them", CONVERT),
    (0, b"MATLAB ", "a MATLAB file", CONVERT),
    (0, b"\x93NUMPY", "a NumPy array", CONVERT),
    (0, b"\x04\0\0\0\x01\0\0\0\x03\0\0\0V 1", "a file of Torch 7, PyTorch's predecessor", CONVERT),
    (0, b"GGUF", "a GGUF file", CONVERT),
    (0, b"version https://git-lfs", "a git-lfs pointer, not the file itself", "run git lfs pull"),
    (0, b"\x1f\x8b", "compressed by gzip", UNPACK),
    (0, b"BZh", "compressed by bzip2", UNPACK),
    (0, b"\xfd7zXZ", "compressed by xz", UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "compressed by zstd", UNPACK),
    (0, b"7z\xbc\xaf", "a 7-Zip archive", UNPACK),
    (0, b"Rar!", "a RAR archive", UNPACK),
    (257, b"ustar", "a tar archive", UNPACK),
    (0, b"\x89PNG", "a picture", "give a file of weights"),
    (0, b"\xff\xd8\xff", "a picture", "give a file of weights"),
    (0, b"%PDF", "a PDF", "give a file of weights"),
)


def kind_of_file(path: Path) -> str:
    """Return ``"zip"`` or ``"pickle"``, as torch writes them, or ``"safetensors"``.

    Parameters
    ----------
    path : Path
        Its ending does not matter.

    Raises
    ------
    ValueError
        If the first bytes are another file's: says whose, and what to do.
    """
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith(b"PK"):
        return "zip"
    if head[:1] == b"\x80" and head[1:2] <= b"\x05":
        return "pickle"
    if head[8:9] == b"{" and head[6:8] == b"\0\0":  # after its length, a header in JSON
        return "safetensors"
    what, advice = _foreign(head)
    raise ValueError(f"{path} is {what}: {advice}")


def _foreign(head: bytes) -> tuple[str, str]:
    """Return what a file that begins with ``head`` is, and what to do."""
    if not head.strip(b"\0"):
        return ("full of zeros" if head else "empty"), AGAIN
    for offset, start, what, advice in SIGNATURES:
        if head.startswith(start, offset):
            return what, advice
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return "a web page (HTML or XML), which a server sent in place of the file", AGAIN
    text = head.decode("utf-8", "replace").removesuffix("\ufffd")
    if all(c.isprintable() or c.isspace() for c in text) and "\ufffd" not in text:
        return f"a text, beginning {text.strip()[:30]!r}", f"if it was a download, {AGAIN}"
    name = head[2 : 2 + head[1]] if len(head) > 2 else b""
    if head[:1] == b"\n" and name.isascii() and name.decode("ascii").isprintable():
        return f"a Caffe model, {name.decode('ascii')!r}", CONVERT
    if head[:1] == b"\x08" and (b"onnx" in head[:64] or b"pytorch" in head[:64]):
        return "an ONNX model", CONVERT
    return (
        f"not a file of weights that is known here (it begins with the bytes {head[:8].hex(' ')})",
        f"if it was a download, {AGAIN}",
    )


def read_pickled(path: Path, kind: str) -> dict[str, torch.Tensor]:
    """Return every tensor in a file of ``torch.save``, by its place: ``"state_dict.0.weight"``.

    No code from the file is run or imported: whatever is no tensor, such as the options of a
    training run, becomes an inert object and is left out. A zip archive is mapped rather than
    read, so that only the tensors that are used take memory.

    Parameters
    ----------
    path : Path
    kind : {"zip", "pickle"}
        See ``kind_of_file``.

    Raises
    ------
    ValueError
        If the file is cut off, damaged, or holds a whole model rather than its weights.
    """
    names: list[tuple[str, str]] = []
    try:
        names = _names_in_zip(path) if kind == "zip" else _names_in_pickle(path)
        value = _load(path, names, mapped=kind == "zip")
    except _RefusedError as error:
        raise ValueError(f"{path} {error}") from None
    except Exception:
        # A broken pickle may raise anything. Torch's own words advise to read it with code allowed.
        others = [f"{module}.{name}" for module, name in names if module not in TENSORS]
        if others:
            holds = f"holds more than tensors ({', '.join(others[:3])})"
            raise ValueError(f"{path} {holds}, or is damaged; {STATE_DICT}") from None
        raise ValueError(f"{path} {BROKEN}") from None
    found = list(_flatten(value))
    tensors = {key: x for key, x in found if isinstance(x, torch.Tensor)}
    models = [x for _, x in found if isinstance(x, _Inert) and "_modules" in vars(x)]
    if isinstance(value, _Inert) or (models and not any(x.dim() == 4 for x in tensors.values())):
        whole = type(models[0] if models else value)
        raise ValueError(
            f"{path} holds a whole model, a {whole.__module__}.{whole.__qualname__}: opening it "
            f"would run code from the file; {STATE_DICT}"
        )
    return tensors


class _RefusedError(Exception):
    """Says, after the file's name, why it is not read."""


class _Inert:
    """Stands for an object that is no tensor: nothing of its class is imported or called."""

    def __new__(cls, *args: object, **kwargs: object) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            vars(self).update(state)


def _load(path: Path, names: list[tuple[str, str]], *, mapped: bool) -> object:
    """Return what torch's unpickler for tensors reads, with an inert class for each other one."""
    inert: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
        type(name, (_Inert,), {"__module__": module, "__qualname__": name})
        for module, name in names
    ]
    with warnings.catch_warnings(), torch.serialization.safe_globals(inert):
        warnings.simplefilter("ignore")  # its hints are for whoever wrote the file
        return torch.load(os.fspath(path), map_location="cpu", weights_only=True, mmap=mapped)


def _names_in_zip(path: Path) -> list[tuple[str, str]]:
    """Return the classes and functions that the pickle of a zip archive names."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        parts = [Path(entry.filename) for entry in entries]
        if any(part.suffix == ".npy" for part in parts):
            raise _RefusedError(f"is a NumPy archive (.npz): {CONVERT}")
        if any(part.name == "constants.pkl" or "code" in part.parts[1:-1] for part in parts):
            raise _RefusedError(f"holds a TorchScript program, not its weights alone; {STATE_DICT}")
        pickles = [e for e, part in zip(entries, parts, strict=True) if part.name == "data.pkl"]
        if len(pickles) != 1:
            inside = ", ".join(entry.filename for entry in entries[:3]) or "nothing"
            raise _RefusedError(f"is a zip archive with no weights of torch.save in it ({inside})")
        if any(e.compress_type != zipfile.ZIP_STORED for e in entries):
            raise _RefusedError(f"was packed anew, with compression; {STATE_DICT}")
        if pickles[0].file_size > MOST_PICKLED:
            raise _RefusedError("is no file of weights: the list of what is in it is over 64 MB")
        with archive.open(pickles[0]) as file:
            return list(dict.fromkeys(_names(file)))


def _names_in_pickle(path: Path) -> list[tuple[str, str]]:
    """Return the classes and functions that a file of torch before 1.6 names.

    It is a sequence of pickles: a magic number, a version, the machine, the object; then numbers.
    """
    with path.open("rb") as file:
        first = itertools.islice(pickletools.genops(file), 3)  # version, magic number, stop
        if torch.serialization.MAGIC_NUMBER not in [argument for _, argument, _ in first]:
            raise _RefusedError(f"is a pickle, but not one of torch.save; {STATE_DICT}")
        for _ in ("version", "machine"):
            for _ in pickletools.genops(file):
                pass
        return list(dict.fromkeys(_names(file)))


def _names(file: IO[bytes]) -> Iterator[tuple[str, str]]:
    """Yield module and name of each class or function of the next pickle in the file."""
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name == "PROTO" and int(argument or 0) > 2:
            raise _RefusedError(
                f"was saved with pickle_protocol={argument}, which cannot be read without running "
                "code: save it again without this option"
            )
        if opcode.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            # Python 2's names, which this protocol has; torch's unpickler looks for today's.
            module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
            yield _compat_pickle.IMPORT_MAPPING.get(module, module), name


def _flatten(value: object, key: str = "", depth: int = 5) -> Iterator[tuple[str, Any]]:
    """Yield all tensors and inert objects in nested dicts and lists, with their dotted keys."""
    if isinstance(value, torch.Tensor | _Inert):
        yield key, value
    elif depth and isinstance(value, dict | list | tuple):
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _flatten(inner, f"{key}.{name}" if key else str(name), depth - 1)
