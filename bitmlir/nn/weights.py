"""Weights of networks from files: arrays by name, as `bitmlir.nn.zoo` asks for them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bitmlir.dialects.errors import InputError
from bitmlir.nn.zoo import GivenParameters

__all__ = ["load_weights"]


def load_weights(path: str | os.PathLike[str]) -> GivenParameters:
    """The arrays of a .safetensors or .npz file, for `zoo.network`.

    `zoo.parameter_shapes` says which arrays a network needs; others may be there too.

    Raises:
        InputError: the file is missing, damaged, or of another kind.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/weights.npz", **{"linear1.weights": np.ones((2, 3), np.int8)})
        ...     load_weights(f"{folder}/weights.npz").get("linear1.weights", (2, 3)).tolist()
        [[1, 1, 1], [1, 1, 1]]
    """
    if not isinstance(path, (str, os.PathLike)):
        raise InputError(f"expected the path of a file of weights, got {type(path).__name__}")
    readers = {".safetensors": _safetensors, ".npz": _npz}
    if (kind := Path(path).suffix) not in readers:
        raise InputError(f"weights come in files {' or '.join(readers)}, but '{os.fspath(path)}' is neither")
    try:
        return GivenParameters(readers[kind](Path(path)))
    except OSError as error:
        raise InputError(f"cannot read '{os.fspath(path)}': {error.strerror or error}") from None
    except Exception as error:  # numpy, zipfile and safetensors raise a dozen kinds of error on damaged files
        raise InputError(f"'{os.fspath(path)}' is no whole {kind} file of numbers: {error}") from None


def _safetensors(path: Path) -> Mapping[str, np.ndarray]:
    from safetensors.numpy import load

    return load(path.read_bytes())


def _npz(path: Path) -> Mapping[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
