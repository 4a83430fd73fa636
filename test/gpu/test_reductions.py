"""Numbers kept beside codes, and reductions of what windows see, on the GPU."""

from __future__ import annotations

import pytest
from reductions import KEPT, REDUCTIONS, Kept, Reduction

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("target", ["auto", "sm_80", "sm_75"])
@pytest.mark.parametrize("case", [*KEPT, *REDUCTIONS], ids=str)
def test_results_are_exact(case: Kept | Reduction, target: str) -> None:
    case.check(target)
