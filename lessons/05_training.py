# %% [markdown]
# # 5. Training
#
# Forward, backward, and now the third part: the update. In this lesson a network really learns something, first
# handwritten digits, then pictures of clothes. We write the training loop by hand, in a dozen lines, and then
# let `gu.train.Learner` run the same loop. With it we look for a learning rate, look at the mistakes, and
# compare optimizers, schedules and dropout: by measuring, not by opinion.

# %%
import inspect
import math
import time
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pooch

import groundup as gu
from groundup import nn, optim
from groundup.data import DIGIT_CLASSES, FASHION_CLASSES, batches, digits, fashion_mnist
from groundup.errors import DataNotFoundError
from groundup.foundations import assert_close
from groundup.train import Callback, Learner, accuracy, plot_confusion, plot_wrong

plt.rcParams["figure.dpi"] = 72  # small pictures, small file

# %% [markdown]
# ## The data
#
# Handwritten digits of 8 by 8 pixels: a row of `x` is an image, 64 numbers from 0 (paper) to 1 (ink), and `y`
# says which digit it shows. A fifth of the images is set aside. The network never learns from these **validation**
# images, so what it can do with them tells what it has understood, and not only memorised.

# %%
data = digits()
x_train, y_train, x_valid, y_valid = data
print("to learn from ", x_train.shape, y_train.shape)
print("set aside     ", x_valid.shape, y_valid.shape)


def strip(images, titles, side):
    """A row of images."""
    axes = plt.subplots(1, len(images), figsize=(7.5, 1.2))[1]
    for ax, image, title in zip(axes, images, titles, strict=True):
        ax.imshow(image.reshape(side, side), cmap="gray_r")
        ax.set_title(title, fontsize=8)
        ax.axis("off")


strip(x_train[:10], y_train[:10], 8)

# %% [markdown]
# ## A loss for classes
#
# The digits are ten classes, and the network gets ten outputs, the **logits** $z_0 \dots z_9$: the larger, the
# more it believes in that class. The *softmax* makes probabilities of them, positive and of sum one:
#
# $$p_j = \frac{e^{z_j}}{\sum_k e^{z_k}}$$
#
# The loss should be small when the right class $y$ has a probability near one. **Cross-entropy** takes
#
# $$loss = -\log p_y = -z_y + \log \sum_k e^{z_k}$$
#
# which is 0 for $p_y = 1$ and grows without bound as $p_y$ goes to 0: being sure and wrong costs dearly. Its
# gradient is as simple as one could wish. The derivative of $\log \sum_k e^{z_k}$ in $z_j$ is
# $e^{z_j} / \sum_k e^{z_k}$, which is $p_j$ again, so
#
# $$\frac{\partial\, loss}{\partial z_j} = p_j - [j = y]$$
#
# what the network said, minus what was right. For a batch, the losses are averaged. Let us see:

# %%
logits = gu.randn(4, 10)
logits.requires_grad_()
labels = y_train[:4]
nn.CrossEntropy()(logits, labels).backward()

p = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(1, keepdims=True)
right = np.eye(10, dtype=np.float32)[labels]
print("(p - right) / 4 against the gradient:", np.abs((p - right) / 4 - logits.g.numpy()).max())
print("its bwd in the library, with the options that we do not need yet:\n")
print(inspect.getsource(nn.CrossEntropy.bwd))

# %% [markdown]
# ## The loop, by hand
#
# A network, a loss, an optimizer. Before anything else, a check that costs nothing: a fresh network knows nothing,
# so each of ten classes should have a probability of about one tenth, and the loss should be about
# $-\log(1/10) = \log 10$, or a little more, since random weights have random opinions. A loss far above says that
# something is wrong with the initial weights or the inputs.


# %%
def network():
    gu.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), nn.Relu(), nn.Linear(64, 10))


model = network()
loss_function = nn.CrossEntropy()
optimizer = optim.SGD(model.parameters(), lr=0.2)

print(model)
print(
    f"loss of the fresh network {loss_function(model(x_train), y_train):.3f}, log(10) = {math.log(10):.3f}"
)

# %% [markdown]
# And this is training, the whole of it. An **epoch** is one pass over the data, in **batches** of 64 images, in a
# new random order each time.

