import sys

import numpy as np
import pytest

from splitpoint.channel.config import SnrTraceConfig, build_link
from splitpoint.errors import ConfigError, DataError, MissingExtra


def snr(path, times, device=0, **changes):
    link = build_link(SnrTraceConfig(path=str(path), slot_s=0.1, **changes), 0, device)
    return [round(link.state(t).snr_db, 6) for t in times]


@pytest.fixture
def drives(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "drives.parquet"
    columns = {
        "trace": ["b", "b", "b", "a", "a", "a", "a"],
        "time_s": [10.0, 11.0, 12.0, 0.0, 0.0, 1.0, 2.0],
        "snr_db": [1.0, 2.0, 3.0, 10.0, 12.0, None, 15.0],
    }
    pq.write_table(pa.table(columns), path)
    return path


def test_values_are_held_or_interpolated_in_decibel(tmp_path):
    path = tmp_path / "trace.npy"
    np.save(path, np.array([0.0, 10.0, 20.0]))
    middles = (0.45, 1.05, 1.55)
    assert snr(path, middles, interpolate=True) == pytest.approx([4.5, 10.5, 15.5])
    assert snr(path, middles, interpolate=False) == [0.0, 10.0, 10.0]


def test_the_trace_repeats_and_may_start_anywhere(tmp_path):
    path = tmp_path / "trace.npy"
    np.save(path, np.array([0.0, 10.0, 20.0]))
    assert snr(path, (0.5, 3.5, 300.5), interpolate=False) == [0.0, 0.0, 0.0]
    assert snr(path, (0.5,), interpolate=False, start_s=1.0, offset_db=-3.0) == [7.0]
    keyed = [snr(path, (0.05,), device, start_s=None)[0] for device in range(20)]
    assert len(set(keyed)) > 10


def test_parquet_gives_each_device_a_recording(drives):
    # a: rows of one time averaged, the empty one left out.
    assert snr(drives, (0.05, 1.05, 2.5), 0, interpolate=False) == [11.0, 11.0, 15.0]
    assert snr(drives, (0.05, 1.05, 2.5), 1, interpolate=False) == [1.0, 2.0, 3.0]
    assert snr(drives, (0.05,), 2, interpolate=False) == [11.0]
    assert snr(drives, (0.05,), 0, trace="b", interpolate=False) == [1.0]


def test_csv(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text("sinr,when\n5,0\n,1\n9,2\n")
    assert snr(path, (0.5, 2.5), column="sinr", time_column="when", interpolate=False) == [5.0, 9.0]
    assert snr(path, (1.05,), column="sinr", period_s=2.0, interpolate=False) == [5.0]


@pytest.mark.parametrize(
    "text",
    [
        "\ufefftime_s,snr_db\r\n0,5\r\n1,9\r\n",
        "time_s, snr_db \n0, 5\n\n1, 9,\n",
        "time_s,snr_db,,\n0,5,,\n1,9,,\n",
    ],
)
def test_csv_as_spreadsheets_and_people_write_it(tmp_path, text):
    path = tmp_path / "TRACE.CSV"
    path.write_bytes(text.encode())
    assert snr(path, (0.5, 1.5), interpolate=False) == [5.0, 9.0]


def test_columns_that_are_asked_for_must_be_there(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text("when,drive,snr_db\n0,a,5\n60,a,9\n0,b,7\n60,b,7\n")
    with pytest.raises(DataError, match="no column 'wen'; did you mean 'when'"):
        snr(path, (0.0,), time_column="wen")
    with pytest.raises(DataError, match="no column 'drives'; did you mean 'drive'"):
        snr(path, (0.0,), name_column="drives")
    assert snr(path, (0.5, 60.5), time_column="when", name_column="drive", interpolate=False) == [5.0, 9.0]


@pytest.mark.parametrize("name", ["time_ms", "Timestamp"])
def test_times_in_a_column_of_another_name_are_not_passed_over(tmp_path, name):
    path = tmp_path / "trace.csv"
    path.write_text(f"{name},snr_db\n0,5\n200,9\n")
    with pytest.raises(DataError, match=f"no column 'time_s': if '{name}' is in seconds"):
        snr(path, (0.0,))
    assert snr(path, (0.05, 0.25), period_s=0.2, interpolate=False) == [5.0, 9.0]
    assert snr(path, (0.05, 199.0), time_column=name, interpolate=False) == [5.0, 5.0]


def test_errors_name_file_and_column(tmp_path, drives):
    with pytest.raises(DataError, match="nowhere"):
        snr(tmp_path / "nowhere.csv", (0.0,))
    with pytest.raises(DataError, match="did you mean 'snr_db'"):
        snr(drives, (0.0,), column="snr")
    with pytest.raises(ConfigError, match="no trace 'c'"):
        snr(drives, (0.0,), trace="c")
    nameless = tmp_path / "nameless.csv"
    nameless.write_text("snr_db\n5\n")
    with pytest.raises(ConfigError, match="no trace 'c'; its one recording has no name"):
        snr(nameless, (0.0,), trace="c")
    bad = tmp_path / "bad.csv"
    bad.write_text("snr_db\n1\nx\n")
    with pytest.raises(DataError, match="row 2"):
        snr(bad, (0.0,))
    for value in ("inf", "NaN", "-5000", "1e300"):
        bad.write_text(f"snr_db\n1\n{value}\n")
        with pytest.raises(DataError, match=r"row 2: .* no SNR of -200 to 200 dB"):
            snr(bad, (0.0,), period_s=3.0)
    bad.write_text("time_s,snr_db\n0,10,5\n")
    with pytest.raises(DataError, match="row 1 has more values"):  # decimal commas
        snr(bad, (0.0,))
    for mark in (";", "\t"):
        bad.write_text(f"time_s{mark}snr_db\n0{mark}10,5\n")
        with pytest.raises(DataError, match="columns are not separated by commas"):
            snr(bad, (0.0,))
    for header in ("snr_db,snr_db", "snr_db,snr_db "):
        bad.write_text(f"{header}\n1,2\n")
        with pytest.raises(DataError, match="two columns have one name"):
            snr(bad, (0.0,))
    bad.write_text("snr_db\n")
    with pytest.raises(DataError, match="no values in column 'snr_db'"):
        snr(bad, (0.0,))
    for text in ("", "\ntime_s,snr_db\n0,10\n"):
        bad.write_text(text)
        with pytest.raises(DataError, match=r"cannot read the SNR trace .*bad\.csv: its first line is empty"):
            snr(bad, (0.0,))
    junk = tmp_path / "junk.parquet"
    junk.write_bytes(b"PAR1 but no more")
    with pytest.raises(DataError, match=r"junk\.parquet"):
        snr(junk, (0.0,))
    junk = tmp_path / "junk.npy"
    np.savez(tmp_path / "archive.npz", np.ones(3))
    for content in (b"no array", b"", (tmp_path / "archive.npz").read_bytes()):
        junk.write_bytes(content)
        with pytest.raises(DataError, match=r"junk\.npy"):
            snr(junk, (0.0,))


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    path = tmp_path / "new.parquet"
    path.write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtra, match=r"splitpoint\[sim\]"):
        snr(path, (0.0,))
