# %% [markdown]
# # 2. Forward and backward, by hand
#
# A network learns by two passes. The **forward** pass computes its predictions and one number, the
# loss, that says how bad they are. The **backward** pass computes how the loss would change if each
# number in the network moved a little: the gradient. Here we write both for a network of two layers,
# derive every formula, and check each gradient against PyTorch.
#
# Frameworks derive the backward pass for you. Writing it once by hand takes the magic out of it: it
# turns out to be three short rules, and each looks much like the forward step that it belongs to.

# %%
import inspect
import statistics
import time
import tracemalloc

import matplotlib.pyplot as plt
import numpy as np
import sympy as sp
import torch

from groundup.data import digits
from groundup.foundations import (
    Gradients,
    Lin,
    Model,
    Mse,
    Relu,
    array,
    assert_close,
    forward,
    forward_and_backward,
    lin,
    lin_grad,
    mse,
    mse_grad,
    relu,
    relu_grad,
)


def show(*functions):
    for function in functions:
        print(inspect.getsource(function))


# %% [markdown]
# ## The data and the weights
#
# Handwritten digits of 8 by 8 pixels: a row of `x` is an image of 64 numbers from 0 to 1, and `y`
# says which digit it shows. As in the classic first exercise, our network predicts the digit *as a
# number*. That is no good way to recognise digits (is a 3 between a 2 and a 4?), but it has the
# simplest loss there is, and the gradients work the same way for any other.

# %%
x, y, _, _ = digits()
n, inputs = x.shape
hidden = 50
print("x", x.shape, x.dtype, " y", y.shape, y.dtype)

rng = np.random.default_rng(2)
w1 = rng.standard_normal((inputs, hidden), dtype=np.float32) * np.sqrt(2 / inputs, dtype=np.float32)
b1 = np.zeros(hidden, np.float32)
w2 = rng.standard_normal((hidden, 1), dtype=np.float32) * np.sqrt(2 / hidden, dtype=np.float32)
b2 = np.zeros(1, np.float32)

# %% [markdown]
# ## Forward
#
# A **linear layer** is a matrix product and a bias, which broadcasting adds to every row. Two linear
# layers in a row would be just another linear layer, so between them stands the simplest function
# that is not linear: **ReLU** replaces negative numbers by 0.

# %%
show(lin, relu)

# %%
l1 = lin(x, w1, b1)
l2 = relu(l1)
out = lin(l2, w2, b2)
print("x", x.shape, "-> l1", l1.shape, "-> l2", l2.shape, "-> out", out.shape)

# %% [markdown]
# The loss is the **mean squared error**: the differences between prediction and label, squared, and
# averaged. It looks too simple to get wrong. But look at the shapes:

# %%
print("out", out.shape, " y", y.shape, " out - y", (out - y).shape)

# %% [markdown]
# A column and a vector broadcast to a table of *all pairs*: every prediction against every label. Its
# mean is a perfectly plausible number, and it is not the loss. For a fresh network, whose predictions
# have nothing to do with the labels yet, the two are even nearly equal, so nobody notices. But take
# predictions that are all exactly right:

# %%
right = y[:, None].astype(np.float32)
for name, guess in [("fresh network", out), ("all exactly right", right)]:
    pairs = ((guess - y) ** 2).mean()
    print(f"{name:<18} mean over all pairs {pairs:7.3f}   the loss {mse(guess, y):7.3f}")

# %% [markdown]
# So our `mse` looks at the shapes before it subtracts. `(n, 1)` against `(n,)` is compared element by
# element, and what cannot be meant is an error.

# %%
show(mse)
try:
    mse(out, np.stack([y, y], axis=1))
except ValueError as error:
    print(error)

# %% [markdown]
# ## What a gradient is
#
# We want to lower the loss, so for each weight we ask: if I turn it up a little, does the loss rise
# or fall, and how fast? That is the derivative. The smallest example, with SymPy to do the algebra:

# %%
v = sp.symbols("v")
sp.diff(v**2, v)

# %% [markdown]
# At $v = 3$ the slope of $v^2$ is 6: a step of 0.01 should add about 0.06.

# %%
print((3 + 0.01) ** 2 - 3**2)

