"""Data in files: a user's own, or those that another package ships."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field
from importlib import util
from pathlib import Path

from gradsim import Task
from gradsim.errors import InputError


@dataclass(frozen=True, eq=False)
class FromFile(Task):
    """A task that learns from the file `path`, a parameter that a subclass has.

    `sha256` is the hash of the file, by which a later run notices that it has changed. It is among the
    `parameters` in any case; if it is given, the file has to have it.
    """

    sha256: str | None = field(default=None, kw_only=True)

    def __post_init__(self):
        super().__post_init__()
        if self.sha256 not in (None, self.digest):
            raise self.error(f"it has changed: its sha256 is {self.digest}, and should be {self.sha256}")

    @property
    def parameters(self):
        return {**super().parameters, "sha256": self.digest}

    @functools.cached_property
    def digest(self):
        """The sha256 of the file."""
        return hashlib.sha256(self.content()).hexdigest()

    @property
    def source(self):
        """What errors call the file."""
        return self.path

    def content(self):
        """The file as bytes."""
        try:
            return Path(self.path).expanduser().read_bytes()
        except OSError as error:
            raise self.error(f"it cannot be read: {error.strerror}") from None

    def text(self):
        """The file as text, which should be UTF-8."""
        content = self.content()
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise self.error(
                f"byte {error.start} (the first is 0) is 0x{content[error.start]:02x}, which is not UTF-8; "
                "save the file as UTF-8"
            ) from None

    def error(self, message):
        """An error that names the task and the file."""
        return InputError(f"{type(self).__name__}: {self.source}: {message}")


def packaged(package, path, owner):
    """Where an installed package has a data file of the task `owner`; the package is not imported."""
    spec = util.find_spec(package)
    if spec is None:
        raise InputError(
            f'{owner}: its data come with the package {package}: python -m pip install "gradsim[data]"'
        )
    found = Path(spec.submodule_search_locations[0], path)
    if not found.is_file():
        raise InputError(
            f"{owner}: the installed {package} has no file {path}; "
            'python -m pip install --upgrade "gradsim[data]"'
        )
    return found
