"""Training steps of larger and odder models, as people write them, for the tests of Programs.

Each function makes a fresh step, the same at every call, as in `steps`. The first axis of every
array among the arguments is the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from steps import Step, batches, labels, numbers

import groundup as gu
from groundup import Tensor, nn, optim
from groundup.nn import Buffer, Module, Parameter


def whole_state(*parts: Module | optim.Optimizer | dict[str, Tensor]) -> dict[str, Tensor]:
    """All that a step may change in some modules, optimizers and tensors by name."""
    found: dict[str, Tensor] = {}
    for i, part in enumerate(parts):
        if isinstance(part, Module):
            held = {n: m for n, m in part.named_members() if isinstance(m, Parameter | Buffer)}
        elif isinstance(part, optim.Optimizer):
            held = {f"{k}.{j}": t for k, ts in part.state.items() for j, t in enumerate(ts)}
        else:
            held = part
        found |= {f"{i}.{name}": t for name, t in held.items()}
    return found


def weight(*shape: int, seed: int, scale: float = 0.3) -> Parameter:
    return Parameter(np.float32(scale) * numbers(*shape, seed=seed))


def rows(n: int, *shapes: tuple[int, ...], count: int = 4) -> list[tuple[Any, ...]]:
    """Batches of n rows of each shape."""
    return [
        tuple(numbers(n, *shape, seed=100 * i + j) for j, shape in enumerate(shapes))
        for i in range(count)
    ]


# Attention


class LayerNorm(Module):
    def __init__(self, width: int):
        self.gain = Parameter(np.ones(width, np.float32))
        self.bias = Parameter(np.zeros(width, np.float32))
        self.eps = 1e-5

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(-1, keepdims=True)
        var = x.var(-1, correction=0, keepdims=True)
        return (x - mean) / (var + self.eps).sqrt() * self.gain + self.bias


class Attention(Module):
    def __init__(self, width: int, heads: int):
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        n, time, width = x.shape
        q, k, v = (
            part.reshape(n, time, self.heads, width // self.heads).transpose(1, 2)
            for part in self.qkv(x).split(width, -1)
        )
        scores = (q @ k.transpose(-2, -1)) / (width // self.heads) ** 0.5
        later = np.triu(np.ones((time, time), bool), 1)
        p = scores.masked_fill(later, -np.inf).softmax(-1)
        return self.out((p @ v).transpose(1, 2).reshape(n, time, width))


class TransformerBlock(Module):
    def __init__(self, width: int):
        self.norm1, self.attention = LayerNorm(width), Attention(width, 2)
        self.norm2 = LayerNorm(width)
        self.up, self.act, self.down = (
            nn.Linear(width, 4 * width),
            nn.Gelu(),
            nn.Linear(4 * width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.down(self.act(self.up(self.norm2(x))))


class GPT(Module):
    """Token and position embeddings, blocks, and the token embedding once more as the head."""

    def __init__(self, tokens: int, time: int, width: int, blocks: int):
        self.token = weight(tokens, width, seed=0, scale=0.1)
        self.position = weight(time, width, seed=1, scale=0.1)
        self.blocks = [TransformerBlock(width) for _ in range(blocks)]
        self.norm = LayerNorm(width)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.token[ids] + self.position
        for block in self.blocks:
            x = block(x)
        return self.norm(x) @ self.token.T


def gpt(blocks: int = 3) -> Step:
    gu.manual_seed(3)
    tokens, time, n = 11, 5, 6
    model = GPT(tokens, time, 8, blocks)
    opt, loss_of = optim.AdamW(model.parameters(), 0.01), nn.CrossEntropy()

    def step(ids: Tensor, targets: Tensor) -> Tensor:
        logits = model(ids)
        loss = loss_of(logits.reshape(-1, tokens), targets.reshape(-1))
        loss.backward()
        optim.clip_grad_norm(model.parameters(), 1.0)
        opt.step()
        return loss

    def drawn(seed: int) -> Any:
        return labels(n * time, tokens, seed).reshape(n, time)

    given = [(drawn(i), drawn(i + 9)) for i in range(4)]
    return Step(step, given, whole_state(model, opt))


def deep_gpt() -> Step:
    return gpt(12)


# Sequences


class LSTM(Module):
    def __init__(self, inputs: int, hidden: int):
        self.w = weight(inputs + hidden, 4 * hidden, seed=0)
        self.b = Parameter(np.zeros(4 * hidden, np.float32))
        self.hidden = hidden

    def forward(self, x: Tensor) -> Tensor:
        n, time, _ = x.shape
        h, c = gu.zeros(n, self.hidden), gu.zeros(n, self.hidden)
        for k in range(time):
            gates = gu.concatenate([x[:, k], h], 1) @ self.w + self.b
            i, f, g, o = gates.split(self.hidden, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        return h


def lstm() -> Step:
    gu.manual_seed(1)
    model, head = LSTM(3, 4), nn.Linear(4, 2)
    opt = optim.Adam([*model.parameters(), *head.parameters()], 0.01)
    loss_of = nn.CrossEntropy()

    def step(x: Tensor, y: Tensor) -> Any:
        out = head(model(x))
        loss = loss_of(out, y)
        loss.backward()
        opt.step()
        return loss, out

    given = [(numbers(5, 6, 3, seed=i), labels(5, 2, i)) for i in range(4)]
    return Step(step, given, whole_state(model, head, opt))


class GRU(Module):
    """A GRU whose state stays where a row's sequence has ended."""

    def __init__(self, inputs: int, hidden: int):
        self.of_x, self.of_h = (
            weight(inputs, 3 * hidden, seed=5),
            weight(hidden, 3 * hidden, seed=6),
        )
        self.b = Parameter(np.zeros(3 * hidden, np.float32))
        self.hidden = hidden

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        n, time, _ = x.shape
        h = gu.zeros(n, self.hidden)
        for k in range(time):
            reset, keep, new = (x[:, k] @ self.of_x + self.b).split(self.hidden, 1)
            reset_h, keep_h, new_h = (h @ self.of_h).split(self.hidden, 1)
            keep = (keep + keep_h).sigmoid()
            new = (new + (reset + reset_h).sigmoid() * new_h).tanh()
            running = (lengths > k).unsqueeze(1)
            h = gu.where(running, (1.0 - keep) * new + keep * h, h)
        return h


