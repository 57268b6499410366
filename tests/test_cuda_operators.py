"""Operators of a GPU without one, on tensors of the device that have no values, and the signatures of FlashInfer."""

import importlib.util
import inspect
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from profiling.device.environment import CUDA
from profiling.measure.cases import COLLECTIVES, FORMATS, OPERATORS, Case, layer_cases
from tests.helpers import tiny_model

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch", reason="torch is not installed: pip install -e '.[profiling]'")

from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402  # torch is optional

from profiling.measure.kernels import TorchKernels  # noqa: E402
from profiling.serving.attention import attention_maker  # noqa: E402
from profiling.serving.operators import Operators, multiplies_fp8  # noqa: E402
from tests.fake_cuda import FakeCuda, FakeEvent, FakeGraph, FakeStream, FakeTorch, WithoutValues  # noqa: E402
from tests.fake_flashinfer import FakeFlashInfer  # noqa: E402
from tests.flashinfer_signatures import TABLE, reader, signatures, version  # noqa: E402

TABLES: dict[str, dict[str, str]] = json.loads(TABLE.read_text())
# The smallest heads that FlashInfer rotates.
MODEL = replace(tiny_model(128), head_dim=64)
CASES = {
    (case.operator, str(case["dtype"]) if case.family == "matmul" else ""): case
    for case in layer_cases(MODEL, [2], OPERATORS, 128, FORMATS)
    if case["num_tokens"] in (16, 64)
}


def run_without_values(case: Case, flashinfer: Any) -> Any:
    """Run the kernel of a case on a device without values."""
    with FakeTensorMode(allow_non_fake_inputs=True), WithoutValues(), torch.inference_mode():
        fake = FakeTorch(FakeCuda())
        kernels = TorchKernels(MODEL, Operators(fake, flashinfer), CUDA, attention_maker(fake, flashinfer, CUDA))
        return kernels.prepare(case).build()()


def assert_on_the_gpu(output: Any) -> None:
    tensors = [output] if isinstance(output, torch.Tensor) else [part for part in output or () if part is not None]
    assert all(tensor.device.type == "cuda" for tensor in tensors)


def test_every_operator_of_a_gpu_has_a_case() -> None:
    assert {operator for operator, _ in CASES} == set(OPERATORS) - {"engine", *COLLECTIVES}


@pytest.mark.parametrize("case", CASES.values(), ids=map("-".join, CASES))
def test_operators_of_torch_run_on_a_gpu(case: Case) -> None:
    assert_on_the_gpu(run_without_values(case, None))


@pytest.mark.parametrize("release", TABLES)
@pytest.mark.parametrize("case", CASES.values(), ids=map("-".join, CASES))
def test_operators_of_flashinfer_run_on_a_gpu(case: Case, release: str) -> None:
    assert_on_the_gpu(run_without_values(case, FakeFlashInfer(release, TABLES[release])))


def called(release: str, table: Mapping[str, str]) -> set[str]:
    """Return the functions that the operators of every case call."""
    flashinfer = FakeFlashInfer(release, table)
    for case in CASES.values():
        run_without_values(case, flashinfer)
    return set(flashinfer.calls)


@pytest.mark.parametrize("release", TABLES)
def test_every_signature_of_the_table_is_called(release: str) -> None:
    assert called(release, TABLES[release]) == set(TABLES[release])


def test_calls_fit_the_installed_flashinfer() -> None:
    spec = importlib.util.find_spec("flashinfer")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("flashinfer is not installed: the calls are checked against the table of its signatures")
    read = reader(Path(spec.submodule_search_locations[0]))
    assert called(version(read), signatures(read)) == set(signatures(read))


def test_a_call_that_does_not_fit_is_refused() -> None:
    release, table = next(iter(TABLES.items()))
    older = table | {"norm.fused_add_rmsnorm": "input, residual, weight"}
    with pytest.raises(TypeError, match="too many positional arguments"):
        run_without_values(CASES["add_norm", ""], FakeFlashInfer(release, older))


def test_a_tensor_of_the_host_is_refused() -> None:
    with FakeTensorMode(), torch.inference_mode():
        operators = Operators(FakeTorch(FakeCuda()), FakeFlashInfer(*next(iter(TABLES.items()))))
        x, weight = torch.ones(4, 64, dtype=torch.bfloat16), torch.ones(64, dtype=torch.bfloat16, device="cuda")
        with pytest.raises(ValueError, match="input must be on the GPU, it is on cpu"):
            operators.rms_norm(x, weight)
        with pytest.raises(RuntimeError, match="device"):
            Operators(torch).linear(x, torch.ones(8, 64, dtype=torch.bfloat16, device="cuda"))


@pytest.mark.parametrize(("capability", "expected"), [((8, 0), False), ((8, 9), True), ((9, 0), True)])
def test_gpus_from_ada_on_multiply_fp8(capability: tuple[int, int], expected: bool) -> None:
    assert multiplies_fp8(FakeTorch(FakeCuda(capability=capability)), CUDA) is expected


CUDA_NAMES = ("get_device_capability", "get_device_name", "get_device_properties", "mem_get_info", "synchronize")


@pytest.mark.parametrize("name", [*CUDA_NAMES, "current_stream", "set_device", "device_count", "empty_cache", "stream"])
def test_the_stand_in_for_cuda_has_the_parameters_of_torch(name: str) -> None:
    assert parameters(getattr(FakeCuda, name))[1:] == parameters(getattr(torch.cuda, name))


@pytest.mark.parametrize(
    ("name", "real"), [("Stream", "__new__"), ("Event", "__new__"), ("CUDAGraph", "__new__"), ("graph", "__init__")]
)
def test_the_stand_in_for_cuda_has_the_first_parameters_of_its_classes(name: str, real: str) -> None:
    expected = parameters(getattr(getattr(torch.cuda, name), real))
    ours = parameters(getattr(FakeCuda, name))
    assert ours[1:] == expected[1 : len(ours)]


@pytest.mark.parametrize(
    ("ours", "real", "name"),
    [
        *((FakeEvent, torch.cuda.Event, name) for name in ("record", "synchronize", "elapsed_time")),
        *((FakeStream, torch.cuda.Stream, name) for name in ("wait_stream", "synchronize")),
        *((FakeGraph, torch.cuda.CUDAGraph, name) for name in ("replay", "pool")),
    ],
)
def test_the_stand_in_for_cuda_has_the_parameters_of_its_methods(ours: Any, real: Any, name: str) -> None:
    assert parameters(getattr(ours, name)) == parameters(getattr(real, name))


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)
