"""Numbers as people write them."""


def count_text(count: int) -> str:
    """`847`, `11.7 M` or `1.82 G`: three digits, in powers of 1000."""
    return _text(count, 1000, ("", "k", "M", "G", "T", "P"))


def bytes_text(num_bytes: int) -> str:
    """`512 B` or `1.25 GiB`: three digits, in powers of 1024."""
    return _text(num_bytes, 1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB"))


def _text(number: float, base: int, units: tuple[str, ...]) -> str:
    sign, number = ("-" if number < 0 else ""), abs(number)
    for unit in units:
        if number < 999.5 or unit == units[-1]:
            break
        number /= base
    digits = 0 if number == int(number) or number >= 99.95 else 1 if number >= 9.995 else 2
    return f"{sign}{number:.{digits}f} {unit}".rstrip()