# %%
training = batches(x_train, y_train, size=64, shuffle=True)
curves = {"training": [], "validation": []}
start = time.perf_counter()

for _ in range(20):
    total = 0.0
    for xb, yb in training:
        loss = loss_function(model(xb), yb)  # forward
        loss.backward()  # backward
        optimizer.step()  # update
        total += loss.item() * len(yb)
    curves["training"].append(total / len(y_train))
    with gu.no_grad():
        logits = model(x_valid)
        curves["validation"].append(loss_function(logits, y_valid).item())

took = time.perf_counter() - start
share = np.mean(logits.numpy().argmax(1) == y_valid)
print(f"{share:.1%} of {len(y_valid)} validation images are recognised, after {took:.2f} s")

# %%
fig, ax = plt.subplots(figsize=(6, 2.6))
for (name, losses), colour in zip(curves.items(), ("#4878a8", "#d08030"), strict=True):
    ax.plot(range(1, 21), losses, color=colour, label=name)
ax.set_ylim(0)
ax.set_xticks(range(0, 21, 5))
ax.set_xlabel("epoch")
ax.set_title("cross-entropy", loc="left")
ax.legend(frameon=False)
ax.spines[["top", "right"]].set_visible(False)

# %% [markdown]
# Four things about these lines.
#
# **The update** is what `step` does, for every parameter: a small move against its gradient. We take the same step
# by hand, from the same gradients, and get the same weights.

# %%
print(inspect.getsource(optim.SGD.update))

loss_function(model(x_train[:64]), y_train[:64]).backward()
by_hand = [p.numpy() - 0.2 * p.g.numpy() for p in model.parameters()]
optimizer.step()
for ours, parameter in zip(by_hand, model.parameters(), strict=True):
    assert_close(parameter.numpy(), ours, rtol=1e-6, atol=1e-7)
print("by hand: the same")

# %% [markdown]
# **There is no `zero_grad`.** In PyTorch, gradients pile up until someone clears them. Here, `backward` begins
# by clearing what it is going to fill. Twice the same gives the same:

# %%
for _ in range(2):
    loss_function(model(x_train), y_train).backward()
    print(f"gradient's norm {np.linalg.norm(model.layers[0].w.g.numpy()):.6f}")

# %% [markdown]
# **`no_grad`** around the validation says that no backward pass will follow, so nothing needs to be noted for it.
#
# **Batches** are a bargain. The gradient of 64 images is only an estimate of that of all images, but it is had for a
# fraction of the work, and a step with a fair estimate now beats a perfect one later. The same number of epochs,
# at the same learning rate, with batches of other sizes; in the last line, all images in one. (Large batches
# bear a larger rate, which makes up for a part of it.)

# %%
print("batch size   steps   validation loss   accuracy   seconds")
for size in (16, 64, 256, len(y_train)):
    learner = Learner(
        network(),
        data,
        loss_function,
        partial(optim.SGD, lr=0.2),
        [accuracy],
        batch_size=size,
        display=False,
    )
    learner.fit(20)
    last = learner.history[-1]
    seconds = sum(row["seconds"] for row in learner.history)
    print(
        f"{size:>10} {learner.step:>7} {last['valid_loss']:>17.3f} {last['accuracy']:>10.1%} {seconds:>9.2f}"
    )

# %% [markdown]
# ## The Learner
#
# We have just used it: a `Learner` brings model, data, loss and optimizer together and runs our loop. It measures as it
# goes, keeps the history, and lets *callbacks* look in. To see that it does nothing else, we begin with the same
# weights and the same order of the batches:

# %%
model = network()
learner = Learner(model, data, loss_function, partial(optim.SGD, lr=0.2), [accuracy])
learner.fit(20)
# %%
print("largest difference to our own loop:")
for name in ("training", "validation"):
    column = [row[f"{name[:5]}_loss"] for row in learner.history]
    print(f"  {name} loss {np.abs(np.array(column) - curves[name]).max():.1e}")

# %% [markdown]
# ## Which learning rate?
#
# The most important number in training, and one that no formula gives. But one can ask the network: train for a
# while, let the rate grow a little with every step, from far too small to far too large, and watch the loss. At first
# nothing moves, then it falls, then it explodes. Good rates lie where it falls steeply, well before it turns.
# (`lr_find` puts everything back afterwards.)

