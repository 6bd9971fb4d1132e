"""Which models and sweeps are possible. The values of one field alone are in its declaration; here are the rules between fields.

A rule is a function of a model and its task. It raises InputError that names one field, its value and what was expected. To add a
rule, write the function and name it in RULES; its docstring becomes a line of docs/reference/config.md.
"""

import hashlib
from collections.abc import Callable, Sequence

import jax

from lrjax.data.tasks import Task
from lrjax.declarations import (
    FIELDS,
    MAX_STEPS,
    RUN_FIELDS,
    Model,
    Sweep,
    gate_schedule,
    make_static,
    one_of_each,
    steps_per_epoch,
)
from lrjax.errors import InputError
from lrjax.fields import check_all, require
from lrjax.gates import ENCODERS, check_gates
from lrjax.models import objectives, positions

Rule = Callable[[Model, Task], None]


def validate(sweep: Sweep) -> None:
    """Check a whole sweep.

    Raises:
        InputError: a model or the run is not possible. The message names the field, its value and what is possible.
    """
    _check_length(sweep)
    if not sweep.models:
        raise InputError("models: the sweep is empty; give at least one model")
    for model in one_of_each(sweep.models):
        validate_model(model)
        check_gates(model.gates, sweep.evaluated_at(model)[-1])
        if sweep.epochs:
            _check_epochs(sweep, model)


def validate_model(model: Model) -> None:
    """Check one model.

    Raises:
        InputError: as in `validate`.
    """
    check_all(FIELDS, model)
    task = make_static([model]).task_object
    for rule in RULES:
        rule(model, task)


def refuse_equal_gates(models: Sequence[Model]) -> None:
    """Raise InputError that names two texts of gates, if they are the same gates in a model of the sweep."""
    shape = ("n_heads", "n_layers_vision", "n_layers_text", "n_repeats")
    found: dict[tuple, str] = {}
    for model in {(m.gates, *(getattr(m, name) for name in shape)): m for m in models}.values():
        sizes = tuple(getattr(model, name) for name in shape)
        digest = hashlib.sha256(b"".join(array.tobytes() for array in jax.tree.leaves(gate_schedule(model)))).digest()
        if (other := found.setdefault((sizes, digest), model.gates)) != model.gates:
            where = ", ".join(f"{name} = {size}" for name, size in zip(shape, sizes, strict=True))
            raise InputError(f"config.gates: {other!r} and {model.gates!r} are the same in a model of {where}; give one of them")


def _check_length(sweep: Sweep) -> None:
    """Check how long a sweep trains and how often it is evaluated and saved."""
    not_read = ("steps", "eval_every") if sweep.epochs else ()
    check_all({name: of_field for name, of_field in RUN_FIELDS.items() if name not in not_read}, sweep)
    if sweep.epochs:
        return
    every, often = sweep.eval_every, sweep.checkpoint_every
    require("steps", sweep.steps, sweep.steps % every == 0, f"a multiple of eval_every = {every}")
    fits = often == 0 or every % often == 0 or often % every == 0
    require("checkpoint_every", often, fits, f"0 (every evaluation), or a divisor or multiple of eval_every = {every}")


def _check_epochs(sweep: Sweep, model: Model) -> None:
    """Check the number of epochs of a model."""
    require("epochs", sweep.epochs, model.data == "fixed", "0 where data = 'resampled', which has no epochs: give steps")
    last, n = sweep.epochs * steps_per_epoch(model), model.n_labels
    require("epochs", sweep.epochs, last <= MAX_STEPS, f"fewer: {last} steps at n_labels = {n}, of at most {MAX_STEPS}")
    require("evaluations", sweep.evaluations, sweep.evaluations <= last, f"at most the {last} steps of n_labels = {n}")


# ---- the rules between the fields of a model ----


def heads_share_the_stream(m: Model, task: Task) -> None:
    """d_model is a multiple of n_heads, unless d_head is given."""
    fits = m.d_head > 0 or m.d_model % m.n_heads == 0
    require("d_model", m.d_model, fits, f"a multiple of n_heads = {m.n_heads}, or config.d_head given")


