"""What a compiled program is made of, read off XLA's text of it: instructions, kernels and bytes of a step, collectives.

The text is a list of computations, each a list of instructions `name = type opcode(operands), attributes`. A fusion is one kernel
and calls a computation of its own; a loop calls its body and its condition. A type is an array `f32[10,256]{1,0:T(8,128)S(1)}` or a
tuple of arrays; `S(1)` says that the array lies in memory on the chip (VMEM of a TPU).
"""

import dataclasses
import math
import re
from collections.abc import Iterator

INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = (.*)$")
OPCODE = re.compile(r"(?:^| )([a-z][a-z0-9-]*)\(")
COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) .*\{$|^(?:ENTRY )?%?([\w.-]+) \{$")
CALLED = re.compile(r"(?:body|condition|to_apply|calls|true_computation|false_computation)=%?([\w.-]+)")
BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
ARRAY = re.compile(r"\b([a-z]+)(\d*)\[([\d,]*)\](\{[^}]*\})?")
NAME = re.compile(r"%([\w.-]+)")
# What runs other computations, and what moves no data of its own.
RUNS = {"while", "call", "conditional", "async-start"}
FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id"}
COLLECTIVE = re.compile(r"^(all-reduce|all-gather|all-to-all|collective-permute|collective-broadcast|reduce-scatter)(-start)?$")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction: its type, its opcode, and the text behind the opcode."""

    type: str
    opcode: str
    rest: str

    @property
    def called(self) -> list[str]:
        """The computations that it calls."""
        branches = [name.strip().lstrip("%") for found in BRANCHES.findall(self.rest) for name in found.split(",")]
        return CALLED.findall(self.rest) + branches

    @property
    def operands(self) -> list[str]:
        """The names of its operands."""
        return NAME.findall(self.rest.partition(")")[0])


Program = dict[str, dict[str, Instruction]]  # computations by name, instructions by name


def parse(text: str) -> Program:
    """The computations of a program's text."""
    found: Program = {}
    inside: dict[str, Instruction] = {}
    for line in text.splitlines():
        if (header := COMPUTATION.match(line)) and not line.startswith(" "):
            inside = found.setdefault(header[1] or header[2], {})
        elif (match := INSTRUCTION.match(line)) and (opcode := OPCODE.search(match[2])):
            inside[match[1]] = Instruction(match[2][: opcode.start()], opcode[1], match[2][opcode.end() :])
    return found


def count_instructions(program: Program) -> int:
    """How many instructions a program has, those inside fusions too."""
    return sum(map(len, program.values()))


def count_collectives(program: Program) -> int:
    """How many instructions of a program talk to other devices."""
    return sum(bool(COLLECTIVE.match(one.opcode)) for body in program.values() for one in body.values())


def kernels(program: Program, name: str) -> Iterator[Instruction]:
    """The kernels that a computation starts: its instructions that are neither free nor the second half of another, and those of
    the computations that it runs. What a loop inside repeats comes once.
    """
    for one in program[name].values():
        if one.opcode in RUNS:
            for called in one.called:
                yield from kernels(program, called)
        elif one.opcode not in FREE and not one.opcode.endswith("-done"):
            yield one


def kernels_of_step(program: Program) -> list[Instruction]:
    """The kernels of one turn of a program's largest loop: of a training step, in a program that trains. Empty without a loop."""
    loops = [one for body in program.values() for one in body.values() if one.opcode == "while"]
    turns = ([kernel for called in loop.called for kernel in kernels(program, called)] for loop in loops)
    return max(turns, key=len, default=[])


def bytes_off_chip(program: Program, step: list[Instruction]) -> int:
    """Bytes that kernels read from and write to memory off the chip: operands and results that do not lie on it. An array that only
    in part is read, as a gather does, counts whole.
    """
    types = {name: one.type for body in program.values() for name, one in body.items()}
    moved = 0
    for kernel in step:
        moved += _size(kernel.type, scratch=kernel.opcode == "custom-call")
        if not kernel.opcode.endswith("-start"):  # the result of `copy-start` names its source and its target
            moved += sum(_size(types.get(name, "")) for name in kernel.operands)
    return moved


def _size(type: str, scratch: bool = False) -> int:
    """Bytes of an array or a tuple of arrays, without those on the chip; `scratch`: nor the room that a library asks for (s8)."""
    arrays = ARRAY.findall(type)
    return sum(
        _bytes(kind, bits, sides) for kind, bits, sides, lay in arrays if "S(" not in lay and not (scratch and kind + bits == "s8")
    )


def _bytes(kind: str, bits: str, sides: str) -> int:
    """Bytes of one array."""
    width = int(bits) // 8 if bits and int(bits) >= 8 else 1  # pred has no bits
    return width * math.prod(int(side) for side in sides.split(",") if side)
