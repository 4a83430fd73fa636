"""A compiled program: call it, look at its stages, save it."""

from __future__ import annotations

import copy
import dataclasses
import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from bitmlir.arrays import as_integers, as_numpy, as_writable, is_device_array, like
from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import BundleError, EncodingError, InputError, ShapeError
from bitmlir.dialects.layout import words_per_row
from bitmlir.explanation import Explanation
from bitmlir.formats.packed import Packed, pack, require_clean_padding
from bitmlir.formats.tiles import TileBitmap
from bitmlir.runtime.buffers import require_apart, require_host_array, require_type
from bitmlir.runtime.bundle import Bundle
from bitmlir.runtime.dtypes import numpy_dtype
from bitmlir.runtime.libraries import LEGACY_STREAM, library_of, stream_of
from bitmlir.runtime.plan import Launch, Plan, Step, Value
from bitmlir.spec_fields import whole_number

__all__ = ["BoundCall", "Executable", "load"]

_log = logging.getLogger("bitmlir")
_IMAGE_RANK = 4
_NETWORK_INPUT = "images"  # of the programs that `bitmlir.nn` makes


def load(path: str | os.PathLike[str]) -> Executable:
    """The program that `Executable.save` wrote. A GPU program needs only numpy and cuda-python to run (and for bf16
    arrays ml_dtypes).

    Raises:
        BundleError: the file is no bundle, truncated, altered, or of a newer format.

    Example:
        >>> import bitmlir, tempfile
        >>> program = bitmlir.compile(bitmlir.MatmulSpec(m=1, n=1, k=3, lhs="bipolar", rhs="u2"), target="cpu")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     program.save(f"{folder}/product.bitmlir")
        ...     again = load(f"{folder}/product.bitmlir")
        >>> again([[1, -1, 1]], [[3, 2, 1]])
        array([[2]], dtype=int32)
    """
    return Executable(Bundle.load(path))


