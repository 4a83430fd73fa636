"""Other libraries at the same task, through torch where that is installed: cuBLAS in 8 and 16 bits, cuDNN and whole
networks in 16, and copying."""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

from bitmlir.conv2d_spec import Conv2dSpec
from bitmlir.runtime.driver import Device
from bitmlir.tools.bench.networks import Node
from bitmlir.tools.bench.timing import Record, Timing, graph_timing
from bitmlir.tools.bench.torch_networks import float_network

__all__ = ["RIVALS", "convolution_timings", "copy_timing", "find_torch", "network_timings", "rival_timings"]

_logger = logging.getLogger("bitmlir")

Work = Sequence[Callable[[], Any]]
Make = Callable[[Any, int, int, int, int], Work]
"""make(torch, m, n, k, copies): products with that many copies of the weights, one function for each."""


def find_torch() -> tuple[Any, str]:
    """torch, or None where it cannot use a GPU; and its version, or why not."""
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        return None, f"torch is not installed ({error}): no rivals, and results are checked on sampled rows"
    if not torch.cuda.is_available():
        return None, f"torch {torch.__version__} sees no GPU: no rivals, and results are checked on sampled rows"
    return torch, str(torch.__version__)


def _int8(torch: Any, m: int, n: int, k: int, copies: int) -> Work:
    def matrix(rows: int) -> Any:
        return torch.randint(-128, 128, (rows, k), dtype=torch.int8, device="cuda")

    x = matrix(m)
    return [functools.partial(torch._int_mm, x, matrix(n).t()) for _ in range(copies)]


def _fp8(torch: Any, m: int, n: int, k: int, copies: int) -> Work:
    def matrix(rows: int) -> Any:
        return torch.randn((rows, k), dtype=torch.bfloat16, device="cuda").to(torch.float8_e4m3fn)

    x, one = matrix(m), torch.ones((), device="cuda")
    options = {"scale_a": one, "scale_b": one, "out_dtype": torch.bfloat16, "use_fast_accum": True}
    return [functools.partial(torch._scaled_mm, x, matrix(n).t(), **options) for _ in range(copies)]


def _bf16(torch: Any, m: int, n: int, k: int, copies: int) -> Work:
    def matrix(rows: int) -> Any:
        return torch.randn((rows, k), dtype=torch.bfloat16, device="cuda")

    x = matrix(m)
    return [functools.partial(torch.mm, x, matrix(n).t()) for _ in range(copies)]


RIVALS: dict[str, tuple[Make, int]] = {"int8": (_int8, 1), "fp8": (_fp8, 1), "bf16": (_bf16, 2)}
"""Rival → how to make its products, and bytes of an element: `_int_mm`, `_scaled_mm` and `mm`, all by cuBLAS."""


def rival_timings(
    torch: Any, device: Device, size: tuple[int, int, int], weight_bytes: int, repeats: int
) -> dict[str, Timing]:
    """Each rival's time for an m×k by n×k product; copies of the weights take turns until they fill `weight_bytes`.

    A rival that refuses the shape is left out.
    """
    m, n, k = size
    timings = {}
    for name, (make, element_bytes) in RIVALS.items():
        copies = max(1, -(-weight_bytes // (n * k * element_bytes)))
        try:
            work = make(torch, m, n, k, copies)
            timings[name] = graph_timing(device, _torch_record(torch, work), repeats, copies)
        except RuntimeError as error:
            _logger.info("%s leaves out %d×%d×%d: %s", name, m, n, k, str(error).partition("\n")[0])
        finally:
            work = None
            torch.cuda.empty_cache()
    return timings


def convolution_timings(torch: Any, device: Device, spec: Conv2dSpec, repeats: int) -> dict[str, Timing]:
    """cuDNN's time in fp16, channels last, at the fastest of its ways; none if it refuses the shape."""
    taps = (spec.window.rows.taps, spec.window.columns.taps)
    top, left, bottom, right = spec.padding  # pyright: ignore[reportGeneralTypeIssues]  # four once the spec is made
    steps = {"stride": spec.stride, "dilation": spec.dilation}

    def images(*shape: int) -> Any:
        made = torch.randn(shape, dtype=torch.float16, device="cuda")
        return made.to(memory_format=torch.channels_last)

    try:
        padded = (spec.height, spec.width)
        if (top, left) == (bottom, right):
            steps["padding"] = (top, left)
        else:  # which cuDNN does not know: the images come with it
            padded = (spec.height + top + bottom, spec.width + left + right)
        x, w = images(spec.images, spec.channels, *padded), images(spec.filters, spec.channels, *taps)
        run = functools.partial(torch.nn.functional.conv2d, x, w, **steps)
        return {"fp16": _torch_timing(torch, device, run, repeats)}
    except RuntimeError as error:
        _logger.info("fp16 leaves out %s: %s", spec, str(error).partition("\n")[0])
        return {}
    finally:
        torch.cuda.empty_cache()


def network_timings(torch: Any, device: Device, nodes: Sequence[Node], batch: int, repeats: int) -> dict[str, Timing]:
    """A network like it in fp16, channels last, as torch runs it by CUDA graph, and the same after `torch.compile`.

    What torch cannot do is left out with a warning.
    """

    def plain() -> Any:
        return float_network(torch, nodes, torch.float16).cuda()

    def compiled() -> Any:
        torch.compiler.reset()  # what it remembers of other networks would count against this one
        return torch.compile(plain(), fullgraph=True, dynamic=False)

    timings = {}
    for name, make in {"fp16": plain, "fp16 compiled": compiled}.items():
        try:
            images = torch.randint(0, 256, (batch, *nodes[0].shape), dtype=torch.uint8, device="cuda")
            timings[name] = _torch_timing(torch, device, functools.partial(make(), images), repeats)
        except Exception as error:  # of compilers that torch calls, any may come
            _logger.warning("%s leaves out a network: %s", name, str(error).partition("\n")[0])
        finally:
            torch.cuda.empty_cache()
    return timings


def _torch_timing(torch: Any, device: Device, run: Callable[[], Any], repeats: int) -> Timing:
    """Inference, for which cuDNN takes the fastest of its ways."""
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, benchmark=True):
        return graph_timing(device, _torch_record(torch, [run]), repeats)


def copy_timing(torch: Any, device: Device, n_bytes: int, repeats: int) -> Timing:
    """`copy_` of that many bytes on the device."""
    source = torch.empty(n_bytes, dtype=torch.uint8, device="cuda").random_()
    target = torch.empty_like(source)
    return graph_timing(device, _torch_record(torch, [lambda: target.copy_(source)]), repeats)


def _torch_record(torch: Any, work: Work) -> Record:
    """Work of torch, one after the other in turns, recorded by torch: its allocator must know of the graph."""

    def record(stream: Any, runs: int) -> Callable[[], None]:
        on = torch.cuda.ExternalStream(int(stream))
        with torch.cuda.stream(on):
            for run in work:
                run()  # libraries allocate their workspace at the first call
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=on, capture_error_mode="relaxed"):
            for number in range(runs):
                work[number % len(work)]()

        def launch() -> None:
            with torch.cuda.stream(on):
                graph.replay()

        return launch

    return record
