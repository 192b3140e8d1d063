"""Everything in the README runs."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGE = (ROOT / "benchmarks" / "README.md").read_text()


def test_python_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) == 7
    namespace = {"__name__": "__main__"}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    assert namespace["ds"].sizes["time"] == 21
    assert len(capsys.readouterr().out.splitlines()) == 7
    assert namespace["trained"].train_loss[-20:].mean() < namespace["trained"].train_loss[:20].mean()


@pytest.mark.parametrize(("folder", "page"), [(ROOT, README), (ROOT / "benchmarks", PAGE)])
def test_links_lead_somewhere(folder, page):
    targets = re.findall(r"\]\(([^)]+)\)", page)
    assert len(targets) > 4
    for target in targets:
        assert (folder / target).exists(), target


def test_ci_does_what_the_readme_says():
    script = (ROOT / ".ci" / "run").read_text()
    for command in ("python -m pip install . && gradsim run", "python -m pytest"):
        assert command in README
        assert command.replace("install .", "install --quiet .") in script


@pytest.fixture
def tables(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    yield importlib.import_module("tables")
    for name in ("tables", "measured"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["products", "bptt", "own_cell", "training", "rules"])
def test_tables_are_those_of_the_committed_results(tables, name):
    """All rows of them: the program that measures writes the tables."""
    (found,) = tables.place(name).findall(PAGE)
    assert found == tables.table(name)
    record = json.loads((ROOT / "benchmarks" / f"{name}.json").read_text())
    labels = [row["label"] for key, *_ in tables.TABLES[name] for row in record[key].values()]
    rows = [line.split(" | ")[0].removeprefix("| ") for line in found.splitlines() if line.startswith("| ")]
    assert [row for row in rows if row in labels] == labels
    assert record["machine"]["numpy"] in found.splitlines()[-1]
    assert f'put("{name}")' in (ROOT / "benchmarks" / f"{name}.py").read_text()


def test_a_median_stands_beside_its_quartiles(tables):
    measured = importlib.import_module("measured")
    times = {"gradsim": [1.0, 2.0, 4.0], "peer": [2.0, 4.0, 4.0]}
    assert measured.ratios(times) == {"peer": [1.5, 2.0, 2.0]}
    assert measured.spread([3.0]) == [3.0, 3.0, 3.0]
    assert tables.written(tables.ratio, [1.5, 2.0, 12.0]) == "2.0x (1.5-12)"
    assert tables.written(tables.ratio, 2.0) == "2.0x"


def test_the_summary_is_that_of_all_works(tables):
    assert tables.SUMMARY.keys() == tables.TABLES.keys()
    (found,) = tables.place("summary").findall(README)
    assert found == tables.summary()
    results = json.loads((ROOT / "benchmarks" / "training.json").read_text())["results"].values()
    ratios = sorted(tables.middle(row["fused"]) for row in results)
    _, least, most = found.splitlines()[-2].removesuffix(" |").rsplit(" | ", 2)
    assert (least, most) == (tables.ratio(ratios[0]), tables.ratio(ratios[-1]))


def test_tables_are_written_in_their_places(tables, tmp_path, monkeypatch):
    for name, here, page in (("README", "summary", README), ("PAGE", "bptt", PAGE)):
        monkeypatch.setattr(tables, name, tmp_path / name)
        getattr(tables, name).write_text(tables.place(here).sub("| old |\n", page))
    tables.put("bptt")
    assert tables.README.read_text() == README
    assert tables.PAGE.read_text() == PAGE


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        ("ratio", 0.0394, "0.039x"),
        ("ratio", 2.07, "2.1x"),
        ("ratio", 5.97, "6.0x"),
        ("ratio", 9.96, "10x"),
        ("ratio", 356.9, "357x"),
        ("share", 0.000269, "0.03%"),
        ("share", 2.6, "260%"),
        ("milliseconds", 0.00623, "6.2 ms"),
        ("milliseconds", 2.761, "2761 ms"),
        ("rate", 6.49, "6.5"),
        ("rate", 192.4, "192"),
        ("seconds", 0.62, "0.62 s"),
        ("times", 1.0449, "1.04"),
    ],
)
def test_numbers_have_two_digits_or_no_fraction(tables, write, value, text):
    assert getattr(tables, write)(value) == text
