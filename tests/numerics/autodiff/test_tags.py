"""Tags that close derivatives, on f(x) = x * through(x^2, "a") * through(x^3, "b") at x = 2."""

from __future__ import annotations

import numpy as np
import pytest

from gradsim.numerics import autodiff
from gradsim.numerics.autodiff import detach, opened, surrogate, through

X = np.array([2.0])


def product(x):
    return x * through(x**2, "a") * through(x**3, "b")


def slope(function):
    return autodiff.gradient(function, X)[0].item()


def test_a_tag_changes_nothing_by_itself():
    assert product(X) == 2.0**6
    assert slope(product) == pytest.approx(6 * 2.0**5)


@pytest.mark.parametrize(
    ("paths", "power"), [([], 1), (["a"], 3), (["b"], 4), (["a", "b"], 6), (["c"], 1)], ids=str
)
def test_only_open_paths_have_a_derivative(paths, power):
    with opened(paths) as met:
        assert slope(product) == pytest.approx(power * 2.0**5)
    assert met == ["a", "b"]
    assert slope(product) == pytest.approx(6 * 2.0**5)


def test_what_is_detached_is_a_constant():
    assert slope(lambda x: x * detach(x)) == 2
    assert detach(X) is X


def test_a_surrogate_has_the_numbers_of_one_and_the_derivative_of_another():
    def spike(x):
        return surrogate((x > 1) * 1.0, x**2 / 3)

    assert spike(X) == pytest.approx(1)
    assert slope(spike) == pytest.approx(4 / 3)
