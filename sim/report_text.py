"""What the report says in words and numbers: the facts of the run, the headline table, units."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from ..models.card import ModelCard
from .scenario import Scenario

__all__ = [
    "GLOSSARY",
    "by_utility",
    "comparison_rows",
    "facts",
    "headline",
    "headline_rows",
    "number",
    "plus_minus",
    "quantity",
]

Summary = Mapping[str, Any]

_ENGINES = {
    "profile": "virtual time; the network's answers were looked up in its evaluation profile",
    "tensor": "virtual time; the network really ran on every input",
    "live": "real device, channel and server processes over gRPC, paced to the speeds of the scenario",
}

GLOSSARY = (
    ("policy", "Decides for every request where to cut the network and how much to send."),
    ("accuracy", "Share of the answered requests whose answer is the true class."),
    (
        "utility",
        "1 for a correct answer and 0 for a wrong one, less weighted latency, energy and airtime, and a "
        "charge for lateness; the weights stand in the scenario. Higher is better, 1 cannot be reached.",
    ),
    (
        "±",
        "Half the width of a 95 % interval of the mean, requests taken as independent. All policies saw the "
        "same inputs, arrivals and fading, so differences between them are surer than the intervals suggest.",
    ),
    ("latency", "From the arrival of an input at its device to the answer there, waiting included."),
    (
        "median, 95 %, 99 %",
        "The time within which half, 95 % or 99 % of the answered requests were answered.",
    ),
    ("uplink", "Bytes of the request message as sent to the server; 0 where the device answered alone."),
    ("energy", "What a device spends on a request: computing, sending, receiving, waiting for the reply."),
    ("on device", "Share of requests answered on the device, early exits and fallbacks alike."),
    ("exit", "A small classifier inside the network that may answer before its end if it is sure enough."),
    ("split", "How many blocks the device runs at most before it sends; 0 sends the input itself."),
    ("keep, dims, bits", "Share of the patches sent, numbers per patch, and bits per number."),
    (
        "degraded",
        "Neither the chosen exit nor the server answered in time: the device fell back on its best answer so far.",
    ),
    ("late", "Answered after the deadline."),
    ("lost", "Never answered; this must be 0."),
    ("estimated rate", "What the device believed the link to carry when it decided; not the truth."),
)


def number(value: Any, digits: int = 1, scale: float = 1.0) -> str:
    """A number for a table, with thousands separated; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{scale * float(value):,.{digits}f}"


def plus_minus(interval: Sequence[float] | None, digits: int, scale: float = 1.0) -> str:
    """`±` and half the interval's width; '' where there is none."""
    if not interval or not all(math.isfinite(end) for end in interval):
        return ""
    return f"±{scale * (interval[1] - interval[0]) / 2:.{digits}f}"


def by_utility(summaries: Sequence[Summary]) -> list[Summary]:
    """Best utility first; policies without one last, otherwise in the order given."""
    return sorted(summaries, key=lambda s: -s["utility"] if math.isfinite(s["utility"]) else math.inf)


def headline_rows(summaries: Sequence[Summary]) -> list[dict[str, Any]]:
    """Rows of the headline table as text, best utility first."""
    rows = []
    for place, s in enumerate(by_utility(summaries)):
        rows.append(
            {
                "policy": str(s["policy"]),
                "best": place == 0 and len(summaries) > 1 and math.isfinite(s["utility"]),
                "utility": number(s["utility"], 3),
                "utility_ci": plus_minus(s.get("utility_ci95"), 3),
                "accuracy": number(s["accuracy"], 1, 100),
                "accuracy_ci": plus_minus(s.get("accuracy_ci95"), 1, 100),
                "p50": number(s["latency_p50_s"], 1, 1e3),
                "p95": number(s["latency_p95_s"], 1, 1e3),
                "p99": number(s["latency_p99_s"], 1, 1e3),
                "uplink": number(s["uplink_bytes_mean"], 2, 1e-3),
                "energy": number(s["device_energy_mean_j"], 1, 1e3),
                "local": number(s["local_fraction"], 0, 100),
                "requests": f"{s['requests']:,}",
                "degraded": s["degraded"],
                "late": s["late"],
                "lost": s["lost"],
            }
        )
    return rows


def headline(summaries: Sequence[Summary]) -> list[str]:
    """The outcome in a few sentences."""
    ranked = [s for s in by_utility(summaries) if math.isfinite(s["utility"])]
    if not ranked:
        return ["No request was answered, so there is nothing to compare."]
    best = ranked[0]
    said = []
    if len(ranked) > 1:
        second = ranked[1]
        said.append(
            f"“{best['policy']}” has the highest utility, {number(best['utility'], 3)}; "
            f"“{second['policy']}” follows with {number(second['utility'], 3)}."
        )
    said.append(
        f"{'It' if said else 'The policy “' + str(best['policy']) + '”'} answered "
        f"{number(best['accuracy'], 1, 100)} % correctly, 95 % of its requests within "
        f"{number(best['latency_p95_s'], 0, 1e3)} ms, and sent {_sent(best['uplink_bytes_mean'])}."
    )
    lost = sum(s["lost"] for s in summaries)
    twice = sum(s.get("answered_twice", 0) for s in summaries)
    said.append(f"{lost:,} requests were lost." if lost else "No request was lost.")
    if twice:
        said.append(f"{twice:,} answers were given a second time, which must not happen.")
    said += [
        f"“{s['policy']}” failed to decide on {s['policy_replaced']:,} requests; a fixed Decision stood in."
        for s in summaries
        if s.get("policy_replaced")
    ]
    return said


def _sent(mean_bytes: float) -> str:
    if not mean_bytes > 0:
        return "nothing to the server"
    size = f"{number(mean_bytes, 2, 1e-3)} kB" if mean_bytes >= 1000 else f"{number(mean_bytes, 0)} B"
    return f"{size} to the server for the average request"


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
        (
            "server",
            f"{quantity('macs_per_s', scenario.server.macs_per_s)}, "
            f"batches of up to {scenario.server.max_batch}",
        ),
        (
            "model",
            f"{card.name}{f' ({card.id})' if card.id else ''}: {card.depth} blocks, exits after "
            f"{', '.join(map(str, card.exits))}; inputs {height}×{width}, {card.patch_tokens} patches, "
            f"{card.class_count} classes",
        ),
        ("data", f"{scenario.data.name}, {scenario.data.split} split"),
    ]
    if scenario.faults:
        words = {"kill": "killed", "freeze": "frozen", "drain": "stopped"}
        faults = (f"{words[f.kind]} at {f.at_s:g} s for {f.for_s:g} s" for f in scenario.faults)
        found.append(("faults", f"server {', '.join(faults)}"))
    return found


def comparison_rows(comparison: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Rows of live against virtual: metric -> (live, virtual, difference, within bound)."""
    rows = []
    for metric, (live, virtual, difference, within) in comparison.items():
        show = _shown_as(metric)
        # `policy: metric`; the policy's name stays as it is.
        *whose, what = metric.rsplit(": ", 1)
        rows.append(
            {
                "metric": ": ".join([*whose, what.removesuffix("_s").replace("_", " ")]),
                "live": show(live),
                "virtual": show(virtual),
                "difference": show(difference),
                "within": None if within is None else bool(within),
            }
        )
    return rows


def _shown_as(metric: str) -> Any:
    def show(value: Any) -> str:
        if isinstance(value, str):
            return value
        if value is None or not math.isfinite(value):
            return "–"
        if metric.endswith("_s"):
            return f"{1e3 * value:,.1f} ms"
        return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"

    return show
