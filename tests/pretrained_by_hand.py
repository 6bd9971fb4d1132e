"""Tiny pretrained models whose weights are drawn from a seed by name, written as folders; with and without their peers in torch.

`expected/pretrained_*.npz` hold what the peers computed from these weights: `python tests/pretrained_by_hand.py` writes them, in an
environment with torch and transformers (and open_clip for its own). With the word `parity` it writes
docs/results/pretrained/parity.csv.
"""

import contextlib
import json
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np

EXPECTED = Path(__file__).parent / "expected"
VISION = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=24, patch_size=8)
TEXT = dict(
    hidden_size=12, intermediate_size=20, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=10, vocab_size=40
)
SIGLIP_ACT = dict(hidden_act="gelu_pytorch_tanh")
EOS = 39
CONFIGS = {
    "clip": dict(
        model_type="clip",
        projection_dim=8,
        vision_config=VISION | dict(hidden_act="quick_gelu", projection_dim=8),
        text_config=TEXT | dict(hidden_act="quick_gelu", eos_token_id=EOS, bos_token_id=38, projection_dim=8),
    ),
    "clip_gelu": dict(  # LAION's: GELU, and the end of a text found as the largest id
        model_type="clip",
        projection_dim=8,
        vision_config=VISION | dict(hidden_act="gelu", projection_dim=8),
        text_config=TEXT | dict(hidden_act="gelu", eos_token_id=2, projection_dim=8),
    ),
    "siglip": dict(
        model_type="siglip",
        vision_config=VISION | SIGLIP_ACT,
        text_config=TEXT | SIGLIP_ACT | dict(hidden_size=16, projection_size=16),
    ),
    "dinov2": dict(model_type="dinov2", **{k: v for k, v in VISION.items() if k != "intermediate_size"}, mlp_ratio=2),
    "dinov2_swiglu": dict(
        model_type="dinov2",
        **{k: v for k, v in VISION.items() if k != "intermediate_size"},
        mlp_ratio=2,
        use_swiglu_ffn=True,
    ),
    "open_clip": dict(
        model_cfg=dict(
            embed_dim=8,
            vision_cfg=dict(image_size=24, layers=2, width=16, patch_size=8, head_width=8, mlp_ratio=1.5),
            text_cfg=dict(context_length=10, vocab_size=40, width=12, heads=2, layers=2, mlp_ratio=2.0),
        ),
        preprocess_cfg=dict(mean=[0.48145466, 0.4578275, 0.40821073], std=[0.26862954, 0.26130258, 0.27577711]),
    ),
}
OUTPUTS = ("images", "texts", "logits", "vision_patterns", "text_patterns")


def folder_of(folder: Path, kind: str) -> Path:
    """A folder with the tiny model of a kind."""
    return write_folder(folder, kind, read_expected(kind)["shapes"])


