"""The selective scan of Mamba [gu2023mamba]: a linear recurrence whose coefficients depend on the token."""

import math
from collections.abc import Callable, Sequence
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

# Tokens worked on at once. On the CPU their states fit the cache; elsewhere few, large steps count.
_SEGMENT_CPU = 256
_SEGMENT = 4096
_LOG2_E = 1 / math.log(2)  # on a CPU, torch's exp2 takes a third of the time of its exp


def selective_scan(
    x: Float[Tensor, "b L d"],
    dt: Float[Tensor, "b L d"],
    A: Float[Tensor, "d n"],
    B: Float[Tensor, "b L n"],
    C: Float[Tensor, "b L n"],
    D: Float[Tensor, " d"],
) -> Float[Tensor, "b L d"]:
    """Run h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t from h = 0, and return y_t = C_t h_t + D x_t.

    Algorithm 2, Gu and Dao 2023 [gu2023mamba]. Time is cut into chunks. All chunks first run at once from zero,
    which gives the state each adds to its end; these are carried from chunk to chunk; then all run again, at
    once, from the state that they begin with. No factor exceeds 1, so nothing overflows. The backward pass is
    the same recurrence backwards in time; it computes the states anew, so that only those of one segment of the
    sequence exist at a time. Not differentiable twice.

    Float32 tensors on CUDA go to the kernel of `mamba_ssm` where that is installed. The kernel was not run
    here: only the call was tested.

    Args:
        x: (b, L, d), d sequences of L tokens.
        dt: (b, L, d), step sizes, not negative.
        A: (d, n), not positive: how fast each of n states per sequence decays.
        B: (b, L, n), how x enters the states.
        C: (b, L, n), how the states are read.
        D: (d,), weight of x itself.
    Returns: (b, L, d).
    """
    if x.is_cuda and x.dtype == torch.float32 and (kernel := _kernel()):
        return kernel(x.mT, dt.mT, A, B.mT, C.mT, D).mT
    return _scan(dt, dt * x, A, B, C)[0] + D * x


@cache
def _kernel() -> Callable[..., Tensor] | None:
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except ImportError:
        return None
    return selective_scan_fn


