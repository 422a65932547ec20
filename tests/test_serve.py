"""The server of the page: who is let in, what a page may send, and when a kernel ends."""

import asyncio
import http.client
import json
import re
import struct
import sys
import uuid
from urllib.parse import urlsplit

import psutil
import pytest

from helpers import wait_for
from scripts.browser import serve

pytest.importorskip("voila", reason="Voila is not installed")

from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from scripts.serve import PROTOCOL, is_loopback, is_message, memory_limit

TOKEN = "a-test-s-own"
KNOWN = {"Authorization": f"token {TOKEN}"}
OPTIONS = [f"--Page.token={TOKEN}", "--Kernels.closed_seconds=1", "--Kernels.most=2"]
PATIENCE = 120  # seconds, on a busy machine


def message(parts, count=None):
    """A channel and JSON texts as JupyterLab sends them, or with a wrong count of offsets."""
    offsets = [8 * (len(parts) + 2)]
    for part in parts:
        offsets.append(offsets[-1] + len(part))
    numbers = [len(offsets) if count is None else count, *offsets]
    return struct.pack(f"<{len(numbers)}Q", *numbers) + b"".join(parts)


def question():
    header = {"msg_id": uuid.uuid4().hex, "msg_type": "kernel_info_request", "session": "s"}
    header |= {"username": "", "date": "2026-01-01T00:00:00Z", "version": "5.3"}
    return message([b"shell", json.dumps(header).encode(), b"{}", b"{}", b"{}"])


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    environment = {"NST_BUDGET": "quick", "OMP_NUM_THREADS": "1"}
    if sys.platform == "linux":
        environment["NST_KERNEL_MEMORY"] = "1.5G"
    with serve(["scripts.serve", *OPTIONS], folder, environment) as address:
        yield address


def get(address, path="/", headers=KNOWN):
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=PATIENCE)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def kernels(address):
    """The processes of the server's kernels."""
    port = f"--port={urlsplit(address).port}"
    (server,) = (p for p in psutil.Process().children() if port in command(p))
    return [p for p in server.children() if "ipykernel_launcher" in command(p)]


def command(process):
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):  # it has ended meanwhile
        return []


def open_kernel(address):
    status, page = get(address)
    assert status == 200
    return re.search(r'"?kernelId"?: *"([\w-]+)"', page)[1]


async def connect(address, kernel, protocols=(PROTOCOL,), headers=KNOWN):
    url = f"{address.replace('http', 'ws')}/api/kernels/{kernel}/channels?session_id=s"
    return await websocket_connect(HTTPRequest(url, headers=headers), subprotocols=[*protocols])


async def answers(address, kernel):
    """Whether a page that asks a kernel what it is gets an answer."""
    socket = await connect(address, kernel)
    await socket.write_message(question(), binary=True)
    while b"kernel_info_reply" not in (answer := await socket.read_message() or b""):
        if not answer:
            return False
    socket.close()
    return True


# --- who is let in -------------------------------------------------------------------------------


def test_nobody_starts_a_kernel_without_the_token(address):
    for headers in ({}, {"Authorization": "token wrong"}, {"Sec-Fetch-Site": "cross-site"}):
        status, page = get(address, headers=headers)
        assert status == 302
        assert "kernelId" not in page
    assert kernels(address) == []


@pytest.mark.parametrize("path", ["/", "/login", "/voila/static/", "/api/kernels/x-x-x-x-x"])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "localhost.evil.example", "192.168.1.5", " "]
)
def test_other_names_of_the_server_are_refused(address, host, path):
    assert get(address, path, {**KNOWN, "Host": host})[0] == 403
    assert kernels(address) == []


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8866", "LOCALHOST", "[::1]:80"])
def test_own_names_of_the_server_are_not(address, host):
    assert get(address, "/login", {"Host": host})[0] == 200


def test_no_file_beside_the_notebook_is_given_away(address):
    for name in ("serve.py", "app.ipynb", "../images/chelsea.jpg"):
        assert get(address, f"/voila/files/{name}")[0] in (403, 404)


def test_addresses_of_this_machine_alone_are_known():
    assert [is_loopback(ip) for ip in ("localhost", "127.0.0.2", "::1")] == [True] * 3
    assert [is_loopback(ip) for ip in ("", "0.0.0.0", "192.168.1.5", "a.b")] == [False] * 4


# --- what a page may send ------------------------------------------------------------------------


def test_websocket_of_another_protocol_is_refused_and_the_server_goes_on(address):
    kernel = open_kernel(address)
    for protocols in ((), ("v2.kernel.websocket.jupyter.org",), (f"x{PROTOCOL}",)):
        with pytest.raises(HTTPClientError, match="400"):
            asyncio.run(connect(address, kernel, protocols))
    assert asyncio.run(answers(address, kernel))
    wait_for(lambda: not kernels(address), PATIENCE)


def test_message_that_counts_wrong_ends_its_connection_and_nothing_else(address):
    kernel = open_kernel(address)

    async def attack(data):
        socket = await connect(address, kernel)
        await socket.write_message(data, binary=isinstance(data, bytes))
        while await socket.read_message() is not None:
            pass
        return socket.close_code

    async def attack_beside_a_page():
        page = await connect(address, kernel)
        for data in (message([b"shell", b"{}"], count=2**60), b"", "{}", b"\1" * 200):
            assert await attack(data) == 1003
        page.close()
        assert await answers(address, kernel)

    asyncio.run(attack_beside_a_page())
    wait_for(lambda: not kernels(address), PATIENCE)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (question(), True),
        (message([b"shell", *[b"{}"] * 4, *[bytes(9)] * 20]), True),
        (message([b"shell", *[b"{}"] * 4, *[b""] * 200]), False),
        (message([b"shell", b"{}"], count=2**63), False),
        (message([b"shell", b"{}"], count=50), False),
        (struct.pack("<4Q", 3, 32, 90, 40) + bytes(60), False),
        (struct.pack("<4Q", 3, 32, 40, 2**60) + bytes(60), False),
        (struct.pack("!3I", 2, 12, 14) + b"{}" + bytes(100), False),  # the older protocol
        (b"", False),
        ("{}", False),
    ],
)
def test_messages_are_those_whose_offsets_lie_in_them_in_order(data, expected):
    assert is_message(data) is expected


# --- kernels -------------------------------------------------------------------------------------


def test_kernels_are_counted_limited_in_memory_and_end_with_their_page(address):
    ids = [open_kernel(address) for _ in range(2)]
    status, page = get(address)
    assert status == 503
    assert "kernelId" not in page
    if sys.platform == "linux":
        for process in kernels(address):
            assert process.rlimit(psutil.RLIMIT_DATA) == (3 << 29, 3 << 29)
    asyncio.run(answers(address, ids[0]))  # and its page is closed
    wait_for(lambda: len(kernels(address)) == 1, PATIENCE)
    asyncio.run(answers(address, ids[1]))
    wait_for(lambda: not kernels(address), PATIENCE)


@pytest.mark.parametrize(
    ("text", "expected"), [("", 0), ("2G", 2 << 30), (" 1.5 g", 3 << 29), ("900M", 900 << 20)]
)
def test_memory_is_read_as_people_write_it(text, expected):
    if not text or sys.platform == "linux":
        assert memory_limit(text) == expected


@pytest.mark.parametrize("text", ["2", "much", "-2G", "2T", "nanG"])
def test_memory_that_is_none_is_refused_by_name(text):
    with pytest.raises(ValueError, match=r"NST_KERNEL_MEMORY must be such as 2G.*; got"):
        memory_limit(text)
