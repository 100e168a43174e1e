"""Make the traces that the scenarios `driving` and `cellular` replay: synthetic drives, so that they may ship.

    python examples/make_traces.py scenarios/traces

A car passes base stations that stand 400 to 1 200 m apart, at the side of a road, at a speed that changes every half
minute. SNR falls with 35 dB per tenfold distance from 30 dB at 30 m; shadowing of 6 dB has a correlation of 50 m
(Gudmundson, Electronics Letters 27(23), 1991); once a second. Mean and spread (5 dB, 8 dB) are near those of drives
recorded in the field. `drives.csv` is what scenarios run on, `drives-training.csv` what policies are trained on.
`drive.up` and `drive-training.up` are such drives as Mahimahi opportunities.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from splitpoint.seeding import generator

DRIVES, SECONDS = 8, 240
CELL_SECONDS = 60
CELL_HZ = 8.0e5


def drive(seed: int, seconds: int) -> np.ndarray:
    """SNR in dB, once a second, float64 (seconds,)."""
    draws = generator(seed, "drive")
    speeds = np.repeat(draws.uniform(3.0, 20.0, seconds // 30 + 1), 30)[:seconds]
    metres = np.cumsum(speeds)
    stations = np.cumsum(draws.uniform(400.0, 1200.0, int(metres[-1] / 400.0) + 2)) - 600.0
    aside = draws.uniform(20.0, 120.0, len(stations))
    nearest = np.sqrt((metres[:, None] - stations) ** 2 + aside**2).min(axis=1)
    shadowing = np.empty(seconds)
    level = 6.0 * draws.standard_normal()
    for second, speed in enumerate(speeds):
        memory = np.exp(-speed / 50.0)
        level = memory * level + 6.0 * np.sqrt(1.0 - memory**2) * draws.standard_normal()
        shadowing[second] = level
    return np.clip(30.0 - 35.0 * np.log10(nearest / 30.0) + 6.0 + shadowing, -12.0, 30.0)


def opportunities(snr_db: np.ndarray, seed: int) -> list[int]:
    """Times in ms at which 1 500 bytes may be sent, at Shannon's rate with a gap of 3 dB over CELL_HZ."""
    packets_per_ms = CELL_HZ * np.log2(1.0 + 10.0 ** (0.1 * (snr_db - 3.0))) / 12_000.0 / 1000.0
    arrivals = generator(seed, "drive-packets").poisson(np.repeat(packets_per_ms, 1000))
    times = np.repeat(np.arange(len(arrivals)), arrivals).tolist()
    return [*times, 1000 * len(snr_db)]


def main() -> None:
    folder = Path(sys.argv[1])
    for name, first in (("", 0), ("-training", 100)):
        rows = [
            f"drive-{number:02},{second},{snr_db:.1f}"
            for number in range(DRIVES)
            for second, snr_db in enumerate(drive(first + number, SECONDS).tolist())
        ]
        (folder / f"drives{name}.csv").write_text("trace,time_s,snr_db\n" + "\n".join(rows) + "\n", "utf-8")
        times = opportunities(drive(first + 50, CELL_SECONDS), first)
        (folder / f"drive{name}.up").write_text("".join(f"{time}\n" for time in times), "utf-8")


if __name__ == "__main__":
    main()
