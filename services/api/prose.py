"""The project's own documents as HTML: no markup of theirs passes, every heading and every decision has an address."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

DECISION: Final = re.compile(r"(D\d+)\. ?(.*)", re.DOTALL)
REFERENCE: Final = re.compile(r"\b(D\d+)\b")
NOT_A_LETTER: Final = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the contents."""

    anchor: str
    title: str


@dataclass(frozen=True, slots=True)
class Document:
    """A document: its title, what stands under it, its chapters and decisions, and the text as safe HTML."""

    title: str
    chapters: list[Entry]
    decisions: list[Entry]
    html: str


def read_document(text: str) -> Document:
    """Make a document of Markdown."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    title = _take_title(tokens)
    chapters = list(_address_chapters(tokens))
    decisions = list(_address_decisions(tokens))
    _link_decisions(tokens, {entry.anchor for entry in decisions})
    tokens = list(_frame_tables(tokens))
    renderer = RendererHTML()
    return Document(title, chapters, decisions, renderer.render(tokens, markdown.options, {}))


def _take_title(tokens: list[Token]) -> str:
    if not tokens or (tokens[0].type, tokens[0].tag) != ("heading_open", "h1"):
        return ""
    title = tokens[1].content
    del tokens[:3]
    return title


def _address_chapters(tokens: list[Token]) -> Iterator[Entry]:
    for opening, inline in pairwise(tokens):
        if (opening.type, opening.tag) == ("heading_open", "h2"):
            anchor = NOT_A_LETTER.sub("-", inline.content.lower()).strip("-")
            opening.attrSet("id", anchor)
            yield Entry(anchor, inline.content)


def _address_decisions(tokens: list[Token]) -> Iterator[Entry]:
    """A decision is a paragraph that begins with its number in bold."""
    for opening, inline in pairwise(tokens):
        if opening.type != "paragraph_open" or not inline.content.startswith("**D"):
            continue
        found = DECISION.match(_bold(inline.children or []))
        if found is not None:
            anchor = found[1].lower()
            opening.attrSet("id", anchor)
            opening.attrSet("class", "decision")
            yield Entry(anchor, f"{found[1]}. {found[2].strip().rstrip('.:')}".rstrip())


def _bold(children: list[Token]) -> str:
    """The text of the first bold words, where they come first."""
    found = []
    for token in children:
        if token.type == "strong_close":
            break
        found.append(" " if token.type == "softbreak" else token.content)
    return "".join(found)


def _link_decisions(tokens: Iterable[Token], known: set[str]) -> None:
    for inline in tokens:
        if inline.type == "inline" and inline.children:
            inline.children = [part for child in inline.children for part in _linked(child, known)]


def _linked(token: Token, known: set[str]) -> list[Token]:
    if token.type != "text" or DECISION.match(token.content):
        return [token]
    parts: list[Token] = []
    for number, words in enumerate(REFERENCE.split(token.content)):
        text = Token("text", "", 0, content=words)
        if number % 2 and words.lower() in known:
            link = Token("link_open", "a", 1, attrs={"href": f"#{words.lower()}"})
            parts += [link, text, Token("link_close", "a", -1)]
        elif words:
            parts.append(text)
    return parts


def _frame_tables(tokens: Iterable[Token]) -> Iterator[Token]:
    """A wide table scrolls by itself; and the page's rules refuse the style that a column's alignment would be."""
    for token in tokens:
        if token.type == "table_open":
            yield Token("frame_open", "div", 1, attrs={"class": "wide", "tabindex": "0"}, block=True)
        token.attrs.pop("style", None)
        yield token
        if token.type == "table_close":
            yield Token("frame_close", "div", -1, block=True)
