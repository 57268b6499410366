"""Commands and snippets of the documentation run and print what it shows."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from simulator import simulate
from simulator.config import load_config
from tests.helpers import REPOSITORY, code_blocks
from tests.helpers import command as run_command
from tests.test_trace_files import CHATS, FORMATS

README = (REPOSITORY / "README.md").read_text()


def run(folder: Path, shown: str, *more: str) -> str:
    """Run a documented command in this process and return what it prints."""
    _, _, module, *arguments = shlex.split(shown)
    done = run_command(folder, module, *arguments, *more)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_process(folder: Path, command: list[str]) -> str:
    """Run a command in a new process that can import modules of its folder; return what it prints."""
    environment = os.environ | {"PYTHONPATH": f"{REPOSITORY}{os.pathsep}{folder}", "MPLBACKEND": "agg"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def words_of(text: str) -> list[str]:
    """Split a text into words, without the name of the output folder at its end."""
    return text.partition("written to")[0].split()


def test_the_readme_shows_what_its_main_command_prints(tmp_path: Path) -> None:
    (command,) = [line for line in README.splitlines() if line.startswith("pip install -e . && python -m simulator")]
    printed = run(tmp_path, command.partition(" && ")[2])
    assert words_of(printed) == words_of(code_blocks("README.md", "text")[0])


def test_the_readme_is_short_and_names_the_command_that_ci_runs() -> None:
    lines = README.splitlines()
    assert len(lines) <= 120
    assert max(map(len, lines)) <= 120
    command = 'pip install -e ".[test]" && pytest'
    assert command in README
    assert command in (REPOSITORY / ".ci" / "run").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("question", [1, 2, 3])
def test_the_readme_shows_what_its_questions_print(tmp_path: Path, question: int) -> None:
    lines = [line for block in code_blocks("README.md", "bash") for line in block.replace("\\\n", "").splitlines()]
    command = [line for line in lines if line.startswith("python -m simulator")][question - 1]
    printed = {" ".join(line.split()) for line in run(tmp_path, command).splitlines()}
    shown = [" ".join(line.split()) for line in code_blocks("README.md", "text")[question].splitlines()]
    assert shown
    assert set(shown) <= printed


@pytest.mark.slow
def test_the_examples_of_the_first_page_run(tmp_path: Path) -> None:
    commands = [line for block in code_blocks("docs/index.md", "bash") for line in block.splitlines()]
    commands = [line for line in commands if line.startswith("python -m simulator")]
    assert len(commands) == 18
    (tmp_path / "requests.csv").write_text("prompt_tokens,output_tokens,arrival_s\n9,2,0\n")
    for example in commands:
        _, _, module, *arguments = shlex.split(example)
        few = [] if module.endswith((".plot", ".report")) or "trace=file" in example else ["trace.num_requests=3"]
        done = run_command(tmp_path, module, *arguments, *few)
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_commands_about_capacity_run(tmp_path: Path) -> None:
    shown = [line for block in code_blocks("docs/capacity.md", "bash") for line in block.splitlines()]
    assert len(shown) == 13
    for command in shown:
        few = ["trace.num_requests=3", *(["search.trials=2"] if "simulator.search" in command else [])]
        if "simulator.compare" in command:
            for name in ("one", "two"):
                run(tmp_path, f"python -m simulator {few[0]} hydra.run.dir=outputs/{name}")
            (tmp_path / "bench.json").write_bytes((tmp_path / "outputs" / "two" / "summary.json").read_bytes())
            few = []
        run(tmp_path, command, *few)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["docs/python.md", "docs/capacity.md", "docs/seeing.md"])
def test_python_snippets_run(tmp_path: Path, path: str) -> None:
    for snippet in code_blocks(path, "python"):
        run_process(tmp_path, [sys.executable, "-c", snippet])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("index", "module", "config"),
    [
        (0, "my_policies", "scheduler/shortest_first"),
        (1, "my_routers", "cluster/router/short_first"),
        (2, "my_times", "iteration_time/per_token"),
    ],
)
def test_the_policies_of_the_documentation_run_from_their_two_files(
    tmp_path: Path, index: int, module: str, config: str
) -> None:
    python, yaml, bash = (code_blocks("docs/policies.md", language)[index] for language in ("python", "yaml", "bash"))
    (tmp_path / f"{module}.py").write_text(python)
    path = tmp_path / "my_configs" / f"{config}.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(yaml)
    printed = run_process(
        tmp_path, [sys.executable, *shlex.split(bash.replace("\\\n", ""))[1:], "trace.num_requests=40"]
    )
    assert "40 finished" in printed


@pytest.mark.slow
def test_a_vllm_deployment_is_planned_in_five_commands(tmp_path: Path) -> None:
    shown = [line for block in code_blocks("docs/vllm.md", "bash")[:5] for line in block.splitlines()]
    assert len(shown) == 5
    for command in shown:
        few = [] if "simulator.plot" in command else ["trace.num_requests=40"]
        run(tmp_path, command, *few)
    assert (tmp_path / "outputs" / "plots" / "prefixes.png").read_bytes().startswith(b"\x89PNG")


def test_the_launches_of_the_documentation_compose_and_print_a_command(tmp_path: Path) -> None:
    line, manifest = code_blocks("docs/vllm.md", "bash")[5].splitlines()
    (tmp_path / "deployment.yaml").write_text("command: [vllm, serve]\nargs: [Qwen/Qwen3-32B, -tp, 2]\nreplicas: 2\n")
    few = "trace.num_requests=5"
    assert "4 GPUs" in run(tmp_path, line.replace(" -- ", f" {few} -- "))
    assert "# on each of 2 replicas, 2 x h100_sxm\nvllm serve Qwen/Qwen3-32B" in run(tmp_path, f"{manifest} {few}")
    (snippet,) = code_blocks("docs/vllm.md", "python")
    assert "\nvllm serve Qwen/Qwen3-32B \\\n" in run_process(tmp_path, [sys.executable, "-c", snippet])


def test_the_figures_of_the_vllm_example_match_its_commands() -> None:
    document = (REPOSITORY / "docs" / "vllm.md").read_text()
    common = ("deployment=vllm_v1_llama3_8b_h100", "trace=shared_prefix", "arrival.qps=10")
    cached, plain = (
        simulate(**load_config(*common, f"kv_cache.prefix_caching={value}")).summary for value in ("true", "false")
    )
    assert f"| prompt tokens cached | {cached['prefix_cache']['hit_rate_tokens']:.1%} |" in document
    for title, metric, statistic in (
        ("TTFT, mean", "ttft_s", "mean"),
        ("TTFT, P99", "ttft_s", "p99"),
        ("TBT, P99", "tbt_s", "p99"),
    ):
        times = [f"{1e3 * summary[metric][statistic]:.0f} ms" for summary in (cached, plain)]
        assert f"| {title} | {times[0]} | {times[1]} |" in document


@pytest.mark.slow
def test_the_commands_about_layouts_run(tmp_path: Path) -> None:
    joined = [block.replace("\\\n", "") for block in code_blocks("docs/layouts.md", "bash")]
    shown = [line for block in joined for line in block.splitlines()]
    assert len(shown) == 6
    for content in code_blocks("docs/layouts.md", "yaml"):
        path = tmp_path / content.splitlines()[0].removeprefix("# ")
        path.parent.mkdir(parents=True)
        path.write_text(content)
    for command in shown:
        if "model=hf" not in command:
            run(tmp_path, command, "trace.num_requests=10")


@pytest.mark.slow
def test_the_commands_about_trust_run(tmp_path: Path) -> None:
    shown = [line for block in code_blocks("docs/trust.md", "bash") for line in block.splitlines()]
    assert len(shown) == 5
    for command in shown:
        run(tmp_path, command, "trace.num_requests=10")


SAMPLES = {
    "AzureLLMInferenceTrace_conv.csv": "azure 2023",
    "AzureLLMInferenceTrace_code_1week.csv": "azure 2024",
    "AzureLMMInferenceTrace_multimodal.csv.gz": "azure 2025",
    "BurstGPT_1.csv": "burstgpt",
    "conversation_trace.jsonl": "mooncake",
    "qwen_traceA_blksz_16.jsonl": "bailian",
    "rr_conv_70.csv": "splitwise",
    "splitwise_conv.csv": "vidur",
    "bench.json": "vllm bench",
    "workload.csv": "servegen",
    "profile_export.jsonl": "aiperf records",
    "sharegpt.jsonl": "llmservingsim without tokens",
}


@pytest.mark.slow
def test_the_commands_about_workloads_run(tmp_path: Path, tokenizer_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command reads a few rows in the format of the file that it names."""
    monkeypatch.chdir(tmp_path)
    for name, sample in SAMPLES.items():
        text = FORMATS[sample][0].replace("2024-05-12 00:00:00+00:00", "2024-05-11 12:00:00+00:00")
        (tmp_path / name).write_text(text)
    (tmp_path / "ShareGPT_V3_unfiltered_cleaned_split.json").write_text(json.dumps(CHATS))
    (tmp_path / "tokenizer.json").write_bytes(Path(tokenizer_path).read_bytes())
    document = (REPOSITORY / "docs" / "workloads.md").read_text()
    shown = [line for block in code_blocks("docs/workloads.md", "bash") for line in block.splitlines()]
    shown += re.findall(r"`(python -m simulator trace=[^`]+)` \|$", document, re.MULTILINE)
    assert len(shown) == 27
    for command in shown:
        few = ["trace.num_requests=20"] if "simulator" in command and "trace=file" not in command else []
        _, _, module, *arguments = shlex.split(command)
        if module == "simulator" and "--config-dir" not in arguments:
            assert simulate(**load_config(*arguments, *few)).summary["num_finished"] > 0
        else:
            run(tmp_path, command, *few)


NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
MAX_LINES = 32


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_contain_no_output_and_no_logic(path: Path) -> None:
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
            assert len(cell["source"]) <= MAX_LINES
    assert path.stat().st_size < 10_000


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_run_and_show_figures(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}})
    client.execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in shown) >= 2


def test_links_between_documents_are_valid() -> None:
    for path in [REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
            if not target.startswith("http"):
                assert (path.parent / target).exists(), f"{path.name} links to {target}"


@pytest.mark.slow
def test_the_documentation_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install -e '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    reference = (tmp_path / "site" / "reference" / "command_line" / "index.html").read_text()
    assert "output.timeline=false" in reference
    assert (
        "Simulate a deployment that serves a trace"
        in (tmp_path / "site" / "reference" / "python_api" / "index.html").read_text()
    )


def test_every_figure_of_the_documentation_exists_and_is_small() -> None:
    pictures = list((REPOSITORY / "docs").rglob("*.png"))
    assert all(path.stat().st_size < 600_000 for path in pictures)
    for document in (REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")):
        for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", document.read_text()):
            assert (document.parent / target).is_file(), target
