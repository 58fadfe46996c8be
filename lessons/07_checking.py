# %% [markdown]
# # 7. Gradient checks that say what is wrong
#
# A wrong forward pass is soon noticed: the numbers look odd, or a shape does not fit. A wrong backward pass is not. The
# loss falls all the same, only less far, or only with another learning rate. So a gradient has to be checked against
# something that was not derived together with it. In this lesson we build such a check by hand, see what makes it
# sharp and what makes it blind, and then use `gu.check`, which also says what the mistake is likely to be. Three wrong
# backward passes train, get found, and get fixed.

# %%
import matplotlib.pyplot as plt
import numpy as np

import groundup as gu
from groundup import nn, optim
from groundup.data import batches, digits
from groundup.foundations import assert_close

rng = np.random.default_rng(7)

# %% [markdown]
# ## What a check is
#
# A small function: eight points, a linear map, a tanh, a mean squared error. `gradient` is its derivative by the three
# weights, by hand.


# %%
def problem(dtype):
    """The loss as a function of the weights, its gradient by hand, and weights, in a dtype."""
    rng = np.random.default_rng(0)
    x, y, w = (rng.standard_normal(shape, np.float32).astype(dtype) for shape in ((8, 3), 8, 3))

    def loss(w):
        return ((np.tanh(x @ w) - y) ** 2).mean()

    def gradient(w):
        out = np.tanh(x @ w)
        dout = 2 * (out - y) / len(y)
        return x.T @ ((1 - out**2) * dout)

    return loss, gradient, w


# %% [markdown]
# What does a gradient claim? That `loss` changes by so much when an entry of `w` changes a little. So we try it: move one
# entry up by `h`, then down by `h`, and divide the change of the loss by the `2 * h` that lies between. This is the
# **central difference**. It knows nothing of `gradient`; it only calls `loss`.


# %%
def central(loss, w, h):
    found = np.zeros_like(w)
    for i in range(len(w)):
        step = np.zeros_like(w)
        step[i] = h
        found[i] = (loss(w + step) - loss(w - step)) / (2 * h)
    return found


loss, gradient, w = problem(np.float64)
by_hand, measured = gradient(w), central(loss, w, h=1e-5)
print("by hand ", by_hand)
print("measured", measured)
print(f"largest difference {np.abs(by_hand - measured).max():.0e}")
assert_close(by_hand, measured, rtol=1e-8, atol=1e-9)

# %% [markdown]
# That is a gradient check. It is as good as the number of digits that it can tell apart: in what it cannot resolve, a
# mistake can hide.
#
# ## How small a step?
#
# A derivative is what the quotient tends to when `h` tends to 0, so one would take `h` as small as possible. We try steps
# from 0.1 down to $10^{-15}$: central differences in single and in double precision, and one-sided ones,
# $(f(w + h) - f(w)) / h$. The fourth way is new. It goes a step into the complex plane, and reads the imaginary part:
#
# $$f(w + ih) = f(w) + ih\,f'(w) - \tfrac{1}{2} h^2 f''(w) - \dots \qquad f'(w) \approx \frac{\operatorname{Im} f(w + ih)}{h}$$


# %%
def one_sided(loss, w, h):
    moves = h * np.eye(len(w), dtype=w.dtype)
    return np.array([(loss(w + move) - loss(w)) / h for move in moves])


def complex_step(loss, w, h):
    moves = 1j * h * np.eye(len(w))
    return np.array([loss(w + move).imag / h for move in moves])


ways = {
    "central, float32": (central, np.float32),
    "one-sided, float64": (one_sided, np.float64),
    "central, float64": (central, np.float64),
    "complex step": (complex_step, np.float64),
}
steps = 10.0 ** np.arange(-1, -15.5, -0.5)
truth = gradient(w)
fig, ax = plt.subplots(figsize=(6, 3))
for (name, (way, dtype)), colour in zip(
    ways.items(), ("#c0504d", "#d08030", "#4878a8", "#222222"), strict=True
):
    f, _, at = problem(dtype)
    found = np.array([way(f, at, h) for h in steps.tolist()], np.float64)
    errors = np.abs(found - truth).max(axis=1) / np.abs(truth).max()
    best = errors.argmin()
    print(f"{name:<19} best step {steps[best]:7.0e}   error {errors[best]:.0e}")
    ax.loglog(steps, np.maximum(errors, 1e-17), ".-", color=colour, label=name)
