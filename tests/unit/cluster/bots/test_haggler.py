"""Two hagglers come to terms, whatever they change their minds about."""

import random

import pytest

from cluster.bots.haggler import Haggler
from world.bargain import Bargain, Phase, Side

A, B = 1, 2


@pytest.mark.parametrize("seed", range(20))
def test_two_of_them_trade(seed: int) -> None:
    rng = random.Random(seed)
    hagglers = {A: Haggler(rng), B: Haggler(rng)}
    carried = {A: {"wood": 3}, B: {"stone": 2, "berries": 0}}
    bargain: Bargain | None = None
    ended: list[Phase] = []
    for n in range(400):
        who = rng.choice((A, B))
        wish = hagglers[who].wish(carried[who], [A + B - who])
        if wish is None:
            continue
        if wish.op == "trade_invite":
            bargain = Bargain(f"t{n}", Side(who, "one", 0, 0), Side(wish.args["target"], "two", 0, 0))
        else:
            assert bargain is not None
            assert wish.args["trade"] == bargain.trade
            assert all(count <= carried[who][name] for name, count in wish.args.get("items", {}).items())
            args = {**wish.args, "commit": "x"}
            bargain.act(who, wish.op.removeprefix("trade_"), args, f"{n}", float(n))
        if bargain.phase is Phase.COMMITTING:
            assert bargain.inviter.items or bargain.partner.items
            bargain.ended("")
        if bargain.is_over:
            ended.append(bargain.phase)
        for avatar, haggler in hagglers.items():
            haggler.told({**bargain.view(avatar)})
    assert Phase.COMMITTED in ended
    assert hagglers[A].committed == hagglers[B].committed == ended.count(Phase.COMMITTED)


def test_it_waits_for_results_and_forgets_with_the_session() -> None:
    haggler = Haggler(random.Random(1))
    assert haggler.wish({}, [B]) is None, "nothing to give"
    assert haggler.wish({"wood": 1}, []) is None, "nobody there"
    haggler.waiting = True
    assert haggler.wish({"wood": 1}, [B]) is None
    haggler.told(Bargain("t", Side(B, "b", 0, 0), Side(A, "a", 0, 0)).view(A))
    assert haggler.partner == B
    haggler.forget()
    assert (haggler.partner, haggler.waiting) == (0, False)
