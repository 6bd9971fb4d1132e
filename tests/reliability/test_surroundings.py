"""Surroundings (variables of the environment, settings of jax) change no result; where lrjax cannot run, one line says so."""

import contextlib
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conftest import ENVIRONMENT, HOSTILE, ROOT, command, many_commands, tiny_sweep
from experiments.studies.tasks import true_captions
from lrjax import devices, notebook, surroundings, xla
from lrjax.analysis.models import map_models
from lrjax.errors import InputError
from lrjax.models import clip
from lrjax.storage import workdir
from lrjax.training import loop

# Settings that change no random stream, and no number beyond its last bits, by why.
HARMLESS = {
    "is of random numbers that lrjax does not draw: keys of the old style, Gumbel's, integers of 8 and 16 bits": """
        jax_enable_custom_prng jax_legacy_prng_key jax_high_dynamic_range_gumbel jax_safer_randint""",
    "raises, warns, logs or dumps, and computes the same": """
        check_vma jax_array_garbage_collection_guard jax_captured_constants_report_frames
        jax_captured_constants_warn_bytes jax_check_proxy_envs jax_check_static_indices jax_check_tracer_leaks
        jax_compiler_detailed_logging_min_ops jax_debug_key_reuse jax_debug_leaked_clients_on_clear_backends
        jax_debug_log_modules jax_disable_bwd_checks jax_disallow_mesh_context_manager jax_distributed_debug
        jax_dump_ir_modes jax_dump_ir_to jax_enable_checks jax_error_checking_behavior_divide jax_error_checking_behavior_nan
        jax_error_checking_behavior_oob jax_experimental_unsafe_xla_runtime_errors jax_explain_cache_misses jax_explicit_x64_dtypes
        jax_hlo_source_file_canonicalization_regex jax_include_debug_info_in_dumps jax_include_full_tracebacks_in_locations
        jax_log_checkpoint_residuals jax_log_compiles jax_logging_level jax_mutable_array_checks jax_no_execution jax_no_tracing
        jax_numpy_rank_promotion
        jax_pprint_use_color jax_raise_persistent_cache_errors jax_send_traceback_to_runtime jax_source_url_schema jax_thread_guard
        jax_traceback_filtering jax_traceback_in_locations_limit jax_tracer_error_num_traceback_frames jax_transfer_guard
        jax_transfer_guard_device_to_device jax_transfer_guard_device_to_host jax_transfer_guard_host_to_device
        jax_custom_vjp_disable_shape_check jax_raise_on_ppermute_sort_diff jax_no_collectives""",
    "keeps compiled programs, or says how they are stored": """
        jax_compilation_cache_check_contents jax_compilation_cache_dir jax_compilation_cache_expect_pgle
        jax_compilation_cache_include_metadata_in_key jax_compilation_cache_max_size jax_enable_compilation_cache
        jax_persistent_cache_enable_xla_caches jax_persistent_cache_min_compile_time_secs jax_persistent_cache_min_entry_size_bytes
        jax_remove_custom_partitioning_ptr_from_cache_key jax_share_binary_between_hosts jax_share_binary_between_hosts_timeout_ms
        jax_serialization_version jax_xla_profile_version jax_embedded_constants_max_bytes jax_use_simplified_jaxpr_constants
        jax_export_calling_convention_version jax_export_ignore_forward_compatibility jax_export_deserialize_expired_versions
        jax2tf_associative_scan_reductions jax2tf_default_native_serialization jax_mosaic_unzip_debug_locations""",
    "says where and how jax runs, which a checkpoint's `machine` records": """
        jax_backend_target jax_cpu_collectives_implementation jax_cpu_enable_async_dispatch jax_cpu_enable_gloo_collectives
        jax_cpu_get_global_topology_timeout_minutes jax_cpu_get_local_topology_timeout_minutes
        jax_cross_host_transfer_socket_address jax_cross_host_transfer_timeout_seconds jax_cross_host_transfer_transfer_size
        jax_cross_host_transport_addresses jax_cuda_visible_devices jax_default_device jax_distributed_verify_secure_credentials
        jax_enable_preemption_service jax_enable_recoverability jax_force_dcn_cross_host_transfers jax_mock_gpu_topology
        jax_mtls_ca_file jax_mtls_cert_file jax_mtls_key_file jax_mtls_peer_uri_prefix jax_num_cpu_devices
        jax_oneapi_visible_devices jax_pjrt_client_create_options jax_platform_name jax_platforms jax_rocm_visible_devices
        jax_sort_devices_by_process_index jax_xla_backend mock_num_gpu_processes jax_use_cpp_shard_args""",
    "chooses how the same mathematics is traced or compiled: the last bits at most": """
        eager_constant_folding jax_auto_pcast jax_compiler_enable_remat_pass jax_custom_jvp3 jax_custom_vjp3
        jax_disable_jit jax_disable_most_optimizations jax_disable_vmap_shmap_error jax_dynamic_shapes jax_enable_pgle
        jax_enable_custom_vjp_by_custom_transpose jax_exec_time_optimization_effort jax_memory_fitting_effort
        jax_memory_fitting_level jax_optimization_level jax_pgle_aggregation_percentile jax_pgle_profiling_runs
        jax_pmap_no_rank_reduction jax_pmap_shmap_merge jax_refs_to_pins jax_remat3 jax_remat_barrier_no_cotangents
        jax_remove_size_one_mesh_axis_from_type jax_scan3 jax_threefry_gpu_kernel_lowering jax_use_direct_linearize jax_use_rgv3
        jax_use_hlo_logistic_lowering jax_use_shardy_partitioner jax_vjp3""",
    "is of what lrjax does not use: half precision, linear algebra, sparse arrays, Pallas": """
        jax_allow_f16_reductions jax_bcoo_cusparse_lowering jax_default_dtype_bits jax_mosaic_allow_hlo
        jax_pallas_auto_assign_collective_ids jax_pallas_auto_assign_collective_ids_limit jax_pallas_dump_promela_to
        jax_pallas_enable_debug_checks jax_pallas_poison_buffers jax_pallas_use_mosaic_gpu jax_pallas_verbose_errors
        jax_ragged_dot_use_gpu_pallas_triton_lowering jax_ragged_dot_use_ragged_dot_instruction jax_use_emit_pipeline_primitive
        jax_use_magma""",
}


