"""HTML: the main content of a page without its navigation, scripts and hidden parts."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import Final

from selectolax.lexbor import LexborHTMLParser, LexborNode

from agenthub.core.errors import UnsupportedDocument
from agenthub.rag.parsing.characters import one_line
from agenthub.rag.parsing.decoding import decode_text
from agenthub.rag.parsing.document import DocumentBuilder, ParsedDocument
from agenthub.rag.parsing.kinds import MEDIA_TYPES, Kind
from agenthub.rag.parsing.limits import ParsingLimits

_CHARSET: Final = re.compile(rb"<meta[^>]{0,200}?charset\s{0,9}=\s{0,9}[\"']?([A-Za-z0-9_:.-]{1,40})", re.IGNORECASE)
_CHARSET_WITHIN: Final = 2048
_HIDDEN_STYLE: Final = re.compile(r"(?:display\s{0,9}:\s{0,9}none|visibility\s{0,9}:\s{0,9}hidden)", re.IGNORECASE)
_BLANK_BEFORE_STOP: Final = re.compile(r"(?<=\w) (?=[.,](?:\s|\Z))")
_DROPPED: Final = frozenset({
    "script", "style", "noscript", "template", "head", "nav", "footer", "aside", "svg", "canvas", "iframe", "object", "embed",
    "audio", "video", "map", "button", "input", "select", "textarea", "datalist", "dialog", "menu", "link", "meta",
})  # fmt: skip
_DROPPED_ROLES: Final = frozenset({"navigation", "banner", "contentinfo", "search", "complementary", "dialog", "alert", "menu"})
_BLOCKS: Final = frozenset({
    "address", "article", "aside", "blockquote", "body", "center", "dd", "details", "div", "dl", "dt", "fieldset", "figcaption",
    "figure", "form", "header", "hr", "html", "legend", "li", "main", "ol", "p", "section", "summary", "td", "th", "tr", "ul",
    "caption", "tbody", "thead", "tfoot",
})  # fmt: skip
_HEADINGS: Final = {f"h{level}": level for level in range(1, 7)}
_LISTS: Final = frozenset({"ul", "ol", "dl"})
_MAIN_SHARE: Final = 0.25


def read_html(data: bytes, limits: ParsingLimits) -> ParsedDocument:
    """The headings, paragraphs, lists, tables and code of a page's main content.

    Raises: UnsupportedDocument when it is binary or shows no text; PayloadTooLarge when over the limits.
    """
    text, encoding = _decode(data)
    tree = LexborHTMLParser(text)
    root = tree.root
    body = tree.body or root
    if root is None or body is None:
        raise UnsupportedDocument("the file holds no text")
    title_node = tree.css_first("title")
    title = one_line(title_node.text()) if title_node is not None else ""
    language = (root.attributes or {}).get("lang")
    builder = DocumentBuilder(limits)
    _Walker(builder).walk(_main_content(tree, body))
    return builder.finish(MEDIA_TYPES[Kind.HTML], title=title or None, language=language, metadata={"encoding": encoding})


def _decode(data: bytes) -> tuple[str, str]:
    """By byte order mark, then the page's own declaration, then the bytes' statistics."""
    match = _CHARSET.search(data[:_CHARSET_WITHIN])
    if match is None or data.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return decode_text(data)
    name = match[1].decode("ascii").lower()
    # What the web calls latin-1 and ASCII is cp1252 (https://encoding.spec.whatwg.org); UTF-7 is no encoding of the web.
    name = "cp1252" if name in ("iso-8859-1", "latin1", "ascii", "us-ascii", "windows-1252") else name
    try:
        return data.decode(name if name != "utf-7" else ""), name
    except (LookupError, UnicodeError, ValueError):
        return decode_text(data)


def _main_content(tree: LexborHTMLParser, body: LexborNode) -> LexborNode:
    """The largest `main` or `article` if it holds a fair share of the page's words, else the body."""
    whole = len(body.text(separator=" ").split())
    candidates = [(len(node.text(separator=" ").split()), node) for node in tree.css("main, [role=main], article")]
    best = max(candidates, key=lambda candidate: candidate[0], default=(0, body))
    return best[1] if best[0] > whole * _MAIN_SHARE else body


