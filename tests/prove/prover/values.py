"""Operands and constants."""

from .arithmetic import CMP, MUL
from .ir_types import field, size
from .memory import NULL, Memory, Unsupported
from .terms import ADD, AND, EQ, FALSE, NOT, OR, SEXT, TRUE, C, fresh


class Values(Memory):
    """The values of operands."""

    def glob(self, st, name):
        if name in self.gobj:
            o = self.gobj[name]
            if o not in st.mem:
                st.mem[o] = ({}, None)
            return ((TRUE, o, C(0, 64)),)
        if name in self.fns or name not in self.globs:
            self.objs.append((name, 0, None))
            o = len(self.objs) - 1
        else:
            g = self.globs[name]
            if isinstance(g, Exception):
                raise g
            t, v, const = g
            self.objs.append((name, size(t), {}))
            o = len(self.objs) - 1
            self.gobj[name] = o
            cells = self.objs[o][2]
            self.init(st, cells, 0, t, v)
        self.gobj[name] = o
        st.mem[o] = ({}, None)
        return ((TRUE, o, C(0, 64)),)

    def init(self, st, cells, off, t, v):
        if v[0] == "str":
            b = bytearray()
            s = v[1]
            i = 0
            while i < len(s):
                if s[i] == "\\":
                    if s[i + 1] == "\\":
                        b.append(92)
                        i += 2
                    else:
                        b.append(int(s[i + 1 : i + 3], 16))
                        i += 3
                else:
                    b.append(ord(s[i]))
                    i += 1
            for i, y in enumerate(b):
                cells[off + i] = C(y, 8)
        elif v[0] in ("zero", "undef"):
            for i in range(size(t)):
                cells[off + i] = C(0, 8)
        elif v[0] == "agg":
            for i, (et, ev) in enumerate(v[1]):
                o = field(t, i)[0] if t[0] == "s" else i * size(et)
                self.init(st, cells, off + o, et, ev)
        elif t[0] == "i":
            for i in range(size(t)):
                cells[off + i] = C(v[1] >> 8 * i, 8)
        else:
            p = self.val(st, t, v)
            for i in range(8):
                cells[off + i] = ("p", p, i)

    def undef(self, t):
        if t[0] == "i":
            return fresh("undef", t[1])
        if t[0] == "p":
            return NULL
        if t[0] == "a":
            return tuple(self.undef(t[2]) for _ in range(t[1]))
        if t[0] == "s":
            return tuple(self.undef(e) for e in t[1])

    def zero(self, t):
        if t[0] == "i":
            return C(0, t[1])
        if t[0] == "p":
            return NULL
        if t[0] == "a":
            return tuple(self.zero(t[2]) for _ in range(t[1]))
        if t[0] == "s":
            return tuple(self.zero(e) for e in t[1])

    def val(self, st, t, v):
        k = v[0]
        if k == "l":
            return st.env[v[1]]
        if k == "c":
            return C(v[1], t[1])
        if k == "null":
            return NULL
        if k == "undef":
            return self.undef(t)
        if k == "zero":
            return self.zero(t)
        if k == "g":
            return self.glob(st, v[1])
        if k == "agg":
            return tuple(self.val(st, et, ev) for et, ev in v[1])
        if k == "inttoptr":
            return ((TRUE, 0, C(v[1], 64)),)
        if k == "gep":
            return self.gep(
                st, v[1], self.val(st, ("p",), v[2]), [(it, self.val(st, it, iv)) for it, iv in v[3]]
            )
        raise Unsupported(str(v))

    def gep(self, st, t, p, ix):
        off = C(0, 64)
        first = True
        for _, iv in ix:
            if first:
                off = ADD(off, MUL(SEXT(iv, 64), C(size(t), 64)))
                first = False
                continue
            if t[0] == "s":
                o, t = field(t, iv.k)
                off = ADD(off, C(o, 64))
            else:
                t = t[2]
                off = ADD(off, MUL(SEXT(iv, 64), C(size(t), 64)))
        return tuple((g, o, ADD(f, off)) for g, o, f in p)

    def icmp(self, p, a, b):
        if isinstance(a, tuple):
            r = FALSE
            for g, o, f in a:
                for g2, o2, f2 in b:
                    gg = AND(g, g2)
                    if p in ("eq", "ne"):
                        if o == o2:
                            r = OR(r, AND(gg, EQ(f, f2)))
                    elif o == o2:
                        r = OR(r, AND(gg, CMP[p](f, f2)))
                    else:
                        raise Unsupported("order of pointers")
            return NOT(r) if p == "ne" else r
        return CMP[p](a, b)
