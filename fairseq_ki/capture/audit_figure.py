"""The audit as a picture: what a row costs against what an update loses."""

from collections.abc import Sequence
from pathlib import Path

from fairseq_ki.capture.audit import Finding


def write_figure(findings: Sequence[Finding], path: Path) -> None:
    """One point per encoding, in the format of the file's ending.

    Raises:
        ValueError: where matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError(
            "--plot: expected matplotlib, found none; pip install 'fairseq_ki[report]'"
        ) from error
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.set_xlabel("bytes per row")
    axes.set_ylabel("angle to the full target's gradient (degrees)")
    for name, field, marker in (
        ("over all audited rows", "update_angle", "o"),
        ("over a quarter of them", "part_angle", "x"),
    ):
        x = [each.bytes_per_row for each in findings]
        axes.plot(x, [getattr(each, field) for each in findings], marker, label=name)
    for each in findings:
        axes.annotate(
            each.name,
            (each.bytes_per_row, each.update_angle),
            textcoords="offset points",
            xytext=(5, 5),
            fontsize=8,
        )
    axes.set_ylim(bottom=0)
    axes.legend()
    axes.set_title("noise shrinks with the number of rows, a bias does not", fontsize=10)
    figure.savefig(path, dpi=150)
