"""Notebooks run at a small budget under pytest; what they print is compared with tolerance."""

import math
import os
import re
import tempfile

import nbval.plugin

os.environ.setdefault("NST_BUDGET", "quick")  # nbval's kernels inherit it
os.environ["NST_LANG"] = "en"  # whatever the system's language is
# The Korean edition has the English notebooks' code and outputs: tests/test_korean.py.
collect_ignore_glob = ["notebooks/ko/*"]
# No test sees what lies in a user's cache: with VGG-19 there, "auto" is another network.
EMPTY_CACHE = tempfile.TemporaryDirectory()
os.environ["TORCH_HOME"] = EMPTY_CACHE.name

FLOAT = re.compile(r"-?\d+\.\d*(?:e[+-]?\d+)?")


class Close(str):
    """Text that equals text with the same words and whole numbers, and floats within 0.1 %."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other):
        if not isinstance(other, str):
            return NotImplemented
        pairs = zip(FLOAT.findall(self), FLOAT.findall(other), strict=True)
        return FLOAT.split(self) == FLOAT.split(other) and all(
            math.isclose(float(a), float(b), rel_tol=1e-3, abs_tol=1e-6) for a, b in pairs
        )

    def __ne__(self, other):
        return not self == other


def pytest_configure(config):
    """Let cells tagged nbval-check-output be compared so; declare the tests' marker."""
    config.addinivalue_line("markers", "vgg19: runs on the file of VGG-19 that NST_VGG19 names")
    cell = nbval.plugin.IPyNbCell
    sanitize = cell.sanitize

    def tolerant(self, text):
        sanitized = sanitize(self, text)
        return Close(sanitized) if isinstance(sanitized, str) else sanitized

    if sanitize.__name__ != "tolerant":
        cell.sanitize = tolerant


def pytest_unconfigure():
    """Leave no folder behind."""
    EMPTY_CACHE.cleanup()