def drawn(shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """Tensors of these names and shapes: each from a seed of its own, as large as in a trained model."""

    def tensor(name: str, shape: list[int]) -> np.ndarray:
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        values = np.asarray(rng.normal(size=shape), np.float32)
        if "norm" in name.lower() or ".ln_" in name or "lambda" in name:
            return values * np.float32(0.2) + np.float32(name.endswith("weight") or "lambda" in name)
        return np.asarray(values * np.float32(0.3 if len(shape) > 1 else 0.2))

    return {name: tensor(name, shape) for name, shape in shapes.items()}


def inputs(text: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels [3, 3, 24, 24], and ids [4, 10] of texts that end in EOS and are filled up with it."""
    rng = np.random.default_rng(7)
    pixels = rng.normal(size=(3, 3, 24, 24)).astype(np.float32)
    ids = rng.integers(3, 37, (4, 10))
    ids[:, 0] = 38
    for row, end in zip(ids, (4, 6, 9, 7), strict=True):
        row[end:] = EOS
    return pixels, ids.astype(np.int32) if text else None


def read_expected(kind: str) -> dict:
    """What the peer computed: `shapes` of its tensors, and its outputs."""
    with np.load(EXPECTED / f"pretrained_{kind}.npz") as found:
        arrays = dict(found)
    return arrays | {"shapes": json.loads(str(arrays["shapes"]))}


def write_folder(folder: Path, kind: str, shapes: dict[str, list[int]], tensors: dict[str, np.ndarray] | None = None) -> Path:
    """A folder of weights as the hub lays it out, with a tokenizer of 40 words."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config, weights = (
        ("open_clip_config.json", "open_clip_model.safetensors") if kind == "open_clip" else ("config.json", "model.safetensors")
    )
    (folder / config).write_text(json.dumps(CONFIGS[kind]))
    save_file(drawn(shapes) if tensors is None else tensors, folder / weights)
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path) -> None:
    """A tokenizer of whole words that ends texts as CLIP does."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = "<unk> a the of to in on is left right above below red green blue circle square triangle cat dog photo".split()
    vocabulary = {word: i for i, word in enumerate(words)} | {"<|startoftext|>": 38, "<|endoftext|>": EOS}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.RobertaProcessing(("<|endoftext|>", EOS), ("<|startoftext|>", 38))
    tokenizer.save(str(folder / "tokenizer.json"))


def peer(kind: str):
    """The model class of transformers, and the config."""
    import transformers

    classes = {
        "clip": ("CLIPModel", "CLIPConfig"),
        "siglip": ("SiglipModel", "SiglipConfig"),
        "dinov2": ("Dinov2Model", "Dinov2Config"),
    }
    model, config = classes[CONFIGS[kind]["model_type"]]
    fields = {k: v for k, v in CONFIGS[kind].items() if k != "model_type"}
    return getattr(transformers, model), getattr(transformers, config)(**fields)


def computed_by_peer(kind: str, folder: Path) -> dict[str, np.ndarray]:
    """What transformers, or open_clip, computes of `inputs` with the weights of a folder."""
    import torch

    if kind == "open_clip":
        return computed_by_open_clip(folder)
    model = peer(kind)[0].from_pretrained(folder, attn_implementation="eager").eval()
    pixels, ids = inputs(kind[:4] in ("clip", "sigl"))
    with torch.no_grad():
        if ids is None:
            out = model(torch.tensor(pixels), output_attentions=True)
            return {"images": unit(out.pooler_output), "vision_patterns": patterns(out.attentions)}
        out = model(input_ids=torch.tensor(ids.astype(np.int64)), pixel_values=torch.tensor(pixels), output_attentions=True)
        vision, text = out.vision_model_output, out.text_model_output
        return {
            "images": out.image_embeds.numpy(),
            "texts": out.text_embeds.numpy(),
            "logits": out.logits_per_image.numpy(),
            "vision_patterns": patterns(vision.attentions),
            "text_patterns": patterns(text.attentions),
        }


def computed_by_open_clip(folder: Path) -> dict[str, np.ndarray]:
    """The same by OpenCLIP's own classes."""
    import torch
    from open_clip.transformer import TextTransformer, VisionTransformer
    from safetensors.torch import load_file

    config, tensors = CONFIGS["open_clip"]["model_cfg"], load_file(folder / "open_clip_model.safetensors")
    vision, text = config["vision_cfg"], config["text_cfg"]
    sizes = dict(image_size=24, patch_size=8, width=16, layers=2, heads=2)
    images = VisionTransformer(**sizes, mlp_ratio=vision["mlp_ratio"], output_dim=8)
    words = TextTransformer(
        context_length=10, vocab_size=40, width=12, heads=2, layers=2, mlp_ratio=text["mlp_ratio"], output_dim=8
    )
    images.load_state_dict({name.removeprefix("visual."): t for name, t in tensors.items() if name.startswith("visual.")})
    rest = {name: t for name, t in tensors.items() if not name.startswith("visual.") and name != "logit_scale"}
    words.load_state_dict(rest)
    pixels, ids = inputs(True)
    with torch.no_grad(), observed(images) as vision_patterns, observed(words) as text_patterns:
        of_images = torch.nn.functional.normalize(images.eval()(torch.tensor(pixels)), dim=-1)
        of_texts = torch.nn.functional.normalize(words.eval()(torch.tensor(ids.astype(np.int64))), dim=-1)
        logits = tensors["logit_scale"].exp() * of_images @ of_texts.T
    found = {"images": of_images.numpy(), "texts": of_texts.numpy(), "logits": logits.numpy()}
    return found | {"vision_patterns": patterns(vision_patterns), "text_patterns": patterns(text_patterns)}


