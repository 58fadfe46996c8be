"""SVG by hand: shapes and texts, as a string."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

# The width of a character of a monospaced font, as a share of its size. The widest of the fonts
# below has 0.602; a little more keeps text inside its box.
ADVANCE = 0.612
FONT = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"

# Own background, so that it reads on any page; darker where the reader prefers dark.
STYLE = f"""
text {{ font-family: {FONT}; font-size: 11px; fill: #1f2430; }}
.title {{ font-weight: bold; font-size: 12px; }}
.head {{ font-weight: bold; font-size: 13px; }}
.small {{ font-size: 10px; fill: #5b6270; }}
.norm {{ fill: #a4470d; }}
.page {{ fill: #ffffff; stroke: #d5d9e0; }}
.forward {{ fill: #e7f0fc; stroke: #3f76bd; }}
.backward {{ fill: #fdeddf; stroke: #c56a26; }}
.argument {{ fill: #e6f5ea; stroke: #3c8f58; }}
.value {{ fill: #f1f2f5; stroke: #8b93a3; }}
.frame {{ fill: none; stroke: #8b93a3; stroke-dasharray: 6 4; }}
.flow {{ fill: none; stroke: #3f76bd; stroke-width: 1.5; }}
.back {{ fill: none; stroke: #c56a26; stroke-width: 1.5; }}
.kept {{ fill: none; stroke: #8b93a3; stroke-dasharray: 3 3; }}
.hang {{ fill: none; stroke: #8b93a3; }}
.tip-flow {{ fill: #3f76bd; }}
.tip-back {{ fill: #c56a26; }}
.tip-kept {{ fill: #8b93a3; }}
@media (prefers-color-scheme: dark) {{
text {{ fill: #e4e7ee; }}
.small {{ fill: #a3abba; }}
.norm {{ fill: #f0a36b; }}
.page {{ fill: #181b22; stroke: #3a404d; }}
.forward {{ fill: #1d2c44; stroke: #6ea3e8; }}
.backward {{ fill: #42291a; stroke: #e08a48; }}
.argument {{ fill: #1c3526; stroke: #63bb82; }}
.value {{ fill: #272b34; stroke: #858da0; }}
.flow {{ stroke: #6ea3e8; }}
.back {{ stroke: #e08a48; }}
.tip-flow {{ fill: #6ea3e8; }}
.tip-back {{ fill: #e08a48; }}
}}
"""


def width_of(text: str, size: float = 11) -> float:
    """How wide a text is."""
    return len(text) * size * ADVANCE


def shortened(text: str, length: int) -> str:
    """A text of at most a length."""
    return text if len(text) <= length else text[: length - 1] + "…"


class Canvas:
    """Collects shapes; `picture` puts them into an SVG."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def rect(
        self, x: float, y: float, width: float, height: float, kind: str, tip: str = ""
    ) -> None:
        """A box with round corners; `tip` shows while a pointer is over it."""
        size = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
        inside = f"<title>{escape(tip)}</title>" if tip else ""
        self.parts.append(f'<rect class="{kind}" {size} rx="5">{inside}</rect>')

    def text(self, x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> None:
        """A line of text; y is its baseline."""
        attributes = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
        kind = f' class="{kind}"' if kind else ""
        self.parts.append(f'<text{kind} {attributes} xml:space="preserve">{escape(text)}</text>')

    def line(self, kind: str, *points: tuple[float, float], arrow: bool = True) -> None:
        """Straight pieces through points, with an arrow at the end."""
        path = " L ".join(f"{x:.1f} {y:.1f}" for x, y in points)
        end = f' marker-end="url(#tip-{kind})"' if arrow else ""
        self.parts.append(f'<path class="{kind}" d="M {path}"{end}/>')

    def picture(self, width: float, height: float, label: str) -> str:
        """The whole SVG."""
        tips = "".join(
            f'<marker id="tip-{kind}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
            f'markerHeight="7" orient="auto"><path class="tip-{kind}" d="M 0 1 L 10 5 L 0 9 z"/>'
            "</marker>"
            for kind in ("flow", "back", "kept")
        )
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
            f'width="{width:.0f}" height="{height:.0f}" '
            f'role="img" aria-label={quoteattr(label)}>'
        )
        page = f'<rect class="page" x="0.5" y="0.5" width="{width - 1:.0f}" '
        page += f'height="{height - 1:.0f}" rx="8"/>'
        body = "\n".join(self.parts)
        return f"{head}\n<style>{STYLE}</style>\n<defs>{tips}</defs>\n{page}\n{body}\n</svg>\n"
