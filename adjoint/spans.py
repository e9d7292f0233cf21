"""Spans of time that have a name, for the profile that watches this process, if one does.

Whatever takes long says so with :func:`span` or :func:`shown`, and what is sent with :func:`sent`.
Where nothing watches, each of them is one ``if``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from .profile import Profile

F = TypeVar("F", bound=Callable[..., Any])

#: The profile that watches this process.
active: Profile | None = None


class _Unwatched:
    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass


_unwatched = _Unwatched()


def span(name: str) -> AbstractContextManager[None]:
    """Return a context that shows what its block does under a name.

    Examples
    --------
    >>> with span("set up"):
    ...     work = sum(range(1000))
    """
    return _unwatched if active is None else active.span(name)


def shown(name: str, function: F) -> F:
    """Return a function whose calls are spans; the function itself where nothing watches.

    Loops take it before they begin, so that their steps have nothing to ask.
    """
    return function if active is None else active.shown(name, function)


def sent(count: int) -> None:
    """Note that so many bytes of this rank's arrays were handed to MPI for other ranks."""
    if active is not None:
        active.sent += count
