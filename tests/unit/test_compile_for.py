"""Programs lower for every platform without a plugin, and what is said of a compiled program is what its text holds."""

import dataclasses
import importlib
import importlib.util
import json
import textwrap

import jax
import pytest

from conftest import ROOT, command, long, tiny_sweep
from lrjax import config, devices
from lrjax.benchmark import chips, hlo
from lrjax.benchmark.compile_for import check_memory, compile_for
from lrjax.errors import InputError
from lrjax.training import memory, tracing
from lrjax.training.programs import make_programs

SIZES = {"d_model", "n_heads", "d_head", "d_embed", "batch_size", "n_labels_max"}  # they change arrays, not programs
PLATFORMS = ("cpu", "cuda", "tpu")


def shipped_shapes():
    """The first program of every static shape that a shipped config has."""
    found = {}
    for path in sorted((ROOT / "experiments/configs").glob("[!_]*.py")):
        sweep = config.make_sweep(importlib.import_module(f"experiments.configs.{path.stem}").get_config())
        for program in make_programs(sweep):
            found.setdefault(program.static, program)
    return list(found.values())


def covering(shapes, names):
    """A few of these shapes that together have every value that any of them has of the fields `names`."""
    values = lambda shape: {(name, str(getattr(shape.static, name))) for name in names}
    missing = set().union(*map(values, shapes))
    chosen = []
    while missing:
        chosen.append(max(shapes, key=lambda shape: len(values(shape) & missing)))
        missing -= values(chosen[-1])
    return chosen


def lowered(program, name):
    """The text of one program of two models, lowered for all platforms in one."""
    two = dataclasses.replace(program, hyper=jax.tree.map(lambda x: x[:2], program.hyper))
    return tracing.tracers(two, devices.mesh(1))[name]().lower(lowering_platforms=PLATFORMS).as_text()


@pytest.fixture
def as_on_an_accelerator(monkeypatch):
    """Programs as accelerators have them: all models side by side, many evaluated at a time."""
    monkeypatch.setattr(devices, "platform_of", lambda mesh=None: "tpu")


@pytest.mark.slow
@pytest.mark.parametrize("name", [tracing.TRAIN, tracing.EVALUATION])
def test_the_default_programs_lower_for_every_platform(as_on_an_accelerator, name):
    (program,) = make_programs(config.make_sweep(config.get_config(n_labels=(15,), seeds=2)))
    assert "platform_index" in lowered(program, name)


@long
@pytest.mark.slow
def test_what_shipped_configs_do_lowers_for_every_platform(as_on_an_accelerator):
    """Training in every value of every field of a shipped config, evaluation in every task and objective."""
    shapes = shipped_shapes()
    fields = [f.name for f in dataclasses.fields(shapes[0].static) if f.name not in SIZES]
    for program in covering(shapes, fields):
        lowered(program, tracing.TRAIN)
    for program in covering(shapes, ("task", "relations", "objective", "supervised")):
        lowered(program, tracing.EVALUATION)


@long
@pytest.mark.slow
@pytest.mark.parametrize("target", ["v5e", "h100"])
def test_the_default_sweep_compiles_for_a_chip(target, tmp_path):
    found = chips.find(target)
    try:
        chips.check_plugin(found)
    except InputError as error:
        pytest.skip(str(error))
    done = command("compile_for", f"--target={target}", "--config.seeds=1", f"--json={tmp_path / 'rows.json'}")
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert len(rows) == 5 and all(row["compile_seconds"] > 0 and row["collectives"] == 0 for row in rows)
    (train,) = (row for row in rows if row["program"] == tracing.TRAIN)
    assert train["kernels_per_step"] > 0 and train["roofline_seconds"] > 0


@long
def test_the_counted_memory_is_that_of_the_compiled_programs():
    """Within 30 %, of every kind of model that a shipped config has, at its own size."""
    mesh, off = devices.mesh(1), {}
    fields = [f.name for f in dataclasses.fields(config.Static) if f.name not in SIZES]
    for program in covering(shipped_shapes(), fields):
        four = dataclasses.replace(program, hyper=jax.tree.map(lambda x: x[:4], program.hyper))
        found = tracing.tracers(four, mesh)[tracing.TRAIN]().lower().compile().memory_analysis()
        held = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
        counted = memory.bytes_of_models(program.static, len(four.hyper.seed), mesh)
        off[program.static] = counted / (held + found.temp_size_in_bytes)
    assert {static: ratio for static, ratio in off.items() if not 0.7 <= ratio <= 1.3} == {}


@pytest.mark.slow
def test_rows_hold_what_the_compiler_says(monkeypatch):
    """The CPU stands for a chip: every column but the chip's own numbers comes the same way."""
    mesh = devices.mesh(1)
    monkeypatch.setattr("lrjax.benchmark.compile_for.mesh_of", lambda target: mesh)
    here = chips.Target("here", "here", "1", "cpu", memory=2**33, bandwidth=1e9, flops=1e12)
    sweep = tiny_sweep(seeds=1)
    (row,) = compile_for(here, sweep, only=(tracing.TRAIN,))
    assert (row.target, row.shape, row.program, row.models, row.error) == ("here", 0, tracing.TRAIN, 2, "")
    assert row.instructions > row.kernels_per_step > 0 and row.collectives == 0
    assert row.estimated_bytes == memory.bytes_of_models(config.make_static(sweep.models), 2)
    seconds = max(row.off_chip_bytes_per_model_step / 1e9, row.flops_per_model_step / 1e12)
    assert row.roofline_seconds == seconds > 0


