"""`exit_code.py N command…` ends with 0 if the command ends with exactly the exit code N, else with 1."""

from __future__ import annotations

import subprocess
import sys

expected, *command = sys.argv[1:]
code = subprocess.run(command).returncode
if code != int(expected):
    sys.exit(f"exit code {code}, but {expected} was expected: {' '.join(command)}")
