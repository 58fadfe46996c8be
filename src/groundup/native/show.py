"""What the engine does, to read: stages, kernels and loops, with the Program's lines in them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from groundup.native.assemble import Plan
from groundup.native.emit import flattened
from groundup.native.kernels import Draw, Kernel, Nest, Pack, Product, Stage
from groundup.native.llvm import F32, new_module
from groundup.native.product import ProductWriter
from groundup.ops.text import atom
from groundup.program.program import OPS, Equation

if TYPE_CHECKING:
    from rich.table import Table


def listing(plan: Plan) -> str:
    """The plan as pseudo-code."""
    lanes = plan.target.lanes(F32)
    head = f"{plan.program.name}: {_count(plan.threads, 'thread')}, vectors of {lanes} float32"
    if plan.rows:
        head += f"; the batch's {plan.rows} rows go through in tiles of {plan.tile}"
    lines = [head]
    for stage in plan.stages:
        lines += ["", _stage_head(plan, stage)]
        for kernel in stage.kernels:
            lines += [f"    {line}" for line in _kernel(plan, stage, kernel)]
    return "\n".join(lines)


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _stage_head(plan: Plan, stage: Stage) -> str:
    if stage.tiled:
        return f"tiles {stage.level}: each thread takes its tiles, one after another, through"
    what = "updates, if no check found bad input:" if stage.final else f"whole {stage.level}:"
    return what + (" parts for all threads where it says so" if plan.threads > 1 else "")


def _kernel(plan: Plan, stage: Stage, kernel: Kernel) -> list[str]:
    if isinstance(kernel, Pack):
        return [f"pack {kernel.b.base} {kernel.b.shape} into panels of {kernel.width} columns"]
    if isinstance(kernel, Draw):
        return [f"draw {_text(plan, kernel.equation)}"]
    if isinstance(kernel, Product):
        head = _product_head(plan, stage, kernel)
    else:
        assert isinstance(kernel, Nest)
        head = _nest_head(plan, stage, kernel)
    shared = " in parts:" if kernel.parallel and plan.threads > 1 else ":"
    body = [f"    {_text(plan, i)}" for i in dict.fromkeys(kernel.equations())]
    return [head + shared, *(line for line in body if line.strip()), *_stores(plan, kernel)]


def _product_head(plan: Plan, stage: Stage, p: Product) -> str:
    writer = ProductWriter(plan, new_module("", plan.target), "shown", p, stage.tiled)
    vectors = writer.width // writer.lanes
    rows = max(writer.row_sizes)
    summed = "the tile's rows" if writer.sums_rows else f"{writer.k} terms"
    return (
        f"for {rows} rows by {writer.block(vectors)}, {writer.n} columns by {vectors} vectors, "
        f"sum {summed}"
    )


def _nest_head(plan: Plan, stage: Stage, nest: Nest) -> str:
    flat = flattened(nest, stage.tiled)
    lengths = [str(n) for n in flat.domain.shape]
    if stage.tiled and nest.domain.batch is not None:
        axis, times = nest.domain.batch
        lengths[axis] = f"rows of the tile{f' * {times}' if times > 1 else ''}"
    over = " x ".join(lengths) or "one number"
    reduced = ""
    if nest.reduced is not None and nest.reductions:
        reduced = f", reducing axis {', '.join(map(str, sorted(nest.reduced)))}"
    return f"for {over}{reduced}"


def _text(plan: Plan, index: int) -> str:
    """An equation as a line of NumPy, and where it comes from."""
    program = plan.program
    if index >= len(program.equations):
        return ""
    e: Equation = program.equations[index]
    ins = [atom(str(i)) for i in e.ins]
    shapes = [program.vars[i].shape if isinstance(i, str) else () for i in e.ins]
    shape = str(e.out.shape) if e.out is not None else ""
    if e.out is not None and e.out.is_number and len(ins) == 2:
        code = OPS[e.op].text(*ins, out=shape, shapes=shapes, **dict(e.attrs)).code
    else:
        code = OPS[e.op].text(*ins, out=shape, shapes=shapes, **dict(e.attrs)).code
    line = f"{e.out.name} = {code}" if e.out is not None else code
    where = ", ".join(filter(None, [shape, e.module, e.phase]))
    return f"{line:<44} # {where}"


def _stores(plan: Plan, kernel: Kernel) -> list[str]:
    """What is left in memory, and where."""
    where: dict[str, list[str]] = {}
    for name, view in kernel.stores:
        place = plan.places[view.base]
        kind = {
            "thread": "in the tile", "partial": "added to the thread's part", "shared": "for all",
        }.get(place.space, "")  # fmt: skip
        if place.space == "table":
            kind = "as output" if view.base.startswith("return ") else f"into {view.base}"
        shown = name.removeprefix("return ").removeprefix("new ")
        where.setdefault(kind, []).append(shown)
    return [f"    store {', '.join(names)} {kind}" for kind, names in where.items()]


@dataclass(frozen=True)
class KernelTime:
    """What a kernel took.

    Attributes:
        stage: its stage's name.
        what: the values that it computes.
        seconds: of the first thread, at best, in a step.
        flops: of the whole kernel, multiplications and sums each for themselves.

    """

    stage: str
    what: str
    seconds: float
    flops: int


@dataclass(frozen=True)
class Report:
    """The times of a step's stages and kernels.

    Attributes:
        kernels: each kernel's time.
        seconds: of the whole step, at best.
        flops: of all matrix products.
        peak: floating-point operations a second of a matrix product that lies in the caches, on
            as many threads, measured at the same time.
        threads: how many.

    """

    kernels: list[KernelTime]
    seconds: float
    flops: int
    peak: float
    threads: int

    @property
    def share(self) -> float:
        """What part of the peak the step's products reach over its whole time."""
        return self.flops / self.seconds / self.peak

    def __rich__(self) -> Table:
        from rich.table import Table

        table = Table(
            title=f"{self.seconds * 1e6:.1f} us a step on {self.threads} thread(s): "
            f"{self.flops / self.seconds / 1e9:.0f} GFLOP/s, {self.share:.0%} of the measured peak "
            f"of {self.peak / 1e9:.0f}"
        )
        for name in ("stage", "computes", "us", "share", "GFLOP/s", "of peak"):
            table.add_column(name, justify="left" if name in ("stage", "computes") else "right")
        total = sum(k.seconds for k in self.kernels) or 1.0
        for k in self.kernels:
            rate = k.flops / k.seconds if k.seconds else math.nan
            table.add_row(
                k.stage, k.what, f"{k.seconds * 1e6:.2f}", f"{k.seconds / total:.1%}",
                f"{rate / 1e9:.0f}" if k.flops else "",
                f"{rate / self.peak:.0%}" if k.flops else "",
            )  # fmt: skip
        return table

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=110, color_system=None)
        with console.capture() as capture:
            console.print(self)
        return capture.get()


def kernel_flops(kernel: Kernel) -> int:
    """Floating-point operations of a matrix product; 0 of anything else."""
    if not isinstance(kernel, Product):
        return 0
    return 2 * math.prod(kernel.shape) * kernel.a.shape[-1]


def shown_names(kernel: Kernel) -> str:
    """The values of a Program that a kernel computes, shortened."""
    names: list[Any] = [n for n in kernel.makes() if "." not in n and not n.startswith("return ")]
    names = [n.removeprefix("new ") for n in names]
    if isinstance(kernel, Pack):
        names = [f"{kernel.b.base} in panels"]
    text = ", ".join(dict.fromkeys(names)) or ", ".join(
        view.base.removeprefix("return ") for _, view in kernel.stores
    )
    return text if len(text) <= 48 else f"{text[:30]} ... {text[-13:]}"