def gru() -> Step:
    gu.manual_seed(2)
    model, head = GRU(3, 4), nn.Linear(4, 2)
    opt, loss_of = (
        optim.SGD([*model.parameters(), *head.parameters()], 0.1, momentum=0.9),
        nn.CrossEntropy(),
    )

    def step(x: Tensor, lengths: Tensor, y: Tensor) -> Tensor:
        loss = loss_of(head(model(x, lengths)), y)
        loss.backward()
        opt.step()
        return loss

    given = [(numbers(7, 5, 3, seed=i), 1 + labels(7, 5, i), labels(7, 2, i)) for i in range(4)]
    return Step(step, given, whole_state(model, head, opt))


def carried_state() -> Step:
    """A recurrent net whose hidden state goes on from call to call, cut off between them."""
    w, u, head = weight(3, 4, seed=1), weight(4, 4, seed=2), weight(4, 1, seed=3)
    hidden = Buffer(np.zeros((6, 4), np.float32))
    opt = optim.SGD([w, u, head], 0.1)

    def step(x: Tensor, y: Tensor) -> Tensor:
        h = hidden.detach()
        outs = []
        for k in range(3):
            h = (x[:, k] @ w + h @ u).tanh()
            outs.append(h @ head)
        hidden.assign(h)
        loss = ((gu.concatenate(outs, 1) - y) ** 2).mean()
        loss.backward()
        opt.step()
        return loss

    return Step(
        step, rows(6, (3, 3), (3,)), whole_state({"w": w, "u": u, "head": head, "h": hidden}, opt)
    )


def linear_chain() -> Step:
    """A conditional random field: the partition function by logsumexp along the chain."""
    tags, time = 3, 4
    emit, move = weight(5, tags, seed=1), weight(tags, tags, seed=2)
    opt = optim.Adam([emit, move], 0.05)

    def step(x: Tensor, y: Tensor) -> Tensor:
        scores = x @ emit
        alpha = scores[:, 0]
        picked = scores.take_along_axis(y.unsqueeze(-1), -1).squeeze(-1).sum(1)
        for k in range(1, time):
            alpha = (alpha.unsqueeze(2) + move).logsumexp(1) + scores[:, k]
            picked = picked + move[y[:, k - 1], y[:, k]]
        loss = (alpha.logsumexp(1) - picked).mean()
        loss.backward()
        opt.step()
        return loss

    given = [
        (numbers(6, time, 5, seed=i), labels(6 * time, tags, i).reshape(6, time)) for i in range(4)
    ]
    return Step(step, given, whole_state({"emit": emit, "move": move}, opt))


# Normalisation, convolution, embeddings


class BatchNorm(Module):
    def __init__(self, width: int):
        self.gain = Parameter(np.ones(width, np.float32))
        self.bias = Parameter(np.zeros(width, np.float32))
        self.mean = Buffer(np.zeros(width, np.float32))
        self.var = Buffer(np.ones(width, np.float32))

    def forward(self, x: Tensor) -> Tensor:
        mean, var = self.mean, self.var
        if self.training:
            mean, var = x.mean(0), x.var(0, correction=0)
            with gu.no_grad():
                self.mean.assign(0.9 * self.mean + 0.1 * mean.detach())
                self.var.assign(0.9 * self.var + 0.1 * x.detach().var(0))
        return (x - mean) / (var + 1e-5).sqrt() * self.gain + self.bias


def batch_norm() -> Step:
    gu.manual_seed(1)
    model = nn.Sequential(nn.Linear(5, 6), BatchNorm(6), nn.Relu(), nn.Linear(6, 3))
    opt, loss_of = optim.SGD(model.parameters(), 0.1), nn.CrossEntropy()

    def step(x: Tensor, y: Tensor) -> Tensor:
        loss = loss_of(model(x), y)
        loss.backward()
        opt.step()
        return loss

    return Step(step, batches(9, 5, 3), whole_state(model, opt))


