"""Whether Python accepts what we accept: mutated files dumped by scripts/fuzz/main.ts --dump, read by the reference implementations.

    npx ts-node scripts/fuzz/main.ts --format safetensors --cases 20000 --seed 7 --dump DIR
    python scripts/reference/fuzz_oracle.py safetensors DIR/safetensors

Prints the cases on which the two differ, by our outcome and the reference's. Needs safetensors, torch, sentencepiece, tokenizers.
Each file is read in a process that may die: a crash of the reference is an answer too.
"""

import collections
import io
import json
import multiprocessing
import pathlib
import sys


def read_safetensors(path):
    from safetensors import deserialize

    deserialize(path.read_bytes())


def read_torch(path):
    import torch

    value = torch.load(io.BytesIO(path.read_bytes()), weights_only=True, map_location="cpu")
    if not isinstance(value, dict) or not any(isinstance(each, torch.Tensor) for each in value.values()):
        raise ValueError("no tensors by name")


def read_spiece(path):
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(path.read_bytes())
    processor.encode("Hello, world! 1,234")


def read_tokenizer_json(path):
    import tokenizers

    tokenizers.Tokenizer.from_str(path.read_text()).encode("Hello, world! 1,234")


readers = {
    "safetensors": read_safetensors,
    "torch-zip": read_torch,
    "torch-legacy": read_torch,
    "spiece": read_spiece,
    "tokenizer-json": read_tokenizer_json,
}


def answer(name, path, pipe):
    try:
        readers[name](path)
        pipe.send("accepted")
    except BaseException as error:  # the Rust libraries panic with what is no Exception
        # The first words: the rest names places, which differ from file to file.
        pipe.send(f"{type(error).__name__}: {' '.join(str(error).split()[:4])}")


def serve(name, folder, files, pipe):
    for file in files:
        answer(name, folder / file, pipe)


def answers(name, folder, files):
    """In one process while it lives; the file on which it dies is a crash, and the next process goes on behind it."""
    done = 0
    while done < len(files):
        ours, theirs = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.Process(target=serve, args=(name, folder, files[done:], theirs))
        process.start()
        theirs.close()
        try:
            while done < len(files):
                if not ours.poll(60):
                    process.kill()
                    yield "hang"
                    done += 1
                    break
                yield ours.recv()
                done += 1
        except EOFError:
            process.join()
            if done < len(files):
                yield f"crash ({process.exitcode})"
                done += 1
        process.join()


def main():
    name, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    cases = [json.loads(line) for line in (folder / "outcomes.jsonl").read_text().splitlines()]
    agreed = 0
    differences = collections.defaultdict(list)
    for case, theirs in zip(cases, answers(name, folder, [case["file"] for case in cases])):
        if (case["outcome"] == "accepted") == (theirs == "accepted"):
            agreed += 1
        else:
            differences[case["outcome"], theirs].append(case["file"])
    print(f"{name}: {len(cases)} files, {agreed} answers agree")
    for (ours, theirs), files in sorted(differences.items(), key=lambda item: -len(item[1])):
        print(f"  {len(files):6}  ours: {ours}; reference: {theirs}; such as {', '.join(files[:3])}")


if __name__ == "__main__":
    main()
