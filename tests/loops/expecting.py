"""What every variable of a run should be."""

from __future__ import annotations

import numpy as np
from loops.drawing import Configuration
from loops.expected import Expected, sized
from loops.paths import diagonals, envelope, of_influence, of_paths
from loops.reference import WIDE, Flow, Given, Raw, contributions, norm, sizes
from loops.running import LONGEST


def expected(config: Configuration, start: Given, shown: dict[str, np.ndarray]) -> dict[str, Expected]:
    """By name, for all variables of any recorder; `shown`: the step Jacobians of the run, by variable."""
    raw = Raw(start)
    found = {
        "state": Expected(raw.states, (2,)),
        "loss": Expected(raw.losses, (0, 1)),
        "largest_state": Expected(abs(raw.states).max(axis=(0, 2))),
        **_by_sequence(raw),
        "leading_lyapunov": Expected(_leading_exponent(raw, shown["step_jacobian"]), kind="exponents"),
    }
    found |= of_paths(raw) | of_influence(raw)
    if raw.steps <= LONGEST:
        found |= sized("parallelizability", _parallelizability(raw))
    one, other = Flow(raw, False), Flow(raw, True)
    adjoints, _ = one.go()
    value, slopes, by_state = _penalty(config, raw, adjoints)
    changed, factors = other.go(by_state)
    rules = [act.found for act in config.acts if act.found]
    by_rule = rules[0](raw, raw.direct if by_state is None else raw.direct + by_state) if rules else None
    found |= _forward(config, one) | _back(config, raw, adjoints, {})
    twins = _forward(config, other) | _back(config, raw, changed, slopes, by_rule, effective=True)
    for name, jacobians in shown.items():
        flow = other if name.startswith("effective") else one
        values, unsure = flow.exponents(jacobians if config.plain.groups > 1 else jacobians[:, :, None])
        found[name.replace("step_jacobian", "lyapunov")] = Expected(values, kind="exponents", scale=unsure)
    twins["adjoint_factor"] = Expected(factors)
    found |= {f"effective_{n}": e for n, e in twins.items()}
    largest = [abs(x).max(axis=2, keepdims=True) for x in (adjoints, changed)]
    found["loops_gap"] = Expected(changed - adjoints, scale=sum(largest) + 0 * adjoints)
    if raw.steps <= LONGEST:
        found |= _by_lag(config, one, {}, None)
        found |= {f"effective_{n}": e for n, e in _by_lag(config, other, slopes, by_state).items()}
    found["attrs loss"] = Expected(raw.loss, scale=abs(raw.losses).sum() / raw.batch)
    found["attrs penalty"] = Expected(value)
    return found


def _penalty(config, raw, adjoints):
    """Value, derivatives by parameter, and by state or None, of all penalties together."""
    value, slopes, by_state = 0.0, {}, None
    for act in config.acts:
        if act.penalty:
            more, by_params, by_own_state = act.penalty(raw, adjoints)
            value += more
            slopes = {n: slopes.get(n, 0) + by_params.get(n, 0) for n in {**slopes, **by_params}}
            if by_own_state is not None:
                by_state = by_own_state if by_state is None else by_state + by_own_state
    return value, slopes, by_state


