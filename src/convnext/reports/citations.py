"""References of the networks and methods, as BibTeX."""

from __future__ import annotations

from collections.abc import Iterable

BIBTEX = {
    "convnext": """@inproceedings{liu2022convnext,
  title = {A ConvNet for the 2020s},
  author = {Liu, Zhuang and Mao, Hanzi and Wu, Chao-Yuan and Feichtenhofer, Christoph and Darrell, Trevor
            and Xie, Saining},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year = {2022}
}""",
    "convnextv2": """@inproceedings{woo2023convnextv2,
  title = {{ConvNeXt V2}: Co-designing and Scaling {ConvNets} with Masked Autoencoders},
  author = {Woo, Sanghyun and Debnath, Shoubhik and Hu, Ronghang and Chen, Xinlei and Liu, Zhuang and Kweon, In So
            and Xie, Saining},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year = {2023}
}""",
    "mask_rcnn": """@inproceedings{he2017maskrcnn,
  title = {Mask {R-CNN}},
  author = {He, Kaiming and Gkioxari, Georgia and Doll{\\'a}r, Piotr and Girshick, Ross},
  booktitle = {Proceedings of the IEEE International Conference on Computer Vision},
  year = {2017}
}""",
    "cascade_rcnn": """@inproceedings{cai2018cascade,
  title = {Cascade {R-CNN}: Delving into High Quality Object Detection},
  author = {Cai, Zhaowei and Vasconcelos, Nuno},
  booktitle = {Proceedings of the IEEE Conference on Computer Vision and Pattern Recognition},
  year = {2018}
}""",
    "upernet": """@inproceedings{xiao2018upernet,
  title = {Unified Perceptual Parsing for Scene Understanding},
  author = {Xiao, Tete and Liu, Yingcheng and Zhou, Bolei and Jiang, Yuning and Sun, Jian},
  booktitle = {Proceedings of the European Conference on Computer Vision},
  year = {2018}
}""",
}
"""Entries by name."""


def bibtex(keys: Iterable[str]) -> str:
    """The entries of these names."""
    return "\n\n".join(BIBTEX[key] for key in keys)
