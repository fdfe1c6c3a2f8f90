"""Training the embedding on triplets: beside a frozen detector, and jointly."""

from __future__ import annotations

import copy

import pytest
import torch
from detectron2.utils.events import EventStorage
from helpers.batches import make_batch, two_parts_one_parent
from helpers.refined import build, triplet

from msnet_d2.errors import ConfigError
from msnet_d2.score_refinement import ScoreRefinementNetwork
from msnet_d2.score_refinement.losses import multi_scale_consistency_loss, triplet_losses


def with_batch_norm(cfg):
    """Batch normalisation whose statistics training would change."""
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.FPN.NORM = "BN"
    return cfg


class TestFrozen:
    def test_only_the_embedding_changes_weights_and_statistics_alike(self, srn_cfg):
        model = build(with_batch_norm(srn_cfg)).train()
        before = copy.deepcopy(model.state_dict())
        trainable = [n for n, p in model.named_parameters() if p.requires_grad]
        assert trainable == [n for n, _ in model.named_parameters() if n.startswith("srn.")]
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
        for step in range(2):
            losses = model([triplet(seed=step)])
            assert list(losses) == ["loss_mcl"]
            optimizer.zero_grad()
            losses["loss_mcl"].backward()
            optimizer.step()
        for name, value in model.state_dict().items():
            same = torch.equal(value, before[name])
            assert same != name.startswith("srn."), name

    def test_the_mode_of_the_detector(self, srn_cfg):
        model = build(srn_cfg).train()
        assert model.training
        assert model.srn.training
        assert not model.detector.backbone.training
        assert not any(m.training for m in model.detector.roi_heads.modules())
        assert not model.eval().srn.training

    def test_training_lowers_the_loss(self, srn_cfg):
        model = build(srn_cfg).train()
        # X⁺ is X with a little noise, X⁻ another image: the embedding has something to learn.
        item = triplet(frames=3, seed=3)["triplet"]
        item[1] = (
            (item[0].int() + torch.randint(-9, 9, item[0].shape)).clamp(0, 255).to(torch.uint8)
        )
        item[2] = 20
        optimizer = torch.optim.Adam(model.srn.parameters(), lr=1e-2)
        losses = []
        for _ in range(20):
            loss = model([{"triplet": item}])["loss_mcl"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.8 * losses[0]

    def test_each_frame_goes_through_the_backbone_once(self, srn_cfg):
        model = build(srn_cfg).train()
        frames = []
        model.detector.backbone.register_forward_hook(
            lambda m, args, out: frames.append(len(args[0]))
        )
        model([triplet(frames=5), triplet(frames=4, size=(64, 64))])
        assert frames == [5, 4]

    def test_annotated_images_in_the_batch_are_left_alone(self, srn_cfg):
        model = build(srn_cfg).train()
        images = make_batch(two_parts_one_parent())
        assert list(model([*images, triplet()])) == ["loss_mcl"]

    def test_a_batch_without_triplets(self, srn_cfg):
        with pytest.raises(ConfigError, match="SRN_VIDEOS"):
            build(srn_cfg).train()(make_batch(two_parts_one_parent()))

    def test_what_is_logged(self, srn_cfg):
        with EventStorage() as storage:
            build(srn_cfg).train()([triplet()])
            logged = storage.latest()
        assert {"srn/similarity_positive", "srn/similarity_hardest_negative"} <= set(logged)


class TestJoint:
    def test_both_are_trained(self, srn_cfg):
        srn_cfg.MODEL.SRN.FREEZE_DETECTOR = False
        model = build(srn_cfg).train()
        batch = [*make_batch(two_parts_one_parent()), triplet()]
        with EventStorage():
            losses = model(batch)
        assert {"loss_mcl", "loss_rpn_parent_cls", "loss_rpn_cls", "loss_mask"} <= set(losses)
        losses["loss_mcl"].backward(retain_graph=True)
        backbone = model.detector.backbone.bottom_up.res4[0].conv1.weight
        assert backbone.grad.abs().sum() > 0  # L_mcl reaches the features
        assert model.detector.roi_heads.box_predictor.cls_score.weight.grad is None
        sum(losses.values()).backward()
        assert model.detector.roi_heads.box_predictor.cls_score.weight.grad.abs().sum() > 0
        assert model.detector.backbone.training

    def test_the_detectors_losses_are_those_without_srn(self, srn_cfg):
        srn_cfg.MODEL.SRN.FREEZE_DETECTOR = False
        joint = build(srn_cfg).train()
        plain_cfg = srn_cfg.clone()
        plain_cfg.MODEL.META_ARCHITECTURE = "MSNet"
        plain = build(plain_cfg).train()
        plain.load_state_dict(
            {k: v for k, v in joint.state_dict().items() if not k.startswith("srn.")}
        )
        images = make_batch(two_parts_one_parent())
        with EventStorage():
            torch.manual_seed(1)
            expected = plain(images)
            torch.manual_seed(1)
            losses = joint([triplet(), *images])
        assert set(losses) - set(expected) == {"loss_mcl"}
        for name, value in expected.items():
            assert torch.equal(losses[name], value)

    def test_weight(self, srn_cfg):
        values = []
        for weight in (1.0, 0.25):
            srn_cfg.MODEL.SRN.LOSS_WEIGHT = weight
            values.append(float(build(srn_cfg).train()([triplet()])["loss_mcl"]))
        assert values[1] == pytest.approx(values[0] / 4)


class TestTripletLoss:
    """With the embedding and features given, so that the figures can be worked out."""

    def network(self):
        net = ScoreRefinementNetwork(
            in_features=["p2", "p3"], in_channels=2, strides=[4, 8], fc_dims=[2]
        )
        with torch.no_grad():  # the identity on what is not negative
            net.layers[0].weight.copy_(torch.eye(2))
            net.layers[0].bias.zero_()
        return net

    def features(self, *directions):
        """Frames whose positions all have one direction, of both levels."""
        x = torch.tensor(directions, dtype=torch.float32)[:, :, None, None]
        return lambda frames: {"p2": x.expand(-1, -1, 4, 4), "p3": x.expand(-1, -1, 2, 2)}

    # X = (1, 0), X⁺ = (4, 3): D⁺ = 0.2. X⁻ = (0, 1), (3, 4), (5, 12) with Sim 0, 0.6, 0.3846.
    # At margin 1 and two levels: 2 (0.2 − (1 − Sim) + 1) = 0.4, 1.6, 1.1692.
    @pytest.mark.parametrize(
        ("k", "expected"),
        [
            (1, 1.6),
            (2, (1.6 + 1.16923) / 2),
            (3, (1.6 + 1.16923 + 0.4) / 3),
            (9, (1.6 + 1.16923 + 0.4) / 3),
        ],
    )
    def test_the_mean_of_the_k_hardest(self, k, expected):
        extract = self.features((1, 0), (4, 3), (0, 1), (3, 4), (5, 12))
        frames = torch.zeros(5, 3, 16, 16)
        loss = triplet_losses(self.network(), extract, [frames], hardest_k=k)["loss_mcl"]
        assert float(loss) == pytest.approx(expected, abs=1e-4)

    def test_margin_weight_and_two_triplets(self):
        # The second triplet's loss is the first's, so the mean is as well: 2 · max(0, 0.2 − 0.4 +
        # 0.5) = 0.6.
        extract = self.features((1, 0), (4, 3), (3, 4))
        frames = [torch.zeros(3, 3, 16, 16)] * 2
        loss = triplet_losses(self.network(), extract, frames, margin=0.5, loss_weight=3.0)[
            "loss_mcl"
        ]
        assert float(loss) == pytest.approx(1.8, abs=1e-5)

    def test_padding_does_not_count(self):
        """Frames of 10 × 16 have 3 × 4 positions of stride 4, and 2 × 2 of stride 8; the rest is
        padding."""
        x = torch.zeros(3, 2, 8, 8)
        x[:, 0, :3, :4] = 1  # the same everywhere in all frames
        x[2, :, 3:] = 7  # rubbish in the padding
        y = torch.zeros(3, 2, 4, 4)
        y[:, 0, :2, :2] = 1
        y[0, 1, 2:] = 7
        loss = triplet_losses(
            self.network(), lambda f: {"p2": x, "p3": y}, [torch.zeros(3, 3, 10, 16)]
        )["loss_mcl"]
        assert float(loss) == pytest.approx(2.0)  # D⁺ = D⁻ = 0 on both levels, margin 1

    def test_equals_the_loss_over_all_frames_at_once(self, srn_cfg):
        model = build(srn_cfg)
        frames = triplet(frames=6)["triplet"]
        with torch.no_grad():
            images = model.detector.preprocess_image([{"image": f} for f in frames])
            features = model.detector.backbone(images.tensor)
            embedded = list(model.srn(features).values())
            each = multi_scale_consistency_loss(
                [x[:1].expand(4, -1, -1, -1) for x in embedded],
                [x[1:2].expand(4, -1, -1, -1) for x in embedded],
                [x[2:] for x in embedded],
                1.0,
            )
        got = model.train()([{"triplet": frames}])["loss_mcl"]
        assert float(got) == pytest.approx(float(each.max()), abs=1e-5)

    def test_a_triplet_without_a_negative(self):
        with pytest.raises(ValueError, match="one or more negatives"):
            triplet_losses(self.network(), self.features((1, 0)), [torch.zeros(2, 3, 8, 8)])
