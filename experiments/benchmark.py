"""What a training step costs: lrjax against its own models one at a time, plain dense JAX, and eager PyTorch if it is installed.

python -m experiments.benchmark [--models=1,4,16,64,256] [--steps=10] [--json=FILE] [--config=FILE --config.key=value ...]

On 2 CPU cores about 4 minutes. Expect lrjax at least 10 times faster than eager PyTorch per model-step.
"""

import dataclasses
import datetime
import json
import os
from pathlib import Path

import jax
import numpy as np
from absl import flags

from lrjax import cli
from lrjax.benchmark import eager, measure
from lrjax.config import make_sweep
from lrjax.errors import InputError
from lrjax.plotting import style
from lrjax.stats import format_table
from lrjax.storage.files import write_atomically

CONFIG = cli.define_config(Path(__file__).parent / "configs" / "diversity.py")
MODELS = flags.DEFINE_list("models", None, "numbers of models (default: 1,4,16,64,256; on an accelerator also 1024)")
STEPS = flags.DEFINE_integer("steps", 10, "training steps of each timing, up to 16 models; fewer beyond", lower_bound=1)
JSON = cli.define_path("json", None, "also write the table here")
FIGURE = cli.define_path("figure", "runs/benchmark/benchmark.png", "where the plot of cost against number of models goes")

COLUMNS = {
    "program": lambda r: r.name,
    "models": lambda r: r.models,
    "ms/model-step": lambda r: f"{r.ms:.3f}",
    "model-steps/s": lambda r: f"{r.model_steps_per_second:,.0f}",
    "GFLOP": lambda r: f"{r.gflop:.3f}",
    "MB": lambda r: f"{r.mb:.1f}",
    "matmul share": lambda r: f"{r.matmul_share:.0%}",
    "AdamW share": lambda r: f"{r.bandwidth_share:.0%}",
    "compile s": lambda r: _number(r.compile_cold, ".1f"),
    "cached s": lambda r: _number(r.compile_cached, ".1f"),
    "peak MB/model": lambda r: _number(r.peak_mb, ".1f"),
    "x eager": lambda r: _number(r.times_eager, ".1f"),
}
NOTES = """GFLOP, MB: counted by hand per model-step (lrjax/training/flops.py). Shares of a step's time: what these FLOPs take at
the rate of the batched contrastive products alone, and what the optimiser's bytes take at the rate of a streaming update.
compile: trace, lower, compile, cold and from the persistent cache. peak: the compiler's memory plan.
x eager: against the faster row of eager PyTorch, whose batches come ready (no sampling)."""


def main() -> None:
    on_cpu = jax.default_backend() == "cpu"
    sizes = cli.whole_numbers("models", MODELS.value) or [1, 4, 16, 64, 256, *([] if on_cpu else [1024])]
    if min(sizes) < 1:
        raise InputError(f"--models={','.join(map(str, sizes))}: expected 1 or more models")
    table = make_sweep(dict(CONFIG.value) | {"seeds": max(sizes)})
    plain_fields = {"positions": "learned", "layer_norm": False, "mlp_ratio": 0, "n_repeats": 1, "dropout": 0, "projection": "both"}
    for name, plain in plain_fields.items():
        if other := [getattr(m, name) for m in table.models if getattr(m, name) != plain]:
            raise InputError(f"config.{name}: {other[0]!r}; the baselines that lrjax is timed against have only {plain!r}")
    device = f"{jax.devices()[0].device_kind} x {jax.device_count()}, {os.cpu_count()} CPU cores, jax {jax.__version__}"
    print(f"{device}; best of {measure.ROUNDS} timings of {STEPS.value} steps")
    if warning := measure.busy():
        print(warning)
    rows = [row for n in sorted(set(sizes)) for row in measure.rows(table, n, STEPS.value)]
    print(format_table(list(COLUMNS), [[cell(row) for cell in COLUMNS.values()] for row in rows]))
    print(NOTES)
    if not eager.available():
        print("torch is not installed: no eager PyTorch row (pip install torch)")
    last = [row for row in rows if row.name == measure.LRJAX][-1]
    share = measure.evaluation_share(table, last.models, last.ms)
    print(f"evaluation every {table.eval_every} steps costs {share:.1%} of training, {last.models} models (bar: 10 %)")
    draw(rows, Path(FIGURE.value))
    print(FIGURE.value)
    if JSON.value:
        now = datetime.datetime.now(datetime.UTC).date().isoformat()
        lines = [{k: None if v != v else v for k, v in dataclasses.asdict(row).items()} for row in rows]
        found = {"date": now, "device": device, "steps": STEPS.value, "evaluation_share": share, "busy": warning, "rows": lines}
        write_atomically(Path(JSON.value), json.dumps(found, indent=1))
        print(JSON.value)


@style.styled
def draw(rows: list[measure.Row], path: Path) -> style.Figure:
    """ms per model-step against the number of models; a program that trains one at a time is a level line."""
    figure, (axis,) = style.subplots(figsize=(5, 3.4))
    sizes = [row.models for row in rows if row.name == measure.LRJAX]
    for k, name in enumerate((measure.LRJAX, measure.DENSE, measure.ALONE, *measure.EAGER)):
        own = [row for row in rows if row.name == name]
        look = dict(color=style.COLOURS[k], ls=style.LINES[k], label=name)
        if name in (measure.LRJAX, measure.DENSE):
            axis.plot([row.models for row in own], [row.ms for row in own], marker=style.MARKERS[k], **look)
        elif own:
            axis.plot(sizes, [min(row.ms for row in own)] * len(sizes), **look)
    axis.set(
        xscale="log", yscale="log", xlabel="models in the program", ylabel="ms per model-step", title="Cost of a training step"
    )
    axis.set_xticks(sizes, [str(size) for size in sizes])
    axis.legend(fontsize=8)
    return style.save(figure, path)


def _number(value: float, form: str) -> str:
    return "-" if np.isnan(value) else format(value, form)


if __name__ == "__main__":
    cli.run(main)
