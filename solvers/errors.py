"""What goes wrong in an iterative solve."""

from __future__ import annotations


class ConvergenceError(RuntimeError):
    """A system was not solved to its tolerance; raised on all ranks.

    Attributes
    ----------
    reason : str
        Why the iteration ended, as PETSc names it.
    iterations : int
    residual : float
        True relative residual: ``‖b − A x‖ / ‖b‖``, or of a nonlinear system ``‖F(u)‖ / ‖F(u₀)‖``.
    """

    def __init__(
        self, message: str, reason: str = "", iterations: int = 0, residual: float = float("nan")
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.iterations = iterations
        self.residual = residual
