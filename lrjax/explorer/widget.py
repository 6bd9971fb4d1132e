"""The explorer in a notebook, as an anywidget (the extra `widget`): the same page, and its state in Python.

from lrjax.explorer.widget import Explorer
Explorer(run.where(n_labels=15, seed=0))
"""

from collections.abc import Sequence
from typing import Any

import anywidget  # pyright: ignore[reportMissingImports]
import traitlets

from lrjax.api import Run
from lrjax.explorer import page


class Explorer(anywidget.AnyWidget):
    """The explorer's page of a run, in a notebook.

    Attributes:
        html: the page, with the tables of all models in it.
        state: what the page shows, as the fragment of its address has it, such as "scene=h1_._._h2_._._._._._.&gates=EP=0". Each
            follows the other.
    """

    _esm = page.asset("widget.js")
    html = traitlets.Unicode().tag(sync=True)
    state = traitlets.Unicode().tag(sync=True)

    def __init__(self, run: Run | Sequence[Run], state: str = "", checkpoints: int = 12, **more: Any):
        """Make the page of a run, or of several.

        Args:
            run: what `lrjax.load` gives, or a part of it, or several; earlier checkpoints are shown too, where folders have them.
            state: what the page shows first.
            checkpoints: steps of training that the page has at most.
            **more: fields of anywidget.AnyWidget.

        Raises:
            InputError: the explorer cannot show such models, two runs share a name, or the page would be larger than 5 MB.
        """
        runs = [run] if isinstance(run, Run) else run
        super().__init__(html=page.html(page.page_data([_trained(one, checkpoints) for one in runs])), state=state, **more)


def _trained(run: Run, checkpoints: int) -> page.Trained:
    """A run at its steps of training up to the one it is at."""
    steps = [*(step for step in run.steps if step < run.step), run.step]
    earlier = [run.at(step).trained for step in page.spread(steps, checkpoints)[:-1]]
    return page.Trained(f"runs/{run.folder.name}" if run.folder else "runs/mine", [*earlier, run.trained])