print(f"{'complex step':<19} with step   1e-30   error", end=" ")
print(f"{np.abs(complex_step(loss, w, 1e-30) - truth).max() / np.abs(truth).max():.0e}")
ax.set_ylim(1e-18, 1e3)
ax.set_xlabel("step h")
ax.set_title("relative error of the gradient", loc="left")
ax.legend(frameon=False, fontsize=8)
ax.spines[["top", "right"]].set_visible(False)

# %% [markdown]
# Read each curve from the right. At first, a smaller step is better: what the quotient leaves out shrinks like $h$ for
# the one-sided difference, and like $h^2$ for the central one. Then the curve turns. Two nearly equal numbers are
# subtracted, so that only their last digits are left, and these are rounding errors: about $\varepsilon$, divided by an ever
# smaller $h$. The best step is where the two meet, near $\varepsilon^{1/3}$ for central differences.
#
# In single precision, four digits is all that the best step gives, and one does not know beforehand which step that is. A
# variance that divides by $n - 1$ where forward divides by $n$, or an eps in the wrong place, is often a smaller mistake
# than that. **So check in double precision**, whatever the training uses.
#
# The complex step subtracts nothing, so it has no turning point: $h$ may be $10^{-30}$, and all digits are right. But the
# forward pass has to be made of functions that take complex numbers as they take real ones. `abs` and `maximum` are not.
#
# ## Never ones
#
# The loss above was one number. A layer returns an array. To ask for its gradient, one has to say how much each output
# counts: a gradient arrives from behind, which is called the **cotangent**, `dout` in our code. For a check we may choose
# it. The obvious choice is to sum the output, which makes all of `dout` ones. Here is a softmax, with the right
# backward pass and three wrong ones:


# %%
def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def right(dout, x):
    p = softmax(x)
    return p * (dout - (p * dout).sum(axis=1, keepdims=True))


def no_p(dout, x):
    p = softmax(x)
    return dout - (p * dout).sum(axis=1, keepdims=True)  # forgotten: p *


def plain_mean(dout, x):
    p = softmax(x)
    return p * (dout - dout.mean(axis=1, keepdims=True))  # every output counts the same


def negated(dout, x):
    return -right(dout, x)


def error(backward, dout, x):
    """The largest difference between a gradient of (dout * softmax(x)).sum() and central ones."""
    measured = central(lambda v: (dout * softmax(v.reshape(x.shape))).sum(), x.ravel(), 1e-5)
    return np.abs(backward(dout, x).ravel() - measured).max()


x = rng.standard_normal((4, 5))
ones, random = np.ones((4, 5)), rng.standard_normal((4, 5))
print("backward      dout of ones   random dout")
for backward in (right, no_p, plain_mean, negated):
    print(
        f"{backward.__name__:<13} {error(backward, ones, x):>12.0e} {error(backward, random, x):>13.0e}"
    )

# %% [markdown]
# With ones all four pass, and the reason is in the forward pass. The outputs of a softmax sum to 1 in every row, so their
# sum does not depend on `x`, and the gradient is 0 in every entry. Each of the wrong rules gives 0, too. A batch or layer
# normalization has the same trap. **So the cotangent has to be random.**
#
# ## `gu.check`
#
# All of that in a line: double precision, random cotangents (two of them, so that a rule that ignores `dout` does not pass),
# steps of several sizes with an estimate of what is left of their error, the complex step where forward allows it, and
# the gradients that follow from forward's own operations where they can be followed.

# %%
report = gu.check(softmax, x, backward=right)
print(report)
assert report

# %% [markdown]
# A row is a gradient. "At" is the entry where it differs most from the truth, and then come both numbers. The report is
# true if every gradient is right. Now the three that a sum cannot tell from it:

# %%
for backward in (no_p, plain_mean, negated):
    report = gu.check(softmax, x, backward=backward)
    assert not report
    print(
        f"{backward.__name__:<11} {report['x'].verdict}, relative error {report['x'].relative:.2g}"
    )

# %% [markdown]
# ## First bug: a mean forgotten
#
# From here on the passes are such as one writes. The data are handwritten digits, 8 by 8 pixels, and the task is to predict
# the digit as a number, as in [lesson 2](02_forward_and_backward.ipynb). The loss is the mean squared error. In the
# backward pass of `Mse`, the `/ n` of the mean is missing. Does it train?


