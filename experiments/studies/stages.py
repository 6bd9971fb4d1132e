"""Tables of a search in stages: each is computed from a sweep in a folder of the same name, chosen from the stage before it."""

import contextlib
import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path

from lrjax.errors import InputError
from lrjax.stats import Table, read_csv
from lrjax.storage import results, workdir


@dataclasses.dataclass(frozen=True)
class Search:
    """A kind of search.

    after: stage -> the stage before it ("" for the first). A stage without a sweep of its own is computed from that one's.
    modules: what computes the tables, for `results.code_of_modules`.
    """

    after: Mapping[str, str]
    modules: tuple[str, ...]

    def write(self, folder: Path, stage: str, table: Table) -> Path:
        """Write a stage's table into the folder of the search."""
        results.write(path := folder / f"{stage}.csv", table, self._record(folder, stage))
        return path

    def tables(self, folder: Path) -> dict[str, Table]:
        """The tables of a search, by stage: those that were computed from the sweeps that are there, and from the table of the
        stage before. A folder without sweeps is an archive, such as docs/results/regime: its tables are read as they are.
        """
        found: dict[str, Table] = {}
        archive = not any((folder / stage / "config.json").is_file() for stage in self.after)
        for stage, before in self.after.items():
            path = folder / f"{stage}.csv"
            if before and before not in found:
                continue
            with contextlib.suppress(InputError):
                if not archive:
                    found[stage] = results.read(path, self._record(folder, stage))
                elif path.is_file():
                    found[stage] = read_csv(path)
        return found

    def _record(self, folder: Path, stage: str) -> results.Record:
        before = self.after[stage]
        table = folder / f"{before}.csv"
        chosen_from = hashlib.sha256(table.read_bytes()).hexdigest() if before and table.is_file() else ""
        checkpoint = workdir.identity(folder / (stage if (folder / stage).is_dir() else before))
        return results.Record(checkpoint, f"search: {stage}", {"chosen_from": chosen_from}, results.code_of_modules(self.modules))


REGIME = Search({"screen": "", "long": "screen", "confirm": "long"}, ("lrjax.analysis.regime",))
HALVING = {"screen": "", "full": "screen", "confirm": "full"}
SEARCH = Search(HALVING, ("lrjax.analysis.search",))
ONE_HEAD = Search(
    HALVING | {"how": "confirm"},
    ("lrjax.analysis.gradient", "lrjax.analysis.heads", "lrjax.analysis.one_head", "lrjax.analysis.search"),
)