def _back(config, raw, adjoints, slopes, by_rule=None, effective=False):
    """What is made of adjoints: contributions and the gradient, as the mitigations of an effective run do."""
    acts, fixed = (config.acts, config.plain.fixed) if effective else ((), ())
    found = {"adjoint": Expected(adjoints, (2,)), **sized("adjoint_norm", norm(adjoints, -1))}
    by_inputs, terms = (
        np.einsum("tbm,tbmi->tbi", *pair)
        for pair in ((adjoints[1:], raw.by_inputs), (abs(adjoints[1:]), sizes({"x": raw.by_inputs})["x"]))
    )
    found["input_gradient"] = Expected(by_inputs, scale=terms)
    found["input_adjoint"] = Expected(by_inputs + raw.direct_inputs, scale=terms + abs(raw.direct_inputs))
    parts = contributions(adjoints, raw.immediate, raw.read)
    terms = contributions(abs(adjoints), sizes(raw.immediate), raw.read_sizes)
    kept = {n: p for n, p in parts.items() if n not in fixed}
    for act in acts:
        if act.contributions:
            before, kept = kept, act.contributions(kept)
            for n, part in kept.items():  # the terms are scaled as their sum is
                axes = tuple(range(1, part.ndim))
                sums = [norm(x, axes).reshape(-1, *(1,) * len(axes)) for x in (part, before[n])]
                terms[n] = terms[n] * np.divide(*sums, out=np.ones_like(sums[0]), where=sums[1] > 0)
    parts = {n: kept.get(n, 0 * p) for n, p in parts.items()}
    gradient = {n: p.sum(axis=0) + slopes.get(n, 0) for n, p in kept.items()}
    totals = {n: t.sum(axis=0) + abs(slopes.get(n, 0)) for n, t in terms.items()}
    for n in by_rule[0] if by_rule else ():
        if n in gradient:
            gradient[n] = by_rule[0][n] + raw.read[n].sum(axis=0) + slopes.get(n, 0)
            totals[n] = totals[n] + by_rule[1][n]
    before = _size(gradient)
    for act in acts:
        if act.gradient:
            gradient = act.gradient(gradient, raw)
    after = _size(gradient)
    factor = after / before if any(act.gradient for act in acts) and before > 0 else 1.0
    gradient = {n: gradient.get(n, 0 * p[0]) for n, p in parts.items()}
    if effective:
        found["gradient_factor"] = Expected(factor if before > 0 or after == 0 else np.inf)
    axes = {n: tuple(range(1, p.ndim)) for n, p in parts.items()}
    for n, part in parts.items():
        largest = terms[n].max(axis=axes[n], keepdims=True)
        found[f"contribution_{n}"] = Expected(part, scale=largest + 0 * part)
        found[f"gradient_{n}"] = Expected(gradient[n], scale=factor * totals[n].max() + 0 * gradient[n])
    by_step = [np.stack([norm(x[n], axes[n]) for n in parts], axis=-1) for x in (parts, terms)]
    found |= sized("contribution_norm", *by_step)
    by_param = [np.stack([norm(x[n], tuple(range(x[n].ndim))) for n in parts]) for x in (gradient, totals)]
    found["gradient_norm"] = Expected(by_param[0], scale=factor * by_param[1])
    so_far = [sum(p.reshape(len(p), -1).sum(axis=1) for p in x.values()) for x in (parts, terms)]
    so_far = [np.cumsum(x[::-1])[::-1] for x in so_far]
    found["loops_sum"] = Expected(so_far[0], scale=so_far[1])
    return found


def _by_lag(config, flow, slopes, by_state):
    """The parts of the gradient at each lag, loss by loss and step by step."""
    raw, fixed = flow.raw, config.plain.fixed if flow.effective else ()
    direct = raw.direct.astype(WIDE) + (0 if by_state is None else by_state)
    lags = _lags(config.pairs, raw.steps)
    steps = {lag: range(1, raw.steps - lag + 1) for lag in lags}
    products = flow.products([(k + lag, k) for lag in lags for k in steps[lag]])
    found, terms = [], []
    for lag in lags:
        rows = np.zeros_like(direct)
        for k in steps[lag]:
            rows[k] = np.einsum("bi,bij->bj", direct[k + lag], products[k + lag, k])
        at_once, sizes_at_once = (
            {n: x * (lag == 0) for n, x in y.items()} for y in (raw.read, raw.read_sizes)
        )
        more = {n: x * (lag == 0) for n, x in slopes.items()}
        parts = contributions(rows, raw.immediate, at_once)
        large = contributions(abs(rows), sizes(raw.immediate), sizes_at_once)
        found.append({n: (p.sum(axis=0) + more.get(n, 0)) * (n not in fixed) for n, p in parts.items()})
        terms.append({n: (p.sum(axis=0) + abs(more.get(n, 0))) * (n not in fixed) for n, p in large.items()})
    parts, terms = ({n: np.stack([x[n] for x in y]) for n in y[0]} for y in (found, terms))
    axes = {n: tuple(range(1, p.ndim)) for n, p in parts.items()}
    norms = [np.stack([norm(x[n], axes[n]) for n in parts], axis=-1) for x in (parts, terms)]
    largest = {n: terms[n].max(axis=axes[n], keepdims=True) + 0 * p for n, p in parts.items()}
    by_param = {f"gradient_by_lag_{n}": Expected(p, scale=largest[n]) for n, p in parts.items()}
    return by_param | sized("gradient_norm_by_lag", *norms)