class Executable:
    """A compiled program. It can be copied and pickled; what it has loaded on a device stays behind.

    Attributes:
        bundle: what `save` writes.
        plan: its arguments, results, buffers and launches.
        target: the name of the target it was compiled for.

    Example:
        >>> import bitmlir
        >>> multiply = bitmlir.compile(bitmlir.MatmulSpec(m=1, n=2, k=3, lhs="bipolar", rhs="u2"), target="cpu")
        >>> multiply
        <Executable matmul(lhs: 1x3xbipolar, rhs: 2x3xu2) -> result: 1x2xi32 for cpu>
        >>> weights = pack([[3, 2, 1], [0, 1, 0]], "u2")
        >>> multiply([[1, -1, 1]], rhs=weights)
        array([[ 2, -1]], dtype=int32)
        >>> out = np.zeros((1, 2), np.int32)
        >>> again = multiply.bind([[1, -1, 1]], weights, out=out)
        >>> again() is out
        True
    """

    def __init__(self, bundle: Bundle) -> None:
        """Made by `bitmlir.compile` and `bitmlir.load`; nothing is loaded on a device before the first call."""
        self.bundle = bundle
        self.plan: Plan = bundle.plan
        self.target: str = bundle.plan.target
        self._program: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_program": None}

    def __repr__(self) -> str:
        arguments = ", ".join(_describe(value) for value in self.plan.arguments)
        results = ", ".join(_describe(value) for value in self.plan.results)
        return f"<Executable {self.plan.name}({arguments}) -> {results} for {self.target}>"

    def __call__(self, *arguments: Any, out: Any = None, **named: Any) -> Any:
        """Run the program on its arguments, by position or name.

        A packed argument is a `Packed`, or an array of integers, which is checked and packed; a tile bitmap is a
        `TileBitmap`; other arguments are arrays, or numbers to be repeated. Arrays may be numpy's, torch's, CuPy's or
        JAX's. What a `Packed` holds (row sums, bits past k, elements in both planes of `ternary`) and the bits of a
        `TileBitmap` are taken as they are: their `check` tests them. Of that only the bits past k are looked at here,
        in host memory. Results are of the library and on the device of the first array; packed ones are `Packed`.

        out: what to write the result into and to return: an array of its shape and type, in GPU memory or (numpy, or
        torch on the CPU) in the host's; for a packed result a `Packed`; for several results a tuple of these, with None
        for those that are to be new. It may share memory with no argument.

        On a GPU the work is queued on the stream that is current in the library (torch, CuPy) of `out`, or else of the
        first array, or else on the legacy default one. Results there are ready for what is queued on that stream next.
        What other libraries and streams still do to arguments is waited for when they are bound.

        Raises:
            InputError: an argument is missing, unknown, or not of its type, or holds a finite number that its type
                would make infinite, a bit past k, or in host memory a scale to pack by that is negative or NaN; or
                `out` does not fit.
            ShapeError: a shape does not fit.
            EncodingError: values outside the encoding.
            DeviceError: no GPU, or an error on it. Out of memory leaves arguments and `out` as they were.
            BundleError: the program was compiled for another kind of GPU.
        """
        return self.bind(*arguments, out=out, **named)()

    def bind(self, *arguments: Any, out: Any = None, **named: Any) -> BoundCall:
        """The program with its arguments in place, to run again and again (see `__call__`).

        Device arrays are used where they lie, and each run reads what they then hold; results of each run overwrite
        those of the run before.
        """
        given = self._match(arguments, named)
        outs = _match_results(self.plan.results, out)
        read = {
            value.buffers[part]: array
            for value in self.plan.arguments
            for part, array in _parts(value, given[value.name]).items()
        }
        _require_scales(self.plan, read)
        written = {
            value.buffers[part]: array for value, target in outs for part, array in _result_parts(value, target).items()
        }
        return BoundCall(self, read, written, outs, _first_array(given.values()))

    def with_constants(self, **arguments: Any) -> Executable:
        """The program with some of its arguments given for good: a copy of them is part of it, and of the bundle that
        `save` writes. They are brought to a GPU once, and what depends on them alone is computed once.

        arguments: by name, as of `__call__`.

        Raises:
            InputError, ShapeError, EncodingError: as of `__call__`.

        Example:
            >>> import bitmlir
            >>> multiply = bitmlir.compile(bitmlir.MatmulSpec(m=1, n=2, k=3, lhs="bipolar", rhs="u2"), target="cpu")
            >>> layer = multiply.with_constants(rhs=pack([[3, 2, 1], [0, 1, 0]], "u2"))
            >>> layer
            <Executable matmul(lhs: 1x3xbipolar) -> result: 1x2xi32 for cpu>
            >>> layer([[1, -1, 1]])
            array([[ 2, -1]], dtype=int32)
        """
        self._require_known(arguments)
        held = {}
        for value in (value for value in self.plan.arguments if value.name in arguments):
            parts = {value.buffers[p]: as_numpy(a, value.name) for p, a in _parts(value, arguments[value.name]).items()}
            _require_scales(self.plan, parts)
            held[value.name] = _in_rows(self.plan, parts)
            for name, array in held[value.name].items():
                require_host_array(self.plan.buffer(name), array, is_written=False)
        return Executable(self.bundle.holding(held))

    def explain(self) -> Explanation:
        """What each launch of a run has to do, the time that no kernel could beat, the tile that was chosen and why,
        and what to expect, with its parts. It is made when the program is compiled; `print` shows it.

        Raises:
            InputError: the program is for the CPU, or was compiled by a bitmlir that explained nothing yet.
        """
        if self.target == "cpu":
            raise InputError("the cost model knows GPUs only: compile for one, such as target='sm_90a'")
        if "explain" not in self.bundle.stages:
            made_by = self.bundle.versions.get("bitmlir", "an earlier version")
            raise InputError(f"the program holds no explanation: bitmlir {made_by} compiled it; compile it again")
        explanation = Explanation.from_json(self.bundle.stages["explain"].decode())
        done_once = {step.kernel for step in self.plan.setup if isinstance(step, Launch)}
        launches = tuple(launch for launch in explanation.launches if launch.kernel not in done_once)
        return dataclasses.replace(explanation, launches=launches)

    def emit(self, stage: str) -> str | bytes:
        """The program at a level: "bit", "planes", "gpu" (CPU: "vector"), "nvvm" (CPU: "cpu"), "llvm", "ptx", "cubin";
        or "bundle", what `save` writes; or "explain", what `explain` reads.

        Raises:
            InputError: the program has no such level.
        """
        if stage == "bundle":
            return self.bundle.to_bytes()
        if stage == "cubin" and "ptx" in self.bundle.stages and "cubin" not in self.bundle.stages:
            raise InputError(
                "the program has no cubin, because no PTX assembler was found when it was compiled: "
                "pip install 'bitmlir[cuda]' brings one, then compile it again"
            )
        if not isinstance(stage, str):
            raise InputError(f"a stage is named by a string, got {type(stage).__name__}")
        if stage == "llvm" and stage not in self.bundle.stages:
            return self._llvm_ir()
        if stage not in self.bundle.stages:
            known = ", ".join([*self.bundle.stages, "llvm"])
            raise InputError(f"a program for '{self.target}' has no stage {stage!r}: expected one of {known}")
        content = self.bundle.stages[stage]
        return content if stage == "cubin" else content.decode()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the program as a bundle, which `bitmlir.load` reads.

        Raises:
            BundleError: the file cannot be written, or its path is none.
        """
        self.bundle.save(path)

    def _match(self, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments by name, in the plan's order."""
        names = [value.name for value in self.plan.arguments]
        if len(arguments) > len(names):
            known = f"{len(names)} arguments ({', '.join(names)})"
            raise InputError(f"{self.plan.name} takes {known}, got {len(arguments)}")
        given = dict(zip(names, arguments, strict=False))
        self._require_known(named)
        for name, value in named.items():
            if name in given:
                raise InputError(f"argument {name!r} is given twice")
            given[name] = value
        for value in self.plan.arguments:
            if value.default is not None:
                given.setdefault(value.name, int(value.default))
        if missing := [name for name in names if name not in given]:
            raise InputError(f"{self.plan.name} needs its arguments {', '.join(missing)}")
        return {name: given[name] for name in names}

    def _require_known(self, given: Iterable[str]) -> None:
        """Check the names of arguments."""
        names, held = ([value.name for value in values] for values in (self.plan.arguments, self.plan.constants))
        for name in given:
            if name in held:
                raise InputError(f"{self.plan.name} holds its argument {name!r} as a constant: leave it out")
            if name not in names:
                expected = ", ".join(names) or "none"
                raise InputError(f"{self.plan.name} has no argument {name!r}: expected {expected}")

    def _load(self) -> Any:
        """The program on its device, loaded at first use."""
        if self._program is None:
            if self.target == "cpu":
                try:
                    from bitmlir.jit import CpuProgram
                except ImportError as error:
                    reason = f"which is not installed here ({error})"
                    raise BundleError(f"a program for the CPU is compiled by MLIR where it runs, {reason}") from None

                if "cpu" not in self.bundle.stages:
                    raise BundleError("the bundle holds no code for the CPU: compile the program again")
                constants = self.bundle.constant_arrays()
                self._program = CpuProgram(self.bundle.stages["cpu"].decode(), self.plan, constants=constants)
            else:
                from bitmlir.runtime.cuda import CudaProgram

                self._program = CudaProgram(self.bundle)
        return self._program

    def _llvm_ir(self) -> str:
        """LLVM IR, translated from the level above it."""
        try:
            from bitmlir.translate import llvm_ir
        except ImportError as error:
            raise InputError(f"the stage 'llvm' is made by MLIR, which is not installed here: {error}") from None

        return llvm_ir(self.bundle.stages["cpu" if self.target == "cpu" else "nvvm"].decode())