def convolution() -> Step:
    """A convolution made of slices, and max pooling."""
    gu.manual_seed(1)
    w, b = weight(3, 3, 2, 4, seed=0), Parameter(np.zeros(4, np.float32))
    head = nn.Linear(16, 3)
    opt = optim.SGD([w, b, *head.parameters()], 0.05)
    loss_of = nn.CrossEntropy()

    def step(x: Tensor, y: Tensor) -> Tensor:
        n, height, width, channels = x.shape
        high, wide = height - 2, width - 2
        patches = [x[:, i : i + high, j : j + wide] for i in range(3) for j in range(3)]
        columns = gu.stack(patches, 3).reshape(n, high, wide, 9 * channels)
        maps = (columns @ w.reshape(9 * channels, 4) + b).relu()
        pooled = maps.reshape(n, 2, 2, 2, 2, 4).amax((2, 4))
        loss = loss_of(head(pooled.flatten(1)), y)
        loss.backward()
        opt.step()
        return loss

    given = [(numbers(4, 6, 6, 2, seed=i), labels(4, 3, i)) for i in range(4)]
    return Step(step, given, whole_state({"w": w, "b": b}, head, opt))


def embedding_bag() -> Step:
    gu.manual_seed(1)
    table, head = weight(10, 4, seed=0, scale=0.1), nn.Linear(4, 2)
    opt = optim.Adam([table, *head.parameters()], 0.01)
    loss_of = nn.CrossEntropy()

    def step(ids: Tensor, y: Tensor) -> Tensor:
        loss = loss_of(head(table[ids].mean(1)), y)
        loss.backward()
        opt.step()
        return loss

    given = [(labels(15, 10, i).reshape(5, 3), labels(5, 2, i)) for i in range(4)]
    return Step(step, given, whole_state({"table": table}, head, opt))


def columns_of_integers() -> Step:
    """int32 categories, a boolean column, counts that become numbers, a sum of rows by class."""
    color, size = weight(5, 3, seed=1), weight(4, 3, seed=2)
    head = weight(7, 3, seed=3)
    opt = optim.SGD([color, size, head], 0.1)
    loss_of = nn.CrossEntropy()

    def step(category: Tensor, flag: Tensor, count: Tensor, y: Tensor) -> Any:
        scaled = (count.float() / 10.0).unsqueeze(1)
        known = gu.where(flag.unsqueeze(1), size[category[:, 1]], 0.0)
        logits = gu.concatenate([color[category[:, 0]], known, scaled], 1) @ head
        loss = loss_of(logits, y)
        loss.backward()
        opt.step()
        by_class = gu.one_hot(y, 3).T @ logits.detach()
        return loss, by_class, (count * 2 - 1).sum(), (flag & (count > 3)).any()

    given = [
        (
            np.stack([labels(8, 5, i), labels(8, 4, i + 20)], 1).astype(np.int32),
            labels(8, 2, i + 30).astype(bool),
            labels(8, 9, i + 40),
            labels(8, 3, i + 50),
        )
        for i in range(4)
    ]
    return Step(step, given, whole_state({"color": color, "size": size, "head": head}))


# Randomness


def vae() -> Step:
    """A variational auto-encoder with random numbers of the default generator; a float argument."""
    gu.manual_seed(1)
    encoder, decoder = nn.Linear(6, 4), nn.Linear(2, 6)
    opt = optim.Adam([*encoder.parameters(), *decoder.parameters()], 0.01)

    def step(x: Tensor, beta: float) -> dict[str, Tensor]:
        mu, log_var = encoder(x).split(2, 1)
        z = mu + (0.5 * log_var).exp() * gu.randn(*mu.shape)
        error = ((decoder(z) - x) ** 2).sum(1).mean()
        kl = -0.5 * (1 + log_var - mu * mu - log_var.exp()).sum(1).mean()
        loss = error + beta * kl
        loss.backward()
        opt.step()
        return {"loss": loss, "error": error, "kl": kl}

    given = [(numbers(7, 6, seed=i), 0.1 * (i + 1)) for i in range(4)]
    return Step(step, given, whole_state(encoder, decoder, opt))


def gradient_penalty() -> Step:
    """A critic between real and made rows, with a penalty on its gradient in between."""
    gu.manual_seed(5)
    critic = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))
    generator = gu.Generator(9)
    opt = optim.RMSprop(critic.parameters(), 0.005)

    def step(real: Tensor, made: Tensor) -> Any:
        mix = generator.uniform(real.shape[0], 1)
        between = Tensor(mix * real + (1.0 - mix) * made).requires_grad_()
        (slope,) = gu.grad(critic(between).sum(), [between], create_graph=True)
        penalty = (((slope * slope).sum(1) + 1e-12).sqrt() - 1.0).square().mean()
        loss = critic(made).mean() - critic(real).mean() + 10.0 * penalty
        loss.backward()
        opt.step()
        return loss, penalty

    return Step(
        step,
        rows(6, (4,), (4,)),
        whole_state(critic, opt, {"counter": generator.counter}),
    )


