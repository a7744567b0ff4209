"""Whole messages over a TCP socket, on either side of a frame server."""

from __future__ import annotations

import socket

from blissdata.streams.frames.wire import REPLY_NBYTES, Reply

__all__ = ["prepare", "receive_exactly", "send_reply"]

UNHEARD_S = 60
"""Silence of the other host's system after which a connection counts as lost [s]."""

PROBES = 4
"""How often it is asked in that time whether it is still there."""


def prepare(connection: socket.socket) -> None:
    """Small messages leave at once, and the loss of the other host is noticed."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", UNHEARD_S // PROBES),
        ("TCP_KEEPINTVL", UNHEARD_S // PROBES),
        ("TCP_KEEPCNT", PROBES),
    ):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def receive_exactly(connection: socket.socket, memory: memoryview | bytearray) -> None:
    """Fills `memory`. Raises `EOFError` if the other side ends before, and what sockets raise."""
    left = memoryview(memory)
    while left:
        count = connection.recv_into(left)
        if not count:
            raise EOFError("the other side closed the connection")
        left = left[count:]


def send_reply(connection: socket.socket, reply: Reply, frame: memoryview | None = None) -> None:
    """Sends a reply, and the frame that it tells of, from where this is. Raises what sockets raise."""
    head = reply.pack()
    if frame is None:
        connection.sendall(head)
        return
    sent = connection.sendmsg([head, frame])
    if sent < REPLY_NBYTES:
        connection.sendall(head[sent:])
        sent = REPLY_NBYTES
    left = frame[sent - REPLY_NBYTES :]
    if left:
        connection.sendall(left)
