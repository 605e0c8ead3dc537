"""Asks the questions again of a second solver, from their SMT-LIB text: neither bitwuzla nor the
translation for it is trusted alone."""

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

# Seconds of CPU for one question, and for all of a harness. What is not decided then is counted, and is
# no failure.
LIMIT = 30
LIMIT_OF_HARNESS = 180


@dataclass
class Harness:
    """What the second solver says of a harness."""

    name: str
    left: float = LIMIT_OF_HARNESS
    confirmed: int = 0
    undecided: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def ask(self, script):
        """The solver's answer, or whatever else it says; None if it does not decide."""
        limit = min(LIMIT, int(self.left))
        if limit < 1:
            return None
        shell = ["bash", "-c", f'ulimit -t {limit}; exec nice "$@"', "recheck"]
        command = [*shell, "cvc5", "--bitblast=eager", str(script)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as running:
            answer = running.stdout.read().strip()
            _, status, used = os.wait4(running.pid, 0)
            running.returncode = os.waitstatus_to_exitcode(status)
        self.left -= used.ru_utime + used.ru_stime
        undecided = answer == "unknown" or running.returncode == -9
        return None if undecided else answer

    def note(self, script, answer, expected="unsat", count=1):
        if answer == expected:
            self.confirmed += count
        elif answer is None:
            self.undecided.append(script.stem)
        else:
            self.wrong.append(f"{self.name} {script.stem}: {answer}")


def one(folder):
    """Asks about a harness: whether the hypothesis can be met, and whether any property can be broken; one
    by one, if that is not decided together."""
    harness = Harness(folder.name)
    hypothesis, every = folder / "hypothesis.smt2", folder / "all.smt2"
    harness.note(hypothesis, harness.ask(hypothesis), "sat")
    single = sorted(folder.glob("[0-9]*.smt2"), key=lambda script: int(script.stem))
    together = harness.ask(every)
    if together is None:
        for script in single:
            harness.note(script, harness.ask(script))
    else:
        harness.note(every, together, count=len(single))
    return harness


def all_of(folder, threads):
    """Decides the questions of the harnesses in `folder`; returns 0 unless an answer is another than
    bitwuzla's."""
    if not shutil.which("cvc5"):
        print("skipped: asking a second solver (needs cvc5)")
        return 0
    with ThreadPoolExecutor(threads) as pool:
        harnesses = list(pool.map(one, sorted(folder.iterdir())))
    confirmed = sum(harness.confirmed for harness in harnesses)
    undecided = sum(len(harness.undecided) for harness in harnesses)
    wrong = [answer for harness in harnesses for answer in harness.wrong]
    print(f"cvc5 confirms {confirmed} answers, and does not decide {undecided}, with {LIMIT} s of CPU each")
    for harness in harnesses:
        if harness.undecided:
            print(f"    not decided of {harness.name}: {', '.join(harness.undecided)}")
    for answer in wrong:
        print(f"not confirmed: {answer}")
    return int(bool(wrong))
