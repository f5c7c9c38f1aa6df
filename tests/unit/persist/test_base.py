"""The life of a persister: nothing lost, nothing saved that should not be."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from mergesync.exceptions import ClockDriftError, LoadError, PersisterError, SaveError
from mergesync.persist import PersisterStatus, core, saving
from mergesync.persist.status import log_error
from mergesync.store import MergeableStore

from .kit import NOW, IncrementalPersister, MemoryPersister, new_store, pet_store, settle, until

CONTENT = pet_store().get_mergeable_content()
EMPTY = new_store().get_mergeable_content()


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "SAVE_RETRY_FIRST_SECONDS", 0.001)


class TestLoading:
    async def test_content_is_loaded(self) -> None:
        """Mergeable content arrives with its stamps and hashes, and needs no save."""
        persister = MemoryPersister(new_store("s2"), CONTENT)
        await persister.load()
        assert persister.store.get_mergeable_content() == CONTENT
        assert persister.status.value == PersisterStatus.IDLE
        assert persister.stats.loads == 1

    async def test_content_replaces_and_later_merges(self) -> None:
        """The first load replaces, as in TinyBase; one more merges, and loses nothing."""
        persister = MemoryPersister(new_store("s2").set_value("mine", 1), CONTENT)
        await persister.load()
        assert persister.store.get_mergeable_content() == CONTENT
        persister.store.set_value("mine", 2)
        await persister.load()
        assert persister.store.get_value("mine") == 2
        assert persister.store.get_value("open") is True

    async def test_changes_are_merged(self) -> None:
        """Changes are merged with what is there, and what storage lacks is unsaved."""
        persister = MemoryPersister(new_store("s2").set_value("mine", 1), [*CONTENT, 1])
        await persister.load()
        assert persister.store.get_values() == {**pet_store().get_values(), "mine": 1}
        assert persister.status.value == PersisterStatus.UNSAVED

    async def test_plain_content_becomes_local_writes(self) -> None:
        """The tables and values of a plain store get fresh stamps, which are unsaved."""
        persister = MemoryPersister(new_store(), [{"t": {"r": {"c": 1}}}, {"v": 2}])
        await persister.load()
        assert persister.store.get_content() == ({"t": {"r": {"c": 1}}}, {"v": 2})
        assert persister.store.get_mergeable_content()[1][0]["v"][1].startswith("Nn1JUF")
        assert persister.status.value == PersisterStatus.UNSAVED

    async def test_initial_content(self) -> None:
        """Where nothing is stored, the initial content is set with the empty stamp, and is unsaved."""
        persister = MemoryPersister(new_store())
        await persister.load(({"t": {"r": {"c": 1}}}, {}))
        assert persister.store.get_mergeable_content()[0][0]["t"][0]["r"][0]["c"][:2] == [1, ""]
        assert persister.status.value == PersisterStatus.UNSAVED

    async def test_initial_content_is_not_wanted_where_something_is_stored(self) -> None:
        """Stored content, even of an empty store, stands."""
        persister = MemoryPersister(new_store(), EMPTY)
        await persister.load(({"t": {"r": {"c": 1}}}, {}))
        assert persister.store.get_content() == ({}, {})

    @pytest.mark.parametrize("persister_type", [MemoryPersister, IncrementalPersister])
    async def test_what_the_store_held_before_is_unsaved(self, persister_type: type[MemoryPersister]) -> None:
        """Storage that is empty lacks all that the store held."""
        persister = persister_type(pet_store())
        await persister.start_auto_persisting()
        assert persister.saved[0][:2] == CONTENT

    @pytest.mark.parametrize("persister_type", [MemoryPersister, IncrementalPersister])
    async def test_writes_while_loading_are_kept(self, persister_type: type[MemoryPersister]) -> None:
        """What is written between the call and the answer of storage is neither replaced nor forgotten."""
        persister = persister_type(new_store("s2"), CONTENT)
        persister.gate.clear()
        load = asyncio.create_task(persister.start_auto_persisting())
        await settle()
        assert persister.status.value == PersisterStatus.LOADING
        persister.store.set_value("mine", 1)
        persister.gate.set()
        await load
        assert persister.store.get_values() == {**pet_store().get_values(), "mine": 1}
        assert persister.saved[-1][1][0]["mine"][0] == 1

    @pytest.mark.parametrize("stored", [{}, "text", 1, [], [[]], [[{}, "", 0], [{}]], [1, 2], [{}, {}, {}, {}]])
    async def test_what_is_no_content_is_refused(self, stored: Any) -> None:
        """Something stored that is not content fails the load, is kept aside, and nothing is ever saved over it."""
        persister = MemoryPersister(new_store(), stored)
        with pytest.raises(LoadError, match="not content") as caught:
            await persister.load()
        assert caught.value.path_id == "p"
        assert persister.kept_aside == 1
        assert persister.status.value == PersisterStatus.LOAD_FAILED
        persister.store.set_value("v", 1)
        for save in (persister.save, persister.flush, persister.start_auto_save):
            with pytest.raises(SaveError, match="before a load"):
                await save()
        await persister.destroy()
        assert persister.saved == []

    async def test_a_future_stamp_is_refused(self) -> None:
        """A clock that is behind refuses its own file, and keeps it."""
        ahead = new_store("s2", NOW + 300_001).set_value("v", 1)
        persister = MemoryPersister(new_store(), ahead.get_mergeable_content())
        with pytest.raises(LoadError) as caught:
            await persister.load()
        assert isinstance(caught.value.__cause__, ClockDriftError)
        assert persister.kept_aside == 1

    async def test_passing_trouble(self) -> None:
        """A load that fails once saves nothing, and works the next time (pains M4)."""
        persister = MemoryPersister(new_store(), CONTENT)
        persister.load_trouble = [TimeoutError("database")]
        with pytest.raises(LoadError, match="TimeoutError: database"):
            await persister.start_auto_persisting()
        assert persister.kept_aside == 0
        assert not persister.is_auto_loading
        assert not persister.is_auto_saving
        await persister.start_auto_persisting()
        assert persister.store.get_mergeable_content() == CONTENT
        assert persister.saved == []
        assert persister.stats.failed_loads == 1
        await persister.destroy()

    async def test_a_listener_that_fails_does_not_fail_the_load(self) -> None:
        """The store has taken the content; the application's error is reported."""
        persister = MemoryPersister(new_store("s2"), CONTENT)

        def fail(_: MergeableStore) -> None:
            raise ZeroDivisionError

        persister.store.add_did_finish_transaction_listener(fail)
        await persister.load()
        assert persister.store.get_mergeable_content() == CONTENT
        assert [type(error) for error in persister.errors] == [ZeroDivisionError]

    async def test_a_listener_that_fails_on_initial_content(self) -> None:
        """The same, where nothing is stored."""
        persister = MemoryPersister(new_store("s2"))

        def fail(_: MergeableStore) -> None:
            raise ZeroDivisionError

        persister.store.add_did_finish_transaction_listener(fail)
        await persister.load(({}, {"v": 1}))
        assert persister.store.get_value("v") == 1
        assert [type(error) for error in persister.errors] == [ZeroDivisionError]

    async def test_a_listener_that_writes_during_the_load(self) -> None:
        """What a mutating listener adds while content is loaded is unsaved."""
        persister = MemoryPersister(new_store("s2"), CONTENT)
        persister.store.add_values_listener(lambda store: store.set_value("added", 1), True)
        await persister.load()
        assert persister.store.get_value("added") == 1
        assert persister.status.value == PersisterStatus.UNSAVED

    async def test_a_failing_copy_is_told(self) -> None:
        """Where the unreadable data cannot be copied, the error says so too."""

        class Full(MemoryPersister):
            async def _keep_aside(self) -> None:
                raise OSError("disk full")

        with pytest.raises(LoadError, match="no copy of it could be made: OSError: disk full"):
            await Full(new_store(), "text").load()


