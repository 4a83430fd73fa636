"""The division that GPU kernels make of multiplications and additions, run on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
from mlir import ir
from mlir.dialects import func, memref, vector

from bitmlir.dialects.layout import LARGEST_SCALE, SMALLEST_SCALE
from bitmlir.jit import CpuProgram
from bitmlir.lowering.codes import safe_scale
from bitmlir.lowering.cpu.kernel import kernel_function, loop
from bitmlir.lowering.gpu.packing import exact_division
from bitmlir.lowering.pipeline import run_pipeline
from bitmlir.lowering.stages import stage_pipelines
from bitmlir.lowering.targets import get_target
from bitmlir.lowering.vectors import as_vector, vector_of
from bitmlir.runtime.plan import Buffer, Launch, Plan, Value

LANES = 16
ROWS, K = 4096, 512


@pytest.fixture(scope="module")
def divide() -> CpuProgram:
    """quotient[r, k] = x[r, k] / scale[r], as a kernel divides."""
    shapes = {"x": (ROWS, K), "scale": (ROWS,), "quotient": (ROWS, K)}
    with ir.Context(), ir.Location.unknown():
        module = ir.Module.create()
        f32 = ir.F32Type.get()
        types = [ir.MemRefType.get(shape, f32) for shape in shapes.values()]
        with ir.InsertionPoint(module.body):
            host = func.FuncOp("host", ir.FunctionType.get(types, []))
            host.add_entry_block()

            def body(arrays, first, last) -> None:
                x, scales, quotient = (arrays[value] for value in host.arguments)

                def divide_row(row) -> None:
                    scale = safe_scale(memref.load(scales, [row.value]))
                    spread = as_vector(scale, LANES)
                    division = exact_division(scale)

                    def divide_some(k) -> None:
                        at = [row.value, k.value]
                        some = vector.load(vector_of(f32, LANES), x, at)
                        vector.store(division(some, spread), quotient, at)

                    loop(0, K, LANES, divide_some)

                loop(first, last, 1, divide_row)

            kernel_function("divide", list(host.arguments), ROWS, ROWS, body)
            with ir.InsertionPoint(host.entry_block):
                func.ReturnOp([])
        run_pipeline(module, stage_pipelines(get_target("cpu"))["cpu"])
        text = str(module)
    buffers = tuple(Buffer(name, "f32", shape) for name, shape in shapes.items())
    values = {b.name: Value(b.name, "array", b.shape, {"values": b.name}, "f32") for b in buffers}
    launch = Launch("divide", (ROWS, 1, 1), (ROWS, 1, 1), 0, tuple(shapes))
    return CpuProgram(
        text, Plan("divide", "cpu", (values["x"], values["scale"]), (values["quotient"],), buffers, (launch,))
    )


def assert_divides(divide: CpuProgram, x: np.ndarray, scale: np.ndarray) -> None:
    quotient = divide.run({"x": x, "scale": scale})["quotient"]
    expected = x / scale[:, None]
    meant = np.abs(expected) >= 0.25  # what is smaller need only stay so: it is rounded to 0 or to ±1
    np.testing.assert_array_equal(quotient[meant], expected[meant])
    assert (np.abs(quotient[~meant]) <= 0.25).all()


def scales(rng: np.random.Generator) -> np.ndarray:
    """Scales of every size that is allowed, the largest and smallest fractions among them."""
    fraction = rng.integers(0, 1 << 23, ROWS)
    fraction[::3] = rng.choice([0, 1, 2, (1 << 23) - 1, (1 << 23) - 2], len(fraction[::3]))
    exponent = rng.integers(-100, 100, ROWS)
    return np.ldexp(1 + fraction / 2**23, exponent).astype(np.float32)


def test_quotients_are_rounded_as_division_rounds_them(divide: CpuProgram) -> None:
    rng = np.random.default_rng(1)
    for _ in range(4):
        scale = scales(rng)
        x = (rng.uniform(-256, 256, (ROWS, K)) * scale[:, None].astype(np.float64)).astype(np.float32)
        assert_divides(divide, x, scale)


def test_quotients_near_ties_are_rounded_as_division_rounds_them(divide: CpuProgram) -> None:
    """Within two units in the last place of halves, where another rounding would change the result."""
    rng = np.random.default_rng(2)
    for _ in range(4):
        scale = scales(rng)
        x = ((rng.integers(-256, 256, (ROWS, K)) + 0.5) * scale[:, None].astype(np.float64)).astype(np.float32)
        x = (x.view(np.int32) + rng.integers(-2, 3, x.shape, dtype=np.int32)).view(np.float32)
        assert_divides(divide, x, scale)


def test_the_limits_of_scales_are_exact(divide: CpuProgram) -> None:
    rng = np.random.default_rng(3)
    scale = rng.choice([SMALLEST_SCALE, LARGEST_SCALE], ROWS).astype(np.float32)
    assert_divides(
        divide, (rng.uniform(-256, 256, (ROWS, K)) * scale[:, None].astype(np.float64)).astype(np.float32), scale
    )
