"""What must hold once there is peace; each failure begins with the name of the oracle that found it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

from mergesync import MergeableStore
from mergesync.exceptions import ConnectionLostError, LoadError, MergesyncError, SaveError
from mergesync.store.bodies import hlc_of
from mergesync.store.cells import encode_cell
from mergesync.store.hlc import client_part, latest_allowed
from mergesync.sync.admission import Leaf, leaves_of
from mergesync.types import MISSING, CellOrMissing

from .disk import FULL
from .hooks import injected_only
from .world import Client, World

__all__ = ["always", "at_rest", "errors", "nobody_left", "stamps_of", "started", "storage"]


def always(world: World) -> None:
    """What holds at any time: a status tells no lie, and nobody is listed who is not there."""
    if world.application is not None:
        world.application.mind()
    for path_id, (listed, there) in world.listed().items():
        if not listed <= there:
            world.fail("presence", f"{path_id}: {listed - there} are listed, and not there")
    for client in world.clients:
        if client.synchronizer is None:
            continue
        status = client.synchronizer.status
        if status != client.told_status:
            world.fail("status", f"{client.name} is {status}, and {client.told_status} is what it told")
        is_connecting = client.address in world.network.connecting
        if is_connecting and status not in ("connecting", "destroyed"):
            world.fail("status", f"{client.name} is {status} while it connects")
        has_links = any(link.client_name == client.address for link in world.network.links)
        if not is_connecting and not has_links and status not in ("offline", "destroyed"):
            world.fail("status", f"{client.name} is {status} without a link")


def stamps_of(store: MergeableStore) -> dict[Leaf, str]:
    """The stamp of each leaf."""
    return {leaf: hlc_of(stamp) for leaf, stamp in leaves_of(store.get_mergeable_content())}


def at_rest(world: World, path_id: str) -> Iterator[str]:
    """Everybody on a path is online, and nothing has happened for a while."""
    clients = [client for client in world.clients if client.path_id == path_id]
    replicas = {client.name: client.store for client in clients}
    hub = world.replica(path_id)
    if hub is not None and hub.store is not None:
        replicas["server"] = hub.store
    contents = {name: store.get_mergeable_content() for name, store in replicas.items()}
    apart = {client.name for client in clients if not world.ends_equal(client)}
    first = next((name for name in replicas if name not in apart), "")
    for name, store in replicas.items():
        if name not in apart and contents[name] != contents[first]:
            if store.get_content() != replicas[first].get_content():
                yield f"equal: {path_id}: {name} shows something else"
            elif not world.options.has_far_clocks:
                yield f"equal: {path_id}: {name} has other stamps or hashes"
        try:
            store._check()
        except AssertionError as error:
            yield f"hashes: {path_id}: of {name}: {error}"
    for client in clients:
        yield from _heard(client, contents[client.name])
        yield from _status(world, client)
    listed, there = world.listed().get(path_id, (set(), set()))
    seen = [client for client in clients if (grant := world.grant_of(client)) is None or grant.access.presence]
    if not listed <= there or len(listed) != len(seen) or len(there) != len(clients):
        yield f"presence: {path_id}: {len(listed)} are listed of {len(there)} who are there, for {len(clients)} clients"
    equal = [client for client in clients if client.name not in apart]
    if first:
        yield from _greatest(world, path_id, equal, contents[first])
    if clients and not world.options.relay:
        yield from _nothing_pending(path_id, clients, hub, equal)


def _greatest(world: World, path_id: str, clients: list[Client], content: Any) -> Iterator[str]:
    """The model: per leaf the greatest stamp wins, and only stamps that somebody made are there."""
    written = world.written.get(path_id, {})
    stamps = {leaf: (stamp[0], hlc_of(stamp)) for leaf, stamp in leaves_of(content)}
    makers = {client_part(f"c{number}") for number in range(1, 1 + world.clients_made)}
    latest = latest_allowed(world.server_clock.read(world.loop.time()))
    for leaf, (wire, hlc) in stamps.items():
        if world.options.has_far_clocks:
            continue
        is_known = _typed(written.get(leaf, {}).get(hlc, _NEVER)) == _typed(wire)
        if not is_known and (hlc[11:] in makers or not world.hears_strangers):
            yield f"written: {path_id}: nobody wrote {leaf} {hlc} {wire!r}"
        if hlc > latest:
            yield f"future: {path_id}: {leaf} {hlc}"
    for client in clients:
        for leaf, hlc in client.held.items():
            if not client.clock.far and hlc > stamps.get(leaf, (None, ""))[1] and hlc <= latest:
                yield f"greatest: {path_id}: {client.name} had {leaf} {hlc}, and {stamps.get(leaf)} is left"


def _typed(wire: Any) -> Any:
    return type(wire), wire


def _heard(client: Client, content: Any) -> Iterator[str]:
    """What listeners have heard is what the store shows."""
    for (table_id, row_id, leaf_id), heard in client.shadow.items():
        store = client.store
        held = store.get_value(leaf_id) if table_id is None else store.get_cell(table_id, row_id, leaf_id)
        if _wire(held) != _wire(heard):
            yield f"listeners: {client.name} heard {leaf_id} is {heard!r}, the store holds {held!r}"
    for leaf, _ in leaves_of(content):
        if leaf not in client.held:
            yield f"listeners: {client.name} was not told of {leaf}"


def _status(world: World, client: Client) -> Iterator[str]:
    status = client.synchronizer.status if client.synchronizer else None
    if status != "live" or not world.links_of(client):
        yield f"status: {client.name} is {status} at rest, with {len(world.links_of(client))} links"
    if client.told_status != status:
        yield f"status: {client.name} is {status}, and {client.told_status} is what it told"


def started(world: World, path_id: str) -> Iterator[str]:
    """Where there are others, the question who is there was answered."""
    clients = [client for client in world.clients if client.path_id == path_id]
    for client in clients if len(clients) > 1 else []:
        if client.synchronizer is not None and client.synchronizer._session._core.unanswered:
            yield f"pending: {client.name} has no answer to its start"


def _nothing_pending(path_id: str, clients: list[Client], hub: Any, equal: list[Client]) -> Iterator[str]:
    if hub is None:
        yield f"pending: {path_id}: the server does not know the path"
        return
    if hub.unanswered or hub._waiting.messages:
        yield f"pending: {path_id}: the server waits"
    if set(hub.clients) != set(hub._exit._exit.on_path[path_id]) or len(hub.clients) != len(clients):
        yield f"pending: {path_id}: the server counts {len(hub.clients)} clients of {len(clients)}"
    for client in clients:
        if client in equal and client.synchronizer is not None and client.synchronizer.pending:
            yield f"pending: {client.name}: {client.synchronizer.pending} is not confirmed"
        if client.synchronizer is not None and client.synchronizer._session.requests._requests:
            yield f"pending: {client.name} has asked for something"
        core = client.synchronizer._session._core if client.synchronizer else None
        if core is not None and (core.unanswered or core.is_pulling or core._talks._by_request):
            yield f"pending: {client.name} waits"


def nobody_left(world: World) -> Iterator[str]:
    """All clients are gone, and everything is stored: the server has forgotten them and their paths."""
    if world.server is not None:
        switchboard, kept = world.server._switchboard, world.server._life._kept.keys()
        if switchboard._paths.keys() - kept or switchboard._ending or switchboard.connections or switchboard.on_path:
            yield f"left over: {sorted(switchboard._paths)}, {switchboard.connections} connections"


async def storage(world: World, path_id: str, expected: Any) -> list[str]:
    """What is stored is what everybody has.

    Args:
        world: the world.
        path_id: the path.
        expected: mergeable content.
    """
    if world.options.storage == "none" or expected == [[{}, "", 0], [{}, "", 0]]:
        return []
    persister = world.make_persister(path_id, None)
    await persister.load()
    stored = persister.store.get_mergeable_content()
    await persister.destroy()
    return [] if stored == expected else [f"stored: {path_id}: something else is stored"]


def errors(world: World) -> Iterator[str]:
    """Of the errors reported, all are of kinds that may be; and what was done to the server was reported."""
    for error in world.errors:
        is_cancelled = isinstance(error, RuntimeError) and str(error) == "a hook was cancelled"
        if not isinstance(error, MergesyncError | OSError | sqlite3.Error) and not injected_only(error) | is_cancelled:
            yield f"errors: {type(error).__name__}: {error}"
    told = [error for error in world.errors if isinstance(error, LoadError | SaveError | OSError)]
    has_failed = world.disk.failures > world.unheard_failures and not world.server_died
    if has_failed and not any(FULL in str(error) for error in told):
        yield "errors: a disk failed, and nobody was told"
    if world.has_cut and not any(isinstance(error, ConnectionLostError) for error in world.errors):
        yield "errors: links were cut, and nobody was told"


_NEVER: Any = object()


def _wire(cell: CellOrMissing) -> tuple[type, Any]:
    return (type(cell), None if cell is MISSING else encode_cell(cell))