# %% [markdown]
# A network is a chain of functions, and the **chain rule** says that slopes multiply. If $u$
# changes twice as fast as $v$, and $L$ three times as fast as $u$, then $L$ changes six times as
# fast as $v$:
#
# $$\frac{dL}{dv} = \frac{dL}{du} \cdot \frac{du}{dv}$$
#
# SymPy knows it too. With $u = 5v + 1$ and $L = u^2$:

# %%
u = sp.symbols("u")
chain = sp.diff(u**2, u).subs(u, 5 * v + 1) * sp.diff(5 * v + 1, v)
direct = sp.diff((5 * v + 1) ** 2, v)
print("by the chain rule:", sp.expand(chain), "  directly:", sp.expand(direct))

# %% [markdown]
# This is the whole of backpropagation. We start at the loss and go backwards. Each step is given the
# gradient of the loss with respect to its *output* and multiplies it with its own slope, to get
# the gradient with respect to its *input*; that is what the step before it is given. We write `dout`
# for the gradient of the loss with respect to `out`. **A gradient always has the shape of the thing
# it belongs to**, because it holds one slope for each number.
#
# Our network has four steps (linear, ReLU, linear, loss) of three kinds. Let us derive the rule of
# each kind, beginning at the loss.
#
# ### The loss
#
# Three predictions $p_i$ and their labels:

# %%
p, t = sp.symbols("p:3"), sp.symbols("t:3")
loss_formula = sum((pi - ti) ** 2 for pi, ti in zip(p, t, strict=True)) / 3
loss_formula

# %%
[sp.factor(sp.diff(loss_formula, pi)) for pi in p]

# %% [markdown]
# Each prediction's slope is twice its own difference, divided by how many there are:
# `2 * (out - y) / n`. (A classic slip is to square a difference left over from somewhere else. Our
# `mse` and `mse_grad` compute it from their own arguments, by the same private helper, so that they
# cannot disagree.)

# %%
show(mse_grad)

# %% [markdown]
# ### ReLU

# %%
relu_formula = sp.Piecewise((v, v > 0), (0, True))
sp.diff(relu_formula, v)

# %% [markdown]
# Where the input was positive the slope is 1, and the gradient passes through unchanged. Where it was
# negative, nothing that comes later can tell that the input moved, so the gradient is 0. At exactly
# 0 there is a corner and no slope; every framework uses 0 there, and so do we.

# %%
show(relu_grad)

# %% [markdown]
# ### The linear layer
#
# This is the one that takes some thought, because it has three inputs: `x`, `w` and `b`. Take a batch
# of 2, with 3 inputs and 2 outputs, and let SymPy have a symbol for every single number:

# %%
X = sp.Matrix(2, 3, lambda i, j: sp.Symbol(f"x{i}{j}"))
W = sp.Matrix(3, 2, lambda i, j: sp.Symbol(f"w{i}{j}"))
B = sp.Matrix(1, 2, lambda i, j: sp.Symbol(f"b{j}"))
OUT = X * W + sp.ones(2, 1) * B
OUT

# %% [markdown]
# What comes later turns these four outputs into a loss. We need not know how: all that reaches us
# is $G$, the slope of the loss for each of the four. When every output moves a little, the loss moves
# by the sum of slope times movement, so for our derivatives we may take that sum as the loss:

# %%
G = sp.Matrix(2, 2, lambda i, j: sp.Symbol(f"g{i}{j}"))
L = sum(G[i, j] * OUT[i, j] for i in range(2) for j in range(2))


def slopes(of):
    """The derivative of L with respect to every element of a matrix, in the shape of the matrix."""
    return sp.Matrix(*of.shape, lambda i, j: sp.diff(L, of[i, j]))


slopes(W)

# %% [markdown]
# Look at the first element. Weight $w_{00}$ multiplies input 0, in every image of the batch, and
# goes into output 0: so its slope is $x_{00} g_{00} + x_{10} g_{10}$, a sum over the batch. That is
# column 0 of $X$ times column 0 of $G$; in other words, a matrix product with $X$ transposed. We claim:
#
# $$dX = G\,W^T \qquad dW = X^T G \qquad db = \text{the sum of } G \text{ over the batch}$$
#
# and let SymPy compare all elements:

# %%
assert slopes(X) == G * W.T
assert slopes(W) == X.T * G
assert slopes(B) == sp.ones(1, 2) * G
print("dX, dW and db: equal in every element")

