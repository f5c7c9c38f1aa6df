"""The review of what clients want to change: nothing is merged or passed on before it, and then just what it lets."""

from __future__ import annotations

from typing import Any

import pytest

from mergesync.exceptions import RefusedChangesError
from mergesync.store import MergeableStore
from mergesync.store.jsjson import dumps
from mergesync.sync import intake
from mergesync.sync.admission import ByRow, leaves_of, rows_of
from mergesync.sync.hub import Hub
from mergesync.sync.messages import MessageType
from mergesync.sync.review import Proposal, Verdict, rulings, without
from tests.network import Ids

from .kit import Exits, cell_changes, hlc, new_store, value_changes
from .test_hub import heard_frame, payload, payload_of

DIFF, HASHES = MessageType.CONTENT_DIFF, MessageType.CONTENT_HASHES
NOTHING = [[{}], [{}], 1]
LAST = "z" * 16


class Judge:
    """A reviewer that does what it is told, at once or later."""

    def __init__(self) -> None:
        self.proposals: list[Proposal] = []
        self.later = False
        self.refuses = ""
        self.instead: dict[Any, Any] = {}
        self.corrects = True
        self.reasons: tuple[str, ...] = ("because",)

    def review(self, proposal: Proposal) -> Verdict | None:
        """Decide."""
        self.proposals.append(proposal)
        return None if self.later else self.verdict(proposal)

    def verdict(self, proposal: Proposal) -> Verdict:
        """Refuse the leaves of one name."""
        refused = {
            (table_id, row_id): {self.refuses: row[self.refuses][1]}
            for table_id, row_id, row in rows_of(proposal.body)
            if self.refuses in row
        }
        taken = without(proposal.body, refused) if refused else proposal.body
        return Verdict(taken, refused, self.instead, self.reasons, self.corrects)


class Path:
    """A hub with a reviewer."""

    def __init__(self, *client_ids: str, store: MergeableStore | None = None, blind: str = "") -> None:
        self.judge, self.exits, self.store = Judge(), Exits(), store or new_store("server")
        self.hub = Hub(
            "p",
            self.exits,
            relay=False,
            request_timeout_seconds=1.0,
            fragment_size=None,
            new_id=Ids(),
            reviewer=self.judge,
        )
        for client_id in client_ids:
            self.hub.join(client_id, reads=client_id != blind)
        self.hub.ready(self.store, 0.0)

    def hear(self, client_id: str, kind: MessageType, body: Any, request_id: str = "r") -> None:
        """A client says something."""
        self.hub.receive(client_id, "", payload(kind, body, request_id), 0.0)

    def take(self) -> list[tuple[tuple[str, ...], str, int, Any]]:
        """What was sent since the last time: to whom, sender, type, body."""
        return [(to, frame.split("\n")[0], *heard_frame(frame)[1:]) for to, frame in self.exits.take()]

    def answer(self, client_id: str, body: Any) -> None:
        """A client answers the last question."""
        request_id = heard_frame(self.exits.sent[-1][1])[0]
        self.hear(client_id, MessageType.RESPONSE, body, request_id)

    def conclude(self, number: int = 0) -> None:
        """A verdict that was waited for."""
        proposal = self.judge.proposals[number]
        self.hub.reviewed(proposal, self.judge.verdict(proposal), 0.0)


def stamps(store: MergeableStore) -> dict[Any, Any]:
    """All leaves of a store."""
    return dict(leaves_of(store.get_mergeable_content()))


# --- at once


def test_what_passes_goes_on_as_it_came() -> None:
    """The bytes of the client, to the others."""
    path = Path("A", "B")
    body = value_changes(v=[1, hlc(1)])
    path.hear("A", DIFF, body)
    assert path.take() == [(("B",), "A", 3, body)]
    ((proposal,),) = (path.judge.proposals,)
    assert (proposal.sender, proposal.body, proposal.pulled) == ("A", body, False)
    assert path.exits.errors == []


