"""A missed bound of time fails on a quiet host; on a stalled one it is tried again, then skipped."""

from __future__ import annotations

import os
import signal
import time

import pytest

from . import quiet


class Seen(quiet.Bystander):
    """A bystander that saw what it is told."""

    def __enter__(self) -> Seen:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _missed(_: int) -> None:
    raise AssertionError("too late")


@pytest.mark.parametrize(("worst_s", "share"), [(0.049, 0.0), (0.0, 0.029)])
def test_a_miss_on_a_quiet_host_fails(monkeypatch: pytest.MonkeyPatch, worst_s: float, share: float) -> None:
    monkeypatch.setattr(quiet, "Bystander", type("Quiet", (Seen,), {"worst_s": worst_s, "share": share}))
    runs: list[int] = []
    with pytest.raises(AssertionError, match="too late"):
        quiet.judged(lambda: runs.append(1) or 0, _missed)
    assert len(runs) == 1


@pytest.mark.parametrize(("worst_s", "share"), [(0.05, 0.0), (0.0, 0.03)])
def test_a_miss_on_a_stalled_host_is_tried_again_then_skipped(
    monkeypatch: pytest.MonkeyPatch, worst_s: float, share: float
) -> None:
    monkeypatch.setattr(quiet, "Bystander", type("Stalled", (Seen,), {"worst_s": worst_s, "share": share}))
    runs: list[int] = []
    with pytest.raises(pytest.skip.Exception, match="too late"):
        quiet.judged(lambda: runs.append(1) or 0, _missed)
    assert len(runs) == 2


def test_what_the_experiment_asserts_holds_on_any_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "Bystander", type("Stalled", (Seen,), {"worst_s": 9.0}))
    with pytest.raises(AssertionError, match="too late"):
        quiet.judged(lambda: _missed(0), lambda _: None)


def test_the_bystander_notices_that_it_was_kept_waiting() -> None:
    with quiet.Bystander() as bystander:
        os.kill(bystander.pid, signal.SIGSTOP)
        time.sleep(0.3)
        os.kill(bystander.pid, signal.SIGCONT)
        time.sleep(0.1)
    assert bystander.worst_s > 0.2
    assert bystander.stalled
