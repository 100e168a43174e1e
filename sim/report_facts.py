"""The facts of a run in words: engine, devices, link, server, model, data."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from ..codec.image import LOSSLESS, parse_image_format
from ..models.card import ModelCard
from ..models.data import NAMED
from .scenario import Scenario
from .sections import DataConfig

__all__ = ["FAULTS", "facts", "quantity"]

FAULTS = {"kill": "killed", "freeze": "frozen", "drain": "stopped"}

_ENGINES = {
    "profile": "virtual time; the network's answers were looked up in its evaluation profile",
    "tensor": "virtual time; the network really ran on every input",
    "live": "real device, channel and server processes over gRPC, paced to the speeds of the scenario",
}

_UNITS = (
    ("_macs_per_s", "MAC/s"),
    ("_bps", "bit/s"),
    ("_db", "dB"),
    ("_hz", "Hz"),
    ("_ms", "ms"),
    ("_s", "s"),
    ("_j", "J"),
    ("_w", "W"),
)


def quantity(name: str, value: Any) -> str:
    """A configured value in words: ('round_trip_s', .01) gives 'round trip 10 ms'."""
    for suffix, unit in _UNITS:
        if f"_{name}".endswith(suffix) and isinstance(value, int | float) and not isinstance(value, bool):
            words = (
                name.removesuffix(suffix.lstrip("_"))
                .strip("_")
                .replace("_", " ")
                .replace("snr", "SNR")
                .replace("doppler", "Doppler")
            )
            return f"{words} {_scaled(float(value), unit)}".strip()
    words = name.replace("_", " ")
    if name == "windows":
        return ", ".join(f"{begin:g} to {end:g} s" for begin, end in value)
    if isinstance(value, bool):
        return words if value else f"no {words}"
    return f"{words} {value:g}" if isinstance(value, int | float) else f"{words} {value}"


def _scaled(value: float, unit: str) -> str:
    if unit in ("MAC/s", "bit/s", "Hz"):
        for prefix, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
            if abs(value) >= size:
                return f"{value / size:g} {prefix}{' ' if unit == 'MAC/s' else ''}{unit}"
    if unit in ("s", "J", "W") and 0 < abs(value) < 1:
        return f"{value * 1e3:g} m{unit}"
    return f"{value:g} {unit}"


_KINDS = {
    "awgn": "constant SNR",
    "bursts": "bursts of requests",
    "constant": "constant rate",
    "dedicated": "each device its own",
    "fifo": "first come, first served",
    "gilbert_elliott": "Gilbert-Elliott",
    "mahimahi": "Mahimahi trace",
    "periodic": "one request every period",
    "poisson": "Poisson arrivals",
    "rayleigh": "Rayleigh fading",
    "rician": "Rician fading",
    "round_robin": "devices take turns",
    "snr_trace": "recorded SNR",
}


def _described(config: BaseModel, always: tuple[str, ...] = ()) -> str:
    """A configuration in words: its kind, then what was set in it."""
    kind = str(getattr(config, "kind", ""))
    parts = [_KINDS.get(kind, kind.replace("_", " "))]
    for name in type(config).model_fields:
        value = getattr(config, name)
        if name == "kind" or (name not in config.model_fields_set and name not in always):
            continue
        if isinstance(value, BaseModel):
            inner = _described(value)
            parts.append(f"{name.replace('_', ' ')}: {inner}" if inner else "")
        elif value is not None:
            parts.append(quantity(name, value))
    return ", ".join(part for part in parts if part)


def facts(
    scenario: Scenario, engine: str, card: ModelCard, seed: int, requests: int
) -> list[tuple[str, str]]:
    """What was run, as (term, description)."""
    groups = [
        f"{group.count} at {quantity('macs_per_s', group.macs_per_s)}, {_described(group.arrivals)} at each"
        + (f", link of their own: {_described(group.link)}" if group.link else "")
        for group in scenario.devices
    ]
    height, width = card.image_size
    radio = scenario.channel
    found = [
        ("engine", f"{engine}: {_ENGINES[engine]}" if engine in _ENGINES else engine),
        ("requests", f"{requests:,} for each policy, over all devices; seed {seed}"),
        ("deadline", f"{_scaled(scenario.deadline_s, 's')} from a request's arrival"),
        ("devices", "; ".join(groups)),
        ("link", _described(radio.link)),
        ("medium", f"up: {_described(radio.uplink)}; down: {_described(radio.downlink)}"),
        _servers(scenario),
        (
            "model",
            f"{card.name}{f' ({card.id})' if card.id else ''}: {card.depth} blocks, exits after "
            f"{', '.join(map(str, card.exits))}; inputs {height}×{width}, {card.patch_tokens} patches, "
            f"{card.class_count} classes",
        ),
        ("data", _data(scenario.data)),
    ]
    sent = ["planes entropy-coded"] if scenario.coder == "ans" else []
    if scenario.image_format != LOSSLESS:
        sent.append("raw inputs as {} of quality {}".format(*parse_image_format(scenario.image_format)))
    if sent:
        found.append(("payloads", ", ".join(sent)))
    if budgets := _described(scenario.budgets):
        found.append(("budgets", f"{budgets}; means over each device's requests"))
    if scenario.faults:
        faults = (
            f"{f.process or 'server'} {FAULTS[f.kind]} at {f.at_s:g} s for {f.for_s:g} s"
            for f in scenario.faults
        )
        found.append(("faults", ", ".join(faults)))
    return found


def _data(data: DataConfig) -> str:
    """Where the inputs come from, and how they drift."""
    named = f", {data.split} split" if data.name in NAMED else ""
    drift = ", ".join(f"{100 * share:g} % from {at_s:g} s" for at_s, share in data.hard_share)
    return f"{data.name}{named}" + (f"; hard inputs: {drift}" if drift else "")


def _servers(scenario: Scenario) -> tuple[str, str]:
    """Who answers what the devices send."""
    quorum = scenario.quorum
    if quorum is None:
        speed = quantity("macs_per_s", scenario.server.macs_per_s)
        return "server", f"{speed}, batches of up to {scenario.server.max_batch}"
    learners = ", ".join(f"{learner.name} on {learner.place}" for learner in quorum.learners)
    asked = "all at once" if quorum.parallel else "one after another"
    speed = quantity("macs_per_s", quorum.server.macs_per_s)
    return "quorum", f"{learners}; asked {asked}, alpha {quorum.alpha:g}; servers at {speed} each"
