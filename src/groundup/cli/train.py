"""`groundup train`."""

from __future__ import annotations

import os
from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Any

import typer

from groundup import nn, optim
from groundup.check import check_layers
from groundup.cli import runs, sources
from groundup.cli.results import say_results, write_results
from groundup.cli.show import say, say_checks, say_facts
from groundup.errors import GradientError, GroundupError, StateError
from groundup.ops.base import Array
from groundup.train import Checkpoint, CsvLog, Learner, accuracy, mae, r2


class Opt(StrEnum):
    """The optimizers by name."""

    sgd = "sgd"
    rmsprop = "rmsprop"
    adam = "adam"
    adamw = "adamw"


LEARNING_RATES = {"sgd": 0.1, "rmsprop": 3e-3, "adam": 1e-2, "adamw": 1e-2}
EXAMPLES = """
[bold]Examples[/bold]

groundup train                               [dim]8x8 digits, in seconds[/dim]

groundup train mnist --hidden 200,50         [dim]two hidden layers[/dim]

groundup train photos/ --size 32             [dim]photos/CLASS/IMAGE.jpg[/dim]

groundup train houses.csv --target price     [dim]a fractional target: regression[/dim]

groundup train --resume runs/digits-1        [dim]after Ctrl-C or a crash[/dim]
"""


def train(
    context: typer.Context,
    data: Annotated[
        str,
        typer.Argument(
            help="digits, mnist, fashion-mnist, a FOLDER with a subfolder of images for each "
            "class, or a table: FILE.csv, FILE.parquet."
        ),
    ] = "digits",
    hidden: Annotated[
        list[str] | None,
        typer.Option(
            metavar="N,N...",
            help="Widths of the hidden layers: 50, or 200,50, or repeated. 0: none.",
        ),
    ] = None,
    epochs: Annotated[
        int, typer.Option(metavar="N", min=1, help="Passes over the training rows.")
    ] = 30,
    batch_size: Annotated[int, typer.Option(metavar="N", min=1, help="Rows a step.")] = 32,
    lr: Annotated[
        float | None,
        typer.Option(
            metavar="RATE", help="The highest learning rate of one cycle, up and down again."
        ),
    ] = None,
    opt: Annotated[
        Opt, typer.Option(metavar="NAME", help="sgd, rmsprop, adam or adamw.")
    ] = Opt.adam,
    momentum: Annotated[
        float | None,
        typer.Option(metavar="M", min=0, help="Of sgd (0.9 unless given) and rmsprop."),
    ] = None,
    weight_decay: Annotated[float, typer.Option(metavar="D", min=0, help="Weight decay.")] = 0.0,
    dropout: Annotated[
        float, typer.Option(metavar="P", min=0, max=0.99, help="Share of hidden outputs to drop.")
    ] = 0.0,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="Everything random depends on it.")
    ] = 0,
    out: Annotated[
        str, typer.Option(metavar="FOLDER", help="Where run folders are made.")
    ] = "runs",
    target: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="What to predict; else the last column."),
    ] = None,
    size: Annotated[
        int, typer.Option(metavar="N", min=1, help="Pixels a side; a folder's images are resized.")
    ] = 28,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Go on with the training in a run folder.")
    ] = None,
    data_folder: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Where the files of (fashion-)mnist are.")
    ] = None,
    no_check: Annotated[
        bool, typer.Option("--no-check", help="Do not check the gradients before training.")
    ] = False,
) -> None:
    """Check a network's gradients, train it, and leave a run folder to predict with."""
    if resume is None:
        sources.name_of(data)
        settings = runs.Settings(
            source=data if data in sources.NAMES else os.path.abspath(os.path.expanduser(data)),
            data_folder=data_folder and os.path.abspath(os.path.expanduser(data_folder)),
            target=target,
            size=size,
            hidden=_widths(hidden),
            epochs=epochs,
            batch_size=batch_size,
            lr=LEARNING_RATES[opt.value] if lr is None else lr,
            opt=opt.value,
            momentum=_momentum(opt.value, momentum),
            weight_decay=weight_decay,
            dropout=dropout,
            seed=seed,
        )
        _check_usage(settings)
        _run(settings, out, None, check=not no_check)
    else:
        _refuse_other_options(context)
        _run(runs.Config.read(resume).settings, out, resume, check=not no_check)


