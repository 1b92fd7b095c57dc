import io
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nifbuild.data.decode import Decoder, UnreadableImageError, quiet_pillow

RNG = np.random.default_rng(0)


def decode(cell: Any, channels: int = 3, size: tuple[int, int] = (4, 4), **options: Any) -> Any:
    return Decoder(channels, *size, **options)(cell)  # type: ignore[arg-type]


def random_image(mode: str = "RGB", size: tuple[int, int] = (4, 4)) -> Image.Image:
    shape = (size[1], size[0], 3)[: 3 if mode == "RGB" else 2]
    return Image.fromarray(RNG.integers(0, 256, shape, dtype=np.uint8))


def smooth_image(width: int, height: int) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    pixels = np.stack([x, y, (1 + np.sin(6 * x + 4 * y)) / 2], -1)
    return Image.fromarray((255 * pixels).astype(np.uint8))


def test_an_image_of_the_right_size_is_exact(encoded: Any) -> None:
    image = random_image()
    pixels = decode(encoded(image))
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, np.asarray(image).transpose(2, 0, 1))


@pytest.mark.parametrize("form", ["bytes", "path", "mapping of bytes", "mapping of path"])
def test_forms_of_cells(form: str, png: Any, tmp_path: Path) -> None:
    content = png((1, 2, 3))
    path = tmp_path / "x.png"
    path.write_bytes(content)
    cell = {
        "bytes": content,
        "path": str(path),
        "mapping of bytes": {"bytes": content, "path": "elsewhere.png"},
        "mapping of path": {"bytes": None, "path": str(path)},
    }[form]
    assert decode(cell)[:, 0, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("image", "rgb"),
    [
        (Image.new("1", (4, 4), 1), [255, 255, 255]),
        (Image.new("L", (4, 4), 100), [100, 100, 100]),
        (Image.new("RGB", (4, 4), (10, 20, 30)), [10, 20, 30]),
        (Image.new("RGBA", (4, 4), (10, 20, 30, 255)), [10, 20, 30]),
        (Image.new("RGBA", (4, 4), (10, 20, 30, 0)), [255, 255, 255]),
        (Image.new("RGBA", (4, 4), (0, 100, 200, 51)), [204, 224, 244]),
        (Image.new("LA", (4, 4), (0, 51)), [204, 204, 204]),
        (Image.fromarray(np.full((4, 4), 65535, np.uint16)), [255, 255, 255]),
        (Image.fromarray(np.full((4, 4), 257 * 77, np.uint16)), [77, 77, 77]),
    ],
    ids=["1", "L", "RGB", "opaque", "clear", "translucent", "LA", "16-bit white", "16-bit gray"],
)
def test_modes_become_rgb(image: Image.Image, rgb: list[int], encoded: Any) -> None:
    pixels = decode(encoded(image))
    assert np.array_equal(pixels, np.broadcast_to(np.array(rgb)[:, None, None], (3, 4, 4)))


def test_palette_with_and_without_transparency(encoded: Any) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    assert decode(encoded(image))[:, 0, 0].tolist() == [10, 20, 30]
    assert decode(encoded(image, transparency=1))[:, 0, 0].tolist() == [255, 255, 255]
    assert decode(encoded(image, transparency=b"\xff\x33"))[:, 0, 0].tolist() == [206, 208, 210]


def gray_tiff(values: np.ndarray, bits: int, photometric: int) -> bytes:
    """A TIFF of one strip, written out here: Pillow writes none of fewer than 16 bits."""
    height, width = values.shape
    if bits == 12:
        pairs = values.reshape(height, -1, 2).astype(np.uint32)
        packed = (pairs[..., 0] << 12) | pairs[..., 1]
        strip = np.stack([packed >> 16, packed >> 8, packed], -1).astype(np.uint8).tobytes()
    else:
        strip = values.astype("<u2").tobytes()
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1}
    tags |= {278: height, 279: len(strip)}
    head = struct.pack("<2sHI", b"II", 42, 8 + len(strip))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    return head + strip + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)


LEVELS = np.array([[0, 1000, 2000, 4095]] * 4)


@pytest.mark.parametrize(
    ("content", "white"),
    [
        (gray_tiff(LEVELS, 12, 1), 4095),
        (gray_tiff(LEVELS * 16, 16, 1), 65535),
        (b"P5 4 4 4095\n" + LEVELS.astype(">u2").tobytes(), 4095),
        (b"P5 4 4 65535\n" + (LEVELS * 16).astype(">u2").tobytes(), 65535),
        (b"P2 4 4 4095\n" + " ".join(map(str, LEVELS.flatten())).encode(), 4095),
    ],
    ids=["12-bit TIFF", "16-bit TIFF", "12-bit PGM", "16-bit PGM", "plain PGM"],
)
def test_gray_levels_of_more_than_8_bits(content: bytes, white: int) -> None:
    scale = 1 if white == 4095 else 16
    expected = np.rint(LEVELS * scale * 255 / white).astype(np.uint8)
    assert np.array_equal(decode(content, channels=1)[0], expected)


