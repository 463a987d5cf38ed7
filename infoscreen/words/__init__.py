"""What is said: codes and their arguments become sentences, by gettext catalogs in German and English.

Imports the domain alone. The panel, the API and the command line speak through this room; nothing here is
stored, and nothing reads a sentence back. ``docs/architecture.md`` shows how a new code gets its sentence.
"""
