"""The secrets of an installation: made once, kept, private, and each service's own."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from services.embedded.secret_files import SecretFiles, role_passwords, with_superuser
from shared.adapters import process
from shared.adapters.bus_client import read_seed
from shared.adapters.bus_permissions import BUS_USERS
from shared.adapters.nkeys import public_key
from shared.config import load_settings
from shared.domain.errors import KeyRefused, SettingsRefused
from shared.domain.names import StoreName
from shared.domain.writers import Service, role_of

REPOSITORY = Path(__file__).parents[2]
MAIN = [StoreName("main")]


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def made(tmp_path: Path) -> SecretFiles:
    secrets = SecretFiles(tmp_path / "secrets")
    secrets.make(MAIN, superuser=True)
    return secrets


def test_every_service_has_a_key_and_a_password_that_no_other_has(made: SecretFiles) -> None:
    files = contents(made.folder)
    own = [files[f"{service}/{name}"] for service in Service for name in ("nats.nk", "postgres-password")]
    assert len(set(own)) == len(own) == 2 * len(Service)
    conf = files["nats/users.conf"]
    for user in BUS_USERS:
        seed = read_seed(made.key(user))
        assert public_key(seed) in conf
        assert seed not in conf
    assert files["postgres/superuser-password"] == files["provision/superuser-password"]
    assert {path for path in files if path.startswith("provision/passwords/")} == {
        f"provision/passwords/{name}" for name in (*Service, "anon")
    }


def test_they_are_private_but_for_the_public_keys(made: SecretFiles) -> None:
    for path in [made.folder, *made.folder.rglob("*")]:
        public = "nats" in path.relative_to(made.folder).parts
        expected = (0o755 if public else 0o700) if path.is_dir() else (0o644 if public else 0o600)
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_made_again_everything_stays_but_what_the_stores_change(made: SecretFiles) -> None:
    before = contents(made.folder)
    made.make(MAIN, superuser=True)
    assert contents(made.folder) == before
    made.make([*MAIN, StoreName("attic")], superuser=True)
    after = contents(made.folder)
    assert {name for name in after if after[name] != before[name]} == {"nats/users.conf"}
    assert "snapshot-attic" in after["nats/users.conf"]


def test_a_lost_copy_of_a_password_is_made_from_the_other(made: SecretFiles) -> None:
    before = contents(made.folder)
    for path in ("api/postgres-password", "provision/passwords/retention", "postgres/superuser-password"):
        (made.folder / path).unlink()
    made.make(MAIN, superuser=True)
    assert contents(made.folder) == before


def test_two_different_copies_are_not_guessed_about(made: SecretFiles) -> None:
    (made.folder / "api/postgres-password").write_text("other\n")
    with pytest.raises(KeyRefused, match="different passwords"):
        made.make(MAIN, superuser=True)


def test_a_damaged_key_is_named_and_left_alone(made: SecretFiles) -> None:
    made.key("api").write_text("rubbish\n")
    with pytest.raises(KeyRefused, match=r"api/nats\.nk"):
        made.make(MAIN, superuser=True)
    assert made.key("api").read_text() == "rubbish\n"


def test_provisioning_finds_its_passwords(made: SecretFiles) -> None:
    passwords = role_passwords(made.provisioning)
    assert passwords[role_of(Service.API)] == made.password(Service.API)
    superuser = (made.provisioning / "superuser-password").read_text().strip()
    assert with_superuser("postgresql://postgres@db/backup", made.provisioning).endswith(f"?password={superuser}")
    assert with_superuser("postgresql://postgres:x@db/backup", made.provisioning) == "postgresql://postgres:x@db/backup"
    (made.provisioning / "passwords/api").unlink()
    with pytest.raises(KeyRefused, match="passwords/api"):
        role_passwords(made.provisioning)


async def test_the_command_makes_them_and_says_so(tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
    argv = [sys.executable, "-m", "services.cli", "secrets", str(tmp_path / "made"), "--store", "main"]
    for _ in range(2):
        done = await process.run(argv, timeout_seconds=60, env=environ, cwd=tmp_path)
        assert done.returncode == 0, done.said
    assert (tmp_path / "made/scheduler/nats.nk").exists()
    (tmp_path / "file").write_text("")
    refused = await process.run(
        [*argv[:4], str(tmp_path / "file/x"), *argv[5:]], timeout_seconds=60, env=environ, cwd=tmp_path
    )
    assert refused.returncode == 1
    assert "cannot be kept" in refused.said


# The password of the database in a file of its own


def settings_with(tmp_path: Path, dsn: str, content: str | None) -> str:
    path = tmp_path / "password"
    if content is not None:
        path.write_text(content)
    given = {"BACKUP_ROOT": "/mnt", "BACKUP_DATA": "/data", "POSTGRES_DSN": dsn, "POSTGRES_PASSWORD_FILE": str(path)}
    return load_settings(given, env_file=None, toml_file=None).postgres_dsn


def test_a_password_from_a_file_is_put_into_the_address(tmp_path: Path) -> None:
    assert settings_with(tmp_path, "postgresql://u@h/d", "p@ s&/\n") == "postgresql://u@h/d?password=p%40%20s%26%2F"
    assert settings_with(tmp_path, "postgresql://u@h/d?sslmode=verify-full", "x") == (
        "postgresql://u@h/d?sslmode=verify-full&password=x"
    )


@pytest.mark.parametrize(
    ("dsn", "content", "says"),
    [
        ("postgresql://u:p@h/d", "x", "POSTGRES_DSN, which holds a password already"),
        ("postgresql://u@h/d?password=p", "x", "POSTGRES_DSN, which holds a password already"),
        ("", "x", "POSTGRES_DSN, which is not given"),
        ("postgresql://u@h/d", None, "cannot be read: No such file"),
        ("postgresql://u@h/d", "\n", "must hold one line"),
        ("postgresql://u@h/d", "two\nlines\n", "must hold one line"),
    ],
)
def test_a_password_file_that_cannot_be_used_is_a_problem(
    tmp_path: Path, dsn: str, content: str | None, says: str
) -> None:
    with pytest.raises(SettingsRefused) as refused:
        settings_with(tmp_path, dsn, content)
    (problem,) = refused.value.problems
    assert says in problem
    assert "two" not in problem


def test_a_path_that_is_not_one_is_a_problem() -> None:
    for key in ("NATS_NKEY_FILE", "POSTGRES_PASSWORD_FILE"):
        given = {"BACKUP_ROOT": "/mnt", "BACKUP_DATA": "/data", "POSTGRES_DSN": "postgresql://u@h/d", key: "relative"}
        with pytest.raises(SettingsRefused, match=key):
            load_settings(given, env_file=None, toml_file=None)
