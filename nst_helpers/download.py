"""Files from the internet: does the address answer, fetch, check the hash, one kind of error."""

from __future__ import annotations

import http.client
import queue
import sys
import threading
import urllib.request
from pathlib import Path

import torch

__all__ = ["connection_problem", "fetch_file"]

SECONDS_TO_ANSWER = 6  # without a word for so long, there is no internet


def fetch_file(url: str, path: Path, sha256: str, *, what: str, instead: str) -> Path:
    """Download ``url`` to ``path``, with a progress bar, all or nothing.

    Parameters
    ----------
    url : str
        http or https.
    path : Path
        Where the file goes; its folder is made if need be.
    sha256 : str
        The file's SHA-256 in hexadecimal, or the first digits of it.
    what : str
        What is fetched, as the error message names it.
    instead : str
        A sentence for the error message: what works without this file.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    ConnectionError
        If the address does not answer within seconds, or what comes is cut off or another file.
        Nothing is left at ``path``.
    """
    try:
        problem = connection_problem(url)
        if problem is not None:
            raise ConnectionError(problem)
        path.parent.mkdir(parents=True, exist_ok=True)
        print(f'Downloading: "{url}" to {path}', file=sys.stderr)
        # Torch downloads beside the target and renames once the hash is right, so that an
        # interrupted download leaves no broken file behind.
        torch.hub.download_url_to_file(url, str(path), hash_prefix=sha256, progress=True)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise ConnectionError(f"{what} could not be downloaded: {error}. {instead}") from error
    return path


def connection_problem(url: str) -> str | None:
    """Return why ``url`` does not answer within seconds, or None if it does.

    Parameters
    ----------
    url : str
        http or https; only its head is asked for.

    Returns
    -------
    str or None
        What went wrong, as the system words it.
    """
    problems: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            with urllib.request.urlopen(request, timeout=SECONDS_TO_ANSWER):
                problems.put(None)
        except (OSError, ValueError, http.client.HTTPException) as error:
            problems.put(str(error).strip() or type(error).__name__)

    # In a thread, because looking up a host name has no time limit of its own.
    threading.Thread(target=ask, daemon=True).start()
    try:
        return problems.get(timeout=SECONDS_TO_ANSWER)
    except queue.Empty:
        return f"no answer within {SECONDS_TO_ANSWER} seconds"
