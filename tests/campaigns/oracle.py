"""What is right, whatever comes in: an answer, or an error of ours that says what was wrong.

Nothing here knows how the package finds out: an error is ours if our code raised it, and its words
are none of those that other libraries are known to use.
"""

import contextlib
import re
import signal
import sys
import traceback
import warnings
from pathlib import Path

import psutil
import torch

import nst_helpers

PACKAGE = Path(nst_helpers.__file__).parent
# Classes that we raise; subclasses such as UnicodeDecodeError and JSONDecodeError are others'.
OURS = {
    ValueError,
    TypeError,
    FileNotFoundError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
    OSError,
    ImportError,
}
# Phrases by which Python, NumPy, torch, Pillow and its libraries, traitlets and argparse are known.
FOREIGN = re.compile(
    r"""Traceback | object\ has\ no\ attribute | not\ supported\ between | unsupported\ operand
    | object\ is\ not\ (callable|iterable|subscriptable) | is\ not\ JSON | not\ enough\ values
    | too\ many\ values | to\ unpack | positional\ argument | unexpected\ keyword | list\ indices
    | indices\ must\ be | invalid\ literal | could\ not\ convert | cannot\ convert | codec\ can
    | argument\ must\ be\ a\ string | must\ be\ str,\ bytes | embedded\ null | object\ cannot\ be
    | maximum\ recursion | integer\ string\ conversion | zip\(\) | unhashable | inhomogeneous
    | sequence\ item
    | expected\ str | float\(\) | int\(\) | len\(\) | bytes-like | out\ of\ range\ of
    | only\ integer\ tensors | expected\ Tensor | expected\ scalar | expected\ sequence
    | can't\ convert | size\ mismatch | must\ match\ the\ size | shape\ .*\ is\ invalid
    | not\ implemented\ for | input\ dimension | Expected\ \d-?D | Sizes\ of\ tensors
    | _pickle\.| weights_only | \bATen\b | \bc10\b | \bat::
    | decoder | decoding | cannot\ identify | UnidentifiedImage | broken\ data\ stream
    | image\ file\ is\ truncated | Truncated\ File | libtiff | libpng | libjpeg | TIFF[A-Z]\w+
    | buffer\ is\ not\ large\ enough | buffer\ overrun | tile\ cannot | decompression\ bomb
    | unrecognized\ .*\ mode | unknown\ raw\ mode | bad\ transparency | Corrupt\ EXIF | zlib
    | Error\ -\d+\ while | SyntaxError | struct\. | unpack_from | Invalid\ dimensions
    | \bTrait\b | trait\ of\ a
    """,
    re.VERBOSE | re.IGNORECASE,
)
PATIENCE = 60  # seconds: nothing hostile takes one on a free machine, and a hang takes for ever


def attempt(action, *words, allowed=OURS):
    """Return what ``action`` returns, or its error, having checked both error and warnings.

    Each of ``words`` has to be in an error's message: the name of a file or an argument, or a
    tuple of texts of which one will do.
    """
    error = result = None
    with time_limit(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = action()
        except Exception as exception:
            error = exception
    for warning in caught:
        check_words(str(warning.message), "a warning")
    if error is None:
        return result
    text = f"{type(error).__name__}: {error}"
    assert type(error) in allowed, f"not an error of ours: {_where(error)}"
    assert _raised_here(error), f"raised elsewhere: {_where(error)}"
    check_words(str(error), text, *words)
    return error


def check_words(message, what, *words):
    """Check that a message says what it has to, in our own words."""
    foreign = FOREIGN.search(message)
    assert foreign is None, f"{foreign.group()!r} in {what}: {message[:500]}"
    for word in words:
        choices = word if isinstance(word, tuple) else (word,)
        assert any(choice in message for choice in choices), (
            f"none of {choices} in {what}: {message[:500]}"
        )


def check_image(image, batch=1):
    """Check that it is an image by the convention of this package."""
    assert isinstance(image, torch.Tensor), type(image)
    assert image.dtype == torch.float32
    assert image.dim() == 4
    assert (image.shape[0], image.shape[1]) == (batch, 3)
    assert image.numel()
    assert bool(torch.isfinite(image).all())
    assert 0 <= image.min() <= image.max() <= 1


@contextlib.contextmanager
def bounded_memory(size):
    """Let whatever asks for more than so many bytes have none, rather than the machine."""
    if sys.platform != "linux":
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = psutil.Process().memory_info().vms + size
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _raised_here(error):
    """Whether our code raised it, or it is the system's word on a file that it names."""
    frames = traceback.extract_tb(error.__traceback__)
    if PACKAGE in Path(frames[-1].filename).parents:
        return True
    return isinstance(error, OSError) and error.filename is not None


def _where(error):
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"{type(error).__name__}: {str(error)[:300]} ({Path(frame.filename).name}:{frame.lineno})"
    )


@contextlib.contextmanager
def time_limit():
    if not hasattr(signal, "SIGALRM"):  # Windows: a hang is seen by whoever waits
        yield
        return

    def stop(_, frame):
        place = "".join(traceback.format_stack(frame, 3))
        raise AssertionError(f"no answer within {PATIENCE} seconds, at:\n{place}")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
