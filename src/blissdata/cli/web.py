"""`blissdata web`: scans in the browser."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from blissdata.cli import exits
from blissdata.cli.names import add_server_option, store_to_read
from blissdata.exceptions import MissingExtraError

if TYPE_CHECKING:
    import uvicorn

__all__ = ["add_to", "address", "impatient"]

_DESCRIPTION = """\
Show scans in the browser: a list that grows as scans come, curves, images and scatters of the running
one, and every scan as an HDF5 tree, whether it runs, has ended or is only in a file. Nothing can be
changed there.

The address that is printed holds a token: whoever has it may look. Without it nobody may, also on this
machine, which others may share."""

_EXAMPLES = """\
examples:
  blissdata web                          scans of your server, for browsers on this machine
  blissdata web --port 0                 at any free port
  blissdata web --root /data/visitor     files below that directory may be opened too
  blissdata web --host 0.0.0.0 --certfile c.pem --keyfile k.pem
                                         for other machines, encrypted
  ssh -L 8050:127.0.0.1:8050 beamline    … or through SSH, which needs nothing

exit codes: 130 Ctrl-C, 1 it could not (the reason is on stderr), 2 wrong usage
"""

PORT = 8050
"""Where it listens unless told otherwise; at any free port, if somebody else is there."""

LOOPBACK = ("127.0.0.1", "::1", "localhost")

HEADERS_S = 10.0
"""Who has not said what it wants after this is not listened to any longer [s]."""

MESSAGE_NBYTES = 2**16
"""What a browser may say at once [bytes]."""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Make the command known to the parser."""
    parser = commands.add_parser(
        "web",
        help="show scans in the browser",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="where to listen (%(default)s)"
    )
    parser.add_argument(
        "--port", type=_port, metavar="N", help=f"at which port ({PORT}, or a free one; 0: any)"
    )
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="browsers may call this machine so (repeatable; its own name and plain addresses are known)",
    )
    parser.add_argument(
        "--root",
        action="append",
        metavar="D",
        help="files below this directory may be opened, also if no scan on the server names them "
        "(repeatable; default: $BLISSDATA_DATA_ROOTS)",
    )
    parser.add_argument("--certfile", metavar="F", help="encrypt, with this certificate")
    parser.add_argument("--keyfile", metavar="F", help="the certificate's key")
    parser.add_argument(
        "--token", metavar="T", help="this token instead of a new one (16 characters at least)"
    )
    add_server_option(parser)
    parser.set_defaults(run=lambda arguments: _run(arguments, parser))


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, not {text!r}")
    return int(text)


def address(host: str, port: int, token: str, *, secure: bool) -> str:
    """What to type into a browser. The token is behind the `#`: browsers send that nowhere, and it stands
    in no log."""
    name = f"[{host}]" if ":" in host else host
    return f"http{'s' if secure else ''}://{name}:{port}/#token={token}"


def _run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    import os
    import secrets

    if arguments.keyfile and not arguments.certfile:
        parser.error("--keyfile needs --certfile")
    for option, file in ("--certfile", arguments.certfile), ("--keyfile", arguments.keyfile):
        if file is not None and not os.path.isfile(file):
            parser.error(f"{option}: there is no file {file}")
    if arguments.token is not None and len(arguments.token) < 16:
        parser.error("--token: a token has 16 characters at least, or others guess it")
    for root in arguments.root or ():
        if not os.path.isdir(root):
            parser.error(f"--root: there is no directory {root}")
    uvicorn = _uvicorn()
    from blissdata.viewer.access import Gate
    from blissdata.viewer.app import page_is_built, viewer_app
    from blissdata.viewer.build_note import why_not_built

    token = arguments.token or secrets.token_urlsafe(24)
    names = [*arguments.allow_host, socket.gethostname(), socket.getfqdn()]
    roots = None if arguments.root is None else [os.path.realpath(root) for root in arguments.root]
    listening = _listen(arguments.host, arguments.port)
    secure = arguments.certfile is not None
    url = address(_shown(arguments.host), listening.getsockname()[1], token, secure=secure)
    if arguments.host not in LOOPBACK and not secure:
        exits.note("other machines can reach this, and it is not encrypted: see --certfile, or SSH")
    if not page_is_built():
        exits.note(f"the page was not built ({why_not_built()}); only the viewer's API is there")
    with listening, store_to_read(arguments.url) as store:
        config = uvicorn.Config(
            viewer_app(store, Gate(token, names), roots=roots),
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="on",
            http=impatient(HEADERS_S),
            ws="websockets-sansio",
            ws_max_size=MESSAGE_NBYTES,
            ws_per_message_deflate=False,  # it would compress the same news for each browser
            timeout_graceful_shutdown=3,
            ssl_certfile=arguments.certfile,
            ssl_keyfile=arguments.keyfile,
        )
        try:
            with exits.ending_at_sigterm():
                failed = _serve(uvicorn, config, listening, url)
        except KeyboardInterrupt:
            print("Stopped.")
            return exits.INTERRUPTED
    if failed:
        return exits.FAILED
    print("Stopped.")
    return 0


def _serve(uvicorn: Any, config: uvicorn.Config, listening: socket.socket, url: str) -> bool:
    """Runs the server until it is told to end; True if it could not begin."""

    class Server(uvicorn.Server):  # type: ignore[misc]
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                print(f"Scans are shown at\n  {url}\nCtrl-C stops it.", flush=True)

    server = Server(config)
    server.run([listening])
    return not server.started


def impatient(seconds: float) -> Any:
    """uvicorn's HTTP, but who begins a question and does not end it is let go after a while."""
    import asyncio

    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Impatient(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._again(None)

        def _again(self, before: Any) -> None:
            self.loop.call_later(seconds, self._look, before)

        def _look(self, before: Any) -> None:
            transport = self.transport
            if transport.is_closing() or transport.get_protocol() is not self:
                return  # it is gone, or a websocket now
            waiting = self.cycle is None or self.cycle.response_complete
            if waiting and self.cycle is before:
                transport.close()
            else:
                self._again(self.cycle)

    return Impatient


def _uvicorn() -> Any:
    try:
        import uvicorn
        import websockets  # noqa: F401 — uvicorn's own need
    except ImportError as error:
        raise MissingExtraError(
            f'{error.name} is not installed, and the viewer needs it: pip install "blissdata[web]"'
        ) from error
    return uvicorn


def _listen(host: str, port: int | None) -> socket.socket:
    """A socket at that port; at any, if nobody asked for one and the usual one is taken."""
    tries: Sequence[int] = (PORT, 0) if port is None else (port,)
    for one in tries:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((host, one))
        except OSError as error:
            found.close()
            if one == tries[-1]:
                text = f"Cannot listen at {host} port {one}: {error.strerror or error}"
                raise OSError(error.errno, text) from error
            continue
        return found
    raise OSError(f"Cannot listen at {host}")


def _shown(host: str) -> str:
    """A name under which the address can be typed in."""
    return socket.gethostname() if host in ("0.0.0.0", "::", "") else host  # noqa: S104 — compared, not bound
