"""Subclasses of torch.autograd.Function; each backward pass has one mistake."""

import numpy as np

from corpus.case import Corpus, Made

corpus = Corpus()


@corpus.case("transpose", wrong="x")
def torch_linear_weight_transposed(rng: np.random.Generator) -> Made:
    """x @ w.T as in nn.Linear; dx multiplies by w.T again."""
    import torch

    class Linear(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            ctx.save_for_backward(x, w)
            return x @ w.T

        @staticmethod
        def backward(ctx, grad):
            x, w = ctx.saved_tensors
            return grad @ w.T, grad.T @ x

    return Made(Linear, (rng.normal(size=(5, 4)), rng.normal(size=(4, 4))))


@corpus.case("bias", wrong="b", also="sum")
def torch_linear_bias_of_the_first_row(rng: np.random.Generator) -> Made:
    """db is grad[0] instead of grad.sum(0)."""
    import torch

    class Linear(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w, b):
            ctx.save_for_backward(x, w)
            return torch.addmm(b, x, w)

        @staticmethod
        def backward(ctx, grad):
            x, w = ctx.saved_tensors
            return grad @ w.t(), x.t() @ grad, grad[0]

    return Made(Linear, (rng.normal(size=(5, 4)), rng.normal(size=(4, 3)), rng.normal(size=3)))


@corpus.case("output", wrong="x")
def torch_tanh_saves_its_input(rng: np.random.Generator) -> Made:
    """The input is saved where the output is needed."""
    import torch

    class Tanh(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.tanh(x)

        @staticmethod
        def backward(ctx, grad):
            (y,) = ctx.saved_tensors
            return grad * (1 - y * y)

    return Made(Tanh, (rng.normal(size=(5, 4)),))


@corpus.case("mask", wrong="x")
def torch_relu_mask_inverted(rng: np.random.Generator) -> Made:
    """The gradient is set to zero where x is positive."""
    import torch

    class Relu(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.clamp(min=0)

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            grad = grad.clone()
            grad[x > 0] = 0
            return grad

    return Made(Relu, (rng.normal(size=(5, 4)),))


@corpus.case("activation", wrong="x w b")
def torch_dense_sigmoid_forgets_the_sigmoid(rng: np.random.Generator) -> Made:
    """A fused layer whose backward is that of its linear part."""
    import torch

    class DenseSigmoid(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w, b):
            ctx.save_for_backward(x, w)
            return torch.sigmoid(x @ w + b)

        @staticmethod
        def backward(ctx, grad):
            x, w = ctx.saved_tensors
            return grad @ w.T, x.T @ grad, grad.sum(0)

    inputs = rng.normal(size=(5, 4)), rng.normal(size=(4, 3)), rng.normal(size=3)
    return Made(DenseSigmoid, inputs)


@corpus.case("factor", wrong="x")
def torch_temperature_forgotten(rng: np.random.Generator) -> Made:
    """Logits are divided by a temperature of 2.5; their gradient is not."""
    import torch

    class Cooled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            p = torch.softmax(x / 2.5, dim=-1)
            ctx.save_for_backward(p)
            return p

        @staticmethod
        def backward(ctx, grad):
            (p,) = ctx.saved_tensors
            return p * (grad - (grad * p).sum(-1, keepdim=True))

    return Made(Cooled, (rng.normal(size=(5, 4)),))


@corpus.case("mean", wrong="pred")
def torch_mse_divided_by_the_batch_twice(rng: np.random.Generator) -> Made:
    """The mean over the rows is taken in the gradient and again at the end."""
    import torch

    class Mse(torch.autograd.Function):
        @staticmethod
        def forward(ctx, pred, targ):
            ctx.save_for_backward(pred, targ)
            return ((pred - targ) ** 2).mean()

        @staticmethod
        def backward(ctx, grad):
            pred, targ = ctx.saved_tensors
            diff = 2 * (pred - targ) / pred.numel()
            return grad * diff / len(pred), -grad * diff

    return Made(Mse, (rng.normal(size=(5, 3)), rng.normal(size=(5, 3))))


@corpus.case("scatter", wrong="weight")
def torch_embedding_index_assignment(rng: np.random.Generator) -> Made:
    """Rows are assigned, not added with index_add_."""
    import torch

    class Embedding(torch.autograd.Function):
        @staticmethod
        def forward(ctx, weight, index):
            ctx.save_for_backward(index)
            ctx.shape = weight.shape
            return weight[index]

        @staticmethod
        def backward(ctx, grad):
            (index,) = ctx.saved_tensors
            out = grad.new_zeros(ctx.shape)
            out[index] = grad
            return out, None

    return Made(Embedding, (rng.normal(size=(6, 3)), np.array([3, 0, 3, 5, 0, 3])))


@corpus.case("softmax", wrong="x")
def torch_softmax_diagonal(rng: np.random.Generator) -> Made:
    """p * (1 - p) as for a sigmoid."""
    import torch

    class Softmax(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            p = torch.softmax(x, dim=1)
            ctx.save_for_backward(p)
            return p

        @staticmethod
        def backward(ctx, grad):
            (p,) = ctx.saved_tensors
            return grad * p * (1 - p)

    return Made(Softmax, (rng.normal(size=(5, 4)),))


@corpus.case("detached", wrong="x")
def torch_layer_norm_mean_as_a_constant(rng: np.random.Generator) -> Made:
    """The path through the mean is missing; the one through the variance is there."""
    import torch

    class LayerNorm(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, gamma):
            rstd = torch.rsqrt(x.var(-1, keepdim=True, unbiased=False) + 1e-5)
            hat = (x - x.mean(-1, keepdim=True)) * rstd
            ctx.save_for_backward(hat, rstd, gamma)
            return hat * gamma

        @staticmethod
        def backward(ctx, grad):
            hat, rstd, gamma = ctx.saved_tensors
            g = grad * gamma
            dx = rstd * (g - hat * (g * hat).mean(-1, keepdim=True))
            return dx, (grad * hat).sum(0)

    return Made(LayerNorm, (rng.normal(size=(5, 4)), rng.normal(size=4)))


@corpus.case("eps", wrong="x")
def torch_rms_norm_root_without_eps(rng: np.random.Generator) -> Made:
    """The root is computed again for the backward pass, without eps."""
    import torch

    class RmsNorm(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 0.1)

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            rstd = torch.rsqrt(x.pow(2).mean(-1, keepdim=True))
            hat = x * rstd
            return rstd * (grad - hat * (grad * hat).mean(-1, keepdim=True))

    return Made(RmsNorm, (rng.normal(size=(5, 4)),))


@corpus.case("shift", wrong="x")
def torch_cumsum_gradient_excludes_its_own_entry(rng: np.random.Generator) -> Made:
    """The reversed sum starts one entry too late."""
    import torch

    class CumSum(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.cumsum(1)

        @staticmethod
        def backward(ctx, grad):
            return grad.flip(1).cumsum(1).flip(1) - grad

    return Made(CumSum, (rng.normal(size=(3, 6)),))


@corpus.case("stale", wrong="x")
def torch_exp_result_kept_on_the_class(rng: np.random.Generator) -> Made:
    """The first result is kept as an attribute of the class and used ever after."""
    import torch

    class Exp(torch.autograd.Function):
        result = None

        @staticmethod
        def forward(ctx, x):
            y = x.exp()
            if Exp.result is None:
                Exp.result = y.detach()
            return y

        @staticmethod
        def backward(ctx, grad):
            return grad * Exp.result

    Exp.apply(torch.from_numpy(rng.normal(size=(5, 4))))
    return Made(Exp, (rng.normal(size=(5, 4)),))


@corpus.case("swapped", wrong="start end")
def torch_lerp_ends_exchanged(rng: np.random.Generator) -> Made:
    """start gets the weight of end, and the reverse."""
    import torch

    class Lerp(torch.autograd.Function):
        @staticmethod
        def forward(ctx, start, end, t):
            ctx.save_for_backward(start, end, t)
            return start * (1 - t) + end * t

        @staticmethod
        def backward(ctx, grad):
            start, end, t = ctx.saved_tensors
            return grad * t, grad * (1 - t), (grad * (end - start)).sum(1, keepdim=True)

    inputs = rng.normal(size=(5, 4)), rng.normal(size=(5, 4)), rng.uniform(0.1, 0.4, size=(5, 1))
    return Made(Lerp, inputs)


@corpus.case("cotangent", wrong="x")
def torch_norm_ignores_grad(rng: np.random.Generator) -> Made:
    """The slope is returned as it is."""
    import torch

    class Norm(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            norm = x.pow(2).sum().sqrt()
            ctx.save_for_backward(x, norm)
            return norm

        @staticmethod
        def backward(ctx, grad):
            x, norm = ctx.saved_tensors
            return x / norm

    return Made(Norm, (rng.normal(size=(5, 4)),))


@corpus.case("sign", wrong="b")
def torch_sub_without_minus(rng: np.random.Generator) -> Made:
    """setup_context style; b gets the gradient of a."""
    import torch

    class ScaledSub(torch.autograd.Function):
        @staticmethod
        def forward(a, b):
            return 3 * (a - b)

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def backward(ctx, grad):
            return 3 * grad, 3 * grad

    return Made(ScaledSub, (rng.normal(size=(5, 4)), rng.normal(size=(5, 4))))


@corpus.case("operand", wrong="a")
def torch_mul_by_the_wrong_factor(rng: np.random.Generator) -> Made:
    """da and db are both grad * a."""
    import torch

    class Mul(torch.autograd.Function):
        @staticmethod
        def forward(a, b):
            return a * b

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx, grad):
            a, _ = ctx.saved_tensors
            return grad * a, grad * a

    return Made(Mul, (rng.normal(size=(5, 4)), rng.normal(size=(5, 4))))


@corpus.case("axis", wrong="x")
def torch_logsumexp_softmax_over_the_batch(rng: np.random.Generator) -> Made:
    """The softmax of the gradient runs over dim 0."""
    import torch

    class LogSumExp(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.logsumexp(x, dim=1)

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return grad.unsqueeze(1) * torch.softmax(x, dim=0)

    return Made(LogSumExp, (rng.normal(size=(5, 4)),))


@corpus.case("formula", wrong="x")
def torch_mish_inner_derivative_of_softplus(rng: np.random.Generator) -> Made:
    """mish is x*tanh(softplus(x)); the product rule's second term lacks the sigmoid."""
    import torch

    class Mish(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * torch.tanh(torch.nn.functional.softplus(x))

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            t = torch.tanh(torch.nn.functional.softplus(x))
            return grad * (t + x * (1 - t * t))

    return Made(Mish, (rng.normal(size=(5, 4)),))


@corpus.case("overwritten", wrong="x")
def torch_residual_branch_replaces_the_skip(rng: np.random.Generator) -> Made:
    """x + relu(x @ w): the branch's gradient takes the place of the skip's."""
    import torch

    class Residual(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            h = torch.relu(x @ w)
            ctx.save_for_backward(x, w, h)
            return x + h

        @staticmethod
        def backward(ctx, grad):
            x, w, h = ctx.saved_tensors
            grad_x = grad
            grad_z = grad * (h > 0)
            grad_x = grad_z @ w.T
            return grad_x, x.T @ grad_z

    return Made(Residual, (rng.normal(size=(5, 4)), rng.normal(size=(4, 4))))


@corpus.case("sum", wrong="y")
def torch_outer_product_column_instead_of_sum(rng: np.random.Generator) -> Made:
    """y meets all entries of x; dy takes the first one only."""
    import torch

    class Outer(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, y):
            ctx.save_for_backward(x, y)
            return x[:, None] * y

        @staticmethod
        def backward(ctx, grad):
            x, y = ctx.saved_tensors
            return grad @ y, (grad * x[:, None])[0]

    return Made(Outer, (rng.normal(size=5), rng.normal(size=4)))
