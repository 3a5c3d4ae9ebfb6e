"""Says what the retention would remove, and writes nothing."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from services.retention.facts import facts_of, look_at_drive
from shared.adapters.store import Store
from shared.adapters.threads import in_thread
from shared.config import Settings
from shared.domain.events import Recorded
from shared.domain.host_state import HostState
from shared.domain.inventory import hold_of, policy_changed_at
from shared.domain.names import HostName
from shared.domain.retention import RetentionPlan, plan

MOST_NAMED: Final = 20
"""So many removals are named; `plan` lists all."""


async def foreseen(
    host: HostName, state: HostState, store: Store, settings: Settings, *, recorded: list[Recorded], now: datetime
) -> RetentionPlan:
    """The plan that would be made now; `recorded` are the events of the settings. Raises StoreRefused and OSError."""
    store.check()
    with store.existing_folder(host) as folder:
        drive = await in_thread(look_at_drive, folder, finish_moves=False)
    facts = facts_of(state, drive, policy_changed_at(recorded, settings.described(), now), now)
    return plan(facts, settings.policy(), now, hold_of(state))


def in_sentences(made: RetentionPlan) -> tuple[str, ...]:
    """The plan as findings: why nothing may go, what would go, and how many."""
    going = [f"{verdict.point.key} would be removed: {'; '.join(verdict.reasons)}." for verdict in made.removals]
    return (*made.refused, *going[:MOST_NAMED], f"{len(going):,} of {len(made.verdicts):,} would be removed.")
