"""Packaging of fairseq_ki; everything else about the tools is in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+?)"', (HERE / "fairseq_ki" / "__init__.py").read_text(encoding="utf-8")
).group(1)

REPORT = ["matplotlib>=3.8"]
# transformers: tested up to 5.10; 5.13 imports torchaudio, which fairseq brings along, in builds
# for CUDA alone. protobuf: sentencepiece 0.2.3 reads models with 7.36.1 and does not ask for it
HF = ["transformers>=4.57.1,<5.11", "safetensors>=0.4.3", "tokenizers>=0.22", "protobuf>=7.36.1"]

setup(
    name="fairseq_ki",
    version=VERSION,
    description="Knowledge Inheritance for fairseq: a small language model teaches a larger one",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    # fairseq's wheels (ve-fairseq) exist for CPython 3.11 and 3.12
    python_requires=">=3.11,<3.13",
    packages=find_packages(include=["fairseq_ki", "fairseq_ki.*"]),
    package_data={"fairseq_ki": ["**/*.md"]},
    install_requires=[
        # the upper bound keeps pip on the builds this was tested with
        "torch>=2.6,<2.14",
        "ve-fairseq==0.12.3",
        "numpy>=1.26",
        "sentencepiece>=0.2",
        "tensorboard>=2.21",  # older ones do not start beside the setuptools that pip takes
        "pyyaml>=6.0",
    ],
    extras_require={
        "report": REPORT,
        "hf": HF,
        "dev": [
            *REPORT,
            *HF,
            "pytest>=8",
            "pytest-timeout>=2.3.1",
            "pytest-xdist>=3.5",
            "hypothesis>=6.100",
            "ruff>=0.13",
            "mypy>=2.4.1",
            "pre-commit>=3.7",
        ],
    },
    entry_points={"console_scripts": ["fairseq-ki = fairseq_ki.cli.main:main"]},
)
