"""Weights that try to run code, are not what their digest says, or are written elsewhere."""

from __future__ import annotations

import hashlib
import http.server
import os
import pickle
import threading
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from msnet_d2.checkpoint.checkpointer import MSNetCheckpointer
from msnet_d2.errors import WeightsError


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 3), fc=nn.Linear(4, 2)))


def state_of(model, value=0.5):
    return {k: np.full(tuple(v.shape), value, np.float32) for k, v in model.state_dict().items()}


class Reduces:
    def __init__(self, function, *arguments):
        self.how = function, arguments

    def __reduce__(self):
        return self.how


def evil_pickles(proof: str) -> dict[str, bytes]:
    command = f"touch {proof}"
    call = f"cposix\nsystem\n(S'{command}'\ntR.".encode()
    files = {
        f"reduce, protocol {n}": pickle.dumps({"model": Reduces(os.system, command)}, protocol=n)
        for n in range(6)
    }
    files |= {
        "global and reduce": call,
        "inst": f"(S'{command}'\niposix\nsystem\n.".encode(),
        "obj": f"(cposix\nsystem\nS'{command}'\no.".encode(),
        "builtins eval": (
            f'c__builtin__\neval\n(S\'__import__("os").system("{command}")\'\ntR.'.encode()
        ),
        "getattr": b"cbuiltins\ngetattr\n(cposix\nsystem\nS'__call__'\ntR.",
        # Python hides nothing behind attributes of what is allowed.
        "attribute of an allowed name": b""
        b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93\x8c\x01a\x85R.",
        "numpy's own loader": f"cnumpy\nload\n(S'{proof}'\ntR.".encode(),
        "numpy's test runner": (
            f"cnumpy.testing._private.utils\nrunstring\n(S'{command}'\n}}tR.".encode()
        ),
        "torch.load": f"ctorch\nload\n(S'{proof}'\ntR.".encode(),
        "persistent id": b"Ptouch\n.",
        "extension registry": b"\x80\x02\x82\x01.",
        "state for a function": b"cnumpy.core.multiarray\n_reconstruct\n(N}S'__defaults__'\nNstb.",
        "array of objects": pickle.dumps({"a": np.array([Reduces(os.system, command)], object)}),
        "array of objects, innocent": pickle.dumps({"a": np.array([1, "x"], object)}),
        "hidden after the end of a tuple": pickle.dumps((1, [Reduces(os.system, command)])),
    }
    return files


@pytest.mark.parametrize("name", list(evil_pickles("")))
def test_no_pickle_runs_code(model, tmp_path, name):
    proof = tmp_path / "proof"
    path = tmp_path / "weights.pkl"
    path.write_bytes(evil_pickles(str(proof))[name])

    with pytest.raises(WeightsError, match=r"weights\.pkl cannot be read") as caught:
        MSNetCheckpointer(model).load(str(path))

    assert not proof.exists()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".pth", ".pyth", ".pt", ".bin"])
@pytest.mark.parametrize("layout", ["zip", "legacy", "bare pickle"])
def test_no_torch_file_runs_code(model, tmp_path, monkeypatch, suffix, layout):
    # With this variable set, torch.load runs what it is given unless it is told otherwise.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    proof, path = tmp_path / "proof", tmp_path / f"weights{suffix}"
    content = {"model": Reduces(os.system, f"touch {proof}"), "model_state": {}}
    if layout == "bare pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=layout == "zip")

    with pytest.raises(WeightsError, match=r"cannot be read"):
        MSNetCheckpointer(model).load(str(path))

    assert not proof.exists()


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("layout", ["detectron2", "caffe2", "blobs"])
def test_pickled_arrays_load(model, tmp_path, protocol, layout):
    path = tmp_path / "model_final_f10217.pkl"
    arrays = OrderedDict(state_of(model))
    arrays["fc.bias"] = np.asfortranarray(arrays["fc.bias"])
    arrays["fc.weight"] = np.asfortranarray(arrays["fc.weight"])  # another order in the file
    content = {
        "detectron2": {"model": arrays, "__author__": "somebody", "step": np.int64(3)},
        "caffe2": {**arrays, "fc.bias_momentum": arrays["fc.bias"]},
        "blobs": {"blobs": {**arrays}, "cfg": "x: 1"},
    }[layout]
    path.write_bytes(pickle.dumps(content, protocol=protocol))

    checkpointer = MSNetCheckpointer(model)
    if layout != "detectron2":
        # Caffe2's names are matched by heuristics that our layers' names do not fit.
        data = checkpointer._load_file(str(path))
        assert data["__author__"] == "Caffe2"
        assert data["matching_heuristics"] is True
        assert set(data["model"]) == set(arrays)
        np.testing.assert_array_equal(data["model"]["fc.weight"], arrays["fc.weight"])
        return
    rest = checkpointer.load(str(path))

    assert rest["step"] == 3
    assert all((tensor == 0.5).all() for tensor in model.state_dict().values())


