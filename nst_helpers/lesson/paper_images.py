"""The paper's own pair of pictures, fetched when asked for, and whether there is an internet."""

from __future__ import annotations

import http.client
import threading
import urllib.request
from pathlib import Path

import torch

from nst_helpers.images import load_image, sample_images

__all__ = ["fetch_image"]

SECONDS_TO_ANSWER = 6  # how long to wait for a sign of the internet before giving up
# The authors' own copies, as they were on the day these hashes were taken.
REPOSITORY = (
    "https://raw.githubusercontent.com/leongatys/PytorchNeuralStyleTransfer/"
    "be6c8e2b35568669a5a0ac10b66c912207ad355d/Images/"
)
PICTURES = {
    "starry_night": (
        "vangogh_starry_night.jpg",
        "228bebf0dd424ea4f740d8d88a67f2960424c166e638086c1ec529260d2e3832",
    ),
    "neckarfront": (
        "Tuebingen_Neckarfront.jpg",
        "e67d1869f01fd805385c681a80d9ebcf0f70ea4a5fe6127f0606bb1c7f4bf506",
    ),
}


def fetch_image(name: str, size: int | None = None) -> torch.Tensor:
    """Return one of the paper's own pictures; the first time, download it.

    From the authors' repository (https://github.com/leongatys/PytorchNeuralStyleTransfer), with
    progress and a check of its SHA-256, into ``torch.hub.get_dir()``, where it stays.

    Parameters
    ----------
    name : {"starry_night", "neckarfront"}
        Van Gogh's *The Starry Night*, or the houses by the Neckar in Tübingen: style and content
        of Gatys et al. 2016, Fig. 2 and 3.
    size : int, optional
        As for ``load_image``.

    Returns
    -------
    torch.Tensor
        (1, 3, H, W) float32 RGB in [0, 1].

    Raises
    ------
    ValueError
        If there is no such picture, or ``size`` is not a positive whole number.
    ConnectionError
        If it must be downloaded and there is no internet, or what comes is not that picture.
    """
    if name not in PICTURES:
        raise ValueError(f"name must be one of {', '.join(PICTURES)}; got {name!r}")
    file, sha256 = PICTURES[name]
    path = Path(torch.hub.get_dir()) / "nst_helpers" / file
    if not path.is_file():
        _download(REPOSITORY + file, path, sha256, name)
    return load_image(path, size)


def why_no_answer(url: str) -> str | None:
    """Return why ``url`` does not answer within seconds, or None if it does.

    In a thread, because looking up a host name has no time limit of its own.
    """
    problem = [f"no answer within {SECONDS_TO_ANSWER} seconds"]

    def ask() -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            with urllib.request.urlopen(request, timeout=SECONDS_TO_ANSWER):
                problem.clear()
        except (OSError, ValueError, http.client.HTTPException) as error:
            problem[:] = [str(error).strip()]

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(SECONDS_TO_ANSWER)
    return problem[0] if problem else None


def _download(url: str, path: Path, sha256: str, name: str) -> None:
    problem = why_no_answer(url)
    if problem is None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Downloads beside the target and renames once the hash is right.
            torch.hub.download_url_to_file(url, str(path), hash_prefix=sha256, progress=True)
        except (OSError, RuntimeError) as error:
            problem = str(error)
    if problem is not None:
        raise ConnectionError(
            f"{name!r} could not be downloaded: {problem}. These pictures come with the package, "
            f"load_image takes their names: {', '.join(sample_images())}"
        )