# Odd modules


class Containers(Module):
    """Layers and parameters in nested dicts, lists and tuples, a 0-d one, a keyword argument."""

    def __init__(self) -> None:
        self.layers = {"a": nn.Linear(4, 5), "b": [nn.Linear(5, 5), nn.Linear(5, 5)]}
        self.loose = {"shift": (weight(5, seed=7), [weight(5, seed=8)])}
        self.scale = Parameter(np.float32(0.5).reshape(()))
        self.out = nn.Linear(5, 1, bias=False)

    def forward(self, x: Tensor, *, skip: Tensor) -> Tensor:
        first, (second,) = self.loose["shift"]
        h = self.layers["a"](x).clamp(-1, 1) + first
        for layer in self.layers["b"]:
            h = gu.maximum(layer(h), 0.1 * h) * self.scale
        return self.out(h + skip * second).squeeze(-1)


def containers() -> Step:
    """Huber loss, weight decay written out, indices and a maximum among the outputs."""
    gu.manual_seed(1)
    model = Containers()
    opt = optim.RMSprop(model.parameters(), 0.01, momentum=0.9)

    def step(x: Tensor, skip: Tensor, y: Tensor) -> Any:
        pred = model(x, skip=skip)
        error = (pred - y).abs()
        decay = 1e-3 * sum((p * p).sum() for p in model.parameters())
        loss = gu.where(error < 1.0, 0.5 * error**2, error - 0.5).mean() + decay
        loss.backward()
        opt.step()
        return loss, pred.argmax(), error.max()

    return Step(step, rows(6, (4,), (5,), ()), whole_state(model, opt))


class Swish(Module):
    """x * sigmoid(beta x) with a learnt beta; bwd uses what forward left in self."""

    def __init__(self) -> None:
        self.beta = Parameter(np.float32(1.5).reshape(()))

    def forward(self, x: Tensor) -> Tensor:
        self.gate = (self.beta * x).sigmoid()
        return x * self.gate

    def bwd(self, out: Tensor, x: Tensor) -> None:
        slope = self.gate * (1.0 - self.gate)
        x.g = out.g * (self.gate + self.beta * x * slope)
        self.beta.g = (out.g * x * x * slope).sum()


def captured_values() -> Step:
    gu.manual_seed(4)
    model = nn.Sequential(nn.Linear(4, 6), Swish(), nn.Linear(6, 6), Swish(), nn.Linear(6, 2))
    opt, loss_of = optim.Adam(model.parameters(), 0.02), nn.Mse()

    def step(x: Tensor, y: Tensor) -> Tensor:
        loss = loss_of(model(x), y)
        loss.backward()
        opt.step()
        return loss

    return Step(step, rows(7, (4,), (2,)), whole_state(model, opt))


class TwoOutputs(Module):
    """A bwd for a module with two outputs and an input that is not used."""

    def forward(self, x: Tensor, y: Tensor, unused: Tensor) -> tuple[Tensor, Tensor]:
        return x * y, x + y

    def bwd(self, out: Any, x: Tensor, y: Tensor, unused: Tensor) -> None:
        product, total = out
        x.g = product.g * y + total.g
        y.g = product.g * x + total.g


def two_outputs() -> Step:
    left, right = weight(4, 3, seed=1), weight(4, 3, seed=2)
    both, opt = TwoOutputs(), optim.SGD([left, right], 0.1)

    def step(x: Tensor, y: Tensor) -> Tensor:
        product, total = both(x @ left, x @ right, left)
        loss = ((product - y) ** 2).mean() + (total * y).mean()
        loss.backward()
        opt.step()
        return loss

    return Step(step, rows(5, (4,), (3,)), whole_state({"left": left, "right": right}))


def by_autograd() -> Step:
    """The forward of some layers runs without their own bwd, that of the others with it."""
    gu.manual_seed(6)
    first = nn.Sequential(nn.Linear(4, 6), nn.Gelu("tanh"), nn.Linear(6, 5), Swish())
    second = nn.Sequential(nn.Linear(5, 5), nn.Sigmoid(), nn.Linear(5, 3))
    opt = optim.AdamW([*first.parameters(), *second.parameters()], 0.02)
    loss_of = nn.CrossEntropy()

    def step(x: Tensor, y: Tensor) -> Tensor:
        with gu.autograd_only():
            h = first(x)
        loss = loss_of(second(h), y)
        loss.backward()
        opt.step()
        return loss

    return Step(step, batches(7, 4, 3), whole_state(first, second, opt))


def frozen() -> Step:
    """A frozen trunk, a frozen bias above it, and one optimizer that was given all."""
    gu.manual_seed(7)
    trunk = nn.Sequential(nn.Linear(4, 6), nn.Relu(), nn.Linear(6, 5)).requires_grad_(False)
    head = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 3))
    head[0].b.requires_grad_(False)
    opt = optim.Adam([*trunk.parameters(), *head.parameters()], 0.02, weight_decay=0.01)
    loss_of = nn.CrossEntropy()

    def step(x: Tensor, y: Tensor) -> Tensor:
        loss = loss_of(head(trunk(x)), y)
        loss.backward()
        opt.step()
        return loss

    return Step(step, batches(7, 4, 3), whole_state(trunk, head, opt))


