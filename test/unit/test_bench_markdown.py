"""Reports of `bitmlir-bench` as tables in Markdown, and how they come into a page."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench_support import example_networks, example_report

from bitmlir.spec import MatmulSpec
from bitmlir.tools.bench import cli
from bitmlir.tools.bench.markdown import BEGIN, END, inserted, markdown
from bitmlir.tools.bench.problems import Product
from bitmlir.tools.bench.report import Point, Report
from bitmlir.tools.bench.suites import SUITES
from bitmlir.tools.bench.timing import Timing


def rows(text: str, title: str) -> list[list[str]]:
    """The cells of the table under a title, without the line below its headings."""
    _, _, after = text.partition(f"### {title}\n")
    lines = [line for line in after.partition("###")[0].splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_each_suite_is_a_table_without_empty_columns() -> None:
    text = markdown(example_report())
    assert rows(text, "±1 × ±1, sm_90a") == [
        ["m = n, k", "result", "time", "POPS", "cuBLAS int8 takes"],
        ["64²×1024", "i32", "3 µs", "0.0028", "2 ×"],
    ]
    assert "wgmma and.popc alone does 15.5 POPS" in text
    assert "copying within memory reaches 4 TB/s" in text
    assert text.endswith("### Wrong or not measured\n\n- pack, 8², i8 → u4: the source must be i8\n\n- no torch\n")


def test_networks_have_rivals_aims_and_the_share_of_each_layer() -> None:
    text = markdown(example_report(points=example_networks()))
    assert rows(text, "Whole networks, from bytes to logits, by CUDA graph, sm_90a") == [
        ["network", "", "batch", "time", "images/s", "aim", "POPS", "torch.compile, fp16", "TCBNN (quoted)"],
        ["alexnet", "w1a1", "8", "200 µs", "40 k", "300 µs", "0.005", "3 ×", "5 ×"],
        ["vgg16", "w1a2", "512", "10 ms", "51.2 k", "**60 k images/s**", "0.0001", "", ""],
    ]
    (shares,) = rows(text, "The share of each layer, sm_90a")[1:2]
    assert shares[-1] == "conv1 90.0%, pool 10.0%"


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_can_be_shown(name: str) -> None:
    points = tuple(
        Point(
            name,
            problem.size,
            problem.kind,
            problem.to_json(),
            "sm_90a",
            exact=True,
            timing=Timing((number * 1e-6,), 1),
            images=8 * (name == "networks"),
            bytes=10**6,
            operations=10**9,
        )
        for number, problem in enumerate(SUITES[name].problems, 1)
    )
    report = Report.from_json(example_report(points=points).to_json())
    text = markdown(report)
    shown = [cell for line in text.splitlines() for cell in line.split("|")]
    for point in points:
        took = point.timing.median * 1e6 if point.timing else 0
        assert any(cell.strip().startswith(f"{took:.3g} µs") for cell in shown), point


def test_points_of_a_row_are_side_by_side() -> None:
    points = tuple(
        Point("small", p.size, p.kind, p.to_json(), "sm_90a", exact=True, timing=Timing((t * 1e-6,), 1), bytes=1)
        for t, p in enumerate(
            (Product(MatmulSpec(64, n, n, "u2", rhs)) for rhs in ("bipolar", "i2") for n in (128, 256)), 1
        )
    )
    assert rows(markdown(example_report(points=points[:3])), "64 rows, i32 result, by CUDA graph, sm_90a") == [
        ["n = k", "u2 × bipolar, time", "u2 × i2, time"],
        ["128", "1 µs", "3 µs"],
        ["256", "2 µs", ""],
    ]


def test_tables_take_the_place_of_those_in_a_page(tmp_path: Path) -> None:
    source, page = tmp_path / "all.json", tmp_path / "page.md"
    source.write_text(example_report().to_json())
    page.write_text(f"# Speed\n\n{BEGIN}old\n{END}\nmore\n")
    for _ in range(2):  # the second time nothing changes
        assert cli.main(["table", str(source), "--into", str(page)]) == 0
        assert page.read_text() == f"# Speed\n\n{BEGIN}\n{markdown(example_report())}\n{END}\nmore\n"


def test_a_page_without_a_place_for_tables_is_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, page = tmp_path / "all.json", tmp_path / "page.md"
    source.write_text(example_report().to_json())
    page.write_text("# Speed\n")
    assert cli.main(["table", str(source), "--into", str(page)]) == 1
    assert f"{page} has no place for tables: it needs the lines {BEGIN.strip()}" in capsys.readouterr().err
    assert page.read_text() == "# Speed\n"


def test_tables_of_several_runs_follow_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / "one.json", tmp_path / "two.json"]
    files[0].write_text(example_report().to_json())
    files[1].write_text(example_report(points=example_networks()).to_json())
    assert cli.main(["table", *map(str, files)]) == 0
    out = capsys.readouterr().out
    assert out.count("### The limits") == 2
    assert out.index("### ±1 × ±1") < out.index("### Whole networks")


def test_the_page_of_performance_has_a_place_for_tables() -> None:
    page = Path(__file__).parents[2] / "docs" / "performance.md"
    assert inserted(page.read_text(), "new", "it").count("\nnew\n") == 1
