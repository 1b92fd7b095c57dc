"""Numbers as people read them: counts, bytes, times, shares, sizes."""

from collections.abc import Iterable


def count_text(count: int) -> str:
    """`847`, `11.7 M` or `1.82 G`: three digits, in powers of 1000."""
    return _with_unit(count, 1000, ("", "k", "M", "G", "T", "P"))


def bytes_text(num_bytes: int) -> str:
    """`512 B` or `1.25 GiB`: three digits, in powers of 1024."""
    return _with_unit(num_bytes, 1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB"))


def _with_unit(number: float, base: int, units: tuple[str, ...]) -> str:
    sign, number = ("-" if number < 0 else ""), abs(number)
    for unit in units:
        if number < 999.5 or unit == units[-1]:
            break
        number /= base
    digits = 0 if number == int(number) or number >= 99.95 else 1 if number >= 9.995 else 2
    return f"{sign}{number:.{digits}f} {unit}".rstrip()


def number_text(value: float) -> str:
    """Three digits, where that takes no more than three decimals: 0.051, 1.51, 57.4, 31,749."""
    if value >= 99.95:
        return f"{value:,.0f}"
    if value >= 9.995:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.995 else f"{value:.3f}"


def ratio_text(value: float) -> str:
    """As `number_text`, but two decimals are enough of a small ratio: 0.06, 7.43, 41.0."""
    return number_text(value) if value >= 0.995 else f"{value:.2f}"


def mebibytes(num_bytes: float) -> float:
    """Bytes in MiB, for columns and axes whose head names the unit."""
    return num_bytes / 2**20


def percent_text(share: float, decimals: int = 2) -> str:
    """`97.21%`; accuracies have two decimals."""
    return f"{share:.{decimals}%}"


def change_text(share: float) -> str:
    """`+3.1%`: by how much a figure differs from another."""
    return f"{share:+.1%}"


def points_text(share: float) -> str:
    """`-0.31pp`: the difference of two shares in percentage points."""
    return f"{share * 100:+.2f}pp"


def speed_text(images_per_second: float) -> str:
    """`1,234 img/s`."""
    return f"{images_per_second:,.0f} img/s"


def duration_text(seconds: float) -> str:
    """`3 h 04 min`, `4 min 05 s` or `5.1 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


def shape_text(extents: Iterable[int]) -> str:
    """`56x56`, `3x224x224`."""
    return "x".join(map(str, extents))
