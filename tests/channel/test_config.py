import pytest
from pydantic import TypeAdapter, ValidationError

from splitpoint.channel.config import ChannelConfig, LinkConfig, MediumConfig, build_link, build_medium

LINK = TypeAdapter(LinkConfig)
MEDIUM = TypeAdapter(MediumConfig)


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "constant", "rate_bps": 1e6},
        {"kind": "awgn", "mean_snr_db": 10},
        {"kind": "rayleigh", "doppler_hz": 3, "outages": {"windows": [[1, 2], [3, 4]]}},
        {"kind": "rician", "k_factor_db": 3},
        {"kind": "gilbert_elliott", "loss": 0.01},
    ],
)
def test_every_kind_builds_a_link_and_survives_json(fields):
    config = LINK.validate_python(fields)
    assert LINK.validate_json(LINK.dump_json(config)) == config
    link = build_link(config, 0, 0)
    assert 0 < link.transfer_time(1000, 0.1, 2) < 1
    assert link.state(0.1).round_trip_s == 0.01


@pytest.mark.parametrize("kind", ["fifo", "round_robin", "dedicated"])
def test_every_kind_builds_a_medium(kind):
    link = build_link(LINK.validate_python({"kind": "constant", "rate_bps": 1e6}), 0, 0)
    medium = build_medium(MEDIUM.validate_python({"kind": kind}))
    transfer = medium.submit(0.0, link, 100, 2)
    if transfer is None:
        ((_, _, _, transfer),) = medium.pop_completed(medium.next_completion())
    assert transfer.done_s == pytest.approx(8 * 140 / 1e6)


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"kind": "awgn", "shadowing_db": 1e6}, "shadowing_db"),
        ({"kind": "awgn", "outages": {"shared": True}}, "shared"),
        ({"kind": "rayleigh", "dopler_hz": 3}, "dopler_hz"),
        ({"kind": "raleigh"}, "rayleigh"),
        ({"kind": "constant"}, "rate_bps"),
        ({"kind": "constant", "rate_bps": 0}, "rate_bps"),
        ({"kind": "awgn", "loss": 1.0}, "loss"),
        ({"kind": "awgn", "mean_snr_db": float("nan")}, "mean_snr_db"),
        ({"kind": "gilbert_elliott", "mean_good_s": 0.01, "mean_bad_s": 0.01}, "slot_s"),
        ({"kind": "awgn", "outages": {"windows": [[1, 2], [2, 3]]}}, "windows"),
        ({"kind": "awgn", "slot_s": 1e-6}, "slot_s"),
        ({"kind": "constant", "rate_bps": 1.0, "slot_s": 1e4}, "slot_s"),
        ({"kind": "awgn", "outages": {"mean_up_s": 3}}, "mean_down_s"),
        ({"kind": "awgn", "outages": {"mean_up_s": 1e-9, "mean_down_s": 1e-9}}, "mean_up_s"),
        ({"kind": "awgn", "outages": {"mean_up_s": 3, "mean_down_s": 1, "windows": [[1, 2]]}}, "windows"),
    ],
)
def test_mistakes_name_the_field(fields, place):
    with pytest.raises(ValidationError, match=place):
        LINK.validate_python(fields)


def test_devices_beyond_the_last_link_share_its_configuration():
    config = ChannelConfig.model_validate(
        {"links": [{"kind": "constant", "rate_bps": 1e6}, {"kind": "rayleigh"}]}
    )
    assert [config.link_of(device).kind for device in range(4)] == ["constant"] + 3 * ["rayleigh"]
    assert config.uplink.kind == "fifo"


def test_a_report_is_no_noisier_than_powers_can_be():
    with pytest.raises(ValidationError, match="sigma_db"):
        ChannelConfig.model_validate({"links": [{"kind": "awgn"}], "report": {"sigma_db": 1e4}})
