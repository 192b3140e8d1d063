"""The tables of the README, written from what the benchmarks measured: all of their rows.

    python benchmarks/tables.py

Each benchmark calls `write` after it has written its results, so that nobody copies numbers; a test holds the
README against the results.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

HERE = Path(__file__).parent
README = HERE.parent / "README.md"


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


PYTORCH = {"fused": ("PyTorch, fused", ratio), "loop": ("PyTorch, loop", ratio)}
COLUMNS = {
    "products": {
        "torch": ("PyTorch", ratio),
        "jax": ("JAX", ratio),
        "jax diagonal": ("JAX, a scan of diagonals", ratio),
        "jax by hand": ("JAX by hand", ratio),
        "of peak": ("of peak", share),
        "of copy": ("of copy", share),
        "seconds": ("ours", milliseconds),
    },
    "bptt": {
        "jax": ("JAX", ratio),
        **PYTORCH,
        "numpy": ("ours without numba", ratio),
        "seconds": ("ours", milliseconds),
    },
    "training": {
        "jax": ("JAX", ratio),
        **PYTORCH,
        "updates_per_second": ("updates a second, ours", rate),
    },
}
"""Benchmark -> what its results hold: the head of the column, and how to write a value."""


def table(name):
    """All results of a benchmark, a row for each work."""
    results = json.loads((HERE / f"{name}.json").read_text())["results"]
    columns = COLUMNS[name]
    rows = [["work", *(head for head, _ in columns.values())], ["---"] * (1 + len(columns))]
    for row in results.values():
        values = (write(row[key]) if key in row else "" for key, (_, write) in columns.items())
        rows.append([row["label"], *values])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def place(name):
    """Where the table of a benchmark stands in the README."""
    return re.compile(rf"(?<=<!-- {name}.json -->\n)(?:\|.*\n)*(?=<!-- end -->)")


def put(name):
    """Write the table of a benchmark into the README."""
    text, times = place(name).subn(lambda _: table(name), README.read_text())
    assert times == 1, f"README.md has {times} places for the table of {name}"
    README.write_text(text)


if __name__ == "__main__":
    for name in COLUMNS:
        put(name)
