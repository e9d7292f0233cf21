"""What is installed, whether it works here, and how to mend what does not."""

from .run import doctor

__all__ = ["doctor"]
