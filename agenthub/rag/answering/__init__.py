"""From passages that were found to an answer with sources: best sentences, prompts, citations, and how sure one may be."""
