"""The methods that BBS is compared with, and packages that run in a Python of their own."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from bench.compression.baselines import clipped_reach, gptq, ptq, ptq_clipped, round_to, with_real_weights
from bench.compression.comparison import Cell, Comparison, Result
from bench.compression.peers.call import Caller, Package, Peer, Rounded, packages
from flow.errors import FlowError
from tests.helpers.nets import float_net, samples


def test_gptq_compensates_what_rounding_loses() -> None:
    """On inputs that are correlated its outputs are nearer than those of rounding to nearest, on the same grid."""
    rng = np.random.default_rng(0)
    rows, inputs = rng.normal(size=(6, 24)), rng.normal(size=(500, 24)) @ rng.normal(size=(24, 24))
    second = (inputs.T @ inputs / len(inputs)).astype(np.float32)
    found, bits = gptq(rows, 3.5, second)
    assert bits == ptq_clipped(rows, 3.5)[1] == 3
    assert np.allclose(round_to(found, 3, clipped_reach(rows, 3)), found)
    errors = [(((made - rows) @ inputs.T) ** 2).sum() for made in (found, ptq_clipped(rows, 3)[0], ptq(rows, 3)[0])]
    assert errors[0] < 0.7 * errors[1] and errors[1] < errors[2]
    alone, _ = gptq(rows, 3, np.eye(24, dtype=np.float32))
    assert np.allclose(alone, ptq_clipped(rows, 3)[0])


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("compared")
    onnx.save(float_net(), folder / "net.onnx")
    for name, count in (("calibration", 24), ("test", 40)):
        labels = np.arange(count) % 5
        np.savez(folder / f"{name}.npz", y=labels, **samples(float_net(), count, seed=count))  # type: ignore[arg-type]
    return Comparison(folder / "net.onnx", folder / "calibration.npz", folder / "test.npz", None)


def test_a_package_takes_part(compared: Comparison, tmp_path: Path) -> None:
    """ONNX Runtime's own quantization, in another process; what it made is kept, so that it works only once."""
    assert compared.prepared is not None
    caller = Caller(compared.prepared, compared.calibrated.feeds, packages("ort"), tmp_path)
    compared.run([8], lambda: None, caller)
    (cell,) = compared.cells
    methods = {result.method: result for result in compared.results}
    peers = [methods["ort minmax"], methods["ort percentile"]]
    assert cell.best is min(peers, key=lambda result: result.kl) and cell.ours is methods["bbs budgeted"]
    assert all(0 < result.kl < 0.01 and result.seconds > 0 for result in peers)
    idle = {"ort": Package("/nowhere", caller.packages["ort"].version)}
    again = Caller(caller.model, caller.feeds, idle, tmp_path).all(8)
    assert [rounded.seconds for rounded in again] == [result.seconds for result in peers]
    with pytest.raises(FlowError, match="cannot be started: No such file"):
        Caller(caller.model, {"x": caller.feeds["x"][:8]}, idle, tmp_path).all(8)


def test_activations_of_a_peer_get_8_bits(compared: Comparison) -> None:
    """A peer that gives the float network back has float weights and our activations, with all its biases."""
    assert compared.prepared is not None
    got = compared._beside(Rounded(Peer("aimet", "nothing"), 32, compared.prepared, 0.0))
    same = compared.judge("float weights", 32, with_real_weights(compared.network, compared.calibration_data.targets))
    assert np.array_equal(got.divergences, same.divergences) and got.kl > 0
    assert got.kl == pytest.approx(got.divergences.mean())


def test_the_ratio_has_the_error_of_pairs() -> None:
    """As the bootstrap says, with divergences of the same samples that are alike."""
    rng = np.random.default_rng(0)
    shared = rng.exponential(size=500)
    ours, best = (
        Result("", 4, 0, 0, 0, float(each.mean()), each, 0)
        for each in (0.5 * shared + 0.1 * rng.exponential(size=500), shared)
    )
    cell = Cell(4, ours, best)
    drawn = rng.integers(500, size=(2000, 500))
    ratios = ours.divergences[drawn].mean(axis=1) / best.divergences[drawn].mean(axis=1)
    assert cell.ratio == pytest.approx(ratios.mean(), abs=0.01)
    assert cell.error == pytest.approx(ratios.std(), rel=0.1)


def test_a_package_that_is_missing_is_named(tmp_path: Path) -> None:
    """In one line, before any work: an unknown package, no such Python, a Python without the package."""
    with pytest.raises(FlowError, match="--peers takes aimet, brevitas, nncf, ort, but it has 'gptq'"):
        packages("gptq")
    with pytest.raises(FlowError, match="'aimet' of --peers .* '/nowhere/python' .* cannot be started: No such file"):
        packages("aimet=/nowhere/python")
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(FlowError, match="'nncf' of --peers .*No module named 'nncf'; docs/figures.md"):
        packages(f"nncf={bare}")
