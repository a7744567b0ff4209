"""Pins on a Redis server: one hash each, and a set of all there are; written down in `docs/reference/wire.md`.

A pin's time to live tells when its holder was last heard of, as a publisher's pulse does. It is written
by server functions, which a full server lets pass.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import Any

import redis

from blissdata.exceptions import PinGoneError, ScanNotFoundError, ServerRefusedError
from blissdata.redis_engine.backends.abstract import PinLosses, PinMove, PinState, Who
from blissdata.redis_engine.backends.beats import BEAT_OF_NOBODY, takes_beats
from blissdata.redis_engine.backends.client import refusal, translated_errors
from blissdata.redis_engine.backends.event_log import Functions, is_missing_function
from blissdata.redis_engine.backends.wire import Command, Wire
from blissdata.redis_engine.keys import (
    KEEPER,
    LASTING_TTL_S,
    PINS,
    PULSE_TTL_S,
    WRITER,
    pin_key,
)

__all__ = ["RedisPins"]

MOVE_TIMEOUT_S = 3.0
"""A move that has no answer in this time goes out again on another connection [s]."""

_SAID: dict[Who, str] = {"tracker": KEEPER, "writer": WRITER}
"""Where it is kept what they say of themselves."""


class RedisPins:
    """`Pins` on a Redis server."""

    def __init__(self, raw: Wire) -> None:
        self._raw = raw
        self._functions = Functions(raw, "blissdata_pins.lua")

    @property
    def functions(self) -> Functions:
        """What pins need on the server."""
        return self._functions

    def prepare(self) -> None:
        try:
            with translated_errors("bringing functions to the server"):
                found = self._raw.execute_command(
                    "FUNCTION", "LIST", "LIBRARYNAME", self._functions.name()
                )
                if not found:
                    self._functions.load()
        except ServerRefusedError:
            return

    # ------------------------------------------------------------------------------ for holders

    def take(
        self,
        scan_key: str,
        name: str,
        token: str,
        *,
        holder: str,
        lasting: bool,
        everything: bool,
        begins: Mapping[str, int],
        positions: Mapping[str, int],
        keys: Collection[str],
    ) -> PinState:
        key = pin_key(scan_key, name)
        said = [int(lasting), _time_to_live(lasting), "0" if everything else "-", len(begins)]
        args = [token, name, holder, *said, *_flat(begins), *_flat(positions)]
        all_keys = [PINS, key, scan_key, *keys]
        with translated_errors(f"pinning scan {scan_key} as {name!r}"):
            reply = self._functions.call("bdp1_take", all_keys, args)
        if reply[0] != b"OK":
            raise ScanNotFoundError(
                f"Scan {scan_key} cannot be pinned: it was deleted, it expired, or the key is wrong"
            )
        return _state(key, reply[1], None)

    def move(self, moves: Sequence[PinMove]) -> list[PinLosses | Exception]:
        commands: list[Command] = [
            (
                *("FCALL", "bdp1_move", 2, move.key, move.scan_key, move.token),
                *(_time_to_live(move.lasting), *_flat(move.positions)),
            )
            for move in moves
        ]
        with translated_errors(f"moving {len(moves)} pins"):
            replies = self._raw.execute_soon(commands, MOVE_TIMEOUT_S)
            if any(map(is_missing_function, replies)):
                self._functions.load()
                replies = self._raw.execute_soon(commands, MOVE_TIMEOUT_S)
        return [_moved(move, reply) for move, reply in zip(moves, replies, strict=True)]

    def release(self, key: str, token: str | None = None) -> bool:
        with translated_errors(f"releasing pin {key}"):
            (word,) = self._functions.call("bdp1_release", [PINS, key], [token or ""])
        return bool(word == b"OK")

    # ------------------------------------------------------------------------------ for all

    def all(self) -> list[PinState]:
        with translated_errors("asking for the pins"):
            keys = sorted(self._raw.execute_command("SMEMBERS", PINS))
            asked = [(verb, key) for key in keys for verb in ("HGETALL", "PTTL")]
            *replies, beaten = self._raw.execute([*asked, BEAT_OF_NOBODY])
            heard = takes_beats(beaten)
            there, gone = [], []
            for key, fields, ttl in zip(keys, replies[::2], replies[1::2], strict=True):
                if fields and not isinstance(fields, Exception):
                    there.append(
                        _state(key.decode(errors="replace"), fields, ttl if heard else None)
                    )
                else:
                    gone.append(key)
            if gone:
                self._raw.execute([("SREM", PINS, *gone)])  # refused: next time
        return there

    def lose(self, lost: Mapping[str, Mapping[str, int]]) -> None:
        calls = [("bdp1_lose", [key], _flat(streams)) for key, streams in lost.items()]
        with translated_errors(f"telling {len(lost)} pins what is lost"):
            for reply in self._functions.call_many(calls):
                if isinstance(reply, Exception):
                    raise reply

    def keep(self, keys: Collection[str]) -> None:
        with translated_errors(f"keeping {len(keys)} keys"):
            self._raw.execute([("PERSIST", key) for key in keys])

    def tell(self, about: Mapping[str, str], seconds: float, who: Who = "tracker") -> None:
        with translated_errors(f"saying what the {who} does"):
            self._functions.call("bdp1_tell", [_SAID[who]], [int(seconds * 1000), *_flat(about)])

    def told(self, who: Who = "tracker") -> dict[str, str]:
        with translated_errors(f"asking what the {who} does"):
            found = _mapping(self._raw.execute_command("HGETALL", _SAID[who]))
        return {name.decode(): value.decode(errors="replace") for name, value in found.items()}


def _flat(pairs: Mapping[str, Any]) -> list[Any]:
    return list(chain.from_iterable(pairs.items()))


def _time_to_live(lasting: bool) -> int:
    """[ms]"""
    return (LASTING_TTL_S if lasting else PULSE_TTL_S) * 1000


def _mapping(reply: Any) -> dict[bytes, bytes]:
    """Pairs in a list under RESP2, a map under RESP3."""
    if isinstance(reply, dict):
        return reply
    return dict(zip(reply[::2], reply[1::2], strict=True))


def _state(key: str, fields: Any, pttl: Any) -> PinState:
    """From a pin's fields and what PTTL says of it; whatever is no pin holds nothing."""
    found = {
        name.decode(errors="replace"): value.decode(errors="replace")
        for name, value in _mapping(fields).items()
    }
    lasting = found.get("lasting") == "1"
    left = pttl if isinstance(pttl, int) and pttl > 0 else _time_to_live(lasting)
    positions = {name[2:]: value for name, value in found.items() if name.startswith("s:")}
    lost = {name[2:]: value for name, value in found.items() if name.startswith("l:")}
    return PinState(
        key=key,
        scan_key=found.get("scan", ""),
        name=found.get("name", ""),
        holder=found.get("holder", ""),
        lasting=lasting,
        silence=max(0.0, (_time_to_live(lasting) - left) / 1000),
        everything=found.get("default") == "0",
        positions={stream: int(text) for stream, text in positions.items() if text.isdecimal()},
        lost={stream: _ranges(text) for stream, text in lost.items()},
    )


def _ranges(text: str) -> tuple[tuple[int, int], ...]:
    pairs = (word.partition("-") for word in text.split())
    return tuple(
        (int(start), int(stop))
        for start, _, stop in pairs
        if start.isdecimal() and stop.isdecimal()
    )


def _moved(move: PinMove, reply: Any) -> PinLosses | Exception:
    if isinstance(reply, redis.exceptions.ResponseError):
        return refusal(reply, f"moving pin {move.key}")
    word, *rest = reply
    if word == b"OK":
        texts = [text.decode(errors="replace") for text in rest]
        return {stream: _ranges(text) for stream, text in zip(texts[::2], texts[1::2], strict=True)}
    why = {
        b"VANISHED": "its scan was deleted, or has expired",
        b"TAKEN": f"{b''.join(rest).decode(errors='replace')} has taken it over",
    }.get(word, "somebody removed it, or the server was restarted without it")
    return PinGoneError(f"Pin {move.key} holds nothing any more: {why}")