# %%
learner = Learner(network(), data, loss_function, optim.SGD, [accuracy], display=False)
found = learner.lr_find(lr_min=1e-4, lr_max=100)
print(f"suggested: {found.suggestion:.2g}")
fig = found.plot()
fig.set_size_inches(5, 2.7)
fig

# %% [markdown]
# ## Which optimizer?
#
# All of them go against the gradient; they differ in what they remember of earlier ones. *Momentum* keeps a running sum
# of gradients, so that directions that persist gain speed. *RMSprop* divides by a running mean of the gradient's
# size, so that each weight has its own pace. *Adam* does both.
#
# Is one better? A fair answer lets each have **its own** learning rate. So we train each with nine of them, for ten epochs,
# from the same initial weights, and look at the validation loss:

# %%
rates = 10.0 ** np.arange(-3.5, 1.0, 0.5)
contenders = {
    "SGD": optim.SGD,
    "SGD, momentum 0.9": partial(optim.SGD, momentum=0.9),
    "RMSprop": optim.RMSprop,
    "Adam": optim.Adam,
}
colours = dict(zip(contenders, ("#888888", "#4878a8", "#5a9a5a", "#d08030"), strict=True))


def train(opt, epochs=10):
    learner = Learner(network(), data, loss_function, opt, [accuracy], display=False)
    return learner.fit(epochs).history


start = time.perf_counter()
histories = {
    name: [train(partial(optimizer, lr=rate)) for rate in rates]
    for name, optimizer in contenders.items()
}
print(f"{len(contenders) * len(rates)} trainings in {time.perf_counter() - start:.1f} s\n")

best = {}
for name, tried in histories.items():
    final = [history[-1]["valid_loss"] for history in tried]
    best[name] = int(np.argmin(final))
    accurate = tried[best[name]][-1]["accuracy"]
    print(
        f"{name:<18} best at lr {rates[best[name]]:.2g}: loss {min(final):.3f}, accuracy {accurate:.1%}"
    )

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(7.4, 2.5), sharey=True)
for name, tried in histories.items():
    left.loglog(
        rates, [h[-1]["valid_loss"] for h in tried], "o-", color=colours[name], markersize=3.5
    )
    chosen = tried[best[name]]
    right.semilogy(
        [row["epoch"] for row in chosen],
        [row["valid_loss"] for row in chosen],
        color=colours[name],
        label=f"{name}, lr {rates[best[name]]:.2g}",
    )
left.set_ylim(0.05, 4)
left.minorticks_off()
left.set_xlabel("learning rate")
left.set_title("validation loss after ten epochs", loc="left", fontsize=10)
right.set_xlabel("epoch")
right.set_title("each at its best rate", loc="left", fontsize=10)
right.legend(frameon=False, fontsize=8)
for ax in (left, right):
    ax.spines[["top", "right"]].set_visible(False)

# %% [markdown]
# Look at the left picture first. Each optimizer has a valley, and the valleys lie at different rates: comparing two
# optimizers at *one* rate says more about the rate than about them. At their best rates they are close, on a problem
# as easy as this. And beyond its valley each one climbs steeply: too large a rate costs more than one too small.
#
# ## What did it get wrong?
#
# A single figure hides how a network fails. The **confusion matrix** counts, for each true digit (row), what was said
# (column). The diagonal is right. We take the optimizer of the last line above.

# %%
adam = partial(optim.Adam, lr=rates[best["Adam"]])
learner = Learner(network(), data, loss_function, adam, [accuracy], display=False)
learner.fit(10)
said = learner.predict(x_valid).argmax(1)
fig = plot_confusion(y_valid, said, DIGIT_CLASSES)
fig.set_size_inches(4.4, 4.4)
fig

# %% [markdown]
# And the images themselves, the ones with the least probability for the right class first. It is always worth looking:
# errors in the labels turn up here too, and some of these one would not want to bet on oneself. (A title says
# what the digit is, and what the network took it for.)

# %%
probabilities = gu.softmax(learner.predict(x_valid)).numpy()
fig = plot_wrong(x_valid.reshape(-1, 8, 8), y_valid, probabilities, DIGIT_CLASSES, most=6)
fig.set_size_inches(7.5, 1.9)
fig

