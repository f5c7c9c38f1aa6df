"""Five replicas, written, rolled back, merged, loaded and looked at in any order, each against a dict of stamps.

After every step, for every replica: the stamps are those of the test's own model (the highest ever written wins); what
shows is what the model says under the replica's schema; a shadow fed by listener events alone shows the same at every
level; hashes and counts equal those computed anew. At the end all exchange what they have, and hold the same.
"""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mergesync.exceptions import ClockDriftError
from mergesync.limits import MAX_CLOCK_OFFSET_MILLISECONDS
from mergesync.store import MergeableStore
from mergesync.store.hlc import client_part, decode_hlc
from mergesync.store.jsjson import dumps, loads

from .model import Model, Shadow, wire_key
from .strategies import cell_schemas, operations, paths
from .support import Clock, apply, new_store, pull

REPLICAS = 5


class Thrown(Exception):
    """What listeners and transactions throw."""


class Replica:
    """A store with its clock, its model, its shadow, and what it has sent."""

    def __init__(self, name: str) -> None:
        self.clock = Clock()
        self.client = client_part(name)
        self.store = MergeableStore(name, get_now=self.clock)
        self.model = Model()
        self.schema: list[Any] = [None, None]
        self.sent: list[Any] = []
        self.shadow = Shadow(self.store)
        self.mutators: list[tuple[str, str]] = []
        self.store.add_did_finish_transaction_listener(self._finished)

    def _finished(self, store: MergeableStore) -> None:
        self.sent.append(copy.deepcopy(store.get_transaction_mergeable_changes()))

    def wrote(self) -> None:
        """Something was written here: the model takes what the store says it has stamped, and its own stamps only."""
        for body in self.sent:
            for path, where, leaf_id in list(paths(body)):
                hlc = where[leaf_id][1] if len(where[leaf_id]) > 1 else ""
                assert not hlc or hlc.endswith(self.client), (path, where[leaf_id])
            self.model.merge(body)
        self.sent.clear()

    def took(self, body: list[Any]) -> None:
        """A body was merged; of what the store says, the model believes only what was stamped here meanwhile."""
        self.model.merge(body)
        self.model.fill(self.schema)
        self._wrote_meanwhile()

    def loaded(self, content: list[Any]) -> None:
        """Content was loaded."""
        before = self.model.stamps
        self.model.stamps = {}
        self.model.merge(content)
        # What a mutator or the schema has put back without an HLC, just as it was, is no change to be told.
        kept = {path: where[leaf_id] for path, where, leaf_id in paths(self.store.get_mergeable_content())}
        for path, (hlc, wire) in before.items():
            if not hlc and path in kept and kept[path][:2] == [wire, ""]:
                self.model.stamps.setdefault(path, ("", wire))
        self.model.fill(self.schema)
        self._wrote_meanwhile()

    def _wrote_meanwhile(self) -> None:
        for body in self.sent:
            for path, where, leaf_id in paths(body):
                leaf = where[leaf_id]
                mine = [[{}], [{}], 1]
                if len(path) == 1:
                    mine[1][0][path[0]] = leaf  # type: ignore[index]
                else:
                    mine[0][0][path[0]] = [{path[1]: [{path[2]: leaf}]}]  # type: ignore[index]
                if len(leaf) < 2 or leaf[1].endswith(self.client):
                    self.model.merge(mine)
        self.sent.clear()

    def writes_at_the_end(self) -> bool:
        """Whether a will-finish listener writes, which it may do after a rollback that was asked for."""
        return any(kind == "will" for _, kind in self.mutators)

    def allows(self, body: list[Any]) -> bool:
        """Whether no stamp of a body is too far in the future here."""
        latest = self.clock.now + MAX_CLOCK_OFFSET_MILLISECONDS
        stamps = [where[leaf_id] for _, where, leaf_id in paths(body)]
        return all(len(stamp) < 2 or not stamp[1] or decode_hlc(stamp[1])[0] <= latest for stamp in stamps)


replicas = st.integers(0, REPLICAS - 1)

SCHEMAS = st.fixed_dictionaries({}, optional=dict.fromkeys("abc", cell_schemas()))


