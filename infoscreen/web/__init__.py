"""The HTTP door: JSON for programs, pages for people. Knows status codes and forms; decides nothing."""
