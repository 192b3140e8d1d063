"""``gradsim new``: a plugin package of one's own, with a working example in it."""

from __future__ import annotations

import keyword
import re
from importlib import metadata, resources, util
from pathlib import Path
from string import Template

import click

from gradsim.errors import InputError, StoreError

_TRY = {
    "cell": "gradsim run --cell {0}",
    "mitigation": "gradsim run --mitigation {0}",
    "task": "gradsim run --task {0}",
    "optimizer": "gradsim check {0}",
    "recorder": "gradsim run --record {0}",
    "initializer": "gradsim run --cell elman --set cell.recurrent_init={0}",
}


@click.command("new")
@click.argument("family", type=click.Choice([*_TRY]), metavar="|".join(_TRY))
@click.argument("name")
@click.option(
    "--dir",
    "parent",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    metavar="DIR",
    help="Folder in which to make the package; the current one unless given.",
)
def command(family: str, name: str, parent: Path) -> None:
    """Write a plugin package to start from.

    It holds a working example and its test. NAME is lower case, words joined by _.

    \b
    Examples:
      gradsim new cell my_cell
      gradsim new mitigation discount --dir ~/plugins
    """
    check_name(name)
    folder = parent / f"gradsim-{name.replace('_', '-')}"
    if folder.exists():
        raise StoreError(f"{folder} is there already; choose another NAME or --dir")
    write(folder, family, name)
    click.echo(f"Wrote {folder}. Next:")
    click.echo(f'  python -m pip install -e "{folder}[test]"')
    click.echo(f"  python -m pytest {folder}")
    click.echo(f"  {_TRY[family].format(name)}")


def check_name(name: str) -> None:
    """Refuse what cannot be the name of a new plugin."""
    from gradsim.contracts import registry

    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or keyword.iskeyword(class_name(name)):
        raise InputError(f"NAME should be lower-case words joined by _, for example my_cell (got {name!r})")
    found = registry.catalogue()
    for family, classes in found.plugins.items():
        if name in classes:
            owner = found.distributions[f"{family}/{name}"]
            raise InputError(f"{name!r} is taken: {owner} has it among its {family}; choose another NAME")
    if util.find_spec(f"gradsim_{name}"):
        raise InputError(f"{name!r} is taken: a module gradsim_{name} is installed; choose another NAME")


def class_name(name: str) -> str:
    """For example MyCell for my_cell."""
    return "".join(word.capitalize() for word in name.split("_"))


def write(folder: Path, family: str, name: str) -> None:
    """Make the folder and fill in the templates."""
    module = f"gradsim_{name}"
    words = {
        "family": family,
        "name": name,
        "module": module,
        "dashed": name.replace("_", "-"),
        "Class": class_name(name),
        "version": ".".join(metadata.version("gradsim").split(".")[:2]),
        "try": _TRY[family].format(name),
    }
    targets = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        f"{family}.py": f"{module}.py",
        "test.py": f"tests/test_{name}.py",
    }
    texts = {target: _filled(template, words) for template, target in targets.items()}
    try:
        (folder / "tests").mkdir(parents=True)
        for target, text in texts.items():
            (folder / target).write_text(text)
    except OSError as error:
        raise StoreError(f"cannot write {folder}: {error.strerror}; choose another --dir") from error


def _filled(template: str, words: dict[str, str]) -> str:
    text = resources.files("gradsim.cli").joinpath("templates", f"{template}.template").read_text()
    return Template(text).substitute(words)
