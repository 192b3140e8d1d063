"""The tables of the benchmarks, written from what they measured: all of their rows, and a summary.

    python benchmarks/tables.py

Each benchmark calls `put` after it has written its results, so that nobody copies numbers; a test holds the
pages against the results.
"""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path

from measured import middle

HERE = Path(__file__).parent
PAGE, README = HERE / "README.md", HERE.parent / "README.md"


def ratio(value):
    """As 0.039x, 2.0x, 12x, 357x."""
    return f"{value:#.2g}x" if value < 9.95 else f"{value:.0f}x"


def share(value):
    """As 0.03%, 2.0%, 26%, 260%."""
    return f"{100 * value:.1g}%" if value < 0.00995 else f"{100 * value:.0f}%"


def milliseconds(value):
    """Of seconds, as 6.2 ms, 124 ms."""
    return f"{1e3 * value:#.2g} ms" if value < 0.00995 else f"{1e3 * value:.0f} ms"


def rate(value):
    """As 6.5, 192."""
    return f"{value:#.2g}" if value < 9.95 else f"{value:.0f}"


def seconds(value):
    """As 0.62 s, 12 s."""
    return f"{value:#.2g} s" if value < 9.95 else f"{value:.0f} s"


def times(value):
    """As 1.05, 12."""
    return f"{value:.2f}" if value < 9.95 else f"{value:.0f}"


PYTORCH = {"fused": ("PyTorch, fused", ratio), "loop": ("PyTorch, loop", ratio)}
FIRST = ("first", "first result of a process", {"seconds": ("seconds", seconds)})
TABLES = {
    "products": [
        (
            "results",
            "work",
            {
                "torch": ("PyTorch", ratio),
                "jax": ("JAX", ratio),
                "jax diagonal": ("JAX, a scan of diagonals", ratio),
                "jax by hand": ("JAX by hand", ratio),
                "jax grams": ("JAX by hand, our algorithm", ratio),
                "of peak": ("of peak", share),
                "of copy": ("of copy", share),
                "seconds": ("ours", milliseconds),
            },
        )
    ],
    "bptt": [
        (
            "results",
            "work",
            {
                "jax": ("JAX", ratio),
                **PYTORCH,
                "numpy": ("ours without numba", ratio),
                "seconds": ("ours", milliseconds),
            },
        ),
        (
            "scales",
            "loss at the last step",
            {
                **{scale: (f"scale {scale}", milliseconds) for scale in ("0.5", "1.0", "2.0")},
                "share": ("slowest over fastest", times),
            },
        ),
        FIRST,
    ],
    "training": [
        (
            "results",
            "work",
            {
                "jax": ("JAX", ratio),
                **PYTORCH,
                "updates_per_second": ("updates a second, ours", rate),
            },
        )
    ],
    "own_cell": [
        (
            "results",
            "work",
            {
                "jax": ("JAX", ratio),
                "torch": ("PyTorch, loop", ratio),
                "shipped": ("shipped cell", ratio),
                "autograd": ("ours by autograd", ratio),
                "seconds": ("ours by JAX", milliseconds),
                "training": ("update, JAX and optax", ratio),
                "training shipped": ("update, shipped cell", ratio),
            },
        ),
        FIRST,
    ],
    "rules": [
        (
            "results",
            "work",
            {
                "jax": ("JAX", ratio),
                "torch": ("PyTorch, loop", ratio),
                "backpropagation": ("backpropagation, ours", ratio),
                "seconds": ("ours", milliseconds),
            },
        )
    ],
}
"""Benchmark -> its tables: the key of their rows in the record, the head of the first column, and of each
other column its key in a row, its head, and how to write a value."""


def written(write, value):
    """A number, or the median with its quartiles."""
    if not isinstance(value, list):
        return write(value)
    low, median, high = (write(v) for v in value)
    return f"{median} ({_bare(low)}-{_bare(high)})"


def _bare(text):
    """Without the unit."""
    return text.rstrip("x%ms ")


def table(name):
    """All results of a benchmark, a row for each work, and what they were measured on."""
    record = json.loads((HERE / f"{name}.json").read_text())
    parts = []
    for key, first, columns in TABLES[name]:
        rows = [[first, *(head for head, _ in columns.values())], ["---"] * (1 + len(columns))]
        for row in record[key].values():
            values = (written(write, row[at]) if at in row else "" for at, (_, write) in columns.items())
            rows.append([row["label"], *values])
        parts.append("".join(f"| {' | '.join(cells)} |\n" for cells in rows))
    processor, cores, *versions = record["machine"].items()
    libraries = ", ".join(" ".join(version) for version in versions)
    parts.append(f"{record['rounds']} rounds; {processor[1]}, {cores[1]} cores; {libraries}.\n")
    return "\n".join(parts)


SUMMARY = {
    "products": (
        "norms of all Jacobian products",
        ("torch", "jax", "jax diagonal", "jax by hand", "jax grams"),
    ),
    "bptt": ("adjoints at all steps, gradient", ("jax", "fused", "loop")),
    "own_cell": ("the same of a cell with nothing but a step", ("jax", "torch", "autograd")),
    "rules": ("rules that carry influence forward", ("jax", "torch")),
    "training": ("an update of a training", ("jax", "fused", "loop")),
}
"""Benchmark -> what it is about, and the peers that a reader of the summary is told of."""


def summary():
    """Of each benchmark and peer the median of the ratios of all works, the least and the most."""
    rows = [["", "next to", "median of all works", "least", "most"], ["---"] * 5]
    for name, (about, peers) in SUMMARY.items():
        results = json.loads((HERE / f"{name}.json").read_text())["results"].values()
        for peer in peers:
            found = [middle(row[peer]) for row in results if peer in row]
            if found:
                head, _ = TABLES[name][0][2][peer]
                both = statistics.median(found), min(found), max(found)
                rows.append([about, head, *map(ratio, both)])
                about = ""
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def place(name):
    """Where the tables of a benchmark, or the summary, stand in a page."""
    return re.compile(rf"(?<=<!-- {name} -->\n)(?:(?!<!--).*\n)*(?=<!-- end -->)")


def put(name):
    """Write the tables of a benchmark, and the summary of all."""
    _put(PAGE, name, table(name))
    _put(README, "summary", summary())


def _put(page, name, tables):
    text, places = place(name).subn(lambda _: tables, page.read_text())
    assert places == 1, f"{page} has {places} places for {name}"
    page.write_text(text)


if __name__ == "__main__":
    for name in TABLES:
        put(name)
