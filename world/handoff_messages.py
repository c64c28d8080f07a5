"""The command plane's messages of a hand-off, part of the table of ``world.messages``; docs/protocol/10 tells how they
follow one another."""

from world.message_values import U16, U32, HandedAvatar, Message, Name, Short, StoreToken


class HandOffAhead(Message, frozen=True, tag=68):
    """Owner -> next owner: this unit is about to be offered, an avatar standing at ``place`` (whole
    metres). It prepares what needs no offer, so that the unit is busy for less. Answer: Ok; Problem: full, draining,
    busy, store_unavailable. Promises nothing: the offer decides, also where this was lost."""

    unit: Name
    place: tuple[U16, U16] | None = None


class HandOff(Message, frozen=True, tag=65):
    """Owner -> next owner: this unit, as committed under the store's token ``cas`` at ``epoch``, is to be yours by one
    CAS with exactly that token. ``document``: its whole document, with what is kept in memory only. Answer: HandedOver
    (also to a repeat); Problem: certainly not taken (full, draining, busy), or unknown (store_unavailable): the owner
    changes the token by a CAS of its own before it goes on."""

    unit: Name
    epoch: U32
    cas: StoreToken
    document: bytes
    avatar: HandedAvatar | None = None


class HandedOver(Message, frozen=True, tag=66):
    """It is ``server``'s now, at ``epoch``."""

    unit: Name
    server: Short
    generation: U32
    epoch: U32


class GiveAway(Message, frozen=True, tag=67):
    """An operator's wish, to a unit's owner: hand it to ``to`` ("": the best other server). Answer: HandedOver |
    Moved | Busy; Problem codes: no_such_target, no_destination, not_taken, store_unavailable."""

    unit: Name
    to: Short = ""
