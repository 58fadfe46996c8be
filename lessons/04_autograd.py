# %% [markdown]
# # 4. Autograd
#
# So far we wrote two methods for each layer: a `forward`, and a `bwd` that sends the gradient back. In
# this lesson we delete every `bwd`, and the gradients still come out. To see why, we write a small engine for
# automatic differentiation ourselves, in some fifty lines of NumPy. Then we look at the library's, which is
# the same idea, and use what it adds: hand-written and automatic gradients in one model,
# gradients of gradients, and operations of our own.

# %%
import inspect
import itertools
import sys
import time

import matplotlib.pyplot as plt
import numpy as np
import torch

import groundup as gu
from groundup import nn
from groundup.check import check_layers
from groundup.data import digits
from groundup.foundations import assert_close, forward_and_backward


def show(*things):
    for thing in things:
        print(inspect.getsource(thing))


x, labels, _, _ = digits()
y = labels.astype(np.float32)
n, inputs = x.shape
hidden = 50

rng = np.random.default_rng(4)
w1 = rng.standard_normal((inputs, hidden), dtype=np.float32) * np.float32((2 / inputs) ** 0.5)
w2 = rng.standard_normal((hidden, 1), dtype=np.float32) * np.float32((2 / hidden) ** 0.5)
b1, b2 = np.zeros(hidden, np.float32), np.zeros(1, np.float32)

# %% [markdown]
# The data are handwritten digits, a row of `x` an image of 8 by 8 pixels; the network is linear, ReLU,
# linear, and predicts the digit as a number; the loss is the mean squared error. What the right
# gradients are, `forward_and_backward` says, in which [lesson 2](02_forward_and_backward.ipynb) wrote out
# every line by hand:

# %%
loss_by_hand, by_hand = forward_and_backward(x, y, w1, b1, w2, b2)
print(f"loss {loss_by_hand:.4f}, gradients", {k: v.shape for k, v in by_hand._asdict().items()})

# %% [markdown]
# ## Without a single `bwd`
#
# The layers of [lesson 3](03_layers.ipynb), with half of each deleted:


# %%
class Relu(nn.Module):
    def forward(self, inp):
        return inp.clamp_min(0.0)


class Linear(nn.Module):
    def __init__(self, w, b):
        self.w, self.b = nn.Parameter(w), nn.Parameter(b)

    def forward(self, inp):
        return inp @ self.w + self.b


class Mse(nn.Module):
    def forward(self, inp, targ):
        return ((inp.squeeze(-1) - targ) ** 2).mean()


class Model(nn.Module):
    def __init__(self, w1, b1, w2, b2):
        self.layers = [Linear(w1, b1), Relu(), Linear(w2, b2)]
        self.loss = Mse()

    def forward(self, x, y):
        for layer in self.layers:
            x = layer(x)
        return self.loss(x, y)


# %%
def compare(gradients, others):
    """Arrays by name, against others in the same order."""
    for (name, ours), theirs in zip(gradients.items(), others, strict=True):
        assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
        print(f"{name:<11} {ours.shape!s:<11} largest difference {np.abs(ours - theirs).max():.1e}")


model = Model(w1, b1, w2, b2)
model(x, y).backward()
gradients = {name: p.g.numpy() for name, p in model.named_parameters()}
compare(gradients, by_hand[:4])

# %% [markdown]
# The same gradients. Who wrote the backward pass?
#
# ## An engine in fifty lines
#
# The idea is old and simple. However long a program, the computer runs it as a sequence of small
# operations: a product, a sum, a maximum. For each *operation* we know the rule for the way back, and there are
# only a few kinds. So while the program runs, let each result **remember which operation made it, from what**.
# Afterwards we walk through these notes backwards.
#
# A `Var` is an array with such a note: its inputs; a `rule` that takes the gradient of the result
# and returns one gradient for each input; and a serial number, counting up.


