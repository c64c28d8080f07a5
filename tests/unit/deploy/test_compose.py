"""compose.yaml and the Dockerfile, as far as they can be judged without Docker: by the Compose Specification's schema,
and by the code that they start."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml

from cluster.cli import app
from cluster.verbs.healthcheck import ROLES
from gateway.pages import _VENDOR
from runtime.settings import PREFIX, Settings, read_settings
from runtime.store.opening import ADMIN_CREDENTIALS, CREDENTIALS, CouchbaseUrl
from tests.support.cluster import environment
from world.limits import CLIENT_SILENCE_MS, DRAIN_MS, HTTP_LOGIN_MS, NODE_NUMBERS, PROCESS_STOP_MS

ROOT = Path(__file__).parents[3]
SCHEMA = json.loads((ROOT / "tests/support/compose_spec/compose-spec.json").read_text())
HAPROXY = (ROOT / "deploy/haproxy.cfg").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
OWN = "projectk"
Service = dict[str, Any]


def interpolated(text: str) -> str:
    """``${NAME:-default}`` → default; that every variable has one is part of what is checked."""
    return re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", text)


COMPOSE: dict[str, Any] = yaml.safe_load(interpolated((ROOT / "compose.yaml").read_text()))
SERVICES: dict[str, Service] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith(f"{OWN}:")}
ROLE_SERVICES = {name: service for name, service in OURS.items() if service["command"][0] in ROLES}


def variables(service: Service) -> dict[str, str]:
    return {name: str(value) for name, value in service.get("environment", {}).items()}


def seconds(text: str) -> float:
    """``45s`` or ``30s``: the only form that is used here."""
    matched = re.fullmatch(r"(\d+)s", text)
    assert matched, text
    return float(matched[1])


@contextmanager
def started_with(service: Service) -> Iterator[None]:
    """This process's environment as the container's."""
    with pytest.MonkeyPatch.context() as patch:
        for name in set(os.environ) - set(environment()):
            patch.delenv(name)
        for name, value in variables(service).items():
            patch.setenv(name, value)
        yield


# -- the file ----------------------------------------------------------------------------------------------------------
def test_the_file_follows_the_compose_specification() -> None:
    errors = list(jsonschema.Draft7Validator(SCHEMA).iter_errors(COMPOSE))
    assert [f"{'/'.join(map(str, e.path))}: {e.message}" for e in errors] == []
    typo = COMPOSE | {"services": {"x": SERVICES["login"] | {"stop_grace_periode": "1s"}}}
    assert list(jsonschema.Draft7Validator(SCHEMA).iter_errors(typo))


def test_every_variable_has_a_default() -> None:
    assert "${" not in interpolated((ROOT / "compose.yaml").read_text())


def test_the_cluster_is_as_large_as_promised() -> None:
    replicas = {name: service.get("deploy", {}).get("replicas", 1) for name, service in SERVICES.items()}
    assert (replicas["gameserver"], replicas["gateway"], replicas["login"]) == (3, 2, 2)
    assert sum(name.startswith("broker-") for name in SERVICES) == 2
    assert sum(bool(re.fullmatch(r"couchbase-\d", name)) for name in SERVICES) == 3


def test_images_are_pinned() -> None:
    froms = re.findall(r"^FROM (\S+)", DOCKERFILE, flags=re.MULTILINE)
    for image in [*froms, *(service["image"] for service in SERVICES.values())]:
        name, _, tag = image.partition(":")
        assert re.search(r"\d+\.\d+\.\d+", tag), f"{name} is not pinned to a release: {tag!r}"


@pytest.mark.parametrize("name", SERVICES)
def test_all_that_a_service_names_is_there(name: str) -> None:
    service = SERVICES[name]
    assert set(service["networks"]) <= set(COMPOSE["networks"])
    assert set(service.get("depends_on", ())) <= set(SERVICES)
    for volume in service.get("volumes", ()):
        source = volume.split(":")[0]
        assert source in COMPOSE["volumes"] or (ROOT / source).is_file(), source
    held = {s if isinstance(s, str) else s["source"]: s if isinstance(s, str) else s["target"]
            for s in service.get("secrets", ())}  # fmt: skip
    assert set(held) <= set(COMPOSE["secrets"])
    read = {v for v in variables(service).values() if v.startswith("/run/secrets/")}
    assert read == {f"/run/secrets/{target}" for target in held.values()}, "each secret is read, and given"


def test_secrets_and_volumes_are_used_and_no_secret_is_in_the_repository() -> None:
    text = "".join(str(service.get("secrets", "")) + str(service.get("volumes", "")) for service in SERVICES.values())
    assert [name for name in (*COMPOSE["secrets"], *COMPOSE["volumes"]) if name not in text] == []
    assert "secrets/" in (ROOT / ".gitignore").read_text().split()
    assert {Path(secret["file"]).parent for secret in COMPOSE["secrets"].values()} == {Path("secrets")}


def test_only_the_door_is_published_and_the_rest_has_no_way_out() -> None:
    assert [name for name, service in SERVICES.items() if service.get("ports")] == ["haproxy"]
    assert COMPOSE["networks"]["mesh"]["internal"] is COMPOSE["networks"]["edge"]["internal"] is True
    assert set(SERVICES["haproxy"]["networks"]) == {"public", "edge"}
    assert [name for name, service in SERVICES.items() if "edge" in service["networks"]] == ["gateway", "haproxy"]


# -- what is started ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", OURS)
def test_every_command_and_setting_is_one_of_ours(name: str) -> None:
    service = OURS[name]
    verb, *flags = service["command"]
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    commands[verb].make_context(verb, list(flags))  # raises for a flag that there is not
    known = {PREFIX + field.upper() for field in Settings.model_fields} | {*CREDENTIALS, *ADMIN_CREDENTIALS}
    assert {variable for variable in variables(service) if variable.startswith(PREFIX)} <= known
    with started_with(service):
        read_settings()  # raises for a value that is refused


@pytest.mark.parametrize("name", ROLE_SERVICES)
def test_a_role_is_hardened_stops_in_time_and_is_checked(name: str) -> None:
    service = ROLE_SERVICES[name]
    role = service["command"][0]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["init"] is True  # as process 1, Python would not hear SIGTERM before it has a handler
    assert "user" not in service  # the image's, which is not root
    assert service["restart"] == "unless-stopped"
    assert seconds(service["stop_grace_period"]) * 1_000 > DRAIN_MS + PROCESS_STOP_MS + 5_000
    assert service["healthcheck"]["test"] == ["CMD", "projectk", "healthcheck", role]
    assert service["deploy"]["resources"]["limits"]["memory"]
    with started_with(service):
        settings = read_settings()
        assert settings.metrics_port or role == "gateway"


def test_ids_are_unique_however_many_replicas_there_are() -> None:
    """What may be scaled takes its id from its address; what has a fixed id is one service each."""
    ids = {name: variables(service)["PROJECTK_NODE_ID"] for name, service in ROLE_SERVICES.items()}
    fixed = [node for node in ids.values() if node != "auto"]
    assert sorted(fixed) == ["br1", "br2"]
    mesh = ip_network(COMPOSE["networks"]["mesh"]["ipam"]["config"][0]["subnet"])
    assert mesh.num_addresses <= NODE_NUMBERS
    for service in ROLE_SERVICES.values():
        said = variables(service)
        assert said["PROJECTK_BIND_HOST"] == said["PROJECTK_METRICS_HOST"] == str(mesh)
        assert said.get("PROJECTK_OPS_HOST", str(mesh)) == str(mesh)
        assert "mesh" in service["networks"]
        assert ("replicas" in service["deploy"]) is (said["PROJECTK_NODE_ID"] == "auto")


def test_everybody_joins_where_the_brokers_say_that_they_are() -> None:
    joined = {variables(service)["PROJECTK_JOIN"] for service in ROLE_SERVICES.values()}
    told = [variables(SERVICES[name])["PROJECTK_ADVERTISE_COMMAND"] for name in ("broker-1", "broker-2")]
    assert joined == {",".join(told)}
    for name, endpoint in zip(("broker-1", "broker-2"), told, strict=True):
        assert endpoint == f"tcp://{name}:{variables(SERVICES[name])['PROJECTK_COMMAND_PORT']}"
    seeds = {variables(service)["PROJECTK_WORLD_SEED"] for service in ROLE_SERVICES.values()}
    assert len(seeds) == 1


def test_the_store_is_at_the_names_that_couchbases_nodes_have() -> None:
    with started_with(SERVICES["gameserver"]):
        url = read_settings().store_url
    assert isinstance(url, CouchbaseUrl)
    aliases = [SERVICES[f"couchbase-{n}"]["networks"]["mesh"]["aliases"][0] for n in (1, 2, 3)]
    assert list(url.hosts) == aliases == [SERVICES[f"couchbase-{n}"]["hostname"] for n in (1, 2, 3)]
    assert (
        len({service["volumes"][0] for name, service in SERVICES.items() if re.fullmatch(r"couchbase-\d", name)}) == 3
    )
    users = [name for name, service in OURS.items() if "PROJECTK_STORE" in variables(service)]
    assert sorted(users) == ["couchbase-init", "gameserver", "gateway", "login", "ops"]
    for name in users:
        assert variables(SERVICES[name])["PROJECTK_STORE"] == str(url)
    for name in ("gameserver", "gateway", "login"):
        waited = SERVICES[name]["depends_on"]["couchbase-init"]
        assert waited == {"condition": "service_completed_successfully"}


def test_operators_ask_gateways_inside_the_mesh() -> None:
    ops, gateway = variables(SERVICES["ops"]), variables(SERVICES["gateway"])
    assert ops["PROJECTK_OPS_URL"] == f"http://gateway:{gateway['PROJECTK_OPS_PORT']}"
    assert ops["PROJECTK_OPS_TOKEN_FILE"] == gateway["PROJECTK_OPS_TOKEN_FILE"]
    assert SERVICES["ops"]["networks"] == ["mesh"]


# -- the door ----------------------------------------------------------------------------------------------------------
def test_gateways_believe_haproxy_and_nobody_else() -> None:
    edge = COMPOSE["networks"]["edge"]["ipam"]["config"][0]
    own = SERVICES["haproxy"]["networks"]["edge"]["ipv4_address"]
    assert variables(SERVICES["gateway"])["PROJECTK_TRUSTED_PROXIES"] == f"{own}/32"
    assert ip_address(own) in ip_network(edge["subnet"])
    assert ip_address(own) not in ip_network(edge["ip_range"])  # which others get addresses from


def test_haproxys_file_and_its_service_name_the_same_things() -> None:
    said = variables(SERVICES["haproxy"])
    assert set(re.findall(r"\$\{(LB_[A-Z_]+)\}", HAPROXY)) == set(said)
    assert said["LB_GATEWAYS"] == f"gateway:{variables(SERVICES['gateway'])['PROJECTK_PORT']}"
    ports = {port.rpartition(":")[2] for port in SERVICES["haproxy"]["ports"]}
    assert ports == {said["LB_HTTPS_PORT"], said["LB_HTTP_PORT"]}
    assert f"127.0.0.1/{said['LB_STATUS_PORT']}" in str(SERVICES["haproxy"]["healthcheck"]["test"])


def test_haproxy_is_more_patient_than_those_it_connects() -> None:
    def timeout_s(name: str) -> float:
        matched = re.search(rf"^ +timeout {name} +(\d+)s", HAPROXY, flags=re.MULTILINE)
        assert matched, name
        return float(matched[1])

    assert timeout_s("tunnel") * 1_000 > CLIENT_SILENCE_MS
    assert timeout_s("server") * 1_000 > 2 * HTTP_LOGIN_MS
    assert seconds(SERVICES["haproxy"]["stop_grace_period"]) > float(re.findall(r"hard-stop-after (\d+)s", HAPROXY)[0])


# -- the image ---------------------------------------------------------------------------------------------------------
def copied() -> list[str]:
    """What the Dockerfile takes from the folder it is built in."""
    lines = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, flags=re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


def test_what_is_copied_exists_is_all_there_is_and_reaches_the_builder() -> None:
    ignore = (ROOT / ".dockerignore").read_text().split("\n")
    assert ignore[1] == "*"
    assert [source for source in copied() if not (ROOT / source).exists()] == []
    assert {line[1:] for line in ignore if line.startswith("!")} == set(copied())
    packages = re.findall(r'"(\w+)\*"', (ROOT / "pyproject.toml").read_text())
    assert {source for source in copied() if (ROOT / source).is_dir()} == set(packages)


def test_the_pages_find_their_packages() -> None:
    taken = set(re.findall(r"^COPY --from=client /app/(\S+)", DOCKERFILE, flags=re.MULTILINE))
    assert taken == {f"node_modules/pixi.js/dist/{path}" for path in _VENDOR.values()}


def test_the_image_is_installed_by_hashes_and_runs_as_nobody_in_particular() -> None:
    *_, last = DOCKERFILE.split("\nFROM ")
    assert "--require-hashes -r requirements.lock" in DOCKERFILE
    assert "npm ci" in DOCKERFILE
    assert not re.search(r"pip install|npm|apt-get", last)
    assert re.search(r"^USER 10001", last, flags=re.MULTILINE)
    assert 'CMD ["projectk", "healthcheck"]' in last
    assert 'ENTRYPOINT ["projectk"]' in last


def test_the_documents_commands_name_what_there_is() -> None:
    text = (ROOT / "docs/operations.md").read_text().partition("## A cluster in containers")[2].partition("\n## ")[0]
    services = {word for line in re.findall(r"docker compose (?:stop|start|kill) (.+)", text) for word in line.split()}
    assert {word.strip("`,") for word in services if re.fullmatch(r"[a-z-]+\d?", word)} & set(SERVICES)
    assert set(re.findall(r"`(PROJECTK_[A-Z_]+)`", text)) <= {PREFIX + field.upper() for field in Settings.model_fields}
    used = set(re.findall(r"\$\{([A-Z_]+):-", (ROOT / "compose.yaml").read_text()))
    assert [name for name in used if f"`{name}`" not in text and name != "PROJECTK_VERSION"] == []
    with started_with(SERVICES["ops"]):
        assert str(read_settings().store_url) in text
