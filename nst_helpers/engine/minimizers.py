"""What moves the image: L-BFGS with a preconditioner, and Adam, behind one interface.

A minimiser holds the image that is to be evaluated next; ``step`` takes value and gradient there,
and overwrites it with the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol

import torch

from nst_helpers.engine.lbfgs import LBFGS
from nst_helpers.engine.threads import sum_per_image

__all__ = ["Adam", "Minimizer", "PreconditionedLBFGS"]

FIRST_CHANGE = 0.01  # of a pixel's value in the first step of L-BFGS, on average
LOWEST_FREQUENCY = 0.02  # cycles per pixel: below it the preconditioner is flat
NYQUIST = 0.5  # cycles per pixel
WIDEST_COMPLEX = 64  # pixels: up to there, images are transformed as complex numbers


class Minimizer(Protocol):
    """One interface for all: ask ``image``, evaluate, ``step``.

    Attributes
    ----------
    image : torch.Tensor
        (B, 3, H, W), to be evaluated next; always the same tensor.
    capturable : bool
        Whether ``step`` may be captured as a CUDA graph.
    patience : int
        How many evaluations in a row may be non-finite before it has no way back.
    """

    image: torch.Tensor
    capturable: ClassVar[bool]
    patience: ClassVar[int]

    def step(self, value: torch.Tensor, gradient: torch.Tensor) -> None:
        """Take value (B,) and gradient (B, 3, H, W) at ``image``, and move it."""

    def restart(self, image: torch.Tensor) -> None:
        """Begin at ``image``, and forget what was learnt of the loss."""

    def stalled(self) -> bool:
        """Return whether no step lowers the value of any image of the batch any more."""


class PreconditionedLBFGS:
    """The paper's L-BFGS (Gatys et al. 2016, section 2), with a spectral preconditioner.

    The change of variables x = x0 + P z makes it: L-BFGS minimises over z, so that the steps of
    the image x are scaled by P P^T.

    Parameters
    ----------
    image : torch.Tensor
        (B, 3, H, W), the start. Copied.
    lr : float
        Step length that is tried first.
    history_size : int
        Of ``LBFGS``.
    exponent : float
        Of ``spectral_preconditioner``.
    """

    capturable: ClassVar[bool] = True
    patience: ClassVar[int] = (
        6  # by then the line search has made the step 30 times as short, at least
    )

    def __init__(
        self, image: torch.Tensor, *, lr: float, history_size: int, exponent: float
    ) -> None:
        self.image, self.origin = image.clone(), image.clone()
        self.lr, self.history_size = lr, history_size
        self.precondition = spectral_preconditioner(image, exponent)
        self.lbfgs: LBFGS | None = None

    def restart(self, image: torch.Tensor) -> None:
        """Begin at ``image`` (B, 3, H, W), without curvature pairs."""
        self.image.copy_(image)
        self.origin.copy_(image)
        self.lbfgs = None

    def step(self, value: torch.Tensor, gradient: torch.Tensor) -> None:
        """Take value (B,) and gradient (B, 3, H, W) at ``image``, and move it."""
        gradient = self.precondition(gradient)  # with respect to z
        if self.lbfgs is None:
            # The first step of the image is to be of a given size, whatever P makes of it.
            growth = sum_per_image(self.precondition(gradient).abs())
            growth = growth / sum_per_image(gradient.abs())
            first_step = FIRST_CHANGE / torch.where(growth > 0, growth, 1.0)
            self.lbfgs = LBFGS(
                torch.zeros_like(self.image),
                first_step=first_step,
                lr=self.lr,
                history_size=self.history_size,
            )
        self.lbfgs.tell(value, gradient)
        torch.add(self.origin, self.precondition(self.lbfgs.point), out=self.image)

    def stalled(self) -> bool:
        """Return whether the line search has given up on every image of the batch."""
        return self.lbfgs is not None and bool(self.lbfgs.stalled.all())


class Adam:
    """Adam (Kingma & Ba 2015), as torch has it.

    Parameters
    ----------
    image : torch.Tensor
        (B, 3, H, W), the start. Copied.
    lr : float
        Learning rate: the size of a pixel's steps.
    """

    capturable: ClassVar[bool] = False
    patience: ClassVar[int] = 1

    def __init__(self, image: torch.Tensor, *, lr: float) -> None:
        self.image, self.lr = image.clone(), lr
        self.adam = torch.optim.Adam([self.image], lr=lr)

    def restart(self, image: torch.Tensor) -> None:
        """Begin at ``image`` (B, 3, H, W), with moments of 0."""
        self.image.copy_(image)
        self.adam = torch.optim.Adam([self.image], lr=self.lr)

    def step(self, value: torch.Tensor, gradient: torch.Tensor) -> None:
        """Take the gradient (B, 3, H, W) at ``image``, and move it; Adam uses no value."""
        self.image.grad = gradient
        self.adam.step()

    def stalled(self) -> bool:
        """Return False: Adam's steps have a size of their own, and never end."""
        return False


def spectral_preconditioner(
    image: torch.Tensor, exponent: float
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the linear map P, which scales spatial frequencies f by f^(-exponent / 2).

    P is symmetric, and 1 at the Nyquist frequency along an axis. Step lengths then go with
    f^(-exponent), so that large shapes move before fine grain. Not in the papers: images have less
    of the high frequencies and gradients more, and without it L-BFGS has to learn that.

    Parameters
    ----------
    image : torch.Tensor
        (B, 3, H, W); only its size and device count.
    exponent : float
        0 for the identity.
    """
    if not exponent:
        return lambda values: values
    height, width = size = image.shape[2:]
    options = {"dtype": torch.float32, "device": image.device}
    # Where small images are real again, MKL rounds otherwise with one thread than with several.
    is_complex = image.device.type == "cpu" and width <= WIDEST_COMPLEX
    rows = torch.fft.fftfreq(height, **options)[:, None]
    columns = (torch.fft.fftfreq if is_complex else torch.fft.rfftfreq)(width, **options)
    squares = rows.square() + columns.square() + LOWEST_FREQUENCY**2  # (H, W or W // 2 + 1)
    gain = (squares / (NYQUIST**2 + LOWEST_FREQUENCY**2)) ** (-exponent / 4)
    if is_complex:
        return lambda values: torch.fft.ifft2(torch.fft.fft2(values) * gain).real.contiguous()
    return lambda values: torch.fft.irfft2(torch.fft.rfft2(values) * gain, s=size)
