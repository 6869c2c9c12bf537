"""Transformer-XL's word tokenizer as Hugging Face and sacremoses run it.

    python transformer_xl_tokenizer.py fixture <folder with corpus.txt> <random texts> <seed>
    python transformer_xl_tokenizer.py fuzz <folder with vocab.txt> <texts> <seed> > fuzz.json

The first made test/fixtures/tokenizers/transformer-xl-small with `120 1` (transformers 4.57.6, sacremoses 0.2.0, torch 2.13, Python 3.11):
vocab.txt, vocab.pkl as `save_pretrained` writes it, vocab.bin as the original's `torch.save`, and golden.json. The second prints the same for
as many random texts as wanted, to be compared by hand.
"""

import collections
import json
import os
import random
import sys
import unicodedata
import warnings

warnings.filterwarnings("ignore")
os.environ["TRUST_REMOTE_CODE"] = "True"

import torch
from transformers.models.deprecated.transfo_xl import TransfoXLTokenizer
from transformers.utils import logging

logging.set_verbosity(logging.CRITICAL)

# By kind: what the rules are about.
texts = {
    "contractions": "I'm you're he's she'd we'll they've don't DON'T can't won't o'clock y'all ma'am 'tis 'twas rock'n'roll fo'c'sle|It's 5 o'clock, isn't it?|"
    "the 1990's and the '90s|James' dog and James's cat|'quoted' 'twice'|it's '|'s|n't|I'd've|O'Neill's|l'amour d'été|5's|5'6\"|a 'b' c' 'd",
    "quotes": "\"Hello,\" she said.|He said \"yes\".|\"A.\" \"B,\" \"C.,\"|``old'' quotes|''|'''|``|`x`|“curly” ‘single’ „low“ ‚low‘|«guillemets»|« spaced »|"
    "\u00ab\u00a0nbsp\u00a0\u00bb|it‘s it’s 5’ ’90s|´acute´ ´´x|\"\"\"|\"nested 'quotes' here\"|.\"|x.\"|\",\"|\"..\"|x\".,",
    "hyphens": "state-of-the-art|a-b-c|-a|a-|--|a--b|a - b|1-2|x-1|well–known|em—dash|a‐b|-5|5-|a-é|e-mail co-operate|a_-b|日-本|-|---|a -b- c",
    "numbers": "1,234.56|1,234,567|3.14159|.5|5.|1.|1,|,1|1,a|a,1|1,,2|1..2|1.2.3|12:30|50%|50 %|5\u00a0%|1\u00a0000|1\u00a0000\u00a0000|٣,٤|५.६|½ 1½|²|v1.2.3|1,2,3, 4|"
    "100,000.00.|$5,000.73|1.73m|1,2.3,4|Ⅳ,Ⅴ",
    "currency": "$5|$ 5|US$5|€20|20€|£5.50|¥100|₹500|¢|cost $1,000.|5 $ each|₿1|R$ 10",
    "urls": "http://www.example.com/a/b.html?x=1&y=2#z|https://example.com|www.example.com.|user@example.com|a.b@c.d.e|@handle #tag|ftp://x.y/z|C:\\dir\\file.txt|/usr/bin|and/or|"
    "a&b &amp; &lt; &#91; &quot;|a|b",
    "ellipses": "Wait...|Wait... what|...|....|.....|a..b|..|. . .|. ...|…|wait…what|a…|...a|\"...\"|(...)|...'|x...'s|.'|x.'|x .'|DOTMULTI|DOTDOTMULTI.|DOTDOTDOT|aDOTMULTI",
    "prefixes": "Mr. Smith|Mrs. Smith and Dr. No.|No. 5|No. Five|No. five|No.|No.5|Art. 3|Art. x|pp. 3-4|pp. x|pp. X|e.g. this|i.e. that|U.S.A. is|U.S.|etc. and|etc. And|end. next|"
    "end. Next|end.|end .|St. John|Jan. 5|A. B. Cee|J.R.R. Tolkien|Ph.D. vs. M.A.|1. x|1. X|3.X.|a.m. p.m.|Inc. Ltd.|Sgt.|x. ß|x. É|x. ª|No. ٣",
    "brackets": "(a)|( a )|a(b)c|[a]|{a}|<a>|a ) . b|a) , b|((a))|f(x)=y|(a), (b).|) (|<<a>>|¿Qué? ¡Sí!",
    "punctuation": "Hello, world!|a,b|a , b|a ,b|,|,,|,,,|a,,b|;a ; b:c : d|a!b?c|?!|* + = ~ ^ | \\ _|a_b|@-@ @,@ @.@|@,@|a@b|5@-@6|a ;b|x :y|°C 5ºC|5\u00a0ºC 5\u00a0cm|nº\u00a05|a\u00a0:b\u00a0;c\u00a0!d\u00a0?e,\u00a0f",
    "special": "<eos>|<unk>|<formula>|a <eos> b|a<eos>b|<eos><eos>|<EOS>|<Unk>x|x<FORMULA>.|<EOS>, <EOS>5.5|<eoſ>|<un\u212a>|THISISPROTECTED000|THISISPROTECTEDX <EOS>|THISISPROTECTED <UNK> <EOS>|"
    "<s> </s> <S>|<UNK>|<eos|eos>|< eos >|<<eos>>|the <eos>\n|<eos>'s",
    "scripts": "日本語のテキスト|日本 語|中文，标点。|한국어 텍스트|가나 다라|ﾊﾝｶｸ|你好world你好|Привет, мир!|Ελληνικά. Τέλος|שלום עולם|مرحبا، بالعالم؟|हिन्दी में|ไทย|தமிழ்|Việt Nam|İstanbul ẞ ß Σς ΌΣΟΣ|"
    "café naïve|cafe\u0301|Ⅷ ⅷ|ǅ|ꜳ|𝕏 𝟘|𐐷|𠀀𠀁 字|🄰",
    "emoji": "😀|hi😀there|👩\u200d👩\u200d👧|👍🏽|🇩🇪|❤️|☺.|a❤'s|5😀6|😀,😀|😀.",
    "spaces": "| |  |\t|\n|a\nb|a\r\nb|a\rb| a  b |a\u00a0b|a\u2003b|a\u3000b|a\u200bb|a\u2028b|a\u0085b|a\x1cb|a\x0bb|\ufeffa|a\u00adb|x' |' x|x. |x.' |\u00a0x\u00a0|1, |1,\u00a0",
    "control": "\x00|a\x00b|a\x01 b|x' \x01|\x07|a\x7fb|\x1ba|a \x01 \x02 b|\x1f|\ufffd|\uffff|\ufdd0|.\x01.",
}
separated = {name: [part.replace("\n", "\n") for part in joined.split("|")] for name, joined in texts.items()}

