"""The play page in Chromium, against a scripted gateway: what a real one says only at chosen moments, or never."""

from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext

from tests.browser.fake_gateway import ORIGIN, FakeGateway
from tests.browser.pages import PlayPage

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


@pytest.fixture
def context(profile: Callable[..., BrowserContext]) -> BrowserContext:
    return profile()


def enter(context: BrowserContext, gateway: FakeGateway, *, shown: bool = True) -> PlayPage:
    """``shown``: wait for the picture too; else only for the avatar."""
    play = PlayPage(context, f"{ORIGIN}/", gateway.tick)
    gateway.install(play.page)
    play.load().wait_attached(60)
    return play.shown() if shown else play


def test_an_overruled_move_ends_where_the_owner_says(context: BrowserContext) -> None:
    gateway = FakeGateway()
    play = enter(context, gateway)
    gateway.refuse_moves = True
    play.walk(1, 0, 600)
    play.wait("projectk.position.corrections > 0")
    play.wait(f"Math.hypot(projectk.position.x - {gateway.spawn[0]}, projectk.position.y - {gateway.spawn[1]}) < 0.5")


def test_a_dropped_socket_is_resumed_and_the_order_goes_again(context: BrowserContext) -> None:
    gateway = FakeGateway()
    play = enter(context, gateway, shown=False)
    gateway.mute = True
    play.say("are you there?")
    play.wait("projectk.chat.length > 0")
    for _ in range(40):
        if any(heard["t"] == "command" for heard in gateway.heard):
            break
        play.pass_ms(50)
    gateway.mute = False
    gateway.socket.close(code=1012)
    play.wait("projectk.chat.some((line) => line.endsWith('are you there?'))", 15)
    resumes = [heard for heard in gateway.heard if heard["t"] == "resume"]
    assert [resumes[0]["connection"], resumes[0]["stream"]] == [2, 5]
    commands = [heard["n"] for heard in gateway.heard if heard["t"] == "command"]
    assert commands == [1, 1]
    assert play.state()["state"] == "attached"


def test_replaced_says_so_and_stays_away(context: BrowserContext) -> None:
    gateway = FakeGateway()
    play = enter(context, gateway, shown=False)
    gateway.socket.close(code=4002)
    play.wait("projectk.state === 'ended'")
    play.page.wait_for_timeout(1_500)
    assert len(gateway.sockets) == 1
    assert "elsewhere" in play.page.inner_text("#overlay")


def test_pointing_shows_name_owner_and_what_is_left(context: BrowserContext) -> None:
    gateway = FakeGateway()
    play = enter(context, gateway)
    other = gateway.join(21, "Misty Wren", 2.5, 1, publisher=3)
    gateway.tick()
    gateway.socket.close(code=1012)  # a new socket brings a snapshot with the companion's name
    play.wait(f"projectk.state === 'attached' && projectk.entities.some((e) => e.id === {other} && e.fields.name)", 15)
    card = play.card(other)
    assert "Misty Wren" in card
    assert "gs3" in card
    rock = play.entities("rock")[0]
    gateway.set_stock(rock["id"], 3, rock["x"], rock["y"], 9)
    play.wait(f"projectk.entities.find((e) => e.id === {rock['id']}).fields.stone === 3")
