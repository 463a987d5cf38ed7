"""A private certification authority for the broker, its clients and the panel, kept in one directory.

::

    pki.json           which CA signs and which are trusted; everything else follows from it
    ca.crt, ca.key     the first CA; the second is ca-2, and so on: no file ever changes its meaning
    ca-bundle.crt      all trusted CAs: what clients and the broker are given (two during a roll-over)
    server/NAME.crt, NAME.key     server certificates; without --label the name is `server`
    clients/UUID.crt, UUID.key    client certificates for mutual TLS
    lock               held while something is changed

``authority.py`` is the directory, ``certificates.py`` builds X.509, ``files.py`` writes. Nothing here knows
the broker, and nothing calls openssl. Only this room imports ``cryptography``.
"""