def test_a_tiff_in_which_zero_is_white() -> None:
    expected = 255 - np.rint(LEVELS * 16 * 255 / 65535).astype(np.uint8)
    assert np.array_equal(decode(gray_tiff(LEVELS * 16, 16, 0), channels=1)[0], expected)


def test_a_gray_level_of_16_bits_that_is_transparent(encoded: Any) -> None:
    image = Image.fromarray((LEVELS * 16).astype(np.uint16))
    expected = np.rint(LEVELS * 16 * 255 / 65535).astype(np.uint8)
    expected[LEVELS == 1000] = 255
    content = encoded(image)
    end = content.index(b"IDAT") - 4  # Pillow writes no such chunk beside 16 bits
    body = b"tRNS" + struct.pack(">H", 16000)
    chunk = struct.pack(">I", 2) + body + struct.pack(">I", zlib.crc32(body))
    assert np.array_equal(decode(content[:end] + chunk + content[end:], 1)[0], expected)


def test_images_of_other_colour_spaces_and_premultiplied_gray(encoded: Any) -> None:
    red, gray = [255, 0, 0], round(0.299 * 255)
    for image, kind, options in (
        (Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", {"quality": 95}),
        (Image.new("RGB", (16, 16), "red"), "JPEG", {"quality": 95, "keep_rgb": True}),
        (Image.new("RGB", (16, 16), "red").convert("YCbCr"), "TIFF", {}),
        (Image.new("LAB", (16, 16), (138, 209, 198)), "TIFF", {}),  # L* 54.3, a* 80.8, b* 69.9
    ):
        content = encoded(image, kind, **options)
        colours = decode(content, size=(16, 16)).astype(int)[:, 8, 8]
        assert np.abs(colours - red).max() <= 12, (image.mode, colours)
        level = int(decode(content, channels=1, size=(16, 16))[0, 8, 8])
        assert abs(level - gray) <= 6, (image.mode, level)
    half = np.array(decode(encoded(Image.new("LA", (4, 4), (100, 128)), "TIFF"), channels=1))
    assert np.abs(half.astype(int) - (100 * 128 + 255 * 127) / 255).max() <= 1


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_the_first_is_taken(kind: str, encoded: Any) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("lime", "red", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert Image.open(io.BytesIO(content)).n_frames == 3
    assert decode(content)[:, 0, 0].tolist() == [0, 255, 0]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *((kind, {}) for kind in ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM")),
        *(("SGI", {}), ("TGA", {}), ("TGA", {"compression": "tga_rle"}), ("TIFF", {})),
        *(("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {}), ("WEBP", {"lossless": True})),
    ],
)
def test_what_is_cut_off_is_never_taken_for_whole(kind: str, options: Any, encoded: Any) -> None:
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow has no {kind}")
    content = encoded(random_image(size=(40, 40)), kind, **options)
    whole = decode(content, size=(40, 40))
    for share in (0.1, 0.5, 0.9):
        try:
            assert np.array_equal(decode(content[: int(share * len(content))], 3, (40, 40)), whole)
        except ValueError as error:
            assert str(error)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
@pytest.mark.parametrize("resize", ["crop", "stretch"])
def test_images_of_single_pixels(size: tuple[int, int], resize: Any, png: Any) -> None:
    pixels = decode(png((10, 20, 30), size), size=(5, 7), resize=resize)
    assert np.array_equal(pixels, np.broadcast_to([[[10]], [[20]], [[30]]], (3, 5, 7)))


def test_cmyk_jpeg(encoded: Any) -> None:
    red = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    pixels = decode(red, size=(16, 16))
    assert np.abs(pixels.astype(int) - np.array([255, 0, 0])[:, None, None]).max() <= 3


def test_rgb_becomes_gray_by_luma(png: Any) -> None:
    pixels = decode(png((200, 100, 50)), channels=1)
    assert pixels.shape == (1, 4, 4)
    assert abs(int(pixels[0, 0, 0]) - (0.299 * 200 + 0.587 * 100 + 0.114 * 50)) <= 1


def test_gray_jpeg_from_colour_does_not_depend_on_the_file_format(encoded: Any) -> None:
    image = smooth_image(64, 64)
    jpeg = decode(encoded(image, "JPEG", quality=98), channels=1, size=(16, 16)).astype(int)
    lossless = decode(encoded(image), channels=1, size=(16, 16)).astype(int)
    assert np.abs(jpeg - lossless).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int, encoded: Any) -> None:
    upright = smooth_image(48, 32)
    # What a camera stores: the inverse of what the tag says is to be done (EXIF 2.3, 0x0112).
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a.transpose(1, 0, 2), 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    stored = Image.fromarray(np.ascontiguousarray(undo(np.asarray(upright))))
    exif = Image.Exif()
    exif[0x0112] = orientation
    # Pillow itself turns a TIFF when it loads it, and no other.
    for kind, options in (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})):
        pixels = decode(encoded(stored, kind, exif=exif, **options), size=(32, 48))
        assert np.array_equal(pixels, np.asarray(upright).transpose(2, 0, 1)), kind
    packed = encoded(stored, "TIFF", exif=exif, compression="tiff_lzw")
    assert np.array_equal(decode(packed, size=(32, 48)), np.asarray(upright).transpose(2, 0, 1))
    shrunk = decode(encoded(stored, "JPEG", exif=exif, quality=98), size=(8, 12)).astype(int)
    expected = decode(encoded(upright), size=(8, 12)).astype(int)
    assert np.abs(shrunk - expected).max() <= 6


