"""The program that gives the frames of a ring to readers on other hosts, in a process of its own.

It is a reader of the ring like others, so nobody who takes frames waits for it. A copy of each frame is
made and checked before it is sent; who asks must know the token. See `wire` for what is said.
"""

from __future__ import annotations

import socket
from typing import Any

from blissdata.streams.frames.companion import Desk
from blissdata.streams.frames.ring import RingReader
from blissdata.streams.frames.wire import Reply, Request, Status, most_frames

__all__ = ["main"]

WAITING_NBYTES = 2**26
"""What may wait to be sent to one reader [bytes]."""

MOST_WAITING = 1024


def main() -> None:
    """Serves until the detector is done, or dead."""
    desk = Desk()
    try:
        _serve(desk)
    except Exception as error:  # noqa: BLE001 — whatever it is, who runs the buffer must know
        desk.say("failed", error or type(error).__name__)


def _serve(desk: Desk) -> None:
    import zmq

    job = desk.job
    ring = RingReader.inherited(job["fd"], job["slots"], job["nbytes"])
    with zmq.Context() as context, context.socket(zmq.ROUTER) as front:
        waiting = max(8, min(MOST_WAITING, WAITING_NBYTES // job["nbytes"]))
        front.set(zmq.SNDHWM, waiting)
        front.set(zmq.RCVHWM, 64)
        front.set(zmq.MAXMSGSIZE, 4096)
        front.set(zmq.LINGER, 0)
        address = socket.getaddrinfo(job["host"], None, type=socket.SOCK_STREAM)[0]
        numeric = str(address[4][0])
        if address[0] == socket.AF_INET6:
            front.set(zmq.IPV6, 1)
            numeric = f"[{numeric}]"
        port = front.bind_to_random_port(f"tcp://{numeric}")
        known_as = job["known_as"]
        desk.say("ready", f"tcp://{f'[{known_as}]' if ':' in known_as else known_as}:{port}")
        _Service(ring, bytes.fromhex(job["token"]), front).run(desk)
    if job["removes"]:
        ring.remove(job["ring"])


class _Service:
    def __init__(self, ring: RingReader, token: bytes, front: Any) -> None:
        self._ring = ring
        self._token = token
        self._front = front
        self._most = most_frames(ring.nbytes)

    def run(self, desk: Desk) -> None:
        import zmq

        poller = zmq.Poller()
        poller.register(self._front, zmq.POLLIN)
        poller.register(0, zmq.POLLIN)
        while not desk.ended:
            for source, _ in poller.poll():
                if source == 0:
                    desk.take()
                else:
                    self._answer(*self._front.recv_multipart())

    def _answer(self, reader: bytes, *parts: bytes) -> None:
        request = Request.parse(parts[0]) if len(parts) == 1 else None
        if request is None or not request.may(self._token) or request.count > self._most:
            number = request.number if request else 0
            self._say(reader, Reply(Status.REFUSED, number, 0))
        elif not request.count:
            held = self._ring.held()
            self._say(reader, Reply(Status.HELD, request.number, held.start, held.stop))
        else:
            for index in range(request.start, request.start + request.count):
                self._give(reader, request.number, index)

    def _give(self, reader: bytes, number: int, index: int) -> None:
        import zmq

        taken = self._ring.taken
        if index >= taken:
            self._say(reader, Reply(Status.LATER, number, index, taken))
            return
        # The message has a copy of its own: it is sent only if that is whole.
        frame = self._ring.copied(index, lambda pixels: zmq.Frame(pixels.data, copy=True))
        if frame is None:
            by, when = self._ring.lost_since(index) or (taken, 0.0)
            self._say(reader, Reply(Status.GONE, number, index, by, int(when * 1e9)))
            return
        head = Reply(Status.FRAME, number, index, taken).pack()
        self._front.send_multipart([reader, head, frame], copy=False)

    def _say(self, reader: bytes, reply: Reply) -> None:
        self._front.send_multipart([reader, reply.pack(), b""])


if __name__ == "__main__":
    main()
