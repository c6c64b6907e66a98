"""The words that agent, client and server share. Everything here travels as JSON.

``VERSION`` grows when a form changes its meaning; a field added with a default doesn't change it.
"""

VERSION = 1
