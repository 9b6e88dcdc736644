"""What stands for a user id where ids are hashed. Without the key nobody can try ids out."""

from hashlib import blake2b


def pseudonym(user_id: str, key: bytes) -> str:
    """Always the same for a user and a key, which may be of any length."""
    hashed = blake2b(user_id.encode("utf-8", "surrogatepass"), key=blake2b(key).digest(), digest_size=16)
    return hashed.hexdigest()
