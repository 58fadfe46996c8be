# %% [markdown]
# # 3. Layers
#
# A network is a row of layers, and a layer is two things: how it computes its output, and how it sends
# a gradient back from its output to its inputs. In this lesson a layer becomes a class with exactly these
# two methods, `forward` and `bwd`, side by side. We get there in three steps: classes that remember what
# they saw; a base class that does the remembering for them; and `gu.nn.Module`, which also gets right
# what the first two get wrong.
#
# On the way we find out what a gradient does when a value is used **twice**, which is where most
# hand-written backward passes break. At the end we check everything against PyTorch, measure what the
# comfort costs, and plant three bugs to see whether they are caught.

# %%
import inspect
import statistics
import time
import tracemalloc

import matplotlib.pyplot as plt
import numpy as np
import torch

import groundup as gu
from groundup import foundations, nn
from groundup.backward import Sweep
from groundup.check import check_layers
from groundup.data import digits
from groundup.foundations import array, assert_close


def show(*things):
    for thing in things:
        print(inspect.getsource(thing))


# %% [markdown]
# ## The network
#
# Handwritten digits of 8 by 8 pixels, a row an image; the label is the digit that it shows. Our network
# predicts it as a number, with two linear layers, a ReLU between them, and the mean squared error as
# the loss:
#
#     x (n, 64) -> linear -> (n, 50) -> relu -> (n, 50) -> linear -> (n, 1) -> mse, with y (n,) -> loss

# %%
x, labels, _, _ = digits()
y = labels.astype(
    np.float32
)  # numbers to predict: a float32 minus an integer is a float64 in NumPy
n, inputs = x.shape
hidden = 50

rng = np.random.default_rng(3)


def kaiming(n_in, n_out):
    """Weights of standard deviation sqrt(2 / n_in), which suit layers that end in a ReLU."""
    return rng.standard_normal((n_in, n_out), dtype=np.float32) * np.float32((2 / n_in) ** 0.5)


w1, b1 = kaiming(inputs, hidden), np.zeros(hidden, np.float32)
w2, b2 = kaiming(hidden, 1), np.zeros(1, np.float32)
print("x", x.shape, x.dtype, " y", y.shape, y.dtype)

# %% [markdown]
# Each step has a rule for the way back, which the [previous lesson](02_forward_and_backward.ipynb) derives.
# `dout` is the gradient of the loss with respect to the step's output, and has that output's shape:
#
# | step | forward | backward |
# |---|---|---|
# | linear | `out = x @ w + b` | `dx = dout @ w.T`, `dw = x.T @ dout`, `db = dout.sum(0)` |
# | ReLU | `out = max(x, 0)` | `dx = (x > 0) * dout` |
# | mean squared error | `loss = ((out - y)**2).mean()` | `dout = 2 * (out - y) / n` |
#
# ## First step: layers that remember
#
# Look at what the rules need: the inputs of the forward pass, and the gradient of its output. So let a
# layer be an object that keeps both. `backward` then needs no arguments. (`array(...)` is a NumPy
# array that can carry its gradient, as `.g`.)

# %%
show(foundations.Relu, foundations.Lin, foundations.Mse, foundations.Model)

# %%
by_hand = foundations.Model(*(array(v) for v in (w1, b1, w2, b2)))
xs = array(x)
print(f"loss {by_hand(xs, y):.4f}")
by_hand.backward()

first, _, last = by_hand.layers
reference = {"w1": first.w.g, "b1": first.b.g, "w2": last.w.g, "b2": last.b.g, "x": xs.g}
for name, gradient in reference.items():
    print(f"{name:<3} gradient of shape {gradient.shape}")

# %% [markdown]
# It works. But read the three classes again: they all keep what they were given, they all but the last keep
# what they returned, and only two lines in each say anything about *this* layer.
#
# ## Second step: the remembering moves out
#
# What repeats goes into a base class. It remembers the arguments and the output, and hands them
# to `bwd`. (We call it `Remembers`, since that is what it does.)


