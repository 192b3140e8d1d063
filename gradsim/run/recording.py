"""Handing the pieces of a run to the recorders that asked, and their values to the sink."""

from __future__ import annotations

import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, cast

import numpy as np

from gradsim.contracts.pieces import Both, Piece, Products, Region, set_writeable
from gradsim.contracts.plugin import calling, parameters_of
from gradsim.contracts.problem import Problem
from gradsim.contracts.recorder import Recorder, Variable
from gradsim.data.sink import Block, Bounds, Sink
from gradsim.engine.layout import Tile, time_chunk
from gradsim.errors import OutOfRangeWarning, PluginError, unknown
from gradsim.machine.workers import Workers
from gradsim.numerics.scaled import Scaled
from gradsim.plan.plan import Plan
from gradsim.types import Array


class Recording:
    """Takes pieces from any thread. `with` it: what is open is written there."""

    def __init__(self, plan: Plan, sink: Sink, threads: int) -> None:
        self.plan, self.sink, self.workers = plan, sink, Workers(threads)
        plan.flops()  # refused here if somebody says none, also where nobody looks at the progress
        self._out_of_range: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._rolling = Rolling(sink, plan.chunks)
        self._carries: dict[Recorder, Any] = {}
        self._take_carries = {r for r in plan.recorders if "carry" in parameters_of(r.compute)}
        self._declared: dict[Recorder, dict[str, Variable]] = {r: {} for r in plan.recorders}
        for recorder, variable in plan.variables():
            self._declared[recorder][variable.name] = variable

    def __enter__(self) -> Recording:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._rolling.finish()
            self._warn()

    def begin(self) -> None:
        """Make the carries of a new run."""
        for recorder in self.plan.recorders:
            with calling(recorder, "start"):
                self._carries[recorder] = recorder.start(self.plan.problem)

    def end(self) -> None:
        """Take what recorders know only after their last piece."""
        for recorder, carry in self._carries.items():
            prefix = "effective_" if recorder.effective else ""
            with calling(recorder, "finish"):
                found = recorder.finish(carry)
            for name, values in self._checked(recorder, "finish", found, {}).items():
                self.sink.put(prefix + name, self._plain(prefix + name, values))

    def along_time(self, piece: Piece, effective: bool = False) -> None:
        """Record a piece of those that come one after the other along time."""
        for name, values in self._computed(piece, effective):
            self._rolling.write(name, piece.region, values)

    def piece(self, piece: Piece, effective: bool = False, bounds: Bounds | None = None) -> None:
        """Record a piece that fills a block of its own, or its variables."""
        if not self.plan.asks(_stream(piece), effective=effective):
            return
        if not piece.region:
            for name, values in self._computed(piece, effective):
                self.sink.put(name, values)
        else:
            with Block(self.sink, bounds or {}) as block:
                self.into(block, piece, effective)

    def whole(self, piece: Piece, effective: bool) -> None:
        """Record a piece that fills its variables. The sink may keep its arrays: nobody else needs them."""
        found = list(self._computed(piece, effective))
        set_writeable(piece, True)
        for name, values in found:
            self.sink.put(name, values)

    def into(self, block: Block, piece: Piece, effective: bool) -> None:
        """Record a piece that is a part of a block."""
        self.workers.check()
        for name, values in self._computed(piece, effective):
            block.write(name, piece.region, values)

    def _computed(self, piece: Piece, effective: bool) -> Iterator[tuple[str, Array]]:
        prefix, stream, both = "effective_" if effective else "", _stream(piece), isinstance(piece, Both)
        for recorder in self.plan.recorders:
            if recorder.stream is stream and recorder.both == both and recorder.effective == effective:
                set_writeable(piece, False)
                found = self._values(recorder, piece)
                checked = self._checked(recorder, "compute", found, piece.region)
                for name, values in checked.items():
                    yield prefix + name, self._plain(prefix + name, values, checked.get(f"{name}_log10"))

    def _values(self, recorder: Recorder, piece: Piece) -> Mapping[str, Array | Scaled]:
        with calling(recorder, "compute"):
            if recorder not in self._take_carries:
                return recorder.compute(piece)
            return recorder.compute(piece, self._carries[recorder])  # type: ignore[call-arg]

    def _checked(
        self, recorder: Recorder, method: str, found: Mapping[str, Array | Scaled], region: Region
    ) -> Mapping[str, Array | Scaled]:
        """What a recorder gives for a region, if that is what it has declared."""
        if not isinstance(found, Mapping):
            raise PluginError(
                f"{recorder!r}: {method}() should return a dict of arrays, not {type(found).__name__}"
            )
        prefix = "effective_" if recorder.effective else ""
        for name, values in found.items():
            variable = self._declared[recorder].get(prefix + name)
            if variable is None:
                known = (n.removeprefix(prefix) for n in self._declared[recorder])
                raise PluginError(f"{recorder!r}: {method}() gives an {unknown('variable', name, known)}")
            needed = _shape(variable.dims, region, self.sink.sizes)
            array = values.mantissa if isinstance(values, Scaled) else np.asarray(values)
            shape = array.shape
            if array.dtype.kind not in "fiub":
                raise PluginError(
                    f"{recorder!r}: {method}() gives {name!r} the dtype {array.dtype}, where real numbers "
                    "are needed"
                )
            if needed is not None and shape != needed:
                raise PluginError(
                    f"{recorder!r}: {method}() gives {name!r} the shape {shape} where {needed} is needed"
                )
        return found

    def settle(self) -> None:
        """Write what is left open along time, so that it can be read."""
        self._rolling.finish()

    def _plain(self, name: str, values: Array | Scaled, log10: Array | Scaled | None = None) -> Array:
        """The values in the dtype of their variable, as IEEE 754 rounds them; those beyond it are counted.

        Those are infinite while what was given is not, or their `log10` is not.
        """
        given = values.mantissa if isinstance(values, Scaled) else np.asarray(values)
        plain = values.value if isinstance(values, Scaled) else given
        with np.errstate(over="ignore"):
            plain = plain.astype(self.sink.dtype(name), copy=False)
        # Where nothing was scaled nothing is lost here; but what makes the logarithm, too, rounds by itself.
        finite = given if plain is not given else log10 if isinstance(log10, np.ndarray) else None
        if finite is not None and (beyond := np.isinf(plain)).any():
            with self._lock:
                self._out_of_range[name] += int((beyond & ~np.isinf(finite)).sum())
        return plain

    def _warn(self) -> None:
        """Say once which values did not fit."""
        if found := sorted((+self._out_of_range).items()):
            lost = (
                f"{name} ({count} of {np.prod(self.sink.shape(name), dtype=int)}, {self.sink.dtype(name)})"
                for name, count in found
            )
            warnings.warn(
                f"values too large for their dtype are infinite: {', '.join(lost)}; the log10 twin of a norm "
                "holds its size, and dtype='float64' is wider than float32",
                OutOfRangeWarning,
                stacklevel=6,
            )


