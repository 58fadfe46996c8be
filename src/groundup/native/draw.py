"""Philox4x64-10, the bits of NumPy's generator, entry by entry at any place of the stream.

J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from groundup.native.assemble import Plan
from groundup.native.elementwise import Value, converted, kind_of
from groundup.native.emit import Writer, kind_size
from groundup.native.kernels import Draw
from groundup.native.llvm import I32, I64, define, for_range, i64

I128 = ir.IntType(128)
MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)


def _philox(module: ir.Module) -> ir.Function:
    """philox(key, count, block, out): the four words of a block of a count's stream."""
    name = "philox"
    if name in module.globals:
        return module.globals[name]
    pointer = ir.PointerType()
    function, b = define(module, name, ir.VoidType(), I64, I64, I64, pointer)
    key, count, block, out = function.args
    # NumPy counts up before it draws: the first block is number 1.
    words: list[Any] = [b.add(block, i64(1)), count, i64(0), i64(0)]
    keys: list[Any] = [key, i64(0)]
    for round_ in range(10):
        if round_:
            keys = [b.add(k, i64(w)) for k, w in zip(keys, WEYL, strict=True)]
        high, low = [], []
        for word, multiplier in zip((words[0], words[2]), MULTIPLIERS, strict=True):
            product = b.mul(b.zext(word, I128), ir.Constant(I128, multiplier))
            high.append(b.trunc(b.lshr(product, ir.Constant(I128, 64)), I64))
            low.append(b.trunc(product, I64))
        words = [
            b.xor(b.xor(high[1], words[1]), keys[0]), low[1],
            b.xor(b.xor(high[0], words[3]), keys[1]), low[0],
        ]  # fmt: skip
    for i, word in enumerate(words):
        b.store(word, b.gep(out, [i64(i)], source_etype=I64))
    b.ret_void()
    return function


def write_draw(plan: Plan, module: ir.Module, name: str, draw: Draw, tiled: bool) -> None:
    """Code that fills an array, or a tile of it, with uniform numbers in [0, 1).

    A float32 takes the upper 24 bits of half a word, the lower half first; a float64 the upper 53
    of a word: as NumPy does.
    """
    w = Writer(plan, module, name, draw.batch if tiled else None, tiled)
    b = w.builder
    philox = _philox(module)
    single = draw.dtype == "float32"
    kind, per_block = kind_of(draw.dtype), 8 if single else 4
    width = 1
    for n in draw.shape[1:]:
        width *= n
    total = width * (draw.shape[0] if draw.shape else 1)
    if tiled and draw.batch is not None:
        begin, count = b.mul(w.start, i64(width)), b.mul(w.length, i64(width))
    else:
        begin, count = i64(0), i64(total)
    key, counter = (
        converted(b, Value(w.load(v, [], 0, 1, None).of, v.dtype), "uint64")
        for v in (draw.key, draw.counter)
    )
    block = w.top.alloca(I64, 4)
    shift, scale = (8, 2.0**-24) if single else (11, 2.0**-53)
    end = b.add(begin, count)
    first = b.udiv(begin, i64(per_block))
    last = b.udiv(b.add(end, i64(per_block - 1)), i64(per_block))
    targets = [
        (w.base(view.base), w.space(view) == "thread", view.offset) for _, view in draw.stores
    ]
    with for_range(b, first, last) as n:
        b.call(philox, [key, counter, n, block])
        for i in range(per_block):
            entry = b.add(b.mul(n, i64(per_block)), i64(i))
            inside = b.and_(b.icmp_unsigned(">=", entry, begin), b.icmp_unsigned("<", entry, end))
            with b.if_then(inside):
                half = I32 if single else I64
                word = b.load(b.gep(block, [i64(i)], source_etype=half), typ=half)
                number = b.uitofp(b.lshr(word, ir.Constant(half, shift)), kind)
                number = b.fmul(number, ir.Constant(kind, scale))
                for base, local, offset in targets:
                    at = b.sub(entry, begin) if local else entry
                    place = b.gep(base, [b.add(at, i64(offset))], source_etype=kind)
                    b.store(number, place, align=kind_size(kind))
    w.finish()