@contextlib.contextmanager
def observed(encoder):
    """The patterns of each layer that an OpenCLIP encoder computes in a block. Its blocks ask torch for none: here they do."""
    found = []

    def asked(plain):
        def forward(*args, **options):
            out, pattern = plain(*args, **options | dict(need_weights=True, average_attn_weights=False))
            found.append(pattern)
            return out, pattern

        return forward

    for block in encoder.transformer.resblocks:
        block.attn.forward = asked(block.attn.forward)
    yield found


def computed_here(model) -> dict[str, np.ndarray]:
    """The outputs of one of lrjax's models for the inputs that the peers had."""
    import jax
    import jax.numpy as jnp

    from lrjax.pretrained import transformer
    from lrjax.pretrained.model import run_one

    def patterns(name: str, sequences: np.ndarray, readouts: np.ndarray) -> np.ndarray:
        config, params = getattr(model.config, name), getattr(model.params, name)
        gates = transformer.unit_gates(config)
        one = lambda s, r: run_one(config, params, gates, False, s, r, lambda cache: cache.state.pattern).observed
        return np.asarray(jax.jit(jax.vmap(one, out_axes=1))(jnp.asarray(sequences), jnp.asarray(readouts)))

    pixels, ids = inputs(text=model.config.text is not None)
    found = {"images": model.embed_images(pixels), "vision_patterns": patterns("vision", pixels, np.zeros(len(pixels), int))}
    if ids is not None:
        readouts = model.readouts(ids)
        found |= {"texts": model._embedded("text", ids, readouts), "text_patterns": patterns("text", ids, readouts)}
        found["logits"] = model.similarities(found["images"], found["texts"])
    return found


def write_parity() -> None:
    """The greatest difference between lrjax and what the peers computed, by class and output: a table of docs/results."""
    from lrjax import pretrained
    from lrjax.stats import write_csv

    found = {name: [] for name in ("class", *OUTPUTS)}
    for kind in CONFIGS:
        expected = read_expected(kind)
        with tempfile.TemporaryDirectory() as folder:
            ours = computed_here(pretrained.load(folder_of(Path(folder) / kind, kind)))
        found["class"].append(kind)
        for name in OUTPUTS:
            found[name].append(float(abs(ours[name] - expected[name]).max()) if name in expected else np.nan)
    columns = {name: np.array(values) for name, values in found.items()}
    write_csv(EXPECTED.parents[1] / "docs/results/pretrained/parity.csv", columns)


def unit(x) -> np.ndarray:
    """Unit vectors."""
    return (x / x.norm(dim=-1, keepdim=True)).numpy()


def patterns(attentions) -> np.ndarray:
    """Attention patterns [layer, n, head, query, key]."""
    return np.stack([a.numpy() for a in attentions])


def shapes_of_peer(kind: str) -> dict[str, list[int]]:
    """Names and shapes of the tensors of a peer."""
    import safetensors

    if kind == "open_clip":
        from open_clip.transformer import TextTransformer, VisionTransformer

        images = VisionTransformer(image_size=24, patch_size=8, width=16, layers=2, heads=2, mlp_ratio=1.5, output_dim=8)
        words = TextTransformer(context_length=10, vocab_size=40, width=12, heads=2, layers=2, mlp_ratio=2.0, output_dim=8)
        found = {f"visual.{name}": t for name, t in images.state_dict().items()} | dict(words.state_dict())
        found = {name: list(t.shape) for name, t in found.items() if name != "attn_mask"}
        return found | {"logit_scale": []}
    model, config = peer(kind)
    with tempfile.TemporaryDirectory() as folder:  # as it saves them: names in memory may be others
        model(config).save_pretrained(folder)
        with safetensors.safe_open(Path(folder) / "model.safetensors", framework="np") as file:
            return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118  # it is no dict


def main() -> None:
    """Write what the peers compute of every kind that is named, or of all; after the word `parity`, the table of differences."""
    if sys.argv[1:] == ["parity"]:
        return write_parity()
    for kind in sys.argv[1:] or CONFIGS:
        shapes = shapes_of_peer(kind)
        with tempfile.TemporaryDirectory() as folder:
            write_folder(Path(folder), kind, shapes)
            found = computed_by_peer(kind, Path(folder))
        EXPECTED.mkdir(exist_ok=True)
        np.savez_compressed(EXPECTED / f"pretrained_{kind}.npz", shapes=json.dumps(shapes), **found)
        print(kind, {name: array.shape for name, array in found.items()})


if __name__ == "__main__":
    main()
