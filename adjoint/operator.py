"""What every operator is: a forward rule with its two derivatives beside it."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

import numpy as np

from . import spans
from .tape import active_tape
from .variable import Variable


class Operator:
    """A function of arrays with its Jacobian's products, written by hand.

    A subclass says what it computes in :meth:`forward` and what its Jacobian ``J`` does in
    :meth:`jvp` (``J v``) and :meth:`vjp` (``Jᵀ w``). An instance holds configuration (a
    communicator, a grid, a stencil), never the data of one call, so it may be applied many times on
    one tape. Rules never modify what they are given.

    Attributes
    ----------
    needs_inputs, needs_outputs : tuple of int or None
        Positions of the inputs and outputs that ``jvp`` and ``vjp`` read; ``None`` means all. In
        place of the others the rules get a :class:`~adjoint.variable.Spec` (shape and dtype), and
        the tape keeps nothing of them. A linear operator needs none: ``()``.
    auxiliary : int
        How many of the last outputs of ``forward`` are kept for the rules alone and not returned to
        the caller: a factorisation, an intermediate result.
    communicates : bool
        Whether other ranks take part. Such calls are always recorded, and swept in reverse also
        where this rank has no cotangent, for the other ranks wait for it.

    Examples
    --------
    >>> class Cube(Operator):
    ...     def forward(self, x):
    ...         return x**3
    ...     def jvp(self, tangents, inputs, outputs):
    ...         return 3 * inputs[0] ** 2 * tangents[0]
    ...     def vjp(self, cotangents, inputs, outputs):
    ...         return (3 * inputs[0] ** 2 * cotangents[0],)
    >>> Cube()(2.0)
    8.0
    """

    needs_inputs: ClassVar[tuple[int, ...] | None] = None
    needs_outputs: ClassVar[tuple[int, ...] | None] = None
    auxiliary: ClassVar[int] = 0
    communicates: ClassVar[bool] = False
    _arity: ClassVar[int | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "forward" in cls.__dict__:
            parameters = list(inspect.signature(cls.__dict__["forward"]).parameters.values())[1:]
            variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
            cls._arity = None if variadic else len(parameters)

    @property
    def name(self) -> str:
        """The name by which messages call this operator."""
        return type(self).__name__

    def forward(self, *inputs: Any) -> Any:
        """Return the output, or a tuple of outputs, as new arrays (or views)."""
        raise NotImplementedError(f"{self.name}: forward is not defined")

    def jvp(self, tangents: Any, inputs: Any, outputs: Any) -> Any:
        """Return ``J v``, one tangent for each output.

        Parameters
        ----------
        tangents : tuple
            One array for each input, of its shape (zeros for constants).
        inputs, outputs : tuple
            Those of the recorded call; a ``Spec`` stands for what is not in ``needs_…``.
        """
        raise NotImplementedError(f"{self.name}: jvp is not defined")

    def vjp(self, cotangents: Any, inputs: Any, outputs: Any) -> Any:
        """Return ``Jᵀ w``, a tuple with one entry for each input.

        Parameters
        ----------
        cotangents : tuple
            One array for each output, of its shape (zeros where nothing depends on it).
        inputs, outputs : tuple
            Those of the recorded call; a ``Spec`` stands for what is not in ``needs_…``.

        Returns
        -------
        tuple
            An array of the input's shape, or ``None`` where the outputs do not depend on it, or a
            function of no arguments that returns the array: it is called only if the input is a
            variable, so that nothing is computed for constants.
        """
        raise NotImplementedError(f"{self.name}: vjp is not defined")

    def check(self, *inputs: Any) -> None:
        """Raise on inputs that ``forward`` cannot take; see :meth:`require`."""

    def require(self, argument: str, found: Any, expected: Any, what: str = "shape") -> None:
        """Raise unless ``found == expected``, naming operator, argument and both values."""
        if found != expected:
            raise ValueError(f"{self.name}: {argument} has {what} {found}, expected {expected}")

    def __call__(self, *inputs: Any) -> Any:
        """Apply the operator, and record the call on the active tape."""
        if len(inputs) != self._arity and self._arity is not None:
            raise TypeError(f"{self.name}: got {len(inputs)} inputs, expected {self._arity}")
        values = tuple([x.value if isinstance(x, Variable) else x for x in inputs])
        if spans.active is None:
            self.check(*values)
            outputs = self.forward(*values)
        else:
            outputs = spans.active.forward(self, values)
        tape = active_tape()
        if tape is not None:
            for x in inputs:
                if isinstance(x, Variable):
                    return tape.record(self, inputs, values, outputs)
            if self.communicates:
                return tape.record(self, inputs, values, outputs)
        if self.auxiliary:
            outputs = outputs[: -self.auxiliary]
            return outputs[0] if len(outputs) == 1 else outputs or None
        return outputs

    def __repr__(self) -> str:
        settings = ", ".join(
            f"{name}={value!r}"
            for name, value in vars(self).items()
            if not name.startswith("_") and isinstance(value, bool | int | float | str | tuple)
        )
        return f"{self.name}({settings})"


def require_float(name: str, argument: str, value: Any) -> None:
    """Raise unless ``value`` is an array of ``float32`` or ``float64``."""
    dtype = np.asarray(value).dtype
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"{name}: {argument} has dtype {dtype}, expected float32 or float64")
