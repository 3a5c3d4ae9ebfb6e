"""Documents become pages: addresses for chapters and decisions, and nothing that a page's rules would refuse."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.api.prose import Entry, read_document

TEXT = """# Architecture

A first word; see D2.

## On the drive

| a | b |
|:-:|--:|
| 1 | D1 |

**D1. The disk is `the` truth
about bytes.** And D2, and D99.

**D2.** Nothing else: `D1`.
"""


def test_chapters_and_decisions_have_addresses_and_are_linked() -> None:
    document = read_document(TEXT)
    assert document.title == "Architecture"
    assert document.chapters == [Entry("on-the-drive", "On the drive")]
    assert document.decisions == [Entry("d1", "D1. The disk is the truth about bytes"), Entry("d2", "D2.")]
    assert '<p id="d1" class="decision">' in document.html
    assert 'And <a href="#d2">D2</a>, and D99.' in document.html
    assert '<td><a href="#d1">D1</a></td>' in document.html
    assert "<code>D1</code>" in document.html


def test_a_columns_alignment_brings_no_style_into_the_page() -> None:
    assert "style" not in read_document(TEXT).html


@given(st.text(alphabet="<>ab\"'&[]()!`*#|-:\n D1.javascript", max_size=80))
def test_no_markup_of_the_document_passes(text: str) -> None:
    html = read_document(f"<script>alert(1)</script> {text}\n\n<b onclick=x>\n").html
    assert "<script" not in html
    assert "<b " not in html
    assert 'href="javascript' not in html.lower()
