"""The command `llmsim`: the same commands as `python -m`, help, spelling, completion, start-up."""

import json
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from simulator import __version__
from simulator.config import composed
from simulator.console.command import main, run_console
from simulator.console.commands import COMMANDS
from simulator.console.keys import keys_of
from tests.helpers import REPOSITORY, code_blocks, command, run_main
from tests.test_interruption import interrupt, popen, wait_for

SMALL = ["trace=fixed", "trace.num_requests=5", "trace.output_tokens=4"]
SCRIPT = "import sys\nfrom simulator.console.command import main\nif __name__ == '__main__':\n    sys.exit(main())\n"
POLICY = """from simulator.schedulers import Orca
def mine(max_num_seqs: int) -> Orca:
    return Orca(max_num_seqs)
"""
MAX_START_S = 0.6  # of CPU; it takes 0.06 s, and a busy machine several times as long
SLOW_IMPORTS = ("numpy", "hydra", "omegaconf", "matplotlib", "pandas", "rich", "yaml")


def llmsim(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder, in this process."""
    return command(folder, "simulator.console.command", *arguments)


@pytest.fixture
def script(tmp_path: Path) -> list[str]:
    """The command as pip installs it: a script that calls the entry point."""
    path = tmp_path / "bin" / "llmsim"
    path.parent.mkdir()
    path.write_text(SCRIPT)
    return [sys.executable, str(path)]


def run_script(script: list[str], folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)} | variables
    return subprocess.run(
        [*script, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_package_installs_the_command() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    module, _, function = project["scripts"]["llmsim"].partition(":")
    assert getattr(import_module(module), function) is main


def test_every_module_command_is_a_command() -> None:
    packages = [*(REPOSITORY / "simulator").rglob("*.py"), *(REPOSITORY / "traces").rglob("*.py")]
    starting = {path for path in packages if '\nif __name__ == "__main__":' in path.read_text()}
    starting.add(REPOSITORY / "profiling" / "__main__.py")
    entries = {".".join(path.relative_to(REPOSITORY).with_suffix("").parts) for path in starting}
    assert entries == {entry.entry for entry in COMMANDS.values()}


def test_the_version_is_that_of_the_package(tmp_path: Path) -> None:
    done = llmsim(tmp_path, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"llmsim {__version__}\n", "")


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["help"], []])
def test_help_lists_every_command_with_one_line(tmp_path: Path, arguments: list[str]) -> None:
    done = llmsim(tmp_path, *arguments)
    assert done.returncode == (0 if arguments else 2)
    listed = dict(line.strip().split(maxsplit=1) for line in done.stdout.partition("Commands:\n")[2].splitlines())
    assert list(listed) == [*COMMANDS, "help", "completion"]
    assert not [line for line in listed.values() if line.endswith("...")]
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_names_it_as_it_was_called(tmp_path: Path, name: str) -> None:
    shown, helped = llmsim(tmp_path, name, "--help"), llmsim(tmp_path, "help", name)
    assert shown.returncode == helped.returncode == 0
    assert shown.stdout == helped.stdout
    assert f"llmsim {name}" in shown.stdout
    assert "python -m" not in shown.stdout
    module = command(tmp_path, COMMANDS[name].entry.removesuffix(".__main__"), "--help")
    assert module.returncode == 0
    assert COMMANDS[name].as_module in module.stdout
    assert "llmsim" not in module.stdout


def test_errors_name_commands_as_they_were_called(tmp_path: Path) -> None:
    message = "error: model=yi_34b: model is a setting of the paper; use `{}` to change it\n"
    assert llmsim(tmp_path, "reproduce", "model=yi_34b").stderr == message.format("llmsim run")
    done = command(tmp_path, "simulator.reproduce", "model=yi_34b")
    assert done.stderr == message.format("python -m simulator")


@pytest.mark.parametrize(
    ("name", "module", "arguments"),
    [
        ("run", "simulator", [*SMALL, "hydra.run.dir=out"]),
        ("run", "simulator", ["-m", "scheduler=vllm,orca", *SMALL, "hydra.sweep.dir=out"]),
        ("capacity", "simulator.capacity", [*SMALL, "slo.ttft_p90=2", "capacity.max_trials=2", "hydra.run.dir=out"]),
        ("predict", "simulator.predict", ["decode=[[8,100]]", "output.json=out.json"]),
        ("traces", "traces", ["describe", "requests.csv", "json=out.json"]),
        ("schema", "simulator.schema", ["output=schema.json"]),
    ],
)
def test_both_doors_give_the_same_bytes(tmp_path: Path, name: str, module: str, arguments: list[str]) -> None:
    folders = [tmp_path / "console", tmp_path / "module"]
    for folder in folders:
        folder.mkdir()
        (folder / "requests.csv").write_text("prompt_tokens,output_tokens,arrival_s\n9,2,0\n5,3,1\n7,7,2\n")
    results = llmsim(folders[0], name, *arguments), command(folders[1], module, *arguments)
    assert results[0].returncode == 0, results[0].stderr
    printed = [done.stdout.replace(str(folder), "") for done, folder in zip(results, folders, strict=True)]
    assert printed[0] == printed[1]
    assert results[0].stderr == results[1].stderr
    first, second = (
        {
            str(path.relative_to(folder)): path.read_bytes().replace(str(folder).encode(), b"")  # Hydra notes it
            for path in folder.rglob("*")
            if path.is_file()
        }
        for folder in folders
    )
    assert len(first) > 1
    assert first.keys() == second.keys()
    assert [path for path in first if first[path] != second[path]] == []


def test_packages_of_the_user_are_imported_from_the_current_folder(tmp_path: Path, script: list[str]) -> None:
    (tmp_path / "my_policy.py").write_text(POLICY)
    own = ["scheduler=orca", "scheduler._target_=my_policy.mine", "allow_targets=[my_policy,simulator]"]
    done = run_script(script, tmp_path, "run", *own, *SMALL, "hydra.run.dir=out")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["num_finished"] == 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_command_in_one_line(tmp_path: Path, script: list[str], number: signal.Signals) -> None:
    process = popen(tmp_path, [*script, "run", "trace=sharegpt", "trace.num_requests=400000", "hydra.run.dir=run"])
    wait_for(lambda: (tmp_path / "run").is_dir(), process)
    assert interrupt(process, number) == "interrupted: nothing was written"


def test_an_internal_error_has_status_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulator.predict.build_prediction", lambda _: {})
    done = llmsim(tmp_path, "predict", "decode=[[8,100]]")
    assert done.returncode == 1
    assert done.stderr == "error: KeyError: 'stage_times' (an internal error; debug=true shows where)\n"


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        ("rum", "did you mean run? "),
        ("token_budget", "did you mean token-budget? "),
        ("profile fti", "did you mean fit? "),
        ("profile fit x --ouput y", "Did you mean '--output'?"),
        ("traces descrbe x.csv", "did you mean describe? "),
        ("traces describe x.csv on_eror=skip", "did you mean on_error? "),
        ("run schedular=vllm", "did you mean scheduler? "),
        ("run scheduler=sarathy", "did you mean sarathi? "),
        ("run scheduler.token_budgt=512", "did you mean scheduler.token_budget? "),
        ("run tp=2", "did you mean parallel.tp? "),
        ("run num_requests=2", "did you mean trace.num_requests? "),
        ("run metrics.warmup=2", "did you mean metrics.warmup_s? "),
        ("run --multirum", "did you mean --multirun? "),
        ("run 'cluster.groups=[{devic: a40}]'", "did you mean cluster.groups[0].device? "),
        ("run 'cluster.groups=[{device: a4}]'", "did you mean a40? "),
        ("plot x fromat=png", "did you mean format? "),
        ("schema outputs=x", "did you mean output? "),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest(tmp_path: Path, arguments: str, nearest: str) -> None:
    done = llmsim(tmp_path, *shlex.split(arguments))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert nearest in line
    assert list(tmp_path.iterdir()) == []


def test_a_name_like_no_other_is_answered_with_those_allowed(tmp_path: Path) -> None:
    done = llmsim(tmp_path, "xyzzy")
    assert (
        done.stderr == f"error: xyzzy is not a command; allowed are: {', '.join([*COMMANDS, 'help', 'completion'])}\n"
    )


def test_the_help_of_completion_keeps_its_lines(tmp_path: Path) -> None:
    shown = llmsim(tmp_path, "completion", "--help").stdout
    assert "\\b" not in shown
    shells = [line.split()[0] for line in shown.splitlines() if "$(llmsim" in line or "| source" in line]
    assert shells == ["bash", "zsh", "fish"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["help", "run"],
        ["run", "trace=fixed", "trace.num_requests=5", "iteration_time=affine", "hydra.run.dir=run"],
        ["predict", "decode=[[8,100]]", "iteration_time=roofline"],
        ["run", "--cfg", "job"],
    ],
)
def test_a_closed_pipe_ends_a_command_quietly(tmp_path: Path, script: list[str], arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [*script, *arguments], cwd=tmp_path, env=environment, stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")
    assert (tmp_path / "run" / "summary.json").exists() == ("hydra.run.dir=run" in arguments)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["help"]])
def test_help_and_version_start_fast(tmp_path: Path, script: list[str], arguments: list[str]) -> None:
    def cpu_s() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    times = []
    for _ in range(3):
        before = cpu_s()
        assert run_script(script, tmp_path, *arguments).returncode == 0
        times.append(cpu_s() - before)
    assert min(times) < MAX_START_S


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["completion", "bash"], ["nope"]])
def test_help_and_version_import_nothing_slow(tmp_path: Path, arguments: list[str]) -> None:
    code = f"""import sys
from simulator.console.command import run_console
run_console({arguments})
print([name for name in {SLOW_IMPORTS} if name in sys.modules])"""
    done = run_script([sys.executable, "-c", code], tmp_path)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def completed(line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return how the words of a line go on, as bash asks for it."""
    monkeypatch.setenv("_LLMSIM_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_LINE", line)
    assert run_main(main, [], Path.cwd(), monkeypatch) == 0
    return capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("llmsim ca", "capacity"),
        ("llmsim help ca", "capacity"),
        ("llmsim --v", "--version"),
        ("llmsim completion f", "fish"),
        ("llmsim run sche", "scheduler= scheduler."),
        ("llmsim run +sche", "+scheduler= +scheduler."),
        ("llmsim run scheduler=sar", "sarathi"),
        ("llmsim run -m scheduler=vllm,sar", "vllm,sarathi"),
        ("llmsim run scheduler.", "scheduler.token_budget= scheduler.max_num_seqs= scheduler.dynamic_chunks."),
        ("llmsim run scheduler=vllm scheduler.", "scheduler.max_num_batched_tokens= scheduler.max_num_seqs="),
        ("llmsim run scheduler=vllm,orca scheduler.max_num_b", "scheduler.max_num_batched_tokens="),
        ("llmsim run experiment=near", "near_saturation"),
        ("llmsim run cluster.router=st", "sticky"),
        ("llmsim run trace=mix trace.clients.c", "trace.clients.chat."),
        ("llmsim run check=", "true false"),
        ("llmsim run --mu", "--multirun"),
        ("llmsim run hydra.r", "hydra.run.dir="),
        ("llmsim capacity slo=str", "strict"),
        ("llmsim capacity capacity.se", "capacity.seeds="),
        ("llmsim search search.de", "search.devices="),
        ("llmsim predict pre", "prefill="),
        ("llmsim plot for", "format="),
        ("llmsim traces des", "describe"),
        ("llmsim profile fi", "fit"),
        ("llmsim profile import vi", "vidur"),
        ("llmsim profile fit --out", "--output"),
        ("llmsim profile measure --on c", "cuda cpu"),
        ("llmsim run scheduler=nope", ""),
        ("llmsim run nope.", ""),
    ],
)
def test_words_are_completed(
    line: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert completed(line, monkeypatch, capsys) == [f"plain,{word}" for word in words.split()]


@pytest.mark.parametrize(
    ("line", "start"),
    [
        ("llmsim plot ou", "plain,output="),
        ("llmsim plot outputs/", "file,outputs/"),
        ("llmsim run trace=file trace.path=requ", "file,requ"),
        ("llmsim run --config-dir con", "file,con"),
        ("llmsim profile fit meas", "file,meas"),
    ],
)
def test_files_are_left_to_the_shell(
    line: str, start: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert completed(line, monkeypatch, capsys) == [start]


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("config", []),
        ("config", ["scheduler=vllm_v1", "device=h100_sxm"]),
        ("config", ["trace=mix", "cluster.router=sticky"]),
        ("config", ["trace=sharegpt_sessions", "arrival=sessions", "engine=vllm_v1_2025"]),
        ("capacity", ["slo=paper_strict"]),
        ("token_budget", []),
        ("search", []),
        ("predict", ["model=yi_34b"]),
    ],
)
def test_the_completed_keys_are_those_of_the_configuration(name: str, overrides: list[str]) -> None:
    keys = keys_of(name, dict(override.split("=", 1) for override in overrides))
    with composed(name, overrides) as config:
        plain = OmegaConf.to_container(config)
    assert isinstance(plain, dict)
    assert set(flattened(keys)) - {"experiment", "deployment"} == set(flattened(plain))


