"""Files of weights: what other libraries write is read, and what is broken is refused before it is read."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
import torch

from gradsim import from_torch, load_weights
from gradsim.errors import InputError
from gradsim.loading.files import read_arrays

ARRAYS = {"a": np.arange(6.0).reshape(2, 3), "b": np.float32([1.5]), "c": np.int64([[2]])}


def safetensors(entries, data, length=None):
    """The bytes of a file: a length, a header and data."""
    header = json.dumps(entries).encode()
    return (len(header) if length is None else length).to_bytes(8, "little") + header + data


def written(path, arrays):
    kinds = {"float64": "F64", "float32": "F32", "int64": "I64"}
    entries, data = {"__metadata__": {"format": "np"}}, b""
    for name, x in arrays.items():
        places = [len(data), len(data) + x.nbytes]
        entries[name] = {"dtype": kinds[x.dtype.name], "shape": list(x.shape), "data_offsets": places}
        data += x.tobytes()
    path.write_bytes(safetensors(entries, data))
    return path


def test_safetensors_are_read(tmp_path):
    found = read_arrays(written(tmp_path / "m.safetensors", ARRAYS))
    assert found.keys() == ARRAYS.keys()
    for name, x in ARRAYS.items():
        np.testing.assert_array_equal(found[name], x)
        assert found[name].dtype == x.dtype


def test_half_precision_is_read(tmp_path):
    values = np.float32([1.0, -2.5, 3.140625])
    upper = (values.view(np.uint32) >> 16).astype(np.uint16)
    data = upper.tobytes() + values.astype(np.float16).tobytes()
    entries = {
        "brain": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]},
        "half": {"dtype": "F16", "shape": [3], "data_offsets": [6, 12]},
    }
    (tmp_path / "m.safetensors").write_bytes(safetensors(entries, data))
    found = read_arrays(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(found["brain"], values)
    np.testing.assert_array_equal(found["half"], values.astype(np.float16))


def entry(dtype="F64", shape=(2,), places=(0, 16)):
    return {"a": {"dtype": dtype, "shape": list(shape), "data_offsets": list(places)}}


BROKEN = {
    "empty": (b"", "its header of 0 bytes does not fit into 0"),
    "a length beyond the file": (safetensors({}, b"", 2**60), "does not fit into"),
    "a header that is no JSON": ((3).to_bytes(8, "little") + b"{a}", "its header cannot be read"),
    "more than there is": (
        safetensors(entry(shape=(10**12,), places=(0, 8 * 10**12)), b""),
        "does not fit bytes",
    ),
    "a shape of another size": (
        safetensors(entry(shape=(3,)), bytes(16)),
        r"shape \(3,\) of F64 does not fit",
    ),
    "a negative place": (safetensors(entry(places=(-16, 0)), bytes(16)), "not made of whole numbers"),
    "an unknown dtype": (safetensors(entry("F63"), bytes(16)), "unknown dtype 'F63'; did you mean 'F64'"),
    "no place": (safetensors({"a": {"dtype": "F64"}}, b""), "its header cannot be read: 'data_offsets'"),
    "a header in a header in a header": (
        (200_000).to_bytes(8, "little") + b"[" * 200_000,
        "its header cannot be read",
    ),
    "a shape that no array has": (safetensors(entry(shape=(0, 2**70), places=(0, 0)), b""), "cannot be read"),
    "too many dimensions": (safetensors(entry(shape=(1,) * 100, places=(0, 8)), bytes(8)), "cannot be read"),
    "true for a number": (safetensors(entry(shape=(True, 2)), bytes(16)), "not made of whole numbers"),
    "bytes of two arrays": (
        safetensors(entry() | {"b": entry(places=(8, 24))["a"]}, bytes(24)),
        "the bytes from 8 to 16 belong to two arrays",
    ),
    "bytes of no array": (safetensors(entry(places=(8, 24)), bytes(24)), "from 0 to 8 belong to no array"),
    "bytes after all arrays": (safetensors(entry(), bytes(24)), "from 16 to 24 belong to no array"),
    "a name twice": (
        (13).to_bytes(8, "little") + b'{"a":1,"a":2}',
        "two arrays are called 'a'",
    ),
    "a header in UTF-16": ((6).to_bytes(8, "little") + "{}".encode("utf-16"), "its header cannot be read"),
    "a list for a header": (safetensors([1], b""), "its header cannot be read"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_safetensors_are_refused(tmp_path, kind):
    data, message = BROKEN[kind]
    file = tmp_path / "m.safetensors"
    file.write_bytes(data)
    with pytest.raises(InputError, match=message):
        read_arrays(file)


@pytest.mark.parametrize("ending", ["safetensors", "npz", "pt"])
def test_a_model_from_a_file_is_that_from_the_module(tmp_path, ending):
    torch.manual_seed(3)
    module, file = torch.nn.GRU(2, 3), tmp_path / f"m.{ending}"
    arrays = {n: x.detach().numpy() for n, x in module.state_dict().items()}
    if ending == "pt":
        torch.save(module.state_dict(), file)
    elif ending == "npz":
        np.savez(file, **arrays)
    else:
        written(file, arrays)
    loaded, direct = load_weights(file, "torch"), from_torch(module)
    assert repr(loaded.cell) == repr(direct.cell)
    for name, value in direct.params.items():
        np.testing.assert_array_equal(loaded.params[name], value)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("m.pt", None, "there is no file .*m.pt"),
        ("m.npz", b"no zip", "m.npz is no file of weights"),
        ("m.pt", b"no pickle", "m.pt is no file of weights: PyTorch cannot read it"),
        ("m.onnx", b"", "unknown kind of file '.onnx'. Known: .npz, .pt, .pth, .safetensors"),
        ("m.npz", None, "there is no file .*m.npz"),
    ],
)
def test_files_that_are_none_are_named(tmp_path, name, data, message):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message):
        read_arrays(tmp_path / name)


def test_damaged_archives_are_refused(tmp_path):
    file, rng = tmp_path / "m.npz", np.random.default_rng(0)
    np.savez_compressed(file, x=np.arange(30.0))
    data, refused = file.read_bytes(), 0
    for _ in range(200):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] = rng.integers(256)
        file.write_bytes(damaged)
        try:
            read_arrays(file)
        except InputError:
            refused += 1
    assert refused > 50


def test_archives_of_something_else_are_refused(tmp_path):
    file = tmp_path / "m.npz"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("notes.txt", b"no array")
    with pytest.raises(InputError, match=r"notes\.txt should be an array"):
        read_arrays(file)
    with file.open("wb") as one:
        np.save(one, np.zeros(3))
    with pytest.raises(InputError, match="is no file of weights"):
        read_arrays(file)


class Executed:
    """What a pickle of unknown origin may hold."""

    def __reduce__(self):
        return print, ("executed",)


def test_nothing_in_a_file_is_executed(tmp_path, capsys):
    torch.save({"weight": Executed()}, tmp_path / "m.pt")
    np.savez(tmp_path / "m.npz", weight=np.array([Executed()], dtype=object))
    for name in ("m.pt", "m.npz"):
        with pytest.raises(InputError, match="is no file of weights"):
            read_arrays(tmp_path / name)
    assert capsys.readouterr().out == ""


def test_an_archive_that_would_fill_the_memory_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "m.npz", x=np.zeros(20_000_000))
    with pytest.raises(InputError, match=r"m\.npz is no file of weights: 1.. kB would unpack to 160 MB"):
        read_arrays(tmp_path / "m.npz")
    torch.save({"x": torch.ones(1).expand(100_000, 1000)}, tmp_path / "m.pt")
    with pytest.raises(InputError, match=r"m\.pt is no file of weights: .* kB would unpack to 400 MB"):
        read_arrays(tmp_path / "m.pt")


def npy(shape, data):
    """The bytes of an array, of a shape and data that need not fit."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("(2,)", None),
        ("(2**50,)", "is no file of weights"),
        ("(1125899906842624,)", "buffer is too small"),
        ("(1,)", "shape \\(1,\\) of float64 does not fit the 16 bytes of x.npy"),
        ("(-2, -1)", "negative dimensions"),
    ],
)
def test_nothing_is_allocated_because_a_header_says_so(tmp_path, shape, message):
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        archive.writestr("x.npy", npy(shape, bytes(16)))
    if message is None:
        np.testing.assert_array_equal(read_arrays(tmp_path / "m.npz")["x"], np.zeros(2))
    else:
        with pytest.raises(InputError, match=message):
            read_arrays(tmp_path / "m.npz")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_arrays_of_one_name_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        for value in (1.0, 2.0):
            archive.writestr("x.npy", npy((1,), np.float64(value).tobytes()))
    with pytest.raises(InputError, match="two arrays are called 'x'"):
        read_arrays(tmp_path / "m.npz")


def test_a_checkpoint_is_read_by_the_names_of_its_parts(tmp_path):
    torch.manual_seed(3)
    module, file = torch.nn.GRU(2, 3), tmp_path / "m.pt"
    torch.save({"epoch": 7, "model": {"rnn": module.state_dict()}}, file)
    found = load_weights(file, "torch", prefix="model.rnn.").params
    for name, value in from_torch(module).params.items():
        np.testing.assert_array_equal(found[name], value)


def test_a_whole_module_in_a_file_is_told_what_to_save(tmp_path):
    torch.save(torch.nn.GRU(2, 3), tmp_path / "m.pt")
    with pytest.raises(
        InputError, match=r"which executes nothing; save the state_dict\(\) of a module \("
    ) as e:
        read_arrays(tmp_path / "m.pt")
    assert "trust" not in str(e.value)
