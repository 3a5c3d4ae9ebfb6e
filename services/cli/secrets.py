"""`secrets`: make the keys and passwords of an installation whose servers are its own."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from services.cli import session
from services.cli.output import say
from services.embedded.secret_files import SecretFiles
from shared.domain.errors import KeyRefused
from shared.domain.names import parse_store_name


@click.command("secrets")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--store", "named", multiple=True, help="A store of the installation; default: those of the settings.")
def secrets_command(*, folder: Path, named: tuple[str, ...]) -> None:
    """Make the key and the password of every service in FOLDER, and users.conf for the bus.

    What is there is never overwritten; run it again when the stores change, then reload nats-server.
    """
    stores = {parse_store_name(name) for name in named} or session.settings_here().stores
    made = SecretFiles(folder.absolute())
    try:
        made.make(stores, superuser=True)
    except OSError as error:
        raise KeyRefused(f"The secrets cannot be kept in {folder}: {error}.", "Can this user write there?") from error
    say(f"The secrets of the stores {', '.join(sorted(stores))} are in {folder}.")
