"""The messages of transactions and trades, which ``world.messages`` takes into its table."""

from world.message_values import U32, U53, Hold, Json, Message, Name, Short


class Lock(Message, frozen=True, tag=100):
    """Creator -> a unit's owner: hold this of the unit for transaction ``tx``. ``origin``, ``origin_epoch``: the acting
    avatar's unit, as the creator has it. Answer: Ok once that is committed (and to a repeat) | Moved | Busy; Problem
    codes: settled, busy, not_enough, no_room, no_such_target, not_a_container, fenced, store_unavailable."""

    tx: Short
    unit: Name
    to_epoch: U32
    origin: Name
    origin_epoch: U32
    hold: Hold


class Decided(Message, frozen=True, tag=101):
    """To a unit's owner: the intent says so, for ever. Answer: Ok once the unit, as committed, is done with it | Moved
    | Busy; Problem codes: unknown (it neither holds nor remembers it), store_unavailable."""

    tx: Short
    unit: Name
    to_epoch: U32
    committed: bool


class DoBargain(Message, frozen=True, tag=102):
    """To the owner of the inviter's ``unit``, who keeps the trade: ``avatar`` (at ``epoch``, standing at x, y) does
    ``act``: accept | offer | confirm | cancel | end | leave | ask. ``key`` names the command, for repeats. Answer:
    Bargained | Moved | Busy; Problem codes: those of the commands."""

    trade: Short
    unit: Name
    to_epoch: U32
    avatar: U53
    epoch: U32
    act: Short
    key: Short
    args: Json
    x: float
    y: float


class Bargained(Message, frozen=True, tag=103):
    """What the act answers, and the trade as the avatar sees it, after its ``serial``-th change."""

    value: Json
    serial: U32
    view: Json


class BargainTold(Message, frozen=True, tag=104):
    """From who keeps a trade to the owner of the partner's ``unit``: it is so now. Answer: Ok | Moved | Busy; Problem
    codes: trade_busy, trade_met (the invited has invited as well; detail: its trade, which stands), trade_closed (no
    such trade is open here), no_such_target."""

    trade: Short
    unit: Name
    to_epoch: U32
    avatar: U53
    inviter: U53
    serial: U32
    view: Json
