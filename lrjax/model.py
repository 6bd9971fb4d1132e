"""One trained model: look into it, take terms away, ask it for captions of a scene."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr

from lrjax import arguments, surroundings
from lrjax.ablations import Ablation
from lrjax.analysis.ablate import Ablate
from lrjax.config import Hyper, Static
from lrjax.config import Model as Fields
from lrjax.data import text
from lrjax.data.captions import all_captions, words_of
from lrjax.data.scenes import BACKGROUND, EOT, TokenEdits, render
from lrjax.data.splits import Splits
from lrjax.data.tasks.base import Captions
from lrjax.errors import InputError, in_python
from lrjax.gates import Gates
from lrjax.models import encoder, objectives
from lrjax.models.clip import CLIP, embed_captions, embed_images, encoder_as_run, encoder_configs
from lrjax.models.interventions import Interventions
from lrjax.terms import ORIGINS, TERMS

CONTRASTIVE = "expected a contrastive model: a decoder has no embeddings; ask run.analyze('decoder')"


class AttentionCache(Mapping):
    """What one forward pass of one encoder held, by name; every entry is an xarray DataArray with named dimensions.

    For block 0 of the vision encoder (text and other blocks alike):
      vision.0.terms [term, head, query, key]   the nine terms of a score, over sqrt(d_head), before gates
      vision.0.scores [head, query, key]        what softmax sees: gated terms; those equal for all keys of a row are left out
      vision.0.pattern [head, query, key]       softmax of the scores
      vision.0.values [origin, key, head, d_head]   what heads read, gated
    and `vision.residual` [origin, query, d_model], the residual stream by origin at the end; `vision.embedding` [d_embed].
    Names of positions are texts: "CLS", "1", "2", ...
    """

    def __init__(self, entries: dict[str, xr.DataArray]):
        self._entries = entries

    def __getitem__(self, name: str) -> xr.DataArray:
        if name not in self._entries:
            raise KeyError(f"{name!r}: is not in this cache; expected one of {', '.join(self._entries)}")
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        lines = (f"  {name} [{', '.join(f'{d} {n}' for d, n in x.sizes.items())}]" for name, x in self._entries.items())
        return "\n".join(["AttentionCache", *lines])


@dataclasses.dataclass(frozen=True, repr=False)
class Model:
    """One trained model of a run. Immutable: `ablate` returns another.

    Attributes:
      fields: the fields of the config that made it, such as `fields.n_labels`.
      static, hyper: the fields as lrjax's own functions take them: static ones, and arrays.
      params: its parameters, as the encoders read them (E times token_multiplier).
      splits: which positions and layouts it trained on.
      gates: the gates in force; 1 everywhere unless it was trained with gates, or `ablate` made it.
      step: the training step of the parameters.
      ablated: what `ablate` has taken away.
    """

    fields: Fields
    static: Static
    hyper: Hyper
    params: CLIP
    splits: Splits
    gates: Gates
    step: int
    ablated: tuple[str, ...] = ()

    def ablate(self, terms: str | Ablation, encoder: str = "vision", heads: Sequence[int] | None = None) -> "Model":
        """The same model with attention terms taken away, or scaled.

        What `run_with_cache` calls `terms` stays as it was: it is before gates. `scores`, `pattern` and `values` change.

        Args:
          terms: such as "EP", "EP+PP+BP", "EP=0.5", or any gates, such as "vision.h0:EP=0" (docs/concepts/terms.md);
            or a record, such as lrjax.Ablation(("EP",), heads=(0,)).
          encoder: "vision" or "text".
          heads: numbers of heads; all if not given.

        Raises:
          InputError: there is no such term, head or encoder.
        """
        with in_python(), surroundings.pinned():
            terms, heads = arguments.one_ablation(terms), arguments.heads(heads)
            encoder = arguments.encoder(encoder)
            ask = Ablate((terms,), encoder, None if heads is None else tuple(heads))
            factors, weights = ask.factors_and_weights(self.static)
            if any(weight.any() for weight in weights.values()):
                raise InputError(
                    f"terms={str(terms)!r}: replaces terms by others; expected gates; ask run.ablate([{str(terms)!r}])"
                )
            gates = jax.tree.map(lambda gate, factor: gate * factor[0], self.gates, factors)
        return dataclasses.replace(self, gates=gates, ablated=(*self.ablated, str(terms)))

    def run_with_cache(self, scene: str) -> tuple[xr.DataArray, AttentionCache]:
        """The embedding of one scene or caption, and all that the encoder held on the way.

        Args:
          scene: a scene, such as "h1 . . h2 . . . . . ." (the vision encoder runs), or a caption that the model knows, such as
            "h1 is on the left of h2" (the text encoder runs).

        Returns:
          The unit embedding [d_embed], and the cache.

        Raises:
          InputError: there is no such scene or caption in this model's task, or the model is an autoregressive decoder.
        """
        arguments.text("scene", scene, self.example())
        self._check_contrastive("run_with_cache")
        name, ids, readout, labels = self._sequence(scene)
        with surroundings.pinned():
            found = jax.device_get(_passed(self.static, name, readout, self.params, self.gates, ids))
        at = {"query": labels, "key": labels, "term": list(TERMS), "origin": list(ORIGINS), "head": range(self.static.n_heads)}
        entries = {}

        def put(key, array, *dims):
            known = {dim: at[dim] for dim in dims if dim in at and (dim != "origin" or array.shape[0] == len(ORIGINS))}
            entries[f"{name}.{key}"] = xr.DataArray(array, known, dims, name=f"{name}.{key}")

        for i, block in enumerate(found.caches):
            put(f"{i}.terms", block.terms, "term", "head", "query", "key")
            put(f"{i}.scores", block.attn_scores, "head", "query", "key")
            put(f"{i}.pattern", block.pattern, "head", "query", "key")
            put(f"{i}.values", block.values, "origin", "key", "head", "d_head")
        put("residual", found.residual_by_origin, "origin", "query", "d_model")
        put("embedding", found.embedding, "d_embed")
        return entries[f"{name}.embedding"], AttentionCache(entries)

    def rank(self, scene: str, n: int | None = None) -> pd.DataFrame:
        """Captions of a scene, the most similar first.

        Args:
          scene: such as "h1 . . h2 . . . . . .".
          n: how many captions; all if not given.

        Returns:
          One row for each caption over the model's own labels: `caption`, `similarity` (cosine), and `is`: "true" of a caption
          that is true of the scene, "swapped" of one that is true of the scene with its objects swapped, else empty.

        Raises:
          InputError: as of `run_with_cache`.
        """
        n = None if n is None else arguments.number("n", n, "a number of captions, 1 or more, or nothing for all")
        arguments.text("scene", scene, self.example())
        self._check_contrastive("rank")
        task = self.static.task_object
        if _is_caption(scene):
            raise InputError(f"scene={scene!r}: is a caption; expected a scene, such as {self.example()!r}")
        captions, texts = self._captions
        objects = text.read_scene(task, scene, self.fields.n_labels)
        true, swapped = task.true_and_swapped(*objects)
        with surroundings.pinned():
            similarity = np.asarray(_similarities(self.static, self.params, self.gates, captions, task.render(*objects)))
        kind = np.full(len(similarity), "", object)
        kind[true], kind[swapped] = "true", "swapped"
        table = pd.DataFrame({"caption": texts, "similarity": similarity, "is": kind})
        table = table.loc[np.asarray(captions.exists)].sort_values("similarity", ascending=False, kind="stable")
        return table.reset_index(drop=True).head(n if n is not None else len(table))

    def example(self) -> str:
        """A scene of two held-out labels, as people write it."""
        task = self.static.task_object
        return text.write_scene(task, range(task.objects_per_scene), task.layouts[len(task.layouts) // 2])

    @functools.cached_property
    def _captions(self) -> tuple[Captions, list[str]]:
        """All captions of the task, and the same as people read them."""
        captions = self.static.task_object.captions(self.hyper)
        return captions, text.captions_of(self.static.task_object, captions)

    def _check_contrastive(self, method: str) -> None:
        """Raise InputError that names the method, if the model has no embeddings."""
        if objectives.of(self.static).refusal(method):
            raise InputError(f"{method}: objective={self.static.objective!r}; {CONTRASTIVE}")

    def _sequence(self, scene: str) -> tuple[str, jax.Array, int, list[str]]:
        """The encoder's name, ids [T], the position that is read out, and the names of positions."""
        task = self.static.task_object
        if not _is_caption(scene):
            edits = task.render(*text.read_scene(task, scene, self.fields.n_labels))
            return "vision", render(task.image, edits), task.image.readout, task.position_names()
        captions, known = self._captions
        exists = np.asarray(captions.exists)
        wanted = " ".join(scene.split())
        matches = [i for i, caption in enumerate(known) if caption == wanted and exists[i]]
        if not matches:
            raise InputError(f"scene={scene!r}: is no caption of this model; expected one such as {known[int(exists.argmax())]!r}")
        words = np.asarray(words_of(task, all_captions(task, captions)))[matches[0]]
        readout = int(np.argmax(words == EOT))
        names = [task.token_names()[token] if token != BACKGROUND else "" for token in words[: readout + 1]]
        names = [name if names.count(name) == 1 else f"{name} {i + 1}" for i, name in enumerate(names)]
        return "text", jnp.asarray(words[: readout + 1]), readout, names

    def __repr__(self) -> str:
        shown = dataclasses.asdict(self.fields)
        usual = dataclasses.asdict(Fields())
        differs = ", ".join(
            f"{name}={value!r}" for name, value in shown.items() if value != usual[name] or name in ("n_labels", "seed")
        )
        more = f"; ablated: {', then '.join(self.ablated)}" if self.ablated else ""
        return f"lrjax.Model({differs}) at step {self.step}{more}"


@partial(jax.jit, static_argnums=(0, 1, 2))
def _passed(static: Static, name: str, readout: int, params: CLIP, gates: Gates, ids: jax.Array):
    """One sequence through one encoder, by the definition, with its cache."""
    with jax.default_matmul_precision(static.matmul_precision):
        return encoder.run(
            encoder_as_run(static, params, name), Interventions(getattr(gates, name)), ids, encoder_configs(static)[name], readout
        )


@partial(jax.jit, static_argnums=0)
def _similarities(static: Static, params: CLIP, gates: Gates, captions: Captions, image: TokenEdits) -> jax.Array:
    """Cosines [c] of one image with all captions of the task."""
    with jax.default_matmul_precision(static.matmul_precision):
        of_captions = embed_captions(static, params, Interventions(gates.text), all_captions(static.task_object, captions))
        return jnp.concatenate(of_captions) @ embed_images(static, params, Interventions(gates.vision), image)


def _is_caption(scene: str) -> bool:
    """Whether a text is a caption: captions are sentences with "is", and scenes are not."""
    return "is" in scene.split()
