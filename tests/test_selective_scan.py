"""The selective scan against a loop over its tokens, and its limits."""

import sys
from types import ModuleType

import pytest
import torch

from clippan_lib.fusion.networks import selective_scan as module
from clippan_lib.fusion.networks.selective_scan import selective_scan


def one_by_one(x, dt, A, B, C, D):
    """The recurrence, token by token."""
    state, y = x.new_zeros(x.shape[0], *A.shape), []
    for t in range(x.shape[1]):
        state = torch.exp(dt[:, t, :, None] * A) * state + (dt * x)[:, t, :, None] * B[:, t, None, :]
        y.append((state * C[:, t, None, :]).sum(-1))
    return torch.stack(y, dim=1) + D * x


def arguments(length, b=2, d=3, n=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(length)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    x, B, C, D = normal(b, length, d), normal(b, length, n), normal(b, length, n), normal(d)
    dt = torch.rand(b, length, d, generator=generator, dtype=dtype)
    return x, dt, -normal(d, n).exp(), B, C, D


def plain(length, A):
    """One sequence with B = C = dt = 1 and D = 0: y is the state."""
    ones = torch.ones(1, length, 1, dtype=torch.float64)
    x = arguments(length, b=1, d=1)[0]
    return x, selective_scan(
        x, ones, torch.full((1, 1), A, dtype=torch.float64), ones, ones, torch.zeros(1).double()
    )


@pytest.mark.parametrize("length", [1, 2, 3, 7, 64, 255, 256, 257, 601])
def test_the_scan_is_the_loop_over_its_tokens_at_any_length(length, device):
    given = [tensor.to(device).requires_grad_() for tensor in arguments(length)]
    ours, wanted = selective_scan(*given), one_by_one(*given)
    torch.testing.assert_close(ours, wanted, atol=1e-12, rtol=0)
    grads = [torch.autograd.grad(y.sin().sum(), given) for y in (ours, wanted)]
    torch.testing.assert_close(*grads, atol=1e-11, rtol=0)


@pytest.mark.parametrize("segment", [1, 2, 5, 12, 30])
def test_where_time_is_cut_changes_nothing(monkeypatch, segment):
    monkeypatch.setattr(module, "_SEGMENT_CPU", segment)
    given = [tensor.requires_grad_() for tensor in arguments(23)]
    ours, wanted = selective_scan(*given), one_by_one(*given)
    torch.testing.assert_close(ours, wanted, atol=1e-12, rtol=0)
    grads = [torch.autograd.grad(y.square().sum(), given) for y in (ours, wanted)]
    torch.testing.assert_close(*grads, atol=1e-12, rtol=0)


def test_the_scan_in_single_precision_stays_close_to_double_precision(device):
    given = arguments(601)
    ours = selective_scan(*(tensor.float().to(device) for tensor in given))
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours.cpu().double(), one_by_one(*given), atol=2e-5, rtol=0)


def test_the_scan_stays_in_single_precision_where_the_layers_around_it_do_not(device):
    given = [tensor.to(device).requires_grad_() for tensor in arguments(300, dtype=torch.float32)]
    outputs = [selective_scan(*given)]
    with torch.autocast(device, torch.bfloat16):
        outputs.append(selective_scan(*given))
        assert selective_scan(given[0].bfloat16(), *given[1:]).dtype == torch.float32
    grads = [torch.autograd.grad(y.sum(), given) for y in outputs]
    torch.testing.assert_close(*outputs, atol=0, rtol=0)
    torch.testing.assert_close(*grads, atol=0, rtol=0)


def test_the_gradients_are_those_of_finite_differences(monkeypatch):
    monkeypatch.setattr(module, "_SEGMENT_CPU", 4)
    torch.autograd.gradcheck(selective_scan, [tensor.requires_grad_() for tensor in arguments(9)])


