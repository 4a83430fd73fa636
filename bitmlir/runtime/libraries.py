"""Other array libraries: told apart, and asked for their streams, without importing any of them."""

from __future__ import annotations

import sys
from typing import Any, Literal

from bitmlir.runtime import dlpack

__all__ = ["LEGACY_STREAM", "library_of", "stream_of"]

LEGACY_STREAM = 0
"""The handle of the default stream that orders itself with all blocking streams; CuPy's and torch's default too."""


def library_of(x: Any) -> Literal["torch", "cupy", "jax"] | None:
    """The library that x is an array of, if it is one of these.

    Example:
        >>> library_of([1, 2]) is None
        True
    """
    for name, array_type in (("torch", "Tensor"), ("cupy", "ndarray"), ("jax", "Array")):
        module = sys.modules.get(name)
        if module is not None and isinstance(x, getattr(module, array_type, ())):
            return name  # pyright: ignore[reportReturnType]  # the tuple's names, which pyright widens to str
    return None


def stream_of(x: Any) -> int:
    """The handle of the stream on which the library of x, an array in GPU memory, queues its work at this moment.

    That is torch's current stream, or the one that `__cuda_array_interface__` names (CuPy and Numba put their current
    one there); the legacy default stream where neither is known. JAX keeps its streams to itself.
    """
    library = library_of(x)
    if library == "torch":
        return sys.modules["torch"].cuda.current_stream(x.device).cuda_stream
    if library == "jax":
        return LEGACY_STREAM
    interface = getattr(x, "__cuda_array_interface__", None) or {}
    stream = interface.get("stream")
    return LEGACY_STREAM if stream in (None, dlpack.PROTOCOL_LEGACY_STREAM) else int(stream)
