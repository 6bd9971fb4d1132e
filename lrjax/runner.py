"""Training in a folder, to its end or to a stop: what the commands, the studies and Python share.

Nothing here exits; a caller decides what a stop means.
"""

from pathlib import Path

from lrjax import devices
from lrjax.config import Sweep, validate
from lrjax.errors import SaveError
from lrjax.storage import workdir
from lrjax.training import loop
from lrjax.training.programs import Measure
from lrjax.training.progress import Progress
from lrjax.training.run import Run
from lrjax.training.stop import Stop


def train(run: Run, folder: Path, measures: tuple[Measure, ...] = (), quiet: bool = False) -> int:
    """Train a run to its end; save it in its folder on the way, and where a signal stops it.

    Args:
      run: the run, which is advanced in place.
      folder: its working directory.
      measures: what is recorded at every evaluation beside the metrics.
      quiet: print neither the plan nor progress.

    Returns:
      The number of the signal that stopped training; 0 if training came to its end.

    Raises:
      SaveError: the last save failed; what was saved before is as it was.
    """
    if not quiet:
        print(loop.plan(run))
    if run.evaluations and devices.first_process():
        workdir.write_tables(folder, run)  # rows past the restored step are dropped
    progress, save = Progress(run, quiet), workdir.Saver(folder, run)
    with Stop() as stop:
        try:
            loop.advance(
                run,
                progress.on_chunk,
                progress.on_evaluation,
                on_checkpoint=save,
                stop=stop,
                measures=measures,
                on_waiting=progress.on_waiting,
            )
        finally:
            progress.close()
        save(run)
    if save.failed:
        raise SaveError(f"{save.failed}; the last save failed: make room, then continue")
    return stop.number


def open_in(folder: Path, wanted: Sweep) -> Run:
    """The run of a sweep in its folder: new, or as far as it was brought."""
    validate(wanted)
    return workdir.open_run(folder, wanted, resume=(folder / "config.json").is_file())
