"""A process among replicas finds its own address and id by the network it is told."""

import subprocess
import sys

import pytest

from runtime.addresses import own_address, placed
from runtime.settings import Settings, SettingsError, read_settings
from world.ids import node_number


@pytest.mark.parametrize(
    ("said", "address"),
    [
        ("127.0.0.0/8", "127.0.0.1"),
        ("127.0.0.9/24", "127.0.0.9"),
        ("0.0.0.0", "0.0.0.0"),
        ("somewhere.example", "somewhere.example"),
    ],
)
def test_a_network_stands_for_the_own_address_in_it(said: str, address: str) -> None:
    assert own_address(said) == address


def test_no_address_in_the_network_is_said() -> None:
    with pytest.raises(SettingsError, match=r"^This machine has no address in 203\.0\.113\.0/24"):
        own_address("203.0.113.0/24")


def test_two_addresses_are_two_nodes_and_the_same_one_is_the_same() -> None:
    def node(address: str, role: str) -> str:
        return placed(read_settings(node_id="auto", bind_host=f"{address}/22"), role).node_id

    assert node("10.77.0.2", "gameserver") == "gs2"
    assert node("10.77.1.4", "gameserver") == "gs260"
    assert node("10.77.1.4", "gateway") == "gw260"
    assert node_number(node("10.77.3.254", "login")) == 1022


def test_placing_gives_addresses_and_can_be_repeated() -> None:
    said = read_settings(node_id="auto", bind_host="127.0.0.7/24", ops_host="127.0.0.8/24", metrics_host="127.0.0.0/8")
    once = placed(said, "gateway")
    assert (once.node_id, once.bind_host, once.ops_host, once.metrics_host) == (
        "gw7", "127.0.0.7", "127.0.0.8", "127.0.0.1",
    )  # fmt: skip
    assert placed(once, "gateway") == once
    assert placed(Settings(), "login").node_id == "lg1"
    assert placed(Settings(node_id="lg4"), "login").node_id == "lg4"


def test_ids_that_cannot_be_made_are_refused() -> None:
    with pytest.raises(SettingsError, match="needs --bind-host as a network"):
        placed(read_settings(node_id="auto"), "gameserver")
    with pytest.raises(SettingsError, match=r"10\.1\.0\.1 is number 65537 in 10\.0\.0\.0/8, .* \(/19\)\.$"):
        placed(read_settings(node_id="auto", bind_host="10.1.0.1/8"), "gameserver")


@pytest.mark.parametrize("said", ["10.77.0.0/40", "ten/8", "::/64"])
def test_what_is_no_network_is_refused_with_its_flag(said: str) -> None:
    with pytest.raises(SettingsError, match=r"^--bind-host: .*is no IPv4 network like"):
        read_settings(bind_host=said)


def test_a_role_that_cannot_be_placed_refuses_to_start_with_one_sentence() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cluster.role", "broker"],
        env={"PROJECTK_BIND_HOST": "203.0.113.0/24"}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1)
    assert done.stderr.startswith("projectk: This machine has no address in 203.0.113.0/24")
