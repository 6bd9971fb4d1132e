"""Scenes and gates that the explorer is asked, and Python's own answers to them.

The runs of the committed page are not in the repository. So `expected/explorer.npz` holds Python's answers for each of its models,
at all its steps: `python tests/explorer_by_hand.py runs/quick runs/printed` writes it, after `docs/explorer.html` is made.
"""

import json
import re
import sys
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from lrjax import config, gates
from lrjax.data.captions import all_captions
from lrjax.data.scenes import CLS, FIRST_LABEL, TokenEdits
from lrjax.explorer import page
from lrjax.models import encoder
from lrjax.models.clip import as_read, embed_captions, embed_images, encoder_configs
from lrjax.models.interventions import Interventions
from lrjax.storage import workdir

EXPECTED = Path(__file__).parent / "expected" / "explorer.npz"
PAGE = Path(__file__).parent.parent / "docs" / "explorer.html"
SCENES = 108  # of each model, the same number at each of 12 steps
ASKED = 8  # captions of each scene


def random_states(model, n, rng, steps=1):
    """So many scenes, each under gates of its own in both encoders, as the page holds them; gates are whole 64ths."""
    states = []
    for i in range(n):
        labels = rng.permutation(model.n_heldout + model.n_labels)[:2]
        places = rng.permutation(model.L)[:2]
        objects = [{"label": int(a), "place": int(at)} for a, at in zip(labels, places, strict=True)]
        drawn = {name: (rng.integers(-96, 97, (model.n_heads, 12)) / 64).tolist() for name in gates.ENCODERS}
        states.append({"model": 0, "at": i % steps, "objects": objects, "gates": drawn, "gauge": 0})
    return states


@partial(jax.jit, static_argnums=0)
def looked(static, params, both, images):
    """Of images [S, n] under gates [n, 1, h, 12]: captions' embeddings [n, c, e], images' [n, e], and of CLS's row the pattern
    [n, h, t], the terms [n, 9, h, t], and what each head reads of E and P at each key, projected, over the embedding's length
    [n, h, t, e].
    """
    captions = all_captions(
        static.task_object, static.task_object.captions(config.make_hyper(config.Model(n_labels=static.n_labels_max)))
    )
    (block,), project = params.vision.blocks, partial(encoder.projected, params.vision)

    def one(both, image):
        said = jnp.concatenate(embed_captions(static, params, Interventions(both.text), captions))
        seen = embed_images(static, params, Interventions(both.vision), image)
        ids = jnp.zeros(len(static.task_object.image.tokens), jnp.int32).at[0].set(CLS).at[image.positions].set(image.tokens)
        found = encoder.run(params.vision, Interventions(both.vision), ids, encoder_configs(static)["vision"], 0)
        (trace,) = found.caches
        length = jnp.linalg.norm(project(found.residual_by_origin.sum(0)[0]))
        read = jnp.einsum("ht,othk,hkd->htd", trace.pattern[:, 0], trace.values[:2], block.W_O)
        return said, seen, trace.pattern[:, 0], trace.terms[:, :, 0], project(read) / length

    return jax.vmap(one, in_axes=(0, 1))(both, images)


def looked_at(run, row, states):
    """`looked` of the page's states by one model of a run, with the captions alone that the model has."""
    program, state = next(found for found in zip(run.programs, run.states, strict=True) if row in found[0].rows)
    i = int(np.flatnonzero(program.rows == row)[0])
    hyper, params = jax.tree.map(lambda x: jnp.asarray(x[i]), (program.hyper, state.params))
    trained = hyper.gates.at(0)
    both = gates.Gates(
        **{name: jnp.array([s["gates"][name] for s in states])[:, None] * getattr(trained, name)[None] for name in gates.ENCODERS}
    )
    ordered = [sorted(s["objects"], key=lambda o: o["place"]) for s in states]
    edits = [[[o[name] + more for o in objects] for objects in ordered] for name, more in (("label", FIRST_LABEL), ("place", 1))]
    images = TokenEdits(*(jnp.array(x).T for x in edits))
    said, *rest = jax.device_get(looked(program.static, as_read(hyper, params), both, images))
    return said[:, np.asarray(program.static.task_object.captions(hyper).exists)], *rest


def committed():
    """What the committed page holds."""
    return json.loads(re.search(r'id="data">(.*?)</script>', PAGE.read_text(), re.S)[1])


def stored(states):
    """States as arrays: labels and places [n, 2], gates [n, 2, h, 12] in 64ths."""
    objects = {f"{name}s": [[o[name] for o in state["objects"]] for state in states] for name in ("label", "place")}
    whole = [[np.array(state["gates"][name]) * 64 for name in gates.ENCODERS] for state in states]
    return {name: np.array(found, np.int8) for name, found in {**objects, "gates": whole}.items()}


def stored_states(arrays, number, steps):
    """The states of a model of the committed page, from the arrays of `EXPECTED`."""
    labels, places, every = (arrays[f"{name}_{number}"].tolist() for name in ("labels", "places", "gates"))
    return [
        {
            "model": number,
            "at": i % steps,
            "objects": [{"label": a, "place": at} for a, at in zip(labels[i], places[i], strict=True)],
            "gates": {name: (np.array(of) / 64).tolist() for name, of in zip(gates.ENCODERS, every[i], strict=True)},
            "gauge": 0,
        }
        for i in range(len(labels))
    ]


def expected(run_at, fields, steps, number):
    """A model's scenes and gates, which captions are asked [n, ASKED], and Python's cosines of these.

    Args:
        run_at: step -> the run of the model at that step.
        fields: what the page says of the model.
        steps: the steps of the page.
        number: the number of the model in the page; its scenes derive from it.
    """
    rng = np.random.default_rng(number)
    models = run_at(steps[-1]).sweep.models
    (row,) = (i for i, model in enumerate(models) if all(getattr(model, name) == value for name, value in fields.items()))
    states = random_states(models[row], SCENES, rng, len(steps))
    cosines = [np.zeros(0)] * SCENES
    for at, step in enumerate(steps):
        said, seen, *_ = looked_at(run_at(step), row, states[at :: len(steps)])
        cosines[at :: len(steps)] = np.einsum("nce,ne->nc", said, seen)
    captions = np.array([rng.permutation(len(found))[:ASKED] for found in cosines], np.int16)
    answers = np.array([found[of] for found, of in zip(cosines, captions, strict=True)], np.float32)
    return stored(states) | {"captions": captions, "cosines": answers}


def main(*folders):
    """Write `EXPECTED` of the committed page's models, which these runs hold."""
    data, arrays = committed(), {}
    found = {Path(folder).name: Path(folder) for folder in folders}
    run_at = cache(lambda name, step: workdir.restore(found[name] / "checkpoints" / str(step)))
    for number, model in enumerate(data["models"]):
        name = data["runs"][model["run"]]["name"]
        fields = {field: value for field, value in model["fields"].items() if field != page.RUN}
        steps = [checkpoint["step"] for checkpoint in model["checkpoints"]]
        answers = expected(partial(run_at, name), fields, steps, number)
        arrays |= {f"{of}_{number}": array for of, array in answers.items()}
    np.savez_compressed(EXPECTED, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
