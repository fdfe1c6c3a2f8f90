"""Checkpoints of a detector, and of the same detector refined."""

from __future__ import annotations

import copy
import hashlib
import pickle

import pytest
import torch
from helpers.refined import build

from msnet_d2.checkpoint.checkpointer import MSNetCheckpointer
from msnet_d2.checkpoint.load_weights import load_trained_weights
from msnet_d2.errors import WeightsError


class TestStateDict:
    """A detector's checkpoint and that of the same detector refined differ by ``srn.*`` alone."""

    def test_names(self, srn_cfg):
        model = build(srn_cfg)
        names = {f"srn.{name}" for name in model.srn.state_dict()}
        assert set(model.state_dict()) == set(model.detector.state_dict()) | names

    def test_what_is_saved_is_loaded(self, srn_cfg):
        saved, model = build(srn_cfg, seed=1).state_dict(), build(srn_cfg, seed=2)
        model.load_state_dict(saved)
        assert all(torch.equal(v, saved[k]) for k, v in model.state_dict().items())

    def test_within_another_module(self, srn_cfg):
        saved = torch.nn.ModuleDict({"module": build(srn_cfg, seed=1)}).state_dict()
        assert "module.backbone.fpn_output2.weight" in saved
        other = torch.nn.ModuleDict({"module": build(srn_cfg, seed=2)})
        other.load_state_dict(saved)
        assert all(torch.equal(v, saved[k]) for k, v in other.state_dict().items())

    def test_a_copy_is_loaded_and_saved_by_itself(self, srn_cfg):
        model = build(srn_cfg)
        twin = pickle.loads(pickle.dumps(copy.deepcopy(model)))
        assert list(twin.state_dict()) == list(model.state_dict())
        twin.load_state_dict(build(srn_cfg, seed=2).state_dict())
        assert not torch.equal(twin.srn.layers[0].weight, model.srn.layers[0].weight)

    def test_a_detectors_weights_without_the_embeddings(self, srn_cfg):
        model, other = build(srn_cfg, seed=1), build(srn_cfg, seed=2)
        missing = model.load_state_dict(other.detector.state_dict(), strict=False)
        assert set(missing.missing_keys) == {f"srn.{name}" for name in model.srn.state_dict()}
        assert not missing.unexpected_keys
        with pytest.raises(RuntimeError, match=r"srn\.layers\.0"):
            model.load_state_dict(other.detector.state_dict())

    @pytest.mark.parametrize("digest", [False, True])
    def test_a_checkpoint_of_an_msnet_with_srn(self, srn_cfg, tmp_path, digest):
        """As it was saved before RefinedDetector, with and without #sha256= behind its path."""
        model, path = build(srn_cfg, seed=1), tmp_path / "srn.pth"
        old = {**model.detector.state_dict()}
        old |= {f"srn.{name}": value for name, value in model.srn.state_dict().items()}
        torch.save({"model": old}, path)
        weights = str(path)
        if digest:
            weights += "#sha256=" + hashlib.sha256(path.read_bytes()).hexdigest()
        fresh = build(srn_cfg, seed=2)
        load_trained_weights(fresh, weights)
        assert all(torch.equal(v, old[k]) for k, v in fresh.state_dict().items())
        if digest:
            with pytest.raises(WeightsError, match="SHA-256"):
                load_trained_weights(fresh, weights[:-4] + "0000")

    def test_an_embedding_of_another_shape(self, srn_cfg, tmp_path):
        torch.save({"model": build(srn_cfg).state_dict()}, tmp_path / "srn.pth")
        srn_cfg.MODEL.SRN.FC_DIMS = [24, 12]
        with pytest.raises(WeightsError, match=r"srn\.layers\.1\.weight"):
            load_trained_weights(build(srn_cfg), str(tmp_path / "srn.pth"))

    def test_a_detectors_checkpoint_alone(self, srn_cfg, tmp_path):
        """Training begins with it; inference lacks the embedding, unless that has no layers."""
        torch.save({"model": build(srn_cfg).detector.state_dict()}, tmp_path / "detector.pth")
        model = build(srn_cfg)
        checkpointer = MSNetCheckpointer(model)
        checkpointer.load(str(tmp_path / "detector.pth"))
        assert not checkpointer.report.suspicious
        assert "the embedding is untrained" in checkpointer.report.table()
        with pytest.raises(WeightsError, match=r"srn\.layers\.0"):
            load_trained_weights(model, str(tmp_path / "detector.pth"))
        srn_cfg.MODEL.SRN.FC_DIMS = []
        load_trained_weights(build(srn_cfg), str(tmp_path / "detector.pth"))

    def test_a_plain_detector_takes_a_refined_ones_checkpoint(self, srn_cfg, tmp_path):
        torch.save({"model": build(srn_cfg).state_dict()}, tmp_path / "refined.pth")
        checkpointer = MSNetCheckpointer(build(srn_cfg, seed=2).detector)
        checkpointer.load(str(tmp_path / "refined.pth"))
        assert not checkpointer.report.suspicious
        assert "this model refines no scores" in checkpointer.report.table()
