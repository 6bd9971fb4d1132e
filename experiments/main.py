"""The console script `lrjax`: the commands of `experiments` by short names, in any folder.

lrjax sweep --config=FILE --workdir=DIR        lrjax analyze NAME --ckpt=DIR
lrjax ablate --ckpt=DIR --ablations=EP         lrjax report paper|reproduce|encoders|tasks|printed_tasks
lrjax explorer --ckpt=DIR --out=FILE           lrjax pretrained --weights=DIR
lrjax search --config=FILE --workdir=DIR       lrjax benchmark
"""

import runpy
import sys

SHORT = {name: name for name in ("sweep", "search", "explorer", "benchmark", "pretrained")} | {"ablate": "ablate_ep"}
ANALYSES = (
    *("align", "decompose", "depth", "factors", "gauge", "gradient", "grid", "heads", "left_right", "ratio", "reader"),
    *("relational", "text", "training_ablation", "values", "variants"),
)
REPORTS = ("paper", "reproduce", "encoders", "tasks", "printed_tasks")
GROUPS = {"analyze": ANALYSES, "report": REPORTS}


def module_of(words: list[str]) -> tuple[str, list[str]]:
    """The module that a command line asks for, and the arguments that are left for it.

    Raises:
      SystemExit: there is no such command; the message lists those that there are.
    """
    first, rest = (words[0] if words else ""), words[1:]
    if first in SHORT:
        return f"experiments.{SHORT[first]}", rest
    if first in GROUPS:
        name = rest[0] if rest else ""
        if name in GROUPS[first]:
            return f"experiments.{name}", rest[1:]
        said = f"lrjax {first} {name}".strip()
        raise SystemExit(f"error: {said!r}: expected lrjax {first} and one of {', '.join(GROUPS[first])}")
    if first in ("", "help", "--help", "-h"):
        print((__doc__ or "").strip())
        for group, names in GROUPS.items():
            print(f"\nlrjax {group}: {', '.join(names)}")
        raise SystemExit(0 if first else 2)
    raise SystemExit(f"error: lrjax {first!r}: is no command; expected one of {', '.join([*SHORT, *GROUPS])}, or help")


def main() -> None:
    """Run a command as `python -m experiments.NAME` does."""
    module, arguments = module_of(sys.argv[1:])
    sys.argv = [sys.argv[0], *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
