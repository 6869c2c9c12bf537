"""Pretraining samples made by the original XLNet's own data_utils.py, with every random draw that led to them.

usage: python xlnet_data.py path/to/data_utils.py > test/fixtures/training/xlnet-data.json

data_utils.py is that of https://github.com/zihangdai/xlnet. Of TensorFlow it uses array functions only, which NumPy does here.
Draws are recorded as what lib/data's RandomSource returns: a number in [0, 1), an integer below a bound, a permutation.
"""

import importlib.util
import json
import random
import sys
import types

import numpy as np

np.bool = bool  # NumPy 1.24 dropped the name
draws = []
real_choice, real_randint = np.random.choice, np.random.randint
real_random, real_pick, real_range = random.random, random.choice, random.randint


def choice(values, p=None):
    if p is None:
        value = int(real_choice(values))
        draws.append(["integer", int(values), value])
        return value
    index = int(real_choice(len(values), p=p))
    # The middle of the interval of [0, 1) that belongs to this value.
    draws.append(["uniform", float(np.sum(p[:index]) + p[index] / 2)])
    return int(values[index])


def below(bound):
    value = int(real_randint(bound))
    draws.append(["integer", int(bound), value])
    return value


def uniform():
    value = real_random()
    draws.append(["uniform", value])
    return value


def pick(values):
    index = real_range(0, len(values) - 1)
    draws.append(["integer", len(values), index])
    return values[index]


def between(low, high):
    value = real_range(low, high)
    draws.append(["integer", high - low + 1, value - low])
    return value


def shuffle(rows):
    order = np.random.permutation(len(rows))
    draws.append(["permutation", order.tolist()])
    return rows[order]


def one_hot(indices, depth, dtype):
    return np.eye(depth, dtype=dtype)[indices]


class Example:
    """tf.train.Example, as a dictionary that is its own serialization."""

    def __init__(self, features):
        self.features = features

    def SerializeToString(self):
        return {name: np.array(values) for name, values in self.features.items()}


class Records:
    """tf.python_io.TFRecordWriter, in memory."""

    written = []

    def __init__(self, _path):
        Records.written = []

    def write(self, record):
        Records.written.append(record)

    def close(self):
        pass


def module(name, **members):
    made = types.ModuleType(name)
    made.__dict__.update(members)
    sys.modules[name] = made
    return made


def load(path):
    flags = types.SimpleNamespace(FLAGS=types.SimpleNamespace(num_core_per_host=1))
    module("absl", flags=flags, logging=types.SimpleNamespace())
    module("absl.logging")
    module("sentencepiece")
    module("prepro_utils", preprocess_text=None, encode_ids=None)
    module(
        "tensorflow",
        int64=np.int64, int32=np.int32, float32=np.float32, bool=bool,
        range=np.arange, transpose=np.transpose, reshape=np.reshape, random_shuffle=shuffle,
        logical_not=np.logical_not, logical_or=np.logical_or, logical_and=np.logical_and, equal=np.equal,
        ones=np.ones, zeros=np.zeros, where=np.where, concat=np.concatenate, shape=np.shape, one_hot=one_hot,
        cast=lambda values, dtype: values.astype(dtype),
        boolean_mask=lambda values, mask: values[mask],
        parse_single_example=lambda serialized, features: dict(serialized),
        FixedLenFeature=lambda *_: None,
        keras=types.SimpleNamespace(backend=types.SimpleNamespace(is_sparse=lambda _: False)),
        logging=types.SimpleNamespace(info=lambda *_: None),
        python_io=types.SimpleNamespace(TFRecordWriter=Records),
        train=types.SimpleNamespace(
            Example=Example,
            Features=lambda feature: feature,
            Feature=lambda int64_list: int64_list,
            Int64List=lambda value: value,
        ),
    )
    spec = importlib.util.spec_from_file_location("data_utils", path)
    original = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(original)
    np.random.choice, np.random.randint = choice, below
    random.random, random.choice, random.randint = uniform, pick, between
    return original


pieces = ["<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>", ".", ","]
pieces += [("▁" if index % 3 else "") + f"p{index}" for index in range(29)]


def corpus(generator, length):
    """Token ids in sentences of 1 to 12 tokens, with now and then an <eod>, <sep> or <cls> in the text."""
    tokens, sentences, sentence = [], [], False
    while len(tokens) < length:
        count = int(generator.integers(1, 13))
        ids = generator.integers(8, len(pieces), count)
        ids = np.where(generator.random(count) < 0.04, generator.choice([3, 4, 7], count), ids)
        tokens += ids.tolist()
        sentences += [sentence] * count
        sentence = not sentence
    return np.array(tokens[:length]), np.array(sentences[:length])


def case(original, generator, rows, cores, seq_len, perm_size, num_predict, alpha, beta, bi_data, length):
    flags = original.FLAGS
    flags.__dict__.update(
        num_core_per_host=cores, reuse_len=seq_len // 2, mask_alpha=alpha, mask_beta=beta, num_predict=num_predict
    )
    original.FLAGS = flags
    tokens, sentences = corpus(generator, length)
    traces = []
    split = original._split_a_and_b

    def traced(*args, **kwargs):
        draws.clear()
        traces.append([])
        return split(*args, **kwargs)

    sample_mask = original._sample_mask

    def sampled(*args, **kwargs):
        mask = sample_mask(*args, **kwargs)
        traces[-1] = list(draws)
        return mask

    original._split_a_and_b, original._sample_mask = traced, sampled
    vocabulary = types.SimpleNamespace(IdToPiece=lambda index: pieces[index])
    original.create_tfrecords("", "", [tokens, sentences], rows, seq_len, bi_data, vocabulary)
    original._split_a_and_b, original._sample_mask = split, sample_mask

    parsers = []
    original.parse_files_to_dataset = lambda parser, **_: parsers.append(parser)
    original.get_dataset(
        {"batch_size": rows}, 1, 1, "train", [], 0, seq_len, seq_len // 2, perm_size, alpha, beta,
        num_predict=num_predict,
    )
    samples = []
    for record, trace in zip(Records.written, traces):
        draws.clear()
        sample = parsers[0](record)
        count = int(sample["target_mask"].sum())
        samples.append({
            "draws": trace + list(draws),
            "inputIds": sample["input_k"].tolist(),
            "segments": sample["seg_id"].tolist(),
            "permMask": ["".join(str(int(value)) for value in row) for row in sample["perm_mask"]],
            "targetPositions": np.argmax(sample["target_mapping"][:count], axis=1).tolist(),
            "targets": sample["target"][:count].tolist(),
        })
    return {
        "config": {
            "batchSize": rows, "accumulation": cores, "seqLen": seq_len, "reuseLen": seq_len // 2,
            "permSize": perm_size, "numPredict": num_predict, "maskAlpha": alpha, "maskBeta": beta, "biData": bi_data,
        },
        "tokens": tokens.tolist(),
        "sentences": sentences.astype(int).tolist(),
        "samples": samples,
    }


def main():
    np.random.seed(7)
    random.seed(7)
    generator = np.random.default_rng(7)
    original = load(sys.argv[1])
    cases = [
        case(original, generator, 2, 1, 32, 16, 6, 6, 1, False, 300),
        case(original, generator, 4, 2, 32, 8, 7, 5, 2, True, 260),
        case(original, generator, 2, 1, 48, 24, 11, 6, 1, True, 200),
    ]
    json.dump({"pieces": pieces, "cases": cases}, sys.stdout, ensure_ascii=False, separators=(",", ":"))
    print()


main()
