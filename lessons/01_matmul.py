# %% [markdown]
# # 1. The matrix product, from three Python loops to BLAS
#
# Almost everything that a neural network computes is a matrix product. A layer is one, its
# backward pass is two more, and in a small network they take nearly all of the time. So this is
# where we start: we write the matrix product nine times, from three plain Python loops to the one
# call that everybody uses, and we look at what each step makes faster, and why.
#
# Nothing is assumed but Python and a little NumPy. The functions come from
# `groundup.foundations`; each is a few lines long, and we read its source before we run it.

# %%
import inspect
import statistics
import time

import matplotlib.pyplot as plt
import numpy as np

from groundup.data import digits
from groundup.foundations import (
    LADDER,
    assert_close,
    loops_ijk,
    loops_ikj,
    matmul_3loops,
    matmul_blas,
    matmul_broadcast,
    matmul_compiled,
    matmul_dot,
    matmul_einsum,
    matmul_elementwise,
    matmul_lists,
    matmul_reordered,
)


def show(function):
    print(inspect.getsource(function))


# %% [markdown]
# ## Some digits to multiply
#
# Our data are handwritten digits, scanned at 8 by 8 pixels. Each image is one row of 64 numbers
# from 0 (paper) to 1 (ink), so that the whole training set is a matrix: a row an image, a column
# a pixel.

# %%
x_train, y_train, x_valid, y_valid = digits()
print("x_train", x_train.shape, x_train.dtype)
print("y_train", y_train.shape, y_train.dtype)

fig, axes = plt.subplots(1, 10, figsize=(9, 1.3))
for digit, ax in enumerate(axes):
    first = np.argmax(y_train == digit)  # the first image that shows this digit
    ax.imshow(x_train[first].reshape(8, 8), cmap="gray_r")
    ax.set_title(y_train[first])
    ax.axis("off")

# %% [markdown]
# The simplest network that could recognise them has one weight for each pixel and each of the ten
# digits: 640 weights, as a matrix of 64 rows and 10 columns. How much an image looks like a 3 is
# the sum, over all pixels, of the pixel times its weight for 3. All images against all ten
# digits at once, that is the product of two matrices:
#
# $$c_{ij} = \sum_k a_{ik}\, b_{kj}$$
#
# Element $(i, j)$ of the result is row $i$ of $a$ times column $j$ of $b$, summed up. A row
# of $a$ must be as long as a column of $b$, so the shapes tell whether a product exists and
# what comes out. Learn to read them: it is the most useful habit in this field.
#
#     (1437, 64) @ (64, 10) -> (1437, 10)
#      images  pixels  pixels  digits -> images, digits
#
# The inner two must be equal and vanish; the outer two remain.
#
# How much work is it? Each of the $m \times n$ results takes $k$ multiplications and $k$
# additions, $2mkn$ floating-point operations in all. Dividing them by the seconds they take gives
# operations per second, in billions: GFLOP/s, the one figure by which we can compare all versions.

# %%
rng = np.random.default_rng(0)
weights = rng.standard_normal((64, 10), dtype=np.float32)
a, b = x_train, weights
operations = 2 * a.shape[0] * a.shape[1] * b.shape[1]
print(f"{operations:,} operations")


def seconds(function, *args, rounds=5):
    """The median time of a few calls, after one that warms the caches."""
    times = []
    function(*args)
    for _ in range(rounds):
        start = time.perf_counter()
        function(*args)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


ladder = {}  # rung -> seconds


def climb(rung, function, *args):
    """Time a rung, and print how it compares with the one before."""
    before = list(ladder.values())[-1] if ladder else None
    ladder[rung] = took = seconds(function, *args)
    text = f"{rung}: {took * 1e3:.3g} ms, {operations / took / 1e9:.3g} GFLOP/s"
    if before is not None:
        text += f", {before / took:.2g} times as fast as the rung before"
    print(text)