def test_values_come_out_of_pickles_as_they_were(tmp_path):
    from msnet_d2.utils.safe_pickle import load_pickle

    content = {
        "f": np.arange(6, dtype=np.float32).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
        "big": np.arange(3, dtype=">f8"),
        "bool": np.array([True, False]),
        "empty": np.zeros((0, 4), np.float32),
        "zero-d": np.array(2.5),
        "strided": np.arange(10)[::3],
        "scalar": np.float64(1.5),
        "text": np.array(["ab", "c"]),
        "list": [1, 2.5, "x", b"y", None, True, (1, 2), {3}, frozenset({4})],
        "bytes": bytearray(b"abc"),
        "complex": 1 + 2j,
        "long": 1 << 100,
    }
    for protocol in range(6):
        path = tmp_path / "a.pkl"
        path.write_bytes(pickle.dumps(content, protocol=protocol))
        loaded = load_pickle(path)
        assert list(loaded) == list(content)
        for key, value in content.items():
            if isinstance(value, np.ndarray):
                assert type(loaded[key]) is np.ndarray
                assert loaded[key].dtype == value.dtype
                np.testing.assert_array_equal(loaded[key], value)
            else:
                assert loaded[key] == value, key


def test_pickles_of_python_2_load(tmp_path):
    from msnet_d2.utils.safe_pickle import load_pickle

    # {'w': array([1., 2.], dtype=float32)} as Python 2's protocol 2 writes it, bytes as str.
    raw = np.array([1.0, 2.0], "<f4").tobytes()
    data = (
        b"\x80\x02}q\x00U\x01wq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03"
        b"K\x00\x85q\x04U\x01bq\x05\x87q\x06Rq\x07(K\x01K\x02\x85q\x08cnumpy\ndtype\nq\x09U\x02f4q\x0a"
        b"K\x00K\x01\x87q\x0bRq\x0c(K\x03U\x01<q\x0dNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0eb"
        b"\x89U\x08" + raw + b"q\x0ftq\x10bs."
    )
    path = tmp_path / "a.pkl"
    path.write_bytes(data)

    np.testing.assert_array_equal(load_pickle(path)["w"], np.array([1.0, 2.0], np.float32))


@pytest.mark.parametrize(
    "data",
    [
        # An array of 10**12 items with 4 bytes behind it; so much memory must not be asked for.
        pytest.param(
            b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
            b"(K\x01\x8a\x06\x00\x10\xa5\xd4\xe8\x00\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R\x89"
            b"U\x04abcdtb.",
            id="array larger than its data",
        ),
        pytest.param(
            b"\x80\x02cnumpy\nndarray\n\x8a\x06\x00\x10\xa5\xd4\xe8\x00\x85R.", id="ndarray()"
        ),
        pytest.param(b"c__builtin__\nbytearray\n(L100000000000L\ntR.", id="bytearray of 100 GB"),
        pytest.param(b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\x00\x00.", id="bytes of 2**48"),
        pytest.param(b"\x80\x02Nr\xff\xff\xff\x7f", id="memo number 2**31"),
        pytest.param(b"(" * 100_000 + b".", id="100,000 marks"),
        pytest.param(b"](" + b"]" * 50_000 + b"a" * 49_999 + b"t.", id="deep"),
        pytest.param(b"", id="empty"),
        pytest.param(b"\x80\x05", id="cut off"),
        pytest.param(b"I1\n" * 10, id="no stop"),
    ],
)
def test_malformed_pickles_are_an_error_in_bounded_memory(tmp_path, data):
    import resource

    from msnet_d2.utils.safe_pickle import load_pickle

    path = tmp_path / "a.pkl"
    path.write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with pytest.raises(ValueError, match="."):
        load_pickle(path)

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def test_safetensors_are_read(model, tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "weights.safetensors"
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    more = {"again": state["fc.weight"].clone(), "turned": state["fc.weight"].T.contiguous()}
    save_file({**state, **more}, path, {"trained by": "a test"})
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.zero_()

    checkpointer = MSNetCheckpointer(model)
    checkpointer.load(str(path))

    assert {d.name for d in checkpointer.report.suspicious} == {"again", "turned"}
    assert torch.equal(model.fc.weight, state["fc.weight"])
    assert (model.fc.weight != 0).all()


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"\x08\0\0\0\0\0\0\0{}      ", b"[" * 64])
def test_broken_safetensors_are_an_error(model, tmp_path, content):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"weights\.safetensors"):
        MSNetCheckpointer(model).load(str(path))