pieces = (
    "the a of cat dog Mr Mrs Dr No Art pp e.g i.e U.S St x X 5 42 1,234 3.14 0 10,000 well known state of art isn't it's we'll they've don't n't 's 'd "
    "lighthouse keeper's Jones' 1990's rock'n'roll O'Neill <eos> <unk> <formula> <EOS> <Formula> &amp; &quot; http://a.b/c @-@ @,@ DOTMULTI DOT MULTI THISISPROTECTED000 日本 語 "
    "가 中文 é É ß Σ İ ª ½ ² ٣ Ⅳ € £ $ ¥ º nº cm °C 😀 👍🏽 ❤️ हिन्दी שלום مرحبا 𝕏 𠀀 ◌ \u0301 \u094d \u0d3b \u200d \u00ad \ufeff"
).split(" ")
marks = list(".,;:!?'\"`()[]{}<>-–—…“”‘’„‚«»´%&@#*/\\|_+=~^¿¡") + ["..", "...", "''", "``", "--", ".'", ",\"", ".\"", "'s ", " '", "' ", ". ", ", "]
spaces = [" "] * 8 + ["  ", "\n", "\t", "\r\n", "\u00a0", "\u2003", "\u3000", "\u0085", "\x1c", "\x01", "\x00", "\u200b"]
# Characters that all the tables involved know.
known = [
    chr(code)
    for code in range(1, 0x110000)
    if unicodedata.category(chr(code)) not in ("Cn", "Cs", "Co") and unicodedata.ucd_3_2_0.category(chr(code)) != "Cn"
]


