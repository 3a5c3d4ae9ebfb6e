"""The syntax of .env: KEY=VALUE lines, `export `, comments, and single or double quotes.

Nothing is expanded: a `$` is a dollar sign. A value ends at a `#` that follows white space, unless it is
quoted; in double quotes `\\"` and `\\\\` stand for `"` and a backslash; a value never spans lines.
"""

from __future__ import annotations

import re
from typing import Final

from shared.config.problems import Given, Problems, Unallowed

_ASSIGNMENT: Final = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=(.*)", re.ASCII | re.DOTALL)
_REST: Final = r"[ \t]*(?:[ \t]#.*)?"
_SINGLE: Final = re.compile(rf"'([^']*)'{_REST}", re.DOTALL)
_DOUBLE: Final = re.compile(rf'"((?:[^"\\]|\\.)*)"{_REST}', re.DOTALL)
_ESCAPE: Final = re.compile(r'\\(["\\])')
_COMMENT: Final = re.compile(r"(?:^|[ \t])#.*", re.DOTALL)


def parse_dotenv(text: str, file_name: str, problems: Problems) -> dict[str, Given]:
    """What the text of a .env file gives, by key; the first of two lines with one key counts.

    Lines that are not understood are never quoted in a problem: they may hold a password.
    """
    found: dict[str, Given] = {}
    lines: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        where = f"{file_name} line {number}"
        try:
            assignment = parse_line(line.removesuffix("\r"))
        except Unallowed as error:
            problems.add(f"{where}: {error}.")
            continue
        if assignment is None:
            continue
        key, value = assignment
        if key in found:
            problems.add(f"{where}: {key} was already given on line {lines[key]}, but may be given only once.")
            continue
        lines[key] = number
        found[key] = Given(where, key, value)
    return found


def parse_line(line: str) -> tuple[str, str] | None:
    """The key and value of a line, or None for a blank line or a comment. Raises Unallowed."""
    if not line.strip(" \t") or line.lstrip(" \t").startswith("#"):
        return None
    match = _ASSIGNMENT.fullmatch(line)
    if not match:
        raise Unallowed("this line must be KEY=VALUE, a comment beginning with #, or blank")
    key, raw = match[1], match[2].strip(" \t")
    try:
        return key, _value(raw)
    except Unallowed as error:
        raise Unallowed(f"the value of {key} {error}") from error


def _value(raw: str) -> str:
    if raw.startswith("'"):
        match = _SINGLE.fullmatch(raw)
    elif raw.startswith('"'):
        match = _DOUBLE.fullmatch(raw)
    else:
        return _COMMENT.sub("", raw).rstrip(" \t")
    if not match:
        raise Unallowed("must end with the quote it begins with, followed by nothing but a comment")
    return match[1] if raw.startswith("'") else _ESCAPE.sub(r"\1", match[1])
