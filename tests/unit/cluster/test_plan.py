"""The plan of a cluster: which processes, on which ports, with which settings."""

from pathlib import Path

from cluster.supervisor.plan import ROLL_ORDER, START_ORDER, STOP_ORDER, http_url, plan
from runtime.settings import Settings


def test_every_process_is_planned_with_its_settings() -> None:
    planned = plan(Settings(gameservers=2, gateways=2, data=Path("/d")), [8080, 8081], [7001, 7002], [9001, 9002])
    assert [p.id for p in planned] == ["br1", "br2", "st1", "lg1", "lg2", "gw1", "gw2", "gs1", "gs2"]
    by_id = {p.id: p.settings for p in planned}
    assert (by_id["gw1"]["port"], by_id["gw2"]["port"]) == ("8080", "8081")
    assert (by_id["gw1"]["ops_port"], by_id["gw2"]["ops_port"]) == ("9001", "9002")
    assert by_id["gw1"]["ops_token_file"] == "/d/keys/ops.token"
    assert (by_id["br1"]["command_port"], by_id["br2"]["command_port"]) == ("7001", "7002")
    assert "command_port" not in by_id["gs1"]
    assert {s["join"] for s in by_id.values()} == {"tcp://127.0.0.1:7001,tcp://127.0.0.1:7002"}
    assert by_id["gs2"]["log_file"] == "/d/logs/gs2.log"


def test_an_environment_carries_these_settings_and_no_others() -> None:
    (broker, *_rest) = plan(Settings(), [8080, 8081], [7001, 7002], [9001, 9002])
    environment = broker.environment({"PATH": "/bin", "PROJECTK_PORT": "9", "PROJECTK_READY_FILE": "x"})
    assert environment["PATH"] == "/bin"
    assert environment["PROJECTK_NODE_ID"] == "br1"
    assert "PROJECTK_PORT" not in environment
    assert "PROJECTK_READY_FILE" not in environment


def test_what_starts_stops_and_the_store_outlives_what_saves_into_it() -> None:
    assert sorted(role for wave in START_ORDER for role in wave) == sorted(STOP_ORDER) == sorted(ROLL_ORDER)
    assert STOP_ORDER.index("gameserver") < STOP_ORDER.index("store") < STOP_ORDER.index("broker")


def test_urls_are_for_a_browser_on_this_machine() -> None:
    assert http_url("0.0.0.0", 80) == "http://127.0.0.1:80"
    assert http_url("::", 80) == "http://[::1]:80"
    assert http_url("::1", 80) == "http://[::1]:80"
    assert http_url("10.0.0.1", 80) == "http://10.0.0.1:80"


def test_with_couchbase_there_is_no_store_process_and_only_who_opens_it_gets_the_credentials() -> None:
    settings = Settings(store="couchbase://db/world", gameservers=1, gateways=1, logins=1, brokers=1)
    planned = plan(settings, [8080], [7001], [9001])
    assert [p.id for p in planned] == ["br1", "lg1", "gw1", "gs1"]
    assert {p.settings["store"] for p in planned} == {"couchbase://db/world"}
    for process in planned:
        environment = process.environment({"PROJECTK_STORE_USER": "me", "PROJECTK_STORE_PASSWORD_FILE": "/secret"})
        assert ("PROJECTK_STORE_PASSWORD_FILE" in environment) == (process.id != "br1")
        assert ("PROJECTK_STORE_USER" in environment) == (process.id != "br1")
