"""Who is speaking: a user, a node, or a machine that wants to join."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from app.settings import Settings

TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Digests of the two tokens that the service itself holds; nodes' digests are in their rows."""

    user: str
    join: str

    def is_user(self, token: str) -> bool:
        return hmac.compare_digest(self.user, digest(token))

    def is_joiner(self, token: str) -> bool:
        return hmac.compare_digest(self.join, digest(token))


def digest(token: str) -> str:
    """What we keep of a token. Tokens are 256 random bits, so a plain hash can't be searched."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def new_token(prefix: str) -> str:
    """A fresh token. The prefix tells people, and secret scanners, what they are looking at."""
    return f"stow_{prefix}_{secrets.token_urlsafe(TOKEN_BYTES)}"


def load_credentials(settings: Settings) -> Credentials:
    """The configured tokens, or the ones in the home directory, made there on the first start."""
    return Credentials(
        user=digest(_token(settings.user_token, settings.home_dir / "user.token", "user")),
        join=digest(_token(settings.join_token, settings.home_dir / "join.token", "join")),
    )


def _token(configured: SecretStr | None, file: Path, prefix: str) -> str:
    if configured is not None:
        return configured.get_secret_value()
    if file.exists():
        return file.read_text(encoding="utf-8").strip()
    token = new_token(prefix)
    write_private(file, token + "\n")
    return token


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    temporary.touch(mode=0o600, exist_ok=False)
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)