# %%
class Remembers:
    def __call__(self, *args):
        self.args = [array(a) for a in args]
        self.out = array(self.forward(*self.args))
        return self.out

    def backward(self):
        self.bwd(self.out, *self.args)


# %% [markdown]
# What is left of a layer is its mathematics: a `forward`, and next to it a `bwd` with the same names.


# %%
class Relu(Remembers):
    def forward(self, inp):
        return inp.clip(0)

    def bwd(self, out, inp):
        inp.g = (inp > 0) * out.g


class Linear(Remembers):
    def __init__(self, w, b):
        self.w, self.b = array(w), array(b)

    def forward(self, inp):
        return inp @ self.w + self.b

    def bwd(self, out, inp):
        inp.g = out.g @ self.w.T
        self.w.g = inp.T @ out.g
        self.b.g = out.g.sum(0)


class Mse(Remembers):
    def forward(self, inp, targ):
        return ((inp.squeeze(-1) - targ) ** 2).mean()

    def bwd(self, out, inp, targ):
        diff = inp.squeeze(-1) - targ
        inp.g = 2 * diff[:, None] / len(targ) * out.g


# %% [markdown]
# One thing is new: `Mse` multiplies with `out.g` like everyone else. It is a layer among layers, and its
# output might be doubled, or added to another loss. Whoever starts the backward pass says what the
# loss's own gradient is: 1, since the loss moves by exactly as much as itself.

# %%
layers = [Linear(w1, b1), Relu(), Linear(w2, b2)]
loss = Mse()

out = xs
for layer in layers:
    out = layer(out)
print(f"loss {loss(out, y):.4f}")

loss.out.g = 1
for layer in [loss, *reversed(layers)]:
    layer.backward()

for name, gradient in [("w1", layers[0].w.g), ("b2", layers[2].b.g), ("x", xs.g)]:
    assert_close(gradient, reference[name], rtol=1e-4, atol=1e-5)
    print(f"{name}: the same gradient as before")

# %% [markdown]
# ## Where it goes wrong: a value that is used twice
#
# This base class stands in many a notebook, and on our network it is right. Now three
# little layers that work on single numbers. We define them inside a function, so that we can put the very
# same lines on another base class later.


# %%
def little_layers(base):
    class Mul(base):
        def forward(self, a, b):
            return a * b

        def bwd(self, out, a, b):
            a.g = out.g * b
            b.g = out.g * a

    class Add(base):
        def forward(self, a, b):
            return a + b

        def bwd(self, out, a, b):
            a.g = out.g
            b.g = out.g

    class Scale(base):
        def __init__(self, w):
            self.w = w

        def forward(self, inp):
            return self.w * inp

        def bwd(self, out, inp):
            inp.g = self.w * out.g
            self.w.g = (inp * out.g).sum()

    return Mul, Add, Scale


# %% [markdown]
# Every rule in there is right. We take $x = 3$ and $w = 2$, and three programs that a network might
# contain:
#
# 1. a square, $x \cdot x$: one value in both places of a product; its slope is $2x = 6$;
# 2. a **residual branch**, $x + w x$: the value goes through a layer and also around it. Every
#    transformer and every ResNet is full of them. The slope is $1 + w = 3$;
# 3. a **shared layer**, $w (w x)$: the same layer twice, as in every recurrent network. The slope in $w$
#    is $2 w x = 12$.

# %%
Mul, Add, Scale = little_layers(Remembers)

v, mul = array(3.0), Mul()
mul(v, v)
mul.out.g = array(1.0)
mul.backward()
square = float(v.g)

v, scale, add = array(3.0), Scale(array(2.0)), Add()
add(v, scale(v))
add.out.g = array(1.0)
add.backward()
# `scale` was handed to `add` as an array of its own: pass its gradient on
scale.out.g = add.args[1].g
scale.backward()
residual = float(v.g)

