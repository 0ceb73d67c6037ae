"""What reading one document may cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ParsingLimits:
    """Bounds of one document; sizes are in bytes, times in seconds. The defaults are RELIABILITY.md D2-11's."""

    file_bytes: int = 100_000_000
    pages: int = 5_000
    # Some 4,500 dense pages.
    text_characters: int = 10_000_000
    blocks: int = 250_000
    archive_entries: int = 1_000
    archive_bytes: int = 200_000_000
    archive_ratio: int = 100
    # The child's address space; RELIABILITY.md allows 512 MiB resident. A PDF of 4,800 dense pages was seen to need 220 MB.
    memory_bytes: int = 512 * 1024 * 1024
    cpu_seconds: int = 25
    wall_seconds: float = 30.0
    # 10 million characters are at most 40 MB of UTF-8; the rest is JSON escapes, pages and headings.
    output_bytes: int = 100_000_000
