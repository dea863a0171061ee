"""Commands as lists of words: in what two of them differ."""


def difference(old: list[str], new: list[str]) -> str:
    """What one command has and the other lacks, both ways; empty where they have the same."""
    gone = [w for w in _pairs(old) if w not in _pairs(new)]
    come = [w for w in _pairs(new) if w not in _pairs(old)]
    if not gone and not come:
        return ""
    return f"was: {' '.join(gone) or 'without'}; now: {' '.join(come) or 'without'}"


def _pairs(words: list[str]) -> list[str]:
    """Options with their values as one string each."""
    joined: list[str] = []
    for word in words:
        if word.startswith("--") or not joined:
            joined.append(word)
        else:
            joined[-1] += f" {word}"
    return joined
