"""The session core alone: what it says for what it hears."""

import json
from typing import Any, TypeVar

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import closing
from gateway.effects import (
    AskSession,
    CallAttach,
    CallCommand,
    CallMissed,
    CheckToken,
    Close,
    Count,
    Effect,
    Look,
    Moves,
    Say,
    Tell,
)
from gateway.session import Claims, Failed, Session, State
from tests.unit.gateway.support import AVATAR, SERVER, ManualClock, attached, seeded
from world import frames
from world.limits import (
    ATTACH_REDIRECTS,
    ATTACH_RETRY_CAP_MS,
    CLIENT_COMMANDS_IN_FLIGHT,
    CLIENT_MESSAGES_BURST,
    CLIENT_SILENCE_MS,
    COMMAND_RETRY_MS,
    EVENT_TAIL_CHECK_MS,
    HANDSHAKE_MS,
    INPUT_RESEND_WINDOW_MS,
)
from world.messages import Busy, CommandResult, Detach, Events, EventsSeen, Moved, SessionOpened

E = TypeVar("E")
UNIT = f"avatar:{AVATAR}"


class Play:
    """A session core and what it said."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.core = Session("gw1", self.clock, seeded())
        self.effects: list[Effect] = []

    def do(self, effects: list[Effect]) -> list[Effect]:
        self.effects += effects
        return effects

    def say(self, **message: Any) -> list[Effect]:
        self.core.heard()
        return self.do(self.core.text(orjson.dumps(message)))

    def move(self, *inputs: int) -> list[Effect]:
        return self.do(self.core.binary(frames.client_moves([(n, 5, 1.0, 2.0, 0.5, 0.0) for n in inputs])))

    def identify(self) -> "Play":
        self.do(self.core.opened())
        self.say(t="identify", protocol=1, token="a")
        self.do(self.core.token_checked(Claims("1", AVATAR, "Ana")))
        self.do(self.core.session_opened(SessionOpened(100, "resume", SERVER)))
        return self

    def attach(self, **changes: Any) -> "Play":
        self.do(self.core.attach_answered(self.last(CallAttach).attempt, attached(**changes)))
        return self

    def playing(self) -> "Play":
        return self.identify().attach()

    def command(self, n: int) -> list[Effect]:
        return self.say(t="command", n=n, floor=0, op="gather", args={"target": 5})

    def last(self, kind: type[E]) -> E:
        return next(e for e in reversed(self.effects) if isinstance(e, kind))

    def pass_ms(self, ms: float) -> list[Effect]:
        self.clock.now_ms += ms
        return self.do(self.core.tick())


def said(effects: list[Effect]) -> list[dict[str, Any]]:
    return [orjson.loads(e.text) for e in effects if isinstance(e, Say)]


def of(effects: list[Effect], kind: type[E]) -> list[E]:
    return [e for e in effects if isinstance(e, kind)]


def closed_with(effects: list[Effect]) -> closing.Closing:
    (close,) = of(effects, Close)
    return close.closing


def test_identify_leads_through_ready_and_attached_to_playing() -> None:
    play = Play()
    assert said(play.do(play.core.opened()))[0]["t"] == "hello"
    assert of(play.say(t="identify", protocol=1, token="tok"), CheckToken) == [CheckToken("tok", "access")]
    assert play.do(play.core.token_checked(Claims("1", AVATAR, "Ana"))) == [AskSession("1", AVATAR)]
    ready, call = play.do(play.core.session_opened(SessionOpened(100, "resume", "gs2")))
    assert isinstance(ready, Say)
    assert orjson.loads(ready.text) | {"world_ms": 0} == {
        "t": "ready", "session": 100, "connection": 1, "resume_token": "resume", "avatar": AVATAR, "name": "Ana",
        "gateway": "gw1", "world_ms": 0,
    }  # fmt: skip
    assert isinstance(call, CallAttach)
    assert (call.server, call.message.session, call.message.connection) == ("gs2", 100, 1)
    effects = play.do(play.core.attach_answered(call.attempt, attached()))
    assert said(effects)[0]["t"] == "attached"
    assert of(effects, Look) == [Look(4096.0, 4096.0, 50.0)]
    assert play.core.state is State.PLAYING


def test_resume_carries_what_the_client_has_seen() -> None:
    play = Play()
    play.say(t="resume", protocol=1, resume_token="r", connection=4, stream=9, event=6, input=33, floor=12)
    play.do(play.core.token_checked(Claims("1", AVATAR, "Ana", 100)))
    message = play.last(CallAttach).message
    assert (message.session, message.connection, message.last_stream, message.last_event) == (100, 4, 9, 6)
    assert (message.last_input, message.command_floor) == (33, 12)
    effects = play.do(
        play.core.attach_answered(1, attached(next_event=9, resync=None, events=[(7, b'{"kind":"a"}'), (8, b"{}")]))
    )
    assert said(effects)[0]["event"] == 6
    assert [(m["n"], m["s"]) for m in said(effects) if m["t"] == "event"] == [(7, 9), (8, 9)]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"{", closing.BAD_MESSAGE),
        (b"[]", closing.BAD_MESSAGE),
        (b'{"t":"dance"}', closing.BAD_MESSAGE),
        (b'{"t":"identify","protocol":1,"token":"a","extra":1}', closing.BAD_MESSAGE),
        (b'{"t":"identify","protocol":1,"token":""}', closing.BAD_MESSAGE),
        (b'{"t":"identify","protocol":-1,"token":"a"}', closing.BAD_MESSAGE),
        (b'{"t":"identify","protocol":%b,"token":"a"}' % (b"9" * 400), closing.BAD_MESSAGE),
        (b'{"t":"identify","protocol":2,"token":"a"}', closing.VERSION),
        (b'{"t":"resume","protocol":1,"resume_token":"a","connection":1}', closing.BAD_MESSAGE),
        (b'{"t":"command","n":1,"op":"look","args":{}}', closing.BAD_MESSAGE),
        (b'{"t":"seen","s":1,"n":1}', closing.BAD_MESSAGE),
        (b"[" * 4_000, closing.BAD_MESSAGE),
        (b'{"t":"command","n":1,"op":"x","args":' + b'{"a":' * 700 + b"1" + b"}" * 700 + b"}", closing.BAD_MESSAGE),
        (b'{"t":"bye"}', closing.BYE),
    ],
)
def test_what_a_stranger_says_wrong_has_a_documented_end(message: bytes, code: closing.Closing) -> None:
    play = Play()
    assert closed_with(play.do(play.core.text(message))) is code
    assert play.core.state is State.CLOSED
    assert play.core.text(b'{"t":"ping"}') == []


@pytest.mark.parametrize(
    "args",
    [
        '{"a":{"b":{"c":1}}}', '{"a":[[1]]}', '{"a":NaN}', '{"a":1e999}', '{"a":Infinity}', '[1]', '"x"',
        '{"a":%s}' % ("9" * 400), '{"a":"%s"}' % ("x" * 2_000), '{"%s":1}' % ("k" * 40),
    ],
)  # fmt: skip
def test_arguments_are_flat_finite_and_bounded(args: str) -> None:
    play = Play().playing()
    effects = play.do(play.core.text(b'{"t":"command","n":1,"op":"say","args":%b}' % args.encode()))
    assert closed_with(effects) is closing.BAD_MESSAGE
    assert of(effects, CallCommand) == []


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
def test_no_bytes_make_the_core_raise(data: bytes) -> None:
    for play in (Play(), Play().playing()):
        for effects in (play.core.text(data), play.core.binary(data)):
            assert all(isinstance(e, Say | Close | Count | Tell | CheckToken) for e in effects)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
_FIELDS = ("protocol", "token", "resume_token", "connection", "n", "s", "op", "args", "floor", "c", "event")
_messages = st.fixed_dictionaries(
    {"t": st.sampled_from(["identify", "resume", "ping", "command", "seen", "bye", "x"])},
    optional=dict.fromkeys(
        ("protocol", "token", "resume_token", "connection", "n", "s", "op", "args", "floor", "c", "event"), _json
    ),
)


@given(_messages)
@settings(max_examples=50, deadline=None, derandomize=True, database=None)
def test_no_message_makes_the_core_raise(message: dict[str, Any]) -> None:
    for play in (Play(), Play().playing()):
        play.core.text(json.dumps(message).encode())
        play.core.tick()


def test_identify_twice_and_moves_before_ready_are_out_of_order() -> None:
    play = Play()
    play.say(t="identify", protocol=1, token="a")
    effects = play.say(t="identify", protocol=1, token="a")
    assert said(effects)[0]["code"] == "out_of_order"
    assert closed_with(effects) is closing.BAD_MESSAGE
    assert closed_with(Play().move(1)) is closing.BAD_MESSAGE


def test_bad_tokens_and_no_login() -> None:
    for first, answer, code in (
        ("identify", Failed("unauthorized"), closing.UNAUTHORIZED),
        ("identify", Failed("unreachable"), closing.FULL),
        ("resume", Failed("unauthorized"), closing.SESSION_EXPIRED),
    ):
        play = Play()
        if first == "identify":
            play.say(t="identify", protocol=1, token="a")
        else:
            play.say(t="resume", protocol=1, resume_token="a", connection=2)
        assert closed_with(play.do(play.core.token_checked(answer))) is code
    play = Play()
    play.say(t="identify", protocol=1, token="a")
    play.core.token_checked(Claims("1", AVATAR, "Ana"))
    assert closed_with(play.do(play.core.session_opened(Failed("deadline")))) is closing.FULL


# -- attaching ----
def test_moved_is_followed_at_once_but_not_for_ever() -> None:
    play = Play().identify()
    for _ in range(ATTACH_REDIRECTS):
        call = play.last(CallAttach)
        (again,) = play.do(play.core.attach_answered(call.attempt, Moved(UNIT, "gs3", 1, 7)))
        assert isinstance(again, CallAttach)
        assert again.server == "gs3"
    assert play.do(play.core.attach_answered(play.last(CallAttach).attempt, Moved(UNIT, "gs3", 1, 7))) == []
    (later,) = of(play.pass_ms(ATTACH_RETRY_CAP_MS * 2), CallAttach)
    assert later.server == ""


def test_attaching_never_gives_up_while_the_client_lives() -> None:
    play = Play().identify()
    for _ in range(50):
        play.core.heard()
        play.do(play.core.attach_answered(play.last(CallAttach).attempt, Failed("unreachable")))
        assert play.core.wake_ms <= play.clock.now_ms + ATTACH_RETRY_CAP_MS * 1.5
        assert len(of(play.pass_ms(ATTACH_RETRY_CAP_MS * 1.5), CallAttach)) == 1
    assert said(play.attach().effects)[-1]["t"] == "attached"


def test_busy_asks_the_same_server_again() -> None:
    play = Play().identify()
    play.do(play.core.attach_answered(1, Busy(UNIT, 70)))
    assert of(play.pass_ms(60), CallAttach) == []
    assert of(play.pass_ms(15), CallAttach)[0].server == SERVER


@pytest.mark.parametrize(
    ("code", "end"),
    [("replaced", closing.REPLACED), ("no_such_avatar", closing.UNAUTHORIZED), ("full", closing.FULL)],
)
def test_refused_attach(code: str, end: closing.Closing) -> None:
    play = Play().identify()
    assert closed_with(play.do(play.core.attach_answered(1, Failed(code)))) is end


def test_full_after_a_lost_owner_is_tried_again() -> None:
    play = Play().playing()
    play.do(play.core.server_lost(SERVER, 3))
    play.do(play.core.attach_answered(play.last(CallAttach).attempt, Failed("full")))
    assert play.core.state is State.ATTACHING


def test_late_and_stale_attach_answers_change_nothing() -> None:
    play = Play().playing()
    assert play.core.attach_answered(1, attached(server="gs9")) == []
    play.do(play.core.server_lost(SERVER, 3))
    play.do(play.core.attach_answered(play.last(CallAttach).attempt, attached(epoch=4)))
    assert play.core.state is State.ATTACHING, "an epoch below the one seen is a zombie's"


def test_an_attach_that_lands_after_the_close_is_undone() -> None:
    play = Play().identify()
    play.do(play.core.closed())
    (undo,) = play.core.attach_answered(1, attached(server="gs2"))
    assert undo == Tell("gs2", Detach(AVATAR, 100, 1, False))


def test_losing_the_owner_keeps_the_client_and_resends_what_it_did() -> None:
    play = Play().playing()
    play.move(1, 2)
    play.command(1)
    effects = play.do(play.core.server_lost(SERVER, 3))
    assert said(effects) == [{"t": "detached", "reason": "owner_lost"}]
    play.move(3)
    play.command(2)
    play.attach(server="gs2", epoch=6, last_input=1, stream=11)
    moves = play.last(Moves)
    rows = np.frombuffer(moves.rows, frames.MOVE_ROW)
    assert moves.server == "gs2"
    assert rows["input"].tolist() == [2, 3]
    assert set(rows["epoch"].tolist()) == {6}
    resent = [c for c in of(play.effects, CallCommand) if c.server == "gs2"]
    assert [c.message.number for c in resent] == [1, 2]
    assert resent[0].message == of(play.effects, CallCommand)[0].message, "the same operation, the same number"


def test_another_generation_or_server_lost_is_not_ours() -> None:
    play = Play().playing()
    assert play.core.server_lost(SERVER, 2) == []
    assert play.core.server_lost("gs2", 3) == []
    assert play.core.state is State.PLAYING


# -- moves ----
def test_moves_are_forwarded_once_with_who_sent_them() -> None:
    play = Play().playing()
    (moves,) = of(play.move(1, 2), Moves)
    rows = np.frombuffer(moves.rows, frames.MOVE_ROW)
    assert rows["avatar"].tolist() == [AVATAR, AVATAR]
    assert (rows["session"][0], rows["connection"][0], rows["epoch"][0]) == (100, 1, 5)
    assert (rows["input"].tolist(), rows["x"][1], rows["vx"][0]) == ([1, 2], 1.0, 0.5)
    assert play.move(2) == [Count("input_repeated")]


@pytest.mark.parametrize("row", [(1, 1, float("nan"), 0, 0, 0), (1, 1, 0, float("inf"), float("-inf"), 0)])
def test_moves_that_are_not_finite_are_refused(row: Any) -> None:
    play = Play().playing()
    assert closed_with(play.core.binary(frames.client_moves([row]))) is closing.BAD_MESSAGE


def test_busy_owner_gets_the_kept_moves_again_and_only_young_ones() -> None:
    play = Play().playing()
    play.move(1)
    play.clock.now_ms += INPUT_RESEND_WINDOW_MS
    play.move(2)
    play.do(play.core.move_refused(1, "busy", "", 0))
    (moves,) = of(play.pass_ms(150), Moves)
    assert np.frombuffer(moves.rows, frames.MOVE_ROW)["input"].tolist() == [2]


def test_moved_answers_attach_anew_unless_stale() -> None:
    play = Play().playing()
    assert play.do(play.core.move_refused(1, "moved", "gs2", 4)) == [Count("moved_stale")]
    assert play.do(play.core.move_refused(1, "moved", "gs2", 5, "gs9")) == [Count("moved_stale")], "an old owner's"
    assert play.do(play.core.move_refused(1, "handed", "gs1", 5, "gs1")) == [Count("moved_stale")], "the owner's, late"
    assert of(play.do(play.core.move_refused(1, "moved", "gs2", 6, "gs9")), CallAttach)[0].server == "gs2"
    assert play.core.move_refused(7, "replaced", "", 0) == [], "another connection's"


# -- commands ----
def test_a_command_is_kept_until_its_result() -> None:
    play = Play().playing()
    (first,) = of(play.command(1), CallCommand)
    assert play.command(1) == [Count("command_repeated")]
    for answer in (Failed("unreachable"), Failed("deadline"), Busy(UNIT, 50)):
        call = play.last(CallCommand)
        assert play.do(play.core.command_answered(1, call.attempt, answer)) == []
        (again,) = of(play.pass_ms(COMMAND_RETRY_MS + 1), CallCommand)
        assert again.message == first.message
    effects = play.do(play.core.command_answered(1, 1, CommandResult(1, True, value={"a": 1})))
    assert said(effects) == [{"t": "result", "n": 1, "ok": True, "value": {"a": 1}}]
    assert play.core.command_answered(1, 4, CommandResult(1, True)) == [], "the result is told once"


def test_a_number_that_waits_is_not_used_for_another_command() -> None:
    play = Play().playing()
    play.command(1)
    effects = play.say(t="command", n=1, op="say", args={"text": "another"})
    assert said(effects) == [
        {"t": "result", "n": 1, "ok": False, "code": "key_reused", "detail": "another command waits under this number"}
    ]
    assert of(effects, CallCommand) == []
    first = play.do(play.core.command_answered(1, 1, CommandResult(1, True)))
    assert said(first)[0]["ok"], "the first one has its result all the same"


def test_moved_command_follows_the_owner() -> None:
    play = Play().playing()
    play.command(1)
    assert of(play.do(play.core.command_answered(1, 1, Moved(UNIT, "gs2", 1, 6))), CallAttach)[0].server == "gs2"
    play.attach(server="gs2", epoch=6)
    assert play.last(CallCommand).server == "gs2"


def test_refusals_are_results_and_too_many_are_refused() -> None:
    play = Play().playing()
    play.command(1)
    effects = play.core.command_answered(1, 1, Failed("settled"))
    assert said(effects) == [{"t": "result", "n": 1, "ok": False, "code": "settled", "detail": ""}]
    for n in range(2, 2 + CLIENT_COMMANDS_IN_FLIGHT):
        assert of(play.command(n), CallCommand)
    effects = play.command(99)
    assert said(effects)[0]["code"] == "too_many_commands"
    assert of(effects, CallCommand) == []


# -- events ----
def events(*numbers: int, epoch: int = 5, stream: int = 9, connection: int = 1) -> Events:
    return Events(AVATAR, 100, connection, epoch, stream, [(n, b'{"kind":"x"}') for n in numbers])


def test_events_are_forwarded_once_in_order_and_gaps_are_asked_for() -> None:
    play = Play().playing()
    assert [m["n"] for m in said(play.core.owner_events(events(1, 2)))] == [1, 2]
    assert said(play.core.owner_events(events(2))) == []
    effects = play.core.owner_events(events(4, 5))
    assert said(effects) == []
    (ask,) = of(effects, CallMissed)
    assert (ask.message.stream, ask.message.n) == (9, 2)
    assert of(play.core.owner_events(events(6)), CallMissed) == [], "asked once at a time"
    assert [m["n"] for m in said(play.core.missed_answered(events(3, 4, 5, 6)))] == [3, 4, 5, 6]


def test_an_events_ring_that_has_forgotten_means_attach_anew() -> None:
    play = Play().playing()
    play.core.owner_events(events(5))
    (_, call) = play.do(play.core.missed_answered(Failed("resync")))
    assert isinstance(call, CallAttach)
    assert (call.server, call.message.last_stream, call.message.last_event) == (SERVER, 9, 0)


def test_events_of_the_past_are_fenced_and_early_ones_wait() -> None:
    play = Play().playing()
    assert play.core.owner_events(events(1, epoch=4)) == [Count("event_stale")]
    assert play.core.owner_events(events(1, connection=2)) == []
    play.do(play.core.server_lost(SERVER, 3))
    assert play.core.owner_events(events(1, epoch=6, stream=11)) == []
    play.attach(server="gs2", epoch=6, stream=11, next_event=1)
    assert said(play.effects)[-1] == {"t": "event", "s": 11, "n": 1, "e": {"kind": "x"}}


def test_a_lost_last_event_is_asked_for_in_time() -> None:
    play = Play().playing()
    play.clock.now_ms += EVENT_TAIL_CHECK_MS
    assert len(of(play.say(t="ping", c=1), CallMissed)) == 1
    play.core.missed_answered(events())
    assert of(play.say(t="ping", c=1), CallMissed) == []


def test_seen_is_passed_on_for_this_stream_only() -> None:
    play = Play().playing()
    play.core.owner_events(events(1, 2))
    assert of(play.say(t="seen", s=9, n=2), Tell) == [Tell(SERVER, EventsSeen(AVATAR, 100, 9, 2))]
    assert play.say(t="seen", s=8, n=2) == []
    assert play.say(t="seen", s=9, n=3) == [], "nobody has seen what was not sent"


def test_views_of_an_older_epoch_are_fenced() -> None:
    play = Play().playing()
    assert play.core.view(5, 1, 2, 50) == [Look(1, 2, 50)]
    assert play.core.view(4, 1, 2, 50) == []


# -- time and ends ----
def test_deadlines() -> None:
    play = Play()
    assert closed_with(play.pass_ms(HANDSHAKE_MS)) is closing.HANDSHAKE_TIMEOUT
    play = Play().playing()
    play.clock.now_ms += CLIENT_SILENCE_MS - 1
    play.core.heard()
    assert play.pass_ms(CLIENT_SILENCE_MS - 1) == []
    effects = play.pass_ms(1)
    assert closed_with(effects) is closing.SILENT
    assert of(effects, Tell) == [Tell(SERVER, Detach(AVATAR, 100, 1, False))]


def test_wake_is_never_later_than_what_is_due() -> None:
    play = Play().playing()
    play.command(1)
    play.core.command_answered(1, 1, Busy(UNIT, 40))
    assert play.core.wake_ms == play.clock.now_ms + 40


def test_rate_limit() -> None:
    play = Play().playing()
    for _ in range(CLIENT_MESSAGES_BURST - 1):  # and one for identify
        assert play.core.heard() == []
    assert closed_with(play.core.heard()) is closing.RATE_LIMITED


def test_bye_leaves_and_a_lost_socket_does_not() -> None:
    play = Play().playing()
    assert of(play.say(t="bye"), Tell) == [Tell(SERVER, Detach(AVATAR, 100, 1, True))]
    assert play.core.closed() == [], "told once"
    assert Play().playing().core.closed() == [Tell(SERVER, Detach(AVATAR, 100, 1, False))]


def test_replaced_by_the_owner() -> None:
    play = Play().playing()
    assert play.core.ended(2, "replaced") == []
    assert closed_with(play.core.ended(1, "replaced")) is closing.REPLACED
