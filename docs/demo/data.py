"""The images of the demo: scikit-learn's digits, MNIST's IDX files, and the fixed held-out part of each."""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bitmlir.dialects.errors import InputError

__all__ = ["HELD_OUT", "Dataset", "load", "load_digits", "load_mnist", "read_idx", "split"]

HELD_OUT = {"digits": 360, "mnist": 2000}  # images of each set that training never sees
SPLIT_SEED = 2026
IDX_UINT8 = 0x08  # the element type of all of MNIST's files


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and their classes, split in two.

    `*_images` is uint8 [images, pixels], `*_labels` is uint8 [images] with the classes 0..9.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def load(name: str, folder: str | Path | None = None) -> Dataset:
    """The data set `"digits"` or `"mnist"`, split the way the stored weights were trained.

    Args:
        name: `"digits"`, which needs scikit-learn, or `"mnist"`, whose 10,000 t10k images are split.
        folder: where MNIST's files lie; unused for the digits.

    Raises:
        InputError: an unknown name, no folder, or a file that `load_mnist` refuses.
    """
    if name == "digits":
        return split(*load_digits(), held_out=HELD_OUT[name])
    if name != "mnist":
        raise InputError(f"unknown data set {name!r}: expected 'digits' or 'mnist'")
    if folder is None:
        raise InputError("the data set 'mnist' needs the folder that holds its IDX files")
    return split(*load_mnist(folder), held_out=HELD_OUT[name])


def split(images: np.ndarray, labels: np.ndarray, held_out: int) -> Dataset:
    """Shuffle once, with a fixed seed, and hold out the last `held_out` images.

    The shuffle matters for MNIST: its file is ordered by source, and its last images are easier than its first.

    Raises:
        InputError: there are no more than `held_out` images.

    Example:
        >>> parts = split(np.arange(10)[:, None], np.arange(10), held_out=3)
        >>> parts.train_labels.size, parts.test_labels.size
        (7, 3)
    """
    if len(images) <= held_out:
        raise InputError(f"expected more than the {held_out} images to hold out, got {len(images)}")
    # RandomState and not Generator: numpy promises that its numbers never change from one release to the next.
    order = np.random.RandomState(SPLIT_SEED).permutation(len(images))
    train, test = order[:-held_out], order[-held_out:]
    return Dataset(images[train], labels[train], images[test], labels[test])


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's 1,797 handwritten digits: uint8 [1797, 64] of 0..15, and their classes.

    The grey levels are 0..16; 16 becomes 15, so that a pixel has 4 bits.
    """
    from sklearn import datasets  # slow to import, and MNIST does not need it

    images, labels = datasets.load_digits(return_X_y=True)
    return np.minimum(images, 15).astype(np.uint8), labels.astype(np.uint8)


def load_mnist(folder: str | Path, part: str = "t10k") -> tuple[np.ndarray, np.ndarray]:
    """MNIST's `t10k` (10,000) or `train` (60,000) images: uint8 [images, 784] of 0..255, and their classes.

    Reads `<part>-images-idx3-ubyte` and `<part>-labels-idx1-ubyte`, plain or with `.gz`, from `folder`.

    Raises:
        InputError: a file is missing, truncated, of another kind, or the two do not belong together.
    """
    if part not in ("t10k", "train"):
        raise InputError(f"unknown part {part!r} of MNIST: expected 't10k' or 'train'")
    images = read_idx(_find(Path(folder), f"{part}-images-idx3-ubyte"), dimensions=3)
    labels = read_idx(_find(Path(folder), f"{part}-labels-idx1-ubyte"), dimensions=1)
    if images.shape[1:] != (28, 28):
        raise InputError(f"expected images of 28 x 28 pixels in {folder}, got {images.shape[1]} x {images.shape[2]}")
    if len(images) != len(labels):
        raise InputError(
            f"{len(images)} images but {len(labels)} labels in {folder}: files of one download belong together"
        )
    if labels.size and labels.max() > 9:
        raise InputError(f"expected the labels 0..9 in {folder}, got {labels.max()}")
    return images.reshape(len(images), -1), labels


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The uint8 array in an IDX file, plain or gzipped.

    The file is the bytes 0, 0, 8 (uint8) and the number of dimensions, then each size as a big-endian uint32, then
    the elements in C order.

    Raises:
        InputError: the file cannot be read, is truncated or too long, or is no IDX file of uint8 in `dimensions`.

    Source: "The IDX file format" in Y. LeCun, C. Cortes, C. J. C. Burges, The MNIST database of handwritten digits.
    """
    try:
        raw = path.read_bytes()
        content = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except EOFError as error:
        raise InputError(f"{path} is truncated: download it again") from error
    except (OSError, zlib.error) as error:
        raise InputError(f"cannot read {path}: {error}") from error

    magic = bytes((0, 0, IDX_UINT8, dimensions))
    header_bytes = len(magic) + 4 * dimensions
    if content[: len(magic)] != magic[: len(content)]:
        raise InputError(
            f"{path} is no IDX file of uint8 in {dimensions} dimensions: it must start with {magic.hex()}, "
            f"got {content[: len(magic)].hex()}"
        )
    if len(content) < header_bytes:
        raise InputError(f"{path} is truncated: expected a header of {header_bytes} bytes, got {len(content)} bytes")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", dimensions, offset=len(magic)))
    expected, got = math.prod(shape), len(content) - header_bytes
    if got != expected:
        fault = "is truncated" if got < expected else "is too long"
        raise InputError(f"{path} {fault}: expected {expected} bytes after the header, got {got}; download it again")
    return np.frombuffer(content, np.uint8, offset=header_bytes).reshape(shape)


def _find(folder: Path, name: str) -> Path:
    """The file of that name in `folder`, plain or gzipped."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise InputError(f"no {name} and no {name}.gz in {folder}: download MNIST's IDX files into that folder")
