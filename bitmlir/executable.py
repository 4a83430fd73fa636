"""A compiled program: call it, look at its stages, save it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from bitmlir.arrays import as_integers, as_numpy, is_device_array, like
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import BundleError, EncodingError, InputError, ShapeError
from bitmlir.formats.packed import Packed, pack
from bitmlir.formats.tiles import TileBitmap
from bitmlir.runtime.bundle import Bundle
from bitmlir.runtime.dtypes import numpy_dtype
from bitmlir.runtime.plan import Plan, Value

__all__ = ["BoundCall", "Executable", "load"]


def load(path: str | os.PathLike[str]) -> Executable:
    """The program that `Executable.save` wrote. A GPU program needs only numpy and cuda-python to run (and for bf16
    arrays ml_dtypes).

    Raises:
        BundleError: the file is no bundle, truncated, altered, or of a newer format.
    """
    return Executable(Bundle.load(path))


class Executable:
    """A compiled program.

    Attributes:
        plan: its arguments, results, buffers and launches.
        target: the name of the target it was compiled for.
    """

    def __init__(self, bundle: Bundle) -> None:
        """Made by `bitmlir.compile` and `bitmlir.load`; nothing is loaded on a device before the first call."""
        self._bundle = bundle
        self.plan: Plan = bundle.plan
        self.target: str = bundle.plan.target
        self._program: Any = None

    def __repr__(self) -> str:
        arguments = ", ".join(_describe(value) for value in self.plan.arguments)
        results = ", ".join(_describe(value) for value in self.plan.results)
        return f"<Executable {self.plan.name}({arguments}) -> {results} for {self.target}>"

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Run the program on its arguments, by position or name.

        A packed argument is a `Packed`, or an array of integers, which is checked and packed; a tile bitmap is a
        `TileBitmap`; other arguments are arrays, or numbers to be repeated. Arrays may be numpy's, torch's, CuPy's.
        The row sums of a `Packed` and the bits of a `TileBitmap` are taken as they are: their `check` tests them.
        Results are of the library and on the device of the first array; packed ones are `Packed`.

        Raises:
            InputError: an argument is missing, unknown, or not of its type.
            ShapeError: a shape does not fit.
            EncodingError: values outside the encoding.
            DeviceError: no GPU, or an error on it.
            BundleError: the program was compiled for another kind of GPU.
        """
        return self.bind(*arguments, **named)()

    def bind(self, *arguments: Any, **named: Any) -> BoundCall:
        """The program with its arguments in place, to run again and again (see `__call__`).

        Device arrays are used where they lie; results of each run overwrite those of the run before.
        """
        given = self._match(arguments, named)
        buffers: dict[str, Any] = {}
        for value in self.plan.arguments:
            for part, array in _parts(value, given[value.name]).items():
                buffers[value.buffers[part]] = array
        return BoundCall(self, buffers, next(iter(given.values()), None))

    def emit(self, stage: str) -> str | bytes:
        """The program at a level: "bit", "planes", "gpu" (CPU: "vector"), "nvvm" (CPU: "cpu"), "llvm", "ptx", "cubin";
        or "bundle", what `save` writes.

        Raises:
            InputError: the program has no such level.
        """
        if stage == "bundle":
            return self._bundle.to_bytes()
        if stage == "cubin" and "ptx" in self._bundle.stages and "cubin" not in self._bundle.stages:
            raise InputError(
                "the program has no cubin, because no PTX assembler was found when it was compiled: "
                "pip install 'bitmlir[cuda]' brings one, then compile it again"
            )
        if not isinstance(stage, str):
            raise InputError(f"a stage is named by a string, got {type(stage).__name__}")
        if stage == "llvm" and stage not in self._bundle.stages:
            return self._llvm_ir()
        if stage not in self._bundle.stages:
            known = ", ".join([*self._bundle.stages, "llvm"])
            raise InputError(f"a program for '{self.target}' has no stage {stage!r}: expected one of {known}")
        content = self._bundle.stages[stage]
        return content if stage == "cubin" else content.decode()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the program as a bundle, which `bitmlir.load` reads.

        Raises:
            BundleError: the file cannot be written.
        """
        self._bundle.save(path)

    def _match(self, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments by name, in the plan's order."""
        names = [value.name for value in self.plan.arguments]
        if len(arguments) > len(names):
            known = f"{len(names)} arguments ({', '.join(names)})"
            raise InputError(f"{self.plan.name} takes {known}, got {len(arguments)}")
        given = dict(zip(names, arguments, strict=False))
        for name, value in named.items():
            if name not in names:
                raise InputError(f"{self.plan.name} has no argument {name!r}: expected {', '.join(names)}")
            if name in given:
                raise InputError(f"argument {name!r} is given twice")
            given[name] = value
        for value in self.plan.arguments:
            if value.default is not None:
                given.setdefault(value.name, int(value.default))
        if missing := [name for name in names if name not in given]:
            raise InputError(f"{self.plan.name} needs its arguments {', '.join(missing)}")
        return {name: given[name] for name in names}

    def _load(self) -> Any:
        """The program on its device, loaded at first use."""
        if self._program is None:
            if self.target == "cpu":
                from bitmlir.jit import CpuProgram

                if "cpu" not in self._bundle.stages:
                    raise BundleError("the bundle holds no code for the CPU: compile the program again")
                self._program = CpuProgram(self._bundle.stages["cpu"].decode(), self.plan)
            else:
                from bitmlir.runtime.cuda import CudaProgram

                self._program = CudaProgram(self._bundle)
        return self._program

    def _llvm_ir(self) -> str:
        """LLVM IR, translated from the level above it."""
        try:
            from bitmlir.translate import llvm_ir
        except ImportError as error:
            raise InputError(f"the stage 'llvm' is made by MLIR, which is not installed here: {error}") from None

        return llvm_ir(self._bundle.stages["cpu" if self.target == "cpu" else "nvvm"].decode())


