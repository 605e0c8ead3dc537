"""Bit-vector terms, hash-consed and rewritten as they are made. Width 1 is Boolean.

The rewriting keeps formulas small where an engine asks for one vector's bit of a word: what it does is
only what makes the proofs of this project finish. `arithmetic` has the rest of the operations.
"""


class T:
    __slots__ = ("op", "w", "a", "k", "id")


_tab = {}


_n = 0


def mk(op, w, a=(), k=None):
    global _n
    key = (op, w, k) + tuple(x.id for x in a)
    t = _tab.get(key)
    if t is None:
        t = T()
        t.op = op
        t.w = w
        t.a = a
        t.k = k
        _n += 1
        t.id = _n
        _tab[key] = t
    return t


def M(w):
    return (1 << w) - 1


def C(v, w):
    return mk("c", w, (), v & M(w))


TRUE = C(1, 1)
FALSE = C(0, 1)


_vars = 0


def var(name, w):
    return mk("v", w, (), name)


def fresh(name, w):
    global _vars
    _vars += 1
    return mk("v", w, (), f"{name}!{_vars}")


def isc(t):
    return t.op == "c"


def sgn(v, w):
    return v - (1 << w) if v >> (w - 1) & 1 else v


def NOT(a):
    if a.op == "c":
        return C(~a.k, a.w)
    if a.op == "not":
        return a.a[0]
    return mk("not", a.w, (a,))


def lowc(x):
    """The constant, not 0, that ends a concatenation."""
    if x.op == "concat" and x.a[-1].op == "c" and x.a[-1].k:
        return x.a[-1]


def piecewise(f, x, k):
    parts = []
    sh = x.w
    for p in x.a:
        sh -= p.w
        parts.append(f(p, C(k >> sh, p.w)))
    return CONCAT(parts)


def AND(a, b):
    if a is b:
        return a
    for x, y in ((a, b), (b, a)):
        c = lowc(x)
        if c is not None:
            if y.op == "add" and y.a[0] is x and y.a[1].op == "c" and y.a[1].k == M(x.w):
                return CONCAT(list(x.a[:-1]) + [C(c.k & c.k - 1, c.w)])
            if y.op == "sub" and y.a[1] is x and y.a[0].op == "c" and y.a[0].k == 0:
                return C(c.k & -c.k, x.w)
    if a.op == "c":
        a, b = b, a
    if b.op == "c":
        if b.k == 0:
            return b
        if b.k == M(b.w):
            return a
        if a.op == "c":
            return C(a.k & b.k, a.w)
        if a.op == "and" and a.a[1].op == "c":
            return AND(a.a[0], C(a.a[1].k & b.k, a.w))
        if a.op == "ite" and a.a[1].op == "c" and a.a[2].op == "c":
            return ITE(a.a[0], AND(a.a[1], b), AND(a.a[2], b))
        if a.op == "zext":
            x = a.a[0]
            return ZEXT(AND(x, C(b.k, x.w)), a.w)
        if a.op == "concat":
            return piecewise(AND, a, b.k)
        return mk("and", a.w, (a, b))
    if (a.op == "not" and a.a[0] is b) or (b.op == "not" and b.a[0] is a):
        return C(0, a.w)
    if a.w == 1:
        # (g & c) & c, (g & c) & !c
        x = a
        n = 0
        nb = b.a[0] if b.op == "not" else None
        while x.op == "and" and n < 64:
            y = x.a[1]
            if y is b:
                return a
            if y is nb or (y.op == "not" and y.a[0] is b):
                return FALSE
            x = x.a[0]
            n += 1
        if x is b:
            return a
        if x is nb or (x.op == "not" and x.a[0] is b):
            return FALSE
        return mk("and", 1, (a, b))
    if a.id > b.id:
        a, b = b, a
    return mk("and", a.w, (a, b))


def OR(a, b):
    if a is b:
        return a
    if a.op == "c":
        a, b = b, a
    if b.op == "c":
        if b.k == 0:
            return a
        if b.k == M(b.w):
            return b
        if a.op == "c":
            return C(a.k | b.k, a.w)
        return mk("or", a.w, (a, b))
    if (a.op == "not" and a.a[0] is b) or (b.op == "not" and b.a[0] is a):
        return C(M(a.w), a.w)
    if a.w == 1:
        if a.op == "and" and b.op == "and" and a.a[0] is b.a[0]:
            x, y = a.a[1], b.a[1]
            if NOT(x) is y:
                return a.a[0]
            return AND(a.a[0], OR(x, y))
        # g | (g & x) -> g ; (g&x) | (g&!x&y) -> g & (x|y)
        x = b
        n = 0
        while x.op == "and" and n < 64:
            x = x.a[0]
            n += 1
            if x is a:
                return a
        x = a
        n = 0
        while x.op == "and" and n < 64:
            x = x.a[0]
            n += 1
            if x is b:
                return b
        if a.op == "and" and b.op == "and":
            # b = ((g & !x) & y), a = (g & x)
            p, q = a, b
            for _ in range(2):
                if q.a[0].op == "and" and q.a[0].a[0] is p.a[0] and NOT(p.a[1]) is q.a[0].a[1]:
                    return AND(p.a[0], OR(p.a[1], q.a[1]))
                p, q = b, a
    if a.id > b.id:
        a, b = b, a
    return mk("or", a.w, (a, b))


