"""Reading the settings: the one place that touches files and asks who the user is."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from shared.config import rules
from shared.config.building import PASSWORD_FILES, effective, settings_of
from shared.config.dotenv import parse_dotenv
from shared.config.dsn import holds_password, with_password
from shared.config.problems import Given, Problems, Table, Unallowed
from shared.config.settings import Settings
from shared.domain.errors import SettingsRefused

FILE_BYTES_MAX: Final = 1024 * 1024
SYSTEM_DATA_DIR: Final = Path("/var/lib/backup-manager")
USER_DATA_DIR: Final = ".local/share/backup-manager"
TABLES: Final = frozenset({"hosts", "stores", "excludes", "bus"})
"""The tables of backup.toml."""


def load_settings(environ: Mapping[str, str], *, env_file: Path | None, toml_file: Path | None) -> Settings:
    """The settings from the environment, a .env file and a backup.toml; a file that is None is not read.

    Raises SettingsRefused with every problem at once; a file that is named but cannot be read is one.
    """
    problems = Problems()
    lines = _env_lines(env_file, problems) if env_file else {}
    tables = _toml_tables(toml_file, problems)
    variables = _with_passwords(effective(environ, lines, problems), problems)
    settings = settings_of(variables, tables, default_data_dir=_default_data_dir(environ), problems=problems)
    if problems.sentences:
        raise SettingsRefused(tuple(problems.sentences))
    return settings


def _env_lines(path: Path, problems: Problems) -> dict[str, Given]:
    text = _text(path, problems)
    return {} if text is None else parse_dotenv(text, path.name, problems)


def _with_passwords(variables: dict[str, Given], problems: Problems) -> dict[str, Given]:
    """The variables with each password that stands in a file of its own put into the address it belongs to."""
    found = dict(variables)
    for file_key, dsn_key in PASSWORD_FILES.items():
        if file_key not in variables:
            continue
        path = problems.checked(variables[file_key], rules.secret_file, None)
        dsn = str(found[dsn_key].value) if dsn_key in found else ""
        if path is None:
            continue
        if not dsn or holds_password(dsn):
            state = "holds a password already" if dsn else "is not given"
            problems.add(f"{variables[file_key].where}: {file_key} is the password of {dsn_key}, which {state}.")
        elif (password := _password(file_key, path, problems)) is not None:
            found[dsn_key] = replace(found[dsn_key], value=with_password(dsn, password))
    return found


def _password(key: str, path: Path, problems: Problems) -> str | None:
    text = _text(path, problems)
    password = None if text is None else text.strip("\r\n")
    if password is not None and (not password or "\n" in password):
        problems.add(f"{key}: the file {path} must hold one line, the password.")
        return None
    return password


def _toml_tables(path: Path | None, problems: Problems) -> Table:
    name = path.name if path else "backup.toml"
    content: object = {}
    if path and (text := _text(path, problems)) is not None:
        try:
            content = tomllib.loads(text)
        except RecursionError:
            problems.add(f"{name}: the file is nested too deeply, but must be plain tables and lists.")
        except ValueError as error:  # also a number of thousands of digits, which is no TOMLDecodeError
            problems.add(f"{name}: the file must be TOML, but: {str(error).rstrip('.')}.")
    return Table(name, "", content, problems, known=TABLES)


def _text(path: Path, problems: Problems) -> str | None:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
        if len(content) > FILE_BYTES_MAX:
            problems.add(f"{path.name}: the file must not be larger than {FILE_BYTES_MAX} bytes.")
            return None
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problems.add(f"{path.name}: the file must be UTF-8, but byte {error.start + 1} is not.")
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        problems.add(f"{path.name}: the file {path} cannot be read: {reason}.")
    return None


def _default_data_dir(environ: Mapping[str, str]) -> Path | None:
    """Where keys and state of this user are when BACKUP_DATA does not say; None when there is no usable home."""
    if os.geteuid() == 0:
        return SYSTEM_DATA_DIR
    try:
        home = environ.get("HOME") or str(Path.home())
        return rules.ssh_path(home) / USER_DATA_DIR
    except (Unallowed, RuntimeError):
        return None
