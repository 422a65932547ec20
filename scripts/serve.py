"""The sliders as a page that others may open: ``make app``.

Voila, and what a page needs that strangers can reach: only who knows the token starts a kernel,
only a page of this server talks to it, and it ends when its page is closed. Voila's options work::

    python -m scripts.serve --Voila.ip=0.0.0.0

``NST_KERNEL_MEMORY=2G`` limits the memory of each kernel, on Linux.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sys
import tempfile
import webbrowser
from ipaddress import ip_address
from pathlib import Path
from typing import Any, ClassVar

from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.web import ErrorHandler, HTTPError
from traitlets import Bool, Integer, List, Unicode
from traitlets.config import Config
from voila.app import Voila
from voila.tornado.kernel_websocket_handler import VoilaKernelWebsocketHandler

try:
    import resource
except ImportError:  # Windows
    resource = None

NOTEBOOK = Path(__file__).with_name("app.ipynb")
PROTOCOL = "v1.kernel.websocket.jupyter.org"
MAX_PARTS = 100  # of a message: its channel, four JSON texts, and buffers
MAX_MESSAGE = (
    100 * 2**20
)  # servers drop more without a word; the page itself says that 8 MB is most
PING_SECONDS = 10  # so that a page is known to be gone whose machine has just vanished


class Websocket(VoilaKernelWebsocketHandler):
    """A page's connection to its kernel, of the protocol that pages speak.

    Voila takes what an older one sends for the newer, believes the length that it finds there, and
    fills the memory; and so does Jupyter's server with the lengths that come from a page.
    """

    async def get(self, kernel_id: str) -> None:
        offered = self.request.headers.get("Sec-WebSocket-Protocol", "")
        if PROTOCOL not in [name.strip() for name in offered.split(",")]:
            raise HTTPError(400, f"the websocket must be of the subprotocol {PROTOCOL}")
        await super().get(kernel_id)

    def select_subprotocol(self, subprotocols: list[str]) -> str:
        return PROTOCOL

    def on_message(self, ws_message: str | bytes) -> None:
        if not is_message(ws_message):
            self.close(1003, "no message of the subprotocol")
            return
        super().on_message(ws_message)


def is_message(data: str | bytes) -> bool:
    """Whether the offsets that a message begins with lie inside it, in order."""
    if not isinstance(data, bytes):
        return False
    count = int.from_bytes(data[:8], "little")
    if not 2 <= count <= MAX_PARTS or 8 * (count + 1) > len(data):
        return False
    offsets = [int.from_bytes(data[8 * i : 8 * (i + 1)], "little") for i in range(1, count + 1)]
    bounds = [8 * (count + 1), *offsets, len(data)]
    return bounds == sorted(bounds)


class Kernels(AsyncMappingKernelManager):
    """Kernels that end with their page; how many there are, and their memory, is limited."""

    most = Integer(40, config=True, help="How many pages may be open at a time.")
    memory = Unicode(os.environ.get("NST_KERNEL_MEMORY", ""), config=True, help="Such as 2G.")
    opening_seconds = Integer(180, config=True, help="Until the page of a new kernel connects.")
    closed_seconds = Integer(25, config=True, help="Until a kernel ends whose page is gone.")

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.last_seen: dict[str, float] = {}

    async def start_kernel(self, **options: Any) -> str:
        """Start one, and end it if no page connects to it."""
        if len(self) >= self.most:
            raise HTTPError(503, f"{self.most} pages are open already; try again later")
        limit = memory_limit(self.memory)
        kernel_id = await super().start_kernel(**options)
        if limit:
            pid = self.get_kernel(kernel_id).provisioner.pid
            resource.prlimit(pid, resource.RLIMIT_DATA, (limit, limit))
        self._end_later(kernel_id, self.opening_seconds)
        return kernel_id

    def notify_connect(self, kernel_id: str) -> None:
        """Called when a page connects."""
        super().notify_connect(kernel_id)
        self.last_seen[kernel_id] = asyncio.get_running_loop().time()

    def notify_disconnect(self, kernel_id: str) -> None:
        """Called when a page is closed, or does not answer any more."""
        super().notify_disconnect(kernel_id)
        self._end_later(kernel_id, self.closed_seconds)

    def _end_later(self, kernel_id: str, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        seen = self.last_seen[kernel_id] = loop.time()
        loop.call_later(seconds, lambda: asyncio.ensure_future(self._end(kernel_id, seen)))

    async def _end(self, kernel_id: str, seen: float) -> None:
        """End a kernel, busy or not, that no page has been connected to since."""
        if kernel_id in self and self.last_seen[kernel_id] == seen:
            self.log.info("The page of kernel %s is closed: it ends.", kernel_id)
            del self.last_seen[kernel_id]
            await self.shutdown_kernel(kernel_id, now=True)


def memory_limit(text: str) -> int:
    """Return the bytes of a text such as 2G; 0 for none."""
    if not text:
        return 0
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([MG])i?B?", text.strip(), re.IGNORECASE)
    if not match:
        raise ValueError(f"NST_KERNEL_MEMORY must be such as 2G or 1500M; got {text!r}")
    if not hasattr(resource, "prlimit"):
        raise ValueError("NST_KERNEL_MEMORY works on Linux only; unset it")
    return int(float(match[1]) * 2 ** {"M": 20, "G": 30}[match[2].upper()])


class Page(Voila):
    """Voila for one page, with a token and a check of the host.

    A name that leads here may be another site's, whose pages would then be taken for ours (DNS
    rebinding). So a page is given only to the names that this server is known by; numbers are no
    names, and are let in where the server listens to others.
    """

    name = "voila"  # of its configuration file
    classes: ClassVar[list[type]] = [*Voila.classes, Kernels]
    auto_token = Bool(True).tag(config=True)
    local_hostnames = List(
        Unicode(), ["localhost"], config=True, help="Names that the page is opened by."
    )
    allow_remote_access = Bool(False, config=True, help="Let any name in: behind a proxy.")

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.notebook_path = str(NOTEBOOK)
        ours = Config()
        ours.Voila.tornado_settings = {
            "websocket_max_message_size": MAX_MESSAGE,
            "ws_ping_interval": 1000 * PING_SECONDS,
            "ws_ping_timeout": 2000 * PING_SECONDS,
        }
        ours.VoilaConfiguration.multi_kernel_manager_class = Kernels
        ours.VoilaConfiguration.file_allowlist = []  # no file beside the notebook
        ours.MappingKernelManager.buffer_offline_messages = False
        # No page of another site opens this one with the cookie of who has opened it before.
        ours.IdentityProvider.cookie_options = {"samesite": "Strict"}
        self.update_config(ours)

    def init_settings(self) -> dict[str, Any]:
        """Look at the memory limit before a visitor does."""
        settings = super().init_settings()
        memory_limit(self.kernel_manager.memory)
        # Jupyter's own check lets in no numbers; ours comes first, and for every path.
        return settings

    def init_handlers(self) -> list[Any]:
        """Return Voila's handlers with our websocket; refuse foreign names before all of them."""
        if not self.allow_remote_access:
            refused = (r".*", ErrorHandler, {"status_code": 403})
            self.app.add_handlers(rf"(?!({self._known_hosts()})$).*$", [refused])
        return [
            (path, Websocket if handler is VoilaKernelWebsocketHandler else handler, *rest)
            for path, handler, *rest in super().init_handlers()
        ]

    def launch_browser(self) -> None:
        """Open the page with its token, which no list of processes shows."""
        address = self._address()
        with tempfile.NamedTemporaryFile("w", suffix=".html", delete=False) as file:
            file.write(f'<meta http-equiv="refresh" content="0;url={address}">')
        webbrowser.open(Path(file.name).as_uri())

    def _address(self) -> str:
        host = socket.gethostname() if self.ip in ("", "0.0.0.0", "::") else self.ip
        token = self.identity_provider.token
        return f"{self._url(host)}?token={token}" if token else self._url(host)

    def _known_hosts(self) -> str:
        """Return a pattern of the hosts by which the page may be asked for."""
        names = {*self.local_hostnames, r"127.0.0.1", "[::1]"}
        patterns = list(map(re.escape, names))
        if not is_loopback(self.ip):
            names = (socket.gethostname(), socket.getfqdn(), self.ip)
            patterns += map(re.escape, filter(None, names))
            patterns += [r"\d+(\.\d+){3}", r"\[[0-9a-f:.]+\]"]
        return "(?i:" + "|".join(patterns) + ")"


def is_loopback(ip: str) -> bool:
    """Whether a server that listens there is reached from its own machine only."""
    try:
        return ip_address(ip).is_loopback
    except ValueError:
        return ip == "localhost"


if __name__ == "__main__":
    try:
        Page.launch_instance()
    except ValueError as error:
        sys.exit(f"{error}")
