"""How a wrong setting is said: one sentence with the place, the key, the value as given and what is allowed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

T = TypeVar("T")

Rule: TypeAlias = Callable[[Any], T]
"""From a value as given to the value that is used. Raises Unallowed."""

SHOWN_CHARACTERS: Final = 80
SHOWN_INTEGER_BITS: Final = 256

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


class Unallowed(ValueError):
    """A value breaks a rule. The text ends the sentence "… but must be …"."""


@dataclass(frozen=True, slots=True)
class Given:
    """A value as somebody wrote it, and where. The value of a secret is never shown."""

    where: str
    key: str
    value: object
    secret: bool = False


class Problems:
    """Every sentence so far, in the order found."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def add(self, sentence: str) -> None:
        """Note a sentence, once."""
        if sentence not in self.sentences:
            self.sentences.append(sentence)

    def wrong(self, given: Given, allowed: str) -> None:
        """Note that a value must be something else."""
        if given.secret:
            self.add(f"{given.where}: {given.key} (not shown, it may hold a password) must be {allowed}.")
        else:
            self.add(f"{given.where}: {given.key} is {shown(given.value)}, but must be {allowed}.")

    def unknown(self, where: str, key: str, known: Collection[str], *, above: str = "") -> None:
        """Note a key that nobody reads. Its value is not shown: a misspelt POSTGRES_DSN holds a password too."""
        near = difflib.get_close_matches(key[:64], known, n=1)
        advice = f"did you mean {near[0]}?" if near else f"known here are {', '.join(sorted(known))}."
        self.add(f"{where}: {dotted(above, key)} is not a setting; {advice}")

    def checked(self, given: Given, rule: Rule[T], fallback: T) -> T:
        """The value by its rule, or the fallback after noting what is wrong with it."""
        try:
            return rule(given.value)
        except Unallowed as error:
            self.wrong(given, str(error))
            return fallback


class Table:
    """A table of backup.toml in which only known keys are allowed."""

    def __init__(
        self, where: str, path: str, content: object, problems: Problems, *, known: Collection[str] | None
    ) -> None:
        self._where = where
        self._path = path
        self._problems = problems
        self.content: Mapping[str, object] = {}
        if not isinstance(content, dict):
            problems.wrong(Given(where, path, content), f"a table, written as [{path}]")
            return
        self.content = content
        for key in content:
            if known is not None and key not in known:
                problems.unknown(where, key, known, above=path)

    def given(self, key: str) -> Given:
        """The value of a key that is there."""
        return Given(self._where, dotted(self._path, key), self.content[key])

    def wrong(self, key: str, allowed: str) -> None:
        """Note that the value of a key that is there must be something else."""
        self._problems.wrong(self.given(key), allowed)

    def named(self, key: str, rule: Rule[str]) -> bool:
        """Whether a key that people choose is one by the rule; notes what is wrong with it."""
        try:
            rule(key)
        except Unallowed as error:
            self._problems.add(f"{self._where}: the name of {dotted(self._path, key)} must be {error}.")
            return False
        return True

    def value(self, key: str, rule: Rule[T], fallback: T) -> T:
        """The value of a key by its rule; the fallback when it is not there or wrong."""
        return self._problems.checked(self.given(key), rule, fallback) if key in self.content else fallback

    def values(self, key: str, rule: Rule[T]) -> tuple[T, ...]:
        """The entries of a list by their rule, without the wrong ones; nothing when the key is not there."""
        if key not in self.content:
            return ()
        given = self.given(key)
        if not isinstance(given.value, list):
            self._problems.wrong(given, 'a list, written as ["…", "…"]')
            return ()
        accepted: list[T] = []
        for number, entry in enumerate(given.value, start=1):
            try:
                accepted.append(rule(entry))
            except Unallowed as error:
                self._problems.wrong(Given(given.where, f"{given.key} entry {number}", entry), str(error))
        return tuple(accepted)

    def table(self, key: str, *, known: Collection[str] | None) -> Table:
        """The table below this one; an empty one when it is not there."""
        return Table(self._where, dotted(self._path, key), self.content.get(key, {}), self._problems, known=known)


def dotted(path: str, key: str) -> str:
    """The full name of a key of backup.toml; a key with unusual characters is quoted and escaped."""
    quoted = key if _PLAIN_KEY.fullmatch(key) else shown(key)
    return f"{path}.{quoted}" if path else quoted


def shown(value: object) -> str:
    """The value for a message: escaped to ASCII, without passwords of URLs, and cut.

    Look-alike letters become visible by the escapes, and no control character reaches a terminal.
    """
    if isinstance(value, int) and value.bit_length() > SHOWN_INTEGER_BITS:
        return f"a number of {value.bit_length()} bits"
    try:
        text = ascii(_without_login(value) if isinstance(value, str) else value)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__} that cannot be shown"
    if not isinstance(value, str):
        text = _without_login(text)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def _without_login(text: str) -> str:
    """The text without what stands between its first colon and its last @, where passwords are."""
    colon, at = text.find(":"), text.rfind("@")
    return f"{text[:colon]}:***{text[at:]}" if 0 <= colon < at else text
