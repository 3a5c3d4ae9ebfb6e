"""`backup-manager`: the command for people. Exit codes: 0 done, 1 failed, 2 misuse."""

from __future__ import annotations

import sys

import rich_click as click
from click.exceptions import Exit

from services.cli import (
    audit,
    decisions,
    demo,
    doctor,
    files,
    hosts,
    look,
    move,
    plan,
    points,
    restore,
    restore_key,
    secrets,
    system,
    trash,
    trigger,
    users,
)
from services.cli.output import complain
from shared.domain.errors import BackupManagerError, SettingsRefused
from shared.runtime.service import first_of

EXIT_FAILED = 1
EXIT_MISUSE = 2


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="backup-manager", prog_name="backup-manager")
def cli() -> None:
    """Backs up the home directories of your machines, and proves it."""


for command in (
    system.up,
    system.serve,
    system.init,
    system.provision_command,
    secrets.secrets_command,
    look.status,
    look.snapshots,
    look.events,
    look.replay_command,
    trigger.trigger,
    restore.restore,
    restore.restores,
    decisions.cancel,
    points.archives,
    points.golden,
    files.files,
    files.versions,
    files.find,
    files.diff,
    plan.plan,
    trash.trash,
    trash.undelete,
    decisions.trust_clock,
    decisions.lost,
    hosts.hosts,
    users.users,
    audit.audit,
    doctor.doctor,
    demo.demo,
):
    cli.add_command(command)
hosts.hosts.add_command(restore_key.restore_key)
hosts.hosts.add_command(move.move)


def main() -> None:
    """Run the command line."""
    try:
        code = cli(standalone_mode=False)
    except Exit as error:
        code = error.exit_code
    except click.Abort:
        code = EXIT_FAILED
    except click.ClickException as error:
        error.show()
        code = EXIT_MISUSE
    except SettingsRefused as error:
        complain(error)
        code = EXIT_MISUSE
    except BackupManagerError as error:
        complain(error)
        code = EXIT_FAILED
    except BaseExceptionGroup as group:
        first = first_of(group)
        if not isinstance(first, BackupManagerError):
            raise
        complain(first)
        code = EXIT_FAILED
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