class BoundCall:
    """A program with its arguments in place. Calling it runs it and returns its results.

    Attributes:
        executable: the program. plan: what it runs.
    """

    def __init__(
        self,
        executable: Executable,
        read: Mapping[str, Any],
        written: Mapping[str, Any],
        outs: list[tuple[Value, Any]],
        example: Any,
    ) -> None:
        """Made by `Executable.bind`. read, written: arrays given for buffers; example: where results are to lie."""
        program = executable._load()
        self.executable, self.plan = executable, executable.plan
        self._is_on_gpu = executable.target != "cpu"
        self._stream_source: Any = None  # whose library says on which stream to run
        into_host: dict[str, np.ndarray] = {}  # copied to from GPU memory after each call
        if self._is_on_gpu:
            on_device = (array for array in (*written.values(), example) if is_device_array(array))
            self._stream_source = next((array for array in on_device if library_of(array)), None)
            into_host = _host_results(executable.plan, written)
            given = {name: array for name, array in {**read, **written}.items() if name not in into_host}
            buffers = _on_gpu(given, program.device, self._current_stream())
        else:
            buffers = {name: as_numpy(array, name) for name, array in read.items()}
            buffers |= {name: _host_target(array, name) for name, array in written.items()}
        self._bound = program.bind(_in_rows(executable.plan, buffers))
        self._run: Callable[[Any], None] = self._bound.run
        self._collectors = [_collector(value, out, self._bound.buffers, into_host, example) for value, out in outs]

    def __call__(self) -> Any:
        """Run once and return the result, or a tuple of them."""
        self.run()
        results = tuple([collect() for collect in self._collectors])
        return results[0] if len(results) == 1 else results

    def run(self, stream: Any = None) -> None:
        """Run once; on a GPU this returns before it is done, and an `out` in host memory is left as it was.

        stream: the handle of a CUDA stream, or anything with `__cuda_stream__`; by default the one of `Executable`.

        Raises:
            InputError: a stream on the CPU, or something else than a stream.
            DeviceError: the driver reported an error.
        """
        self._run(self._current_stream() if stream is None else stream)

    def graph(self) -> BoundCall:
        """The same call with all its launches recorded as one CUDA graph, which the driver replays at once.

        It uses the same buffers, and saves host time where a program has many short launches. On the CPU it is the call
        itself.

        Raises:
            DeviceError: the driver reported an error.
        """
        if not self._is_on_gpu:
            return self
        recorded = copy.copy(self)
        recorded._run = self._bound.graph().run
        return recorded

    def steps(self) -> list[tuple[Step, BoundCall]]:
        """Each step of the plan, and what runs it alone on the same buffers, with whatever they then hold: run all of
        them once, and `time` says what each takes. Alone they take longer in sum than together, where launches overlap.

        Example:
            >>> import bitmlir
            >>> spec = bitmlir.MatmulSpec(m=1, n=1, k=3, lhs="bipolar", rhs="u2")
            >>> call = bitmlir.compile(spec, target="cpu").bind([[1, -1, 1]], [[3, 2, 1]])
            >>> result = call()
            >>> [(step.kernel, len(alone.time(repeats=3))) for step, alone in call.steps()]
            [('plane_matmul_0', 3)]
        """
        return [(step, self._alone(number)) for number, step in enumerate(self.plan.steps)]

    def _alone(self, number: int) -> BoundCall:
        part = copy.copy(self)
        part._bound = self._bound.alone(number)
        part._run, part.plan = part._bound.run, dataclasses.replace(self.plan, steps=(self.plan.steps[number],))
        return part

    def time(self, repeats: int = 20) -> list[float]:
        """Seconds that one run takes, measured `repeats` times after a warm-up (GPU: between events, by CUDA graph).

        Raises:
            InputError: `repeats` is no whole number above 0.
            DeviceError: the driver reported an error.
        """
        count = whole_number(repeats, sys.maxsize)
        if count is None:
            raise InputError(f"repeats must be a whole number above 0, got {repeats!r}")
        repeats = count
        if self._is_on_gpu:
            return self._bound.time(repeats)
        import time

        seconds = []
        for _ in range(repeats + 2):
            start = time.perf_counter()
            self._run(None)
            seconds.append(time.perf_counter() - start)
        return seconds[2:]

    def _current_stream(self) -> int | None:
        """Where a run goes if it is not told: None is the legacy default stream, and the CPU."""
        return None if self._stream_source is None else stream_of(self._stream_source)


