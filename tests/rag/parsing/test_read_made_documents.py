"""Every kind, on small documents made for the point in question."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from agenthub.core.errors import PayloadTooLarge, UnsupportedDocument
from agenthub.rag.parsing.document import Block, ParsedDocument, canonical_text
from agenthub.rag.parsing.limits import ParsingLimits
from agenthub.rag.parsing.read import read_document

LIMITS = ParsingLimits()
WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def read(data: bytes | str, name: str, declared_type: str | None = None, limits: ParsingLimits = LIMITS) -> ParsedDocument:
    return read_document(data.encode() if isinstance(data, str) else data, name, declared_type, limits)


def shapes(parsed: ParsedDocument) -> list[tuple[str, str]]:
    return [(block.kind, block.text) for block in parsed.blocks]


def test_docx_blocks_in_document_order(small_docx: bytes) -> None:
    parsed = read(small_docx, "handbook.docx")
    assert parsed.title == "Handbook"
    assert shapes(parsed) == [
        ("heading", "Travel"),
        ("paragraph", "Book trains two weeks ahead."),
        ("heading", "Hotels"),
        ("list", "- Up to 120 euros a night\n- Breakfast is included"),
        ("table", "City | Limit\nParis | 150"),
        ("heading", "Expenses"),
        ("paragraph", "Send receipts within a month."),
    ]
    assert parsed.blocks[4].headings == ("Travel", "Hotels")
    assert parsed.blocks[6].headings == ("Expenses",)


def test_docx_keeps_insertions_and_content_controls_and_drops_deletions(small_docx: bytes, rezipped: Callable[..., bytes]) -> None:
    body = (
        "<w:p><w:r><w:t>Pay </w:t></w:r><w:ins><w:r><w:t>30</w:t></w:r></w:ins><w:del><w:r><w:delText>60</w:delText></w:r></w:del>"
        "<w:r><w:t xml:space='preserve'> days</w:t></w:r></w:p>"
        "<w:sdt><w:sdtContent><w:p><w:r><w:t>In a control</w:t></w:r></w:p></w:sdtContent></w:sdt>"
        "<w:sdt><w:sdtPr><w:docPartObj><w:docPartGallery w:val='Table of Contents'/></w:docPartObj></w:sdtPr>"
        "<w:sdtContent><w:p><w:r><w:t>Travel 3</w:t></w:r></w:p></w:sdtContent></w:sdt>"
    )
    document = f"<w:document xmlns:w='{WORD}'><w:body>{body}</w:body></w:document>".encode()
    parsed = read(rezipped(small_docx, {"word/document.xml": document}), "changed.docx")
    assert shapes(parsed) == [("paragraph", "Pay 30 days"), ("paragraph", "In a control")]


def test_xlsx_values_as_their_reader_sees_them(small_xlsx: bytes) -> None:
    parsed = read(small_xlsx, "prices.xlsx")
    assert parsed.blocks == (
        Block("heading", "Prices", 1, sheet="Prices"),
        Block("row", "item: apple\nprice: 1.5\nshare: 25%", headings=("Prices",), sheet="Prices", row=2),
        Block("row", "item: pear\nprice: 2", headings=("Prices",), sheet="Prices", row=3),
    )


def test_pptx_has_slides_as_pages_with_tables_and_notes(small_pptx: bytes) -> None:
    parsed = read(small_pptx, "plan.pptx")
    assert parsed.page_count == 2
    assert [(block.page, block.kind, block.text, block.headings) for block in parsed.blocks] == [
        (1, "heading", "Roadmap", ()),
        (1, "list", "- Ship the beta\n- Hire two engineers", ("Roadmap",)),
        (2, "heading", "Budget", ()),
        (2, "table", "Team | Cost\nSearch | 10", ("Budget",)),
        (2, "notes", "Mention the grant.", ("Budget",)),
    ]


def test_pdf_without_outline_takes_large_lines_for_headings(make_pdf: Callable[..., bytes]) -> None:
    body = [(10, 700 - 12 * line, f"line {line} of the text that stands on this page of the report and fills it") for line in range(20)]
    pages = [[(20, 750, f"Chapter {number}"), *body, (8, 30, f"{number}")] for number in (1, 2, 3)]
    parsed = read(make_pdf(pages), "report.pdf")
    headings = [(block.page, block.level, block.text) for block in parsed.blocks if block.kind == "heading"]
    assert headings == [(1, 1, "Chapter 1"), (2, 1, "Chapter 2"), (3, 1, "Chapter 3")]
    assert parsed.blocks[1].headings == ("Chapter 1",)
    assert not any(block.text in ("1", "2", "3") for block in parsed.blocks), "page numbers are gone"


def test_html_tables_code_lists_and_hidden_parts() -> None:
    page = """<html lang=cs><head><title> A  page </title><style>p {color: red}</style></head><body>
      <nav><a href=/>Home</a></nav><h1>Top</h1><p>Fresh<br>bread &amp; <b>but</b>ter<p hidden>unseen<p style="display: none">unseen
      <ul><li>one<ul><li>inner</ul><li>two</ul><pre>x = 1\n  y</pre>
      <table><tr><th>a<th>b<tr><td>1<td>2</table><script>evil()</script><footer>imprint</footer></body></html>"""
    parsed = read(page, "page.html")
    assert (parsed.title, parsed.language) == ("A page", "cs")
    assert shapes(parsed) == [
        ("heading", "Top"),
        ("paragraph", "Fresh\nbread & butter"),
        ("list", "- one\n  - inner\n- two"),
        ("code", "x = 1\n  y"),
        ("table", "a | b\n1 | 2"),
    ]


def test_html_by_its_declared_charset() -> None:
    page = "<meta charset=windows-1250><p>Příliš žluťoučký kůň</p>".encode("cp1250")
    assert shapes(read(page, "page.htm")) == [("paragraph", "Příliš žluťoučký kůň")]


def test_html_nested_deeper_than_any_stack() -> None:
    page = "<div>" * 10_000 + "deep" + "</div>" * 10_000
    assert "deep" in canonical_text(read(page, "deep.html"))


def test_markdown_front_matter_tables_code_and_lists() -> None:
    text = """---\ntitle: "Guide"\n---\n# Start\n\nSee [the docs](https://example.com/a) and `make`.\n