NOTHING = {"nothing": (), "most": ()}


@contextlib.contextmanager
def hostile():
    with contextlib.ExitStack() as stack:
        for name, value in HOSTILE.items():
            stack.enter_context(jax.config._value_holders[name](value))
        yield


def test_every_setting_of_jax_is_pinned_or_known_to_be_harmless():
    known = {*surroundings.PINNED, *" ".join(HARMLESS.values()).split()}
    new = sorted(set(jax.config.values) - known)
    assert not new, (
        f"this jax has settings that lrjax does not know: {new}; put those that could change a random stream or a number into "
        "surroundings.PINNED, the others into HARMLESS of this test"
    )
    assert HOSTILE.keys() >= {name for name in surroundings.PINNED if name in jax.config.values} - {"jax_accurate_erf_inv"}


def test_settings_of_jax_change_no_bit(trained, tmp_path):
    """A sweep that is trained, saved, restored and asked a question among settings that would change all of it."""
    _, expected = trained
    norms = lambda static, hyper, splits, params, gates: {"norm": jnp.linalg.norm(params.vision.E @ params.vision.W_proj)}
    with hostile():
        run = workdir.open_run(tmp_path / "w", tiny_sweep())
        loop.advance(run)
        workdir.save(tmp_path / "w", run)
        restored = workdir.restore(tmp_path / "w")
        answer = map_models(restored, norms, {"norm": ()})
    for found in (run, restored):
        jax.tree.map(np.testing.assert_array_equal, found.states, expected.states)
        np.testing.assert_array_equal(found.history.values, expected.history.values)
    np.testing.assert_array_equal(answer.norm, map_models(expected, norms, {"norm": ()}).norm)
    assert answer.norm.dtype == np.float32


@pytest.mark.parametrize(
    ("task", "relations", "expected"), [("row", "left+right", 2), ("grid:height=2,width=2", "left+above", 4 / 3)]
)
def test_a_page_counts_true_captions_under_strict_settings(task, relations, expected):
    """It computes outside of any program: nothing may move to a device unasked, and no rank be promoted."""
    with hostile(), surroundings.pinned():
        np.testing.assert_allclose(true_captions(task, relations), expected)


def test_nan_is_an_answer_where_jax_would_raise_at_it(trained):
    """It stands for what a model does not have."""
    with hostile():
        answer = map_models(
            trained[1], lambda *_: {"nothing": jnp.log(jnp.float32(-1)), "most": jnp.exp(jnp.float32(100))}, NOTHING
        )
    assert np.isnan(answer.nothing).all() and np.isinf(answer.most).all()


