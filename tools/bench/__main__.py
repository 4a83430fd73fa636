"""`python -m bitmlir.tools.bench`."""

from __future__ import annotations

import sys

from bitmlir.tools.bench.cli import main

sys.exit(main())