v, shared = array(3.0), Scale(array(2.0))
shared(shared(v))
shared.out.g = array(1.0)
shared.backward()  # the second call
shared.backward()  # the first call, or so we hope
twice = float(shared.w.g)

truths = {"x * x, slope in x": 6.0, "x + w * x, slope in x": 3.0, "w * (w * x), slope in w": 12.0}
assigned = dict(zip(truths, [square, residual, twice], strict=True))
for program, truth in truths.items():
    print(f"{program:<24} true {truth:4.0f}   assigned {assigned[program]:4.0f}")

# %% [markdown]
# Three programs, three wrong gradients, and no error anywhere. In each case something was **overwritten**:
#
# 1. `a` and `b` are the same object, so `b.g = ...` replaces what `a.g = ...` had just written;
# 2. `add` wrote the gradient that went around the layer, then `scale` wrote its own over it;
# 3. the layer remembers one call, the last, and the first one is forgotten.
#
# What should happen instead? If $x$ moves by a little bit, it moves the loss along *every* path on which
# it is used, and the movements add up. For a value that is used in two places,
#
# $$\frac{dL}{dx} = \frac{\partial L}{\partial x_1} + \frac{\partial L}{\partial x_2}$$
#
# where $x_1$ and $x_2$ are its two uses, looked at as if they were separate. **Where the forward
# pass copies, the backward pass adds.** In a drawing of the residual branch, forward in grey, gradients
# in orange:

# %%
fig, ax = plt.subplots(figsize=(7.2, 2.2))
grey, orange = "#666666", "#c06010"
ax.set_xlim(-0.7, 7.1)
ax.set_ylim(-1, 1.35)
ax.axis("off")
ax.set_title("the gradient of x is the sum over both ways back", loc="left", fontsize=11)

places = {"x = 3": (0, 0), "scale by 2": (2.2, 0.9), "+": (4.4, 0), "loss = 9": (6.4, 0)}
frame = {"boxstyle": "round,pad=0.45", "facecolor": "white", "edgecolor": grey}
boxes = {
    name: ax.text(*place, name, ha="center", va="center", fontsize=11, bbox=frame)
    for name, place in places.items()
}
fig.canvas.draw()  # so that the boxes know their sizes
for start, end, bend in [
    ("x = 3", "scale by 2", -0.15),
    ("scale by 2", "+", -0.15),
    ("x = 3", "+", 0.2),
    ("+", "loss = 9", 0),
]:
    arrow = {"arrowstyle": "-|>", "color": grey, "connectionstyle": f"arc3,rad={bend}"}
    ends = {"patchA": boxes[start].get_bbox_patch(), "patchB": boxes[end].get_bbox_patch()}
    ax.annotate("", places[end], places[start], arrowprops=arrow | ends)
for text, *place in [
    ("← 1", 5.4, 0.2),
    ("← 1", 3.6, 0.85),
    ("← 2 · 1 = 2", 0.75, 0.85),
    ("← 1", 2.2, -0.75),
    ("2 + 1 = 3", 0, -0.65),
]:
    ax.text(*place, text, ha="center", color=orange, fontsize=11)

# %% [markdown]
# The usual repair is to write `inp.g += ...` in every rule, to set every gradient to zero before each pass,
# and to keep a stack of calls in every layer. It works until one rule forgets. There is a better place
# for all of it.
#
# ## Third step: `gu.nn.Module`
#
# The same lines, over another base class. `Remembers` becomes `nn.Module`, arrays become `gu.Tensor`s, and
# parameters say that they are ones. The rules stay as they were.


# %%
class Relu(nn.Module):
    def forward(self, inp):
        return inp.clamp_min(0.0)

    def bwd(self, out, inp):
        inp.g = (inp > 0) * out.g