def XOR(a, b):
    if a is b:
        return C(0, a.w)
    if a.op == "c":
        a, b = b, a
    if b.op == "c":
        if a.op == "c":
            return C(a.k ^ b.k, a.w)
        if b.k == 0:
            return a
        if b.k == M(b.w):
            return NOT(a)
        if a.op == "concat":
            return piecewise(XOR, a, b.k)
    if a.id > b.id and b.op != "c":
        a, b = b, a
    return mk("xor", a.w, (a, b))


def ADD(a, b):
    if a.w == 1:
        return XOR(a, b)
    if a.op == "c":
        a, b = b, a
    if b.op == "c":
        if a.op == "c":
            return C(a.k + b.k, a.w)
        if b.k == 0:
            return a
        if a.op == "add" and a.a[1].op == "c":
            return ADD(a.a[0], C(a.a[1].k + b.k, a.w))
        return mk("add", a.w, (a, b))
    if a.op == "add" and a.a[1].op == "c":
        return ADD(ADD(a.a[0], b), a.a[1])
    if b.op == "add" and b.a[1].op == "c":
        return ADD(ADD(a, b.a[0]), b.a[1])
    if a.id > b.id:
        a, b = b, a
    return mk("add", a.w, (a, b))


def EQ(a, b):
    if a is b:
        return TRUE
    if a.op == "c":
        a, b = b, a
    if b.op == "c":
        if a.op == "c":
            return C(int(a.k == b.k), 1)
        if a.w == 1:
            return a if b.k else NOT(a)
        if a.op == "ite":
            x, y = a.a[1], a.a[2]
            if x.op == "c" or y.op == "c":
                if x.op == "c" and x.k != b.k:
                    return AND(NOT(a.a[0]), EQ(y, b))
                if y.op == "c" and y.k != b.k:
                    return AND(a.a[0], EQ(x, b))
                if x.op == "c" and x.k == b.k:
                    return OR(a.a[0], EQ(y, b))
                if y.op == "c" and y.k == b.k:
                    return OR(NOT(a.a[0]), EQ(x, b))
        if a.op == "add" and a.a[1].op == "c":
            return EQ(a.a[0], C(b.k - a.a[1].k, a.w))
        if a.op == "zext":
            x = a.a[0]
            return EQ(x, C(b.k, x.w)) if b.k >> x.w == 0 else FALSE
        if a.op == "sext":
            x = a.a[0]
            lo = C(b.k, x.w)
            return EQ(x, lo) if C(sgn(lo.k, x.w), a.w).k == b.k else FALSE
        if a.op == "not":
            return EQ(a.a[0], C(~b.k, a.w))
        if a.op == "xor" and a.a[1].op == "c":
            return EQ(a.a[0], C(b.k ^ a.a[1].k, a.w))
        if a.op == "concat":
            r = TRUE
            sh = a.w
            for p in a.a:
                sh -= p.w
                r = AND(r, EQ(p, C(b.k >> sh, p.w)))
                if r is FALSE:
                    return r
            return r
        if a.op == "and" and a.a[1].op == "c" and b.k & ~a.a[1].k:
            return FALSE
    elif a.w == 1:
        return NOT(XOR(a, b))
    if a.op == "zext" and b.op == "zext" and a.a[0].w == b.a[0].w:
        return EQ(a.a[0], b.a[0])
    if a.op == "add" and b.op == "add" and a.a[1].op == "c" and b.a[1].op == "c":
        return EQ(a.a[0], ADD(b.a[0], C(b.a[1].k - a.a[1].k, a.w)))
    if a.op == "concat" and b.op == "concat" and [x.w for x in a.a] == [x.w for x in b.a]:
        r = TRUE
        for p, q in zip(a.a, b.a, strict=True):
            r = AND(r, EQ(p, q))
        return r
    if a.id > b.id and b.op != "c":
        a, b = b, a
    return mk("eq", 1, (a, b))


