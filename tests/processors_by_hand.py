"""Captions as tokens and pictures as pixels, as the peers' own tokenizers and image processors make them.

`expected/processors/KIND` holds the small files that a peer wrote (config.json, tokenizer, preprocessor_config.json), and
`peer.npz`: what it made of 50 captions and 10 pictures, and, where there is a model, its embeddings of them. `interpolation.npz`
holds position rows that torch interpolated. `python tests/processors_by_hand.py` writes all of it, in an environment with torch,
transformers and open_clip.
"""

import gzip
import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import pretrained_by_hand as by_hand

EXPECTED = Path(__file__).parent / "expected/processors"
LENGTH, SIZE = 24, 24  # of a text, and of a picture
MODELS = {"clip": ("CLIPModel", "CLIPConfig"), "siglip": ("SiglipModel", "SiglipConfig"), "dinov2": ("Dinov2Model", "Dinov2Config")}
CROPPED = dict(size={"shortest_edge": 28}, crop_size={"height": SIZE, "width": SIZE})
# kind -> the kind of model, the class of its image processor (None: OpenCLIP's), and its settings
PROCESSORS = {
    "clip": ("clip", "CLIPImageProcessorPil", CROPPED),
    "clip_bilinear": ("clip", "CLIPImageProcessorPil", CROPPED | dict(resample=2)),
    "siglip": (
        "siglip",
        "SiglipImageProcessorPil",
        dict(size={"height": SIZE, "width": SIZE}, image_mean=[0.5] * 3, image_std=[0.5] * 3),
    ),
    "dinov2": ("dinov2", "BitImageProcessorPil", CROPPED),
    "open_clip": ("open_clip", None, dict(resize_mode="shortest")),
    "open_clip_squash": ("open_clip", None, dict(resize_mode="squash", interpolation="bilinear")),
}
WITH_TEXT = ("clip", "siglip", "open_clip")  # kinds whose folder holds a tokenizer
SOME = ["a photo of a cat", "A RED  circle, left of\na blue square!", "naïve café — 3 dogs", "it's the dog's 12 balls", "...", "x"]


def captions() -> list[str]:
    """50 captions: odd ones, and some of drawn scenes. Those that are committed stay, whatever lrjax draws later."""
    from lrjax.pretrained import scenes

    return SOME + [scene.caption(template) for scene in scenes.scenes(2)[:8] for template in scenes.TEMPLATES][:44]


