"""How models are trained: one step of one model, sweeps as batched programs, retrieval, progress."""