def _segments(length: int, device: torch.device) -> int:
    return -(-length // (_SEGMENT_CPU if device.type == "cpu" else _SEGMENT))


def _cut(tokens: Tensor, segments: int) -> Tensor:
    """(b, L, k) as (segments, steps, chunks, b, k), steps close to chunks; zeros, which change no state, fill up."""
    b, length, k = tokens.shape
    segment = -(-length // segments)
    steps = math.isqrt(segment - 1) + 1
    chunks = -(-segment // steps)
    if fill := segments * chunks * steps - length:
        tokens = F.pad(tokens, (0, 0, 0, fill))
    return tokens.reshape(b, segments, chunks, steps, k).permute(1, 3, 2, 0, 4).contiguous()


def _join(pieces: Tensor, length: int) -> Tensor:
    """What `_cut` cut, back in (b, L, k)."""
    b, k = pieces.shape[3:]
    return pieces.permute(3, 0, 2, 1, 4).reshape(b, -1, k)[:, :length].contiguous()


def _recur(decays: Sequence[Tensor], terms: Sequence[Tensor]) -> None:
    """Turn each term but the first into decay * (term before) + term, in place."""
    for i, decay in enumerate(decays):
        terms[i + 1].addcmul_(decay, terms[i])


def _end(decays: Sequence[Tensor], terms: Sequence[Tensor]) -> Tensor:
    """The last term that `_recur` would give."""
    end = terms[0].clone()
    for decay, term in zip(decays, terms[1:], strict=True):
        torch.addcmul(term, decay, end, out=end)
    return end


def _carry(start: Tensor, totals: Sequence[Tensor], ends: Sequence[Tensor]) -> Tensor:
    """The states that the chunks begin with: one after the other, as each needs the last one's end."""
    starts = [start]
    for total, end in zip(totals[:-1], ends[:-1], strict=True):
        starts.append(torch.addcmul(end, total, starts[-1]))
    return torch.stack(starts)


def _states(
    dt: Tensor, v: Tensor, A: Tensor, B: Tensor, begin: Tensor, decay: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Write one segment's decays and states; return the states that its chunks begin with, and their decays."""
    rate = A * _LOG2_E
    torch.mul(dt[..., None, :], rate, out=decay).exp2_()
    torch.mul(v[..., None, :], B[..., None], out=state)
    total = (dt.sum(0)[..., None, :] * rate).exp2_()
    decays, terms = decay.unbind(), state.unbind()
    starts = _carry(begin, total.unbind(), _end(decays[1:], terms).unbind())
    terms[0].addcmul_(decays[0], starts)
    _recur(decays[1:], terms)
    return starts, total


def _workspace(piece: Tensor, n: int, count: int) -> list[Tensor]:
    """Tensors (steps, chunks, b, n, d), made once: fresh memory for each segment costs more than the work."""
    return [piece.new_empty(*piece.shape[:-1], n, piece.shape[-1]) for _ in range(count)]


@torch.library.custom_op("clippan::scan", mutates_args=())
def _scan(dt: Tensor, v: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """y_t = C_t h_t for h_t = exp(dt_t A) h_{t-1} + B_t v_t, and the state that each segment begins with.

    One operator, so that an exported network holds it as one node, not as thousands of steps.
    """
    (b, length, d), n = v.shape, A.shape[1]
    segments, A = _segments(length, v.device), A.mT.contiguous()
    pieces = [_cut(tokens, segments) for tokens in (dt, v, B, C)]
    begins, y = v.new_zeros(segments, b, n, d), torch.empty_like(pieces[1])
    decay, state = _workspace(y[0], n, 2)
    for s, (dt_s, v_s, B_s, C_s) in enumerate(zip(*pieces, strict=True)):
        _states(dt_s, v_s, A, B_s, begins[s], decay, state)
        y[s] = torch.matmul(C_s[..., None, :], state).squeeze(-2)
        if s + 1 < segments:
            begins[s + 1] = state[-1, -1]
    return _join(y, length), begins


@_scan.register_fake
def _(dt: Tensor, v: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    (b, length, d), n = v.shape, A.shape[1]
    return v.new_empty(b, length, d), v.new_empty(_segments(length, v.device), b, n, d)


def _setup(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs, output[1])


def _backward(ctx, grad_y: Tensor, _) -> tuple[Tensor, ...]:
    dt, v, A, B, C, begins = ctx.saved_tensors
    length, segments, A = v.shape[1], len(begins), A.mT.contiguous()
    pieces = [_cut(tokens, segments) for tokens in (dt, v, B, C, grad_y)]
    grads = [torch.empty_like(piece) for piece in pieces[:4]]
    work = _workspace(pieces[1][0], len(A), 3)
    grad_A, grad_end = torch.zeros_like(A), torch.zeros_like(begins[0])
    for s in reversed(range(segments)):
        piece, of_piece = [tokens[s] for tokens in pieces], [grad[s] for grad in grads]
        grad_end = _segment_backward(piece, A, begins[s], grad_end, of_piece, grad_A, work)
    grad_dt, grad_v, grad_B, grad_C = (_join(grad, length) for grad in grads)
    return grad_dt, grad_v, grad_A.mT, grad_B, grad_C


def _segment_backward(
    piece: list[Tensor],
    A: Tensor,
    begin: Tensor,
    grad_end: Tensor,
    grads: list[Tensor],
    grad_A: Tensor,
    work: list[Tensor],
) -> Tensor:
    """Write the gradients of dt, v, B, C, add that of A, and return that of the state at the begin."""
    (dt, v, B, C, grad_y), (decay, state, grad) = piece, work
    starts, total = _states(dt, v, A, B, begin, decay, state)
    grads[3].copy_(torch.matmul(grad_y[..., None, :], state.mT).squeeze(-2))
    torch.mul(C[..., None], grad_y[..., None, :], out=grad)
    decays, terms = decay.unbind()[:0:-1], grad.unbind()[::-1]
    ends = decay[0] * _end(decays, terms)
    terms[0].add_(_carry(grad_end, total.unbind()[::-1], ends.unbind()[::-1]).flip(0))
    _recur(decays, terms)
    grads[1].copy_(torch.matmul(B[..., None, :], grad).squeeze(-2))
    grads[2].copy_(torch.matmul(v[..., None, :], grad.mT).squeeze(-2))
    grad_begin = decay[0, 0] * grad[0, 0]
    # the gradient of the exponent dt A: that of h_t, times the decay, times h_{t-1}
    exponent = decay.mul_(grad)
    exponent[0].mul_(starts)
    exponent[1:].mul_(state[:-1])
    torch.sum(torch.mul(exponent, A, out=state), dim=-2, out=grads[0])
    grad_A += exponent.mul_(dt[..., None, :]).sum((0, 1, 2))
    return grad_begin


_scan.register_autograd(_backward, setup_context=_setup)
# the states add up over all tokens, which bfloat16 is too coarse for
_scan.register_autocast("cpu", torch.float32)
_scan.register_autocast("cuda", torch.float32)