def pictures() -> list[np.ndarray]:
    """Ten pictures, wide, high, square and odd: smooth, striped and close to noise, by arithmetic that no version changes."""
    shapes = [(40, 90), (91, 40), (333, 200), (225, 224), (50, 50), (224, 301), (24, 24), (25, 24), (13, 61), (100, 100)]

    def picture(i: int, height: int, width: int) -> np.ndarray:
        y, x, channel = np.ogrid[:height, :width, :3]
        fast = (x * (3 * i + 1) + y * (5 * i + 2) + x * y * (i % 4) * (channel + 1)) % 256
        smooth = 255 * x // width if i % 2 else 255 * y // height
        return ((fast + smooth + 60 * channel) // 2 % 256).astype(np.uint8)

    return [picture(i, *shape) for i, shape in enumerate(shapes)]


def read_peer(kind: str) -> dict:
    """What is committed of a kind: `captions` and their `tokens`, `pixels`, and of a model its `shapes` and embeddings."""
    with np.load(EXPECTED / kind / "peer.npz") as found:
        arrays = dict(found)
    return arrays | {name: json.loads(str(arrays[name])) for name in ("captions", "shapes") if name in arrays}


def folder_of(folder: Path, kind: str) -> Path:
    """A folder of weights as the peer saves one: its own files, with tensors drawn by name in the place of its tensors."""
    from safetensors.numpy import save_file

    shutil.copytree(EXPECTED / kind, folder, ignore=shutil.ignore_patterns("peer.npz"))
    if "shapes" in (found := read_peer(kind)):
        save_file(by_hand.drawn(found["shapes"]), folder / "model.safetensors")
    return folder


def computed_by_peer(kind: str, folder: Path, texts: list[str]) -> dict[str, np.ndarray]:
    """Tokens and pixels by the peer's own processors, from a folder that the peer saved; embeddings where there is a model."""
    if kind.startswith("open_clip"):
        return _of_open_clip(kind, folder, texts)
    import transformers

    model, processor, _ = PROCESSORS[kind]
    process = getattr(transformers, processor).from_pretrained(folder)
    of = lambda picture: np.asarray(process(Image.fromarray(picture), return_tensors="np")["pixel_values"][0])
    found = {"pixels": np.stack([of(picture) for picture in pictures()])}
    if kind in WITH_TEXT:
        cut = getattr(transformers, {"clip": "CLIPTokenizer", "siglip": "SiglipTokenizer"}[kind]).from_pretrained(folder)
        tokens = cut(texts, padding="max_length", max_length=LENGTH, truncation=True)["input_ids"]
        found["tokens"] = np.array(tokens, np.int32)
    return found | (_embedded(model, folder, found) if kind in MODELS else {})


def _embedded(model: str, folder: Path, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The peer's unit embeddings."""
    import torch
    import transformers

    peer = getattr(transformers, MODELS[model][0]).from_pretrained(folder, attn_implementation="eager").eval()
    pixels = torch.tensor(given["pixels"])
    with torch.no_grad():
        if "tokens" not in given:
            return {"images": by_hand.unit(peer(pixels).pooler_output)}
        out = peer(input_ids=torch.tensor(given["tokens"].astype(np.int64)), pixel_values=pixels)
    return {"images": out.image_embeds.numpy(), "texts": out.text_embeds.numpy()}


def _of_open_clip(kind: str, folder: Path, texts: list[str]) -> dict[str, np.ndarray]:
    """By OpenCLIP's own tokenizer, from the folder's merges, and its own transform."""
    from open_clip.tokenizer import SimpleTokenizer
    from open_clip.transform import image_transform

    transform = image_transform(SIZE, False, **PROCESSORS[kind][2])
    found = {"pixels": np.stack([transform(Image.fromarray(picture)).numpy() for picture in pictures()])}
    if kind in WITH_TEXT:
        found["tokens"] = simple_tokenizer(SimpleTokenizer, folder)(texts).numpy().astype(np.int32)
    return found


def simple_tokenizer(cls, folder: Path):
    """OpenCLIP's tokenizer of the merges of a folder."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "merges.txt.gz"
        path.write_bytes(gzip.compress((folder / "merges.txt").read_bytes()))
        return cls(str(path), context_length=LENGTH)


def write_by_peer(kind: str, folder: Path) -> None:
    """Have the peer write its files."""
    _, processor, settings = PROCESSORS[kind]
    if processor is None:
        _write_open_clip(kind, folder)
        return
    import transformers

    getattr(transformers, processor)(**settings).save_pretrained(folder)
    if kind not in MODELS:
        return
    config = dict(by_hand.CONFIGS[kind])
    if kind in WITH_TEXT:
        n_words, end = {"clip": write_bpe, "siglip": write_sentencepiece}[kind](folder)
        text = by_hand.CONFIGS[kind]["text_config"] | dict(max_position_embeddings=LENGTH, vocab_size=n_words)
        config["text_config"] = text | dict(eos_token_id=end, bos_token_id=end - 1, pad_token_id=1)
    fields = {name: value for name, value in config.items() if name != "model_type"}
    cls, of_config = (getattr(transformers, name) for name in MODELS[kind])
    cls(of_config(**fields)).save_pretrained(folder)


def write_bpe(folder: Path) -> tuple[int, int]:
    """CLIP's kind of tokenizer, trained on the captions, as transformers saves it: how many words it has, and the id of the end."""
    import tokenizers
    import transformers

    from lrjax.pretrained import words

    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(end_of_word_suffix="</w>", unk_token=words.EOS))
    tokenizer.normalizer = tokenizers.normalizers.Lowercase()
    cut = tokenizers.pre_tokenizers.Split(tokenizers.Regex(words.CLIP_WORDS), behavior="removed", invert=True)
    letters = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([cut, letters])
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=800,  # all bytes, as letters and at the end of a word, and some 280 merges
        end_of_word_suffix="</w>",
        special_tokens=[words.BOS, words.EOS],
        show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(captions() * 4, trainer)
    tokenizer.model.save(str(folder))
    peer = transformers.CLIPTokenizer.from_pretrained(folder)
    for name in (words.VOCABULARY, words.MERGES):
        (folder / name).unlink()
    peer.save_pretrained(folder)
    return len(peer), peer.eos_token_id


def write_sentencepiece(folder: Path) -> tuple[int, int]:
    """SigLIP's tokenizer, trained on the captions, as transformers saves it."""
    import sentencepiece
    import transformers

    from lrjax.pretrained import words

    with tempfile.TemporaryDirectory() as place:
        corpus = Path(place) / "corpus.txt"
        corpus.write_text("\n".join(words.canonical(text) for text in captions() * 4))
        ids = dict(pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
        sizes = dict(vocab_size=60, hard_vocab_limit=False, minloglevel=2, normalization_rule_name="identity")
        sentencepiece.SentencePieceTrainer.train(input=str(corpus), model_prefix=f"{place}/spiece", **sizes, **ids)
        peer = transformers.SiglipTokenizer(f"{place}/spiece.model")
        peer.save_pretrained(folder)
    return len(peer), peer.eos_token_id


def _write_open_clip(kind: str, folder: Path) -> None:
    """OpenCLIP's config, and two files of a tokenizer whose ids are those of OpenCLIP's own, with the marks that the hub has."""
    from open_clip.tokenizer import SimpleTokenizer

    from lrjax.pretrained import words

    config = by_hand.CONFIGS["open_clip"] | {"preprocess_cfg": PROCESSORS[kind][2]}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=1))
    if kind not in WITH_TEXT:
        return
    with tempfile.TemporaryDirectory() as place:
        write_bpe(Path(place))
        merges = json.loads((Path(place) / words.TOKENIZER).read_text())["model"]["merges"]
    (folder / words.MERGES).write_text("\n".join(["#version: 0.2", *map(" ".join, merges), ""]))
    marks = {"<start_of_text>": words.BOS, "<end_of_text>": words.EOS}
    peer = simple_tokenizer(SimpleTokenizer, folder)
    (folder / words.VOCABULARY).write_text(json.dumps({marks.get(word, word): i for word, i in peer.encoder.items()}))


