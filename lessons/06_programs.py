# %% [markdown]
# # 6. Programs
#
# In [lesson 2](02_forward_and_backward.ipynb) we wrote one function: forward and backward of a small network, all
# gradients by hand. Then came layers, autograd and optimizers, and the function was gone; what a training step
# computes was spread over many small pieces. In this lesson we get it back. A step made of layers is run once
# and written down while it runs, and what comes out is a **Program**: a list of equations, which prints as NumPy
# source. It is the function of lesson 2 again. A Program can be read, run with NumPy alone, kept in a file,
# and replayed faster than it ran the first time.

# %%
import difflib
import inspect
import re
import textwrap
import time
from collections import Counter

import numpy as np
from IPython.display import SVG
from rich.console import Console

import groundup as gu
from groundup import nn, optim
from groundup.data import batches, digits
from groundup.errors import GradientError, RecordError
from groundup.foundations import Gradients, assert_close, forward_and_backward
from groundup.program.program import Program

# %% [markdown]
# ## By hand, once more
#
# The data are handwritten digits, a row of `x` an image of 8 by 8 pixels. The network is linear, ReLU, linear, and
# predicts the digit as a number, with the mean squared error for a loss.

# %%
x, labels, _, _ = digits()
y = labels.astype(np.float32)[:, None]

rng = np.random.default_rng(6)
w1 = rng.standard_normal((64, 50), dtype=np.float32) * np.float32((2 / 64) ** 0.5)
w2 = rng.standard_normal((50, 1), dtype=np.float32) * np.float32((2 / 50) ** 0.5)
b1, b2 = np.zeros(50, np.float32), np.zeros(1, np.float32)

loss_by_hand, by_hand = forward_and_backward(x, y, w1, b1, w2, b2)
print(inspect.getsource(forward_and_backward))

# %% [markdown]
# ## The same, as layers
#
# Now the network of [lesson 3](03_layers.ipynb). A step runs it forward and backward, and returns what the function
# above returns: the loss and five gradients. (`nn.Lin` is a linear layer with given weights. The input gets a gradient
# only if it asks for one, so we make it a Tensor that does.)

# %%
model = nn.Sequential(nn.Lin(w1, b1), nn.Relu(), nn.Lin(w2, b2))
first, _, last = model.layers
mse = nn.Mse()


def step(x, y):
    loss = mse(model(x), y)
    loss.backward()
    return loss, first.w.g, first.b.g, last.w.g, last.b.g, x.g


x_asking = gu.Tensor(x, requires_grad=True)
program = gu.record(step, x_asking, y)
print(program)

# %% [markdown]
# That was printed, not written. `gu.record` ran the step once, as usual, and noted every operation: those of the layers'
# `forward`, and those of their `bwd`. There was nothing to translate, since both are made of the same
# operations. Where the layers' code has a name for something, such as `diff`, the Program uses it; a gradient is called
# `d` and the name. The comment at the end of a line says the shape, `n` being the length of the batch, and which layer
# the line comes from.
#
# Beside the function that we wrote by hand:


# %%
def code(program):
    """The printed lines, without comments."""
    lines = (line.split("#")[0].rstrip() for line in str(program).splitlines())
    return [line for line in lines if line]


printed = {line.split(" = ")[0].strip(): line.strip() for line in code(program) if " = " in line}
written = [
    line.split("#")[0].strip()
    for line in inspect.getsource(forward_and_backward).splitlines()
    if " = " in line
]
counterparts = [
    ["h1"],
    ["h2"],
    ["out"],
    ["diff", "loss"],
    ["dout"],
    ["dh2", "dw2", "db2"],
    ["dh1"],
    ["dx", "dw1", "db1"],
]
for line, names in zip(written, counterparts, strict=True):
    for name in names:
        print(f"{line:<38} {printed[name]}")
        line = ""
assert sum(map(len, counterparts)) == len(printed)  # no line is left over

# %% [markdown]
# The same lines in the same order. Where we called `lin_grad`, its three products stand on their own.
#
# ## Is it the same function?
#
# It is text, so we can run it. We give it to Python in an empty namespace, where there is no groundup, only the NumPy that
# the text itself imports. (The weights are the arrays that we made the layers from.)

# %%
space = {}
exec(str(program), space)
print("defined in it:", [name for name in space if not name.startswith("__")])

results = space["step"](x, y, w1, b1, w2, b2)


# %% [markdown]
# First against the step that it came from. Here we ask for more than "about equal": the same bits, in each number.


# %%
def same_bits(a, b):
    a, b = np.asarray(a), np.asarray(b)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