# %%
class Var:
    serials = itertools.count()

    def __init__(self, data, name="leaf", inputs=(), rule=None):
        self.data, self.name, self.inputs, self.rule = np.asarray(data), name, inputs, rule
        self.serial, self.g = next(Var.serials), None

    def __add__(self, other):
        return Var(self.data + other.data, "add", (self, other), lambda g: (g, g))

    def __sub__(self, other):
        return Var(self.data - other.data, "sub", (self, other), lambda g: (g, -g))

    def __mul__(self, other):
        return Var(
            self.data * other.data,
            "mul",
            (self, other),
            lambda g: (g * other.data, g * self.data),
        )

    def __matmul__(self, other):
        return Var(
            self.data @ other.data,
            "matmul",
            (self, other),
            lambda g: (g @ other.data.T, self.data.T @ g),
        )

    def relu(self):
        return Var(self.data.clip(0), "relu", (self,), lambda g: (g * (self.data > 0),))

    def mean(self):
        n, shape = self.data.size, self.data.shape
        return Var(self.data.mean(), "mean", (self,), lambda g: (np.full(shape, g / n),))

    def backward(self):
        reached = history(self)
        for var in reached:
            var.g = np.zeros_like(var.data)
        self.g = np.ones_like(self.data)
        for var in reversed(reached):
            if var.rule:
                for inp, contribution in zip(var.inputs, var.rule(var.g), strict=True):
                    inp.g = inp.g + summed_to(inp.data.shape, contribution)


def history(end):
    """Everything that `end` was computed from, and `end` itself, in the order in which it was made."""
    found, waiting = {}, [end]
    while waiting:
        var = waiting.pop()
        if var.serial not in found:
            found[var.serial] = var
            waiting += var.inputs
    return [found[serial] for serial in sorted(found)]


def summed_to(shape, g):
    """Where broadcasting copied, the gradient sums: g back in the shape of what was broadcast."""
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    return g.sum(axis=tuple(i for i, length in enumerate(shape) if length == 1), keepdims=True)


# %% [markdown]
# That is all. The network is an expression, and `backward` is a loop:

# %%
leaves = [Var(v) for v in (w1, b1, w2, b2, x)]
v_w1, v_b1, v_w2, v_b2, v_x = leaves
difference = (v_x @ v_w1 + v_b1).relu() @ v_w2 + v_b2 - Var(y[:, None])
loss = (difference * difference).mean()
loss.backward()

print(f"loss {loss.data:.4f}, by hand {loss_by_hand:.4f}")
compare({name: leaf.g for name, leaf in zip(by_hand._fields, leaves, strict=True)}, by_hand)

# %% [markdown]
# The notes that it walks through are called a **tape**, or a record. Here is ours, last line first, as the backward
# pass reads it:


# %%
def print_record(end):
    for var in reversed(history(end)):
        inputs = ", ".join(str(inp.serial) for inp in var.inputs)
        print(f"{var.serial:>3}  {var.name:<7} of {inputs or '-':<7} shape {var.data.shape}")


print_record(loss)

# %% [markdown]
# Note the line `mul`: it takes the same input twice, `difference * difference`. Each use contributes, and
# `backward` adds: nothing has to be said about it anywhere.
#
# ## Why in this order?
#
# We handle the latest result first. What an operation uses was made before it, so has a smaller serial.
# Turned around: by the time it is a result's turn, *everything that used it has been handled*, and its
# gradient is complete. It is passed on exactly once.
#
# What if we did the obvious thing instead, and passed each contribution on as soon as it arrives? The result
# would be right, since slopes add. But look at a value that is doubled again and again, `x = x + x`. Each
# doubling has two ways back to the one before, and each of these has two more...


# %%
def pass_on(var, g):
    """Send a contribution all the way back at once. Returns how many rules were called."""
    if not var.rule:
        return 0
    return 1 + sum(pass_on(i, c) for i, c in zip(var.inputs, var.rule(g), strict=True))


print("doublings   rules called in order   rules called at once")
for doublings in (1, 2, 5, 10, 15):
    doubled = Var(1.0)
    for _ in range(doublings):
        doubled = doubled + doubled
    in_order = sum(var.rule is not None for var in history(doubled))
    print(f"{doublings:>9} {in_order:>23} {pass_on(doubled, 1.0):>22,}")

