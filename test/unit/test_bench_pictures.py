"""The pictures that `bitmlir-bench` draws of a report: what is in which panel, and labels that stay apart."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from bench_support import PNG, example_networks, example_report

from bitmlir.dialects.errors import InputError
from bitmlir.tools.bench import plot
from bitmlir.tools.bench.report import Report
from bitmlir.tools.bench.timing import Timing


def drawn(report: Report, monkeypatch: pytest.MonkeyPatch) -> plot.Figure:
    """The figure that a picture is made of."""
    figures: list[plot.Figure] = []
    save = plot.Figure.savefig

    def spy(figure: plot.Figure, *arguments: object, **named: object) -> None:
        figures.append(figure)
        save(figure, *arguments, **named)

    monkeypatch.setattr(plot.Figure, "savefig", spy)
    assert plot.picture(report).startswith(PNG)
    return figures[0]


def texts(axes: object) -> list[str]:
    return [text.get_text() for text in axes.texts]  # type: ignore[attr-defined]


def test_the_roofline_names_the_limits_and_the_points(monkeypatch: pytest.MonkeyPatch) -> None:
    (panel,) = drawn(example_report(), monkeypatch).axes
    assert texts(panel) == ["wgmma and.popc alone: 15.5 POPS", "memory: 4.00 TB/s by copying", "64²×1024"]


def test_each_point_is_drawn_where_its_limit_is(monkeypatch: pytest.MonkeyPatch) -> None:
    point = example_report().points[0]
    short = dataclasses.replace(point, floor={"launch": 1e-6}, quoted={"Another": 9e-6}, size="short")
    rotated = dataclasses.replace(point, problem={**point.problem, "rotated": True, "m": 16})
    packing = dataclasses.replace(
        example_report().points[1], timing=point.timing, bytes=99, floor={"memory": 1e-9}, kind="f32 → u4"
    )
    figure = drawn(example_report(points=(packing, point, short, rotated)), monkeypatch)
    roofline, traffic, launches = figure.axes
    assert "64²×1024" in texts(roofline)
    assert [label.get_text() for label in traffic.get_xticklabels()] == ["16 × bipolar", "f32 → u4"]
    assert [label.get_text() for label in launches.get_xticklabels()] == ["short"]
    legend = [text.get_text() for text in launches.get_legend().get_texts()]
    assert legend == ["u2 × bipolar → i32, sm_90a", "u2 × bipolar → i32, Another, quoted"]


def test_networks_are_bars_beside_those_of_rivals_and_aims(monkeypatch: pytest.MonkeyPatch) -> None:
    (panel,) = drawn(example_report(points=example_networks()), monkeypatch).axes
    assert [label.get_text() for label in panel.get_xticklabels()] == [
        "alexnet, batch 8, w1a1",
        "vgg16, batch 512, w1a2",
    ]
    labels = [text.get_text() for text in panel.get_legend().get_texts()]
    assert labels == ["aim", "bitmlir", "torch fp16 compiled", "TCBNN, quoted"]
    heights = [[bar.get_height() for bar in bars] for bars in panel.containers]
    assert heights == [
        [pytest.approx(8 / 2e-4), pytest.approx(512 / 1e-2)],
        [pytest.approx(8 / 6e-4)],
        [pytest.approx(8 / 1e-3)],
    ]


def test_labels_of_many_points_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, point = np.random.default_rng(0), example_report().points[0]
    many = tuple(
        dataclasses.replace(point, bytes=int(n_bytes), timing=Timing((float(seconds),), 1))
        for n_bytes, seconds in zip(rng.uniform(1e4, 1e5, 150), rng.uniform(2e-6, 2e-5, 150), strict=True)
    )
    figure = drawn(example_report(points=many), monkeypatch)
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    boxes = [text.get_window_extent(renderer) for text in figure.axes[0].texts if text.get_text() == point.size]
    assert len(boxes) > 20
    assert not any(one.overlaps(other) for number, one in enumerate(boxes) for other in boxes[:number])


def test_a_report_without_measurements_cannot_be_drawn() -> None:
    with pytest.raises(InputError, match="nothing to draw"):
        plot.picture(example_report(points=example_report().points[1:]))
