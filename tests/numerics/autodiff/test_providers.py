"""Which library is in force, and whether JAX can be."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextvars import copy_context
from importlib import metadata, util
from types import ModuleType

import pytest

from gradsim.numerics import autodiff
from gradsim.numerics.autodiff import providers


def test_a_library_is_in_force_for_a_while():
    other = object()
    assert autodiff.provider() is autodiff.AUTOGRAD
    with autodiff.deriving(other), autodiff.deriving("inner"):
        assert autodiff.provider() == "inner"
    with pytest.raises(KeyError), autodiff.deriving(other):
        raise KeyError
    assert autodiff.provider() is autodiff.AUTOGRAD


def test_threads_have_libraries_of_their_own():
    seen, here, there = [], threading.Barrier(2), threading.Barrier(2)

    def other():
        with autodiff.deriving("theirs"):
            here.wait(timeout=30)
            there.wait(timeout=30)
            seen.append(autodiff.provider())

    thread = threading.Thread(target=copy_context().run, args=(other,))
    thread.start()
    here.wait(timeout=30)
    with autodiff.deriving("ours"):
        there.wait(timeout=30)
        thread.join(timeout=30)
        assert autodiff.provider() == "ours"
    assert seen == ["theirs"]


@pytest.fixture
def anew():
    """What is known of JAX is forgotten."""

    def forget():
        for known in (providers._absent, providers._broken):
            known.cache_clear()

    forget()
    yield
    forget()


@pytest.mark.usefixtures("anew")
def test_jax_is_there():
    assert autodiff.jax_refused(load=False) is None
    assert autodiff.jax_refused() is None


@pytest.mark.usefixtures("anew")
def test_jax_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    assert "not installed; pip install 'jax>=0.8'" in autodiff.jax_refused()


@pytest.mark.usefixtures("anew")
@pytest.mark.parametrize("version", ["0.4.38", "0.7.2"])
def test_jax_that_is_too_old_is_named(version, monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda name: version)
    assert f"JAX {version} is too old; pip install 'jax>=0.8'" in autodiff.jax_refused(load=False)


@pytest.mark.usefixtures("anew")
def test_a_folder_of_that_name_is_no_jax(monkeypatch):
    def unknown(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", unknown)
    assert "not installed" in autodiff.jax_refused(load=False)


@pytest.mark.usefixtures("anew")
def test_jax_that_is_broken_is_named(monkeypatch):
    def fails(name):
        raise AttributeError("jaxlib has no client")

    monkeypatch.setattr(providers.importlib, "import_module", fails)
    assert autodiff.jax_refused(load=False) is None
    assert "broken here (AttributeError: jaxlib has no client, in " in autodiff.jax_refused()


@pytest.mark.usefixtures("anew")
@pytest.mark.parametrize("version", ["0.8rc1", "1.dev0+local", "unknown", None])
def test_odd_versions_are_tried(version, monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda name: version)
    assert autodiff.jax_refused() is None


@pytest.mark.usefixtures("anew")
def test_a_module_that_comes_from_nowhere_is_no_jax(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", ModuleType("jax"))
    assert "not installed" in autodiff.jax_refused(load=False)


FAKES = {
    "raise RuntimeError('no libfoo\\nhere')": "JAX is broken here (RuntimeError: no libfoo, in {file}); pip",
    "raise SystemExit('no licence')": "JAX is broken here (SystemExit: no licence, in {file}); pip",
    "__version__ = '0.4.30'": "JAX 0.4.30 in {file} is too old; pip install 'jax>=0.8'",
    "__version__ = '0.10.2'": "JAX is broken here (ModuleNotFoundError: No module named 'jax.numpy'",
}


@pytest.mark.parametrize("code", FAKES)
def test_a_jax_before_the_one_that_was_installed_is_named(code, tmp_path):
    (tmp_path / "jax.py").write_text(code)
    asked = "from gradsim.numerics import autodiff; print(autodiff.jax_refused())"
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", asked], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert FAKES[code].format(file=tmp_path / "jax.py") in done.stdout, done.stderr


FORK = """
import os, sys
import jax, numpy as np
import gradsim
from gradsim.numerics import autodiff
assert autodiff.jax_refused() is None
if (child := os.fork()) == 0:
    os._exit(0 if "forked" in (autodiff.jax_refused() or "") else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_child_of_a_process_with_jax_is_told_from_others():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], timeout=60, check=False)
    assert done.returncode == 0
