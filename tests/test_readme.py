"""Everything in the README runs."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_python_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) == 3
    namespace = {"__name__": "__main__"}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    assert namespace["ds"].sizes["time"] == 21
    assert len(capsys.readouterr().out.splitlines()) == 5
    assert namespace["trained"].train_loss[-20:].mean() < namespace["trained"].train_loss[:20].mean()


def test_links_lead_somewhere():
    targets = re.findall(r"\]\(([^)]+)\)", README)
    assert len(targets) > 5
    for target in targets:
        assert (ROOT / target).exists(), target


def test_ci_does_what_the_readme_says():
    script = (ROOT / ".ci" / "run").read_text()
    for command in ("python -m pip install . && gradsim run", "python -m pytest"):
        assert command in README
        assert command.replace("install .", "install --quiet .") in script
