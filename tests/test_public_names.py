"""What each package exports: the names that configurations, other packages and users may use."""

import re
from importlib import import_module

import pytest

from tests.helpers import REPOSITORY
from tests.test_imports import KNOWN, exports_of

EXPORTS = {
    "simulator": "ConfigError Deployment MetricOptions Objective Result SLO load_config load_result simulate",
    "simulator.capacity": "Bisection Capacity CapacityTask Trial build_capacity find_capacity lasting_warnings"
    " load_capacity",
    "simulator.cli": "Figures HELP SweepReport WARNINGS_JOINT as_written print_summary run_command terminal_table",
    "simulator.cluster": "BACKENDS Cluster Deployment Fault FaultRate Faults FollowUps Part PartSimulation RESTART"
    " ReplicaSpec collect_result fixed_routes groups_of has_token_budget request_ids request_table specs_of split"
    " token_budget_of with_token_budget",
    "simulator.accuracy": "Comparison Point Skipped compare",
    "simulator.compare": "Run read_run",
    "simulator.config": "CONFIG_DIR ConfigError GROUPS MOST_NODES VERSION allowing build build_experiment"
    " build_prediction build_slo check_config_dir check_override choices chosen code_digest combine_policies"
    " component composed deployment_of description files_of input_digests integer_pairs json_schema load_config"
    " model_choice named num_nodes one_line overrides_of published_models recomposed require_integer require_keys"
    " require_mapping require_objectives resolved to_hydra unknown_model",
    "simulator.core": "AUTO CHOICES COMPILED PYTHON VARIABLE in_use require",
    "simulator.engine": "ARRIVAL BatchQueueEngine Clock Engine FAULT PipelineEngine ReplicaRun SingleStageEngine"
    " StuckReason stop_endless_calls stuck_reason",
    "simulator.invariants": "CheckedReplica ExpectedState InvariantError check_result",
    "simulator.iteration_time": "Affine Attention AttentionCases AttentionFit AttentionFits Collectives ComposedTimes"
    " CorrectedPhysics DESIGNS DeviceProfile Elementwise ElementwiseFit ExpertCases Experts ExpertsFit Extent Floats"
    " Gpu HostPart InEngine IterationTime LINEAR_OPERATORS LinkCurve MatMul MatMulFit MeasuredLinks NUM_TERMS"
    " PUBLISHED_LINEAR_MS Profile ProfileKernels Provenance Roofline StageTimes TiledLines Trees attention_key"
    " attention_of describe_provenance elementwise_features elementwise_key elementwise_terms embedding"
    " experts_inputs extent_of extent_of_batch head_operators layer_operators load_links load_profile matmul_features"
    " matmul_key matmul_terms time_breakdown",
    "simulator.kv_cache": "BlockHashCache BlockHashes KVPool LayerGroup PrefixCache",
    "simulator.launch": "Launch launch_lines planning_lines read_file read_words with_launch",
    "simulator.log": "DecodeSpan FAILURE FaultSpan IntRows IterationLog KINDS LoggedIterations Members NETWORK"
    " NO_DECODE_SET NO_REPLICA RUN_COLUMNS RequestEvents SLOWDOWN StageUse StayEnd StayLog Stays rows_by_replica",
    "simulator.model": "Attained Device EngineMemory EngineOverhead FrontEndTime HALF HALF_BYTES HostTime KVMemory"
    " Layout Link Model Network Node Parallelism Placement SamplerTime WEIGHT_DTYPES bytes_per_value read_hf_config",
    "simulator.output": "Files REPORT RunError SUMMARY UsageError deployment_lines deployment_parts heading"
    " load_parts load_result load_summary parse read_json title write_result",
    "simulator.plot": "Job axis_of batch_composition capacities capacity_against_slo capacity_curves"
    " cost_against_latency generation_stalls knee kv_and_queue latency_against_load latency_cdfs load_series"
    " longest_stall name_of neighbours overloaded_loads pipeline_timeline prefix_cache priced_points read_sweep"
    " roofline save set_search_title statistic_label trial_series typical_iteration",
    "simulator.replica": "Batch DecodeSet InFlight Lengths Limits PolicyError PrefillChunk Replica RequestTable"
    " batch_members cached_tokens decode_spans",
    "simulator.results": "ALLOWED BATCH_COLUMNS Bottleneck CACHED_TOKENS Cell Column Distribution FINISHED"
    " FaultResult GOODPUT IGNORED LATENCIES LOST MetricOptions NOT_ARRIVED Objective PERCENTILES PartOfResult"
    " PricedPoint REQUEST_COLUMNS ReplicaResult RequestEventArrays Result SLO STAGE_SHARES STATISTICS STATUS_NAMES"
    " STUCK Steps Table UNFINISHED Warning after_idle blocks_used bottlenecks bounds_text cached_tokens"
    " capacity_facts client_figures client_warnings count deployment_label deployments_table dollars duration"
    " evicted_blocks figure figures_table flat is_cut_off jobs_table kv_use latencies_table latency_column merged"
    " milliseconds num_running objective_label objective_text objective_value objectives_of output_tokens"
    " parts_tables percentile_of prefix_cache_hits queue_length rank share side_by_side slo_text slo_word stalls"
    " table_of time_span trials_table utilisation",
    "simulator.routers": "Arrival LeastKVUsed LeastOutstandingRequests LeastOutstandingTokens NO_SESSION"
    " PowerOfTwoChoices Random ReplicaLoad RoundRobin Router Sticky",
    "simulator.schedulers": "ChunkedPrefills DynamicChunks FasterTransformer Limits LostPrefill Orca Sarathi"
    " Scheduler VLLM VLLMV1 admit_whole_prompts next_admissible schedule_decodes",
    "traces": "Arrivals Client PrefixBlocks Source Trace Workload",
    "traces.arrivals": "ClosedLoop Constant Gamma MarkovModulated Poisson Recorded Renewal Sessions VaryingRate"
    " Weibull find_sessions",
    "traces.generators": "ClientClass Conversations Empirical Fixed Geometric Lengths LogNormal Mix SharedPrefix"
    " SplitNormal Synthetic Table Uniform Zipf",
    "traces.readers": "OnError TraceFile",
    "traces.tools": "SUFFIXES describe fit save",
}


@pytest.mark.parametrize("package", EXPORTS)
def test_a_package_exports_these_names(package: str) -> None:
    module = import_module(package)
    assert sorted(module.__all__) == sorted(EXPORTS[package].split())
    assert all(getattr(module, name) is not None for name in module.__all__)


def test_every_package_that_exports_names_is_in_the_list() -> None:
    exporting = {name for name in KNOWN if name.split(".")[0] != "profiling" and exports_of(name)}
    assert exporting == set(EXPORTS)


def test_configurations_name_packages_and_not_files() -> None:
    documents = [*(REPOSITORY / "docs").rglob("*.md"), *(REPOSITORY / "notebooks").glob("*.ipynb")]
    for path in [*(REPOSITORY / "configs").rglob("*.yaml"), *documents, REPOSITORY / "README.md"]:
        for package, name in re.findall(r"_target_: ((?:simulator|traces)[\w.]*)\.(\w+)", path.read_text()):
            assert name in EXPORTS[package].split(), path


def test_the_version_is_that_of_the_configuration() -> None:
    simulator, config = import_module("simulator"), import_module("simulator.config")
    assert simulator.__version__ == config.VERSION
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        simulator.nothing  # noqa: B018
