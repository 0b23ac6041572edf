"""The pages of gateway.web.confirm_page, as HTML. They load nothing, run nothing, and can't be framed."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from html import escape

STYLE = (
    "body{font:1.1em/1.5 sans-serif;max-width:36em;margin:4em auto;padding:0 1em;color:#222}"
    "button{font:inherit;padding:.5em 1.5em}dt{font-weight:bold}dd{margin:0 0 .5em;overflow-wrap:anywhere}"
)

_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

#: The address of the page is a secret: nobody else may learn or keep it, and no other page may press its button.
HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; frame-ancestors 'none';"
        " base-uri 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex",
}


def question(
    title: str, text: str, kind: str, queue: str, project: str, button: str, action: str, fields: Mapping[str, str]
) -> bytes:
    """A page with a button, which posts the fields to the path ``action``. ``kind``: queue or topic."""
    hidden = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in fields.items()
    )
    return _page(
        title,
        f"<p>{escape(text)}</p><dl><dt>{kind.capitalize()}</dt><dd>{escape(queue)}</dd>"
        f"<dt>Project</dt><dd>{escape(project)}</dd></dl>"
        f'<form method="post" action="{escape(action)}">{hidden}<button type="submit">{escape(button)}</button></form>',
    )


def statement(title: str, text: str) -> bytes:
    """A page that says something."""
    return _page(title, f"<p>{escape(text)}</p>")


def _page(title: str, content: str) -> bytes:
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width"><meta name="referrer" content="no-referrer">'
        f"<style>{STYLE}</style></head><body><h1>{escape(title)}</h1>{content}</body></html>\n"
    ).encode()