class ResidualMlp(Module):
    def __init__(self, width: int, blocks: int):
        self.blocks = [(LayerNorm(width), nn.Linear(width, width)) for _ in range(blocks)]

    def forward(self, x: Tensor) -> Tensor:
        for norm, layer in self.blocks:
            x = x + 0.5 * layer(norm(x)).tanh()
        return x


def in_float64() -> Step:
    gu.manual_seed(8)
    model = ResidualMlp(5, 4).double()
    opt, loss_of = optim.Adam(model.parameters(), 0.01), nn.Mse()

    def step(x: Tensor, y: Tensor) -> Tensor:
        loss = loss_of(model(x), y)
        loss.backward()
        opt.step()
        return loss

    return Step(step, batches(6, 5, outputs=5, dtype=np.float64), whole_state(model, opt))


# Steps of several parts


def two_optimizers() -> Step:
    """Two rules for two parts of one model; one clips its gradients, the other does not."""
    gu.manual_seed(9)
    body, head = nn.Sequential(nn.Linear(5, 6), nn.Tanh()), nn.Linear(6, 3)
    of_body = optim.Adam(body.parameters(), 0.01, betas=(0.8, 0.95))
    of_head = optim.SGD(head.parameters(), 0.2, momentum=0.5, nesterov=True)
    loss_of = nn.CrossEntropy()

    def step(x: Tensor, y: Tensor) -> Any:
        loss = loss_of(head(body(x)), y)
        loss.backward()
        optim.clip_grad_value(body.parameters(), 0.05)
        of_body.step()
        of_head.step()
        return loss

    return Step(step, batches(8, 5, 3), whole_state(body, head, of_body, of_head))


class Trainer:
    """A step that is a method, with a loss that is one, too."""

    def __init__(self) -> None:
        self.model = nn.Sequential(nn.Linear(5, 6), nn.Relu(), nn.Linear(6, 3))
        self.opt = optim.SGD(self.model.parameters(), 0.1, momentum=0.9)
        self.seen = Buffer(np.zeros((), np.int64))
        self.best = Buffer(np.full((), np.inf, np.float32))
        self.settings = {"smoothing": 0.1, "names": ["a", "b"]}

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        smoothing = self.settings["smoothing"]
        log_p = logits.log_softmax(-1)
        right = log_p.take_along_axis(y.unsqueeze(1), 1).squeeze(1)
        return -((1 - smoothing) * right + smoothing * log_p.mean(1)).mean()

    def step(self, x: Tensor, y: Tensor) -> dict[str, Any]:
        """Label smoothing, and metrics of several dtypes."""
        logits = self.model(x)
        loss = self.loss(logits, y)
        loss.backward()
        self.opt.step()
        self.seen += x.shape[0]
        self.best.assign(self.best.minimum(loss.detach()))
        own = logits.take_along_axis(y.unsqueeze(1), 1)
        among_two = ((logits > own).sum(1) < 2).float().mean()
        right = (logits.argmax(1) == y).sum()
        return {"loss": loss, "metrics": [right, among_two, logits.argmax(1)]}


def method() -> Step:
    gu.manual_seed(10)
    trainer = Trainer()
    held = {"seen": trainer.seen, "best": trainer.best}
    return Step(trainer.step, batches(8, 5, 3), whole_state(trainer.model, trainer.opt, held))


def accumulated() -> Step:
    """Gradients of three microbatches are added up within the step."""
    gu.manual_seed(11)
    model = nn.Sequential(nn.Linear(5, 6), nn.Gelu(), nn.Linear(6, 2))
    opt, loss_of = optim.Adam(model.parameters(), 0.01), nn.Mse()

    def step(x: Tensor, y: Tensor) -> Any:
        losses = []
        for i, (part, wanted) in enumerate(zip(x.split(3), y.split(3), strict=True)):
            loss = loss_of(model(part), wanted) / 3.0
            loss.backward(accumulate=i > 0)
            losses.append(loss)
        optim.clip_grad_norm(model.parameters(), 0.5)
        opt.step()
        return sum(losses[1:], losses[0])

    return Step(step, rows(9, (5,), (2,)), whole_state(model, opt))


def teacher() -> Step:
    """A teacher, Buffers that follow the student, whose outputs are the targets."""
    student = [weight(5, 6, seed=1), weight(6, seed=2), weight(6, 3, seed=3)]
    teachers = [Buffer(p.array.copy()) for p in student]
    center = Buffer(np.zeros(3, np.float32))
    opt = optim.SGD(student, 0.1)

    def outputs(of: Any, x: Tensor) -> Tensor:
        w1, b1, w2 = of
        return (x @ w1 + b1).relu() @ w2

    def step(x: Tensor, seen_otherwise: Tensor) -> Tensor:
        with gu.no_grad():
            targets = outputs(teachers, seen_otherwise)
            sharp = ((targets - center) / 0.1).softmax(-1)
        loss = -(sharp * (outputs(student, x) / 0.5).log_softmax(-1)).sum(1).mean()
        loss.backward()
        opt.step()
        with gu.no_grad():
            for mean, p in zip(teachers, student, strict=True):
                mean *= 0.9
                mean += 0.1 * p
            center.assign(0.9 * center + 0.1 * targets.mean(0))
        return loss

    tensors = [*student, *teachers, center]
    return Step(
        step, rows(7, (5,), (5,)), whole_state({str(i): t for i, t in enumerate(tensors)}, opt)
    )