eager = step(x_asking, y)
names = ("loss", *Gradients._fields)
for name, ours, theirs in zip(names, results, eager, strict=True):
    assert same_bits(ours, theirs.numpy())
    print(f"{name:<4} {ours.shape!s:<11} the same bits")

# %% [markdown]
# Then against the function by hand. That one multiplies by `2 / n` where the layers multiply by 2 and divide by `n`, so the
# rounding may differ in the last digits, and nothing else:

# %%
for name, ours, theirs in zip(names, results, (loss_by_hand, *by_hand), strict=True):
    assert_close(ours, np.asarray(theirs, np.float32), rtol=1e-4, atol=1e-5)
    print(f"{name:<4} largest difference {np.abs(ours - theirs).max():.1e}")

# %% [markdown]
# The text does not depend on the batch that was recorded. Ten images, with the same text:

# %%
few = space["step"](x[:10], y[:10], w1, b1, w2, b2)
for ours, theirs in zip(few, step(gu.Tensor(x[:10], requires_grad=True), y[:10]), strict=True):
    assert same_bits(ours, theirs.numpy())
print(f"ten images: loss {few[0]:.4f}, and everything the same bits as the eager step")

# %% [markdown]
# ## Inside
#
# The text is only how a Program shows itself. What it holds is a list of **equations**: one result, one operation, the
# names that go in, a shape, a phase, and the layer whose part it is. A line of the text may be several equations.

# %%
print(repr(program), "\n")
for e in program.equations:
    inputs = ", ".join(map(str, e.ins))
    print(f"{e.phase:<9} {e.out.name:<5} = {e.op}({inputs})".ljust(44), e.out.shape, e.module)

# %% [markdown]
# That is not quite what ran. Between the run and the print stand **passes**: functions from a Program to
# a shorter one that computes the same, bit for bit. `simplify=False` leaves them out. What did they take away?


# %%
def changes(before, after):
    """The lines that differ, with - for those of the first and + for those of the second."""
    for line in difflib.unified_diff(code(before), code(after), lineterm="", n=0):
        if not line.startswith(("---", "+++", "@@")):
            print(line)


def phases(program):
    return dict(Counter(e.phase for e in program.equations))


raw = gu.record(step, x_asking, y, simplify=False)
print("as it ran ", phases(raw))
print("simplified", phases(program), "\n")
changes(raw, program)

arrays = {"x": x, "y": y, "w1": w1, "b1": b1, "w2": w2, "b2": b2}
raw_function = raw.function()  # exec, as above
for ours, theirs in zip(raw_function(**arrays), results, strict=True):
    assert same_bits(ours, theirs)

# %% [markdown]
# Three things. The backward pass begins with the gradient of the loss with respect to itself, which is 1, and
# multiplying by 1 changes nothing. The `bwd` of the loss computes the difference a second time, since a hand-written rule
# should be readable on its own: the Program has it already. And what it divides by needs no conversion.
#
# Now let the step return only the four gradients of the parameters. It still computes `x.g`, but nobody looks at
# it any more:


# %%
def parameters_only(x, y):
    return step(x, y)[:5]


shorter = gu.record(parameters_only, x_asking, y)
print(phases(shorter), "\n")
changes(program, shorter)

# %% [markdown]
# One matrix product less, and its transposed matrix. Which products are worth saving shows a table of the lines:
# how many floating-point operations, and how many bytes are read and written.

# %%
console = Console(width=100, force_jupyter=False, color_system=None)
console.print(program.table())

# %% [markdown]
# Nearly all the work is in the three products with 64 inputs, and `dx` is one of them.
#
# A Program is plain data: names, shapes, numbers, no arrays and no functions. So it can be kept in a file. Its **digest**
# is a fingerprint of all that it says: equal Programs have equal ones, here and on any other machine.

# %%
program.save("step.json")
loaded = Program.load("step.json")
assert loaded == program
assert str(loaded) == str(program)
print(f"{len(program.to_json()):,} characters of JSON")
print("as recorded ", program.digest[:16])
print("from a file ", loaded.digest[:16])
print("without dx  ", shorter.digest[:16])

# %% [markdown]
# ## With the update
#
# A training step has a third part. From here on we tell the ten digits apart, as in [lesson 5](05_training.ipynb),
# and let an optimizer take the step. We print only what is new.


