"""A training of an Elman network in plain loops, with nothing of gradsim: what trainings are compared with.

Float64. Backpropagation through time by hand, one sequence and one step at a time.
"""

from __future__ import annotations

import numpy as np


def loss_of_output(y, target):
    """(loss, dloss/dy): the squared error, or the cross entropy where the target is a class."""
    if np.ndim(target) == 0:
        p = np.exp(y - y.max()) / np.exp(y - y.max()).sum()
        return -np.log(p[target]), p - np.eye(len(y))[target]
    return np.mean((y - target) ** 2), 2 * (y - target) / len(y)


def forward(params, inputs, targets, weights, h):
    """Loss, score, slopes at the outputs and states of one sequence (time, ...), from the state h."""
    loss, right, slopes, states = 0.0, 0.0, [], [h]
    for x, target, weight in zip(inputs, targets, weights, strict=True):
        h = np.tanh(params["U"] @ h + params["W"] @ x + params["b"])
        y = params["readout_W"] @ h + params["readout_b"]
        value, slope = loss_of_output(y, target)
        loss += weight * value
        right += weight * (np.ndim(target) == 0 and y.argmax() == target)
        slopes.append(weight * slope)
        states.append(h)
    return loss, right, slopes, states


def backward(params, inputs, slopes, states):
    """The gradient of the loss of one sequence."""
    found = {n: np.zeros_like(p) for n, p in params.items()}
    adjoint = np.zeros(len(params["U"]))
    for t in range(len(inputs) - 1, -1, -1):
        found["readout_W"] += np.outer(slopes[t], states[t + 1])
        found["readout_b"] += slopes[t]
        adjoint = adjoint + params["readout_W"].T @ slopes[t]
        inner = adjoint * (1 - states[t + 1] ** 2)
        found["U"] += np.outer(inner, states[t])
        found["W"] += np.outer(inner, inputs[t])
        found["b"] += inner
        adjoint = params["U"].T @ inner
    return found


def batch_of(params, episode, states):
    """(loss, gradient, last states) of a batch: means over its sequences."""
    count = episode.inputs.shape[1]
    total, mean, after = 0.0, {n: np.zeros_like(p) for n, p in params.items()}, []
    for b in range(count):
        inputs = episode.inputs[:, b]
        loss, _, slopes, seen = forward(
            params, inputs, episode.targets[:, b], episode.weights[:, b], states[b]
        )
        total += loss / count
        for name, g in backward(params, inputs, slopes, seen).items():
            mean[name] += g / count
        after.append(seen[-1])
    return total, mean, after


def measured(params, episode, streams=None):
    """(loss, score) of a whole part; `streams`: read side by side, the state carried on in each."""
    count = episode.inputs.shape[1]
    losses, right, weight, h = [], 0.0, 0.0, np.zeros(len(params["U"]))
    length = count if streams is None else count // streams
    for b in range(count if streams is None else length * streams):
        if streams is None or b % length == 0:
            h = np.zeros(len(params["U"]))
        loss, good, _, seen = forward(
            params, episode.inputs[:, b], episode.targets[:, b], episode.weights[:, b], h
        )
        h = seen[-1]
        losses.append(loss)
        right, weight = right + good, weight + episode.weights[:, b].sum()
    return np.mean(losses), right / weight


class Descent:
    """theta <- theta - rate v, v <- momentum v + g."""

    def __init__(self, rate, momentum=0.0):
        self.rate, self.momentum, self.v = rate, momentum, {}

    def __call__(self, params, gradient, update):
        for n, g in gradient.items():
            self.v[n] = self.momentum * self.v.get(n, 0) + g
        return {n: p - self.rate * self.v[n] for n, p in params.items()}


class PlainAdam:
    """Kingma & Ba (2015), algorithm 1."""

    def __init__(self, rate, beta1=0.9, beta2=0.999, epsilon=1e-8):
        self.rate, self.beta1, self.beta2, self.epsilon = rate, beta1, beta2, epsilon
        self.m, self.v = {}, {}

    def __call__(self, params, gradient, update):
        found = {}
        for n, g in gradient.items():
            self.m[n] = self.beta1 * self.m.get(n, 0) + (1 - self.beta1) * g
            self.v[n] = self.beta2 * self.v.get(n, 0) + (1 - self.beta2) * g**2
            m, v = self.m[n] / (1 - self.beta1**update), self.v[n] / (1 - self.beta2**update)
            found[n] = params[n] - self.rate * m / (np.sqrt(v) + self.epsilon)
        return found


def train(params, batches, optimizer, *, max_norm=np.inf, carry_until=None):
    """Yield (loss, norm of the gradient, factor of the clipping, parameters after it) of each update.

    `batches`: the episodes. `carry_until`: the updates of an epoch, within which the state is carried on.
    """
    size, states = len(params["U"]), None
    for i, episode in enumerate(batches):
        if carry_until is None or i % carry_until == 0:
            states = [np.zeros(size)] * episode.inputs.shape[1]
        loss, gradient, states = batch_of(params, episode, states)
        norm = np.sqrt(sum((g**2).sum() for g in gradient.values()))
        factor = max_norm / norm if norm > max_norm else 1.0
        params = optimizer(params, {n: factor * g for n, g in gradient.items()}, i + 1)
        yield loss, norm, factor, params
