"""The login: guests, refresh tokens, signing keys, and at which game server a session begins.

Everything it knows is in the store and in the mesh's book, so any login answers everything and any may die.
"""
