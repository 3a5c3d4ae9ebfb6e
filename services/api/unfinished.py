"""What is still missing until somebody can rely on this installation, the worst first. Pure but for a look at keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from services.api.drives import Drive
from shared.config import Settings
from shared.domain.projection import State


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do, in words, and where."""

    sentence: str
    command: str = ""
    link: str = ""


def unfinished(
    settings: Settings, state: State, drives: Iterable[Drive], *, keys: Mapping[str, bool], has_users: bool
) -> list[Step]:
    """What is left to set up. `keys` says of each host whether its key exists."""
    steps = [Step(f"The drive {one.name}: {one.warning}", link="/#drives") for one in drives if one.warning]
    if not settings.hosts:
        steps.append(Step("There are no hosts yet. Add them to HOSTS in .env, then start again."))
    steps += [_keyless(name) for name, there in keys.items() if not there]
    steps += [_never(name) for name in _without_backup(settings, state) if keys.get(name, True)]
    if not has_users:
        steps.append(
            Step("Nobody has a login yet, so this answers to this machine alone.", "backup-manager users setup-link")
        )
    if settings.hosts and not _restored(state):
        first = f"/hosts/{settings.hosts[0].name}#snapshots"
        steps.append(Step("No restore was tried yet. A backup is proven by a restore.", link=first))
    return steps


def _keyless(name: str) -> Step:
    return Step(f"{name} has no key yet, so it cannot be reached.", f"backup-manager hosts enroll {name}")


def _never(name: str) -> Step:
    return Step(f"{name} was never backed up.", f"backup-manager hosts test {name}", f"/hosts/{name}")


def _without_backup(settings: Settings, state: State) -> list[str]:
    return [host.name for host in settings.hosts if not (known := state.hosts.get(host.name)) or not known.snapshots]


def _restored(state: State) -> bool:
    return any(host.outcomes.get("restore completed") for host in state.hosts.values())
