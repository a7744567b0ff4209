"""Lets arguments be given by the names that they have in blissdata 2.x as well."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

__all__ = ["once_called"]

P = ParamSpec("P")
T = TypeVar("T")


def once_called(**old_names: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A decorator for a function whose argument `new` is called `old` in blissdata 2.x."""

    def decorate(method: Callable[P, T]) -> Callable[P, T]:
        @wraps(method)
        def renamed(*args: P.args, **kwargs: P.kwargs) -> T:
            for new, old in old_names.items():
                if old in kwargs:
                    kwargs[new] = kwargs.pop(old)
            return method(*args, **kwargs)

        return renamed

    return decorate
