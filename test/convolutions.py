"""Convolutions that tests on the CPU and on GPUs share: borders, strides, dilation, encodings, results."""

from __future__ import annotations

from bitmlir.conv2d_spec import Conv2dSpec

__all__ = ["CASES", "GROUPED"]

CASES: dict[str, Conv2dSpec] = {
    "±1, padded": Conv2dSpec(2, 5, 6, 40, 10, "bipolar", "bipolar", padding=1),
    "±1, one pixel": Conv2dSpec(1, 1, 1, 3, 2, "bipolar", "bipolar", padding=1),
    "a stride": Conv2dSpec(2, 9, 8, 64, 10, "u2", "bipolar", stride=2, padding=1),
    "strides, uneven padding, dilation": Conv2dSpec(
        2, 9, 8, 130, 10, "bipolar", "u2", size=(5, 3), stride=(2, 1), padding=(2, 0, 1, 3), dilation=(1, 2)
    ),
    "1×1": Conv2dSpec(2, 4, 5, 128, 6, "i3", "ternary", size=1),
    "1×1 with a stride": Conv2dSpec(3, 5, 5, 33, 6, "bipolar", "i2", size=1, stride=2),
    "a zero point": Conv2dSpec(1, 6, 7, 20, 5, "u4@7", "i2", padding=2, dilation=2),
    "both with zero points": Conv2dSpec(1, 5, 5, 20, 5, "u2@1", "u2@3", padding=1),
    "even filters": Conv2dSpec(2, 9, 9, 7, 5, "ternary", "bipolar2", size=2, stride=3, padding=(0, 0, 1, 1)),
    "a filter like the image": Conv2dSpec(3, 4, 4, 100, 9, "bipolar", "bipolar", size=4),
    "mostly outside": Conv2dSpec(1, 2, 2, 9, 3, "bipolar", "bipolar", size=5, padding=4),
    "the first layer of a network": Conv2dSpec(2, 23, 23, 3, 8, "u8", "bipolar", size=7, stride=4, padding=3),
    "scaled floats": Conv2dSpec(
        2, 5, 5, 30, 12, "u2", "i2", "f16", padding=1, column_scale=True, bias=True, residual="f32", relu=True
    ),
    "a residual of integers": Conv2dSpec(
        2, 5, 5, 30, 12, "bipolar", "bipolar", "i16", padding=1, residual="i8", relu=True
    ),
    "bits": Conv2dSpec(2, 5, 6, 40, 70, "bipolar", "bipolar", "bit", padding=1),
    "bits and a residual": Conv2dSpec(2, 5, 6, 40, 33, "bipolar", "bipolar", "bit", padding=1, residual="i16"),
    "codes": Conv2dSpec(1, 5, 6, 40, 70, "u2", "ternary", "u4@8", size=2, padding=1, column_scale=True, relu=True),
}

# Channels and filters in groups: an encoding of every kind, groups that begin and end within words, depthwise.
GROUPED: dict[str, Conv2dSpec] = {
    "±1 in two groups": Conv2dSpec(2, 5, 6, 80, 10, "bipolar", "bipolar", padding=1, groups=2),
    "three groups of 5": Conv2dSpec(2, 5, 4, 15, 6, "u2", "bipolar3", padding=1, groups=3),
    "four of 33, to bits": Conv2dSpec(1, 5, 4, 132, 40, "bipolar", "bipolar", "bit", size=(2, 1), padding=1, groups=4),
    "groups as long as words": Conv2dSpec(1, 4, 4, 128, 8, "bipolar", "u1", groups=4),
    "groups longer than rows of words": Conv2dSpec(1, 3, 3, 390, 4, "bipolar", "bipolar2", padding=1, groups=2),
    "depthwise": Conv2dSpec(1, 5, 6, 70, 70, "bipolar", "bipolar", padding=1, groups=70),
    "depthwise, three filters a channel": Conv2dSpec(
        1, 5, 5, 7, 21, "u8", "bipolar7", size=(1, 2), stride=2, padding=1, groups=7
    ),
    "a zero point in groups": Conv2dSpec(2, 5, 4, 40, 6, "u3", "u4@7", padding=(0, 1, 2, 1), groups=2),
    "zero points of both in groups": Conv2dSpec(1, 5, 5, 39, 6, "u2@1", "u2@3", padding=1, dilation=2, groups=3),
    "ternary in groups": Conv2dSpec(1, 6, 5, 99, 9, "bipolar2", "ternary", size=(2, 3), stride=(2, 1), groups=3),
    "1×1 in groups": Conv2dSpec(2, 4, 5, 66, 8, "i3", "i4", size=1, groups=2),
    "quantised in groups": Conv2dSpec(
        1, 5, 6, 40, 66, "u2", "bipolar", "u4@8", padding=1, groups=2, column_scale=True, relu=True
    ),
}
