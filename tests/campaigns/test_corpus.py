"""Files that once broke something: see tests/corpus/README.md."""

from pathlib import Path

import pytest
from oracle import attempt, check_image

from nst_helpers import load_image, load_network, load_settings

CORPUS = Path(__file__).parents[1] / "corpus"
FILES = sorted(path for path in CORPUS.iterdir() if path.suffix != ".md")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_that_once_broke_something_is_read_or_refused_by_name(path, capfd):
    image = attempt(lambda: load_image(path), path.name)
    if not isinstance(image, Exception):
        check_image(image)
    settings = attempt(lambda: load_settings(path), path.name)
    assert isinstance(settings, dict | Exception)
    network = attempt(lambda: load_network(path), path.name)
    assert isinstance(network, Exception)  # there is no good network among them
    assert capfd.readouterr() == ("", "")