def random_text(chosen):
    def part():
        kind = chosen.random()
        if kind < 0.35:
            return chosen.choice(pieces)
        if kind < 0.60:
            return chosen.choice(marks)
        if kind < 0.80:
            return chosen.choice(spaces)
        if kind < 0.86:
            return "".join(chosen.choice("abcXYZ019.,'- ") for _ in range(chosen.randint(1, 8)))
        if kind < 0.92:
            return f"{chosen.randint(0, 10 ** chosen.randint(1, 7)):,}"
        if kind < 0.95:
            return chosen.choice([".", "-", "'", " ", ",", "DOT", "\""]) * chosen.randint(2, 6)
        return "".join(chosen.choice(known) for _ in range(chosen.randint(1, 3)))

    return "".join(part() for _ in range(chosen.randint(1, 14)))


def encode(tokenizer, lower, text):
    ids = tokenizer.encode(text)
    moses, normalizer = tokenizer.moses_tokenizer, tokenizer.moses_punct_normalizer
    words = moses.tokenize(text, aggressive_dash_splits=True, escape=False, protected_patterns=tokenizer.never_split)
    tokens = tokenizer.tokenize(text)
    return {
        "text": text,
        "ids": ids,
        "tokens": " ".join(tokens),
        "lowerIds": lower.encode(text),
        "normalized": normalizer.normalize(text),
        "moses": " ".join(words),
        "decoded": tokenizer.decode(ids),
        "skipped": tokenizer.decode(ids, skip_special_tokens=True),
        "detokenized": tokenizer.convert_tokens_to_string(tokens),
    }


def load(folder, **more):
    return TransfoXLTokenizer(vocab_file=f"{folder}/vocab.txt", **more)


def write_vocabularies(folder):
    built = TransfoXLTokenizer(special=["<eos>", "<unk>"])
    built.count_file(f"{folder}/corpus.txt")
    built.build_vocab()
    with open(f"{folder}/vocab.txt", "w", encoding="utf-8") as file:
        file.writelines(f"{symbol}\n" for symbol in built.idx2sym)
    # As the original's training script left it; by TransfoXLTokenizer of transformers 2 to 4.
    original = {
        name: getattr(built, name)
        for name in ("counter", "special", "min_freq", "max_size", "lower_case", "delimiter", "vocab_file", "idx2sym", "sym2idx", "eos_idx", "unk_idx")
    }
    original["sym2idx"] = collections.OrderedDict(original["sym2idx"])
    torch.save(original, f"{folder}/vocab.bin", _use_new_zipfile_serialization=False)
    built.save_vocabulary(folder)


mode, folder, count, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
chosen = random.Random(seed)
if mode == "fixture":
    write_vocabularies(folder)
tokenizer, lower = load(folder), load(folder, lower_case=True)
samples = [random_text(chosen) for _ in range(count)]
if mode == "fixture":
    with open(f"{folder}/corpus.txt", encoding="utf-8") as file:
        samples = file.read().split("\n") + [text for kind in separated.values() for text in kind] + samples
cases = [encode(tokenizer, lower, text) for text in samples]
if mode == "fuzz":
    json.dump(cases, sys.stdout, ensure_ascii=True, separators=(",", ":"))
else:
    with open(f"{folder}/golden.json", "w", encoding="utf-8") as file:
        json.dump({"texts": cases}, file, ensure_ascii=False, indent=0)
        file.write("\n")