def _on_gpu(arrays: Mapping[str, Any], device: Any, stream: int | None) -> dict[str, Any]:
    """The arrays in the device's memory, for use on that stream: those of numpy as copies, others where they lie."""
    from bitmlir.runtime.driver import DeviceArray

    def placed(name: str, array: Any) -> Any:
        if isinstance(array, np.ndarray):
            return DeviceArray.from_numpy(array, device)
        return DeviceArray.share(array, name, LEGACY_STREAM if stream is None else stream)

    return {name: placed(name, array) for name, array in arrays.items()}


# --- results ----------------------------------------------------------------------------------------


def _match_results(results: tuple[Value, ...], out: Any) -> list[tuple[Value, Any]]:
    """Each result with what it is to be written into, or None."""
    if out is None:
        outs: Iterable[Any] = (None,) * len(results)
    elif len(results) == 1:
        outs = (out,)
    elif isinstance(out, (tuple, list)) and len(out) == len(results):
        outs = out
    else:
        names = ", ".join(value.name for value in results)
        raise InputError(f"out must be a tuple of {len(results)} for the results {names}, got {type(out).__name__}")
    return list(zip(results, outs, strict=True))


def _result_parts(value: Value, out: Any) -> dict[str, Any]:
    """The arrays that a result is written into, by part; none for a new one."""
    if out is None:
        return {}
    if value.kind != "packed":
        _require_image_shape(value, out)
        parts = {"values": out}
    elif isinstance(out, Packed):
        parts = _arrays_of(value, out, f"out for {value.name}")
    else:
        raise InputError(f"out for {value.name} must be a Packed in '{value.encoding}', got {type(out).__name__}")
    if any(library_of(array) == "jax" for array in parts.values()):
        raise InputError(f"out for {value.name} is a JAX array, which never changes: leave it out and take the result")
    return parts


