"""The operator's image without Docker: the layers of the Dockerfile, packed as an OCI archive.

`assemble` makes each layer, here and in the Dockerfile alike; `build` keeps the finished ones in the cache and packs
them. Debian packages come from the sources that this machine's apt has, Python packages from uv.lock.
"""
