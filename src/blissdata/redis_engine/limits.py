"""Up to which use of a server's memory something holds."""

from __future__ import annotations

import argparse
import math
import re
from dataclasses import dataclass

__all__ = ["PinLimit"]

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


@dataclass(frozen=True, slots=True)
class PinLimit:
    """Up to which use of memory pins are kept."""

    amount: float = 90

    percent: bool = True
    """True if the amount is a part of `maxmemory` [%], False if it is in bytes."""

    @classmethod
    def of(cls, text: str) -> PinLimit:
        """From `90`, `90%`, `4gb`, `500mb`; units are powers of 1024. Raises `ValueError`."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:%|([kmgt]?)(i?b))?", text.strip().lower())
        if found is None:
            raise ValueError(
                f"{text!r} is neither a part of the server's memory such as 90%, nor a size such as 4gb"
            )
        percent = found[3] is None
        limit = cls(float(found[1]) * (1 if percent else _UNITS[found[2]]), percent)
        if percent and not 0 <= limit.amount <= 100:
            raise ValueError(f"The limit for pins is a part from 0 to 100 %, not {text}")
        return limit

    @classmethod
    def argument(cls, text: str) -> PinLimit:
        """The same for a command line. Raises `argparse.ArgumentTypeError`."""
        try:
            return cls.of(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    def __str__(self) -> str:
        return f"{self.amount:g}%" if self.percent else f"{self.amount:.0f}b"

    def nbytes(self, max_memory: int) -> float:
        """From which use of memory on pins are kept no more [bytes]; infinite for 100 %: then
        publishers wait instead."""
        if not self.percent:
            return self.amount
        return math.inf if self.amount >= 100 else max_memory * self.amount / 100
