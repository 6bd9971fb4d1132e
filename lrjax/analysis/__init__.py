"""Questions asked of trained sweeps: batched parameters in, tidy tables out."""
