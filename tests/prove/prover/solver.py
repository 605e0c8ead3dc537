"""Asks bitwuzla."""

import bitwuzla as B
from bitwuzla import Kind as K


class Solver:
    """The formulas assumed so far, and questions about them."""

    def __init__(self):
        self.tm = B.TermManager()
        o = B.Options()
        o.set(B.Option.PRODUCE_MODELS, True)
        self.bz = B.Bitwuzla(self.tm, o)
        self.m = {}  # the solver's terms, by the id of ours
        self.sorts = {}

    def sort(self, w):
        r = self.sorts.get(w)
        if r is None:
            r = self.sorts[w] = self.tm.mk_bool_sort() if w == 1 else self.tm.mk_bv_sort(w)
        return r

    def val(self, v, w):
        if w == 1:
            return self.tm.mk_true() if v else self.tm.mk_false()
        return self.tm.mk_bv_value(self.sort(w), v)

    def bv(self, x, w):
        """As a bit-vector, also of width 1."""
        if w != 1:
            return x
        one = self.tm.mk_bv_sort(1)
        return self.tm.mk_term(K.ITE, [x, self.tm.mk_bv_value(one, 1), self.tm.mk_bv_value(one, 0)])

    def conv(self, t):
        st = [t]
        m = self.m
        while st:
            x = st[-1]
            if x.id in m:
                st.pop()
                continue
            todo = [y for y in x.a if y.id not in m]
            if todo:
                st.extend(todo)
                continue
            m[x.id] = self.one(x, [m[y.id] for y in x.a])
            st.pop()
        return m[t.id]

    def one(self, x, a):
        tm = self.tm
        o = x.op
        mt = tm.mk_term
        if o == "c":
            return self.val(x.k, x.w)
        if o == "v":
            return tm.mk_const(self.sort(x.w), x.k)
        b = x.w == 1
        if o == "not":
            return mt(K.NOT if b else K.BV_NOT, a)
        if o == "and":
            return mt(K.AND if b else K.BV_AND, a)
        if o == "or":
            return mt(K.OR if b else K.BV_OR, a)
        if o == "xor":
            return mt(K.XOR if b else K.BV_XOR, a)
        if o == "ite":
            return mt(K.ITE, a)
        if o == "eq":
            return mt(K.EQUAL, a)
        if o == "ult":
            return mt(K.BV_ULT, a)
        if o == "slt":
            return mt(K.BV_SLT, a)
        if o == "extract":
            r = mt(K.BV_EXTRACT, a, [x.k + x.w - 1, x.k])
            return mt(K.EQUAL, [r, tm.mk_bv_value(tm.mk_bv_sort(1), 1)]) if b else r
        if o == "concat":
            return mt(K.BV_CONCAT, [self.bv(y, z.w) for y, z in zip(a, x.a, strict=True)])
        if o == "zext":
            return mt(K.BV_ZERO_EXTEND, [self.bv(a[0], x.a[0].w)], [x.w - x.a[0].w])
        if o == "sext":
            return mt(K.BV_SIGN_EXTEND, [self.bv(a[0], x.a[0].w)], [x.w - x.a[0].w])
        if o == "popcnt":
            w = x.w
            n = max(w.bit_length(), 2)
            ps = [mt(K.BV_ZERO_EXTEND, [mt(K.BV_EXTRACT, a, [i, i])], [n - 1]) for i in range(w)]
            while len(ps) > 1:
                ps = [
                    mt(K.BV_ADD, ps[i : i + 2]) if i + 1 < len(ps) else ps[i]
                    for i in range(0, len(ps), 2)
                ]
            return mt(K.BV_ZERO_EXTEND, [ps[0]], [w - n])
        if o in ("cttz", "ctlz"):
            w = x.w
            r = self.val(w, w)
            one = tm.mk_bv_value(tm.mk_bv_sort(1), 1)
            for i in range(w - 1, -1, -1) if o == "cttz" else range(w):
                r = mt(
                    K.ITE,
                    [
                        mt(K.EQUAL, [mt(K.BV_EXTRACT, a, [i, i]), one]),
                        self.val(i if o == "cttz" else w - 1 - i, w),
                        r,
                    ],
                )
            return r
        k = {
            "add": K.BV_ADD,
            "sub": K.BV_SUB,
            "mul": K.BV_MUL,
            "shl": K.BV_SHL,
            "lshr": K.BV_SHR,
            "ashr": K.BV_ASHR,
            "udiv": K.BV_UDIV,
            "urem": K.BV_UREM,
        }[o]
        return mt(k, a)

    def assume(self, t):
        self.bz.assert_formula(self.conv(t))

    def sat(self, *terms):
        """Whether all of `terms` can hold with what is assumed."""
        r = self.bz.check_sat(*[self.conv(t) for t in terms])
        if r == B.Result.SAT:
            return True
        if r == B.Result.UNSAT:
            return False
        raise RuntimeError(f"the solver does not know: {r}")

    def knows(self, t):
        """Whether a question was asked in which `t` stands."""
        return t.id in self.m

    def value(self, t):
        """The value of `t` in the answer to the last question."""
        v = self.bz.get_value(self.conv(t))
        if t.w == 1:
            return int(v.is_true())
        return int(v.value(16), 16)
