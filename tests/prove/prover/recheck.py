"""Asks the questions again of a second solver, from their SMT-LIB text: neither bitwuzla nor the
translation for it is trusted alone."""

import shutil
import subprocess

# Seconds for one question. One that is not decided in that time is counted, and is no failure.
LIMIT = 5


def all_of(folder):
    """Decides the questions in `folder`; returns 0 unless an answer is another than bitwuzla's."""
    solver = shutil.which("z3") or shutil.which("cvc5")
    if not solver:
        print("skipped: asking a second solver (needs z3 or cvc5)")
        return 0
    questions = sorted(folder.glob("*.smt2"))
    wrong, undecided = [], 0
    for question in questions:
        limit = [f"-T:{LIMIT}"] if solver.endswith("z3") else [f"--tlimit={LIMIT * 1000}"]
        done = subprocess.run(["nice", solver, *limit, question], capture_output=True, text=True)
        answer = done.stdout.strip()
        if answer in ("timeout", "unknown") or "interrupted" in done.stderr:
            undecided += 1
        elif answer != "unsat":
            wrong.append(f"{question.stem}: {answer or done.stderr.strip()}")
    confirmed = len(questions) - undecided - len(wrong)
    print(f"{solver} confirms {confirmed} of {len(questions)} answers and does not decide {undecided}")
    print("\n".join(wrong))
    return int(bool(wrong))