def _host_results(plan: Plan, written: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Those arrays for results that are in host memory, checked as a program on the CPU would check them."""
    arrays = {name: as_writable(array, name) for name, array in written.items() if not is_device_array(array)}
    arrays = _in_rows(plan, arrays)
    for name, array in arrays.items():
        require_host_array(plan.buffer(name), array, is_written=True)
    require_apart({name: (array.ctypes.data, array.nbytes) for name, array in arrays.items()})
    return arrays


def _in_rows(plan: Plan, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The same memory as the program has it: pixels of images are rows there.

    Raises:
        InputError: an array does not fit its image.
    """
    placed = dict(arrays)
    for value, is_written in (*((v, False) for v in plan.arguments), *((v, True) for v in plan.results)):
        for part, name in value.buffers.items() if len(value.shape) == _IMAGE_RANK else ():
            array, buffer = arrays.get(name), plan.buffer(name)
            if array is None or len(array.shape) == len(buffer.shape):
                continue
            image = dataclasses.replace(buffer, shape=_image_shapes(value, buffer.shape)[part])
            if isinstance(array, np.ndarray):
                require_host_array(image, array, is_written)
            else:
                require_type(image, array, is_written)
            placed[name] = array.reshape(buffer.shape)
    return placed


def _image_shapes(value: Value, planes: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The shapes of the arrays that carry a value, by part; `planes` is that of its planes as a buffer."""
    *rows, k = value.shape
    if value.kind != "packed":
        return {"values": value.shape}
    words = words_per_row(k)
    return {"planes": (planes[0], *rows, words), "sums": tuple(rows), "zeros": tuple(rows)}


def _host_target(array: Any, name: str) -> np.ndarray:
    """A result's memory on the host, for a program that runs there."""
    if is_device_array(array):
        raise InputError(f"{name} is in GPU memory, but the program is for the CPU: give a numpy array")
    return as_writable(array, name)


def _collector(
    value: Value, out: Any, buffers: Mapping[str, Any], into_host: Mapping[str, np.ndarray], example: Any
) -> Callable[[], Any]:
    """What makes the result after each run. Views that do not change from run to run are made once, here."""
    if out is not None:
        copies = [(buffers[name], into_host[name]) for name in value.buffers.values() if name in into_host]
        return lambda: _copied(copies, out)
    arrays = {part: buffers[name] for part, name in value.buffers.items()}
    is_on_host = isinstance(next(iter(arrays.values())), np.ndarray) or not is_device_array(example)
    if is_on_host or library_of(example) == "jax":
        return lambda: _result(value, arrays, example, is_on_host)
    result = _result(value, arrays, example, is_on_host)
    return lambda: result


def _copied(copies: list[tuple[Any, np.ndarray]], out: Any) -> Any:
    for source, target in copies:
        source.copy_to(target)
    return out


def _result(value: Value, arrays: Mapping[str, Any], example: Any, is_on_host: bool) -> Any:
    """A result where the example lies: on the GPU in place, or on the host as a copy, safe from later runs."""
    if is_on_host:
        arrays = {part: np.array(array) for part, array in arrays.items()}
    if value.kind != "packed":
        return like(arrays["values"].reshape(value.shape), example)
    shapes = _image_shapes(value, arrays["planes"].shape)
    arrays = {part: array.reshape(shapes[part]) for part, array in arrays.items()}
    arrays = {**arrays, "planes": arrays["planes"].view(np.uint32)}
    if not is_on_host:
        arrays = {part: like(array, example) for part, array in arrays.items()}
    encoding = Encoding.parse(value.encoding or "")
    return Packed(arrays["planes"], arrays["sums"], encoding, value.shape, arrays.get("zeros"))


def _first_array(given: Iterable[Any]) -> Any:
    """What says where results are to lie: the first argument's array."""
    first = next(iter(given), None)
    if isinstance(first, Packed):
        return first.planes
    return first.words if isinstance(first, TileBitmap) else first


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
        return {"tiles": given.words}
    return {"values": _array(value, given)}


def _packed_parts(value: Value, given: Any) -> dict[str, Any]:
    assert value.encoding is not None
    if isinstance(given, Packed):
        parts = _arrays_of(value, given, value.name)
        if not is_device_array(given.planes):
            require_clean_padding(given.planes, given.k, f"{value.name}.planes")
        return parts
    if value.encoding.endswith("@row"):
        raise EncodingError(f"{value.name} in '{value.encoding}' needs zero points: give pack(x, encoding, zeros)")
    array = as_integers(given, value.name)
    if array.shape != value.shape:
        raise ShapeError(f"{value.name} must have the shape {value.shape}, got {array.shape}")
    return _arrays_of(value, pack(array, value.encoding, name=value.name), value.name)


def _arrays_of(value: Value, packed: Packed, name: str) -> dict[str, Any]:
    """The arrays of a packed matrix, if it is of the value's encoding and shape."""
    if str(packed.encoding) != value.encoding:
        raise EncodingError(f"{name} must be in encoding '{value.encoding}', got '{packed.encoding}'")
    if packed.shape != value.shape:
        raise ShapeError(f"{name} must have the shape {value.shape}, got {packed.shape}")
    return {part: getattr(packed, part) for part in value.buffers}


def _array(value: Value, given: Any) -> Any:
    """A plain array of the value's shape and type; a number is repeated."""
    assert value.dtype is not None
    dtype = numpy_dtype(value.dtype)
    if is_device_array(given):
        _require_image_shape(value, given)
        return given
    array = as_numpy(given, value.name)
    if array.ndim and array.shape != value.shape:
        raise ShapeError(f"{value.name} must have the shape {value.shape}, or be a number, got {array.shape}")
    if array.size > 1 and not array.flags.c_contiguous:
        _log.debug("%s is not C-contiguous, and is copied", value.name)
    if value.name == "flip" and value.default is not None:  # as specs have it: one in IR has no default
        _require_truth_values(array, value.name)
    if value.name == _NETWORK_INPUT and dtype.kind == "f" and array.dtype.kind in "iub":
        raise InputError(
            f"{value.name} must be of {dtype}, got {array.dtype}: this program takes normalised images, and would take "
            f"pixels for such"
        )
    if array.dtype != dtype:
        array = (_as_integers if dtype.kind in "iu" else _as_floats)(array, dtype, value.name)
    return np.ascontiguousarray(np.broadcast_to(array, value.shape))


def _require_image_shape(value: Value, array: Any) -> None:
    """Check the shape of images, whose buffer has their pixels as rows: of other arrays it is checked there."""
    if len(value.shape) == _IMAGE_RANK and (shape := getattr(array, "shape", value.shape)) != value.shape:
        raise ShapeError(f"{value.name} must have the shape {value.shape}, got {tuple(shape)}")


def _require_truth_values(array: np.ndarray, name: str) -> None:
    """Check that an array holds booleans, or 0 and 1."""
    if array.dtype.kind not in "biu":
        raise InputError(f"{name} must hold booleans, or 0 and 1, got {array.dtype}: give {name} != 0")
    if array.dtype != bool and (bad := (array != 0) & (array != 1)).any():
        element, came = _first_of(array, bad, name)
        raise InputError(f"{name} must hold booleans, or 0 and 1, but {element} = {came}: give {name} != 0")


def _require_scales(plan: Plan, read: Mapping[str, Any]) -> None:
    """Check the scales of a `PackSpec` that are in host memory; by its names, as a plan says no more of them."""
    scale = read.get("scale.values")
    is_packing = plan.name == "pack" and [value.name for value in plan.arguments[:2]] == ["x", "scale"]
    if not is_packing or not isinstance(scale, np.ndarray):
        return
    bad = np.isnan(scale) | (scale < 0)
    if bad.any():
        element, came = _first_of(scale, bad, "scale")
        raise InputError(f"{element} = {came} cannot divide a row: scales are positive, or 0 for a row of zeros")


def _first_of(array: np.ndarray, chosen: np.ndarray, name: str) -> tuple[str, str]:
    """The first element that is chosen: what it is called, and its value."""
    place = tuple(map(int, np.unravel_index(chosen.argmax(), array.shape)))
    return f"{name}{list(place)}" if place else name, str(array[place])


def _as_integers(array: np.ndarray, dtype: np.dtype, name: str) -> np.ndarray:
    """The array in a type of integers, which must hold all its elements."""
    if array.dtype.kind not in "iub":
        raise InputError(f"{name} must hold integers, got {array.dtype}: round and cast it first")
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    if array.size and not (low <= array.min() and array.max() <= high):
        raise InputError(f"{name} must lie in {low}..{high}, but reaches {array.min()}..{array.max()}")
    return array.astype(dtype)


def _as_floats(array: np.ndarray, dtype: np.dtype, name: str) -> np.ndarray:
    """The array in a type of floats, in which finite elements must stay finite."""
    with np.errstate(over="ignore"):
        converted = array.astype(dtype)
    lost = np.isinf(converted) & np.isfinite(array)
    if not lost.any():
        return converted
    element, came = _first_of(array, lost, name)
    largest = np.nextafter(dtype.type(np.inf), dtype.type(0))
    raise InputError(
        f"{element} = {came} is too large for {dtype}, which ends at ±{float(largest):.8g}: scale or clip it"
    )
