"""Figure 4 is drawn from the committed result."""

from matplotlib.figure import Figure

from fbnetv3.benchmarks.result import load_result
from fbnetv3.benchmarks.search.predictor_figure import LINES, draw_errors, draw_figure4


def test_figure_4_is_a_picture():
    assert draw_figure4(load_result("predictor")).startswith(b"\x89PNG")


def test_panel_e_has_a_line_per_method_through_its_errors():
    methods = load_result("predictor").values["tables"]["nas_bench_macro"]["methods"]
    axes = Figure().add_subplot()
    draw_errors(axes, methods)
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert list(lines) == list(LINES.values())
    default = lines["default, pretrained"]
    assert default.get_xdata().tolist() == [int(n) for n in methods["default"]]
    assert default.get_ydata().tolist() == [row["mse"] for row in methods["default"].values()]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["24", "48", "96", "192", "384", "768"]