# %% [markdown]
# The shapes alone would nearly have told us. `dw` has the shape of `w`, (inputs, outputs); from `x`
# (n, inputs) and `dout` (n, outputs) there is just one product that gives that: `x.T @ dout`. Likewise
# `dx`, (n, inputs), can only be `dout @ w.T`.

# %%
show(lin_grad)

# %% [markdown]
# ## Both passes
#
# Now the backward pass writes itself. Each line of the forward pass has its counterpart, in
# reverse order, and what a step needs to remember is what it was given:

# %%
loss = mse(out, y)

dout = mse_grad(out, y)
dl2, dw2, db2 = lin_grad(dout, l2, w2)
dl1 = relu_grad(dl2, l1)
dx, dw1, db1 = lin_grad(dl1, x, w1)

for name, value, gradient in [
    ("w1", w1, dw1),
    ("b1", b1, db1),
    ("w2", w2, dw2),
    ("b2", b2, db2),
    ("x", x, dx),
]:
    print(f"{name:<3} {value.shape!s:<11} its gradient {gradient.shape!s}")

# %% [markdown]
# As one function of the library:

# %%
show(forward_and_backward)

# %% [markdown]
# ## Is it right?
#
# Never believe a gradient that has not been checked. There are two good ways.
#
# **Nudge a weight.** The definition itself: move one weight a little up and a little down, and see how
# the loss changes. It needs no theory at all, only double precision, since we subtract two numbers that
# are nearly equal.

# %%
doubles = [v.astype(np.float64) for v in (x, y, w1, b1, w2, b2)]
_, gradients = forward_and_backward(*doubles)
step = 1e-6
for index in [(20, 0), (36, 7), (43, 49)]:
    losses = []
    for sign in (+1, -1):
        nudged = [v.copy() for v in doubles]
        nudged[2][index] += sign * step
        losses.append(forward(*nudged))
    slope = (losses[0] - losses[1]) / (2 * step)
    print(f"w1{list(index)!s:<9} nudged {slope:+.8f}   backward pass {gradients.dw1[index]:+.8f}")

# %% [markdown]
# **Ask PyTorch.** Its autograd applies the same rules to any program. We run the same network in it and
# compare all five gradients, in every element.


# %%
def torch_gradients(x, y, w1, b1, w2, b2):
    x, y, w1, b1, w2, b2 = (torch.tensor(v) for v in (x, y, w1, b1, w2, b2))
    wanted = [w1, b1, w2, b2, x]
    for tensor in wanted:
        tensor.requires_grad_()
    out = (x @ w1 + b1).relu() @ w2 + b2
    loss = torch.nn.functional.mse_loss(out.squeeze(-1), y)
    loss.backward()
    return loss.item(), Gradients(*(tensor.grad.numpy() for tensor in wanted))


def compare(*arrays, rtol, atol):
    loss, ours = forward_and_backward(*arrays)
    torch_loss, theirs = torch_gradients(*arrays)
    print(f"loss: ours {loss:.9f}, PyTorch's {torch_loss:.9f}")
    for name, a, b in zip(Gradients._fields, ours, theirs, strict=True):
        assert_close(a, b, rtol=rtol, atol=atol)
        print(f"{name:<4} {a.shape!s:<11} largest difference {np.abs(a - b).max():.1e}")


compare(*doubles, rtol=1e-9, atol=1e-12)

# %% [markdown]
# All equal up to the rounding of double precision. In single precision, which is what one trains in,
# the same comparison leaves single precision's rounding:

# %%
y_float = y.astype(np.float32)
compare(x, y_float, w1, b1, w2, b2, rtol=1e-3, atol=1e-4)

# %% [markdown]
# ## Memory: the array that must not exist
#
# Here is another way to write the weights' gradient. Each image contributes one table, its inputs times
# its output gradients; stack the tables of all images, and sum:
#
#     dw = (x[:, :, None] * dout[:, None, :]).sum(0)
#
# Right, and common in teaching code. But the array before the sum has the shape (n, inputs, outputs). The
# product `x.T @ dout` adds as it goes, and needs no more than its result. The difference at a batch of
# 1,437 small images:


