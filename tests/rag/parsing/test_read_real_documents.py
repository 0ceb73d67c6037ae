"""The documents people upload come out as they would read them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agenthub.core.errors import UnsupportedDocument
from agenthub.rag.parsing.document import Block, ParsedDocument, canonical_text
from agenthub.rag.parsing.limits import ParsingLimits
from agenthub.rag.parsing.read import read_document
from agenthub.rag.parsing.sandbox import parse_safely

Read = Callable[[str], ParsedDocument]


@pytest.fixture
def read(document_bytes: Callable[[str], bytes], limits: ParsingLimits) -> Read:
    return lambda name: parse_safely(document_bytes(name), name, None, limits)


def holding(parsed: ParsedDocument, words: str) -> Block:
    """The one block that holds the words."""
    found = [block for block in parsed.blocks if words in block.text and block.kind != "heading"]
    assert len(found) == 1, [block.text for block in found]
    return found[0]


def test_pdf_has_pages_headings_whole_words_and_no_page_furniture(read: Read) -> None:
    parsed = read("asvs-5.0.0-en.pdf")
    assert (parsed.title, parsed.page_count, parsed.media_type) == ("Application Security Verification Standard", 120, "application/pdf")
    block = holding(parsed, "Verify that data selection or database queries")
    assert (block.page, block.headings) == (26, ("V1 Encoding and Sanitization", "V1.2 Injection Prevention"))
    assert block.text.startswith(
        "1.2.4 Verify that data selection or database queries (e.g., SQL, HQL, NoSQL, Cypher) use parameterized queries"
    )
    text = canonical_text(parsed)
    assert "Application Security Verification Standard May 2025" not in text
    assert ". . . ." not in text
    assert "requirements for documenting key security decisions" in text, "a word divided at the line's end is whole again"


def test_pdf_paragraph_runs_on_over_the_page_break(read: Read) -> None:
    block = holding(read("asvs-5.0.0-en.pdf"), "Input validation serves as a defense-in-depth mechanism")
    assert (block.page, block.page_end) == (24, 25)
    assert "matches functional and business expectations, requirements" in block.text


def test_docx_has_headings_lists_and_tables_in_order(read: Read) -> None:
    parsed = read("asvs-5.0.0-en.docx")
    assert parsed.title == "Application Security Verification Standard"
    block = holding(parsed, "Verify that data selection or database queries")
    assert (block.kind, block.headings) == ("table", ("V1 Encoding and Sanitization", "V1.2 Injection Prevention"))
    assert block.text.startswith("# | Description | Level\n1.2.1 | Verify that output encoding")
    principles = holding(parsed, "- Refined Scope and Focus")
    assert principles.kind == "list"
    assert "\n- Updated Levels" in principles.text


def test_docx_and_pdf_of_the_same_text_have_the_same_chapters(read: Read) -> None:
    chapters = [
        [block.text for block in read(name).blocks if block.kind == "heading" and block.level == 1 and block.text.startswith("V")]
        for name in ("asvs-5.0.0-en.docx", "asvs-5.0.0-en.pdf")
    ]
    assert len(chapters[0]) == 17
    assert chapters[0] == chapters[1]


def test_xlsx_has_a_block_per_row_with_names(read: Read) -> None:
    parsed = read("two-sheets.xlsx")
    rows = [(block.sheet, block.row, block.text) for block in parsed.blocks if block.kind == "row"]
    assert rows == [("Basic Table", 2, "col_a: 1.5\ncol_b: test"), ("Table Missing Value", 2, "col_c: true")]
    assert parsed.metadata["sheets"] == ["Basic Table", "Table Missing Value"]


def test_html_is_the_article_without_the_site(read: Read) -> None:
    parsed = read("what-is-haystack.html")
    assert (parsed.title, parsed.language) == ("What is Haystack? | Haystack", "en")
    headings = [(block.level, block.text) for block in parsed.blocks if block.kind == "heading"]
    assert headings[:3] == [
        (1, "What is Haystack?"),
        (2, "Building with Haystack"),
        (2, "Functionality for all stages of an NLP project"),
    ]
    text = canonical_text(parsed)
    assert "- Semantic search on a large collection of documents in any language" in text
    assert not any(part in text for part in ("function(", "{", "<", "cookie"))


def test_markdown_has_headings_and_words_without_marks(read: Read) -> None:
    parsed = read("gcsfuse-semantics.md")
    block = holding(parsed, "Per file handle:")
    assert block.headings == ("Read/Writes", "Reads", "Buffered Reads")
    assert block.text.startswith("- Per file handle: Up to 320 MB (20 × 16MB memory blocks) while reading.")
    assert "**" not in canonical_text(parsed)


def test_csv_has_a_block_per_record_with_field_names(read: Read) -> None:
    parsed = read("asvs-4.0.3-en.csv")
    assert len(parsed.blocks) == 286
    assert parsed.metadata["columns"][:2] == ["chapter_id", "chapter_name"]
    block = next(block for block in parsed.blocks if "req_id: V2.1.1\n" in block.text)
    assert "section_name: Password Security\n" in block.text
    assert "at least 12 characters" in block.text


def test_plain_text_has_paragraphs_and_plain_headings(read: Read) -> None:
    parsed = read("aristotle.txt")
    assert holding(parsed, "The biographies written in ancient times").headings == ("Life",)
    assert [block.text for block in parsed.blocks if block.kind == "heading"][:3] == ["Life", "Theoretical philosophy", "Logic"]


def test_scan_is_refused_with_page_count_and_reason(read: Read) -> None:
    with pytest.raises(UnsupportedDocument, match=r"1 page and no text.*scan.*OCR\) is not available"):
        read("scanned-no-text.pdf")


@pytest.mark.parametrize("name", ["asvs-5.0.0-en.pdf", "asvs-5.0.0-en.docx", "two-sheets.xlsx", "what-is-haystack.html"])
def test_child_process_and_this_process_read_the_same(
    name: str, read: Read, document_bytes: Callable[[str], bytes], limits: ParsingLimits
) -> None:
    assert read(name) == read_document(document_bytes(name), name, None, limits)
