"""Text out of tokens: whole characters, stop strings that are cut anywhere, and nothing behind them."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from edged.workers.speaking import Speech


def spoken(parts: Sequence[bytes], stops: Sequence[str] = ()) -> tuple[str, str | None, list[str]]:
    """(text, stop, what was said after each part), ended as a generation ends: at the stop, or with a last empty part."""
    speech, said = Speech(stops), []
    for part in parts:
        said.append(speech.push(part))
        if speech.stopped is not None:
            break
    said.append(speech.push(b"", final=True))
    assert speech.text == "".join(said)
    return speech.text, speech.stopped, said


def letters(text: str) -> list[bytes]:
    return [bytes([byte]) for byte in text.encode()]


@pytest.mark.parametrize(
    ("parts", "stops", "text", "stop"),
    [
        ([b"hello"], [], "hello", None),
        ([b"hel", b"lo"], ["x"], "hello", None),
        ([b"one END two"], ["END"], "one ", "END"),
        ([b"one E", b"ND two"], ["END"], "one ", "END"),
        (letters("one END"), ["END"], "one ", "END"),
        (letters("one EN"), ["END"], "one EN", None),
        (letters("EEND"), ["END"], "E", "END"),
        (letters("ababac"), ["abac"], "ab", "abac"),
        (letters("aé漢🙂"), ["漢"], "aé", "漢"),
        (["é漢".encode()[:3], "é漢".encode()[3:]], ["é漢"], "", "é漢"),
        (letters("🙂🙃"), ["🙃"], "🙂", "🙃"),
        ([b"a\xff", b"b"], [], "a�b", None),
        ([b"a\xf0\x9f"], [], "a�", None),
        ([b"x"], ["", "x"], "", "x"),
        ([b"ab"], [""], "ab", None),
    ],
)
def test_table(parts: list[bytes], stops: list[str], text: str, stop: str | None) -> None:
    assert spoken(parts, stops)[:2] == (text, stop)


def test_only_what_may_become_a_stop_string_is_held_back() -> None:
    assert spoken([b"a", b"b", b"c", b"d"], ["bcx"])[2] == ["a", "", "", "bcd", ""]
    assert spoken(letters("é"), ["x"])[2] == ["", "é", ""]


def test_nothing_is_said_behind_a_stop_string() -> None:
    # Once: what is left of a character behind the stop string comes out as a replacement character in the end
    assert spoken([b"one END\xc3"], ["END"]) == ("one ", "END", ["one ", ""])
    speech = Speech(["END"])
    speech.push(b"one END")
    assert (speech.push(b"two"), speech.text) == ("", "one ")


def pieces(rng: random.Random, data: bytes) -> list[bytes]:
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(len(data) + 1)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@pytest.mark.parametrize("seed", range(3))
def test_cuts_change_nothing(seed: int) -> None:
    """Wherever the bytes are cut, the text is the same as letter by letter."""
    # Once: of two stop strings the one that begins first wins, but when it is cut the one that ends first does: "abc"
    # with stops "abc" and "b" is "" whole and "a" in pieces.
    rng = random.Random(seed)
    for _ in range(400):
        text = "".join(rng.choice("abé🙂") for _ in range(rng.randrange(12)))
        stops = ["".join(rng.choice("abé🙂") for _ in range(rng.randrange(1, 4))) for _ in range(rng.randrange(4))]
        noise = rng.choice([b"", b"", b"\xc3", b"\xff", b"\xf0\x9f"])
        data = text.encode() + noise + b"a" * rng.randrange(2)
        expected = spoken([data[i : i + 1] for i in range(len(data))], stops)[:2]
        assert spoken(pieces(rng, data), stops)[:2] == expected, (data, stops)
        assert spoken([data], stops)[:2] == expected, (data, stops)


def test_the_text_ends_where_the_first_stop_string_is_complete() -> None:
    rng = random.Random(9)
    for _ in range(500):
        text = "".join(rng.choice("abc") for _ in range(rng.randrange(15)))
        stop = "".join(rng.choice("abc") for _ in range(rng.randrange(1, 4)))
        at = text.find(stop)
        expected = (text, None) if at < 0 else (text[:at], stop)
        assert spoken(pieces(rng, text.encode()), [stop])[:2] == expected
