"""What a live run's device process knows by itself."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from splitpoint.channel.config import build_links, build_medium, build_report
from splitpoint.protos import splitpoint_pb2 as pb
from splitpoint.protos.client import TimedOut, Timeouts
from splitpoint.sim.scenario import load_scenario
from splitpoint.sim.worker import _Worker


@pytest.mark.parametrize("name", ["cellular", "outages"])
def test_a_live_devices_modem_hears_what_the_virtual_one_hears(name: str) -> None:
    scenario = load_scenario(name, {"seed": 3})
    channel = scenario.channel_config()
    links, uplink = build_links(channel.links, scenario.seed), build_medium(channel.uplink)
    times = [0.0371 * step for step in range(2000)]
    heard = []
    for device, link in enumerate(links):
        worker: Any = SimpleNamespace(_setup=SimpleNamespace(scenario=scenario), _index=device)
        modem = _Worker._modem(worker)
        assert modem is not None
        virtual = build_report(channel.report, link, scenario.seed, uplink, 500).newest
        heard.append([modem(t) for t in times])
        assert heard[-1] == [virtual(t) for t in times]
    assert heard[0] != heard[1]


def test_a_question_that_an_outage_swallows_before_the_run_is_asked_again() -> None:
    asked: list[float] = []

    class Behind:
        timeouts = Timeouts()

        async def describe(self, timeout: float) -> pb.DescribeReply:
            asked.append(timeout)
            if len(asked) < 3:
                raise TimedOut("nowhere: no answer in time")
            return pb.DescribeReply(model=pb.ModelCard(id="small"), coders=[pb.CODER_PACKED])

    setup = SimpleNamespace(card=SimpleNamespace(id="small"), scenario=SimpleNamespace(coder="packed"))
    worker: Any = SimpleNamespace(_setup=setup, _tables_crc=0)
    client: Any = Behind()
    assert asyncio.run(_Worker._agreed(worker, client)).coder == "packed"
    assert len(asked) == 3
