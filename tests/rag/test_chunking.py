"""Chunks keep to the structure of a document, lose none of its text and are the same every time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenthub.core.errors import InvalidInput
from agenthub.rag.chunking import CHUNKER_VERSION, ChunkDraft, ChunkingSettings, Strategy, chunk_document
from agenthub.rag.parsing.document import Block, BlockKind, DocumentBuilder, ParsedDocument, canonical_text
from agenthub.rag.parsing.limits import ParsingLimits
from agenthub.rag.parsing.read import read_document

DOCUMENTS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "documents"
SENTENCE = "The quick brown fox number {} jumps over the lazy dog. "


def document(*blocks: Block, title: str | None = None) -> ParsedDocument:
    return ParsedDocument(title, blocks, None, "text/plain")


def build(fill: Callable[[DocumentBuilder], None], title: str | None = None) -> ParsedDocument:
    builder = DocumentBuilder(ParsingLimits())
    fill(builder)
    return builder.finish("text/plain", title=title)


def prose(sentences: int) -> str:
    return "".join(SENTENCE.format(number) for number in range(sentences)).strip()


def real(name: str) -> ParsedDocument:
    path = DOCUMENTS / name
    if not path.exists():
        pytest.fail(f"the shared documents are missing: {path} does not exist; check out ../shared beside the project")
    return read_document(path.read_bytes(), name, None, ParsingLimits())


def uncovered(parsed: ParsedDocument, chunks: list[ChunkDraft]) -> str:
    """The text that no chunk holds."""
    text = list(canonical_text(parsed))
    for chunk in chunks:
        text[chunk.start : chunk.end] = " " * (chunk.end - chunk.start)
    return " ".join("".join(text).split())


def test_small_paragraphs_of_a_section_share_a_chunk_and_sections_do_not() -> None:
    def fill(builder: DocumentBuilder) -> None:
        builder.page = 3
        builder.heading("Leave", 1)
        builder.add("paragraph", "Thirty days a year.")
        builder.add("paragraph", "Ask two weeks before.")
        builder.heading("Travel", 1)
        builder.page = 4
        builder.add("paragraph", "Trains first.")

    chunks = chunk_document(build(fill, title="Handbook"), ChunkingSettings())
    assert [(chunk.text, chunk.context, chunk.metadata) for chunk in chunks] == [
        ("Leave\n\nThirty days a year.\n\nAsk two weeks before.", "Handbook", {"kind": "paragraph", "page": 3, "headings": ["Leave"]}),
        ("Travel\n\nTrains first.", "Handbook", {"kind": "paragraph", "page": 3, "page_end": 4, "headings": ["Travel"]}),
    ]


def test_headings_without_text_go_with_what_follows() -> None:
    def fill(builder: DocumentBuilder) -> None:
        builder.heading("Part I", 1)
        builder.heading("Chapter 1", 2)
        builder.add("paragraph", "It begins.")

    (chunk,) = chunk_document(build(fill), ChunkingSettings())
    assert chunk.text == "Part I\n\nChapter 1\n\nIt begins."
    assert chunk.metadata["headings"] == ["Part I", "Chapter 1"]
    assert not chunk.context


def test_long_text_is_cut_between_sentences_with_overlap_and_context() -> None:
    def fill(builder: DocumentBuilder) -> None:
        builder.heading("Foxes", 1)
        builder.add("paragraph", prose(40))

    chunks = chunk_document(build(fill, title="Animals"), ChunkingSettings(max_characters=500, overlap_characters=100))
    assert len(chunks) > 3
    assert all(chunk.text.endswith(".") for chunk in chunks)
    assert all(chunk.text.startswith(("Foxes", "The quick")) for chunk in chunks)
    overlaps = [before.end - after.start for before, after in pairwise(chunks)]
    assert all(0 < overlap <= 100 for overlap in overlaps[1:])
    assert (chunks[0].context, chunks[1].context) == ("Animals", "Animals > Foxes")
    assert chunks[1].embedding_text == f"Animals > Foxes\n{chunks[1].text}"


def test_a_heading_is_never_alone_before_a_paragraph_that_fills_a_chunk() -> None:
    def fill(builder: DocumentBuilder) -> None:
        builder.heading("Foxes", 1)
        builder.add("paragraph", prose(40)[:998])

    chunks = chunk_document(build(fill), ChunkingSettings())
    assert [len(chunk.text) > 300 for chunk in chunks] == [True, True]
    assert chunks[0].text.startswith("Foxes")


def test_a_long_table_is_cut_between_rows_and_repeats_its_header() -> None:
    rows = [f"{number} | item {number} | {'x' * 40}" for number in range(60)]
    parsed = document(Block("table", "\n".join(["id | name | note", *rows])))
    chunks = chunk_document(parsed, ChunkingSettings(max_characters=500))
    assert len(chunks) > 5
    assert all(chunk.text.startswith("id | name | note\n") for chunk in chunks)
    assert [row for chunk in chunks for row in chunk.text.split("\n")[1:]] == rows
    assert all(len(chunk.text) <= 500 for chunk in chunks)


def test_a_table_row_longer_than_a_chunk_is_cut_like_text() -> None:
    parsed = document(Block("table", f"a | b\n1 | {prose(30)}\n2 | short"))
    chunks = chunk_document(parsed, ChunkingSettings(max_characters=300, overlap_characters=30))
    assert all(len(chunk.text) <= 300 for chunk in chunks)
    assert not uncovered(parsed, chunks)


def test_records_stand_alone_and_only_tiny_ones_together() -> None:
    large = [Block("row", f"id: {number}\ntext: {'word ' * 60}".strip(), row=number) for number in (1, 2)]
    tiny = [Block("row", f"id: {number}", row=number) for number in range(3, 9)]
    chunks = chunk_document(document(*large, *tiny), ChunkingSettings())
    assert [chunk.metadata["row"] for chunk in chunks] == [1, 2, 3]
    assert chunks[2].text.count("id:") == 6


def test_sheets_never_share_a_chunk() -> None:
    blocks = [Block("row", "a: 1", sheet="One", row=2), Block("row", "a: 2", sheet="Two", row=2)]
    assert [chunk.metadata["sheet"] for chunk in chunk_document(document(*blocks), ChunkingSettings())] == ["One", "Two"]


def test_a_title_that_is_also_the_first_heading_is_said_once_and_a_long_path_is_shortened() -> None:
    def fill(builder: DocumentBuilder) -> None:
        builder.heading("Guide", 1)
        builder.heading("A" * 150, 2)
        builder.heading("Last", 3)
        builder.add("paragraph", prose(60))

    contexts = {chunk.context for chunk in chunk_document(build(fill, title="Guide"), ChunkingSettings())[1:]}
    assert contexts == {"Guide > " + "A" * 150 + " > Last"}

    def fill_deeper(builder: DocumentBuilder) -> None:
        for level in range(1, 7):
            builder.heading(f"Heading number {level} " + "b" * 60, level)
        builder.add("paragraph", prose(60))

    long_context = chunk_document(build(fill_deeper, title="Guide"), ChunkingSettings())[-1].context
    assert len(long_context) <= 201
    assert long_context.startswith("Guide > ") and "Heading number 6" in long_context


@pytest.mark.parametrize(("strategy", "count"), [("none", 1), ("fixed", -(-(54 * 40 - 1 - 100) // 400)), ("sentences", None)])
def test_other_strategies_ignore_sections(strategy: Strategy, count: int | None) -> None:
    parsed = document(*(Block("paragraph", SENTENCE.format(number % 10).strip(), headings=(str(number),)) for number in range(40)))
    chunks = chunk_document(parsed, ChunkingSettings(strategy, 500, 100))
    if strategy == "none":
        assert chunks[0].text == canonical_text(parsed)
        assert "headings" not in chunks[0].metadata
    elif strategy == "fixed":
        assert {len(chunk.text) for chunk in chunks[:-1]} <= set(range(496, 501))
    else:
        assert all(chunk.text.startswith("The quick") and chunk.text.endswith(".") for chunk in chunks)
        assert max(len(chunk.text) for chunk in chunks) > 400
    assert count is None or abs(len(chunks) - count) <= 1
    assert not uncovered(parsed, chunks)


@pytest.mark.parametrize("unit", ["x", "word ", "One. Two three.\n", "漢字。"])
def test_a_text_of_many_windows_has_no_seams(unit: str) -> None:
    parsed = document(Block("paragraph", (unit * 200_000).strip()))
    chunks = chunk_document(parsed, ChunkingSettings())
    assert not uncovered(parsed, chunks)
    assert all(len(chunk.text) <= 1000 for chunk in chunks)
    assert min(len(chunk.text) for chunk in chunks[:-1]) > 300
    assert all(0 <= before.end - after.start <= 150 or after.start == before.end + 1 for before, after in pairwise(chunks))


def test_many_headings_and_tiny_blocks_take_their_turn() -> None:
    headings = [Block("heading", f"h{number}", 1 + number % 9) for number in range(60_000)]
    rows = [Block("row", f"a: {number}", row=number, headings=("x",)) for number in range(60_000)]
    parsed = document(*headings, *rows)
    chunks = chunk_document(parsed, ChunkingSettings())
    assert chunks[-1].metadata["headings"] == ["x"]
    assert "a: 59999" in chunks[-1].text


def test_lines_without_a_word_make_no_chunk_of_their_own() -> None:
    parsed = document(
        Block("paragraph", "Text."), Block("paragraph", "* * *", headings=("x",)), Block("paragraph", "More.", headings=("y",))
    )
    assert [chunk.text for chunk in chunk_document(parsed, ChunkingSettings())] == ["Text.", "More."]


@pytest.mark.parametrize(
    ("strategy", "size", "overlap", "field"),
    [
        ("paragraphs", 1000, 100, "chunking.strategy"),
        ("structure", 99, 10, "chunking.max_characters"),
        ("structure", 20_001, 10, "chunking.max_characters"),
        ("structure", 1000, 500, "chunking.overlap_characters"),
        ("structure", 1000, -1, "chunking.overlap_characters"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(strategy: Strategy, size: int, overlap: int, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        ChunkingSettings(strategy, size, overlap)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "name", ["aristotle.txt", "asvs-4.0.3-en.csv", "asvs-5.0.0-en.docx", "gcsfuse-semantics.md", "what-is-haystack.html"]
)
def test_real_documents_keep_every_word_in_fitting_chunks(name: str) -> None:
    parsed = real(name)
    chunks = chunk_document(parsed, ChunkingSettings())
    assert not uncovered(parsed, chunks)
    assert max(len(chunk.text) for chunk in chunks) <= 1000
    assert sum(len(chunk.text) < 100 for chunk in chunks) <= len(chunks) // 30 + 1, "crumbs are rare"
    assert chunks == chunk_document(real(name), ChunkingSettings())


def test_a_requirement_is_found_under_its_section() -> None:
    chunks = chunk_document(real("asvs-5.0.0-en.docx"), ChunkingSettings())
    (chunk,) = [each for each in chunks if "Verify that data selection or database queries" in each.text]
    assert chunk.metadata["headings"] == ["V1 Encoding and Sanitization", "V1.2 Injection Prevention"]
    assert chunk.context == "Application Security Verification Standard > V1 Encoding and Sanitization > V1.2 Injection Prevention"
    assert chunk.text.startswith("# | Description | Level\n")


GOLDEN_OFFSETS = [(0, 986), (877, 1646), (1648, 2633), (2634, 3619), (3620, 3943)]


def test_the_version_is_raised_when_chunks_change() -> None:
    def fill(builder: DocumentBuilder) -> None:
        builder.heading("Foxes", 1)
        builder.add("paragraph", prose(30))
        builder.add("table", "a | b\n" + "\n".join(f"{number} | value" for number in range(200)))

    offsets = [(chunk.start, chunk.end) for chunk in chunk_document(build(fill), ChunkingSettings())]
    assert (CHUNKER_VERSION, offsets) == ("1", GOLDEN_OFFSETS), "other chunks: raise CHUNKER_VERSION, then renew the offsets"


KINDS = st.sampled_from(get_args(BlockKind))
WORDS = st.text(st.sampled_from("abc .|\n-é漢"), min_size=1, max_size=700).map(lambda text: "w" + text.strip() + ".")


@st.composite
def documents(draw: st.DrawFn) -> ParsedDocument:
    builder = DocumentBuilder(ParsingLimits())
    kinds: list[BlockKind] = draw(st.lists(KINDS, min_size=1, max_size=12))
    for kind in kinds:
        builder.page = draw(st.none() | st.integers(1, 5))
        if kind == "heading":
            builder.heading(draw(WORDS), draw(st.integers(1, 4)))
        else:
            builder.add(kind, draw(WORDS))
    return builder.finish("text/plain", title=draw(st.none() | st.just("Title")))


@settings(max_examples=250, deadline=None)
@given(documents(), st.sampled_from(["structure", "sentences", "fixed", "none"]), st.integers(100, 600), st.integers(0, 49))
def test_any_document_any_settings(parsed: ParsedDocument, strategy: Strategy, size: int, overlap: int) -> None:
    chosen = ChunkingSettings(strategy, size, size * overlap // 100)
    chunks = chunk_document(parsed, chosen)
    text = canonical_text(parsed)
    assert chunks == chunk_document(parsed, chosen)
    for chunk in chunks:
        assert chunk.text.strip() == chunk.text != ""
        assert text[chunk.start : chunk.end] == chunk.text or chunk.text.endswith("\n" + text[chunk.start : chunk.end])
        assert strategy == "none" or len(chunk.text) <= size
    starts = [chunk.start for chunk in chunks]
    assert starts == sorted(starts)
    headings = {word for block in parsed.blocks if block.kind == "heading" for word in block.text.split()}
    left = {word for word in uncovered(parsed, chunks).split() if any(map(str.isalnum, word))}
    assert left <= headings, "only headings may stand in the context alone"
