"""What is inside the demonstration's files. Everything comes from the given random numbers, so a seed repeats it."""

from __future__ import annotations

import io
import random
import struct
import zipfile
from typing import Final

from services.cli.demo_names import PEOPLE, TOPICS, WORDS

PARAGRAPHS_IN_POOL: Final = 120


class ContentMaker:
    """Makes the bytes of one kind of file after the other."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        # Choosing among ready paragraphs is fifty times faster than choosing every word.
        self._paragraphs = [self._paragraph() for _ in range(PARAGRAPHS_IN_POOL)]

    def prose(self, paragraphs: int) -> str:
        """Some paragraphs, and a number that makes the text unlike any other."""
        chosen = self._rng.choices(self._paragraphs, k=paragraphs)
        return "\n\n".join([*chosen, f"Reference {self._rng.getrandbits(48):012x}.\n"])

    def markdown(self) -> bytes:
        """A document with a heading and a list."""
        topic = self._rng.choice(TOPICS).capitalize()
        items = "\n".join(f"- [{self._rng.choice(' x')}] {word}" for word in self._rng.sample(WORDS, 5))
        return f"# {topic}\n\n{self.prose(self._rng.randint(2, 7))}\n{items}\n".encode()

    def note(self) -> bytes:
        """A short text."""
        return self.prose(self._rng.randint(1, 2)).encode()

    def csv(self, rows: int = 60) -> bytes:
        """A table of expenses."""
        lines = ["date,payee,category,amount"]
        for row in range(rows):
            amount = self._rng.randint(100, 90_000) / 100
            lines.append(f"2025-{row % 12 + 1:02d}-{row % 28 + 1:02d},{self._rng.choice(PEOPLE)},food,{amount:.2f}")
        return ("\n".join(lines) + "\n").encode()

    def office_document(self, main_part: str) -> bytes:
        """A zip of XML, as word processors and spreadsheets write it. `main_part` names its largest member."""
        members = {
            "[Content_Types].xml": '<?xml version="1.0"?><Types/>',
            main_part: f"<document><p>{self.prose(self._rng.randint(4, 12))}</p></document>",
            "docProps/core.xml": f"<creator>{self._rng.choice(PEOPLE)}</creator>",
        }
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in members.items():
                archive.writestr(zipfile.ZipInfo(name, (2025, 6, 1, 12, 0, 0)), text, zipfile.ZIP_DEFLATED)
        return made.getvalue()

    def photo(self, size_bytes: int) -> bytes:
        """A JPEG in outline: the Exif header with a date, then noise that no compression makes smaller."""
        date = f"2025:{self._rng.randint(1, 12):02d}:{self._rng.randint(1, 28):02d} 10:20:30\0".encode()
        directory = struct.pack("<H HHII I", 1, 0x0132, 2, len(date), 26, 0)  # tag DateTime, text at offset 26
        exif = b"Exif\0\0" + b"II*\0" + struct.pack("<I", 8) + directory + date
        head = b"\xff\xd8\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + b"\xff\xda\x00\x02"
        return head + self._rng.randbytes(max(0, size_bytes - len(head) - 2)) + b"\xff\xd9"

    def message(self, number: int) -> bytes:
        """One mail, as a maildir holds it."""
        sender, receiver = self._rng.sample(PEOPLE, 2)
        head = (
            f"From: {sender}@example.org\nTo: {receiver}@example.org\nSubject: {self._rng.choice(TOPICS)} {number}\n"
            f"Date: Mon, 03 Mar 2025 10:{number % 60:02d}:00 +0000\n"
            f"Message-ID: <{self._rng.getrandbits(64):016x}@example.org>\n\n"
        )
        return (head + self.prose(self._rng.randint(1, 5))).encode()

    def mbox(self, messages: int = 25) -> bytes:
        """Several mails in one file."""
        separator = b"From sender@example.org Mon Mar  3 10:00:00 2025\n"
        return b"".join(separator + self.message(number) + b"\n" for number in range(messages))

    def source_code(self, number: int) -> bytes:
        """A small Python module."""
        functions = "\n\n".join(
            f"def {self._rng.choice(WORDS)}_{index}(value: int) -> int:\n"
            f'    """{self._rng.choice(self._paragraphs)[:70]}."""\n'
            f"    return value * {self._rng.randint(2, 999)} + {index}\n"
            for index in range(self._rng.randint(3, 14))
        )
        return f'"""Part {number}."""\n\n\n{functions}'.encode()

    def _paragraph(self) -> str:
        words = self._rng.choices(WORDS, k=self._rng.randint(30, 80))
        return " ".join(words).capitalize() + "."