# %% [markdown]
# ## Rung 1: three loops and Python's own lists
#
# The formula, word for word. One loop for each of its three letters: the row `i`, the column `j`
# and the `k` that is summed over. (The first lines only check that the lists are matrices that
# fit.)

# %%
show(matmul_lists)

# %% [markdown]
# On matrices that fit on one's fingers, to see that it is right:

# %%
matmul_lists([[1, 2, 3], [4, 5, 6]], [[1, 0], [0, 1], [10, 100]])

# %% [markdown]
# Row 0, column 0: 1·1 + 2·0 + 3·10 = 31. And now all the digits:

# %%
climb("lists", matmul_lists, a.tolist(), b.tolist())

# %% [markdown]
# ## Rung 2: the same loops over arrays
#
# NumPy is fast, everybody says. So let us put the numbers into NumPy arrays and leave the loops as
# they are:

# %%
show(loops_ijk)
climb("3loops", matmul_3loops, a, b)

# %% [markdown]
# That was *slower*. A list holds ready-made Python numbers. An array holds raw bytes, four for
# each number, and each `a[i, k]` has to pack the two indices into a tuple, work out an address,
# and wrap the four bytes it finds there into a new Python object. An array pays off only when
# we stop asking it for one number at a time.

# %% [markdown]
# ## Rung 3: a whole row at once
#
# The innermost loop multiplies a row by a column, element by element, and adds up. NumPy can do
# both on whole arrays: `*` is element-wise, `.sum()` adds.

# %%
show(matmul_elementwise)
climb("elementwise", matmul_elementwise, a, b)

# %% [markdown]
# The interpreter now goes through its loops once for every element of the result, and no longer
# once for every multiplication: 64 times fewer rounds. Within a round, NumPy runs a loop that was
# compiled from C, where the type of all 64 numbers is known in advance, and the CPU multiplies
# several of them with one instruction.
#
# ## Rung 4: a dot product
#
# `*` writes 64 products into a new array, only for `.sum()` to read them again. A dot product
# multiplies and adds in one go: one call fewer, and no array in between.

# %%
show(matmul_dot)
climb("dot", matmul_dot, a, b)

# %% [markdown]
# ## Broadcasting
#
# The next step needs NumPy's best idea. What does it mean to add a matrix and a row?

# %%
matrix = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])  # (2, 3)
row = np.array([10.0, 20.0, 30.0])  # (3,)
matrix + row

# %% [markdown]
# The row was added to each row of the matrix, as if it had been copied downwards. It was not: NumPy
# reads the same three numbers again. For a column, give it an axis of length 1, and it is
# repeated sideways:

# %%
column = np.array([100.0, 200.0])
print("column[:, None] has shape", column[:, None].shape)
matrix + column[:, None]

# %% [markdown]
# The rules are two. Write the shapes one above the other, **aligned at the right**; then, axis
# by axis:
#
# 1. lengths that are equal are fine;
# 2. a length of 1, or an axis that is missing on the left, is repeated as often as the other asks.
#
# Anything else is an error. Try to say each result before you read it:

# %%
for shapes in [
    ((2, 3), (3,)),
    ((2, 3), (2, 1)),
    ((2, 3), (2,)),
    ((64, 1), (64, 10)),
    ((1437, 64), (64,)),
    ((5, 1), (5,)),
]:
    try:
        result = np.broadcast_shapes(*shapes)
    except ValueError:
        result = "error: the last axes differ and neither is 1"
    print(f"{shapes[0]!s:>12} with {shapes[1]!s:<9} -> {result}")

# %% [markdown]
# The last line is the trap that everybody falls into once. A column of five and a plain vector of
# five do not meet element by element: they make a table of all 25 pairs. Predictions have the shape
# (n, 1), labels (n,); subtract them, take the mean of the squares, and you get a number. It is the
# wrong one, and no error tells you. We come back to this in the next lesson.
#
# A good use, before we go on: the mean image has shape (64,), and broadcasting takes it off every
# image.

