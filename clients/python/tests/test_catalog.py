"""Runs are made, changed and deleted, and markers added: what comes of it is what the command line lists."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from time import time_ns
from typing import Any

import grpc
import numpy as np
import pandas as pd
import pytest

from tests.support.double import Script, serving
from tests.support.lab import Lab, free_port
from tests.test_client import details
from wavekeep import Client, Marker, Member, NewMember, NewRun, Run, Stream, catalog, errors, limits
from wavekeep.moments import rfc3339

DEVICE = "of-catalog"
OTHER = "of-catalog-2"
NS = 10**9


@pytest.fixture(scope="module")
def stream(lab: Lab, client: Client) -> Stream:
    """Two seconds at 1 kS/s, recorded for a run; and another device has the same."""
    lab.simulate(DEVICE, "js220,rate=1000,seed=7", "2s", "--run", "of-catalog-recorded", "--label", "board=arty")
    lab.simulate(OTHER, "js220,rate=1000,seed=8", "2s")
    return client.streams(device=DEVICE)[0]


@pytest.fixture(scope="module")
def start_ns(stream: Stream) -> int:
    assert stream.first_time_ns is not None
    return stream.first_time_ns


def shown(lab: Lab, name: str) -> dict[str, Any]:
    """What the command line says of a run."""
    found: dict[str, Any] = json.loads(lab.command_line("--json", "run", "show", name))
    return found


def run_named(client: Client, name: str) -> Run:
    return next(run for run in client.runs() if run.name == name)


def names(client: Client, filter: str) -> list[str]:
    return [run.name for run in client.runs(filter)]


def test_a_run_of_a_time_of_a_device_is_what_the_command_line_shows(lab: Lab, client: Client, start_ns: int) -> None:
    labels = {"größe": "µA – 😀", "quoted": 'a "b", c=d \\ ', "empty": ""}
    note = "zwei Zeilen,\nund ein\tTabulator"
    run = client.create_run("nächte 1", device=DEVICE, start=start_ns + NS // 2, end=start_ns + NS, labels=labels, note=note)
    assert (run.own_labels, run.labels) == (labels, {**labels, "board": "arty"})
    assert (run.note, run.parent, run.streams, run.recorded_streams, run.devices) == (note, None, 1, 0, (DEVICE,))
    assert run.members == (Member(DEVICE, None, start_ns + NS // 2, start_ns + NS),)
    assert (run.first_time_ns, run.last_time_ns, run.duration_s) == (start_ns + NS // 2, start_ns + NS, 0.5)
    assert run == run_named(client, "nächte 1")
    listed = shown(lab, "nächte 1")
    assert (listed["own_labels"], listed["note"], listed["duration_s"]) == (labels, note, 0.5)
    assert len(client.waveform(run="nächte 1").stream.time_ns) == 500
    assert names(client, 'größe="µA – 😀"') == ["nächte 1"]


@pytest.mark.parametrize(
    "written",
    [
        lambda ns: ns,
        np.int64,
        rfc3339,
        lambda ns: np.datetime64(ns, "ns"),
        lambda ns: pd.Timestamp(ns, tz="Europe/Berlin"),
        lambda ns: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ns // 1000),
    ],
)
def test_times_are_those_of_every_question(client: Client, start_ns: int, written: Callable[[int], Any]) -> None:
    # Of the same content each time, however it is written.
    at = start_ns // 1000 * 1000
    run = client.create_run("written", device=DEVICE, start=written(at), end=written(at + NS))
    assert run.members == (Member(DEVICE, None, at, at + NS),)


def test_a_distance_is_from_the_end_of_what_is_stored(client: Client, stream: Stream) -> None:
    assert stream.last_time_ns is not None
    run = client.create_run("last second", device=DEVICE, start="-1s", end=timedelta(milliseconds=-250))
    assert run.members == (Member(DEVICE, None, stream.last_time_ns - NS, stream.last_time_ns - NS // 4),)


def test_a_run_of_a_stream_is_asked_for_in_three_ways(client: Client, stream: Stream, start_ns: int) -> None:
    made = [client.create_run("one stream", stream=what, end=start_ns + NS) for what in (stream, stream.id, stream.id[:12])]
    assert made[0].members == (Member(None, stream.id, None, start_ns + NS),)
    assert made[0] == made[1] == made[2]


def test_a_run_has_several_members(client: Client, stream: Stream, start_ns: int) -> None:
    more = [NewMember(device=OTHER), NewMember(stream=stream, start=start_ns + NS)]
    run = client.create_run("several", device=DEVICE, end=start_ns + NS // 4, members=more)
    expected = {
        Member(DEVICE, None, None, start_ns + NS // 4),
        Member(OTHER, None, None, None),
        Member(None, stream.id, start_ns + NS, None),
    }
    assert set(run.members) == expected
    assert (len(run.members), run.devices) == (3, (DEVICE, OTHER))
    # Those of a run make another one.
    assert client.create_run("several too", members=run.members).members == run.members
    assert client.create_run("one of several", members=run.members[0]).members == run.members[:1]


def test_a_run_that_is_there_is_answered_and_another_one_refused(client: Client, start_ns: int) -> None:
    what: dict[str, Any] = {"device": DEVICE, "start": start_ns, "labels": {"n": "1"}, "note": "once"}
    first = client.create_run("twice", **what)
    assert client.create_run("twice", **what) == first, "it is the same, and changed at the same time"
    others: list[dict[str, Any]] = [{"note": "another"}, {"labels": {}}, {"start": start_ns + 1}, {"parent": "of-catalog-recorded"}]
    for other in others:
        with pytest.raises(errors.RunExists, match='a run "twice" already') as caught:
            client.create_run("twice", **{**what, **other})
        assert (caught.value.code, caught.value.reason) == ("ALREADY_EXISTS", "RUN_EXISTS")
        assert not caught.value.is_passing
    assert run_named(client, "twice") == first


def test_a_run_without_members_groups_others(client: Client, stream: Stream) -> None:
    week = client.create_run("week 9")
    assert (week.streams, week.members, week.first_time_ns, week.parent) == (0, (), None, None)
    assert client.create_run("of week 9", parent=week).parent == "week 9"
    assert client.create_run("of week 9 too", parent="week 9").parent == "week 9"


def test_an_update_changes_what_it_names_and_nothing_else(lab: Lab, client: Client, stream: Stream, start_ns: int) -> None:
    client.create_run("parent of changed")
    made = client.create_run("changed", device=DEVICE, labels={"ab": "1", "b": "2"}, note="first")
    content = ("own_labels", "note", "parent", "members")

    def update(**what: Any) -> dict[str, Any]:
        """What is other then, twice the same."""
        before = run_named(client, "changed")
        run = client.update_run("changed", **what)
        assert client.update_run(run, **what) == run == run_named(client, "changed")
        assert run.created_at_ns == made.created_at_ns
        return {name: getattr(run, name) for name in content if getattr(run, name) != getattr(before, name)}

    assert update() == {}
    assert update(labels={"b": "zwölf", "c": "3"}) == {"own_labels": {"ab": "1", "b": "zwölf", "c": "3"}}
    assert update(remove_labels="ab") == {"own_labels": {"b": "zwölf", "c": "3"}}
    assert update(labels={"c": "4"}, remove_labels=["b", "c", "nobody's"]) == {"own_labels": {"c": "4"}}
    assert update(note="second") == {"note": "second"}
    assert update(parent="parent of changed") == {"parent": "parent of changed"}
    whole = made.members[0]
    added = Member(None, stream.id, start_ns, start_ns + NS)
    assert update(members=NewMember(stream=stream.id[:12], start=start_ns, end=start_ns + NS)) == {"members": (whole, added)}
    assert update(remove_members=made.members, members=[NewMember(device=OTHER)]) == {
        "members": (Member(OTHER, None, None, None), added)
    }
    assert update(remove_members=NewMember(device=OTHER, start=start_ns)) == {}, "it is taken out as it was added"
    assert update(remove_members=[NewMember(device=OTHER)]) == {"members": (added,)}
    listed = shown(lab, "changed")
    assert (listed["own_labels"], listed["note"], listed["parent"]) == ({"c": "4"}, "second", "parent of changed")
    assert [member["stream"] for member in listed["members"]] == [stream.id]
    assert update(note="", parent="") == {"note": "", "parent": None}


def test_a_run_that_was_recorded_is_changed_and_not_deleted(client: Client, stream: Stream) -> None:
    run = client.update_run("of-catalog-recorded", labels={"operator": "Zoë"})
    assert (run.own_labels, run.labels) == ({"operator": "Zoë"}, {"operator": "Zoë", "board": "arty"})
    with pytest.raises(errors.RunRecorded, match="part of their capture") as caught:
        client.delete_run(run)
    assert caught.value.reason == "RUN_RECORDED"
    assert run_named(client, "of-catalog-recorded") == run


def test_a_run_is_deleted_and_no_sample_is(client: Client, stream: Stream) -> None:
    parent = client.create_run("deleted", device=DEVICE)
    client.create_run("of deleted", parent=parent)
    client.delete_run(parent)
    assert names(client, "run~*deleted") == ["of deleted"]
    assert run_named(client, "of deleted").parent is None
    assert client.streams(device=DEVICE) == [stream]
    with pytest.raises(errors.UnknownName) as caught:
        client.delete_run(parent)
    assert (caught.value.kind, caught.value.name, caught.value.nearest) == ("run", "deleted", "of deleted")


def test_an_import_makes_and_adds_and_is_repeated(client: Client, stream: Stream, start_ns: int) -> None:
    nights = [
        NewRun("i-1", device=DEVICE, start=start_ns, end=start_ns + 10, labels={"algorithm": "Ä"}, parent="i-week"),
        NewRun("i-1", stream=stream, start=start_ns + 20, labels={"n": "1"}, note="lüfter"),
        NewRun("i-2", device=OTHER, end="-1s"),
        # After those that are part of it.
        NewRun("i-week", note="all nights"),
    ]
    done = client.import_runs(iter(nights))
    assert done == catalog.Imported(created=3, changed=0, unchanged=0)
    assert str(done) == "3 runs created, 0 changed, 0 unchanged"
    first = run_named(client, "i-1")
    assert (first.own_labels, first.parent, first.note) == ({"algorithm": "Ä", "n": "1"}, "i-week", "lüfter")
    assert first.members == (Member(DEVICE, None, start_ns, start_ns + 10), Member(None, stream.id, start_ns + 20, None))
    assert client.import_runs(nights) == catalog.Imported(created=0, changed=0, unchanged=3)
    assert client.import_runs([*nights, NewRun("i-3"), NewRun("i-2", labels={"n": "2"})]) == catalog.Imported(1, 1, 2)
    assert run_named(client, "i-1") == first
    assert client.import_runs([]) == catalog.Imported(0, 0, 0)


def test_an_import_is_whole_or_not_at_all_and_says_which_entry(client: Client, stream: Stream) -> None:
    good = NewRun("never 1", device=DEVICE)
    with pytest.raises(errors.UnknownName) as caught:
        client.import_runs([good, good, NewRun("never 2", device="of-catalog-3")])
    assert (caught.value.entry, caught.value.kind) == (2, "device")
    assert caught.value.__notes__ == ["of entry 2, run 'never 2'; nothing was imported"]
    with pytest.raises(errors.InvalidRequest, match="without blanks at its ends") as invalid:
        client.import_runs([good, NewRun(" never 2")])
    assert (invalid.value.entry, invalid.value.reason) == (1, "INVALID_REQUEST")
    with pytest.raises(errors.ParentCircle) as circle:
        client.import_runs([NewRun("never 1", parent="never 2"), NewRun("never 2", parent="never 1")])
    assert circle.value.entry == 1
    with pytest.raises(errors.InvalidRequest, match="at most 10000 entries") as many:
        client.import_runs([NewRun("never 1")] * 10_001)
    assert many.value.entry is None
    # Found here.
    with pytest.raises(errors.BadTime) as bad:
        client.import_runs([good, NewRun("never 2", device=DEVICE, start="yesterday")])
    assert bad.value.__notes__ == ["of entry 1, run 'never 2'; nothing was imported"]
    with pytest.raises(errors.InvalidQuestion, match=r"bytes, and the server takes at most .* send it in parts"):
        client.import_runs([NewRun(f"never {number}", note="x" * 10_000) for number in range(limits.MESSAGE_BYTES_MAX // 10_000)])
    assert names(client, "run~*never*") == []


def test_a_run_is_no_part_of_itself(client: Client) -> None:
    client.create_run("circle 1")
    client.create_run("circle 2", parent="circle 1")
    for parent in ("circle 1", "circle 2"):
        with pytest.raises(errors.ParentCircle, match="cannot be its parent") as caught:
            client.update_run("circle 1", parent=parent)
        assert caught.value.reason == "PARENT_CIRCLE"
    assert run_named(client, "circle 1").parent is None


Request = Callable[[Client], object]
REFUSED: list[tuple[Request, type[errors.WavekeepError], str]] = [
    (lambda client: client.create_run(""), errors.InvalidRequest, "a run has a name"),
    (lambda client: client.create_run("refused", device=""), errors.InvalidRequest, "a device has a name"),
    (lambda client: client.create_run("refused", labels={"device": "x"}), errors.InvalidRequest, "no label has this key"),
    (lambda client: client.create_run("refused", labels={"a\n": "x"}), errors.InvalidRequest, "control characters"),
    (lambda client: client.create_run("refused", note="x" * 10_001), errors.InvalidRequest, "at most 10000 bytes"),
    (
        lambda client: client.create_run("refused", members=[NewMember(device=DEVICE, start=at) for at in range(1_001)]),
        errors.InvalidRequest,
        "more than 1000 ranges",
    ),
    (lambda client: client.create_run("refused", device="of-katalog"), errors.UnknownName, 'did you mean "of-catalog"'),
    (lambda client: client.create_run("refused", stream="0" * 32), errors.UnknownName, "no stream"),
    (lambda client: client.create_run("refused", stream="0" * 12), errors.NothingStored, "no stream begins with"),
    (lambda client: client.create_run("refused", parent="nobody's"), errors.UnknownName, 'no run "nobody\'s"'),
    (lambda client: client.update_run("refused", note="x"), errors.UnknownName, 'no run "refused"'),
    (lambda client: client.mark("x", device="of-katalog"), errors.UnknownName, 'did you mean "of-catalog"'),
    (lambda client: client.mark("x" * (256 * 1024 + 1), device=DEVICE), errors.InvalidRequest, "at most 262144 bytes"),
]
NONSENSE: list[tuple[Request, str]] = [
    (lambda client: client.create_run("refused", start=0), "give one of device= and stream="),
    (lambda client: client.create_run("refused", device=DEVICE, stream="0" * 32), "give one of device= and stream="),
    (lambda client: client.create_run("refused", members=NewMember()), "give one of device= and stream="),
    (lambda client: client.create_run("refused", device=DEVICE, start=5, end=5), "exchange them"),
    (lambda client: client.create_run("refused", stream="xyz"), "is not a stream id"),
    (lambda client: client.create_run("refused", labels={"n": 350}), "write 'n': '350'"),  # type: ignore[dict-item]
    (lambda client: client.update_run("refused", labels={1: "n"}), "write '1': 'n'"),  # type: ignore[dict-item]
    (lambda client: client.import_runs([NewRun("refused", labels={"n": 1.5})]), "write 'n': '1.5'"),  # type: ignore[dict-item]
    (lambda client: client.mark({1, 2}, device=DEVICE), "set is not JSON"),
    (lambda client: client.mark(math.nan, device=DEVICE), "not JSON compliant"),
    (lambda client: client.mark("\ud800", device=DEVICE), "surrogates not allowed"),
    (lambda client: client.mark("x", device=DEVICE, kind=65_536), "0 to 65,535"),
    (lambda client: client.mark("x", device=DEVICE, kind=-1), "0 to 65,535"),
    (lambda client: client.mark("x", device=DEVICE, group=256), "its group 0 to 255"),
]


@pytest.mark.parametrize(("request_", "kind", "sentence"), REFUSED)
def test_the_server_refuses(client: Client, stream: Stream, request_: Request, kind: type[Exception], sentence: str) -> None:
    with pytest.raises(errors.WavekeepError, match=sentence) as caught:
        request_(client)
    assert type(caught.value) is kind
    assert names(client, "run~refused*") == []


@pytest.mark.parametrize(("request_", "sentence"), NONSENSE)
def test_what_makes_no_sense_is_refused_here(request_: Request, sentence: str) -> None:
    with Client(f"http://127.0.0.1:{free_port()}") as nobody, pytest.raises(errors.InvalidQuestion, match=sentence):
        request_(nobody)


@pytest.mark.parametrize(
    "request_",
    [
        lambda client: client.create_run("x"),
        lambda client: client.update_run("x"),
        lambda client: client.delete_run("x"),
        lambda client: client.import_runs([]),
        lambda client: client.mark("x", device=DEVICE),
    ],
)
def test_each_request_is_of_the_client_s_workspace(lab: Lab, request_: Request) -> None:
    with Client(lab.url, workspace="elsewhere") as client, pytest.raises(errors.UnknownName) as caught:
        request_(client)
    assert (caught.value.kind, caught.value.name) == ("workspace", "elsewhere")


@pytest.mark.parametrize(
    ("content", "listed"),
    [
        ("der Lüfter geht an 😀", {"text": "der Lüfter geht an 😀"}),
        ("", {"text": ""}),
        ({"step": 3, "größe": [1.5, None, "µ"]}, {"json": {"step": 3, "größe": [1.5, None, "µ"]}}),
        (("a", True), {"json": ["a", True]}),
        (17, {"json": 17}),
        (b"\xff\x00", {"bytes": "ff00"}),
        (bytearray(b"\x01"), {"bytes": "01"}),
    ],
)
def test_a_marker_is_listed_as_it_is_answered(
    lab: Lab, client: Client, stream: Stream, content: Any, listed: dict[str, Any]
) -> None:
    at = time_ns() + 3600 * NS
    marker = client.mark(content, device=DEVICE, time=at, kind=2, group=255, y=-0.5)
    assert (marker.device, marker.stream, marker.sample, marker.time_ns) == (DEVICE, None, None, at)
    assert (marker.kind, marker.group, marker.y) == (2, 255, -0.5)
    assert client.markers(device=DEVICE, start=at, end=at + 1) == [marker]
    line = json.loads(lab.command_line("--json", "markers", "--device", DEVICE, "--from", rfc3339(at), "--to", rfc3339(at + 1)))
    assert {key: line[key] for key in ("text", "json", "bytes") if line[key] is not None} == listed
    assert (line["kind"], line["group"], line["y"]) == (2, 255, -0.5)


def test_a_marker_is_of_now_or_of_a_time_before_the_end(client: Client, stream: Stream) -> None:
    before = time_ns()
    marker = client.mark("now", device=DEVICE)
    assert before <= marker.time_ns <= time_ns()
    assert (marker.kind, marker.group) == (0, 0)
    assert math.isnan(marker.y)
    assert stream.last_time_ns is not None
    assert client.mark("then", device=DEVICE, time="-1s").time_ns == stream.last_time_ns - NS
    assert "then" in [str(one) for one in client.markers(run="of-catalog-recorded")]


def test_a_marker_that_was_added_is_taken_away(lab: Lab, client: Client, stream: Stream, start_ns: int) -> None:
    def noted() -> list[Marker]:
        return [one for one in client.markers(device=DEVICE) if one.content == "to be gone"]

    one, other, last = (client.mark("to be gone", device=DEVICE, time=start_ns + at, y=0.0) for at in range(3))
    assert noted() == [one, other, last]
    assert client.unmark(other) == 1
    assert client.unmark([other]) == 0, "it is gone already"
    assert noted() == [one, last]
    captured = replace(one, id=None, stream=stream.id, sample=0)
    with pytest.raises(errors.InvalidQuestion, match="came with the samples"):
        client.unmark([one, captured])
    assert one.id is not None
    lab.command_line("unmark", one.id.hex[:8])
    assert noted() == [last]
    assert client.unmark(marker for marker in (one, last)) == 1
    assert noted() == []


def test_a_marker_is_added_once_by_its_id(client: Client, stream: Stream, start_ns: int) -> None:
    def marks(text: str) -> list[int]:
        return [one.time_ns for one in client.markers(device=DEVICE) if one.content == text]

    for _ in range(2):
        client.mark("again", device=DEVICE, time=start_ns)
    assert marks("again") == [start_ns, start_ns], "without an id, each is another one"
    of_time, of_now = uuid.uuid4(), uuid.uuid5(uuid.NAMESPACE_OID, "of now")
    first = [client.mark("once", device=DEVICE, time=start_ns + 1, id=of_time), client.mark("of now", device=DEVICE, id=of_now)]
    again = [client.mark("once", device=DEVICE, time=start_ns + 1, id=of_time), client.mark("of now", device=DEVICE, id=of_now)]
    assert repr(again) == repr(first), "it stands where it was added first"
    others: list[dict[str, Any]] = [
        {"content": "other"},
        {"content": b"once"},
        {"time": start_ns},
        {"device": OTHER},
        {"kind": 1},
        {"group": 1},
        {"y": 0.0},
    ]
    for other in others:
        with pytest.raises(errors.InvalidQuestion, match=f"id={of_time} is that of another marker"):
            client.mark(**{"content": "once", "device": DEVICE, "time": start_ns + 1, "id": of_time, **other})
    assert (marks("once"), marks("of now")) == ([first[0].time_ns], [first[1].time_ns])


def refused_import(reason: str, **about: str) -> errors.Refused:
    """What an import of one run raises, of a server that refuses it so."""
    script = Script(failure=(grpc.StatusCode.UNAVAILABLE, "say something else", details(reason, **about)))
    with serving(script) as url, Client(url) as client, pytest.raises(errors.Refused, match="say something else") as caught:
        client.import_runs([NewRun("a")])
    return caught.value


def test_a_commit_that_was_not_answered_may_be_given_again() -> None:
    error = refused_import("COMMIT_UNANSWERED")
    assert (type(error), error.is_passing, error.entry) == (errors.CommitUnanswered, True, None)
    assert isinstance(error, ConnectionError)


@pytest.mark.parametrize(("entry", "number"), [("1", 1), ("", None), ("-1", None), ("x", None)])
def test_an_entry_that_was_not_sent_names_no_run(entry: str, number: int | None) -> None:
    error = refused_import("NEW", entry=entry)
    assert (error.entry, getattr(error, "__notes__", [])) == (number, [])
