"""The supernet against networks extracted from it and against a numpy reference, in every space.

`supernet(x, arch)` and `extract(arch)(x)` are compared at 1e-4 of the largest value: float32, sums in another order.
"""

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from onceforall import Arch, Space, Supernet
from onceforall.errors import ArchError, StatisticsError
from onceforall.nn.layers import ElasticConv
from onceforall.ops import Conv
from small_spaces import SMALL, SPACES

CLASSES = 6


def make(space: Space, seed: int = 0) -> Supernet:
    """A supernet in which everything is random: matrices, scales, shifts, biases and running statistics too."""
    supernet = Supernet(space, num_classes=CLASSES)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in supernet.state_dict().items():
            noise = torch.randn(tensor.shape, generator=rng)
            if name.endswith("running_var"):
                tensor.copy_(noise.square() + 0.5)
            elif tensor.dim() < 2:
                tensor.add_(0.2 * noise)
            elif name.endswith("matrix"):
                tensor.add_(0.1 * noise)
            else:
                fan = tensor[0].numel()
                tensor.copy_(noise / fan**0.5)
    return supernet


def images(arch: Arch, n: int = 3, seed: int = 1) -> Tensor:
    return torch.randn(n, 3, arch.resolution, arch.resolution, generator=torch.Generator().manual_seed(seed))


def some_archs(space: Space, n: int = 3) -> list[Arch]:
    rng = np.random.default_rng(5)
    return [space.largest(), space.smallest(), *(space.sample(rng) for _ in range(n))]


def assert_near(a: Tensor, b: Tensor) -> None:
    assert a.shape == b.shape
    assert (a - b).abs().max() <= 1e-4 * b.abs().max() + 1e-7


@pytest.fixture(scope="module", params=SMALL)
def supernet(request: pytest.FixtureRequest) -> Supernet:
    return make(SPACES[request.param])


@pytest.fixture
def fresh() -> Supernet:
    return make(SPACES["strided"])


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_extracted_network_computes_the_same(supernet: Supernet, training: bool) -> None:
    supernet.train(training)
    for arch in some_archs(supernet.space):
        x = images(arch)
        network = supernet.extract(arch)
        assert network.training == training
        with torch.no_grad():
            expected = network(x)
            assert_near(supernet(x, arch), expected)
        assert expected.shape == (3, CLASSES)
        assert expected.std() > 1e-3, "a constant output proves nothing"


def test_extracted_network_is_plain_torch_of_its_own(supernet: Supernet) -> None:
    arch = supernet.space.smallest()
    network = supernet.extract(arch).eval()
    assert {type(module).__module__.split(".")[0] for module in network.modules()} == {"torch"}
    own = {tensor.data_ptr() for tensor in supernet.state_dict().values()}
    assert not own & {tensor.data_ptr() for tensor in network.state_dict().values()}
    plan = supernet.space.lower(arch, CLASSES)
    assert sum(p.numel() for p in network.parameters()) == plan.params


def test_changing_the_supernet_leaves_extracted_networks_alone(fresh: Supernet) -> None:
    arch = fresh.space.smallest()
    network = fresh.extract(arch)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with torch.no_grad():
        for tensor in fresh.state_dict().values():
            tensor.fill_(3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_forward_writes_nothing(supernet: Supernet, training: bool) -> None:
    supernet.train(training)
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    for arch in some_archs(supernet.space, 1):
        x = images(arch)
        kept = x.clone()
        supernet(x, arch)
        assert torch.equal(x, kept)
    after = supernet.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_gradients_are_those_of_the_extracted_network(supernet: Supernet) -> None:
    supernet.train()
    for arch in some_archs(supernet.space, 2):
        supernet.zero_grad(set_to_none=True)
        x, target = images(arch), torch.tensor([0, 1, 2])
        network = supernet.extract(arch)
        nn.functional.cross_entropy(network(x), target).backward()
        nn.functional.cross_entropy(supernet(x, arch), target).backward()
        shared = dict(supernet.named_parameters())
        touched = {name for name, parameter in shared.items() if parameter.grad is not None}
        plan = supernet.space.lower(arch, CLASSES)
        kernel = {f"{s.name}.{op.name}": op for s in plan.segments for op in s.ops if isinstance(op, Conv) and op.kernels}
        matrices = {name for name in touched if name.endswith("_matrix")}
        assert touched - matrices == {name for name, _ in network.named_parameters()}
        for name, parameter in network.named_parameters():
            grad = shared[name].grad
            assert grad is not None
            assert parameter.grad is not None
            layer = name.rpartition(".")[0]
            if layer in kernel and kernel[layer].kernel < shared[name].shape[-1]:
                assert any(m.startswith(layer) for m in matrices)
                active = grad[: parameter.shape[0]]
                assert active.abs().sum() > 0
            else:
                active = grad[tuple(slice(n) for n in parameter.shape)]
                assert_near(active, parameter.grad)
            assert (grad != 0).sum() == (active != 0).sum(), f"{name}: a gradient outside the active part"
        for name in matrices:
            layer, _, matrix = name.rpartition(".")
            assert kernel[layer].kernel < int(matrix.split("to")[0])


def test_gradient_of_the_kernel_chain_reaches_matrix_and_weight() -> None:
    """The chain rule by finite differences in float64."""
    conv = _random_conv()
    op = Conv("c", ("in",), (4, 5, 5), 4, 3, 1, 4, kernels=(3, 5, 7))
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    parameters = dict(conv.named_parameters())

    def run(*values: Tensor) -> Tensor:
        return torch.func.functional_call(conv, dict(zip(parameters, values, strict=True)), (x, op))

    assert torch.autograd.gradcheck(run, tuple(parameters.values()))


def _random_conv() -> ElasticConv:
    conv = ElasticConv(Conv("c", ("in",), (4, 5, 5), 4, 7, 1, 4, kernels=(3, 5, 7))).double()
    rng = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng, dtype=torch.float64))
    return conv


