"""The paper's pictures: which they are, where they are kept, and what an error names instead."""

import hashlib
import io
import socket

import pytest
import torch
from PIL import Image

from helpers import no_internet
from nst_helpers import fetch_image, sample_images
from nst_helpers.lesson import paper_images

PICTURE = io.BytesIO()
Image.new("RGB", (40, 30), "navy").save(PICTURE, "JPEG")
BODY = PICTURE.getvalue()


@pytest.fixture
def repository(serve, monkeypatch):
    """A local server instead of the authors' repository, with another picture for every name."""
    server = serve(BODY)
    monkeypatch.setattr(paper_images, "REPOSITORY", server.url)
    return server


def test_a_picture_is_downloaded_once(hub, repository, monkeypatch):
    sha256 = hashlib.sha256(BODY).hexdigest()
    monkeypatch.setattr(paper_images, "PICTURES", {"starry_night": ("night.jpg", sha256)})
    image = fetch_image("starry_night", 20)
    assert image.shape == (1, 3, 20, 27)
    assert (hub / "nst_helpers" / "night.jpg").read_bytes() == BODY
    repository.paths.clear()
    assert torch.equal(fetch_image("starry_night", 20), image)
    assert fetch_image("starry_night").shape == (1, 3, 30, 40)  # its own size by default
    assert repository.paths == []


@pytest.mark.parametrize("name", ["starry_night", "neckarfront"])
def test_another_picture_than_the_authors_is_refused(hub, repository, name):
    with pytest.raises(ConnectionError, match=f"'{name}' could not be downloaded: .*hash"):
        fetch_image(name)
    assert repository.paths[-1] == f"/{paper_images.PICTURES[name][0]}"
    assert list((hub / "nst_helpers").iterdir()) == []


def test_the_address_is_one_commit_of_the_authors_repository():
    assert paper_images.REPOSITORY.startswith("https://raw.githubusercontent.com/leongatys/")
    assert "/be6c8e2b35568669a5a0ac10b66c912207ad355d/" in paper_images.REPOSITORY
    for _, sha256 in paper_images.PICTURES.values():
        assert len(bytes.fromhex(sha256)) == 32


def test_without_internet_the_error_names_the_sample_pictures(hub, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", no_internet)
    with pytest.raises(ConnectionError, match="'starry_night' could not be downloaded") as caught:
        fetch_image("starry_night", 20)
    assert all(name in str(caught.value) for name in sample_images())
    assert not hub.exists()


@pytest.mark.parametrize("name", ["starry_nihgt", "chelsea", ""])
def test_an_unknown_name_is_a_value_error_that_lists_the_names(name):
    with pytest.raises(ValueError, match=f"starry_night, neckarfront; got '{name}'"):
        fetch_image(name)