def sharpness() -> Step:
    """Weights go uphill, the gradient is taken there, and they come back before the update."""
    gu.manual_seed(12)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))
    opt, loss_of = optim.SGD(model.parameters(), 0.1, momentum=0.9), nn.CrossEntropy()

    def step(x: Tensor, y: Tensor) -> Tensor:
        loss = loss_of(model(x), y)
        loss.backward()
        parameters = list(model.parameters())
        with gu.no_grad():
            before = [p.clone() for p in parameters]
            norm = sum((p.g * p.g).sum() for p in parameters).sqrt()
            for p in parameters:
                p += 0.05 * p.g / (norm + 1e-12)
        loss_of(model(x), y).backward()
        with gu.no_grad():
            for p, old in zip(parameters, before, strict=True):
                p.assign(old)
        opt.step()
        return loss

    return Step(step, batches(8, 5, 3), whole_state(model, opt))


def adapted() -> Step:
    """An inner step of gradient descent that the outer gradient goes through."""
    w, b = weight(4, 2, seed=1), weight(2, seed=2)
    rate = Parameter(np.float32(0.1).reshape(()))
    opt = optim.Adam([w, b, rate], 0.01)

    def error(x: Tensor, y: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return ((x @ w + b).tanh() - y).square().mean()

    def step(x: Tensor, y: Tensor, new_x: Tensor, new_y: Tensor) -> Any:
        dw, db = gu.grad(error(x, y, w, b), [w, b], create_graph=True)
        loss = error(new_x, new_y, w - rate * dw, b - rate * db)
        loss.backward()
        opt.step()
        return loss, rate.g

    return Step(
        step,
        rows(6, (4,), (2,), (4,), (2,)),
        whole_state({"w": w, "b": b, "rate": rate}, opt),
    )


def hessian_vector() -> Step:
    """The Hessian times the gradient, through layers with a bwd of their own."""
    gu.manual_seed(13)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    loss_of = nn.Mse()

    def step(x: Tensor, y: Tensor) -> Any:
        parameters = list(model.parameters())
        loss = loss_of(model(x), y)
        first = gu.grad(loss, parameters, create_graph=True)
        along = sum((g * g.detach()).sum() for g in first)
        second = gu.grad(along, parameters)
        with gu.no_grad():
            curvature = sum((h * g).sum() for h, g in zip(second, first, strict=True))
            length = sum((g * g).sum() for g in first)
            for p, g in zip(parameters, first, strict=True):
                p -= (length / (curvature.abs() + length)) * g
        return loss, second

    return Step(step, rows(7, (4,), (2,)), whole_state(model))


def q_learning() -> Step:
    """A target network that is renewed at every third step, by `where` on a count in a Buffer."""
    gu.manual_seed(14)
    net = nn.Sequential(nn.Linear(4, 6), nn.Relu(), nn.Linear(6, 3))
    gu.manual_seed(14)
    target = nn.Sequential(nn.Linear(4, 6), nn.Relu(), nn.Linear(6, 3)).requires_grad_(False)
    count = Buffer(np.zeros((), np.int64))
    opt = optim.RMSprop(net.parameters(), 0.01, centered=True)

    def step(x: Tensor, action: Tensor, reward: Tensor, after: Tensor, done: Tensor) -> Tensor:
        with gu.no_grad():
            best = net(after).argmax(1, keepdims=True)
            future = target(after).take_along_axis(best, 1).squeeze(1)
            wanted = reward + gu.where(done, 0.0, 0.9 * future)
        q = net(x).take_along_axis(action.unsqueeze(1), 1).squeeze(1)
        loss = (q - wanted).clamp(-1.0, 1.0).square().mean()
        loss.backward()
        opt.step()
        count.assign((count + 1) * (count < 2))
        with gu.no_grad():
            for old, new in zip(target.parameters(), net.parameters(), strict=True):
                old.assign(gu.where(count == 0, new, old))
        return loss

    given = [
        (
            numbers(8, 4, seed=i),
            labels(8, 3, i),
            numbers(8, seed=i + 20),
            numbers(8, 4, seed=i + 40),
            labels(8, 2, i + 60).astype(bool),
        )
        for i in range(4)
    ]
    return Step(step, given, whole_state(net, target, opt, {"count": count}))


# Losses


def mixture_of_experts() -> Step:
    """A softmax gate, experts by einsum, and a loss that balances them."""
    experts = 3
    gate, up = weight(4, experts, seed=1), weight(experts, 4, 6, seed=2)
    down = weight(experts, 6, 2, seed=3)
    opt = optim.Adam([gate, up, down], 0.01)

    def step(x: Tensor, y: Tensor) -> Any:
        p = (x @ gate).softmax(-1)
        hidden = gu.einsum("nd,edh->neh", x, up).relu()
        out = gu.einsum("neh,eho,ne->no", hidden, down, p)
        chosen = gu.one_hot(p.argmax(-1), experts).mean(0)
        loss = ((out - y) ** 2).mean() + 0.1 * experts * (chosen * p.mean(0)).sum()
        loss.backward()
        opt.step()
        return loss, chosen

    return Step(step, rows(8, (4,), (2,)), whole_state({"gate": gate, "up": up, "down": down}, opt))


def contrastive() -> Step:
    """Two views of each row against all others; the temperature is learnt."""
    left, right = weight(5, 4, seed=1), weight(6, 4, seed=2)
    log_scale = Parameter(np.float32(1.0).reshape(()))
    opt, loss_of = optim.AdamW([left, right, log_scale], 0.02), nn.CrossEntropy()

    def normalised(x: Tensor) -> Tensor:
        return x / (x * x).sum(1, keepdims=True).sqrt().maximum(1e-8)

    def step(image: Tensor, text: Tensor) -> Any:
        logits = normalised(image @ left) @ normalised(text @ right).T * log_scale.exp()
        own = gu.arange(logits.shape[0])
        loss = (loss_of(logits, own) + loss_of(logits.T, own)) / 2
        loss.backward()
        opt.step()
        return loss, (logits.argmax(1) == own).float().mean()

    held = {"left": left, "right": right, "log_scale": log_scale}
    return Step(step, rows(7, (5,), (6,)), whole_state(held, opt))


def triplet() -> Step:
    """Distances by broadcasting, the hardest pairs of each row, a margin with maximum."""
    w = weight(5, 3, seed=1, scale=0.5)
    opt = optim.SGD([w], 0.1)

    def step(x: Tensor, y: Tensor) -> Any:
        h = x @ w
        gap = h.unsqueeze(1) - h.unsqueeze(0)
        distance = ((gap * gap).sum(-1) + 1e-8).sqrt()
        same = y.unsqueeze(1) == y.unsqueeze(0)
        farthest = gu.where(same, distance, -1.0).amax(1)
        nearest = gu.where(~same, distance, np.inf).amin(1)
        margins = gu.maximum(farthest - nearest + 1.0, 0.0)
        loss = margins.mean()
        loss.backward()
        opt.step()
        return loss, (margins > 0).sum()

    given = [(numbers(8, 5, seed=i), np.arange(8) % 3) for i in range(4)]
    return Step(step, given, whole_state({"w": w}))


def signals() -> Step:
    """cumsum, flip, pad, concatenate, std, amin, logsumexp, sin, floor, expand."""
    w, u = weight(8, 3, seed=1), weight(3, seed=2)
    opt = optim.Adam([w, u], 0.02)

    def step(x: Tensor, y: Tensor) -> Any:
        forth, back = x.cumsum(1), x.flip(1).cumsum(1).flip(1)
        padded = gu.pad(gu.concatenate([forth, back], 1), [(0, 0), (1, 1)], value=0.5)
        spread = padded.std(1, keepdims=True) + padded.amin(1, keepdims=True).abs()
        waves = (padded / spread).sin() @ w
        level = (waves + u.expand(*waves.shape)).logsumexp(-1)
        loss = (level - y).square().mean() + padded.var() * (w * w).mean()
        loss.backward()
        opt.step()
        return loss, level.floor(), waves.flip(0, 1)[0]

    return Step(step, rows(6, (3,), ()), whole_state({"w": w, "u": u}, opt))


def mixture_density() -> Step:
    gu.manual_seed(15)
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 9))
    opt = optim.Adam(model.parameters(), 0.01)

    def step(x: Tensor, y: Tensor) -> Tensor:
        logits, mean, log_std = model(x).split([3, 3, 3], 1)
        z = (y.unsqueeze(1) - mean) * (-log_std).exp()
        log_p = logits.log_softmax(1) - log_std - 0.5 * z * z
        loss = -log_p.logsumexp(1).mean()
        loss.backward()
        opt.step()
        return loss

    return Step(step, rows(8, (3,), ()), whole_state(model, opt))


