"""Memory of objects and bytes, and the merging of states at joins."""

from .arithmetic import ULT, tz
from .ir import parse
from .solver import Solver
from .terms import ADD, AND, CONCAT, EQ, EXTRACT, FALSE, ITE, NOT, OR, TRUE, ZEXT, C, T, fresh, var


class Unsupported(Exception):
    """The code does what this tool does not know. That is a failure of the tool, never a finding."""


# A pointer: for each object that it may point to, the condition, the object's number and the offset.
NULL = ((TRUE, 0, C(0, 64)),)

# A byte that was never written.
UND = ("und",)


class State:
    """What holds on all paths to one place: their condition, the memory, the values of names."""

    __slots__ = ("g", "mem", "env")

    def __init__(self):
        self.g = TRUE
        self.mem = {}
        self.env = {}

    def fork(self, g):
        n = State()
        n.g = g
        n.mem = dict(self.mem)
        n.env = dict(self.env)
        return n


class Memory:
    """The objects, and what was promised and assumed so far."""

    def __init__(self, path):
        self.fns, self.globs = parse(path)
        self.sol = Solver()
        # Name, size in bytes, and the first content: None is never written, "sym" is anything.
        self.objs = [("null", 0, None)]
        self.gobj = {}
        # What must not happen: its condition, and a description.
        self.obligations = []
        self.assumed = []
        self.properties = []
        self.observed = []
        self.anys = []
        # The exempt messages: the value of each address and data that was asked for.
        self.predicate = {}
        self.at = None

    def new_obj(self, st, name, size, base):
        self.objs.append((name, size, base))
        st.mem[len(self.objs) - 1] = ({}, None)
        return len(self.objs) - 1

    def default(self, o, off):
        name, size, base = self.objs[o]
        if isinstance(base, (bytes, bytearray)):
            return C(base[off], 8)
        if isinstance(base, dict):
            return base[off]
        if base is None:
            return UND
        c = off & ~7
        return EXTRACT(var(f"{name}.{o}+{c}", 64), (off - c) * 8 + 7, (off - c) * 8)

    def cell(self, st, o, off):
        v = st.mem[o][0].get(off)
        return self.default(o, off) if v is None else v

    def wr(self, st, o):
        cells, owner = st.mem[o]
        if owner is not st:
            cells = dict(cells)
            st.mem[o] = (cells, st)
        return cells

    def mergev(self, c, a, b):
        if a is b:
            return a
        if isinstance(a, T):
            return ITE(c, a, b)
        if a == b:
            return a
        if (
            len(a) and isinstance(a[0], tuple) and len(a[0]) == 3 and isinstance(a[0][1], int)
        ):  # pointers
            r = []
            nc = NOT(c)
            bb = list(b)
            for g, o, f in a:
                for j, (g2, o2, f2) in enumerate(bb):
                    if o2 == o:
                        r.append((OR(AND(c, g), AND(nc, g2)), o, ITE(AND(c, g), f, f2)))
                        bb.pop(j)
                        break
                else:
                    r.append((AND(c, g), o, f))
            for g2, o2, f2 in bb:
                r.append((AND(nc, g2), o2, f2))
            if len(r) == 1:
                r = [(TRUE, r[0][1], r[0][2])]
            return tuple(e for e in r if e[0] is not FALSE)
        return tuple(self.mergev(c, p, q) for p, q in zip(a, b, strict=True))

    def cands(self, f, sz, w):
        if f.op == "c":
            return [f.k] if f.k + w <= sz else []
        al = 1 << min(tz(f if f.op != "add" or f.a[1].op != "c" else f.a[0]), 12)
        base = f.a[1].k if f.op == "add" and f.a[1].op == "c" else 0
        if base >> 63:
            base -= 1 << 64
        return list(range(base % al, sz - w + 1, al))

    def oblige(self, g, what):
        """Notes that the program must not come here when `g` holds."""
        if g is not FALSE:
            f, block, nth = self.at
            place = f"{f.name[-60:]} {block}: {f.blocks[block][nth][:120]}"
            self.obligations.append((g, f"{what} at {place}"))

    def comb(self, cs, ptr, g):
        """A value of bytes, lowest first. None, and an obligation, when they are of another kind."""
        for c in cs:
            if isinstance(c, tuple) and c[0] == "mix":
                k = c[1]
                a = [d[2] if isinstance(d, tuple) and d[0] == "mix" and d[1] is k else d for d in cs]
                b = [d[3] if isinstance(d, tuple) and d[0] == "mix" and d[1] is k else d for d in cs]
                va = self.comb(a, ptr, AND(g, k))
                vb = self.comb(b, ptr, AND(g, NOT(k)))
                if va is None:
                    return vb
                if vb is None:
                    return va
                return self.mergev(k, va, vb)
        if any(c is UND for c in cs):
            if ptr:
                return NULL if all(c is UND for c in cs) else self.bad(g, "half a pointer")
            cs = [fresh("undef", 8) if c is UND else c for c in cs]
        tup = [isinstance(c, tuple) for c in cs]
        if any(tup):
            if ptr and all(tup) and all(c[1] == cs[0][1] and c[2] == i for i, c in enumerate(cs)):
                return cs[0][1]
            if ptr:
                return self.bad(g, "bytes of a pointer")
            cs = [
                EXTRACT(self.p2i(c[1]), 8 * c[2] + 7, 8 * c[2]) if isinstance(c, tuple) else c
                for c in cs
            ]
        v = CONCAT(list(reversed(cs)))
        if not ptr:
            return v
        if v.op == "c":
            return NULL if v.k == 0 else ((TRUE, 0, v),)
        p = self.i2p(v)
        return self.bad(g, "a pointer of bytes") if p is None else p

    def p2i(self, p):
        v = None
        for g, o, f in p:
            y = f if o == 0 else ADD(var(f"addr{o}", 64), f)
            v = y if v is None else ITE(g, y, v)
        return v

    def i2p(self, v):
        if v.op == "c":
            return ((TRUE, 0, v),)
        if v.op == "v" and v.k.startswith("addr"):
            return ((TRUE, int(v.k[4:]), C(0, 64)),)
        if v.op == "add":
            for i in (0, 1):
                a = v.a[i]
                if a.op == "v" and a.k.startswith("addr"):
                    return ((TRUE, int(a.k[4:]), v.a[1 - i]),)
        if v.op == "ite":
            a, b = self.i2p(v.a[1]), self.i2p(v.a[2])
            return None if a is None or b is None else self.mergev(v.a[0], a, b)

    def bad(self, g, what):
        self.oblige(g, what)

    def load(self, st, p, n, ptr, t=None):
        res = None
        for g, o, f in p:
            gg = AND(st.g, g)
            if o == 0 or self.objs[o][1] < n:
                self.oblige(gg, "load of nothing")
                continue
            cs = self.cands(f, self.objs[o][1], n)
            if f.op == "c":
                if not cs:
                    self.oblige(gg, f"load out of bounds {self.objs[o][0]}+{f.k}")
                    continue
                v = self.comb([self.cell(st, o, f.k + i) for i in range(n)], ptr, gg)
            else:
                v = None
                for c in cs:
                    e = EQ(f, C(c, 64))
                    if e is FALSE:
                        continue
                    y = self.comb([self.cell(st, o, c + i) for i in range(n)], ptr, AND(gg, e))
                    if y is not None:
                        v = y if v is None else self.mergev(e, y, v)
                self.inb(gg, f, cs, n, o, "load")
            if v is None:
                continue
            res = v if res is None else self.mergev(g, v, res)
        if res is None:
            return NULL if ptr else fresh("dead", n * 8)
        return res

    def inb(self, g, f, cs, n, o, what):
        # In bounds is at one of the candidates: their stride is what is known of the low bits.
        sz = self.objs[o][1]
        self.oblige(AND(g, ULT(C(sz - n, 64), f)), f"{what} out of bounds {self.objs[o][0]} of {sz}")

    def store(self, st, p, cells_in):
        n = len(cells_in)
        for g, o, f in p:
            if o == 0 or self.objs[o][1] < n:
                self.oblige(AND(st.g, g), "store to nothing")
                continue
            if isinstance(self.objs[o][2], dict):
                self.oblige(AND(st.g, g), "store to a constant")
                continue
            cs = self.cands(f, self.objs[o][1], n)
            if f.op == "c":
                if not cs:
                    self.oblige(AND(st.g, g), f"store out of bounds {self.objs[o][0]}+{f.k}")
                    continue
                cells = self.wr(st, o)
                for i, v in enumerate(cells_in):
                    cells[f.k + i] = v if g is TRUE else self.mergec(g, v, self.cell(st, o, f.k + i))
            else:
                self.inb(AND(st.g, g), f, cs, n, o, "store")
                cells = self.wr(st, o)
                for c in cs:
                    e = AND(g, EQ(f, C(c, 64)))
                    for i, v in enumerate(cells_in):
                        cells[c + i] = self.mergec(e, v, self.cell(st, o, c + i))

    def mergec(self, c, a, b):
        if a is b or a == b:
            return a
        if a is UND:
            return b
        if b is UND:
            return a
        if isinstance(a, tuple) or isinstance(b, tuple):
            if isinstance(b, tuple) and b[0] == "p" and isinstance(a, T) and a.op == "c" and a.k == 0:
                a = ("p", NULL, b[2])
            if isinstance(a, tuple) and a[0] == "p" and isinstance(b, T) and b.op == "c" and b.k == 0:
                b = ("p", NULL, a[2])
            if isinstance(a, tuple) and isinstance(b, tuple) and a[0] == b[0] == "p" and a[2] == b[2]:
                return ("p", self.mergev(c, a[1], b[1]), a[2])
            return ("mix", c, a, b)
        return ITE(c, a, b)

    def tocells(self, t, v):
        if t[0] == "i":
            n = (t[1] + 7) // 8
            v = ZEXT(v, n * 8)
            return [EXTRACT(v, 8 * i + 7, 8 * i) for i in range(n)]
        if t[0] == "p":
            return [("p", v, i) for i in range(8)]
        r = []
        if t[0] == "a":
            for e in v:
                r += self.tocells(t[2], e)
            return r
        raise Unsupported("store of " + str(t))

    def merge(self, c, a, b, live):
        """State that is `a` where `c`, else `b`."""
        n = State()
        n.g = OR(a.g, b.g)
        n.mem = {}
        n.env = {}
        for k in live:
            if k in a.env and k in b.env:
                n.env[k] = self.mergev(c, a.env[k], b.env[k])
            elif k in a.env:
                n.env[k] = a.env[k]
            elif k in b.env:
                n.env[k] = b.env[k]
        for o in a.mem.keys() | b.mem.keys():
            ma = a.mem.get(o)
            mb = b.mem.get(o)
            if ma is None or mb is None:
                n.mem[o] = (ma or mb)[0], None
                continue
            if ma[0] is mb[0]:
                n.mem[o] = (ma[0], None)
                continue
            ca, cb = ma[0], mb[0]
            r = {}
            for off in ca.keys() | cb.keys():
                p = ca.get(off)
                q = cb.get(off)
                if p is q:
                    r[off] = p
                    continue
                if p is None:
                    p = self.default(o, off)
                if q is None:
                    q = self.default(o, off)
                r[off] = self.mergec(c, p, q)
            n.mem[o] = (r, None)
        return n

    def join(self, sts, live):
        s = sts[0]
        for t in sts[1:]:
            # where do they part? g&c against g&!c
            c = t.g
            if (
                t.g.op == "and"
                and s.g.op == "and"
                and t.g.a[0] is s.g.a[0]
                or (
                    t.g.op == "and"
                    and s.g.op == "and"
                    and s.g.a[0].op == "and"
                    and s.g.a[0].a[0] is t.g.a[0]
                    and NOT(t.g.a[1]) is s.g.a[0].a[1]
                )
            ):
                c = t.g.a[1]
            s = self.merge(c, t, s, live)
        return s
