"""The product's own documents: how it is built, and how it works for people who do not run servers."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from litestar import get
from litestar.response import Template

from services.api.prose import Document, read_document

DOCUMENTS: Final = Path(__file__).parent.parent / "docs"
"""A link to the document at the top of the repository; in an installed package, that document itself."""


@get("/architecture", include_in_schema=False, opt={"role": "nobody"})
async def architecture() -> Template:
    """The system, drawn, with the decisions and their reasons."""
    return Template("architecture.html", context={"document": architecture_document()})


@get("/architecture-dummies", include_in_schema=False, opt={"role": "nobody"})
async def slides() -> Template:
    """A short deck of slides."""
    return Template("slides.html", context={})


@cache
def architecture_document() -> Document:
    """ARCHITECTURE.md, read once."""
    return read_document((DOCUMENTS / "ARCHITECTURE.md").read_text(encoding="utf-8"))


PAGES: Final = (architecture, slides)
