"""`bitmlir`: what can be done with programs that are compiled already; for those for GPUs, without MLIR.

Exit codes: 0 fine; 1 a file that cannot be read or does not fit; 2 wrong usage; 70 our fault.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from bitmlir import __version__
from bitmlir.dialects.errors import InputError, ShapeError
from bitmlir.tools.cli import OK, read_input, run_command, write_output

# numpy takes a tenth of a second to import; --help and wrong usage do without.
if TYPE_CHECKING:
    import numpy as np

    from bitmlir.executable import Executable

__all__ = ["classify", "main"]

NAME = "bitmlir"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool on these arguments, by default the process's, and return its exit code."""
    return run_command(NAME, command, argv)


@click.group(NAME, no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name=NAME, message="%(prog)s %(version)s")
def command() -> None:
    """Use programs that bitmlir has compiled."""


@command.command()
@click.argument("bundle")
@click.argument("images", metavar="IMAGES.npy")
@click.option("--top", type=click.IntRange(min=1), default=1, metavar="K", show_default=True, help="Classes to show.")
@click.option("--labels", metavar="FILE", help="Text with the name of a class in each line.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def run(bundle: str, images: str, top: int, labels: str | None, as_json: bool) -> int:
    """Classify images with a network.

    BUNDLE is what `bitmlir-codegen network` or `nn.Model.save` wrote. The images are an array of uint8, or of float32
    for a network of normalised images, [number, height, width, channels]; there may be any number of them. For each the
    best classes are printed with their scores:

    \b
        bitmlir run vgg16.bitmlir photographs.npy --top 5 --labels imagenet.txt
    """
    from bitmlir.executable import load

    network = load(bundle)
    classes = _classes(network, bundle)
    if top > classes:
        raise click.UsageError(f"--top: the network has {classes} classes, got {top}")
    names = None if labels is None else _labels(labels, classes)
    best = [_best(scores, top) for scores in classify(network, _images(network, images))]
    write_output("-", _as_json(best, names) if as_json else _as_text(best, names))
    return OK


def classify(network: Executable, images: np.ndarray) -> Iterator[np.ndarray]:
    """The scores of each image, batch by batch; where images do not fill the last one, it has others beside them."""
    import numpy as np

    from bitmlir.runtime.dtypes import numpy_dtype

    (argument,) = network.plan.arguments
    batch = np.zeros(argument.shape, numpy_dtype(argument.dtype or ""))
    on_device = None
    if network.target != "cpu":
        from bitmlir.runtime.driver import DeviceArray

        on_device = DeviceArray.from_numpy(batch)
    call = network.bind(batch if on_device is None else on_device)
    for first in range(0, len(images), len(batch)):
        part = images[first : first + len(batch)]
        batch[: len(part)] = part
        if on_device is not None:
            on_device.copy_from(batch)
        yield from np.asarray(call()).reshape(len(batch), -1)[: len(part)]


# --- what is given --------------------------------------------------------------------------------


def _classes(network: Executable, path: str) -> int:
    """How many classes a network has.

    Raises:
        InputError: the program is something else.
    """
    arguments, results = network.plan.arguments, network.plan.results
    are_images = len(arguments) == 1 and arguments[0].kind == "array" and arguments[0].dtype in ("u8", "f32")
    if are_images and len(results) == 1 and results[0].kind == "array":
        batch, *places, classes = results[0].shape
        if batch == arguments[0].shape[0] and math.prod(places) == 1:
            return classes
    raise InputError(
        f"'{path}' is no network that classifies images, but {network}: 'bitmlir-codegen network' makes such networks"
    )


def _images(network: Executable, path: str) -> np.ndarray:
    """The images of a file, which need not fit into memory."""
    import numpy as np

    from bitmlir.runtime.dtypes import numpy_dtype

    try:
        images = np.lib.format.open_memmap(path, mode="r")
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error.strerror or error}") from None
    except Exception:  # of several kinds on other files
        raise InputError(f"'{path}' is no whole .npy file of numbers, as numpy.save writes them") from None
    (argument,) = network.plan.arguments
    if images.dtype != (expected := numpy_dtype(argument.dtype or "")):
        is_close = expected == np.uint8 or images.dtype.kind == "f"
        fix = f"convert them to {expected}" if is_close else "normalise them as the network's training did"
        raise InputError(f"'{path}' must hold images of {expected}, got {images.dtype}: {fix}")
    shape = argument.shape[1:]
    if images.shape[1:] != shape or images.ndim != len(shape) + 1:
        raise ShapeError(
            f"'{path}' must hold images of shape (number, {', '.join(map(str, shape))}), got {images.shape}"
        )
    if not len(images):
        raise ShapeError(f"'{path}' holds no images")
    return images


def _labels(path: str, classes: int) -> list[str]:
    """The names of classes, one a line."""
    names = read_input(path).splitlines()
    if len(names) != classes:
        raise InputError(f"'{path}' must have a line for each of the {classes} classes, but has {len(names)}")
    return names


# --- what is printed ------------------------------------------------------------------------------

_Best = list[tuple[int, float]]  # classes and their scores, the best first


def _best(scores: np.ndarray, count: int) -> _Best:
    """The classes with the highest scores; of equal ones the lower first."""
    import numpy as np

    order = np.argsort(-scores.astype(np.float64), kind="stable")[:count]
    return [(int(class_), scores[class_].item()) for class_ in order]


def _as_text(best: list[_Best], names: list[str] | None) -> str:
    lines = (
        ", ".join(f"{class_ if names is None else names[class_]} ({score:.6g})" for class_, score in row)
        for row in best
    )
    return "".join(f"{number}: {line}\n" for number, line in enumerate(lines))


def _as_json(best: list[_Best], names: list[str] | None) -> str:
    def entry(class_: int, score: float) -> dict[str, object]:
        named = {} if names is None else {"label": names[class_]}
        return {"class": class_, **named, "score": score if math.isfinite(score) else None}  # JSON has no NaN

    rows = [{"image": number, "classes": [entry(*pair) for pair in row]} for number, row in enumerate(best)]
    return json.dumps(rows, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.exit(main())
