"""An explanation as HTML: a cell's output in a notebook, or a page of its own."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from typing import TYPE_CHECKING

from groundup.explain.summary import HEAD, cells

if TYPE_CHECKING:
    from groundup.explain.derive import Derivation
    from groundup.explain.explanation import Explanation
    from groundup.explain.written import Line

# The page alone needs colours; in a notebook the notebook's own hold.
STYLE = """
:root { color-scheme: light dark }
body { font-family: system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
pre { overflow-x: auto; line-height: 1.35 }
table { border-collapse: collapse }
th, td { padding: 0.15rem 0.7rem; text-align: right; font-variant-numeric: tabular-nums }
th:nth-child(-n+3), td:nth-child(-n+3) { text-align: left }
tr:last-child td { border-top: 1px solid }
img { max-width: 100%; height: auto }
.wrong { color: #d1242f; font-weight: bold }
"""


def notebook(explanation: Explanation) -> str:
    """A cell's output: formulas are LaTeX, which notebooks typeset."""
    return _body(explanation, latex=True)


def document(explanation: Explanation) -> str:
    """A whole page that needs nothing from the network: formulas are text."""
    name = escape(explanation.name)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width">\n<title>{name}, explained</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<h1>{name}</h1>\n"
        f"{_body(explanation, latex=False)}\n</body>\n</html>\n"
    )


def _body(explanation: Explanation, *, latex: bool) -> str:
    # As an image the drawing keeps its style to itself, and notebooks that filter HTML keep it.
    data = b64encode(explanation.svg.encode()).decode()
    name = escape(f"Forward and backward of {explanation.name}", quote=True)
    parts = [
        f'<p><img alt="{name}" style="max-width: 100%" src="data:image/svg+xml;base64,{data}"></p>',
        "<h3>What it costs</h3>",
        _table(explanation),
        "<h3>The step</h3>",
        f"<pre>{escape(explanation.source)}</pre>",
        "<h3>Where the gradients come from</h3>",
        *(_derivation(one, latex=latex) for one in explanation.derivations),
    ]
    return "\n".join(parts)


def _table(explanation: Explanation) -> str:
    def row(tag: str, texts: tuple[str, ...]) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(t)}</{tag}>" for t in texts) + "</tr>"

    rows = [row("th", HEAD), *(row("td", texts) for texts in cells(explanation.summary))]
    return "<table>\n" + "\n".join(rows) + "\n</table>"


def _derivation(one: Derivation, *, latex: bool) -> str:
    lines = [f"<h4>{escape(one.layer)}</h4>"]
    for line in one.lines:
        wrong = one.agrees is False and line is one.lines[-1]
        lines.append(_line(line, latex=latex, wrong=wrong))
    return "\n".join(lines)


def _line(line: Line, *, latex: bool, wrong: bool) -> str:
    if line.kind == "words":
        mark = ' class="wrong" style="color: #d1242f"' if wrong else ""
        return f"<p{mark}>{escape(line.text)}</p>"
    if line.kind == "formula" and latex:
        return f"<div>$${escape(line.latex)}$$</div>"
    return f"<pre>{escape(line.text)}</pre>"
