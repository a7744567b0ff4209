"""Trying again, after closing and reopening the file: which errors, how often, for how long.

The two errors that callers catch are silx's own, so that code written for silx catches them too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import update_wrapper, wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

from blissdata.h5api.utils.opening import is_h5py_exception  # isort: skip — without silx, it says so
from silx.utils.retry import RetryError, RetryTimeoutError, retry

__all__ = [
    "RETRY_PERIOD_S",
    "RetryError",
    "RetryTimeoutError",
    "RetryWithoutResetError",
    "is_retriable",
    "retry_with_reset",
    "return_on_retry_timeout",
    "stop_iter_on_retry_timeout",
]

RETRY_PERIOD_S = 0.05
"""Pause between two tries [s]. Nothing tells of a change in a file on a shared file system, so it has
to be looked at; twenty times a second is soon enough for eyes and cheap for the file server."""

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class RetryWithoutResetError(RetryError):
    """To be tried again, without closing and reopening the file."""


class Resettable(Protocol):
    """What methods that are tried again belong to."""

    _retry_options: dict[str, Any]
    """`retry_timeout` [s] (None: for ever, 0: one try) and `retry_period` [s]."""

    def reset(self) -> None:
        """Closes what is open, so that the next try begins anew."""


S = TypeVar("S", bound=Resettable)


def is_retriable(error: BaseException) -> bool:
    """True for what may pass when the file is opened again: `RetryError`, and every error out of
    h5py. Never for what is no error but an order, such as Ctrl-C."""
    if not isinstance(error, Exception):
        return False
    return isinstance(error, RetryError) or bool(is_h5py_exception(error))


def retry_with_reset(
    method: Callable[Concatenate[S, P], R],
) -> Callable[Concatenate[S, P], R]:
    """A method that is tried again while it fails with an error that may pass (see `is_retriable`).

    Between two tries its object is `reset()`, except after `RetryWithoutResetError`, and after the
    last one too. Time and pause are those of the object's `_retry_options`; when the time is up:
    `RetryTimeoutError`, whose cause is the last error. A generator has an argument `start_index`:
    it is called again with the number of items that it has given, and the time counts from the last
    of them.
    """

    def wrapper(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        def passes(error: BaseException) -> bool:
            again = is_retriable(error)
            if again and not isinstance(error, RetryWithoutResetError):
                self.reset()
            return again

        options = {"retry_period": None, **self._retry_options, "retry_on_error": passes}
        if options["retry_period"] is None:
            options["retry_period"] = RETRY_PERIOD_S
        try:
            found: R = retry(**options)(method)(self, *args, **kwargs)
        except RetryTimeoutError:
            self.reset()
            raise
        return found

    return cast("Callable[Concatenate[S, P], R]", update_wrapper(wrapper, method))


def stop_iter_on_retry_timeout(
    method: Callable[P, Iterator[T]],
) -> Callable[P, Iterator[T]]:
    """An iteration that ends when the time is up."""

    @wraps(method)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        try:
            yield from method(*args, **kwargs)
        except RetryTimeoutError:
            return

    return wrapper


def return_on_retry_timeout(default: T) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A method that gives `default` when the time is up."""

    def decorator(method: Callable[P, T]) -> Callable[P, T]:
        @wraps(method)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return method(*args, **kwargs)
            except RetryTimeoutError:
                return default

        return wrapper

    return decorator
