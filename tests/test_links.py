"""Message times fitted to tables of measurements."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from profiling.__main__ import main
from profiling.evaluate.held_out import message_scores
from profiling.fit.links import LatencyBandwidthRegressor, LinkCurveRegressor, constants
from profiling.importers import vidur
from profiling.tables import columns_of, write_table
from simulator.iteration_time import load_links
from tests.helpers import SHARED, needs_shared

SIZES = np.geomspace(1e3, 1e8, 400)


def two_protocols(num_bytes: np.ndarray) -> np.ndarray:
    """10 us and 20 GB/s for short messages, 50 us and 100 GB/s for long ones, whichever is faster."""
    return np.minimum(10e-6 + num_bytes / 20e9, 50e-6 + num_bytes / 100e9)


def write_tables(folder: Path, seconds: np.ndarray) -> Path:
    """A folder of a device with one machine, on which all-reduces of two GPUs took so long."""
    header = vidur.header("a100")
    header.write(folder)
    rows = {"machine": "shed", "operator": "all_reduce", "num_gpus": 2, "gpus_per_node": 2, "num_bytes": SIZES}
    rows |= {"device": header.device, "seconds": seconds, "seconds_min": seconds, "seconds_std": 0.0, "library": "test"}
    write_table(folder, "communication", pd.DataFrame(rows)[columns_of("communication")])
    return folder


def test_a_curve_follows_a_change_of_protocol() -> None:
    seconds = two_protocols(SIZES)
    curve, line = (one().fit(SIZES, seconds).predict(SIZES) for one in (LinkCurveRegressor, LatencyBandwidthRegressor))
    assert np.median(np.abs(curve / seconds - 1)) < 0.01
    assert np.max(np.abs(curve / seconds - 1)) < 0.05
    assert np.max(np.abs(line / seconds - 1)) > 0.2


def test_hiccups_of_the_network_do_not_bend_the_curve() -> None:
    random = np.random.default_rng(0)
    seconds = two_protocols(SIZES)
    noisy = np.where(random.random(len(SIZES)) < 0.2, 1000 * seconds, seconds)
    fitted = LinkCurveRegressor().fit(SIZES, noisy).predict(SIZES)
    assert np.median(np.abs(fitted / seconds - 1)) < 0.02


def test_one_slow_short_message_does_not_lift_the_longer_ones() -> None:
    seconds = two_protocols(SIZES)
    seconds[0] *= 20
    fitted = LinkCurveRegressor().fit(SIZES, seconds).predict(SIZES)
    assert np.max(np.abs(fitted / two_protocols(SIZES) - 1)[20:]) < 0.25
    assert (np.diff(fitted) >= 0).all()


def test_the_command_writes_files_that_a_node_can_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables = write_tables(tmp_path / "tables", two_protocols(SIZES))
    main(["links", str(tables), "--output", str(tmp_path / "links"), "--figure", str(tmp_path / "figure.png")])
    assert "shed.json: 1 curves" in capsys.readouterr().out
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    links = load_links(str(tmp_path / "links" / "shed.json"))
    assert (links.about["machine"], links.about["licence"]) == ("shed", "MIT")
    curve = links.curve("all_reduce", 2, 2)
    assert curve is not None
    assert curve.time(1e8) == pytest.approx(50e-6 + 1e-3, rel=0.02)
    (row,) = constants(tables).to_dict("records")
    # 10 us and what 64 kB and less take on average; a ring of two moves as much as the message.
    assert 10 < row["latency_us"] < 14
    assert row["bandwidth_gb_per_s"] == pytest.approx(100, rel=0.1)


def test_scores_are_of_sizes_that_were_held_out(tmp_path: Path) -> None:
    scores = list(message_scores(write_tables(tmp_path, two_protocols(SIZES)), baseline=True))
    assert [(one.model, one.tokens) for one in scores] == [
        (model, sizes) for model in ("curve", "latency and bandwidth") for sizes in ("from 1 MiB", "below 1 MiB")
    ]
    assert 50 < sum(one.num_rows for one in scores[:2]) < 110
    assert max(one.median for one in scores[:2]) < 2 < max(one.median for one in scores[2:])


def test_folders_without_collectives_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vidur.header("a100").write(tmp_path / "device")
    with pytest.raises(SystemExit) as stop:
        main(["links", str(tmp_path), "--output", str(tmp_path / "links")])
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: no folder in {tmp_path} has a communication table\n"
    assert not (tmp_path / "links").exists()


@needs_shared
def test_the_shipped_files_are_those_that_the_command_makes(tmp_path: Path) -> None:
    # Of the published tables the smallest of each device.
    network = tmp_path / "vidur" / "network"
    network.mkdir(parents=True)
    for name in ("a100_dgx_all_reduce", "a100_dgx_send_recv", "a40_nvlink_pairs_all_reduce", "h100_dgx_all_reduce"):
        (network / f"{name}.csv.gz").symlink_to(SHARED / "data" / "vidur" / "network" / f"{name}.csv.gz")
    main(["import", "vidur", str(tmp_path / "vidur"), "--output", str(tmp_path / "tables")])
    main(["links", str(tmp_path / "tables"), "--output", str(tmp_path / "links")])
    names = sorted(path.stem for path in (tmp_path / "links").glob("*.json"))
    assert names == ["a100_dgx", "a40_nvlink_pairs", "h100_dgx"]
    for name in names:
        made, shipped = load_links(str(tmp_path / "links" / f"{name}.json")), load_links(name)
        assert made.about == shipped.about
        for one, other in zip(made.curves, shipped.curves, strict=True):
            assert (one.operator, one.num_gpus, one.gpus_per_node) == (
                other.operator,
                other.num_gpus,
                other.gpus_per_node,
            )
            assert one.time(SIZES) == pytest.approx(other.time(SIZES), rel=0.02)
