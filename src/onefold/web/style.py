"""The one stylesheet: tokens, fonts and icons, then the rules of style.css. Colours are written here only."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from importlib.resources import files

from onefold.web import icons

# Token -> light, dark.
TOKENS = {
    "bg": ("#fff", "#131417"),
    "side": ("#f9f9fa", "#0e0f11"),
    "mute": ("#f3f3f5", "#1d1f23"),
    "hover": ("#f5f5f7", "#1a1c20"),
    "border": ("#e7e7ea", "#282a30"),
    "strong": ("#d2d2d8", "#3b3e46"),
    "field": ("#c6c9d0", "#444852"),
    "t1": ("#18191c", "#ededf0"),
    "t2": ("#4c4f57", "#b3b6be"),
    "t3": ("#6b6f79", "#8d919b"),
    "ink": ("#18191c", "#ededf0"),
    "ink-text": ("#fff", "#131417"),
    "ink-hover": ("#303238", "#fff"),
    "acc": ("#3152cc", "#93a8ff"),
    "acc-bg": ("#eef1fd", "#1f2747"),
    "acc-line": ("#c9d3f8", "#35417a"),
    "ok": ("#17693c", "#6fcf97"),
    "ok-bg": ("#e8f5ed", "#15291e"),
    "ok-dot": ("#1f9d57", "#35b06a"),
    "warn": ("#875200", "#e5b454"),
    "warn-bg": ("#fcf3df", "#2c2312"),
    "warn-dot": ("#c47f00", "#d9a032"),
    "bad": ("#b3261e", "#ff8f85"),
    "bad-bg": ("#fdeeec", "#351a18"),
    "bad-dot": ("#d9382e", "#ef5b50"),
    "bad-ink": ("#b3261e", "#b3261e"),
    "run": ("#2456c9", "#8ab0ff"),
    "run-bg": ("#eaf0fd", "#18253f"),
    "run-dot": ("#3b73ed", "#5c8df6"),
    "off": ("#5b5f68", "#a0a4ad"),
    "off-bg": ("#f1f1f3", "#212328"),
    "off-dot": ("#8b8f99", "#6b6f79"),
    "added": ("#3152cc", "#7b93f8"),
    "updated": ("#7b8fe7", "#5568bd"),
    "deleted": ("#8b8f99", "#6b6f79"),
    "rejected": ("#d9382e", "#ef5b50"),
    "shade": ("0 8px 28px rgba(20, 22, 30, 0.14)", "0 8px 28px rgba(0, 0, 0, 0.5)"),
    "veil": ("rgba(20, 22, 28, 0.36)", "rgba(0, 0, 0, 0.6)"),
}
FONTS = {
    "inter": ("Inter", "fontpkg_inter", "Inter[opsz,wght].ttf"),
    "mono": ("JetBrains Mono", "fontpkg_jetbrains_mono", "JetBrainsMono[wght].ttf"),
}


@cache
def font(name: str) -> bytes:
    _, package, file = FONTS[name]
    return (files(package) / "files" / file).read_bytes()


@cache
def sheet() -> str:
    """The stylesheet as text."""
    light, dark = (
        "".join(f"--{name}:{value[at]};" for name, value in TOKENS.items())
        + f"--chevrons:{icons.mask('chevrons', TOKENS['t3'][at])};"
        for at in (0, 1)
    )
    faces = "".join(
        f"@font-face{{font-family:'{family}';src:url('/web/{name}.ttf') format('truetype');"
        "font-weight:100 900;font-display:swap}"
        for name, (family, *_) in FONTS.items()
    )
    drawn = "".join(f".of-i-{name}{{--i:{icons.mask(name)}}}\n" for name in icons.ICONS)
    rules = (files(__package__) / "style.css").read_text(encoding="utf-8")
    return f"{faces}\n:root{{{light}color-scheme:light}}\nbody.body--dark{{{dark}color-scheme:dark}}\n{drawn}{rules}"


@cache
def version() -> str:
    """Changes with the stylesheet, so that browsers may keep it for good."""
    return sha256(sheet().encode()).hexdigest()[:12]
