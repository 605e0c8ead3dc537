"""Executes functions: every path at once, merged at joins."""

from .arithmetic import BINF, tz
from .calls import Calls
from .flow import prepare, sccs
from .memory import Unsupported
from .terms import AND, CONCAT, EQ, EXTRACT, FALSE, NOT, OR, SEXT, TRUE, ZEXT, C, lowc


class Executor(Calls):
    """Bounded by nothing: a loop is unrolled until the solver says that it ends."""

    def feasible(self, g):
        """Whether the assumptions allow `g`."""
        if g is FALSE or g is TRUE:
            return g is TRUE
        return self.sol.sat(g)

    def region(self, f, nodes, cut, pend, rets, key):
        """Runs the blocks of `nodes` once. `pend` has the states at the entries of blocks; what leaves
        for `cut` or for a block outside stays there."""
        cache = f.__dict__.setdefault("scc", {})
        if key not in cache:
            cache[key] = [(c, len(c) > 1 or c[0] in f.succ[c[0]]) for c in sccs(f, nodes, cut)]
        comps = cache[key]
        for comp, cyc in comps:
            if cut in comp and len(comp) == 1:
                cyc = False
            if not cyc:
                b = comp[0]
                if b in pend:
                    self.block(f, b, self.join(pend.pop(b), f.live[b]), pend, rets)
                continue
            cs = set(comp)
            heads = [b for b in comp if b in pend]
            if not heads:
                continue
            if len(heads) > 1:
                raise Unsupported("irreducible loop")
            h = heads[0]
            last = None
            n = 0
            # A loop over the set bits of a word is taken bit by bit, each with a known number.
            bits = self.bitloops(f, h, cs)
            while h in pend:
                s = self.join(pend.pop(h), f.live[h])
                split = False
                for r in bits:
                    w = s.env[r]
                    b = tz(w) if w.op != "c" else w.w
                    if b >= w.w or lowc(w) is not None:
                        continue
                    hi = [EXTRACT(w, w.w - 1, b + 1)] if b + 1 < w.w else []
                    bit = EXTRACT(w, b, b)
                    if bit is not TRUE:
                        t = s.fork(AND(s.g, NOT(bit)))
                        t.env[r] = CONCAT(hi + [C(0, b + 1)])
                        if t.g is not FALSE:
                            pend.setdefault(h, []).append(t)
                    s = s.fork(AND(s.g, bit))
                    s.env[r] = CONCAT(hi + [C(1 << b, b + 1)])
                    split = True
                    break
                if s.g is FALSE:
                    n += 1
                    continue
                if split:
                    last = s.g
                if n and s.g is not last and not self.feasible(s.g):
                    break
                last = s.g
                n += 1
                if n > 5000:
                    raise Unsupported("loop without end")
                self.block(f, h, s, pend, rets)
                self.region(f, cs - {h}, h, pend, rets, key + (h,))
            pend.pop(h, None)

    def bitloops(self, f, h, cs):
        c = f.__dict__.setdefault("bl", {})
        if h not in c:
            c[h] = [
                t[1]
                for t in f.phis[h]
                if t[2][0] == "i"
                and any(
                    i[0] == "call"
                    and i[3][0] == "g"
                    and i[3][1].startswith("@llvm.cttz")
                    and i[4][0][1] == ("l", t[1])
                    for b in cs
                    for i in f.ins[b]
                )
            ]
        return c[h]

    def call(self, f, args, st):
        """Returns the state after, and the value."""
        if not hasattr(f, "ready"):
            prepare(f)
        s = st.fork(st.g)
        s.env = {n: a for (n, _, _), a in zip(f.params, args, strict=True)}
        rets = []
        first = f.order[0]
        self.region(f, set(f.order), None, {first: [s]}, rets, ())
        if not rets:
            return None, None
        s = rets[0][0]
        v = rets[0][1]
        s.env = {} if v is None else {"r": v}
        for t, w in rets[1:]:
            t.env = {} if w is None else {"r": w}
            s = self.join([s, t], ["r"])
        v = s.env.get("r")
        s.env = st.env
        return s, v

    def edge(self, f, b, to, st, pend):
        if st.g is FALSE:
            return
        ph = f.phis[to]
        if ph:
            vs = [(t[1], self.val(st, t[2], t[3][b])) for t in ph]
            for k, v in vs:
                st.env[k] = v
        pend.setdefault(to, []).append(st)

    def block(self, f, b, st, pend, rets):
        val = self.val
        for nth, t in enumerate(f.ins[b]):
            o = t[0]
            self.at = (f, b, nth)
            if o == "phi":
                continue
            env = st.env
            if o == "bin":
                a = val(st, t[3], t[4])
                c = val(st, t[3], t[5])
                k = t[2]
                if k in ("udiv", "urem"):
                    self.oblige(AND(st.g, EQ(c, C(0, c.w))), "division by zero")
                env[t[1]] = BINF[k](a, c)
            elif o == "icmp":
                env[t[1]] = self.icmp(t[2], val(st, t[3], t[4]), val(st, t[3], t[5]))
            elif o == "getelementptr":
                env[t[1]] = self.gep(
                    st, t[2], val(st, ("p",), t[3]), [(it, val(st, it, iv)) for it, iv in t[4]]
                )
            elif o == "load":
                ty = t[2]
                p = val(st, ("p",), t[3])
                if ty[0] == "i":
                    v = self.load(st, p, (ty[1] + 7) // 8, False)
                    env[t[1]] = EXTRACT(v, ty[1] - 1, 0)
                elif ty[0] == "p":
                    env[t[1]] = self.load(st, p, 8, True)
                else:
                    raise Unsupported("load of " + str(ty))
            elif o == "store":
                self.store(st, val(st, ("p",), t[4]), self.tocells(t[2], val(st, t[2], t[3])))
            elif o == "alloca":
                env[t[1]] = ((TRUE, self.new_obj(st, f"{t[1]}", t[2], None), C(0, 64)),)
            elif o == "select":
                env[t[1]] = self.mergev(
                    val(st, ("i", 1), t[2]), val(st, t[3], t[4]), val(st, t[3], t[5])
                )
            elif o == "trunc":
                env[t[1]] = EXTRACT(val(st, t[2], t[3]), t[4][1] - 1, 0)
            elif o == "zext":
                env[t[1]] = ZEXT(val(st, t[2], t[3]), t[4][1])
            elif o == "sext":
                env[t[1]] = SEXT(val(st, t[2], t[3]), t[4][1])
            elif o == "freeze":
                env[t[1]] = val(st, t[2], t[3])
            elif o == "ptrtoint":
                env[t[1]] = EXTRACT(self.p2i(val(st, t[2], t[3])), t[4][1] - 1, 0)
            elif o == "inttoptr":
                env[t[1]] = ((TRUE, 0, val(st, t[2], t[3])),)
            elif o == "extractvalue":
                v = val(st, t[2], t[3])
                for i in t[4]:
                    v = v[i]
                env[t[1]] = v
            elif o == "insertvalue":
                v = val(st, t[2], t[3])
                assert len(t[6]) == 1
                v = list(v)
                v[t[6][0]] = val(st, t[4], t[5])
                env[t[1]] = tuple(v)
            elif o == "call":
                st = self.docall(st, t)
                if st is None:
                    return
            elif o == "br":
                if t[2] is None:
                    self.edge(f, b, t[3], st, pend)
                    return
                c = val(st, ("i", 1), t[2])
                if t[3] == t[4]:
                    self.edge(f, b, t[3], st, pend)
                    return
                if c is TRUE:
                    self.edge(f, b, t[3], st, pend)
                    return
                if c is FALSE:
                    self.edge(f, b, t[4], st, pend)
                    return
                self.edge(f, b, t[3], st.fork(AND(st.g, c)), pend)
                st.g = AND(st.g, NOT(c))
                st2 = st.fork(st.g)
                self.edge(f, b, t[4], st2, pend)
                return
            elif o == "switch":
                v = val(st, t[2], t[3])
                g = st.g
                by = {}
                rest = TRUE
                for k, to in t[5]:
                    e = EQ(v, C(k, v.w))
                    by[to] = OR(by.get(to, FALSE), e)
                    rest = AND(rest, NOT(e))
                by[t[4]] = OR(by.get(t[4], FALSE), rest)
                for to, c in by.items():
                    self.edge(f, b, to, st.fork(AND(g, c)), pend)
                return
            elif o == "ret":
                rets.append((st, None if t[3] is None else val(st, t[2], t[3])))
                return
            elif o == "unreachable":
                self.oblige(st.g, f"unreachable in {f.name}")
                return
            else:
                raise Unsupported(o)