def _size(gradient):
    return np.sqrt(sum((g * g).sum() for g in gradient.values()))


def _forward(config, flow):
    """What is made of step Jacobians."""
    raw, g = flow.raw, config.plain.groups
    index, shape = laid_out(config)
    blocks, pairs = raw.given.blocks, config.pairs
    out, into = (chosen(blocks, names) for names in (pairs.blocks_out, pairs.blocks_in))
    products = flow.products(list(index.values()))
    m, batch = config.plain.size, raw.batch
    matrices = np.full((*shape, batch, m, m), np.nan, dtype=WIDE)
    losses = np.full((*shape, batch, m), np.nan, dtype=WIDE)
    for at, (t, k) in index.items():
        matrices[at] = products[t, k]
        losses[at] = np.einsum("bi,bij->bj", raw.direct[t].astype(WIDE), products[t, k])
    whole, largest = norm(matrices, (-1, -2)), abs(matrices).max(axis=(-1, -2), keepdims=True)
    block_norms = [[norm(matrices[..., blocks[a], blocks[b]], (-1, -2)) for b in into] for a in out]
    block_norms = np.moveaxis(np.array(block_norms), (0, 1), (-2, -1))
    rows, columns = (_inside(blocks, names, m) for names in (out, into))
    kept = np.stack(  # groups of k x k, or of chosen rows and columns
        [matrices[..., j::g, j::g][..., rows[j::g], :][..., columns[j::g]] for j in range(g)], axis=-3
    )
    steps = np.stack([flow.shown[..., j::g, j::g] for j in range(g)], axis=-3)
    values = _singular_values(kept)
    matrix = (-3, -2, -1) if g > 1 else (-2, -1)
    scale = largest[..., None] + 0 * kept if g > 1 else largest + 0 * kept[..., 0, :, :]
    found = {
        "step_jacobian": Expected(steps if g > 1 else steps[..., 0, :, :], matrix),
        "jacobian_product": Expected(kept if g > 1 else kept[..., 0, :, :], scale=scale),
    }
    found |= sized("product_norm", norm(kept, (-1, -2, -3)), whole)
    found |= sized("block_norm", block_norms, whole[..., None, None] + 0 * block_norms)
    units = envelope(raw, matrices, out, into)
    found |= sized("learnability_envelope", units, whole[..., None, None] + 0 * units)
    if not flow.effective:
        matrices = np.full((*shape, batch, m, m), np.nan, dtype=WIDE)
        by_diagonals = diagonals(raw, list(index.values()))
        for at, pair in index.items():
            matrices[at] = by_diagonals[pair]
        units = envelope(raw, matrices, out, into)
        scale = norm(matrices, (-1, -2))[..., None, None] + 0 * units
        found |= sized("learnability_envelope_diagonal", units, scale)
    found |= sized("product_spectral_norm", values.max(axis=(-1, -2)), whole)
    found["product_spectrum"] = Expected(values, kind="spectrum")
    found["product_spectrum_log10"] = Expected(values, kind="log10 spectrum")
    return found | sized("loss_adjoint_norm", norm(losses, -1))


def chosen(blocks, names):
    """The blocks of which products are recorded."""
    return [n for n in blocks if names is None or n in names]


def _inside(blocks, names, m):
    """Whether each component of the state is in them."""
    found = np.zeros(m, dtype=bool)
    for name in names:
        found[blocks[name]] = True
    return found