def test_broken_exif_does_not_matter(encoded: Any) -> None:
    broken = encoded(smooth_image(8, 8), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff junk")
    with quiet_pillow():
        assert decode(broken, size=(8, 8)).shape == (3, 8, 8)


def test_crop_keeps_the_aspect_and_takes_the_centre(encoded: Any) -> None:
    strips = np.zeros((4, 12, 3), np.uint8)
    strips[:, :4], strips[:, 4:8], strips[:, 8:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    image = encoded(Image.fromarray(strips))
    assert np.array_equal(decode(image), np.array(strips)[:, 4:8].transpose(2, 0, 1))
    assert decode(image, size=(2, 2), interpolation="nearest")[:, 0, 0].tolist() == [0, 255, 0]


def test_stretch_keeps_everything(encoded: Any) -> None:
    strips = np.zeros((4, 12, 3), np.uint8)
    strips[:, :4], strips[:, 4:8], strips[:, 8:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    image = encoded(Image.fromarray(strips))
    pixels = decode(image, size=(3, 3), resize="stretch", interpolation="nearest")
    assert pixels[:, 1].T.tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]


def test_shrinking_averages(encoded: Any) -> None:
    checks = (np.indices((16, 16)).sum(0) % 2 * 255).astype(np.uint8)
    image = encoded(Image.fromarray(checks))
    for interpolation in ("bilinear", "bicubic", "lanczos"):
        pixels = decode(image, 1, (4, 4), interpolation=interpolation)[0, 1:3, 1:3]
        assert np.abs(pixels.astype(int) - 128).max() <= 8, interpolation
    assert set(decode(image, 1, (4, 4), interpolation="nearest").flatten().tolist()) <= {0, 255}


def test_interpolations_differ(encoded: Any) -> None:
    image = encoded(random_image(size=(5, 5)))
    kinds = ("nearest", "bilinear", "bicubic", "lanczos")
    results = {kind: decode(image, interpolation=kind).tobytes() for kind in kinds}
    assert len(set(results.values())) == 4


@pytest.mark.parametrize("resize", ["crop", "stretch"])
@pytest.mark.parametrize("size", [(800, 600), (300, 900), (64, 64)])
def test_reduced_jpeg_decoding_is_close_to_full(
    resize: Any, size: tuple[int, int], encoded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = encoded(smooth_image(*size), "JPEG", quality=95)
    fast = decode(image, size=(32, 40), resize=resize).astype(int)
    monkeypatch.setattr(Image.Image, "draft", lambda *_: None)
    from PIL.JpegImagePlugin import JpegImageFile

    monkeypatch.setattr(JpegImageFile, "draft", lambda *_: None)
    full = decode(image, size=(32, 40), resize=resize).astype(int)
    assert np.abs(fast - full).max() <= 4


def test_unreadable_images_say_why(encoded: Any, png: Any, tmp_path: Path) -> None:
    jpeg = encoded(random_image(size=(64, 64)), "JPEG")
    for cell, reason in [
        (jpeg[: len(jpeg) // 2], "truncated"),
        (png(3)[:50], "truncated"),
        (b"hello", "^cannot identify image file: none of .*PNG.* or WEBP$"),
        (str(tmp_path), "^it is a folder, not a file$"),
        (b"", "^it is empty$"),
        (None, "the row has no image"),
        ({"bytes": None, "path": None}, "the row has no image"),
        (str(tmp_path / "gone.png"), "No such file"),
        (encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "mode F"),
        (encoded(Image.fromarray(np.ones((4, 4), np.int32)), "TIFF"), "mode I"),
    ]:
        with pytest.raises(ValueError, match=reason):
            decode(cell)


def test_decompression_bombs_are_refused(png: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match="decompression bomb"):
        decode(png(3, (20, 20)))


def test_the_error_survives_a_loader_worker() -> None:
    error = UnreadableImageError.of("'a: b.png' (row 3 of 'train')", "broken: data")
    wrapped = torch._utils.ExceptionWrapper((type(error), error, None), where="in worker 0")
    with pytest.raises(UnreadableImageError) as caught:
        wrapped.reraise()
    assert caught.value.problems == error.problems


def test_a_decoder_can_be_pickled() -> None:
    decoder = Decoder(3, 4, 5, "stretch", "lanczos")
    assert pickle.loads(pickle.dumps(decoder)) == decoder


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("size", [(1, 1), (23, 41)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_told_is_that_of_the_upright_image(
    form: str, size: tuple[int, int], orientation: int
) -> None:
    """Also where decoding has shrunk it on the way."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.new("RGB", (345, 211)).save(file, form, exif=exif)
    pixels, found = Decoder(3, *size, "crop", "bilinear").with_size(file.getvalue())
    assert pixels.shape == (3, *size)
    assert found == ((345, 211) if orientation < 5 else (211, 345))