class Linear(nn.Module):
    def __init__(self, w, b):
        self.w, self.b = nn.Parameter(w), nn.Parameter(b)

    def forward(self, inp):
        return inp @ self.w + self.b

    def bwd(self, out, inp):
        inp.g = out.g @ self.w.T
        self.w.g = inp.T @ out.g
        self.b.g = out.g.sum(0)


class Mse(nn.Module):
    def forward(self, inp, targ):
        return ((inp.squeeze(-1) - targ) ** 2).mean()

    def bwd(self, out, inp, targ):
        diff = inp.squeeze(-1) - targ
        inp.g = 2 * diff.unsqueeze(-1) / len(targ) * out.g


class Model(nn.Module):
    def __init__(self, w1, b1, w2, b2):
        self.layers = [Linear(w1, b1), Relu(), Linear(w2, b2)]
        self.loss = Mse()

    def forward(self, x, y):
        for layer in self.layers:
            x = layer(x)
        return self.loss(x, y)


# %% [markdown]
# `Model` has no backward pass any more: `loss.backward()` knows what ran, and calls each `bwd` in reverse.
# Parameters are found by themselves, in the plain list too, and have names:

# %%
model = Model(w1, b1, w2, b2)
xt = gu.Tensor(x, requires_grad=True)  # we want the gradient of the images too
loss = model(xt, y)
loss.backward()

print(f"loss {loss:.4f}")
for name, parameter in model.named_parameters():
    print(f"{name:<11} {parameter.shape!s:<9} gradient {parameter.g.shape}")

# %% [markdown]
# And the three programs that went wrong? `little_layers` once more, not a letter changed:

# %%
Mul, Add, Scale = little_layers(nn.Module)

v = gu.Tensor(3.0, requires_grad=True)
Mul()(v, v).backward()
square = float(v.g)

v = gu.Tensor(3.0, requires_grad=True)
Add()(v, Scale(nn.Parameter(2.0))(v)).backward()
residual = float(v.g)

v, shared = gu.Tensor(3.0, requires_grad=True), Scale(nn.Parameter(2.0))
shared(shared(v)).backward()
twice = float(shared.w.g)

for (program, truth), ours in zip(truths.items(), [square, residual, twice], strict=True):
    print(
        f"{program:<24} true {truth:4.0f}   assigned {assigned[program]:4.0f}   Module {ours:4.0f}"
    )
    assert ours == truth

# %% [markdown]
# ## In a `bwd`, `a.g = v` contributes
#
# How can an assignment add? Three things happen around every `bwd`, and none of them is the rule's
# business.
#
# **Every call is noted, not every layer.** Calling a module leaves a note on its *output*: which module,
# which arguments. The layer itself keeps nothing, so it can be called as often as one likes.
#
# **Every argument gets its own alias.** What a `bwd` is handed are not the tensors themselves but stand-ins:
# the same data, and an empty `.g` to write into. For `x * x` there are two:


# %%
class Curious(nn.Module):
    def forward(self, a, b):
        return a * b

    def bwd(self, out, a, b):
        print(
            "the same object?", a is b, "  do they stand for the same tensor?", a.origin is b.origin
        )
        a.g = out.g * b
        b.g = out.g * a


v = gu.Tensor(3.0, requires_grad=True)
Curious()(v, v).backward()
print("gradient", v.g.item())

# %% [markdown]
# **The engine collects.** After the `bwd` it takes what lies in each alias and adds it to the gradient of the
# tensor that it stands for. A tensor's own rule runs only when everything behind it has been
# collected. Both functions are short enough to read:

# %%
show(Sweep.collect, Sweep.add)

# %% [markdown]
# There is no `+=` for a rule to forget, and it would even be refused: what has been collected
# so far is not the gradient yet, so reading it is an error.


# %%
class Eager(nn.Module):
    def forward(self, inp):
        return inp.clamp_min(0.0)

    def bwd(self, out, inp):
        inp.g += (inp > 0) * out.g


try:
    Eager()(xt).sum().backward()
