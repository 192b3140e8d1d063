"""Rules that carry the influence of the parameters forward, against backpropagation and their definitions."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pytest
from helpers import refused
from rules import both, by_definition, close, ruled, shipped, small, taken

import gradsim
from gradsim.contracts.moment import Moment
from gradsim.contracts.trajectory import one_by_one
from gradsim.errors import BudgetError, InputError
from gradsim.numerics.blocks import dense_blocks
from gradsim.testing import conformance
from gradsim_cells import GRU, LRU, LSTM, Elman, IndRNN, LeakyRNN, MinGRU, Stack
from gradsim_mitigations import (
    RFLO,
    RTRL,
    EProp,
    Gate,
    Immediate,
    JacobianPenalty,
    Leak,
    NormStabiliser,
    OrthogonalInit,
    SnAp,
    SparseRTRL,
    Truncate,
    TruncateForward,
)
from gradsim_mitigations.influence import through
from gradsim_tasks import FlipFlop

test_rules_keep_the_contract = conformance(
    SnAp(n=2), EProp(feedback="random"), RFLO(leak=0.2), RFLO(feedback="random"), TruncateForward(1, 3)
)

APPROXIMATIONS = [
    SnAp(),
    EProp(),
    RFLO(),
    RFLO(leak=0.3),
    Immediate(),
    SparseRTRL(1),
    EProp(feedback="random"),
]


@pytest.mark.parametrize("name", shipped())
def test_rtrl_is_backpropagation_for_every_cell(name):
    cell = small(name)
    exact, found = both(cell, RTRL())
    close(found, exact, fixed=cell.fixed)


def test_rtrl_in_float32_is_backpropagation_as_far_as_that_reaches():
    exact, found = both(GRU(3, 4), RTRL(), dtype="float32")
    assert all(g.dtype == np.float32 for g in found.values())
    close(found, exact, tolerance=1e-5)


@pytest.mark.parametrize("penalty", [NormStabiliser(0.3), JacobianPenalty(0.1)], ids=lambda p: p.name)
def test_penalties_go_the_way_of_the_rule(penalty):
    theirs, ours = both(Elman(3, 4), penalty)[1], both(Elman(3, 4), RTRL(), penalty)[1]
    close(ours, theirs)


@pytest.mark.parametrize("made", [[Gate()], [Leak(0.3), OrthogonalInit()]], ids=lambda m: m[0].name)
def test_cells_that_mitigations_make_are_no_exception(made):
    exact, found = both(GRU(3, 4), *made, RTRL())
    close(found, exact)


def test_without_a_task_the_loss_is_the_last_output():
    inputs = np.random.default_rng(0).standard_normal((9, 2, 3))
    for rule in (RTRL(), SnAp(n=2)):
        exact, found = both(GRU(3, 4), rule, task=None, inputs=inputs, batch=None)
        close(found, exact)


def test_steps_in_many_pieces_are_those_in_one(monkeypatch):
    whole = both(LSTM(3, 4), RTRL())[1]
    monkeypatch.setattr("gradsim_mitigations.influence._NUMBERS", 5000)
    close(both(LSTM(3, 4), RTRL())[1], whole, tolerance=1e-14)


def test_what_a_rule_carries_is_told_before_the_run():
    cell = Elman(3, 100)
    run = {"task": FlipFlop(length=9), "batch": 50, "record": ["effective_gradient"]}
    with refused(BudgetError, "what rtrl carries alone takes 1.7 GB", "leave out what carries so much"):
        gradsim.simulate(cell, mitigations=[RTRL()], memory=2**28, **run)
    gradsim.simulate(cell, mitigations=[SnAp()], memory=2**28, **run)
    only_raw = gradsim.prepare(cell, mitigations=[RTRL()], **{**run, "record": ["gradient"]})
    assert "what rtrl carries" not in only_raw.plan.memory()


@pytest.mark.parametrize(("g", "k"), [(1, 6), (6, 1), (3, 2)])
def test_columns_go_through_blocks_as_through_the_whole_matrix(g, k, rng):
    blocks, columns = rng.standard_normal((2, g, k, k)), rng.standard_normal((2, 6, 5))
    np.testing.assert_allclose(through(blocks, columns), dense_blocks(blocks) @ columns, atol=1e-14)


@pytest.mark.parametrize("cell", [IndRNN(3, 4), LRU(3, 4), MinGRU(3, 4), Elman(3, 1)], ids=lambda c: c.name)
@pytest.mark.parametrize("rule", [SnAp(), EProp(), RFLO()], ids=lambda r: r.name)
def test_within_units_is_exact_where_there_is_nothing_else(rule, cell):
    exact, found = both(cell, rule)
    close(found, exact)


def test_e_prop_is_exact_for_an_lstm_whose_units_do_not_see_each_other():
    """With U = 0 the cells c remember by themselves; as many readout weights as always."""
    cell = LSTM(3, 4)
    rng = np.random.default_rng(4)
    params = cell.init_params(rng) | {"U": np.zeros((16, 4))}
    exact, found = both(cell, EProp(), params=params)
    close(found, exact)


@pytest.mark.parametrize("cell", [Elman(3, 4), LSTM(3, 3), Stack((GRU(3, 3), Elman(3, 2)))], ids=repr)
def test_snap_over_the_whole_graph_is_rtrl(cell):
    exact, found = both(cell, SnAp(n=2 * cell.state_size))
    close(found, exact)


def test_snap_masks_the_influence(rng):
    """Of a chain of units, each of which sees itself and the one before: n units on from its own."""
    cell = Elman(2, 5)
    params = cell.init_params(rng)
    params["U"] = np.tril(np.triu(params["U"], -1))
    trajectory, direct = taken(cell, rng, params=params)
    place = np.arange(5)
    for n in (1, 2, 3):
        ahead = np.subtract.outer(place, place)  # component minus the unit that the parameter feeds
        on = ((ahead >= 0) & (ahead < n)).astype(float)
        mask = {"W": on[:, :, None], "U": on[:, :, None], "b": on}
        expected = by_definition(trajectory, direct, mask=mask)
        close(ruled(SnAp(n=n), trajectory, direct), expected, 1e-12)
    exact = by_definition(trajectory, direct)
    assert np.abs(expected["W"] - exact["W"]).max() > 1e-3
    close(ruled(SnAp(n=5), trajectory, direct), exact, 1e-12)


def test_snap_1_of_an_lstm_leaves_out_the_cell_behind_an_output_gate(rng):
    trajectory, direct = taken(LSTM(2, 3), rng)
    unit = np.arange(12) % 3
    own = np.equal.outer(np.arange(6) % 3, unit)
    own[3:, 9:] = False  # gates i, f, g, o: the last does not act on c in its own step
    mask = {"W": own[:, :, None], "U": own[:, :, None], "b": own}
    close(ruled(SnAp(), trajectory, direct), by_definition(trajectory, direct, mask=mask), 1e-12)


@pytest.mark.parametrize("cell", [Elman(2, 4), LSTM(2, 3), GRU(2, 4, reset_after=False)], ids=repr)
def test_e_prop_keeps_of_the_jacobian_what_leads_from_a_unit_to_itself(cell, rng):
    trajectory, direct = taken(cell, rng)
    unit = np.arange(cell.state_size) % cell.hidden_size
    expected = by_definition(trajectory, direct, lambda jacobian: jacobian * np.equal.outer(unit, unit))
    close(ruled(EProp(), trajectory, direct), expected, 1e-12)
    close(ruled(RFLO(), trajectory, direct), expected, 1e-12)


def test_layers_have_units_of_their_own(rng):
    trajectory, direct = taken(Stack((Elman(2, 3), Elman(3, 3))), rng)
    expected = by_definition(trajectory, direct, lambda jacobian: jacobian * np.eye(6))
    close(ruled(EProp(), trajectory, direct), expected, 1e-12)


def test_rflo_is_that_of_the_paper(rng):
    """p_ab <- (1 - a) p_ab + a phi'(u_a) h_b, and dU_ab = sum over t of (e B)_a p_ab."""
    cell = LeakyRNN(2, 4, time_step=0.25)
    trajectory, direct = taken(cell, rng)
    errors = rng.standard_normal((8, 2, 3))
    weight, feedback = rng.standard_normal((2, 3, 4))
    direct = errors @ weight
    p, expected = trajectory.params, {"U": 0, "W": 0, "b": 0}
    traces = {n: np.zeros((2, *p[n].shape)) for n in expected}
    for t, x in enumerate(trajectory.inputs, 1):
        h = trajectory.states[t - 1]
        slope = 0.25 * (1 - np.tanh(x @ p["W"].T + h @ p["U"].T + p["b"]) ** 2)
        seen = {"U": h[:, None], "W": x[:, None], "b": 1.0}
        learning = errors[t] @ feedback
        for n, trace in traces.items():
            here = slope if n == "b" else slope[:, :, None]
            traces[n] = 0.75 * trace + here * seen[n]
            expected[n] = expected[n] + np.einsum("ba,ba...->a...", learning, traces[n])
    rule = RFLO(leak=0.25, feedback="random")
    readout = {"readout_W": weight}
    close(ruled(rule, trajectory, direct, errors, readout, {"feedback": feedback}), expected, 1e-12)


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("cell", [LSTM(3, 4), small("rate_network")], ids=lambda c: c.name)
def test_feedback_by_the_readouts_own_weights_is_none(cell, factor):
    """With B = W, random e-prop is e-prop, and with B = 2 W twice that; also where the output is no block."""
    weight = np.random.default_rng(3).standard_normal((3, 4))

    @dataclasses.dataclass(frozen=True, eq=False)
    class Known(EProp):
        name = "known"

        def draw(self, rng, shapes):
            assert shapes["readout_W"] == weight.shape
            return {"feedback": factor * weight}

    params = cell.init_params(np.random.default_rng(4))
    given = {**params, "readout_W": weight, "readout_b": np.zeros(3)}
    (_, ours), (_, theirs) = (both(cell, rule, params=given) for rule in (Known(feedback="random"), EProp()))
    close(ours, {n: factor * g if n in params else g for n, g in theirs.items()}, 1e-13)


