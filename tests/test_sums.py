"""Sums over feature maps against loops in double precision, and their gradients."""

from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from nst_helpers.engine import sums
from nst_helpers.engine.scales import scale_style
from nst_helpers.engine.sums import guided_products, sum_of_products, sum_of_squares

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


# --- near what they are compared with -------------------------------------------------------------

SIZES = [(1, 16, 64, 48), (2, 3, 5, 7), (1, 64, 37, 41), (3, 192, 8, 8), (1, 1, 1, 1)]
DISTANCES = pytest.mark.parametrize("distance", [1.0, 1e-2, 1e-4])


def bfloat16_maps_near(size, layout, distance):
    """Maps, their exact sums, and Gram matrices (1, N, N) at such a distance from them."""
    maps = random_maps(*size).relu().bfloat16().contiguous(memory_format=layout)
    exact = torch.einsum("bihw,bjhw->bij", maps.double(), maps.double())
    gram = exact[:1] / (size[2] * size[3])
    near = gram * (1 + distance * random_maps(*gram.shape, seed=1))
    return maps, exact, near.float()


@LAYOUTS
@DISTANCES
@pytest.mark.parametrize("size", SIZES)
def test_sums_of_bfloat16_maps_are_as_exact_as_their_distance(size, layout, distance):
    maps, exact, near = bfloat16_maps_near(size, layout, distance)
    assert torch.equal(sum_of_products(maps, near), sum_of_products(maps)), "without a gradient"
    sums = sum_of_products(maps.requires_grad_(), near).detach()
    assert sums.dtype == torch.float32
    target = near.double() * (size[2] * size[3])
    difference, expected = sums.double() - target, exact - target
    rounding = 2**-8 * expected.abs() + 2**-15 * exact.abs()  # of bfloat16, and of float32's target
    assert ((difference - expected).abs() <= rounding).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_other_maps_are_summed_as_ever(dtype):
    maps, near = random_maps(2, 3, 8, 8, dtype=dtype), random_maps(1, 3, 3, dtype=dtype)
    assert torch.equal(sum_of_products(maps, near), sum_of_products(maps))


def test_what_the_sums_are_near_changes_no_gradient():
    maps, _, near = bfloat16_maps_near((2, 3, 8, 8), torch.channels_last, 0.1)
    cotangent, gradients = random_maps(2, 3, 3, seed=1).float(), []
    for known in (None, near):
        leaf = maps.clone().requires_grad_()
        gradients += torch.autograd.grad((sum_of_products(leaf, known) * cotangent).sum(), leaf)
    assert torch.equal(*gradients)


# --- by regions ----------------------------------------------------------------------------------


def soft_masks(*shape, seed=5):
    """Masks that add up to 1 everywhere."""
    return (3 * random_maps(*shape, seed=seed)).softmax(1).float()


def test_the_gradient_of_regions_is_autograds():
    maps, masks = random_maps(2, 3, 4, 5).requires_grad_(), soft_masks(2, 3, 4, 5)
    cotangent = random_maps(2, 3, 3, 3, seed=1)  # not symmetric
    (gradient,) = torch.autograd.grad((guided_products(maps, masks) * cotangent).sum(), maps)
    plain = torch.einsum("brhw,bihw,bjhw->brij", masks.double(), maps, maps)
    (expected,) = torch.autograd.grad((plain * cotangent).sum(), maps)
    torch.testing.assert_close(gradient, expected)


def test_regions_in_boxes_of_any_place_are_those_of_the_whole_map():
    maps, masks = random_maps(2, 3, 7, 9).requires_grad_(), torch.zeros(2, 5, 7, 9)
    for region, box in enumerate([(0, 2, 0, 9), (6, 7, 8, 9), (1, 5, 3, 4), (0, 7, 0, 9)]):
        rows, columns = slice(*box[:2]), slice(*box[2:])
        masks[:, region, rows, columns] = soft_masks(2, 2, 7, 9, seed=region)[:, 0, rows, columns]
    cotangent = random_maps(2, 5, 3, 3, seed=1)
    plain = torch.einsum("brhw,bihw,bjhw->brij", masks.double(), maps, maps)
    products = guided_products(maps, masks)
    torch.testing.assert_close(products, plain)
    assert (products[:, 4] == 0).all()  # of no region at all
    gradients = [torch.autograd.grad((x * cotangent).sum(), maps)[0] for x in (products, plain)]
    torch.testing.assert_close(*gradients)


def test_of_regions_only_maps_and_masks_are_held_for_the_backward_pass():
    maps, masks = random_maps(1, 3, 8, 8).bfloat16().requires_grad_(), soft_masks(1, 2, 8, 8)
    tensors = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: tensors.append(x) or x, lambda x: x):
        sums = guided_products(maps, masks)
    assert [x.data_ptr() for x in tensors] == [maps.data_ptr(), masks.data_ptr()]
    assert torch.autograd.grad(sums.sum(), maps)[0].dtype == torch.bfloat16


def test_masks_need_no_gradient_and_get_none():
    masks = soft_masks(1, 2, 4, 4).requires_grad_()
    products = guided_products(random_maps(1, 3, 4, 4).requires_grad_(), masks)
    assert torch.autograd.grad(products.sum(), masks, allow_unused=True) == (None,)


def test_on_a_gpu_regions_do_not_wait_for_it():
    # Fake tensors have no values: whatever needs one on the host (item, bool, nonzero) fails.
    with FakeTensorMode():
        maps, masks = (torch.empty(2, n, 8, 8, device="cuda") for n in (3, 2))
        target = torch.empty(1, 2, 3, 3, device="cuda")
        products = guided_products(maps, masks)
        assert scale_style(products, target, 64, "paper", masks, (1.0, 2.0)).shape == (2,)
        saved = SimpleNamespace(saved_tensors=(maps, masks))  # autograd itself wants a real GPU
        assert sums._GuidedProducts.backward(saved, products)[0].shape == maps.shape


@pytest.mark.parametrize("shape", [(16, 64, 64), (48, 40, 60), (64, 128, 128), (128, 64, 128)])
def test_sums_of_half_precision_maps_do_not_depend_on_the_threads(set_threads, shape):
    generator, sums = torch.Generator().manual_seed(1), []
    target = torch.randn(1, *shape, generator=generator).relu().bfloat16()
    near = sum_of_products(target) / (shape[1] * shape[2])
    maps = torch.randn(1, *shape, generator=generator).relu().bfloat16()
    maps = maps.contiguous(memory_format=torch.channels_last).requires_grad_(True)
    for number in (1, 2, 3, 8):
        set_threads(number)
        sums.append(sum_of_products(maps, near))
    assert all(torch.equal(other, sums[0]) for other in sums)
