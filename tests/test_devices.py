"""Steps of training on the device `meta`, which has shapes and no numbers: what is left on another device, or asks for
a number in a step and so waits for it, is an error there; on a GPU it would be an error, or slow"""
import pytest
import torch

from synaug import training
from synaug.arms import parse
from synaug.classifiers import train as classifier
from synaug.data.sources import load
from synaug.data.splits import budget
from synaug.generators.autoencoder import autoencoder, fit_autoencoder, views_of
from synaug.generators.latent import (
    LatentBank, LatentClassifier, fit_classifier, fit_unet, latent_objectives, latent_unet)
from synaug.generators.pixel import PixelGenerator

STEPS = dict(steps=3, device='meta', progress=False)


@pytest.fixture(scope='module')
def data(): return load('simulate', size=16)


@pytest.fixture(scope='module')
def drawn(data): return budget(data.train, 3, seed=0)


@pytest.fixture(autouse=True)
def unread(monkeypatch):
    "Losses are looked at after training, not here: no number can be read from `meta`"
    def nothing(losses, what, steps, advice):
        assert len(losses) == steps and all(value.device.type == 'meta' for value in losses)
        return torch.zeros(len(losses))
    monkeypatch.setattr(training, 'converged', nothing)


@pytest.mark.parametrize('network', ['unet', 'simplified'])
def test_pixel_generator(data, drawn, network):
    PixelGenerator.fit(drawn, data.pool, network=network, batch_size=8, **STEPS)


def test_autoencoder(data):
    vae = autoencoder(len(data.train.channels)).to('meta')
    fit_autoencoder(vae, views_of([data.pool], data.train.size, device='meta'), steps=3, batch_size=4, progress=False)


@pytest.fixture(scope='module')
def latents():
    mean = torch.zeros(20, 4, 8, 8, device='meta')
    return LatentBank(mean, torch.ones_like(mean), torch.zeros(20, 3, device='meta'))


@pytest.mark.parametrize('name', latent_objectives)
def test_latent_diffusion(latents, name):
    net = latent_unet(4).to('meta')
    fit_unet(net, latents, latent_objectives[name], steps=3, batch_size=4, progress=False)


@pytest.mark.parametrize('noised', [True, False])
def test_latent_classifier(latents, noised):
    net = LatentClassifier(4, 3, (8, 8)).to('meta')
    fit_classifier(net, latents, latent_objectives['flow'], 'multi-class', noised, 3, 4, progress=False)


ARMS = ('real', 'add', 'mix-loss', 'mix-representation', 'mix-loss:split', 'replace-50%', 'mixup', 'cutmix',
        'randaugment')


@pytest.mark.parametrize('name', ARMS)
def test_classifier(data, drawn, name, monkeypatch):
    def look(self, model, update, losses): self.kept = update, model
    monkeypatch.setattr(classifier.Checkpoints, 'look', look)
    arm = parse(name)
    partner = drawn if arm.partner else None
    classifier.train(drawn, data.val, partner, arm, updates=3, batch_size=8, looks=1, device='meta')


def test_what_waits_for_the_device_is_found():
    net = torch.nn.Linear(2, 1).to('meta')
    x = torch.zeros(4, 2, device='meta')
    training.descend(net, lambda: net(x).mean(), 2, .01, progress=False)
    with pytest.raises(RuntimeError):
        training.descend(net, lambda: net(x).mean()*net(x).mean().item(), 2, .01, progress=False)
    with pytest.raises(RuntimeError):
        training.descend(net, lambda: (net(x) - torch.zeros(4, 1)).mean(), 2, .01, progress=False)
