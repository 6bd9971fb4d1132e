"""Pretrained models under the same lens: the terms and gates of lrjax in CLIP, SigLIP, OpenCLIP and DINOv2.

    from lrjax import pretrained

    model = pretrained.load("weights/clip-vit-base-patch32")
    images = model.embed_images(model.pixels(["a.png", "b.png"]))
    texts = model.embed_texts(["a cat to the left of a dog", "a dog to the left of a cat"])
    model.similarities(images, texts)
    embedding, cache = model.run_with_cache(model.pixels(["a.png"])[0])
    cache["vision.3.terms"].sel(term="EP")
    model.ablate("EP+PP+BP+MP").embed_images(...)

The packages of the extra `pretrained` (safetensors, tokenizers) are needed, and no torch.
"""

from lrjax.pretrained.model import Model, load

__all__ = ["Model", "load"]
