"""The paper's own pair of pictures, downloaded when they are asked for."""

from __future__ import annotations

from pathlib import Path

import torch

from nst_helpers import _validate
from nst_helpers.download import fetch_file
from nst_helpers.images import load_image, sample_images

__all__ = ["fetch_image"]

# The authors' own copies, as they were on the day these hashes were taken.
REPOSITORY = (
    "https://raw.githubusercontent.com/leongatys/PytorchNeuralStyleTransfer/"
    "be6c8e2b35568669a5a0ac10b66c912207ad355d/Images/"
)
PICTURES = {  # name: file, SHA-256
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
    file, sha256 = PICTURES[_validate.one_of("name", name, PICTURES)]
    path = Path(torch.hub.get_dir()) / "nst_helpers" / file
    if not path.is_file():
        offline = (
            "These pictures come with the package, load_image takes their names: "
            + ", ".join(sample_images())
        )
        fetch_file(REPOSITORY + file, path, sha256, what=repr(name), instead=offline)
    return load_image(path, size)
