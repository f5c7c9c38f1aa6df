"""What ASGI says of a request, read for our purposes."""

from __future__ import annotations

from urllib.parse import quote, unquote

from mergesync.net.channel import AsgiScope, AsgiSend

__all__ = ["refuse_http", "target_below_mount"]

_UNQUOTED = "/!$&'()*+,;=:@~"
_UPGRADE_REQUIRED = b"This address speaks WebSocket only.\n"


def target_below_mount(scope: AsgiScope) -> str:
    """What of the request target follows the mount point, percent-encoded as the client sent it.

    Servers and frameworks disagree on whether `path` and `raw_path` contain `root_path`, and `root_path` is decoded. So
    the decoded remainder decides, and what of `raw_path` decodes to it is taken.

    Example:
        >>> target_below_mount({"path": "/sync/a b", "raw_path": b"/sync/a%20b", "root_path": "/sync"})
        '/a%20b'
    """
    path, root = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    decoded = path[len(root) :] if path == root or path.startswith(root + "/") else path
    raw = (scope.get("raw_path") or b"").decode("latin-1").partition("?")[0]
    if "%" not in raw and raw.endswith(decoded):
        return decoded
    return _suffix_that_decodes_to(raw, decoded) or quote(decoded, safe=_UNQUOTED)


def _suffix_that_decodes_to(raw: str, decoded: str) -> str | None:
    """The part of a percent-encoded path that begins with a slash and decodes to a text, if there is one."""
    starts = [at for at, character in enumerate(raw) if character == "/"]
    low, high = 0, len(starts)
    while low < high:  # the later it starts, the shorter it is decoded
        middle = (low + high) // 2
        if len(unquote(raw[starts[middle] :])) > len(decoded):
            low = middle + 1
        else:
            high = middle
    suffix = raw[starts[low] :] if low < len(starts) else ""
    return suffix if suffix and unquote(suffix) == decoded else None


async def refuse_http(send: AsgiSend) -> None:
    """Answer a plain HTTP request: 426 Upgrade Required."""
    headers = [(b"content-type", b"text/plain"), (b"upgrade", b"websocket"), (b"connection", b"upgrade")]
    headers.append((b"content-length", str(len(_UPGRADE_REQUIRED)).encode()))
    await send({"type": "http.response.start", "status": 426, "headers": headers})
    await send({"type": "http.response.body", "body": _UPGRADE_REQUIRED})
