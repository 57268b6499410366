"""Link curves fitted to measured message times."""

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
    """Return the seconds of the faster protocol: 10 us and 20 GB/s, or 50 us and 100 GB/s."""
    return np.minimum(10e-6 + num_bytes / 20e9, 50e-6 + num_bytes / 100e9)


def write_tables(folder: Path, seconds: np.ndarray) -> Path:
    """Write the communication table of one machine: all-reduces of two GPUs that took `seconds`."""
    header = vidur.header("a100")
    header.write(folder)
    rows = {"machine": "shed", "operator": "all_reduce", "num_gpus": 2, "gpus_per_node": 2, "num_bytes": SIZES}
    rows |= {"device": header.device, "seconds": seconds, "seconds_min": seconds, "seconds_std": 0.0, "library": "test"}
    write_table(folder, "communication", pd.DataFrame(rows)[columns_of("communication")])
    return folder


def test_a_link_curve_follows_a_change_of_protocol() -> None:
    seconds = two_protocols(SIZES)
    regressors = LinkCurveRegressor(), LatencyBandwidthRegressor()
    curve, line = (regressor.fit(SIZES, seconds).predict(SIZES) for regressor in regressors)
    assert np.median(np.abs(curve / seconds - 1)) < 0.01
    assert np.max(np.abs(curve / seconds - 1)) < 0.05
    assert np.max(np.abs(line / seconds - 1)) > 0.2


def test_network_outliers_do_not_bend_the_curve() -> None:
    random = np.random.default_rng(0)
    seconds = two_protocols(SIZES)
    noisy = np.where(random.random(len(SIZES)) < 0.2, 1000 * seconds, seconds)
    fitted = LinkCurveRegressor().fit(SIZES, noisy).predict(SIZES)
    assert np.median(np.abs(fitted / seconds - 1)) < 0.02


def test_one_slow_short_message_does_not_raise_the_times_of_longer_ones() -> None:
    seconds = two_protocols(SIZES)
    seconds[0] *= 20
    fitted = LinkCurveRegressor().fit(SIZES, seconds).predict(SIZES)
    assert np.max(np.abs(fitted / two_protocols(SIZES) - 1)[20:]) < 0.25
    assert (np.diff(fitted) >= 0).all()


def test_the_command_writes_link_files_that_load_by_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
    # 10 us plus the mean transfer time up to 64 kB; a ring of two GPUs moves as many bytes as the message has.
    assert 10 < row["latency_us"] < 14
    assert row["bandwidth_gb_per_s"] == pytest.approx(100, rel=0.1)


def test_scores_are_for_held_out_sizes(tmp_path: Path) -> None:
    scores = list(message_scores(write_tables(tmp_path, two_protocols(SIZES)), baseline=True))
    assert [(score.model, score.tokens) for score in scores] == [
        (model, sizes) for model in ("curve", "latency and bandwidth") for sizes in ("from 1 MiB", "below 1 MiB")
    ]
    assert 50 < sum(score.num_rows for score in scores[:2]) < 110
    assert max(score.median for score in scores[:2]) < 2 < max(score.median for score in scores[2:])


def test_folders_without_a_communication_table_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vidur.header("a100").write(tmp_path / "device")
    with pytest.raises(SystemExit) as stop:
        main(["links", str(tmp_path), "--output", str(tmp_path / "links")])
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: no folder in {tmp_path} has a communication table\n"
    assert not (tmp_path / "links").exists()


@needs_shared
def test_the_command_reproduces_the_shipped_link_files(tmp_path: Path) -> None:
    # The smallest published table of each device.
    network = tmp_path / "vidur" / "network"
    network.mkdir(parents=True)
    for name in ("a100_dgx_all_reduce", "a100_dgx_send_recv", "a40_nvlink_pairs_all_reduce", "h100_dgx_all_reduce"):
        (network / f"{name}.csv.gz").symlink_to(SHARED / "data" / "vidur" / "network" / f"{name}.csv.gz")
    main(["import", "vidur", str(tmp_path / "vidur"), "--output", str(tmp_path / "tables")])
    main(["links", str(tmp_path / "tables"), "--output", str(tmp_path / "links")])
    names = sorted(path.stem for path in (tmp_path / "links").glob("*.json"))
    assert names == ["a100_dgx", "a40_nvlink_pairs", "h100_dgx"]
    for name in names:
        fitted, shipped = load_links(str(tmp_path / "links" / f"{name}.json")), load_links(name)
        assert fitted.about == shipped.about
        for curve, expected in zip(fitted.curves, shipped.curves, strict=True):
            assert (curve.operator, curve.num_gpus, curve.gpus_per_node) == (
                expected.operator,
                expected.num_gpus,
                expected.gpus_per_node,
            )
            assert curve.time(SIZES) == pytest.approx(expected.time(SIZES), rel=0.02)
