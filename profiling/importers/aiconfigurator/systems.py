"""Systems that the wheels have tables of."""

import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from profiling.tables import Header

LICENCE = "Apache-2.0"
# Import names of the wheels, newest tables first, and their names on PyPI.
PACKAGES = {"aisimulate_core": "aisimulate", "aiconfigurator_core": "aiconfigurator-core"}
# Name of a system in the wheels -> name in configs/device, streaming multiprocessors, L2 cache in MB (data sheets).
SYSTEMS = {
    "a100_sxm": ("a100_80gb_sxm", 108, 40),
    "b200_sxm": ("b200_sxm", 148, 126),
    "b300_sxm": ("b300_sxm", 148, 126),
    "gb200": ("gb200", 148, 126),
    "gb300": ("gb300", 148, 126),
    "h100_sxm": ("h100_sxm", 132, 50),
    "h200_sxm": ("h200_sxm", 132, 50),
    "l40s": ("l40s", 142, 96),
    "rtx_pro_6000_server": ("rtx_pro_6000", 188, 128),
}
# The wheels have the bandwidth of the Workstation Edition; data sheet of the Server Edition, December 2025.
_BANDWIDTH_GB_PER_S = {"rtx_pro_6000": 1597.0}
# Peak rates in a system's file -> number formats that are multiplied at that rate.
_FORMATS = {
    "fp8_tc_flops": ("fp8", "fp8_block"),
    "int8_tc_flops": ("int8",),
    "fp4_tc_flops": ("nvfp4",),
}


@dataclass(frozen=True)
class System:
    """The tables of one system, engine and version.

    Attributes:
        name: Name of the system in the wheel.
        folder: Folder of its tables.
        backend: Engine whose kernels were measured.
        version: Version of the engine.
        repeats: Other versions whose matrix products are repeats: the same kernels at another temperature and clock.
        header: Header of the imported tables.
    """

    name: str
    folder: Path
    backend: str
    version: str
    repeats: Sequence[str]
    header: Header

    @property
    def device(self) -> str:
        """Name of the device, as in configs/device."""
        return self.header.device

    @property
    def machine(self) -> str:
        """Name of the machine and the engine in tables of collectives."""
        return f"{self.name}_{self.backend}"

    def table(self, family: str, name: str) -> Path | None:
        """Return the path of a table of this version.

        If there is none: of the newest older one, else of the oldest.

        None if the engine has no such table.
        """
        return _nearest(self.folder / family / self.backend, f"{name}.parquet", self.version)

    def repeated_tables(self, family: str, name: str) -> list[Path]:
        """Return the tables of the repeats."""
        folder = self.folder / family / self.backend
        return [folder / version / f"{name}.parquet" for version in self.repeats]

    def nccl_tables(self) -> list[Path]:
        """Return the tables of NCCL, the newest first."""
        return sorted((self.folder / "comm" / "nccl").glob("*/nccl_perf.parquet"), key=_by_version, reverse=True)


def system(
    name: str, backend: str, version: str | None = None, repeats: Sequence[str] = (), folder: Path | None = None
) -> System:
    """Return the tables of a system.

    Args:
        name: Name of the system in the wheel, such as h200_sxm.
        backend: Engine whose kernels were measured.
        version: Version of the engine; None: the newest with matrix products.
        repeats: As in `System`.
        folder: Folder `systems` of an unpacked wheel; None: that of the installed package.

    Raises:
        ValueError: The system, engine or version has no tables, or no package is installed.
    """
    if name not in SYSTEMS:
        raise ValueError(f"--system must be one of {', '.join(SYSTEMS)}, got {name}")
    root, package = _root(folder)
    data = root / "data" / name
    measured = sorted((data / "gemm" / backend).glob("*/gemm_perf.parquet"), key=_by_version)
    versions = [path.parent.name for path in measured]
    if not versions:
        found = sorted(path.name for path in (data / "gemm").glob("*") if path.is_dir())
        allowed = f"--backend must be one of {', '.join(found)}" if found else "it has no tables of that system"
        raise ValueError(f"{package} has no matrix products of {name} under {backend}: {allowed}")
    for option, value in (("--version", version), *(("--repeats", repeat) for repeat in repeats)):
        if value is not None and value not in versions:
            raise ValueError(f"{option} must be one of {', '.join(versions)} for {name} under {backend}, got {value}")
    chosen = version or versions[-1]
    return System(name, data, backend, chosen, repeats, _header(root, package, name, backend, chosen, repeats))


def _root(folder: Path | None) -> tuple[Path, str]:
    if folder is not None:
        if not (folder / "data").is_dir():
            raise ValueError(f"{folder} is not the folder `systems` of an unpacked wheel: it has no folder data")
        return folder, _package(folder.absolute())
    for module in PACKAGES:
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.submodule_search_locations:
            root = Path(spec.submodule_search_locations[0]) / "systems"
            return root, _package(root)
    raise ValueError(
        "no package with measurements is installed: pip install 'llm-serving-simulator[aiconfigurator]', "
        "or name the folder `systems` of an unpacked wheel with --systems"
    )


def _package(root: Path) -> str:
    """Return name and version of a folder's wheel, from its metadata."""
    name = PACKAGES.get(root.parent.name, root.parent.name)
    metadata = sorted(root.parent.parent.glob(f"{name.replace('-', '_')}-*.dist-info"))
    return " ".join([name, *(path.stem.rpartition("-")[2] for path in metadata[:1])])


def _header(root: Path, package: str, name: str, backend: str, version: str, repeats: Sequence[str]) -> Header:
    gpu: Mapping[str, Any] = yaml.safe_load((root / f"{name}.yaml").read_text())["gpu"]
    device, num_sms, l2_mb = SYSTEMS[name]
    repeated = f", matrix products also {', '.join(repeats)}" if repeats else ""
    formats = {dtype: gpu[key] / 1e12 for key, dtypes in _FORMATS.items() if key in gpu for dtype in dtypes}
    return Header(
        device=device,
        source=f"{package} (NVIDIA), {name}, {backend} {version}{repeated}",
        licence=LICENCE,
        date="2026",
        engine_generation=f"{backend} {version}",
        num_sms=num_sms,
        peak_tflops=gpu["bfloat16_tc_flops"] / 1e12,
        bandwidth_gb_per_s=_BANDWIDTH_GB_PER_S.get(device, gpu["mem_bw"] / 1e9),
        kernels=backend,
        format_tflops=formats,
        l2_mb=l2_mb,
    )


def _by_version(path: Path) -> list[int]:
    """Return the sort key of a table, by its version."""
    return version_key(path.parent.name)


def version_key(version: str) -> list[int]:
    """Return the sort key of a version; development builds come first."""
    numbers = [int(number) for number in re.findall(r"\d+", version)]
    return [0] if "dev" in version else numbers


def _nearest(folder: Path, name: str, version: str) -> Path | None:
    paths = sorted(folder.glob(f"*/{name}"), key=_by_version)
    older = [path for path in paths if _by_version(path) <= version_key(version)]
    if older:
        return older[-1]
    return paths[0] if paths else None
