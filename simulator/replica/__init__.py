"""One replica of the model: its queue, its running requests, its KV blocks, and the batch it computes."""
