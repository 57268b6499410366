"""`python -m simulator.predict`: iteration time of one batch, broken down by operator."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from simulator.cli import hydra_command, terminal_table
from simulator.config import build_prediction, description, named
from simulator.iteration_time import time_breakdown
from simulator.launch import with_launch
from simulator.model import Device, Layout
from simulator.output import deployment_lines, deployment_parts
from simulator.replica import Batch
from simulator.results import Column, share, table_of
from traces.shared.atomic_files import atomic_file
from traces.shared.spelling import counted
from traces.shared.terminal import facts, note, show, warn
from traces.shared.warnings import Warning

HELP = """\
Predicts the iteration time of one batch and breaks it down by operator.

  python -m simulator.predict [key=value ...]
  python -m simulator.predict model=llama2_70b device=a100_80gb_sxm parallel.tp=4 'decode=[[32,4096]]'
  python -m simulator.predict 'prefill=[[512,0]]' 'decode=[[32,4096]]' engine=none output.json=batch.json

  prefill=[[CHUNK,CONTEXT],...]  prefill chunks: tokens in the chunk, and context tokens before it
  decode=[[COUNT,CONTEXT],...]   decodes: number of requests, and context tokens of each
  scheduler=sarathi              chooses the engine and its kernels unless engine= does: vllm_v1 today's vLLM,
                                 any other the engine and kernels of 2024 (where the device has them)
  model= device= parallel.tp= parallel.pp= cluster.node= kv_cache.dtype= iteration_time= engine=
                                 see `python -m simulator --help`
  output.json=FILE               also write the prediction: iteration_s, stages, operators, mfu, mbu
  output.plot=FILE               also draw a roofline plot of the kernels, .png or .svg

Exit status: 0, 2 for invalid input."""

_OPERATORS = (
    Column("name", "operator", str),
    Column("seconds_per_layer", "us/layer", lambda seconds: f"{seconds * 1e6:,.1f}"),
    Column("layers", "layers", str),
    Column("seconds", "ms", lambda seconds: f"{seconds * 1e3:,.3f}"),
    Column("share", "share", share),
    Column("arithmetic_intensity", "FLOP/byte", "{:,.1f}".format),
    Column("bound", "bound by", str),
)


def main() -> None:
    """Run the command line."""
    hydra_command.run(_predict, HELP, "predict", read_launch=with_launch, writes=False)


def _predict(config: DictConfig, folder: Path) -> None:  # noqa: ARG001  # writes only to output.json and output.plot
    prediction = build_prediction(config)
    stage_times, device = prediction["stage_times"], prediction["device"]
    breakdown = time_breakdown(stage_times, device, Batch.of(prediction["prefill"], prediction["decode"]))
    console = Console()
    about = description(config, prediction["deployment"])
    breakdown["warnings"] += [warning.text for warning in _impossible(prediction)]
    breakdown |= {"groups": about["groups"], "choices": about["choices"]}
    written = _write(breakdown, device, config)
    _print_breakdown(breakdown, deployment_lines(about), console)
    if written:
        note(console, f"written to {', '.join(written)}")


def _impossible(prediction: dict[str, Any]) -> Iterator[Warning]:
    """Yield why the deployment could not run the batch."""
    layout: Layout = prediction["deployment"].layout
    weights_gib = max(map(layout.weight_bytes, range(layout.parallel.pp))) / 2**30
    memory_gib, longest = layout.device.memory_gib, layout.model.max_model_len
    if weights_gib > memory_gib:
        yield Warning(
            "does_not_fit",
            f"the weights do not fit: {weights_gib:,.1f} GiB per GPU with tp={layout.parallel.tp} "
            f"pp={layout.parallel.pp}, and {layout.device.name} has {memory_gib:g} GiB",
        )
    lengths = [*map(sum, prediction["prefill"]), *(context for _, context in prediction["decode"])]
    if max(lengths) > longest:
        text = f"a request has {max(lengths):,} tokens, and model.max_model_len={longest:,}: no engine would admit it"
        yield Warning("too_long", text)


def _write(breakdown: dict[str, Any], device: Device, config: DictConfig) -> list[str]:
    """Write all files or none, and return their names."""
    with ExitStack() as written:
        if config.output.json is not None:
            file = written.enter_context(atomic_file(Path(config.output.json)))
            json.dump(breakdown, file, indent=2, allow_nan=False)
            file.write("\n")
        if config.output.plot is not None:
            _draw(breakdown, device, config)
    return [path for path in config.output.values() if path is not None]


def _draw(breakdown: dict[str, Any], device: Device, config: DictConfig) -> None:
    # matplotlib takes longer to import than a prediction
    from simulator.plot import roofline, save
    from traces.shared.figure_style import set_title

    figure = roofline(device, {counted(breakdown["num_tokens"], "token"): breakdown})
    set_title(figure, "Roofline of the kernels of one batch", ", ".join(deployment_parts(breakdown)))
    with named("output.plot", ": "):
        save(figure, config.output.plot)


def _print_breakdown(breakdown: dict[str, Any], deployment: dict[str, str], console: Console) -> None:
    stages = breakdown["stages"]
    rows = [*deployment.items(), ("batch", counted(breakdown["num_tokens"], "token")), ("", "")]
    parts = " + ".join(f"{seconds * 1e3:.3f}" for seconds in stages)
    total = f"{breakdown['iteration_s'] * 1e3:.3f} ms"
    rows.append(("iteration", f"{total} ({parts} by stage)" if len(stages) > 1 else total))
    rows.append(("utilisation", f"MFU {breakdown['mfu']:.1%}, MBU {breakdown['mbu']:.1%}"))
    ridges = [f"{ridge:.0f} FLOP/byte in {dtype}" for dtype, ridge in breakdown["ridge_flop_per_byte"].items()]
    rows.append(("ridge point", ", ".join(ridges)))
    show(console, facts(rows))
    for stage in range(len(stages)):
        title = f"stage {stage}, one GPU" if len(stages) > 1 else "one GPU"
        own = (row for row in breakdown["operators"] if row["stage"] == stage)
        rows_of_stage = ({**row, "share": row["seconds"] / stages[stage]} for row in own)
        show(console, "", terminal_table(table_of(title, _OPERATORS, rows_of_stage), titled=True))
    show(console, "")
    for warning in breakdown["warnings"]:
        warn(console, warning)


if __name__ == "__main__":
    main()
