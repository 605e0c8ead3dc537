"""Tests of the tool itself: the rewriting of terms, and whether a broken tool is noticed."""

import random

from . import arithmetic, concrete, execute, native, prove, terms

# The operations that rewrite, by the name of the node that they begin with.
BINARY = {
    "and": terms.AND,
    "or": terms.OR,
    "xor": terms.XOR,
    "add": terms.ADD,
    "sub": arithmetic.SUB,
    "mul": arithmetic.MUL,
    "shl": arithmetic.SHL,
    "lshr": arithmetic.LSHR,
    "ashr": arithmetic.ASHR,
    "udiv": arithmetic.UDIV,
    "urem": arithmetic.UREM,
}
COMPARE = {"eq": terms.EQ, "ult": arithmetic.ULT, "slt": arithmetic.SLT}
COUNT = {"popcnt": arithmetic.POPCNT, "cttz": arithmetic.CTTZ, "ctlz": arithmetic.CTLZ}
WIDTHS = (1, 8, 16, 64)


def rewriting(how_many=30_000, seed=1):
    """Makes random terms, and compares the value of each with that of a node that is not rewritten.
    Returns the first that differs."""
    chance = random.Random(seed)
    values, known, pool = {}, {}, {}
    for w in WIDTHS:
        pool[w] = [terms.var(f"selftest{w}.{i}", w) for i in range(4)]
        for v in pool[w]:
            values[v.k] = chance.choice([chance.getrandbits(w), 0, 1, terms.M(w)])
        pool[w] += [terms.C(chance.getrandbits(w), w) for _ in range(3)]
        pool[w] += [terms.C(0, w), terms.C(1, w), terms.C(terms.M(w), w)]
    for _ in range(how_many):
        plain, made = random_term(chance, pool)
        expected, got = concrete.evaluate([plain, made], values, known)
        if expected != got:
            return f"{plain.op} of width {plain.w}: {got:#x} instead of {expected:#x}"
        if len(pool[made.w]) > 60:
            pool[made.w][chance.randrange(10, 60)] = made
        else:
            pool[made.w].append(made)
    return None


def random_term(chance, pool):
    """One operation on members of the pool: as a node of its own, and as the tool makes it."""
    w = chance.choice(WIDTHS)
    a, b = chance.choice(pool[w]), chance.choice(pool[w])
    kind = chance.choice(["binary", "compare", "count", "not", "ite", "extract", "concat", "extend"])
    if kind == "binary":
        op = chance.choice(list(BINARY))
        if w == 1 and op not in ("and", "or", "xor", "add", "sub", "mul"):
            op = "and"
        return terms.mk(op, w, (a, b)), BINARY[op](a, b)
    if kind == "compare":
        op = chance.choice(list(COMPARE))
        return terms.mk(op, 1, (a, b)), COMPARE[op](a, b)
    if kind == "count" and w > 1:
        op = chance.choice(list(COUNT))
        return terms.mk(op, w, (a,)), COUNT[op](a)
    if kind == "ite":
        c = chance.choice(pool[1])
        return terms.mk("ite", w, (c, a, b)), terms.ITE(c, a, b)
    if kind == "extract" and w > 1:
        part = chance.choice([x for x in WIDTHS if x < w])
        low = chance.randrange(w - part + 1)
        return terms.mk("extract", part, (a,), low), terms.EXTRACT(a, low + part - 1, low)
    if kind == "concat" and w == 8:
        return terms.mk("concat", 16, (a, b)), terms.CONCAT([a, b])
    if kind == "extend" and w < 64:
        wide = chance.choice([x for x in WIDTHS if x > w])
        if chance.getrandbits(1):
            return terms.mk("zext", wide, (a,)), terms.ZEXT(a, wide)
        return terms.mk("sext", wide, (a,)), terms.SEXT(a, wide)
    return terms.mk("not", w, (a,)), terms.NOT(a)


def swapped_select(self, condition, a, b):
    return ORIGINAL_MERGE(self, terms.NOT(condition), a, b)


ORIGINAL_MERGE = execute.Executor.mergev

# Ways to break the tool: what is replaced, where, and by what.
BROKEN = {
    "shifts go the wrong way": (arithmetic.BINF, "lshr", arithmetic.SHL),
    "less is less or equal": (arithmetic.CMP, "ult", lambda a, b: terms.NOT(arithmetic.ULT(b, a))),
    "differences are sums": (arithmetic.BINF, "sub", terms.ADD),
    "or is exclusive": (arithmetic.BINF, "or", terms.XOR),
}


def broken_tool(ir, harness, program):
    """Breaks the tool in several ways. Returns those that the comparison with native code does not
    notice."""
    missed = []
    for name, (table, key, value) in BROKEN.items():
        right = table[key]
        table[key] = value
        if not notices(ir, harness, program):
            missed.append(name)
        table[key] = right
    execute.Executor.mergev = swapped_select
    if not notices(ir, harness, program):
        missed.append("joins take the other side")
    execute.Executor.mergev = ORIGINAL_MERGE
    if notices(ir, harness, program):
        missed.append("the tool as it is")
    return missed


def notices(ir, harness, program):
    """Whether the tool fails, or native code does something else."""
    try:
        machine = prove.execute(ir, "prove_" + harness)
        if not machine.sol.sat(terms.TRUE):
            return True
        difference, _ = native.compare(machine, "prove_" + harness, program, 20)
    except Exception:
        return True
    return difference is not None