def test_what_is_old_already_is_not_passed_on() -> None:
    """Nobody was asked about it, so nobody hears of it (simulator, seed 422 of rooms)."""
    path = Path("A", "B")
    path.hear("B", DIFF, value_changes(v=["newer", hlc(3)]))
    path.take()
    path.hear("A", DIFF, value_changes(v=["smuggled", hlc(1)], w=["good", hlc(2)]))
    ((to, sender, kind, body),) = path.take()
    assert (to, sender, kind) == (("B",), "S", 3)
    assert body[1][0] == {"w": ["good", hlc(2)]}
    assert path.store.get_values() == {"v": "newer", "w": "good"}


def test_what_is_refused_is_answered_to_all_under_a_newer_stamp() -> None:
    """Nobody gets the refused value; what else was in the frame goes on; it is reported once."""
    path = Path("A", "B", store=new_store("server").set_value("v", "kept"))
    path.judge.refuses = "v"
    path.hear("A", DIFF, value_changes(v=["bad", hlc(1, 10)], w=["good", hlc(2)]))
    (to_others, to_sender) = path.take()
    assert (to_others[0], to_sender[0]) == (("B",), ("A",))
    assert to_others[3][1][0]["w"] == ["good", hlc(2)]
    assert to_others[3][1][0]["v"][0] == "kept"
    assert to_others[3][1][0]["v"][1] > hlc(1, 10)
    assert to_sender[3][1][0] == {"v": to_others[3][1][0]["v"]}
    assert path.store.get_values() == {"v": "kept", "w": "good"}
    (error,) = path.exits.errors
    assert isinstance(error, RefusedChangesError)
    assert (error.count, error.reasons, error.path_id, error.client_id) == (1, ("because",), "p", "A")


def test_what_is_refused_whole_is_answered_to_all_at_once() -> None:
    """Nothing of it is for the others alone, so that one message does."""
    path = Path("A", "B", store=new_store("server").set_value("v", "kept"))
    path.judge.refuses = "v"
    path.hear("A", DIFF, value_changes(v=["bad", hlc(1, 10)]))
    ((to, sender, kind, body),) = path.take()
    assert (to, sender, kind) == (("A", "B"), "S", 3)
    assert body[1][0]["v"][0] == "kept"
    path = Path("A", "B", blind="A")
    path.judge.refuses = "v"
    path.hear("A", DIFF, value_changes(v=["bad", hlc(1, 10)]))
    ((to, *_),) = path.take()
    assert to == ("B",)


def test_what_is_written_instead() -> None:
    """Another value for a refused cell, and a cell that nobody has named; in one transaction."""
    path = Path("A", "B")
    path.judge.refuses, path.judge.instead = "a", {("t", "r"): {"a": 2, "by": "me"}}
    transactions: list[Any] = []
    path.store.add_did_finish_transaction_listener(lambda store: transactions.append(store.get_tables()))
    path.hear("A", DIFF, cell_changes("t", "r", a=[1, hlc(1)], b=[1, hlc(1)]))
    assert transactions == [{"t": {"r": {"a": 2, "b": 1, "by": "me"}}}]
    assert path.exits.errors == []  # what was put right is no refusal
    others, sender = path.take()
    assert others[3][0][0]["t"][0]["r"][0].keys() == {"a", "b", "by"}
    assert sender[3][0][0]["t"][0]["r"][0].keys() == {"a", "by"}


def test_an_addition_to_what_goes_on_as_it_came() -> None:
    """The bytes of the client, then what was written here, to the others; the client gets only that."""
    path = Path("A", "B")
    path.judge.instead = {(None, ""): {"w": 2}}
    body = value_changes(v=[1, hlc(1)])
    path.hear("A", DIFF, body)
    as_it_came, beyond, to_sender = path.take()
    assert as_it_came == (("B",), "A", 3, body)
    assert (beyond[0], to_sender[0]) == (("B",), ("A",))
    assert beyond[3] == to_sender[3]
    assert beyond[3][1][0]["w"][0] == 2


def test_who_is_not_corrected_keeps_its_own() -> None:
    """Nothing is said to anybody, and the client is told that not all it has is merged."""
    path = Path("A", "B")
    path.judge.refuses, path.judge.corrects = "v", False
    merged: list[bool] = []
    path.hear("A", DIFF, value_changes(v=[1, hlc(1)]))
    path.hub.when_merged("A", merged.append)
    path.hub.when_merged("B", merged.append)
    assert (path.take(), merged, len(path.exits.errors)) == ([], [False, True], 1)
    path.hub.leave("A")
    path.hub.join("A")
    path.hub.when_merged("A", merged.append)
    assert merged == [False, True, True]


