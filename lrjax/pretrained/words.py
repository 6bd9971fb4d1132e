"""Captions as token ids, by the tokenizer files of a folder of weights and the libraries `tokenizers` and `sentencepiece`."""

import json
import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lrjax.errors import InputError, warn
from lrjax.pretrained.config import EncoderConfig, read_json
from lrjax.pretrained.weights import library

TOKENIZER, VOCABULARY, MERGES, SENTENCEPIECE = "tokenizer.json", "vocab.json", "merges.txt", "spiece.model"
BOS, EOS = "<|startoftext|>", "<|endoftext|>"
# How CLIP's tokenizer cuts a text into words before it joins letters.
CLIP_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class Words:
    """Texts -> ids [n, t], padded to the length that the encoder has positions for.

    `encode` gives the ids of each of several texts, and whether they are cut; `name_of` what people read of an id.
    """

    def __init__(
        self,
        encode: Callable[[list[str]], list[tuple[list[int], bool]]],
        name_of: Callable[[int], str | None],
        length: int,
        pad: int,
    ):
        self._encode, self._name_of, self.length, self.pad = encode, name_of, length, pad

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """The ids of texts. Raises InputError if one is no text or is empty; warns of one that is cut."""
        if isinstance(texts, str) or not isinstance(texts, Sequence | np.ndarray) or not len(texts):
            raise InputError(f"texts={texts!r}: expected a list of captions, such as ['a cat to the left of a dog']")
        if bad := [text for text in texts if not isinstance(text, str) or not text.strip()]:
            raise InputError(f"texts: {bad[0]!r} is no caption; expected words")
        ids = np.full((len(texts), self.length), self.pad, np.int32)
        cut = []
        for row, text, (found, is_cut) in zip(ids, texts, self._encode(list(texts)), strict=True):
            row[: len(found)] = found
            cut += [text] if is_cut else []
        if cut:
            more = f", and so are {len(cut) - 1} more" if len(cut) > 1 else ""
            warn(f"texts: {cut[0]!r} is cut to the {self.length} positions of the text encoder{more}")
        return ids

    def names(self, ids: Sequence[int]) -> list[str]:
        """What people read of ids."""
        return [self._name_of(int(i)) or str(i) for i in ids]


def read_words(folder: Path, kind: str, config: EncoderConfig) -> Words:
    """The tokenizer of a folder: SigLIP's spiece.model, a tokenizer.json, or the vocab.json and merges.txt of CLIP.

    Raises:
        InputError: There are no such files, they cannot be read, or they have more words than the encoder.
    """
    if kind == "siglip" and (path := folder / SENTENCEPIECE).is_file():
        return _siglip_words(path, config)
    tokenizers = library("tokenizers")
    if (path := folder / TOKENIZER).is_file():
        try:
            tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare exceptions
            raise InputError(f"{path}: cannot be read as a tokenizer ({error}); download the file again") from error
    elif (folder / VOCABULARY).is_file() and (folder / MERGES).is_file():
        tokenizer, path = _clip_tokenizer(tokenizers, folder), folder / VOCABULARY
    else:
        raise InputError(f"{folder}: has neither {TOKENIZER} nor {VOCABULARY} and {MERGES}; download the tokenizer into the folder")
    _check_size(path, tokenizer.get_vocab_size(), config)
    tokenizer.enable_truncation(max_length=config.n_positions)
    tokenizer.no_padding()
    clean = canonical if kind == "siglip" else (lambda text: text)
    encode = lambda texts: [
        (found.ids, bool(found.overflowing)) for found in tokenizer.encode_batch([clean(text) for text in texts])
    ]
    settings = read_json(given) if (given := folder / "tokenizer_config.json").is_file() else {}
    words = Words(encode, tokenizer.id_to_token, config.n_positions, _pad(tokenizer, settings, kind))
    if config.readout == "eos" and config.eos not in (ids := words(["a"])[0].tolist()):
        end = f"{path.name} ends a caption with the tokens {ids[1:4]}"
        raise InputError(
            f"{folder}: eos_token_id={config.eos} of config.json: ends no caption; {end}; expected the id of its last token"
        )
    return words


def _check_size(path: Path, n_words: int, config: EncoderConfig) -> None:
    if n_words > config.n_words:
        sizes = f"{n_words} words, more than the {config.n_words} of the text encoder"
        raise InputError(f"{path}: has {sizes}; expected the tokenizer of these weights")


def canonical(text: str) -> str:
    """A text as SigLIP reads it: small letters, no punctuation, single spaces."""
    return " ".join(text.lower().translate(str.maketrans("", "", string.punctuation)).split())


def _siglip_words(path: Path, config: EncoderConfig) -> Words:
    """SigLIP's tokenizer, by the library it was made with. A text ends with </s>, which also fills it up."""
    sentencepiece = library("sentencepiece")
    try:
        pieces = sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (RuntimeError, OSError, TypeError) as error:
        raise InputError(f"{path}: cannot be read by sentencepiece ({error}); download the file again") from error
    _check_size(path, pieces.get_piece_size(), config)
    end = pieces.piece_to_id("</s>")

    def encode(texts: list[str]) -> list[tuple[list[int], bool]]:
        whole, most = [pieces.encode(canonical(text)) for text in texts], config.n_positions - 1
        return [([*ids[:most], end], len(ids) > most) for ids in whole]

    return Words(encode, pieces.id_to_piece, config.n_positions, end)


def _pad(tokenizer: Any, settings: dict[str, Any], kind: str) -> int:
    """The id that fills texts up."""
    if kind == "open_clip":
        return 0
    token = settings.get("pad_token", "</s>" if kind == "siglip" else EOS)
    token = token.get("content") if isinstance(token, dict) else token
    return tokenizer.token_to_id(token) or 0 if isinstance(token, str) else 0


def _clip_tokenizer(tokenizers: Any, folder: Path) -> Any:
    """CLIP's tokenizer from its two files."""
    try:
        vocabulary = json.loads((folder / VOCABULARY).read_text(encoding="utf-8"))
        lines = (folder / MERGES).read_text(encoding="utf-8").split("\n")
        merges = [tuple(line.split()) for line in lines if line.strip() and not line.startswith("#version")]
        model = tokenizers.models.BPE(vocabulary, merges, end_of_word_suffix="</w>", unk_token=EOS)
    except Exception as error:  # tokenizers raises bare exceptions
        raise InputError(f"{folder / VOCABULARY}: cannot be read with {MERGES} ({error}); download both again") from error
    if missing := [token for token in (BOS, EOS) if token not in vocabulary]:
        raise InputError(f"{folder / VOCABULARY}: has no {missing[0]}; expected the vocabulary of a CLIP")
    tokenizer, replace = tokenizers.Tokenizer(model), tokenizers.normalizers.Replace
    parts = tokenizers.normalizers, tokenizers.pre_tokenizers
    spaces = replace(tokenizers.Regex(r"\s+"), " ")
    tokenizer.normalizer = parts[0].Sequence([parts[0].NFC(), spaces, parts[0].Lowercase()])
    cut = parts[1].Split(tokenizers.Regex(CLIP_WORDS), behavior="removed", invert=True)
    tokenizer.pre_tokenizer = parts[1].Sequence([cut, parts[1].ByteLevel(add_prefix_space=False)])
    ends = [(token, vocabulary[token]) for token in (EOS, BOS)]
    tokenizer.post_processor = tokenizers.processors.RobertaProcessing(*ends, add_prefix_space=False, trim_offsets=False)
    return tokenizer