# %%
centred = x_train - x_train.mean(axis=0)
print(x_train.shape, "-", x_train.mean(axis=0).shape, "->", centred.shape)
print("largest mean of a pixel now:", f"{np.abs(centred.mean(axis=0)).max():.1e}")

# %% [markdown]
# ## Rung 5: one loop
#
# A row of `a` has 64 numbers, and each belongs to one row of `b`. Stood up as a column, `(64, 1)`,
# it broadcasts over the ten columns of `b`, `(64, 10)`; the sum over the 64 rows leaves a whole row
# of the result. Two of the three loops are gone.

# %%
show(matmul_broadcast)
climb("broadcast", matmul_broadcast, a, b)

# %% [markdown]
# ## Rung 6: the formula as a string
#
# `einsum` (after Einstein's summation convention) takes the formula itself. Name the axes of the
# inputs, an arrow, the axes of the result; what is missing on the right is summed over. `ik,kj->ij`
# is $\sum_k a_{ik} b_{kj}$, and no Python loop is left.

# %%
show(matmul_einsum)
climb("einsum", matmul_einsum, a, b)

# %% [markdown]
# One notation covers a family of operations, which is why it is worth knowing even where `@` is
# faster:

# %%
np.testing.assert_allclose(np.einsum("ij->ji", b), b.T)  # transpose
np.testing.assert_allclose(np.einsum("ij->j", b), b.sum(axis=0), atol=1e-5)  # sum over rows
np.testing.assert_allclose(np.einsum("ij,ij->", b, b), (b * b).sum(), rtol=1e-5)  # sum of squares

# %% [markdown]
# ## Rung 7: the three loops, compiled
#
# So far we have moved work out of Python's loops into functions that someone else wrote in C. There
# is another way: keep the loops, and compile them. Numba turns the very function of rung 2, not a
# letter changed, into machine code for this CPU. (The first call compiles; our timing leaves it
# out.)

# %%
show(matmul_compiled)
climb("compiled", matmul_compiled, a, b)
print(f"{ladder['3loops'] / ladder['compiled']:.0f} times as fast as the same source in Python")

# %% [markdown]
# So Python's loops were never slow because they are *loops*. They were slow because every `+`, `*`
# and `[ ]` looks up types and makes objects, millions of times.
#
# ## Rung 8: the order of the loops
#
# Can compiled loops be improved? Swap the two inner ones. The sum is the same, only its terms come
# in another order:

# %%
show(loops_ikj)
climb("reordered", matmul_reordered, a, b)

# %% [markdown]
# Why should that matter? Because of where the numbers lie. Memory is one long line, and a matrix is
# stored in it row after row. NumPy's `strides` say how many bytes it is to the next element along
# each axis:

# %%
print("strides of b:", b.strides, "bytes: to the next row, to the next column")

# %% [markdown]
# With `k` innermost, the loop jumps down a column of `b`, a whole row of bytes at a time, and adds
# to a single number, each addition waiting for the one before. With `j` innermost, it runs along
# a row of `b` and a row of `c`. Neighbours come from memory together, they do not wait for each
# other, and the compiler can handle them several at a time with one instruction.
#
# Our rows of ten numbers are too short to show much of that. On larger matrices there is no doubt:

# %%
square = rng.random((512, 512), dtype=np.float32)
for rung in (matmul_compiled, matmul_reordered):
    print(f"{rung.__name__:<17} {seconds(rung, square, square) * 1e3:6.1f} ms")

# %% [markdown]
# **Go through memory in the order in which it is laid out**: that holds for all fast code, on any
# processor.
#
# ## Rung 9: BLAS
#
# And the call that everybody uses. NumPy hands `@` to a BLAS library, tuned by hand for each kind of
# CPU.

# %%
show(matmul_blas)
climb("blas", matmul_blas, a, b)