except gu.errors.GradientError as error:
    print(error)

# %% [markdown]
# ## Where broadcasting copies, the gradient sums
#
# `Sweep.add` has one more line, about shapes. A bias of shape (50,) is added to n rows, so broadcasting
# uses each of its numbers n times: it copies them, only without taking memory. Where the forward pass
# copies, the backward pass adds, so
#
# $$db_j = \sum_{i=1}^{n} dout_{ij}$$
#
# which is the `out.g.sum(0)` in our rule. But this sum follows from the shapes alone. So a rule
# may contribute a gradient of the broadcast shape, and the engine sums it back:


# %%
class Bias(nn.Module):
    def __init__(self, b):
        self.b = nn.Parameter(b)

    def forward(self, inp):
        return inp + self.b

    def bwd(self, out, inp):
        inp.g = out.g
        self.b.g = out.g  # (n, 50) for a tensor of (50,)


bias = Bias(b1)
cotangent = rng.standard_normal((n, hidden), dtype=np.float32)
(bias(x @ w1) * cotangent).sum().backward()
print("bias", bias.b.shape, " gradient", bias.b.g.shape)
assert_close(bias.b.g.numpy(), cotangent.sum(0), rtol=1e-4, atol=1e-4)

# %% [markdown]
# It is not lenient beyond that. A shape that broadcasting does not explain is a mistake, and the message
# says whose:


# %%
class Sideways(Linear):
    def bwd(self, out, inp):
        self.w.g = out.g.T @ inp  # the transpose of what it should be


try:
    Sideways(w1, b1)(xt).sum().backward()
except gu.errors.ShapeError as error:
    print(error)

# %% [markdown]
# ## Is it right?
#
# We compare all five gradients, in every element, with two witnesses: our first version above, which has the
# same rules but another engine; and PyTorch, which has its own rules too.


# %%
def torch_pass(x, y, w1, b1, w2, b2):
    """A function that runs both passes in PyTorch and returns the loss and the five gradients."""
    wanted = [torch.tensor(v, requires_grad=True) for v in (w1, b1, w2, b2, x)]
    tw1, tb1, tw2, tb2, tx = wanted
    ty = torch.tensor(y, dtype=tx.dtype)

    def run():
        out = (tx @ tw1 + tb1).relu() @ tw2 + tb2
        loss = torch.nn.functional.mse_loss(out.squeeze(-1), ty)
        gradients = torch.autograd.grad(loss, wanted)
        return loss.item(), [g.numpy() for g in gradients]

    return run


def module_pass(x, y, w1, b1, w2, b2):
    """The same with our Module."""
    model, inp = Model(w1, b1, w2, b2), gu.Tensor(x, requires_grad=True)

    def run():
        loss = model(inp, y)
        loss.backward()
        return loss.item(), [t.g.numpy() for t in (*model.parameters(), inp)]

    return run


def foundations_pass(x, y, w1, b1, w2, b2):
    """The same with the classes that remember."""
    inp, parameters = array(x), [array(v) for v in (w1, b1, w2, b2)]
    model = foundations.Model(*parameters)

    def run():
        loss = model(inp, y)
        model.backward()
        return loss, [np.asarray(t.g) for t in (*parameters, inp)]

    return run


def compare(arrays, rtol, atol):
    loss, gradients = module_pass(*arrays)()
    others = [foundations_pass(*arrays)(), torch_pass(*arrays)()]
    print(f"loss   {loss:.9f}   foundations {others[0][0]:.9f}   PyTorch {others[1][0]:.9f}")
    for i, name in enumerate(("w1", "b1", "w2", "b2", "x")):
        print(f"{name:<3} {gradients[i].shape!s:<11} largest difference", end="")
        for other, (_, theirs) in zip(("foundations", "PyTorch"), others, strict=True):
            assert_close(gradients[i], theirs[i], rtol=rtol, atol=atol)
            print(f"   {other} {np.abs(gradients[i] - theirs[i]).max():.1e}", end="")
        print()


