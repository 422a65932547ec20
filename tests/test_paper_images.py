"""The paper's pictures: hash, cache and what is said without an internet. Needs no network."""

import hashlib
import http.server
import io
import socket
import threading
import time

import pytest
import torch
from PIL import Image

from nst_helpers import fetch_image, sample_images
from nst_helpers.lesson import paper_images as fetch

PICTURE = io.BytesIO()
Image.new("RGB", (40, 30), "navy").save(PICTURE, "JPEG")
BODY = PICTURE.getvalue()


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A cache of its own."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return tmp_path / "nst_helpers"


@pytest.fixture
def serve(monkeypatch):
    """Let the authors' repository be a server here, with a body of the test's choice."""
    servers, asked = [], []

    class Handler(http.server.BaseHTTPRequestHandler):
        body, status = BODY, 200

        def do_HEAD(self):
            asked.append(self.path)
            self.send_response(self.status)
            self.send_header("Content-Length", str(len(self.body)))
            self.end_headers()

        def do_GET(self):
            self.do_HEAD()
            self.wfile.write(self.body)

        def log_message(self, *args):
            pass

    def start(body=BODY, status=200):
        handler = type("Handler", (Handler,), {"body": body, "status": status})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        monkeypatch.setattr(fetch, "REPOSITORY", f"http://127.0.0.1:{server.server_port}/")
        return asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def known(monkeypatch):
    """Make the served body the picture that is expected."""
    sha256 = hashlib.sha256(BODY).hexdigest()
    monkeypatch.setattr(fetch, "PICTURES", {"starry_night": ("night.jpg", sha256)})


def check_refused(hub, within):
    began = time.perf_counter()
    with pytest.raises(ConnectionError, match="'starry_night' could not be downloaded") as caught:
        fetch_image("starry_night", 20)
    assert time.perf_counter() - began < within
    assert all(name in str(caught.value) for name in sample_images())
    assert not hub.exists() or list(hub.iterdir()) == []
    return str(caught.value)


def test_a_good_download_is_an_image_and_is_kept(hub, serve, known):
    asked = serve()
    image = fetch_image("starry_night", 20)
    assert image.shape == (1, 3, 20, 27)
    assert (hub / "night.jpg").read_bytes() == BODY
    asked.clear()
    assert torch.equal(fetch_image("starry_night", 20), image)
    assert asked == []  # not downloaded again


def test_its_own_size_by_default(hub, serve, known):
    serve()
    assert fetch_image("starry_night").shape == (1, 3, 30, 40)


@pytest.mark.parametrize("name", ["starry_night", "neckarfront"])
def test_another_picture_than_the_authors_is_refused(hub, serve, name):
    asked = serve()
    with pytest.raises(ConnectionError, match="hash"):
        fetch_image(name)
    assert asked[-1].endswith(fetch.PICTURES[name][0])
    assert list(hub.iterdir()) == []


def test_the_address_is_one_commit_of_the_authors_repository():
    assert fetch.REPOSITORY.startswith("https://raw.githubusercontent.com/leongatys/")
    assert "/be6c8e2b35568669a5a0ac10b66c912207ad355d/" in fetch.REPOSITORY
    for _, sha256 in fetch.PICTURES.values():
        assert len(bytes.fromhex(sha256)) == 32


def test_a_missing_page(hub, serve):
    serve(status=404)
    assert "404" in check_refused(hub, within=3)


def no_internet(*args, **kwargs):
    raise socket.gaierror(-3, "Temporary failure in name resolution")


def test_offline_it_says_so_and_names_the_bundled_pictures(hub, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", no_internet)
    check_refused(hub, within=3)


def test_a_name_resolution_that_hangs_is_noticed(hub, monkeypatch):
    monkeypatch.setattr(fetch, "SECONDS_TO_ANSWER", 0.5)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: time.sleep(3) or no_internet())
    assert "no answer" in check_refused(hub, within=2)


@pytest.mark.parametrize("name", ["starry_nihgt", "chelsea", ""])
def test_an_unknown_name(name):
    with pytest.raises(ValueError, match=f"starry_night, neckarfront; got '{name}'"):
        fetch_image(name)