class BoundCall:
    """A program with its arguments in place. Calling it runs it and returns its results."""

    def __init__(self, executable: Executable, buffers: dict[str, Any], example: Any) -> None:
        """Made by `Executable.bind`."""
        self._executable, self._example = executable, example
        plan, program = executable.plan, executable._load()
        if executable.target == "cpu":
            for buffer in plan.buffers:
                if buffer.name not in buffers:
                    buffers[buffer.name] = np.empty(buffer.shape, numpy_dtype(buffer.dtype))
                elif not isinstance(buffers[buffer.name], np.ndarray):
                    buffers[buffer.name] = as_numpy(buffers[buffer.name], buffer.name)
            self._run = program.bind(buffers).run
            self._buffers = buffers
        else:
            from bitmlir.runtime.driver import DeviceArray

            on_device = {
                name: DeviceArray.from_numpy(a) if isinstance(a, np.ndarray) else DeviceArray.share(a, name)
                for name, a in buffers.items()
            }
            self._bound = program.bind(on_device)
            self._run, self._buffers = self._bound.run, self._bound.buffers

    def __call__(self) -> Any:
        """Run once and return the result, or a tuple of them."""
        self._run()
        results = tuple(self._result(value) for value in self._executable.plan.results)
        return results[0] if len(results) == 1 else results

    def run(self) -> None:
        """Run once; on a GPU this returns before it is done."""
        self._run()

    def time(self, repeats: int = 20) -> list[float]:
        """Seconds that one run takes, measured `repeats` times after a warm-up (GPU: between events, by CUDA graph)."""
        if self._executable.target != "cpu":
            return self._bound.time(repeats)
        import time

        seconds = []
        for _ in range(repeats + 2):
            start = time.perf_counter()
            self._run()
            seconds.append(time.perf_counter() - start)
        return seconds[2:]

    def _result(self, value: Value) -> Any:
        """A result where the first argument lies: on the GPU, or on the host as a copy, safe from later runs."""
        example = self._example.planes if isinstance(self._example, Packed) else self._example
        arrays = {part: self._buffers[name] for part, name in value.buffers.items()}
        if isinstance(next(iter(arrays.values())), np.ndarray):
            arrays = {part: array.copy() for part, array in arrays.items()}
        elif not is_device_array(example):
            arrays = {part: array.numpy() for part, array in arrays.items()}
        if value.kind == "packed":
            rows, k = value.shape
            planes = arrays["planes"].view(np.uint32)
            return Packed(planes, arrays["sums"], Encoding.parse(value.encoding or ""), (rows, k), arrays.get("zeros"))
        if isinstance(self._example, Packed):
            return arrays["values"]
        deliver = like if isinstance(arrays["values"], np.ndarray) else _in_library
        return deliver(arrays["values"], example)


