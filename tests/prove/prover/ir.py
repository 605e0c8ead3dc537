"""A parser of the LLVM IR text that rustc emits for code without allocation (LLVM 17 to 22)."""

import re
from pathlib import Path

from .ir_types import FLAGS, NAMED, Cursor, attrs, is_type, ptype, pval, size, toks


class Fn:
    pass


def lab(t):
    return t[1:].strip('"')


BIN = {"and", "or", "xor", "add", "sub", "mul", "shl", "lshr", "ashr", "udiv", "urem", "sdiv", "srem"}


def pinst(line):
    p = Cursor(toks(line))
    dst = None
    if p.t[0][0] == "%" and len(p.t) > 1 and p.t[1] == "=":
        dst = p.next()
        p.next()
    o = p.next()
    if o in ("tail", "musttail", "notail"):
        o = p.next()

    def flags():
        while p.peek() in FLAGS:
            p.next()

    if o == "alloca":
        t = ptype(p)
        return (o, dst, size(t))
    if o == "load":
        flags()
        t = ptype(p)
        p.need(",")
        ptype(p)
        return (o, dst, t, pval(p, ("p",)))
    if o == "store":
        flags()
        t = ptype(p)
        v = pval(p, t)
        p.need(",")
        ptype(p)
        return (o, None, t, v, pval(p, ("p",)))
    if o == "getelementptr":
        flags()
        t = ptype(p)
        p.need(",")
        ptype(p)
        b = pval(p, ("p",))
        ix = []
        while p.peek() == "," and p.t[p.i + 1][0] != "!":
            p.next()
            it = ptype(p)
            ix.append((it, pval(p, it)))
        return (o, dst, t, b, ix)
    if o == "icmp":
        flags()
        pr = p.next()
        t = ptype(p)
        a = pval(p, t)
        p.need(",")
        return (o, dst, pr, t, a, pval(p, t))
    if o in BIN:
        flags()
        t = ptype(p)
        a = pval(p, t)
        p.need(",")
        return ("bin", dst, o, t, a, pval(p, t))
    if o == "select":
        flags()
        ptype(p)
        c = pval(p, ("i", 1))
        p.need(",")
        t = ptype(p)
        a = pval(p, t)
        p.need(",")
        ptype(p)
        return (o, dst, c, t, a, pval(p, t))
    if o in ("trunc", "zext", "sext", "ptrtoint", "inttoptr", "bitcast"):
        flags()
        t = ptype(p)
        a = pval(p, t)
        p.need("to")
        return (o, dst, t, a, ptype(p))
    if o == "freeze":
        t = ptype(p)
        return (o, dst, t, pval(p, t))
    if o == "extractvalue":
        t = ptype(p)
        a = pval(p, t)
        ix = []
        while p.peek() == "," and p.t[p.i + 1].isdigit():
            p.next()
            ix.append(int(p.next()))
        return (o, dst, t, a, ix)
    if o == "insertvalue":
        t = ptype(p)
        a = pval(p, t)
        p.need(",")
        e = ptype(p)
        v = pval(p, e)
        ix = []
        while p.peek() == "," and p.t[p.i + 1].isdigit():
            p.next()
            ix.append(int(p.next()))
        return (o, dst, t, a, e, v, ix)
    if o == "br":
        if p.peek() == "label":
            p.next()
            return (o, None, None, lab(p.next()))
        ptype(p)
        c = pval(p, ("i", 1))
        p.need(",")
        p.need("label")
        a = lab(p.next())
        p.need(",")
        p.need("label")
        return (o, None, c, a, lab(p.next()))
    if o == "switch":
        t = ptype(p)
        v = pval(p, t)
        p.need(",")
        p.need("label")
        d = lab(p.next())
        p.need("[")
        cs = []
        while p.peek() != "]":
            ptype(p)
            k = int(p.next())
            p.need(",")
            p.need("label")
            cs.append((k, lab(p.next())))
        return (o, None, t, v, d, cs)
    if o == "ret":
        t = ptype(p)
        return (o, None, t, None if t[0] == "void" else pval(p, t))
    if o == "unreachable":
        return (o, None)
    if o == "phi":
        flags()
        t = ptype(p)
        ins = {}
        while True:
            p.need("[")
            v = pval(p, t)
            p.need(",")
            ins[lab(p.next())] = v
            p.need("]")
            if not (p.peek() == "," and p.t[p.i + 1] == "["):
                break
            p.next()
        return (o, dst, t, ins)
    if o == "call":
        while not is_type(p.peek()):
            x = p.next()
            if p.peek() == "(":
                while p.next() != ")":
                    pass
            elif x in ("align",):
                p.next()
        # attributes such as range(i8 1, 7) come before the type too
        t = ptype(p)
        if p.peek() == "(":  # function type
            while p.next() != ")":
                pass
        f = pval(p, ("p",))
        p.need("(")
        args = []
        while p.peek() != ")":
            at = ptype(p)
            if at[0] == "metadata":
                d = 0
                while not (d == 0 and p.peek() in (",", ")")):
                    x = p.next()
                    d += x in "({"
                    d -= x in ")}"
                p.eat(",")
                args.append((at, ("undef",)))
                continue
            attrs(p)
            args.append((at, pval(p, at)))
            p.eat(",")
        return (o, dst, t, f, args)
    raise Exception("instruction " + o + ": " + line)


def parse(path):
    fns = {}
    globs = {}
    lines = Path(path).read_text().split("\n")
    i = 0
    while i < len(lines):
        line = lines[i]
        m = re.match(r'(%(?:"[^"]*"|[-\w.$]+)) = type (.*)', line)
        if m:
            NAMED[m.group(1)] = m.group(2)
        if line.startswith("@"):
            m = re.match(r'(@(?:"[^"]*"|[-\w.$]+)) = (.*)', line)
            rest = m.group(2)
            k = re.search(r"\b(constant|global) ", rest)
            if k:
                try:
                    p = Cursor(toks(rest[k.end() :]))
                    t = ptype(p)
                    globs[m.group(1)] = (t, pval(p, t), k.group(1) == "constant")
                except Exception as e:
                    globs[m.group(1)] = e
        if line.startswith("define"):
            f = Fn()
            m = re.search(r'(@(?:"[^"]*"|[-\w.$]+))\(', line)
            f.name = m.group(1)
            head = Cursor(toks(line[m.end() :]))
            f.params = []
            while head.peek() != ")":
                t = ptype(head)
                a = attrs(head)
                f.params.append((head.next(), t, a))
                head.eat(",")
            f.blocks = {}
            f.order = []
            cur = None
            i += 1
            unnamed = str(sum(1 for n, _, _ in f.params if n[1:].isdigit()))
            while lines[i] != "}":
                line = lines[i]
                m = re.match(r'("[^"]*"|[-\w.$]+):', line)
                if m:
                    cur = m.group(1).strip('"')
                    f.blocks[cur] = []
                    f.order.append(cur)
                elif line.strip() and not line.lstrip().startswith((";", "#dbg")):
                    s = line.strip()
                    if cur is None:
                        cur = unnamed
                        f.blocks[cur] = []
                        f.order.append(cur)
                    if s.startswith("switch"):
                        while "]" not in lines[i]:
                            i += 1
                            s += " " + lines[i].strip()
                    f.blocks[cur].append(s)
                i += 1
            fns[f.name] = f
        i += 1
    return fns, globs
