"""The user's own server: a real Valkey that is there when somebody needs it.

    DataStore() ──► ensure_running ──► place      whose files, locks and socket
                                   ──► supervisor ──► valkey   starts, watches, restarts, leaves
    blissdata serve | status | stop ──► control   (all of the functions below)

The server belongs to one user on one host, listens at a unix socket that nobody else may open, keeps
its data on disk, and is supervised by `python -m blissdata.redis_engine.local_server`. Importing this
package is cheap; the Redis client is imported when a server is spoken to.
"""

from blissdata.redis_engine.local_server.control import (
    ServerStatus,
    address,
    ensure_running,
    serve,
    status,
    stop,
    url_status,
)
from blissdata.redis_engine.local_server.options import IDLE_S, ServerOptions

__all__ = [
    "IDLE_S",
    "ServerOptions",
    "ServerStatus",
    "address",
    "ensure_running",
    "serve",
    "status",
    "stop",
    "url_status",
]
