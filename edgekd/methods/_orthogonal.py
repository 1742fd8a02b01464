"""Matrices that stay orthonormal while an optimiser moves them: three ways to write one.

Each learns free numbers and turns them into (n, k), n >= k, with orthonormal columns, whatever an
optimiser does to those numbers. torch's ``parametrizations.orthogonal`` is not among them: where
n > k it takes Householder reflections, whose backward pass needs seconds at the widths of an
ImageNet teacher, and which one step with weight decay turns into 0.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

__all__ = ["KINDS", "Orthogonal"]

NEAR, FAR = 6, 32
"""Newton-Schulz iterations from a matrix that is almost orthonormal, and from any other."""


class Orthogonal(nn.Module):
    """A linear map between two widths, the matrix of which is orthonormal along the narrower.

    Upwards it preserves lengths and angles; downwards it projects onto a subspace.

    Args:
        inputs: channels it takes.
        outputs: channels it gives.
        kind: one of ``KINDS``.
    """

    def __init__(self, inputs: int, outputs: int, kind: str) -> None:
        super().__init__()
        self.narrows = inputs > outputs
        start = torch.randn(max(inputs, outputs), min(inputs, outputs))  # (n, k)
        self.frame = KINDS[kind](torch.linalg.qr(start).Q)

    def matrix(self) -> Tensor:
        """The weight, as it is now."""
        frame: Tensor = self.frame()
        return frame.mT if self.narrows else frame  # (outputs, inputs)

    def forward(self, rows: Tensor) -> Tensor:
        return rows @ self.matrix().mT  # (N, outputs)

    def retract(self) -> None:
        """After an optimiser step: write down what the free numbers now stand for."""
        self.frame.retract()


class Frame(nn.Module):
    """A free matrix, and the orthonormal one that it stands for.

    Args:
        start: (n, k), orthonormal.
        near: orthonormalises a matrix that is almost so; differentiable.
        far: the same for any matrix, and to the same result; need not be differentiable.
    """

    def __init__(
        self, start: Tensor, near: Callable[[Tensor], Tensor], far: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.free = nn.Parameter(start)
        self._near, self._far = near, far

    def forward(self) -> Tensor:
        return self._near(self.free)  # (n, k)

    @torch.no_grad()
    def retract(self) -> None:
        """Keep the free matrix orthonormal, so that neither its length nor its shape drifts."""
        self.free.copy_(self._far(self.free))


class Exponential(nn.Module):
    """The start, turned by the exponential of a learned skew-symmetric matrix that begins at 0.

    With B skew and Z orthogonal to the start Q, exp(Q B Q^T + Z Q^T - Q Z^T) Q is Q X + Z Y, where
    X and Y are the first k columns of exp([[B, -Z^T Z], [I, 0]]): 2k by 2k instead of n by n.

    Args:
        start: (n, k), orthonormal.
    """

    start: Tensor

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.register_buffer("start", start)
        self.inside = nn.Parameter(torch.zeros_like(start[: start.shape[1]]))  # (k, k)
        self.outside = nn.Parameter(torch.zeros_like(start))  # (n, k)

    def forward(self) -> Tensor:
        Q, k = self.start, self.start.shape[1]
        lower = self.inside.tril(-1)
        Z = self.outside - Q @ (Q.mT @ self.outside)  # (n, k)
        # the result does not depend on the scale; it keeps the blocks alike in size
        scale = (Z.detach().norm() / k**0.5).clamp(min=1)
        eye = torch.eye(k, dtype=Q.dtype, device=Q.device)
        top = torch.cat([lower - lower.mT, -Z.mT @ Z / scale], 1)
        bottom = torch.cat([scale * eye, torch.zeros_like(eye)], 1)
        turned = torch.matrix_exp(torch.cat([top, bottom]))[:, :k]  # (2k, k)
        # squaring a large exponent in float32 rounds; one iteration takes that away
        return _nearer(Q @ turned[:k] + Z @ (turned[k:] / scale))

    def retract(self) -> None:
        """Nothing: every value of the parameters is orthonormal."""


def cholesky_qr(matrix: Tensor) -> Tensor:
    """The Q of ``matrix`` = Q R with a positive diagonal of R, by matrix products for the most."""
    # without the check, which would wait for the device
    L = torch.linalg.cholesky_ex(matrix.mT @ matrix).L  # (k, k)
    frame: Tensor = torch.linalg.solve_triangular(L.mT, matrix, upper=True, left=False)
    return frame


def householder_qr(matrix: Tensor) -> Tensor:
    """The same of any matrix: squaring does not cost it half of the digits."""
    Q, R = torch.linalg.qr(matrix)
    frame: Tensor = Q * torch.where(R.diagonal() < 0, -1.0, 1.0).to(Q)
    return frame


def newton_schulz(matrix: Tensor, iterations: int) -> Tensor:
    """The orthonormal matrix nearest to ``matrix``, by matrix products alone."""
    # at least the largest singular value, so that none is beyond the reach of the iteration
    bound = (matrix.mT @ matrix).abs().sum(1).max().sqrt().detach()
    frame = matrix / bound
    for _ in range(iterations):
        frame = _nearer(frame)
    return frame


def _nearer(matrix: Tensor) -> Tensor:
    """One Newton-Schulz iteration: what is e off becomes 1.5 e^2 off."""
    return 1.5 * matrix - 0.5 * matrix @ (matrix.mT @ matrix)


KINDS: dict[str, Callable[[Tensor], Frame | Exponential]] = {
    "cholqr": partial(Frame, near=cholesky_qr, far=householder_qr),
    "exp_thin": Exponential,
    "newton_schulz": partial(
        Frame,
        near=partial(newton_schulz, iterations=NEAR),
        far=partial(newton_schulz, iterations=FAR),
    ),
}
