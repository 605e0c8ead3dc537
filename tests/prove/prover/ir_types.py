"""The tokens, types and values of LLVM IR text."""

import re

TOK = re.compile(
    r"""\s*(?:(;[^\n]*)|([%@](?:"[^"]*"|[-\w.$]+))|(c?"(?:[^"\\]|\\.)*")|(![\w.]*(?:\([^)]*\))?)|(\#\d+)|(-?\d+\.\d+e?[+-]?\d*|-?\d+)|([A-Za-z_][\w.]*)|(\.\.\.|[][(){}<>,=*:|]))"""
)


def toks(s):
    out = []
    i = 0
    n = len(s)
    while i < n:
        m = TOK.match(s, i)
        if not m:
            if s[i:].strip() == "":
                break
            raise Exception("token: " + s[i : i + 60])
        i = m.end()
        if m.group(1):
            continue
        out.append(m.group(0).strip())
    return out


class Cursor:
    """Reads tokens one by one."""

    def __init__(self, t):
        self.t = t
        self.i = 0

    def peek(self):
        return self.t[self.i] if self.i < len(self.t) else None

    def next(self):
        self.i += 1
        return self.t[self.i - 1]

    def eat(self, x):
        if self.peek() == x:
            self.i += 1
            return True
        return False

    def need(self, x):
        y = self.next()
        if x != y:
            raise Exception(f"expected {x} got {y} in {' '.join(self.t)[:300]}")


def is_type(t):
    return t is not None and (
        re.fullmatch(r"i\d+", t) or t in ("ptr", "void", "[", "{", "<", "label", "metadata")
    )


NAMED = {}


def ptype(p):
    t = p.next()
    if t[0] == "%":
        return (
            NAMED[t]
            if not isinstance(NAMED[t], str)
            else NAMED.__setitem__(t, ptype(Cursor(toks(NAMED[t])))) or NAMED[t]
        )
    if t[0] == "i" and t[1:].isdigit():
        return ("i", int(t[1:]))
    if t == "ptr":
        return ("p",)
    if t == "void":
        return ("void",)
    if t == "label":
        return ("label",)
    if t == "metadata":
        return ("metadata",)
    if t == "[":
        n = int(p.next())
        p.need("x")
        e = ptype(p)
        p.need("]")
        return ("a", n, e)
    if t == "{":
        es = []
        while p.peek() != "}":
            es.append(ptype(p))
            p.eat(",")
        p.next()
        return ("s", tuple(es), False)
    if t == "<":
        if p.peek() == "{":
            p.next()
            es = []
            while p.peek() != "}":
                es.append(ptype(p))
                p.eat(",")
            p.next()
            p.need(">")
            return ("s", tuple(es), True)
        n = int(p.next())
        p.need("x")
        e = ptype(p)
        p.need(">")
        return ("vec", n, e)
    raise Exception("type " + t + " in " + " ".join(p.t)[:200])


def align(t):
    if t[0] == "i":
        return min(16, max(1, 1 << ((t[1] + 7) // 8 - 1).bit_length()))
    if t[0] == "p":
        return 8
    if t[0] == "a":
        return align(t[2])
    if t[0] == "s":
        return 1 if t[2] or not t[1] else max(map(align, t[1]))


def size(t):
    if t[0] == "i":
        b = (t[1] + 7) // 8
        a = align(t)
        return (b + a - 1) // a * a
    if t[0] == "p":
        return 8
    if t[0] == "a":
        return t[1] * size(t[2])
    if t[0] == "s":
        o = 0
        for e in t[1]:
            if not t[2]:
                a = align(e)
                o = (o + a - 1) // a * a
            o += size(e)
        a = align(t)
        return (o + a - 1) // a * a
    raise Exception(t)


def field(t, i):
    o = 0
    for j, e in enumerate(t[1]):
        if not t[2]:
            a = align(e)
            o = (o + a - 1) // a * a
        if j == i:
            return o, e
        o += size(e)


FLAGS = {"nuw", "nsw", "exact", "disjoint", "inbounds", "nusw", "nneg", "samesign", "volatile", "fast"}


def attrs(p):
    """Skips parameter attributes; returns byval/sret/dereferenceable as found."""
    r = {}
    while True:
        t = p.peek()
        if (
            t is None
            or t in (",", ")")
            or t[0] in "%@"
            or re.fullmatch(r"-?\d+", t)
            or t
            in (
                "null",
                "true",
                "false",
                "poison",
                "undef",
                "zeroinitializer",
                "getelementptr",
                "ptrtoint",
                "inttoptr",
                "{",
                "[",
                "<",
            )
        ):
            if t == "[":
                return r
            return r
        p.next()
        if p.peek() == "(":
            d = 0
            inner = []
            while True:
                x = p.next()
                if x == "(":
                    d += 1
                if x == ")":
                    d -= 1
                    if d == 0:
                        break
                inner.append(x)
            r[t] = inner[1:]
        elif t == "align":
            r[t] = p.next()
        else:
            r[t] = True


def pval(p, ty):
    t = p.next()
    if t[0] == "%":
        return ("l", t)
    if t[0] == "@":
        return ("g", t)
    if t == "true":
        return ("c", 1)
    if t == "false":
        return ("c", 0)
    if t == "null":
        return ("null",)
    if t in ("poison", "undef"):
        return ("undef",)
    if t == "zeroinitializer":
        return ("zero",)
    if t[0] == "c" and t[1] == '"':
        return ("str", t[2:-1])
    if re.fullmatch(r"-?\d+", t):
        return ("c", int(t))
    if t in ("{", "["):
        es = []
        end = "}" if t == "{" else "]"
        while p.peek() != end:
            e = ptype(p)
            es.append((e, pval(p, e)))
            p.eat(",")
        p.next()
        return ("agg", es)
    if t == "<":
        p.need("{")
        es = []
        while p.peek() != "}":
            e = ptype(p)
            es.append((e, pval(p, e)))
            p.eat(",")
        p.next()
        p.need(">")
        return ("agg", es)
    if t == "getelementptr":
        while p.peek() in FLAGS or p.peek() == "inrange":
            p.next()
            if p.peek() == "(" and p.t[p.i - 1] == "inrange":
                while p.next() != ")":
                    pass
        p.need("(")
        e = ptype(p)
        p.need(",")
        ptype(p)
        b = pval(p, ("p",))
        ix = []
        while p.eat(","):
            it = ptype(p)
            ix.append((it, pval(p, it)))
        p.need(")")
        return ("gep", e, b, ix)
    if t == "ptrtoint":
        p.need("(")
        a = ptype(p)
        b = pval(p, a)
        p.need("to")
        ptype(p)
        p.need(")")
        return ("ptrtoint", b)
    if t == "inttoptr":
        p.need("(")
        ptype(p)
        b = p.next()
        p.need("to")
        ptype(p)
        p.need(")")
        return ("inttoptr", int(b))
    if t == "splat":
        raise Exception("splat")
    raise Exception("value " + t + " in " + " ".join(p.t)[:300])
