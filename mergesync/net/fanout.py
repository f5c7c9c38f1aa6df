"""Changes on their way to the clients of a path: those of one turn of the event loop leave in one write per client.

A system call per frame and client is what bounds how many changes a server delivers, so those are saved that can be
without waiting for anything: frames go out before the event loop looks again for what has come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from mergesync.limits import MAX_JOINED_BYTES
from mergesync.net.server_socket import ServerSocket

__all__ = ["Batch", "Fanout"]


class Batch:
    """Frames for the same readers.

    Args:
        path_id: the path.
        readers: the clients of the path that get them.
        sockets: those of the readers. They get the frames even if they leave the path meanwhile.

    Attributes:
        path_id, readers, sockets: see above.
        frames: each with the client that has it already, if there is one.
        authors: these clients.
        size: characters of all frames.
    """

    __slots__ = ("authors", "frames", "path_id", "readers", "size", "sockets")

    def __init__(self, path_id: str, readers: tuple[str, ...], sockets: dict[str, ServerSocket]) -> None:
        self.path_id = path_id
        self.readers = readers
        self.sockets = sockets
        self.frames: list[tuple[str | None, str]] = []
        self.authors: set[str | None] = set()
        self.size: int = 0

    def add(self, frames: Sequence[str], author: str | None) -> None:
        """Add the frames of a message."""
        for frame in frames:
            self.frames.append((author, frame))
            self.size += len(frame)
        self.authors.add(author)

    def frames_for(self, reader: str | None) -> list[str]:
        """What a reader gets that is an author, or, for None, any other."""
        return [frame for author, frame in self.frames if reader is None or author != reader]


class Fanout:
    """What has not gone out yet in this turn.

    Args:
        sockets_of: called with `path_id, readers`.
        deliver: called with a batch that is complete.
    """

    def __init__(
        self, sockets_of: Callable[[str, tuple[str, ...]], dict[str, ServerSocket]], deliver: Callable[[Batch], None]
    ) -> None:
        self._sockets_of = sockets_of
        self._deliver = deliver
        self._batches: dict[str, Batch] = {}  # by path id
        self._scheduled = False

    def add(self, path_id: str, readers: tuple[str, ...], frames: Sequence[str], author: str | None) -> None:
        """Send frames to all readers but their author, after all that was sent to them before.

        Args:
            path_id: the path.
            readers: the same tuple as long as they are the same.
            frames: of one message.
            author: who has them already.
        """
        batch = self._batches.get(path_id)
        if batch is None or batch.readers is not readers:
            if batch is not None:
                self.flush()
            batch = self._batches[path_id] = Batch(path_id, readers, self._sockets_of(path_id, readers))
            if not self._scheduled:
                self._scheduled = True
                asyncio.get_running_loop().call_soon(self._end_turn)
        batch.add(frames, author)
        if batch.size > MAX_JOINED_BYTES:
            self.flush()

    def _end_turn(self) -> None:
        self._scheduled = False
        self.flush()

    def flush(self) -> None:
        """Send what waits, as something else is to be sent after it."""
        if self._batches:
            batches, self._batches = self._batches, {}
            for batch in batches.values():
                self._deliver(batch)
