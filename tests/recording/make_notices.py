"""Make the files of the notices, and print their digests for ``DIGESTS``.

Run ``python -m tests.recording.make_notices [DIRECTORY]`` when a text changes. It needs espeak-ng
and Pillow, which nothing else does. Other versions of both give other bytes.
"""

from __future__ import annotations

import array
import gzip
import hashlib
import io
import math
import subprocess
import sys
import wave
from pathlib import Path

from collector.recording import notices

RATE = 16_000
WORDS_PER_MINUTE = "150"
"""Slow enough for listeners who do not speak the language every day."""
SIZE = (1280, 720)
_REACH = 16
"""Samples on each side that one sample is computed from when the rate is changed."""
_GREYS = 16


def sound(language: str, text: str) -> bytes:
    """Return a text, spoken, as a WAV file of 16 kHz, mono, 8 bits a sample."""
    command = ["espeak-ng", "-v", language, "-s", WORDS_PER_MINUTE, "--stdout", "--", text]
    spoken = subprocess.run(command, capture_output=True, check=True).stdout
    # The length in the head is not known to a program that writes into a pipe.
    with wave.open(io.BytesIO(spoken)) as source:
        rate, samples = source.getframerate(), array.array("h", source.readframes(1 << 24))
    resampled = _resampled(samples, rate)
    loudest = max(map(abs, resampled))
    written = io.BytesIO()
    with wave.open(written, "wb") as target:
        target.setnchannels(1)
        target.setsampwidth(1)
        target.setframerate(RATE)
        target.writeframes(bytes(128 + round(sample * 120 / loudest) for sample in resampled))
    return written.getvalue()


def _resampled(samples: array.array[int], rate: int) -> list[float]:
    """Change the rate to ``RATE``, by a windowed sinc filter that cuts off what would alias."""
    cutoff = 0.9 * min(RATE / rate, 1)
    result = []
    for number in range(len(samples) * RATE // rate & ~1):  # a chunk of a WAV file has even length
        place = number * rate / RATE
        middle = int(place)
        first, last = max(0, middle - _REACH + 1), min(len(samples), middle + _REACH + 1)
        result.append(sum(samples[at] * _weight(place - at, cutoff) for at in range(first, last)))
    return result


def _weight(distance: float, cutoff: float) -> float:
    if abs(distance) >= _REACH:
        return 0.0
    window = 0.5 + 0.5 * math.cos(math.pi * distance / _REACH)
    angle = math.pi * distance * cutoff
    return cutoff * window * (math.sin(angle) / angle if angle else 1.0)


def picture(title: str, sentences: tuple[str, ...]) -> bytes:
    """Return a text as a PNG of 1280 × 720: a red dot, a large title, and the sentences below."""
    from PIL import Image, ImageDraw, ImageFont  # noqa: PLC0415 - nothing else needs it

    image = Image.new("RGB", SIZE, "#101418")
    draw = ImageDraw.Draw(image)
    draw.ellipse((64, 64, 120, 120), fill="#e5222c")
    top = 56.0
    for text, left, points in ((title, 152, 54), *((each, 64, 38) for each in sentences)):
        font = ImageFont.load_default(points)
        lines = [""]
        for word in text.split():
            longer = f"{lines[-1]} {word}".strip()
            if draw.textlength(longer, font) <= SIZE[0] - left - 64:
                lines[-1] = longer
            else:
                lines.append(word)
        draw.multiline_text((left, top), "\n".join(lines), fill="white", font=font, spacing=12)
        top += len(lines) * (points + 14) + 24
    written = io.BytesIO()
    image.quantize(_GREYS).save(written, "PNG", optimize=True)
    return written.getvalue()


def make(directory: Path) -> dict[str, str]:
    """Write the files of all notices into a directory, the sounds compressed; return digests."""
    digests = {}
    for (language, storage), sentences in notices.TEXTS.items():
        for suffix, content in (
            ("wav", sound(language, " ".join(sentences))),
            ("png", picture(sentences[0], sentences[1:])),
        ):
            name = f"{language}-{storage}.{suffix}"
            if suffix == "wav":
                (directory / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
            else:
                (directory / name).write_bytes(content)
            digests[name] = hashlib.sha256(content).hexdigest()
    return digests


def main() -> None:
    """Make them in the package, or in the directory that is named; print their digests."""
    directory = Path(sys.argv[1] if sys.argv[1:] else Path(notices.__file__).parent)
    for file, digest in make(directory).items():
        sys.stdout.write(f'    "{file}": "{digest}",\n')


if __name__ == "__main__":
    main()
