"""The other side of a trade, scripted: answers the player's commands as the server's rules do, and acts by methods."""

from typing import Any

from tests.browser.fake_gateway import FakeGateway

TRADE = 77  # the number of the one trade


class FakeTrade:
    """One trade on a ``FakeGateway``, between its avatar and a companion."""

    def __init__(self, gateway: FakeGateway, companion: int, name: str) -> None:
        self.gateway = gateway
        self.told: dict[str, Any] = {
            **{"kind": "trade", "trade": TRADE, "state": "closed", "with": {"id": companion, "name": name}},
            **{"mine": {}, "theirs": {}, "i_confirmed": False, "they_confirmed": False, "version": 1, "reason": ""},
        }
        gateway.rules |= {
            f"trade_{name}": getattr(self, f"_{name}") for name in ("invite", "accept", "offer", "confirm", "cancel")
        }

    def tell(self, **change: Any) -> None:
        """The trade has changed: the player hears the whole of it."""
        self.told |= change
        self.gateway.event(dict(self.told))

    # -- what the other side does --------------------------------------------------------------------------------------

    def invite(self) -> None:
        self.tell(state="invited")

    def open(self) -> None:
        self.tell(state="open")

    def offer(self, items: dict[str, int]) -> None:
        self.tell(theirs=items, i_confirmed=False, they_confirmed=False, version=self.told["version"] + 1)

    def confirm(self) -> None:
        self.tell(they_confirmed=True)
        self._commit_if_both()

    def commit(self) -> None:
        """The items change hands."""
        mine, theirs = self.told["mine"], self.told["theirs"]
        held = {
            name: self.gateway.inventory.get(name, 0) - mine.get(name, 0) + theirs.get(name, 0)
            for name in {*self.gateway.inventory, *theirs}
        }
        self.gateway.inventory = {name: count for name, count in sorted(held.items()) if count}
        self.gateway.event({"kind": "inventory", "items": self.gateway.inventory})
        self.tell(state="committed")

    def _commit_if_both(self) -> bool:
        """Whether both have confirmed: it is then being committed, until ``commit``."""
        both = bool(self.told["i_confirmed"] and self.told["they_confirmed"])
        if both:
            self.tell(state="committing")
        return both

    # -- the player's commands -----------------------------------------------------------------------------------------

    def _invite(self, said: dict[str, Any]) -> None:
        if said["args"]["target"] != self.told["with"]["id"]:
            self.gateway.refuse(said, "no_such_target")
        else:
            self.tell(state="inviting")
            self.gateway.result(said, {"trade": TRADE})

    def _accept(self, said: dict[str, Any]) -> None:
        self.gateway.result(said, {"trade": TRADE})
        self.open()

    def _offer(self, said: dict[str, Any]) -> None:
        items = said["args"]["items"]
        if any(count > self.gateway.inventory.get(name, 0) for name, count in items.items()):
            self.gateway.refuse(said, "not_enough")
        else:
            self.tell(mine=items, i_confirmed=False, they_confirmed=False, version=self.told["version"] + 1)
            self.gateway.result(said, {"version": self.told["version"]})

    def _confirm(self, said: dict[str, Any]) -> None:
        if said["args"]["version"] != self.told["version"]:
            self.gateway.refuse(said, "trade_changed")
        else:
            self.tell(i_confirmed=True)
            self.gateway.result(said, {"committed": self._commit_if_both()})

    def _cancel(self, said: dict[str, Any]) -> None:
        self.gateway.result(said, {})
        self.tell(state="closed", reason="cancelled")
