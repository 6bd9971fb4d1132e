"""The three generalisations, by retrieval between images and captions.

single: held-out positions of every label. seen_pair: trained pairs at held-out layouts. unseen_pair: all ordered pairs of the
held-out labels at all layouts. Of each: top-1 (the best caption is true of the image); for pairs also `order` (the true caption
above the swapped one), `label_set` (the best caption names the right labels, in any order) and `labels` (the share of an image's
labels that the best caption names).

Candidates are all captions that are valid for the model. Top-1 and label set are also measured among the captions of the set alone,
as in the paper's maps: `_in_set` and `_label_set_in_set`. These are the captions that are true of some image of the whole set
(`tasks.base.Task.of_set`), so top-1 in set is never below top-1. With one word, unseen_pair has 20 of them: chance is 1/20, of the
label set 1/10. Text -> image has the suffix `_t2i`: an image's caption retrieves among the images of the same set.

Who ties for the best shares the credit, so a model that tells nothing apart is at chance, and an order at a tie counts 1/2. A model
that is not a number has accuracy NaN. What the images are, and what is true of them, the task says (`tasks.base.EvalSet`).

Axes: n images, c captions, R captions that an image may have, F ways to get one wrong, k labels.
"""

import jax

from lrjax.config import Hyper, Static
from lrjax.data.splits import Splits
from lrjax.models import objectives
from lrjax.models.clip import CLIP
from lrjax.models.interventions import ModelInterventions


def evaluate(
    static: Static,
    hyper: Hyper,
    splits: Splits,
    params: CLIP,
    interventions: ModelInterventions,
    exhaustive: bool | jax.Array,
    sets: tuple[str, ...] | None = None,
    split: bool = True,
) -> dict[str, jax.Array]:
    """The metrics of one model on `sets` (None: those of its task), each [] in 0..1, as its objective measures them.

    exhaustive: seen_pair on all its images rather than a fixed sample. split False: all gates are 1, so origins need not be told
    apart (`encoder.run_tokens`).
    """
    asked = sets or static.task_object.SETS
    with jax.default_matmul_precision(static.matmul_precision):
        return objectives.of(static).evaluate(static, hyper, splits, params, interventions, exhaustive, asked, split)


def metric_names(static: Static, sets: tuple[str, ...]) -> list[str]:
    """The metrics of `evaluate` on `sets`."""
    objective = objectives.of(static)
    return [metric.column for name in sets for metric in objective.metrics(static, name)]
