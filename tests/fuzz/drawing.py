"""Experiments and command lines that were right, and one or a few things in them that are not.

A `Raw` is a piece of TOML that no Python value stands for, such as an integer of 4,301 digits.
"""

from __future__ import annotations

import copy
import json
import math
from datetime import date, time

from hypothesis import strategies as st

from gradsim.contracts import registry


class Raw(str):
    """Text that goes into a file or behind --set as it is."""


ODD = (
    *(-1, 0, 1, 7, 300_000, 2**31, 2**63, 2**64, -(2**63) - 1, 10**30),
    *(0.0, -0.0, 0.5, 1.0, 3.7, 1e308, 5e-324, math.nan, math.inf, -math.inf),
    *(True, False, date(2024, 2, 29), time(7, 32)),
    *("", " ", "a\nb", "\x1b[31m", "ünï☃\u202e", "lstm", "nan", "3", "float16", "x" * 10_000),
    *(".", "..", "/", "~", "/proc/self/mem", "no/such/file", "a/../../b", "-", "--", "{}", "%s", "$HOME"),
    *([], [[]], [1], [1, "a", None], ["loss"], [-1], [0.5], [[1, 2], [3]], [{}], [True]),
    *({}, {"name": "lstm"}, {"name": 3}, {"name": ""}, {"": 1}, {"every": 0}, {"name": {"name": "gru"}}),
    *(Raw("9" * 4301), Raw("-" + "9" * 4301), Raw("0x" + "f" * 4301), Raw("1e" + "9" * 400)),
    *(
        Raw("[" * 500 + "]" * 500),
        Raw("[" * 5000),
        Raw("[" * 500),
        Raw("{a=" * 500 + "1" + "}" * 500),
        Raw('"\\u0000"'),
    ),
    *(Raw("1979-05-27T07:32:00Z"), Raw("'''"), Raw("= ="), Raw("\ud800"), Raw("1_000"), Raw("+nan")),
)
"""What is put where something else belongs. None is left out of lists as they are written."""

ODD_KEYS = ("", " ", "name", "cell", "hidden_size", "a.b", "\0", "ünï", "x" * 5_000, "0", "-1", "__class__")


# Experiments.


def simulation():
    """The tables of a small experiment, with the cell, the task and the mitigations drawn."""
    return st.builds(_simulation, _cell(), _task(), st.lists(_named("mitigations"), max_size=2), _records())


def training():
    """The same of a training."""
    return st.builds(
        lambda tables, optimizer, schedule: {
            **{key: value for key, value in tables.items() if key not in ("record", "pairs", "compare")},
            "updates": 2,
            "optimizer": {**optimizer, "schedule": schedule},
            "record": {"every": 1, "recorders": ["product_norm"], "pairs": {"max_lag": 3}},
            "validate": {"every": 1, "sequences": 3},
            "stop": {"patience": 2, "loss_below": 0.001},
        },
        simulation(),
        _named("optimizers"),
        _named("schedules"),
    )


def _simulation(cell, task, mitigations, record):
    return {
        "name": "small",
        "seed": 0,
        "dtype": "float32",
        "batch": 2,
        "record": record,
        "task": task,
        "cell": cell,
        "mitigations": mitigations,
        "pairs": {"max_lag": 5},
        "compare": [{"label": "other", "cell": {"name": "elman", "hidden_size": 2}}],
    }


def _cell():
    small = {"hidden_size": 2}
    return st.sampled_from(("elman", "gru", "lstm", "min_gru", "lru", "linear")).map(
        lambda name: {"name": name, **small}
    )


def _task():
    return st.sampled_from(
        (
            {"name": "adding", "length": 20},
            {"name": "copy_memory", "delay": 3},
            {"name": "parity", "length": 8},
            {"name": "sunspots", "length": 10, "split": [0.7, 0.15, 0.15]},
        )
    )


_NEEDED = {"learning_rate": 0.01, "max_norm": 2.0, "window": 5, "every": 5, "limit": 1.0, "steps": 5}


_PARTICULAR = {
    *("h_detach", "kf_rtrl", "scheduled_sampling", "soft_cap", "teacher_forcing"),
    *("chrono_init", "critical_init", "forget_bias_init", "identity_init", "orthogonal_init"),
}
"""What does not go with every cell and task."""


def _named(family):
    """A plugin of the family with what it needs."""
    classes = registry.catalogue().plugins[family]
    fitting = sorted(classes.keys() - _PARTICULAR)
    return st.sampled_from(fitting).map(lambda name: {"name": name, **_filled(classes[name])})


def _filled(cls):
    known = getattr(cls, "__dataclass_fields__", {})
    return {key: value for key, value in _NEEDED.items() if key in known}


def _records():
    return st.lists(st.sampled_from(("product_norm", "loss", "adjoint", "state")), min_size=1, max_size=2)


# Mutations.


def places(tree, path=()):
    """The paths of everything in tables and lists."""
    found = [path] if path else []
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        found += places(value, (*path, key))
    return found


def at(tree, path):
    for key in path:
        tree = tree[key]
    return tree


