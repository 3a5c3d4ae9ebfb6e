"""How an archive is compressed, and what the level that people set means for each format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Format = Literal["tar.gz", "tar.zst"]
DEFAULT_LEVEL: Final = 6

# igzip knows no more than these; above them zlib-ng is smaller and slower, as whoever asks for it expects.
IGZIP_LEVELS: Final = {1: 1, 2: 1, 3: 2, 4: 2, 5: 3, 6: 3}
ZLIB_NG_LEVELS: Final = {7: 6, 8: 7, 9: 9}
ZSTD_LEVELS: Final = {1: 1, 2: 1, 3: 2, 4: 2, 5: 3, 6: 3, 7: 6, 8: 9, 9: 12}


@dataclass(frozen=True, slots=True)
class Compression:
    """A format, which is what the name of the file ends in, and a level from 1 (fastest) to 9 (smallest)."""

    format: Format = "tar.gz"
    level: int = DEFAULT_LEVEL

    def __post_init__(self) -> None:
        if self.format not in {"tar.gz", "tar.zst"} or self.level not in range(1, 10):
            raise ValueError(f"There is no compression {self.format!r} of level {self.level}.")
