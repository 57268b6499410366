"""The result of a simulation: arrays by request and iteration, and every figure computed from them."""
