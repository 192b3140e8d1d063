"""The node test vectors of the ONNX operators RNN, GRU and LSTM, as the package `onnx` has them (Apache-2.0).

    python tests/reference/from_onnx.py          # write onnx.npz beside this script
    python tests/reference/from_onnx.py --check  # compare it with this ONNX, write nothing

Each direction of a case is one entry, forward in time: X (time, batch, inputs), W, R, B, P where there are
any, and the last state h. The vectors are float32, and most weights 0.1.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

OPERATORS = ("RNN", "GRU", "LSTM")
FILE = Path(__file__).parent / "onnx.npz"


def cases(operator: str) -> dict[str, np.ndarray]:
    """``<case>/<array>`` -> array, of an operator; ask in a process that has asked for no other."""
    from onnx.backend.test.case.node import collect_testcases

    found = {}
    for case in collect_testcases(operator):
        node = case.model.graph.node[0]
        if node.op_type != operator:
            continue
        (given, results), *_ = case.data_sets
        arrays = dict(zip([n for n in node.input if n], given, strict=True))
        last = dict(zip([n for n in node.output if n], results, strict=True))["Y_h"]
        options = {a.name: a.s.decode() or a.i for a in node.attribute}
        if options.get("layout") == 1:
            arrays["X"], last = arrays["X"].swapaxes(0, 1), last.swapaxes(0, 1)
        for i in range(len(last)):
            name = case.name.removeprefix("test_") + f"_{i}" * (len(last) > 1)
            backwards = options.get("direction") == "reverse" or i == 1
            own = {n: arrays[n][i : i + 1] for n in ("W", "R", "B", "P") if n in arrays}
            own |= {"X": arrays["X"][::-1] if backwards else arrays["X"], "h": last[i]}
            found |= {f"{name}/{n}": x for n, x in own.items()}
    return found


def all_cases() -> dict[str, np.ndarray]:
    """Those of all operators, each from a process of its own: a second call gives those of the first."""
    found = {}
    for operator in OPERATORS:
        part = FILE.with_name(f"{operator}.npz")
        subprocess.run([sys.executable, __file__, operator, part], check=True)
        with np.load(part) as kept:
            found |= dict(kept)
        part.unlink()
    return found


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in OPERATORS:
        np.savez_compressed(sys.argv[2], **cases(sys.argv[1]))
    elif "--check" in sys.argv:
        with np.load(FILE) as kept:
            for name, value in all_cases().items():
                np.testing.assert_allclose(kept[name], value, rtol=1e-6, err_msg=name)
        print("onnx agrees")
    else:
        np.savez_compressed(FILE, **all_cases())
