"""Random texts with what Hugging Face's two XLNet tokenizers make of them.

    python tokenizer_fuzz.py <folder with tokenizer.json and spiece.model> <texts> <seed> > fuzz.json

Made test/fixtures/tokenizers/fuzz.json with `test/fixtures/tokenizers/xlnet-small 400 1` (tokenizers 0.22.2, sentencepiece 0.2.3,
transformers 4.57.6, Python 3.11). Ranges are in UTF-16 units; null where the text has a character that the normalization table deletes,
after which, at the beginning of a text, those of `tokenizers` are shifted.
"""

import json
import random
import sys
import unicodedata
import warnings

warnings.filterwarnings("ignore")

from tokenizers import Tokenizer
from transformers import XLNetTokenizer

folder, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
chosen = random.Random(seed)
fast = Tokenizer.from_file(f"{folder}/tokenizer.json")
slow = XLNetTokenizer(f"{folder}/spiece.model")
pieces = [piece.replace("▁", " ") for piece in fast.get_vocab(with_added_tokens=False)]
pieces.sort()

# Characters that all the tables involved know: those of Unicode 9 have the same properties in every later version.
known = [
    chr(code)
    for code in range(1, 0x110000)
    if unicodedata.category(chr(code)) not in ("Cn", "Cs", "Co") and unicodedata.ucd_3_2_0.category(chr(code)) != "Cn"
]
everyday = " etaoinshrdlu,.-'\"()0123456789"
spaces = [" ", "  ", "\n", "\r\n", "\r", "\t", "\u00a0", "\u2003", "\u3000", "\u200b", "\u2028", "\u0085", "\x1c", "\x0b", "▁"]
special = ["<sep>", "<cls>", "<mask>", " <mask>", "<pad>", "<eop>", "<eod>", "<unk>", "<s>", "</s>", "＜mask＞", "<mas", "k>", "``", "''", "'", "`"]
tricky = (
    ["\u0301", "\u0345", "\u0316\u0301", "e\u0301", "\u1100\u1161", "\u1100\u1161\u11a8", "각", "が", "か\u3099", "ﬁ", "½", "²", "①", "ﷺ", "İ", "ß", "Σς"]
    + ["\u200c", "\u200d", "\ufeff", "\u00ad", "\x00", "\x01", "\x7f", "\ufffd", "\ufffe", "👩\u200d👩\u200d👧", "👍🏽", "🇩🇪", "\u0600", "\u0e33", "ｶﾞ"]
    + ["हिन्दी", "مرحبا", "日本語", "£5", "€", "–", "—", "…", "”", "℀", "㍿", "ǅ", "\U0001d54f", "٣,", "५,", "\u1369,"]
)


def part():
    kind = chosen.random()
    if kind < 0.30:
        return chosen.choice(pieces)
    if kind < 0.45:
        return "".join(chosen.choice(everyday) for _ in range(chosen.randint(1, 12)))
    if kind < 0.55:
        return f"{chosen.randint(0, 10 ** chosen.randint(1, 7)):,}" + chosen.choice(["", ",", ", ", ".", ",x"])
    if kind < 0.68:
        return chosen.choice(spaces)
    if kind < 0.74:
        return chosen.choice(special)
    if kind < 0.88:
        return chosen.choice(tricky)
    if kind < 0.91:
        return chosen.choice(["x", "ab", "9", "日", ".", " "]) * chosen.randint(2, 40)
    return "".join(chosen.choice(known) for _ in range(chosen.randint(1, 4)))


def deletes(text):
    # Marks go by another step, and in order.
    return any(not unicodedata.combining(c) and unicodedata.category(c)[0] == "C" and fast.normalizer.normalize_str(c) == "" for c in text)


def utf16(text):
    position = [0]
    for character in text:
        position.append(position[-1] + (2 if ord(character) > 0xFFFF else 1))
    return position


cases = []
for _ in range(count):
    text = "".join(part() for _ in range(chosen.randint(1, 12)))
    encoding = fast.encode(text)
    position = utf16(text)
    slow_ids = slow.encode(text)
    cases.append(
        {
            "text": text,
            "fast": encoding.ids,
            "offsets": None if deletes(text) else [position[at] for span in encoding.offsets for at in span],
            "fastDecoded": fast.decode(encoding.ids, skip_special_tokens=True),
            "slow": slow_ids,
            "slowDecoded": slow.decode(slow_ids, skip_special_tokens=False),
        }
    )
json.dump(cases, sys.stdout, ensure_ascii=True, separators=(",", ":"))