# %% [markdown]
# $2^n - 1$ against $n$. Backpropagation is cheap, of about the cost of a forward pass, only because each
# gradient is added up **before** it travels on. A residual network of 15 blocks doubles its paths 15 times.
#
# ## Why without recursion?
#
# A common way to get the order is a recursive function: visit the inputs, then myself. It is elegant, and
# works until the network gets deep. Python stops a recursion at some depth:


# %%
def visit(var, seen, order):
    if var not in seen:
        seen.add(var)
        for inp in var.inputs:
            visit(inp, seen, order)
        order.append(var)


end = Var(1.0)
for _ in range(sys.getrecursionlimit()):
    end = end + Var(1.0)
try:
    visit(end, set(), [])
except RecursionError as error:
    print("RecursionError:", error)
print("our history, without recursion:", len(history(end)), "results")

# %% [markdown]
# A recurrent network over a long text, or a simulation with many time steps, is easily that deep. Our
# `history` keeps its own list of what is still to visit, and sorts by serial. So does the library. A chain of
# 100,000 products, in which we know the result: $w^n$, with the slope $n\,w^{n-1}$.

# %%
steps = 100_000
w = gu.Tensor(np.array(1.00001), requires_grad=True)

start = time.perf_counter()
product = gu.Tensor(np.array(1.0))
for _ in range(steps):
    product = product * w
forward_took = time.perf_counter() - start

start = time.perf_counter()
product.backward()
backward_took = time.perf_counter() - start

print(f"forward {forward_took:.2f} s, backward {backward_took:.2f} s")
print(f"slope {w.g.item():.6f}, should be {steps * w.item() ** (steps - 1):.6f}")
del product

# %% [markdown]
# ## The library's engine
#
# In `groundup`, a `Var` is a `Tensor`, and a rule belongs to an **op**. An op looks like a layer, a `forward` and
# a `bwd` side by side, only that its `forward` works on NumPy arrays. Here is the product:

# %%
show(type(gu.ops.mul))

# %% [markdown]
# As in a layer, `x.g = v` contributes `v`; adding up and summing back to a shape are the engine's business. How it
# finds what to walk through, you know: a list of what is still to visit, no recursion, sorted by serial.
#
# Each tensor has the note of how it was made in `node`. So the library's record of the same model prints as
# ours did. (The model that we wrote computes the loss with a power of two and squeezes away an axis;
# apart from that, it is the same.)


# %%
def record(end):
    """The notes of what `end` was computed from, the latest first."""
    found, waiting = {}, [end]
    while waiting:
        node = waiting.pop().node
        if node is not None and node.serial not in found:
            found[node.serial] = node
            waiting += node.inputs
    return [found[serial] for serial in sorted(found, reverse=True)]


print(" <- ".join(node.name for node in record(model(x, y))))

# %% [markdown]
# ## The same model in a few lines
#
# `nn` has these layers ready made. This is the whole network, and some training:

# %%
gu.manual_seed(0)
model = nn.Sequential(nn.Linear(inputs, hidden), nn.Relu(), nn.Linear(hidden, 1))
mse = nn.Mse()
optimizer = gu.optim.SGD(model.parameters(), lr=0.05)

print(model)
for step in range(101):
    loss = mse(model(x), y)
    loss.backward()
    optimizer.step()
    if step % 25 == 0:
        print(f"step {step:>3}  loss {loss:.3f}")

# %% [markdown]
# ## Parameters in plain lists and dicts
#
# `model.parameters()` found them by looking through the attributes, into lists, tuples and
# dicts. That is less of a matter of course than it looks. The fast.ai notebook from which this series set out
# ends at this very point with a model on PyTorch's `nn.Module`, its layers in a plain list and its weights as
# tensors. In short (and, if the line `from torch import nn` got lost on the way, with a NameError):


