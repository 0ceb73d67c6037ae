"""Reading the JSON of headers and manifests: a value of the expected type, or the file is damaged."""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from agenthub.core.errors import CorruptFile

_SHA256: Final = re.compile(r"[0-9a-f]{64}\Z")


class Fields:
    """A JSON object whose fields are taken by type. Every method raises CorruptFile when the field is missing or another type."""

    def __init__(self, value: Any, source: str) -> None:
        """Raises: CorruptFile when the value is not an object."""
        if not isinstance(value, dict):
            raise CorruptFile(f"{source} is not a JSON object")
        self._value = value
        self._source = source

    @classmethod
    def parse(cls, data: bytes, source: str) -> Fields:
        """The object in these bytes.

        Raises: CorruptFile when they are not a JSON object.
        """
        try:
            return cls(orjson.loads(data), source)
        except orjson.JSONDecodeError as error:
            raise CorruptFile(f"{source} is not JSON") from error

    def has(self, name: str) -> bool:
        """Whether the field is there."""
        return name in self._value

    def text(self, name: str) -> str:
        """A text."""
        value = self._value.get(name)
        if not isinstance(value, str):
            raise self._wrong(name)
        return value

    def number(self, name: str) -> int:
        """A whole number from 0 up."""
        value = self._value.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self._wrong(name)
        return value

    def numbers(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers from 0 up."""
        value = self._value.get(name)
        if not isinstance(value, list) or any(not isinstance(one, int) or isinstance(one, bool) or one < 0 for one in value):
            raise self._wrong(name)
        return tuple(value)

    def sha256(self, name: str) -> str:
        """A hash in hexadecimal."""
        value = self.text(name)
        if not _SHA256.match(value):
            raise self._wrong(name)
        return value

    def below(self, name: str) -> Fields:
        """An object."""
        return Fields(self._value.get(name), f"{self._source}: {name}")

    def objects(self, name: str) -> list[Fields]:
        """A list of objects."""
        value = self._value.get(name)
        if not isinstance(value, list):
            raise self._wrong(name)
        return [Fields(item, f"{self._source}: {name}[{index}]") for index, item in enumerate(value)]

    def _wrong(self, name: str) -> CorruptFile:
        return CorruptFile(f"{self._source}: the field {name!r} is missing or has another type")