def test_random_feedback_stays_the_same_through_a_training(rng):
    trajectory, _ = taken(Elman(2, 4), rng)
    errors = rng.standard_normal((8, 2, 3))
    weight, first, other = rng.standard_normal((3, 3, 4))
    rule, moment = EProp(feedback="random"), Moment(1, 5, "learn")
    given = trajectory, errors @ weight, errors, {"readout_W": weight}
    one = ruled(rule, *given, {"feedback": first}, moment)
    later = Moment(2, 5, "learn", {rule: moment.noted[rule]})
    close(ruled(rule, *given, {"feedback": other}, later), one, 0)


def test_random_feedback_needs_a_readout(inputs):
    with refused(InputError, "rflo: feedback='random' takes the place", "give it a task with a readout"):
        gradsim.simulate(
            Elman(2, 3), inputs, mitigations=[RFLO(feedback="random")], record=["effective_gradient"]
        )


def test_immediate_derivatives_are_truncation_after_one_step():
    for cell in (GRU(3, 4), small("exp_rnn"), small("stack")):
        close(both(cell, Immediate())[1], both(cell, Truncate(1, 1))[1], 1e-13)


@pytest.mark.parametrize(("k1", "k2"), [(1, 1), (1, 4), (3, 3), (5, 7), (7, 30)])
def test_truncated_forward_mode_is_truncated_backpropagation(k1, k2):
    for cell in (GRU(3, 4), small("exp_rnn")):
        close(both(cell, TruncateForward(k1, k2))[1], both(cell, Truncate(k1, k2))[1])


