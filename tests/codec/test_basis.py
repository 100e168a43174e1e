"""Bottleneck dims: every prefix decodes, and the more dims the better."""

import itertools

import numpy as np
import pytest

from splitpoint.codec.basis import Basis
from splitpoint.codec.errors import PayloadError
from splitpoint.errors import DataError

DIM = 12


def rotation(seed: int = 0) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(DIM, DIM)))[0].astype(np.float32)


def test_all_dims_of_an_orthogonal_map_reconstruct_the_tokens():
    random = np.random.default_rng(1)
    turn, mean = rotation(), random.normal(size=DIM).astype(np.float32)
    x = random.normal(size=(7, DIM)).astype(np.float32)
    basis = Basis(mean, turn, turn.T)
    np.testing.assert_allclose(basis.reconstruct(basis.project(x, DIM)), x, atol=1e-5)


def test_more_dims_never_reconstruct_worse():
    x = np.random.default_rng(2).normal(size=(9, DIM)).astype(np.float32)
    turn = rotation()
    basis = Basis(x.mean(axis=0), turn, turn.T)
    errors = [
        float(((basis.reconstruct(basis.project(x, dims)) - x) ** 2).sum()) for dims in range(1, DIM + 1)
    ]
    assert all(after <= before + 1e-4 for before, after in itertools.pairwise(errors))


def test_fewer_dims_are_a_prefix_of_more():
    x = np.random.default_rng(3).normal(size=(5, DIM)).astype(np.float32)
    basis = Basis(np.zeros(DIM), rotation(), rotation().T)
    np.testing.assert_allclose(basis.project(x, 4), basis.project(x, DIM)[:, :4], atol=1e-6)


def test_the_identity_sends_the_first_dims_and_zeros_the_others():
    x = np.arange(2 * DIM, dtype=np.float32).reshape(2, DIM)
    basis = Basis.identity(DIM)
    back = basis.reconstruct(basis.project(x, 5))
    assert (back[:, :5] == x[:, :5]).all()
    assert (back[:, 5:] == 0).all()
    assert (basis.reconstruct(basis.project(x, DIM)) == x).all()


@pytest.mark.parametrize("dims", [0, -1, DIM + 1])
def test_dims_out_of_range_are_refused(dims):
    with pytest.raises(PayloadError, match=r"tokens\.dims") as caught:
        Basis.identity(DIM).project(np.zeros((2, DIM), np.float32), dims)
    assert caught.value.field == "tokens.dims"


def test_arrays_are_found_by_cut_and_half_a_map_is_an_error():
    arrays = {"codec.3.mean": np.zeros(DIM), "codec.3.down": rotation(), "codec.3.up": rotation().T}
    found = Basis.from_arrays(arrays, 3)
    assert found is not None
    assert found.dim == DIM
    assert Basis.from_arrays(arrays, 2) is None
    del arrays["codec.3.up"]
    with pytest.raises(DataError, match=r"codec\.3\.up"):
        Basis.from_arrays(arrays, 3)


@pytest.mark.parametrize(
    ("mean", "down", "up"),
    [
        (np.zeros((2, 2)), np.eye(2), np.eye(2)),
        (np.zeros(2), np.zeros(2), np.eye(2)),
        (np.zeros(2), np.eye(3), np.eye(2)),
        (np.zeros(2), np.eye(2), np.full((2, 2), np.nan)),
        (np.zeros(0), np.zeros((0, 0)), np.zeros((0, 0))),
    ],
)
def test_wrong_matrices_are_refused(mean, down, up):
    with pytest.raises(DataError):
        Basis(mean, down, up)


def test_a_map_is_bounded_where_no_payload_can_overflow_behind_it():
    most = 0.5 * float(np.finfo(np.float32).max)
    # The largest value of a payload: offset and 255.5 steps, each the largest float16.
    largest = 256.5 * 65504.0
    for factor, bounded in ((0.99, True), (1.0, False)):
        assert Basis(np.zeros(2), np.eye(2), np.eye(2) * factor * most / largest).bounded == bounded
        assert Basis(np.full(2, factor * most), np.eye(2), np.eye(2) * 1e-3).bounded == bounded
