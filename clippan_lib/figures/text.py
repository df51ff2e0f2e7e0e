"""Text of others in Markdown: what a manifest, a run or a network says of itself stays text, whatever it looks like."""

import html
import re

# An underline between letters or digits, as in L_spec, means nothing in Markdown
_MARKS = re.compile(r"[\\`*~|\[\]]|(?<![^\W_])_|_(?![^\W_])")
_SCHEME = re.compile(r"\]\((?=\s*(?!https?:)[A-Za-z][A-Za-z0-9+.-]*:)")


def plain(text: str) -> str:
    """A text for Markdown, on one line, in which nothing is markup: no HTML, link, emphasis, cell or formula.

    >>> plain("<b>[x](y)</b> | L_spec, *$1*")
    '&lt;b&gt;\\\\[x\\\\](y)&lt;/b&gt; \\\\| L_spec, \\\\*<span>&#36;</span>1\\\\*'
    """
    marked = _MARKS.sub(r"\\\g<0>", html.escape(" ".join(text.split()), quote=False))
    # alone in its element, as MathJax looks for pairs of it in the page that Markdown has become
    return marked.replace("$", "<span>&#36;</span>")


def code(text: str) -> str:
    """A text as code of Markdown, on one line: between more backticks than it has in a row itself."""
    line = " ".join(text.split())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence} {line} {fence}" if len(fence) > 1 else f"`{line}`"


def without_html(text: str) -> str:
    """Markdown of ours with names of others in it: what would be HTML, or a link that runs something, stays text."""
    return _SCHEME.sub(r"]\\(", html.escape(" ".join(text.split()), quote=False))
