"""Options of `vllm serve` that the simulator does not compose, in groups by their effect.

Names are those of vLLM 0.8 to 0.33, without dashes in front. A switch is also known with `no-` in front.
"""

# No effect on scheduling or speed: the server, the checkpoint's files, logs, formats of requests and answers.
SILENT_SWITCHES = """
aggregate-engine-logging allow-credentials allow-deprecated-quantization calculate-kv-scales cudagraph-metrics
data-parallel-external-lb data-parallel-hybrid-lb data-parallel-multi-port-external-lb disable-cascade-attn
disable-chunked-mm-input disable-fastapi-docs disable-frontend-multiprocessing disable-hybrid-kv-cache-manager
disable-log-requests disable-log-stats disable-mm-preprocessor-cache disable-nccl-for-dp-synchronization
disable-uvicorn-access-log enable-auto-tool-choice enable-cumem-allocator enable-ep-weight-filter
enable-flash-late-interaction enable-flashinfer-autotune enable-force-include-usage enable-layerwise-nvtx-tracing
enable-log-deltas enable-log-outputs enable-log-requests enable-logging-iteration-details enable-mfu-metrics
enable-mm-embeds enable-offline-docs enable-per-request-metrics enable-prompt-embeds enable-prompt-tokens-details
enable-reasoning enable-request-id-headers enable-return-routed-experts enable-server-load-tracking enable-sleep-mode
enable-ssl-refresh enable-tokenizer-info-endpoint exclude-tools-when-tool-choice-none fail-on-environ-validation grpc
interleave-mm-strings jit-monitor-verbose kv-cache-metrics language-model-only log-error-stack numa-bind
ray-workers-use-nsight return-tokens-as-token-ids skip-mm-profiling skip-tokenizer-init tokens-only trust-remote-code
trust-request-chat-template use-fp64-gumbel use-tqdm-on-load use-v2-block-manager
""".split()

SILENT_VALUES = """
allowed-headers allowed-local-media-path allowed-methods allowed-origins api-key chat-template
chat-template-content-format code-revision config-format cp-kv-cache-interleave-size cpu-distributed-timeout-seconds
data-parallel-address data-parallel-backend data-parallel-rank data-parallel-rpc-port data-parallel-size-local
data-parallel-start-rank data-parallel-supervisor-port dcp-kv-cache-interleave-size default-chat-template-kwargs
disable-access-log-for-endpoints distributed-timeout-seconds download-dir dp-supervisor-probe-failure-threshold
dp-supervisor-probe-interval-s dp-supervisor-probe-timeout-s fingerprint-mode fingerprint-value generation-config
guided-decoding-backend h11-max-header-count h11-max-incomplete-event-size hf-config-path host io-processor-plugin
jit-monitor-mode kv-cache-metrics-sample kv-events-config limit-mm-per-prompt load-format log-config-file logprobs-mode
logits-processor-pattern mamba-backend mamba-block-size mamba-cache-dtype mamba-cache-mode mamba-ssm-cache-dtype
master-addr master-port max-cpu-loras max-log-len max-logprobs max-lora-rank max-loras max-parallel-loading-workers
max-seq-len-to-capture media-io-kwargs mm-encoder-attn-backend mm-encoder-attn-dtype mm-encoder-tp-mode
mm-processor-cache-gb mm-processor-cache-type mm-processor-kwargs mm-shm-cache-max-object-size-mb mm-tensor-ipc
model-impl model-loader-extra-config nnodes node-rank num-lookahead-slots numa-bind-cpus numa-bind-nodes
otlp-traces-endpoint override-generation-config port prefix-caching-hash-algo profiler-config pt-load-map-location
reasoning-config reasoning-parser reasoning-parser-plugin response-role revision root-path safetensors-load-strategy
safetensors-prefetch-block-size safetensors-prefetch-num-threads seed show-hidden-metrics-for-version shutdown-timeout
ssl-ca-certs ssl-cert-reqs ssl-certfile ssl-ciphers ssl-keyfile structured-outputs-config swap-space tokenizer
tokenizer-mode tokenizer-pool-size tokenizer-revision tool-call-parser tool-parser-plugin tool-server uds
uvicorn-log-level video-pruning-rate weight-transfer-config worker-extension-cls
""".split()

SILENT_LISTS = """
allowed-media-domains collect-detailed-traces ignore-patterns middleware served-model-name
""".split()

# May be given without a value.
SILENT_OPTIONAL = ["hf-token"]

# An effect that the simulator does not have.
OTHER_SWITCHES = """
disable-custom-all-reduce disable-sliding-window enable-dbo enable-elastic-ep enable-eplb enable-expert-parallel
enable-lora enable-mamba-cache-stochastic-rounding enable-prompt-adapter enable-tower-connector-lora
fully-sharded-loras headless kv-sharing-fast-prefill mm-encoder-only specialize-active-lora
""".split()

# The same with a value; beside a name are values without an effect.
OTHER_VALUES = {
    **dict.fromkeys(
        """
additional-config all2all-backend attention-backend attention-config cpu-offload-params dbo-decode-token-threshold
dbo-prefill-token-threshold dcp-comm-backend ec-transfer-config eplb-config expert-placement-strategy hf-overrides
kernel-config max-num-queued-reqs kv-cache-memory-bytes kv-offloading-backend kv-offloading-size kv-transfer-config lora-dtype moe-backend
num-speculative-tokens offload-backend offload-group-size offload-num-in-group offload-params offload-prefetch-step
override-attention-dtype pooler-config prefix-cache-retention-interval prefix-match-unit rope-scaling rope-theta
scheduler-cls spec-method spec-model spec-tokens speculative-config speculative-model ubatch-size worker-cls
""".split()
    ),
    "api-server-count": "1",
    "convert": "auto",
    "cpu-offload-gb": "0",
    "decode-context-parallel-size": "1",
    "distributed-executor-backend": "mp",
    "max-long-partial-prefills": "1",
    "max-num-partial-prefills": "1",
    "num-scheduler-steps": "1",
    "optimization-level": "2 3",
    "performance-mode": "balanced",
    "preemption-mode": "recompute",
    "prefill-context-parallel-size": "1",
    "renderer-num-workers": "1",
    "runner": "auto",
    "scheduler-delay-factor": "0",
    "stream-interval": "1",
    "task": "generate",
}

OTHER_LISTS = ["kv-cache-dtype-skip-layers", "logits-processors", "lora-modules", "lora-target-modules"]

SHORT = {
    "tensor-parallel-size": "-tp",
    "pipeline-parallel-size": "-pp",
    "data-parallel-size": "-dp",
    "quantization": "-q",
    "compilation-config": "-cc",
    "speculative-config": "-sc",
    "attention-config": "-ac",
    "api-server-count": "-asc",
    "decode-context-parallel-size": "-dcp",
    "prefill-context-parallel-size": "-pcp",
    "enable-expert-parallel": "-ep",
    "data-parallel-rank": "-dpn",
    "data-parallel-start-rank": "-dpr",
    "data-parallel-size-local": "-dpl",
    "data-parallel-address": "-dpa",
    "data-parallel-rpc-port": "-dpp",
    "data-parallel-backend": "-dpb",
    "data-parallel-hybrid-lb": "-dph",
    "data-parallel-external-lb": "-dpe",
    "nnodes": "-n",
    "node-rank": "-r",
}