def interpolated_by_torch(P: np.ndarray, grid: int) -> np.ndarray:
    """Rows [n * n, d] for another grid, as DINOv2 has torch interpolate them."""
    import torch

    n = int(np.sqrt(len(P)))
    rows = torch.tensor(P).reshape(1, n, n, -1).permute(0, 3, 1, 2)
    found = torch.nn.functional.interpolate(rows, size=(grid, grid), mode="bicubic", align_corners=False)
    return found[0].permute(1, 2, 0).reshape(grid * grid, -1).numpy()


def write_interpolation() -> None:
    """Rows of a grid of 7, and what torch makes of them for grids of 4 and of 10."""
    P = np.random.default_rng(0).normal(size=(49, 4)).astype(np.float32)
    EXPECTED.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(EXPECTED / "interpolation.npz", P=P, **{f"grid_{n}": interpolated_by_torch(P, n) for n in (4, 10)})


def main() -> None:
    """Write the folders of every kind that is named, or of all, and interpolated rows."""
    from safetensors import safe_open

    write_interpolation()
    for kind in sys.argv[1:] or PROCESSORS:
        with tempfile.TemporaryDirectory() as place:
            folder, more = Path(place), {}
            write_by_peer(kind, folder)
            if (weights := folder / "model.safetensors").is_file():
                with safe_open(weights, framework="np") as file:
                    shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118  # it is no dict
                from safetensors.numpy import save_file

                save_file(by_hand.drawn(shapes), weights)
                more["shapes"] = json.dumps(shapes)
            texts = captions()
            found = computed_by_peer(kind, folder, texts)
            weights.unlink(missing_ok=True)
            np.savez_compressed(folder / "peer.npz", captions=json.dumps(texts), **more, **found)
            shutil.rmtree(EXPECTED / kind, ignore_errors=True)
            shutil.copytree(folder, EXPECTED / kind)
        print(kind, {name: array.shape for name, array in found.items()})


if __name__ == "__main__":
    main()
