"""What an experiment declares: pictures, measures, claims, panels; and what it gives back."""
