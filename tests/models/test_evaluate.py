import json

import numpy as np

from splitpoint.models.data import Dataset
from splitpoint.models.evaluate import evaluate, exit_logits
from splitpoint.models.macs import head_macs

from .conftest import tiny_network


def _data(count: int) -> Dataset:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 16, 24, 3)).astype(np.uint8)
    return Dataset(images, rng.integers(0, 4, count), ())


def test_the_report_counts_what_the_logits_say() -> None:
    network, data = tiny_network(), _data(30)
    report = evaluate(network, network.card, data, timed=3)
    logits = exit_logits(network, network.card, data)
    assert logits.shape == (30, 3, 4)
    for index, row in enumerate(report["exits"]):
        assert row["accuracy"] == np.mean(logits[:, index].argmax(axis=1) == data.labels)
        assert row["macs"] == head_macs(network.card, row["after_block"])
    assert report["accuracy"] == report["exits"][-1]["accuracy"]
    assert [row["after_block"] for row in report["exits"]] == [1, 3, 4]
    times = [row["time_s"] for row in report["exits"]]
    assert 0 < times[0] < times[-1]
    assert json.loads(json.dumps(report)) == report


def test_logits_do_not_depend_on_the_batch() -> None:
    network, data = tiny_network(), _data(7)
    whole = exit_logits(network, network.card, data, batch=7)
    np.testing.assert_allclose(exit_logits(network, network.card, data, batch=3), whole, atol=1e-5)
