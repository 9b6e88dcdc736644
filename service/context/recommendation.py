"""Ids of recommendations that the store can tell nothing from.

An id is a secret and a check, both in hexadecimal. The store keeps the user under a name made from the
secret, sealed with the secret: whoever has the store alone does not learn who it was. The check proves that
the user is still who was meant: it is made with a token that is kept with the user until the user is
forgotten. An id without a check that holds is unknown, whatever else is still kept.
"""

import os
import re
from hashlib import blake2b, sha1, shake_256

CHECK_LENGTH = 16
SECRET_BYTES = 16
END = b"\xff"
_ID = re.compile(rf"[0-9a-f]{{{2 * SECRET_BYTES + CHECK_LENGTH}}}")


class Secret(str):
    """The first part of an id."""

    __slots__ = ()

    @classmethod
    def new(cls) -> "Secret":
        return cls(os.urandom(SECRET_BYTES).hex())

    @property
    def locator(self) -> str:
        """What the recommendation is kept under."""
        return blake2b(self.encode(), digest_size=12, person=b"locator").hexdigest()

    def seal(self, user_id: str, marks: bytes) -> bytes:
        """The user, then marks of the items, if there are any, after a byte that no text holds."""
        return self._sealed(END.join((user_id.encode(), marks)) if marks else user_id.encode())

    def unseal(self, sealed: bytes) -> tuple[str, bytes]:
        """Raises: UnicodeDecodeError: it was not sealed with this."""
        user_id, _, marks = self._sealed(sealed).partition(END)
        return user_id.decode(), marks

    def _sealed(self, value: bytes) -> bytes:
        """A pad, for a secret seals one value only."""
        pad = shake_256(self.encode()).digest(len(value))
        return (int.from_bytes(value) ^ int.from_bytes(pad)).to_bytes(len(value))


def new_token() -> str:
    return os.urandom(16).hex()


def issue(secret: Secret, token: str) -> str:
    """The id. A script in Redis checks it, and knows no newer hash than SHA-1; any keyed one-way would do."""
    check = sha1((token + secret).encode(), usedforsecurity=False).hexdigest()
    return secret + check[:CHECK_LENGTH]


def parse(recommendation_id: str) -> tuple[Secret, str] | None:
    """Secret and check, None if it was never issued."""
    if _ID.fullmatch(recommendation_id) is None:
        return None
    return Secret(recommendation_id[:-CHECK_LENGTH]), recommendation_id[-CHECK_LENGTH:]