def _is_dropped(node: LexborNode, tag: str) -> bool:
    if tag in _DROPPED:
        return True
    attributes = node.attributes or {}
    if "hidden" in attributes or attributes.get("aria-hidden") == "true" or (attributes.get("role") or "") in _DROPPED_ROLES:
        return True
    return bool(_HIDDEN_STYLE.search((attributes.get("style") or "")[:500]))


class _Walker:
    """Walks the tree without recursion (pages may nest as deep as they like) and cuts the text at block elements."""

    def __init__(self, builder: DocumentBuilder) -> None:
        self._builder = builder
        self._words: list[str] = []
        self._items: list[str] = []
        self._list_depth = 0

    def walk(self, root: LexborNode) -> None:
        """Add a block for each structure under the node."""
        stack: list[tuple[LexborNode, bool]] = [(root, True)]
        while stack:
            node, entering = stack.pop()
            if not entering:
                self._leave(node)
            elif self._enter(node):
                stack.append((node, False))
                stack.extend((child, True) for child in reversed(_children(node)))
        self._flush()
        self._flush_list()

    def _enter(self, node: LexborNode) -> bool:
        """Take in the node; whether its children are still to be walked."""
        tag = (node.tag or "").lower()
        if tag == "-text":
            self._words.append(node.text_content or "")
            return False
        if tag == "br":
            self._words.append("\x00")
            return False
        if tag.startswith(("-", "!")) or _is_dropped(node, tag):
            return False
        if tag in _HEADINGS or tag == "pre" or (tag == "table" and _is_data_table(node)):
            self._structure(node, tag)
            return False
        if tag in _BLOCKS or tag == "table":
            self._flush()
        self._list_depth += tag in _LISTS
        return True

    def _leave(self, node: LexborNode) -> None:
        tag = (node.tag or "").lower()
        if tag in _BLOCKS or tag == "table":
            self._flush()
        if tag in _LISTS:
            self._list_depth -= 1
            if not self._list_depth:
                self._flush_list()

    def _structure(self, node: LexborNode, tag: str) -> None:
        self._flush()
        self._flush_list()
        if tag in _HEADINGS:
            # Sites put a link sign into headings.
            self._builder.heading(one_line(_visible_text(node)).rstrip("#¶🔗").rstrip(), _HEADINGS[tag])
        elif tag == "pre":
            self._builder.add("code", node.text())
        else:
            self._builder.add("table", _table_text(node))

    def _flush(self) -> None:
        lines = [" ".join(line.split()) for line in "".join(self._words).split("\x00")]
        # Icons between a link and the full stop leave a blank behind.
        text = _BLANK_BEFORE_STOP.sub("", "\n".join(line for line in lines if line))
        self._words.clear()
        if not text:
            return
        if self._list_depth:
            self._items.append("  " * min(self._list_depth - 1, 8) + "- " + text.replace("\n", " "))
        else:
            self._builder.add("paragraph", text)

    def _flush_list(self) -> None:
        self._builder.add("list", "\n".join(self._items))
        self._items.clear()


def _children(node: LexborNode) -> list[LexborNode]:
    return list(node.iter(include_text=True))


def _visible_text(node: LexborNode) -> str:
    """The text of a small element without its hidden parts."""
    parts: list[str] = []
    stack = [node]
    while stack:
        current = stack.pop()
        tag = (current.tag or "").lower()
        if tag == "-text":
            parts.append(current.text_content or "")
        elif tag == "br":
            parts.append(" ")
        elif not tag.startswith(("-", "!")) and (current is node or not _is_dropped(current, tag)):
            stack.extend(reversed(_children(current)))
    return "".join(parts)


def _is_data_table(node: LexborNode) -> bool:
    """Whether a table holds data, not the page's layout: no table, heading or list of its own inside."""
    return node.css_first("td table, th table, td h1, td h2, td h3, td ul, td ol, td pre, td p + p") is None


def _table_text(table: LexborNode) -> str:
    rows = (" | ".join(_cells(row)) for row in table.css("tr"))
    caption = table.css_first("caption")
    head = [one_line(_visible_text(caption))] if caption is not None else []
    return "\n".join([*head, *(row for row in rows if row.strip(" |"))])


def _cells(row: LexborNode) -> Iterator[str]:
    for cell in row.iter():
        if cell.tag in ("td", "th"):
            yield one_line(_visible_text(cell))
