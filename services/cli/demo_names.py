"""Names for the demonstration's home directories: ordinary ones, and those that break careless programs."""

from __future__ import annotations

from typing import Final

ALICE: Final = b"alice"
BOB: Final = b"bob"
USERS: Final = (ALICE, BOB)
ODD_FOLDER: Final = b"Odd names"
SPECIAL_FOLDER: Final = b"Special files"

# Every one is a legal file name on Linux. Each was chosen because some program gets it wrong.
ODD_NAMES: Final[tuple[bytes, ...]] = (
    b"line one\nline two.txt",
    b"colour \x1b[31mred\x1b[0m.txt",
    b"<b>bold</b> & <script>alert(1)</script>.html",
    b"-rf",
    b"--delete",
    b"latin-1 caf\xe9 \xff\xfe.txt",
    "right to left \u202etxt.exe".encode(),
    "emoji \U0001f4f7 and umlaut äöü.txt".encode(),
    "cafe\u0301 decomposed.txt".encode(),
    "caf\u00e9 decomposed.txt".encode(),
    b"n" * 255,
    b"trailing space ",
    b" leading space",
    b".snapshot_complete",
    b"\\#012 backslash hash.txt",
    b"arrow -> target.txt",
    b"fat arrow => target.txt",
    b"quote ' and \" and ` and $HOME.txt",
    b"star * question ? [bracket].txt",
    b"tab\there.txt",
    b"carriage\rreturn.txt",
    b"%41 percent %n %s.txt",
    b"...",
    b"~",
    b"CON",
)

PROSE: Final = (
    "the quarterly garden plan shows more light than we hoped and less rain which means that invoices for seed and "
    "soil should arrive before spring while the old fence needs paint boards nails and two patient people who know "
    "how a level works meanwhile dinner on friday moved to seven because trains are slow again please bring bread "
    "olives lemons and that book about harbours lighthouses tides and maps you promised last summer"
)
WORDS: Final = PROSE.split()

TOPICS: Final = (
    "budget", "garden", "travel", "contract", "minutes", "insurance", "recipe", "inventory", "letter", "report",
    "proposal", "checklist", "timetable", "review", "invoice", "survey",
)  # fmt: skip
PLACES: Final = ("harbour", "lisbon", "alps", "birthday", "beach", "kitchen", "forest", "wedding", "workshop")
PROJECTS: Final = ("weather-station", "recipe-box", "photo-frame", "tide-tables", "plant-sensor")
PEOPLE: Final = ("carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy")
YEARS: Final = (2021, 2022, 2023, 2024, 2025)
