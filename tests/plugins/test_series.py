"""Series: windows, parts and baselines, and those that are computed against what is known of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gradsim.errors import InputError
from gradsim_tasks import Lorenz, MackeyGlass, lorenz, mackey_glass
from gradsim_tasks.series import Series


class Ramp(Series):
    """Rows of i and 300 - 2 i."""

    name = "ramp"
    columns = ("up", "down")

    def values(self):
        i = np.arange(103.0)
        return np.stack((i, 300 - 2 * i), axis=-1)


SPREAD = math.sqrt((72**2 - 1) / 12)  # of 0, 1, ..., 71, the rows for training


def rows(standardised):
    """The number of the row that each pair of values comes from."""
    np.testing.assert_allclose(standardised[..., 0], -standardised[..., 1], atol=1e-12)
    return np.rint(standardised[..., 0] * SPREAD + 35.5).astype(int)


def test_windows_of_a_series_follow_each_other_within_their_part():
    task = Ramp(length=10, ahead=3)
    assert task.sequences == {"train": 6, "validation": 1, "test": 1}
    assert task.consecutive
    inputs, targets = {}, {}
    for part, count in task.sequences.items():
        episode = task.take(part, np.arange(count))
        inputs[part], targets[part] = rows(episode.inputs), rows(episode.targets)
        np.testing.assert_array_equal(targets[part], inputs[part] + 3)
        np.testing.assert_allclose(episode.weights, 1 / 10)
    np.testing.assert_array_equal(inputs["train"].T.ravel(), np.arange(60))
    assert targets["train"].max() < 72 <= inputs["validation"].min()
    assert targets["validation"].max() < 88 <= inputs["test"].min()
    np.testing.assert_array_equal(rows(task.take("train", np.array([4, 1])).inputs)[0], [40, 10])


def test_a_series_is_standardised_by_its_training_part():
    first = Ramp(length=10).standardised[:72]
    np.testing.assert_allclose(first.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(first.std(axis=0), 1)


@pytest.mark.parametrize("ahead", [1, 4])
def test_the_baseline_of_a_series_is_the_value_before(ahead):
    baseline = Ramp(length=5, ahead=ahead).baseline
    assert baseline.name == "last value"
    assert baseline.loss == pytest.approx((ahead / SPREAD) ** 2)


class OneOfTwo(Ramp):
    """Forecasts the second column from the first."""

    input_columns = (0,)
    target_columns = (1,)


def test_a_series_may_have_other_targets_than_inputs():
    task = OneOfTwo(length=10)
    episode = task.take("test", np.array([0]))
    assert (task.input_size, task.output_size) == (1, 1)
    both = np.concatenate((episode.inputs[1:], episode.targets[:-1]), axis=-1)
    np.testing.assert_array_equal(rows(both)[:, 0], np.arange(89, 98))
    assert task.baseline.loss == pytest.approx(1 / SPREAD**2)


class Changed(Ramp):
    """With other values in some rows of the second column."""

    rows_changed: slice
    value: float

    def values(self):
        values = super().values()
        values[self.rows_changed, 1] = self.value
        return values


def changed(where, to, **settings):
    cls = type("Changed", (Changed,), {"rows_changed": where, "value": to})
    return cls(length=10, **settings)


def test_values_that_are_missing_are_named():
    for wrong in (np.nan, np.inf):
        message = rf"row 17 \(the first is 0\) of column 'down' is {wrong}; 3 of 206 values are missing"
        with pytest.raises(InputError, match=message):
            changed(slice(17, 20), wrong)


def test_a_column_without_change_is_refused():
    with pytest.raises(InputError, match=r"column 'down' is 0\.1 in every row of the training part"):
        _ = changed(slice(0, 72), 0.1).standardised


def test_a_series_that_is_too_short_says_how_long_it_should_be():
    message = (
        r"Lorenz: length \+ ahead should be at most 15, the rows of the validation part \(got 100 \+ 1\); "
        r"the series has 100 rows, and needs (\d+) for this length"
    )
    long = {"length": 100, "split": (0.7, 0.15, 0.15)}
    with pytest.raises(InputError, match=message) as error:
        Lorenz(rows=100, **long)
    needed = int(str(error.value).split("needs ")[1].split(" ")[0])
    assert Lorenz(rows=needed, **long).sequences == {"train": 4, "validation": 1, "test": 1}
    with pytest.raises(InputError, match="needs"):
        Lorenz(rows=needed - 1, **long)


def test_parts_may_be_left_out():
    task = Lorenz(rows=101, split=(1, 0, 0))
    assert task.sequences == {"train": 1}
    assert task.baseline.loss > 0
    for split in ((0.5, 0.2, 0.2), (0.0, 0.5, 0.5)):
        with pytest.raises(InputError, match="split should be the shares of train, validation, test"):
            Lorenz(split=split)


def order(solved):
    """The order of a method, from solutions with steps of h, h/2 and h/4."""
    one, half, quarter = solved
    return np.log2(np.abs(one - half).max() / np.abs(half - quarter).max())


def test_mackey_glass_relaxes_as_long_as_its_past_is_constant():
    gain = 0.2 * 1.2 / (1 + 1.2**10)
    t = np.arange(18)
    expected = gain / 0.1 + (1.2 - gain / 0.1) * np.exp(-0.1 * t)
    np.testing.assert_allclose(mackey_glass.solution(17, 18), expected, rtol=1e-10)


def test_mackey_glass_rests_where_gain_and_loss_are_equal():
    np.testing.assert_allclose(mackey_glass.solution(17, 100, start=1.0), 1, rtol=1e-14)


def test_mackey_glass_is_solved_to_fourth_order():
    assert order([mackey_glass.solution(17, 150, n) for n in (2, 4, 8)]) == pytest.approx(4, abs=0.3)


def test_mackey_glass_stays_in_its_known_range():
    """Mean about 0.93, between 0.2 and 1.4, and still moving."""
    x = MackeyGlass().values()[:, 0]
    assert x.shape == (5000,)
    assert x.mean() == pytest.approx(0.93, abs=0.02)
    assert 0.2 < x.min() < 0.5
    assert 1.2 < x.max() < 1.4
    assert x[-500:].std() == pytest.approx(x[:500].std(), rel=0.1)


def test_lorenz_rests_at_its_fixed_points():
    side = math.sqrt(8 / 3 * 27)
    for point in ((0.0, 0.0, 0.0), (side, side, 27.0), (-side, -side, 27.0)):
        np.testing.assert_allclose(lorenz.runge_kutta(point, 0.01), point, atol=1e-13)


def test_lorenz_is_solved_to_fourth_order():
    assert order([lorenz.solution(200 * n + 1, 0.01 / n)[:: 20 * n] for n in (1, 2, 4)]) == pytest.approx(
        4, abs=0.3
    )


def test_lorenz_contracts_volumes():
    """The determinant of a step is exp(-(41/3) h): the divergence of the flow is -(10 + 1 + 8/3)."""
    point, h, e = (3.0, -2.0, 20.0), 0.01, 1e-5
    sides = np.array([np.eye(3) * e + point, np.eye(3) * -e + point])
    ahead, behind = ([lorenz.runge_kutta(tuple(p), h) for p in side] for side in sides)
    jacobian = (np.array(ahead) - behind) / (2 * e)
    assert np.linalg.det(jacobian) == pytest.approx(math.exp(-41 / 3 * h), rel=1e-6)


def test_lorenz_has_its_known_mean_and_exponent():
    """Mean of z about 23.55; largest exponent 0.9056 (Sprott 2003)."""
    path = lorenz.solution(60_000)[2000:]
    np.testing.assert_allclose(path[:, :2].mean(axis=0), 0, atol=0.6)
    assert path[:, 2].mean() == pytest.approx(23.55, abs=0.1)
    grown, apart = 0.0, np.array([1e-8, 0.0, 0.0])
    for here, there in zip(path[:20_000:10], path[10:20_010:10], strict=True):
        moved = tuple(here + apart)
        for _ in range(10):
            moved = lorenz.runge_kutta(moved, 0.01)
        apart = np.subtract(moved, there)
        grown += math.log(np.linalg.norm(apart) / 1e-8)
        apart *= 1e-8 / np.linalg.norm(apart)
    assert grown / 200 == pytest.approx(0.9056, abs=0.04)


def test_lorenz_rows_are_a_stride_apart():
    np.testing.assert_array_equal(Lorenz(rows=700, stride=3).values(), lorenz.solution(5000)[2000:4100:3])
