"""Trainings that are killed: a process that forks one child for each, so that none has to import anything.

Run as a script it reads orders from stdin, one JSON object a line, and answers each with one line.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

import numpy as np
from small import Labelled, Noisy, Stream

from gradsim.data import zarr_sink
from gradsim.training import history, setup
from gradsim.training.verb import train
from gradsim_cells import LSTM
from gradsim_mitigations import (
    AutoClip,
    ClipNorm,
    Dropout,
    ScheduledSampling,
    TeacherForcing,
    TruncateAdaptive,
    TruncateAnnealed,
    WeightNoise,
)
from gradsim_optimizers import SGD, Adam

PROBE = {"every": 4, "recorders": ["product_norm", "adjoint_norm"]}
SETTINGS = {
    # Ends early, at update 12 of 40.
    "stopped": {
        "cell": Noisy(1, 3),
        "task": Stream(),
        "optimizer": SGD(0.4, momentum=0.9),
        "updates": 40,
        "batch": 2,
        "stateful": True,
        "record": PROBE,
        "validate": {"every": 3},
        "stop": {"patience": 2},
    },
    # Does all updates, of which the last one is validated out of turn.
    "whole": {
        "cell": LSTM(2, 3),
        "task": Labelled(),
        "optimizer": Adam(0.05),
        "epochs": 4,
        "batch": 3,
        "mitigations": [TruncateAnnealed(1, 6), TruncateAdaptive(0.3), AutoClip(50.0), ClipNorm(0.1)],
        "record": PROBE,
        "validate": {"every": 4},
    },
    "forced": {
        "cell": LSTM(1, 3),
        "task": Stream(),
        "optimizer": SGD(0.1),
        "updates": 12,
        "batch": 2,
        "mitigations": [
            TeacherForcing(0.5, measured=True),
            ScheduledSampling(decay="exponential", k=0.8),
            Dropout(0.2),
            WeightNoise(0.05),
        ],
        "record": PROBE,
        "validate": {"every": 4},
    },
}
ROWS = 4
"""Updates in a chunk, so that there are several."""


def training(setting, folder=None):
    where = {} if folder is None else {"store": folder, "resume": True, "checkpoint_seconds": 0}
    return train(**SETTINGS[setting], threads=1, **where)


# What happens in a child. A place is the name of what is called and of the file it is called for.

WATCHED = {
    "replace": (os, "replace"),
    "fsync": (os, "fsync"),
    "rmtree": (shutil, "rmtree"),
    "unlink": (Path, "unlink"),
    "mkdir": (Path, "mkdir"),
    "savez": (np, "savez"),
    "consolidate": (zarr_sink.zarr, "consolidate_metadata"),
    "shorten": (zarr_sink.ZarrSink, "shorten"),
}


class Watch:
    """Counts what a training does to its files, and kills the process at one of these places."""

    def __init__(self, order):
        self.place, self.call = order.get("place"), order.get("call", 1)
        self.when = order.get("when", "before")
        self.calls = {}

    def install(self):
        for name, (owner, attribute) in WATCHED.items():
            setattr(owner, attribute, self.wrapped(name, getattr(owner, attribute)))
        Path.open = self.torn(Path.open)

    def reached(self, place):
        self.calls[place] = self.calls.get(place, 0) + 1
        return place == self.place and self.calls[place] == self.call

    def wrapped(self, name, function):
        def watched(*args, **kwargs):
            here = self.reached(f"{name} {label(name, args)}".strip())
            if here and self.when == "before":
                die()
            result = function(*args, **kwargs)
            if here:
                die()
            return result

        return watched

    def torn(self, function):
        """Opens files of which only half is written."""

        def opened(path, mode="r", *args, **kwargs):
            file = function(path, mode, *args, **kwargs)
            if {*"wx"} & {*mode} and self.reached(f"write {named(path)}"):
                return Torn(file)
            return file

        return opened


def label(name, args):
    """The file that a call is about, if it is about one."""
    position = {"replace": 1, "rmtree": 0, "unlink": 0, "mkdir": 0}.get(name)
    return "" if position is None else named(args[position])


def named(path):
    """The name of a file; the many files of an array in the store are one."""
    path = Path(path)
    path = path.with_name(re.sub(r"\.[0-9a-f]{16}\.new$", ".new", path.name))  # of a random name
    return "chunk" if path.name.endswith(".partial") or "c" in path.parts[-4:] else path.name


class Torn:
    """A file that takes one half of what is written first, and then the process is gone."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, content):
        self.file.write(content[: len(content) // 2])
        self.file.flush()
        die()


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def child(order):
    """A training, in a process of its own; its exit status."""
    watch = Watch(order)
    watch.install()
    try:
        training(order["setting"], order["folder"])
    except BaseException:
        traceback.print_exc()
        return 1
    if order.get("count"):
        Path(order["count"]).write_text(json.dumps(watch.calls))
    return 0


def lived(order):
    """Fork, perhaps kill, and wait: {status, seconds}."""
    began = time.monotonic()
    number = os.fork()
    if not number:
        os._exit(child(order))
    if (seconds := order.get("after")) is not None:
        time.sleep(seconds)
        os.kill(number, signal.SIGKILL)
    _, status = os.waitpid(number, 0)
    return {"status": os.waitstatus_to_exitcode(status), "seconds": time.monotonic() - began}


def serve():
    setup.ROWS = history.ROWS = ROWS
    for name in SETTINGS:
        training(name)  # loads all that is loaded late
    for line in sys.stdin:
        print(json.dumps(lived(json.loads(line))), flush=True)


if __name__ == "__main__":
    serve()