# %%
class Mse(nn.Module):
    def forward(self, inp, targ):
        return ((inp.squeeze(-1) - targ) ** 2).mean()

    def bwd(self, out, inp, targ):
        diff = inp.squeeze(-1) - targ
        inp.g = 2 * diff.unsqueeze(-1) * out.g


images, labels, valid_images, valid_labels = digits()
numbers = labels.astype(np.float32)


def regression(loss_of, make_optimizer, size, epochs=5):
    """Train, and return the mean squared error over all images."""
    gu.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 50), nn.Relu(), nn.Linear(50, 1))
    optimizer = make_optimizer(model.parameters())
    with np.errstate(all="ignore"):  # it may diverge
        for epoch in range(epochs):
            for xb, yb in batches(images, numbers, size=size, shuffle=True, seed=epoch):
                loss_of(model(xb), yb).backward()
                optimizer.step()
        return loss_of(model(images), numbers).item()


makers = {
    "SGD, lr 0.05": lambda parameters: optim.SGD(parameters, lr=0.05),
    "SGD, lr 0.001": lambda parameters: optim.SGD(parameters, lr=0.001),
    "Adam, lr 0.01": lambda parameters: optim.Adam(parameters, lr=0.01),
}
print(f"always the mean digit: {numbers.var():.2f}\n")
print(f"{'after 5 epochs':<14} batch size    right  forgotten")
for name, maker in makers.items():
    for size in (16, 64, 256):
        errors = [regression(loss_of, maker, size) for loss_of in (nn.Mse(), Mse())]
        print(f"{name:<14} {size:>10} {errors[0]:>8.2f} {errors[1]:>10.2f}")

# %% [markdown]
# It does. The gradient is right but for a factor, `n`, and an optimizer that tries learning rates finds one that goes with
# it. Adam divides by the size of the gradient, and so hardly notices. But the learning rate is tied to the batch size now:
# what learns well with 64 images a batch fails with 256. A weight decay, a clipped gradient or a second term
# of the loss would be out of proportion, too.
#
# The check does not ask whether it learns. (The targets are integers, so they have no gradient, and are passed on as they
# are.)

# %%
predictions, targets = rng.standard_normal((8, 1)), labels[:8]
report = gu.check(Mse(), predictions, targets)
print(report)
assert report.findings[0].kind == "mean"

# %% [markdown]
# Below the table is a diagnosis: the mistake, the numbers that speak for it, and what to do. The first one is the
# likeliest. What follows with "or" would give the same numbers: eight times too much *is* a wrong constant, but with
# 8 images in the batch it is hardly one by chance. How does it find out? It tries. Mistakes that people make are undone in
# the backward pass as it is written, one by one, until one of them gives the true gradient; and they are made in the
# true backward pass, until one gives the wrong numbers. A factor or a transpose is seen from the numbers alone.
#
# We do what it says, and check again:


# %%
class FixedMse(Mse):
    def bwd(self, out, inp, targ):
        diff = inp.squeeze(-1) - targ
        inp.g = 2 * diff.unsqueeze(-1) / len(targ) * out.g


report = gu.check(FixedMse(), predictions, targets)
print(report)
assert report

# %% [markdown]
# ## Second bug: a mask from the wrong tensor
#
# The gradient of a ReLU passes where its input is positive. Its output is positive at just the same places, so
# `(out > 0) * out.g` is right as well, and many write it so. Then somebody makes a block of it, a linear layer, a ReLU, and a
# way around both:


# %%
class Block(nn.Module):
    def __init__(self, n):
        self.w = nn.Parameter(gu.randn(n, n) / n**0.5)
        self.b = nn.Parameter(gu.zeros(n))

    def forward(self, inp):
        return inp + (inp @ self.w + self.b).clamp_min(0.0)

    def bwd(self, out, inp):
        dh = (out > 0) * out.g
        inp.g = out.g + dh @ self.w.T
        self.w.g = inp.T @ dh
        self.b.g = dh.sum(0)


class FixedBlock(Block):
    def bwd(self, out, inp):
        h = inp @ self.w + self.b
        dh = (h > 0) * out.g
        inp.g = out.g + dh @ self.w.T
        self.w.g = inp.T @ dh
        self.b.g = dh.sum(0)


