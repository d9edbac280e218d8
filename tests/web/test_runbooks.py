"""Runbooks as pages."""

from __future__ import annotations

from pathlib import Path

from web.runbooks import page, to_html


def test_what_a_runbook_uses_becomes_html() -> None:
    """Headings, lists, code, links and paragraphs."""
    text = "# Lag\nLook at `lag`\nand **wait**.\n\n1. one\n   more\n2. two\n\n```\na < b\n```\nSee [volume](volume.md)."
    assert to_html(text) == (
        "<h1>Lag</h1>\n<p>Look at <code>lag</code> and <strong>wait</strong>.</p>\n"
        "<ul><li>one more</li><li>two</li></ul>\n<pre><code>a &lt; b</code></pre>\n"
        '<p>See <a href="/runbooks/volume">volume</a>.</p>'
    )


def test_nothing_in_a_runbook_is_markup() -> None:
    """Text is text."""
    assert "<script" not in to_html("<script>alert(1)</script>\n- [x](javascript:alert)")


def test_only_runbooks_are_served(tmp_path: Path) -> None:
    """A name that is no runbook gives nothing, wherever it points."""
    (tmp_path / "lag.md").write_text("# Lag")
    assert page(tmp_path, "lag") is not None
    assert page(tmp_path, "../lag") is None
