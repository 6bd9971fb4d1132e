"""Compile a sweep's programs for chips that are not here, and print what the compiler says of them: nothing runs.

python -m experiments.compile_for --target=v5e:2x2,h100 [--config=FILE --config.key=value ...] [--json=FILE]

Targets: v5e, v6e, t4, l4, a100, h100; several chips of a kind as v5e:2x2 or h100:8. The compilers are no part of a usual
installation: `pip install -e ".[aot]"` brings them, 6 GB, best into an environment of their own. Compiling takes a few minutes a
target.
"""

import dataclasses
import json
from pathlib import Path

import jax
from absl import flags

from lrjax import cli
from lrjax.analysis import gradient
from lrjax.benchmark import chips
from lrjax.benchmark.compile_for import Row, check_memory, compile_for
from lrjax.config import make_sweep
from lrjax.errors import InputError, SaveError
from lrjax.stats import format_table
from lrjax.storage.files import write_atomically

CONFIG = cli.define_config(Path(__file__).parent / "configs" / "diversity.py")
TARGET = flags.DEFINE_list("target", ["v5e:2x2", "h100"], "chips to compile for, joined by commas")
JSON = cli.define_path("json", None, "also write a list here, a row a program")

COLUMNS = {
    "target": lambda r: r.target,
    "shape": lambda r: r.shape,
    "program": lambda r: r.program,
    "models": lambda r: r.models,
    "compile s": lambda r: number(r.compile_seconds, ".1f"),
    "instructions": lambda r: number(r.instructions, ","),
    "kernels": lambda r: number(r.kernels_per_step, ""),
    "temp MiB": lambda r: number(r.temporary_bytes, ".0f", 2**20),
    "args MiB": lambda r: number(r.argument_bytes, ".0f", 2**20),
    "counted MiB": lambda r: number(r.estimated_bytes, ".0f", 2**20),
    "XLA MB": lambda r: number(r.bytes_per_model_step, ".1f", 1e6),
    "off-chip MB": lambda r: number(r.off_chip_bytes_per_model_step, ".1f", 1e6),
    "MFLOP": lambda r: number(r.flops_per_model_step, ".0f", 1e6),
    "roofline us": lambda r: number(r.roofline_seconds, ".1f", 1e-6),
    "collectives": lambda r: number(r.collectives, ""),
}
NOTES = """models, memory, instructions: of one chip. kernels: of one training step of all its models, or of the largest loop.
counted: the memory that the sweep reckons with for these models in training. XLA MB, off-chip MB, MFLOP, roofline: of one training
step of one model; XLA counts memory on the chip too, off-chip is what the chip's memory bandwidth limits.
compile s is of this machine; everything else is the same on any."""


def main() -> None:
    jax.config.update("jax_enable_compilation_cache", False)  # what comes from a cache says nothing of compiling
    targets = [chips.find(name.strip()) for name in TARGET.value]
    if not targets:
        raise InputError("--target=: expected one or more targets, such as --target=v5e,h100")
    sweep = make_sweep(CONFIG.value)
    for target in targets:
        chips.check_plugin(target)
        check_memory(target, sweep)
    rows: list[Row] = []
    for target in targets:
        for row in compile_for(target, sweep, (gradient.columns,)):
            rows.append(row)
            print(f"{target.name}: shape {row.shape}, {row.program}: {row.error or f'{row.compile_seconds:.1f} s'}", flush=True)
    print(format_table(list(COLUMNS), [[cell(row) for cell in COLUMNS.values()] for row in rows]))
    print(NOTES)
    if JSON.value:
        write_atomically(Path(JSON.value), json.dumps([dataclasses.asdict(row) for row in rows], indent=1))
        print(JSON.value)
    if failed := [row for row in rows if row.error]:
        raise SaveError(f"{len(failed)} of {len(rows)} programs do not compile; the first: {failed[0].error}")


def number(value: float | None, form: str, unit: float = 1) -> str:
    """A number in a unit; a dash for one that is not known."""
    return "-" if value is None else format(value if unit == 1 else value / unit, form)


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")  # nothing runs, so an accelerator that is here need not start
    cli.run(main)