# The makers' own figures for float32, TFLOP/s.
@pytest.mark.parametrize(("chip", "printed"), [("t4", 8.1), ("l4", 30.3), ("a100", 19.5), ("h100", 67)])
def test_the_rate_of_a_gpu_is_the_one_that_its_maker_prints(chip, printed):
    assert chips.find(chip).flops / 1e12 == pytest.approx(printed, rel=0.01)


def test_a_gpu_is_described_to_the_compiler_and_a_tpu_is_named():
    text = chips.find("h100").description
    assert 'name: "NVIDIA H100 80GB HBM3"' in text and "core_count: 132" in text
    assert "cuda_compute_capability { major: 9 minor: 0 feature_extension: ACCELERATED_FEATURES }" in text
    assert text.count("{") == text.count("}")
    assert (chips.find("v5e").topology, chips.find("v5e:2x2").topology) == ("v5e:1x1", "v5e:2x2")
    assert (chips.find("h100").topology, chips.find("h100:8").topology) == ("1x1x1", "1x1x8")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("h10", "--target=h10: no such chip (did you mean 'h100'?); expected one of v5e, v6e, t4, l4, a100, h100"),
        ("v5e:2by2", "--target=v5e:2by2: '2by2' is no topology; expected sides joined by x, such as v5e:2x2"),
        ("h100:0", "--target=h100:0: '0' is no number of chips; expected a whole number, such as h100:8"),
    ],
)
def test_a_target_that_is_none_is_refused(name, said):
    with pytest.raises(InputError) as error:
        chips.find(name)
    assert said in str(error.value)


@pytest.mark.parametrize(("name", "what"), [("v5e", "libtpu"), ("h100", "the CUDA plugin of jax")])
def test_a_compiler_that_is_not_installed_is_named(monkeypatch, name, what):
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    with pytest.raises(InputError, match=rf"--target={name}: {what}.* not installed; .*pip install -e \"\.\[aot\]\""):
        chips.check_plugin(chips.find(name))


def test_a_model_that_does_not_fit_is_refused():
    huge = config.make_sweep(config.get_config(n_labels=(5,), seeds=1, batch_size=65536))
    with pytest.raises(InputError, match=r"config: its largest model takes \d+\.\d GiB; t4 has 14\.7 GiB; choose"):
        check_memory(chips.find("t4"), huge)


@pytest.mark.slow
def test_the_command_says_in_one_line_what_is_wrong():
    done = command("compile_for", "--target=v7")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "--target=v7: no such chip" in done.stderr


TEXT = """
HloModule a, is_scheduled=true

%fused (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  ROOT %neg.1 = f32[8]{0} negate(%p)
}

%body (t: (s32[], f32[8])) -> (s32[], f32[8]) {
  %t = (s32[], /*index=1*/f32[8]{0}) parameter(0)
  %x = f32[8]{0} get-tuple-element(%t), index=1
  %there-start = (f32[8]{0:T(128)S(1)}, f32[8]{0}, u32[]{:S(2)}) copy-start(%x)
  %there = f32[8]{0:T(128)S(1)} copy-done(%there-start)
  %y = f32[8]{0:T(128)S(1)} fusion(%there), kind=kLoop, calls=%fused
  %z = pred[8]{0} compare(%y, %y), direction=EQ
  %w = f32[8]{0} call(%y), to_apply=%inner
  %sum = f32[8]{0} all-reduce(%w), to_apply=%fused
  ROOT %out = (s32[], f32[8]{0}) tuple(%i, %sum)
}

%inner (q: f32[8]) -> f32[8] {
  %q = f32[8]{0} parameter(0)
  ROOT %r = f32[8]{0} add(%q, %q)
}

%condition (t: (s32[], f32[8])) -> pred[] {
  %t.1 = (s32[], f32[8]{0}) parameter(0)
  ROOT %less = pred[] constant(true)
}

ENTRY %main (a: (s32[], f32[8])) -> (s32[], f32[8]) {
  %a = (s32[], f32[8]{0}) parameter(0)
  ROOT %loop = (s32[], f32[8]{0}) while(%a), condition=%condition, body=%body
}
"""


def test_instructions_kernels_and_bytes_are_read_off_the_text():
    program = hlo.parse(textwrap.dedent(TEXT))
    step = hlo.kernels_of_step(program)
    assert hlo.count_instructions(program) == 17
    assert [kernel.opcode for kernel in step] == ["copy-start", "fusion", "compare", "add", "all-reduce"]
    assert hlo.count_collectives(program) == 1
    # off the chip: the copy's source 32; compare's result 8; add reads its parameter twice and writes, 96; all-reduce 64
    assert hlo.bytes_off_chip(program, step) == 32 + 8 + 96 + 64
