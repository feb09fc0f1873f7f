"""One hook per outside service: the client, the credentials, and the translation of its errors."""
