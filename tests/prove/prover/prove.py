"""Proves one harness: executes it for all inputs at once, and asks the solver."""

import resource
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import native, simplify, smt
from .execute import Executor
from .flow import prepare
from .memory import State
from .terms import FALSE, OR, TRUE, C, count

# States on which tool and native code are compared.
STATES = 6


@dataclass
class Result:
    """What became of a harness."""

    harness: str
    verdict: str
    properties: int = 0
    obligations: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    def __str__(self):
        head = f"{self.verdict:8} {self.harness:24} {self.properties:3} properties"
        return "\n".join(
            [f"{head} {self.obligations:4} obligations {self.seconds:6.1f} s", *self.notes]
        )


def execute(path, harness):
    """Executes a harness. Its pointers are to memory of any content."""
    machine = Executor(path)
    f = machine.fns["@" + harness]
    prepare(f)
    st = State()
    args = []
    for name, kind, attributes in f.params:
        if kind[0] != "p":
            raise ValueError(f"{harness} takes something else than memory")
        size = int(attributes["dereferenceable"][0])
        args.append(((TRUE, machine.new_obj(st, name, size, "sym"), C(0, 64)),))
    machine.call(f, args, st)
    return machine


def prove(path, harness, names, program=None, smt_folder=None):
    """Proves a harness. `names` are those of the properties, by number."""
    start = time.process_time()
    machine = execute(path, harness)
    result = Result(harness, "PROVED", len(machine.properties), len(machine.obligations))

    def finish(verdict, *notes):
        result.verdict = verdict
        result.notes += [f"    {note}" for note in notes]
        result.seconds = time.process_time() - start
        return result

    if not machine.properties or not machine.sol.sat(TRUE):
        return finish("VACUOUS", "the hypothesis cannot be met")
    reached = set()
    if program:
        difference, reached = native.compare(machine, harness, program, STATES)
        if difference:
            return finish("ERROR", "the tool and native code differ", difference)
    for number in sorted({p.number for p in machine.properties} - reached):
        here = FALSE
        for p in machine.properties:
            if p.number == number:
                here = OR(here, p.reached)
        if not machine.sol.sat(here):
            return finish("VACUOUS", f"no input reaches {names[number]}")
    violations = [(p.violated, names[p.number]) for p in machine.properties]
    failed = FALSE
    for violated, _ in machine.obligations:
        failed = OR(failed, violated)
    questions = [(failed, "a panic, or an access out of bounds"), *violations]
    questions = [(violated, name) for violated, name in questions if violated is not FALSE]
    if smt_folder:
        smt.dump(machine.assumed, [violated for violated, _ in questions], Path(smt_folder, harness))
    found = []
    until = time.monotonic() + simplify.LIMIT
    for violated, name in questions:
        if machine.sol.sat(violated):
            found.append((name, violated is failed, simplify.simplest(machine, violated, until)))
    if not found:
        return finish("PROVED")
    return finish("REFUTED", *explain(machine, harness, found, names, program))


def explain(machine, harness, found, names, program):
    """Says what was found, and whether native code does the same."""
    for name, is_obligation, values in found:
        yield f"REFUTED {name}"
        where = native.line(harness, values, machine)
        yield f"  as native reads it: {where}"
        if program:
            yield from native.show(program, where)
        if is_obligation:
            for violated, what in machine.obligations:
                if native.evaluate([violated], values)[0]:
                    yield f"  {what}"
        elif program:
            properties, _, assumed = native.run(program, [where])[0] or ([], [], True)
            failing = {names[number] for number, holds in properties if not holds}
            if not assumed or name not in failing:
                yield f"  native code does not do that: it fails {failing or 'nothing'}"


def statistics():
    """Terms made, and memory used in MiB."""
    return count(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
