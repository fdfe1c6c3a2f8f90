"""The benchmark: the paper's tables on anyone's data, and where the time goes.

``msnet bench accuracy`` and ``ablation`` train and evaluate methods (:mod:`.methods`) on splits of
a data set (:mod:`.data`), one *trial* each (:mod:`.trials`), and sum them up (:mod:`.summary`,
:mod:`.tables`, :mod:`.plots`). ``msnet bench speed`` times two models side by side (:mod:`.speed`).
"Paper" in this package is MSNet (Zhu, Liang, Hauptmann, WACV 2021).
"""