def _in_library(array: Any, example: Any) -> Any:
    """A device array as the library of `example` sees it."""
    library = type(example).__module__.partition(".")[0]
    if library == "torch":
        return sys.modules["torch"].as_tensor(array, device=example.device)
    if library == "cupy":
        return sys.modules["cupy"].asarray(array)
    return array


def _describe(value: Value) -> str:
    sizes = "x".join(map(str, value.shape))
    return f"{value.name}: {sizes}x{value.encoding if value.kind == 'packed' else value.dtype or 'tiles'}"


# --- arguments --------------------------------------------------------------------------------------


def _parts(value: Value, given: Any) -> dict[str, Any]:
    """The arrays that carry an argument, by part."""
    if value.kind == "packed":
        return _packed_parts(value, given)
    if value.kind == "tiles":
        if not isinstance(given, TileBitmap):
            raise InputError(f"{value.name} must be a TileBitmap (see bitmlir.tile_bitmap), got {type(given).__name__}")
        if given.shape != value.shape or str(given.encoding) != value.encoding:
            raise ShapeError(
                f"{value.name} must cover a {value.encoding} matrix of shape {value.shape}, "
                f"but covers {given.encoding} of {given.shape}"
            )
        return {"tiles": _words(given.words)}
    return {"values": _array(value, given)}


def _packed_parts(value: Value, given: Any) -> dict[str, Any]:
    assert value.encoding is not None
    if not isinstance(given, Packed):
        if value.encoding.endswith("@row"):
            raise EncodingError(f"{value.name} in '{value.encoding}' needs zero points: give pack(x, encoding, zeros)")
        array = as_integers(given, value.name)
        if array.shape != value.shape:
            raise ShapeError(f"{value.name} must have the shape {value.shape}, got {array.shape}")
        given = pack(array, value.encoding, name=value.name)
    if str(given.encoding) != value.encoding:
        raise EncodingError(f"{value.name} must be in encoding '{value.encoding}', got '{given.encoding}'")
    if given.shape != value.shape:
        raise ShapeError(f"{value.name} must have the shape {value.shape}, got {given.shape}")
    parts = {"planes": _words(given.planes), "sums": given.sums}
    if "zeros" in value.buffers:
        parts["zeros"] = given.zeros
    return parts


def _words(words: Any) -> Any:
    """Packed words as the plan's i32, without a copy."""
    if not isinstance(words, np.ndarray):
        from bitmlir.runtime.driver import DeviceArray

        words = DeviceArray.share(words)
    return words.view(np.int32)


def _array(value: Value, given: Any) -> Any:
    """A plain array of the value's shape and type; a number is repeated."""
    assert value.dtype is not None
    dtype = numpy_dtype(value.dtype)
    if is_device_array(given):
        return given
    array = as_numpy(given, value.name)
    if array.ndim == 0:
        array = np.broadcast_to(array, value.shape)
    if array.shape != value.shape:
        raise ShapeError(f"{value.name} must have the shape {value.shape}, or be a number, got {array.shape}")
    if dtype.kind == "i":
        if array.dtype.kind not in "iub":
            raise InputError(f"{value.name} must hold integers, got {array.dtype}")
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        if array.size and not (low <= array.min() and array.max() <= high):
            raise InputError(f"{value.name} must lie in {low}..{high}, but reaches {array.min()}..{array.max()}")
    return np.ascontiguousarray(array, dtype)