class TestEdits:
    async def test_an_edit_is_merged(self) -> None:
        """What others store is merged as it comes; what they lack is not deleted, and is saved again."""
        persister = MemoryPersister(new_store("s2"), CONTENT)
        await persister.start_auto_persisting()
        persister.edits.append(new_store("s3").set_value("theirs", 1).get_mergeable_content())
        persister.edited.set()
        await until(lambda: persister.saved)
        assert persister.store.get_values() == {**pet_store().get_values(), "theirs": 1}
        assert set(persister.saved[-1][1][0]) == {*pet_store().get_values(), "theirs"}
        await persister.destroy()

    async def test_an_edit_equal_to_the_store_is_not_saved(self) -> None:
        """Two servers on one file do not write it to and fro."""
        persister = MemoryPersister(new_store("s2"), CONTENT)
        await persister.start_auto_persisting()
        persister.edits.append(CONTENT)
        persister.edited.set()
        await until(lambda: not persister.edits)
        await settle(0.05)
        assert persister.saved == []
        await persister.destroy()

    async def test_a_save_merges_first(self) -> None:
        """What others have stored by then is in what is saved, auto-load or not."""
        persister = MemoryPersister(new_store("s2"), CONTENT)
        await persister.load()
        persister.edits.append(new_store("s3").set_value("theirs", 1).get_mergeable_content())
        persister.store.set_value("mine", 1)
        await persister.flush()
        assert {"mine", "theirs"} <= set(persister.saved[-1][1][0])

    async def test_an_unreadable_edit_is_reported_and_saving_goes_on(self) -> None:
        """The subclass keeps it aside; the store's own data is not held up."""
        persister = MemoryPersister(new_store("s2"), CONTENT)
        await persister.start_auto_persisting()
        persister.edits.append(ValueError("half a file"))
        persister.edited.set()
        await until(lambda: persister.errors)
        assert persister.kept_aside == 1
        assert [type(error.__cause__) for error in persister.errors] == [ValueError]
        persister.edits.append(ValueError("half a file"))
        persister.store.set_value("mine", 1)
        await persister.flush()
        assert persister.kept_aside == 2
        assert "mine" in persister.saved[-1][1][0]
        await persister.destroy()

    async def test_a_save_waits_until_storage_can_be_looked_at(self) -> None:
        """What cannot be looked at is not written over."""
        persister = MemoryPersister(new_store("s2"), CONTENT)
        await persister.load()
        persister.store.set_value("mine", 1)
        persister.edits = [OSError("no"), OSError("no"), OSError("no")]
        with pytest.raises(SaveError, match="OSError: no"):
            await persister.flush()
        assert persister.saved == []
        await persister.flush()
        assert len(persister.saved) == 1

    async def test_stop_auto_load(self) -> None:
        """Nothing is merged any more as it comes."""
        persister = MemoryPersister(new_store("s2"), CONTENT)
        await persister.start_auto_load()
        await persister.start_auto_load()
        assert persister.is_auto_loading
        persister.stop_auto_load()
        persister.edits.append(new_store("s3").set_value("theirs", 1).get_mergeable_content())
        persister.edited.set()
        await settle(0.05)
        assert not persister.store.has_value("theirs")
        await persister.destroy()


