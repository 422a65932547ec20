"""Average pooling against torch's own: forward, and backward to the last bit."""

import pytest
import torch
import torch.nn.functional as F

from nst_helpers.engine.pooling import average_pool

SHAPES = [(1, 3, 8, 8), (2, 5, 7, 9), (1, 16, 1, 5), (1, 4, 6, 1), (1, 4, 1, 1), (1, 16, 37, 64)]


def averages_and_gradient(pool, maps, cotangent):
    maps = maps.clone(memory_format=torch.preserve_format).requires_grad_()
    averages = pool(maps)
    return averages, *torch.autograd.grad(averages, maps, cotangent)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_torchs_own_rounding_up(shape, layout, dtype):
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(shape, generator=generator).to(dtype, memory_format=layout)
    expected = F.avg_pool2d(maps, 2, ceil_mode=True)
    cotangent = torch.randn(expected.shape, generator=generator).to(dtype, memory_format=layout)
    own = averages_and_gradient(average_pool, maps, cotangent)
    torchs = averages_and_gradient(lambda x: F.avg_pool2d(x, 2, ceil_mode=True), maps, cotangent)
    assert all(torch.equal(a, b) for a, b in zip(own, torchs, strict=True))


def test_the_gradient_that_comes_in_is_left_as_it_is():
    maps = torch.ones(1, 2, 5, 3, requires_grad=True)
    averages = average_pool(maps)
    cotangent = torch.ones_like(averages)
    torch.autograd.grad(averages, maps, cotangent)
    assert (cotangent == 1).all()


def test_it_holds_nothing_for_the_backward_pass():
    tensors = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: tensors.append(x) or x, lambda x: x):
        average_pool(torch.ones(1, 2, 6, 6, requires_grad=True))
    assert not tensors