def _run(settings: runs.Settings, out: str, folder: str | None, *, check: bool) -> None:
    source = sources.load(
        settings.source,
        data_folder=settings.data_folder,
        target=settings.target,
        size=settings.size,
        seed=settings.seed,
    )
    config, learner = _prepare(settings, source)
    say_facts(
        [
            ("data", f"{source.name}: {source.describe()}"),
            ("model", _describe_model(learner.model, config)),
            ("training", _describe_training(settings, learner)),
        ]
    )
    say()
    if check:
        _check_gradients(learner, settings.seed)
    if folder is None:
        folder = runs.new_folder(out, source.name)
        config.write(folder)
    elif runs.Config.read(folder).fingerprint != config.fingerprint:
        raise StateError(
            f"{folder} cannot be resumed: the data ({settings.source}) is not what it was when "
            "the run began. Put it back, or start a new run"
        )
    learner.add(CsvLog(os.path.join(folder, "log.csv")))
    learner.add(Checkpoint(os.path.join(folder, "checkpoints")))
    try:
        _fit_and_report(learner, source, config, folder)
    except KeyboardInterrupt as interrupt:
        saved = _save_interrupted(learner, folder) if learner.interrupted else _go_on(folder)
        raise KeyboardInterrupt(f"{str(interrupt) or 'interrupted'}. {saved}") from None


def _fit_and_report(
    learner: Learner, source: sources.Source, config: runs.Config, folder: str
) -> None:
    learner.fit(config.settings.epochs, resume=True)
    try:
        written = write_results(learner, source, config, folder)
    except OSError as error:
        raise GroundupError(
            f"trained, but {folder} could not be written to ({error.strerror}). Nothing learnt is "
            f"lost: make room. {_go_on(folder)}"
        ) from error
    say_results(learner, source, folder, written)


def _save_interrupted(learner: Learner, folder: str) -> str:
    """Save the weights for `groundup predict`; what to say of it."""
    try:
        learner.save(os.path.join(folder, "weights.safetensors"))
    except OSError as error:
        return f"The weights could not be saved ({error.strerror}). {_go_on(folder)}"
    return f"Saved in {folder}. {_go_on(folder)}"


def _go_on(folder: str) -> str:
    return f"Go on: groundup train --resume {folder}"


