"""Train a small character model on text that every Python carries; print the loss before and after.

The text is the language reference behind ``help()``. The model is Bengio's (A Neural Probabilistic
Language Model, JMLR 2003), over characters: the next one is predicted from the embeddings of the
sixteen before it.
"""

import argparse
import pydoc_data.topics
import sys

import torch
from digits import positive, use_one_thread
from torch import Tensor, nn

SEED = 7
CONTEXT = 16
BATCH = 256


def main() -> int:
    parser = argparse.ArgumentParser(description="Train a small character model.")
    parser.add_argument("--steps", type=positive, default=400)
    arguments = parser.parse_args()
    use_one_thread()
    torch.manual_seed(SEED)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    text = reference_text()
    alphabet = sorted(set(text))
    code_of = {character: code for code, character in enumerate(alphabet)}
    codes = torch.tensor([code_of[character] for character in text], device=device)
    split = len(codes) * 9 // 10
    training, held_out = codes[:split], codes[split:]

    model = CharacterModel(len(alphabet)).to(device)
    before = mean_loss(model, held_out)
    print(f"{len(text)} characters, {len(alphabet)} different, on {device.type}", flush=True)
    print(f"loss before={before:.4f}", flush=True)
    train(model, training, steps=arguments.steps)
    after = mean_loss(model, held_out)
    print(f"loss before={before:.4f} after={after:.4f}", flush=True)
    print(f"sample: {continuation(model, alphabet, held_out[:CONTEXT])!r}", flush=True)
    return 0


def reference_text() -> str:
    """Python's reference topics, in a fixed order, reduced to ASCII."""
    topics = pydoc_data.topics.topics
    return "\n".join(topics[name] for name in sorted(topics)).encode("ascii", "ignore").decode()


class CharacterModel(nn.Module):
    """Codes ``(n, CONTEXT)`` to logits ``(n, alphabet)`` of the character that follows."""

    def __init__(self, alphabet: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Embedding(alphabet, 24),
            nn.Flatten(),
            nn.Linear(CONTEXT * 24, 256),
            nn.Tanh(),
            nn.Linear(256, alphabet),
        )

    def forward(self, context: Tensor) -> Tensor:
        return self.layers(context)


def train(model: CharacterModel, codes: Tensor, *, steps: int) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(1, steps + 1):
        starts = torch.randint(len(codes) - CONTEXT, (BATCH,), device=codes.device)
        loss = loss_at(model, codes, starts)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step}/{steps} loss={loss.item():.4f}", flush=True)


def loss_at(model: CharacterModel, codes: Tensor, starts: Tensor) -> Tensor:
    """Mean loss, in nats a character, of the character after each window that starts there."""
    windows = codes[starts[:, None] + torch.arange(CONTEXT + 1, device=codes.device)]
    return nn.functional.cross_entropy(model(windows[:, :-1]), windows[:, -1])


@torch.inference_mode()
def mean_loss(model: CharacterModel, codes: Tensor) -> float:
    """The loss at 4096 places spread evenly over ``codes``: the same places each time."""
    starts = torch.linspace(0, len(codes) - CONTEXT - 1, 4096, device=codes.device).long()
    return loss_at(model, codes, starts).item()


@torch.inference_mode()
def continuation(model: CharacterModel, alphabet: list[str], codes: Tensor) -> str:
    """Sixty characters that the model writes after ``codes``, drawn from its own probabilities."""
    for _ in range(60):
        probabilities = model(codes[None, -CONTEXT:]).softmax(dim=1)
        codes = torch.cat([codes, torch.multinomial(probabilities[0], 1)])
    return "".join(alphabet[code] for code in codes.tolist())


if __name__ == "__main__":
    sys.exit(main())