class TestSaving:
    async def test_each_change_is_saved(self) -> None:
        """Auto-save hands over the whole content after a change."""
        persister = MemoryPersister(new_store())
        await persister.start_auto_persisting()
        assert persister.saved == []
        persister.store.set_value("v", 1)
        assert persister.status.value == PersisterStatus.UNSAVED
        await settle()
        assert persister.saved == [persister.store.get_mergeable_content()]
        assert persister.status.value == PersisterStatus.IDLE
        await persister.destroy()

    async def test_changes_only(self) -> None:
        """An incremental persister gets the stamps that changed, tombstones and merged ones included."""
        persister = IncrementalPersister(new_store("s2"), _changes(CONTENT))
        await persister.start_auto_persisting()
        persister.store.set_value("v", 1)
        persister.store.del_cell("pets", "fido", "species")
        persister.store.apply_mergeable_changes([[{}], [{"w": [1, "Nn1JUF-----zzzzz"]}], 1])
        await settle()
        [changes] = persister.saved
        assert set(changes[1][0]) == {"v", "w"}
        assert changes[0][0]["pets"][0]["fido"][0]["species"][0] == "\ufffc"
        await persister.destroy()

    async def test_what_was_loaded_is_not_saved_again(self) -> None:
        """Loading changes leaves nothing unsaved."""
        loaded = IncrementalPersister(new_store("s2"))
        loaded.stored = _changes(CONTENT)
        await loaded.start_auto_persisting()
        assert loaded.status is PersisterStatus.IDLE
        assert loaded.saved == []
        await loaded.destroy()

    async def test_a_transaction_without_effect_is_not_saved(self) -> None:
        """No stamp changed, so there is nothing to store."""
        persister = MemoryPersister(new_store("s2"), CONTENT)
        await persister.start_auto_persisting()
        persister.store.set_value("open", True)
        await settle()
        assert persister.saved == []
        await persister.destroy()

    async def test_a_change_during_a_save_is_saved(self) -> None:
        """It leads to another save, also when the persister is destroyed right then (surprise 11)."""
        persister = MemoryPersister(new_store())
        await persister.start_auto_persisting()
        persister.gate.clear()
        persister.store.set_value("v", 1)
        await settle()
        assert persister.status.value == PersisterStatus.SAVING
        persister.store.set_value("v", 2)
        destruction = asyncio.create_task(persister.destroy())
        await settle()
        persister.gate.set()
        await destruction
        assert [body[1][0]["v"][0] for body in persister.saved] == [1, 2]

    async def test_a_failing_save_is_reported_and_tried_again(self) -> None:
        """The data is kept in memory until it is stored."""
        persister = IncrementalPersister(new_store())
        await persister.start_auto_persisting()
        persister.save_trouble = [OSError("full"), OSError("full")]
        persister.store.set_value("v", 1)
        await settle()
        assert persister.status.value == PersisterStatus.SAVE_FAILED
        persister.store.set_value("w", 1)
        await until(lambda: persister.status.value == PersisterStatus.IDLE)
        assert [str(error) for error in persister.errors] == ["cannot save: OSError: full"] * 2
        assert set(persister.stored[1][0]) == {"v", "w"}
        assert persister.stats.failed_saves == 2
        await persister.destroy()

    async def test_a_newer_stamp_is_not_replaced_by_one_put_back(self) -> None:
        """Of a cell that was changed while its save failed, the newer stamp is saved."""
        persister = IncrementalPersister(new_store())
        await persister.load()
        persister.store.set_value("v", 1)
        persister.save_trouble = [OSError("full")]
        persister.gate.clear()
        save = asyncio.create_task(persister.flush())
        await settle()
        persister.store.set_value("v", 2)
        persister.gate.set()
        await save
        assert persister.saved[-1][1][0]["v"][0] == 2

    async def test_flush_gives_up(self) -> None:
        """After three attempts flush says what is wrong; the data is still there for the next."""
        persister = MemoryPersister(new_store())
        await persister.load()
        persister.store.set_value("v", 1)
        persister.save_trouble = [OSError("full")] * 3
        with pytest.raises(SaveError, match="full") as caught:
            await persister.flush()
        assert isinstance(caught.value.__cause__, OSError)
        assert persister.save_trouble == []
        await persister.flush()
        assert persister.saved[-1][1][0]["v"][0] == 1

    async def test_many_flushes_share_a_save(self) -> None:
        """A thousand waiters cost two saves: the one that runs, and the one after."""
        persister = MemoryPersister(new_store())
        await persister.load()
        persister.gate.clear()

        async def write(number: int) -> None:
            persister.store.set_value(f"v{number}", number)
            await persister.flush()

        writes = [asyncio.create_task(write(number)) for number in range(1000)]
        await settle()
        persister.gate.set()
        await asyncio.gather(*writes)
        assert len(persister.saved) <= 2
        assert len(persister.stored[1][0]) == 1000

    async def test_a_cancelled_flush_does_not_tear_the_save(self) -> None:
        """Others wait for it; it goes on."""
        persister = MemoryPersister(new_store())
        await persister.load()
        persister.store.set_value("v", 1)
        persister.gate.clear()
        first, second = asyncio.create_task(persister.flush()), asyncio.create_task(persister.flush())
        await settle()
        first.cancel()
        await settle()
        persister.gate.set()
        await second
        assert first.cancelled()
        assert len(persister.saved) == 1

    async def test_nobody_waits_for_a_failing_save(self) -> None:
        """It is reported all the same, and nothing is left unretrieved."""
        persister = MemoryPersister(new_store())
        await persister.load()
        persister.store.set_value("v", 1)
        persister.save_trouble = [OSError("full")]
        persister.gate.clear()
        flush = asyncio.create_task(persister.flush())
        await settle()
        flush.cancel()
        persister.gate.set()
        await settle()
        assert [type(error) for error in persister.errors] == [SaveError]

    async def test_save_always_saves(self) -> None:
        """Asked for explicitly, even an empty store is stored."""
        persister = MemoryPersister(new_store())
        await persister.load()
        await persister.flush()
        assert persister.saved == []
        await persister.save()
        assert persister.saved == [EMPTY]

    async def test_a_burst_is_one_save(self) -> None:
        """Saves wait until a burst is over, but not longer than their bound."""

        class Debounced(MemoryPersister):
            debounce_seconds = 0.03
            debounce_max_seconds = 0.1

        persister = Debounced(new_store())
        await persister.start_auto_persisting()
        for number in range(5):
            persister.store.set_value("v", number)
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.06)
        assert len(persister.saved) == 1
        for number in range(16):
            persister.store.set_value("w", number)
            await asyncio.sleep(0.01)
        assert len(persister.saved) >= 2
        await persister.destroy()

    @pytest.mark.parametrize(("cap_seconds", "is_saved"), [(3600.0, False), (0.002, True)])
    async def test_slow_saves_are_rare(
        self, cap_seconds: float, is_saved: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After a save that took long, the next one waits as long, but for no more than a bound; a flush does not."""

        class Slow(MemoryPersister):
            debounce_seconds = 0.001
            debounce_max_seconds = 0.001

        monkeypatch.setattr(saving, "SAVE_DEBOUNCE_CAP_SECONDS", cap_seconds)
        persister = Slow(new_store())
        await persister.start_auto_persisting()
        persister._save_seconds = 3600.0
        persister.store.set_value("v", 1)
        if is_saved:
            await until(lambda: len(persister.saved) == 1)
        else:
            await asyncio.sleep(0.05)
            assert persister.saved == []
            await persister.flush()
            assert len(persister.saved) == 1
        assert persister._save_seconds < 3600.0
        await persister.destroy()

    async def test_stop_auto_save(self) -> None:
        """Changes are no longer saved by themselves; flush still saves them, and destroy does not."""
        persister = MemoryPersister(new_store())
        await persister.start_auto_persisting()
        persister.store.set_value("v", 1)
        persister.stop_auto_persisting()
        await settle()
        assert persister.saved == []
        await persister.flush()
        assert len(persister.saved) == 1
        persister.store.set_value("v", 2)
        await persister.destroy()
        assert len(persister.saved) == 1


class TestWaitingForASave:
    async def loaded(self) -> MemoryPersister:
        """One that saves by itself."""
        persister = MemoryPersister(new_store())
        await persister.start_auto_persisting()
        return persister

    async def test_nothing_to_save(self) -> None:
        """There is nothing to wait for."""
        persister = await self.loaded()
        await persister.wait_saved()
        assert persister.stats.saves == 0
        await persister.destroy()

    async def test_what_is_unsaved(self) -> None:
        """It waits for the save that comes by itself, and does not bring it about."""
        persister = await self.loaded()
        persister.debounce_seconds = 3600  # type: ignore[misc]
        persister.debounce_max_seconds = 3600  # type: ignore[misc]
        persister.store.set_value("v", 1)
        waiting = asyncio.create_task(persister.wait_saved())
        await settle()
        assert not waiting.done()
        await persister.flush()
        await asyncio.wait_for(waiting, 5)
        await persister.destroy()

    async def test_a_save_under_way(self) -> None:
        """What it has taken already is waited for, too."""
        persister = await self.loaded()
        persister.gate.clear()
        persister.store.set_value("v", 1)
        await until(lambda: persister.running)
        waiting = asyncio.create_task(persister.wait_saved())
        await settle()
        assert not waiting.done()
        persister.gate.set()
        await asyncio.wait_for(waiting, 5)
        assert len(persister.saved) == 1
        await persister.destroy()

    @pytest.mark.parametrize("late", [False, True])
    async def test_a_save_that_fails(self, late: bool) -> None:
        """It waits until a later one succeeds, whether it came before the save began or while it ran."""
        persister = await self.loaded()
        persister.save_trouble = [OSError("disk"), OSError("disk")]
        persister.gate.clear()
        persister.store.set_value("v", 1)
        if late:
            await until(lambda: persister.running)
        waiting = asyncio.create_task(persister.wait_saved())
        await settle()
        persister.gate.set()
        await asyncio.wait_for(waiting, 5)
        assert (persister.stats.failed_saves, persister.stored[1][0]["v"][0]) == (2, 1)
        await persister.destroy()

    async def test_nobody_saves(self) -> None:
        """Without auto-save, or when it ends first, that is told; a waiter that was cancelled is left alone."""
        persister = MemoryPersister(new_store())
        await persister.load()
        with pytest.raises(SaveError, match="without auto-save"):
            await persister.wait_saved()
        persister.debounce_seconds = 3600  # type: ignore[misc]
        persister.debounce_max_seconds = 3600  # type: ignore[misc]
        await persister.start_auto_save()
        persister.store.set_value("v", 1)
        cancelled, waiting = [asyncio.create_task(persister.wait_saved()) for _ in range(2)]
        await settle()
        cancelled.cancel()
        await settle()
        persister.stop_auto_save()
        with pytest.raises(SaveError, match="stopped"):
            await waiting
        await persister.destroy()
        with pytest.raises(PersisterError, match="destroyed"):
            await persister.wait_saved()


class TestTheEnd:
    async def test_destroy_saves_and_leaves_nothing(self) -> None:
        """No task, no listener; a second call changes nothing."""
        before = asyncio.all_tasks()
        persister = MemoryPersister(new_store())
        await persister.start_auto_persisting()
        persister.store.set_value("v", 1)
        await asyncio.gather(persister.destroy(), persister.destroy())
        await persister.destroy()
        assert persister.closed == 1
        assert persister.stored[1][0]["v"][0] == 1
        assert persister.status.value == PersisterStatus.DESTROYED
        assert asyncio.all_tasks() == before
        assert not any(persister.store.get_listener_stats().values())

    async def test_what_is_written_while_destroying(self) -> None:
        """It is saved as long as the first save of the end runs."""
        persister = MemoryPersister(new_store())
        await persister.start_auto_persisting()
        persister.gate.clear()
        persister.store.set_value("v", 1)
        destruction = asyncio.create_task(persister.destroy())
        await settle()
        persister.store.set_value("v", 2)
        persister.gate.set()
        await destruction
        assert persister.stored[1][0]["v"][0] == 2

    async def test_destroy_tells_what_is_not_stored(self) -> None:
        """After three attempts it raises, and has let go of everything all the same."""
        persister = MemoryPersister(new_store())
        await persister.start_auto_persisting()
        persister.save_trouble = [OSError("full")] * 10
        persister.store.set_value("v", 1)
        with pytest.raises(SaveError):
            await persister.destroy()
        with pytest.raises(SaveError):
            await persister.destroy()
        assert persister.closed == 1

    async def test_a_failing_close_is_reported(self) -> None:
        """Nothing is swallowed."""

        class Stuck(MemoryPersister):
            async def _close(self) -> None:
                raise OSError("stuck")

        persister = Stuck(new_store())
        await persister.destroy()
        assert [str(error) for error in persister.errors] == ["stuck"]

    async def test_use_after_the_end(self) -> None:
        """Every use is refused."""
        persister = MemoryPersister(new_store())
        await persister.destroy()
        uses = (persister.load, persister.save, persister.flush, persister.start_auto_load, persister.start_auto_save)
        for use in uses:
            with pytest.raises(PersisterError, match="destroyed"):
                await use()

    async def test_cancelling_destroy_does_not_stop_it(self) -> None:
        """The end is reached even if nobody waits for it."""
        persister = MemoryPersister(new_store())
        await persister.start_auto_persisting()
        persister.store.set_value("v", 1)
        persister.gate.clear()
        destruction = asyncio.create_task(persister.destroy())
        await settle()
        destruction.cancel()
        await settle()
        persister.gate.set()
        await persister.destroy()
        assert len(persister.saved) == 1
        assert persister.closed == 1


async def test_errors_go_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """By default nobody has to listen for an error to be seen; a handler that fails is logged, too."""
    persister = MemoryPersister(new_store())
    persister.on_ignored_error = log_error
    await persister.load()
    persister.save_trouble = [OSError("full"), OSError("full")]
    with caplog.at_level(logging.ERROR, "mergesync"), pytest.raises(SaveError):
        await persister.save()
    assert "cannot save: OSError: full" in caplog.text

    def fail(_: Exception) -> None:
        raise ZeroDivisionError("in the handler")

    persister.on_ignored_error = fail
    with pytest.raises(SaveError):
        await persister.save()
    assert "in the handler" in caplog.text


def _changes(content: Any) -> Any:
    """Content as changes, without hashes."""

    def strip(stamp: Any, depth: int) -> Any:
        thing = {key: strip(child, depth - 1) for key, child in stamp[0].items()} if depth else stamp[0]
        return [thing, stamp[1]] if stamp[1] else [thing]

    return [strip(content[0], 3), strip(content[1], 1), 1]
