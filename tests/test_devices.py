"""Steps of training on the device `meta`, which has shapes and no numbers: what is left on another device, asks for a
number in a step and so waits for it, or brings numbers from the host, is an error there; on a GPU it would be an error,
or slow. As on a Mac, too, whose GPU has no float64"""
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from synaug import streams, training
from synaug.arms import parse
from synaug.classifiers import train as classifier
from synaug.data.images import ImageSet
from synaug.data.sources import load
from synaug.data.splits import budget
from synaug.generators import autoencoder as autoencoders
from synaug.generators import diffusion, latent, lora
from synaug.generators.autoencoder import autoencoder, fit_autoencoder, views_of
from synaug.generators.latent import (
    LatentBank, LatentClassifier, fit_classifier, fit_unet, latent_objectives, latent_unet)
from synaug.generators.lora import OrientedLatents, add_lora, train_lora
from synaug.generators.pixel import PixelGenerator
from synaug.generators.text_to_image import CaptionedPictures, train_on_latents, untrained

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


class OnMeta(torch.Generator):
    "A stream that lies on `meta`, as one on a GPU lies there"
    device = torch.device('meta')


class Stays(TorchDispatchMode):
    "An error for numbers that travel: from the host to `meta`, or back"
    allowed = 0         # copies in a step
    copies = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        of = [x for x in (*args, out) if isinstance(x, torch.Tensor) and x.numel()]
        if 'copy' in function.__name__ and len({x.device.type for x in of}) > 1:
            self.copies += 1
            assert self.copies <= self.allowed, f'{function.__name__} of {[tuple(x.shape) for x in of]} in a step'
        return out


class NoDoubles(TorchDispatchMode):
    "An error for float64 on `meta`"
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        of = [x for x in (*args, out) if isinstance(x, torch.Tensor) and x.device.type == 'meta']
        assert all(x.dtype != torch.float64 for x in of), f'{function.__name__} in float64'
        return out


@pytest.fixture(autouse=True, params=['cuda', 'mps'])
def stays(monkeypatch, request):
    """As on CUDA: after the first step, in which what is needed is brought there, nothing travels but `allowed` copies.
    As on a Mac: streams lie on the host, and there is no float64"""
    if request.param == 'mps':
        with NoDoubles(): yield Stays()
        return
    def stream(seed, device='cpu'):
        if torch.device(device).type != 'meta': return torch.Generator().manual_seed(seed)
        on_meta = OnMeta()
        on_meta.manual_seed(seed)
        return on_meta
    for module in (streams, diffusion, latent, lora, autoencoders): monkeypatch.setattr(module, 'stream', stream)
    watch, opened = Stays(), ExitStack()
    def step(what, done, steps):
        watch.copies = 0
        if done == 1: opened.enter_context(watch)
        if done == steps: opened.close()
    monkeypatch.setattr(training, 'step', step)
    with opened: yield watch


@pytest.mark.parametrize('network', ['unet', 'simplified'])
def test_pixel_generator(data, drawn, network):
    PixelGenerator.fit(drawn, data.pool, network=network, batch_size=8, **STEPS)


def test_autoencoder(data, stays):
    stays.allowed = 1                       # pools of any size stay on the host, and are cut there
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


@pytest.fixture(scope='module')
def small():
    "Parts of a text-to-image model, on `meta`, and its pictures with captions"
    rng = np.random.default_rng(0)
    pictures = ImageSet(rng.integers(0, 256, (12, 16, 16, 3), np.uint8), np.eye(2, dtype=np.float32)[[0, 1]*6],
                        ('red', 'blue'), ('r', 'g', 'b'))
    captioned = CaptionedPictures([('cells', pictures), ('tissue', pictures[:5])], 16, 'meta')
    tokenizer, *parts = untrained(captioned.texts, 16, (16, 32), (8, 16), 16)
    return captioned, tokenizer, [part.to('meta') for part in parts]


def test_text_to_image_and_lora(small, stays):
    captioned, tokenizer, (text_encoder, vae, unet) = small
    pipe, _ = train_on_latents(tokenizer, text_encoder, vae, unet, captioned, 3, batch_size=4, progress=False)
    stays.allowed = 3       # which images are drawn is known on the host, to encode new ones; numbers of their prompts
    add_lora(pipe, rank=2, alpha=2, modules='all')
    latents = OrientedLatents(pipe, torch.zeros(6, 3, 16, 16))
    train_lora(pipe, captioned.texts, [(latents, torch.zeros(6, dtype=torch.long), 1.)], steps=3, progress=False)


ARMS = ('real', 'add', 'mix-loss', 'mix-representation', 'mix-loss:split', 'replace-50%', 'mixup', 'cutmix',
        'randaugment')


@pytest.mark.parametrize('name', ARMS)
def test_classifier(data, drawn, name, monkeypatch, stays):
    stays.allowed = int('mix-' in name)     # the weights of pairs: some 100 bytes
    def look(self, model, update, losses): self.kept = update, model
    monkeypatch.setattr(classifier.Checkpoints, 'look', look)
    arm = parse(name)
    partner = drawn if arm.partner else None
    classifier.train(drawn, data.val, partner, arm, updates=3, batch_size=8, looks=1, device='meta')


@pytest.mark.parametrize('stays', ['mps'], indirect=True)
def test_float64_is_found(stays):
    with pytest.raises(AssertionError, match='in float64'): torch.zeros(2, device='meta').double()


def test_what_waits_for_the_device_is_found():
    net = torch.nn.Linear(2, 1).to('meta')
    x = torch.zeros(4, 2, device='meta')
    training.descend(net, lambda: net(x).mean(), 2, .01, progress=False)
    with pytest.raises(RuntimeError):
        training.descend(net, lambda: net(x).mean()*net(x).mean().item(), 2, .01, progress=False)
    with pytest.raises(RuntimeError):
        training.descend(net, lambda: (net(x) - torch.zeros(4, 1)).mean(), 2, .01, progress=False)