def codebook() -> Step:
    """Nearest codes, gradients straight through them, and codes that follow their rows."""
    encoder, decoder = weight(5, 3, seed=1), weight(3, 5, seed=2)
    codes = weight(6, 3, seed=3)
    opt = optim.SGD([encoder, decoder, codes], 0.05)

    def step(x: Tensor) -> Any:
        z = x @ encoder
        far = ((z.unsqueeze(1) - codes) ** 2).sum(-1)
        nearest = far.argmin(1)
        q = codes[nearest]
        straight = z + (q - z).detach()
        loss = (straight @ decoder - x).square().mean()
        loss = loss + (q - z.detach()).square().mean() + 0.25 * (z - q.detach()).square().mean()
        loss.backward()
        opt.step()
        return loss, nearest

    held = {"encoder": encoder, "decoder": decoder, "codes": codes}
    return Step(step, rows(9, (5,)), whole_state(held))


def policy_gradient() -> Step:
    """Returns weigh log-probabilities; a baseline in a Buffer; an entropy bonus."""
    gu.manual_seed(16)
    policy, baseline = nn.Linear(4, 3), Buffer(np.zeros((), np.float32))
    opt = optim.Adam(policy.parameters(), 0.02)

    def step(x: Tensor, action: Tensor, reward: Tensor) -> Tensor:
        log_p = policy(x).log_softmax(1)
        advantage = reward - baseline
        entropy = -(log_p.exp() * log_p).sum(1).mean()
        picked = log_p[gu.arange(x.shape[0]), action]
        loss = -(picked * advantage).mean() - 0.01 * entropy
        loss.backward()
        opt.step()
        baseline.assign(0.9 * baseline + 0.1 * reward.mean())
        return loss

    given = [(numbers(8, 4, seed=i), labels(8, 3, i), numbers(8, seed=i + 9)) for i in range(4)]
    return Step(step, given, whole_state(policy, opt, {"baseline": baseline}))