def test_truncated_forward_mode_over_the_whole_run_is_rtrl():
    exact, found = both(LSTM(3, 4), TruncateForward(k1=12, k2=12))
    close(found, exact)
    close(both(LSTM(3, 4), TruncateForward(k1=5, k2=12))[1], exact)


def test_sparse_rtrl_goes_along_so_many_paths_to_each_component(rng):
    cell, rule = Elman(2, 5), SparseRTRL(2)
    trajectory, direct = taken(cell, rng)
    draws = rule.draw(np.random.default_rng(1), cell)
    found = ruled(rule, trajectory, direct, draws=draws)
    (kept,) = draws["kept"]
    np.testing.assert_array_equal(kept.sum(axis=1), 2)
    assert len(np.unique(kept, axis=0)) > 1
    close(found, by_definition(trajectory, direct, lambda jacobian: jacobian * kept), 1e-12)
    close(both(LSTM(3, 4), SparseRTRL(8))[1], both(LSTM(3, 4))[0])


@pytest.mark.parametrize("compiled", ["0", "1"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("cell", [Elman(2, 13), LSTM(2, 6), Stack((GRU(2, 5), Elman(5, 7)))], ids=repr)
def test_a_few_paths_are_gone_one_by_one(cell, dtype, compiled, rng, monkeypatch):
    """In compiled loops where there are those, and the same as by whole matrices."""
    monkeypatch.setenv("GRADSIM_COMPILED", compiled)
    monkeypatch.setattr("gradsim_mitigations.influence._NUMBERS", 5000)
    trajectory, direct = taken(cell, rng)
    direct[3] = 0
    for paths in (1, 3, 4):
        rule = SparseRTRL(paths)
        draws = rule.draw(rng, cell)
        expected = by_definition(trajectory, direct, partial(np.multiply, draws["kept"][0]))
        given = {n: p.astype(dtype) for n, p in trajectory.params.items()}
        state, inputs = trajectory.states[0].astype(dtype), trajectory.inputs.astype(dtype)
        single = cell.unroll(given, state, inputs, trajectory.step_data, one_by_one)
        found = ruled(rule, single, direct.astype(dtype), draws=draws)
        assert all(g.dtype == dtype for g in found.values())
        close(found, expected, 1e-12 if dtype is np.float64 else 1e-5)


@pytest.mark.parametrize("rule", APPROXIMATIONS, ids=repr)
def test_approximations_leave_the_readout_and_the_run_alone(rule):
    exact, found = both(GRU(3, 4), rule)
    close({n: found[n] for n in found if "readout" in n}, {n: exact[n] for n in exact if "readout" in n}, 0)
    assert all(np.abs(found[n] - exact[n]).max() > 1e-6 for n in ("W", "U", "b"))


def test_what_cannot_be_is_refused():
    with refused(InputError, "TruncateForward: k1 <= k2 is needed", "k1=5, k2=4"):
        TruncateForward(5, 4)
    with refused(InputError, "SnAp: n should be"):
        SnAp(n=0)
    with refused(InputError, "SparseRTRL: paths should be"):
        SparseRTRL(0)
    for leak in (0.0, 1.5):
        with refused(InputError, "RFLO: leak should be"):
            RFLO(leak=leak)
    with refused(InputError, "EProp: feedback should be"):
        EProp(feedback="symmetric")
