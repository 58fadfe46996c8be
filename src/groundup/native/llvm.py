"""LLVM through llvmlite: the host, the types, a few builders that read like loops, compilation."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

I1, I8, I32, I64 = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64)
F32, F64, POINTER, VOID = ir.FloatType(), ir.DoubleType(), ir.PointerType(), ir.VoidType()


@dataclass(frozen=True)
class Target:
    """What to compile for.

    Attributes:
        cpu: LLVM's name of the CPU.
        features: LLVM's list of features, "+avx2,-avx512f".
        width: bytes of a vector register: 64 (AVX-512), 32 (AVX2) or 16.
        registers: how many vector registers there are.
        fused: whether it multiplies and adds in one instruction.

    """

    cpu: str
    features: str
    width: int
    registers: int
    fused: bool

    def lanes(self, kind: Any) -> int:
        """How many numbers of an LLVM type a register holds."""
        return self.width // (8 if kind in (F64, I64) else 4)


_ready = threading.Lock()


@functools.cache
def _initialise() -> None:
    with _ready:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()


@functools.cache
def host(width: int | None = None) -> Target:
    """The CPU at hand; with a width, as if its vector registers were no wider than that.

    Args:
        width: 16, 32 or 64 bytes.

    """
    _initialise()
    found = dict(llvm.get_host_cpu_features())
    if str(llvm.get_default_triple()).startswith(("aarch64", "arm64")):
        found["neon"] = True  # each has it; LLVM reads /proc/cpuinfo, and knows nothing on macOS
    if width is not None and width < 64:
        for name in found:
            if name.startswith(("avx512", "evex512", "avx10")):
                found[name] = False
    if width is not None and width < 32:
        for name in found:
            if name.startswith(("avx", "vaes", "vpclmulqdq")) or name in ("fma", "f16c", "xop"):
                found[name] = False
    if found.get("avx512f") and found.get("avx512vl"):
        most, registers = 64, 32
    elif found.get("avx2") and found.get("fma"):
        most, registers = 32, 16
    else:
        most, registers = 16, 32 if found.get("neon") else 16
    # LLVM prefers 256 bits on some CPUs with AVX-512, and would split our vectors.
    features = [f"{'+' if on else '-'}{name}" for name, on in sorted(found.items())]
    if most == 64:
        features.append("-prefer-256-bit")
    name = str(llvm.get_host_cpu_name()) if width is None or width >= most else ""
    fused = bool(found.get("fma") or found.get("neon"))
    return Target(name, ",".join(features), most, registers, fused)


class Compiled:
    """Machine code of a module; the functions' addresses hold while this lives."""

    def __init__(self, module: ir.Module, target: Target):
        _initialise()
        parsed = llvm.parse_assembly(str(module))
        parsed.verify()
        machine = llvm.Target.from_default_triple().create_target_machine(
            cpu=target.cpu, features=target.features, opt=3, jit=True
        )
        options = llvm.create_pipeline_tuning_options(speed_level=3)
        options.loop_vectorization = options.slp_vectorization = False  # we do it ourselves
        options.loop_unrolling = False
        builder = llvm.create_pass_builder(machine, options)
        builder.getModulePassManager().run(parsed, builder)
        self.engine = llvm.create_mcjit_compiler(parsed, machine)
        self.engine.finalize_object()
        self.machine, self.parsed = machine, parsed

    def address(self, name: str) -> int:
        """The address of a function."""
        return int(self.engine.get_function_address(name))

    def assembly(self) -> str:
        """The machine code as text."""
        return str(self.machine.emit_assembly(self.parsed))


# Building


def new_module(name: str, target: Target) -> ir.Module:
    """An empty module for a target."""
    _initialise()
    module = ir.Module(name=name)
    module.triple = llvm.get_default_triple()
    module.fused = target.fused
    return module


def vector(kind: Any, lanes: int) -> Any:
    """The type of several numbers; of one, the type itself."""
    return kind if lanes == 1 else ir.VectorType(kind, lanes)


def lanes_of(kind: Any) -> int:
    """How many numbers a value of a type holds."""
    return kind.count if isinstance(kind, ir.VectorType) else 1


