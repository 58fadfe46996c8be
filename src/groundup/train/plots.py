"""Pictures of a training and of what came of it, as matplotlib Figures (no global state)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from groundup.ops.base import Array
from groundup.train.files import write_atomically
from groundup.train.metrics import is_share, r2

BLUE, ORANGE, GREEN, RED, GREY = "#3b6fb6", "#e07b39", "#4a9b6e", "#c8453b", "#8a8f98"
COLORS = (BLUE, ORANGE, GREEN, RED, "#8064a2", "#5aa5b5", "#b5894a", GREY)


def save_figure(figure: Any, path: str | os.PathLike[str] | None) -> Any:
    """Write a Figure to path, if one is given, in the format that its suffix names; return it."""
    if path is not None:
        import io

        content = io.BytesIO()
        suffix = os.path.splitext(os.fspath(path))[1].lstrip(".") or "png"
        figure.savefig(content, format=suffix, dpi=150)
        write_atomically(path, content.getvalue())
    return figure


def plot_history(history: Sequence[Mapping[str, float]], metrics: Sequence[str]) -> Any:
    """Losses over the epochs, and beside them the metrics; those that are shares in one panel."""
    metrics = [name for name in metrics if name in history[0]]  # there may be no valid rows
    shares = [name for name in metrics if is_share(name)]
    panels = [["train_loss", "valid_loss"], *([shares] if shares else [])]
    panels += [[name] for name in metrics if name not in shares]
    figure = _figure(4.2 * len(panels), 3.2)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    epochs = [row["epoch"] for row in history]
    for axis, names in zip(axes, panels, strict=True):
        for color, name in zip(COLORS, (n for n in names if n in history[0]), strict=False):
            values = [row[name] for row in history]
            label = name.replace("_loss", "").replace("_", " ")
            mark = "o" if len(epochs) < 15 else ""
            axis.plot(epochs, values, mark + "-", color=color, ms=3.5, label=label)
        _tidy(axis, "epoch", "loss" if names == panels[0] else "" if shares == names else names[0])
        axis.xaxis.get_major_locator().set_params(integer=True)
        if names == shares:
            axis.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}%")
        if len(axis.lines) > 1 or names == shares:
            axis.legend(frameon=False)
    return figure


def plot_lr_find(
    lrs: Sequence[float], losses: Sequence[float], smooth: Sequence[float], suggestion: float
) -> Any:
    """The loss over the learning rate, with the suggested one."""
    figure = _figure(5, 3.4)
    axis = figure.subplots()
    axis.semilogx(lrs, losses, color=BLUE, lw=0.8, alpha=0.35)
    axis.semilogx(lrs, smooth, color=BLUE)
    axis.axvline(suggestion, color=ORANGE, ls="--", lw=1)
    at = smooth[list(lrs).index(suggestion)]
    axis.plot([suggestion], [at], "o", color=ORANGE, label=f"suggested: {suggestion:.2g}")
    low, high = min(losses), smooth[0]
    axis.set_ylim(low - 0.1 * (high - low), high + 0.5 * (high - low))
    axis.legend(frameon=False, loc="lower left")
    _tidy(axis, "learning rate", "loss")
    return figure


def plot_stats(steps: Sequence[int], stats: Mapping[str, Mapping[str, Sequence[float]]]) -> Any:
    """Activations and gradients over the steps, a line for each layer."""
    titles = {
        "mean": "mean of the outputs",
        "std": "standard deviation of the outputs",
        "near_zero": "share of outputs near zero",
        "dead": "share of units near zero for the whole batch",
        "grad_norm": "norm of the outputs' gradient",
    }
    figure = _figure(12, 6)
    axes = list(figure.subplots(2, 3).flat)
    for axis, (quantity, name) in zip(axes, titles.items(), strict=False):
        for i, (layer, values) in enumerate(stats.items()):
            axis.plot(steps, values[quantity], color=COLORS[i % len(COLORS)], lw=1.2, label=layer)
        _tidy(axis, "step", "")
        axis.set_title(name, fontsize=10)
        if quantity in ("near_zero", "dead"):
            axis.set_ylim(-0.03, 1.03)
        if quantity == "grad_norm" and any(v > 0 for s in stats.values() for v in s[quantity]):
            axis.set_yscale("log")
    axes[-1].axis("off")
    axes[-1].legend(*axes[0].get_legend_handles_labels(), loc="center", frameon=False)
    return figure


def plot_confusion(true: Array, said: Array, classes: Sequence[str]) -> Any:
    """How often each class was taken for each: rows are true, columns what the model said.

    true and said: integers (n,) in 0..len(classes)-1.
    """
    n = len(classes)
    counts = np.zeros((n, n), np.int64)
    np.add.at(counts, (true, said), 1)
    side = min(3 + 0.45 * n, 14)
    figure = _figure(side + 0.4, side)
    axis = figure.subplots()
    right = np.eye(n, dtype=bool)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    # Two scales, so that the few mistakes show beside how often it is right.
    for where, colors, top in (
        (right, "Blues", 1.6),
        (~right, "Reds", max(1.6 * share[~right].max(initial=0.0), 0.12)),
    ):
        shown = np.ma.masked_array(share, ~where | (counts == 0))
        axis.imshow(shown, cmap=colors, vmin=0, vmax=top)
    if n <= 25:
        for i, j in np.argwhere(counts):
            axis.text(j, i, counts[i, j], ha="center", va="center", fontsize=9)
        rotated = max(map(len, classes)) > 3
        axis.set_xticks(range(n), classes, rotation=45 if rotated else 0)
        axis.set_yticks(range(n), classes)
        if rotated:
            for label in axis.get_xticklabels():
                label.set(ha="right", rotation_mode="anchor")
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_color("#d0d4da")
    axis.set(xlabel="the model said", ylabel="true class")
    mistakes = int(counts[~right].sum())
    axis.set_title(f"{mistakes:,} mistakes in {counts.sum():,} ({right_share(counts)} right)")
    return figure


def right_share(counts: Array) -> str:
    """The share on a confusion matrix's diagonal as text."""
    return f"{np.trace(counts) / max(counts.sum(), 1):.2%}"