def test_a_second_derivative_is_refused():
    given = [tensor.requires_grad_() for tensor in arguments(5)]
    with pytest.raises(RuntimeError, match="automatic differentiation"):
        torch.autograd.grad(selective_scan(*given).sum(), given, create_graph=True)


def test_three_tokens_by_hand():
    def row(*values):
        return torch.tensor(values, dtype=torch.float64)[None, :, None]

    half, D = torch.tensor([[0.5]], dtype=torch.float64).log(), torch.tensor([10.0], dtype=torch.float64)
    y = selective_scan(row(1, 2, 3), row(1, 2, 1), half, row(1, 1, 2), row(1, 3, 1), D)
    # h = 1; h = 1/4 + 2*2 = 4.25; h = 4.25/2 + 2*3 = 8.125
    torch.testing.assert_close(y, row(1 + 10, 3 * 4.25 + 20, 8.125 + 30))


def test_without_decay_the_state_is_the_sum_of_all_before():
    x, y = plain(600, A=0.0)
    torch.testing.assert_close(y, x.cumsum(dim=1), atol=1e-12, rtol=0)


def test_with_full_decay_nothing_is_remembered():
    x, y = plain(600, A=-1e6)
    assert torch.equal(y, x)


def test_a_token_reaches_none_before_it():
    x, dt, A, B, C, D = arguments(300)
    y = selective_scan(x, dt, A, B, C, D)
    x[:, 270] += 1
    changed = (selective_scan(x, dt, A, B, C, D) != y).flatten(2).any(2).all(0)
    assert not changed[:270].any()
    assert changed[270:275].all()


def test_a_sequence_does_not_depend_on_the_rest_of_the_batch():
    x, dt, A, B, C, D = arguments(300, b=3, dtype=torch.float32)
    alone = selective_scan(x[1:2], dt[1:2], A, B[1:2], C[1:2], D)
    torch.testing.assert_close(selective_scan(x, dt, A, B, C, D)[1:2], alone)


def test_no_tensor_with_all_states_of_all_tokens_is_kept_for_the_backward_pass():
    given = [tensor.requires_grad_() for tensor in arguments(2048, b=1, d=4, n=16)]
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()), lambda _: None):
        selective_scan(*given)
    assert max(kept) <= 2048 * 16


class OnCuda(torch.Tensor):
    """A tensor that says it is on a GPU."""

    is_cuda = True


@pytest.fixture
def kernel(monkeypatch):
    """A stand-in for mamba_ssm that has its signature and layout, (b, d, L) and (b, n, L), and counts its calls."""
    calls = []

    def selective_scan_fn(u, delta, A, B, C, D=None):
        calls.append(u.shape)
        return one_by_one(u.mT, delta.mT, A, B.mT, C.mT, D).mT

    names = "mamba_ssm", "mamba_ssm.ops", "mamba_ssm.ops.selective_scan_interface"
    for name in names:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules[names[-1]].selective_scan_fn = selective_scan_fn
    module._kernel.cache_clear()
    yield calls
    module._kernel.cache_clear()


def test_single_precision_on_cuda_goes_to_the_kernel_where_it_is_installed(kernel):
    given = arguments(7, dtype=torch.float32)
    wanted = selective_scan(*given)
    assert kernel == []
    ours = selective_scan(given[0].as_subclass(OnCuda), *given[1:])
    assert kernel == [(2, 3, 7)]
    torch.testing.assert_close(ours.as_subclass(torch.Tensor), wanted)


def test_double_precision_which_the_kernel_does_not_know_stays_with_torch(kernel):
    given = arguments(7)
    selective_scan(given[0].as_subclass(OnCuda), *given[1:])
    assert kernel == []


def test_without_the_kernel_cuda_stays_with_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "mamba_ssm", None)
    module._kernel.cache_clear()
    given = arguments(7, dtype=torch.float32)
    ours = selective_scan(given[0].as_subclass(OnCuda), *given[1:])
    module._kernel.cache_clear()
    torch.testing.assert_close(ours.as_subclass(torch.Tensor), one_by_one(*given))
