"""The kit at a prompt and in pytest."""

from __future__ import annotations

from pathlib import Path

import pytest
from examples import Scale, Tanh, WrongJacobian

from gradsim.errors import InputError, UnknownNameError
from gradsim.testing import (
    check_cell,
    check_mitigation,
    check_optimizer,
    check_recorder,
    check_schedule,
    check_task,
    checks_of,
    conformance,
)
from gradsim_mitigations import ClipNorm
from gradsim_optimizers import SGD
from gradsim_recorders import StateRecorder
from gradsim_schedules import StepDecay
from gradsim_tasks import Adding

pytest_plugins = ["pytester"]


def test_check_cell_raises_at_the_first_failure():
    with pytest.raises(AssertionError, match=r"WrongJacobian\(.*step_jacobian\(\) differs .* delete it"):
        check_cell(WrongJacobian())


@pytest.mark.parametrize(
    ("check", "good"),
    [
        (check_mitigation, ClipNorm),
        (check_task, Adding),
        (check_recorder, StateRecorder),
        (check_optimizer, SGD),
        (check_schedule, StepDecay),
    ],
)
def test_every_family_has_its_checks(check, good):
    capital = type("Capital", (good,), {"name": "Capital"})
    with pytest.raises(AssertionError, match=r"Capital.*lower case"):
        check(capital())


def test_what_is_no_plugin_object_is_refused():
    with pytest.raises(InputError, match="call the class"):
        check_cell(Tanh)
    with pytest.raises(InputError, match="Mitigation object is needed"):
        check_mitigation(Tanh())
    with pytest.raises(InputError, match="call the class"):
        checks_of(Tanh)


def test_an_unknown_expected_failure_is_an_error():
    with pytest.raises(UnknownNameError, match="did you mean 'jacobian'"):
        conformance(Tanh(), expected_failures={"jacobain": "a typing error"})


MODULE = """
from gradsim.testing import conformance
from examples import Tanh, Scale, WrongJacobian

test_my_cell = conformance({arguments})
"""


def outcomes(pytester, arguments, *options):
    pytester.syspathinsert(Path(__file__).parent)
    pytester.makepyfile(MODULE.format(arguments=arguments))
    return pytester.runpytest_inprocess("-v", "-p", "no:cacheprovider", *options)


def test_ids_are_readable_and_selectable(pytester):
    result = outcomes(pytester, "Tanh(), Tanh(hidden_size=5), Scale()", "-k", "product or is_pure")
    result.stdout.fnmatch_lines_random(
        [
            "*::test_my_cell?proof_tanh-jacobian_product? PASSED*",
            "*::test_my_cell?proof_tanh-hidden_size=5-jacobian_product? PASSED*",
            "*::test_my_cell?proof_scale-is_pure? PASSED*",
        ]
    )
    result.assert_outcomes(passed=5, deselected=len(checks_of(Tanh())) * 2 + len(checks_of(Scale())) - 5)


def test_a_failure_is_one_sentence_and_what_rests_on_it_is_skipped(pytester):
    result = outcomes(pytester, "WrongJacobian()")
    count = len(checks_of(WrongJacobian()))
    result.assert_outcomes(failed=1, skipped=2, passed=count - 3)
    result.stdout.fnmatch_lines(["*AssertionError: WrongJacobian(*: step_jacobian() differs from central*"])


def test_expected_failures_are_strict(pytester):
    expected = 'expected_failures={"jacobian": "a surrogate"}'
    count = len(checks_of(WrongJacobian()))
    outcomes(pytester, f"WrongJacobian(), {expected}").assert_outcomes(xfailed=1, skipped=2, passed=count - 3)
    result = outcomes(pytester, f"Tanh(), {expected}")
    result.assert_outcomes(failed=1, passed=count - 1)
    result.stdout.fnmatch_lines(["*XPASS(strict)*a surrogate*"])
