"""Small experiment files, and the mistakes in them."""

from __future__ import annotations

import pytest

from gradsim.experiment.build import ExperimentError, build
from gradsim.experiment.kinds import SIMULATION


def tables(**changes):
    return {"task": {"name": "adding", "length": 30}, "cell": {"name": "elman"}, **changes}


def training(**changes):
    given = {"optimizer": {"name": "adam", "learning_rate": 0.01}, "updates": 9, **changes}
    return tables(**{k: v for k, v in given.items() if v is not None})


def mistakes(**changes):
    return mistakes_of(tables(**changes), SIMULATION)


def mistakes_of(given, kind):
    with pytest.raises(ExperimentError) as caught:
        build(given, kind, name="e", source="e.toml")
    first, *lines = str(caught.value).split("\n  ")
    assert first == f"e.toml: {len(lines)} mistake{'s' if len(lines) > 1 else ''}"
    return lines