@st.composite
def mutated(draw, trees, most=2):
    """(tree, names): a tree with a few changes, and words one of which an error should hold."""
    tree = copy.deepcopy(draw(trees))
    names = set()
    for _ in range(draw(st.integers(1, most))):
        if not (paths := places(tree)):
            break
        path = draw(st.sampled_from(paths))
        change = draw(st.sampled_from(CHANGES))
        names |= {*map(str, path), *map(str, change(draw, tree, path))}
    return tree, names


def _dropped(draw, tree, path):
    del at(tree, path[:-1])[path[-1]]
    return ()


def _replaced(draw, tree, path):
    at(tree, path[:-1])[path[-1]] = copy.deepcopy(draw(st.sampled_from(ODD)))
    return ()


def _renamed(draw, tree, path):
    place, key = at(tree, path[:-1]), path[-1]
    if isinstance(place, list):
        return _dropped(draw, tree, path)
    new = draw(st.one_of(typos(key), st.sampled_from(ODD_KEYS)))
    place[new] = place.pop(key)
    return (new,)


def _added(draw, tree, path):
    place = at(tree, path[:-1])
    value = copy.deepcopy(draw(st.sampled_from(ODD)))
    if isinstance(place, list):
        place.append(value)
        return ()
    key = draw(st.sampled_from((*KEYS, *ODD_KEYS)))
    place[key] = value
    return (key,)


def _doubled(draw, tree, path):
    place = at(tree, path[:-1])
    value = copy.deepcopy(at(tree, path))
    if isinstance(place, list):
        place.append(value)
        return ()
    key = draw(st.sampled_from(KEYS))
    place[key] = value
    return (key,)


def _wrapped(draw, tree, path):
    place, value = at(tree, path[:-1]), at(tree, path)
    place[path[-1]] = draw(st.sampled_from(([value], {"value": value}, {"name": value}, [value, value])))
    return ()


def _moved(draw, tree, path):
    other = draw(st.sampled_from(places(tree)))
    value = copy.deepcopy(at(tree, other))
    at(tree, path[:-1])[path[-1]] = value
    return map(str, other)


CHANGES = (_dropped, _replaced, _replaced, _replaced, _renamed, _added, _doubled, _wrapped, _moved)
KEYS = (
    *("name", "label", "seed", "dtype", "batch", "record", "task", "cell", "mitigations", "pairs", "compare"),
    *("updates", "epochs", "optimizer", "validate", "stop", "stateful", "watch", "schedule", "length"),
    *("hidden_size", "input_size", "recurrent_scale", "activation", "times", "sources", "max_lag", "lags"),
    "every",
    *("recorders", "patience", "score_above", "sequences", "threads", "memory", "params", "inputs", "path"),
)


def typos(text):
    """A name with a slip in it."""
    at = st.integers(0, max(0, len(text) - 1))
    slips = (
        lambda i: text[:i] + text[i + 1 :],
        lambda i: text[:i] + text[i : i + 1] + text[i:],
        lambda i: text[:i] + text[i : i + 1].swapcase() + text[i + 1 :],
        lambda i: text[:i] + "\u00e9" + text[i + 1 :],
        lambda i: text[:i] + text[i + 1 : i + 2] + text[i : i + 1] + text[i + 2 :],
    )
    return st.tuples(st.sampled_from(slips), at).map(lambda both: both[0](both[1]))


# TOML.


def toml(tables):
    """The file that stands for tables."""
    return "".join(f"{json.dumps(key)} = {inline(value)}\n" for key, value in tables.items())


def inline(value):
    match value:
        case Raw():
            return str(value)
        case bool():
            return str(value).lower()
        case dict():
            return "{" + ", ".join(f"{json.dumps(k)} = {inline(v)}" for k, v in value.items()) + "}"
        case list():
            return "[" + ", ".join(inline(item) for item in value if item is not None) + "]"
        case str():
            return json.dumps(value, ensure_ascii=not value.isprintable())
        case date() | time():
            return value.isoformat()
    return str(value)


def torn(texts):
    """A file as bytes, with something wrong in its text."""
    return torn_bytes(texts.map(lambda text: text.encode("utf-8", "surrogatepass")))


@st.composite
def torn_bytes(draw, files):
    text = draw(files)
    i, j = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
    wrong = st.sampled_from(
        (b"", b"\0", b"\xff\xfe", b"\r", b"\n[", b'"', b"'''", b"#", b"=", b"[[", b"\x7f")
    )
    return draw(
        st.sampled_from(
            (
                text[:i] + text[j:],
                text[:i] + draw(wrong) + text[i:],
                text[:j] + text[i:],
                text[:i],
                b"\xef\xbb\xbf" + text,
                text.replace(b"\n", b"\r\n"),
                text.decode("utf-8", "replace").encode("utf-16"),
            )
        )
    )


def jsonable(tree):
    """A tree as JSON has it, where there is a value for all that is in it."""
    match tree:
        case dict():
            return {str(key): jsonable(value) for key, value in tree.items()}
        case list():
            return [jsonable(value) for value in tree]
        case Raw() | date() | time():
            return str(tree)
    return tree
