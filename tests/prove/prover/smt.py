"""Terms as SMT-LIB text, for another solver to decide the same questions."""

from .terms import TRUE

OPERATIONS = {
    "and": "bvand",
    "or": "bvor",
    "xor": "bvxor",
    "not": "bvnot",
    "add": "bvadd",
    "sub": "bvsub",
    "mul": "bvmul",
    "shl": "bvshl",
    "lshr": "bvlshr",
    "ashr": "bvashr",
    "udiv": "bvudiv",
    "urem": "bvurem",
    "ite": "ite",
    "concat": "concat",
}
COMPARISONS = {"eq": "=", "ult": "bvult", "slt": "bvslt"}


def dump(assumptions, questions, folder):
    """Writes a script for each of `questions`, by its number; `all.smt2`, which asks whether any of them can
    be; and `hypothesis.smt2`, which asks whether the assumptions can."""
    folder.mkdir()
    for number, question in enumerate(questions):
        (folder / f"{number}.smt2").write_text(script(assumptions, [question]))
    (folder / "all.smt2").write_text(script(assumptions, questions))
    (folder / "hypothesis.smt2").write_text(script(assumptions, [TRUE]))


def script(assumptions, questions):
    """A script that asks whether one of `questions` can be while all of `assumptions` hold. Every term is a
    bit-vector here, also of width 1."""
    lines = ["(set-logic QF_BV)"]
    done = set()
    for term in [*assumptions, *questions]:
        define(term, done, lines)
    lines += [f"(assert (= t{a.id} #b1))" for a in assumptions]
    # There may be no question: all were answered while the terms were made.
    any_of = " ".join(["false", *(f"(= t{question.id} #b1)" for question in questions)])
    lines += [f"(assert (or {any_of}))", "(check-sat)"]
    return "\n".join(lines) + "\n"


def define(term, done, lines):
    """Defines `term` and what it is made of."""
    stack = [term]
    while stack:
        t = stack[-1]
        if t.id in done:
            stack.pop()
            continue
        missing = [a for a in t.a if a.id not in done]
        if missing:
            stack.extend(missing)
            continue
        sort = f"(_ BitVec {t.w})"
        if t.op == "v":
            lines.append(f"(declare-const t{t.id} {sort}) ; {t.k}")
        else:
            lines.append(f"(define-fun t{t.id} () {sort} {text(t)})")
        done.add(t.id)
        stack.pop()


def number(value, width):
    return f"(_ bv{value} {width})"


def text(t):
    """A term of the names of its arguments."""
    a = [f"t{x.id}" for x in t.a]
    w = t.a[0].w if t.a else t.w
    if t.op == "c":
        return number(t.k, t.w)
    if t.op in COMPARISONS:
        return f"(ite ({COMPARISONS[t.op]} {a[0]} {a[1]}) #b1 #b0)"
    if t.op == "ite":
        return f"(ite (= {a[0]} #b1) {a[1]} {a[2]})"
    if t.op == "extract":
        return f"((_ extract {t.k + t.w - 1} {t.k}) {a[0]})"
    if t.op == "zext":
        return f"((_ zero_extend {t.w - w}) {a[0]})"
    if t.op == "sext":
        return f"((_ sign_extend {t.w - w}) {a[0]})"
    if t.op == "popcnt":
        n = w.bit_length()  # as many bits as the count needs
        bits = [f"((_ zero_extend {n - 1}) ((_ extract {i} {i}) {a[0]}))" for i in range(w)]
        return f"((_ zero_extend {w - n}) (bvadd {' '.join(bits)}))"
    if t.op in ("cttz", "ctlz"):
        value = number(w, w)
        for i in range(w - 1, -1, -1) if t.op == "cttz" else range(w):
            bit = f"(= ((_ extract {i} {i}) {a[0]}) #b1)"
            value = f"(ite {bit} {number(i if t.op == 'cttz' else w - 1 - i, w)} {value})"
        return value
    return f"({OPERATIONS[t.op]} {' '.join(a)})"
