"""Every operation of the API's own description, tried with good and with bad data against the API as it is served.

Left out: the stream of events, which never ends (what it takes and what it sends is tested in test_api.py). And
`wait_seconds` is always 0, because its whole point is to wait.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import msgspec
import pytest

from shared.adapters import process
from shared.adapters.jetstream import Bus
from shared.adapters.postgres import EventLog
from shared.domain.access import Role
from shared.domain.names import host_stream
from tests.support.builders import HOST, SLOT, a_snapshot_story, new, one_of_each
from tests.support.servers import Database, NatsServer
from tests.support.serving import served_settings, serving
from tests.support.stock import put_snapshot, stocked

BOUND_SECONDS = 180
pytestmark = pytest.mark.timeout(BOUND_SECONDS)

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
)
CONFIG = """
[parameters]
"query.wait_seconds" = 0
"""


@pytest.fixture
async def client(
    database: Database, nats_server: NatsServer, bus: Bus, log: EventLog, tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    """The API of a host to which everything has happened."""
    stories = [*a_snapshot_story(SLOT), *(new(event) for event in one_of_each())]
    await log.append(host_stream(HOST), None, stories)
    settings = msgspec.structs.replace(served_settings(database, nats_server), backup_root=tmp_path / "drive")
    with stocked(settings.backup_root) as folder:
        put_snapshot(folder, SLOT)
        async with serving(settings, Role.OPERATOR) as made:
            yield made


async def test_every_operation_does_what_the_description_says(client: httpx.AsyncClient, tmp_path: Path) -> None:
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    argv = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config)),
        *("run", str(client.base_url.join("/api/schema/openapi.json"))),
        *("--phases", "examples,coverage,fuzzing", "--checks", ",".join(CHECKS)),
        *("--exclude-path", "/api/events/stream", "--request-timeout", "60", "--warnings", "off"),
        *("--max-examples", "8", "--seed", "20260306", "--continue-on-failure", "--no-shrink", "--no-color"),
        *("--header", f"Authorization: {client.headers['authorization']}"),
        # One worker: two threads that parse at once are too many for CPython 3.11 (gh-106905).
        *("--generation-database", "none", "--workers", "1"),
        *("--suppress-health-check", "all"),  # how long an example takes says nothing on a machine that is shared
    ]
    done = await process.run(argv, timeout_seconds=BOUND_SECONDS, cwd=tmp_path)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()


async def test_the_description_can_be_read_by_a_person(client: httpx.AsyncClient) -> None:
    document = (await client.get("/api/schema/openapi.json")).json()
    tags = {tag["name"] for tag in document["tags"] if tag["description"]}
    for path, method, operation in operations(document):
        place = (path, method)
        assert (place, bool(operation["summary"] and operation["description"])) == (place, True)
        assert set(operation["tags"]) <= tags
        assert {"400", "401", "403", "503"} <= set(operation["responses"])
        for parameter in operation.get("parameters", ()):
            assert (*place, parameter["name"], bool(parameter.get("description"))) == (*place, parameter["name"], True)
            assert "example" in parameter


async def test_every_example_is_what_it_is_an_example_of(client: httpx.AsyncClient) -> None:
    document = (await client.get("/api/schema/openapi.json")).json()
    components = document["components"]
    for name, schema in components["schemas"].items():
        for example in schema["examples"]:
            assert (name, example, fits(example, schema, components)) == (name, example, True)
    for path, method, operation in operations(document):
        shown = [operation.get("requestBody", {}), *operation["responses"].values(), *components["responses"].values()]
        for content in (content for one in shown for content in one.get("content", {}).values()):
            place = (path, method, content["example"])
            assert (place, fits(content["example"], content["schema"], components)) == (place, True)


def operations(document: Any) -> list[tuple[str, str, Any]]:
    """Path, method and operation of each."""
    return [(path, method, one) for path, item in document["paths"].items() for method, one in item.items()]


def fits(value: Any, schema: Any, components: Any) -> bool:
    """Whether a value is of this schema."""
    return bool(jsonschema_rs.is_valid({**schema, "components": components}, value))
