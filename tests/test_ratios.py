"""Ratios of measurements of one device from two sources."""

from pathlib import Path

import pandas as pd
import pytest

from profiling.__main__ import main
from profiling.evaluate.source_ratios import ratios
from profiling.tables import Header, columns_of, write_table


def write(folder: Path, device: str, seconds: float, tokens: list[int], context: int = 1024) -> Path:
    Header(device, "made up", "none", "2026-01-01", "none", 132, 989, 4800).write(folder)
    rows = [(device, "any", 1, "qkv_proj", "bf16", 4096, 6144, n, seconds * n, 0, 0, "x") for n in tokens]
    write_table(folder, "matmul", pd.DataFrame(rows, columns=columns_of("matmul")))
    shape = (32, 8, 128, "bf16", 0)
    decodes = [
        (device, "any", 1, "decode_attention", *shape, n, n, context, seconds * n * 2, 0, 0, "x") for n in tokens
    ]
    write_table(folder, "attention", pd.DataFrame(decodes, columns=columns_of("attention")))
    return folder


def test_ratios_cover_the_cases_that_both_sources_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = write(tmp_path / "own", "h200_sxm", 3e-6, [1, 2, 4, 8])
    second = write(tmp_path / "other", "h200_sxm", 2e-6, [2, 8, 16], context=1023)
    rows = ratios(first, second).set_index("operator")
    assert rows.loc["qkv_proj", "ratio"] == pytest.approx(1.5)
    assert rows.loc["decode_attention", "p95"] == pytest.approx(1.5)
    assert rows["num_cases"].tolist() == [2, 2]
    main(["ratios", str(first), str(second)])
    assert "decode_attention" in capsys.readouterr().out


def test_different_devices_and_sources_without_a_common_case_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = write(tmp_path / "own", "h200_sxm", 3e-6, [1, 2])
    different_device = write(tmp_path / "other", "h100_sxm", 3e-6, [1, 2])
    different_cases = write(tmp_path / "apart", "h200_sxm", 3e-6, [4])
    for folder, message in (
        (different_device, "only one device can be compared"),
        (different_cases, "have no case in common"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["ratios", str(first), str(folder)])
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