# %% [markdown]
# It does what we did, and three things more. It cuts the matrices into tiles that fit the CPU's
# caches, so that each number fetched from memory is used many times before it makes room. It keeps a
# small tile of the result in registers and feeds it with instructions that multiply and add eight
# or sixteen numbers at once. And on larger matrices it uses all cores.
#
# ## The whole ladder
#
# A fast wrong answer is worth nothing, so before we compare, every rung has to give the same result
# as `@`. (Not bit for bit: floating-point sums in another order round differently.)

# %%
expected = a @ b
for rung in LADDER.values():
    assert_close(rung(a, b), expected, rtol=1e-4, atol=1e-4)

print(f"{'rung':<12} {'time':>10} {'GFLOP/s':>9} {'times as slow as @':>19}")
for name, took in ladder.items():
    print(
        f"{name:<12} {took * 1e3:>7.3f} ms {operations / took / 1e9:>9.3g} "
        f"{took / ladder['blas']:>19.3g}"
    )

# %%
names, speeds = list(ladder), [operations / took / 1e9 for took in ladder.values()]
fig, ax = plt.subplots(figsize=(7, 3.2))
bars = ax.barh(names, speeds, color=["#888888"] * 2 + ["#4878a8"] * 4 + ["#d08030"] * 3)
ax.bar_label(bars, [f" {speed:.3g}" for speed in speeds])
ax.invert_yaxis()
ax.set_xscale("log")
ax.set_xlim(right=10 * max(speeds))
ax.set_xlabel("GFLOP/s (each grid line is ten times the one before)")
ax.set_title("One matrix product, nine ways: (1437, 64) by (64, 10)", loc="left")
ax.grid(axis="x", alpha=0.4)
ax.set_axisbelow(True)
ax.spines[["top", "right"]].set_visible(False)

# %% [markdown]
# Grey: the interpreter handles every number. Blue: NumPy handles rows, then matrices. Orange:
# machine code for the whole product. The scale is logarithmic, so equal steps to the right are equal
# *factors*.
#
# ## At the size of a real layer
#
# MNIST has 50,000 training images of 784 pixels. A hidden layer of 50 units takes one product of
# about four billion operations. We leave out the slowest rungs; at the speed measured above, three
# loops over arrays would take this long:

# %%
big_a = rng.random((50_000, 784), dtype=np.float32)
big_b = rng.standard_normal((784, 50), dtype=np.float32)
big_operations = 2 * 50_000 * 784 * 50
print(f"3loops: about {big_operations / operations * ladder['3loops'] / 60:.0f} minutes")

for name in ("broadcast", "einsum", "compiled", "reordered", "blas"):
    took = seconds(LADDER[name], big_a, big_b, rounds=1)
    print(f"{name:<10} {took * 1e3:8.1f} ms {big_operations / took / 1e9:8.1f} GFLOP/s")

# %% [markdown]
# The larger the product, the more the last rung gains: its tiles and its cores need some work to
# share before they pay.
#
# ## Errors are part of the interface
#
# Shapes that do not fit should say so, with both shapes, and not give a wrong result or an index
# error from the depths of a loop:

# %%
try:
    matmul_blas(x_train, weights.T)
except ValueError as error:
    print(error)

# %% [markdown]
# ## What to take along
#
# - Read shapes: `(m, k) @ (k, n) -> (m, n)`. The inner lengths must agree, and vanish.
# - Python is slow *per operation*, so give it few and large operations. Each rung moved a loop out
#   of the interpreter.
# - Broadcasting aligns shapes at the right and repeats what is 1 or missing. `(n, 1)` with `(n,)`
#   gives `(n, n)`.
# - Memory order matters as much as the number of operations.
# - Check a fast version against a slow one that you trust, before you time it.
#
# **To try yourself.** Which orders of the three loops, of the six that there are, are fast when
# compiled, and which are not? Predict it from the strides, then measure. What happens to `reordered`
# when `b` is a transposed view, `weights.T.copy().T`?
#
# Next: [the forward and the backward pass](02_forward_and_backward.ipynb), built from these products.
