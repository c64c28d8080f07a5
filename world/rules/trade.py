"""Two avatars exchange items, by five commands; ``T`` is the trade's id, a string of at most 64 characters.

trade_invite {target} → {"trade": T}: ask another avatar; where that one has asked, or asks just now, it is accepted.
Refusals: ``no_such_target``, ``too_far``, ``trade_busy``, ``trade_closed`` (what was to be accepted is over).

trade_accept {trade} → {}: begin. Refusals: ``trade_closed``.

trade_offer {trade, items} → {"version": V}: the whole own offer, instead of the last one; it clears both
confirmations. Refusals: ``trade_closed``, ``not_enough``.

trade_confirm {trade, version} → {"committed": bool}: agree to the offers of that version. Of the second to confirm:
true, once it is committed. Refusals: ``trade_closed``, ``trade_changed``, ``not_enough``, ``no_room``.

trade_cancel {trade} → {}: end it, or decline. Refusals: ``trade_closed``.
"""

from typing import Annotated

import msgspec

from world.bargain import trade_id
from world.ids import AVATAR_KIND, kind_of
from world.limits import TRADE_KINDS, TRADE_PIECES, TRADE_REACH_M
from world.messages import U53, Json, Short
from world.results import Refusal
from world.rules.context import Context
from world.rules.registry import command
from world.transaction import transaction
from world.transaction_document import transaction_id

Pieces = Annotated[int, msgspec.Meta(ge=1, le=TRADE_PIECES)]
Offer = Annotated[dict[Short, Pieces], msgspec.Meta(max_length=TRADE_KINDS)]


class TargetArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    target: U53


class TradeArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    trade: Short


class OfferArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    trade: Short
    items: Offer


class ConfirmArgs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    trade: Short
    version: U53


@command("trade_invite", TargetArgs)
async def invite(context: Context, args: TargetArgs) -> Json:
    target = context.find(args.target)
    if kind_of(target.id) != AVATAR_KIND or target.id == context.actor.id:
        context.refuse("no_such_target", "one trades with another avatar")
    if target.distance(context.actor) > TRADE_REACH_M:
        context.refuse("too_far", "it is too far away to trade")
    trade = trade_id(context.actor.id, context.key.session, context.key.number)
    view = target.view()
    there = {"target": target.id, "name": target.name, "x": view.x, "y": view.y}
    return await context.bargain(trade, "invite", **there)


@command("trade_accept", TradeArgs)
async def accept(context: Context, args: TradeArgs) -> Json:
    return await context.bargain(args.trade, "accept")


@command("trade_offer", OfferArgs)
async def offer(context: Context, args: OfferArgs) -> Json:
    _has(context, args.items)
    return await context.bargain(args.trade, "offer", items=args.items)


@command("trade_confirm", ConfirmArgs)
async def confirm(context: Context, args: ConfirmArgs) -> Json:
    commit = transaction_id(context.key)
    agreed = await context.bargain(args.trade, "confirm", version=args.version, commit=commit)
    if not agreed:
        return {"committed": False}
    result: Json = {"committed": True}
    try:
        await _exchange(context, agreed, result)
    except Refusal as refusal:
        context.bargain_ended(args.trade, refusal.code, commit)
        raise
    context.bargain_ended(args.trade, "", commit)
    return result


async def _exchange(context: Context, agreed: Json, result: Json) -> None:
    _has(context, agreed["mine"])
    me, partner = context.actor, context.find(agreed["partner"])
    async with transaction(me, partner, result=result) as tx:
        tx.move(me, partner, agreed["mine"])
        tx.move(partner, me, agreed["theirs"])


@command("trade_cancel", TradeArgs)
async def cancel(context: Context, args: TradeArgs) -> Json:
    return await context.bargain(args.trade, "cancel")


def _has(context: Context, items: dict[str, int]) -> None:
    carried = context.actor.items
    for name, count in items.items():
        if carried.get(name, 0) < count:
            context.refuse("not_enough", f"not that much {name}")