def coupling() -> Step:
    """A flow: affine couplings, columns flipped in between, a change of variables."""
    nets = [(weight(2, 4, seed=2 * i), weight(4, 4, seed=2 * i + 1)) for i in range(3)]
    opt = optim.Adam([p for pair in nets for p in pair], 0.01)

    def step(x: Tensor) -> Any:
        log_det = gu.zeros(x.shape[0])
        for into, out in nets:
            kept, changed = x.split(2, 1)
            shift, log_scale = ((kept @ into).relu() @ out).split(2, 1)
            log_scale = 0.5 * log_scale.tanh()
            x = gu.concatenate([kept, changed * log_scale.exp() + shift], 1).flip(1)
            log_det = log_det + log_scale.sum(1)
        loss = (0.5 * (x * x).sum(1) - log_det).mean()
        loss.backward()
        opt.step()
        return loss

    held = {f"{i}.{j}": p for i, pair in enumerate(nets) for j, p in enumerate(pair)}
    return Step(step, rows(7, (4,)), whole_state(held, opt))


# Rules of the user's own


class Lion(optim.Optimizer):
    """The sign of a running mean of gradients. Chen et al., arXiv:2302.06675."""

    def __init__(self, params: Any, lr: float = 1e-2, betas: tuple[float, float] = (0.9, 0.99)):
        super().__init__(params, lr)
        self.betas, self.m = betas, self.zeros("m")

    def update(self, i: int, p: Tensor, g: Tensor) -> None:
        beta1, beta2 = self.betas
        p -= self.lr * (beta1 * self.m[i] + (1 - beta1) * g).sign()
        self.m[i].assign(beta2 * self.m[i] + (1 - beta2) * g)


def own_optimizer() -> Step:
    """It is given weights whose norm is taken out of them: w = gain * v / |v|."""
    v, gain = weight(5, 3, seed=1), Parameter(np.ones(3, np.float32))
    opt, loss_of = Lion([v, gain], 0.01), nn.CrossEntropy()

    def step(x: Tensor, y: Tensor) -> Tensor:
        w = gain * v / (v * v).sum(0).sqrt()
        loss = loss_of(x @ w, y)
        loss.backward()
        opt.step()
        return loss

    return Step(step, batches(8, 5, 3), whole_state({"v": v, "gain": gain}, opt))


def nested_arguments() -> Step:
    """Arguments in a dict and a tuple, results in a nested dict."""
    gu.manual_seed(17)
    left, right = nn.Linear(3, 4), nn.Linear(2, 4)
    opt = optim.SGD([*left.parameters(), *right.parameters()], 0.1)

    def step(batch: dict[str, Any], weights: tuple[Tensor, float]) -> Any:
        each, decay = weights
        h = left(batch["a"]) * right(batch["b"])
        losses = (h.sum(1) - batch["y"]).square()
        loss = (losses * each).sum() / each.sum() + decay * (left.w * left.w).sum()
        loss.backward()
        opt.step()
        return {"loss": loss, "more": {"each": losses, "h": (h,)}}

    given = [
        ({"a": a, "b": b, "y": y}, (np.abs(each), 0.01 * (i + 1)))
        for i, (a, b, y, each) in enumerate(rows(6, (3,), (2,), (), ()))
    ]
    return Step(step, given, whole_state(left, right))


MODELS: dict[str, Callable[[], Step]] = {
    f.__name__: f
    for f in (
        gpt, lstm, gru, carried_state, linear_chain, batch_norm, convolution, embedding_bag,
        columns_of_integers, vae, gradient_penalty, containers, captured_values, two_outputs,
        by_autograd, frozen, in_float64, two_optimizers, method, accumulated, teacher, sharpness,
        adapted, hessian_vector, q_learning, mixture_of_experts, contrastive, triplet, signals,
        mixture_density, codebook, policy_gradient, coupling, own_optimizer, nested_arguments,
    )
}  # fmt: skip
