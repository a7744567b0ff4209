"""Beacon, the configuration server of BLISS: asked for the store's address, or answered for ours.

    config      where it is: $BEACON_HOST
    messages    the bytes: pure, shared by the next two
    client      one connection, requests and replies
    data        the addresses of the databases, keys and values
    files       configuration files, YAML
    responder   answers in Beacon's place for a store of ours (`blissdata serve --beacon`)

Beacon has no passwords and no encryption: whoever reaches it may read and set.
"""