# %%
def excerpt(program, beginning, end):
    """The printed lines from one that begins so up to one that begins otherwise."""
    lines = str(program).splitlines()
    starts = [line.strip() for line in lines]
    i = next(i for i, line in enumerate(starts) if line.startswith(beginning))
    j = next(j for j, line in enumerate(starts) if j > i and line.startswith(end))
    print("\n".join(lines[i:j]).rstrip())


cross_entropy = nn.CrossEntropy()


def network(*between):
    gu.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 50), nn.Relu(), *between, nn.Linear(50, 10))


def training_step(model, optimizer):
    def step(x, y):
        loss = cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


model = network()
sgd_step = training_step(model, optim.SGD(model.parameters(), lr=0.1))
sgd = gu.record(sgd_step, x[:64], labels[:64])
excerpt(sgd, "def step", "n =")
excerpt(sgd, "# update", "return")

# %% [markdown]
# An optimizer is made of operations too. Its learning rate has become an argument, by name, with the value that it had.
# `-=` writes into the arrays, so the printed step trains. To see it, we take the weights as they are now,
# let the text do one step on copies of them, and the layers one on the originals:

# %%
copies = {
    i.var.name: dict(model.named_parameters())[i.path].numpy().copy()
    for i in sgd.inputs_of("parameter")
}
printed_step = sgd.function()
loss = printed_step(x=x[64:128], y=labels[64:128], **copies)
assert same_bits(loss, sgd_step(x[64:128], labels[64:128]).numpy())
for name, parameter in zip(copies, model.parameters(), strict=True):
    assert same_bits(copies[name], parameter.numpy())
print("after a step: the same loss and the same weights,", ", ".join(copies))

# %% [markdown]
# Adam keeps two running means for each parameter and counts its steps. These are **state**: inputs that the step writes
# to, as it writes to the parameters.

# %%
model = network()
adam = gu.record(training_step(model, optim.Adam(model.parameters(), lr=0.01)), x[:64], labels[:64])
for role in ("argument", "parameter", "state", "setting"):
    print(f"{role:<10}", ", ".join(i.var.name for i in adam.inputs_of(role)))
print()
excerpt(adam, "# update", "return")

# %% [markdown]
# That is Adam as in its paper, once for all parameters, since all are treated alike. (A Program has one equation after
# the other; the loop is made when it is printed.)
#
# Dropout draws random numbers, and a step that does is no function of its arguments, unless the state of the generator
# is one of them. It is. The generator is a key, the seed, and a **counter**. The n-th draw depends on these two
# only, and drawing adds one to the counter:

# %%
generator = gu.Generator(seed=7)
model = network(nn.Dropout(0.2, generator=generator))
dropout_step = training_step(model, optim.SGD(model.parameters(), lr=0.1))
dropout = gu.record(dropout_step, x[:64], labels[:64])
excerpt(dropout, "def philox", "def step")
print()
excerpt(dropout, "def step", "n =")
excerpt(dropout, "t2 = philox", "out =")

copies = {
    i.var.name: dict(model.named_parameters())[i.path].numpy().copy()
    for i in dropout.inputs_of("parameter")
}
copies |= {"key": generator.key.numpy().copy(), "counter": generator.counter.numpy().copy()}
print()
for _ in range(3):
    loss = dropout.function()(x=x[:64], y=labels[:64], **copies)
    assert same_bits(loss, dropout_step(x[:64], labels[:64]).numpy())
    print(f"counter {copies['counter']}, loss {loss:.4f}: the same bits as the layers'")

# %% [markdown]
# ## A deep network
#
# A Program is a flat list, so a deep network's is long. But its blocks are equal, and equal blocks print as a loop. A
# residual network of twelve:


# %%
class Block(nn.Module):
    def __init__(self, width):
        self.fc1, self.relu, self.fc2 = nn.Linear(width, width), nn.Relu(), nn.Linear(width, width)

    def forward(self, x):
        return x + 0.1 * self.fc2(self.relu(self.fc1(x)))


def residual(blocks):
    gu.manual_seed(0)
    deep = nn.Sequential(nn.Linear(64, 32), *[Block(32) for _ in range(blocks)], nn.Linear(32, 10))
    return gu.record(training_step(deep, optim.SGD(deep.parameters(), lr=0.1)), x[:64], labels[:64])


twelve = residual(12)
excerpt(twelve, "h = [None]", "assert")
print()
excerpt(twelve, "dh = [None]", "return")
print()
for blocks, deep in [(6, residual(6)), (12, twelve)]:
    print(f"{blocks:>2} blocks: {len(deep.equations)} equations, {len(code(deep))} lines")

