"""The protocol's documents name what the code does."""

from pathlib import Path

import msgspec
import pytest

from gateway import closing
from gateway.client_messages import Bye, Command, Identify, Ping, Resume, Seen
from gateway.problems import STATUS
from world.messages import ALL

DOCS = Path(__file__).parents[3] / "docs" / "protocol"


@pytest.mark.parametrize("row", closing.ALL, ids=lambda row: row.name)
def test_every_close_code_is_documented(row: closing.Closing) -> None:
    text = (DOCS / "07-close-codes-and-errors.md").read_text()
    assert f"| {row.code} | {row.name} |" in text
    assert f"| {row.reconnect} |" in text


@pytest.mark.parametrize("code", STATUS)
def test_every_problem_is_documented(code: str) -> None:
    assert any(
        f"| {STATUS[code]} |" in line and f"`{code}`" in line for line in (DOCS / "02-http.md").read_text().splitlines()
    )


@pytest.mark.parametrize("message", [Identify, Resume, Ping, Command, Seen, Bye])
def test_every_client_message_is_documented_with_its_fields(message: type[msgspec.Struct]) -> None:
    text = "".join((DOCS / name).read_text() for name in ("03-socket-session.md", "06-commands-and-events.md"))
    assert f'"t":"{message.__struct_config__.tag}"' in text
    for field in msgspec.structs.fields(message):
        assert f'"{field.name}":' in text


@pytest.mark.parametrize("message", ALL, ids=lambda message: message.__name__)
def test_every_mesh_message_is_documented(message: type[msgspec.Struct]) -> None:
    rows = (DOCS / "08-mesh-command-plane.md").read_text().splitlines()
    (row,) = [line for line in rows if line.startswith(f"| {message.__struct_config__.tag} |")]
    for field in msgspec.structs.fields(message):
        assert f"`{field.name}`" in row
