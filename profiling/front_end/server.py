"""Process of vLLM's API server, whose engine is the stand-in."""

import os
import signal
import sys
from importlib import import_module
from typing import Any

from profiling.front_end.parent import pin, when_parent_closes


def main(arguments: list[str]) -> None:
    """Serve until the parent closes standard input.

    Args:
        arguments: Core (-1: any), zmq addresses for messages to and from the engine, then options of `vllm serve`.
    """
    core, input_address, output_address, *options = arguments
    pin(int(core))
    when_parent_closes(lambda: os.kill(os.getpid(), signal.SIGTERM))
    _use_cpu_platform()
    api_server = import_module("vllm.entrypoints.openai.api_server")
    parsed = _parsed(options)
    address, socket = api_server.setup_server(parsed)
    engine = {"input_address": input_address, "output_address": output_address}
    import_module("uvloop").run(api_server.run_server_worker(address, socket, parsed, client_config=engine))


def _use_cpu_platform() -> None:
    """Start without a GPU, whichever build of vLLM is installed."""
    platforms = import_module("vllm.platforms").builtin_platform_plugins
    for name in platforms:
        platforms[name] = _is_absent
    platforms["cpu"] = _cpu_platform


def _is_absent() -> None:
    return None


def _cpu_platform() -> str:
    return "vllm.platforms.cpu.CpuPlatform"


def _parsed(options: list[str]) -> Any:
    """Return parsed options of `vllm serve`."""
    command_line = import_module("vllm.entrypoints.openai.cli_args")
    parser = import_module("vllm.utils.argparse_utils").FlexibleArgumentParser()
    parsed = command_line.make_arg_parser(parser).parse_args(options)
    command_line.validate_parsed_serve_args(parsed)
    return parsed


if __name__ == "__main__":
    main(sys.argv[1:])