def _singular_values(blocks):
    """Of blocks (..., k, k) beyond the range of float64, each over its own power of two."""
    top = abs(blocks).max(axis=(-1, -2), keepdims=True)
    power = np.where(top > 0, np.frexp(np.where(top > 0, top, 1))[1], 0)
    power = np.where(np.isnan(top), 0, power)
    known = ~np.isnan(blocks).any(axis=(-1, -2))
    values = np.full((*blocks.shape[:-2], min(blocks.shape[-2:])), np.nan, dtype=WIDE)
    scaled = np.ldexp(blocks, -power)[known].astype(float)
    values[known] = np.ldexp(np.linalg.svd(scaled, compute_uv=False).astype(WIDE), power[known][..., 0])
    return values


def _parallelizability(raw):
    """(batch,): 1 over the largest singular value of the matrix of all P(t, k), 1 <= k <= t."""
    m, wide = raw.given.cell.size, raw.jacobians.astype(WIDE)
    blocks = np.zeros((raw.batch, raw.steps, m, raw.steps, m), dtype=WIDE)
    for k in range(raw.steps):
        product = np.broadcast_to(np.eye(m, dtype=WIDE), (raw.batch, m, m))
        for t in range(k, raw.steps):
            product = wide[t] @ product if t > k else product
            blocks[:, t, :, k] = product
    matrix = blocks.reshape(raw.batch, raw.steps * m, -1)
    top = abs(matrix).max(axis=(1, 2), keepdims=True)
    scaled = (matrix / top).astype(float)
    return 1 / (top[:, 0, 0] * np.sqrt([np.linalg.eigvalsh(x.T @ x)[-1] for x in scaled]))


def _by_sequence(raw):
    """(batch, param) norms of what each batch element adds to the raw gradient, beside those of its terms."""
    adjoints, _ = Flow(raw, False).go()
    found = []
    for x, immediate, read in (
        (adjoints[1:], raw.immediate, raw.read_by_batch),
        (abs(adjoints[1:]), sizes(raw.immediate), raw.read_sizes_by_batch),
    ):
        parts = {n: p.astype(WIDE).sum(axis=0) for n, p in read.items()}
        for n, slope in immediate.items():
            parts[n] = parts[n] + np.einsum("tbm,tbm...->b...", x, slope)
        found.append(np.stack([norm(p, tuple(range(1, p.ndim))) for p in parts.values()], axis=-1))
    return sized("gradient_norm_by_sequence", *found)


def _leading_exponent(raw, shown):
    """(batch, 1): how the direction in which the recorder starts grows, in the group where it does most."""
    g = raw.given.cell.groups
    start = np.random.default_rng(0).standard_normal((g, shown.shape[-1]))
    vectors = np.broadcast_to(start / norm(start, -1)[:, None], (raw.batch, *start.shape))
    for jacobian in (shown if g > 1 else shown[:, :, None]).astype(WIDE):
        vectors = np.einsum("bgij,bgj->bgi", jacobian, vectors)
    with np.errstate(divide="ignore"):
        return np.log(norm(vectors, -1)).max(axis=1, keepdims=True) / raw.steps


def _lags(pairs, last):
    """All that are recorded."""
    longest = last if pairs.max_lag is None else min(pairs.max_lag, last)
    return sorted(set(pairs.lags)) if pairs.lags is not None else range(longest + 1)


def laid_out(config):
    """{place: (t, k)} of all recorded products, and the shape of their two dims."""
    last, p = config.steps, config.pairs
    chosen = lambda which: sorted({i % (last + 1) for i in which})
    sources = range(last + 1) if p.sources is None else chosen(p.sources)
    if p.lags is not None or p.max_lag is not None:
        lags = _lags(p, last)
        places = {(i, j): (k + lag, k) for i, k in enumerate(sources) for j, lag in enumerate(lags)}
        return {at: (t, k) for at, (t, k) in places.items() if t <= last}, (len(sources), len(lags))
    times = range(last + 1) if p.times is None else chosen(p.times)
    places = {(i, j): (t, k) for i, t in enumerate(times) for j, k in enumerate(sources)}
    return {at: (t, k) for at, (t, k) in places.items() if t >= k}, (len(times), len(sources))