def saved(model, path):
    torch.save({"model": model.state_dict()}, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_digest_in_the_path_is_checked(model, tmp_path):
    path = tmp_path / "weights.pth"
    digest = saved(model, path)

    checkpointer = MSNetCheckpointer(model)
    checkpointer.load(f"{path}#sha256={digest}")
    assert checkpointer.sha256 == digest

    with pytest.raises(WeightsError, match=f"SHA-256 is {digest}, not {'0' * 64}"):
        MSNetCheckpointer(model).load(f"{path}#sha256={'0' * 64}")
    with pytest.raises(WeightsError, match="64 hexadecimal digits"):
        MSNetCheckpointer(model).load(f"{path}#sha256=abc")


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A web server of one folder, and an empty cache."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def translate_path(self, path):  # whatever is asked for
            return str(folder / path.rpartition("/")[2].partition("?")[0])

        def log_message(self, *arguments):
            pass

    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "deep" / "in" / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield folder, f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def files_below(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    "tail",
    ["/../../w.pth", "/a/../../../w.pth", "/..\\..\\w.pth", "/a/..", "/a?b=/..", "//../../w.pth"],
)
def test_no_url_writes_outside_of_the_cache(model, server, tmp_path, tail):
    folder, url = server
    saved(model, folder / "w.pth")
    before = files_below(tmp_path)

    with pytest.raises(WeightsError, match=r"leaves the cache|query that is not known"):
        MSNetCheckpointer(model).load(url + tail)

    assert files_below(tmp_path) == before


@pytest.mark.parametrize("url", ["s3://bucket/w.pth", "file:///etc/passwd", "gopher://x/w.pth"])
def test_unknown_kinds_of_url_are_refused(model, url):
    with pytest.raises(WeightsError, match="https"):
        MSNetCheckpointer(model).load(url)


def test_weights_from_a_url_keep_their_digest(model, server, tmp_path):
    folder, url = server
    digest = saved(model, folder / "w.pth")

    with pytest.raises(WeightsError, match="SHA-256"):
        MSNetCheckpointer(model).load(f"{url}/a/w.pth#sha256={'1' * 64}")
    # What was wrong must not stay in the cache to be taken the next time.
    MSNetCheckpointer(model).load(f"{url}/a/w.pth#sha256={digest}")
    MSNetCheckpointer(model).load(f"{url}/a/w.pth")

    cached = tmp_path / "deep/in/cache/a/w.pth"
    with torch.no_grad():
        model.fc.weight.add_(1)
    saved(model, cached)
    with pytest.raises(WeightsError, match="differs from what was first fetched"):
        MSNetCheckpointer(model).load(f"{url}/a/w.pth")


def test_a_password_in_a_url_is_not_told(model, server, caplog):
    import logging

    folder, url = server
    saved(model, folder / "w.pth")
    secret = url.replace("://", "://user:hunter2@") + "/a/w.pth?token=opensesame"

    with caplog.at_level(logging.DEBUG), pytest.raises(WeightsError) as caught:
        MSNetCheckpointer(model).load(secret)  # fvcore knows no such query

    for word in ("hunter2", "opensesame"):
        assert word not in str(caught.value)
        assert word not in caplog.text