# %% [markdown]
# The second loop is the first one in reverse. Look at its last line: the gradient of `h[i]` is what comes through
# the block, plus what comes past it. However deep the network, there is a way back that leads through no block at all.
#
# ## What cannot be recorded
#
# A Program has equations and nothing else: no `if`, no Python variables. A step that decides by a value would be recorded
# with the decision that it happened to take, and replayed with that one for good. It would be wrong, and nothing would
# show it. So it is refused. (The message begins with file and line, which we leave out.)


# %%
def refusal(step, *args):
    try:
        gu.record(step, *args)
    except RecordError as error:
        message = re.sub(r"^.*?:\d+, ", "", str(error))
        print(textwrap.fill(message, 100))
    else:
        print(f"{step.__name__} was recorded")


def distance(x):
    total = x.sum()
    if total > 0:
        return total
    return -total


refusal(distance, x)

# %% [markdown]
# The branch as an operation is fine: it computes both and chooses, at each call anew.


# %%
def distance(x):
    total = x.sum()
    return gu.where(total > 0, total, -total)


replayed = gu.record(distance, x).function()
for sign in (+1, -1):
    assert same_bits(replayed(x=sign * x), distance(gu.Tensor(sign * x)).numpy())
    print(f"{sign:+d}: {replayed(x=sign * x):.1f}")

# %% [markdown]
# The other trap is a Python value that the step itself changes. Only operations on Tensors are replayed, so
# this counter would be raised once, in the recording, and never again:

# %%
calls = 0


def scaled(x):
    global calls
    calls += 1
    return x.mean() * calls


refusal(scaled, x)

# %% [markdown]
# The message names the variable and the way out: a `Buffer`, which is a Tensor that a step may write to.

# %%
count = nn.Buffer(np.zeros((), np.float32))


def scaled(x):
    count.assign(count + 1)
    return x.mean() * count


counting = gu.record(scaled, x)  # this runs it once
excerpt(counting, "def", "return")

value = count.numpy().copy()
for _ in range(3):
    result = counting.function()(x=x, count=value)
    assert same_bits(result, scaled(gu.Tensor(x)).numpy())
    print(f"count {value:g}, result {result:.4f}")

# %% [markdown]
# ## Replaying: `gu.compile`
#
# Why all this strictness? Because a step that passes can be run without its layers. An eager step makes Tensors, notes
# where they came from, calls modules, walks back through the notes, and allocates every array anew. With the Program all
# that is known beforehand: what is left is to call NumPy, line by line, into arrays that are kept. `gu.compile` with
# `engine="numpy"` makes such a step of an ordinary one.


# %%
def twin():
    model = network()
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    return model, optimizer, training_step(model, optimizer)


eager_model, eager_optimizer, eager_step = twin()
model, optimizer, step = twin()
compiled = gu.compile(step, engine="numpy")
training = list(batches(x, labels, size=64))
print(f"{len(training)} batches, the last one of {len(training[-1][1])} images")

for xb, yb in training:
    assert same_bits(eager_step(xb, yb).numpy(), compiled(xb, yb).numpy())


def assert_same_weights():
    for ours, theirs in zip(model.parameters(), eager_model.parameters(), strict=True):
        assert same_bits(ours.numpy(), theirs.numpy())


assert_same_weights()
print("after an epoch: the same losses, the same weights, bit for bit")
print(compiled)

# %% [markdown]
# The first call records, and runs both ways to compare the results. The second records once more, and must get the same
# Program. From the third on it is replayed. The last batch has another size, which is another Program, recorded for itself
# when it first comes. In a second epoch, it comes a second time; in a third, nothing is recorded any more:

# %%
for epoch in (2, 3):
    for xb, yb in training:
        compiled(xb, yb)
        eager_step(xb, yb)
    print(f"epoch {epoch}: recorded {compiled.recordings} times so far")
assert_same_weights()
assert compiled.recordings == 4


# %% [markdown]
# How much faster is it? We time epochs of both by turns, with batches of several sizes, and take the fastest epoch of each:
# the others had to share the machine, or made the recordings.


# %%
def seconds_a_step(step, some):
    start = time.perf_counter()
    for xb, yb in some:
        step(xb, yb)
    return (time.perf_counter() - start) / len(some)


print("batch size   eager, us a step   compiled   ratio")
for size in (16, 64, 256, len(x)):
    some = list(batches(x, labels, size=size))
    times = [(seconds_a_step(eager_step, some), seconds_a_step(compiled, some)) for _ in range(15)]
    ours, theirs = (min(column) * 1e6 for column in zip(*times, strict=True))
    print(f"{size:>10} {ours:>18.0f} {theirs:>10.0f} {ours / theirs:>7.2f}")
