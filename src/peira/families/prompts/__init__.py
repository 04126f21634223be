"""Family `prompts`: system prompts compared on the same items.

The story in order: `settings` (what one trial may be asked), `data`, `loaders`, `prepare` (the
items), `rows`, `trial` (every row asked for once), `outcome`, `scoring` and `abstention` (from a
reply to scores), `evaluated`, `significance` (paired comparisons), `files`, `analysis`, `figures`.
"""

from peira.families.prompts.family import Prompts

__all__ = ["Prompts"]