def ITE(c, a, b):
    if c is TRUE:
        return a
    if c is FALSE:
        return b
    if a is b:
        return a
    if c.op == "not":
        c, a, b = c.a[0], b, a
    if a.w == 1:
        if a is TRUE:
            return OR(c, b)
        if a is FALSE:
            return AND(NOT(c), b)
        if b is TRUE:
            return OR(NOT(c), a)
        if b is FALSE:
            return AND(c, a)
        if a is c:
            return OR(c, b)
        if b is c:
            return AND(c, a)
    if a.op == "ite":
        if a.a[0] is c:
            a = a.a[1]
        elif a.a[2] is b:
            return ITE(AND(c, a.a[0]), a.a[1], b)
    if b.op == "ite":
        if b.a[0] is c:
            b = b.a[2]
        elif b.a[1] is a:
            return ITE(OR(c, b.a[0]), a, b.a[2])
    if a is b:
        return a
    if a.op == "zext" and b.op == "zext" and a.a[0].w == b.a[0].w:
        return ZEXT(ITE(c, a.a[0], b.a[0]), a.w)
    return mk("ite", a.w, (c, a, b))


_ex = {}


def EXTRACT(a, hi, lo):
    w = hi - lo + 1
    if w == a.w:
        return a
    if a.op == "c":
        return C(a.k >> lo, w)
    k = (a.id, hi, lo)
    r = _ex.get(k)
    if r is None:
        r = _ex[k] = extract(a, hi, lo, w)
    return r


def extract(a, hi, lo, w):
    o = a.op
    if o == "extract":
        return EXTRACT(a.a[0], a.k + hi, a.k + lo)
    if o == "zext":
        x = a.a[0]
        if lo >= x.w:
            return C(0, w)
        if hi < x.w:
            return EXTRACT(x, hi, lo)
        return ZEXT(EXTRACT(x, x.w - 1, lo), w)
    if o == "sext":
        x = a.a[0]
        if hi < x.w:
            return EXTRACT(x, hi, lo)
    if o == "concat":
        parts = []
        sh = a.w
        for p in a.a:
            sh -= p.w
            low = max(lo, sh)
            h = min(hi, sh + p.w - 1)
            if low <= h:
                parts.append(EXTRACT(p, h - sh, low - sh))
        return CONCAT(parts)
    if o == "ite":
        x, y = a.a[1], a.a[2]
        if (
            w == 1
            or x.op in ("c", "concat", "zext", "extract", "ite")
            or y.op in ("c", "concat", "zext")
        ):
            return ITE(a.a[0], EXTRACT(x, hi, lo), EXTRACT(y, hi, lo))
    if o == "and":
        return AND(EXTRACT(a.a[0], hi, lo), EXTRACT(a.a[1], hi, lo))
    if o == "or":
        return OR(EXTRACT(a.a[0], hi, lo), EXTRACT(a.a[1], hi, lo))
    if o == "xor":
        return XOR(EXTRACT(a.a[0], hi, lo), EXTRACT(a.a[1], hi, lo))
    if o == "not":
        return NOT(EXTRACT(a.a[0], hi, lo))
    if o == "add" and lo == 0 and hi < a.w - 1:
        return ADD(EXTRACT(a.a[0], hi, 0), EXTRACT(a.a[1], hi, 0))
    return mk("extract", w, (a,), lo)


_cc = {}


def CONCAT(parts):
    """Most significant first."""
    k = tuple(p.id for p in parts)
    r = _cc.get(k)
    if r is None:
        r = _cc[k] = concat(parts)
    return r


def concat(parts):
    out = []
    for p in parts:
        if p.op == "concat":
            items = p.a
        elif p.op == "zext":
            items = (C(0, p.w - p.a[0].w), p.a[0])
        else:
            items = (p,)
        for q in items:
            if out:
                low = out[-1]
                if low.op == "c" and q.op == "c":
                    out[-1] = C(low.k << q.w | q.k, low.w + q.w)
                    continue
                parts_of_one = low.op == q.op == "extract" and low.a[0] is q.a[0]
                if parts_of_one and low.k == q.k + q.w:
                    out[-1] = EXTRACT(low.a[0], low.k + low.w - 1, q.k)
                    continue
                if low.op == "ite" and q.op == "ite" and low.a[0] is q.a[0]:
                    out[-1] = ITE(low.a[0], CONCAT([low.a[1], q.a[1]]), CONCAT([low.a[2], q.a[2]]))
                    continue
            out.append(q)
    if len(out) == 1:
        return out[0]
    if len(out) == 2 and out[0].op == "c" and out[0].k == 0:
        return ZEXT(out[1], out[0].w + out[1].w)
    w = sum(p.w for p in out)
    return mk("concat", w, tuple(out))


def ZEXT(a, w):
    if w == a.w:
        return a
    if a.op == "c":
        return C(a.k, w)
    if a.op == "zext":
        a = a.a[0]
    return mk("zext", w, (a,))


def SEXT(a, w):
    if w == a.w:
        return a
    if a.op == "c":
        return C(sgn(a.k, a.w), w)
    if a.w == 1:
        return ITE(a, C(-1, w), C(0, w))
    if a.op == "zext":
        return ZEXT(a.a[0], w)
    return mk("sext", w, (a,))


def count():
    return _n


def variables():
    """All variables made so far."""
    return [t for t in _tab.values() if t.op == "v"]