1. first\n2. second\n   - inner\n\n```python\nx = 1\n```\n\n| a | b |\n|---|---|\n| 1 | **2** |\n\n<!-- gone -->\n<div>kept</div>\n"""
    parsed = read(text, "guide.md")
    assert parsed.title == "Guide"
    assert shapes(parsed) == [
        ("heading", "Start"),
        ("paragraph", "See the docs and make."),
        ("list", "1. first\n2. second\n  - inner"),
        ("code", "x = 1"),
        ("table", "a | b\n1 | 2"),
        ("paragraph", "kept"),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_of_any_delimiter(delimiter: str) -> None:
    rows = [["name", "note"], ["Anna", 'says "hi"'], ["Bob", "two\nlines"]]
    text = "\n".join(delimiter.join('"' + value.replace('"', '""') + '"' for value in row) for row in rows)
    parsed = read(text, "people.csv")
    assert shapes(parsed) == [("row", 'name: Anna\nnote: says "hi"'), ("row", "name: Bob\nnote: two\nlines")]


def test_csv_without_header_and_with_ragged_rows() -> None:
    assert shapes(read("1,2\n3,4\n", "numbers.csv")) == [("row", "1 | 2"), ("row", "3 | 4")]
    assert shapes(read("a,b\n1\n1,2,3\n", "ragged.csv")) == [("row", "a: 1"), ("row", "a: 1\nb: 2\ncolumn 3: 3")]


def test_csv_of_nothing_but_a_header_is_still_found() -> None:
    assert shapes(read("name,city\n", "header.csv")) == [("row", "name | city")]


def test_json_is_readable_lines_and_a_block_per_item() -> None:
    value = {
        "title": "Shop",
        "owner": {"name": "Eva"},
        "tags": ["a", "b"],
        "items": [{"id": 1, "tags": []}, {"id": 2, "price": {"eur": 3.5}}],
        "open": True,
        "closed": None,
    }
    parsed = read(json.dumps(value), "shop.json")
    assert parsed.title == "Shop"
    assert shapes(parsed) == [
        ("paragraph", "title: Shop\nowner.name: Eva\ntags: a, b"),
        ("heading", "items"),
        ("row", "id: 1"),
        ("row", "id: 2\nprice.eur: 3.5"),
        ("paragraph", "open: true"),
    ]
    assert (parsed.blocks[3].headings, parsed.blocks[3].row) == (("items",), 2)


def test_json_list_and_json_lines() -> None:
    assert shapes(read('[{"a": 1}, {"a": 2}]', "list.json")) == [("row", "a: 1"), ("row", "a: 2")]
    assert shapes(read('{"a": 1}\n\n{"a": 2}\n', "list.jsonl")) == [("row", "a: 1"), ("row", "a: 2")]
    with pytest.raises(UnsupportedDocument, match="line 2 is not valid JSON"):
        read('{"a": 1}\n{"a":\n', "list.jsonl")


def test_plain_text_with_form_feeds_has_pages() -> None:
    parsed = read("first page\fsecond page\n\nmore", "print.txt")
    assert [(block.page, block.text) for block in parsed.blocks] == [(1, "first page"), (2, "second page"), (2, "more")]
    assert parsed.page_count == 2


def test_plain_text_with_underlined_headings() -> None:
    parsed = read("Title\n=====\nText.\n\nPart\n----\n\nMore text.", "notes.txt")
    assert [(block.kind, block.level, block.headings) for block in parsed.blocks] == [
        ("heading", 1, ()),
        ("paragraph", 0, ("Title",)),
        ("heading", 2, ("Title",)),
        ("paragraph", 0, ("Title", "Part")),
    ]


def test_text_is_cleaned() -> None:
    text = "e\u0301tude \ufb01nal so\u00adft zero\u200bwidth non\u2011breaking a\u00a0b\x07  \n\n\n\nend"
    assert shapes(read(text, "dirty.txt")) == [("paragraph", "étude final soft zerowidth non-breaking a b"), ("paragraph", "end")]


def test_kind_by_declared_type_or_content_when_the_name_says_nothing() -> None:
    assert read("# Head", "readme", "text/markdown; charset=utf-8").media_type == "text/markdown"
    assert read("<!DOCTYPE html><p>x", "upload").media_type == "text/html"
    assert read("select 1;", "query.sql").media_type == "text/plain"
    assert read("a,b\n1,2", "table.csv", "application/vnd.ms-excel").media_type == "text/csv"


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (ParsingLimits(file_bytes=10), "larger than 10 bytes"),
        (ParsingLimits(text_characters=20), "more than 20 characters"),
        (ParsingLimits(blocks=2), "more than 2 paragraphs"),
    ],
)
def test_limits_on_size_text_and_blocks(limits: ParsingLimits, reason: str) -> None:
    with pytest.raises(PayloadTooLarge, match=reason):
        read("one word\n\ntwo words\n\nthree words\n", "words.txt", limits=limits)