arrays = (x, y, w1, b1, w2, b2)
doubles = [v.astype(np.float64) for v in arrays]
print("double precision")
compare(doubles, rtol=1e-9, atol=1e-12)
print("single precision")
compare(arrays, rtol=1e-3, atol=1e-4)

# %% [markdown]
# ## What does the comfort cost?
#
# Notes, aliases and a walk in reverse: is that slow? They cost some microseconds a *call*, whatever the
# size of the arrays. We measure at the size of MNIST, 50,000 images of 784 pixels: forward, backward, all
# five gradients. The contenders take turns, so that a busy moment of the machine hits all of them, and
# we report medians. First, of course, that all of them compute the same.

# %%
n_big = 50_000
big = (
    rng.random((n_big, 784), dtype=np.float32),
    rng.integers(0, 10, n_big).astype(np.float32),
    kaiming(784, hidden),
    b1,
    w2,
    b2,
)
contenders = {
    "foundations": foundations_pass(*big),
    "nn.Module": module_pass(*big),
    "PyTorch eager": torch_pass(*big),
}

_, expected = contenders["PyTorch eager"]()
for name in ("foundations", "nn.Module"):
    _, gradients = contenders[name]()
    for ours, theirs in zip(gradients, expected, strict=True):
        assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()

rounds = 11
seconds = {name: [] for name in contenders}
for _ in range(rounds):
    for name, run in contenders.items():
        start = time.perf_counter()
        run()
        seconds[name].append(time.perf_counter() - start)

print(f"both passes, {n_big:,} x 784, median of {rounds}")
baseline = seconds["PyTorch eager"]
for name, times in seconds.items():
    ratio = statistics.median(b / t for b, t in zip(baseline, times, strict=True))
    print(
        f"{name:<14} {statistics.median(times) * 1e3:6.0f} ms   {ratio:.2f} times as fast as PyTorch"
    )

# %% [markdown]
# And on a batch so small that the arithmetic is nothing, which shows the cost of the calls themselves:

# %%
small = (x[:8], y[:8], w1, b1, w2, b2)
for make in (foundations_pass, module_pass, torch_pass):
    run, times = make(*small), []
    for _ in range(300):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    print(f"{make.__name__:<17} {statistics.median(times) * 1e6:5.0f} us a pass, 8 images")

# %% [markdown]
# Memory: the peak of one pass, as NumPy allocates it. (PyTorch allocates by itself, where Python's
# counter cannot see.) Nearly all of it is one array that we ask for, the gradient of the images:


# %%
def peak_megabytes(function):
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


for name, make in (("foundations", foundations_pass), ("nn.Module", module_pass)):
    run = make(*big)  # fresh: no gradients from earlier passes are alive
    print(f"{name:<12} peak {peak_megabytes(run):4.0f} MB")
print(f"of which the gradient of x is {big[0].nbytes / 1e6:.0f} MB")
del big, contenders, run, expected, gradients, ours, theirs

# %% [markdown]
# ## Three bugs, planted
#
# A wrong gradient raises no error. Often it does not even stop the learning: here is our network with
# the mask of ReLU's rule forgotten, so that the gradient passes where it should be 0.


# %%
class Maskless(Relu):
    def bwd(self, out, inp):
        inp.g = out.g  # forgotten: (inp > 0) *


def train(relu, steps=150, lr=0.01):
    layers = [Linear(w1.copy(), b1.copy()), relu, Linear(w2.copy(), b2.copy())]
    model, loss, losses = nn.Sequential(*layers), Mse(), []
    optimizer = gu.optim.SGD(model.parameters(), lr)
    for _ in range(steps):
        value = loss(model(x), y)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


curves = {"right": train(Relu()), "mask forgotten": train(Maskless())}

