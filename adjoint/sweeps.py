"""The two sweeps over what a tape recorded: forwards for ``J v``, backwards for ``Jᵀ w``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .variable import Array, Spec

if TYPE_CHECKING:
    from .profile import Profile
    from .tape import Record


def forward(
    records: Sequence[Record], tangents: dict[int, Any], wanted: Collection[int],
    profile: Profile | None,
) -> None:  # fmt: skip
    """Take tangents through the records, from the first to the last.

    Parameters
    ----------
    records : sequence of Record
    tangents : dict of int to numpy.ndarray
        Those of the sources, by the variables' keys. In place: those that are wanted are added,
        where they are not zero, and others are let go of.
    wanted : collection of int
    profile : Profile or None
        What watches the rules.
    """
    last = {key: i for i, r in enumerate(records) for key in r.sources if key is not None}
    for i, record in enumerate(records):
        operator = record.operator
        vs = [None if key is None else tangents.get(key) for key in record.sources]
        for key in record.sources:
            if key is not None and last[key] == i and key not in wanted:
                tangents.pop(key, None)
        if not operator.communicates and all(v is None for v in vs):
            continue
        filled = tuple([_zeros_like(x) if v is None else v for x, v in zip(record.inputs, vs)])
        jvp = operator.jvp if profile is None else profile.rule(operator, "jvp")
        result = jvp(filled, record.inputs, record.outputs)
        if type(result) is not tuple:
            result = () if result is None else (result,)
        if len(result) != len(record.targets):
            raise ValueError(
                f"{operator.name}.jvp: returned {len(result)} tangents "
                f"for {len(record.targets)} outputs"
            )
        for key, t, y in zip(record.targets, result, record.outputs):
            if key in last or key in wanted:
                t = conform(t, Spec.of(y), operator.name + ".jvp: tangent")
                known = tangents.get(key)  # where it is a source as well
                tangents[key] = t if known is None else known + t


def reverse(
    records: Iterable[Record], cotangents: Cotangents, wanted: Collection[int],
    profile: Profile | None,
) -> dict[int, Any]:  # fmt: skip
    """Take cotangents through the records, which are given from the last to the first.

    Parameters
    ----------
    records : iterable of Record
    cotangents : Cotangents
        Those of the outputs. Each is let go of as soon as it is spent.
    wanted : collection of int
        Keys of variables.
    profile : Profile or None
        What watches the rules.

    Returns
    -------
    dict of int to (numpy.ndarray or None)
        The cotangents that are wanted, by key; ``None`` for zero.
    """
    found: dict[int, Any] = {}
    for record in records:
        operator = record.operator
        ws = [cotangents.pop(key) for key in record.targets]
        for target, w in zip(record.targets, ws):
            if target in wanted:
                found[target] = w
        if not operator.communicates and all(w is None for w in ws):
            continue
        filled = tuple([_zeros_like(y) if w is None else w for y, w in zip(record.outputs, ws)])
        vjp = operator.vjp if profile is None else profile.rule(operator, "vjp")
        entries = vjp(filled, record.inputs, record.outputs)
        if not isinstance(entries, tuple | list):
            raise TypeError(
                f"{operator.name}.vjp: returned a {type(entries).__name__}, "
                "expected a tuple with an entry for each input"
            )
        if len(entries) != len(record.sources):
            raise ValueError(
                f"{operator.name}.vjp: returned {len(entries)} cotangents "
                f"for {len(record.sources)} inputs"
            )
        for i, (key, entry) in enumerate(zip(record.sources, entries)):
            if key is None or entry is None:
                continue
            w = entry() if callable(entry) else entry
            cotangents.add(key, w, record.inputs[i], operator.name, i)
    for key in wanted:
        if found.get(key) is None:  # made by no record
            found[key] = cotangents.pop(key)
    return found


class Cotangents:
    """The cotangents of a reverse sweep, summed where a variable was used more than once."""

    def __init__(self) -> None:
        self._found: dict[int, Any] = {}
        self._owned: set[int] = set()

    def pop(self, key: int) -> Any:
        """Return the cotangent of ``key`` and let go of it; ``None`` where there is none."""
        self._owned.discard(key)
        return self._found.pop(key, None)

    def add(self, key: int, w: Any, like: Any, name: str, position: int | None = None) -> None:
        """Add ``w``, which may belong to somebody else, to the cotangent of ``key``."""
        where = name if position is None else f"{name}.vjp: cotangent of input {position}"
        w = conform(w, like, where)
        known = self._found.get(key)
        if known is None:
            self._found[key] = w
        elif key in self._owned:
            known += w
        else:
            total = known + w
            self._found[key] = total
            if type(total) is np.ndarray:
                self._owned.add(key)


def conform(w: Any, like: Any, where: str) -> Any:
    """Return ``w`` as an array of the shape and dtype of ``like``; a wrong shape is an error."""
    dtype = getattr(like, "dtype", None)
    if dtype is None:  # not an array: a pending request
        return w
    if type(w) is not np.ndarray:
        w = np.asarray(w)
    if w.shape != like.shape:
        raise ValueError(f"{where} has shape {w.shape}, expected {like.shape}")
    return w if w.dtype == dtype else w.astype(dtype)


def own(results: Sequence[Any], given: Sequence[Any]) -> list[Array]:
    """Return results that share memory with nothing: rules may pass on what they were given."""
    taken = {id(array) for array in given}
    ours = []
    for x in results:
        if id(x) in taken or not (x.flags.owndata and x.flags.writeable and x.flags.c_contiguous):
            x = np.array(x, order="C")
        taken.add(id(x))
        ours.append(x)
    return ours


def _zeros_like(x: Any) -> Array:
    """Return zeros of the shape and dtype of an array, its ``Spec``, or a number."""
    return np.zeros(getattr(x, "shape", ()), getattr(x, "dtype", np.float64))
