"""What groups ask of a convolution: each function returns the fault as a sentence, or None."""

from __future__ import annotations

from bitmlir.dialects.encoding import Encoding
from bitmlir.dialects.errors import EncodingError

__all__ = ["group_encoding_fault", "group_sizes_fault"]


def group_sizes_fault(groups: int, channels: int, filters: int) -> str | None:
    """Why channels and filters cannot be parted into so many groups.

    Example:
        >>> group_sizes_fault(3, 12, 10)
        'channels and filters must be multiples of the 3 groups, but are 12 and 10'
    """
    if channels % groups or filters % groups:
        return f"channels and filters must be multiples of the {groups} groups, but are {channels} and {filters}"
    return None


def group_encoding_fault(groups: int, filters: Encoding) -> str | None:
    """Why filters in so many groups cannot be in an encoding.

    Example:
        >>> group_encoding_fault(2, Encoding.parse("bipolar8"))
        "filters in groups count as 0 for other channels: 'bipolar8' would take nine bits with a 0, use fewer bits"
    """
    try:
        _ = filters if groups == 1 else filters.with_zero
    except EncodingError as error:
        return f"filters in groups count as 0 for other channels: {error}"
    return None
