"""Making images smaller as they are packed, so that training spends less time on decoding them."""

from __future__ import annotations

from io import BytesIO

from PIL import Image

from convnext.data.images.decode import decode_image, stored_mode, upright_size

QUALITY = 92  # of JPEG files


def shrink(content: bytes, short_side: int, *, name: str) -> bytes:
    """An image file with a shorter side of `short_side` pixels; as it is where that is no more, or needs over 8 bits.

    What was JPEG stays JPEG, all else becomes PNG; upright, in RGB or grey. `ImageError` if it cannot be decoded;
    `name` is for that.
    """
    mode = stored_mode(content)
    # How numbers are scaled to 8 bits is for whoever trains to say.
    if mode.startswith(("I", "F")) or min(upright_size(content, name=name)) <= short_side:
        return content
    image = decode_image(content, "L" if mode in ("1", "L") else "RGB", name=name)
    scale = short_side / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    out = BytesIO()
    if content.startswith(b"\xff\xd8\xff"):
        image.save(out, "JPEG", quality=QUALITY)
    else:
        image.save(out, "PNG")
    return out.getvalue()
