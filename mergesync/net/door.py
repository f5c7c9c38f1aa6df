"""Who may open a socket; said before it is one, so that a refusal costs next to nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mergesync.exceptions import RefusedConnectionError
from mergesync.net.channel import AsgiScope, AsgiSend
from mergesync.net.origins import check_origins, origin_is_allowed

__all__ = ["Door", "refuse_websocket"]

_FORBIDDEN = 403
_SECURE = ("https", "wss")


class Door:
    """Decides who may open a socket.

    Args:
        origins: see `WsServer`.
    """

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = check_origins(origins)

    def refusal(self, headers: Mapping[str, str], *, secure: bool) -> RefusedConnectionError | None:
        """Why a request for a socket is refused, or None.

        Args:
            headers: of the request, by lower-case name.
            secure: whether it came by wss. What a proxy says of that counts as well: it can only make us stricter.
        """
        origin = headers.get("origin")
        secure = secure or headers.get("x-forwarded-proto") in _SECURE
        if not origin_is_allowed(origin, headers.get("host"), secure=secure, allowed=self._origins):
            message = f"pages of the origin {origin!r:.100} may not open sockets"
            return RefusedConnectionError(message, status=_FORBIDDEN)
        return None


async def refuse_websocket(scope: AsgiScope, send: AsgiSend, refusal: RefusedConnectionError) -> None:
    """Answer an ASGI WebSocket that is not accepted; a server that cannot say more says 403."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close"})
        return
    body = f"{refusal}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "websocket.http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})
