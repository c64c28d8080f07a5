"""What a player's window shows and does while processes of a real cluster are killed under it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext

from tests.browser.pages import PlayPage
from tests.support.cluster import cluster

pytestmark = [pytest.mark.browser, pytest.mark.cluster, pytest.mark.timeout(240)]


def walks(play: PlayPage, dx: int) -> None:
    """Walks, and the owner agrees."""
    x, _ = play.settled()
    play.walk_until(dx, 0, f"(projectk.position.x - {x}) * {dx} > 2")
    at, _ = play.settled()
    assert (at - x) * dx > 1, "the owner refused"


def test_a_window_goes_on_when_its_server_and_then_its_gateway_is_killed(
    profile: Callable[..., BrowserContext], tmp_path: Path
) -> None:
    flags = {"placement": "spread", "gameservers": 2, "logins": 1, "brokers": 1, "restart": "never"}
    with cluster(tmp_path, **flags) as running:
        play = PlayPage(profile(), f"{running.url}/").open()
        walks(play, 1)
        session, connection, gateway, owner = (play.read(n) for n in ("session", "connection", "gateway", "server"))

        running.kill(owner)
        play.wait(f"projectk.state === 'attached' && projectk.server !== '{owner}'", 30)
        assert [play.read("session"), play.read("connection")] == [session, connection], "the socket stayed"
        play.wait("document.querySelector('#badge-dot').className !== 'dot lost'")
        play.wait("document.querySelector('#overlay').getAttribute('aria-hidden') === 'true'")
        play.wait("document.querySelector('#badge-server').textContent === projectk.server")
        walks(play, -1)

        running.kill(gateway)
        play.wait(f"projectk.state === 'attached' && projectk.gateway !== '{gateway}'", 30)
        assert play.read("session") == session, "resumed, not begun anew"
        assert play.read("connection") > connection
        play.wait("document.querySelector('#badge-gateway').textContent === `via ${projectk.gateway}`")
        walks(play, 1)
        assert play.pixels_not_blank()