def scalar_of(kind: Any) -> Any:
    """The type of each."""
    return kind.element if isinstance(kind, ir.VectorType) else kind


def constant(kind: Any, value: Any) -> Any:
    """A number, in all lanes of a type."""
    if isinstance(kind, ir.VectorType):
        return ir.Constant(kind, [ir.Constant(kind.element, value)] * kind.count)
    return ir.Constant(kind, value)


def i64(value: int) -> Any:
    """An index."""
    return ir.Constant(I64, value)


def splat(builder: ir.IRBuilder, value: Any, lanes: int) -> Any:
    """One number in all lanes."""
    if lanes == 1 or isinstance(value.type, ir.VectorType):
        return value
    kind = ir.VectorType(value.type, lanes)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(I32, 0))
    zeros = ir.Constant(ir.VectorType(I32, lanes), None)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), zeros)


def type_name(kind: Any) -> str:
    """A type as intrinsics name it: v16f32."""
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{type_name(kind.element)}"
    if isinstance(kind, ir.PointerType):
        return "p0"
    return {F32: "f32", F64: "f64"}.get(kind) or f"i{kind.width}"


def declare(builder: ir.IRBuilder, name: str, result: Any, *args: Any) -> Any:
    """A function of another module, an intrinsic among them."""
    module = builder.module
    if name in module.globals:
        return module.globals[name]
    return ir.Function(module, ir.FunctionType(result, args), name)


def intrinsic(builder: ir.IRBuilder, name: str, *args: Any) -> Any:
    """Call an intrinsic that is named after its operands' type, and gives it: llvm.fabs.f32."""
    kind = args[0].type
    function = declare(builder, f"llvm.{name}.{type_name(kind)}", kind, *(a.type for a in args))
    return builder.call(function, args)


def fma(builder: ir.IRBuilder, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once where the CPU does that, twice elsewhere."""
    if not builder.module.fused:
        return builder.fadd(builder.fmul(a, b), c)
    return intrinsic(builder, "fma", a, b, c)


def prefetch(builder: ir.IRBuilder, pointer: Any) -> None:
    """Ask for a cache line that will be read; any address is allowed."""
    function = declare(builder, "llvm.prefetch.p0", VOID, POINTER, I32, I32, I32)
    # To read; into the second-level cache; data.
    builder.call(function, [pointer, *(ir.Constant(I32, n) for n in (0, 2, 1))])


_serial = itertools.count()


@contextmanager
def for_range(
    builder: ir.IRBuilder, start: Any, stop: Any, step: Any = 1, carried: list[Any] | None = None
) -> Iterator[Any]:
    """for i in range(start, stop, step), of which it is known that start < stop.

    Args:
        builder: stands in the loop's body within, after the loop thereafter.
        start: an i64.
        stop: an i64.
        step: added each time, a number or an i64.
        carried: values that the body replaces in this list; after the loop it has the last ones.

    """
    serial = next(_serial)
    function = builder.function
    body = function.append_basic_block(f"loop{serial}")
    after = function.append_basic_block(f"after{serial}")
    before = builder.block
    builder.branch(body)
    builder.position_at_end(body)
    i = builder.phi(I64, f"i{serial}")
    i.add_incoming(start, before)
    phis = []
    for n, value in enumerate(carried or ()):
        phi = builder.phi(value.type)
        phi.add_incoming(value, before)
        phis.append(phi)
        carried[n] = phi  # type: ignore[index]
    yield i
    step = i64(step) if isinstance(step, int) else step
    following = builder.add(i, step, flags=("nuw", "nsw"))
    i.add_incoming(following, builder.block)
    for phi, value in zip(phis, carried or (), strict=True):
        phi.add_incoming(value, builder.block)
    builder.cbranch(builder.icmp_unsigned("<", following, stop), body, after)
    builder.position_at_end(after)


def define(
    module: ir.Module, name: str, result: Any, *args: Any, internal: bool = True
) -> tuple[ir.Function, ir.IRBuilder]:
    """A new function and a builder at its beginning."""
    function = ir.Function(module, ir.FunctionType(result, args), name)
    if internal:
        function.linkage = "internal"
    function.attributes.add("nounwind")
    return function, ir.IRBuilder(function.append_basic_block("entry"))
