"""Whatever bytes are uploaded: a document, or one of two refusals."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenthub.core.errors import PayloadTooLarge, UnsupportedDocument
from agenthub.rag.chunking import ChunkingSettings, chunk_document
from agenthub.rag.parsing.limits import ParsingLimits
from agenthub.rag.parsing.read import read_document
from agenthub.rag.parsing.sandbox import parse_safely

LIMITS = ParsingLimits(text_characters=500_000, cpu_seconds=5, wall_seconds=10.0)
ROUNDS = 60
SUFFIXES = ("txt", "csv", "json", "jsonl", "md", "html", "docx", "xlsx", "pptx", "")


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The bytes with a few of the things that happen to files."""
    result = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(result) or 1)
        match chance.randrange(6):
            case 0:
                result[at : at + 1] = chance.randbytes(1)
            case 1:
                result[at : at + chance.randrange(200)] = b""
            case 2:
                result[at:at] = chance.randbytes(chance.randrange(50))
            case 3:
                result[at:at] = result[at : at + chance.randrange(2_000)]
            case 4:
                result[at : at + 4] = chance.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"<<<<", b"\x7f\xff\xff\xff"])
            case _:
                del result[chance.randrange(len(result) or 1) :]
    return bytes(result)


def repacked(data: bytes, chance: random.Random) -> bytes:
    """A well-formed archive in which one part is damaged: what reaches the XML parsers behind the archive's own checks."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        victim = chance.choice([name for name in old.namelist() if name.endswith((".xml", ".rels"))])
        for name in old.namelist():
            new.writestr(name, tampered(old.read(name), chance) if name == victim else old.read(name))
    return buffer.getvalue()


def tampered(xml: bytes, chance: random.Random) -> bytes:
    """XML that mostly stays well-formed: values, names and elements changed, dropped or doubled."""
    text = xml.decode()
    match chance.randrange(5):
        case 0:
            return text.replace(
                chance.choice(['"1"', '"0"', "true", "Id", "Type"]), chance.choice(['"-1"', '"x"', '"99999999999"'])
            ).encode()
        case 1:
            pieces = text.split("<")
            del pieces[chance.randrange(1, len(pieces))]
            return "<".join(pieces).encode()
        case 2:
            return text.replace("w:", chance.choice(["x:", "w:w"]), chance.randrange(1, 5)).encode()
        case 3:
            return text.replace("Target=", chance.choice(["Targe=", "Target='../../x' T="]), 1).encode()
        case _:
            return mutated(xml, chance)


def accept(data: bytes, name: str) -> bool:
    """Read the bytes here; True when they are a document, whose chunks are then made too. Any other error fails the test."""
    try:
        parsed = read_document(data, name, None, LIMITS)
    except (UnsupportedDocument, PayloadTooLarge):
        return False
    assert all(block.text.strip() for block in parsed.blocks)
    assert chunk_document(parsed, ChunkingSettings())
    return True


@pytest.mark.parametrize(
    ("name", "length"),
    [("aristotle.txt", 8_000), ("asvs-4.0.3-en.csv", 8_000), ("gcsfuse-semantics.md", 8_000), ("what-is-haystack.html", 60_000)],
)
def test_mutations_of_real_text_files(name: str, length: int, document_bytes: Callable[[str], bytes]) -> None:
    original = document_bytes(name)[:length]
    chance = random.Random(name)
    read = sum(accept(mutated(original, chance), name) for _ in range(ROUNDS))
    assert read > ROUNDS // 4, "the mutations are mild enough to get past the first check"


@pytest.mark.parametrize("kind", ["docx", "xlsx", "pptx"])
def test_mutations_of_office_files(kind: str, request: pytest.FixtureRequest) -> None:
    original: bytes = request.getfixturevalue(f"small_{kind}")
    chance = random.Random(kind)
    outcomes = [accept(repacked(original, chance), f"a.{kind}") for _ in range(ROUNDS)]
    assert any(outcomes) and not all(outcomes)
    for _ in range(ROUNDS // 2):
        accept(mutated(original, chance), f"a.{kind}")


def test_mutations_of_real_office_files(document_bytes: Callable[[str], bytes]) -> None:
    chance = random.Random(7)
    for name in ("asvs-5.0.0-en.docx", "two-sheets.xlsx"):
        for _ in range(8):
            accept(repacked(document_bytes(name), chance), name)


def test_mutations_of_pdfs_in_the_child(make_pdf: Callable[..., bytes], document_bytes: Callable[[str], bytes]) -> None:
    chance = random.Random(11)
    small = make_pdf([[(10, 700 - 15 * line, f"line {line}") for line in range(20)]] * 3)
    cases = [mutated(small, chance) for _ in range(40)] + [small[: chance.randrange(len(small))] + b"%%EOF" for _ in range(10)]
    real = document_bytes("asvs-5.0.0-en.pdf")
    cases += [mutated(real, chance)[:600_000] + b"\n%%EOF" for _ in range(10)]

    def outcome(data: bytes) -> str:
        try:
            return str(len(parse_safely(data, "a.pdf", None, LIMITS).blocks))
        except (UnsupportedDocument, PayloadTooLarge) as refusal:
            return refusal.message

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(outcome, cases))
    assert len(outcomes) == 60
    assert any(each.isdigit() for each in outcomes) and not all(each.isdigit() for each in outcomes)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(SUFFIXES))
def test_any_bytes_under_any_name(data: bytes, suffix: str) -> None:
    accept(data, f"a.{suffix}")


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from(" \n\t#*`_[]()!<>|-=~\"'&;:,{}1a\\.é"), max_size=120), st.sampled_from(["md", "html", "csv", "json", "txt"]))
def test_any_markup(text: str, suffix: str) -> None:
    accept(text.encode(), f"a.{suffix}")


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=10),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
        max_leaves=20,
    )
)
def test_any_json(value: object) -> None:
    accept(orjson.dumps(value), "a.json")
