"""Sums over feature maps against loops in double precision, and their gradients."""

import pytest
import torch

from nst_helpers.engine.sums import sum_of_products, sum_of_squares

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
LAYOUTS = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])


def random_maps(*shape, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def slow_products(features):
    b, n, h, w = features.shape
    sums = torch.zeros(b, n, n, dtype=torch.float64)
    for y in range(h):
        for x in range(w):
            column = features[:, :, y, x].double()
            sums += column[:, :, None] * column[:, None, :]
    return sums


@DTYPES
@LAYOUTS
def test_sum_of_products_is_the_slow_loop(dtype, layout):
    maps = random_maps(2, 3, 4, 5, dtype=dtype).contiguous(memory_format=layout)
    sums = sum_of_products(maps)
    assert sums.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(sums.double(), slow_products(maps), rtol=1e-5, atol=1e-5)


@DTYPES
def test_sum_of_squares_is_the_slow_loop(dtype):
    maps, target = random_maps(2, 3, 4, 5, dtype=dtype), random_maps(1, 3, 4, 5, seed=1).to(dtype)
    sums = sum_of_squares(maps, target)
    assert sums.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    for total, values in zip(sums, maps, strict=True):
        pairs = zip(values.flatten().tolist(), target.flatten().tolist(), strict=True)
        assert total.item() == pytest.approx(sum((f - p) ** 2 for f, p in pairs), rel=1e-5)


@LAYOUTS
def test_the_gradient_of_products_is_autograds(layout):
    maps = random_maps(2, 3, 4, 5).contiguous(memory_format=layout).requires_grad_()
    cotangent = random_maps(2, 3, 3, seed=1)  # not symmetric
    (gradient,) = torch.autograd.grad((sum_of_products(maps) * cotangent).sum(), maps)
    plain = torch.einsum("bihw,bjhw->bij", maps, maps)
    (expected,) = torch.autograd.grad((plain * cotangent).sum(), maps)
    torch.testing.assert_close(gradient, expected)


def test_only_the_maps_themselves_are_held_for_the_backward_pass():
    maps = random_maps(1, 3, 8, 8, dtype=torch.bfloat16).requires_grad_()
    tensors = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: tensors.append(x) or x, lambda x: x):
        sums = sum_of_products(maps)
    assert [x.data_ptr() for x in tensors] == [maps.data_ptr()]
    assert torch.autograd.grad(sums.sum(), maps)[0].dtype == torch.bfloat16
