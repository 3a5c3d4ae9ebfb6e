"""What deploy/ and compose.yaml promise, read from the files themselves: no engine is needed."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from services.cli.system import SERVICES
from shared.adapters import process
from shared.config.building import KNOWN_VARIABLES
from tests.support.containers import compose_command

TOP: Final = Path(__file__).parents[2]
COMPOSE: Final[dict[str, Any]] = msgspec.yaml.decode((TOP / "compose.yaml").read_bytes())
EVERY: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]
ONE_SHOT: Final = {"secrets", "provision", "cli"}
OURS: Final = {*SERVICES, *ONE_SHOT}
FIXED: Final = {"BACKUP_ROOT", "BACKUP_DATA", "RESTORE_FOLDERS", "API_LISTEN", "NATS_REPLICAS"}
"""In the containers these are what the containers make them."""
UNITS: Final = sorted((TOP / "deploy/systemd").glob("*.service"))


def test_every_service_of_the_product_is_in_the_compose_file() -> None:
    assert {*SERVICES, "nats", "postgres", "provision", "secrets", "cli", "postgrest"} == set(EVERY)


@pytest.mark.parametrize("name", sorted(EVERY))
def test_every_container_has_little_to_lose(name: str) -> None:
    service = EVERY[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "pid", "ipc", "devices"} & set(service)
    assert service["restart"] == ("no" if name in ONE_SHOT else "always")
    health = service.get("healthcheck")
    assert health == {"disable": True} if name in ONE_SHOT else health is None or "test" in health
    tag = service["image"].rpartition(":")[2].rstrip("}")
    assert re.fullmatch(r"v?[0-9][0-9.]*(-alpine)?", tag), "a version, never `latest`"


def test_only_the_api_publishes_a_port_and_what_is_optional_only_on_this_machine() -> None:
    assert {name for name, service in EVERY.items() if "ports" in service} == {"api", "postgrest"}
    assert EVERY["postgrest"]["profiles"] == ["rest"]
    assert all(port.startswith("127.0.0.1:") for port in EVERY["postgrest"]["ports"])


def test_capabilities_are_those_that_the_readme_gives_reasons_for() -> None:
    reasons = (TOP / "deploy/README.md").read_text()
    for name, service in EVERY.items():
        for capability in service.get("cap_add", []):
            assert re.search(rf"^\| .*{name}.*\|.*{capability}", reasons, re.MULTILINE), (name, capability)
    without = {"scheduler", "provision", "nats", "postgres", "postgrest"}
    assert not any("cap_add" in EVERY[name] for name in without)
    assert all(EVERY[name].get("user", "8085:8085") != "0:0" for name in without)


def test_each_service_mounts_its_own_secrets_only_and_to_read() -> None:
    for name, service in EVERY.items():
        secret = [mount for mount in service.get("volumes", []) if mount.startswith("secrets-")]
        if name != "secrets":
            assert len(secret) <= 1
            assert all(mount.endswith(":ro") for mount in secret)
    owners = {mount.split(":")[0] for mount in EVERY["secrets"]["volumes"] if mount.startswith("secrets-")}
    assert owners == {name for name in COMPOSE["volumes"] if name.startswith("secrets-")}


def test_the_api_sees_the_drive_only_to_read_and_runs_nothing_from_it() -> None:
    options = COMPOSE["volumes"]["drive-to-read"]["driver_opts"]["o"].split(",")
    assert set(options) == {"bind", "ro", "nosuid", "nodev", "noexec"}
    assert "drive-to-read:/backup" in EVERY["api"]["volumes"]
    assert not any("BACKUP_ROOT" in mount for mount in EVERY["api"]["volumes"])


def test_log_and_bus_are_reached_from_inside_only() -> None:
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert EVERY["nats"]["networks"] == EVERY["postgres"]["networks"] == ["inside"]


def test_every_setting_reaches_the_services() -> None:
    connections = {name for name in KNOWN_VARIABLES if name.startswith(("NATS_", "POSTGRES_"))}
    for service in SERVICES:
        given = EVERY[service]["environment"]
        passed = {name for name in given if given[name] == f"${{{name}:-}}"}
        assert passed == KNOWN_VARIABLES - FIXED - connections
        assert given["POSTGRES_DSN"] == f"postgresql://backup_{service}@postgres:5432/backup"
        assert set(given) - passed == (FIXED - {"NATS_REPLICAS"}) | {
            "NATS_URL", "NATS_NKEY_FILE", "POSTGRES_DSN", "POSTGRES_PASSWORD_FILE"
        }  # fmt: skip


def test_the_image_names_no_host_and_installs_by_hash() -> None:
    text = (TOP / "deploy/Dockerfile").read_text()
    assert "http" not in text
    assert "--require-hashes" in text
    assert re.search(r"^USER backup-manager$", text, re.MULTILINE)


async def test_compose_itself_takes_the_file_and_says_what_is_missing(tmp_path: Path) -> None:
    command = await compose_command()
    if not command:
        pytest.skip("there is neither docker compose 2 nor docker-compose here")
    argv = [*command, "-f", str(TOP / "compose.yaml"), "config", "-q"]
    environ = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    taken = await process.run(argv, timeout_seconds=60, env=environ | {"BACKUP_ROOT": "/mnt/backup"})
    assert taken.returncode == 0, taken.said
    refused = await process.run(argv, timeout_seconds=60, env=environ, cwd=tmp_path)
    assert (refused.returncode != 0, "BACKUP_ROOT is not set in .env" in refused.said) == (True, True)


def copy_for_here(unit: Path, folder: Path) -> Path:
    """The unit with a program that is there: systemd looks."""
    copied, program = folder / unit.name, folder / "backup-manager"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    copied.write_text(unit.read_text().replace("/usr/local/bin/backup-manager", str(program)))
    return copied


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
async def test_systemd_takes_the_units(unit: Path, tmp_path: Path) -> None:
    copied = await asyncio.to_thread(copy_for_here, unit, tmp_path)
    done = await process.run(["systemd-analyze", "verify", "--man=no", str(copied)], timeout_seconds=60)
    assert (done.returncode, done.said) == (0, "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_every_unit_is_held_back_and_is_not_started_again_at_once(unit: Path) -> None:
    text = unit.read_text()
    for line in ("ProtectSystem=strict", "NoNewPrivileges=yes", "RestartSec=10", "PrivateTmp=yes"):
        assert line in text
    assert re.search(r"^CapabilityBoundingSet=", text, re.MULTILINE)
    assert re.search(r"^ReadWritePaths=", text, re.MULTILINE)


def test_installing_twice_replaces_the_program_and_never_a_setting(tmp_path: Path) -> None:
    env = {"DESTDIR": str(tmp_path), "PATH": os.environ["PATH"]}
    install = str(TOP / "deploy/install")
    first = asyncio.run(process.run([install], timeout_seconds=60, env=env))
    settings = tmp_path / "etc/backup-manager/backup-manager.env"
    settings.write_text('BACKUP_ROOT="/mnt/big drive"  # mine\n')
    gone = tmp_path / "opt/backup-manager/services/gone.py"
    gone.write_text("")
    second = asyncio.run(process.run([install], timeout_seconds=60, env=env))

    assert (first.returncode, second.returncode) == (0, 0), second.said
    assert settings.read_text() == 'BACKUP_ROOT="/mnt/big drive"  # mine\n'
    assert not gone.exists()
    assert (tmp_path / "opt/backup-manager/services/api/__main__.py").exists()
    for unit in UNITS:
        drop_in = tmp_path / f"etc/systemd/system/{unit.name}.d/drive.conf"
        assert 'ReadWritePaths="-/mnt/big drive"' in drop_in.read_text()
    assert os.access(tmp_path / "usr/local/bin/backup-manager", os.X_OK)