# %%
class TorchModel(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = [torch.nn.Linear(64, 50), torch.nn.ReLU(), torch.nn.Linear(50, 1)]

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


hidden_from_torch = TorchModel()
hidden_from_torch(torch.tensor(x)).mean().backward()  # works, and fills in gradients
print("PyTorch finds", [name for name, _ in hidden_from_torch.named_parameters()])
try:
    torch.optim.SGD(hidden_from_torch.parameters(), lr=0.1)
except ValueError as error:
    print("ValueError:", error)

# %% [markdown]
# Forward and backward run, gradients are there, and yet there is nothing to train: PyTorch looks for modules
# only in attributes, and a list has to be an `nn.ModuleList`. Here, a list is a list and a dict is a dict, and
# the path is the name:


# %%
class Branches(nn.Module):
    def __init__(self):
        self.body = [nn.Linear(64, 50), nn.Relu()]
        self.heads = {"number": nn.Linear(50, 1), "class": nn.Linear(50, 10)}
        self.temperature = nn.Parameter([1.0])

    def forward(self, x):
        for layer in self.body:
            x = layer(x)
        return {name: head(x) / self.temperature for name, head in self.heads.items()}


branches = Branches()
for name, parameter in branches.named_parameters():
    print(f"{name:<16} {parameter.shape}")

# %% [markdown]
# It returns a dict of outputs. Why not? The record goes through whatever Python does.

# %%
out = branches(x)
loss = nn.Mse()(out["number"], y) + nn.CrossEntropy()(out["class"], labels)
loss.backward()
print(
    f"loss {loss:.3f}; every parameter has a gradient:",
    all(p.g is not None for p in branches.parameters()),
)

# %% [markdown]
# ## With and without `bwd`, mixed
#
# The layers in `nn` do have hand-written `bwd`s: they can be read, and each is one step instead of several. A
# layer without one works beside them. Take the Swish function,
# $x \cdot \sigma(x)$, once without and once with a `bwd`. By the product rule, with $s = \sigma(x)$ and
# $s' = s (1 - s)$, its slope is
#
# $$\frac{d}{dx}\, x s = s + x s (1 - s) = s + out \cdot (1 - s)$$


# %%
class Swish(nn.Module):
    def forward(self, inp):
        return inp * inp.sigmoid()


class SwishByHand(Swish):
    def bwd(self, out, inp):
        s = inp.sigmoid()
        inp.g = (s + out * (1.0 - s)) * out.g


gu.manual_seed(0)
mixed = nn.Sequential(
    nn.Linear(64, 32),  # has a bwd
    SwishByHand(),  # has one too
    nn.Linear(32, 16),
    Swish(),  # has none: its ops do it
    lambda inp: inp - inp.mean(1, keepdims=True),  # not even a class
    nn.Linear(16, 10),
)
cross_entropy = nn.CrossEntropy()
loss = cross_entropy(mixed(x), labels)
print(" <- ".join(node.name for node in record(loss)))

# %% [markdown]
# Read the record: a module with a `bwd` is **one step**, under its own name; one without shows the ops that it
# ran. With `gu.autograd_only()` all hand-written rules are ignored, and we see what the ops alone give:

# %%
loss.backward()
ours = {name: p.g.numpy() for name, p in mixed.named_parameters()}

with gu.autograd_only():
    loss = cross_entropy(mixed(x), labels)
    print(" <- ".join(node.name for node in record(loss)))
    loss.backward()
compare(ours, [p.g.numpy() for p in mixed.parameters()])

# %% [markdown]
# Two independent ways to the same gradients. `check_layers` makes a test of this, layer by layer,
# with finite differences as the third witness:

# %%
for row in check_layers(mixed, cross_entropy, x[:8], labels[:8]):
    by_ops = "no bwd" if row.vs_ops is None else f"{row.vs_ops:.0e}"
    print(
        f"{row.layer:<9} {row.kind:<13} {row.gradient:<6} vs ops {by_ops:<7} "
        f"vs differences {row.vs_differences:.0e}  {'ok' if row.ok else 'WRONG'}"
    )

# %% [markdown]
# ## Gradients of gradients
#
# An op's `bwd` is itself written with Tensor ops. So a backward pass is a program like any other, can be
# recorded too (`create_graph=True`), and differentiated again. The derivatives of $x^3$ are $3x^2$, then $6x$, then 6:

# %%
t = gu.Tensor(2.0, requires_grad=True)
cube = t**3
(first,) = gu.grad(cube, [t], create_graph=True)
(second,) = gu.grad(first, [t], create_graph=True)
(third,) = gu.grad(second, [t])
print(f"2**3 = {cube:g}, slope {first:g}, slope of the slope {second:g}, and of that {third:g}")

# %% [markdown]
# (`gu.grad(out, inputs)` returns gradients instead of writing them into `.g`.) For a whole curve at once, we
# differentiate the sum: each point affects only its own term.

# %%
t = gu.Tensor(np.linspace(-3, 3, 200), requires_grad=True)
curves = [t.tanh()]
for _ in range(3):
    curves += gu.grad(curves[-1].sum(), [t], create_graph=True)

tt = torch.linspace(-3, 3, 200, dtype=torch.float64, requires_grad=True)
expected = tt.tanh()
fig, ax = plt.subplots(figsize=(6, 2.8))
for order, (curve, colour) in enumerate(
    zip(curves, ("#222222", "#4878a8", "#d08030", "#5a9a5a"), strict=True)
):
    assert_close(curve.numpy(), expected.detach().numpy(), rtol=1e-9, atol=1e-12)
    ax.plot(t.numpy(), curve.numpy(), color=colour, label="tanh" + "'" * order)
    (expected,) = torch.autograd.grad(expected.sum(), tt, create_graph=True)
ax.legend(frameon=False, ncols=4, loc="upper center", bbox_to_anchor=(0.5, 1.17))
ax.grid(alpha=0.3)
ax.spines[["top", "right"]].set_visible(False)
print("tanh and three derivatives: equal to PyTorch's at all points")

# %% [markdown]
# ## A gradient penalty
#
# What are they good for? Sometimes the gradient itself belongs into the loss. A flexible network that is fitted
# to few points may swing wildly between them. If a curve should be smooth, we can say so:
#
# $$loss = \text{mean}\big((f(x_i) - y_i)^2\big) + \lambda \cdot \text{mean}\big(f'(t)^2\big)$$
#
# with $t$ spread over the whole range. To train this, one needs the gradient, in the weights, of an expression that
# contains $f'$. First the check against PyTorch, on a network whose layers have hand-written `bwd`s: these too are
# differentiated.


# %%
def penalty(model, at):
    """The mean squared slope of a model from one number to one number, at the given points."""
    points = gu.Tensor(at, requires_grad=True)
    (slope,) = gu.grad(model(points).sum(), [points], create_graph=True)
    return (slope * slope).mean()


points = np.sort(rng.uniform(-2, 2, 14)).astype(np.float32)[:, None]
noisy = (np.sin(2 * points) + 0.3 * rng.standard_normal(points.shape)).astype(np.float32)
everywhere = np.linspace(-2, 2, 60, dtype=np.float32)[:, None]

net = nn.Sequential(nn.Linear(1, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 1))
(mse(net(points), noisy) + 0.05 * penalty(net, everywhere)).backward()

twins = [torch.tensor(p.numpy(), requires_grad=True) for p in net.parameters()]
wa, ba, wb, bb, wc, bc = twins


def f(t):
    return ((t @ wa + ba).tanh() @ wb + bb).tanh() @ wc + bc


at = torch.tensor(everywhere, requires_grad=True)
(slope,) = torch.autograd.grad(f(at).sum(), at, create_graph=True)
fit = torch.nn.functional.mse_loss(f(torch.tensor(points)), torch.tensor(noisy))
(fit + 0.05 * (slope * slope).mean()).backward()
compare(
    {name: p.g.numpy() for name, p in net.named_parameters()}, [twin.grad.numpy() for twin in twins]
)

# %%
fig, ax = plt.subplots(figsize=(6.4, 3))
for strength, colour in [(0.0, "#d08030"), (0.02, "#4878a8")]:
    gu.manual_seed(1)
    net = nn.Sequential(nn.Linear(1, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 1))
    optimizer = gu.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(1500):
        loss = mse(net(points), noisy)
        if strength:
            loss = loss + strength * penalty(net, everywhere)
        loss.backward()
        optimizer.step()
    with gu.no_grad():
        curve = net(everywhere).numpy()
    error = np.mean((curve - np.sin(2 * everywhere)) ** 2)
    label = f"penalty {strength:g}: error {error:.3f}"
    ax.plot(everywhere, curve, color=colour, label=label)
ax.plot(everywhere, np.sin(2 * everywhere), color="#888888", linestyle=":", label="the truth")
ax.plot(points, noisy, "o", color="#222222", markersize=4)
ax.legend(frameon=False, loc="upper right")
ax.spines[["top", "right"]].set_visible(False)

# %% [markdown]
# Without the penalty, the network goes after the noise of each single point. (The error is the mean squared distance
# from the truth, which it never saw.) Physics-informed networks and some generative models are
# trained with terms of this kind.
#
# ## An op of your own
#
# Anything that NumPy can compute can become an op: a `forward` over arrays and a `bwd` over
# Tensors. Softplus, $\log(1 + e^x)$, is a ReLU with a smooth bend. Written down naively it overflows, since $e^{1000}$
# is infinite. NumPy's `logaddexp` does not. Its slope is $e^x / (1 + e^x)$, which is the sigmoid:


# %%
class Softplus(gu.Op):
    def forward(self, x):
        return np.logaddexp(0, x)

    def bwd(self, out, x):
        x.g = x.sigmoid() * out.g


softplus = Softplus()
t = gu.Tensor([-1000.0, -1.0, 0.0, 1.0, 1000.0], requires_grad=True)
value = softplus(t)
(slope,) = gu.grad(value.sum(), [t], create_graph=True)
(bend,) = gu.grad(slope.sum(), [t])
print("value", value.numpy())
print("slope", slope.numpy())
print("bend ", bend.numpy())

# %% [markdown]
# It has second derivatives at once, since its `bwd` is made of ops. And it is checked like everything else:
# against PyTorch, and against finite differences, in a network. (`check_layers` looks at modules, so we
# wrap the op in one without a `bwd`.)

# %%
tt = torch.tensor(t.numpy(), requires_grad=True)
theirs = torch.nn.functional.softplus(tt)
(their_slope,) = torch.autograd.grad(theirs.sum(), tt)
assert_close(value.numpy(), theirs.detach().numpy(), rtol=1e-6)
assert_close(slope.numpy(), their_slope.numpy(), rtol=1e-6)
print("the same as PyTorch's")


class SoftplusLayer(nn.Module):
    def forward(self, inp):
        return softplus(inp)


smooth = nn.Sequential(nn.Linear(64, 20), SoftplusLayer(), nn.Linear(20, 10))
for row in check_layers(smooth, cross_entropy, x[:8], labels[:8]):
    if row.kind == "SoftplusLayer":
        print(row)

# %% [markdown]
# ## What to take along
#
# - Autograd is a record of what ran, and a loop through it, latest first. Each operation knows only its own
#   rule; the chain rule is the loop.
# - A gradient is complete when everything that used the value has been handled. Descending serials guarantee it,
#   and make each rule run once, instead of once for each path.
# - No recursion: a deep network must not be an error.
# - A hand-written `bwd` and the gradient of the ops are two answers to one question. Use either, mix them, and let
#   one check the other.
# - Rules that are made of ops have derivatives themselves.
#
# **To try yourself.** Give `Var` a `tanh` and an `exp`, and a division. Then write an op `Sinc` for $\sin(x)/x$
# (`np.sinc` is $\sin(\pi x)/(\pi x)$): what must its `bwd` do at 0? Check it with `check_layers`, and look at its second derivative
# there.