@pytest.mark.parametrize("kernel", [7, 5, 3])
def test_kernel_chain_against_numpy(kernel: int) -> None:
    """Centre crop, flatten, times the transposed matrix; 7 to 5, then 5 to 3."""
    conv = _random_conv()
    weight = conv.weight.detach().numpy()
    for big, small in ((7, 5), (5, 3)):
        if kernel <= small:
            matrix = conv.get_parameter(f"{big}to{small}_matrix").detach().numpy()
            inner = weight[:, :, 1:-1, 1:-1].reshape(4, 1, small * small)
            weight = np.stack([[matrix @ row for row in channel] for channel in inner]).reshape(4, 1, small, small)
    x = np.random.default_rng(0).standard_normal((2, 4, 6, 6))
    padded = np.pad(x, ((0, 0), (0, 0), (kernel // 2,) * 2, (kernel // 2,) * 2))
    expected = np.zeros_like(x)
    for i in range(6):
        for j in range(6):
            expected[:, :, i, j] = (padded[:, :, i : i + kernel, j : j + kernel] * weight[:, 0]).sum((2, 3))
    op = Conv("c", ("in",), (4, 6, 6), 4, kernel, 1, 4, kernels=(3, 5, 7))
    assert np.abs(conv(torch.from_numpy(x), op).detach().numpy() - expected).max() < 1e-12


def test_matrices_start_as_identity_so_smaller_kernels_start_as_centres() -> None:
    conv = ElasticConv(Conv("c", ("in",), (4, 5, 5), 4, 7, 1, 4, kernels=(3, 5, 7)))
    small = conv.cut(Conv("c", ("in",), (4, 5, 5), 4, 3, 1, 4, kernels=(3, 5, 7)))["weight"]
    assert torch.equal(small, conv.weight[:, :, 2:5, 2:5])


def test_parameters_of_the_published_supernet() -> None:
    with torch.device("meta"):
        supernet = Supernet(SPACES["default"], num_classes=1000)
    sizes = {name: parameter.numel() for name, parameter in supernet.named_parameters()}
    matrices = sum(size for name, size in sizes.items() if name.endswith("_matrix"))
    assert matrices == 14_120
    assert sum(sizes.values()) - matrices == 7_664_760


def test_many_threads_run_different_networks_at_once(fresh: Supernet) -> None:
    fresh.eval()
    archs = some_archs(fresh.space, 6)
    with torch.inference_mode():
        expected = [fresh(images(arch), arch) for arch in archs]

    def run(i: int) -> bool:
        with torch.inference_mode():
            return torch.equal(fresh(images(archs[i % len(archs)]), archs[i % len(archs)]), expected[i % len(archs)])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(run, range(80)))


def test_copy_and_state_dict(fresh: Supernet) -> None:
    arch = fresh.space.sample(np.random.default_rng(0))
    fresh.eval()
    twin = copy.deepcopy(fresh)
    other = Supernet(fresh.space, CLASSES).eval()
    assert not torch.equal(other(images(arch), arch), fresh(images(arch), arch))
    other.load_state_dict(fresh.state_dict())
    assert torch.equal(other(images(arch), arch), fresh(images(arch), arch))
    with torch.no_grad():
        for tensor in fresh.state_dict().values():
            tensor.zero_()
    assert torch.equal(twin(images(arch), arch), other(images(arch), arch)), "the copy has layers of its own"


def test_state_dict_names_are_those_of_the_extracted_network(supernet: Supernet) -> None:
    names = {name for name in supernet.state_dict() if not name.endswith("_matrix")}
    extracted = {name for name in supernet.extract(supernet.space.largest()).state_dict() if "num_batches" not in name}
    assert names == extracted


def test_forgotten_statistics_cannot_be_used_by_accident(fresh: Supernet) -> None:
    arch = fresh.space.smallest()
    fresh.forget_statistics()
    fresh.train()
    assert fresh(images(arch), arch).isfinite().all()
    fresh.eval()
    with pytest.raises(
        StatisticsError, match=r"has no BatchNorm statistics, so it cannot run in eval mode: use onceforall\.calibrate"
    ):
        fresh(images(arch), arch)
    assert fresh.extract(arch)(images(arch)).isnan().all()
    again = Supernet(fresh.space, CLASSES).eval()
    again.load_state_dict(fresh.state_dict())
    with pytest.raises(StatisticsError):
        again(images(arch), arch)


def test_an_architecture_of_another_space_is_refused(fresh: Supernet) -> None:
    arch = SPACES["half"].smallest()
    for call in (lambda: fresh(images(arch), arch), lambda: fresh.extract(arch)):
        with pytest.raises(ArchError, match="resolution is 64, this mobilenet_v3 space allows 28, 32, 45"):
            call()


def test_unknown_keywords_are_refused(fresh: Supernet) -> None:
    arch = fresh.space.smallest()
    with pytest.raises(TypeError):
        fresh(images(arch), arch, drop=0.1)
    with pytest.raises(TypeError):
        fresh.extract(arch, copy=False)  # type: ignore[call-arg]


def test_dropout_works_in_train_mode_only(fresh: Supernet) -> None:
    arch = fresh.space.smallest()
    x = images(arch)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fresh.train()
        assert not torch.equal(fresh(x, arch, dropout=0.5), fresh(x, arch, dropout=0.5))
        assert torch.equal(fresh(x, arch), fresh(x, arch))
        fresh.eval()
        assert torch.equal(fresh(x, arch, dropout=0.5), fresh(x, arch))
        assert torch.equal(fresh.extract(arch, dropout=0.5)(x), fresh.extract(arch)(x))


def test_channels_last(fresh: Supernet) -> None:
    arch = fresh.space.largest()
    for x in (images(arch), images(arch).contiguous(memory_format=torch.channels_last)):
        assert_near(fresh.eval()(x, arch), fresh.extract(arch)(images(arch)))
    weights = [p for p in fresh.extract(arch).parameters() if p.dim() == 4]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)


def test_macs_of_a_forward_pass_are_those_of_the_plan(fresh: Supernet) -> None:
    """Besides the kernel transformations nothing more is computed than the sub-network needs."""
    fresh.eval()
    for arch in (fresh.space.largest(), fresh.space.smallest()):
        plan = fresh.space.lower(arch, CLASSES)
        elastic = [op for op in plan.ops if isinstance(op, Conv) and op.kernels]
        chain = {7: 0, 5: 25**2, 3: 25**2 + 9**2}
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            fresh(images(arch, n=1), arch)
        assert counter.get_total_flops() == 2 * (plan.macs + sum(op.shape[0] * chain[op.kernel] for op in elastic))


def test_the_full_size_space_too() -> None:
    supernet = make(SPACES["default"]).eval()
    arch = supernet.space.sample(np.random.default_rng(0))
    with torch.no_grad():
        assert_near(supernet(images(arch, 1), arch), supernet.extract(arch)(images(arch, 1)))


def test_a_restricted_space_is_a_smaller_supernet() -> None:
    space = SPACES["half"].restrict(kernels=(3,), depths=(2,))
    small, full = make(space), make(SPACES["half"])
    arch = space.smallest()
    small.load_state_dict({k: v for k, v in full.extract(space.largest()).state_dict().items() if "num_batches" not in k})
    x = images(arch)
    assert_near(small.eval()(x, arch), full.eval()(x, arch))
