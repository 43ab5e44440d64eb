"""The one door to the templates: everything that comes from data is escaped here."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnguide.viz.style import RELEVANCE_COLOURS

if TYPE_CHECKING:
    from jinja2 import Environment


def render_page(template: str, *, image_sources: str, **values: Any) -> str:
    """The document of a template, which runs no script and takes no style but the page's own.

    Args:
        template: Name of a file in `templates`.
        image_sources: Where pictures may come from, in the words of a Content-Security-Policy.
        values: What the template names.
    """
    from markupsafe import Markup

    environment = _environment()
    style = environment.get_template("style.css").render(colours=RELEVANCE_COLOURS)
    script = (_FOLDER / "page.js").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; img-src {image_sources}; style-src '{_hash(style)}'; "
        f"script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )
    return environment.get_template(template).render(
        **values, policy=Markup(policy), style=Markup(style), script=Markup(script)
    )


_FOLDER = Path(__file__).parent / "templates"


@lru_cache(1)
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _hash(text: str) -> str:
    """As browsers compare what stands between the tags."""
    return "sha256-" + b64encode(hashlib.sha256(text.encode()).digest()).decode()
