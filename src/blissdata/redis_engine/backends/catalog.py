"""What the catalogues of both layouts do in the same way: one scan is loaded, followed and kept alive."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import Any

from blissdata.exceptions import ScanLoadError, ScanValidationError
from blissdata.redis_engine.backends.abstract import LoadedScan, Step
from blissdata.redis_engine.backends.client import translated_errors
from blissdata.redis_engine.backends.event_log import Functions
from blissdata.redis_engine.backends.server import (
    not_found,
    pulses_renewed,
    state_number,
    step_from,
)
from blissdata.redis_engine.backends.wire import Wire
from blissdata.redis_engine.documents import ScanDocument
from blissdata.redis_engine.keys import HISTORY, PlainKeys, StackKeys

__all__ = ["RedisCatalog"]


class RedisCatalog(ABC):
    """The part of a `Catalog` that does not depend on how scans are stored."""

    _keys: PlainKeys | StackKeys

    def __init__(
        self, raw: Wire, functions: Functions, identity_fields: Sequence[str], max_block: float
    ) -> None:
        self._raw = raw
        self._functions = functions
        self._fields = tuple(identity_fields)
        self._max_block = max_block

    @abstractmethod
    def _ask_for(self, keys: Sequence[str]) -> list[Any]:
        """For each scan, in one round trip: its document, the id of its newest state, and that; only the
        document if it has no state stream; nothing if it is gone; or a refusal."""

    @abstractmethod
    def _document(self, key: str, text: bytes) -> ScanDocument:
        """The document in a text. Raises `ScanValidationError`."""

    @abstractmethod
    def _state_key(self, key: str) -> str | None:
        """The key of a scan's state stream; None if it is gone."""

    # ------------------------------------------------------------------------------ one scan

    def load(self, key: str) -> LoadedScan:
        found = self.load_many([key])[key]
        if isinstance(found, ScanLoadError):
            raise found
        return found

    def load_many(self, keys: Sequence[str]) -> dict[str, LoadedScan | ScanLoadError]:
        wanted = list(dict.fromkeys(keys))
        doing = f"loading scan {wanted[0]}" if len(wanted) == 1 else f"loading {len(wanted)} scans"
        found: dict[str, LoadedScan | ScanLoadError] = {}
        with translated_errors(doing):
            for key, reply in zip(wanted, self._ask_for(wanted), strict=True):
                try:
                    found[key] = self._loaded(key, reply)
                except ScanLoadError as error:
                    found[key] = error
        return found

    def _loaded(self, key: str, reply: Any) -> LoadedScan:
        """The scan in a reply. Raises the reply, if it is another error than of this scan alone."""
        if isinstance(reply, Exception):
            if not any(text in str(reply) for text in _WRONG_TYPE):
                raise reply
            raise ScanValidationError(
                f"{key} is not a scan: there, or where its state stream should be, is a value of "
                "another type"
            ) from reply
        if not reply:
            raise not_found(key)
        document = self._document(key, reply[0])
        if len(reply) < 3:
            raise ScanValidationError(f"{key} is not a scan: it has no state stream")
        _, state_id, state = reply
        return LoadedScan(document, state_number(key, state), state_id.decode())

    def wait_state(self, key: str, state_id: str, wait: float) -> bool:
        block = max(1, math.ceil(min(wait, self._max_block) * 1000))
        blocking = ("BLOCK", block) if wait > 0 else ()
        with translated_errors(f"waiting for scan {key}"):
            state_key = self._state_key(key)
            if state_key is None:
                raise not_found(key)
            command = ("XREAD", "COUNT", 1, *blocking, "STREAMS", state_key, state_id)
            return bool(self._raw.execute_command(*command))

    def steps(self, key: str) -> list[Step]:
        with translated_errors(f"asking for the steps of scan {key}"):
            state_key = self._state_key(key)
            found = state_key and self._raw.execute_command("XRANGE", state_key, "-", "+")
        if not found:
            raise not_found(key)
        return [step_from(key, item) for item in found]

    # ------------------------------------------------------------------------------ many scans

    def beat(self, keys: Collection[str]) -> None:
        pulses = [self._keys.pulse(self._keys.scan_pk(key)) for key in keys]
        with translated_errors("giving a sign of life"):
            pulses_renewed(self._raw, pulses)

    def timetag(self) -> str:
        with translated_errors("asking for the newest scan"):
            raw = self._raw.execute_command("XREVRANGE", HISTORY, "+", "-", "COUNT", 1)
        return raw[0][0].decode() if raw else "0-0"

    # ------------------------------------------------------------------------------ names

    def is_scan_key(self, key: str) -> bool:
        return key.startswith(self._keys.scan_prefix)

    def scan_key(self, pk: str) -> str:
        return self._keys.scan(pk)


_WRONG_TYPE = ("WRONGTYPE", "wrong Redis type", "wrong kind of value")
"""What servers and modules say of a key that holds another type."""