def _shape(dims: Sequence[str], region: Region, sizes: Mapping[str, int]) -> tuple[int, ...] | None:
    """That of the values for a region; None where arrays choose them one by one."""
    found = []
    for dim in dims:
        match region.get(dim, slice(None)):
            case slice() as rows:
                found.append(len(range(*rows.indices(sizes[dim]))))
            case np.ndarray():
                return None
    return tuple(found)


def _stream(piece: Piece) -> type:
    return type(piece.raw if isinstance(piece, Both) else piece)


class Rolling:
    """Blocks along time that fill up as a run passes over it, forward or back, and are written when full."""

    def __init__(self, sink: Sink, chunks: Callable[[], Mapping[str, Mapping[str, int]]]) -> None:
        self.sink, self.chunks = sink, chunks
        self._open: dict[tuple[str, int], tuple[Block, int]] = {}

    def write(self, name: str, region: Region, values: Array) -> None:
        """Take the values of a range of the first dim of a variable."""
        dim = next(iter(self.sink.variables[name].dims), None)
        if dim is None or dim not in region:
            raise PluginError(
                f"{name} is given piece by piece along {', '.join(region)}; that should be its first dim, or "
                "it should be given whole, in finish()"
            )
        rows, total = cast(slice, region[dim]), self.sink.sizes[dim]
        if rows.stop - rows.start == total:
            self.sink.put(name, values)  # a run of one segment: no block in between
            return
        length = self.chunks()[name].get(dim, total)
        for index in range(rows.start // length, -(-rows.stop // length)):
            bounds = slice(index * length, min((index + 1) * length, total))
            here = slice(max(rows.start, bounds.start), min(rows.stop, bounds.stop))
            block, missing = self._open.pop(
                (name, index), (Block(self.sink, {dim: bounds}), bounds.stop - bounds.start)
            )
            block.write(name, {dim: here}, values[here.start - rows.start : here.stop - rows.start])
            missing -= here.stop - here.start
            if missing:
                self._open[name, index] = block, missing
            else:
                block.write_out()

    def finish(self) -> None:
        """Write what is open."""
        for block, _ in self._open.values():
            block.write_out()
        self._open.clear()


class TileBlocks:
    """The blocks that one tile fills one after the other, as its products move through time."""

    def __init__(self, sink: Sink, problem: Problem, tile: Tile) -> None:
        self.sink, self.tile = sink, tile
        self.outer = problem.pair_dims[0]
        # In a band of lags the tile is one block; else its rows are times, and it is cut along them.
        self.length = 0 if self.outer == "source" else time_chunk(problem)
        self.current: Block | None = None
        self.index = -1

    def block_for(self, piece: Products) -> Block:
        """The block in which this piece lies; the one before is written when it is left."""
        row = piece.region[self.outer]
        index = row // self.length if self.length and isinstance(row, int) else 0
        if self.current is None or index != self.index:
            self.finish()
            self.current, self.index = Block(self.sink, self._bounds(index)), index
        return self.current

    def _bounds(self, index: int) -> dict[str, slice]:
        bounds = {"source": self.tile.sources, "batch": self.tile.batch}
        if self.length:
            end = min((index + 1) * self.length, self.sink.sizes[self.outer])
            bounds[self.outer] = slice(index * self.length, end)
        return bounds

    def finish(self) -> None:
        """Write what is open."""
        if self.current is not None:
            self.current.write_out()
            self.current = None
