"""Sequences of one's own."""

from __future__ import annotations

import functools
import io
import zipfile
from dataclasses import dataclass

import numpy as np
from numpy.lib.npyio import NpzFile

from gradsim import Episode, cross_entropy, squared_error
from gradsim.contracts.task import Baseline, accuracy
from gradsim.errors import unknown
from gradsim_tasks.arrays import Arrays, most_frequent
from gradsim_tasks.files import FromFile
from gradsim_tasks.series import PARTS, SPLIT, cut, fitting

NEEDED = ("inputs", "targets")
OPTIONAL = ("weights", "part")


@dataclass(frozen=True, eq=False)
class Npz(FromFile, Arrays):
    """Say the targets in an .npz file, step by step, from its inputs.

    The file `path` is one of `numpy.savez(path, inputs=..., targets=...)`, with

    - inputs (time, sequence, input): numbers, as they are to be read;
    - targets: whole numbers (time, sequence) are classes from 0, with the cross entropy as loss, and the
      accuracy; other numbers (time, sequence, output) have the squared error as loss;
    - weights (time, sequence), if any: how much the loss at each step counts, 0 where nothing is asked, as
      behind the end of a short sequence. Without them each counts 1 / time;
    - part (sequence,), if any: the words "train", "validation" or "test". Without them the first 70 % of the
      sequences are for training, the next 15 % for validation, the rest for the test; with 2 or 3 there is
      one for validation, and none for the test.

    The baseline is "most frequent class", or "mean" of the targets for training.
    """

    name = "npz"

    path: str

    def __post_init__(self):
        super().__post_init__()
        self._check_inputs()
        self._check_targets()
        self._check_weights()
        self._check_part()

    @property
    def metric(self):
        return "accuracy" if self._classes else None

    @property
    def input_size(self):
        return self._arrays["inputs"].shape[2]

    @property
    def output_size(self):
        targets = self._arrays["targets"]
        return int(targets.max()) + 1 if self._classes else targets.shape[2]

    @functools.cached_property
    def whole(self):
        inputs, targets = self._arrays["inputs"], self._arrays["targets"]
        if self._classes:
            targets = targets.astype(np.int64)
        weights = self._arrays.get("weights", np.full(inputs.shape[:2], 1 / len(inputs)))
        chosen = {part: np.flatnonzero(self._part == part) for part in PARTS}
        return {
            part: Episode(inputs[:, one], targets[:, one], weights[:, one])
            for part, one in chosen.items()
            if len(one)
        }

    def loss(self, outputs, targets, xp):
        return (cross_entropy if self._classes else squared_error)(outputs, targets, xp)

    def score(self, outputs, targets):
        return accuracy(outputs, targets)

    @functools.cached_property
    def baseline(self):
        known, measured = self.whole["train"], self.measured
        if self._classes:
            return most_frequent(known, measured, self.output_size)
        mean = np.average(known.targets, axis=(0, 1), weights=known.weights)
        errors = ((measured.targets - mean) ** 2).mean(axis=-1)
        return Baseline("mean", float(np.sum(measured.weights * errors) / errors.shape[1]))

    @property
    def _classes(self):
        return self._arrays["targets"].dtype.kind in "iu"

    @functools.cached_property
    def _part(self):
        """The part of each sequence."""
        count = self._arrays["inputs"].shape[1]
        parts = cut(fitting(SPLIT, count, 1), count)
        in_order = np.repeat(list(parts), [stop - start for start, stop in parts.values()])
        return self._arrays.get("part", in_order)

    @functools.cached_property
    def _arrays(self):
        try:
            arrays = NpzFile(io.BytesIO(self.content()), allow_pickle=False)
        except zipfile.BadZipFile:
            raise self.error("it is no .npz file; make one with numpy.savez") from None
        self._check_names(arrays.files)
        return {name: self._loaded(arrays, name) for name in arrays.files}

    def _check_names(self, names):
        for name in names:
            if name not in NEEDED + OPTIONAL:
                raise unknown(f"array of {self.path}", name, NEEDED + OPTIONAL)
        missing = [name for name in NEEDED if name not in names]
        if missing:
            raise self.error(f"it has no {' and no '.join(missing)}, but {', '.join(names) or 'nothing'}")

    def _loaded(self, arrays, name):
        try:
            return arrays[name]
        except (ValueError, zipfile.BadZipFile) as error:
            raise self.error(f"{name} cannot be read ({error}); save an array of numbers") from None

    def _check_inputs(self):
        inputs = self._arrays["inputs"]
        if inputs.ndim != 3 or not inputs.size:
            raise self._wrong("inputs", "the axes (time, sequence, input), none of them empty")
        self._check_finite("inputs")

    def _check_targets(self):
        targets, lead = self._arrays["targets"], self._arrays["inputs"].shape[:2]
        if self._classes and targets.shape != lead:
            raise self._wrong("targets", f"the shape (time, sequence) = {lead} of the inputs, for classes")
        if not self._classes and (targets.ndim != 3 or targets.shape[:2] != lead or not targets.size):
            raise self._wrong("targets", f"the shape {(*lead, 'output')}, for numbers; classes are integers")
        self._check_finite("targets")
        if self._classes and targets.min() < 0:
            raise self.error(
                f"targets: classes should be 0 or more (one is {targets.min()}); where nothing is asked, "
                "write 0 and give it a weight of 0"
            )

    def _check_weights(self):
        weights, lead = self._arrays.get("weights"), self._arrays["inputs"].shape[:2]
        if weights is None:
            return
        if weights.shape != lead:
            raise self._wrong("weights", f"the shape (time, sequence) = {lead} of the inputs")
        self._check_finite("weights")
        if weights.min() < 0 or not weights.any(axis=0).all():
            at = int(np.argmin(weights.any(axis=0) & (weights >= 0).all(axis=0)))
            raise self.error(
                f"weights should be 0 or more, and not all 0 in any sequence; those of sequence {at} are not"
            )

    def _check_part(self):
        count = self._arrays["inputs"].shape[1]
        if self._part.shape != (count,):
            raise self._wrong("part", f"the shape (sequence,) = ({count},)")
        for part in np.unique(self._part):
            if part not in PARTS:
                raise unknown(f"part in {self.path}", str(part), PARTS)
        if "train" not in self._part:
            raise self.error("no sequence is for training; name some 'train' in `part`")

    def _check_finite(self, name):
        array = self._arrays[name]
        if array.dtype.kind not in "fiu":
            raise self._wrong(name, "real numbers")
        wrong = np.argwhere(~np.isfinite(array))
        if len(wrong):
            raise self.error(
                f"{name}{wrong[0].tolist()} is {array[tuple(wrong[0])]}, as the first of {len(wrong)}; fill "
                "them in, with weights of 0 if nothing is known there"
            )

    def _wrong(self, name, needed):
        array = self._arrays[name]
        return self.error(f"{name} should have {needed} (got {array.dtype} of shape {array.shape})")