def _prepare(settings: runs.Settings, source: sources.Source) -> tuple[runs.Config, Learner]:
    """The run's description, and a Learner on the scaled data."""
    split = source.split
    scaling = sources.Scaling.of(split.x_train, None if source.size else 0)
    y_train, y_valid = split.y_train, split.y_valid
    target_scaling = None
    if source.classes is None:
        target_scaling = sources.Scaling.of(y_train, None)
        y_train, y_valid = target_scaling.apply(y_train), target_scaling.apply(y_valid)
    config = runs.Config(
        settings=settings,
        classes=source.classes,
        size=source.size,
        inputs=split.x_train.shape[1],
        scaling=scaling,
        target_scaling=target_scaling,
        background=sources.background(source.images(split.x_train)) if source.size else None,
        encoder=source.encoder.to_dict() if source.encoder else None,
        fingerprint="",
        versions=runs.versions(),
    )
    x_train, x_valid = scaling.apply(split.x_train), scaling.apply(split.x_valid)
    steps = settings.epochs * -(-len(x_train) // settings.batch_size)
    learner = Learner(
        config.model(),
        (x_train, y_train, x_valid, y_valid),
        nn.CrossEntropy() if source.classes else nn.Mse(),
        settings.optimizer(),
        [accuracy] if target_scaling is None else [_mae_in_unit(target_scaling), r2],
        seed=settings.seed,
        batch_size=settings.batch_size,
        schedule=optim.one_cycle(settings.lr, steps),
    )
    return replace(config, fingerprint=learner.fingerprint), learner


def _mae_in_unit(scaling: sources.Scaling) -> Any:
    """The mean absolute error in the target's own unit."""

    def in_unit(pred: Array, targ: Array) -> float:
        return mae(pred, targ) * scaling.std[0]

    in_unit.__name__ = "mae"
    return in_unit


def _check_gradients(learner: Learner, seed: int) -> None:
    """Compare all gradients on a few rows, print them, and end here if one is wrong."""
    batch = learner.train_batches
    checks = check_layers(learner.model, learner.loss, batch.x[:8], batch.y[:8], seed=seed)
    say_checks(checks)
    say()
    wrong = [f"{c.layer} {c.kind} in its {c.gradient}" for c in checks if not c.ok]
    if wrong:
        raise GradientError(
            f"the gradient of {', of '.join(wrong)} is wrong: see its bwd. Nothing was trained; "
            "--no-check trains all the same"
        )


def _describe_model(model: nn.Module, config: runs.Config) -> str:
    last = len(config.classes) if config.classes else 1
    drop = f" and dropout {config.settings.dropout:g}" if config.settings.dropout else ""
    hidden = "".join(f" -> {n} relu{drop}" for n in config.settings.hidden)
    count = sum(p.size for p in model.parameters())
    return f"{config.inputs}{hidden} -> {last}: {count:,} parameters"


def _describe_training(settings: runs.Settings, learner: Learner) -> str:
    decay = f", weight decay {settings.weight_decay:g}" if settings.weight_decay else ""
    momentum = f", momentum {settings.momentum:g}" if settings.momentum else ""
    return (
        f"{settings.epochs} epochs of {len(learner.train_batches)} batches of "
        f"{settings.batch_size}, {settings.opt}{momentum}{decay}, one-cycle lr {settings.lr:g}, "
        f"seed {settings.seed}"
    )


def _widths(hidden: list[str] | None) -> tuple[int, ...]:
    try:
        widths = [int(n) for text in hidden or ["50"] for n in text.split(",")]
    except ValueError:
        widths = [-1]
    if widths == [0]:
        return ()
    if min(widths) < 1:
        raise typer.BadParameter(
            f"{' '.join(hidden or [])!r}: give widths of 1 or more, such as 50 or 200,50; or 0",
            param_hint="--hidden",
        )
    return tuple(widths)


def _momentum(opt: str, momentum: float | None) -> float:
    if momentum is not None and opt not in ("sgd", "rmsprop"):
        raise typer.BadParameter(f"{opt} takes none; sgd and rmsprop do", param_hint="--momentum")
    return momentum if momentum is not None else 0.9 if opt == "sgd" else 0.0


def _check_usage(settings: runs.Settings) -> None:
    """Refuse options that do not go together, before anything is loaded."""
    if not settings.lr > 0:
        raise typer.BadParameter(f"{settings.lr:g} is not above 0", param_hint="--lr")
    if settings.target is not None and not sources.is_table(settings.source):
        raise typer.BadParameter("only a table has columns to predict", param_hint="--target")
    if settings.data_folder is not None and settings.source not in ("mnist", "fashion-mnist"):
        raise typer.BadParameter("for mnist and fashion-mnist only", param_hint="--data-folder")


def _refuse_other_options(context: typer.Context) -> None:
    """With --resume everything else is known from the run."""
    given = [
        name
        for name in context.params
        if name not in ("resume", "no_check")
        and str(context.get_parameter_source(name)).endswith("COMMANDLINE")
    ]
    if given:
        raise typer.BadParameter(
            f"{', '.join(given)}: the run's config.json says this already; leave it out",
            param_hint="--resume",
        )


train.__doc__ = f"{train.__doc__}\n{EXAMPLES}"
