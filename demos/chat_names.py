"""Names for the chat. A name can be seen, and does not look like a name that is in use.

Shows: a stranger's name is input. `unicodedata` knows the category, the name and the plain form of each character.

Names are checked for: characters that are invisible, combining marks without a letter, forms of the same letter
(fullwidth, mathematical), upper and lower case, accents, a mix of scripts in one name, the Cyrillic and Greek letters
that look like Latin ones, and 0 for o, 1 or I for l. Names are not checked for: lookalikes in other scripts (Armenian,
Cherokee), lookalikes within one script (`rn` for `m`, two Chinese characters), and names that only sound alike.
Unicode's report 39 has complete tables.

Run it:  python demos/chat.py    (this file does nothing by itself)
"""

import re
import unicodedata

MAX_NAME_LETTERS = 20  # of a person or a room
PUNCTUATION = "-_.'"  # allowed in a name, after its first character
EAST_ASIAN = ("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HANGUL", "BOPOMOFO")  # one name may mix these
MISPLACED_MARKS = "[dp]m|mmmm"  # of kinds, see `kind`
# Letters and marks of which nothing can be seen: fillers, joiners, and selectors of a variant.
INVISIBLE = {
    *"\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0",
    *map(chr, range(0xFE00, 0xFE10)),
    *map(chr, range(0xE0100, 0xE01F0)),
}
LOOKALIKES = {  # by their names in Unicode, each with the Latin letter that it looks like
    "CYRILLIC LETTER": "PALOCHKA l",
    "CYRILLIC CAPITAL LETTER": "A a, VE b, ES c, IE e, EN h, SHHA h, BYELORUSSIAN-UKRAINIAN I l, JE j, KA k, EM m, "
    "O o, ER p, QA q, DZE s, TE t, IZHITSA v, WE w, HA x, U y, STRAIGHT U y",  # codespell:ignore te
    "CYRILLIC SMALL LETTER": "A a, ES c, KOMI DE d, IE e, SHHA h, BYELORUSSIAN-UKRAINIAN I l, PALOCHKA l, JE j, "
    "KA k, O o, ER p, QA q, GHE r, DZE s, IZHITSA v, WE w, HA x, U y, STRAIGHT U y",
    "GREEK CAPITAL LETTER": "ALPHA a, BETA b, EPSILON e, ZETA z, ETA h, IOTA l, KAPPA k, MU m, NU n, OMICRON o, RHO p, "
    "TAU t, UPSILON y, CHI x",
    "GREEK SMALL LETTER": "ALPHA a, GAMMA y, IOTA l, KAPPA k, NU v, OMICRON o, RHO p, TAU t, UPSILON u, CHI x",
    "LATIN SMALL LETTER": "DOTLESS I l, I l, SCRIPT G g",
    "LATIN CAPITAL LETTER": "I l",
    "DIGIT": "ZERO o, ONE l",
}
LATIN = {
    ord(unicodedata.lookup(f"{kind} {letter[:-2]}")): letter[-1]
    for kind, letters in LOOKALIKES.items()
    for letter in letters.split(", ")
}


def normal(text):
    """Return a text in the plain form of each of its characters: a fullwidth letter becomes an ordinary one."""
    return unicodedata.normalize("NFKC", text)


def problem(text):
    """Return what is wrong with a text as a name, or None for a name."""
    if len(text.split()) != 1 or len(text) > MAX_NAME_LETTERS:
        return f"A name is one word of at most {MAX_NAME_LETTERS} letters"
    kinds = "".join(map(kind, text))
    if "?" in kinds:
        return f"A name has letters, digits, and {' '.join(PUNCTUATION)} only"
    if kinds[0] not in "ld":
        return "A name begins with a letter or a digit"
    if re.search(MISPLACED_MARKS, kinds):
        return "Accents and vowel signs belong to a letter, at most three to each"
    if len(scripts := {script(char) for char in text if kind(char) == "l"}) > 1:
        return f"A name has letters of one script, not of {' and '.join(sorted(scripts))}"
    return None


def kind(char):
    """Return l for a letter, d for a digit, m for a combining mark, p for punctuation, ? for what no name may have."""
    if char in INVISIBLE or not char.isprintable():
        return "?"
    if char in PUNCTUATION:
        return "p"
    return {"L": "l", "N": "d", "M": "m"}.get(unicodedata.category(char)[0], "?")


def script(char):
    """Return the script of a letter, such as Latin: the first word of its name in Unicode."""
    first = unicodedata.name(char, "unknown").split()[0]
    return "East Asian" if first in EAST_ASIAN else first.capitalize()


def looks(name):
    """Return a text that is the same for two names that look alike."""
    above_or_below = 200  # the least combining class of accents; vowel signs, which make another word, have lower ones
    parts = unicodedata.normalize("NFD", name)
    plain = "".join(char for char in parts if unicodedata.combining(char) < above_or_below)
    return plain.translate(LATIN).casefold()


class Directory(dict):
    """Things by name, which are found by any name that looks the same, too."""

    def __init__(self):
        super().__init__()
        self.names = {}  # by what they look like

    def __setitem__(self, name, thing):
        super().__setitem__(name, thing)
        self.names[looks(name)] = name

    def __delitem__(self, name):
        super().__delitem__(name)
        del self.names[looks(name)]

    def like(self, name):
        """Return the thing whose name looks like `name`, or None."""
        return self.get(self.names.get(looks(name)))
