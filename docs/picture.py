"""Makes run.png, the picture in README, from a real run.

    python docs/picture.py

Runs `groundup train` in a temporary folder, and sets what it printed beside the pictures that it
left.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread

HERE = Path(__file__).parent
PICTURES = ("curves.png", "confusion.png", "wrong.png")
EPOCHS_SHOWN = 6


def shortened(lines: list[str]) -> list[str]:
    """The output without most of the epochs, and without the folder's list of files."""
    start = next(i for i, line in enumerate(lines) if line.split()[:2] == ["epoch", "train"]) + 1
    end = next(i for i in range(start, len(lines)) if not lines[i].strip())
    return [*lines[: start + EPOCHS_SHOWN], "    ...", *lines[end - 2 :]]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "groundup", "train"]
        run = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
        images = [imread(next(Path(folder, "runs").glob(f"*/{name}"))) for name in PICTURES]

    figure = Figure(figsize=(15, 7.6), facecolor="white")
    FigureCanvasAgg(figure)
    text = figure.add_axes((0.0, 0.0, 0.52, 1.0), facecolor="#1b1f27")
    text.set(xticks=[], yticks=[])
    lines = "\n".join(["$ groundup train", "", *shortened(run.stdout.rstrip().splitlines())])
    text.text(
        0.03, 0.97, lines, color="#e3e6ea", family="monospace", fontsize=10, va="top",
        linespacing=1.45, transform=text.transAxes, parse_math=False,
    )  # fmt: skip
    places = ((0.53, 0.66, 0.46, 0.33), (0.53, 0.02, 0.24, 0.60), (0.77, 0.10, 0.22, 0.46))
    for image, place in zip(images, places, strict=True):
        axes = figure.add_axes(place)
        axes.imshow(image)
        axes.axis("off")
    figure.savefig(HERE / "run.png", dpi=100)


if __name__ == "__main__":
    main()