fig, ax = plt.subplots(figsize=(6, 2.6))
for (name, losses), colour in zip(curves.items(), ("#4878a8", "#d08030"), strict=True):
    ax.plot(losses, color=colour, label=f"{name}: {losses[-1]:.2f} in the end")
ax.set_ylim(0, 12)
ax.set_xlabel("step")
ax.set_title("mean squared error", loc="left")
ax.legend(frameon=False)
ax.spines[["top", "right"]].set_visible(False)

# %% [markdown]
# Who saw only the orange curve would call it a network that learns. So one has to look at the gradients, and
# `check_layers` does, layer by layer. It compares each `bwd` with two independent answers, in double
# precision:
#
# - **vs ops**: the gradient that the operations of the layer's `forward` imply by themselves (the
#   [next lesson](04_autograd.ipynb) is about that);
# - **vs differences**: how much the output really moves when the input or a parameter is nudged.
#
# Instead of a loss, it puts a random gradient behind each layer. (A gradient of all ones would be a poor
# test: some mistakes cancel in it.) First the right layers:


# %%
def check(*layers, loss):
    print(f"{'layer':<9} {'class':<9} {'gradient':<9} {'vs ops':>8} {'vs differences':>15}")
    for row in check_layers(nn.Sequential(*layers), loss, x[:8], y[:8]):
        verdict = "ok" if row.ok else "WRONG"
        print(
            f"{row.layer:<9} {row.kind:<9} {row.gradient:<9} {row.vs_ops:8.2g} "
            f"{row.vs_differences:15.1g}  {verdict}"
        )


middle = (kaiming(hidden, hidden), b1)
check(Linear(w1, b1), Relu(), Linear(*middle), Relu(), Linear(w2, b2), loss=Mse())

# %% [markdown]
# All differences are rounding errors. Now three bugs at once: the forgotten mask; a mean whose `/ n` was
# forgotten; and a transpose forgotten in a layer of as many inputs as outputs, where no shape
# gives it away.


# %%
class Meanless(Mse):
    def bwd(self, out, inp, targ):
        inp.g = 2 * (inp.squeeze(-1) - targ).unsqueeze(-1) * out.g  # forgotten: / len(targ)


class Straight(Linear):
    def bwd(self, out, inp):
        inp.g = out.g @ self.w  # forgotten: .T
        self.w.g = inp.T @ out.g
        self.b.g = out.g.sum(0)


check(Linear(w1, b1), Maskless(), Straight(*middle), Relu(), Linear(w2, b2), loss=Meanless())

# %% [markdown]
# All three are found, each in its layer and in its gradient, and nothing else is blamed: since every layer is
# run on its own, a bug does not spread to the layers before it.
#
# The figures are differences relative to the largest entry, and they can be read. For the loss,
# the wrong gradient is n times the right one, so the difference is $(n - 1)/n$ of it, with the 8 images
# that we gave it:

# %%
print("(8 - 1) / 8 =", 7 / 8)
rows = check_layers(nn.Sequential(Linear(w1, b1), Relu(), Linear(w2, b2)), Meanless(), x[:8], y[:8])
print("measured   =", round(rows[-1].vs_ops, 6))

# %% [markdown]
# ## What to take along
#
# - A layer is a `forward` and a `bwd`, with the same names, next to each other.
# - Where the forward pass copies (a value used twice, a shared weight, broadcasting), the backward pass adds.
# - In a `bwd`, `a.g = v` contributes `v`. Adding up, clearing and summing back to a shape are the
#   engine's business, in one place, so that no rule can forget them.
# - The record belongs to the call, not to the layer: then layers can be shared.
# - A wrong gradient is silent. Check each layer by itself, with a random gradient behind it.
#
# **To try yourself.** Write `Tanh` as a module whose `bwd` uses only `out`, and check it. Then a layer
# `Normalize` that subtracts from each row its mean: what is its `bwd`? (The mean uses each
# number once for every output: where the forward pass copies...)
