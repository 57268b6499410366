"""Text of `python -m simulator --help`."""

HELP = """\
Simulates an LLM serving cluster: replicas of a model serve a trace of requests.

  python -m simulator [key=value ...]
  python -m simulator +scheduler=sarathi +trace=arxiv
  python -m simulator scheduler=vllm trace=sharegpt arrival.qps=1.5 parallel.tp=2 model=yi_34b
  python -m simulator device=H100 trace=sharegpt -- vllm serve Qwen/Qwen3-32B -tp 4

  -- COMMAND                   deployment of a command line: vllm serve MODEL ..., or of sarathi-serve
  serve=FILE                   the same from a script or a Kubernetes manifest; other keys win over it

Deployment
  scheduler=sarathi            sarathi | vllm | orca | faster_transformer | chunked_prefills | vllm_v1
  scheduler.token_budget=512   sarathi: maximum tokens per iteration, decodes included
  scheduler.max_num_batched_tokens=null
                               vllm: maximum prompt tokens per iteration; null: max_model_len
  scheduler.chunk_size=512     chunked_prefills: maximum prompt tokens per iteration
  scheduler.max_num_seqs=128   maximum number of admitted requests (orca, faster_transformer: 16)
  scheduler.dynamic_chunks.{stages,low,high,max_tokens}
                               sarathi: chunks shrink as a prefill advances; stages=0: off
  scheduler.{max_num_batched_tokens=2048,enable_chunked_prefill=true,long_prefill_token_threshold=0,
             long_prefill_token_threshold_adaptive=false,policy=fcfs,scheduler_reserve_full_isl=true,
             watermark=0.0,max_num_active_seqs=null,max_num_scheduled_tokens=null,
             prefill_schedule_interval=1,async_scheduling=false}
                               vllm_v1: options with their names in vLLM, see docs/vllm.md
  model=mistral_7b             mistral_7b | yi_34b | llama2_7b | llama2_70b | llama3_8b | llama3_70b |
                               codellama_34b | falcon_180b | qwen3_32b | llama_small (for recordings on a
                               CPU) | hf; or its name on Hugging Face, such as Qwen/Qwen3-32B
  model.path=FILE              hf: config.json of a Hugging Face model
  model.dtype=bf16             weights: fp16 | bf16 | fp8 | int8 | int4; model.weight_only=true: compute with
                               8-bit weights in half precision
  model.max_model_len=16384    longest admitted sequence, tokens
  device=a100_80gb             a100_80gb (PCIe) | a100_80gb_sxm | a40 | b200_sxm | h100_sxm | h200_sxm |
                               l40s | rtx4090 | rtx_pro_6000 | cpu (for recordings); or an alias such as H200
  parallel.tp=1 parallel.pp=1  tensor- and pipeline-parallel degree of a replica
  parallel.stage_layers=null   layers per pipeline stage, [18,14]; null: as even as possible
  parallel.{overlap_sends,sliced_sends}=false
                               a stage starts its next batch while it sends; each GPU sends only a slice
  cluster.replicas=1           number of identical replicas
  cluster.groups=null          groups of different replicas, [{device: a40, replicas: 2}, ...]; keys: device,
                               node, parallel, scheduler, kv_cache, replicas, num_nodes
  cluster.node=NODE            node type: azure_nc96ads_v4 | a40_8x_pairs | dgx_a100 | dgx_b200 | dgx_h100 |
                               dgx_h200 | l40s_8x | rtx4090_8x | rtx_pro_6000_8x | one_cpu; default: that of
                               the device
  cluster.num_nodes=null       available nodes (per group); null: as many as needed
  cluster.router=round_robin   round_robin | random | least_outstanding_requests |
                               least_outstanding_tokens | least_kv_used | power_of_two_choices | sticky
  kv_cache.block_size=16       tokens per KV block
  kv_cache.num_blocks=null     KV blocks per replica; null: all that fit in device memory
  kv_cache.dtype=fp16          KV cache format: fp16 | bf16 | fp8 | int8
  kv_cache.prefix_caching=null true | false: reuse KV blocks of equal prefixes; null: on with vllm_v1
  kv_cache.watermark=0.01      fraction of the blocks that admission keeps free (vllm, sarathi)
  kv_cache.memory_utilization=0.85
                               fraction of device memory for the engine
  iteration_time=profile       profile (fitted to measured kernels) | roofline | affine
  iteration_time.path=null     profile: output of `python -m profiling fit`; null: the packaged one
  engine=sarathi_serve         host overhead per iteration: sarathi_serve | vllm_v1 | vllm_v1_2025 |
                               vllm_v1_sync | none | torch_loop (for recordings)
  engine.decode_graph_sizes=[] decode batch sizes captured as CUDA graphs; smaller batches are padded
  iteration_time.{base_s,per_token_s,per_context_token_s}
                               affine: iteration time in seconds = base + per_token * tokens
                               + per_context_token * tokens in the KV cache

Workload
  trace=arxiv                  arxiv | sharegpt | sharegpt_sessions (generated from published statistics) |
                               fixed | uniform | lognormal | zipf | shared_prefix (shared system prompts) |
                               file | empirical | mix
  trace.num_requests=512       number of requests; file: the first ones, null: all
  trace.path=FILE              file, empirical (rows drawn at random): CSV, JSON lines or Parquet with columns
                               prompt_tokens, output_tokens and optionally arrival_s, think_s, request_id,
                               session, client, priority, block_ids, or other common names of these;
                               traces of Azure, BurstGPT, Mooncake, Bailian, Splitwise, Vidur, ServeGen,
                               AIPerf, LLMServingSim; chats like ShareGPT's; results of vllm bench serve;
                               plain or gzip
  trace.columns=null           file, empirical: names of the file's columns, {prompt_tokens: n, arrival_s: t}
  trace.output_tokens=null     file, empirical: output tokens of requests for which the file has none
  trace.{num_groups,prefix_tokens,share,zipf}
                               shared_prefix: number, length and popularity of system prompts, and the
                               fraction of requests with one
  trace.on_error=error         file, empirical: on a malformed row: error | skip (counted and reported)
  trace.max_total_tokens=null  maximum prompt plus output tokens of a request
  trace.{start_s,duration_s}   file: keep only requests that arrive in this window
  trace.find_sessions=false    file: link requests that continue earlier ones into sessions
  trace.tokenizer=null         file, empirical: tokenizer.json of a model, for files that contain text
  trace.{prompt_tokens,output_tokens}
                               fixed: lengths of every request
  trace.clients.NAME.{arrivals,slo,requests}
                               mix: client classes, each with its own requests, arrivals, SLO and metrics
  arrival=poisson              poisson | gamma | weibull | constant | bursts | diurnal | sessions |
                               closed_loop | trace (as recorded)
  arrival.qps=0.4              mean requests per second (all but closed_loop; trace: null); inf: all at 0
                               (poisson, gamma, weibull, constant)
  arrival.max_concurrency=null most requests in flight, others are sent when one ends (all but closed_loop)
  arrival.cv=2                 gamma, weibull: coefficient of variation of the gaps (diurnal, sessions: 1)
  arrival.{rates,dwell_s}      bursts: relative rates of the states, mean time in each
  arrival.{points,path}        diurnal: [[seconds, rate], ...] or a CSV file with columns time_s, qps
  arrival.users=8              closed_loop: concurrent users, each with one request at a time
  arrival.{think_s,think_cv}   closed_loop, sessions: time between an answer and the next request
  arrival.speed=1              trace: speed-up of the recorded arrivals

Faults
  faults.schedule=[]           [{kind: failure, at_s: 30, for_s: 60, replica: 0}, ...]; kind: failure |
                               slowdown | network, the last two with slowdown: 2; without for_s:
                               forever, without replica: all replicas
  faults.rates=[]              random faults, [{kind: failure, every_s: 3600, for_s: 60}, ...]; mean times
  faults.on_failure=resume     requests of a failed replica: resume | restart | lose
  faults.max_retries=10        retries per request

Metrics and output
  slo.METRIC_STATISTIC=SECONDS objective, such as slo.ttft_p90=2: metric tbt | ttft | tpot | e2e |
                               scheduling_delay; statistic mean | max | p50 | p99 | p99.9 | ...
  slo.{ttft,tpot,e2e}=SECONDS  bound on each request: the share of requests within all of them, and within the
                               percentiles from p90 on, is the goodput; slo.goodput=0.9: its objective
  metrics.warmup_s=0           leave requests of this time, from the first arrival, out of the metrics
  metrics.zero_first_gap=false count a TBT of 0 s for each first token
  time_limit_s=null            start no iteration after this simulated time, seconds
  seed=0                       equal seeds give byte-identical results
  check=false                  check invariants in every iteration (up to 15 times slower)
  core=auto                    or python, compiled: core of the process, with the same results
  output.log=true              write log.npz, which plots and reports need
  output.parquet=false         also write requests, iterations and stays as typed tables, .parquet
  output.batches=false         also write batches.csv, one row per batch member
  output.timeline=false        also write timeline.perfetto-trace, for ui.perfetto.dev
  deployment=null              preset of model, device and parallelism, from configs/deployment
  hydra.run.dir=DIR            output folder; default: outputs/<date>/<time>
  experiment=null              preset of any of the keys above, from configs/experiment
  allow_targets=[]             packages besides simulator and traces that _target_ may name (runs their code)
  debug=false                  show tracebacks of errors

Writes summary.json and requests.csv, and prints the summary. Hydra options: --cfg job prints the whole
configuration, --multirun (-m) runs every combination of comma-separated values (scheduler.NAME.OPTION=VALUES:
with that scheduler only), --verbose prints every run of it, --config-dir DIR adds a folder of your own YAML
files. Exit status: 0, 2 for invalid input, 1 for an internal error, 130 after Ctrl-C, 143 after SIGTERM,
141 if the output is no longer read, as by head."""
