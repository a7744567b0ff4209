"""Who may ask: token, `Host` and `Origin`, and what browsers are told about the page. Pure rules."""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

__all__ = ["SECURITY_HEADERS", "Gate"]

_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    # react-three-fiber, which draws H5Web's plots, and H5Web's sliders put <style> and style="" into
    # the page; what they style cannot load or send anything under this policy.
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "connect-src": "'self'",
    "frame-ancestors": "'none'",
    "base-uri": "'none'",
    "form-action": "'none'",
}

SECURITY_HEADERS: Mapping[str, str] = {
    "content-security-policy": "; ".join(f"{what} {where}" for what, where in _POLICY.items()),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
"""What every answer says."""

PROTOCOL = "blissdata.viewer"
"""What the page calls its websocket's protocol; the token follows as a protocol of its own, for browsers
let a page set no other header there."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Lets in who knows the token and came by a name of ours."""

    token: str
    """What whoever asks must know."""

    names: Collection[str] = ()
    """Host names, besides `localhost` and plain addresses, under which we may be called."""

    def knows_host(self, host: str | None) -> bool:
        """True for a `Host` header that names us. A foreign page whose name was made to point here
        (DNS rebinding) is told by its name; an address cannot be made to point elsewhere."""
        name = _name_in(host or "")
        if name is None:
            return False
        if name == "localhost" or name in {one.lower() for one in self.names}:
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True

    def knows_token(self, authorization: str | None, query: str | None = None) -> bool:
        """True if the token stands in the header `Authorization: Bearer …`, or in the query."""
        scheme, _, given = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            given = query or ""
        return hmac.compare_digest(given.strip().encode(), self.token.encode())

    def knows_protocols(self, protocols: Collection[str]) -> bool:
        """True if the token is among a websocket's protocols, as `token.…`."""
        return any(
            hmac.compare_digest(one.encode(), f"token.{self.token}".encode()) for one in protocols
        )

    def same_origin(self, origin: str | None, host: str | None) -> bool:
        """True for a websocket that our own page opens, or a program (which sends no `Origin`)."""
        if origin is None:
            return True
        scheme, _, where = origin.partition("://")
        return scheme in ("http", "https") and bool(where) and where.lower() == (host or "").lower()


_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^][:@/?#\s]+)(:\d{1,5})?", re.ASCII)


def _name_in(host: str) -> str | None:
    """The name in a `Host` header, without the port; None if it is no name at all."""
    found = _HOST.fullmatch(host.lower())
    return None if found is None else found[1]
