"""A hub with a reviewer, in any order of events: at rest all hold the same, and nobody ever got what was refused."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from mergesync.store import MergeableStore
from mergesync.sync.admission import Place
from mergesync.sync.admission import leaves_of as leaves_in
from mergesync.sync.hub import Hub
from mergesync.sync.review import Proposal, Verdict, without
from tests.network import Peer

from .test_hub_machine import PATH, HubMachine, LeafKey, leaves_of

REFUSED, EDITED = "text", 2
"""What the judge does not want, and what it writes otherwise."""


class Judge:
    """Refuses and edits by value, at once or when it is told to; in order."""

    def __init__(self, hubs: dict[str, Hub]) -> None:
        self.takes_its_time = False
        self.waiting: list[tuple[Hub, Proposal]] = []
        self.hubs = hubs
        self.refused: set[tuple[LeafKey, str]] = set()

    def review(self, proposal: Proposal) -> Verdict | None:
        """Decide, unless others wait."""
        if self.takes_its_time or self.waiting:
            self.waiting.append((self.hubs[PATH], proposal))
            return None
        return self.verdict(proposal)

    def verdict(self, proposal: Proposal) -> Verdict:
        """What becomes of a proposal."""
        refused: dict[Place, dict[str, str]] = {}
        instead: dict[Place, dict[str, Any]] = {}
        for leaf, stamp in leaves_in(proposal.body):
            hlc = stamp[1] if len(stamp) > 1 else ""
            if hlc and stamp[0] in (REFUSED, EDITED) and stamp[0] is not True:
                refused.setdefault(leaf[:2], {})[leaf[2]] = hlc
                self.refused.add((leaf, hlc))
                if stamp[0] == EDITED:
                    instead.setdefault(leaf[:2], {})[leaf[2]] = 1
        return Verdict(without(proposal.body, refused) if refused else proposal.body, refused, instead, ("no",))


class ReviewedHubMachine(HubMachine):
    """As `HubMachine`, with a judge between what clients say and the replica."""

    def __init__(self) -> None:
        super().__init__()
        self.judge = Judge({})

    def add_client(self, *arguments: Any, **options: Any) -> None:
        """With the judge before the first path begins; what clients are given is watched."""
        self.judge.hubs = self.network.hubs
        self.network.reviewer = self.judge
        super().add_client(*arguments, **options)
        peer = self.clients[-1].peer
        self.watch(peer)

    def watch(self, peer: Peer) -> None:
        """Whatever is merged into a client's store has passed the judge, or was written by the server itself."""

        def look(store: MergeableStore) -> None:
            if peer.core.origin is not None:
                for key, _, hlc in leaves_of(peer.core.origin.body):
                    assert (key, hlc) not in self.judge.refused, (key, hlc)

        peer.store.add_did_finish_transaction_listener(look)

    @rule(takes_its_time=st.booleans())
    def take_time(self, takes_its_time: bool) -> None:
        """The judge decides at once from now on, or later."""
        self.judge.takes_its_time = takes_its_time

    @rule(count=st.integers(1, 3))
    def decide(self, count: int) -> None:
        """The judge decides of what has waited longest."""
        decided, self.judge.waiting = self.judge.waiting[:count], self.judge.waiting[count:]
        for hub, proposal in decided:
            if hub is self.network.hubs.get(PATH):  # the other is gone, and so its clients: they offer it again
                hub.reviewed(proposal, self.judge.verdict(proposal), self.network.now)

    def come_to_rest(self) -> None:
        """Everything is decided, too."""
        super().come_to_rest()
        while self.judge.waiting:
            self.decide(len(self.judge.waiting))
            super().come_to_rest()

    def check_winners(self, content: Any) -> None:
        """Nothing that was refused is on the server."""
        for key, _, hlc in leaves_of(content):
            assert (key, hlc) not in self.judge.refused, (key, hlc)


def test_a_hub_with_a_reviewer() -> None:
    """All come to hold the same, whatever happens, and whenever it is decided."""
    run_state_machine_as_test(ReviewedHubMachine)
