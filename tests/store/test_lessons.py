"""What operators taught: in memory what is on disk, one meaning a sentence, the newest first, not too many."""

from __future__ import annotations

from edged.store.database import Database
from edged.store.lessons import MOST, Lessons


async def read_anew(db: Database) -> Lessons:
    lessons = Lessons(db)
    await lessons.load()
    return lessons


async def test_what_is_taught_is_kept(db: Database) -> None:
    lessons = await read_anew(db)
    for text in ("cosy time", "film night"):
        await lessons.add("home", "dim", text)
    await lessons.add("kiosk", "dim", "cosy time")
    for each in (lessons, await read_anew(db)):
        assert each.of("home", "dim") == ("film night", "cosy time")
        assert each.all("kiosk") == {"dim": ("cosy time",)}
        assert each.of("home", "switch") == ()


async def test_the_last_meaning_of_a_sentence_holds(db: Database) -> None:
    lessons = await read_anew(db)
    await lessons.add("home", "dim", "cosy time")
    await lessons.add("home", "switch", "cosy time")
    assert lessons.all("home") == {"switch": ("cosy time",)}
    await lessons.add("home", "switch", "cosy time")
    assert (await read_anew(db)).of("home", "switch") == ("cosy time",)


async def test_the_oldest_give_way(db: Database) -> None:
    clock_stands = Lessons(db, lambda: 0.0)
    for number in range(MOST + 2):
        await clock_stands.add("home", "dim", f"sentence {number}")
    kept = (await read_anew(db)).of("home", "dim")
    assert len(kept) == MOST
    assert (kept[0], kept[-1]) == (f"sentence {MOST + 1}", "sentence 2")


async def test_forgetting(db: Database) -> None:
    lessons = await read_anew(db)
    await lessons.add("home", "dim", "cosy time")
    assert not await lessons.forget("home", "switch", "cosy time")
    assert await lessons.forget("home", "dim", "cosy time")
    assert not await lessons.forget("home", "dim", "cosy time")
    assert lessons.all("home") == (await read_anew(db)).all("home") == {}