def flattened(keys: Mapping[Any, Any], prefix: str = "") -> Iterator[str]:
    for name, value in keys.items():
        if name == "hydra":
            continue
        if isinstance(value, dict) and value:
            yield from flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


@pytest.mark.parametrize(
    ("line", "reply"),
    [("llmsim run scheduler=sar", "sarathi"), ("llmsim run sche", "scheduler= scheduler."), ("llmsim ca", "capacity")],
)
@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes(tmp_path: Path, script: list[str], line: str, reply: str) -> None:
    shell = f"""llmsim() {{ {shlex.join(script)} "$@"; }}
compopt() {{ true; }}
eval "$(llmsim completion bash)"
COMP_LINE={shlex.quote(line)} COMP_POINT={len(line)}
_llmsim_completion llmsim
echo "${{COMPREPLY[*]}}"
complete -p llmsim"""
    done = run_script(["bash", "-c", shell], tmp_path)
    assert done.stderr == ""
    shown, function = done.stdout.splitlines()
    assert shown == reply
    assert function == "complete -o nosort -F _llmsim_completion llmsim"


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_read_their_script(tmp_path: Path, script: list[str], shell: str) -> None:
    done = run_script(script, tmp_path, "completion", shell)
    assert re.search(rf"_LLMSIM_COMPLETE={shell}_complete", done.stdout)
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "script").write_text(done.stdout)
    checked = subprocess.run([shell, "-n", tmp_path / "script"], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_whole_words(
    shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_LLMSIM_COMPLETE", f"{shell}_complete")
    monkeypatch.setenv("COMP_WORDS", "llmsim run scheduler=vllm,sar")
    monkeypatch.setenv("COMP_CWORD", {"zsh": "2", "fish": "scheduler=vllm,sar"}[shell])
    assert run_main(main, [], Path.cwd(), monkeypatch) == 0
    expected = {"zsh": "plain\nscheduler=vllm,sarathi\n_\n", "fish": "plain,scheduler=vllm,sarathi\n"}
    assert capsys.readouterr().out == expected[shell]


def test_the_console_returns_the_status_of_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_console(["help", "nope"]) == 2
    assert capsys.readouterr().err.startswith("error: nope is not a command; ")


def test_the_commands_of_the_documentation_run(tmp_path: Path) -> None:
    shown = [line for block in code_blocks("docs/console.md", "bash") for line in block.splitlines()]
    assert len(shown) == 4
    for line in shown:
        name, *arguments = shlex.split(line)
        assert name == "llmsim"
        assert llmsim(tmp_path, *arguments).returncode == 0


@pytest.mark.slow
def test_a_sweep_runs_in_several_processes(tmp_path: Path, script: list[str]) -> None:
    sweep = ["-m", "scheduler=vllm,orca", *SMALL, "hydra/launcher=joblib", "hydra.sweep.dir=out"]
    done = run_script(script, tmp_path, "run", *sweep)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "out" / "sweep.csv").read_text().splitlines()) == 3
