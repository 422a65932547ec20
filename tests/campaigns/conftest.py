"""Campaigns of hostile cases: a few of each in the suite, as many as you like by an option."""

import tempfile

import pytest
import torch
from oracle import bounded_memory

import nst_helpers as nst
from helpers import make_picture, make_weights

MEMORY = 3 << 30  # bytes beyond those in use: a picture of 170 million pixels takes them


def pytest_configure(config):
    config.addinivalue_line("markers", "campaign(short, cases): one of the cases, or their number")


def pytest_generate_tests(metafunc):
    """Give a test with an argument ``case`` its cases, or as many numbers.

    ``@pytest.mark.campaign(short, cases)``: how many of them by default, and all of them: a
    mapping by names, or a number.
    """
    mark = metafunc.definition.get_closest_marker("campaign")
    if mark is None:
        return
    short, cases = mark.args
    names = range(cases) if isinstance(cases, int) else [*cases]
    total = min(len(names), metafunc.config.getoption("campaign") or short)
    # Spread over all of them, so that a short campaign sees each kind of a table.
    names = [names[i * len(names) // total] for i in range(total)]
    values = names if isinstance(cases, int) else [cases[name] for name in names]
    metafunc.parametrize("case", values, ids=[str(name) for name in names])


@pytest.fixture(scope="session")
def seed(request):
    return request.config.getoption("campaign_seed")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with a small network and two pictures."""
    monkeypatch.chdir(tmp_path)
    torch.save(make_weights((1, 1, 1, 1, 1)), "small.pth")
    nst.save_image(make_picture(40, 36, seed=1), "content.png")
    nst.save_image(make_picture(40, 36, seed=2), "style.png")
    return tmp_path


@pytest.fixture(autouse=True)
def _nothing_left_behind(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    left = [path.name for path in folder.iterdir() if not path.name.startswith("torch")]
    assert not left, "temporary files are left behind"


@pytest.fixture(autouse=True)
def _bounded_memory():
    with bounded_memory(MEMORY):
        yield