def test_a_question_runs_under_the_settings_of_lrjax_and_the_users_stay(trained):
    seen = {}

    def question(static, hyper, splits, params, gates):
        seen.update(jax.config.values)
        return {"one": jnp.sum(params.log_scale)}

    with hostile():
        map_models(trained[1], question, {"one": ()})
        assert {name: jax.config.values[name] for name in HOSTILE} == HOSTILE
    assert {name: seen[name] for name in surroundings.PINNED if name in seen} == {
        name: value for name, value in surroundings.PINNED.items() if name in seen
    }


def test_a_stream_is_that_of_jax_random_key_whatever_is_set():
    expected = jax.random.key_data(jax.random.fold_in(jax.random.key(np.uint32(2**32 - 1)), 2))
    with hostile(), surroundings.pinned():
        np.testing.assert_array_equal(jax.random.key_data(clip.rng_stream(np.uint32(2**32 - 1), "batches")), expected)


# ---- how jax starts ----

COMPUTES = """
import jax, jax.numpy as jnp
from lrjax.config import get_config as default

def get_config():
    print(jax.device_count(), "devices", jnp.asarray(0.1).dtype)
    return default(lr=float(jnp.float32(1e-3)))
"""
BROKEN = "def initialize():\n    raise RuntimeError('no such\\nlibrary')\n"


@pytest.mark.slow
def test_a_jax_that_cannot_start_is_said_in_one_line_and_a_choice_of_devices_stands(tmp_path):
    """Each command ends before it makes anything, the last ones at a stray argument. A plugin is broken in all of them."""
    (tmp_path / "plugins/jax_plugins/broken").mkdir(parents=True)
    (tmp_path / "plugins/jax_plugins/broken/__init__.py").write_text(BROKEN)
    (tmp_path / "computes.py").write_text(COMPUTES)
    new, computes = f"--workdir={tmp_path}/new", [f"--config={tmp_path}/computes.py", "stray"]
    cannot, stray = "jax cannot start (", "'stray': stray argument"
    flags = f"--{xla.YNN}= " if xla.knows(xla.YNN) else ""
    cases = [  # arguments, settings, what stderr says, what stdout says
        ([new], {"JAX_PLATFORMS": "gpu"}, f"error: JAX_PLATFORMS='gpu': {cannot}", ""),
        ([new], {"JAX_PLATFORMS": "cuda"}, f"error: JAX_PLATFORMS='cuda': {cannot}", ""),
        ([new], {"JAX_PLATFORMS": "bogus"}, f"error: JAX_PLATFORMS='bogus': {cannot}", ""),
        ([new], {"JAX_PLATFORMS": "cpu,gpu"}, f"error: JAX_PLATFORMS='cpu,gpu': {cannot}", ""),
        ([new], {"JAX_PLATFORM_NAME": "bogus"}, f"error: JAX_PLATFORM_NAME='bogus': {cannot}", ""),
        (
            [new, "--deterministic"],
            {"XLA_FLAGS": "--xla_gpu_autotune_level=4"},
            "error: XLA_FLAGS: --xla_gpu_autotune_level=4: contradicts --deterministic, which needs --xla_gpu_autotune_level=0",
            "",
        ),
        ([new], {"JAX_NUM_CPU_DEVICES": "0"}, f"error: JAX_NUM_CPU_DEVICES=0: {cannot}", ""),
        ([new, "--num_processes=two"], {}, "error: flag --num_processes=two: ", ""),
        ([new, *computes], {"JAX_PLATFORMS": " cpu , "}, stray, " devices float32"),
        ([new, *computes], {"JAX_NUM_CPU_DEVICES": "5"}, stray, "5 devices"),
        ([new, *computes], {"XLA_FLAGS": f"{flags}--xla_force_host_platform_device_count=3"}, stray, "3 devices"),
        ([new, *computes, "--deterministic"], {"NVIDIA_TF32_OVERRIDE": "1"}, stray, " devices float32"),
    ]
    more = {"JAX_TRANSFER_GUARD": "allow", "PYTHONPATH": f"{tmp_path}/plugins:{os.environ.get('PYTHONPATH', '')}"}
    env = {name: value for name, value in ENVIRONMENT.items() if name != "JAX_NUM_CPU_DEVICES"} | more
    commands = [("sweep", arguments) for arguments, *_ in cases]
    ended = many_commands(commands, [settings for _, settings, *_ in cases], env)
    for (_, settings, error, printed), done in zip(cases, ended, strict=True):
        *warned, said = done.stderr.splitlines()
        assert done.returncode == 2 and error in said and printed in done.stdout, (settings, done)
        assert [line.startswith("warning: Jax plugin configuration error") for line in warned] in ([], [True]), done.stderr
    assert "(RuntimeError: no such library)" in ended[0].stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "value"), [("JAX_NUM_CPU_DEVICES", "abc"), ("JAX_ENABLE_X64", "maybe")])
