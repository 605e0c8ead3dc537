"""Asks the questions again of a second solver, from their SMT-LIB text: neither bitwuzla nor the
translation for it is trusted alone."""

import shutil
import subprocess

# Seconds for one question.
LIMIT = 600


def all_of(folder):
    """Decides every question in `folder`; returns 0 if all answers are "unsat"."""
    solver = shutil.which("z3") or shutil.which("cvc5")
    if not solver:
        print("skipped: asking a second solver (needs z3 or cvc5)")
        return 0
    questions = sorted(folder.glob("*.smt2"))
    wrong = []
    for question in questions:
        limit = [f"-T:{LIMIT}"] if solver.endswith("z3") else [f"--tlimit={LIMIT * 1000}"]
        done = subprocess.run(["nice", solver, *limit, question], capture_output=True, text=True)
        if done.stdout.strip() != "unsat":
            wrong.append(f"{question.stem}: {done.stdout.strip() or done.stderr.strip()}")
    print(f"{len(questions)} questions asked again of {solver}, {len(wrong)} not confirmed")
    print("\n".join(wrong))
    return int(bool(wrong))