# %% [markdown]
# ## Memorising, and dropout
#
# Take away most of the training images, and make the network larger. Now it has far more parameters than images, and
# can simply learn each by heart: the training loss goes to zero. On the validation images that helps little.
#
# **Dropout** makes that harder. In training, each unit is switched off with probability $p$, at random, anew in each
# step; so no unit can rely on another one being there. What remains is scaled by $1/(1-p)$, so that on average nothing
# changes: a unit of value $v$ becomes $0$ with probability $p$ and $v/(1-p)$ otherwise, on average
# $p \cdot 0 + (1-p) \cdot v/(1-p) = v$. That is why dropout can simply be left out when it comes to predicting.

# %%
dropout = nn.Dropout(0.5)
ones = gu.Tensor(np.ones(1_000_000, np.float32))
print("training:  ", dropout(ones).numpy()[:8], f" mean {dropout(ones).numpy().mean():.3f}")
dropout.eval()
print("predicting:", dropout(ones).numpy()[:8])

# %%
few = (x_train[:150], y_train[:150], x_valid, y_valid)


def large(p, seed):
    gu.manual_seed(seed)
    layers = [nn.Linear(64, 256), nn.Relu(), nn.Dropout(p)]
    layers += [nn.Linear(256, 256), nn.Relu(), nn.Dropout(p), nn.Linear(256, 10)]
    return nn.Sequential(*layers)


count = sum(p.size for p in large(0, 0).parameters())
print(f"{len(few[1])} images, {count:,} parameters; means of four runs\n")

fig, ax = plt.subplots(figsize=(6, 2.6))
print("dropout   training loss   validation loss   accuracy")
for p, colour in [(0.0, "#d08030"), (0.5, "#4878a8")]:
    runs = []
    for seed in range(4):
        learner = Learner(
            large(p, seed),
            few,
            loss_function,
            partial(optim.Adam, lr=0.002),
            [accuracy],
            seed=seed,
            batch_size=25,
            display=False,
        )
        learner.fit(50)
        # the training loss, as it would be without dropout
        fitted = nn.CrossEntropy()(gu.Tensor(learner.predict(few[0])), few[1]).item()
        runs.append([[row["valid_loss"], row["accuracy"], fitted] for row in learner.history])
    mean = np.mean(runs, axis=0)
    print(f"{p:>7} {mean[-1, 2]:>15.4f} {mean[-1, 0]:>17.3f} {mean[-1, 1]:>10.1%}")
    ax.plot(range(1, 51), mean[:, 0], color=colour, label=f"dropout {p}")
    ax.fill_between(
        range(1, 51), np.min(runs, 0)[:, 0], np.max(runs, 0)[:, 0], color=colour, alpha=0.15, lw=0
    )
ax.set_ylim(0.25, 0.5)
ax.set_xlabel("epoch")
ax.set_title("validation loss: mean of four runs, and their range", loc="left", fontsize=10)
ax.legend(frameon=False)
ax.spines[["top", "right"]].set_visible(False)

# %% [markdown]
# Without dropout the validation loss reaches its lowest point and then **rises** again, while the training loss goes on
# falling: the network gets ever surer of itself, also where it is wrong. With dropout it stays down. The bands say how
# much is chance: with so few images, a comparison of two single runs would mean little. And compare the columns of the
# table: dropout does more for the loss, for how honest the probabilities are, than for the share of right answers.
#
# ## Clothes
#
# Now something larger: Fashion-MNIST, pictures of clothes of 28 by 28 pixels, which is as easy to use as the digits and
# a good deal harder to learn.

# %%
pooch.get_logger().setLevel("ERROR")  # downloads, where there is one, without a word

try:
    clothes = fashion_mnist()
    _, _, x_test, y_test = fashion_mnist(split="test")
    classes, side = FASHION_CLASSES, 28
except DataNotFoundError:
    print("Fashion-MNIST is not on this machine and could not be downloaded: on with the digits.\n")
    clothes = digits()
    x_test, y_test = clothes[2:]
    classes, side = DIGIT_CLASSES, 8

print("to learn from", clothes[0].shape, "  validation", clothes[2].shape, "  test", x_test.shape)
firsts = [int(np.argmax(clothes[1] == c)) for c in range(10)]
strip(clothes[0][firsts], classes, side)

