"""Changes on their way to the clients of a path: those of one turn of the event loop leave in one write per client.

A system call per frame and client is what bounds how many changes a server delivers, so those are saved that can be
without waiting for anything: frames go out before the event loop looks again for what has come, and as soon as there
are as many as readers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from mergesync.limits import MAX_JOINED_BYTES, MIN_JOINED_FRAMES
from mergesync.net.server_socket import ServerSocket

__all__ = ["Audience", "Batch", "Fanout"]


class Audience:
    """The clients of a path that get its changes.

    Args:
        path_id: the path.
        readers: their ids.
        sockets: theirs, by what precedes frames of the path on them, then by client id.

    Attributes:
        path_id, readers, sockets: see above.
    """

    __slots__ = ("path_id", "readers", "sockets")

    def __init__(self, path_id: str, readers: tuple[str, ...], sockets: dict[str, dict[str, ServerSocket]]) -> None:
        self.path_id: str = path_id
        self.readers: tuple[str, ...] = readers
        self.sockets: dict[str, dict[str, ServerSocket]] = sockets


class Batch:
    """Frames for the same readers.

    Args:
        audience: the readers. They get the frames even if they leave the path meanwhile.

    Attributes:
        audience: see above.
        frames: each with the client that has it already, if there is one.
        authors: these clients.
        size: characters of all frames.
    """

    __slots__ = ("audience", "authors", "frames", "size")

    def __init__(self, audience: Audience) -> None:
        self.audience: Audience = audience
        self.frames: list[tuple[str | None, str]] = []
        self.authors: set[str | None] = set()
        self.size: int = 0

    def add(self, frames: Sequence[str], author: str | None) -> None:
        """Add the frames of a message."""
        for frame in frames:
            self.frames.append((author, frame))
            self.size += len(frame)
        self.authors.add(author)

    def frames_for(self, reader: str | None, prefix: str) -> list[str]:
        """What a reader gets that is an author, or, for None, any other; each behind the prefix."""
        return [prefix + frame for author, frame in self.frames if reader is None or author != reader]


class Fanout:
    """What has not gone out yet in this turn, and to whom changes of each path go.

    Args:
        gather: makes the audience of a path: `gather(path id, readers)`.
        deliver: called with a batch that is complete.
    """

    def __init__(self, gather: Callable[[str, tuple[str, ...]], Audience], deliver: Callable[[Batch], None]) -> None:
        self._gather = gather
        self._deliver = deliver
        self._audiences: dict[str, Audience] = {}  # by path id
        self._batches: dict[str, Batch] = {}  # likewise
        self._scheduled = False

    def add(self, path_id: str, readers: tuple[str, ...], frames: Sequence[str], author: str | None) -> None:
        """Send frames to all readers but their author, after all that was sent to them before.

        Args:
            path_id: the path.
            readers: the same tuple as long as they are the same.
            frames: of one message.
            author: who has them already.
        """
        audience = self._audiences.get(path_id)
        if audience is None or audience.readers is not readers:
            self.flush()
            audience = self._audiences[path_id] = self._gather(path_id, readers)
        batch = self._batches.get(path_id)
        if batch is None:
            batch = self._batches[path_id] = Batch(audience)
            if not self._scheduled:
                self._scheduled = True
                asyncio.get_running_loop().call_soon(self._end_turn)
        batch.add(frames, author)
        if batch.size > MAX_JOINED_BYTES or len(batch.frames) >= max(MIN_JOINED_FRAMES, len(readers)):
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

    def forget(self, path_id: str) -> None:
        """The audience of a path is another one from now on, or nobody."""
        self._audiences.pop(path_id, None)
