"""What a confirmed point survives: the choice that a scan makes, as pure rules.

A server acknowledges when it replies. `join` and friends confirm when what was chosen here holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

__all__ = ["Durability", "disk_needs_waitaof", "refusal_of"]


class Durability(StrEnum):
    """What a point that `join`, `seal` or `stop` confirmed survives."""

    MEMORY = "memory"
    """The server has it: survives cut connections and lost replies, not the end of the server."""

    DISK = "disk"
    """An fsync came before the confirmation: survives `kill -9` of the server and power cuts."""

    REPLICA = "replica"
    """A replica has it as well: survives the loss of the server, if that replica takes over."""


def refusal_of(wanted: Durability, server: Mapping[str, str]) -> str | None:
    """Why a server cannot give what is wanted, and what would help; None if it can.

    `server` holds `product` (`valkey` or `redis`), `version`, `appendonly`, `appendfsync` and
    `replicas`; what the server would not tell is left out."""
    if wanted is Durability.MEMORY:
        return None
    if wanted is Durability.REPLICA:
        if int(server.get("replicas") or 0) >= 1:
            return None
        return "no replica is connected to it. Start one with `replicaof`, or choose another durability"
    if server.get("appendonly") is None:
        return "it does not tell whether it writes to disk (CONFIG GET is refused)"
    if server["appendonly"] != "yes":
        return "it writes nothing to disk (appendonly is no). Set `appendonly yes` and `appendfsync always`"
    if server.get("appendfsync") == "always" or _has_honest_waitaof(server):
        return None
    return (
        f"it does not wait for the disk (appendfsync is {server.get('appendfsync')}). "
        "Set `appendfsync always`"
    )


def disk_needs_waitaof(server: Mapping[str, str]) -> bool:
    """True where the reply to a command says nothing of the disk, and WAITAOF must be asked."""
    return server.get("appendfsync") != "always"


def _has_honest_waitaof(server: Mapping[str, str]) -> bool:
    """Redis has WAITAOF from 7.2 on (redis.io/docs/latest/commands/waitaof). Valkey 9.1 was seen to
    answer it before any fsync under `everysec`, so there it is not relied on."""
    if server.get("product") != "redis":
        return False
    major, minor, *_ = [*server.get("version", "0").split("."), "0"]
    return (int(major), int(minor)) >= (7, 2) and server.get("appendfsync") == "everysec"