assert_same_weights()

# %% [markdown]
# What is saved is not arithmetic: both call the same NumPy functions on the same numbers. It is what happens around
# them, the Tensors, the notes, the new arrays. The larger the batch, the less that weighs beside the products.
#
# Parameters and optimizer stay what they were, ordinary objects that one can look at and change between the calls. A new
# learning rate is seen at the next call:

# %%
recordings = compiled.recordings
optimizer.lr = eager_optimizer.lr = 0.001
for xb, yb in training:
    compiled(xb, yb)
    eager_step(xb, yb)
assert_same_weights()
assert compiled.recordings == recordings
print(f"lr {optimizer.lr}: the same weights, and no new recording")

# %% [markdown]
# One thing does differ. The gradients were used for the update, and their arrays were used again for the next ones. Reading
# one is an error, not an old number:

# %%
try:
    print(model.layers[0].w.g)
except GradientError as error:
    print(textwrap.fill(str(error), 100))

# %% [markdown]
# As it says:

# %%
keeping = gu.compile(step, engine="numpy", keep_gradients=True)
for xb, yb in training[:3]:
    keeping(xb, yb)
    eager_step(xb, yb)
ours, theirs = (m.layers[0].w.g.numpy() for m in (model, eager_model))
assert same_bits(ours, theirs)
print("gradient", ours.shape, "as in the eager model")

# %% [markdown]
# ## Machine code: the other engine
#
# NumPy goes through the whole batch line by line, and each line reads and writes the cache, or the memory behind it. But
# nearly every line treats the rows of the batch one by one: only the loss and the gradients of weights are sums over them.
# So a few rows, a *tile*, can go through the whole forward and backward pass while they are in the cache, each thread with
# tiles of its own, and the sums are added up at the end. That is what `gu.compile` makes if nothing else is said: machine
# code for the Program, written with LLVM. `native()` shows it.

# %%
native = gu.compile(step)
for xb, yb in training[:3]:
    native(xb, yb)
print(native.native()[:2400], "...")

# %% [markdown]
# Sums are added in another order, so the results are the same within rounding, not bit for bit. The first call compares:
# a result that rounding cannot explain is an error that names the equation. A whole epoch is a single call, in which even
# the loop over the batches is machine code. The first one has to make that code:

# %%
for seed in (1, 2, 3):
    start = time.perf_counter()
    losses = native.epoch(x, labels, batch_size=64, shuffle=True, seed=seed).numpy()
    seconds = time.perf_counter() - start
    print(f"{len(losses)} steps in {seconds * 1e3:.1f} ms, mean loss {losses.mean():.6f}")
assert np.isfinite(losses).all()

# %% [markdown]
# ## Explained
#
# `gu.explain` puts together what can be said of a step. It runs one on a copy of the model, and shows itself in a
# notebook: drawing, costs, source, derivations. We take two of them. In the drawing, the forward pass goes down on the left
# and the backward pass up on the right, a row for each layer. The dashed lines are what a backward step reads of the
# forward pass, and the numbers between double bars are sizes of gradients.

# %%
explanation = gu.explain(network(), x[:64], labels[:64])
SVG(explanation.svg)

# %% [markdown]
# And this is what lesson 2 did with SymPy for the linear layer, done for the layers of any model: a `forward` is run on
# symbols at a small size and differentiated, and compared with what the `bwd` says, in every entry.

# %%
linear = explanation.derivations[0]
assert linear.agrees
print(linear.layer, "\n")
print(linear.text)

# %% [markdown]
# ## What to take along
#
# - A training step is a short program. Layers, autograd and optimizers are a way to write it, and `print` shows it.
# - A recording is what ran, not what somebody derived a second time. So it has the same bits.
# - What is printed runs with NumPy alone. One can read it, copy it, change it, and take it elsewhere.
# - Hand-written rules may compute something twice, or something that nobody needs. Passes take it out.
# - Random numbers and optimizers have state. As inputs and outputs of the step, it is visible.
# - Who has the whole step can run it in another order: a few rows at a time through all of it.
# - A step that reads values or changes Python variables is no Program. An error now is better than a wrong number
#   later.
#
# **To try yourself.** Print the step with `nn.Tanh` in place of the ReLU: which value does the backward line use, and is it
# what you found in lesson 2? Then let a step add `np.random.rand()` to its loss: `gu.record` takes it. Compile it
# and call it twice. And look at `compiled.program.table(profile=compiled.arguments(xb, yb))`: which line takes
# longer than its share of the operations?