SCHEMA_PAIRS = st.tuples(st.fixed_dictionaries({"a": SCHEMAS, "b": SCHEMAS}), SCHEMAS)
"""A schema of tables and one of values."""


class Replicas(RuleBasedStateMachine):
    """See the module.

    What is large is drawn inside the rules: Hypothesis keeps texts of the arguments of rules, and they fill gigabytes.
    """

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        """All replicas are empty; they may have one schema in common."""
        schema = data.draw(st.none() | SCHEMA_PAIRS)
        self.replicas = [Replica(f"replica {number}") for number in range(REPLICAS)]
        self.bodies: list[Any] = []  # what was sent, to arrive whenever
        self.contents: list[Any] = []  # what was saved
        self.touched = set(range(REPLICAS))
        self.lost = False  # whether a load has thrown stamps away
        if schema is not None:
            for replica in self.replicas:
                self._set_schema(replica, schema)

    def _at(self, number: int) -> Replica:
        self.touched.add(number)
        return self.replicas[number]

    def _keep(self, replica: Replica) -> None:
        """Keep what was sent, to be delivered at any time, in any order."""
        self.bodies += [json.loads(json.dumps(body)) for body in replica.sent if body[0][0] or body[1][0]]

    # --- writing

    @rule(number=replicas, data=st.data())
    def write(self, number: int, data: st.DataObject) -> None:
        """One write."""
        replica = self._at(number)
        apply(replica.store, data.draw(operations()))
        self._keep(replica)
        replica.wrote()

    @rule(number=replicas, data=st.data(), hashed=st.booleans())
    def write_together(self, number: int, data: st.DataObject, hashed: bool) -> None:
        """Several writes in one transaction, with hashes asked for in between."""
        replica = self._at(number)
        with replica.store.transaction():
            for operation in data.draw(st.lists(operations(), max_size=4)):
                apply(replica.store, operation)
                if hashed:
                    replica.store.get_mergeable_content_hashes()
        self._keep(replica)
        replica.wrote()

    @rule(number=replicas, data=st.data(), hashed=st.booleans(), asked=st.booleans())
    def take_back(self, number: int, data: st.DataObject, hashed: bool, asked: bool) -> None:
        """A transaction that is taken back, by an exception or because it was asked for."""
        replica = self._at(number)
        before = json.dumps(replica.store.get_mergeable_content())
        drawn = data.draw(st.lists(operations(), max_size=4))

        def actions() -> None:
            for operation in drawn:
                apply(replica.store, operation)
            if hashed:
                replica.store.get_mergeable_content_hashes()
            if not asked:
                raise Thrown

        try:
            replica.store.transaction(actions, lambda _store: True)
        except Thrown:
            assert not asked
        if not (asked and replica.writes_at_the_end()):
            assert json.dumps(replica.store.get_mergeable_content()) == before
        self._keep(replica)
        replica.wrote()

    @rule(number=replicas, data=st.data(), hashed=st.booleans())
    def take_back_a_part(self, number: int, data: st.DataObject, hashed: bool) -> None:
        """An exception caught inside a transaction takes back the inner part alone."""
        replica = self._at(number)
        store = replica.store
        outer, inner, last = (data.draw(st.lists(operations(), max_size=3)) for _ in range(3))
        with store.transaction():
            for operation in outer:
                apply(store, operation)
            before = json.dumps([store.get_mergeable_content(), store.get_content()]) if hashed else None
            try:
                with store.transaction():
                    for operation in inner:
                        apply(store, operation)
                    raise Thrown
            except Thrown:
                assert before in (None, json.dumps([store.get_mergeable_content(), store.get_content()]))
            for operation in last:
                apply(store, operation)
        self._keep(replica)
        replica.wrote()

    # --- listeners and schemas

    @rule(number=replicas, data=st.data(), kind=st.sampled_from(("cell", "value", "row_ids", "will", "start")))
    def add_a_mutator(self, number: int, data: st.DataObject, kind: str) -> None:
        """A listener that writes, the same each time."""
        replica = self._at(number)
        store = replica.store
        operation = data.draw(operations())

        def mutate(store: MergeableStore) -> None:
            apply(store, operation)

        match kind:
            case "cell":
                added = store.add_cell_listener(None, None, "a", mutate, True)
            case "value":
                added = store.add_value_listener("a", mutate, True)
            case "row_ids":
                added = store.add_row_ids_listener(None, mutate, True)
            case "will":
                added = store.add_will_finish_transaction_listener(mutate)
            case _:
                added = store.add_start_transaction_listener(mutate)
        replica.mutators.append((added, kind))

    @rule(number=replicas)
    def remove_a_mutator(self, number: int) -> None:
        """The listener that was added last goes."""
        replica = self._at(number)
        if replica.mutators:
            replica.store.del_listener(replica.mutators.pop()[0])

    @rule(number=replicas, data=st.data(), kind=st.sampled_from(("mutator", "will", "looking", "did")))
    def write_with_a_listener_that_raises(self, number: int, data: st.DataObject, kind: str) -> None:
        """One that may write takes the write back; one that may only look does not, nor does it silence the others."""
        replica = self._at(number)
        store = replica.store
        before = json.dumps(store.get_mergeable_content())
        calls = 0

        def listener(_: MergeableStore) -> None:
            nonlocal calls
            calls += 1
            raise Thrown

        match kind:
            case "mutator":
                added = [store.add_tables_listener(listener, True), store.add_values_listener(listener, True)]
            case "will":
                added = [store.add_will_finish_transaction_listener(listener)]
            case "looking":
                added = [store.add_tables_listener(listener), store.add_value_listener(None, listener)]
            case _:
                added = [store.add_did_finish_transaction_listener(listener)]
        raised = False
        try:
            apply(store, data.draw(operations()))
        except (Thrown, ExceptionGroup):
            raised = True
        assert raised == (calls > 0)
        if raised and kind in ("mutator", "will"):
            assert json.dumps(store.get_mergeable_content()) == before
        for each in added:
            store.del_listener(each)
        self._keep(replica)
        replica.wrote()

    def _set_schema(self, replica: Replica, schema: Any) -> None:
        tables, values = schema
        replica.store.set_schema(copy.deepcopy(tables), copy.deepcopy(values))
        replica.schema = [tables, values]
        self._keep(replica)
        replica.wrote()

    @rule(number=replicas, data=st.data())
    def set_a_schema(self, number: int, data: st.DataObject) -> None:
        """A schema of one replica alone."""
        self._set_schema(self._at(number), data.draw(SCHEMA_PAIRS))

    @rule(number=replicas)
    def remove_the_schema(self, number: int) -> None:
        """What a schema kept from showing shows."""
        replica = self._at(number)
        replica.store.del_schema()
        replica.schema = [None, None]
        self._keep(replica)
        replica.wrote()

    # --- exchanging

    def _merge(self, replica: Replica, body: list[Any]) -> None:
        if replica.allows(body):
            replica.store.apply_mergeable_changes(copy.deepcopy(body))
            self._keep(replica)
            replica.took(body)
        else:
            before = replica.store.get_mergeable_content()
            try:
                replica.store.apply_mergeable_changes(body)
            except ClockDriftError:
                assert replica.store.get_mergeable_content() == before
            else:
                raise AssertionError("a stamp of the future was taken")

    @rule(number=replicas, which=st.integers(0, 10**6))
    def deliver(self, number: int, which: int) -> None:
        """A message arrives, late, again, or out of order."""
        if self.bodies:
            self._merge(self._at(number), self.bodies[which % len(self.bodies)])

    @rule(to=replicas, source=replicas)
    def pull(self, to: int, source: int) -> None:
        """One pulls what it lacks, by hashes."""
        one, other = self._at(to), self._at(source)
        self._merge(one, pull(one.store, other.store))

    @rule(to=replicas, source=replicas, table_id=st.sampled_from("abc"), values=st.booleans())
    def pull_a_part(self, to: int, source: int, table_id: str, values: bool) -> None:
        """One pulls the values, or one table, or the cells of its rows."""
        one, other = self._at(to), self._at(source)
        if values:
            body = [[{}], other.store.get_mergeable_value_diff(one.store.get_mergeable_value_hashes()), 1]
        else:
            theirs = other.store.get_mergeable_row_hashes({table_id: -1})
            mine = one.store.get_mergeable_cell_hashes(theirs)
            body = [other.store.get_mergeable_cell_diff(mine), [{}], 1]
        self._merge(one, body)

    @rule(to=replicas, source=replicas)
    def merge(self, to: int, source: int) -> None:
        """Both merge with each other, if their clocks allow."""
        one, other = self._at(to), self._at(source)
        ours, theirs = one.store.get_mergeable_content(), other.store.get_mergeable_content()
        try:
            one.store.merge(other.store)
        except ClockDriftError:
            assert not (one.allows(theirs) and other.allows(ours))
            assert one.store.get_mergeable_content() == ours
            assert other.store.get_mergeable_content() == theirs
        else:
            for replica, body in ((other, ours), (one, theirs)):
                self._keep(replica)
                replica.took(body)

    # --- saving, loading, time

    @rule(number=replicas)
    def save(self, number: int) -> None:
        """Content is kept as text."""
        self.contents.append(dumps(self.replicas[number].store.get_mergeable_content()))

    @rule(number=replicas, which=st.integers(0, 10**6))
    def load(self, number: int, which: int) -> None:
        """Content that was kept replaces everything."""
        if not self.contents:
            return
        replica = self._at(number)
        content = loads(self.contents[which % len(self.contents)])
        if replica.allows(content):
            self.lost = True
            replica.store.set_mergeable_content(copy.deepcopy(content))
            self._keep(replica)
            replica.loaded(content)

    @rule(number=replicas, milliseconds=st.sampled_from((1, 5, 1000, -1, -1000, -(10**7), 200_000, 400_000)))
    def turn_the_clock(self, number: int, milliseconds: int) -> None:
        """The wall clock jumps, forward or back."""
        replica = self._at(number)
        replica.clock.now = max(0, replica.clock.now + milliseconds)

    # --- oracles

    @invariant()
    def everything_agrees(self) -> None:
        """The oracles, for the replicas that the last step had to do with."""
        for number in self.touched:
            replica = self.replicas[number]
            store = replica.store
            assert not store.is_in_transaction()
            assert not replica.sent
            replica.model.assert_is(store)
            assert wire_key(replica.model.shown(replica.schema)) == wire_key(store.get_content())
            replica.shadow.assert_is(store)
            store._check()
            assert store.get_transaction_mergeable_changes()[0][0] == {}
        self.touched.clear()

    def teardown(self) -> None:
        """All exchange what they have until nobody lacks anything; then all hold the highest stamps, and hash alike."""
        if not hasattr(self, "replicas"):
            return
        now = max(replica.clock.now for replica in self.replicas) + 10**6
        highest = Model()
        for replica in self.replicas:
            for added, _ in replica.mutators:
                replica.store.del_listener(added)
            replica.store.del_schema()
            replica.clock.now = now
            replica.wrote()
        for replica in self.replicas:
            highest.merge(replica.store.get_mergeable_content())
        for _ in range(2):
            for one in self.replicas:
                for other in self.replicas:
                    one.store.apply_mergeable_changes(pull(one.store, other.store))
        real = {path: stamp for path, stamp in highest.stamps.items() if stamp[0]}
        for replica in self.replicas:
            found = Model()
            found.merge(replica.store.get_mergeable_content())
            assert {path: wire_key(stamp) for path, stamp in found.stamps.items() if stamp[0]} == {
                path: wire_key(stamp) for path, stamp in real.items()
            }
            replica.store._check()
            loaded = new_store(now=now).set_mergeable_content(replica.store.get_mergeable_content())
            assert loaded.get_mergeable_content() == replica.store.get_mergeable_content()
        if len(real) == len(highest.stamps):  # without an HLC the later arrival wins (surprise 2)
            hashes = [replica.store.get_mergeable_content_hashes() for replica in self.replicas]
            assert all(each == hashes[0] for each in hashes)
        if not self.lost:
            ever = Model()
            for body in self.bodies:
                ever.merge(body)
            assert {path: wire_key(stamp) for path, stamp in ever.stamps.items() if stamp[0]} == {
                path: wire_key(stamp) for path, stamp in real.items()
            }


TestReplicas = Replicas.TestCase