# %%
def peak_megabytes(function):
    """The most memory that one call held at a time."""
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def outer_and_sum():
    return (x[:, :, None] * dl1[:, None, :]).sum(0)


assert_close(outer_and_sum(), x.T @ dl1, rtol=1e-3, atol=1e-4)
print(f"outer product and sum: {peak_megabytes(outer_and_sum):8.3f} MB")
print(f"x.T @ dout:            {peak_megabytes(lambda: x.T @ dl1):8.3f} MB")

# %% [markdown]
# At MNIST's size, 50,000 images of 784 pixels and 50 hidden units, we measure the whole of
# `forward_and_backward`, all five gradients included, and only calculate what that one array would take:

# %%
n_big = 50_000
big = [
    rng.random((n_big, 784), dtype=np.float32),
    rng.integers(0, 10, n_big).astype(np.float32),
    rng.standard_normal((784, hidden), dtype=np.float32) * np.sqrt(2 / 784, dtype=np.float32),
    b1,
    w2,
    b2,
]

times = []
for _ in range(6):
    start = time.perf_counter()
    _, big_gradients = forward_and_backward(*big)
    times.append(time.perf_counter() - start)
took = statistics.median(times[1:])  # the first one warms up
peak = peak_megabytes(lambda: forward_and_backward(*big))

print(f"forward and backward:            {took * 1e3:.0f} ms")
print(f"its peak memory:                 {peak:,.0f} MB")
print(f"of which dx, which it returns:   {big_gradients.dx.nbytes / 1e6:,.0f} MB")
print(f"the array that does not exist:   {n_big * 784 * hidden * 4 / 1e6:,.0f} MB")

# %% [markdown]
# ## Layers that remember
#
# Functions make everything visible, but with twenty layers, handing each its arguments by hand gets
# tedious. So let a layer be an object that remembers what it was given and what it returned. Its
# `backward` then needs no arguments: it reads the gradient of its output, and writes that of its inputs.
# A gradient belongs to an array, and that is where we keep it: `array(...)` gives a NumPy array that can
# carry one, as `.g`.

# %%
show(Relu, Lin, Mse, Model)

# %%
xs, ws = array(x), [array(v.copy()) for v in (w1, b1, w2, b2)]
model = Model(*ws)
print(f"loss {model(xs, y):.3f}")
model.backward()

assert_close(ws[0].g, dw1, rtol=1e-4, atol=1e-5)
assert_close(xs.g, dx, rtol=1e-4, atol=1e-5)
print("gradients: the same as by hand")

# %% [markdown]
# ## What it is all for
#
# Move every weight a little against its slope, and the loss falls. Do it again. That is training:

# %%
losses = []
for _ in range(200):
    losses.append(model(xs, y))
    model.backward()
    for w in ws:
        w -= 0.01 * w.g

print(f"loss before {losses[0]:.2f}, after {len(losses)} steps {model(xs, y):.2f}")
print(f"always predicting the mean digit would give {np.var(y):.2f}")

fig, ax = plt.subplots(figsize=(6, 2.6))
ax.plot(losses, color="#4878a8")
ax.axhline(np.var(y), color="#888888", linestyle=":", label="predicting the mean")
ax.set_ylim(0, 1.5 * np.var(y))
ax.set_xlabel("step")
ax.set_title("mean squared error", loc="left")
ax.legend(frameon=False)
ax.spines[["top", "right"]].set_visible(False)

# %% [markdown]
# ## What to take along
#
# - A backward pass is the forward pass's steps in reverse; each multiplies the gradient that it is given
#   with its own slope.
# - `mse`: `2 * (out - y) / n`. `relu`: `(x > 0) * dout`. `lin`: `dout @ w.T`, `x.T @ dout`, `dout.sum(0)`.
# - A gradient has the shape of what it belongs to. If the shapes fit in only one way, that is the way.
# - `(n, 1)` and `(n,)` broadcast to `(n, n)`: let the loss refuse what cannot be meant.
# - Let a matrix product do the summing: it needs no memory beyond its result.
# - Check every gradient: nudge a weight, and compare with an independent implementation.
#
# **To try yourself.** Replace ReLU by $\tanh$: derive its slope with SymPy, and write `tanh_grad` so that
# it uses only the *output* of the forward pass. Then nudge a weight, to check.
