"""Server-made names."""

from __future__ import annotations

import threading

import pytest

from agenthub.core import ids


def test_ids_sort_by_creation_also_within_a_millisecond() -> None:
    made = [ids.new_id() for _ in range(5000)]
    assert made == sorted(set(made))
    assert all(ids.is_id(one) for one in made)


def test_a_clock_that_steps_back_makes_no_smaller_id(monkeypatch: pytest.MonkeyPatch) -> None:
    before = ids.new_id()
    monkeypatch.setattr("time.time_ns", lambda: 1)
    assert ids.new_id() > before


def test_threads_never_get_the_same_id() -> None:
    made: list[str] = []
    threads = [threading.Thread(target=lambda: made.extend([ids.new_id() for _ in range(500)])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 4000


@pytest.mark.parametrize("text", ["", "x" * 26, "0" * 25, "../../etc/passwd", "01M83KRBBVSX278RN8S6E6HEVE", "8" + "0" * 25])
def test_other_texts_are_no_ids(text: str) -> None:
    assert not ids.is_id(text)
