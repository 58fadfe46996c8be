"""What a finished run leaves in its folder, and what is said of it."""

from __future__ import annotations

import os
from dataclasses import replace

from groundup.cli.runs import Config
from groundup.cli.show import say
from groundup.cli.sources import Source
from groundup.methods import softmax
from groundup.train import Learner
from groundup.train.display import cell
from groundup.train.plots import plot_confusion, plot_predicted, plot_wrong, save_figure


def write_results(learner: Learner, source: Source, config: Config, folder: str) -> list[str]:
    """The files of a finished run; their names."""
    learner.save(os.path.join(folder, "weights.safetensors"))
    replace(config, result=learner.history[-1]).write(folder)
    figures = {"curves.png": learner.plot()}
    if learner.valid_batches is not None:
        true = source.split.y_valid
        out = learner.predict(learner.valid_batches.x)
        if source.classes is None:
            assert config.target_scaling is not None
            predicted = config.target_scaling.undo(out[:, 0])
            figures["predicted.png"] = plot_predicted(true, predicted, source.target)
        else:
            figures["confusion.png"] = plot_confusion(true, out.argmax(1), source.classes)
        if source.classes is not None and source.size is not None:
            images = source.images(source.split.x_valid)
            probabilities = softmax(out).data
            figures["wrong.png"] = plot_wrong(images, true, probabilities, source.classes)
    for name, figure in figures.items():
        save_figure(figure, os.path.join(folder, name))
    return ["weights.safetensors", "config.json", "log.csv", "checkpoints/", *figures]


def say_results(learner: Learner, source: Source, folder: str, written: list[str]) -> None:
    """Print how good the model is and where its files are."""
    last = learner.history[-1]
    seconds = sum(row["seconds"] for row in learner.history)
    say()
    if "accuracy" in last:
        result = f"{last['accuracy']:.2%} of the valid rows right"
    elif "mae" in last:
        error = f"mean absolute error {cell('mae', last['mae'])} in {source.target}"
        result = f"r2 {last['r2']:.4f}, {error}"
    else:
        result = f"training loss {last['train_loss']:.4g}; no valid rows"
    say(f"  {result}, after {learner.epoch} epochs in {cell('seconds', seconds)} s", "bold green")
    say(f"  {os.path.join(folder, '')}")
    pictures = [name for name in written if name.endswith(".png")]
    say(f"    {'  '.join(name for name in written if name not in pictures)}")
    say(f"    {'  '.join(pictures)}")
    what = "IMAGE.png" if source.size else "TABLE.csv"
    say(f"  groundup predict {folder} {what}", "dim")
