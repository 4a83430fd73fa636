"""What a search is to find: sizes, encodings, the score and how many."""

from __future__ import annotations

from dataclasses import dataclass

from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import InputError
from bitmlir.dialects.layout import LARGEST_COUNT
from bitmlir.spec import MatmulSpec
from bitmlir.spec_fields import require_names, whole_number

__all__ = ["SearchSpec"]

SCORES = ("dot", "hamming")


@dataclass(frozen=True)
class SearchSpec:
    """For each of m queries, the rows of a database of n rows that are nearest to it, both of k elements.

    | score     | of a query x and a row y                             | best     |
    |-----------|------------------------------------------------------|----------|
    | `dot`     | x · y                                                | largest  |
    | `hamming` | elements in which x and y differ; both are `bipolar` | smallest |

    The program's arguments are lhs, the queries, and rhs, the database; its results are `values` and `columns`, int32
    m×count: for each query the `count` best scores, best first, and the rows of the database that they belong to. Of
    equal scores the smaller row comes first. `count=1` is arg-max.

    For ±1 codes both scores give the same order, since distance = (k − dot) / 2. Codes of 0 and 1 have the same bits:
    pack 2·x − 1 as `bipolar`. Other scores can be written in IR: see `bit.search`.

    Raises:
        ShapeError: a size below 1, or a K whose sums could leave int32.
        EncodingError: an unknown encoding.
        InputError: an unknown score, one that the encodings do not have, or a count that is not in 1..min(n, 32).

    Example:
        >>> import bitmlir
        >>> spec = SearchSpec(m=1, n=3, k=4, lhs="bipolar", rhs="bipolar", count=2, score="hamming")
        >>> find = bitmlir.compile(spec, target="cpu")
        >>> find([[1, -1, 1, 1]], [[-1, -1, 1, 1], [1, 1, -1, -1], [1, -1, 1, 1]])
        (array([[0, 1]], dtype=int32), array([[2, 0]], dtype=int32))
    """

    m: int
    n: int
    k: int
    lhs: str | Encoding
    rhs: str | Encoding
    count: int = 1
    score: str = "dot"

    def __post_init__(self) -> None:
        product = MatmulSpec(self.m, self.n, self.k, self.lhs, self.rhs)  # checks sizes and encodings
        for name in ("m", "n", "k", "lhs", "rhs"):
            object.__setattr__(self, name, getattr(product, name))
        require_names(self, "score")
        if self.score not in SCORES:
            raise InputError(f"unknown score {self.score!r}: expected one of {', '.join(SCORES)}")
        if self.score == "hamming" and {self.lhs, self.rhs} != {"bipolar"}:
            raise InputError(
                f"score='hamming' is of two matrices in 'bipolar', not of '{self.lhs}' and '{self.rhs}': "
                f"pack codes of 0 and 1 as 2·x − 1"
            )
        largest = min(self.n, LARGEST_COUNT)
        count = whole_number(self.count, largest)
        if count is None:
            raise InputError(
                f"count must be a whole number from 1 to {largest} ({LARGEST_COUNT} at most, of n = {self.n} rows), "
                f"got {self.count!r}"
            )
        object.__setattr__(self, "count", count)

    @property
    def order(self) -> str:
        """Which score is best: "largest" or "smallest"."""
        return "largest" if self.score == "dot" else "smallest"

    @property
    def operations(self) -> int:
        """2·m·n·k, what speeds are counted in."""
        return 2 * self.m * self.n * self.k