# %% [markdown]
# `out` is now what comes out of the block. It is positive where `inp` is large, whatever the ReLU did. We train a
# network that tells the ten digits apart, with two such blocks, and take the second class for comparison:

# %%
cross_entropy = nn.CrossEntropy()


def classification(kind, epochs=8):
    """The loss and the accuracy on the validation images, epoch by epoch."""
    gu.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), kind(32), kind(32), nn.Linear(32, 10))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(epochs):
        for xb, yb in batches(images, labels, size=64, shuffle=True, seed=epoch):
            cross_entropy(model(xb), yb).backward()
            optimizer.step()
        out = model(valid_images)
        accuracy = (out.argmax(1) == valid_labels).float().mean().item()
        yield cross_entropy(out, valid_labels).item(), accuracy


print("        wrong mask          right mask")
print("epoch   loss   accuracy     loss   accuracy")
for epoch, (wrong, right_one) in enumerate(
    zip(classification(Block), classification(FixedBlock), strict=True), 1
):
    print(
        f"{epoch:>5} {wrong[0]:>6.3f} {wrong[1]:>10.3f} {right_one[0]:>8.3f} {right_one[1]:>10.3f}"
    )

# %% [markdown]
# Look at the left half alone, as one would: a network that learns to read digits. The right mask is a little ahead, which
# another seed or learning rate might explain, too. Who would look for a bug here? The check:

# %%
activations = rng.standard_normal((6, 5))
report = gu.check(Block(5), activations)
print(report)
assert report.findings[0].kind == "mask"

# %% [markdown]
# All three gradients are wrong, and all for one reason: they are made of `dh`. So there is one finding, with three names
# behind it. The evidence is the line of the backward pass that was changed, and what it was changed to. (A `t` with a number
# is a value without a name in the code; here, what goes into the ReLU.) The fixed block computes it, as `h`:

# %%
report = gu.check(FixedBlock(5), activations)
print(report)
assert report

# %% [markdown]
# ## Third bug: `=` where `+=` is meant
#
# In a `bwd` of this library, `a.g = v` contributes: what several uses of a value send back is added up by the engine. In
# plain NumPy nobody does that. Here is an autoencoder that squeezes 64 pixels into 16 numbers and makes an image of them
# again, both with the same weights. So `w` is used twice, and the second assignment to `grads["w"]` throws the first
# away:


# %%
def autoencoder(x, w):
    h = np.tanh(x @ w)
    return h @ w.T, (x, w, h)


def backward(dout, cache):
    x, w, h = cache
    grads = {}
    grads["w"] = dout.T @ h
    dh = (1 - h**2) * (dout @ w)
    grads["w"] = x.T @ dh
    grads["x"] = dh @ w.T
    return grads


def fixed_backward(dout, cache):
    x, w, h = cache
    grads = {}
    grads["w"] = dout.T @ h
    dh = (1 - h**2) * (dout @ w)
    grads["w"] += x.T @ dh
    grads["x"] = dh @ w.T
    return grads


# %% [markdown]
# For scale: the best that any *linear* map to 16 numbers and back can do is known, by a singular value decomposition.

# %%
centred = images.astype(np.float64) - images.mean(0)


def train(backward, steps, lr=0.05):
    """The squared error of an image, every 50 steps."""
    w = np.random.default_rng(0).standard_normal((64, 16)) * 0.1
    losses = []
    for step in range(steps + 1):
        out, cache = autoencoder(centred, w)
        if step % 50 == 0:
            losses.append(((out - centred) ** 2).sum(1).mean())
        w -= lr * backward(2 * (out - centred) / len(centred), cache)["w"]
    return losses


print("step   `=`    `+=`")
for i, both in enumerate(zip(train(backward, 300), train(fixed_backward, 300), strict=True)):
    print(f"{50 * i:>4} {both[0]:>6.2f} {both[1]:>6.2f}")
values = np.linalg.svd(centred, compute_uv=False)
print(f"always the mean image {(values**2).sum() / len(centred):.2f}")
print(f"best linear map       {(values[16:] ** 2).sum() / len(centred):.2f}")

# %% [markdown]
# The loss falls from step to step, and more and more slowly, as losses do. Only somebody with the right column beside it, or
# with the bound below, would see that the error could be less than half of that.
#
# A forward and a backward in plain NumPy are given to the check as a pair. It calls `backward(dout, cache)`, since
# `autoencoder` returns an output and a cache; a `backward(dout, x, w)` would do, too.

