"""What `python -m simulator --help` prints."""

HELP = """\
Simulates an LLM serving cluster: a trace of requests, served by replicas of a model.

  python -m simulator [key=value ...]
  python -m simulator +scheduler=sarathi +trace=arxiv
  python -m simulator scheduler=vllm trace=sharegpt arrival.qps=1.5 parallel.tp=2 model=yi_34b

What serves
  scheduler=sarathi            sarathi | vllm | orca | faster_transformer | chunked_prefills | vllm_v1
  scheduler.token_budget=512   sarathi: tokens per iteration, decodes included
  scheduler.max_num_batched_tokens=null
                               vllm: prompt tokens per iteration; null: max_model_len
  scheduler.chunk_size=512     chunked_prefills: prompt tokens per iteration
  scheduler.max_num_seqs=128   admitted sequences at most (orca, faster_transformer: 16)
  scheduler.dynamic_chunks.{stages,low,high,max_tokens}
                               sarathi: chunk sizes that shrink as a prefill advances; stages=0: off
  scheduler.{max_num_batched_tokens=2048,enable_chunked_prefill=true,long_prefill_token_threshold=0,
             long_prefill_token_threshold_adaptive=false,policy=fcfs,scheduler_reserve_full_isl=true,
             watermark=0.0,max_num_active_seqs=null,max_num_scheduled_tokens=null,
             prefill_schedule_interval=1,async_scheduling=false}
                               vllm_v1: the engine's options by their names, see docs/vllm.md
  model=mistral_7b             mistral_7b | yi_34b | llama2_7b | llama2_70b | llama3_8b | llama3_70b |
                               codellama_34b | falcon_180b | qwen3_32b | llama_small (recordings on a
                               CPU) | hf
  model.path=FILE              hf: the config.json of a model on Hugging Face
  model.dtype=bf16             weights: fp16 | bf16 | fp8 | int8 | int4; model.weight_only=true: 8-bit
                               weights are multiplied in half precision
  model.max_model_len=16384    longest sequence that is admitted, tokens
  device=a100_80gb             a100_80gb (PCIe) | a100_80gb_sxm | a40 | h100_sxm | h200_sxm |
                               cpu (of recordings)
  parallel.tp=1 parallel.pp=1  tensor- and pipeline-parallel degree of a replica
  parallel.stage_layers=null   layers of each stage, [18,14]; null: as even as they can be
  parallel.{overlap_sends,sliced_sends}=false
                               a stage goes on while it sends; each GPU sends a slice only
  cluster.replicas=1           identical replicas
  cluster.groups=null          replicas that differ, [{device: a40, replicas: 2}, ...]; keys of a group:
                               device, node, parallel, scheduler, kv_cache, replicas, num_nodes
  cluster.node=NODE            the machine: azure_nc96ads_v4 | a40_8x_pairs | dgx_a100 | dgx_h100 |
                               dgx_h200 | one_cpu; default: that of the device
  cluster.num_nodes=null       machines that there are (of each group); null: as many as it takes
  cluster.router=round_robin   round_robin | random | least_outstanding_requests |
                               least_outstanding_tokens | least_kv_used | power_of_two_choices | sticky
  kv_cache.block_size=16       tokens per KV block
  kv_cache.num_blocks=null     KV blocks per replica; null: as many as fit the device
  kv_cache.dtype=fp16          keys and values: fp16 | bf16 | fp8 | int8
  kv_cache.prefix_caching=null true | false: find KV blocks again by what they hold; null: vllm_v1 does
  kv_cache.watermark=0.01      share of the blocks that an admission leaves free (vllm, sarathi)
  kv_cache.memory_utilization=0.85
                               share of the device memory that the engine uses
  iteration_time=profile       profile (fitted to measured kernels) | roofline | affine
  iteration_time.path=null     profile: a file of `python -m profiling fit`; null: the shipped one
  engine=sarathi_serve         host time of an iteration: sarathi_serve | vllm_v1 | vllm_v1_sync | none |
                               torch_loop (of recordings)
  engine.decode_graph_sizes=[] sizes of decodes that are captured as CUDA graphs; batches are padded to them
  iteration_time.{base_s,per_token_s,per_context_token_s}
                               affine: an iteration takes base + per_token * tokens
                               + per_context_token * tokens in the KV cache, in seconds

What arrives
  trace=arxiv                  arxiv | sharegpt | sharegpt_sessions (generated from published statistics) |
                               fixed | uniform | lognormal | zipf | shared_prefix (prompts that begin alike) |
                               file | empirical | mix
  trace.num_requests=512       requests; of a file the first ones, null: all
  trace.path=FILE              file, empirical (rows drawn at random): CSV, JSON lines or Parquet with columns
                               prompt_tokens, output_tokens and optionally arrival_s, think_s, request_id,
                               session, client, priority, block_ids;
                               traces of Azure, BurstGPT, Mooncake, Bailian, Splitwise,
                               Vidur; ShareGPT's JSON; results of vllm bench serve; plain or gzip
  trace.{num_groups,prefix_tokens,share,zipf}
                               shared_prefix: system prompts, their length, how many requests have one
  trace.on_error=error         file, empirical: a malformed row: error | skip (counted and reported)
  trace.max_total_tokens=null  longest prompt and output together
  trace.{start_s,duration_s}   file: only requests that arrive from there on, for so long
  trace.find_sessions=false    file: make sessions of requests that go on from earlier ones
  trace.tokenizer=null         file, empirical: the tokenizer.json of a model, for files that hold texts
  trace.{prompt_tokens,output_tokens}
                               fixed: lengths of every request
  trace.clients.NAME.{arrivals,slo,requests}
                               mix: classes of clients, each with figures of its own
  arrival=poisson              poisson | gamma | weibull | constant | bursts | diurnal | sessions |
                               closed_loop | trace (as recorded)
  arrival.qps=0.4              requests per second in the mean (all but closed_loop; trace: null)
  arrival.cv=2                 gamma, weibull: variation of the gaps (diurnal, sessions too: 1)
  arrival.{rates,dwell_s}      bursts: rates of the states, mean stays in them
  arrival.{points,path}        diurnal: [[seconds, rate], ...] or a CSV file with time_s, qps
  arrival.users=8              closed_loop: users who wait for their answers
  arrival.{think_s,think_cv}   closed_loop, sessions: time between an answer and the next request
  arrival.speed=1              trace: how many times as fast

What goes wrong
  faults.schedule=[]           [{kind: failure, at_s: 30, for_s: 60, replica: 0}, ...]; kind: failure |
                               slowdown | network, the latter two with slowdown: 2; without for_s for
                               ever, without replica all
  faults.rates=[]              [{kind: failure, every_s: 3600, for_s: 60}, ...]: mean times, by chance
  faults.on_failure=resume     requests of a replica that fails: resume | restart | lose
  faults.max_retries=10        how often a request is sent again

What is measured and written
  metrics.warmup_s=0           requests that arrive earlier are left out of the figures
  metrics.zero_first_gap=false count a gap of 0 s for each first token
  time_limit_s=null            no iteration starts after so many simulated seconds
  seed=0                       same seed, same bytes
  check=false                  check in every iteration that nothing is lost (up to 4 times slower)
  output.log=true              write log.npz, what `simulator.plot` and `simulator.report` show
  output.batches=false         also write batches.csv, one row per batch member
  output.timeline=false        also write timeline.json, a Chrome trace that Perfetto opens (ui.perfetto.dev)
  deployment=null              model, device and layout at once, from configs/deployment
  hydra.run.dir=DIR            where the files go; default outputs/<date>/<time>
  experiment=null              a named set of the above, from configs/experiment
  allow_targets=[]             packages besides the simulator's that _target_ may name: their code is run
  debug=false                  show the traceback of an error

Writes summary.json and requests.csv, and prints the summary. Options of Hydra work too: --cfg job prints
the whole configuration, --multirun runs every combination of comma-separated values, --config-dir DIR
adds a folder of your own YAML files. Exit status: 0, 2 for a mistake in the input, 1 for a fault of the
program, 130 after Ctrl-C, 143 after SIGTERM."""
