"""Fills in what the examples in check.md print: each ```python block is run, and what it prints
goes into the ```text block that follows it. A block that begins with a comment such as
# layers.py is a file: `groundup check` runs on it, or pytest on a test_layers.py.

python docs/check.py
"""

import contextlib
import io
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).with_suffix(".md")
BLOCK = re.compile(
    r"```python\n(.*?)```\n(?:(?:\n|[^#`\n][^\n]*\n)*?```text\n(.*?)```)?", re.DOTALL
)


class Block(NamedTuple):
    """An example: its code, what the page says that it prints, and where that is."""

    code: str
    text: str | None
    place: tuple[int, int]

    @property
    def needs(self) -> list[str]:
        """The libraries besides groundup and NumPy that it imports."""
        return [name for name in ("torch", "jax") if f"import {name}\n" in self.code]

    def run(self) -> str:
        """What it prints."""
        if file := re.match(r"# (\w+\.py)\n", self.code):
            return self._as_file(file[1])
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(self.code, str(PAGE), "exec"), {"__name__": "example"})
        return printed.getvalue()

    def _as_file(self, name: str) -> str:
        is_test = name.startswith("test_")
        command = ["pytest", "-q"] if is_test else ["groundup", "check"]
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / name).write_text(self.code, encoding="utf-8")
            ran = subprocess.run(
                [sys.executable, "-m", *command, name], cwd=folder, capture_output=True, text=True
            )
        expected = 0 if is_test else 1  # the page checks a file with a wrong gradient
        assert ran.returncode == expected, ran.stdout + ran.stderr
        return "" if is_test else ran.stdout


def blocks() -> list[Block]:
    found = BLOCK.finditer(PAGE.read_text(encoding="utf-8"))
    return [Block(m[1], m[2], m.span(2)) for m in found]


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for block in reversed(blocks()):
        printed = block.run()
        if block.text is None:
            assert not printed, f"there is no text block for what this prints:\n{block.code}"
        else:
            page = page[: block.place[0]] + printed + page[block.place[1] :]
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
