"""Bugs to plant: each must be found by the oracles, or the oracles have a hole.

Not here, because nothing can come of them in these schedules, or nothing at all:

* `hlc <= old` as `<` in `news_in`: equal stamps of equal content are the same bytes, which the next line skips.
* A persister that does not merge edits before it saves: nobody edits storage here (`tests/unit/persist` does).
* `Heard` that overlooks a row: a pull that was shortened is followed by a comparison of hashes, and by a full one.
* A server that does not make equal who announces: only a TinyBase client gives up waiting for answers, and needs it.
* Clients that are not told of a path that does not load: they wait, and are told all once it does.
* A pull that overlooks newer hashes: no client here announces twice within one pull (`tests/unit/sync` does).
* An alarm that is not set again after it rang: whoever is woken sets it, or has only a time-out to tell.
* `PRAGMA synchronous`, and locks between processes: SQLite and the system keep those promises (`tests/faults`).
* Fragments joined in order of arrival: a link keeps the order.
* A pull that failed and is taken for done, a save that is not waited for, questions that a lost connection forgets, a
  clock that starts anew when it is put right: too rare here (`tests/unit/net/test_durability.py`, `test_base.py`,
  `test_hub.py`, `test_hlc.py`).
* Old content passed on unreviewed, a client welcomed that is gone, access that a new token does not change, idle time that
  is not counted, an action with a key that is done again: found, but too seldom (`tests/unit/sync/test_review.py`,
  `tests/unit/net/test_rooms.py`, `test_lives.py`, `test_actions.py`).
* A promise before what was said is reviewed, or while something waits for the path: not found any more since clients
  begin with what they have written (`tests/unit/sync/test_review.py`, `test_hub.py`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .mutation import Mutant

__all__ = ["MUTANTS", "SEEDS", "record"]

_FILE = Path(__file__).with_name("mutants.json")

SEEDS: dict[str, list[Any]] = json.loads(_FILE.read_text()) if _FILE.exists() else {}
"""Where each was found the last time: `[seed, oracle]`."""


def record(seeds: dict[str, list[Any]]) -> None:
    """Remember where they were found."""
    known = {mutant.name: seeds[mutant.name] for mutant in MUTANTS if mutant.name in seeds}
    lines = (f"  {json.dumps(name)}: {json.dumps(found)}" for name, found in known.items())
    _FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


_STORE = (
    Mutant("a stamp is used twice", "store.hlc:HybridLogicalClock.tick", "self.counter += 1 if self.time else 1 + (self.counter < 0)", "pass"),
    Mutant("the clock goes back", "store.hlc:HybridLogicalClock.tick", "if now > self.time:", "if now != self.time:"),
    Mutant("the clock ignores others", "store.hlc:HybridLogicalClock.observe", "self.time = time\n", "pass\n"),
    Mutant("the clock ignores counters", "store.hlc:HybridLogicalClock.observe", "self.counter = max(self.counter, seen_counter)", "pass"),
    Mutant("a merge is not observed", "store.merging:Merging._merge", "self._clock.observe(newest)", "pass"),
    Mutant("the older stamp wins", "store.leaves:news_in", "hlc.encode() <= old[-16:]", "hlc.encode() >= old[-16:]"),
    Mutant("counters do not count", "store.leaves:news_in", "hlc.encode() <= old[-16:]", "hlc[:7].encode() <= old[-16:-9]"),
    Mutant("only the first cell is merged", "store.leaves:news_in", "in said.items()", "in list(said.items())[:1]"),
    Mutant("only the first row is merged", "store.merging:Merging._merge_table", "in rows.items()", "in list(rows.items())[:1]"),
    Mutant("values are not merged", "store.merging:Merging._merge", 'news_in(values[0], self._tree.values.stamps, newest)', '({}, newest)'),
    Mutant("a new row forgets tombstones", "store.leaves:take", "stamp = stamps[leaf_id] = pack(wire, hlc)\n", "stamp = pack(wire, hlc); stamps.update({leaf_id: stamp} if stamp[0] != COLON else {})\n"),
    Mutant("believed hashes are wrong", "store.building:_Building._add_rows", "row.believe(int(row_said[2]) % _MODULUS, wrong)", "row.believe(7, wrong)"),
    Mutant("a blank store takes one row", "store.building:_Building._add_rows", "in said.items()", "in list(said.items())[:1]"),
    Mutant("a blank store does not count", "store.building:_Building._add_rows", "table.live += 1", "pass"),
    Mutant("a blank store takes no values", "store.building:_Building.add_values", "self._fill(values, said[0], {})", "None"),
    Mutant("a deleted row keeps a cell", "store.placing:Placing._delete_row", "in self._shown_ids(table_id, row):", "in self._shown_ids(table_id, row)[1:]:"),
    Mutant("a table is not soiled", "store.tree:Tree.soil_row", "tables.soil(table_id, table._hash)", "pass"),
    Mutant("an old leaf stays in the hash", "store.leaves:hash_change", "in (old, stamps.get(leaf_id))", "in (stamps.get(leaf_id),)"),
    Mutant("a hash forgets the first old stamp", "store.tree:Leaves.soil", "self._stale.setdefault(leaf_id, old)", "self._stale[leaf_id] = old"),
    Mutant("hashes asked for in the middle", "store.transaction:Transaction._soil_journaled", "leaves.soil({leaf_id: old})", "pass"),
    Mutant("values are not soiled", "store.transaction:Transaction._soil_all", "if tree.values.before:", "if False:"),
    Mutant("a rollback keeps values", "store.transaction:Transaction.rollback", "(self.tree.values.before or _UNTOUCHED).items()", "()"),
    Mutant("a rollback keeps new rows", "store.transaction:Transaction.rollback", "self._drop_new(0, 0, shows)", "pass"),
    Mutant("a rollback keeps counts", "store.transaction:Transaction._put_back", "if change:", "if False:"),
    Mutant("the old stamp is forgotten", "store.core:StoreCore._put", "before[leaf_id] = old  #", "before[leaf_id] = None  #"),
    Mutant("a row diff leaves out dead rows", "store.diff:row_diff", "if row_id not in row_hashes_:", "if row_id not in row_hashes_ and row.live:"),
    Mutant("a cell diff has one row", "store.diff:cell_diff", "stamped(row_stamps, table.hlc)", "stamped(dict(list(row_stamps.items())[:1]), table.hlc)"),
    Mutant("a diff has only what is missing", "store.diff:_leaves_otherwise", "if theirs.get(leaf_id) != hashes[leaf_id]", "if leaf_id not in theirs"),
    Mutant("a value diff is empty", "store.diff:value_diff", "stamped(unpacked(found), values.hlc)", "stamped({}, values.hlc)"),
    Mutant("a listener misses cells", "store.notify:Round._tell_cells", "in cells.items()", "in list(cells.items())[:1]"),
)  # fmt: skip

_SYNC = (
    Mutant("a change skips the last client", "sync.hub:Hub._pass_on", "if client != sender]", "if client != sender][:-1]"),
    Mutant("a correction skips a client", "sync.hub:Hub._send_changes", "self.readers, frames", "self.readers[1:], frames"),
    Mutant("a listener's answer skips the sender", "sync.hub:Hub.changed", "if sender is not None and sender not in self._blind and not is_empty(beyond):", "if False:"),
    Mutant("clients ahead are forgotten", "sync.hub:Hub.changed", "if self._ahead:", "if False:"),
    Mutant("the last held message is lost", "sync.hub:Hub._receive_waiting", "while waiting:", "while len(waiting) > 1:"),
    Mutant("nothing is held", "sync.hub:Hub.receive", "self._hold(_Held(client_id, address, payload, payload.size_bytes), now)", "pass"),
    Mutant("who leaves is waited for", "sync.hub:Hub.leave", "self._synchronizer.forget_peer(client_id)", "pass"),
    Mutant("a gone peer is waited for", "sync.conversations:Conversations.forget_peer", "if talk.question is not None and talk.question.address == address:", "if False:"),
    Mutant("an answered question is kept", "sync.conversations:Conversations._forget", "del self._by_request[request_id]", "pass"),
    Mutant("a late start is not asked again", "sync.conversations:Conversations._expire", "if talk.expiries > 1:", "if False:"),
    Mutant("what is pulled is dropped", "sync.pulling:Pulling.catch_up", "yield from self.absorb(sender, pulled)", "pass"),
    Mutant("the start drops what it got", "sync.synchronizer:Synchronizer._ask_everyone", "yield from self._pulling.absorb(sender, pulled)", "pass"),
    Mutant("no announcement at the start", "sync.synchronizer:Synchronizer._go_live", "self.announce()", "pass"),
    Mutant("messages during a transaction are lost", "sync.synchronizer:Synchronizer._take", "self._held.append((None if is_change else sender, lambda now: self._act_on(sender, message, now)))", "pass"),
    Mutant("the first message held is lost", "sync.synchronizer:Synchronizer._release", "in held:", "in held[1:]:"),
    Mutant("the end of a transaction is overlooked", "sync.synchronizer:Synchronizer.wake", "self._release(now)", "pass"),
    Mutant("a transaction is not waited for", "sync.synchronizer:Synchronizer._stands_still", "still = self.store.is_in_transaction()", "still = False"),
    Mutant("values are not pulled", "sync.exchange:pull", "if their_hashes[1] != our_hashes[1] and", "if False and"),
    Mutant("cells are not pulled", "sync.exchange:_pull_tables", "answers.take_tables((yield MessageType.GET_CELL_DIFF, _cell_hashes(store, asked)))", "yield MessageType.GET_CELL_DIFF, _cell_hashes(store, asked)"),
    Mutant("a refusal is silent", "sync.intake:Intake._complain", "self._complaints.report(blamed(RefusedChangesError(parts.count, reasons), sender))", "pass"),
    Mutant("a refusal is not answered", "sync.intake:Intake._complain", "self._complaints.refused(sender, parts.refused)", "pass"),
    Mutant("the future is taken", "sync.admission:Admission.judge", "if hlc > self._latest:", "if False:"),
    Mutant("a correction is not noted", "sync.ahead:Ahead.corrections", "self.note(client_id, body)", "pass"),
    Mutant("the last fragment is not sent", "sync.payloads:fragments_of", "in enumerate(pieces)]", "in enumerate(pieces[:-1])]"),
)  # fmt: skip

_NET = (
    Mutant("a listener's answer stays here", "net.session:Session.changed", "not is_empty(beyond)", "not is_empty(beyond) and origin is None"),
    Mutant("a lost connection is overlooked", "net.session:Session.closed", "self._core.disconnect()", "pass"),
    Mutant("no start at reconnect", "net.session:Session.opened", "self._start_sync()", "pass"),
    Mutant("the status is not told", "net.session:Session.link_changed", "self._tell_status(status)", "pass"),
    Mutant("leaving does not flush", "net.session:Session._flush", "while self._has_live_peer() and", "while False and"),
    Mutant("three attempts to connect", "net.link:Link._live", "while True:", "for _ in range(3):"),
    Mutant("ports are not told", "net.link:Link._drop", "port.closed()", "pass"),
    Mutant("a lost connection is not told", "net.link:Link._talk", "self.report(self.error)", "pass"),
    Mutant("a failed attempt keeps its state", "net.link:Link._connect_once", "self._set_state(LinkState.OFFLINE)", "pass"),
    Mutant("ports are not woken", "net.link:Link._wake", "port.wake(now)", "pass"),
    Mutant("a client is never gone", "net.switchboard:Switchboard._leave", "path.leave(connection.client_id, why)", "pass"),
    Mutant("a socket is never gone", "net.switchboard:Switchboard._remove_socket", "del self._sockets[socket.connection]", "pass"),
    Mutant("an ending path is forgotten", "net.switchboard:Switchboard.path_done", "self._ending[path.path_id] = path", "pass"),
    Mutant("the predecessor is not waited for", "net.path:Path._live", "await asyncio.wait([predecessor._life])", "pass"),
    Mutant("an empty path does not end", "net.path:Path._somebody_went", "self._bell.ring()", "pass"),
    Mutant("a path ends though somebody came", "net.path:Path._serve", "if self._is_empty() and self._is_quiet() and not writes:", "if True:"),
    Mutant("a path ends unstored", "net.path:Path._serve", "flushed = await self._flush()", "flushed = True"),
    Mutant("nothing is saved by itself", "net.path:Path._load", "await self._persister.start_auto_save()", "pass"),
    Mutant("saved before it is loaded", "net.path:Path._load", "await self._persister.start_auto_load()", "self._persister._loaded = True"),
    Mutant("who leaves stays listed", "net.members:Members.miss", "self._presence.hide(client.id)", "pass"),
    Mutant("nobody is listed", "net.members:Members.show", "self._presence.show(client, self._name_of(client.id))", "pass"),
    Mutant("clients of a late path are forgotten", "sync.hub:Hub.ready", "self.resync(client_id, now)", "pass"),
)  # fmt: skip

_PERSIST = (
    Mutant("a failed save is forgotten", "persist.saving:Saving._save_or_put_back", "self._unsaved.put_back(unsaved)", "pass"),
    Mutant("a failed save is silent", "persist.saving:Saving._save_unsaved", "self._report(failure)", "pass"),
    Mutant("the change during a save is dropped", "persist.saving:Saving._auto_save", "while self._unsaved:", "for _ in range(1):"),
    Mutant("the end does not save", "persist.base:Persister._save_the_rest", "if self.is_auto_saving:", "if False:"),
    Mutant("newer changes are not put back", "store.unsaved:Unsaved.put_back", "overlay(self._changes, newer)", "pass"),
    Mutant("only the last transaction is saved", "store.unsaved:Unsaved.add", "overlay(self._changes, changes)", "self._changes = changes"),
    Mutant("only the first change is saved", "store.unsaved:_lay", "children[id_] = child", "children.setdefault(id_, child)"),
    Mutant("a file is written in place", "persist.files:replace_file", "signature = _write_new(files, temporary, data, files.mode(target))", "if files.mode(target) is not None:\n            files.remove(target)\n        return _write_new(files, target, data, None)"),
    Mutant("a file is not synced", "persist.files:_write_new", "return files.sync(descriptor)", "return files._open[descriptor][1].signature()"),
    Mutant("a folder is not synced", "persist.files:replace_file", "files.sync_folder(os.path.dirname(target))", "pass"),
    Mutant("a short write is taken for a whole one", "persist.files:_write_new", "while rest:", "if rest:"),
    Mutant("a tombstone is stored as null", "persist.sqlite_rows:_special_to_sql", 'return "deleted", None', 'return "null", None'),
    Mutant("rows are keyed by cell", "persist.sqlite_rows:rows_of", "(path, table_id, row_id, cell_id,", "(path, table_id, cell_id, cell_id,"),
    Mutant("values of all paths are one", "persist.sqlite_rows:rows_of", "(path, value_id,", "('', value_id,"),
    Mutant("a commit is none", "persist.sqlite:SqliteDatabase._commit", 'await writer.execute("COMMIT")', 'await writer.execute("ROLLBACK")'),
    Mutant("a group commit has one path", "persist.sqlite:SqliteDatabase._commit", "work += [(write.member, write.changes) for write in batch if", "work += [(write.member, write.changes) for write in batch[:1] if"),
    Mutant("a failed commit is taken for done", "persist.sqlite:SqliteDatabase._fail", "write.done.set_exception(error)", "write.done.set_result(None)"),
    Mutant("a poller is never at rest", "persist.poller:FilePoller._rest", "task.cancel()", "pass"),
)  # fmt: skip

_DURABILITY = (
    Mutant("promised before it is saved", "net.path:Path._confirm", "await (persister.flush() if hurry else persister.wait_saved())", "pass"),
    Mutant("promised before it is merged", "sync.pulling:Pulling.has_all_of", "None if address in self._pulling else address not in self._missed", "address not in self._missed"),
    Mutant("what is asked for is never confirmed", "net.durability:Durability.answered", "confirmed = [self._asked.pop(request_id) for request_id in self._until(operation.request_id)]", "confirmed = []"),
)  # fmt: skip

_ROOMS = (
    Mutant("what is pulled is not reviewed", "sync.intake:Intake._propose", "if self._reviewer is None:", "if self._reviewer is None or pulled:"),
    Mutant("who may only read may write", "net.reviewing:PathReviewer.review", "if client is None or not client.access.write:", "if client is None:"),
    Mutant("rules are not asked", "net.reviewing:PathReviewer._by_hook", "judged = self._judged(client, proposal)", "pass"),
    Mutant("a rule refuses one cell of many", "rooms.rules:Rules.refused", "return news_in(store, body)", "return sitting.refused"),
    Mutant("a new row needs no owner", "rooms.rules:_Sitting._owns", "return is_new and after == name", "return True"),
    Mutant("a row is given away", "rooms.rules:_Sitting._owns", "and after in (name, MISSING)", ""),
    Mutant("a hook that fails lets all through", "net.reviewing:PathReviewer._decided", "return _both(judged, self._refusal(client, judged.taken, reasons))", "return judged"),
    Mutant("what a hook takes out passes", "rooms.changes:verdict_of", "gone = given.keys() - cells.keys()", "gone = frozenset()"),
    Mutant("a row that a hook takes out passes", "rooms.changes:verdict_of", "in left.items():", "in ():"),
    Mutant("an edit of a hook is lost", "rooms.changes:verdict_of", ".update(wires)", ".update({})"),
    Mutant("what a hook refuses is silent", "sync.intake:Intake._carry_out", "self._complaints.report(blamed(RefusedChangesError(count, verdict.reasons), sender))", "pass"),
    Mutant("what a hook refuses is not answered", "net.reviewing:_corrects", "client.access.overwrite and client.access.read", "False"),
    Mutant("a ruling has the stamp of what it refuses", "sync.review:rulings", "successors[newest] = successor(newest, client)", "successors[newest] = newest or None"),
    Mutant("what is taken is merged after the rulings", "sync.intake:Intake._apply", "if verdict is not None and (verdict.refused or verdict.instead):", "if False:"),
    Mutant("hooks of one path are called at once", "net.turns:Turns.call", "if not self._busy:", "if True:"),
    Mutant("who is refused on its path stays", "net.members:Members.welcome", "self._path.put_out(client, forbidden(error.message))", "pass"),
    Mutant("a client is welcomed twice", "net.path:Path.join", "if self.is_loaded:", "if True:"),
    Mutant("nobody hears who was lost", "net.members:Members.miss", "and client in self._joined:", 'and client in self._joined and reason != "lost":'),
    Mutant("who may not be seen is listed", "net.members:Members.show", "client.access.presence", "True"),
    Mutant("who is logged out stays", "net.switchboard:Switchboard.log_out", "self._close_logged_out(socket)", "pass"),
    Mutant("an identity does not expire", "net.switchboard:Switchboard._look_at_expiry", 'socket.close(CLOSE_UNAUTHORIZED, "mergesync:expired", "unauthorized")', "pass"),
    Mutant("who may not read hears changes", "sync.hub:Hub._set_blind", "self._blind.add(client_id)", "pass"),
    Mutant("what clients say of themselves is not reviewed", "net.members:Members.announce", "if on_presence is None or client is None else", "if True else"),
    Mutant("an edit of what a client says is lost", "net.members:Members.announce", "on_presence(self._path.handle, client, state)", "on_presence(self._path.handle, client, dict(state))"),
    Mutant("what a client has said is not said again", "net.announcing:Announcing.repeat", "if self.cells is None:", "if True:"),
    Mutant("who says no is not heard", "net.members:Members.announce", "if error is None and presence is not None:", "if presence is not None:"),
    Mutant("a refused channel is not asked for again", "net.session:Session._lose_channel", "self._comeback.refused(str(text))", "pass"),
    Mutant("stamps of the future come past the review", "sync.intake:Intake.merge", "proposal = self._propose(sender, parts.taken, pulled)", "proposal = self._propose(sender, changes, pulled)"),
    Mutant("who may not read compares", "sync.synchronizer:Synchronizer.shown_to", "if address not in self.blind:", "if True:"),
)  # fmt: skip

_REQUESTS = (
    Mutant("a stale version is taken", "sync.versions:check_version", "if present != version:", "if False:"),
    Mutant("the loser is told its own version", "sync.versions:check_version", "version=present", "version=version"),
    Mutant("a version is not looked at again", "net.service:Service._change", "check_version(store, version)  #", "pass  #"),
    Mutant("a refused change is made on a condition", "net.service:Service._change", 'raise _refused("; ".join(verdict.reasons) or "the change is not let through")', "pass"),
    Mutant("who wins is told before it is stored", "net.service:Service._try_change", "self._path.answer_when_stored(answer, newer)", "answer(OK, newer)"),
    Mutant("a change on a condition is forgotten", "net.carrying:carry_out", "store.merge_checked(verdict.taken)", "pass"),
    Mutant("a request is not answered", "net.switchboard:Switchboard.operate", "self._answer(socket, path_id, operation, name, body)", "pass"),
)  # fmt: skip

_LIVES = (
    Mutant("a path stays that is to go", "net.members:Members._ask_whether_to_end", "self._path.end()", "pass"),
    Mutant("who leaves counts as left", "net.members:Members._ask_whether_to_end", "len(self)", "len(self) + 1"),
    Mutant("a late client is let in", "net.latecomers:Latecomers.review", "if any(self._is_past(hlc_of(stamp))", "if any(False"),
    Mutant("a late client stays", "net.latecomers:Latecomers.review", "self._put_out(proposal.sender)", "pass"),
    Mutant("what a late client brings is merged", "net.latecomers:Latecomers.review", "Verdict(without(proposal.body, leaves), corrects=False)", "Verdict(proposal.body)"),
    Mutant("a removal is not remembered", "net.lives:Lives.remove", "born_after=born_after", 'born_after=""'),
    Mutant("a path that is made anew forgets its removal", "net.lives:Lives.make", 'born_after="" if before is None else before.born_after', 'born_after=""'),
    Mutant("what is stored stays after a removal", "net.lifecycle:LifeCycle._remove_stored", "await remove()", "await persister.destroy()"),
    Mutant("a removal that failed is taken for done", "net.lifecycle:LifeCycle._remove", "self._lives.removal_failed(path_id)", "self._lives.removal_done(path_id)"),
    Mutant("a removal that failed is not tried again", "net.lives:Lives.take_due", "due[path_id] = None", "due.update({path_id: None} if not life.pending else {})"),
    Mutant("clients of a removed path stay", "net.switchboard:Switchboard.end", "self.put_out(place, client_id, removed(text))", "pass"),
    Mutant("a removal closes with another code", "net.farewells:removed", "CLOSE_REMOVED,", "CLOSE_PATH_CLOSED,"),
    Mutant("an ejection closes with another code", "net.farewells:ejected", "return Farewell(code,", "return Farewell(CLOSE_PATH_CLOSED,"),
    Mutant("a closed path keeps its clients", "net.path:Path.close_clients", "self.put_out(member, closed(code, reason))", "pass"),
    Mutant("a ban is forgotten", "net.bans:Bans.ban", "self._now + seconds", "self._now"),
    Mutant("a ban is for one socket only", "net.path:Path.eject", "members = [member for member in self.members if is_the_same(client, member)]", "pass"),
    Mutant("a ban ends too soon", "net.bans:Bans.ban", "self._now + seconds", "self._now + seconds / 2"),
    Mutant("time to live is forgotten", "net.lives:Lives.make", "ends=None if ttl_seconds is None else now + ttl_seconds", "ends=None"),
    Mutant("nobody looks after deadlines", "net.lifecycle:LifeCycle._wake", 'self.begin_removal(path_id, "its time is over")', "pass"),
    Mutant("a path begins without its content", "net.lifecycle:LifeCycle._fill", "store.set_default_content(content)", "pass"),
    Mutant("what is being removed is made anew", "net.lifecycle:LifeCycle.make", "if self._lives.is_alive(path_id):  #", "if True:  #"),
    Mutant("a server that stops gives no reason", "net.switchboard:Switchboard.destroy", 'socket.close(code, reason, "shutdown")', 'socket.close(CLOSE_INTERNAL_ERROR, reason, "shutdown")'),
)  # fmt: skip

MUTANTS: tuple[Mutant, ...] = _STORE + _SYNC + _NET + _PERSIST + _DURABILITY + _ROOMS + _REQUESTS + _LIVES
