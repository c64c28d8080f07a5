"""The play page in Chromium, against a scripted gateway: what a real one says only at chosen moments, or never."""

from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext

from tests.browser.fake_gateway import ORIGIN, FakeGateway
from tests.browser.pages import PlayPage, slow

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


TOKENS = "() => localStorage.getItem('projectk.slot.0.tokens')"
# One's own figure, with room for a name above it, and the panel that explains the game.
HELP_AND_OWN = """() => {
  const [x, y] = projectk.project(projectk.position.x, projectk.position.y);
  const help = document.getElementById("help").getBoundingClientRect();
  const scale = projectk.project(1, 0)[0] - projectk.project(0, 0)[0];
  const [left, right, top, bottom] = [x - 65, x + 65, y - 2.75 * scale - 18, y];
  const over = help.left < right && left < help.right && help.top < bottom && top < help.bottom;
  return { over, help: help.toJSON(), own: [left, top, right, bottom] };
}"""
APART = """(plates) => plates.every((a, i) => plates.slice(i + 1).every((b) => a.alpha < 0.5 || b.alpha < 0.5
  || Math.abs(a.x - b.x) >= (a.w + b.w) / 2 - 1 || Math.abs(a.y - b.y) >= Math.min(a.h, b.h) - 1))"""


@pytest.fixture
def context(profile: Callable[..., BrowserContext]) -> BrowserContext:
    return slow(profile())


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


def test_replaced_and_signed_out_say_so_and_stay_away_until_the_player_wishes(context: BrowserContext) -> None:
    gateway = FakeGateway()
    play = enter(context, gateway, shown=False)
    gateway.socket.close(code=4002)
    play.wait("projectk.state === 'ended'")
    play.page.wait_for_timeout(1_500)
    assert len(gateway.sockets) == 1
    assert "elsewhere" in play.page.inner_text("#overlay")
    play.page.click("#overlay-button >> text=Play here instead")
    play.wait_attached()
    assert len(gateway.sockets) == 2
    assert "refresh" in play.page.evaluate(TOKENS)

    play.page.click("#leave-button")
    play.page.click("#leave-no")
    assert play.state()["state"] == "attached"
    play.page.click("#leave-button")
    play.page.click("#leave-yes")
    play.wait("projectk.state === 'ended'")
    play.page.wait_for_selector("#overlay-title >> text=Signed out")
    assert play.page.evaluate(TOKENS) is None
    play.page.click("#overlay-button >> text=Play as a new guest")
    play.wait_attached()


def test_nothing_lies_over_ones_own_avatar_and_no_name_over_another(context: BrowserContext) -> None:
    gateway = FakeGateway()
    for number in range(3):
        gateway.join(30 + number, ("Misty Wren", "Copper Fox", "Quiet Heron")[number], number + 0.5, number * 0.3)
    play = enter(context, gateway)
    for width, height in ((720, 450), (390, 600), (1280, 720)):
        play.page.set_viewport_size({"width": width, "height": height})
        play.wait(f"!({HELP_AND_OWN})().over")  # once the picture has that size
    play.wait("projectk.plates.length === 4")
    play.wait(f"({APART})(projectk.plates)")


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
