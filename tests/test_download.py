"""Files from the internet: all or nothing, and one error for whatever goes wrong. Needs none."""

import hashlib
import re
import socket
import threading
import time

import pytest
import torch

from helpers import closed_port, no_internet
from nst_helpers import download
from nst_helpers.download import connection_problem, fetch_file

BODY = bytes(range(256)) * 40
SHA256 = hashlib.sha256(BODY).hexdigest()
URL = "https://files.example/file"


def fetch(url, path, sha256=SHA256):
    return fetch_file(url, path, sha256, what="The file", instead="Nothing else needs it.")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "file"


@pytest.mark.parametrize("digits", [8, 64])
def test_the_file_is_fetched_and_its_address_shown(serve, path, capsys, digits):
    server = serve(BODY)
    assert fetch(server.url + "file", path, SHA256[:digits]) == path
    assert path.read_bytes() == BODY
    assert list(path.parent.iterdir()) == [path]
    assert server.paths == ["/file", "/file"]  # is it there, and the file
    assert f'"{server.url}file" to {path}' in capsys.readouterr().err


# --- what can go wrong: each makes it so and returns the address that then fails -----------------


@pytest.fixture
def silent_server():
    """A socket that accepts connections, and that is all."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def address(server):
    return f"http://127.0.0.1:{server.getsockname()[1]}/"


def missing_page(serve, silent_server, monkeypatch):
    return serve(b"not found", status=404).url


def another_file(serve, silent_server, monkeypatch):
    return serve(b"another file").url


def cut_off(serve, silent_server, monkeypatch):
    return serve(BODY[:5000], declared_length=len(BODY)).url


def nonsense_for_an_answer(serve, silent_server, monkeypatch):
    def answer():
        connection, _ = silent_server.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(b"what?\r\n\r\n")

    threading.Thread(target=answer, daemon=True).start()
    return address(silent_server)


def no_answer(serve, silent_server, monkeypatch):
    monkeypatch.setattr(download, "SECONDS_TO_ANSWER", 0.5)
    return address(silent_server)


def silent_proxy(serve, silent_server, monkeypatch):
    monkeypatch.setattr(download, "SECONDS_TO_ANSWER", 0.5)
    monkeypatch.setenv("https_proxy", address(silent_server))
    return URL


def closed_proxy(serve, silent_server, monkeypatch):
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{closed_port()}")
    return URL


def no_name_resolution(serve, silent_server, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", no_internet)
    return URL


def hanging_name_resolution(serve, silent_server, monkeypatch):
    monkeypatch.setattr(download, "SECONDS_TO_ANSWER", 0.5)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: time.sleep(3) or no_internet())
    return URL


def no_address(serve, silent_server, monkeypatch):
    return "not an address"


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (missing_page, "404"),
        (another_file, "hash"),
        (cut_off, "hash|incomplete"),
        (nonsense_for_an_answer, "what"),
        (no_answer, "no answer within|timed out"),
        (closed_proxy, "refused"),
        (silent_proxy, "no answer within|timed out"),
        (no_name_resolution, "name resolution"),
        (hanging_name_resolution, "no answer within 0.5 seconds"),
        (no_address, "unknown url type"),
    ],
)
def test_a_failure_is_one_connection_error_within_seconds_and_leaves_no_file(
    serve, silent_server, monkeypatch, path, failure, reason
):
    crashes = []
    monkeypatch.setattr(threading, "excepthook", crashes.append)
    url = failure(serve, silent_server, monkeypatch)
    started_at = time.perf_counter()
    with pytest.raises(ConnectionError) as caught:
        fetch(url, path)
    assert time.perf_counter() - started_at < 2.5
    message = str(caught.value)
    pattern = rf"The file could not be downloaded: .*({reason}).*\. Nothing else needs it\."
    assert re.fullmatch(pattern, message, re.DOTALL), message
    assert not path.parent.exists() or list(path.parent.iterdir()) == []
    assert crashes == []


def test_people_wait_seconds_at_most_and_a_working_address_has_no_problem(serve):
    assert download.SECONDS_TO_ANSWER <= 6
    assert connection_problem(serve(BODY).url) is None


def test_an_interrupted_download_leaves_no_file(serve, path, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    server = serve(BODY)
    monkeypatch.setattr(torch.hub, "tqdm", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch(server.url, path)
    assert list(path.parent.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_a_connection_error(serve, path):
    path.parent.write_text("in the way")
    with pytest.raises(ConnectionError, match=r"The file could not be downloaded: .*folder"):
        fetch(serve(BODY).url, path)
