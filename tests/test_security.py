"""A configuration builds classes of the simulator and runs no other code, however it is written."""

import os
from pathlib import Path

import pytest

from simulator.__main__ import main
from tests.helpers import run_main

# Executes code from a file. Hydra itself refuses os.system and the like, but not this.
EVIL = "{_target_: numpy.load, file: evil.npy, allow_pickle: true}"
OURS = "_target_: traces.arrivals.Poisson\n"
CALLBACK = f"callbacks: {{x: {EVIL}}}\n"

SET = "# @package _global_\n"
HYDRA = "hydra can only be set on the command line"
NOT_OURS = "numpy.load is not in simulator or traces"
FILES = {
    "a target": ("arrival", f"_target_: numpy.load\nqps: {EVIL}\n", NOT_OURS),
    "a target in a value": ("arrival", f"{OURS}qps: {EVIL}\n", NOT_OURS),
    "an interpolated target": ("arrival", f'{OURS}qps: "${{oc.create:{EVIL.replace(" ", "")}}}"\n', NOT_OURS),
    "a nested interpolation": (
        "arrival",
        f'{OURS}qps: "\\\\${{oc.create:{EVIL.replace(" ", "")}}}"\n',
        "must not contain '${' after interpolation",
    ),
    "an allowed target": (
        "arrival",
        f"{SET}allow_targets: [numpy]\narrival: {EVIL}\n",
        "allow_targets can only be set on",
    ),
    "a callback": ("experiment", f"{SET}hydra:\n  {CALLBACK}", HYDRA),
    "an escaped key": ("experiment", f'{SET}"hy\\x64ra":\n  {CALLBACK}', HYDRA),
    "a merged key": ("experiment", f"{SET}<<:\n  hydra:\n    {CALLBACK}", HYDRA),
    "a package": ("experiment", f"  # @package hydra\n{CALLBACK}", HYDRA),
    "a default": ("experiment", "defaults: [override /hydra/job_logging: x]\n", HYDRA),
    "a default's package": ("experiment", "defaults: [/trace@hydra.callbacks: x]\n", HYDRA),
    "an object": ("arrival", "qps: !!python/object/apply:os.system [ls]\n", "could not determine a constructor"),
}


@pytest.mark.parametrize(("group", "content", "message"), FILES.values(), ids=FILES)
def test_a_configuration_file_cannot_run_code(
    group: str,
    content: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "real" / group).mkdir(parents=True)
    (tmp_path / "real" / group / "x.yaml").write_text(content)
    (tmp_path / "configs").mkdir()
    os.symlink(tmp_path / "real" / group, tmp_path / "configs" / group)  # the check follows links, as Hydra does
    arguments = ["--config-dir", "configs", f"{group}=x", "trace.num_requests=3", "hydra.run.dir=run"]
    assert run_main(main, arguments, tmp_path, monkeypatch) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "override",
    [
        f"+hydra.callbacks.x={EVIL}",
        f"+hydra.launcher.x={EVIL}",
        f"+hydra.launcher.x= {EVIL}",
        f"+hydra.launcher.x.y=[{EVIL}]",
        "hydra.launcher._target_=numpy.load",
        "+hydra.launcher.x._target_=numpy.load",
        "hydra/launcher=../../configs/x",
        "trace@hydra.callbacks=arxiv",
        f"arrival={EVIL}",
        f"+arrival.x={EVIL}",
        f"arrival.qps={EVIL}",
        "arrival._target_=numpy.load",
        "arrival._target_=traces.arrivals.basic.np.load",
        "arrival._target_=simulator.output.saved_run.np.load",
        "arrival._target_=traces",
        "arrival._target_=simulatorx.evil",
    ],
)
def test_an_override_cannot_run_code(
    override: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["-m", override, "trace.num_requests=3", "hydra.sweep.dir=sweep"]
    assert run_main(main, arguments, tmp_path, monkeypatch) == 2
    assert [line.startswith("error: ") for line in capsys.readouterr().err.splitlines()] == [True]
    assert not list(tmp_path.glob("sweep/*/requests.csv"))
