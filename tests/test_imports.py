"""Who may import whom."""

import ast
from pathlib import Path

import pytest

from tests.helpers import REPOSITORY

READERS = ("chats", "collector", "columns", "identities", "rows", "tables", "values", "vllm_bench")
COMMANDS = ("capacity", "token_budget", "search", "reproduce", "compare", "plot", "report")
ENTRY_POINTS = {
    *(
        f"simulator/{name}.py"
        for name in ("__main__", "cli", "components", "config", "errors", "identity", "predict", "sweep")
    ),
    *(f"simulator/{command}/{name}.py" for command in COMMANDS for name in ("__main__", "config")),
    "simulator/plot/typical_batches.py",
}
PLOTS = ("batches", "cost", "latency", "memory", "pipeline", "prefix_cache", "roofline", "stalls", "sweeps")
# Of each heavy or layered package, the only files that may import it.
ALLOWED = {
    "hydra": ENTRY_POINTS,
    "omegaconf": ENTRY_POINTS,
    "simpy": {f"simulator/{name}.py" for name in ("clock", "engine", "pipeline", "batch_queue", "cluster", "outages")},
    "rich": {
        *(f"simulator/{name}.py" for name in ("__main__", "predict", "summary_table", "terminal")),
        *(f"traces/{name}.py" for name in ("__main__", "report")),
        *(f"simulator/{command}/{name}.py" for command in COMMANDS for name in ("__main__", "report")),
    },
    "matplotlib": {
        "traces/shared/figure_style.py",
        "traces/tools/drawing.py",
        *(f"simulator/plots/{name}.py" for name in PLOTS),
        *(f"simulator/{command}/drawing.py" for command in COMMANDS),
        "simulator/plot/pictures.py",
    },
    "pyarrow": {
        "traces/readers/trace_file.py",
        "traces/tools/save.py",
        "simulator/output/saved_run.py",
        *(f"traces/readers/{name}.py" for name in READERS),
    },
    "tokenizers": {"traces/readers/tokenizer.py"},
    "optuna": {"simulator/search/cheapest.py"},
    "joblib": {"simulator/reproduce/__main__.py"},
    "torch": set[str](),
    "sklearn": set[str](),
}
# Arrows point at what is imported: a module may import only those in front of it in one of these lists.
LAYERS = [
    ["batch", "decode_set", "replica", "schedulers", "engine", "pipeline", "cluster", "replica_result"],
    ["cluster", "replica_result", "totals", "result", "simulation", "config"],
    ["precision", "hardware", "host", "parallelism", "model", "node", "layout", "communication", "iteration_time"],
    ["batch", "iteration_time", "provenance", "result"],
    ["layout", "kv_cache", "simulation"],
    ["message_times", "communication"],
    ["replica", "iteration_log", "engine"],
    ["replica", "routers", "gateway", "cluster"],
    ["clock", "engine"],
    ["stages", "engine"],
    ["metrics", "result"],
    ["components", "config", "cli"],
    ["metrics", "result", "slo", "capacity", "token_budget"],
    ["workload", "simulation", "capacity", "search"],
    ["config", "capacity", "reproduce"],
    ["output", "sweep", "cli"],
    ["followers", "cluster", "simulation"],
    ["slo", "clients", "__main__"],
    ["slo", "simulation"],
    ["result", "over_time", "plots", "plot"],
    ["over_time", "timeline", "output"],
    ["result", "saved_run", "output"],
    ["plots", "plot", "report"],
    ["faults", "outages", "cluster", "outage_result", "result"],
    ["replica", "ledger", "cluster"],
    ["status", "result", "laws", "simulation"],
]


def files(package: str) -> list[Path]:
    return sorted((REPOSITORY / package).rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    """Absolute names of all modules that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names.add(node.module or "")
    return names


def module_of(name: str) -> str:
    return name.split(".")[1] if name.startswith("simulator.") else ""


@pytest.mark.parametrize("package", ALLOWED)
def test_heavy_packages_are_imported_only_where_they_belong(package: str) -> None:
    importers = {
        path.relative_to(REPOSITORY).as_posix()
        for folder in ("simulator", "traces")
        for path in files(folder)
        if any(name.split(".")[0] == package for name in imports_of(path))
    }
    assert importers <= ALLOWED[package]


@pytest.mark.parametrize("layers", LAYERS, ids="-".join)
def test_arrows_point_one_way(layers: list[str]) -> None:
    for path in files("simulator"):
        module = path.relative_to(REPOSITORY / "simulator").parts[0].removesuffix(".py")
        if module in layers:
            above = set(layers[layers.index(module) + 1 :])
            reached_up = above & {module_of(name) for name in imports_of(path)}
            assert not reached_up, f"{path} imports {reached_up}"


TRACE_LAYERS = [
    ["trace", "base", "arrival", "sessions", "readers", "file", "describe", "fit", "__main__"],
    ["lengths", "synthetic", "conversations", "fit"],
    ["rows", "tables", "content"],
    ["columns", "values", "collector"],
    ["columns", "identities", "collector"],
]


@pytest.mark.parametrize("layers", TRACE_LAYERS, ids="-".join)
def test_arrows_point_one_way_in_traces_too(layers: list[str]) -> None:
    for path in files("traces"):
        parts = path.relative_to(REPOSITORY / "traces").with_suffix("").parts
        for module in set(parts) & set(layers):
            above = set(layers[layers.index(module) + 1 :])
            known = {part for name in imports_of(path) if name.startswith("traces.") for part in name.split(".")[1:]}
            assert not above & known, f"{path} imports {above & known}"


PROFILING_LAYERS = ["tables", "host_memory", "environment", "serving", "measure", "in_engine", "validate", "campaign"]


def test_arrows_point_one_way_in_profiling_too() -> None:
    for path in files("profiling"):
        module = path.relative_to(REPOSITORY / "profiling").parts[0].removesuffix(".py")
        if module in PROFILING_LAYERS:
            above = set(PROFILING_LAYERS[PROFILING_LAYERS.index(module) + 1 :])
            known = {name.split(".")[1] for name in imports_of(path) if name.startswith("profiling.")}
            assert not above & known, f"{path} imports {above & known}"


def test_policies_do_not_know_each_other_nor_the_clock() -> None:
    for path in files("simulator/schedulers"):
        known = {name for name in imports_of(path) if name.startswith(("simulator", "simpy"))}
        allowed = ("batch", "replica", "caching", "decode_set", "schedulers.base")
        assert known <= {f"simulator.{name}" for name in allowed}, path


def test_metrics_know_numpy_alone() -> None:
    assert not {
        name for name in imports_of(REPOSITORY / "simulator/results/latency.py") if name.startswith("simulator")
    }


def test_traces_do_not_know_the_simulator() -> None:
    for path in files("traces"):
        assert not {name for name in imports_of(path) if name.startswith(("simulator", "profiling"))}, path