# %%
small_x, small_w = rng.standard_normal((6, 5)), rng.standard_normal((5, 3))
report = gu.check(autoencoder, small_x, small_w, backward=backward)
print(report)
assert report.findings[0].kind == "overwritten"
assert report["x"].ok

# %% [markdown]
# `x` is right and `w` is not, and the evidence says which of its two uses is lost. With `+=`:

# %%
report = gu.check(autoencoder, small_x, small_w, backward=fixed_backward)
print(report)
assert report

# %% [markdown]
# ## Where there is no derivative
#
# A ReLU has a kink at 0. From the left its slope is 0, from the right it is 1, and the central difference says 1/2,
# which no backward pass says. A check that knows nothing else would call each of them wrong. With random inputs nobody
# hits the 0, but zeros are common: a padded image, an output of another ReLU.


# %%
class Relu(nn.Module):
    def forward(self, inp):
        return inp.clamp_min(0.0)

    def bwd(self, out, inp):
        inp.g = (inp > 0) * out.g


report = gu.check(Relu(), np.array([-1.0, 0.0, 2.0]))
print(report)
assert report["inp"].verdict == "kink"

# %% [markdown]
# It looks from both sides, with smaller and smaller steps. The two slopes stay apart: a kink. Moved off it, the gradient is
# right, and at the kink it is one of the two slopes or lies between them. So the verdict is "right", with a note.
#
# ## What a check cannot see
#
# It sees what happens at the inputs that it gets. Huber's loss is a parabola near 0 and a straight line further out, where
# outliers should not count so much. In this one the slope of the line is wrong:


# %%
def huber(x):
    return np.where(np.abs(x) < 1, x**2 / 2, np.abs(x) - 0.5)


def huber_backward(dout, x):
    return np.where(np.abs(x) < 1, x, 1.0) * dout  # meant: np.sign(x)


near, far = np.array([-0.7, 0.2, 0.9]), np.array([-2.0, 0.2, 3.0])
for inputs in (near, far):
    report = gu.check(huber, inputs, backward=huber_backward)
    print(f"{inputs!s:<18} {report['x'].verdict}")


# %% [markdown]
# So choose inputs that go through every branch, in both signs, and of a size that layers will see. And check small
# ones: every entry of a small array is compared, while a large array has to make do with sums along random directions.
#
# In a test, a check is one line. `assert_ok` raises an error with the whole report in it:

# %%
try:
    gu.check(huber, far, backward=huber_backward).assert_ok()
except AssertionError as error:
    print(type(error).__name__, "\n".join(str(error).splitlines()[:8]), sep="")
gu.check(FixedBlock(5), activations).assert_ok()

# %% [markdown]
# ## A proof
#
# A check is evidence at some inputs. A proof is for all of them: `gu.prove` runs `forward` and `bwd` on symbols at a small
# shape, lets SymPy differentiate each output, and shows that what `bwd` says minus that is zero, entry by entry. Where it is
# not, there are numbers to show it.


# %%
class Square(nn.Module):
    def forward(self, inp):
        return inp * inp

    def bwd(self, out, inp):
        inp.g = 2 * inp * out.g


class HalfSquare(Square):
    def bwd(self, out, inp):
        inp.g = inp * out.g


for module, shape in ((Square(), (2,)), (nn.Linear(3, 2), (2, 3)), (HalfSquare(), (2,))):
    print(gu.prove(module, shape))

# %% [markdown]
# ## What to take along
#
# - A falling loss says little of a gradient: all three wrong ones learned.
# - A gradient is a claim about `forward`, and `forward` alone can test it: differences, or the complex step.
# - Double precision, a step near $\varepsilon^{1/3}$, a random cotangent. Sums of outputs hide mistakes.
# - Small layers can be proven.
# - A check knows the inputs that it was given. Let them go through every branch.
# - Wrong backward passes are wrong in ways that are known. Trying them out one by one is a diagnosis.
#
# **To try yourself.** Write `backward` for `layer_norm(x) = (x - mean) / sqrt(var + eps)` along the last axis, and leave out,
# one after the other, the path through the mean and the one through the variance. What does each report say? Which of them
# is found with a `dout` of ones, and why not the other? Then give `Relu` a slope of 5 at exactly 0. Does the check call it
# right, and should it?
