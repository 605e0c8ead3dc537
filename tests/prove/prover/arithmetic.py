"""Terms of arithmetic, shifts, comparisons and counts of bits."""

from .terms import (
    ADD,
    AND,
    CONCAT,
    EQ,
    EXTRACT,
    FALSE,
    ITE,
    NOT,
    OR,
    SEXT,
    TRUE,
    XOR,
    ZEXT,
    C,
    M,
    lowc,
    mk,
    sgn,
)

_increments = {}


def increment(t, base):
    """What was added to `base` to make `t`; None where it is not made so. Counters are only added to,
    so the sums of a list are compared without the counter itself."""
    if t is base:
        return C(0, t.w)
    if t.op not in ("ite", "add"):
        return None
    key = (t.id, base.id)
    if key not in _increments:
        found = None
        if t.op == "ite":
            a, b = increment(t.a[1], base), increment(t.a[2], base)
            if a is not None and b is not None:
                found = ITE(t.a[0], a, b)
        else:
            for i in (0, 1):
                a = increment(t.a[i], base)
                if a is not None:
                    found = ADD(a, t.a[1 - i])
                    break
        _increments[key] = found
    return _increments[key]


def SUB(a, b):
    if a.w == 1:
        return XOR(a, b)
    if a is b:
        return C(0, a.w)
    if b.op == "c":
        return ADD(a, C(-b.k, a.w))
    if b.op == "v":
        added = increment(a, b)
        if added is not None:
            return added
    if a.op == "add" and b.op == "add":
        for i in (0, 1):
            for j in (0, 1):
                if a.a[i] is b.a[j]:
                    return SUB(a.a[1 - i], b.a[1 - j])
    if a.op == "add":
        for i in (0, 1):
            if a.a[i] is b:
                return a.a[1 - i]
    if b.op == "add":
        for i in (0, 1):
            if b.a[i] is a:
                return SUB(C(0, a.w), b.a[1 - i])
    return mk("sub", a.w, (a, b))


def MUL(a, b):
    if a.w == 1:
        return AND(a, b)
    if a.op == "c":
        a, b = b, a
    if b.op == "c":
        if a.op == "c":
            return C(a.k * b.k, a.w)
        if b.k == 0:
            return b
        if b.k == 1:
            return a
        if b.k & (b.k - 1) == 0:
            return SHL(a, C(b.k.bit_length() - 1, a.w))
    return mk("mul", a.w, (a, b))


def SHL(a, b):
    if b.op == "c":
        if b.k >= a.w:
            return C(0, a.w)
        if a.op == "c":
            return C(a.k << b.k, a.w)
        if b.k == 0:
            return a
        return CONCAT([EXTRACT(a, a.w - 1 - b.k, 0), C(0, b.k)])
    return mk("shl", a.w, (a, b))


def LSHR(a, b):
    if b.op == "c":
        if b.k >= a.w:
            return C(0, a.w)
        if a.op == "c":
            return C(a.k >> b.k, a.w)
        if b.k == 0:
            return a
        return ZEXT(EXTRACT(a, a.w - 1, b.k), a.w)
    return mk("lshr", a.w, (a, b))


def ASHR(a, b):
    if b.op == "c":
        if a.op == "c":
            return C(sgn(a.k, a.w) >> min(b.k, a.w - 1), a.w)
        if b.k == 0:
            return a
        return SEXT(EXTRACT(a, a.w - 1, min(b.k, a.w - 1)), a.w)
    return mk("ashr", a.w, (a, b))


