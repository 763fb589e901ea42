"""The models' patterns -> steps of a small machine (a Thompson automaton; lib/aws/pattern.c runs it).

The models write Java's regular expressions: \\p{L}, \\uD800\\uDC00, and the whole text must match. No C library reads these as they
stand, and a backtracking one would hand its worst case to whoever sends the text. The automaton takes time in proportion to text
times pattern, whatever is sent. What it cannot say (look-ahead) is not checked.
"""
import functools
import re
import unicodedata

MATCH, RANGES, SPLIT, JUMP = range(4)
STEPS_MAX = 4000  # of one pattern
LAST = 0x10FFFF
ESCAPES = {"t": 9, "n": 10, "r": 13, "f": 12, "v": 11}


class Unsupported(Exception):
    pass


@functools.lru_cache(maxsize=None)
def category(name):
    if not re.fullmatch("L[ulmto]?|M[nce]?|N[dlo]?|Z[slp]?|S[mcko]?|P[cdseifo]?|C[cfson]?", name):
        raise Unsupported(f"\\p{{{name}}}")
    return merge([(c, c) for c in range(LAST + 1) if unicodedata.category(chr(c)).startswith(name)])


def merge(ranges):
    merged = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def invert(ranges):
    inverted, at = [], 0
    for low, high in merge(ranges):
        if low > at:
            inverted.append((at, low - 1))
        at = high + 1
    if at <= LAST:
        inverted.append((at, LAST))
    return tuple(inverted)


SHORTHANDS = {
    "d": ((48, 57),),
    "w": ((48, 57), (65, 90), (95, 95), (97, 122)),
    "s": ((9, 13), (32, 32)),
}


class Parser:
    """alternatives → sequences → pieces, as nested tuples: ('ranges', …) ('seq', …) ('alt', …) ('repeat', node, low, high)."""

    def __init__(self, text):
        self.text, self.at = text, 0

    def peek(self, n=1):
        return self.text[self.at:self.at + n]

    def take(self, wanted=None):
        c = self.peek()
        if not c or (wanted and c != wanted):
            raise Unsupported(f"at {self.at}")
        self.at += 1
        return c

    def parse(self):
        node = self.alternatives()
        if self.peek():
            raise Unsupported(f"at {self.at}")
        return node

    def alternatives(self):
        nodes = [self.sequence()]
        while self.peek() == "|":
            self.take()
            nodes.append(self.sequence())
        return nodes[0] if len(nodes) == 1 else ("alt", *nodes)

    def sequence(self):
        nodes = []
        while self.peek() not in ("", "|", ")"):
            if self.peek() in "^$":  # the whole text must match anyway
                self.take()
                continue
            nodes.append(self.quantified(self.atom()))
        return ("seq", *nodes)

    def quantified(self, node):
        while self.peek() and self.peek() in "*+?{":
            c = self.take()
            low, high = {"*": (0, None), "+": (1, None), "?": (0, 1), "{": (None, None)}[c]
            if c == "{":
                end = self.text.index("}", self.at)
                first, comma, second = self.text[self.at:end].partition(",")
                self.at = end + 1
                low = int(first)
                high = int(second) if second else (None if comma else low)
            node = ("repeat", node, low, high)
        return node

    def atom(self):
        c = self.take()
        if c == "(":
            if self.peek() == "?":
                if self.peek(2) != "?:":
                    raise Unsupported("look-around")
                self.at += 2
            node = self.alternatives()
            self.take(")")
            return node
        if c == "[":
            return ("ranges", self.bracket())
        if c == ".":
            return ("ranges", invert([(10, 10), (13, 13), (0x85, 0x85), (0x2028, 0x2029)]))
        if c == "\\":
            return ("ranges", self.escape()[0])
        return ("ranges", ((ord(c), ord(c)),))

    def bracket(self):
        negated = self.peek() == "^"
        if negated:
            self.take()
        ranges = []
        while self.peek() != "]":
            got, single = self.bracket_item()
            if single and self.peek() == "-" and self.peek(2) not in ("-]", "-"):
                self.take()
                end, is_end = self.bracket_item()
                if not is_end:
                    raise Unsupported("a range that ends in a class")
                got = ((got[0][0], end[0][1]),)
            ranges += got
        self.take("]")
        return invert(ranges) if negated else merge(ranges)

    def bracket_item(self):
        c = self.take()
        if c == "[":
            raise Unsupported("a class in a class")
        return self.escape() if c == "\\" else (((ord(c), ord(c)),), True)

    def escape(self):
        """(ranges, whether it is one character)"""
        c = self.take()
        if c in SHORTHANDS:
            return SHORTHANDS[c], False
        if c.lower() in SHORTHANDS:
            return invert(SHORTHANDS[c.lower()]), False
        if c in "pP":
            self.take("{")
            end = self.text.index("}", self.at)
            ranges = category(self.text[self.at:end])
            self.at = end + 1
            return (ranges if c == "p" else invert(ranges)), False
        if c in "ux":
            code = self.hexadecimal(4 if c == "u" else 2)
            if 0xD800 <= code <= 0xDBFF and self.peek(2) == "\\u":
                self.at += 2
                code = 0x10000 + ((code - 0xD800) << 10) + (self.hexadecimal(4) - 0xDC00)
        else:
            if c.isalnum() and c not in ESCAPES:
                raise Unsupported(f"\\{c}")
            code = ESCAPES.get(c, ord(c))
        return ((code, code),), True

    def hexadecimal(self, n):
        digits = self.peek(n)
        self.at += n
        return int(digits, 16)


