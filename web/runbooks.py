"""Runbooks as pages: the little of Markdown that they use, as HTML; pure."""

from __future__ import annotations

import html
import re
from pathlib import Path

_LIST_ITEM = re.compile(r"^\s*(?:[-*]|\d+\.)\s+(.*)")
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} - Crossfade</title>
<link rel="icon" href="/static/icon.svg"><link rel="stylesheet" href="/static/app.css">
</head><body class="document"><nav><a href="/">&larr; Crossfade</a></nav><main>{body}</main></body></html>
"""


def names(folder: Path) -> list[str]:
    """Runbooks that exist."""
    return sorted(file.stem for file in folder.glob("*.md"))


def page(folder: Path, name: str) -> str | None:
    """A runbook as a page; None when there is none of this name."""
    if name not in names(folder):
        return None
    text = (folder / f"{name}.md").read_text(encoding="utf-8")
    title = next((line.lstrip("# ") for line in text.splitlines() if line.startswith("#")), name)
    return _PAGE.format(title=html.escape(title), body=to_html(text))


def index(folder: Path) -> str:
    """A page with a link to every runbook."""
    links = "".join(f'<li><a href="/runbooks/{name}">{name.replace("-", " ")}</a></li>' for name in names(folder))
    body = f"<h1>Runbooks</h1><ul>{links}</ul>" if links else "<h1>Runbooks</h1><p>There are none yet.</p>"
    return _PAGE.format(title="Runbooks", body=body)


def missing(name: str) -> str:
    """The page for a runbook that does not exist."""
    body = f'<h1>No runbook {html.escape(name)}</h1><p>See <a href="/runbooks">the list</a>.</p>'
    return _PAGE.format(title="No such runbook", body=body)


def to_html(text: str) -> str:
    """Headings, paragraphs, lists, tables as text, code blocks, `code`, **bold** and links; everything is escaped."""
    out: list[str] = []
    paragraph: list[str] = []
    items: list[str] = []
    code: list[str] | None = None

    def flush() -> None:
        if paragraph:
            out.append(f"<p>{_inline(' '.join(paragraph))}</p>")
            paragraph.clear()
        if items:
            out.append("<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in items) + "</ul>")
            items.clear()

    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            flush()
            if code is not None:
                out.append(f"<pre><code>{html.escape(chr(10).join(code))}</code></pre>")
            code = [] if code is None else None
        elif code is not None:
            code.append(line)
        elif line.startswith("#"):
            flush()
            level = min(len(line) - len(line.lstrip("#")), 4)
            out.append(f"<h{level}>{_inline(line.lstrip('# '))}</h{level}>")
        elif found := _LIST_ITEM.match(line):
            if paragraph:
                flush()
            items.append(found[1])
        elif line.startswith("|"):
            flush()
            out.append(f"<pre>{html.escape(line)}</pre>")
        elif not line.strip():
            flush()
        elif items and line.startswith(" "):
            items[-1] += f" {line.strip()}"
        else:
            if items:
                flush()
            paragraph.append(line.strip())
    flush()
    if code:
        out.append(f"<pre><code>{html.escape(chr(10).join(code))}</code></pre>")
    return "\n".join(out)


def _inline(text: str) -> str:
    text = html.escape(text, quote=True)
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    text = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text)
    text = re.sub(r"\[([^\]]+)\]\(([\w-]+)\.md\)", r'<a href="/runbooks/\2">\1</a>', text)
    return re.sub(r"\[([^\]]+)\]\((https?://[^)\s]+)\)", r'<a href="\2" rel="noreferrer">\1</a>', text)
