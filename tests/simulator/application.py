"""An application of rooms: who may come in and do what; it minds that what it is asked and told is right."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from mergesync import Access, Identity, MergeableStore, RefusedError, WsServer, allow_write, allow_write_value
from mergesync.net.hooks import LeaveReason
from mergesync.net.server_path import ServerPath
from mergesync.rooms.access import Client as RoomClient
from mergesync.rooms.access import ClientInfo
from mergesync.rooms.changes import Changes
from mergesync.store.bodies import hlc_of
from mergesync.sync.admission import Leaf, leaves_of
from mergesync.types import MISSING

from .clock import Clock
from .lifetimes import BRIEF, Lifetimes
from .network import Link, SimulatedChannel
from .requests import Requests
from .tokens import COPIED, Tokens, kind_of, token_in, tokens_in

if TYPE_CHECKING:
    from .world import Client, World

__all__ = ["ACCESSES", "GUEST", "NAMES", "Application", "Grant"]

NAMES = ("ann", "bob", "eve")
GUEST = "guest"
"""One who may always do everything."""

ACCESSES: tuple[Access | None, ...] = (
    Access(),
    Access(),
    Access(write=False),
    Access(write=False, overwrite=False),
    Access(read=False),
    Access(presence=False, actions=False),
    None,
)
"""What may be granted; None: it is refused."""

HOOK_TIMEOUT_SECONDS = 3.0


@dataclass
class Grant:
    """What a socket was granted on its path.

    Attributes:
        program: the client's name, without the number of its connection.
        path_id: the path.
        identity: who it is.
        access: what it may do, as the application has said last.
        reads: whether it may be told something; it may, until it was told that it may not any more.
        writes: whether it may write, likewise.
        ends_equal: whether it always was to be told, and corrected, since the socket was opened.
        is_seen: whether it always was to be seen by others since then.
    """

    program: str
    path_id: str
    identity: str
    access: Access
    reads: bool
    writes: bool
    ends_equal: bool
    is_seen: bool


@dataclass
class Group:
    """Cells that were let through together.

    Attributes:
        stamps: the least stamp that each leaf must have when one of them is there.
        edits: what leaves must hold then.
    """

    stamps: dict[Leaf, str] = field(default_factory=dict)
    edits: dict[Leaf, str] = field(default_factory=dict)


class Application:
    """The hooks of all servers of a world, one after another.

    Args:
        world: the world.
        random: draws what it is like, and what it decides where that is not plain.
        lives: whether it makes and removes paths.

    Attributes:
        tokens: what was written, and what of it was let through.
        grants: by the id of a socket's client.
        expiries: by the same, when its identity expires at the soonest and at the latest, in seconds of the loop:
            while a token is shown, the one before may still count.
        accesses: by path and name of identity; who is not there may do everything.
        calm: whether nothing expires any more.
        there: the clients on paths, of whom it was told that they came and not that they went.
        bans: by path and name of identity, until when it may not come, in seconds of the loop.
        is_slow: whether its hooks take their time.
        has_rules: whether there are rules as well.
        requests: what clients ask for.
        lifetimes: the paths that it makes and removes; None if it does not.
        refusals: the sentences with which changes were refused, and whether that has to be reported.
        said: by the id of a socket's client, what it says of itself, as was decided last; None if it was not yet.
    """

    def __init__(self, world: World, random: Random, *, lives: bool) -> None:
        self.tokens = Tokens()
        self.grants: dict[str, Grant] = {}
        self.expiries: dict[str, tuple[float, float]] = {}
        self.accesses: dict[tuple[str, str], Access | None] = {}
        self.calm = False
        self.there: dict[RoomClient, str] = {}
        self.bans: dict[tuple[str, str], float] = {}
        # Of whom it is told late, as hooks have their turns, may have come before the ban, or (no path) the logout.
        self._admitted_before: dict[tuple[str | None, str], set[str]] = {}
        self.refusals: dict[str, bool] = {}
        self.said: dict[str, dict[str, Any] | None] = {}
        self.has_rules = random.random() < 0.5
        self.requests = Requests(world, self)
        self.lifetimes = Lifetimes(world, self, random) if lives else None
        self._world = world
        self._random = random
        self.is_slow = random.random() < 0.7
        self._writes = random.random() < 0.4  # when clients come and go
        self._listens = random.random() < 0.3  # to its stores, with listeners that fail at times
        self._gone: set[RoomClient] = set()
        self._serial = 0
        self._revoked: dict[str, int] = {}
        self._called: dict[str, float] = {}  # paths about which a hook is under way, since when
        self._groups: dict[tuple[str, Leaf, str], Group] = {}  # by path, leaf and token

    def options(self) -> dict[str, Any]:
        """What a server is made with; it knows nothing of bans of former ones."""
        self.bans.clear()
        return {
            **({} if self.lifetimes is None else {**self.lifetimes.options(), "self_destruct": self.ends}),
            "authorize": self._authorize,
            "admit": self._admit,
            "rules": self._rules() if self.has_rules else (),
            "on_changes": self._review_slowly if self.is_slow else self._review,
            "on_join": self._welcome,
            "on_leave": self._say_goodbye,
            "on_presence": self._review_presence_slowly if self.is_slow else self._review_presence,
            "hook_timeout_seconds": HOOK_TIMEOUT_SECONDS,
        }

    def _rules(self) -> list[Any]:
        def is_not_eve(client: RoomClient) -> bool:
            self._world.hooks.may_raise()
            return client.identity is not None and client.identity.name != "eve"

        return [
            allow_write("t"),
            allow_write("c"),
            allow_write("s", to=("ann", GUEST)),
            allow_write("o", owner="owner"),
            allow_write_value("w", to=is_not_eve),
            *(allow_write_value(value_id) for value_id in ("v", "n", "m")),
        ]

    def serve(self, server: WsServer) -> None:
        """A server was made."""
        self.requests.serve(server)
        if self.lifetimes is not None:
            self.lifetimes.begin()

    def removals_of(self, path_id: str) -> int | None:
        """How often the removal of a path was begun; None if that cannot be known."""
        if self.lifetimes is None:
            return 0
        return None if path_id == BRIEF else self.lifetimes.removals.get(path_id, 0)

    # --- what clients show

    def token_for(self, client: Client, short_lived: float = 0.2) -> str:
        """What a client proves with who it is."""
        self._serial += 1
        expires = ""
        if not self.calm and self._random.random() < short_lived:
            expires = f"{self._world.loop.time() + self._random.choice((4, 15, 30))}"
        return f"{client.identity}/{self._serial}/{expires}"

    def guest_token(self) -> str:
        """What somebody shows who may do everything, and does what should not be done."""
        self._serial += 1
        return f"{GUEST}/{self._serial}/"

    def lie(self, path_id: str, random: Random) -> str:
        """Something that such a one writes."""
        return self.tokens.make(random.choice(("ok", "bad", "drop", "edit")), "liar", path_id)

    def revoke(self, name: str) -> None:
        """No token of somebody made so far is good any more."""
        self._revoked[name] = self._serial
        self._admitted_before[None, name] = set(self.grants)

    def cell(self, client: Client, random: Random) -> str:
        """Something for a client to write; what is to become of it is said in it."""
        kind = random.choice(("ok", "ok", "ok", "ok", "ok", "ok", "ok", "bad", "drop", "edit"))
        return self.tokens.make(kind, client.name, client.path_id)

    def own_cell(self, path_id: str) -> str:
        """Something that the application writes itself."""
        token = self.tokens.make("own", "app", path_id)
        self.tokens.allowed.add(token)
        return token

    # --- who comes

    async def _authorize(self, info: ClientInfo) -> Identity:
        name, serial, expires = (info.token or "").split("/")
        await self._take_time()
        if int(serial) <= self._revoked.get(name, 0):
            raise RefusedError("logged out")
        at = float(expires or "inf")
        soonest, latest = self.expiries.get(info.client_id, (at, at))
        self.expiries[info.client_id] = min(at, soonest), max(at, latest)
        if not expires:
            return Identity(name, data=int(serial))
        seconds = self._world.server_clock.read(float(expires)) / 1000
        return Identity(name, expires_at_seconds=seconds, data=int(serial))

    async def _admit(self, path_id: str, client: RoomClient) -> Access:
        with self._in_turn(path_id):
            await self._take_time()
        name = _name_of(client)
        access = self.accesses.get((path_id, name), ACCESSES[0])
        if access is None:
            raise RefusedError("not here")
        grant = self.grants.get(client.id)
        is_equal = access.read and access.overwrite
        if grant is None:
            program = client.remote_address[0].partition(".")[0]
            self.grants[client.id] = Grant(
                program, path_id, name, access, access.read, access.write, is_equal, access.presence
            )
        else:
            grant.access = access
            grant.reads |= access.read
            grant.writes |= access.write
            grant.ends_equal &= is_equal
            grant.is_seen &= access.presence
        return access

    def refreshed(self, links: list[Link]) -> None:
        """The token of a client was renewed: what it may not do any more, it does not."""
        for link in links:
            if (grant := self.grants.get(link.key)) is not None:
                grant.reads, grant.writes = grant.access.read, grant.access.write

    @contextmanager
    def _in_turn(self, path_id: str) -> Iterator[None]:
        """Hooks of one path are called one at a time; one that takes too long may still be ending."""
        now = self._world.loop.time()
        if self._called.get(path_id, -math.inf) > now - HOOK_TIMEOUT_SECONDS:
            self._world.fail("turns", f"{path_id}: a hook is called while another one is")
        self._called[path_id] = now
        try:
            yield
        finally:
            if self._called.get(path_id) == now:
                del self._called[path_id]

    async def take_turn(self, path_id: str) -> None:
        """An action, which is called as hooks are."""
        with self._in_turn(path_id):
            await self._take_time()

    async def _take_time(self) -> None:
        if self.is_slow:
            await asyncio.sleep(self._random.choice((0.0, 0.0, 0.002, 0.03, 0.3)))
            await self._world.hooks.may_do_anything()
        else:
            self._world.hooks.may_raise()

    # --- who is there

    async def _welcome(self, path: ServerPath, client: RoomClient) -> None:
        if client in self.there or client in self._gone:
            self._world.fail("join", f"{path.id}: {client.id} is said to come again")
        self.there[client] = path.id
        self._mind_who_comes(path.id, client)
        with self._in_turn(path.id):
            try:
                await self._take_time()
            except BaseException:
                self._world.loop.call_later(1.0, self._mind_refused, path, client)
                raise
        self._write(path, client)

    def ban(self, path_id: str, name: str, seconds: float) -> None:
        """Nobody of this name may come for so long."""
        self.bans[path_id, name] = self._world.loop.time() + seconds
        self._admitted_before[path_id, name] = set(self.grants)

    def _mind_refused(self, path: ServerPath, client: RoomClient) -> None:
        if client in path.clients:
            self._world.fail("refused", f"{path.id}: {client.id} was refused when it came, and is there")

    def _mind_who_comes(self, path_id: str, client: RoomClient) -> None:
        name = _name_of(client)
        if client.id not in self.grants:
            self._world.fail("admit", f"{path_id}: {client.id} comes, and was not admitted")
        is_revoked = client.identity is not None and client.identity.data <= self._revoked.get(name, 0)
        if is_revoked and client.id not in self._admitted_before[None, name]:
            self._world.fail("logout", f"{path_id}: {client.id} of {name} comes with a token that is not good any more")
        is_late = client.id in self._admitted_before.get((path_id, name), ())
        if self._world.loop.time() < self.bans.get((path_id, name), 0.0) and not is_late:
            self._world.fail("ban", f"{path_id}: {client.id} of {name} comes, and is banned")

    async def _say_goodbye(self, path: ServerPath, client: RoomClient, reason: LeaveReason) -> None:
        if client not in self.there:
            self._world.fail("leave", f"{path.id}: {client.id} is said to go ({reason}), and was not there")
        self.there.pop(client, None)
        self._gone.add(client)
        with self._in_turn(path.id):
            await self._take_time()
        self._write(path, client)

    def _write(self, path: ServerPath, client: RoomClient) -> None:
        if self._writes and path._path.store is not None and not path.store.is_in_transaction():
            path.store.set_cell("t", "1", "b", self.own_cell(path.id))

    def ends(self, path: ServerPath, clients_left: int, created_at_seconds: float) -> Awaitable[bool]:
        """A path from which somebody has gone may end with the last one."""
        if clients_left != len(path.clients):
            self._world.fail("ends", f"{path.id}: {len(path.clients)} are there, and {clients_left} is what is said")
        if not Clock().read(0.0) <= created_at_seconds * 1000 <= self._world.server_now():
            self._world.fail("ends", f"{path.id}: it is said to have been made at {created_at_seconds}")
        return self._ends(path, clients_left)

    async def _ends(self, path: ServerPath, clients_left: int) -> bool:
        with self._in_turn(path.id):
            await self._take_time()
        assert self.lifetimes is not None
        ends = not clients_left and not self.calm and self._random.random() < 0.3
        if ends:
            self.lifetimes.ends_itself(path.id)
        return ends

    # --- what they say of themselves

    async def announce(self, client: Client) -> None:
        """A client says something of itself."""
        if client.synchronizer is not None:
            said = self.cell(client, self._random)
            await client.synchronizer.set_presence({"said": said, "number": len(self.said)}, timeout_seconds=60.0)

    async def _review_presence_slowly(self, path: ServerPath, client: RoomClient, state: dict[str, Any]) -> None:
        self._mind_announcement(path, client)
        with self._in_turn(path.id):
            await self._take_time()
        self._decide_of_presence(path, client, state)

    def _review_presence(self, path: ServerPath, client: RoomClient, state: dict[str, Any]) -> None:
        self._mind_announcement(path, client)
        self._world.hooks.may_raise()
        self._decide_of_presence(path, client, state)

    def _mind_announcement(self, path: ServerPath, client: RoomClient) -> None:
        self.said.setdefault(client.id, None)
        if client not in self.there:
            self._world.fail("order", f"{path.id}: {client.id} says something of itself before it has come")
        if not client.access.presence:
            self._world.fail("presence", f"{path.id}: {client.id} says something of itself, and is not to be seen")

    def _decide_of_presence(self, path: ServerPath, client: RoomClient, state: dict[str, Any]) -> None:
        kind, token = kind_of(state["said"]), token_in(state["said"])
        if kind == "bad":
            raise RefusedError("that is not so")
        if kind == "drop":
            del state["said"]
        elif kind == "edit":
            state["said"] = self.own_cell(path.id)
        elif token is not None:
            self.tokens.allowed.add(token)
        self.said[client.id] = dict(state)

    def mind_presence(self) -> None:
        """Nobody is told what a client says of itself that was not let through."""
        server = self._world.server
        for path_id, presence in ({} if server is None else server._switchboard._presences).items():
            for row_id, row in presence.store.get_table("clients").items():
                self._mind_allowed(f"{path_id}: {row_id} is said to be something", token_in(row.get("said")))

    def _presence_at_rest(self, server: WsServer) -> Iterator[str]:
        """What clients say of themselves is what was decided of it; and it was said on each connection."""
        for client, path_id in self.there.items():
            decided, presence = self.said.get(client.id), server._switchboard._presences.get(path_id)
            if decided is not None and presence is not None and self.grants[client.id].is_seen:
                says = presence.said_by(client.id)
                if says != decided:
                    yield f"presence: {path_id}: {client.id} says {says}, and {decided} was let through"
        for program in self._world.clients:
            grant, synchronizer = self._world.grant_of(program), program.synchronizer
            has_said = synchronizer is not None and synchronizer._session.announcing.cells is not None
            ids = {link.key for link in self._world.links_of(program)}
            if has_said and grant is not None and grant.is_seen and not ids & self.said.keys():
                yield f"presence: {program.name} has come again, and does not say what it has said"

    # --- what they write

    async def _review_slowly(self, path: ServerPath, client: RoomClient, changes: Changes) -> None:
        self._mind_proposal(path, client, changes)
        with self._in_turn(path.id):
            await self._take_time()
        self._decide(path, client, changes)

    def _review(self, path: ServerPath, client: RoomClient, changes: Changes) -> None:
        self._mind_proposal(path, client, changes)
        self._world.hooks.may_raise()
        self._decide(path, client, changes)

    def _mind_proposal(self, path: ServerPath, client: RoomClient, changes: Changes) -> None:
        """Nothing comes here that may not be written anyway, and all of what was written together does."""
        fail, store = self._world.fail, path.store
        if not self.grants[client.id].writes:
            fail("access", f"{path.id}: {client.id} may only read, and its changes are not refused")
        if client in path.clients and client not in self.there:
            fail("order", f"{path.id}: {client.id} writes before it has come")
        if self.has_rules:
            self._mind_rules(path, client, changes)
        leaves = {leaf for leaf, _ in _leaves_in(changes)}
        for leaf, cell in _leaves_in(changes):
            token = token_in(cell)
            if token in self.tokens.dead:
                fail("revived", f"{path.id}: {token} was removed, and comes again")
            stamps = self.tokens.together.get((leaf, token or ""), {})
            for other, hlc in {} if changes.pulled else stamps.items():
                if other not in leaves and _stamp(store, other) < hlc:
                    fail("together", f"{path.id}: {token} comes without {other}")

    def _mind_rules(self, path: ServerPath, client: RoomClient, changes: Changes) -> None:
        name = _name_of(client)
        for (table_id, row_id, leaf_id), cell in _leaves_in(changes):
            if table_id == "o":
                row = changes.tables["o"][row_id]
                after = row.get("owner", path.store.get_cell("o", row_id, "owner"))
                before = path.store.get_cell("o", row_id, "owner")
                is_new = not path.store.has_row("o", row_id)
                may = after == name if is_new else before == name and after in (name, MISSING)
            else:
                may = table_id in ("t", "c") or (
                    name in ("ann", GUEST)
                    if table_id == "s"
                    else table_id is None and (leaf_id in "vnm" or (leaf_id == "w" and name != "eve"))
                )
            if not may:
                self._world.fail("rules", f"{path.id}: {name} writes {table_id} {row_id} {leaf_id} {cell!r}")

    def _decide(self, path: ServerPath, client: RoomClient, changes: Changes) -> None:
        kinds = {kind_of(cell) for _, cell in _leaves_in(changes)}
        if "bad" in kinds:
            sentence = f"there is something bad, number {len(self.refusals)}"
            stamped = self.tokens.stamped  # else it is on a condition, and who asks is told
            is_frame = all(place in stamped for place in _leaves_in(changes) if kind_of(place[1]) == "bad")
            is_corrected = client.access.read and client.access.overwrite
            self.refusals[sentence] = is_frame and is_corrected and not self.is_slow
            raise RefusedError(sentence)
        group, made = Group(), set()
        for row in [*(row for table in changes.tables.values() for row in table.values()), changes.values]:
            for leaf_id, cell in list(row.items()):
                if kind_of(cell) == "drop":
                    del row[leaf_id]
                elif kind_of(cell) == "edit":
                    row[leaf_id] = self.own_cell(path.id)
                    made.add(row[leaf_id])
        for table in changes.tables.values():
            for row_id in [row_id for row_id, row in table.items() if not row]:
                del table[row_id]
        for leaf, cell in _leaves_in(changes):
            token = token_in(cell)
            self.tokens.allowed.update(tokens_in(str(cell)))  # also those in an object, where a liar may put them
            if token is None or leaf[2] == COPIED:
                continue
            if token in made:  # else it brings back what was decided for another server
                group.edits[leaf] = token
            else:
                group.stamps[leaf] = self.tokens.stamped.get((leaf, token), "")
                self._groups[path.id, leaf, token] = group

    # --- what becomes of it

    def loaded(self, path_id: str, store: MergeableStore) -> None:
        """A server has loaded a path."""
        for leaf, stamp in leaves_of(store.get_mergeable_content()):
            self._mind_token(f"{path_id}: loaded {leaf}", token_in(stamp[0]))
        if self.lifetimes is not None:
            self.lifetimes.loaded(path_id)
        world = self._world
        is_removed = self.lifetimes is not None and self.lifetimes.may_forget(path_id)
        is_new, has_lost = world.options.storage == "none" or is_removed, world.server_died or world.disk.failures > 0
        self.requests.loaded(path_id, store, is_new=is_new, has_lost=has_lost)
        if self._listens:
            store.add_row_listener(None, None, lambda *_: world.hooks.may_raise())
        store.add_did_finish_transaction_listener(lambda store: self._mind_transaction(path_id, store))

    def _mind_transaction(self, path_id: str, store: MergeableStore) -> None:
        """What was let through together comes into the store of the server together, and nothing of the future does."""
        for leaf, stamp in leaves_of(store.get_transaction_mergeable_changes()):
            if hlc_of(stamp) > store.latest_allowed_hlc():
                self._world.fail("future", f"{path_id}: {leaf} {stamp} is merged")
            if (token := token_in(stamp[0])) is not None:
                self.tokens.latest[token] = max(hlc_of(stamp), self.tokens.latest.get(token, ""))
            group = self._groups.pop((path_id, leaf, token_in(stamp[0]) or ""), None)
            for other, hlc in {} if group is None else group.stamps.items():
                if _stamp(store, other) < hlc:
                    self._world.fail("together", f"{path_id}: {stamp[0]} is merged without {other}")
            for other, token in {} if group is None else group.edits.items():
                if store.get_kept(*other[:2], other[2:])[other[2]] != token:
                    self._world.fail("edited", f"{path_id}: {stamp[0]} is merged, and {other} is not {token}")

    def written(self, client: Client, body: Any, own: str) -> None:
        """A client has written something, or got it."""
        leaves = {leaf: (stamp[0], hlc_of(stamp)) for leaf, stamp in leaves_of(body)}
        mine = {leaf: stamp for leaf, stamp in leaves.items() if stamp[1][11:] == own}
        if mine:
            self.tokens.note_transaction(mine)
        for leaf in leaves.keys() - mine.keys():
            token = token_in(leaves[leaf][0])
            self._mind_allowed(f"{client.path_id}: {client.name} gets {leaf}", token)
            self.tokens.told.add(token or "")

    def stored(self, path_id: str, body: Any) -> None:
        """Something is being stored."""
        for leaf, stamp in leaves_of(body):
            self._mind_token(f"{path_id}: stored {leaf}", token_in(stamp[0]))

    def posted(self, link: Link, end: SimulatedChannel, text: str) -> None:
        """Something is sent on a link."""
        if end is not link.server:
            return
        grant = self.grants.get(link.key)
        for token in tokens_in(text):
            self._mind_token(f"{link.client_name} is sent something", token)
            if grant is not None and not grant.reads:
                self._world.fail("blind", f"{link.client_name} may not read, and is sent {token}")
        hub = None if grant is None or grant.reads else self._world.replica(grant.path_id)
        hashes = [] if hub is None or hub.store is None else hub.store.get_mergeable_content_hashes()
        if any(hash_ and f"{hash_}" in text for hash_ in hashes):
            self._world.fail("blind", f"{link.client_name} may not read, and is told a hash")

    def _mind_token(self, what: str, token: str | None) -> None:
        self._mind_allowed(what, token)
        if token in self.tokens.dead:
            self._world.fail("revived", f"{what}: {token} was removed")

    def _mind_allowed(self, what: str, token: str | None) -> None:
        if token is not None and token not in self.tokens.allowed:
            self._world.fail("seen", f"{what}: {token} was not let through")

    # --- at any time, and in the end

    def mind(self) -> None:
        """What holds at any time."""
        self._mind_sockets()
        self.mind_presence()

    def _mind_sockets(self) -> None:
        """Whose identity has expired is not there any more; nobody else is told that."""
        now = self._world.loop.time()
        for link in self._world.network.links:
            soonest, latest = self.expiries.get(link.key, (math.inf, math.inf))
            if link.server.is_open and now > latest + 1.0:
                self._world.fail("expiry", f"{link.client_name} is there {now - latest} s too long")
            if link.server.close_reason == "mergesync:expired" and now < soonest - 0.001:  # clocks are in milliseconds
                self._world.fail("expiry", f"{link.client_name} is told that it has expired, and has not")

    def at_rest(self) -> Iterator[str]:
        """Who came and did not go is there, and nobody else."""
        server = self._world.server
        paths = [] if server is None else server._switchboard._paths.values()
        there = [client for path in paths for client in path.members]
        if set(there) != self.there.keys():
            yield f"join: {len(there)} are there, and {len(self.there)} are known to be"
        told = [reason for error in self._world.errors for reason in getattr(error, "reasons", ())]
        for refusal, must_be_told in self.refusals.items():
            if not must_be_told <= told.count(refusal) <= 1:
                yield f"errors: {refusal!r} was reported {told.count(refusal)} times"
        sockets = [] if server is None else server._switchboard._sockets.values()
        if any(socket.unanswered for socket in sockets):
            yield "pending: somebody was not answered by the server"
        if server is not None:
            yield from self._presence_at_rest(server)
        yield from self.requests.at_rest()
        if self.lifetimes is not None:
            yield from self.lifetimes.at_rest()

    def nobody_left(self) -> Iterator[str]:
        """Of everybody who came it was said that they went."""
        for client, path_id in self.there.items():
            yield f"leave: {path_id}: nobody said that {client.id} went"


def _name_of(client: RoomClient) -> str:
    return "" if client.identity is None else client.identity.name


def _stamp(store: MergeableStore, leaf: Leaf) -> str:
    stamp = store.get_stamp(*leaf)
    return "" if stamp is None else stamp[1]


def _leaves_in(changes: Changes) -> list[tuple[Leaf, Any]]:
    cells: list[tuple[Leaf, Any]] = [
        ((table_id, row_id, cell_id), cell)
        for table_id, table in changes.tables.items()
        for row_id, row in table.items()
        for cell_id, cell in row.items()
    ]
    return cells + [((None, "", value_id), value) for value_id, value in changes.values.items()]