def test_a_variable_that_jax_cannot_read_is_said_in_one_line(name, value, tmp_path):
    env = ENVIRONMENT | {name: value}
    done = command("sweep", f"--workdir={tmp_path}/new", env=env)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1, done
    assert done.stderr.startswith("error: jax cannot be imported (") and name in done.stderr and value in done.stderr
    done = subprocess.run([sys.executable, "-c", "import lrjax"], cwd=ROOT, capture_output=True, text=True, env=env)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("ImportError: jax cannot")


def test_a_container_has_as_many_devices_as_its_quota(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "CGROUP", tmp_path)
    assert devices._quota() == float("inf")
    (tmp_path / "cpu").mkdir()
    for quota, cores in (("-1", float("inf")), ("150000", 2)):
        (tmp_path / "cpu/cpu.cfs_quota_us").write_text(f"{quota}\n")
        (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
        assert devices._quota() == cores
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert devices._quota() == 1
    for path in ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"):
        (tmp_path / path).unlink()
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert devices._quota() == float("inf")


# ---- flags of XLA ----

DETERMINISTIC = {"xla_gpu_deterministic_ops": "true", "xla_gpu_autotune_level": "0", "xla_gpu_enable_triton_gemm": "false"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", DETERMINISTIC),
        ("--xla_gpu_deterministic_ops --a=b", {**DETERMINISTIC, "xla_gpu_deterministic_ops": "", "a": "b"}),
        ("--xla_gpu_enable_triton_gemm=true", {**DETERMINISTIC, "xla_gpu_enable_triton_gemm": "true"}),
    ],
)
def test_flags_of_the_user_stand_beside_those_of_determinism(monkeypatch, given, expected):
    monkeypatch.setenv("XLA_FLAGS", given)
    devices.be_deterministic()
    assert xla.flags() == expected and os.environ["XLA_FLAGS"].startswith(given)


@pytest.mark.parametrize(
    "given", ["--xla_gpu_deterministic_ops=false", "--xla_gpu_autotune_level=4", "--xla_gpu_deterministic_ops=0"]
)
def test_a_flag_that_contradicts_determinism_is_refused(monkeypatch, given):
    monkeypatch.setenv("XLA_FLAGS", f"--a=b {given}")
    with pytest.raises(InputError, match=f"XLA_FLAGS: {given}: contradicts --deterministic, which needs --xla_gpu_"):
        devices.be_deterministic()
    assert os.environ["XLA_FLAGS"] == f"--a=b {given}"


def test_flags_in_a_file_are_kept(monkeypatch, tmp_path):
    (tmp_path / "flags").write_text("--a=b\n--c\n")
    monkeypatch.setenv("XLA_FLAGS", str(tmp_path / "flags"))
    xla.add_flags({"d": "1"})
    assert os.environ["XLA_FLAGS"].split() == ["--a=b", "--c", "--d=1"]


@pytest.mark.parametrize(("platform", "said"), [("gpu", True), ("cpu", False)])
def test_the_override_of_tf32_is_taken_away_and_said_on_a_gpu(monkeypatch, capsys, platform, said):
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    monkeypatch.setattr(jax, "devices", lambda: [type("Device", (), {"platform": platform})])
    surroundings.start()
    assert "NVIDIA_TF32_OVERRIDE" not in os.environ
    assert ("NVIDIA_TF32_OVERRIDE=1: is ignored" in capsys.readouterr().err) == said


def test_a_notebook_says_in_the_same_line_that_jax_cannot_start(monkeypatch):
    def fail():
        raise AssertionError

    monkeypatch.setattr(jax, "devices", fail)
    for owner, name in ((notebook.devices, "use_all_cores"), (notebook.program_cache, "use_compilation_cache")):
        monkeypatch.setattr(owner, name, lambda: None)  # this test leaves this process as it is
    with pytest.raises(InputError, match=r"jax cannot start \(no such device is found\); expected a platform that works here"):
        notebook.begin()