def UDIV(a, b):
    if a.op == "c" and b.op == "c" and b.k:
        return C(a.k // b.k, a.w)
    if b.op == "c" and b.k and b.k & (b.k - 1) == 0:
        return LSHR(a, C(b.k.bit_length() - 1, a.w))
    return mk("udiv", a.w, (a, b))


def UREM(a, b):
    if a.op == "c" and b.op == "c" and b.k:
        return C(a.k % b.k, a.w)
    if b.op == "c" and b.k and b.k & (b.k - 1) == 0:
        return AND(a, C(b.k - 1, a.w))
    return mk("urem", a.w, (a, b))


def umax(t, d=6):
    if t.op == "c":
        return t.k
    if d:
        if t.op == "zext":
            return umax(t.a[0], d - 1)
        if t.op == "and":
            return min(umax(t.a[0], d - 1), umax(t.a[1], d - 1))
        if t.op == "ite":
            return max(umax(t.a[1], d - 1), umax(t.a[2], d - 1))
        if t.op == "concat":
            v = 0
            for p in t.a:
                v = v << p.w | umax(p, d - 1)
            return v
        if t.op == "add":
            s = umax(t.a[0], d - 1) + umax(t.a[1], d - 1)
            if s <= M(t.w):
                return s
        if t.op == "popcnt":
            return t.a[0].w
        if t.op == "lshr":
            return umax(t.a[0], d - 1)
    return M(t.w)


def ULT(a, b):
    if a is b:
        return FALSE
    if a.op == "c" and b.op == "c":
        return C(int(a.k < b.k), 1)
    if b.op == "c":
        if b.k == 0:
            return FALSE
        if b.k == 1:
            return EQ(a, C(0, a.w))
        if umax(a) < b.k:
            return TRUE
    if a.op == "c":
        if a.k == M(a.w):
            return FALSE
        if a.k == 0:
            return NOT(EQ(b, C(0, a.w)))
        if umax(b) <= a.k:
            return FALSE
    if a.w == 1:
        return AND(NOT(a), b)
    if a.op == "zext" and b.op == "zext" and a.a[0].w == b.a[0].w:
        return ULT(a.a[0], b.a[0])
    if a.op == "zext" and b.op == "c" and b.k >> a.a[0].w == 0:
        return ULT(a.a[0], C(b.k, a.a[0].w))
    return mk("ult", 1, (a, b))


def SLT(a, b):
    if a is b:
        return FALSE
    if a.op == "c" and b.op == "c":
        return C(int(sgn(a.k, a.w) < sgn(b.k, b.w)), 1)
    h = 1 << (a.w - 1)
    if umax(a) < h and umax(b) < h:
        return ULT(a, b)
    return mk("slt", 1, (a, b))


def POPCNT(a):
    if a.op == "c":
        return C(bin(a.k).count("1"), a.w)
    return mk("popcnt", a.w, (a,))


def CTTZ(a):
    if a.op == "c":
        return C(a.w if a.k == 0 else (a.k & -a.k).bit_length() - 1, a.w)
    c = lowc(a)
    if c is not None:
        return C((c.k & -c.k).bit_length() - 1, a.w)
    return mk("cttz", a.w, (a,))


def CTLZ(a):
    if a.op == "c":
        return C(a.w - a.k.bit_length(), a.w)
    return mk("ctlz", a.w, (a,))


_tz = {}


def tz(t):
    """Known trailing zero bits."""
    # Remembered: a term stands in others many times over.
    known = _tz.get(t.id)
    if known is None:
        known = _tz[t.id] = trailing(t)
    return known


def trailing(t):
    match t.op:
        case "c":
            return 64 if t.k == 0 else (t.k & -t.k).bit_length() - 1
        case "zext":
            return tz(t.a[0])
        case "concat":
            n = 0
            for p in reversed(t.a):
                if p.op == "c" and p.k == 0:
                    n += p.w
                else:
                    return n + tz(p)
            return 64
        case "add" | "sub" | "or" | "xor":
            return min(tz(t.a[0]), tz(t.a[1]))
        case "and":
            return max(tz(t.a[0]), tz(t.a[1]))
        case "ite":
            return min(tz(t.a[1]), tz(t.a[2]))
        case "mul":
            return tz(t.a[0]) + tz(t.a[1])
    return 0


def uge(a, b):
    return NOT(ULT(a, b))


CMP = {
    "eq": EQ,
    "ne": lambda a, b: NOT(EQ(a, b)),
    "ult": ULT,
    "uge": uge,
    "ugt": lambda a, b: ULT(b, a),
    "ule": lambda a, b: NOT(ULT(b, a)),
    "slt": SLT,
    "sge": lambda a, b: NOT(SLT(a, b)),
    "sgt": lambda a, b: SLT(b, a),
    "sle": lambda a, b: NOT(SLT(b, a)),
}


BINF = {
    "and": AND,
    "or": OR,
    "xor": XOR,
    "add": ADD,
    "sub": SUB,
    "mul": MUL,
    "shl": SHL,
    "lshr": LSHR,
    "ashr": ASHR,
    "udiv": UDIV,
    "urem": UREM,
}
