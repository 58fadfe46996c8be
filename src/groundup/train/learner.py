"""Learner: a model, its data, a loss and an optimizer, and the loop that brings them together."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from itertools import islice
from time import perf_counter
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from groundup import generator
from groundup.backward import no_grad
from groundup.compiled import compile
from groundup.errors import (
    GroundupError,
    NonFiniteError,
    ProgramError,
    RecordError,
    StateError,
)
from groundup.nn import Module
from groundup.ops import check_finite
from groundup.ops.base import Array
from groundup.optim import SGD, Optimizer, Schedule
from groundup.tensor import Tensor, Value
from groundup.train.callbacks import HOOKS, Callback, in_order
from groundup.train.checkpoint import Checkpoint
from groundup.train.files import load_tensors, save_tensors
from groundup.train.inputs import Data, as_batches, check_fit, fingerprint, model_dtype
from groundup.train.interrupts import BetweenSteps, Interrupts
from groundup.train.lr_find import LrFind, find_lr
from groundup.train.metrics import Metric, name_of
from groundup.train.plots import plot_history, save_figure
from groundup.train.state import evaluating, modes_kept, own_stream

if TYPE_CHECKING:
    from groundup.compiled.epoch import Progress
    from groundup.compiled.step import Compiled


class TrainingWarning(RuntimeWarning):
    """Something went wrong that does not end a training, such as a checkpoint on a full disk."""


class Learner:
    """Train a model.

        learner = Learner(model, data.digits(), nn.CrossEntropy(), optim.Adam, [accuracy])
        learner.fit(10)
        learner.predict(x)

    Args:
        model: any Module of one input and one output Tensor.
        data: a `Split` or (x_train, y_train, x_valid, y_valid), arrays with a row an example, or a
            pair of `Batches`. Without valid rows nothing is validated.
        loss: a Module of (output, target) that gives a single number.
        opt: an Optimizer, or what makes one from the parameters: a class, or a partial of one.
        metrics: functions of (predictions, targets), see `groundup.train.metrics`.
        callbacks: see `groundup.train.callbacks`.
        seed: for the order of the batches and for what is drawn in training (dropout). Learners
            have streams of their own: other draws in the program do not change a training.
        batch_size: rows a step; 64 unless the data are Batches.
        schedule: a function from the number of steps taken to the learning rate.
        display: whether to print progress: a live bar in a terminal, plain lines elsewhere.
        compile: whether to run the steps compiled (see `gu.compile`), to the same results within
            rounding, and with engine="numpy" to the same bits. A model
            that cannot be recorded trains eagerly, and a warning says why; so it does, without
            one, while a callback looks into the steps (`after_loss`, `after_backward`).
        engine: what runs compiled steps: "native" or "numpy".

    Attributes:
        epoch, batch, step: finished epochs, finished batches of the current one, steps in all.
        history: a dict for each finished epoch, with the keys in `columns`. train_loss is the mean
            over the epoch's rows, each as it was before its step; valid_loss and metrics are
            of the weights at the epoch's end, over all valid rows at once.
        stop: why training should end after this epoch; a callback may set it.
        interrupted: whether Ctrl-C ended the last fit, between two steps.
        xb, yb, pred, batch_loss: the current batch's, Tensors.

    Raises:
        DataError, ShapeError, DtypeError, LabelError: data that cannot be used, or does not fit
            the model or the loss.

    """

    xb: Tensor
    yb: Tensor
    pred: Tensor
    batch_loss: Tensor

    def __init__(
        self,
        model: Module,
        data: Data,
        loss: Module,
        opt: Optimizer | Callable[..., Optimizer] = SGD,
        metrics: Sequence[Metric] = (),
        callbacks: Sequence[Callback] = (),
        seed: int = 0,
        *,
        batch_size: int | None = None,
        schedule: Schedule | None = None,
        display: bool = True,
        compile: bool = True,
        engine: str = "native",
    ):
        self.model, self.loss, self.metrics, self.schedule = model, loss, list(metrics), schedule
        self.seed, self.random = seed, own_stream(seed)
        self.train_batches, self.valid_batches = as_batches(data, model, batch_size, seed)
        with evaluating(model, loss):
            check_fit(model, loss, self.train_batches, self.valid_batches)
        self.opt = opt if isinstance(opt, Optimizer) else opt(model.parameters())
        _check_optimizer(self.opt, model)
        callbacks = list(callbacks)
        if display:
            from groundup.train.display import display_for

            callbacks.append(display_for())
        self.callbacks = in_order(callbacks)
        self.epoch = self.batch = self.step = 0
        self.end = 0  # the epoch that fit trains up to
        self.history: list[dict[str, float]] = []
        self.stop = ""
        self.interrupted = False
        self.resumed = False  # whether fit goes on with an earlier process's training
        self.loss_sum, self.rows = 0.0, 0  # of the current epoch
        self.began, self.spent = 0.0, 0.0  # when it began; seconds in it before a resume
        self._hooks: dict[str, list[Callable[[Learner], None]]] = {hook: [] for hook in HOOKS}
        self._interrupts = Interrupts()
        self.compile, self.engine = compile, engine
        self._compiled: Callable[..., Any] | None = None
        self._losses: Compiled | None = None  # the same step, which returns the loss alone
        self._compiled_for: list[Any] = []

    @property
    def columns(self) -> list[str]:
        """The keys of a row of the history."""
        valid = ["valid_loss", *map(name_of, self.metrics)] if self.valid_batches else []
        return ["epoch", "train_loss", *valid, "lr", "seconds"]

    @property
    def running_loss(self) -> float:
        """The mean training loss of the current epoch so far."""
        return self.loss_sum / self.rows if self.rows else math.nan

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the training rows and targets."""
        return fingerprint(self.train_batches)

    def add(self, callback: Callback) -> Self:
        """Add a callback to those that `fit` calls, in its order."""
        self.callbacks = in_order([*self.callbacks, callback])
        return self

    # Training

    def fit(self, epochs: int, *, resume: bool = False) -> Self:
        """Train for so many epochs.

        Args:
            epochs: how many epochs more; with resume=True, how many in all.
            resume: go on from the newest whole checkpoint of the `Checkpoint` among the callbacks,
                if there is one. What was killed at any moment and goes on ends with exactly the
                weights that it would have had.

        Raises:
            NonFiniteError: the loss or a weight is NaN or infinite.
            KeyboardInterrupt: Ctrl-C was pressed. The step at hand was finished, the state saved
                if there is a `Checkpoint`, and `interrupted` is True. A second Ctrl-C does not
                wait for that.

        """
        if epochs < 0:
            raise GroundupError(f"fit: epochs is at least 0, not {epochs}")
        self.stop, self.resumed, self.interrupted = "", False, False
        with ExitStack() as stack:
            stack.enter_context(self._own_random())
            stack.enter_context(modes_kept(self.model))
            stack.enter_context(self._interrupts)
            if resume:
                self.resumed = self._checkpoint().load_newest(self)
            self.end = epochs if resume else self.epoch + epochs
            self._hooks = {hook: _overridden(self.callbacks, hook) for hook in HOOKS}
            self._compile_step()
            stack.callback(self._call, "close")
            self.model.train()
            self._call("before_fit")
            try:
                while self.epoch < self.end and not self.stop:
                    self._train_epoch()
                    self._check_interrupts()
            except BetweenSteps as interrupt:
                self.interrupted = True
                self._call("after_interrupt")
                # Not the subclass: Python lets the system see the signal only in this one.
                raise KeyboardInterrupt(str(interrupt)) from None
            self._call("after_fit")
        return self

    def _train_epoch(self) -> None:
        self.began, self.spent = perf_counter() - self.spent, 0.0
        self._call("before_epoch")
        self.train_batches.epoch = self.epoch
        if self._steps_are_alone() and self.batch < len(self.train_batches):
            self._many_batches()
        for xb, yb in islice(self.train_batches, self.batch, None):
            self.train_batch(xb, yb)
            self._check_interrupts()
        self.check_weights()
        row = {"epoch": self.epoch + 1, "train_loss": self.running_loss, **self.validate()}
        seconds = round(perf_counter() - self.began, 4)
        self.history.append({**row, "lr": float(self.opt.lr), "seconds": seconds})
        self.epoch += 1
        self.batch, self.loss_sum, self.rows = 0, 0.0, 0
        self._call("after_epoch")

    def train_batch(self, xb: Array, yb: Array) -> None:
        """One step: forward, backward, update. xb (n, ...) and yb (n, ...) are a batch's arrays."""
        self.xb, self.yb = Tensor.of(xb), Tensor.of(yb)
        if self.schedule is not None:
            self.opt.lr = self.schedule(self.step)
        self._call("before_batch")
        value = self._run_step()
        self.step += 1
        self.batch += 1
        self.loss_sum += value * len(xb)
        self.rows += len(xb)
        self._call("after_step")

    def _run_step(self) -> float:
        """Forward, backward, update, compiled if that can be: the loss."""
        if self._compiled is not None:
            try:
                self.pred, self.batch_loss = self._compiled(self.xb, self.yb)
                return float(self.batch_loss.item())
            except (RecordError, ProgramError) as error:  # nothing was changed
                self._compiled, self.compile = None, False
                self.warn(f"this model trains eagerly, as its step cannot be recorded: {error}")
            except NonFiniteError as error:
                raise self._non_finite(str(error)) from None
        self.pred = self.model(self.xb)
        self.batch_loss = self.loss(self.pred, self.yb)
        value = float(self.batch_loss.item())
        if not math.isfinite(value):
            raise self._non_finite(f"the loss is {value}")
        self._call("after_loss")
        self.batch_loss.backward()
        self._call("after_backward")
        self.opt.step()
        return value

    def _compile_step(self) -> None:
        """Make the step that `_run_step` uses, unless the one that there is will do."""
        inside = [m.__self__ for h in ("after_loss", "after_backward") for m in self._hooks[h]]  # type: ignore[attr-defined]
        parts = [self.model, self.loss, self.opt, *inside]
        if not self.compile or not all(callback.recordable for callback in inside):
            self._compiled, self._losses, self._compiled_for = None, None, []
            return
        if len(parts) == len(self._compiled_for) and all(
            a is b for a, b in zip(parts, self._compiled_for, strict=True)
        ):
            return
        model, loss_of, opt = self.model, self.loss, self.opt

        def step(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            pred = model(x)
            loss = loss_of(pred, y)
            check_finite(loss, what="the loss is {}")
            loss.backward()
            for callback in inside:
                callback.within_step(opt)
            opt.step()
            return pred, loss

        def loss_alone(x: Tensor, y: Tensor) -> Tensor:
            return step(x, y)[1]

        self._compiled, self._compiled_for = compile(step, engine=self.engine), parts
        self._losses = compile(loss_alone, engine=self.engine)

    def _steps_are_alone(self) -> bool:
        """Whether nobody wants to be called between two steps."""
        seen = [m.__self__ for m in self._hooks["after_step"]]  # type: ignore[attr-defined]
        alone = not self._hooks["before_batch"] and not any(c.each_step for c in seen)
        return alone and self._losses is not None and self.engine == "native"

    def _many_batches(self) -> None:
        """The rest of the epoch's steps, many in one native call."""
        batches, first = self.train_batches, self.step
        order = batches.order(self.epoch)
        schedule = self.schedule
        if schedule is not None:
            self.opt.lr = schedule(first)

        def show(progress: Progress) -> None:
            for value in progress.latest.tolist():
                rows = min(batches.size, len(order) - self.batch * batches.size)
                self.step += 1
                self.batch += 1
                self.loss_sum += value * rows
                self.rows += rows
            self._call("after_step")
            self._check_interrupts()

        try:
            assert self._losses is not None
            self._losses.over(
                [batches.x, batches.y],
                order[self.batch * batches.size :],
                batches.size,
                lr=None if schedule is None else lambda n: schedule(first + n),
                drop_last=batches.drop_last,
                show=show,
            )
        except (RecordError, ProgramError) as error:  # nothing was changed
            self._losses, self._compiled, self.compile = None, None, False
            self.warn(f"this model trains eagerly, as its step cannot be recorded: {error}")
        except NonFiniteError as error:
            rows = order[self.batch * batches.size : (self.batch + 1) * batches.size]
            self.xb = Tensor.of(batches.x[rows])
            raise self._non_finite(str(error)) from None

    def _call(self, hook: str) -> None:
        for method in self._hooks[hook]:
            method(self)

    def lr_find(self, lr_min: float = 1e-6, lr_max: float = 10.0, steps: int = 150) -> LrFind:
        """Try growing learning rates, one a step, until the loss explodes; then undo all of it.

        Weights, optimizer, random numbers and counts are afterwards as before; no callback runs.

        Raises:
            GroundupError: the loss never fell.

        """
        self._hooks = {hook: [] for hook in HOOKS}
        self._compile_step()
        with self._own_random(), modes_kept(self.model):
            self.model.train()
            return find_lr(self, lr_min, lr_max, steps)

    # Using what was learnt

    def predict(self, x: Value, rows: int = 1024) -> Array:
        """The model's outputs for x (n, ...), as an array: `rows` at a time, nothing recorded.

        The model is in evaluation mode meanwhile (no dropout), and then in the mode it was in.
        """
        x = np.asarray(x)
        if x.dtype.kind == "f":
            x = x.astype(model_dtype(self.model), copy=False)
        outs = []
        with evaluating(self.model), no_grad():
            for start in range(0, max(len(x), 1), rows):
                outs.append(self.model(Tensor.of(x[start : start + rows])).data)
                self._check_interrupts()
        return np.concatenate(outs)

    def validate(self) -> dict[str, float]:
        """The loss and the metrics over all valid rows at once, by column; {} without such rows."""
        if self.valid_batches is None:
            return {}
        x, y = self.valid_batches.x, self.valid_batches.y
        pred = self.predict(x, self.valid_batches.size)
        with evaluating(self.loss), no_grad():
            value = self.loss(Tensor.of(pred), Tensor.of(y)).item()
        if not math.isfinite(value):
            raise self._non_finite(f"the valid loss is {value}")
        return {"valid_loss": value, **{name_of(m): float(m(pred, y)) for m in self.metrics}}

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Losses and metrics over the epochs: a matplotlib Figure, written to path too if given."""
        if not self.history:
            raise GroundupError("there is nothing to plot before the first epoch: call fit")
        return save_figure(plot_history(self.history, [name_of(m) for m in self.metrics]), path)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model's weights as a safetensors file, atomically.

        Raises:
            OSError: it could not be written; an older file of that name is still there.

        """
        save_tensors(path, self.model.state_dict(), {"model": type(self.model).__name__})

    def load(self, path: str | os.PathLike[str]) -> Self:
        """Read weights that `save` wrote.

        Raises:
            StateError: the file is damaged, or of another model; nothing is changed.

        """
        arrays, _ = load_tensors(path)
        try:
            self.model.load_state_dict(arrays)
        except StateError as error:
            raise StateError(f"{os.fspath(path)}: {error}") from error
        return self

    # What goes wrong

    def check_weights(self) -> None:
        """Raise NonFiniteError, which names it, if a weight is NaN or infinite."""
        for name, p in self.model.named_parameters():
            if not np.isfinite(p.data).all():
                raise self._non_finite(f"{name} holds NaN or infinite weights")

    def warn(self, message: str) -> None:
        """Say that something went wrong that does not end the training."""
        warnings.warn(message, TrainingWarning, stacklevel=2)

    def _non_finite(self, what: str) -> NonFiniteError:
        causes = [f"a learning rate that is too large (it is {self.opt.lr:g}; try a tenth)"]
        if not np.isfinite(self.xb.data).all():
            causes.insert(0, "NaN or infinite inputs in this batch")
        else:
            causes.append("inputs or targets that are not scaled")
        kept = [path for c in self.callbacks if isinstance(c, Checkpoint) for path in c.paths()]
        last = f" The last good checkpoint is {kept[0]}" if kept else ""
        return NonFiniteError(
            f"{what}, in epoch {self.epoch + 1}, batch {self.batch + 1} of "
            f"{len(self.train_batches)} (step {self.step + 1}). Likely causes: "
            f"{'; '.join(causes)}.{last}"
        )

    def _checkpoint(self) -> Checkpoint:
        found = next((c for c in self.callbacks if isinstance(c, Checkpoint)), None)
        if found is None:
            raise GroundupError("resume=True needs a Checkpoint(folder) among the callbacks")
        return found

    def _check_interrupts(self) -> None:
        if self._interrupts.pressed:
            raise BetweenSteps(
                f"interrupted in epoch {self.epoch + 1}, after batch {self.batch} of "
                f"{len(self.train_batches)}: the weights are those after step {self.step}"
            )

    @contextmanager
    def _own_random(self) -> Iterator[None]:
        """Draw from this Learner's stream, and leave the program's as it was."""
        outer = generator.default.state()
        generator.default.restore(self.random)
        try:
            yield
        finally:
            self.random = generator.default.state()
            generator.default.restore(outer)

    def __repr__(self) -> str:
        last = self.history[-1] if self.history else {}
        shown = "".join(f", {k}={v:.4g}" for k, v in last.items() if k not in ("epoch", "seconds"))
        return f"Learner({type(self.model).__name__}, epoch={self.epoch}, step={self.step}{shown})"


def _overridden(callbacks: Sequence[Callback], hook: str) -> list[Callable[[Learner], None]]:
    """The hook of those callbacks that have one of their own."""
    ours = getattr(Callback, hook)
    return [getattr(c, hook) for c in callbacks if getattr(type(c), hook) is not ours]


def _check_optimizer(opt: Optimizer, model: Module) -> None:
    if not isinstance(opt, Optimizer):
        raise GroundupError(
            f"opt makes a {type(opt).__name__}: give an Optimizer, or a class or partial that "
            "makes one from the parameters"
        )
    own = {id(p) for p in model.parameters()}
    if not own & {id(p) for p in opt.params}:
        raise GroundupError(
            f"the {type(opt).__name__} updates none of the model's parameters: make it from "
            "model.parameters(), after the model's last change"
        )
