"""Who may append what is what the code of each service does append: no type more, and none less."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from shared.adapters.bus_permissions import BUS_USERS, inbox_prefix, permissions, users_conf
from shared.domain.events import AnyEvent
from shared.domain.names import StoreName
from shared.domain.writers import DECISIONS, WORKERS, WRITERS, Service, relayed_by, type_names

TOP = Path(__file__).parents[2]
ALL = {kind.__name__ for kind in get_args(AnyEvent)}
FOLDER = {service: f"services/{service}" for service in Service} | {Service.OPERATOR: "services/cli"}
# What a module of the others is imported for: the functions in it that make events which the importer appends.
MADE_BY = {
    "shared.runtime.accounts.Accounts": "shared/runtime/accounts.py",
    "shared.runtime.restores.ask": "shared/runtime/restores.py",
    "shared.runtime.stores.serve_stores": "shared/runtime/workplace.py",
    "shared.runtime.host_move.move_host": "shared/runtime/host_move.py",
    "shared.runtime.rejected.Rejections": "shared/runtime/rejected.py",
    "shared.domain.login_limits.LoginLimits": "shared/domain/login_limits.py",
}
THROUGH = {"shared/runtime/workplace.py": ["shared/runtime/rejected.py"]}
BY_FUNCTION = {"services.retention.recovery.undeleted_event": "PointUndeleted"}
TOLD_FOR_THE_API = {Service.OPERATOR: {"LoginRefused"}}
"""Whoever changes a user tells the log whatever it was not told yet."""


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def constructed(paths: Iterable[Path]) -> set[str]:
    """The events that some code makes: every call of one of their classes."""
    calls = (node for path in paths for node in ast.walk(tree(path)) if isinstance(node, ast.Call))
    return {node.func.id for node in calls if isinstance(node.func, ast.Name) and node.func.id in ALL}


def imported(paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ImportFrom):
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def appended(service: Service) -> set[str]:
    """What the code of a service can append, by what it makes and what it calls."""
    own = sorted((TOP / FOLDER[service]).rglob("*.py"))
    found = constructed(own)
    for name in imported(own):
        if name in MADE_BY:
            path = MADE_BY[name]
            found |= constructed(TOP / part for part in (path, *THROUGH.get(path, [])))
        if name in BY_FUNCTION and service is Service.OPERATOR:
            found.add(BY_FUNCTION[name])
    return found


@pytest.mark.parametrize("service", Service)
def test_a_service_may_append_what_its_code_makes_and_nothing_else(service: Service) -> None:
    assert set(type_names(WRITERS[service])) - TOLD_FOR_THE_API.get(service, set()) == appended(service)


def test_every_event_has_somebody_who_may_append_it() -> None:
    assert {name for service in Service for name in type_names(WRITERS[service])} == ALL


def test_only_retention_orders_removals_and_no_worker_speaks_for_a_person() -> None:
    for name in ("RemovalOrdered", "PointTrashed", "PurgeOrdered", "PointPurged"):
        assert [service for service in Service if name in type_names(WRITERS[service])] == [Service.RETENTION]
    for name in ("HoldReleased", "PlanConfirmed", "PointLost", "UserAdded", "TokenMade", "RestoreRequested"):
        assert not any(name in type_names(WRITERS[service]) for service in WORKERS)


def test_a_decision_is_never_taken_out_of_a_spool() -> None:
    decisions = set(type_names(DECISIONS))
    assert not any(decisions & relayed_by(service) for service in Service)
    assert "PointPurged" in relayed_by(Service.RETENTION)


@pytest.mark.parametrize("user", BUS_USERS)
def test_no_user_of_the_bus_may_do_everything_or_hear_the_answers_to_others(user: str) -> None:
    allowed = permissions(user, [StoreName("main"), StoreName("attic")])
    assert not {">", "*", "$JS.>", "$JS.API.>", "_INBOX.>", "tick.>"} & {*allowed.publish, *allowed.subscribe}
    assert [one for one in allowed.subscribe if one.startswith("_INBOX")] == [f"{inbox_prefix(user)}.>"]
    assert all(
        "main" in one or "attic" in one for one in allowed.publish if "TICKS." in one and "MSG." not in one[-12:]
    )
    creates = [one for one in allowed.publish if "CREATE" in one or "UPDATE" in one]
    assert bool(creates) == (user == "provision")


def test_the_configuration_of_the_users_holds_their_public_keys_and_is_the_same_in_any_order() -> None:
    keys = {user: f"U{number}" for number, user in enumerate(BUS_USERS)}
    one, other = (users_conf(keys, [StoreName(name) for name in names]) for names in (["a", "b"], ["b", "a", "a"]))
    assert one == other
    assert all(f"nkey: {key}," in one for key in keys.values())