# %% [markdown]
# ## Schedules
#
# A large learning rate is fast, but it never comes to rest: in the end the weights jump about around the place where they
# should be. A small one settles, but takes long to get there. So begin large and become small. A **schedule** is a
# function from the step to the rate. *Cosine* comes down along half a cosine wave. *One cycle* also warms up first,
# since the very first gradients, of a network that knows nothing, are the least reliable.
#
# To see every step, we write a callback: a class whose methods are called at certain points of the loop. Then the
# same training with three schedules, on a part of the images:


# %%
class Recorder(Callback):
    """Keeps the learning rate of each step."""

    def before_fit(self, learner):
        self.rates = []

    def after_step(self, learner):
        self.rates.append(learner.opt.lr)


def tailor(hidden, p):
    gu.manual_seed(0)
    return nn.Sequential(
        nn.Linear(side * side, hidden), nn.Relu(), nn.Dropout(p), nn.Linear(hidden, 10)
    )


part = (clothes[0][:8_000], clothes[1][:8_000], clothes[2][:3_000], clothes[3][:3_000])
epochs, top = 6, 0.01
steps = epochs * math.ceil(len(part[1]) / 64)
schedules = {
    "constant": optim.constant(top),
    "cosine": optim.cosine(top, steps),
    "one cycle": optim.one_cycle(top, steps),
}

fig, (left, right) = plt.subplots(1, 2, figsize=(7.4, 2.2))
for (name, schedule), colour in zip(
    schedules.items(), ("#888888", "#4878a8", "#d08030"), strict=True
):
    recorder = Recorder()
    learner = Learner(
        tailor(128, 0),
        part,
        loss_function,
        optim.Adam,
        [accuracy],
        [recorder],
        schedule=schedule,
        display=False,
    )
    last = learner.fit(epochs).history[-1]
    print(f"{name:<10} validation loss {last['valid_loss']:.3f}, accuracy {last['accuracy']:.1%}")
    left.plot(recorder.rates, color=colour)
    right.plot(
        range(1, epochs + 1),
        [row["valid_loss"] for row in learner.history],
        color=colour,
        label=name,
    )
left.set_title("learning rate by step", loc="left", fontsize=10)
right.set_title("validation loss by epoch", loc="left", fontsize=10)
right.legend(frameon=False, loc="upper right")
for ax in (left, right):
    ax.spines[["top", "right"]].set_visible(False)

# %% [markdown]
# In the first epochs there is little to choose between them. Towards the end they part: where the rate goes to zero,
# the loss settles. Everything else was the same.
#
# ## All of it
#
# All training images, a wider layer, a little dropout, one cycle. We have chosen our settings by the validation images, so
# these are no longer impartial. For that there are the **test** images, which we look at once, at the very end.

# %%
epochs = 5
steps = epochs * math.ceil(len(clothes[1]) / 128)
learner = Learner(
    tailor(256, 0.2),
    clothes,
    loss_function,
    optim.Adam,
    [accuracy],
    batch_size=128,
    schedule=optim.one_cycle(0.005, steps),
)
learner.fit(epochs)
# %%
logits = learner.predict(x_test)
print(f"accuracy on {len(y_test):,} test images: {accuracy(logits, y_test):.2%}")
fig = plot_confusion(y_test, logits.argmax(1), classes)
fig.set_size_inches(5.2, 5.2)
fig

# %% [markdown]
# Trousers and bags are easy. The mistakes are among shirts, T-shirts, pullovers and coats, as a person's would be, at
# 28 by 28 pixels. A network that sees its image as a mere list of numbers, without knowing which pixels are neighbours,
# can be taken a little further, but not much: that is what convolutions are for.
#
# ## What to take along
#
# - Training is a loop of three lines: forward, backward, update. All else is measuring and deciding.
# - Before training: the first loss of a classifier should be about $\log(\text{classes})$.
# - The learning rate comes first. Search it for each optimizer, and let it fall towards the end.
# - Watch the validation loss. If it rises while the training loss falls, the network memorises.
# - Look at the mistakes, not only at their number. And repeat a run with other seeds before you believe a
#   small difference.
#
# **To try yourself.** Give `Adam` in the dropout experiment a larger task: `optim.AdamW` with a weight decay of 0.1 instead
# of dropout, then both. And write a callback that prints the norm of all gradients (`after_backward`), and look how it
# goes through an epoch.
