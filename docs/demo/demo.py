"""The demo: a trained 1-bit network reads real handwritten digits, compiled by bitmlir and checked bit for bit.

`make demo` runs it on scikit-learn's digits, `make demo ARGS="--mnist DIR"` on MNIST's files in a folder: on the GPU if
there is one, else on the CPU. It leaves the program at every level in a folder, and a bundle for `bitmlir run`.
The exit code is 1 if the output of any layer differs from numpy's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from pathlib import Path

import data
import network
import numpy as np
from rich.console import Console
from rich.text import Text

import bitmlir
from bitmlir import nn
from bitmlir.compiler import resolve_target
from bitmlir.dialects.errors import InputError
from bitmlir.runtime.bundle import STAGES
from bitmlir.runtime.driver import Device
from bitmlir.tools.cli import BAD_INPUT, OK, run_tool, write_output

ALWAYS_COMPILED = ("sm_80", "sm_90a")  # beside the target that runs, so that their PTX is left with or without a GPU


def main(command_line: list[str] | None = None) -> int:
    """Run the demo; returns the exit code."""
    return run_tool("demo", lambda: demo(parse(command_line)))


def parse(command_line: list[str] | None) -> argparse.Namespace:
    """The options of the command line, by default that of the process."""
    parser = argparse.ArgumentParser(prog="demo", description="Classify handwritten digits with a 1-bit network.")
    parser.add_argument("--mnist", metavar="DIR", help="classify MNIST instead; DIR holds its two t10k IDX files")
    parser.add_argument("--target", default="auto", help="cpu, sm_80, sm_90a, ... (default: the GPU, else the CPU)")
    parser.add_argument("--out", metavar="DIR", help="where to leave the program (default: out/digits or out/mnist)")
    return parser.parse_args(command_line)


def demo(options: argparse.Namespace) -> int:
    """Compile a network, leave it in a folder, run it on the held-out images, check it and time it."""
    name = "digits" if options.mnist is None else "mnist"
    console = Console(highlight=False, soft_wrap=True)
    target = resolve_target(options.target).name
    folder = Path(options.out or Path("out", name))
    images, labels = load_held_out(name, options.mnist)
    layers = network.load(name)
    show(console, "network", f"{'-'.join(map(str, network.WIDTHS[name]))} on {name}, weights +1 and -1")

    with console.status("compiling"):
        targets = dict.fromkeys((target, *ALWAYS_COMPILED))
        models = {each: nn.compile(layers, len(images), each) for each in targets}
        layer_by_layer = nn.compile(layers, len(images), target, every=True)
    for each, model in models.items():
        leave(model, folder / each)
    show(console, "files", f"{folder}: IR of every level, PTX and bundle for {', '.join(targets)}")

    show(console, "target", f"{target} ({device_name(target)})")
    expected = layer_by_layer.reference(images)
    equal = [is_equal(*pair) for pair in zip(layer_by_layer(images), expected, strict=True)]
    for number, (numbers, same) in enumerate(zip(expected, equal, strict=True), 1):
        rows, columns = numbers.shape
        kind = "f32" if number == len(expected) else "±1"
        show(console, f"layer {number}", f"{rows} x {columns:<4} {kind:<4}", verdict(same))

    bound = models[target].bind(images)
    logits = bound()
    equal.append(is_equal(logits, expected[-1]))
    show(console, "program", "logits ", verdict(equal[-1]))
    accuracy = float(np.mean(logits.argmax(axis=1) == labels))
    stored = json.loads((network.FOLDER / "networks.json").read_text())[f"{name}.npz"]
    twin = stored["float_test_correct"] / stored["test_images"]
    show(console, "accuracy", f"{accuracy:.2%} of {len(labels)} held-out images (with float weights: {twin:.2%})")
    seconds = statistics.median(bound.time())
    speed = f"{len(images) / seconds:,.0f} images per second"
    show(console, "speed", f"{speed} (grey levels to logits, median run {seconds * 1e3:.3g} ms)")
    return OK if all(equal) else BAD_INPUT


def show(console: Console, label: str, *values: str | Text) -> None:
    """Print one line: what it is about, and what there is to say."""
    console.print(Text.assemble((f"{label:<10}", "bold"), *values))


def verdict(same: bool) -> Text:
    """What the comparison with numpy says."""
    return Text("equal to numpy's, bit for bit", "green") if same else Text("DIFFERS from numpy's", "bold red")


def load_held_out(name: str, folder: str | None) -> tuple[np.ndarray, np.ndarray]:
    """The images that training never saw, and their classes.

    Raises:
        InputError: the files are not there or not MNIST's, or scikit-learn is not installed.
    """
    try:
        parts = data.load(name, folder)
    except ModuleNotFoundError as error:
        raise InputError(f"the digits come with scikit-learn: pip install scikit-learn ({error})") from None
    return parts.test_images, parts.test_labels


def leave(model: nn.Model, folder: Path) -> None:
    """Write a network into a folder: a file for each level of its program, and its bundle.

    Raises:
        BitmlirError: they cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}") from None
    for level, path in STAGES.items():
        file = folder / Path(path).name
        try:
            content = model.executable.emit(level)
        except InputError:  # a level of other targets, or no assembler for a cubin; nor must an old one stay
            file.unlink(missing_ok=True)
        else:
            write_output(str(file), content)
    model.save(folder / "network.bitmlir")


def device_name(target: str) -> str:
    """What the target's programs run on here.

    Raises:
        DeviceError: the target is a GPU, and there is none.
    """
    return f"{platform.machine()}, {os.cpu_count()} CPUs" if target == "cpu" else Device.current().name


def is_equal(got: bitmlir.Packed | np.ndarray, expected: np.ndarray) -> bool:
    """Whether a layer's output is that of numpy, bit for bit; of packed ones also the padding and the row sums."""
    if isinstance(got, bitmlir.Packed):
        packed = bitmlir.pack(expected, "bipolar")
        return np.array_equal(got.planes, packed.planes) and np.array_equal(got.sums, packed.sums)
    return got.dtype == expected.dtype and got.tobytes() == expected.tobytes()


if __name__ == "__main__":
    sys.exit(main())