class Patterns:
    """All programs in one table of steps; step 0 stands for "no pattern"."""

    def __init__(self):
        self.steps, self.ranges = [(MATCH, 0, 0)], []
        self.seen, self.ranges_seen = {None: 0}, {}
        self.unchecked = []

    def add(self, text):
        if text not in self.seen:
            self.seen[text] = self.compile(text)
        return self.seen[text]

    def compile(self, text):
        start = len(self.steps)
        try:
            self.emit(Parser(text).parse())
            self.steps.append((MATCH, 0, 0))
            if len(self.steps) - start > STEPS_MAX:
                raise Unsupported(f"{len(self.steps) - start} steps")
        except Unsupported as why:
            self.unchecked.append(f"{why}: {text}")
            del self.steps[start:]
            return 0
        return start

    def emit(self, node):
        if node[0] == "ranges":
            if node[1] not in self.ranges_seen:
                self.ranges_seen[node[1]] = len(self.ranges)
                self.ranges.extend(node[1])
            self.steps.append((RANGES, self.ranges_seen[node[1]], len(node[1])))
        elif node[0] == "seq":
            for child in node[1:]:
                self.emit(child)
        elif node[0] == "alt":
            self.emit_alternatives(node[1:])
        else:
            self.emit_repeat(*node[1:])

    def emit_alternatives(self, nodes):
        ends = []
        for child in nodes[:-1]:
            split = len(self.steps)
            self.steps.append(None)
            self.emit(child)
            ends.append(len(self.steps))
            self.steps.append(None)
            self.steps[split] = (SPLIT, split + 1, len(self.steps))
        self.emit(nodes[-1])
        for end in ends:
            self.steps[end] = (JUMP, len(self.steps), 0)

    def emit_repeat(self, node, low, high):
        for _ in range(low):
            self.emit(node)
        if high is None:
            split = len(self.steps)
            self.steps.append(None)
            self.emit(node)
            self.steps.append((JUMP, split, 0))
            self.steps[split] = (SPLIT, split + 1, len(self.steps))
            return
        splits = []
        for _ in range(high - low):
            if len(self.steps) > 60000:
                raise Unsupported("too large")
            splits.append(len(self.steps))
            self.steps.append(None)
            self.emit(node)
        for split in splits:
            self.steps[split] = (SPLIT, split + 1, len(self.steps))