def the_kind_of_position_applies(m: Model, task: Task) -> None:
    """The kind of position is possible with the other fields and the task: rotary ones need an even d_head, because rotations turn
    pairs of dimensions; 'row_column' needs a task of two dimensions; kinds whose P is not trained need an e_scale above 0.
    """
    positions.find(m.positions).check(m, task)


def images_without_projection_have_d_model(m: Model, task: Task) -> None:
    """d_embed is d_model if projection = 'text'."""
    equal = m.projection == "both" or m.d_embed == m.d_model
    require("d_embed", m.d_embed, equal, f"d_model = {m.d_model}, where projection = 'text'")


def something_is_embedded(m: Model, task: Task) -> None:
    """e_scale and p_scale are not both 0."""
    require("e_scale", m.e_scale, m.e_scale + m.p_scale > 0, "e_scale or p_scale above 0")


def labels_suffice(m: Model, task: Task) -> None:
    """n_labels and n_heldout are at least the number of labels that stand together in an image of the task."""
    for name in ("n_labels", "n_heldout"):
        enough = getattr(m, name) >= task.objects_per_scene
        require(name, getattr(m, name), enough, f"{task.objects_per_scene} or more labels, which stand together in task {m.task!r}")


def some_places_are_held_out(m: Model, task: Task) -> None:
    """n1 is below the number of positions of the task, and n2 below the number of its layouts."""
    places, layouts = task.n_places, task.n_layouts
    require("n1", m.n1, m.n1 <= places - 1, f"1..{places - 1}, so that some of the {places} positions are held out")
    require("n2", m.n2, m.n2 <= layouts - 1, f"1..{layouts - 1}, so that some of the {layouts} layouts are held out")


def fixed_sets_are_even(m: Model, task: Task) -> None:
    """zipf is 0 if data = 'fixed'; distinct is False if data = 'resampled'."""
    of_fixed = m.data == "fixed"
    require("distinct", m.distinct, of_fixed or not m.distinct, "False where data is resampled: its places are all different")
    require("zipf", m.zipf, not of_fixed or m.zipf == 0, "0 where data = 'fixed': every label and pair has as many images")


def batches_fit(m: Model, task: Task) -> None:
    """batch_size is even, and at most the number of images of the fixed set."""
    require("batch_size", m.batch_size, m.batch_size % 2 == 0, f"an even number, {FIELDS['batch_size'].expected}")
    enough = m.data != "fixed" or steps_per_epoch(m) >= 1
    require("batch_size", m.batch_size, enough, "at most the number of images of the finite set")


def the_head_has_objects_to_find(m: Model, task: Task) -> None:
    """supervision is 0 unless each object is one token in a row; contrastive is 1 if supervision is 0."""
    possible = m.supervision == 0 or (task.single_token_objects and not task.grid_shape)  # of two places one comes first
    expected = "0: the head finds objects of one token each, in a row, and no others"
    require("supervision", m.supervision, possible, expected)
    require("contrastive", m.contrastive, m.contrastive == 1 or m.supervision > 0, "1 where there is no supervision")


def the_objective_applies(m: Model, task: Task) -> None:
    """The objective is possible with the other fields and the task; fields of the contrastive one have their defaults elsewhere."""
    objectives.find(m.objective).check(m, task)


def gates_exist(m: Model, task: Task) -> None:
    """gates name terms, layers and heads of the model; with an MLP those of layer 0 alone, as later layers have no terms."""
    schedule = gate_schedule(m)
    if not m.mlp_ratio:
        return
    expected = f"gates of layer 0 alone (.L0): with mlp_ratio = {m.mlp_ratio} later terms do not exist"
    for gates in (schedule.g0, schedule.g1):
        deeper_are_1 = all((getattr(gates, encoder)[1:] == 1).all() for encoder in ENCODERS)
        require("gates", m.gates, deeper_are_1, expected)


RULES: tuple[Rule, ...] = (
    the_head_has_objects_to_find,
    the_objective_applies,
    something_is_embedded,
    labels_suffice,
    some_places_are_held_out,
    heads_share_the_stream,
    the_kind_of_position_applies,
    images_without_projection_have_d_model,
    fixed_sets_are_even,
    batches_fit,
    gates_exist,
)