def test_what_is_offered_again_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that keeps what was refused offers it whenever it compares; only so much of that is remembered."""
    monkeypatch.setattr(intake, "MAX_LEAVES_REJECTED", 1)
    path = Path("A", "B")
    path.judge.refuses, path.judge.corrects = "v", False
    for body in (value_changes(v=[1, hlc(1)]), value_changes(v=[1, hlc(1)]), value_changes(v=[2, hlc(2)])):
        path.hear("A", DIFF, body)
    path.hear("A", DIFF, cell_changes("t", "r", v=[1, hlc(1)]))
    path.hear("B", DIFF, value_changes(v=[1, hlc(1)]))
    path.hear("B", DIFF, value_changes(w=[1, hlc(1)]))
    assert [(error.client_id, error.count) for error in path.exits.errors] == [("A", 1), ("A", 1), ("A", 1), ("B", 1)]  # type: ignore[attr-defined]


def test_what_was_reported_already_is_not_again() -> None:
    """A verdict without reasons."""
    path = Path("A", "B")
    path.judge.refuses, path.judge.reasons = "v", ()
    path.hear("A", DIFF, value_changes(v=[1, hlc(1)]))
    assert path.exits.errors == []
    assert path.store.get_values() == {}


def pulled(path: Path, **leaves: Any) -> None:
    """A client announces values, is asked, and answers."""
    path.hear("A", HASHES, [0, 123])
    path.answer("A", [leaves])


@pytest.mark.parametrize("later", [False, True])
def test_a_pull_is_one_proposal(later: bool) -> None:
    """Refused or taken, at once or later, the client ends equal."""
    path = Path("A", "B")
    path.judge.refuses, path.judge.later = "v", later
    pulled(path, v=[1, hlc(1)], w=[1, hlc(1)])
    (proposal,) = path.judge.proposals
    assert proposal.pulled
    if later:
        assert path.store.get_values() == {}
        assert path.hub.unanswered == 1
        path.conclude()
    assert path.hub.unanswered == 0
    assert path.store.get_values() == {"w": 1}
    given = [body for to, _, kind, body in path.take() if to == ("A",) and kind == 3]
    assert [list(body[1][0]) for body in given] == [["v"]]


def test_containers_of_a_pull_and_what_was_written_instead() -> None:
    """What is said of containers goes on, and so does what was decided here (nobody else would hear of it)."""
    path = Path("A", "B")
    path.judge.instead = {(None, ""): {"w": 2}}
    path.hear("A", HASHES, [123, 0])
    path.answer("A", [[{"t": [{"r": [{"c": [1, hlc(1)]}, hlc(2)]}]}], {}])
    bodies = [body for to, _, kind, body in path.take() if to == ("B",) and kind == 3]
    assert [dumps(body) for body in bodies if body[0][0]] == [
        dumps([[{"t": [{"r": [{"c": [1, hlc(1)]}, hlc(2)]}]}], [{}], 1])
    ]
    assert [body[1][0]["w"][0] for body in bodies if body[1][0]] == [2]


# --- later


def test_nothing_happens_until_it_is_decided() -> None:
    """Not in the store, not to others, and who asks whether all is merged has to wait."""
    path = Path("A", "B")
    path.judge.later = True
    merged: list[bool] = []
    body = value_changes(v=[1, hlc(1)])
    path.hear("A", DIFF, body)
    path.hub.when_merged("A", merged.append)
    path.hub.when_merged("B", merged.append)
    assert (path.store.get_values(), path.take(), merged) == ({}, [], [True])
    path.conclude()
    assert path.store.get_values() == {"v": 1}
    assert merged == [True, True]
    assert path.take() == [(("B",), "S", 3, body)]


def test_another_value_gets_the_same_stamp_meanwhile() -> None:
    """Two defaults, each of which was new when it was proposed: the first stays, and both clients end with it."""
    path = Path("A", "B")
    path.judge.later = True
    for client_id, value in (("A", 1), ("B", 2)):
        path.hear(client_id, DIFF, value_changes(v=[value]))
    path.conclude(0)
    path.take()
    path.conclude(1)
    ((to, _, _, body),) = path.take()
    assert to == ("A", "B")
    assert body[1][0]["v"][0] == 1
    assert body[1][0]["v"][1] > ""


def test_a_client_that_is_gone_by_then() -> None:
    """What it has said counts; it is not spoken to."""
    path = Path("A", "B")
    path.judge.later, path.judge.refuses = True, "v"
    path.hear("A", DIFF, value_changes(v=[1, hlc(1)], w=[1, hlc(1)]))
    path.hub.leave("A")
    path.conclude()
    assert path.store.get_values() == {"w": 1}
    assert {to for to, *_ in path.take()} == {("B",)}


def test_a_pull_of_a_client_that_is_gone_by_then() -> None:
    """It is merged all the same, and nothing waits for it any more, also if the client has come back."""
    path = Path("A", "B")
    path.judge.later = True
    pulled(path, v=[1, hlc(1)])
    path.hub.leave("A")
    assert path.hub.unanswered == 0
    path.hub.join("A")
    path.take()
    path.hear("A", HASHES, [0, 77])
    assert [kind for _, _, kind, _ in path.take()] == [int(MessageType.GET_VALUE_DIFF)]
    path.conclude()
    assert path.store.get_values() == {"v": 1}
    assert path.hub.unanswered == 1


def test_a_verdict_in_the_middle_of_a_transaction() -> None:
    """It waits for the end of that, as messages do."""
    path = Path("A", "B")
    path.judge.later = True
    path.hear("A", DIFF, value_changes(v=[1, hlc(1)]))
    path.store.start_transaction()
    path.conclude()
    assert (path.hub.holds, path.store.get_values()) == (True, {})
    path.store.finish_transaction()
    path.hub.wake(1.0)
    assert (path.hub.holds, path.store.get_values()) == (False, {"v": 1})


def test_changes_without_an_id_are_those_of_many_transactions() -> None:
    """So does one of our clients give what it has written while it was away, if it compares ranges of rows."""
    path = Path("A", "B")
    for request_id in ("t", None):
        path.hub.receive("A", "", payload_of(dumps([request_id, 3, value_changes(v=[1, hlc(1)])])), 0.0)
    assert [proposal.pulled for proposal in path.judge.proposals] == [False, True]


def test_what_is_held_of_a_client_that_is_gone() -> None:
    """Its changes count; what it has announced would be asked of nobody, and waited for."""
    path = Path("A", "B")
    path.store.start_transaction()
    path.hear("A", DIFF, value_changes(v=[1, hlc(1)]))
    path.hear("A", HASHES, [1, 2])
    path.hub.leave("A")
    path.store.finish_transaction()
    path.hub.wake(1.0)
    assert path.store.get_values() == {"v": 1}
    assert path.hub.unanswered == 0


def test_a_path_that_starts_holds() -> None:
    """Messages wait, and are reviewed when it is there."""
    path = Path("A", "B")
    hub = Hub(
        "q", path.exits, relay=False, request_timeout_seconds=1.0, fragment_size=None, new_id=Ids(), reviewer=path.judge
    )
    hub.join("A")
    held = [hub.holds]
    hub.receive("A", "", payload(DIFF, value_changes(v=[1, hlc(1)])), 0.0)
    assert [*held, hub.holds] == [False, True]
    assert path.judge.proposals == []
    hub.ready(new_store(), 0.0)
    assert [proposal.sender for proposal in path.judge.proposals] == ["A"]


def test_destroyed_while_something_is_reviewed() -> None:
    """Nothing waits for it any more."""
    path = Path("A", "B")
    path.judge.later = True
    pulled(path, v=[1, hlc(1)])
    path.hub.destroy()
    assert path.hub.unanswered == 0


# --- who may not read


def test_who_may_not_read_is_told_that_there_is_nothing() -> None:
    """No answer, no question, no change, no correction tells it an id, a cell or a hash of the path."""
    store = new_store("server").set_cell("secret", "secret", "secret", "secret").set_value("secret", "secret")
    path = Path("A", "B", store=store, blind="A")
    path.hear("A", MessageType.GET_CONTENT_HASHES, "")
    path.hear("A", MessageType.GET_TABLE_DIFF, {})
    path.hear("A", MessageType.GET_ROW_DIFF, {"secret": {}})
    path.hear("A", MessageType.GET_CELL_DIFF, {"secret": {"secret": {}}})
    path.hear("A", MessageType.GET_VALUE_DIFF, {})
    path.hear("A", HASHES, [1, 2])
    path.answer("A", [[{}], {"secret": 1, "t": 1}])
    path.answer("A", [[{}], {"secret": {"secret": 1}}])
    path.answer("A", [{"secret": [{"secret": [{"mine": [1, hlc(1)]}]}]}])
    path.answer("A", [{"mine": [1, hlc(1)]}])
    path.judge.refuses = "secret"
    path.hear("A", DIFF, value_changes(secret=[1, hlc(1, 1000)]))
    path.hear("B", DIFF, value_changes(w=["secret", hlc(1)]))
    path.hub.resync("A", 0.0)
    path.hub.remind("A")
    texts = [frame for to, frame in path.exits.sent if "A" in to]
    assert not [
        text
        for text in texts
        if "kept" in text or '"secret",' in text or str(store.get_mergeable_content_hashes()[0]) in text
    ]
    assert store.get_cell("secret", "secret", "mine") == 1
    assert store.get_value("mine") == 1
    assert store.get_value("w") == "secret"


def test_who_joins_again_may_read() -> None:
    """It depends on what was said when it came."""
    path = Path("A", store=new_store("server").set_value("v", 1), blind="A")
    path.hub.leave("A")
    path.hub.join("A")
    path.hear("A", MessageType.GET_CONTENT_HASHES, "")
    assert path.take()[-1][3] == path.store.get_mergeable_content_hashes()


def test_joining_blind_later() -> None:
    """Also when the path is there already."""
    path = Path(store=new_store("server").set_value("v", 1))
    path.hub.join("A", reads=False)
    path.hear("A", MessageType.GET_CONTENT_HASHES, "")
    assert path.take()[-1][3] == [0, 0]


def test_what_a_client_may_read_can_change() -> None:
    """From then on it is told nothing; once it may again, it is told that there is something."""
    path = Path("A", "B", store=new_store("server").set_value("v", 1))
    path.hub.access_changed("A", 0.0, reads=True)
    assert path.take() == []
    path.hub.access_changed("A", 0.0, reads=False)
    path.hear("B", DIFF, value_changes(w=[1, hlc(1)]))
    assert path.take() == []
    path.hub.access_changed("A", 0.0, reads=True)
    assert path.take() == [(("A",), "S", 2, path.store.get_mergeable_content_hashes())]
    path.hear("B", DIFF, value_changes(w=[2, hlc(2)]))
    assert [to for to, *_ in path.take()] == [("A",)]


def test_what_was_refused_is_decided_again_when_a_client_may_do_more() -> None:
    """It is asked for it, and until it has answered nobody knows whether the path has all it has (seed 46479)."""
    path = Path("A", blind="A")
    path.judge.refuses, path.judge.corrects = "v", False
    path.hear("A", DIFF, value_changes(v=[1, hlc(1)]))
    merged: list[bool] = []
    path.hub.when_merged("A", merged.append)
    assert merged == [False]
    path.take()
    path.judge.refuses, path.judge.corrects = "", True
    path.hub.access_changed("A", 0.0, reads=True)
    asked = [heard_frame(frame)[1] for _, frame in path.exits.sent]
    assert asked == [HASHES, MessageType.GET_CONTENT_HASHES]
    path.hub.when_merged("A", merged.append)
    path.answer("A", [0, 1])
    path.answer("A", [{"v": [1, hlc(1)]}])
    assert merged == [False, True]
    assert path.store.get_values() == {"v": 1}


def test_what_a_client_may_read_on_a_path_that_starts() -> None:
    """It counts once the path is there."""
    judge, exits = Judge(), Exits()
    hub = Hub("p", exits, relay=False, request_timeout_seconds=1, fragment_size=None, new_id=Ids(), reviewer=judge)
    hub.join("A")
    hub.join("B", reads=False)
    hub.access_changed("A", 0.0, reads=False)
    hub.access_changed("B", 0.0, reads=True)
    hub.ready(new_store().set_value("v", 1), 0.0)
    for client_id in "AB":
        hub.receive(client_id, "S", payload(MessageType.GET_CONTENT_HASHES, ""), 0.0)
    answers = {to[0]: heard_frame(frame)[2] for to, frame in exits.take()}
    assert answers["A"] == [0, 0]
    assert answers["B"] != [0, 0]


def test_stamps_ahead_of_who_may_not_read() -> None:
    """They are refused, and not answered."""
    path = Path("A", store=new_store("server").set_value("v", "kept"), blind="A")
    path.hear("A", DIFF, value_changes(v=[1, hlc(1, 600_000)]))
    assert path.take() == []
    assert len(path.exits.errors) == 1


# --- parts


def test_rulings_beat_what_was_refused_and_what_is_here() -> None:
    """Where something newer is here by now, a refusal needs none; an edit does."""
    store = new_store("server")
    store.apply_mergeable_changes([[{}], [{"a": [1, hlc(5)], "b": [1, hlc(5)], "c": [1, hlc(5)]}], 1])
    refused: ByRow[str] = {(None, ""): {"a": hlc(3), "b": hlc(7), "c": hlc(3), "d": hlc(7)}}
    body = rulings(store, Verdict(NOTHING, refused, {(None, ""): {"c": 2, "e": 3}}), "AAAAA")
    leaves = {leaf[2]: stamp for leaf, stamp in leaves_of(body)}
    assert leaves.keys() == {"b", "c", "d", "e"}
    assert leaves["b"][0] == 1
    assert leaves["b"][1] > hlc(7)
    assert leaves["c"][0] == 2
    assert leaves["c"][1] > hlc(5)
    assert leaves["d"][0] == "\ufffc"
    assert leaves["e"][0] == 3


def test_rulings_against_the_schema() -> None:
    """What does not fit the schema of the path is not written; a refused leaf keeps what fits. Found by the machine."""
    store = new_store().set_values_schema({"v": {"type": "string", "default": "kept"}, "w": {"type": "string"}})
    verdict = Verdict(value_changes(), {(None, ""): {"v": hlc(5)}}, {(None, ""): {"v": 1, "w": 2}})
    [_, [values], _] = rulings(store, verdict, "AAAAA")
    assert {value_id: stamp[0] for value_id, stamp in values.items()} == {"v": "kept"}


def test_what_is_dropped() -> None:
    """Leaf by leaf: what is written instead of one leaf of a row says nothing of the others."""
    refused: ByRow[str] = {(None, ""): {"a": hlc(1), "b": hlc(2)}, ("t", "r"): {"a": hlc(3)}}
    assert Verdict(NOTHING, refused).dropped == refused
    assert Verdict(NOTHING, refused, {(None, ""): {"a": 1}, ("t", "r"): {"a": 1}}).dropped == {
        (None, ""): {"b": hlc(2)}
    }


def test_what_is_not_corrected_needs_no_ruling() -> None:
    """Only what is written instead is written."""
    verdict = Verdict(NOTHING, {(None, ""): {"a": hlc(5), "b": hlc(5)}}, {(None, ""): {"b": 1}}, corrects=False)
    [_, [values], _] = rulings(new_store(), verdict, "AAAAA")
    assert values.keys() == {"b"}
    assert values["b"][1] > hlc(5)


def test_nothing_beats_the_last_stamp() -> None:
    """Then there is no ruling."""
    for place in ((None, ""), ("t", "r")):
        assert rulings(new_store(), Verdict(NOTHING, {place: {"a": LAST}}), "AAAAA") == NOTHING


def test_what_is_left_of_changes() -> None:
    """Containers that were empty stay, others go with the last of their leaves; HLCs stay."""
    row = [{"a": [1, hlc(1)], "b": [1, hlc(1)]}, hlc(2)]
    gone = [{"r": [{"a": [1, hlc(1)]}]}]
    tables = [{"t": [{"r": row, "s": [{}]}], "u": gone, "e": [{}]}, hlc(3)]
    body = [tables, [{"v": [1, hlc(1)], "w": [1, hlc(1)]}], 1]
    left = without(body, {("t", "r"): "a", ("u", "r"): "a", (None, ""): "v"})
    assert left == [
        [{"t": [{"r": [{"b": [1, hlc(1)]}, hlc(2)], "s": [{}]}], "e": [{}]}, hlc(3)],
        [{"w": [1, hlc(1)]}],
        1,
    ]
