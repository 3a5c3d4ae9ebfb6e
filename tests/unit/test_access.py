"""Who may do what, and where a log-in leads."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.access import (
    ACCESS_STREAM,
    NOBODY,
    PERMISSIONS,
    SHORTEST_PASSWORD,
    THIS_MACHINE,
    Permission,
    Role,
    User,
    UserName,
    check_password,
    hears,
    local_path,
    lowest_role,
    needed,
    parse_user_name,
    sees,
    visible,
    who_is,
)
from shared.domain.errors import NameRefused, PasswordRefused

HOSTS = st.lists(st.sampled_from(["nas", "web", "mail", "db"]), unique=True)


def a_user(role: Role, *hosts: str) -> User:
    return User(UserName("alice"), role, hosts or None)


def test_each_role_may_what_the_one_before_it_may() -> None:
    viewer, operator, admin = (PERMISSIONS[role] for role in (Role.VIEWER, Role.OPERATOR, Role.ADMIN))
    assert viewer < operator < admin
    assert not NOBODY.may(Permission.VIEW)
    assert NOBODY.may(Permission.PUBLIC)


def test_a_viewer_may_look_and_nothing_else_and_only_an_admin_manages_users() -> None:
    assert {one for one in Permission if who_is(a_user(Role.VIEWER)).may(one)} == {Permission.PUBLIC, Permission.VIEW}
    assert set(Permission) - {one for one in Permission if who_is(a_user(Role.OPERATOR)).may(one)} == {Permission.ADMIN}
    assert all(who_is(a_user(Role.ADMIN)).may(one) for one in Permission)


def test_without_users_this_machine_may_look_and_run_but_not_see_files() -> None:
    assert {one for one in Permission if THIS_MACHINE.may(one)} == {Permission.PUBLIC, Permission.VIEW, Permission.RUN}


@pytest.mark.parametrize(
    ("method", "opt", "expected"),
    [
        ("GET", {}, Permission.VIEW),
        ("HEAD", {}, Permission.VIEW),
        ("POST", {}, Permission.RUN),
        ("DELETE", {}, Permission.RUN),
        ("GET", {"role": "nobody"}, Permission.PUBLIC),
        ("POST", {"role": "viewer"}, Permission.VIEW),
        ("GET", {"role": "operator"}, Permission.READ_FILES),
        ("POST", {"role": "operator"}, Permission.READ_FILES),
        ("GET", {"role": "admin"}, Permission.ADMIN),
        ("GET", {"role": "oprator"}, Permission.ADMIN),
        ("POST", {"needs": Permission.RUN}, Permission.RUN),
        ("POST", {"needs": Permission.RUN, "role": "nobody"}, Permission.RUN),
    ],
)
def test_a_route_needs_what_it_declares_and_a_word_that_nobody_knows_opens_nothing(
    method: str, opt: dict[str, object], expected: Permission
) -> None:
    assert needed(method, opt) is expected


@given(HOSTS, st.none() | HOSTS)
def test_a_user_sees_the_hosts_that_were_given_and_no_others(names: list[str], given_hosts: list[str] | None) -> None:
    who = who_is(User(UserName("alice"), Role.VIEWER, None if given_hosts is None else tuple(given_hosts)))
    seen = visible(names, who)
    assert seen == [name for name in names if given_hosts is None or name in given_hosts]
    assert all(sees(who, name) and hears(who, f"host-{name}") for name in seen)
    assert hears(who, "settings") is (given_hosts is None)


def test_who_logs_in_from_where_is_for_admins() -> None:
    assert hears(who_is(a_user(Role.ADMIN)), ACCESS_STREAM)
    for who in (who_is(a_user(Role.OPERATOR)), who_is(a_user(Role.VIEWER, "access")), THIS_MACHINE):
        assert not hears(who, ACCESS_STREAM)


def test_the_log_is_told_who_asked_and_how() -> None:
    assert THIS_MACHINE.by("api") == "api"
    assert who_is(a_user(Role.VIEWER)).by("dashboard") == "alice (dashboard)"
    assert who_is(a_user(Role.VIEWER), token="ci").by("api") == "alice (token ci)"


PARTS = st.sampled_from(["/", "//", "\\", "http:", "evil.example", "@", "?", "#", "\t", "\n", "\x00", "..", "%2f", "a"])


@given(st.lists(PARTS, max_size=8).map("".join) | st.text(max_size=20))
def test_a_log_in_never_leads_away(text: str) -> None:
    ours = "http://backup.example:8085"
    path = local_path(text)
    assert path.startswith("/")
    as_browsers_read_it = path.replace("\\", "/").replace("\t", "").replace("\n", "")
    assert urlsplit(urljoin(ours, as_browsers_read_it)).netloc == "backup.example:8085"
    assert path.isprintable()


def test_a_log_in_leads_back_to_the_page_that_was_asked_for() -> None:
    assert local_path("/hosts/nas?at=2026-03-06T08:00Z") == "/hosts/nas?at=2026-03-06T08:00Z"
    assert local_path("https://evil.example/") == "/"
    assert local_path("//evil.example/") == "/"


@pytest.mark.parametrize("name", ["", "Alice", "a b", "../x", "a\n", "é", "-a", "a" * 64, "<b>", "a\x00"])
def test_a_user_name_is_safe_everywhere(name: str) -> None:
    with pytest.raises(NameRefused):
        parse_user_name(name)


def test_a_password_is_long_and_not_the_name() -> None:
    check_password("three brown horses", "alice")
    for password in ("x" * (SHORTEST_PASSWORD - 1), "x" * 300, "aaaaaaaaaaaaaaaa", "alexandra-the1234"):
        with pytest.raises(PasswordRefused):
            check_password(password, "alexandra-the")


def test_the_lowest_role_that_suffices_is_named() -> None:
    assert [lowest_role(one) for one in (Permission.VIEW, Permission.READ_FILES, Permission.ADMIN)] == list(Role)