def plot_wrong(
    images: Array, true: Array, probabilities: Array, classes: Sequence[str], most: int = 24
) -> Any:
    """The examples whose true class got the least probability, the worst first.

    images: (n, height, width) or (n, height, width, 3); true: integers (n,); probabilities:
    (n, classes).
    """
    given = probabilities[np.arange(len(true)), true]
    said = probabilities.argmax(1)
    worst = np.argsort(given, kind="stable")
    wrong = worst[said[worst] != true[worst]]
    chosen = (wrong if len(wrong) else worst)[:most]
    columns = min(6, len(chosen))
    rows = -(-len(chosen) // columns)
    width, height = 1.55 * columns, 1.95 * rows + 0.4
    figure = _figure(width, height, layout=None)  # of 24 panels the automatic one takes a second
    figure.subplots_adjust(0.08 / width, 0.08 / height, 1 - 0.08 / width, 1 - 0.85 / height)
    figure.subplots_adjust(wspace=0.06, hspace=0.36)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axis in grid.flat:
        axis.axis("off")
    for axis, i in zip(grid.flat, chosen, strict=False):
        axis.imshow(images[i], cmap="gray", vmin=0, vmax=1)
        axis.set_title(
            f"said {classes[said[i]]} ({probabilities[i, said[i]]:.0%})\nit is {classes[true[i]]}",
            fontsize=8,
            color=RED if said[i] != true[i] else "black",
        )
    shown = f" (the worst {len(chosen)})" if len(chosen) < len(wrong) else ""
    figure.suptitle(
        f"{len(wrong):,} of {len(true):,} wrong{shown}"
        if len(wrong)
        else f"none of {len(true):,} wrong; the least sure",
        fontsize=11,
    )
    return figure


def plot_predicted(true: Array, predicted: Array, name: str) -> Any:
    """Predicted over true values, (n,) each; on the diagonal they agree."""
    figure = _figure(4.6, 4.4)
    axis = figure.subplots()
    low, high = min(true.min(), predicted.min()), max(true.max(), predicted.max())
    margin = 0.04 * (high - low) or 1.0
    axis.plot([low, high], [low, high], color=GREY, lw=1, zorder=1)
    size = 14 if len(true) < 2000 else 4
    axis.scatter(true, predicted, s=size, color=BLUE, alpha=0.5, lw=0, zorder=2)
    axis.set(xlim=(low - margin, high + margin), ylim=(low - margin, high + margin), aspect="equal")
    axis.locator_params(nbins=5)
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter(lambda value, _: f"{value:,.6g}")
    axis.set_title(f"r2 {r2(predicted, true):.4f} over {len(true):,} rows", fontsize=10)
    _tidy(axis, f"true {name}", f"predicted {name}")
    return figure


def _figure(width: float, height: float, layout: Any = "constrained") -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout=layout)


def _tidy(axis: Any, xlabel: str, ylabel: str) -> None:
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25, lw=0.6)
