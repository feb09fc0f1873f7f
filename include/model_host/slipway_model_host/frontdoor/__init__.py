"""The front door: a lean HTTP/1.1 reverse proxy from `/endpoints/{endpoint}/…` to scoring servers on Unix sockets."""
